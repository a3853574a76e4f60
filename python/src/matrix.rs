//! Plans and statistics of matrices: of a store, and of arrays in memory.

use crate::arguments::{Chosen, Key, Named, from_attributes, values_of};
use crate::csr::Csr;
use crate::dataset::{Dataset, width};
use crate::error::{IntoPyResult, invalid};
use crate::output;
use crate::work;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use slaf::plans::{
    self, Columns, Detail, Dot, Groups, Left, Op, Operand, Plan, Request, Rows, Running, Source, Stats, Step, Summary,
    with_memory,
};
use slaf::rank_sums::{Against, Comparison, RankSums, rank_sums_in_memory};
use slaf::{CsrChunk, Dtype, MatrixKey, Result, Selection, Values};

from_attributes! {
    /// `slaf._boundary.Stored`: a part of a matrix of a store.
    struct Stored {
        key: Key,
        rows: Chosen,
        cols: Chosen,
    }
}

impl Stored {
    pub(crate) fn parts(self) -> (MatrixKey, Selection, Selection) {
        (self.key.0, self.rows.0, self.cols.0)
    }
}

from_attributes! {
    /// `slaf._boundary.Step`.
    struct StepArguments<'py> {
        kind: String,
        what: String,
        numbers: Bound<'py, PyAny>,
        right: Option<PyReadonlyArray1<'py, f64>>,
        mask: Option<PyReadonlyArray1<'py, bool>>,
        k: usize,
    }
}

/// [`slaf::Dataset::compute`].
#[pyfunction]
pub(crate) fn compute_stored(
    py: Python<'_>,
    dataset: &Dataset,
    stored: Stored,
    steps: Vec<StepArguments<'_>>,
) -> PyResult<Csr> {
    let (dataset, plan) = (dataset.dataset(py)?, plan(py, &steps)?);
    let (key, rows, cols) = stored.parts();
    let n_cols = width(&dataset);
    let chunk =
        work::run_with_progress(py, None, move |progress| dataset.compute(&key, &rows, &cols, &plan, progress))?;
    Ok(Csr::of(py, chunk, n_cols))
}

/// [`slaf::Dataset::reduce`].
#[pyfunction]
pub(crate) fn reduce_stored(
    py: Python<'_>,
    dataset: &Dataset,
    stored: Stored,
    steps: Vec<StepArguments<'_>>,
    request: RequestArguments<'_>,
) -> PyResult<PySummary> {
    let (dataset, plan, request) = (dataset.dataset(py)?, plan(py, &steps)?, request.request()?);
    let (key, rows, cols) = stored.parts();
    let summary = work::run_with_progress(py, None, move |progress| {
        dataset.reduce(&key, &rows, &cols, &plan, &request, progress)
    })?;
    PySummary::of(py, summary)
}

/// Whether an operation leaves zero at zero with each of these numbers.
#[pyfunction]
pub(crate) fn keeps_zeros(op: Named<Op>, numbers: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(op.0.keeps_zeros(&values_of(numbers)?))
}

/// [`slaf::Dataset::compute`] for a CSR matrix in memory.
#[pyfunction]
pub(crate) fn compute_csr(py: Python<'_>, matrix: &Csr, n_cols: usize, steps: Vec<StepArguments<'_>>) -> PyResult<Csr> {
    let (matrix, plan) = (matrix.chunk(py, n_cols)?, plan(py, &steps)?);
    let dtype = matrix.values.dtype();
    let chunk = work::run_with_progress(py, None, move |progress| {
        in_memory(&matrix, n_cols, &plan, progress, |source| plans::compute(source, dtype, &plan))
    })?;
    Ok(Csr::of(py, chunk, n_cols as u64))
}

/// [`slaf::Dataset::reduce`] for a CSR matrix in memory.
#[pyfunction]
pub(crate) fn reduce_csr(
    py: Python<'_>,
    matrix: &Csr,
    n_cols: usize,
    steps: Vec<StepArguments<'_>>,
    request: RequestArguments<'_>,
) -> PyResult<PySummary> {
    let (matrix, plan) = (matrix.chunk(py, n_cols)?, plan(py, &steps)?);
    let (dtype, request) = (matrix.values.dtype(), request.request()?);
    let summary = work::run_with_progress(py, None, move |progress| {
        in_memory(&matrix, n_cols, &plan, progress, |source| plans::reduce(source, dtype, &plan, &request))
    })?;
    PySummary::of(py, summary)
}

pub(crate) fn in_memory<T>(
    matrix: &CsrChunk,
    n_cols: usize,
    plan: &Plan,
    progress: slaf::Progress<'_>,
    work: impl FnOnce(&Source<'_>) -> Result<T>,
) -> Result<T> {
    let n_rows = matrix.n_rows() as u64;
    let done =
        |done: usize| progress(slaf::ProgressEvent { phase: "cells", cells_done: done as u64, cells_total: n_rows });
    with_memory(matrix, n_cols, plan, &done, work)
}

pub(crate) fn plan(py: Python<'_>, steps: &[StepArguments<'_>]) -> PyResult<Plan> {
    let steps = steps.iter().map(|step| self::step(py, step)).collect::<PyResult<_>>()?;
    Plan::new(steps).into_py(py)
}

fn step(py: Python<'_>, step: &StepArguments<'_>) -> PyResult<Step> {
    let combine = |operand: fn(Values) -> Operand| -> PyResult<Step> {
        let rows = step.mask.as_ref().map(|mask| mask.to_vec()).transpose()?;
        Ok(Step::Combine { op: step.what.parse().into_py(py)?, operand: operand(values_of(&step.numbers)?), rows })
    };
    match step.kind.as_str() {
        "cast" => Ok(Step::Cast(Dtype::from_name(&step.what).into_py(py)?)),
        "map" => Ok(Step::Map(step.what.parse().into_py(py)?)),
        "scalar" => combine(Operand::Scalar),
        "rows" => combine(Operand::Rows),
        "columns" => combine(Operand::Columns),
        "widen" => Ok(Step::Widen),
        "densify" => Ok(Step::Densify),
        "sparsify" => Ok(Step::Sparsify),
        "product" => {
            let left = step.numbers.extract::<PyReadonlyArray1<'_, f64>>()?.to_vec()?;
            let right = step.right.as_ref().ok_or_else(|| invalid(py, "a product has two factors"))?.to_vec()?;
            Ok(Step::SubtractProduct { left, right, k: step.k })
        }
        other => Err(invalid(py, format!("no step is called \"{other}\""))),
    }
}

from_attributes! {
    /// `slaf._boundary.Labels`: a group of each row or column, of so many groups.
    struct Labels<'py> {
        labels: PyReadonlyArray1<'py, u32>,
        n: usize,
    }
}

from_attributes! {
    /// `slaf._boundary.Factor`: `k` weights of each row or column, row-major.
    struct Factor<'py> {
        weights: PyReadonlyArray1<'py, f64>,
        k: usize,
    }
}

from_attributes! {
    /// `slaf._boundary.Comparison`.
    struct ComparisonArguments<'py> {
        groups: Labels<'py>,
        reference: Option<usize>,
        ties: bool,
    }
}

impl ComparisonArguments<'_> {
    pub(crate) fn comparison(self) -> PyResult<Comparison> {
        let groups = Groups { labels: self.groups.labels.to_vec()?, n: self.groups.n };
        let against = self.reference.map_or(Against::Rest, Against::Group);
        Ok(Comparison { groups, against, ties: self.ties })
    }
}

/// [`slaf::Dataset::rank_sums`].
#[pyfunction]
pub(crate) fn rank_sums_stored(
    py: Python<'_>,
    dataset: &Dataset,
    stored: Stored,
    steps: Vec<StepArguments<'_>>,
    comparison: ComparisonArguments<'_>,
) -> PyResult<PyRankSums> {
    let (dataset, plan, comparison) = (dataset.dataset(py)?, plan(py, &steps)?, comparison.comparison()?);
    let (key, rows, cols) = stored.parts();
    let found = work::run_with_progress(py, None, move |progress| {
        dataset.rank_sums(&key, &rows, &cols, &plan, &comparison, progress)
    })?;
    Ok(PyRankSums::of(py, found))
}

/// [`slaf::Dataset::rank_sums`] for a CSR matrix in memory.
#[pyfunction]
pub(crate) fn rank_sums_csr(
    py: Python<'_>,
    matrix: &Csr,
    n_cols: usize,
    steps: Vec<StepArguments<'_>>,
    comparison: ComparisonArguments<'_>,
) -> PyResult<PyRankSums> {
    let (matrix, plan, comparison) = (matrix.chunk(py, n_cols)?, plan(py, &steps)?, comparison.comparison()?);
    let found = work::run_with_progress(py, None, move |progress| {
        let total = n_cols as u64;
        let done =
            |done: usize| progress(slaf::ProgressEvent { phase: "genes", cells_done: done as u64, cells_total: total });
        rank_sums_in_memory(&matrix, n_cols, &plan, &comparison, &done)
    })?;
    Ok(PyRankSums::of(py, found))
}

/// Rank sums of groups; flat arrays.
#[pyclass(module = "slaf._slaf", name = "RankSums", frozen, get_all)]
pub(crate) struct PyRankSums {
    rank_sums: Py<PyAny>,
    sums: Py<PyAny>,
    nonzero: Py<PyAny>,
    ties: Py<PyAny>,
    nan: Option<usize>,
    is_counts: bool,
}

impl PyRankSums {
    pub(crate) fn of(py: Python<'_>, found: RankSums) -> PyRankSums {
        PyRankSums {
            rank_sums: array(py, found.rank_sums),
            sums: array(py, found.sums),
            nonzero: array(py, found.nonzero),
            ties: array(py, found.ties),
            nan: found.nan,
            is_counts: found.is_counts,
        }
    }
}

from_attributes! {
    /// `slaf._boundary.Request`.
    struct RequestArguments<'py> {
        rows: bool,
        columns: bool,
        detail: Named<Detail>,
        signs: bool,
        skip_nan: bool,
        running: bool,
        top: Vec<usize>,
        dot: Option<Factor<'py>>,
        left: Option<Factor<'py>>,
        groups: Option<Labels<'py>>,
        column_groups: Option<Labels<'py>>,
        centres: Option<PyReadonlyArray1<'py, f64>>,
    }
}

impl RequestArguments<'_> {
    pub(crate) fn request(self) -> PyResult<Request> {
        let groups = |of: Option<Labels<'_>>| match of {
            Some(of) => Ok::<_, PyErr>(Some(Groups { labels: of.labels.to_vec()?, n: of.n })),
            None => Ok(None),
        };
        let (skip_nan, detail, signs) = (self.skip_nan, self.detail.0, self.signs);
        let mut request = Request { skip_nan, detail, signs, ..Request::default() };
        if self.rows {
            let dot = match self.dot {
                Some(dot) => Some(Dot { weights: dot.weights.to_vec()?, k: dot.k }),
                None => None,
            };
            request.rows = Some(Rows { top: self.top, dot, groups: groups(self.column_groups)? });
        }
        if self.columns {
            let left = match self.left {
                Some(left) => Some(Left { weights: left.weights.to_vec()?, k: left.k }),
                None => None,
            };
            let centres = self.centres.map(|centres| centres.to_vec()).transpose()?;
            request.columns = Some(Columns { groups: groups(self.groups)?, centres, left, running: self.running });
        }
        Ok(request)
    }
}

/// What a request found; flat arrays.
#[pyclass(module = "slaf._slaf", name = "Summary", frozen, get_all)]
pub(crate) struct PySummary {
    rows: Py<PyStats>,
    columns: Py<PyStats>,
    top: Py<PyAny>,
    dot: Py<PyAny>,
    left: Py<PyAny>,
    running: Option<Py<PyRunning>>,
}

/// Statistics of rows, or of columns.
#[pyclass(module = "slaf._slaf", name = "Stats", frozen, get_all)]
pub(crate) struct PyStats {
    nonzero: Py<PyAny>,
    positive: Py<PyAny>,
    nan: Py<PyAny>,
    fractional: Py<PyAny>,
    sum: Option<Py<PyAny>>,
    square: Py<PyAny>,
    min: Py<PyAny>,
    max: Py<PyAny>,
}

/// Running statistics of the stored values of columns.
#[pyclass(module = "slaf._slaf", name = "Running", frozen, get_all)]
pub(crate) struct PyRunning {
    stored: Py<PyAny>,
    mean: Py<PyAny>,
    square: Py<PyAny>,
}

#[pymethods]
impl PySummary {
    #[new]
    fn new(
        rows: Py<PyStats>,
        columns: Py<PyStats>,
        top: Py<PyAny>,
        dot: Py<PyAny>,
        left: Py<PyAny>,
        running: Option<Py<PyRunning>>,
    ) -> Self {
        PySummary { rows, columns, top, dot, left, running }
    }
}

fn array<T: numpy::Element>(py: Python<'_>, values: Vec<T>) -> Py<PyAny> {
    PyArray1::from_vec(py, values).into_any().unbind()
}

impl PySummary {
    pub(crate) fn of(py: Python<'_>, summary: Summary) -> PyResult<PySummary> {
        let running = match summary.running {
            Some(Running { stored, mean, square }) => {
                let running = PyRunning { stored: array(py, stored), mean: array(py, mean), square: array(py, square) };
                Some(Py::new(py, running)?)
            }
            None => None,
        };
        Ok(PySummary {
            rows: Py::new(py, PyStats::of(py, summary.rows))?,
            columns: Py::new(py, PyStats::of(py, summary.columns))?,
            top: array(py, summary.top),
            dot: array(py, summary.dot),
            left: array(py, summary.left),
            running,
        })
    }
}

impl PyStats {
    fn of(py: Python<'_>, stats: Stats) -> PyStats {
        PyStats {
            nonzero: array(py, stats.nonzero),
            positive: array(py, stats.positive),
            nan: array(py, stats.nan),
            fractional: array(py, stats.fractional),
            sum: stats.sum.map(|sum| output::values(py, sum).unbind()),
            square: array(py, stats.square),
            min: output::values(py, stats.min).unbind(),
            max: output::values(py, stats.max).unbind(),
        }
    }
}
