//! MIN and MAX of floats by groups. DataFusion's begin at the largest finite number, which is
//! smaller than what a group of infinities has, and forget a NaN or not by the order of rows.
//! These are as MIN and MAX without groups: NaN is the largest.

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::logical_expr::GroupsAccumulator;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// The accumulator of `min` or `max`, for floats.
pub(crate) fn accumulator(function: &str, data_type: &DataType) -> Option<Box<dyn GroupsAccumulator>> {
    Some(match (function, data_type) {
        ("min", DataType::Float32) => min::<Float32Type>(data_type, f32::NAN, f32::is_nan),
        ("min", DataType::Float64) => min::<Float64Type>(data_type, f64::NAN, f64::is_nan),
        ("max", DataType::Float32) => max::<Float32Type>(data_type, f32::NEG_INFINITY, f32::is_nan),
        ("max", DataType::Float64) => max::<Float64Type>(data_type, f64::NEG_INFINITY, f64::is_nan),
        _ => return None,
    })
}

fn min<T: ArrowPrimitiveType + Send>(
    data_type: &DataType,
    largest: T::Native,
    is_nan: fn(T::Native) -> bool,
) -> Box<dyn GroupsAccumulator>
where
    T::Native: PartialOrd,
{
    let smaller = move |held: &mut T::Native, new: T::Native| {
        if is_nan(*held) || new < *held {
            *held = new;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(data_type, smaller).with_starting_value(largest))
}

fn max<T: ArrowPrimitiveType + Send>(
    data_type: &DataType,
    smallest: T::Native,
    is_nan: fn(T::Native) -> bool,
) -> Box<dyn GroupsAccumulator>
where
    T::Native: PartialOrd,
{
    let larger = move |held: &mut T::Native, new: T::Native| {
        if is_nan(new) || new > *held {
            *held = new;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(data_type, larger).with_starting_value(smallest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Float64Array};
    use datafusion::logical_expr::EmitTo;
    use std::sync::Arc;

    #[test]
    fn groups_of_infinities_and_nan() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let values: ArrayRef = Arc::new(Float64Array::from(vec![inf, -inf, nan, 1.0, 1.0, nan, nan]));
        let groups = [0, 1, 2, 2, 3, 3, 4];
        for (function, expected) in [("min", [inf, -inf, 1.0, 1.0, nan]), ("max", [inf, -inf, nan, nan, nan])] {
            let mut accumulator = accumulator(function, &DataType::Float64).unwrap();
            accumulator.update_batch(std::slice::from_ref(&values), &groups, None, 5).unwrap();
            let found = accumulator.evaluate(EmitTo::All).unwrap();
            let bits: Vec<u64> = found.as_primitive::<Float64Type>().values().iter().map(|x| x.to_bits()).collect();
            assert_eq!(bits, expected.map(f64::to_bits), "{function}");
        }
        assert!(accumulator("min", &DataType::Int64).is_none());
        assert!(accumulator("sum", &DataType::Float64).is_none());
    }
}
