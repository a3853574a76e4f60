//! Questions for the values of single cells, asked again and again: of the plan, which a value does not
//! change, only the scan is made anew, for other rows. Neither the optimizer nor the planner is asked.
//!
//! What is kept is a plan that DataFusion made, so that the answers are those of any query: of columns,
//! expressions, conditions on values and aggregates without groups over one scan. Its operators keep no
//! state between two runs, and its expressions no settings of the query that they were made for.

use super::choice::{Choice, choice, equal_to};
use super::expression_exec::ExpressionExec;
use super::grouped_exec::GroupedExec;
use super::ids;
use super::ready::{Ready, name_with_nul};
use super::view::{IdColumns, Side, View};
use crate::selection::Selection;
use crate::store::TableName;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{Cast, Expr, Operator};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{
    self, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NegativeExpr, NotExpr,
};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use slaf_core::Result;
use slaf_sql::error::from_datafusion;
use slaf_sql::floats::is_one_form;
use slaf_sql::{Parameters, Template};
use std::sync::Arc;

/// The most cells whose values are found in the calling thread.
const MOST_CELLS: u64 = 16;

/// A plan over a scan whose rows depend on parameters.
#[derive(Debug)]
pub(super) struct Point {
    plan: Arc<dyn ExecutionPlan>,
    leaf: ExpressionExec,
    pub(super) schema: SchemaRef,
    conditions: Vec<(Side, Condition)>,
}

/// What chooses rows or columns.
#[derive(Debug)]
enum Condition {
    Fixed(Choice),
    /// Names, or numbers, that are equal to a parameter.
    Name(String),
    Number(String),
}

impl Point {
    /// `None` if other values may need another plan.
    pub(super) fn of(template: &Template, ready: &Ready, parameters: &Parameters) -> Option<Point> {
        let filters = template.conditions_of_scan()?;
        let leaf = leaf(&ready.plan)?.afresh();
        if leaf.partitions() != 1 || name_with_nul(ready.schema.fields()).is_some() {
            return None;
        }
        let condition = |filter| condition(&leaf.view, filter, parameters);
        let conditions = filters.iter().map(condition).collect::<Option<Vec<_>>>()?;
        Some(Point { plan: ready.plan.clone(), schema: ready.schema.clone(), conditions, leaf })
    }

    /// Whether it is answered without waiting for others to read what tells where rows are.
    pub(super) fn is_at_hand(&self) -> bool {
        let (view, snapshot) = (&self.leaf.view, &self.leaf.view.inner);
        let is_kept = |side| snapshot.kept.has_names(TableName::of_axis(view.ids(side).axis));
        let by_name =
            |condition: &Condition| matches!(condition, Condition::Name(_) | Condition::Fixed(Choice::Names(_)));
        snapshot.is_at_hand() && self.conditions.iter().all(|(side, condition)| !by_name(condition) || is_kept(*side))
    }

    /// The plan for these values; `None` if they choose many cells.
    pub(super) async fn bind(&self, parameters: &Parameters) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(rows), Some(cols)) =
            (self.chosen(Side::Rows, parameters).await?, self.chosen(Side::Cols, parameters).await?)
        else {
            return Ok(None);
        };
        if rows.len(self.leaf.view.shape().0) > MOST_CELLS {
            return Ok(None);
        }
        with_leaf(&self.plan, self.leaf.of(rows, cols)).map(Some)
    }

    async fn chosen(&self, side: Side, parameters: &Parameters) -> Result<Option<Selection>> {
        let view = &self.leaf.view;
        let of = |parameter: &str| parameters.value(parameter).and_then(|value| equal_to(&value.scalar()));
        let choice = |condition: &Condition| match condition {
            Condition::Fixed(choice) => Some(choice.clone()),
            Condition::Name(parameter) => of(parameter).filter(|choice| matches!(choice, Choice::Names(_))),
            Condition::Number(parameter) => of(parameter).filter(|choice| matches!(choice, Choice::Numbers(_))),
        };
        let of_side = self.conditions.iter().filter(|(of, _)| *of == side);
        let Some(choices) = of_side.map(|(_, c)| choice(c)).collect::<Option<Vec<_>>>() else { return Ok(None) };
        ids::chosen(&view.inner, view.ids(side).axis, &choices, view.len(side)).await.map(Some)
    }
}

/// What a condition of the scan says of one side.
fn condition(view: &View, filter: &Expr, parameters: &Parameters) -> Option<(Side, Condition)> {
    let side_of = |column: &str| view.side_of_columns(std::iter::once(column));
    let has_parameter = filter.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).ok()?;
    if !has_parameter {
        let (column, choice) = choice(filter)?;
        let side = side_of(&column)?;
        let fits = (column == view.ids(side).id) == matches!(choice, Choice::Names(_));
        return fits.then_some((side, Condition::Fixed(choice)));
    }
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    let (column, parameter) = match (of_text(left), of_text(right)) {
        (Expr::Column(column), Expr::Placeholder(parameter)) | (Expr::Placeholder(parameter), Expr::Column(column)) => {
            (&column.name, &parameter.id)
        }
        _ => return None,
    };
    let side = side_of(column)?;
    let IdColumns { number, id, .. } = view.ids(side);
    match parameters.value(parameter)?.scalar() {
        ScalarValue::Utf8(Some(_)) if column == id => Some((side, Condition::Name(parameter.clone()))),
        ScalarValue::Int64(Some(_)) if column == number => Some((side, Condition::Number(parameter.clone()))),
        _ => None,
    }
}

/// What is cast to a kind of text: texts are equal in all of them or in none.
fn of_text(expr: &Expr) -> &Expr {
    let is_text = |of: &DataType| match of {
        DataType::Dictionary(_, of) => of.is_string(),
        of => of.is_string(),
    };
    match expr {
        Expr::Cast(Cast { expr, field }) if is_text(field.data_type()) => expr,
        expr => expr,
    }
}

/// The scan of a plan, if all that is above it can be run again.
fn leaf(plan: &Arc<dyn ExecutionPlan>) -> Option<&ExpressionExec> {
    if let Some(leaf) = plan.downcast_ref::<ExpressionExec>() {
        return Some(leaf).filter(|leaf| leaf.is_alone());
    }
    if let Some(grouped) = plan.downcast_ref::<GroupedExec>() {
        return grouped.leaf_alone();
    }
    let is_plain = if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        projection.expr().iter().all(|column| is_plain(&column.expr))
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        filter.fetch().is_none() && is_plain(filter.predicate())
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        // It ends what is below it, of one group.
        *aggregate.mode() == AggregateMode::Final && aggregate.group_expr().is_empty()
    } else if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
        coalesce.fetch().is_none()
    } else {
        plan.downcast_ref::<CooperativeExec>().is_some()
    };
    match plan.children()[..] {
        [child] if is_plain => leaf(child),
        _ => None,
    }
}

/// Whether an expression keeps nothing of the query that it was made for, as most functions do.
fn is_plain(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_one = |e: &Arc<dyn PhysicalExpr>| {
        e.downcast_ref::<Column>().is_some()
            || e.downcast_ref::<Literal>().is_some()
            || e.downcast_ref::<expressions::BinaryExpr>().is_some()
            || e.downcast_ref::<CastExpr>().is_some()
            || e.downcast_ref::<CaseExpr>().is_some()
            || e.downcast_ref::<InListExpr>().is_some()
            || e.downcast_ref::<IsNullExpr>().is_some()
            || e.downcast_ref::<IsNotNullExpr>().is_some()
            || e.downcast_ref::<NotExpr>().is_some()
            || e.downcast_ref::<NegativeExpr>().is_some()
            || e.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| is_one_form(call.fun()))
    };
    expr.exists(|e| Ok(!is_one(e))).is_ok_and(|other| !other)
}

/// A plan over another scan.
fn with_leaf(plan: &Arc<dyn ExecutionPlan>, leaf: ExpressionExec) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.downcast_ref::<ExpressionExec>().is_some() {
        return Ok(Arc::new(leaf));
    }
    if let Some(grouped) = plan.downcast_ref::<GroupedExec>() {
        return Ok(Arc::new(grouped.with_leaf(leaf)));
    }
    let children = plan.children().into_iter().map(|child| with_leaf(child, leaf.clone()));
    let children = children.collect::<Result<Vec<_>>>()?;
    plan.clone().with_new_children(children).map_err(from_datafusion)
}
