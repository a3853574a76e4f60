//! Temporary folders of the Python face.

use crate::ending::detached;
use crate::error::IntoPyResult;
use pyo3::prelude::*;
use slaf_core::Context;
use slaf_ingest::temporary;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A context in which there is a temporary folder, in `folder` or that of the system.
#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct TemporaryFolder(Mutex<Option<temporary::TemporaryFolder>>);

impl TemporaryFolder {
    fn held(&self) -> MutexGuard<'_, Option<temporary::TemporaryFolder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a file or folder to write: no file URI, not inside of a store, and free unless
/// `replace`.
#[pyfunction]
pub(crate) fn output_path(py: Python<'_>, path: PathBuf, replace: bool) -> PyResult<PathBuf> {
    slaf_ingest::output_path(&path, replace).into_py(py)
}

/// The local path of a path or file URI; `None` for an address in an object store.
#[pyfunction]
pub(crate) fn local_path(py: Python<'_>, path: &str) -> PyResult<Option<PathBuf>> {
    slaf_core::uri::local_path(path).into_py(py)
}

fn gone() -> slaf::Error {
    slaf::Error::invalid("the temporary folder is gone")
}

#[pymethods]
impl TemporaryFolder {
    #[new]
    fn new(py: Python<'_>, folder: Option<PathBuf>) -> PyResult<Self> {
        let folder = folder.unwrap_or_else(std::env::temp_dir);
        let made = temporary::TemporaryFolder::new_in(&folder).at(folder.display()).into_py(py)?;
        Ok(TemporaryFolder(Mutex::new(Some(made))))
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, pyo3::types::PyTuple>) {
        detached(py, || drop(self.held().take()));
    }

    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        self.held().as_ref().map(|folder| folder.path().to_path_buf()).ok_or_else(gone).into_py(py)
    }

    /// Puts an entry of the folder in the place of `path`, and of what is there if `replace`.
    fn put(&self, py: Python<'_>, entry: PathBuf, path: PathBuf, replace: bool) -> PyResult<()> {
        detached(py, || match self.held().as_ref() {
            Some(folder) => folder.put(&entry, &path, replace).at(path.display()),
            None => Err(gone()),
        })
        .into_py(py)
    }
}
