//! Python values as arguments of Rust.

use crate::error::{IntoPyResult, invalid};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use pyo3_arrow::PyRecordBatchReader;
use slaf::{
    Dialect, Dtype, Error, ErrorKind, MatrixKey, Parameter, ParameterType, Parameters, QueryOptions, Selection,
    UserTable, Values,
};
use std::str::FromStr;
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

/// The value of an enum by the name that its crate gives it.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: FromStr<Err = Error>> FromPyObject<'_, '_> for Named<T> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        value.extract::<String>()?.parse().map(Named).into_py(value.py())
    }
}

/// A type of values by numpy's name.
pub(crate) struct NamedDtype(pub(crate) Dtype);

impl FromPyObject<'_, '_> for NamedDtype {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        Dtype::from_name(&value.extract::<String>()?).map(NamedDtype).into_py(value.py())
    }
}

/// Rows or columns: see [`selection`].
pub(crate) struct Chosen(pub(crate) Selection);

impl FromPyObject<'_, '_> for Chosen {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        selection(&value).map(Chosen)
    }
}

/// `slaf._store.Key`.
pub(crate) struct Key(pub(crate) MatrixKey);

impl FromPyObject<'_, '_> for Key {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let (slot, name): (String, String) = (value.getattr("slot")?.extract()?, value.getattr("name")?.extract()?);
        MatrixKey::of_slot(&slot, &name).map(Key).into_py(value.py())
    }
}

/// A struct that is read from an object of Python with attributes of the same names: a frozen
/// dataclass of `slaf._boundary`. Errors of a field are handed on as they are.
macro_rules! from_attributes {
    ($(#[$meta:meta])* struct $name:ident$(<$py:lifetime>)? { $($field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub(crate) struct $name$(<$py>)? { $(pub(crate) $field: $type,)* }

        $crate::arguments::from_attributes!(@impl $name [$($py)?] { $($field: $type,)* });
    };
    (@impl $name:ident [] { $($field:ident: $type:ty,)* }) => {
        impl ::pyo3::FromPyObject<'_, '_> for $name {
            type Error = ::pyo3::PyErr;

            fn extract(value: ::pyo3::Borrowed<'_, '_, ::pyo3::PyAny>) -> ::pyo3::PyResult<Self> {
                $(let $field = value.getattr(stringify!($field))?.extract::<$type>().map_err(::pyo3::PyErr::from)?;)*
                Ok($name { $($field),* })
            }
        }
    };
    (@impl $name:ident [$py:lifetime] { $($field:ident: $type:ty,)* }) => {
        impl<$py> ::pyo3::FromPyObject<'_, $py> for $name<$py> {
            type Error = ::pyo3::PyErr;

            fn extract(value: ::pyo3::Borrowed<'_, $py, ::pyo3::PyAny>) -> ::pyo3::PyResult<Self> {
                $(let $field = value.getattr(stringify!($field))?.extract::<$type>().map_err(::pyo3::PyErr::from)?;)*
                Ok($name { $($field),* })
            }
        }
    };
}
pub(crate) use from_attributes;

/// Parameters, a sequence or a dict, a time limit in seconds, tables beside those of the store as
/// pairs of a name and an Arrow stream, the name of a dialect, and whether genes that were not measured
/// are null.
pub(crate) fn query_options(
    params: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    tables: Vec<(String, PyRecordBatchReader)>,
    Named(dialect): Named<Dialect>,
    measured: bool,
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
    let tables = tables.into_iter().map(|(name, stream)| table(py, name, stream)).collect::<PyResult<_>>()?;
    Ok(QueryOptions { parameters, dialect, tables, measured, time_limit, ..QueryOptions::default() })
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

/// Numbers of an array.
pub(crate) fn values_of(array: &Bound<'_, PyAny>) -> PyResult<Values> {
    macro_rules! any {
        ($($t:ty => $v:ident),*) => {
            $(if let Ok(array) = array.extract::<PyReadonlyArray1<'_, $t>>() {
                return Ok(Values::$v(array.as_array().iter().copied().collect()));
            })*
        };
    }
    any!(f32 => F32, f64 => F64, i64 => I64, i32 => I32, i16 => I16, i8 => I8, u8 => U8, u16 => U16, u32 => U32,
        u64 => U64, bool => Bool);
    Err(invalid(array.py(), "numbers are a one-dimensional array of a numeric type"))
}
