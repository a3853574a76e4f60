//! `/` gives a fraction, `//` and `div` give whole numbers.

use crate::integers;
use arrow::array::{ArrayRef, AsArray};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{DFSchema, Result as DfResult, plan_err};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::sync::Arc;

/// Plans the division of whole numbers.
#[derive(Debug)]
pub(crate) struct Division {
    /// Whether `/` of whole numbers gives a fraction.
    pub(crate) fractions: bool,
}

impl ExprPlanner for Division {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let is_whole = |e: &Expr| e.get_type(schema).is_ok_and(|t| is_whole(&t));
        match raw.op {
            BinaryOperator::Divide if self.fractions && is_whole(&raw.left) && is_whole(&raw.right) => {
                let left = Box::new(cast(raw.left, DataType::Float64));
                let fraction = BinaryExpr::new(left, Operator::Divide, Box::new(raw.right));
                Ok(PlannerResult::Planned(Expr::BinaryExpr(fraction)))
            }
            BinaryOperator::DuckIntegerDivide | BinaryOperator::MyIntegerDivide => {
                // DuckDB's `//` of other numbers is a fraction.
                if !is_whole(&raw.left) || !is_whole(&raw.right) {
                    return plan_err!("// divides whole numbers; div(a, b) takes any and leaves out the fraction");
                }
                Ok(PlannerResult::Planned(div().call(vec![raw.left, raw.right])))
            }
            _ => Ok(PlannerResult::Original(raw)),
        }
    }
}

/// Whole numbers, and parameters, whose type is not known yet.
fn is_whole(data_type: &DataType) -> bool {
    integers::is_whole(data_type) || data_type.is_null()
}

/// `div(a, b)`: the quotient without its fraction, rounded towards zero.
pub(crate) fn div() -> ScalarUDF {
    ScalarUDF::new_from_impl(Div { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Div {
    signature: Signature,
}

impl ScalarUDFImpl for Div {
    fn name(&self) -> &str {
        "div"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let [a, b] = types else { return plan_err!("div takes two numbers") };
        let common = match (is_whole(a), is_whole(b)) {
            (true, true) if a == b && *a == DataType::UInt64 => DataType::UInt64,
            (true, true) => DataType::Int64,
            _ => DataType::Float64,
        };
        Ok(vec![common; 2])
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let numbers = ColumnarValue::values_to_arrays(&args.args)?;
        let quotient = numeric::div(&numbers[0], &numbers[1])?;
        let whole: ArrayRef = match quotient.as_primitive_opt::<Float64Type>() {
            Some(quotient) => Arc::new(quotient.unary::<_, Float64Type>(f64::trunc)),
            None => quotient,
        };
        crate::answers::result(&args.args, whole)
    }
}
