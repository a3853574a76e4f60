//! `cells` and `genes` as tables: names and numbers, obs or var, obsm or varm. Only the columns
//! that a query uses are read.

use super::to_datafusion;
use crate::dataset::{Dataset, Inner, TableName};
use crate::error::from_arrow;
use crate::manifest::FrameSchema;
use crate::schema;
use crate::selection::Selection;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DfResult, Statistics, stats::Precision};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use slaf_core::{Dtype, Result};
use slaf_ingest::{ArrayKey, Axis};
use std::sync::Arc;

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
}

/// `cells` or `genes`.
#[derive(Debug)]
pub(super) struct FrameTable {
    inner: Arc<Inner>,
    axis: Axis,
    schema: SchemaRef,
    sources: Vec<Source>,
}

impl FrameTable {
    pub(super) fn new(inner: Arc<Inner>, axis: Axis) -> Result<FrameTable> {
        let manifest = &inner.manifest;
        let (name, number, frame, slot) = match axis {
            Axis::Cells => ("cell_id", "cell_integer_id", &manifest.obs, "obsm"),
            Axis::Genes => ("gene_id", "gene_integer_id", &manifest.var, "varm"),
        };
        let mut fields = vec![Field::new(name, DataType::Utf8, false), Field::new(number, DataType::Int64, false)];
        let mut sources = vec![Source::Name, Source::Number];
        let prefix = if axis == Axis::Cells { "obs" } else { "var" };
        for column in frame.info()?.columns {
            let taken = fields.iter().any(|f| *f.name() == column.name);
            let shown = if taken { format!("{prefix}:{}", column.name) } else { column.name.clone() };
            fields.push(Field::new(shown, column.data_type, true));
            sources.push(Source::Frame(column.name));
        }
        for entry in manifest.arrays.iter().filter(|a| a.key().axis == axis && a.column.is_some()) {
            let taken = fields.iter().any(|f| *f.name() == entry.name);
            let shown = if taken { format!("{slot}:{}", entry.name) } else { entry.name.clone() };
            fields.push(schema::array_field(&shown, Dtype::from_name(&entry.dtype)?, entry.width));
            sources.push(Source::Array(entry.key()));
        }
        // What the store knows of X answers to the usual names where the user has no such column.
        if manifest.matrices.iter().any(|m| m.slot == "X") {
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
        Ok(FrameTable { inner, axis, schema: Arc::new(Schema::new(fields)), sources })
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
        let rows = if self.axis == Axis::Cells { self.inner.manifest.n_cells } else { self.inner.manifest.n_genes };
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(rows as usize);
        Some(statistics)
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.sources.len()).collect();
        let columns = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(columns)?);
        let part = FramePart {
            dataset: Dataset { inner: self.inner.clone() },
            axis: self.axis,
            sources: columns.iter().map(|&c| self.sources[c].clone()).collect(),
            schema: schema.clone(),
            limit,
        };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, [], false, limit)?))
    }
}

/// The projected table as one stream.
#[derive(Clone, Debug)]
struct FramePart {
    dataset: Dataset,
    axis: Axis,
    sources: Vec<Source>,
    schema: SchemaRef,
    limit: Option<usize>,
}

impl PartitionStream for FramePart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let this = self.clone();
        let batches = futures::stream::once(async move { this.batch().await.map_err(to_datafusion) })
            .map_ok(|batch| {
                // DataFusion works on batches of some thousand rows.
                let step = 8192;
                let starts = (0..batch.num_rows().max(1)).step_by(step);
                let parts: Vec<_> = starts.map(|s| Ok(batch.slice(s, step.min(batch.num_rows() - s)))).collect();
                futures::stream::iter(parts)
            })
            .try_flatten()
            .boxed();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

impl FramePart {
    async fn batch(&self) -> Result<RecordBatch> {
        let inner = &self.dataset.inner;
        let (table, frame, n): (_, &FrameSchema, _) = match self.axis {
            Axis::Cells => (TableName::Cells, &inner.manifest.obs, inner.manifest.n_cells),
            Axis::Genes => (TableName::Genes, &inner.manifest.var, inner.manifest.n_genes),
        };
        let n = self.limit.map_or(n, |l| n.min(l as u64));
        let rows = Selection::Range(0..n);
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (source, field) in self.sources.iter().zip(self.schema.fields()) {
            columns.push(match source {
                Source::Name => inner.frame(table, frame, Some(&[]), &rows).await?.column(0).clone(),
                Source::Number => Arc::new(Int64Array::from_iter_values(0..n as i64)),
                Source::Frame(name) => {
                    inner.frame(table, frame, Some(std::slice::from_ref(name)), &rows).await?.column(1).clone()
                }
                Source::System(name) => {
                    let column = inner.column(table, name).await?.slice(0, n as usize);
                    cast(&column, field.data_type()).map_err(from_arrow)?
                }
                Source::Array(key) => self.dataset.array_column(key, &rows).await?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n as usize));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(from_arrow)
    }
}
