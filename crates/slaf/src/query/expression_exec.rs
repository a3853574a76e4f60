//! The scan of a [`View`]. What it reads is decided when its first batch is asked for: by then a
//! join has told which cells or genes its other side has.

use super::block::{Block, Chosen, in_slices};
use super::ids;
use super::view::{Side, View, ViewColumn};
use crate::config;
use crate::reader::{self, Orientation};
use crate::selection::Selection;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{Result as DfResult, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use slaf_core::Result;
use slaf_sql::error::{from_datafusion, to_datafusion};
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Stored values that one gene-major read may give; above it cells are read in blocks.
const MOST_BY_GENE: f64 = 16e6;

/// Unpacks the stored values of some rows and columns of a view.
#[derive(Clone)]
pub(super) struct ExpressionExec {
    pub(super) view: Arc<View>,
    /// The wanted columns of the view.
    pub(super) columns: Vec<ViewColumn>,
    rows: Selection,
    cols: Selection,
    /// Filters that a join fills in while it runs. Each may be about both sides.
    dynamic: Vec<Arc<DynamicFilterPhysicalExpr>>,
    chosen: Arc<OnceCell<Chosen>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl ExpressionExec {
    pub(super) fn new(
        view: Arc<View>,
        columns: Vec<ViewColumn>,
        rows: Selection,
        cols: Selection,
        partitions: usize,
        limit: Option<usize>,
    ) -> ExpressionExec {
        let schema = view.project(&columns);
        // Rows rise by cell and gene within a partition, and partitions are consecutive cells.
        let sorted = |side: Side| {
            let at = columns.iter().position(|&c| c == ViewColumn::Number(side))?;
            let column = Column::new(schema.field(at).name(), at);
            Some(PhysicalSortExpr::new_default(Arc::new(column)))
        };
        let ordering: Vec<PhysicalSortExpr> =
            [sorted(Side::Rows), sorted(Side::Cols)].into_iter().map_while(|s| s).collect();
        let partitions = (partitions as u64).min(rows.len(view.shape().0)).max(1) as usize;
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, [ordering]),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::NonCooperative);
        ExpressionExec {
            view,
            columns,
            rows,
            cols,
            dynamic: Vec::new(),
            chosen: Arc::default(),
            limit,
            properties: Arc::new(properties),
        }
    }

    pub(super) fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    /// The same scan for another purpose: it decides anew what it reads.
    pub(super) fn afresh(&self) -> ExpressionExec {
        ExpressionExec { chosen: Arc::default(), ..self.clone() }
    }

    /// Whether nothing but its rows and columns decides what it reads.
    pub(super) fn is_alone(&self) -> bool {
        self.dynamic.is_empty() && self.limit.is_none()
    }

    /// The same scan of other rows and columns.
    pub(super) fn of(&self, rows: Selection, cols: Selection) -> ExpressionExec {
        ExpressionExec { rows, cols, ..self.afresh() }
    }

    /// Stored values in a selection, if cells and genes are average ones.
    fn estimate(&self, rows: &Selection, cols: &Selection) -> f64 {
        let nnz = self.view.matrices.iter().map(|m| m.nnz).max().unwrap_or(0) as f64;
        let (n_rows, n_cols) = self.view.shape();
        let share = |s: &Selection, n: u64| s.len(n) as f64 / n.max(1) as f64;
        nnz * share(rows, n_rows) * share(cols, n_cols)
    }

    fn plan(&self, rows: Selection, cols: Selection) -> Chosen {
        let orientation = match (&self.view.keys[..], &self.view.matrices[..]) {
            ([key], [matrix]) if self.estimate(&rows, &cols) < MOST_BY_GENE => {
                reader::choose(&self.view.inner.manifest, key, matrix, &rows, &cols)
            }
            _ => Orientation::ByCell,
        };
        Chosen { rows, cols, orientation }
    }

    /// Decides what to read, once for all partitions.
    pub(super) async fn choose(&self) -> Result<&Chosen> {
        self.choose_among(None, None).await
    }

    /// As [`choose`](Self::choose), among rows and columns, rising, that the caller allows.
    pub(super) async fn choose_among(
        &self,
        allowed_rows: Option<&[u64]>,
        allowed_cols: Option<&[u64]>,
    ) -> Result<&Chosen> {
        let choose = async {
            let (mut on_rows, mut on_cols) = (Vec::new(), Vec::new());
            for filter in &self.dynamic {
                let now = filter.current().map_err(from_datafusion)?;
                for part in split_conjunction(&now) {
                    match ids::side(&self.view, part) {
                        Some(Side::Rows) => on_rows.push(part.clone()),
                        Some(Side::Cols) => on_cols.push(part.clone()),
                        // The join looks at it anyway.
                        None => {}
                    }
                }
            }
            let (view, (n_rows, n_cols)) = (&self.view, self.view.shape());
            let rows = ids::that_pass(&view.inner, view.rows, n_rows, &on_rows, self.rows.clone()).await?;
            let cols = ids::that_pass(&view.inner, view.cols, n_cols, &on_cols, self.cols.clone()).await?;
            let (rows, cols) = (among(rows, allowed_rows, n_rows), among(cols, allowed_cols, n_cols));
            Ok(self.plan(rows, cols))
        };
        self.chosen.get_or_try_init(|| choose).await
    }

    /// The rows of the view that a partition reads, in blocks.
    pub(super) fn blocks(&self, chosen: &Chosen, partition: usize) -> Vec<Selection> {
        let (n, parts) = (chosen.rows.len(self.view.shape().0), self.partitions() as u64);
        if chosen.orientation == Orientation::ByGene {
            // Every block would decode the genes anew.
            return if partition == 0 { vec![chosen.rows.clone()] } else { Vec::new() };
        }
        let p = partition as u64;
        let (mut start, end) = (n * p / parts, n * (p + 1) / parts);
        // A limit is often met by the first cells.
        let most = config::batch_rows() as u64 / 4 + 1;
        let mut step = if self.limit.is_some() { most.min(4) } else { most };
        let mut blocks = Vec::new();
        while start < end {
            let next = (start + step).min(end);
            blocks.push(chosen.rows.part(start..next));
            (start, step) = (next, (step * 4).min(most));
        }
        blocks
    }
}

/// Those of a selection that are allowed.
fn among(selection: Selection, allowed: Option<&[u64]>, n: u64) -> Selection {
    match (allowed, selection) {
        (None, selection) => selection,
        (Some(allowed), Selection::All) if allowed.len() as u64 == n => Selection::All,
        (Some(allowed), Selection::All) => Selection::Ids(allowed.to_vec()),
        (Some(allowed), selection) => {
            Selection::Ids(selection.iter(n).filter(|i| allowed.binary_search(i).is_ok()).collect())
        }
    }
}

impl fmt::Debug for ExpressionExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpressionExec").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl DisplayAs for ExpressionExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_rows, n_cols) = self.view.shape();
        // After the query has run, for EXPLAIN ANALYZE, this is what was read.
        let chosen = self.chosen.get().cloned().unwrap_or_else(|| self.plan(self.rows.clone(), self.cols.clone()));
        let (rows, cols) = (chosen.rows.len(n_rows), chosen.cols.len(n_cols));
        let bytes: u64 = self.view.matrices.iter().map(|m| m.bytes).sum();
        let (reads, share) = match chosen.orientation {
            Orientation::ByCell => (format!("by_cell, {rows} rows"), rows as f64 / n_rows.max(1) as f64),
            Orientation::ByGene => (format!("by_gene, {cols} rows"), cols as f64 / n_cols.max(1) as f64),
        };
        let keys: Vec<String> = self.view.keys.iter().map(ToString::to_string).collect();
        write!(
            f,
            "ExpressionScan: {} {reads} of about {:.0} bytes, {rows} of {n_rows} x {cols} of {n_cols}, about {:.0} values",
            keys.join(", "),
            bytes as f64 * share,
            self.estimate(&chosen.rows, &chosen.cols)
        )?;
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|c| c.name().as_str()).collect();
        write!(f, ", columns=[{}]", names.join(", "))?;
        if !self.dynamic.is_empty() {
            let filters: Vec<String> = self.dynamic.iter().map(|d| shortened(d)).collect();
            write!(f, ", join filters=[{}]", filters.join(", "))?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

/// A filter's text; a join's may list a million numbers.
fn shortened(filter: &DynamicFilterPhysicalExpr) -> String {
    const MOST: usize = 200;
    let text = filter.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

impl ExecutionPlan for ExpressionExec {
    fn name(&self) -> &'static str {
        "ExpressionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(ExpressionExec { limit, ..self.clone() }))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        let schema = self.schema();
        let mut statistics = Statistics::new_unknown(&schema);
        let (n_rows, n_cols) = self.view.shape();
        let whole = self.rows.len(n_rows) == n_rows && self.cols.len(n_cols) == n_cols && self.dynamic.is_empty();
        let parts = if partition.is_some() { self.partitions() } else { 1 };
        let estimate = (self.estimate(&self.rows, &self.cols) / parts as f64).ceil() as usize;
        statistics.num_rows = match &self.view.matrices[..] {
            [matrix] if whole && parts == 1 && self.limit.is_none() => Precision::Exact(matrix.nnz as usize),
            _ => Precision::Inexact(self.limit.map_or(estimate, |l| l.min(estimate))),
        };
        for (at, column) in self.columns.iter().enumerate() {
            let ViewColumn::Number(side) = column else { continue };
            let n = self.view.len(*side);
            let of = &mut statistics.column_statistics[at];
            of.null_count = Precision::Exact(0);
            of.min_value = Precision::Inexact(0i64.into());
            of.max_value = Precision::Inexact((n.saturating_sub(1) as i64).into());
        }
        Ok(Arc::new(statistics))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let mut this = self.clone();
        let offered = pushed.parent_filters.iter().map(|f| f.filter.clone());
        this.dynamic.extend(offered.filter_map(|f| Arc::downcast::<DynamicFilterPhysicalExpr>(f).ok()));
        // A join goes on to look at each row itself.
        let answers = vec![PushedDown::No; pushed.parent_filters.len()];
        let mut result = FilterPushdownPropagation::with_parent_pushdown_result(answers);
        if this.dynamic.len() > self.dynamic.len() {
            this.chosen = Arc::default();
            let this: Arc<dyn ExecutionPlan> = Arc::new(this);
            result = result.with_updated_node(this);
        }
        Ok(result)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let this = Arc::new(self.clone());
        let schema = self.schema();
        let batch_size = context.session_config().batch_size();
        let start = {
            let this = this.clone();
            async move {
                let chosen = this.choose().await.map_err(to_datafusion)?.clone();
                let blocks = this.blocks(&chosen, partition);
                Ok::<_, datafusion::error::DataFusionError>((chosen, blocks))
            }
        };
        let batches = futures::stream::once(start)
            .map_ok(move |(chosen, blocks)| {
                let (this, chosen) = (this.clone(), Arc::new(chosen));
                futures::stream::iter(blocks.into_iter().map(Ok)).and_then(move |rows| {
                    let (this, chosen) = (this.clone(), chosen.clone());
                    async move {
                        let block = Block::read(&this.view, rows, &chosen, &this.columns, false).await;
                        let batch = match block {
                            Ok(block) => block.batch(&this.view, &this.columns, this.schema()).await,
                            Err(e) => Err(e),
                        };
                        batch.map_err(to_datafusion)
                    }
                })
            })
            .try_flatten()
            .map_ok(move |batch| in_slices(&batch, batch_size))
            .try_flatten();
        let mut left = self.limit.unwrap_or(usize::MAX);
        let limited = batches
            .boxed()
            .map_ok(move |batch| {
                let batch = batch.slice(0, left.min(batch.num_rows()));
                left -= batch.num_rows();
                batch
            })
            // The first empty batch is beyond the limit.
            .try_take_while(|batch| futures::future::ready(Ok(batch.num_rows() > 0)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, limited)))
    }
}
