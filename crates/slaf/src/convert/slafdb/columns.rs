//! Columns of the tables of a data set.

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use slaf_core::{Dtype, Error, Result};
use slaf_lance::error::from_arrow;

/// A column of a batch.
pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::malformed(format!("no column {name}")))
}

/// An array of any string type.
pub(super) fn strings(array: &ArrayRef) -> Result<StringArray> {
    let array = cast(array, &DataType::Utf8).map_err(from_arrow)?;
    array.as_string_opt().cloned().ok_or_else(|| Error::malformed("no strings"))
}

/// The value type that holds values of an Arrow type: counts of 16 bits and less are floats in
/// nearly every AnnData, and float32 holds them exactly.
pub(super) fn dtype_of(data_type: &DataType) -> Option<Dtype> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16 => Dtype::F32,
        DataType::Float16 | DataType::Float32 => Dtype::F32,
        DataType::Int32 => Dtype::I32,
        DataType::UInt32 => Dtype::U32,
        DataType::Int64 => Dtype::I64,
        DataType::UInt64 => Dtype::U64,
        DataType::Float64 => Dtype::F64,
        _ => return None,
    })
}
