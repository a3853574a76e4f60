//! Plans and statistics of matrices: of a store, and of arrays in memory.

use crate::arguments::{matrix_key, selection};
use crate::dataset::Dataset;
use crate::error::{IntoPyResult, invalid};
use crate::output;
use crate::work;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use slaf::plans::{
    self, Columns, Detail, Dot, Function, Groups, Left, Op, Operand, Plan, Request, Rows, Running, Source, Stats, Step,
    Summary,
};
use slaf::{CsrChunk, Dtype, Result, Values};
use std::ops::Range;

/// Rows of memory that are worked on at once.
const PART_ROWS: usize = 1024;
/// Values of a part of which every value is stored.
const DENSE_PART: usize = 1 << 22;

type Csr<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u32>>, Bound<'py, PyAny>);

/// A step: its kind, what it does, its numbers, and the rows that it changes.
type StepArguments<'py> = (String, String, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Where a matrix is: the slot, the name, rows and columns.
type Stored<'py> = (String, String, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// [`slaf::Dataset::compute`].
#[pyfunction]
pub(crate) fn compute_stored<'py>(
    py: Python<'py>,
    dataset: &Dataset,
    stored: Stored<'py>,
    steps: Vec<StepArguments<'py>>,
) -> PyResult<Csr<'py>> {
    let (slot, name, rows, cols) = stored;
    let (dataset, key, plan) = (dataset.dataset(py)?, matrix_key(py, &slot, &name)?, plan(py, &steps)?);
    let (rows, cols) = (selection(&rows)?, selection(&cols)?);
    let chunk =
        work::run_with_progress(py, None, move |progress| dataset.compute(&key, &rows, &cols, &plan, progress))?;
    Ok(csr(py, chunk))
}

/// [`slaf::Dataset::reduce`].
#[pyfunction]
pub(crate) fn reduce_stored<'py>(
    py: Python<'py>,
    dataset: &Dataset,
    stored: Stored<'py>,
    steps: Vec<StepArguments<'py>>,
    request: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let (slot, name, rows, cols) = stored;
    let (dataset, key, plan) = (dataset.dataset(py)?, matrix_key(py, &slot, &name)?, plan(py, &steps)?);
    let (rows, cols, request) = (selection(&rows)?, selection(&cols)?, self::request(request)?);
    let summary = work::run_with_progress(py, None, move |progress| {
        dataset.reduce(&key, &rows, &cols, &plan, &request, progress)
    })?;
    self::summary(py, summary)
}

/// Whether an operation leaves zero at zero with each of these numbers.
#[pyfunction]
pub(crate) fn keeps_zeros(py: Python<'_>, op: &str, numbers: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(self::op(py, op)?.keeps_zeros(&values_of(numbers)?))
}

/// [`slaf::Dataset::compute`] for a CSR matrix in memory.
#[pyfunction]
pub(crate) fn compute_csr<'py>(
    py: Python<'py>,
    matrix: (PyReadonlyArray1<'py, u64>, PyReadonlyArray1<'py, u32>, Bound<'py, PyAny>),
    n_cols: usize,
    steps: Vec<StepArguments<'py>>,
) -> PyResult<Csr<'py>> {
    let (matrix, plan) = (in_memory(py, &matrix, n_cols)?, plan(py, &steps)?);
    let dtype = matrix.values.dtype();
    let chunk = work::run_with_progress(py, None, move |progress| {
        with_source(&matrix, n_cols, &plan, progress, |source| plans::compute(source, dtype, &plan))
    })?;
    Ok(csr(py, chunk))
}

/// [`slaf::Dataset::reduce`] for a CSR matrix in memory.
#[pyfunction]
pub(crate) fn reduce_csr<'py>(
    py: Python<'py>,
    matrix: (PyReadonlyArray1<'py, u64>, PyReadonlyArray1<'py, u32>, Bound<'py, PyAny>),
    n_cols: usize,
    steps: Vec<StepArguments<'py>>,
    request: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let (matrix, plan) = (in_memory(py, &matrix, n_cols)?, plan(py, &steps)?);
    let (dtype, request) = (matrix.values.dtype(), self::request(request)?);
    let summary = work::run_with_progress(py, None, move |progress| {
        with_source(&matrix, n_cols, &plan, progress, |source| plans::reduce(source, dtype, &plan, &request))
    })?;
    self::summary(py, summary)
}

fn with_source<T>(
    matrix: &CsrChunk,
    n_cols: usize,
    plan: &Plan,
    progress: slaf::Progress<'_>,
    work: impl FnOnce(&Source<'_>) -> Result<T>,
) -> Result<T> {
    let n_rows = matrix.n_rows();
    let read = |rows: Range<usize>| Ok(matrix.slice(rows));
    let done = |done: usize| {
        progress(slaf::ProgressEvent { phase: "cells", cells_done: done as u64, cells_total: n_rows as u64 })
    };
    let dense = (DENSE_PART / n_cols.max(1)).clamp(1, PART_ROWS);
    let part_rows = if plan.is_dense() { dense } else { PART_ROWS };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    work(&Source { n_rows, n_cols, read: &read, part_rows, threads, progress: &done })
}

fn in_memory<'py>(
    py: Python<'py>,
    matrix: &(PyReadonlyArray1<'py, u64>, PyReadonlyArray1<'py, u32>, Bound<'py, PyAny>),
    n_cols: usize,
) -> PyResult<CsrChunk> {
    let (indptr, indices) = (matrix.0.as_slice()?.to_vec(), matrix.1.as_slice()?.to_vec());
    let chunk = CsrChunk { indptr, indices, values: values_of(&matrix.2)? };
    chunk.validate(n_cols as u64, 0).into_py(py)?;
    Ok(chunk)
}

fn csr(py: Python<'_>, chunk: CsrChunk) -> Csr<'_> {
    let (indptr, indices) = (PyArray1::from_vec(py, chunk.indptr), PyArray1::from_vec(py, chunk.indices));
    (indptr, indices, output::values(py, chunk.values))
}

fn values_of(array: &Bound<'_, PyAny>) -> PyResult<Values> {
    macro_rules! any {
        ($($t:ty => $v:ident),*) => {
            $(if let Ok(array) = array.extract::<PyReadonlyArray1<'_, $t>>() {
                return Ok(Values::$v(array.as_array().iter().copied().collect()));
            })*
        };
    }
    any!(f32 => F32, f64 => F64, i64 => I64, i32 => I32, i16 => I16, i8 => I8, u8 => U8, u16 => U16, u32 => U32,
        u64 => U64, bool => Bool);
    Err(invalid(array.py(), "numbers are a one-dimensional array of a numeric type"))
}

fn plan(py: Python<'_>, steps: &[StepArguments<'_>]) -> PyResult<Plan> {
    let steps = steps.iter().map(|step| self::step(py, step)).collect::<PyResult<_>>()?;
    Plan::new(steps).into_py(py)
}

fn step(py: Python<'_>, (kind, what, numbers, rows): &StepArguments<'_>) -> PyResult<Step> {
    let combine = |operand: fn(Values) -> Operand| -> PyResult<Step> {
        let rows = if rows.is_none() { None } else { Some(rows.extract::<PyReadonlyArray1<'_, bool>>()?.to_vec()?) };
        Ok(Step::Combine { op: op(py, what)?, operand: operand(values_of(numbers)?), rows })
    };
    match kind.as_str() {
        "cast" => Ok(Step::Cast(Dtype::from_name(what).into_py(py)?)),
        "map" => Ok(Step::Map(function(py, what)?)),
        "scalar" => combine(Operand::Scalar),
        "rows" => combine(Operand::Rows),
        "columns" => combine(Operand::Columns),
        "widen" => Ok(Step::Widen),
        "densify" => Ok(Step::Densify),
        "sparsify" => Ok(Step::Sparsify),
        "product" => {
            let k = what.parse().map_err(|_| invalid(py, "a product needs the number of its terms"))?;
            let left = numbers.extract::<PyReadonlyArray1<'_, f64>>()?.to_vec()?;
            let right = rows.extract::<PyReadonlyArray1<'_, f64>>()?.to_vec()?;
            Ok(Step::SubtractProduct { left, right, k })
        }
        _ => Err(invalid(py, format!("no step is called \"{kind}\""))),
    }
}

fn function(py: Python<'_>, name: &str) -> PyResult<Function> {
    Ok(match name {
        "negative" => Function::Negative,
        "absolute" => Function::Abs,
        "sign" => Function::Sign,
        "square" => Function::Square,
        "sqrt" => Function::Sqrt,
        "log1p" => Function::Log1p,
        "expm1" => Function::Expm1,
        "floor" => Function::Floor,
        "ceil" => Function::Ceil,
        "rint" => Function::Rint,
        "trunc" => Function::Trunc,
        _ => return Err(invalid(py, format!("no function is called \"{name}\""))),
    })
}

fn op(py: Python<'_>, name: &str) -> PyResult<Op> {
    Ok(match name {
        "add" => Op::Add,
        "subtract" => Op::Subtract,
        "multiply" => Op::Multiply,
        "divide" => Op::Divide,
        "power" => Op::Power,
        "minimum" => Op::Minimum,
        "maximum" => Op::Maximum,
        "equal" => Op::Equal,
        "not_equal" => Op::NotEqual,
        "less" => Op::Less,
        "less_equal" => Op::LessEqual,
        "greater" => Op::Greater,
        "greater_equal" => Op::GreaterEqual,
        _ => return Err(invalid(py, format!("no operation is called \"{name}\""))),
    })
}

/// `(weights, k)`, row-major.
type Weights<'py> = (PyReadonlyArray1<'py, f64>, usize);

/// Keys: `rows`, `columns`, `running` and `skip_nan` (bool), `detail`, `top`, `dot`, `groups` (of
/// rows), `column_groups`, `centres`, `left`.
fn request(from: &Bound<'_, PyDict>) -> PyResult<Request> {
    fn get<'py, T: FromPyObjectOwned<'py>>(from: &Bound<'py, PyDict>, key: &str) -> PyResult<Option<T>> {
        match from.get_item(key)? {
            Some(value) if !value.is_none() => value.extract().map(Some).map_err(Into::into),
            _ => Ok(None),
        }
    }
    let is = |key: &str| Ok::<_, PyErr>(get::<bool>(from, key)?.unwrap_or(false));
    let groups = |key: &str| match get::<(PyReadonlyArray1<'_, u32>, usize)>(from, key)? {
        Some((labels, n)) => Ok::<_, PyErr>(Some(Groups { labels: labels.to_vec()?, n })),
        None => Ok(None),
    };
    let weights = |key: &str| match get::<Weights<'_>>(from, key)? {
        Some((weights, k)) => Ok::<_, PyErr>(Some((weights.to_vec()?, k))),
        None => Ok(None),
    };
    let detail = match get::<String>(from, "detail")?.as_deref() {
        None | Some("sums") => Detail::Sums,
        Some("squares") => Detail::Squares,
        Some("all") => Detail::All,
        Some(other) => return Err(invalid(from.py(), format!("no detail is called \"{other}\""))),
    };
    let mut request = Request { skip_nan: is("skip_nan")?, detail, ..Request::default() };
    if is("rows")? {
        let dot = weights("dot")?.map(|(weights, k)| Dot { weights, k });
        let top = get(from, "top")?.unwrap_or_default();
        request.rows = Some(Rows { top, dot, groups: groups("column_groups")? });
    }
    if is("columns")? {
        let centres = match get::<PyReadonlyArray1<'_, f64>>(from, "centres")? {
            Some(centres) => Some(centres.to_vec()?),
            None => None,
        };
        let left = weights("left")?.map(|(weights, k)| Left { weights, k });
        request.columns = Some(Columns { groups: groups("groups")?, centres, left, running: is("running")? });
    }
    Ok(request)
}

fn summary(py: Python<'_>, summary: Summary) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("rows", stats(py, summary.rows)?)?;
    out.set_item("columns", stats(py, summary.columns)?)?;
    out.set_item("top", PyArray1::from_vec(py, summary.top))?;
    out.set_item("dot", PyArray1::from_vec(py, summary.dot))?;
    out.set_item("left", PyArray1::from_vec(py, summary.left))?;
    if let Some(Running { stored, mean, square }) = summary.running {
        out.set_item("stored", PyArray1::from_vec(py, stored))?;
        out.set_item("mean", PyArray1::from_vec(py, mean))?;
        out.set_item("square", PyArray1::from_vec(py, square))?;
    }
    Ok(out)
}

fn stats(py: Python<'_>, stats: Stats) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("nonzero", PyArray1::from_vec(py, stats.nonzero))?;
    out.set_item("positive", PyArray1::from_vec(py, stats.positive))?;
    out.set_item("nan", PyArray1::from_vec(py, stats.nan))?;
    out.set_item("fractional", PyArray1::from_vec(py, stats.fractional))?;
    out.set_item("sum", stats.sum.map(|sum| output::values(py, sum)))?;
    out.set_item("square", PyArray1::from_vec(py, stats.square))?;
    out.set_item("min", output::values(py, stats.min))?;
    out.set_item("max", output::values(py, stats.max))?;
    Ok(out)
}
