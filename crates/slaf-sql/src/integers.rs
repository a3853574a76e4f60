//! Whole numbers are exact, or an error: neither arithmetic nor sums begin anew behind the largest
//! number of a type, as DataFusion's do.
//!
//! Numbers of less than 64 bits are 64 bits wide before they are added: counts are often stored in
//! a byte, and `CD3D + CD3E` of 200 and 100 is 300.

use crate::error::to_datafusion;
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::kernels::numeric;
use arrow::compute::{try_binary, try_unary};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, plan_err};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    cast,
};
use datafusion::physical_expr_common::datum::apply;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use slaf_core::{Error, ErrorKind};
use std::sync::Arc;

/// The name of the function that `-x` stands for.
pub(crate) const NEGATIVE: &str = "negative";

/// What to do about a number that is too large.
pub(crate) fn beyond(what: &str) -> Error {
    let message = format!(
        "{what} is beyond the 64 bits of a whole number: CAST what it is made of AS DECIMAL(38, 0), or AS DOUBLE"
    );
    Error::new(ErrorKind::InvalidQuery, message)
}

/// Whole numbers, also those of a categorical.
pub(crate) fn is_whole(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_whole(value),
        other => other.is_integer(),
    }
}

/// Whether these have less than 64 bits.
fn is_narrow(data_type: &DataType) -> bool {
    is_whole(data_type) && !matches!(data_type, DataType::Int64 | DataType::UInt64)
}

/// Widens what is added, subtracted and multiplied.
#[derive(Debug)]
pub(crate) struct Widening;

impl ExprPlanner for Widening {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Minus, Multiply, PGBitwiseShiftLeft, Plus};
        if !matches!(raw.op, Plus | Minus | Multiply | PGBitwiseShiftLeft) {
            return Ok(PlannerResult::Original(raw));
        }
        // A parameter has no type yet.
        let of = |e: &Expr| e.get_type(schema).unwrap_or(DataType::Null);
        let (left, right) = (of(&raw.left), of(&raw.right));
        let numbers = |t: &DataType| is_whole(t) || t.is_null();
        if !numbers(&left) || !numbers(&right) {
            return Ok(PlannerResult::Original(raw));
        }
        let wide = |e: Expr, t: &DataType| if is_narrow(t) { cast(e, DataType::Int64) } else { e };
        let (left, right) = (wide(raw.left, &left), wide(raw.right, &right));
        Ok(PlannerResult::Original(RawBinaryExpr { op: raw.op, left, right }))
    }
}

/// Puts operators that tell when a result is too large in the places of DataFusion's.
#[derive(Debug)]
pub(crate) struct Exact;

impl FunctionRewrite for Exact {
    fn name(&self) -> &str {
        "exact"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> DfResult<Transformed<Expr>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return Ok(Transformed::no(expr)) };
        let of = |e: &Expr| e.get_type(schema).ok();
        let common = of(&left).zip(of(&right)).and_then(|(l, r)| common(&l, &r));
        let func = match (Operation::of(op), common) {
            (Some(operation), Some(_)) => Arc::new(ScalarUDF::from(Checked::new(operation))),
            _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
        };
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: vec![*left, *right] })))
    }
}

/// The type in which two whole numbers are computed. DataFusion makes decimals of unsigned ones
/// beside others.
fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    let unsigned = |t: &DataType| *t == DataType::UInt64;
    if !is_whole(left) || !is_whole(right) {
        return None;
    }
    match (unsigned(left), unsigned(right)) {
        (true, true) => Some(DataType::UInt64),
        (false, false) => Some(DataType::Int64),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    ShiftLeft,
}

impl Operation {
    fn of(op: Operator) -> Option<Operation> {
        Some(match op {
            Operator::Plus => Operation::Add,
            Operator::Minus => Operation::Subtract,
            Operator::Multiply => Operation::Multiply,
            Operator::BitwiseShiftLeft => Operation::ShiftLeft,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Operation::Add => "+",
            Operation::Subtract => "-",
            Operation::Multiply => "*",
            Operation::ShiftLeft => "<<",
        }
    }
}

/// An operator on two whole numbers of 64 bits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

impl Checked {
    fn new(operation: Operation) -> Checked {
        Checked { operation, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.operation.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let common = if let [a, b] = types { common(a, b) } else { None };
        match common {
            Some(common) => Ok(vec![common; 2]),
            None => plan_err!("{} takes two whole numbers here", self.name()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [left, right] = &args.args[..] else { return plan_err!("{} takes two numbers", self.name()) };
        let result = match self.operation {
            Operation::Add => apply(left, right, numeric::add),
            Operation::Subtract => apply(left, right, numeric::sub),
            Operation::Multiply => apply(left, right, numeric::mul),
            Operation::ShiftLeft => {
                let numbers = ColumnarValue::values_to_arrays(&args.args)?;
                let shifted = shifted(&numbers[0], &numbers[1]);
                shifted.and_then(|shifted| crate::answers::result(&args.args, shifted))
            }
        };
        result.map_err(|e| match e {
            DataFusionError::ArrowError(e, _) => {
                let text = e.to_string();
                to_datafusion(beyond(text.rsplit("Overflow happened on: ").next().unwrap_or(&text)))
            }
            other => other,
        })
    }
}

fn shifted(numbers: &ArrayRef, by: &ArrayRef) -> DfResult<ArrayRef> {
    fn of<T: ArrowPrimitiveType>(
        numbers: &ArrayRef,
        by: &ArrayRef,
        shift: impl Fn(T::Native, u32) -> Option<T::Native>,
    ) -> DfResult<ArrayRef>
    where
        T::Native: std::fmt::Display + TryInto<u32> + Copy,
    {
        let checked = |number: T::Native, by: T::Native| {
            let shifted = by.try_into().ok().and_then(|by| shift(number, by));
            shifted.ok_or_else(|| ArrowError::ArithmeticOverflow(format!("Overflow happened on: {number} << {by}")))
        };
        let shifted = try_binary::<_, _, _, T>(numbers.as_primitive::<T>(), by.as_primitive::<T>(), checked)?;
        Ok(Arc::new(shifted))
    }
    // What comes back by a shift to the other side was not lost.
    match numbers.data_type() {
        DataType::UInt64 => {
            of::<UInt64Type>(numbers, by, |n, by| n.checked_shl(by).filter(|shifted| shifted >> by == n))
        }
        _ => of::<Int64Type>(numbers, by, |n, by| n.checked_shl(by).filter(|shifted| shifted >> by == n)),
    }
}

/// `negative(x)`, which `-x` stands for: of unsigned numbers, too.
pub(crate) fn negative() -> ScalarUDF {
    ScalarUDF::from(Negative { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Negative {
    signature: Signature,
}

impl ScalarUDFImpl for Negative {
    fn name(&self) -> &str {
        NEGATIVE
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(format!("(- {})", args.first().map(|e| e.schema_name().to_string()).unwrap_or_default()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let [of] = types else { return plan_err!("- takes one value") };
        Ok(vec![match of {
            DataType::UInt64 | DataType::Null => of.clone(),
            whole if is_whole(whole) => DataType::Int64,
            DataType::Dictionary(_, value) if value.is_numeric() => value.as_ref().clone(),
            other if other.is_numeric() || matches!(other, DataType::Interval(_) | DataType::Duration(_)) => {
                other.clone()
            }
            other => return plan_err!("- is for numbers and spans of time, not for {other}"),
        }])
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(if types[0] == DataType::UInt64 { DataType::Int64 } else { types[0].clone() })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        crate::answers::result(&args.args, negated(&arrays[0])?)
    }
}

fn negated(numbers: &ArrayRef) -> DfResult<ArrayRef> {
    let too_large = |n: &dyn std::fmt::Display| ArrowError::from_external_error(Box::new(beyond(&format!("-({n})"))));
    Ok(match numbers.data_type() {
        DataType::Null => numbers.clone(),
        DataType::UInt64 => {
            let negative = |n: u64| 0_i64.checked_sub_unsigned(n).ok_or_else(|| too_large(&n));
            let negated: Int64Array = try_unary::<_, _, Int64Type>(numbers.as_primitive::<UInt64Type>(), negative)?;
            Arc::new(negated)
        }
        DataType::Int64 => {
            let negative = |n: i64| n.checked_neg().ok_or_else(|| too_large(&n));
            let negated: Int64Array = try_unary::<_, _, Int64Type>(numbers.as_primitive::<Int64Type>(), negative)?;
            Arc::new(negated)
        }
        _ => numeric::neg(numbers)?,
    })
}
