//! Conversion by several processes.

use crate::convert::ConvertOptions;
use crate::error::{IntoPyResult, invalid, to_py};
use crate::output::to_json;
use crate::work;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use slaf::ConvertReport;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The command that starts a worker process: the interpreter, and a script that loads this module
/// alone.
pub(crate) fn worker_command(py: Python<'_>) -> PyResult<Vec<OsString>> {
    let interpreter: Option<OsString> = py.import("sys")?.getattr("executable")?.extract()?;
    let interpreter = interpreter.filter(|i| !i.is_empty());
    let interpreter = interpreter.ok_or_else(|| invalid(py, "there is no interpreter to start workers with"))?;
    let module: PathBuf = py.import("slaf._slaf")?.getattr("__file__")?.extract()?;
    let script = module.with_file_name("_worker.py");
    Ok(vec![interpreter, "-I".into(), "-S".into(), script.into(), module.into()])
}

fn told(py: Python<'_>, report: &ConvertReport) -> PyResult<(String, String)> {
    Ok((report.to_string(), to_json(py, report)?))
}

/// Converts as `convert`, by worker processes on this machine.
#[pyfunction]
fn convert_with_workers(
    py: Python<'_>,
    inputs: Vec<PathBuf>,
    output: String,
    options: ConvertOptions,
    part_cells: Option<u64>,
    workers: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    let options = slaf::ConvertOptions::from(options);
    let workers = slaf::Workers { count: workers, command: worker_command(py)? };
    let report = work::run_with_progress(py, progress, move |progress| {
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        slaf::convert_with_workers(&inputs, &output, &options, part_cells, &workers, progress)
    })?;
    told(py, &report)
}

/// Converts a part; gives what it wrote.
#[pyfunction]
fn convert_part(py: Python<'_>, task: Vec<u8>) -> PyResult<Py<PyBytes>> {
    let done = work::run_with_progress(py, None, move |progress| slaf::convert_part(&task, progress))?;
    Ok(PyBytes::new(py, &done).unbind())
}

/// Does the work of a worker process; see `slaf/_worker.py`.
#[pyfunction]
fn serve(py: Python<'_>) -> PyResult<()> {
    py.detach(|| slaf::serve(std::io::stdin().lock(), std::io::stdout())).into_py(py)
}

/// A conversion whose parts are converted elsewhere.
#[pyclass(module = "slaf._slaf", frozen)]
struct Distributed(Arc<Mutex<slaf::Distributed>>);

impl Distributed {
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut slaf::Distributed) -> T + Send) -> T {
        py.detach(|| work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl Distributed {
    #[new]
    fn new(
        py: Python<'_>,
        inputs: Vec<PathBuf>,
        output: String,
        options: ConvertOptions,
        part_cells: Option<u64>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let options = slaf::ConvertOptions::from(options);
        let plan = work::run_with_progress(py, progress, move |progress| {
            let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
            slaf::Distributed::plan(&inputs, &output, &options, part_cells, progress)
        })?;
        Ok(Distributed(Arc::new(Mutex::new(plan))))
    }

    /// The cells of each part.
    #[getter]
    fn cells(&self, py: Python<'_>) -> Vec<u64> {
        self.with(py, |plan| (0..plan.n_parts()).map(|part| plan.n_cells(part)).collect())
    }

    fn shown(&self, py: Python<'_>, part: usize) -> String {
        self.with(py, |plan| plan.shown(part))
    }

    fn task(&self, py: Python<'_>, part: usize) -> PyResult<Py<PyBytes>> {
        let task = self.with(py, |plan| plan.task(part)).map_err(|e| to_py(py, &e))?;
        Ok(PyBytes::new(py, &task).unbind())
    }

    fn finish(&self, py: Python<'_>, results: Vec<Vec<u8>>, progress: Option<Py<PyAny>>) -> PyResult<(String, String)> {
        let plan = Arc::clone(&self.0);
        let report = work::run_with_progress(py, progress, move |progress| {
            plan.lock().unwrap_or_else(PoisonError::into_inner).finish(&results, progress)
        })?;
        told(py, &report)
    }

    fn abandon(&self, py: Python<'_>) {
        self.with(py, slaf::Distributed::abandon);
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Distributed>()?;
    module.add_function(wrap_pyfunction!(convert_with_workers, module)?)?;
    module.add_function(wrap_pyfunction!(convert_part, module)?)?;
    module.add_function(wrap_pyfunction!(serve, module)?)
}
