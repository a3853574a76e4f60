//! Lets queries be stopped: a join can make more batches of one than a tokio task may run without
//! a break, and a task is stopped only at a break.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use std::sync::Arc;

/// Makes breaks behind every join.
#[derive(Debug)]
pub(super) struct BreaksBehindJoins;

impl PhysicalOptimizerRule for BreaksBehindJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let is_join = |node: &Arc<dyn ExecutionPlan>| {
            node.downcast_ref::<CrossJoinExec>().is_some()
                || node.downcast_ref::<HashJoinExec>().is_some()
                || node.downcast_ref::<NestedLoopJoinExec>().is_some()
                || node.downcast_ref::<SortMergeJoinExec>().is_some()
        };
        let with_breaks = plan.transform_up(|node| {
            Ok(match is_join(&node) {
                true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(node),
            })
        })?;
        Ok(with_breaks.data)
    }

    fn name(&self) -> &str {
        "breaks_behind_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
