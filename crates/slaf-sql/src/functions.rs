//! Functions for counts.

use crate::answers::result;
use crate::{aggregates, division, integers, length};
use arrow::array::{AsArray, BooleanArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result as DfResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// Adds the functions to a session:
/// - `log1p(x)`: the natural logarithm of `1 + x`, exact for small `x`;
/// - `normalize(value, total, target)`: `value / total * target`, the count that a cell of
///   `target` counts in total would have;
/// - `div(a, b)`: the quotient of any numbers without its fraction;
/// - `length(x)`, `len(x)`: the characters of a text, or the elements of a list;
/// - `isinf(x)`, `isfinite(x)`: whether a number is infinite, or neither infinite nor NaN.
///
/// The first two take any number and give a float64. `AVG`, `SUM`, `STDDEV`, `VAR` and
/// `CORR` take truth values as 0 and 1.
///
/// # Errors
/// DataFusion's, if it does not take them.
pub fn register(context: &SessionContext) -> DfResult<()> {
    let state = context.state_ref();
    let mut state = state.write();
    for function in [log1p(), normalize(), division::div(), integers::negative(), isinf(), isfinite()] {
        state.register_udf(Arc::new(function))?;
    }
    let of_text = state.udf("character_length")?.as_ref().clone();
    state.register_udf(Arc::new(length::length(of_text)))?;
    aggregates::register(&mut state)
}

fn numbers(args: &[ColumnarValue]) -> DfResult<Vec<Float64Array>> {
    let arrays = ColumnarValue::values_to_arrays(args)?;
    Ok(arrays.iter().map(|a| a.as_primitive::<Float64Type>().clone()).collect())
}

fn log1p() -> ScalarUDF {
    let run = |args: &[ColumnarValue]| {
        let x = numbers(args)?;
        result(args, Arc::new(x[0].unary::<_, Float64Type>(f64::ln_1p)))
    };
    create_udf("log1p", vec![DataType::Float64], DataType::Float64, Volatility::Immutable, Arc::new(run))
}

fn isinf() -> ScalarUDF {
    test("isinf", f64::is_infinite)
}

fn isfinite() -> ScalarUDF {
    test("isfinite", f64::is_finite)
}

fn test(name: &str, is: fn(f64) -> bool) -> ScalarUDF {
    let run = move |args: &[ColumnarValue]| {
        let x = numbers(args)?;
        let answers: BooleanArray = x[0].iter().map(|x| x.map(is)).collect();
        result(args, Arc::new(answers))
    };
    create_udf(name, vec![DataType::Float64], DataType::Boolean, Volatility::Immutable, Arc::new(run))
}

fn normalize() -> ScalarUDF {
    let run = |args: &[ColumnarValue]| {
        let x = numbers(args)?;
        let share = arrow::compute::binary::<_, _, _, Float64Type>(&x[0], &x[1], |value, total| value / total)?;
        let normalized = arrow::compute::binary::<_, _, _, Float64Type>(&share, &x[2], |share, target| share * target)?;
        result(args, Arc::new(normalized))
    };
    create_udf("normalize", vec![DataType::Float64; 3], DataType::Float64, Volatility::Immutable, Arc::new(run))
}
