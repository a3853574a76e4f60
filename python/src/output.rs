//! Results of Rust as Python objects: numpy arrays and Arrow streams.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::{self as types, ArrowPrimitiveType, DataType};
use arrow::error::ArrowError;
use numpy::{Element, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};
use pyo3_arrow::PyRecordBatchReader;
use slaf::{Error, ErrorKind, Values, with_values};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ending::detached;
use crate::error::{IntoPyResult, invalid, to_py};

/// Record batches for any Arrow library of Python, by the PyCapsule protocol.
#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct ArrowStream(Mutex<Option<Box<dyn RecordBatchReader + Send>>>);

impl ArrowStream {
    pub(crate) fn new(reader: Box<dyn RecordBatchReader + Send>) -> Self {
        ArrowStream(Mutex::new(Some(reader)))
    }

    pub(crate) fn of_batches(schema: types::SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self::new(Box::new(RecordBatchIterator::new(batches.into_iter().map(Ok), schema)))
    }

    /// A batch whose columns are named by their numbers: names of users may repeat each other's.
    pub(crate) fn numbered(py: Python<'_>, batch: &RecordBatch) -> PyResult<Self> {
        let schema = batch.schema();
        let fields = schema.fields().iter().enumerate();
        let fields: Vec<_> = fields.map(|(i, f)| f.as_ref().clone().with_name(i.to_string())).collect();
        let schema = Arc::new(types::Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
            .into_py(py)?;
        Ok(Self::of_batches(schema, vec![batch]))
    }

    /// Results of a query for polars, which panics over types that it does not have.
    pub(crate) fn for_polars(py: Python<'_>, schema: types::SchemaRef, batches: Vec<RecordBatch>) -> PyResult<Self> {
        let mut seen = HashSet::new();
        for field in schema.fields() {
            if !seen.insert(field.name()) {
                let name = field.name();
                let message = format!("more than one column \"{name}\": name those that are wanted, with AS");
                return Err(to_py(py, &Error::new(ErrorKind::InvalidQuery, message)));
            }
            if let Some(unknown) = unknown_to_polars(field.data_type()) {
                let message = format!(
                    "the column \"{}\" of type {unknown} has no counterpart in polars: CAST it, for example AS VARCHAR",
                    field.name()
                );
                return Err(to_py(py, &Error::new(ErrorKind::UnsupportedFeature, message)));
            }
        }
        Ok(Self::of_batches(schema, batches))
    }

    /// A batch of one column.
    pub(crate) fn of_column(py: Python<'_>, name: &str, column: ArrayRef) -> PyResult<Self> {
        let batch = RecordBatch::try_from_iter([(name, column)])
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
            .into_py(py)?;
        Ok(Self::of_batches(batch.schema(), vec![batch]))
    }
}

#[pymethods]
impl ArrowStream {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    /// The next batch, as a stream of its own.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<ArrowStream>> {
        let next = detached(py, || self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.next());
        match next {
            None => Ok(None),
            Some(Ok(batch)) => Ok(Some(ArrowStream::of_batches(batch.schema(), vec![batch]))),
            Some(Err(ArrowError::ExternalError(e))) => match e.downcast::<Error>() {
                Ok(e) => Err(to_py(py, &e)),
                Err(e) => Err(to_py(py, &Error::new(ErrorKind::Internal, e.to_string()))),
            },
            Some(Err(e)) => Err(to_py(py, &Error::new(ErrorKind::Internal, e.to_string()))),
        }
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reader = reader.ok_or_else(|| invalid(py, "the stream was read before"))?;
        let schema = reader.schema();
        if let Some(name) = slaf::name_with_nul(schema.fields()) {
            let message = format!("the name {name:?} has a NUL character, which Arrow's interface cannot hold");
            return Err(to_py(py, &Error::new(ErrorKind::UnsupportedFeature, message)));
        }
        let reader = Box::new(RecordBatchIterator::new(reader.map(|batch| batch.map_err(without_nul)), schema));
        PyRecordBatchReader::new(reader).into_pyobject(py)?.call_method1("__arrow_c_stream__", (requested_schema,))
    }
}

/// A type that polars does not take, in a type or inside of it.
fn unknown_to_polars(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Interval(_) | DataType::Decimal256(..) | DataType::Union(..) | DataType::RunEndEncoded(..) => {
            Some(data_type)
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => unknown_to_polars(field.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|field| unknown_to_polars(field.data_type())),
        DataType::Dictionary(_, value) => unknown_to_polars(value),
        _ => None,
    }
}

/// Texts of errors cross Arrow's interface as C strings.
fn without_nul(error: ArrowError) -> ArrowError {
    let text = error.to_string();
    if text.contains('\0') { ArrowError::ComputeError(text.replace('\0', "\\0")) } else { error }
}

/// The values as a numpy array that takes over their memory.
pub(crate) fn values(py: Python<'_>, values: Values) -> Bound<'_, PyAny> {
    with_values!(values, v => PyArray1::from_vec(py, v).into_any())
}

/// A numpy array that takes over the memory of a vector.
pub(crate) fn array<T: Element>(py: Python<'_>, values: Vec<T>) -> Py<PyAny> {
    PyArray1::from_vec(py, values).into_any().unbind()
}

/// A column for Python.
///
/// `values` is a numpy array, or a list of `str` and `None`; of a categorical it holds the codes,
/// -1 for a missing value. `mask` is true where a value is missing, or `None` if none is.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct Column {
    name: String,
    values: Py<PyAny>,
    mask: Option<Py<PyAny>>,
    categories: Option<Py<PyAny>>,
}

#[pymethods]
impl Column {
    #[new]
    #[pyo3(signature = (name, values, mask=None, categories=None))]
    fn new(name: String, values: Py<PyAny>, mask: Option<Py<PyAny>>, categories: Option<Py<PyAny>>) -> Self {
        Column { name, values, mask, categories }
    }
}

/// The columns of a batch.
pub(crate) fn columns(py: Python<'_>, batch: &RecordBatch) -> PyResult<Vec<Column>> {
    let schema = batch.schema();
    schema.fields().iter().zip(batch.columns()).map(|(field, array)| column(py, field.name(), array)).collect()
}

fn column(py: Python<'_>, name: &str, array: &dyn Array) -> PyResult<Column> {
    let name = name.to_string();
    if let Some(dictionary) = array.as_dictionary_opt::<types::Int32Type>() {
        let codes: Vec<i32> = match dictionary.keys().null_count() {
            0 => dictionary.keys().values().to_vec(),
            _ => dictionary.keys().iter().map(|key| key.unwrap_or(-1)).collect(),
        };
        let categories = Some(plain(py, dictionary.values().as_ref())?.unbind());
        return Ok(Column { name, values: PyArray1::from_vec(py, codes).into_any().unbind(), mask: None, categories });
    }
    let mask = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let mask = mask.map(|nulls| PyArray1::from_iter(py, nulls.iter().map(|valid| !valid)).into_any().unbind());
    Ok(Column { name, values: plain(py, array)?.unbind(), mask, categories: None })
}

fn plain<'py>(py: Python<'py>, array: &dyn Array) -> PyResult<Bound<'py, PyAny>> {
    fn numbers<'py, T: ArrowPrimitiveType>(py: Python<'py>, array: &PrimitiveArray<T>) -> Bound<'py, PyAny>
    where
        T::Native: Element,
    {
        PyArray1::from_slice(py, array.values()).into_any()
    }
    Ok(match array.data_type() {
        DataType::Boolean => {
            let bits = array.as_boolean().values().iter();
            PyArray1::from_iter(py, bits).into_any()
        }
        DataType::Int8 => numbers(py, array.as_primitive::<types::Int8Type>()),
        DataType::Int16 => numbers(py, array.as_primitive::<types::Int16Type>()),
        DataType::Int32 => numbers(py, array.as_primitive::<types::Int32Type>()),
        DataType::Int64 => numbers(py, array.as_primitive::<types::Int64Type>()),
        DataType::UInt8 => numbers(py, array.as_primitive::<types::UInt8Type>()),
        DataType::UInt16 => numbers(py, array.as_primitive::<types::UInt16Type>()),
        DataType::UInt32 => numbers(py, array.as_primitive::<types::UInt32Type>()),
        DataType::UInt64 => numbers(py, array.as_primitive::<types::UInt64Type>()),
        DataType::Float32 => numbers(py, array.as_primitive::<types::Float32Type>()),
        DataType::Float64 => numbers(py, array.as_primitive::<types::Float64Type>()),
        DataType::Float16 => {
            let bits = array.as_primitive::<types::Float16Type>().values().iter().map(|h| h.to_bits());
            PyArray1::from_iter(py, bits).call_method1("view", ("float16",))?
        }
        DataType::Utf8 => PyList::new(py, array.as_string::<i32>().iter().collect::<Vec<_>>())?.into_any(),
        DataType::LargeUtf8 => PyList::new(py, array.as_string::<i64>().iter().collect::<Vec<_>>())?.into_any(),
        DataType::Utf8View => PyList::new(py, array.as_string_view().iter().collect::<Vec<_>>())?.into_any(),
        other => {
            let message = format!("a column of type {other} has no counterpart in pandas");
            return Err(to_py(py, &Error::new(ErrorKind::Internal, message)));
        }
    })
}

/// A report as JSON.
pub(crate) fn to_json(py: Python<'_>, report: &impl serde::Serialize) -> PyResult<String> {
    let json = serde_json::to_string(report);
    json.map_err(|e| slaf::Error::new(slaf::ErrorKind::Internal, e.to_string())).into_py(py)
}
