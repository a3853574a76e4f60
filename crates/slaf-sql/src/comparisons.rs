//! Whole numbers beside fractions: a comparison makes floats of both, and floats have no place for
//! all whole numbers. So a float of a query that is a large whole number becomes one, and whole
//! numbers beside a float32 become float64.

use crate::integers::is_whole;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, cast};

/// From here on a float64 leaves out whole numbers. Below, none is rounded to one that is.
const SPARSE: f64 = 9_007_199_254_740_992.0;
/// The least float that no decimal of 38 digits holds.
const DECIMAL: f64 = 1e38;

/// Compares whole numbers with fractions as exactly as they are.
#[derive(Debug)]
pub(crate) struct ExactComparisons;

impl FunctionRewrite for ExactComparisons {
    fn name(&self) -> &str {
        "exact_comparisons"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> DfResult<Transformed<Expr>> {
        let exact = |number: Box<Expr>, beside: &Expr| match is_whole_expr(beside, schema) {
            true => Box::new(whole(*number)),
            false => number,
        };
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                let right = exact(right, &left);
                let left = exact(left, &right);
                let left = wide(left, &right, schema);
                let right = wide(right, &left, schema);
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let (low, high) = (exact(low, &expr), exact(high, &expr));
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            }
            Expr::InList(InList { expr, list, negated })
                if list.iter().any(is_sparse) && is_whole_expr(&expr, schema) =>
            {
                // A list has one type, and no whole number equals a fraction.
                let list = list.into_iter().filter(|number| !is_fraction(number)).map(whole_of_list).collect();
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            other => Transformed::no(other),
        })
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_whole_expr(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|t| is_whole(&t))
}

fn float(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Literal(ScalarValue::Float64(x), _) => *x,
        _ => None,
    }
}

fn is_sparse(expr: &Expr) -> bool {
    float(expr).is_some_and(|x| x.abs() >= SPARSE && x.abs() < DECIMAL)
}

fn is_fraction(expr: &Expr) -> bool {
    float(expr).is_some_and(|x| x.is_finite() && x.fract() != 0.0)
}

/// The whole number that a large float of the query is.
fn whole(number: Expr) -> Expr {
    if is_sparse(&number) { whole_of_list(number) } else { number }
}

fn whole_of_list(number: Expr) -> Expr {
    match &number {
        Expr::Literal(ScalarValue::Float64(Some(x)), metadata) if x.abs() < DECIMAL && x.fract() == 0.0 => {
            let n = *x as i128;
            let value = match i64::try_from(n) {
                Ok(n) => ScalarValue::Int64(Some(n)),
                Err(_) => ScalarValue::Decimal128(Some(n), 38, 0),
            };
            Expr::Literal(value, metadata.clone())
        }
        _ => number,
    }
}

/// Whole numbers beside floats of less than 64 bits with 64 bits. A number of the query is compared
/// as a float of theirs.
fn wide(whole: Box<Expr>, beside: &Expr, schema: &DFSchema) -> Box<Expr> {
    let of = |e: &Expr| e.get_type(schema).unwrap_or(DataType::Null);
    let is_wide = matches!(of(&whole), DataType::Int32 | DataType::UInt32 | DataType::Int64 | DataType::UInt64);
    let literal = matches!(*whole, Expr::Literal(..)) || matches!(beside, Expr::Literal(..));
    match of(beside) {
        DataType::Float16 | DataType::Float32 if is_wide && !literal => Box::new(cast(*whole, DataType::Float64)),
        _ => whole,
    }
}
