//! Python values as arguments of Rust.

use crate::error::{IntoPyResult, invalid};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use pyo3_arrow::PyRecordBatchReader;
use slaf::{
    Axis, Dialect, Error, ErrorKind, MatrixKey, Parameter, ParameterType, Parameters, QueryOptions, Selection,
    UserTable,
};
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

/// Parameters, a sequence or a dict, a time limit in seconds, tables beside those of the store as
/// pairs of a name and an Arrow stream, and the name of a dialect.
pub(crate) fn query_options(
    params: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    tables: Vec<(String, PyRecordBatchReader)>,
    dialect: &str,
) -> PyResult<QueryOptions> {
    let py = params.py();
    let parameters = if params.is_none() {
        Parameters::None
    } else if let Ok(named) = params.cast::<PyDict>() {
        let pair = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Ok((name.extract()?, parameter(&value)?));
        Parameters::Named(named.iter().map(pair).collect::<PyResult<_>>()?)
    } else {
        Parameters::Positional(params.try_iter()?.map(|value| parameter(&value?)).collect::<PyResult<_>>()?)
    };
    let time_limit = match timeout.map(Duration::try_from_secs_f64) {
        None => None,
        Some(Ok(limit)) => Some(limit),
        Some(Err(_)) => return Err(invalid(py, "timeout is a number of seconds, not below 0")),
    };
    let dialect = Dialect::from_name(dialect).into_py(py)?;
    let tables = tables.into_iter().map(|(name, stream)| table(py, name, stream)).collect::<PyResult<_>>()?;
    Ok(QueryOptions { parameters, dialect, tables, time_limit, ..QueryOptions::default() })
}

fn table(py: Python<'_>, name: String, stream: PyRecordBatchReader) -> PyResult<UserTable> {
    let reader = stream.into_reader()?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<_, _>>();
    let batches = batches.map_err(|e| Error::new(ErrorKind::InvalidArgument, e.to_string()).at(&name)).into_py(py)?;
    Ok(UserTable { name, schema, batches })
}

/// A value that `slaf._parameters` has made plain.
fn parameter(value: &Bound<'_, PyAny>) -> PyResult<Parameter> {
    let py = value.py();
    if value.is_none() {
        return Ok(Parameter::Null);
    } else if value.is_instance_of::<PyBool>() {
        return Ok(Parameter::Bool(value.extract()?));
    } else if value.is_instance_of::<PyInt>() {
        return match value.extract::<i128>() {
            Ok(number) if number.unsigned_abs() < 10_u128.pow(38) => Ok(Parameter::Int(number)),
            _ => Err(invalid(py, "an integer parameter of more than 38 digits")),
        };
    } else if value.is_instance_of::<PyFloat>() {
        return Ok(Parameter::Float(value.extract()?));
    } else if value.is_instance_of::<PyString>() {
        return Ok(Parameter::Text(value.extract()?));
    } else if let Ok(values) = value.cast::<PyList>() {
        return Ok(Parameter::List(values.iter().map(|v| parameter(&v)).collect::<PyResult<Vec<_>>>()?));
    }
    let datetime = py.import("datetime")?;
    let is = |class: &str| -> PyResult<bool> { value.is_instance(&datetime.getattr(class)?) };
    let number = |name: &str| -> PyResult<i64> { value.getattr_opt(name)?.map_or(Ok(0), |n| n.extract()) };
    let (of, text): (ParameterType, String) = if is("datetime")? {
        let of = if value.getattr("tzinfo")?.is_none() { ParameterType::Timestamp } else { ParameterType::TimestampTz };
        (of, value.call_method1("isoformat", (" ",))?.extract()?)
    } else if is("date")? {
        (ParameterType::Date, value.call_method0("isoformat")?.extract()?)
    } else if is("time")? {
        (ParameterType::Time, value.call_method0("isoformat")?.extract()?)
    } else if is("timedelta")? {
        let nanoseconds = number("microseconds")? * 1000 + number("nanoseconds")?;
        let (days, seconds) = (number("days")?, number("seconds")?);
        (ParameterType::Interval, format!("{days} days {seconds} seconds {nanoseconds} nanoseconds"))
    } else if value.is_instance(&py.import("decimal")?.getattr("Decimal")?)? {
        (ParameterType::Decimal, value.call_method1("__format__", ("f",))?.extract()?)
    } else {
        return Err(invalid(py, format!("a parameter of type {}", value.get_type().name()?)));
    };
    Ok(Parameter::Typed(of, text))
}
