//! `cells` and `genes` as tables: names and numbers, obs or var, obsm or varm. Only the columns
//! that a query uses are read. A missing number of obs or var is null.

use super::block::{in_slices, sql_values};
use super::choice::{Choice, choice, is_plain};
use super::ids;
use crate::config;
use crate::missing::nan_to_null;
use crate::reader::ReadOptions;
use crate::selection::Selection;
use crate::store::manifest::{FrameSchema, Slot};
use crate::store::schema;
use crate::store::values::dense_columns;
use crate::store::{Snapshot, TableName};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, Statistics, stats::Precision};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{FutureExt, StreamExt, TryStreamExt};
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{ArrayKey, Axis, MatrixKey, arrow_type};
use slaf_lance::error::from_arrow;
use slaf_sql::error::to_datafusion;
use slaf_sql::floats::one_form;
use std::sync::Arc;

/// Rows that are read at once.
const STEP: u64 = 1 << 17;

/// Where a column of the table comes from.
#[derive(Clone, Debug)]
enum Source {
    Name,
    Number,
    /// A column of obs or var, by the user's name.
    Frame(String),
    /// A system column, cast to the type in SQL.
    System(&'static str),
    Array(ArrayKey),
    /// The values of X of a gene, by its number.
    Gene(u64),
}

/// `cells` or `genes`.
#[derive(Debug)]
pub(super) struct FrameTable {
    inner: Arc<Snapshot>,
    axis: Axis,
    schema: SchemaRef,
    sources: Vec<Source>,
    /// Genes are null where they were not measured.
    measured: bool,
}

impl FrameTable {
    pub(super) fn new(inner: Arc<Snapshot>, axis: Axis) -> Result<FrameTable> {
        let manifest = &inner.manifest;
        let (name, number, frame, slot) = match axis {
            Axis::Cells => ("cell_id", "cell_integer_id", &manifest.obs, "obsm"),
            Axis::Genes => ("gene_id", "gene_integer_id", &manifest.var, "varm"),
        };
        let mut fields = vec![Field::new(name, DataType::Utf8, false), Field::new(number, DataType::Int64, false)];
        let mut sources = vec![Source::Name, Source::Number];
        let prefix = if axis == Axis::Cells { "obs" } else { "var" };
        for column in frame.info().columns {
            let shown = free_name(&fields, prefix, &column.name);
            fields.push(Field::new(shown, column.data_type, true));
            sources.push(Source::Frame(column.name));
        }
        for entry in manifest.arrays.iter().filter(|a| a.axis == axis && a.column.is_some()) {
            let shown = free_name(&fields, slot, &entry.name);
            fields.push(schema::array_field(&shown, entry.dtype, entry.width));
            sources.push(Source::Array(entry.key()));
        }
        // What the store knows of X answers to the usual names where the user has no such column.
        if manifest.matrices.iter().any(|m| m.slot == Slot::X) {
            let known: [(&str, &str, DataType); 2] = match axis {
                Axis::Cells => {
                    [("n_genes", schema::N_GENES, DataType::Int64), ("total_counts", schema::TOTAL, DataType::Float64)]
                }
                Axis::Genes => {
                    [("n_cells", schema::N_CELLS, DataType::Int64), ("total_counts", schema::TOTAL, DataType::Float64)]
                }
            };
            for (shown, column, data_type) in known {
                if !fields.iter().any(|f| f.name() == shown) {
                    fields.push(Field::new(shown, data_type, false));
                    sources.push(Source::System(column));
                }
            }
        }
        Ok(FrameTable { inner, axis, schema: Arc::new(Schema::new(fields)), sources, measured: false })
    }

    /// The table with columns for these genes of X, by the names under which they are asked for; with
    /// `measured`, null where they were not measured.
    pub(super) fn with_genes(mut self, genes: &[(String, u64)], measured: bool) -> Result<FrameTable> {
        self.measured = measured && self.inner.manifest.measured.is_some();
        let x = self.inner.manifest.matrix(&MatrixKey::X);
        let x = x.ok_or_else(|| Error::new(ErrorKind::UnknownTable, "the store has no X"))?;
        let data_type = arrow_type(x.dtype);
        let mut fields = self.schema.fields().to_vec();
        for (name, gene) in genes {
            fields.push(Arc::new(Field::new(name, data_type.clone(), self.measured)));
            self.sources.push(Source::Gene(*gene));
        }
        self.schema = Arc::new(Schema::new(fields));
        Ok(self)
    }
}

/// A name for a column: with `prefix` before it as often as the name is taken.
fn free_name(fields: &[Field], prefix: &str, name: &str) -> String {
    let mut shown = name.to_string();
    while fields.iter().any(|f| *f.name() == shown) {
        shown = format!("{prefix}:{shown}");
    }
    shown
}

impl FrameTable {
    fn n_rows(&self) -> u64 {
        if self.axis == Axis::Cells { self.inner.manifest.n_cells } else { self.inner.manifest.n_genes }
    }
}

#[async_trait]
impl TableProvider for FrameTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(self.n_rows() as usize);
        Some(statistics)
    }

    /// Conditions on names and numbers choose the rows that are read. Rows are filtered again: what
    /// a condition compares with may not be known yet.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let ids = [self.schema.field(0).name(), self.schema.field(1).name()];
        let is_about_ids = |filter: &&Expr| {
            let columns = filter.column_refs();
            is_plain(filter) && !columns.is_empty() && columns.into_iter().all(|column| ids.contains(&&column.name))
        };
        let kind = |filter| match config::pushdown() && is_about_ids(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(kind).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let name = self.schema.field(0).name();
        let choices = filters.iter().filter_map(choice);
        let choices = choices.filter(|(column, c)| (column == name) == matches!(c, Choice::Names(_)));
        let choices: Vec<Choice> = choices.map(|(_, c)| c).collect();
        let rows = ids::chosen(&self.inner, self.axis, &choices, self.n_rows()).await.map_err(to_datafusion)?;
        let all: Vec<usize> = (0..self.sources.len()).collect();
        let columns = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(columns)?);
        let sources: Vec<Source> = columns.iter().map(|&c| self.sources[c].clone()).collect();
        let number = sources.iter().position(|s| matches!(s, Source::Number));
        let sorted = number.map(|at| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(at).name(), at));
            PhysicalSortExpr::new_default(column)
        });
        let (snapshot, measured) = (self.inner.clone(), self.measured);
        let part = FramePart { snapshot, axis: self.axis, rows, sources, schema, limit, measured };
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(part.schema.clone(), sorted.map(|s| vec![s])),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(FrameExec { part, properties: Arc::new(properties) }))
    }
}

/// Reads columns of all cells or genes.
#[derive(Clone, Debug)]
struct FrameExec {
    part: FramePart,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for FrameExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.part.schema.fields().iter().map(|c| c.name().as_str()).collect();
        let table = if self.part.axis == Axis::Cells { "cells" } else { "genes" };
        write!(f, "FrameScan: {table}, {} rows, columns=[{}]", self.part.n_rows(), names.join(", "))
    }
}

impl ExecutionPlan for FrameExec {
    fn name(&self) -> &'static str {
        "FrameExec"
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
        self.part.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let part = FramePart { limit, ..self.part.clone() };
        Some(Arc::new(FrameExec { part, properties: self.properties.clone() }))
    }

    fn partition_statistics(&self, _: Option<usize>) -> DfResult<Arc<Statistics>> {
        // What joins need to know: which side is the small one.
        let mut statistics = Statistics::new_unknown(&self.part.schema);
        statistics.num_rows = Precision::Exact(self.part.n_rows() as usize);
        Ok(Arc::new(statistics))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        Ok(self.part.clone().stream(context.session_config().batch_size()))
    }
}

/// The projected table.
#[derive(Clone, Debug)]
struct FramePart {
    snapshot: Arc<Snapshot>,
    axis: Axis,
    /// Those that are read, rising.
    rows: Selection,
    sources: Vec<Source>,
    schema: SchemaRef,
    limit: Option<usize>,
    /// Genes are null where they were not measured.
    measured: bool,
}

impl FramePart {
    fn n_rows(&self) -> u64 {
        let n = match self.axis {
            Axis::Cells => self.snapshot.manifest.n_cells,
            Axis::Genes => self.snapshot.manifest.n_genes,
        };
        let n = self.rows.len(n);
        self.limit.map_or(n, |l| n.min(l as u64))
    }

    fn stream(self, batch_size: usize) -> SendableRecordBatchStream {
        let (n, schema) = (self.n_rows(), self.schema.clone());
        let batches = futures::stream::iter((0..n).step_by(STEP as usize))
            .then(move |start| {
                let this = self.clone();
                async move { this.batch(this.rows.part(start..(start + STEP).min(n))).await.map_err(to_datafusion) }
            })
            .map_ok(move |batch| in_slices(&batch, batch_size))
            .try_flatten()
            .boxed();
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
    async fn batch(&self, selection: Selection) -> Result<RecordBatch> {
        let inner = &self.snapshot;
        let (table, frame) = match self.axis {
            Axis::Cells => (TableName::Cells, &inner.manifest.obs),
            Axis::Genes => (TableName::Genes, &inner.manifest.var),
        };
        // Parts are ranges and numbers, whose length does not depend on that of the axis.
        let n = selection.len(0);
        let names: Vec<String> = self.sources.iter().filter_map(Source::frame_column).collect();
        let wants_index = self.sources.iter().any(|s| matches!(s, Source::Name));
        let lance: Vec<&str> = self.sources.iter().filter_map(|s| self.lance_column(s, table, frame)).collect();
        let all = self.rows.part(0..self.n_rows());
        inner.read_ahead(table, &lance, &selection, &all).boxed().await?;
        let mut frame_columns = match names.is_empty() && !wants_index {
            true => Vec::new(),
            false => inner.frame_columns(table, frame, &names, wants_index, &selection).await?,
        }
        .into_iter();
        // The index comes first, wherever it stands in the result.
        let mut index = if wants_index { frame_columns.next() } else { None };
        let genes: Vec<u64> = self.sources.iter().filter_map(Source::gene).collect();
        let mut genes = self.genes(&genes, &selection).await?.into_iter();
        let missing = || Error::new(ErrorKind::Internal, "a column was not read");
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.sources.len());
        for (source, field) in self.sources.iter().zip(self.schema.fields()) {
            columns.push(match source {
                Source::Name => index.take().ok_or_else(missing)?,
                Source::Number => Arc::new(Int64Array::from_iter_values(selection.iter(0).map(|i| i as i64))),
                Source::Frame(_) => one_form(&nan_to_null(&frame_columns.next().ok_or_else(missing)?)),
                Source::System(name) => {
                    let column = inner.column_of(table, name, &selection).await?;
                    cast(&column, field.data_type()).map_err(from_arrow)?
                }
                Source::Array(key) => self.snapshot.array_column(key, &selection).await?,
                Source::Gene(_) => genes.next().ok_or_else(missing)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n as usize));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(from_arrow)
    }

    /// The name in Lance of the column of a source.
    fn lance_column<'a>(&'a self, source: &'a Source, table: TableName, frame: &'a FrameSchema) -> Option<&'a str> {
        match source {
            Source::Name => Some(table.index()),
            Source::System(name) => Some(name),
            Source::Frame(name) => frame.columns.iter().find(|c| c.name == *name).map(|c| c.id.as_str()),
            Source::Array(key) => self.snapshot.array_entry(key).ok()?.column.as_deref(),
            Source::Number | Source::Gene(_) => None,
        }
    }

    /// A column for each gene, with 0 where a cell has no value, or null if it was not measured there.
    async fn genes(&self, genes: &[u64], rows: &Selection) -> Result<Vec<ArrayRef>> {
        if genes.is_empty() {
            return Ok(Vec::new());
        }
        let inner = &self.snapshot;
        let x = inner.matrix(&MatrixKey::X)?;
        let chunk = inner.read(&MatrixKey::X, x, rows, &Selection::Ids(genes.to_vec()), ReadOptions::default()).await?;
        let columns = dense_columns(&chunk, genes.len()).into_iter().map(sql_values);
        let measured = if self.measured { inner.measured().await? } else { None };
        let Some(measured) = measured else { return Ok(columns.collect()) };
        let sets = measured.sets_of(rows.iter(inner.manifest.n_cells));
        let masked = columns.zip(genes).map(|(column, &gene)| {
            let is_there = |row: usize| measured.sets()[sets[row]].value(gene as usize);
            let nulls = NullBuffer::new(BooleanBuffer::collect_bool(sets.len(), is_there));
            let data = column.to_data().into_builder().nulls(Some(nulls)).build().map_err(from_arrow)?;
            Ok(make_array(data))
        });
        masked.collect()
    }
}

impl Source {
    fn frame_column(&self) -> Option<String> {
        if let Source::Frame(name) = self { Some(name.clone()) } else { None }
    }

    fn gene(&self) -> Option<u64> {
        if let Source::Gene(gene) = self { Some(*gene) } else { None }
    }
}
