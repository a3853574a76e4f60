//! Tables whose rows are made when a query is about to run: what functions give that stand in FROM.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use slaf_core::Result;
use slaf_sql::error::to_datafusion;
use slaf_sql::limits::Limits;
use std::fmt;
use std::sync::Arc;

/// What makes the rows of a table.
#[async_trait]
pub(super) trait Make: fmt::Debug + Send + Sync {
    /// Finds what the rows are made of.
    async fn make(&self, schema: &SchemaRef, limits: Option<&Limits>) -> Result<Arc<dyn Rows>>;
}

/// Rows in pieces, each made when it is asked for.
pub(super) trait Rows: fmt::Debug + Send + Sync {
    fn n_pieces(&self) -> usize;
    fn piece(&self, at: usize, schema: &SchemaRef) -> Result<RecordBatch>;
}

impl Rows for RecordBatch {
    fn n_pieces(&self) -> usize {
        1
    }

    fn piece(&self, _: usize, _: &SchemaRef) -> Result<RecordBatch> {
        Ok(self.clone())
    }
}

/// A table of this schema.
pub(super) fn made_table(schema: SchemaRef, make: impl Make + 'static) -> Arc<dyn TableProvider> {
    Arc::new(MadeTable { schema, make })
}

#[derive(Debug)]
struct MadeTable<M> {
    schema: SchemaRef,
    make: M,
}

#[async_trait]
impl<M: Make + 'static> TableProvider for MadeTable<M> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let limits = Limits::of(session.config_options());
        let rows = self.make.make(&self.schema, limits).await.map_err(to_datafusion)?;
        let rows = Arc::new(Pieces { schema: self.schema.clone(), rows });
        StreamingTable::try_new(self.schema.clone(), vec![rows])?.scan(session, projection, filters, limit).await
    }
}

#[derive(Debug)]
struct Pieces {
    schema: SchemaRef,
    rows: Arc<dyn Rows>,
}

impl PartitionStream for Pieces {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (rows, schema) = (self.rows.clone(), self.schema.clone());
        let pieces = (0..rows.n_pieces()).map(move |at| rows.piece(at, &schema).map_err(to_datafusion));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(pieces)))
    }
}
