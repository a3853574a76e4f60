//! Aggregates that are computed while rows are decoded: no row of the expression table is ever
//! made, and no group is looked up by a hash. The accumulators are DataFusion's own, so that the
//! answers are, too.

use super::block::Block;
use super::dense_plan::Dense;
use super::dense_read::Reading;
use super::expression_exec::ExpressionExec;
use super::ids;
use super::side_groups::{Build, GroupColumn, GroupOf, SideGroups};
use super::sides::Sides;
use super::stored_sums;
use super::view::{Side, ViewColumn};
use crate::selection::Selection;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use slaf_core::{Error, ErrorKind, Result, with_dtype};
use slaf_lance::error::from_arrow;
use slaf_sql::error::{from_datafusion, to_datafusion};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OnceCell, mpsc};

/// The most groups that are kept side by side; with more, DataFusion looks them up.
const MOST_GROUPS: usize = 1 << 23;
/// Rows whose values are added at once: few enough to stay in the processor's cache.
const ROWS_AT_ONCE: usize = 32;
/// Batches of results that wait for whoever asked.
const QUEUE: usize = 2;

/// An aggregate over a scan.
#[derive(Clone)]
pub(super) struct GroupedExec {
    /// What this stands for; it runs where the groups are too many.
    pub(super) aggregate: Arc<AggregateExec>,
    pub(super) leaf: ExpressionExec,
    builds: Vec<Build>,
    columns: Vec<GroupColumn>,
    /// For each aggregate its arguments and its FILTER, over `used`.
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// WHERE, over `used`.
    conditions: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns of the view that the expressions use.
    used: Vec<ViewColumn>,
    /// The aggregates as they are found in arrays, if they can be.
    dense: Option<Arc<Dense>>,
    prepared: Arc<OnceCell<Preparation>>,
    properties: Arc<PlanProperties>,
}

/// What becomes of the aggregate.
#[derive(Debug)]
enum Preparation {
    /// Groups have places.
    Places(Box<Prepared>),
    /// DataFusion looks groups up. The other sides of the joins have run, and gave these rows.
    ByHash(Vec<RecordBatch>),
}

/// What all partitions share.
#[derive(Debug)]
struct Prepared {
    sides: Arc<Sides>,
    /// Stored sums answer the query.
    sums: Option<stored_sums::StoredSums>,
}

impl GroupedExec {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        aggregate: AggregateExec,
        leaf: ExpressionExec,
        builds: Vec<Build>,
        mut columns: Vec<GroupColumn>,
        arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
        filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
        conditions: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Option<GroupedExec> {
        for column in &mut columns {
            // The two sides of a join are equal in what they are joined by.
            if let GroupColumn::OfBuild(side, at) = *column
                && let Some(build) = builds.iter().find(|b| b.side == side && b.id == at)
                && *build.plan.schema().field(at).data_type() == arrow::datatypes::DataType::Int64
            {
                *column = GroupColumn::Number(side);
            }
        }
        let own =
            |side| columns.iter().any(|c| matches!(c, GroupColumn::Number(s) | GroupColumn::Name(s) if *s == side));
        let ordered = *aggregate.input_order_mode() != InputOrderMode::Linear;
        // Groups come out in the order of the matrix, which is what an ordered input promised.
        let in_order = own(Side::Rows) && columns.iter().all(|c| !matches!(c, GroupColumn::OfBuild(Side::Rows, _)));
        if (own(Side::Rows) && own(Side::Cols)) || (ordered && !in_order) {
            return None;
        }
        let all = || arguments.iter().flatten().chain(filters.iter().flatten()).chain(&conditions);
        let mut used: Vec<ViewColumn> = all().flat_map(collect_columns).map(|c| leaf.columns[c.index()]).collect();
        used.sort_unstable();
        used.dedup();
        let schema = leaf.view.project(&used);
        let over_used = |e: &Arc<dyn PhysicalExpr>| reassign_expr_columns(e.clone(), &schema).ok();
        let arguments = arguments.iter().map(|a| a.iter().map(over_used).collect()).collect::<Option<Vec<_>>>()?;
        let filters = filters
            .iter()
            .map(|f| f.as_ref().map_or(Some(None), |f| over_used(f).map(Some)))
            .collect::<Option<Vec<_>>>()?;
        let conditions = conditions.iter().map(over_used).collect::<Option<Vec<_>>>()?;
        let dense = Dense::of(&leaf.view, aggregate.aggr_expr(), &arguments, &filters, &conditions, &used);
        // Pieces of work are no partitions: these are as many as threads, and so would be what is added.
        let alone = dense.is_some() || *aggregate.mode() != AggregateMode::Partial;
        let partitions = if alone { 1 } else { leaf.partitions() };
        let properties = PlanProperties::new(
            aggregate.properties().eq_properties.clone(),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Some(GroupedExec {
            aggregate: Arc::new(aggregate),
            leaf,
            builds,
            columns,
            arguments,
            filters,
            conditions,
            used,
            dense: dense.map(Arc::new),
            prepared: Arc::default(),
            properties: Arc::new(properties),
        })
    }

    /// The scan, if it is all that this reads, and is never read by what this stands for: where there is
    /// one group, there are not too many.
    pub(super) fn leaf_alone(&self) -> Option<&ExpressionExec> {
        let is_alone = self.builds.is_empty() && self.columns.is_empty() && self.dense.is_some();
        Some(&self.leaf).filter(|leaf| is_alone && leaf.is_alone())
    }

    /// The same aggregates over another scan.
    pub(super) fn with_leaf(&self, leaf: ExpressionExec) -> GroupedExec {
        GroupedExec { leaf, prepared: Arc::default(), ..self.clone() }
    }

    /// Whether each stored value of the chosen cells and genes counts as it is.
    pub(super) fn is_unfiltered(&self) -> bool {
        // Conditions on ids are part of the choice.
        let all = self.dense.as_ref().map_or(self.conditions.is_empty(), |dense| dense.conditions.is_empty());
        all && self.filters.iter().all(Option::is_none)
    }

    pub(super) fn arguments(&self) -> &[Vec<Arc<dyn PhysicalExpr>>] {
        &self.arguments
    }

    async fn prepare(&self, context: &Arc<TaskContext>) -> Result<&Preparation> {
        let prepare = async {
            let (n_rows, n_cols) = self.leaf.view.shape();
            let mut joined = Vec::with_capacity(self.builds.len());
            for build in &self.builds {
                joined.push(build.run(context).await?);
            }
            let build = |side| self.builds.iter().zip(&joined).find(|(b, _)| b.side == side);
            let rows = SideGroups::new(Side::Rows, n_rows, build(Side::Rows), &self.columns)?;
            let cols = SideGroups::new(Side::Cols, n_cols, build(Side::Cols), &self.columns)?;
            let (Some(rows), Some(cols)) = (rows, cols) else { return Ok::<_, Error>(Preparation::ByHash(joined)) };
            let mut chosen = self.leaf.choose_among(rows.allowed.as_deref(), cols.allowed.as_deref()).await?.clone();
            if let Some(dense) = &self.dense {
                let view = &self.leaf.view;
                chosen.rows = ids::that_pass(&view.inner, view.rows, n_rows, &dense.on_rows, chosen.rows).await?;
                chosen.cols = ids::that_pass(&view.inner, view.cols, n_cols, &dense.on_cols, chosen.cols).await?;
            }
            let col_ids: Vec<u64> = match cols.group_of {
                GroupOf::One => Vec::new(),
                _ => chosen.cols.iter(n_cols).collect(),
            };
            let n_col_groups = cols.len(col_ids.len());
            let at_once = if matches!(rows.group_of, GroupOf::Own) { 1 << 12 } else { rows.len(0) };
            if at_once.saturating_mul(n_col_groups) > MOST_GROUPS {
                return Ok(Preparation::ByHash(joined));
            }
            let col_groups = cols.of(col_ids.iter().copied());
            let sides = Arc::new(Sides { chosen, rows, cols, col_ids, col_groups, n_col_groups });
            let sums = stored_sums::StoredSums::read(self, &sides).await?;
            Ok(Preparation::Places(Box::new(Prepared { sides, sums })))
        };
        self.prepared.get_or_try_init(|| prepare).await
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        let create = self.aggregate.aggr_expr().iter().map(|a| a.create_groups_accumulator());
        create.collect::<DfResult<_>>().map_err(from_datafusion)
    }

    /// Computes a partition and hands over its results.
    async fn run(
        &self,
        partition: usize,
        Prepared { sides, sums }: &Prepared,
        send: &mpsc::Sender<DfResult<RecordBatch>>,
    ) -> Result<()> {
        if let (Some(dense), None) = (&self.dense, sums)
            && let Some(reading) = Reading::new(&self.leaf.view, dense, sides).await?
        {
            let reading = Arc::new(reading);
            return with_dtype!(self.leaf.view.matrices[0].dtype, T => {
                Box::pin(self.run_dense::<T>(dense, sides, reading, send)).await
            });
        }
        let n_parts = self.leaf.partitions();
        let parts =
            if self.properties.partitioning.partition_count() == 1 { 0..n_parts } else { partition..partition + 1 };
        let own_rows = matches!(sides.rows.group_of, GroupOf::Own);
        let mut groups = Groups::new(self, sides)?;
        if let Some(sums) = sums {
            let ids = if partition == 0 { sums.merge(self, sides, &mut groups)? } else { Vec::new() };
            self.emit(groups, sides, &ids, send).await?;
            return Ok(());
        }
        for rows in parts.flat_map(|p| self.leaf.blocks(&sides.chosen, p)) {
            let ids = groups.add(rows).await?;
            if own_rows {
                // No later block has these cells.
                let full = std::mem::replace(&mut groups, Groups::new(self, sides)?);
                if !self.emit(full, sides, &ids, send).await? {
                    return Ok(());
                }
            }
        }
        if !own_rows {
            self.emit(groups, sides, &[], send).await?;
        }
        Ok(())
    }

    /// Hands over the groups that have values; `false` if nobody wants them any more.
    pub(super) async fn emit(
        &self,
        groups: Groups<'_>,
        sides: &Sides,
        row_ids: &[u64],
        send: &mpsc::Sender<DfResult<RecordBatch>>,
    ) -> Result<bool> {
        let mut order: Vec<u32> = (0..groups.places.len() as u32).collect();
        order.sort_unstable_by_key(|&slot| groups.places[slot as usize]);
        let places: Vec<usize> = order.iter().map(|&slot| groups.places[slot as usize]).collect();
        let order = UInt32Array::from(order);
        let n = sides.n_col_groups.max(1);
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for column in &self.columns {
            arrays.push(match column.side() {
                Side::Rows => {
                    let places = places.iter().map(|p| p / n);
                    sides.rows.column(&self.leaf.view, column, places, row_ids).await?
                }
                Side::Cols => {
                    let places = places.iter().map(|p| p % n);
                    sides.cols.column(&self.leaf.view, column, places, &sides.col_ids).await?
                }
            });
        }
        let partial = *self.aggregate.mode() == AggregateMode::Partial;
        let of_nothing = places.is_empty() && self.columns.is_empty();
        for (mut accumulator, aggregate) in groups.accumulators.into_iter().zip(self.aggregate.aggr_expr()) {
            let states = match (of_nothing, partial) {
                (true, _) => of_no_rows(aggregate, partial),
                (false, true) => accumulator.state(EmitTo::All),
                (false, false) => accumulator.evaluate(EmitTo::All).map(|a| vec![a]),
            };
            for state in states.map_err(from_datafusion)? {
                arrays.push(match of_nothing {
                    true => state,
                    false => take(&state, &order, None).map_err(from_arrow)?,
                });
            }
        }
        let n_rows = if of_nothing { 1 } else { places.len() };
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let batch = RecordBatch::try_new_with_options(self.schema(), arrays, &options).map_err(from_arrow)?;
        if batch.num_rows() == 0 {
            return Ok(true);
        }
        Ok(send.send(Ok(batch)).await.is_ok())
    }
}

/// The result of an aggregate over no rows, as one row.
fn of_no_rows(aggregate: &AggregateFunctionExpr, partial: bool) -> DfResult<Vec<ArrayRef>> {
    let mut accumulator = aggregate.create_accumulator()?;
    let values = if partial { accumulator.state()? } else { vec![accumulator.evaluate()?] };
    values.iter().map(|v| v.to_array()).collect()
}

/// The accumulators of the groups that have come.
///
/// Accumulators take every group up to the last for one that has values, so groups are numbered
/// as they come.
pub(super) struct Groups<'a> {
    exec: &'a GroupedExec,
    sides: &'a Sides,
    pub(super) accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The number of each place, a group of rows and one of columns, or `NONE`.
    numbers: Vec<u32>,
    /// The place of each number.
    places: Vec<usize>,
}

const NONE: u32 = u32::MAX;

impl<'a> Groups<'a> {
    pub(super) fn new(exec: &'a GroupedExec, sides: &'a Sides) -> Result<Groups<'a>> {
        let (numbers, places) = (Vec::new(), Vec::new());
        Ok(Groups { exec, sides, accumulators: exec.accumulators()?, numbers, places })
    }

    /// Makes room for so many groups of rows.
    pub(super) fn reserve(&mut self, n_row_groups: usize) {
        self.numbers.resize(n_row_groups * self.sides.n_col_groups, NONE);
    }

    /// Puts the groups' numbers in the stead of their places, and tells how many there are now.
    pub(super) fn number(&mut self, groups: &mut [usize]) -> usize {
        for group in groups {
            let number = &mut self.numbers[*group];
            if *number == NONE {
                *number = self.places.len() as u32;
                self.places.push(*group);
            }
            *group = *number as usize;
        }
        self.places.len()
    }

    /// Adds the stored values of some rows and returns the ids of these.
    async fn add(&mut self, rows: Selection) -> Result<Vec<u64>> {
        let (exec, sides) = (self.exec, self.sides);
        let view = &exec.leaf.view;
        let grouped_cols = !matches!(sides.cols.group_of, GroupOf::One);
        let mut columns = exec.used.clone();
        let number = ViewColumn::Number(Side::Cols);
        if grouped_cols && !columns.contains(&number) {
            columns.push(number);
        }
        let block = Block::read(view, rows, &sides.chosen, &columns, true).await?;
        let rows = block.rows(view);
        let ids: Vec<u64> = rows.iter().map(|r| r.0).collect();
        self.reserve(sides.rows.len(ids.len()));
        let row_groups = sides.rows.of(ids.iter().copied());
        let cols = if grouped_cols { block.cols().to_vec() } else { Vec::new() };
        let schema = view.project(&exec.used);
        let batch = block.batch(view, &exec.used, schema).await?;
        let mut groups: Vec<usize> = Vec::new();
        let mut start = 0;
        for (rows, row_groups) in rows.chunks(ROWS_AT_ONCE).zip(row_groups.chunks(ROWS_AT_ONCE)) {
            groups.clear();
            let mut end = start;
            for (&group, (_, length)) in row_groups.iter().zip(rows) {
                let base = group as usize * sides.n_col_groups;
                if grouped_cols {
                    let these = &cols[end..end + length];
                    groups.extend(these.iter().map(|&c| base + sides.col_groups[c as usize] as usize));
                } else {
                    groups.extend(std::iter::repeat_n(base, *length));
                }
                end += length;
            }
            self.update(batch.slice(start, end - start), &mut groups).map_err(from_datafusion)?;
            start = end;
        }
        Ok(ids)
    }

    fn update(&mut self, mut batch: RecordBatch, groups: &mut Vec<usize>) -> DfResult<()> {
        let mask = |expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch| -> DfResult<BooleanArray> {
            let array = expr.evaluate(batch)?.into_array(batch.num_rows())?;
            let array = array.as_boolean();
            Ok(if array.null_count() > 0 { prep_null_mask_filter(array) } else { array.clone() })
        };
        for condition in &self.exec.conditions {
            let passes = mask(condition, &batch)?;
            batch = filter_record_batch(&batch, &passes)?;
            let mut passes = passes.values().iter();
            groups.retain(|_| passes.next().unwrap_or(false));
        }
        let total = self.number(groups);
        if groups.is_empty() {
            return Ok(());
        }
        let aggregates = self.accumulators.iter_mut().zip(&self.exec.arguments).zip(&self.exec.filters);
        for ((accumulator, arguments), filter) in aggregates {
            let value = |a: &Arc<dyn PhysicalExpr>| a.evaluate(&batch)?.into_array(batch.num_rows());
            let values = arguments.iter().map(value).collect::<DfResult<Vec<ArrayRef>>>()?;
            let filter = filter.as_ref().map(|f| mask(f, &batch)).transpose()?;
            accumulator.update_batch(&values, groups, filter.as_ref(), total)?;
        }
        Ok(())
    }
}

impl fmt::Debug for GroupedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupedExec").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl DisplayAs for GroupedExec {
    fn fmt_as(&self, how: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.aggregate.aggr_expr().iter().map(|a| a.name().to_string()).collect();
        let keys: Vec<String> = self.aggregate.group_expr().expr().iter().map(|(_, name)| name.clone()).collect();
        write!(f, "GroupWhileDecoding: gby=[{}], aggr=[{}]", keys.join(", "), text.join(", "))?;
        if !self.conditions.is_empty() {
            let conditions: Vec<String> = self.conditions.iter().map(ToString::to_string).collect();
            write!(f, ", where=[{}]", conditions.join(" AND "))?;
        }
        match self.prepared.get() {
            Some(Preparation::Places(p)) if p.sums.is_some() => return write!(f, ", answered from stored sums"),
            Some(Preparation::ByHash(_)) => return write!(f, ", by hash"),
            _ if self.dense.is_some() => write!(f, ", in arrays")?,
            _ => {}
        }
        write!(f, ", ")?;
        self.leaf.fmt_as(how, f)
    }
}

impl ExecutionPlan for GroupedExec {
    fn name(&self) -> &'static str {
        "GroupedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.builds.iter().map(|b| &b.plan).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let mut this = (*self).clone();
        for (build, plan) in this.builds.iter_mut().zip(children) {
            build.plan = plan;
        }
        this.prepared = Arc::default();
        this.leaf = this.leaf.afresh();
        Ok(Arc::new(this))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (send, receive) = mpsc::channel(QUEUE);
        let this = self.clone();
        let work = async move {
            let done = async {
                match this.prepare(&context).await? {
                    Preparation::Places(prepared) => this.run(partition, prepared, &send).await,
                    Preparation::ByHash(_) if partition > 0 => Ok(()),
                    Preparation::ByHash(joined) => this.run_by_hash(joined, &context, &send).await,
                }
            };
            if let Err(e) = done.await {
                // Who does not listen any more does not miss the error.
                let _ = send.send(Err(to_datafusion(e))).await;
            }
        };
        // The work runs when the stream is polled, and ends with it.
        let work = futures::stream::once(work).filter_map(|()| futures::future::ready(None));
        let received = futures::stream::unfold(receive, |mut r| async { Some((r.recv().await?, r)) });
        let both = futures::stream::select(work, received).boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), both)))
    }
}

impl GroupedExec {
    async fn run_by_hash(
        &self,
        joined: &[RecordBatch],
        context: &Arc<TaskContext>,
        send: &mpsc::Sender<DfResult<RecordBatch>>,
    ) -> Result<()> {
        let aggregate: Arc<dyn ExecutionPlan> = self.aggregate.clone();
        let with_rows = aggregate.transform_down(|plan| {
            let mut builds = self.builds.iter().zip(joined);
            let Some((_, rows)) = builds.find(|(build, _)| Arc::ptr_eq(&build.plan, &plan)) else {
                return Ok(Transformed::no(plan));
            };
            let rows = MemorySourceConfig::try_new_exec(&[vec![rows.clone()]], rows.schema(), None)?;
            Ok(Transformed::new(rows as Arc<dyn ExecutionPlan>, true, TreeNodeRecursion::Jump))
        });
        let aggregate = with_rows.map_err(from_datafusion)?.data;
        let merged: Arc<dyn ExecutionPlan> = match aggregate.properties().output_ordering() {
            Some(ordering) => Arc::new(SortPreservingMergeExec::new(ordering.clone(), aggregate)),
            None => Arc::new(CoalescePartitionsExec::new(aggregate)),
        };
        let mut stream = merged.execute(0, context.clone()).map_err(from_datafusion)?;
        while let Some(batch) = stream.try_next().await.map_err(from_datafusion)? {
            if send.send(Ok(batch)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// An error for what the planner excludes.
pub(super) fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Internal, what)
}
