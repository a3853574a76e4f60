//! Python values as arguments of Rust.

use crate::error::invalid;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};
use slaf::{Axis, MatrixKey, Parameter, Parameters, QueryOptions, Selection};
use std::time::Duration;

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

/// Parameters, a sequence or a dict, and a time limit in seconds.
pub(crate) fn query_options(params: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<QueryOptions> {
    let py = params.py();
    let parameters = if params.is_none() {
        Parameters::None
    } else if let Ok(named) = params.cast::<PyDict>() {
        let pair = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Ok((name.extract()?, parameter(&value)?));
        Parameters::Named(named.iter().map(pair).collect::<PyResult<_>>()?)
    } else if params.is_instance_of::<PyString>() {
        return Err(invalid(py, "params is a text; pass a list of values or a dict"));
    } else {
        Parameters::Positional(params.try_iter()?.map(|value| parameter(&value?)).collect::<PyResult<_>>()?)
    };
    let time_limit = match timeout.map(Duration::try_from_secs_f64) {
        None => None,
        Some(Ok(limit)) => Some(limit),
        Some(Err(_)) => return Err(invalid(py, "timeout is a number of seconds, not below 0")),
    };
    Ok(QueryOptions { parameters, time_limit, ..QueryOptions::default() })
}

fn parameter(value: &Bound<'_, PyAny>) -> PyResult<Parameter> {
    let py = value.py();
    if value.is_none() {
        Ok(Parameter::Null)
    } else if value.is_instance_of::<PyBool>() {
        Ok(Parameter::Bool(value.extract()?))
    } else if value.is_instance_of::<PyInt>() {
        let beyond = |_| invalid(py, "an integer parameter beyond 64 bits");
        Ok(Parameter::Int(value.extract().map_err(beyond)?))
    } else if value.is_instance_of::<PyFloat>() {
        Ok(Parameter::Float(value.extract()?))
    } else if value.is_instance_of::<PyString>() {
        Ok(Parameter::Text(value.extract()?))
    } else if value.hasattr("item")? {
        // A scalar of numpy.
        parameter(&value.call_method0("item")?)
    } else {
        let name = value.get_type().name()?;
        Err(invalid(py, format!("a parameter of type {name}; pass None, bool, int, float or str")))
    }
}
