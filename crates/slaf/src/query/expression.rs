//! `expression` and `layers`: the relational view of packed rows, unpacked on the fly.

use super::pushdown::{Choice, choice, intersect};
use super::to_datafusion;
use crate::config;
use crate::dataset::Inner;
use crate::error::from_arrow;
use crate::manifest::MatrixEntry;
use crate::selection::Selection;
use crate::values::to_arrow;
use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, Statistics, stats::Precision};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values, with_values};
use slaf_ingest::MatrixKey;
use std::collections::HashMap;
use std::sync::Arc;

const CELL_NUMBER: &str = "cell_integer_id";
const GENE_NUMBER: &str = "gene_integer_id";
const CELL_ID: &str = "cell_id";
const GENE_ID: &str = "gene_id";

/// Columns whose filters choose cells or genes.
fn chooses(filter: &Expr) -> Option<(String, Choice)> {
    choice(filter).filter(|(column, choice)| match column.as_str() {
        CELL_NUMBER | GENE_NUMBER => !matches!(choice, Choice::Names(_)),
        CELL_ID | GENE_ID => matches!(choice, Choice::Names(_)),
        _ => false,
    })
}

fn id_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn number_fields() -> Vec<Field> {
    [CELL_NUMBER, GENE_NUMBER].map(|n| Field::new(n, DataType::Int64, false)).to_vec()
}

fn id_fields() -> Vec<Field> {
    [CELL_ID, GENE_ID].map(|n| Field::new(n, id_type(), false)).to_vec()
}

/// The Arrow type of values in SQL.
fn sql_type(dtype: Dtype) -> DataType {
    if dtype == Dtype::Bool { DataType::Boolean } else { crate::schema::arrow_type(dtype) }
}

fn sql_values(values: Values) -> ArrayRef {
    match values {
        Values::Bool(v) => Arc::new(arrow::array::BooleanArray::from(v)),
        other => to_arrow(other),
    }
}

/// The stored values of X: one row each.
#[derive(Debug)]
pub(super) struct ExpressionTable {
    inner: Arc<Inner>,
    schema: SchemaRef,
    nnz: u64,
}

impl ExpressionTable {
    pub(super) fn new(inner: Arc<Inner>, x: &MatrixEntry) -> Result<ExpressionTable> {
        let mut fields = number_fields();
        fields.push(Field::new("value", sql_type(x.dtype()?), false));
        fields.extend(id_fields());
        Ok(ExpressionTable { schema: Arc::new(Schema::new(fields)), nnz: x.nnz, inner })
    }
}

/// The layers side by side: a row for each position at which one of them has a stored value.
#[derive(Debug)]
pub(super) struct LayersTable {
    inner: Arc<Inner>,
    schema: SchemaRef,
    keys: Vec<MatrixKey>,
}

impl LayersTable {
    pub(super) fn new(inner: Arc<Inner>, layers: Vec<MatrixEntry>) -> Result<LayersTable> {
        let mut fields = number_fields();
        for layer in &layers {
            let taken =
                fields.iter().any(|f| *f.name() == layer.name) || [CELL_ID, GENE_ID].contains(&layer.name.as_str());
            let shown = if taken { format!("layers:{}", layer.name) } else { layer.name.clone() };
            fields.push(Field::new(shown, sql_type(layer.dtype()?), false));
        }
        fields.extend(id_fields());
        let keys = layers.iter().map(MatrixEntry::key).collect::<Result<_>>()?;
        Ok(LayersTable { schema: Arc::new(Schema::new(fields)), keys, inner })
    }
}

/// Plans a scan: the filters choose cells and genes, each partition unpacks some of the cells.
async fn scan(
    inner: &Arc<Inner>,
    schema: &SchemaRef,
    keys: &[MatrixKey],
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let choices: Vec<(String, Choice)> = filters.iter().filter_map(chooses).collect();
    let of = |names: [&str; 2]| -> Vec<Choice> {
        choices.iter().filter(|(c, _)| names.contains(&c.as_str())).map(|(_, choice)| choice.clone()).collect()
    };
    let (cell_choices, gene_choices) = (of([CELL_NUMBER, CELL_ID]), of([GENE_NUMBER, GENE_ID]));
    let named = |choices: &[Choice]| choices.iter().any(|c| matches!(c, Choice::Names(_)));
    let cells = {
        let names = if named(&cell_choices) { Some(inner.cell_names().await?) } else { None };
        intersect(&cell_choices, inner.manifest.n_cells, |name| names.map_or(vec![], |n| n.find(name)))
    };
    let genes = {
        let names = if named(&gene_choices) { Some(inner.gene_names().await?) } else { None };
        intersect(&gene_choices, inner.manifest.n_genes, |name| names.map_or(vec![], |n| n.find(name)))
    };
    let cells = cells.map_or(Selection::All, Selection::Ids);
    let genes = genes.map_or(Selection::All, Selection::Ids);
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let columns = projection.unwrap_or(&all).clone();
    let projected = Arc::new(schema.project(&columns).map_err(from_arrow)?);
    let n = cells.len(inner.manifest.n_cells);
    // Few genes come from one gene-major read; cutting it into partitions would repeat it.
    let parts = if matches!(genes, Selection::Ids(_)) { 1 } else { (partitions as u64).min(n).max(1) };
    let streams = (0..parts).map(|p| {
        let part: Arc<dyn PartitionStream> = Arc::new(ExpressionPart {
            inner: inner.clone(),
            keys: keys.to_vec(),
            cells: cells.part(n * p / parts..n * (p + 1) / parts),
            genes: genes.clone(),
            schema: projected.clone(),
            columns: columns.clone(),
        });
        part
    });
    let plan = StreamingTableExec::try_new(projected.clone(), streams.collect(), None, [], false, limit);
    Ok(Arc::new(plan.map_err(super::from_datafusion)?))
}

fn pushdown(filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
    let kind = |f: &&Expr| match chooses(f) {
        Some(_) => TableProviderFilterPushDown::Inexact,
        None => TableProviderFilterPushDown::Unsupported,
    };
    filters.iter().map(kind).collect()
}

#[async_trait]
impl TableProvider for ExpressionTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(self.nnz as usize);
        Some(statistics)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(pushdown(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if projection.is_some_and(Vec::is_empty) && filters.is_empty() {
            return count_only(self.nnz);
        }
        let partitions = state.config().target_partitions();
        scan(&self.inner, &self.schema, &[MatrixKey::X], projection, filters, limit, partitions)
            .await
            .map_err(to_datafusion)
    }
}

#[async_trait]
impl TableProvider for LayersTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(pushdown(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let partitions = state.config().target_partitions();
        scan(&self.inner, &self.schema, &self.keys, projection, filters, limit, partitions).await.map_err(to_datafusion)
    }
}

/// Rows without columns: `COUNT(*)` decodes nothing.
fn count_only(rows: u64) -> DfResult<Arc<dyn ExecutionPlan>> {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let part: Arc<dyn PartitionStream> = Arc::new(CountPart { rows, schema: schema.clone() });
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![part], None, [], false, None)?))
}

#[derive(Debug)]
struct CountPart {
    rows: u64,
    schema: SchemaRef,
}

impl PartitionStream for CountPart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows as usize));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), vec![], &options).map_err(Into::into);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter([batch])))
    }
}

/// Some of the cells.
#[derive(Clone, Debug)]
struct ExpressionPart {
    inner: Arc<Inner>,
    keys: Vec<MatrixKey>,
    cells: Selection,
    genes: Selection,
    schema: SchemaRef,
    /// The columns of the whole table that are wanted.
    columns: Vec<usize>,
}

impl PartitionStream for ExpressionPart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let n = self.cells.len(self.inner.manifest.n_cells);
        let step = match self.genes {
            Selection::Ids(_) => n.max(1),
            _ => config::batch_rows() as u64 / 4 + 1,
        };
        let this = self.clone();
        let blocks = futures::stream::iter((0..n).step_by(step as usize)).then(move |start| {
            let this = this.clone();
            async move { this.block(this.cells.part(start..(start + step).min(n))).await.map_err(to_datafusion) }
        });
        let batches = blocks
            .map_ok(|batch| {
                let (rows, step) = (batch.num_rows(), 8192);
                futures::stream::iter((0..rows).step_by(step).map(move |s| Ok(batch.slice(s, step.min(rows - s)))))
            })
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.boxed()))
    }
}

impl ExpressionPart {
    /// The rows of some cells.
    async fn block(&self, cells: Selection) -> Result<RecordBatch> {
        let mut chunks = Vec::new();
        for key in &self.keys {
            let entry = self
                .inner
                .manifest
                .matrix(key)
                .ok_or_else(|| Error::new(ErrorKind::Internal, format!("no matrix {key}")))?;
            chunks.push(self.inner.read(key, entry, &cells, &self.genes, None).await?);
        }
        let joined = if chunks.len() == 1 { chunks.swap_remove(0) } else { positions_of_all(&chunks) };
        let numbers: Vec<i64> = cells.iter(self.inner.manifest.n_cells).map(|c| c as i64).collect();
        let genes: Option<Vec<u64>> = match &self.genes {
            Selection::Ids(ids) => Some(ids.clone()),
            _ => None,
        };
        let gene = |i: u32| genes.as_ref().map_or(u64::from(i), |g| g[i as usize]);
        let n_values = self.keys.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for &column in &self.columns {
            columns.push(match column {
                0 => Arc::new(Int64Array::from_iter_values(per_value(&joined, |row| numbers[row]))),
                1 => Arc::new(Int64Array::from_iter_values(joined.indices.iter().map(|&i| gene(i) as i64))),
                c if c < 2 + n_values => match n_values {
                    1 => sql_values(joined.values.clone()),
                    _ => sql_values(values_at(&chunks[c - 2], &joined)),
                },
                c if c == 2 + n_values => {
                    let names = self.inner.cell_ids().await?;
                    let keys: Int32Array = per_value(&joined, |row| row as i32).collect::<Vec<_>>().into();
                    let rows = arrow::array::UInt64Array::from_iter_values(numbers.iter().map(|&n| n as u64));
                    let used = arrow::compute::take(names.as_ref(), &rows, None).map_err(from_arrow)?;
                    Arc::new(DictionaryArray::<Int32Type>::try_new(keys, used).map_err(from_arrow)?)
                }
                _ => {
                    let names = self.inner.gene_ids().await?.clone();
                    let keys = Int32Array::from_iter_values(joined.indices.iter().map(|&i| gene(i) as i32));
                    Arc::new(DictionaryArray::<Int32Type>::try_new(keys, names).map_err(from_arrow)?)
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(joined.nnz()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(from_arrow)
    }
}

/// Something of its row for each stored value.
fn per_value<T: Copy>(chunk: &CsrChunk, of: impl Fn(usize) -> T) -> impl Iterator<Item = T> {
    (0..chunk.n_rows()).flat_map(move |row| std::iter::repeat_n(of(row), chunk.row(row).len()))
}

/// The positions that at least one chunk has.
fn positions_of_all(chunks: &[CsrChunk]) -> CsrChunk {
    let n_rows = chunks.first().map_or(0, CsrChunk::n_rows);
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    for row in 0..n_rows {
        let start = indices.len();
        indices.extend(chunks.iter().flat_map(|c| &c.indices[c.row(row)]));
        indices[start..].sort_unstable();
        let mut last = None;
        let mut at = start;
        for i in start..indices.len() {
            if last != Some(indices[i]) {
                last = Some(indices[i]);
                indices[at] = indices[i];
                at += 1;
            }
        }
        indices.truncate(at);
        indptr.push(at as u64);
    }
    CsrChunk { indptr, indices, values: Values::empty(Dtype::U8) }
}

/// The values of a chunk at these positions, 0 where it has none.
fn values_at(chunk: &CsrChunk, positions: &CsrChunk) -> Values {
    fn of<T: Value>(values: &[T], chunk: &CsrChunk, positions: &CsrChunk) -> Values {
        let mut out = Vec::with_capacity(positions.nnz());
        for row in 0..positions.n_rows() {
            let there: HashMap<u32, T> = chunk.row(row).map(|i| (chunk.indices[i], values[i])).collect();
            let wanted = positions.indices[positions.row(row)].iter();
            out.extend(wanted.map(|c| there.get(c).copied().unwrap_or_default()));
        }
        T::wrap(out)
    }
    with_values!(&chunk.values, v => of(v, chunk, positions))
}
