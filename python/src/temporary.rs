//! Temporary folders of the Python face.

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
        py.detach(|| drop(self.held().take()));
    }

    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        self.held().as_ref().map(|folder| folder.path().to_path_buf()).ok_or_else(gone).into_py(py)
    }

    /// Puts an entry of the folder in the place of `path`, which may hold something.
    fn put(&self, py: Python<'_>, entry: PathBuf, path: PathBuf) -> PyResult<()> {
        py.detach(|| match self.held().as_ref() {
            Some(folder) => folder.put(&entry, &path).at(path.display()),
            None => Err(gone()),
        })
        .into_py(py)
    }
}
