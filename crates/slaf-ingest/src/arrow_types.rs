//! Value types as Arrow types.

use arrow::datatypes::DataType;
use slaf_core::Dtype;

/// The Arrow type of values of this type.
pub fn arrow_type(dtype: Dtype) -> DataType {
    match dtype {
        Dtype::Bool => DataType::Boolean,
        Dtype::U8 => DataType::UInt8,
        Dtype::U16 => DataType::UInt16,
        Dtype::U32 => DataType::UInt32,
        Dtype::U64 => DataType::UInt64,
        Dtype::I8 => DataType::Int8,
        Dtype::I16 => DataType::Int16,
        Dtype::I32 => DataType::Int32,
        Dtype::I64 => DataType::Int64,
        Dtype::F32 => DataType::Float32,
        Dtype::F64 => DataType::Float64,
    }
}

/// The value type with this Arrow type, if there is one.
pub(crate) fn dtype_of(arrow: &DataType) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|&dtype| arrow_type(dtype) == *arrow)
}
