//! Recognises aggregates whose groups depend on the cell and the gene of a stored value alone,
//! and lets [`GroupedExec`] compute them while it decodes.
//!
//! Groups may be cells or genes, by number or name, and columns of `cells` or `genes` that are
//! joined to the expression by number.

use super::expression_exec::ExpressionExec;
use super::grouped_exec::GroupedExec;
use super::side_groups::{Build, GroupColumn};
use super::view::{Side, ViewColumn};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, PhysicalExpr};
use std::sync::Arc;

/// The last rule of the physical optimizer: the plan that it sees is the one that would run.
#[derive(Debug)]
pub(super) struct GroupWhileDecoding;

impl PhysicalOptimizerRule for GroupWhileDecoding {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let grouped = plan.transform_up(|node| {
            let grouped = node.downcast_ref::<AggregateExec>().and_then(grouped);
            Ok(match grouped {
                Some(exec) => Transformed::yes(Arc::new(exec) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })?;
        Ok(grouped.data)
    }

    fn name(&self) -> &str {
        "group_while_decoding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn grouped(aggregate: &AggregateExec) -> Option<GroupedExec> {
    let first =
        matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned);
    let groups = aggregate.group_expr();
    if !first || groups.has_grouping_set() || groups.groups().len() > 1 || aggregate.limit_options().is_some() {
        return None;
    }
    if !aggregate.aggr_expr().iter().all(|a| a.groups_accumulator_supported() && a.order_bys().is_empty()) {
        return None;
    }
    let source = Source::of(aggregate.input())?;
    let columns = groups.expr().iter().map(|(expr, _)| source.group_column(expr)).collect::<Option<Vec<_>>>()?;
    let over_leaf = |expr: &Arc<dyn PhysicalExpr>| source.over_leaf(expr);
    let arguments = aggregate
        .aggr_expr()
        .iter()
        .map(|a| a.expressions().iter().map(over_leaf).collect::<Option<Vec<_>>>())
        .collect::<Option<Vec<_>>>()?;
    let filters = aggregate
        .filter_expr()
        .iter()
        .map(|f| f.as_ref().map_or(Some(None), |f| over_leaf(f).map(Some)))
        .collect::<Option<Vec<_>>>()?;
    GroupedExec::new(aggregate.clone(), source.leaf, source.builds, columns, arguments, filters, source.conditions)
}

/// Where a column of a plan comes from.
#[derive(Clone, Debug)]
enum Origin {
    /// A column of the scan's schema.
    Leaf(usize),
    /// Computed from columns of the scan's schema: what several aggregates use is projected.
    Computed(Arc<dyn PhysicalExpr>),
    /// A column of the other side of a join.
    Build(Side, usize),
}

/// A plan that is a scan of a view, perhaps joined with cells and genes, perhaps filtered.
struct Source {
    leaf: ExpressionExec,
    builds: Vec<Build>,
    /// Conditions on the scan's columns.
    conditions: Vec<Arc<dyn PhysicalExpr>>,
    /// The plan's columns.
    columns: Vec<Origin>,
}

impl Source {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<Source> {
        if let Some(leaf) = plan.downcast_ref::<ExpressionExec>() {
            let columns = (0..leaf.columns.len()).map(Origin::Leaf).collect();
            return leaf.fetch().is_none().then(|| Source {
                leaf: leaf.afresh(),
                builds: Vec::new(),
                conditions: Vec::new(),
                columns,
            });
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let mut source = Source::of(projection.input())?;
            let origin = |expr: &Arc<dyn PhysicalExpr>| match expr.downcast_ref::<Column>() {
                Some(column) => Some(source.columns[column.index()].clone()),
                None => source.over_leaf(expr).map(Origin::Computed),
            };
            source.columns = projection.expr().iter().map(|p| origin(&p.expr)).collect::<Option<_>>()?;
            return Some(source);
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let mut source = Source::of(filter.input())?;
            let condition = source.over_leaf(filter.predicate())?;
            source.conditions.push(condition);
            if filter.fetch().is_some() {
                return None;
            }
            source.project(filter.projection().as_deref());
            return Some(source);
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            let spreads = matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_));
            return if spreads { Source::of(repartition.input()) } else { None };
        }
        if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
            return Source::of(cooperative.input());
        }
        Source::of_join(plan.downcast_ref::<HashJoinExec>()?)
    }

    fn of_join(join: &HashJoinExec) -> Option<Source> {
        let mut source = Source::of(&join.right)?;
        let [(of_build, of_leaf)] = &join.on[..] else { return None };
        let Origin::Leaf(at) = source.columns[of_leaf.downcast_ref::<Column>()?.index()] else { return None };
        let ViewColumn::Number(side) = source.leaf.columns[at] else { return None };
        if join.filter.is_some() || join.fetch().is_some() || source.builds.iter().any(|b| b.side == side) {
            return None;
        }
        let id = of_build.downcast_ref::<Column>()?.index();
        let n_left = join.left.schema().fields().len();
        match join.join_type {
            JoinType::Inner => {
                let mut columns: Vec<Origin> = (0..n_left).map(|c| Origin::Build(side, c)).collect();
                columns.append(&mut source.columns);
                source.columns = columns;
                source.project(join.projection.as_deref());
            }
            JoinType::RightSemi => source.project(join.projection.as_deref()),
            _ => return None,
        }
        let repeats = join.join_type == JoinType::Inner;
        source.builds.push(Build { side, plan: join.left.clone(), id, repeats });
        Some(source)
    }

    fn project(&mut self, projection: Option<&[usize]>) {
        if let Some(projection) = projection {
            self.columns = projection.iter().map(|&i| self.columns[i].clone()).collect();
        }
    }

    /// An expression over the scan's schema, if it uses nothing else.
    fn over_leaf(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
        let mut only_leaf = true;
        let mapped = expr.clone().transform_down(|e| {
            let Some(column) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            match &self.columns[column.index()] {
                Origin::Leaf(at) => {
                    let mapped: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), *at));
                    Ok(Transformed::yes(mapped))
                }
                // Its columns are the scan's already.
                Origin::Computed(of) => Ok(Transformed::new(of.clone(), true, TreeNodeRecursion::Jump)),
                Origin::Build(..) => {
                    only_leaf = false;
                    Ok(Transformed::no(e))
                }
            }
        });
        mapped.ok().filter(|_| only_leaf).map(|m| m.data)
    }

    fn group_column(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<GroupColumn> {
        match self.columns[expr.downcast_ref::<Column>()?.index()] {
            Origin::Build(side, column) => Some(GroupColumn::OfBuild(side, column)),
            Origin::Computed(_) => None,
            Origin::Leaf(at) => match self.leaf.columns[at] {
                ViewColumn::Number(side) => Some(GroupColumn::Number(side)),
                ViewColumn::Name(side) => Some(GroupColumn::Name(side)),
                ViewColumn::Value(_) => None,
            },
        }
    }
}
