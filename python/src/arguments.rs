//! Python values as arguments of Rust.

use crate::error::invalid;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use slaf::{Axis, MatrixKey, Selection};

/// `None` (all), `(start, stop)`, or an int64 array.
pub(crate) fn selection(value: &Bound<'_, PyAny>) -> PyResult<Selection> {
    let py = value.py();
    if value.is_none() {
        return Ok(Selection::All);
    }
    if let Ok((start, stop)) = value.extract::<(u64, u64)>() {
        return Ok(Selection::Range(start..stop));
    }
    let ids: PyReadonlyArray1<'_, i64> = value.extract()?;
    let ids = ids.as_array().iter().map(|&i| u64::try_from(i)).collect::<Result<_, _>>();
    Ok(Selection::Ids(ids.map_err(|_| invalid(py, "a selection holds negative positions"))?))
}

/// The matrix of a slot and, where the slot has several, a name.
pub(crate) fn matrix_key(py: Python<'_>, slot: &str, name: &str) -> PyResult<MatrixKey> {
    Ok(match slot {
        "X" => MatrixKey::X,
        "layers" => MatrixKey::Layer(name.into()),
        "obsp" => MatrixKey::Obsp(name.into()),
        "varp" => MatrixKey::Varp(name.into()),
        "raw" => MatrixKey::RawX,
        _ => return Err(invalid(py, format!("no slot of matrices is called \"{slot}\""))),
    })
}

/// `obs` or `var`.
pub(crate) fn axis(py: Python<'_>, name: &str) -> PyResult<Axis> {
    match name {
        "obs" => Ok(Axis::Cells),
        "var" => Ok(Axis::Genes),
        _ => Err(invalid(py, format!("no axis is called \"{name}\""))),
    }
}
