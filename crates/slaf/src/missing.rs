//! Missing numbers of obs and var: NaN in the store and in pandas, null wherever a missing value
//! has a mark of its own.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, Schema};
use slaf_core::Result;
use slaf_lance::error::from_arrow;
use std::sync::Arc;

/// A column of obs or var with nulls in the places of NaN; the values stay as they are.
pub(crate) fn nan_to_null(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float16 => marked::<Float16Type>(column, |x| x.is_nan()),
        DataType::Float32 => marked::<Float32Type>(column, f32::is_nan),
        DataType::Float64 => marked::<Float64Type>(column, f64::is_nan),
        _ => column.clone(),
    }
}

fn marked<T: ArrowPrimitiveType>(column: &ArrayRef, is_nan: impl Fn(T::Native) -> bool) -> ArrayRef {
    let floats = column.as_primitive::<T>();
    let values = floats.values();
    if !values.iter().any(|&x| is_nan(x)) {
        return column.clone();
    }
    let present = NullBuffer::new(BooleanBuffer::collect_bool(values.len(), |i| !is_nan(values[i])));
    let present = NullBuffer::union(floats.nulls(), Some(&present));
    Arc::new(arrow::array::PrimitiveArray::<T>::new(values.clone(), present))
}

/// A batch of obs or var as polars and SQL see it: a missing number is null, not NaN.
///
/// # Errors
/// None but defects.
pub fn with_nulls(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = batch.columns().iter().map(nan_to_null).collect();
    let schema = batch.schema();
    let nullable = |(field, column): (&Arc<Field>, &ArrayRef)| match column.null_count() > 0 {
        true => Arc::new(field.as_ref().clone().with_nullable(true)),
        false => field.clone(),
    };
    let fields: Vec<Arc<Field>> = schema.fields().iter().zip(&columns).map(nullable).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(from_arrow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Float64Array, Int32Array};

    #[test]
    fn nan_is_null_and_nothing_else_is() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(f64::INFINITY)]));
        let expected: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, None, Some(f64::INFINITY)]));
        assert_eq!(&nan_to_null(&floats), &expected);
        let slice = floats.slice(1, 2);
        assert_eq!(nan_to_null(&slice).null_count(), 2);
        let negative: ArrayRef = Arc::new(Float32Array::from(vec![-f32::NAN, -0.0]));
        assert_eq!(nan_to_null(&negative).null_count(), 1);
        let integers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        assert_eq!(&nan_to_null(&integers), &integers);
    }

    #[test]
    fn fields_that_get_nulls_say_so() {
        let schema = Schema::new(vec![Field::new("a", DataType::Float64, false)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Float64Array::from(vec![f64::NAN]))]).unwrap();
        assert_eq!(with_nulls(&batch).unwrap().column(0).null_count(), 1);
    }
}
