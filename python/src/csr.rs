//! CSR matrices, as SciPy holds them.

use crate::arguments::values_of;
use crate::error::{IntoPyResult, invalid};
use crate::output;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use slaf::CsrChunk;

/// The three arrays of a CSR matrix, in the order in which SciPy takes them. Indices are of int32,
/// or of int64 if the values or the columns are too many.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct Csr {
    data: Py<PyAny>,
    indices: Py<PyAny>,
    indptr: Py<PyAny>,
}

#[pymethods]
impl Csr {
    #[new]
    fn new(data: Py<PyAny>, indices: Py<PyAny>, indptr: Py<PyAny>) -> Self {
        Csr { data, indices, indptr }
    }
}

impl Csr {
    /// A matrix with at most so many columns.
    pub(crate) fn of(py: Python<'_>, chunk: CsrChunk, n_cols: u64) -> Csr {
        const LIMIT: u64 = i32::MAX as u64;
        let CsrChunk { indptr, indices, values } = chunk;
        let (indices, indptr) = if (indices.len() as u64).max(n_cols) <= LIMIT {
            // In place: both types take four bytes.
            let indices: Vec<i32> = indices.into_iter().map(|i| i as i32).collect();
            let indptr: Vec<i32> = indptr.into_iter().map(|i| i as i32).collect();
            (PyArray1::from_vec(py, indices).into_any(), PyArray1::from_vec(py, indptr).into_any())
        } else {
            let indices: Vec<i64> = indices.into_iter().map(i64::from).collect();
            let indptr: Vec<i64> = indptr.into_iter().map(|i| i as i64).collect();
            (PyArray1::from_vec(py, indices).into_any(), PyArray1::from_vec(py, indptr).into_any())
        };
        Csr { data: output::values(py, values).unbind(), indices: indices.unbind(), indptr: indptr.unbind() }
    }

    /// The matrix of `n_cols` columns, checked.
    pub(crate) fn chunk(&self, py: Python<'_>, n_cols: usize) -> PyResult<CsrChunk> {
        let indptr = whole(self.indptr.bind(py), |i| u64::try_from(i).ok())?;
        let indices = whole(self.indices.bind(py), |i| u32::try_from(i).ok())?;
        let chunk = CsrChunk { indptr, indices, values: values_of(self.data.bind(py))? };
        chunk.validate(n_cols as u64, 0).into_py(py)?;
        Ok(chunk)
    }
}

/// Whole numbers of int32 or int64 in another type.
fn whole<T>(array: &Bound<'_, PyAny>, to: impl Fn(i64) -> Option<T>) -> PyResult<Vec<T>> {
    let numbers: Option<Vec<T>> = match array.extract::<PyReadonlyArray1<'_, i32>>() {
        Ok(array) => array.as_array().iter().map(|&i| to(i64::from(i))).collect(),
        Err(_) => array.extract::<PyReadonlyArray1<'_, i64>>()?.as_array().iter().map(|&i| to(i)).collect(),
    };
    numbers.ok_or_else(|| invalid(array.py(), "an index of a sparse matrix is out of range"))
}
