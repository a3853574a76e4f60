//! Plans that are made once, and used again with other values of their parameters.

use crate::error::from_datafusion;
use crate::parameters::Parameters;
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ExprSchema, Result as DfResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{BinaryExpr, Placeholder};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, Volatility};
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use slaf_core::Result;
use std::sync::Arc;

/// The plan of a query, for any values of some types.
///
/// It is optimized once if the optimizer's work does not depend on the values: where none is there,
/// or all are compared, as they are, with a column of their kind. Everywhere else the type of an
/// expression, or what it is rewritten to, may depend on a value.
#[derive(Debug)]
pub struct Template {
    plan: LogicalPlan,
    is_optimized: bool,
}

impl Template {
    /// Makes a template of a plan by [`Query::plan`](crate::Query::plan), for values of the types
    /// of these.
    ///
    /// # Errors
    /// `invalid-query` for types that do not fit together.
    pub fn new(plan: LogicalPlan, parameters: &Parameters, state: &SessionState) -> Result<Template> {
        let types = parameters.types().filter(|types| is_same_for_all(&plan, types).unwrap_or(false));
        let Some(types) = types else { return Ok(Template { plan, is_optimized: false }) };
        let plan = with_types(plan, &types).and_then(|plan| state.optimize(&plan)).map_err(from_datafusion)?;
        Ok(Template { plan, is_optimized: true })
    }

    /// Whether binding values needs neither functions by name nor the rules of a session.
    pub fn is_optimized(&self) -> bool {
        self.is_optimized
    }

    /// The conditions of the scan of a plan that has one, if the plan is optimized, has no parameters
    /// elsewhere, and consists of columns, conditions and aggregates.
    pub fn conditions_of_scan(&self) -> Option<&[Expr]> {
        let mut node = Some(&self.plan).filter(|_| self.is_optimized)?;
        loop {
            node = match node {
                LogicalPlan::TableScan(scan) => return scan.fetch.is_none().then_some(&scan.filters),
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Projection(projection) if are_constant(&projection.expr) => &projection.input,
                LogicalPlan::Filter(filter) if are_constant([&filter.predicate]) => &filter.input,
                LogicalPlan::Aggregate(aggregate)
                    if are_constant(aggregate.group_expr.iter().chain(&aggregate.aggr_expr)) =>
                {
                    &aggregate.input
                }
                _ => return None,
            };
        }
    }

    /// The optimized plan with these values.
    ///
    /// # Errors
    /// As [`Template::new`].
    pub fn bind(&self, parameters: &Parameters, state: &SessionState) -> Result<LogicalPlan> {
        let plan = self.plan.clone();
        let bound = match (parameters.values(), self.is_optimized) {
            (None, true) => Ok(plan),
            (None, false) => state.optimize(&plan),
            // What is compared with a value gets its final form, by which tables know it.
            (Some(values), true) => {
                plan.with_param_values(values).and_then(|plan| simplifying().optimize(plan, state, |_, _| {}))
            }
            (Some(values), false) => plan.with_param_values(values).and_then(|plan| state.optimize(&plan)),
        };
        bound.map_err(from_datafusion)
    }
}

/// Whether expressions have no parameters and no queries of their own.
fn are_constant<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> bool {
    let is_other = |e: &Expr| {
        matches!(
            e,
            Expr::Placeholder(_)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        )
    };
    expressions.into_iter().all(|expr| expr.exists(|e| Ok(is_other(e))).is_ok_and(|other| !other))
}

fn simplifying() -> Optimizer {
    Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())])
}

/// Whether a plan is optimized to the same whatever its values of these types are, and whenever.
fn is_same_for_all(plan: &LogicalPlan, types: &[(String, DataType)]) -> DfResult<bool> {
    let (mut parameters, mut compared, mut is_same) = (0, 0, true);
    plan.apply_with_subqueries(|node| {
        // Functions over windows have the limits of their query in them; what is explained is
        // optimized to be shown.
        if matches!(node, LogicalPlan::Window(_) | LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
            is_same = false;
            return Ok(TreeNodeRecursion::Stop);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Placeholder(_) => parameters += 1,
                    Expr::BinaryExpr(binary) if is_plain_comparison(binary, node, types) => compared += 1,
                    // now() is the time of a query's beginning.
                    Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                        is_same = false;
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(is_same && parameters == compared)
}

/// Whether a column of whole numbers or of text is compared with a value of its kind.
fn is_plain_comparison(comparison: &BinaryExpr, node: &LogicalPlan, types: &[(String, DataType)]) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let (column, id) = match (&*comparison.left, &*comparison.right) {
        (Expr::Column(column), Expr::Placeholder(value)) | (Expr::Placeholder(value), Expr::Column(column)) => {
            (column, &value.id)
        }
        _ => return false,
    };
    let of_column = node.inputs().into_iter().find_map(|input| input.schema().field_from_column(column).ok());
    let of_value = types.iter().find(|(name, _)| name == id);
    let is_of_its_kind = match (of_column.map(|field| field.data_type()), of_value) {
        (Some(column), Some((_, DataType::Int64))) => column.is_integer(),
        (Some(DataType::Dictionary(_, column)), Some((_, DataType::Utf8))) => column.is_string(),
        (Some(column), Some((_, DataType::Utf8))) => column.is_string(),
        _ => false,
    };
    is_of_its_kind && matches!(comparison.op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Gives parameters the types of their values.
fn with_types(plan: LogicalPlan, types: &[(String, DataType)]) -> DfResult<LogicalPlan> {
    if types.is_empty() {
        return Ok(plan);
    }
    let typed = |expr: Expr| {
        let Expr::Placeholder(parameter) = expr else { return Ok(Transformed::no(expr)) };
        let of = types.iter().find(|(name, _)| *name == parameter.id);
        let field = of.map(|(_, data_type)| Arc::new(Field::new("", data_type.clone(), true)));
        Ok(Transformed::yes(Expr::Placeholder(Placeholder { field, ..parameter })))
    };
    let plan = plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(typed)))?;
    Ok(plan.data)
}
