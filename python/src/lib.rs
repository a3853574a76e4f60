//! The extension module `slaf._slaf`: conversions of arguments, results and errors, and nothing
//! else. Its Python face, with the documentation, is the package `slaf` beside it.

#![warn(unreachable_pub)]

mod arguments;
mod batch;
mod convert;
mod csr;
mod dataset;
mod distributed;
mod ending;
mod error;
mod grow;
mod linear;
mod loader;
mod matrix;
mod output;
mod pieces;
mod search;
mod temporary;
mod tokenizer;
mod work;

use crate::error::{IntoPyResult, invalid};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use slaf_core::packed::encode_row;
use std::ffi::OsString;

/// The stable name of every kind of error.
#[pyfunction]
fn error_kinds() -> Vec<&'static str> {
    slaf::ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

/// The bytes that the queries of a handle may hold together.
#[pyfunction]
fn query_memory() -> usize {
    slaf::query_memory()
}

/// Shows messages on the standard error; `None` asks the environment.
#[pyfunction]
fn start_logging(py: Python<'_>, wanted: Option<&str>) -> PyResult<()> {
    match wanted {
        Some(wanted) => slaf_cli::logging::start(wanted).into_py(py),
        None => slaf_cli::logging::start_from_environment().into_py(py),
    }
}

/// The command `slaf`; gives its exit status.
#[pyfunction]
fn cli_main(py: Python<'_>, args: Vec<OsString>) -> PyResult<i32> {
    let worker = distributed::worker_command(py)?;
    Ok(py.detach(|| slaf_cli::run(args, worker)))
}

/// A packed row, for the test of the reference decoder.
#[pyfunction]
#[pyo3(name = "_encode_row")]
fn encode_row_of<'py>(
    py: Python<'py>,
    columns: PyReadonlyArray1<'py, u32>,
    values: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let columns = columns.as_slice()?;
    macro_rules! encode {
        ($($t:ty),*) => {
            $(if let Ok(values) = values.extract::<PyReadonlyArray1<'_, $t>>() {
                let row = encode_row(columns, values.as_slice()?).into_py(py)?;
                return Ok(PyBytes::new(py, &row));
            })*
        };
    }
    encode!(bool, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);
    Err(invalid(py, "values are a one-dimensional array of a numeric type"))
}

#[pymodule(gil_used = false)]
fn _slaf(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add("LEAST_MEMORY", slaf::LEAST_MEMORY)?;
    module.add_class::<dataset::Dataset>()?;
    module.add_class::<dataset::PyMeasured>()?;
    module.add_class::<csr::Csr>()?;
    module.add_class::<work::PyCancel>()?;
    module.add_class::<dataset::MatrixInfo>()?;
    module.add_class::<dataset::FrameInfo>()?;
    module.add_class::<dataset::ColumnInfo>()?;
    module.add_class::<dataset::ArrayInfo>()?;
    module.add_class::<output::Column>()?;
    module.add_class::<dataset::VersionInfo>()?;
    module.add_class::<matrix::PySummary>()?;
    module.add_class::<matrix::PyStats>()?;
    module.add_class::<matrix::PyRankSums>()?;
    module.add_class::<matrix::PyRunning>()?;
    module.add_class::<output::ArrowStream>()?;
    module.add_class::<temporary::TemporaryFolder>()?;
    module.add_function(wrap_pyfunction!(temporary::output_path, module)?)?;
    module.add_function(wrap_pyfunction!(temporary::local_path, module)?)?;
    module.add_class::<tokenizer::Tokenizer>()?;
    module.add_class::<loader::Sampler>()?;
    module.add_class::<loader::Loader>()?;
    module.add_class::<loader::Batches>()?;
    module.add_class::<batch::PyBatch>()?;
    module.add_class::<batch::PySparse>()?;
    module.add_class::<batch::PyDense>()?;
    module.add_class::<batch::PyTokens>()?;
    module.add_function(wrap_pyfunction!(loader::split_points, module)?)?;
    module.add_function(wrap_pyfunction!(error_kinds, module)?)?;
    module.add_function(wrap_pyfunction!(query_memory, module)?)?;
    module.add_function(wrap_pyfunction!(start_logging, module)?)?;
    module.add_function(wrap_pyfunction!(cli_main, module)?)?;
    module.add_function(wrap_pyfunction!(encode_row_of, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::compute_stored, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::reduce_stored, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::keeps_zeros, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::compute_csr, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::reduce_csr, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::rank_sums_stored, module)?)?;
    module.add_function(wrap_pyfunction!(matrix::rank_sums_csr, module)?)?;
    linear::register(module)?;
    pieces::register(module)?;
    search::register(module)?;
    ending::register(module)?;
    distributed::register(module)?;
    grow::register(module)?;
    module.add_function(wrap_pyfunction!(convert::convert, module)?)
}
