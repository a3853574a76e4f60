//! Matrix values between Arrow arrays and [`Values`].

use crate::store::schema::arrow_type;
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use slaf_core::{CsrChunk, Dtype, Error, Result, Value, Values, with_values};
use slaf_lance::error::from_arrow;
use std::sync::Arc;

/// The values as a primitive array; booleans become bytes.
pub(crate) fn to_arrow(values: Values) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(v: Vec<T::Native>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter_values(v))
    }
    match values {
        Values::Bool(v) => of::<UInt8Type>(v.into_iter().map(u8::from).collect()),
        Values::U8(v) => of::<UInt8Type>(v),
        Values::U16(v) => of::<UInt16Type>(v),
        Values::U32(v) => of::<UInt32Type>(v),
        Values::U64(v) => of::<UInt64Type>(v),
        Values::I8(v) => of::<Int8Type>(v),
        Values::I16(v) => of::<Int16Type>(v),
        Values::I32(v) => of::<Int32Type>(v),
        Values::I64(v) => of::<Int64Type>(v),
        Values::F32(v) => of::<Float32Type>(v),
        Values::F64(v) => of::<Float64Type>(v),
    }
}

/// The columns of rows, zeros among them.
pub(crate) fn dense_columns(chunk: &CsrChunk, n_columns: usize) -> Vec<Values> {
    fn of<T: Value>(values: &[T], chunk: &CsrChunk, n_columns: usize) -> Vec<Values> {
        let mut columns = vec![vec![T::default(); chunk.n_rows()]; n_columns];
        (0..chunk.n_rows()).for_each(|row| {
            chunk.row(row).for_each(|at| columns[chunk.indices[at] as usize][row] = values[at]);
        });
        columns.into_iter().map(T::wrap).collect()
    }
    with_values!(&chunk.values, v => of(v, chunk, n_columns))
}

/// The values of an array that [`to_arrow`] made for this type.
pub(crate) fn from_arrow_array(array: &dyn Array, dtype: Dtype) -> Result<Values> {
    fn of<T: ArrowPrimitiveType>(array: &dyn Array) -> Result<Vec<T::Native>> {
        let typed = array
            .as_primitive_opt::<T>()
            .filter(|a| a.null_count() == 0)
            .ok_or_else(|| Error::corrupt(format!("values of type {}, not {}", array.data_type(), T::DATA_TYPE)))?;
        Ok(typed.values().to_vec())
    }
    Ok(match dtype {
        Dtype::Bool => Values::Bool(of::<UInt8Type>(array)?.into_iter().map(|b| b != 0).collect()),
        Dtype::U8 => Values::U8(of::<UInt8Type>(array)?),
        Dtype::U16 => Values::U16(of::<UInt16Type>(array)?),
        Dtype::U32 => Values::U32(of::<UInt32Type>(array)?),
        Dtype::U64 => Values::U64(of::<UInt64Type>(array)?),
        Dtype::I8 => Values::I8(of::<Int8Type>(array)?),
        Dtype::I16 => Values::I16(of::<Int16Type>(array)?),
        Dtype::I32 => Values::I32(of::<Int32Type>(array)?),
        Dtype::I64 => Values::I64(of::<Int64Type>(array)?),
        Dtype::F32 => Values::F32(of::<Float32Type>(array)?),
        Dtype::F64 => Values::F64(of::<Float64Type>(array)?),
    })
}

/// Row-major values as rows of a fixed-size list column.
pub(crate) fn to_lists(values: Values, width: u64) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", arrow_type(values.dtype()), true));
    let lists = FixedSizeListArray::try_new(item, width as i32, to_arrow(values), None).map_err(from_arrow)?;
    Ok(Arc::new(lists))
}

/// Row-major values of a fixed-size list column.
pub(crate) fn from_lists(array: &dyn Array, dtype: Dtype, width: u64) -> Result<Values> {
    from_arrow_array(&items(array, width)?, dtype)
}

/// Row-major coordinates; of whole numbers, in float64.
#[derive(Debug)]
pub(crate) enum Coordinates {
    F32(Float32Array),
    F64(Float64Array),
}

impl Coordinates {
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match self {
            Coordinates::F32(values) => values.values().iter().map(|&x| f64::from(x)).collect(),
            Coordinates::F64(values) => values.values().to_vec(),
        }
    }
}

/// The coordinates of a fixed-size list column: floats are not copied.
pub(crate) fn coordinates(array: &dyn Array, dtype: Dtype, width: u64) -> Result<Coordinates> {
    let items = items(array, width)?;
    if items.null_count() == 0 {
        if let Some(values) = items.as_primitive_opt::<Float32Type>() {
            return Ok(Coordinates::F32(values.clone()));
        }
        if let Some(values) = items.as_primitive_opt::<Float64Type>() {
            return Ok(Coordinates::F64(values.clone()));
        }
    }
    let values = from_arrow_array(&items, dtype)?;
    let wide: Vec<f64> = with_values!(&values, v => v.iter().map(|x| x.as_f64()).collect());
    Ok(Coordinates::F64(Float64Array::from(wide)))
}

/// The values of the lists of a column, one after another.
fn items(array: &dyn Array, width: u64) -> Result<ArrayRef> {
    let lists = array
        .as_fixed_size_list_opt()
        .filter(|l| l.value_length() as u64 == width)
        .ok_or_else(|| Error::corrupt(format!("an array column of type {}", array.data_type())))?;
    // `values()` ignores the slice of the array.
    let start = lists.value_offset(0) as usize;
    Ok(lists.values().slice(start, lists.len() * width as usize))
}

/// The values of a column of the store.
pub(crate) fn primitive<'a, T: ArrowPrimitiveType>(array: &'a ArrayRef, name: &str) -> Result<&'a [T::Native]> {
    array
        .as_primitive_opt::<T>()
        .map(|a| a.values().as_ref())
        .ok_or_else(|| Error::corrupt(format!("column {name} has type {}", array.data_type())))
}
