//! Floating-point numbers that are equal have the same bits.
//!
//! Arrow compares, groups and joins floats by their bits: -0.0 lies below 0.0, and a NaN with a
//! sign, which processors make of 0/0, below all numbers. So no column of a table has either
//! ([`one_form`]), and what may make one is followed by a function that changes it: expressions
//! ([`OneForm`]), and aggregates and windows ([`AggregatesInOneForm`]). And a number of a query is
//! compared with a float32 as a float32, as numpy does: `x = 0.1`.

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, InList, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, Projection, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// The numbers of a column of floats with one zero and one NaN; any other column as it is.
pub fn one_form(column: &ArrayRef) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(column: &ArrayRef, change: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        Arc::new(column.as_primitive::<T>().unary::<_, T>(change))
    }
    match column.data_type() {
        DataType::Float16 => of::<Float16Type>(column, |x| {
            let f = x.to_f32();
            if f.is_nan() || f == 0.0 {
                <Float16Type as ArrowPrimitiveType>::Native::from_f32(f32_in_one_form(f))
            } else {
                x
            }
        }),
        DataType::Float32 => of::<Float32Type>(column, f32_in_one_form),
        DataType::Float64 => of::<Float64Type>(column, f64_in_one_form),
        _ => column.clone(),
    }
}

/// 0 for -0, and the one NaN for any.
pub fn f32_in_one_form(x: f32) -> f32 {
    if x.is_nan() { f32::NAN } else { x + 0.0 }
}

/// 0 for -0, and the one NaN for any.
pub fn f64_in_one_form(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x + 0.0 }
}

/// Whether a function gives its argument in one form, whatever query calls it.
pub fn is_one_form(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<Function>().is_some()
}

/// Puts [`one_form`] behind what may make other zeros and NaNs, and narrows numbers that are
/// compared with a float32.
#[derive(Debug)]
pub(crate) struct OneForm;

impl FunctionRewrite for OneForm {
    fn name(&self) -> &str {
        "one_form"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> DfResult<Transformed<Expr>> {
        let narrow = |number: Box<Expr>, beside: &Expr| Box::new(narrowed(*number, beside, schema));
        Ok(match expr {
            Expr::Literal(ScalarValue::Float64(Some(x)), metadata) => {
                Transformed::yes(Expr::Literal(ScalarValue::Float64(Some(f64_in_one_form(x))), metadata))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                let right = narrow(right, &left);
                let left = narrow(left, &right);
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let (low, high) = (narrow(low, &expr), narrow(high, &expr));
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let list = list.into_iter().map(|number| narrowed(number, &expr, schema)).collect();
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            other if may_make(&other, schema) => Transformed::yes(expr_in_one_form(other)),
            other => Transformed::no(other),
        })
    }
}

fn expr_in_one_form(expr: Expr) -> Expr {
    let func = Arc::new(ScalarUDF::new_from_impl(Function::new()));
    Expr::ScalarFunction(ScalarFunction { func, args: vec![expr] })
}

/// Puts [`one_form`] behind aggregates and windows: +inf and -inf in one group have a NaN with a sign for
/// their sum.
#[derive(Debug)]
pub(crate) struct AggregatesInOneForm;

impl AnalyzerRule for AggregatesInOneForm {
    fn name(&self) -> &str {
        "aggregates_in_one_form"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(in_one_form)?.data)
    }
}

fn in_one_form(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let computed = match &node {
        LogicalPlan::Aggregate(aggregate) => &aggregate.aggr_expr,
        LogicalPlan::Window(window) => &window.window_expr,
        _ => return Ok(Transformed::no(node)),
    };
    // Their columns are the last ones.
    let schema = node.schema().clone();
    let first = schema.fields().len() - computed.len();
    let may_make = |i: usize| i >= first && schema.field(i).data_type().is_floating() && computes(&computed[i - first]);
    if !(0..schema.fields().len()).any(may_make) {
        return Ok(Transformed::no(node));
    }
    let columns = schema.iter().enumerate().map(|(i, (table, field))| {
        let column = Expr::Column(Column::new(table.cloned(), field.name()));
        match may_make(i) {
            true => expr_in_one_form(column).alias_qualified(table.cloned(), field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(node))?)))
}

/// Whether an aggregate or a function over a window gives other floats than it gets.
fn computes(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Alias(alias) => return computes(&alias.expr),
        Expr::AggregateFunction(call) => call.func.name(),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => function.name(),
            WindowFunctionDefinition::WindowUDF(function) => function.name(),
        },
        _ => return true,
    };
    !["min", "max", "first_value", "last_value", "nth_value", "lag", "lead"].contains(&name)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether an expression gives floats that may be -0.0, or NaN with a sign, of others that are not.
fn may_make(expr: &Expr, schema: &DFSchema) -> bool {
    let is_float = || expr.get_type(schema).is_ok_and(|t| t.is_floating());
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => {
            use Operator::{Divide, Minus, Modulo, Multiply, Plus};
            // Infinities make NaN of sums.
            matches!(op, Plus | Minus | Multiply | Divide | Modulo) && is_float()
        }
        Expr::ScalarFunction(call) => !is_one_form(&call.func) && is_float(),
        // Whole numbers, and floats that become wider, give none.
        Expr::Cast(Cast { expr: of, .. }) | Expr::TryCast(TryCast { expr: of, .. }) => {
            let narrower = |from: DataType, to: DataType| {
                from.is_integer() || from.is_floating() && from.primitive_width() <= to.primitive_width()
            };
            let types = of.get_type(schema).ok().zip(expr.get_type(schema).ok());
            types.is_some_and(|(from, to)| to.is_floating() && !narrower(from, to))
        }
        Expr::Negative(_) => is_float(),
        _ => false,
    }
}

/// A literal in the type of the narrower floats that it is compared with, if it has a value there.
fn narrowed(number: Expr, beside: &Expr, schema: &DFSchema) -> Expr {
    let Expr::Literal(value @ ScalarValue::Float64(Some(x)), metadata) = &number else { return number };
    let narrow = match beside.get_type(schema) {
        Ok(t @ (DataType::Float16 | DataType::Float32)) => value.cast_to(&t),
        _ => return number,
    };
    let is_finite = |value: &ScalarValue| match value {
        ScalarValue::Float32(Some(x)) => x.is_finite(),
        ScalarValue::Float16(Some(x)) => x.is_finite(),
        _ => false,
    };
    match narrow {
        Ok(narrow) if is_finite(&narrow) == x.is_finite() => Expr::Literal(narrow, metadata.clone()),
        _ => number,
    }
}

/// [`one_form`] for expressions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    signature: Signature,
}

impl Function {
    fn new() -> Function {
        Function { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        "one_form"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        crate::answers::result(&args.args, one_form(&columns[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, Float32Array, Float64Array, Int32Array};

    #[test]
    fn one_zero_and_one_nan() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(-f64::NAN), Some(-1.5)]));
        let found = one_form(&column);
        let bits: Vec<u64> = found.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits).collect();
        assert_eq!(bits, [0.0, f64::NAN, -1.5].map(f64::to_bits));
        assert_eq!(found.null_count(), 1);
        let column: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, f32::NEG_INFINITY]));
        let bits: Vec<u32> =
            one_form(&column).as_primitive::<Float32Type>().values().iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [0.0, f32::NEG_INFINITY].map(f32::to_bits));
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        assert_eq!(&one_form(&column), &column);
    }
}
