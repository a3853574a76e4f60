//! Search by similarity.

use crate::arguments::{Chosen, Named, selection};
use crate::dataset::Dataset;
use crate::output::{ArrowStream, to_json};
use crate::work;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use slaf::neighbors::Measure;
use slaf::{ArrayKey, Axis, SearchOptions, SearchQuery};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Hits>()?;
    module.add_function(wrap_pyfunction!(search, module)?)?;
    module.add_function(wrap_pyfunction!(rankings, module)?)?;
    module.add_function(wrap_pyfunction!(index_report, module)?)
}

/// What was found for each query: where its hits begin, and their numbers and distances.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct Hits {
    starts: Py<PyArray1<i64>>,
    rows: Py<PyArray1<u32>>,
    distances: Py<PyArray1<f64>>,
}

/// Points of `dims` values, flat, as float64; or rows of the store.
fn query_of(value: &Bound<'_, PyAny>, dims: usize) -> PyResult<SearchQuery> {
    if let Ok(values) = value.extract::<PyReadonlyArray1<'_, f64>>() {
        return Ok(SearchQuery::Points { dims, values: values.to_vec()? });
    }
    selection(value).map(SearchQuery::Rows)
}

/// [`slaf::Dataset::nearest`].
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the arguments of Python's function")]
fn search(
    py: Python<'_>,
    dataset: &Dataset,
    of: Named<Axis>,
    key: String,
    query: &Bound<'_, PyAny>,
    dims: usize,
    k: usize,
    metric: Named<Measure>,
    among: Chosen,
    exclude_self: bool,
) -> PyResult<Hits> {
    let (dataset, key, query) = (dataset.dataset(py)?, ArrayKey { axis: of.0, name: key }, query_of(query, dims)?);
    let options = SearchOptions { k, measure: metric.0, among: among.0, exclude_self };
    let found = work::run_with_progress(py, None, move |progress| dataset.nearest(&key, &query, &options, progress))?;
    Ok(Hits {
        starts: PyArray1::from_iter(py, found.starts.iter().map(|&start| start as i64)).unbind(),
        rows: PyArray1::from_vec(py, found.rows).unbind(),
        distances: PyArray1::from_vec(py, found.distances).unbind(),
    })
}

/// [`slaf::Dataset::index_report`], as text and as JSON.
#[pyfunction]
fn index_report(
    py: Python<'_>,
    dataset: &Dataset,
    of: Named<Axis>,
    key: String,
    metric: Option<Named<Measure>>,
    queries: usize,
    k: usize,
) -> PyResult<(String, String)> {
    let (dataset, key) = (dataset.dataset(py)?, ArrayKey { axis: of.0, name: key });
    let report = work::run(py, move || dataset.index_report(&key, metric.map(|metric| metric.0), queries, k))?;
    Ok((report.to_string(), to_json(py, &report)?))
}

/// [`slaf::Dataset::rankings`], each row without itself.
#[pyfunction]
fn rankings(
    py: Python<'_>,
    dataset: &Dataset,
    of: Named<Axis>,
    key: String,
    rows: Chosen,
    k: usize,
    metric: Named<Measure>,
) -> PyResult<ArrowStream> {
    let (dataset, key) = (dataset.dataset(py)?, ArrayKey { axis: of.0, name: key });
    let options = SearchOptions { k, measure: metric.0, exclude_self: true, ..SearchOptions::default() };
    Ok(ArrowStream::new(work::run(py, move || dataset.rankings(&key, &rows.0, options))?))
}
