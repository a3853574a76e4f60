//! Errors of Rust as exceptions of `slaf._errors`.

use pyo3::prelude::*;
use slaf::{Error, ErrorKind};

/// The exception for an error: `slaf._errors.from_kind(kind, message, location)`.
pub(crate) fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    let exception = || -> PyResult<Bound<'_, PyAny>> {
        py.import("slaf._errors")?.getattr("from_kind")?.call1((
            error.kind().as_str(),
            error.message(),
            error.location(),
        ))
    };
    match exception() {
        Ok(exception) => PyErr::from_value(exception),
        Err(e) => e,
    }
}

/// An `invalid-argument` exception.
pub(crate) fn invalid(py: Python<'_>, message: impl Into<String>) -> PyErr {
    to_py(py, &Error::new(ErrorKind::InvalidArgument, message))
}

/// Turns the error of a result into an exception.
pub(crate) trait IntoPyResult<T> {
    fn into_py(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> IntoPyResult<T> for slaf::Result<T> {
    fn into_py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| to_py(py, &e))
    }
}
