//! SQL over a store: DataFusion with the tables `cells`, `genes`, `expression` and `layers`.
//!
//! Only queries run: statements that would write, define or set something are refused, and there
//! are no functions that reach files. Identifiers keep their case. A double-quoted word that
//! names no column in the store or the query is a string, as many users write it.

mod dialect;
mod expression;
mod frame_table;
mod pushdown;

use crate::dataset::Dataset;
use crate::error::from_arrow;
use crate::runtime::{block_on, runtime};
use arrow::array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use expression::{ExpressionTable, LayersTable};
use frame_table::FrameTable;
use futures::StreamExt;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Axis, MatrixKey};
use std::sync::Arc;

/// Bytes that a query may hold before it is stopped.
const MEMORY_LIMIT: usize = 4 << 30;

/// The rows of an SQL query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl QueryResult {
    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Dataset {
    /// Runs an SQL query.
    ///
    /// # Errors
    /// `invalid-query` (with near names for an unknown column or table), `read-only` for anything
    /// but a query, `memory-limit`, and those of reading.
    pub fn query(&self, sql: &str) -> Result<QueryResult> {
        block_on(async {
            let frame = self.plan(sql).await?;
            let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
            let batches = frame.collect().await.map_err(from_datafusion)?;
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            Ok(QueryResult { schema, batches })
        })
    }

    /// Runs an SQL query and hands its rows out as they come.
    ///
    /// # Errors
    /// As [`Dataset::query`]; while rows are read, as Arrow errors from the reader.
    pub fn query_stream(&self, sql: &str) -> Result<Box<dyn RecordBatchReader + Send>> {
        let mut stream = block_on(async { self.plan(sql).await?.execute_stream().await.map_err(from_datafusion) })?;
        let schema = stream.schema();
        let runtime = runtime()?;
        let next = std::iter::from_fn(move || {
            let next = runtime.block_on(stream.next())?;
            Some(next.map_err(|e| ArrowError::from_external_error(Box::new(from_datafusion(e)))))
        });
        Ok(Box::new(RecordBatchIterator::new(next, schema)))
    }

    async fn plan(&self, sql: &str) -> Result<DataFrame> {
        let context = self.context().await?;
        let state = context.state();
        let mut statement = dialect::parse(sql)?;
        dialect::strings_in_double_quotes(&mut statement, &column_names(&context).await);
        let plan = state.statement_to_plan(statement).await.map_err(from_datafusion)?;
        let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_queries
            .verify_plan(&plan)
            .map_err(|_| Error::new(ErrorKind::ReadOnly, "only queries are allowed: a store is not changed by SQL"))?;
        context.execute_logical_plan(plan).await.map_err(from_datafusion)
    }

    async fn context(&self) -> Result<SessionContext> {
        let mut config = SessionConfig::new().with_information_schema(true);
        // Names of columns and genes differ by case.
        config.options_mut().sql_parser.enable_ident_normalization = false;
        let env = RuntimeEnvBuilder::new().with_memory_limit(MEMORY_LIMIT, 1.0).build_arc().map_err(from_datafusion)?;
        let context = SessionContext::new_with_config_rt(config, env);
        let inner = &self.inner;
        let register = |name: &str, table| context.register_table(name, table).map(drop).map_err(from_datafusion);
        register("cells", Arc::new(FrameTable::new(inner.clone(), Axis::Cells)?))?;
        register("genes", Arc::new(FrameTable::new(inner.clone(), Axis::Genes)?))?;
        if let Some(x) = inner.manifest.matrix(&MatrixKey::X) {
            register("expression", Arc::new(ExpressionTable::new(inner.clone(), x)?))?;
        }
        let layers: Vec<_> = inner.manifest.matrices.iter().filter(|m| m.slot == "layers").cloned().collect();
        if !layers.is_empty() {
            register("layers", Arc::new(LayersTable::new(inner.clone(), layers)?))?;
        }
        Ok(context)
    }
}

/// The columns of all tables.
async fn column_names(context: &SessionContext) -> Vec<String> {
    let mut names = Vec::new();
    for table in ["cells", "genes", "expression", "layers"] {
        if let Ok(provider) = context.table_provider(table).await {
            names.extend(provider.schema().fields().iter().map(|f| f.name().clone()));
        }
    }
    names
}

/// An error of DataFusion, without its prefixes.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    let root = error.find_root();
    let kind = match root {
        DataFusionError::ResourcesExhausted(_) => ErrorKind::MemoryLimit,
        DataFusionError::External(e) => match e.downcast_ref::<Error>() {
            Some(ours) => {
                let copy = Error::new(ours.kind(), ours.message());
                return match ours.location() {
                    Some(place) => copy.at(place),
                    None => copy,
                };
            }
            None => ErrorKind::Internal,
        },
        DataFusionError::Execution(_) | DataFusionError::SQL(..) | DataFusionError::Plan(_) => ErrorKind::InvalidQuery,
        DataFusionError::SchemaError(..) | DataFusionError::NotImplemented(_) | DataFusionError::Diagnostic(..) => {
            ErrorKind::InvalidQuery
        }
        DataFusionError::ArrowError(e, _) => {
            let text = root.strip_backtrace();
            return match **e {
                ArrowError::ExternalError(_) => from_arrow(ArrowError::ExternalError(text.into())),
                _ => Error::new(ErrorKind::InvalidQuery, text),
            };
        }
        _ => ErrorKind::Internal,
    };
    let text = root.strip_backtrace();
    let text = ["Error during planning: ", "Execution error: ", "Schema error: ", "SQL error: "]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(&text);
    Error::new(kind, text)
}

/// An error of ours on its way through DataFusion.
pub(crate) fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
