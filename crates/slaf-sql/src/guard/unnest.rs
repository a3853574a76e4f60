//! Lists that are unnested a few rows at a time: an unnest makes one batch of each that it gets,
//! however long the lists are.

use crate::limits::Limits;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, PlanProperties};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::{StreamExt, TryStreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Rows of a batch that an unnest makes, unless one row makes more.
const ROWS: usize = 1 << 16;

/// Puts a [`FewLists`] below every unnest.
#[derive(Debug)]
pub(crate) struct ShortUnnests;

impl PhysicalOptimizerRule for ShortUnnests {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| {
            let Some(unnest) = node.downcast_ref::<UnnestExec>() else { return Ok(Transformed::no(node)) };
            let columns: Vec<usize> = unnest.list_column_indices().iter().map(|l| l.index_in_input_schema).collect();
            let input = Arc::clone(unnest.children()[0]);
            let few = Arc::new(FewLists { input, columns });
            Ok(Transformed::yes(node.with_new_children(vec![few])?))
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "short_unnests"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Cuts batches so that their lists have few elements together.
#[derive(Debug)]
struct FewLists {
    input: Arc<dyn ExecutionPlan>,
    columns: Vec<usize>,
}

impl DisplayAs for FewLists {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FewLists")
    }
}

impl ExecutionPlan for FewLists {
    fn name(&self) -> &str {
        "FewLists"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let [input] = <[_; 1]>::try_from(children)
            .map_err(|_| datafusion::common::DataFusionError::Internal("one child is needed".to_string()))?;
        Ok(Arc::new(FewLists { input, columns: self.columns.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let schema: SchemaRef = self.input.schema();
        let limits = Limits::of(context.session_config().options()).cloned();
        let columns = self.columns.clone();
        let input = self.input.execute(partition, context)?;
        let cut = input.map(move |batch| {
            let parts = batch.and_then(|batch| cut(&batch, &columns, limits.as_ref()));
            match parts {
                Ok(parts) => stream::iter(parts).map(Ok).left_stream(),
                Err(e) => stream::once(async move { Err(e) }).right_stream(),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, cut.flatten().into_stream())))
    }
}

/// Slices of a batch, each of which makes at most [`ROWS`] rows or is one row.
fn cut(batch: &RecordBatch, columns: &[usize], limits: Option<&Limits>) -> DfResult<Vec<RecordBatch>> {
    let lists: Vec<&ArrayRef> = columns.iter().map(|c| batch.column(*c)).collect();
    let made = |row: usize| lists.iter().map(|list| elements(list, row)).max().unwrap_or(0).max(1);
    let wide = batch.columns().iter().enumerate().filter(|(i, _)| !columns.contains(i));
    let wide: usize = wide.map(|(_, c)| c.data_type().primitive_width().unwrap_or(16)).sum();
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    for row in 0..batch.num_rows() {
        let more = made(row);
        if more > ROWS
            && let Some(limits) = limits
        {
            limits.check()?;
            // Given back at once: it is the size that is asked for.
            drop(limits.for_call("unnest", (more as u128) * (wide as u128 + 8))?);
        }
        if sum + more > ROWS && row > start {
            parts.push(batch.slice(start, row - start));
            (start, sum) = (row, 0);
        }
        sum += more;
    }
    if start < batch.num_rows() || parts.is_empty() {
        parts.push(batch.slice(start, batch.num_rows() - start));
    }
    Ok(parts)
}

fn elements(list: &ArrayRef, row: usize) -> usize {
    match list.data_type() {
        DataType::List(_) => list.as_list::<i32>().value_length(row).max(0) as usize,
        DataType::LargeList(_) => list.as_list::<i64>().value_length(row).max(0) as usize,
        DataType::FixedSizeList(_, n) => (*n).max(0) as usize,
        _ => 1,
    }
}
