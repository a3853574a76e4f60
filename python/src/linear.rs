//! Principal components, nearest neighbours and their graph.

use crate::arguments::Named;
use crate::csr::Csr;
use crate::dataset::Dataset;
use crate::error::{IntoPyResult, invalid};
use crate::matrix::{StepArguments, Stored, in_memory, plan};
use crate::work;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use slaf::linear::{Gram, Lanczos, Leading, Wanted, gram, largest, leading};
use slaf::neighbors::{Effort, Metric, Nearest, all_nearest, umap_connectivities};
use slaf::{CsrChunk, Values};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyGram>()?;
    module.add_class::<Principal>()?;
    module.add_class::<PyLeading>()?;
    module.add_class::<PyLanczos>()?;
    module.add_class::<PyNearest>()?;
    module.add_function(wrap_pyfunction!(gram_stored, module)?)?;
    module.add_function(wrap_pyfunction!(gram_csr, module)?)?;
    module.add_function(wrap_pyfunction!(leading_stored, module)?)?;
    module.add_function(wrap_pyfunction!(leading_csr, module)?)?;
    module.add_function(wrap_pyfunction!(nearest_others, module)?)?;
    module.add_function(wrap_pyfunction!(connectivities, module)?)
}

/// Products and sums of the columns of a matrix.
#[pyclass(module = "slaf._slaf", name = "Gram", frozen)]
pub(crate) struct PyGram(pub(crate) Arc<Gram>);

/// The largest eigenvalues of products, and their vectors one after another.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct Principal {
    values: Py<PyArray1<f64>>,
    vectors: Py<PyArray1<f64>>,
    squares: Py<PyArray1<f64>>,
}

#[pymethods]
impl PyGram {
    #[getter]
    fn sums<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.0.sums)
    }

    #[getter]
    fn squares<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_vec(py, self.0.squares())
    }

    /// The `k` largest eigenvalues of the products: of columns times `factors`, and as `centring`
    /// says less their means (`"columns"`), less the mean of all columns (`"rows"`), or as they are.
    #[pyo3(signature = (k, centring = None, factors = None))]
    fn principal(
        &self,
        py: Python<'_>,
        k: usize,
        centring: Option<&str>,
        factors: Option<PyReadonlyArray1<'_, f64>>,
    ) -> PyResult<Principal> {
        let factors = factors.map(|factors| factors.to_vec()).transpose()?;
        let centre: fn(&mut Gram) = match centring {
            None => |_: &mut Gram| (),
            Some("columns") => Gram::centre,
            Some("rows") => Gram::centre_columns_on_their_mean,
            Some(other) => return Err(invalid(py, format!("no centring is called \"{other}\""))),
        };
        let gram = Arc::clone(&self.0);
        let (found, squares) = work::run(py, move || {
            let mut gram = Gram::clone(&gram);
            centre(&mut gram);
            if let Some(factors) = factors {
                gram.scale(&factors)?;
            }
            Ok((largest(&gram.products, gram.n, k, slaf::threads()?)?, gram.squares()))
        })?;
        Ok(Principal {
            values: PyArray1::from_vec(py, found.values).unbind(),
            vectors: PyArray1::from_vec(py, found.vectors).unbind(),
            squares: PyArray1::from_vec(py, squares).unbind(),
        })
    }
}

/// [`slaf::Dataset::gram`].
#[pyfunction]
fn gram_stored(py: Python<'_>, dataset: &Dataset, stored: Stored, steps: Vec<StepArguments<'_>>) -> PyResult<PyGram> {
    let (dataset, plan) = (dataset.dataset(py)?, plan(py, &steps)?);
    let (key, rows, cols) = stored.parts();
    let gram = work::run_with_progress(py, None, move |progress| dataset.gram(&key, &rows, &cols, &plan, progress))?;
    Ok(PyGram(Arc::new(gram)))
}

/// [`slaf::Dataset::gram`] for a CSR matrix in memory.
#[pyfunction]
fn gram_csr(py: Python<'_>, matrix: &Csr, n_cols: usize, steps: Vec<StepArguments<'_>>) -> PyResult<PyGram> {
    let (matrix, plan) = (matrix.chunk(py, n_cols)?, plan(py, &steps)?);
    let found = work::run_with_progress(py, None, move |progress| {
        in_memory(&matrix, n_cols, &plan, progress, |source| gram(source, &plan))
    })?;
    Ok(PyGram(Arc::new(found)))
}

/// The largest eigenvalues of the products of many columns, and their vectors one after another.
#[pyclass(module = "slaf._slaf", name = "Leading", frozen, get_all)]
pub(crate) struct PyLeading {
    values: Py<PyArray1<f64>>,
    vectors: Py<PyArray1<f64>>,
    residuals: Py<PyArray1<f64>>,
    converged: bool,
}

impl PyLeading {
    fn of(py: Python<'_>, found: Leading) -> PyLeading {
        PyLeading {
            converged: found.converged(),
            values: PyArray1::from_vec(py, found.values).unbind(),
            vectors: PyArray1::from_vec(py, found.vectors).unbind(),
            residuals: PyArray1::from_vec(py, found.residuals).unbind(),
        }
    }
}

/// [`slaf::Dataset::leading`].
#[pyfunction]
fn leading_stored(
    py: Python<'_>,
    dataset: &Dataset,
    stored: Stored,
    steps: Vec<StepArguments<'_>>,
    means: PyReadonlyArray1<'_, f64>,
    factors: PyReadonlyArray1<'_, f64>,
    k: usize,
) -> PyResult<PyLeading> {
    let (dataset, plan) = (dataset.dataset(py)?, plan(py, &steps)?);
    let (key, rows, cols) = stored.parts();
    let (means, factors) = (means.to_vec()?, factors.to_vec()?);
    let found = work::run_with_progress(py, None, move |progress| {
        dataset.leading(&key, &rows, &cols, &plan, Wanted { means: &means, factors: &factors, k }, progress)
    })?;
    Ok(PyLeading::of(py, found))
}

/// [`slaf::Dataset::leading`] for a CSR matrix in memory.
#[pyfunction]
fn leading_csr(
    py: Python<'_>,
    matrix: &Csr,
    n_cols: usize,
    steps: Vec<StepArguments<'_>>,
    means: PyReadonlyArray1<'_, f64>,
    factors: PyReadonlyArray1<'_, f64>,
    k: usize,
) -> PyResult<PyLeading> {
    let (matrix, plan) = (matrix.chunk(py, n_cols)?, plan(py, &steps)?);
    let (means, factors) = (means.to_vec()?, factors.to_vec()?);
    let found = work::run_with_progress(py, None, move |progress| {
        let wanted = Wanted { means: &means, factors: &factors, k };
        in_memory(&matrix, n_cols, &plan, progress, |source| leading(source, &plan, wanted))
    })?;
    Ok(PyLeading::of(py, found))
}

/// [`slaf::linear::Lanczos`], for passes that others take.
#[pyclass(module = "slaf._slaf", name = "Lanczos", frozen)]
struct PyLanczos(Arc<Mutex<Lanczos>>);

#[pymethods]
impl PyLanczos {
    #[new]
    fn new(py: Python<'_>, n_cols: usize, k: usize) -> PyResult<Self> {
        let search = slaf::threads().and_then(|threads| Lanczos::new(n_cols, k, threads)).into_py(py)?;
        Ok(PyLanczos(Arc::new(Mutex::new(search))))
    }

    /// The vectors whose images are wanted, one after another.
    #[getter]
    fn block<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, self.0.lock().unwrap_or_else(PoisonError::into_inner).block())
    }

    /// Takes these images; the eigenvalues, if they are found.
    fn take(&self, py: Python<'_>, images: PyReadonlyArray1<'_, f64>) -> PyResult<Option<PyLeading>> {
        let (search, images) = (Arc::clone(&self.0), images.to_vec()?);
        let found = work::run(py, move || search.lock().unwrap_or_else(PoisonError::into_inner).take(images))?;
        Ok(found.map(|found| PyLeading::of(py, found)))
    }
}

/// Nearest points: `k` numbers and distances of each point, flat.
#[pyclass(module = "slaf._slaf", name = "Nearest", frozen, get_all)]
pub(crate) struct PyNearest {
    k: usize,
    rows: Py<PyArray1<u32>>,
    distances: Py<PyArray1<f64>>,
    /// What part of the nearest points these are, if not all.
    recall: Option<f64>,
}

impl PyNearest {
    fn of(py: Python<'_>, Nearest { k, rows, distances, recall }: Nearest) -> PyNearest {
        PyNearest {
            k,
            rows: PyArray1::from_vec(py, rows).unbind(),
            distances: PyArray1::from_vec(py, distances).unbind(),
            recall,
        }
    }
}

/// Coordinates in the type that they have.
enum Points {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Points {
    fn of(values: &Bound<'_, PyAny>) -> PyResult<Points> {
        if let Ok(values) = values.extract::<PyReadonlyArray1<'_, f32>>() {
            return Ok(Points::F32(values.to_vec()?));
        }
        Ok(Points::F64(values.extract::<PyReadonlyArray1<'_, f64>>()?.to_vec()?))
    }

    fn len(&self) -> usize {
        match self {
            Points::F32(values) => values.len(),
            Points::F64(values) => values.len(),
        }
    }
}

/// [`slaf::neighbors::all_nearest`] of float32 or float64 rows of `dims` values, flat: `exact`, most, or,
/// if that is open, exact within the usual effort.
#[pyfunction]
fn nearest_others(
    py: Python<'_>,
    values: &Bound<'_, PyAny>,
    dims: usize,
    k: usize,
    metric: Named<Metric>,
    exact: Option<bool>,
) -> PyResult<PyNearest> {
    let (points, metric) = (Points::of(values)?, metric.0);
    let effort = match exact {
        Some(true) => Effort::Exact,
        Some(false) => Effort::Lists,
        None => Effort::USUAL,
    };
    let total = points.len().checked_div(dims).unwrap_or(0) as u64;
    let found = work::run_with_progress(py, None, move |progress| {
        let done =
            |phase, done: usize| progress(slaf::ProgressEvent { phase, cells_done: done as u64, cells_total: total });
        let threads = slaf::threads()?;
        match &points {
            Points::F32(values) => all_nearest(values, dims, k, metric, effort, threads, &done),
            Points::F64(values) => all_nearest(values, dims, k, metric, effort, threads, &done),
        }
    })?;
    Ok(PyNearest::of(py, found))
}

/// [`slaf::neighbors::umap_connectivities`], as a matrix of points x points.
#[pyfunction]
fn connectivities(
    py: Python<'_>,
    rows: PyReadonlyArray1<'_, u32>,
    distances: PyReadonlyArray1<'_, f64>,
    k: usize,
) -> PyResult<Csr> {
    let (rows, distances) = (rows.to_vec()?, distances.to_vec()?);
    let graph = work::run(py, move || umap_connectivities(&rows, &distances, k))?;
    let n = graph.starts.len() as u64 - 1;
    let chunk = CsrChunk { indptr: graph.starts, indices: graph.columns, values: Values::F32(graph.values) };
    Ok(Csr::of(py, chunk, n))
}
