//! Batches of cells as objects of Python, whose arrays take over Rust's memory.

use crate::output::{self, array};
use pyo3::prelude::*;
use slaf::{BatchData, LoadedBatch};

/// A batch. `data` is a [`PySparse`], a [`PyDense`] or a [`PyTokens`].
#[pyclass(module = "slaf._slaf", name = "Batch", frozen, get_all)]
pub(crate) struct PyBatch {
    pub(crate) cells: Py<PyAny>,
    pub(crate) sources: Option<Py<PyAny>>,
    pub(crate) data: Py<PyAny>,
    /// Flat, if it was asked for.
    pub(crate) measured: Option<Py<PyAny>>,
    pub(crate) columns: Vec<Py<PyAny>>,
}

/// Rows of a sparse matrix; indices of int32.
#[pyclass(module = "slaf._slaf", name = "SparseRows", frozen, get_all)]
pub(crate) struct PySparse {
    data: Py<PyAny>,
    indices: Py<PyAny>,
    indptr: Py<PyAny>,
}

/// Rows of a dense matrix, flat.
#[pyclass(module = "slaf._slaf", name = "DenseRows", frozen, get_all)]
pub(crate) struct PyDense {
    pub(crate) values: Py<PyAny>,
    pub(crate) width: usize,
}

/// Rows of tokens, flat.
#[pyclass(module = "slaf._slaf", name = "TokenRows", frozen, get_all)]
pub(crate) struct PyTokens {
    pub(crate) input_ids: Py<PyAny>,
    pub(crate) attention_mask: Py<PyAny>,
    pub(crate) values: Option<Py<PyAny>>,
    pub(crate) length: usize,
}

/// A batch of a loader.
pub(crate) fn to_numpy(py: Python<'_>, batch: LoadedBatch) -> PyResult<PyBatch> {
    let data = match batch.data {
        BatchData::Sparse { indptr, indices, values } => {
            // In place: both types take four bytes, and a batch has fewer than 2^31 values.
            let signed = |v: Vec<u32>| -> Vec<i32> { v.into_iter().map(|i| i as i32).collect() };
            let (indptr, indices) = (array(py, signed(indptr)), array(py, signed(indices)));
            Py::new(py, PySparse { data: output::values(py, values).unbind(), indices, indptr })?.into_any()
        }
        BatchData::Dense { values, width } => {
            Py::new(py, PyDense { values: output::values(py, values).unbind(), width })?.into_any()
        }
        BatchData::Tokens { input_ids, attention_mask, values, length } => {
            let values = (!values.is_empty()).then(|| array(py, values));
            let (input_ids, attention_mask) = (array(py, input_ids), array(py, attention_mask));
            Py::new(py, PyTokens { input_ids, attention_mask, values, length })?.into_any()
        }
    };
    let cells: Vec<i64> = batch.cells.into_iter().map(|c| c as i64).collect();
    Ok(PyBatch {
        cells: array(py, cells),
        sources: (!batch.sources.is_empty()).then(|| array(py, batch.sources)),
        data,
        measured: batch.measured.map(|mask| array(py, mask)),
        columns: batch.columns.into_iter().map(|c| output::values(py, c).unbind()).collect(),
    })
}
