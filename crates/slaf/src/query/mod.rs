//! SQL over a store: DataFusion with the tables `cells`, `genes`, `expression`, `layers` and a
//! table for each graph of obsp and varp. The dialect is that of [`slaf_sql`].
//!
//! What a query says of the numbers and names of cells and genes chooses what is read, also what
//! a join finds out while it runs: see `expression_exec`.

mod block;
mod choice;
mod expression_exec;
mod frame_table;
mod grouped_exec;
mod grouping;
mod ids;
mod session;
mod side_groups;
mod stopping;
mod stored_sums;
mod user_tables;
mod view;

pub(crate) use session::Session;
pub use slaf_sql::{Dialect, Parameter, Parameters};
pub use user_tables::UserTable;

use crate::dataset::Dataset;
use crate::selection::Selection;
use arrow::array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use slaf_core::{Error, ErrorKind, Result, near};
use slaf_lance::runtime::{block_on, runtime};
use slaf_sql::Query;
use slaf_sql::error::from_datafusion;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use user_tables::Catalog;
use view::ViewTable;

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

/// How to run a query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Values for `?`, `$1` or `$name`.
    pub parameters: Parameters,
    pub dialect: Dialect,
    /// Tables beside those of the store.
    pub tables: Vec<UserTable>,
    /// The query stops after this time, with `time-limit`.
    pub time_limit: Option<Duration>,
    /// Stops the query from another thread.
    pub cancel: Cancel,
}

/// Stops a query: clones share what they stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Notify>);

impl Cancel {
    /// Lets the query end soon with `interrupted`, also one that has not begun.
    pub fn cancel(&self) {
        self.0.notify_one();
    }
}

impl Dataset {
    /// Runs an SQL query.
    ///
    /// # Errors
    /// `invalid-query`, `unknown-column` and `unknown-table` with near names, `ambiguous-name` for
    /// a gene, `read-only` for anything but a query, `memory-limit`, `time-limit`,
    /// `invalid-argument` for parameters, and those of reading.
    pub fn query(&self, sql: &str) -> Result<QueryResult> {
        self.query_with(sql, &QueryOptions::default())
    }

    /// Runs an SQL query with parameters or a time limit.
    ///
    /// # Errors
    /// As [`Dataset::query`].
    pub fn query_with(&self, sql: &str, options: &QueryOptions) -> Result<QueryResult> {
        block_on(within(options, async {
            let frame = self.plan(sql, options).await?;
            let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
            let batches = frame.collect().await.map_err(from_datafusion)?;
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            Ok(QueryResult { schema, batches })
        }))
    }

    /// Runs an SQL query and hands its rows out as they come.
    ///
    /// # Errors
    /// As [`Dataset::query`]; while rows are read, as Arrow errors from the reader. The time limit
    /// holds for each batch.
    pub fn query_stream(&self, sql: &str, options: &QueryOptions) -> Result<Box<dyn RecordBatchReader + Send>> {
        let start = async {
            let frame = self.plan(sql, options).await?;
            frame.execute_stream().await.map_err(from_datafusion)
        };
        reader(block_on(within(options, start))?, options)
    }

    /// Reads columns of a table as they come, in order: of `expression` and the other tables of
    /// stored values, those of some rows and columns of the matrix, each in rising order.
    ///
    /// # Errors
    /// `unknown-table`, `unknown-column`; while rows are read, as Arrow errors from the reader.
    pub fn scan(
        &self,
        table: &str,
        columns: &[&str],
        rows: &Selection,
        cols: &Selection,
    ) -> Result<Box<dyn RecordBatchReader + Send>> {
        let session = self.session()?;
        let stream = block_on(async {
            let context = &session.context;
            let provider = match session.tables.iter().any(|t| t == table) {
                true => context.table_provider(TableReference::bare(table)).await.map_err(from_datafusion)?,
                false => return Err(Error::new(ErrorKind::UnknownTable, format!("no table \"{table}\""))),
            };
            let schema = provider.schema();
            let column = |name: &&str| {
                let unknown = |_| Error::new(ErrorKind::UnknownColumn, format!("no column \"{name}\"")).at(table);
                schema.index_of(name).map_err(unknown)
            };
            let columns = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
            let plan: Arc<dyn ExecutionPlan> = match provider.downcast_ref::<ViewTable>() {
                Some(view) => view.scan_of(columns, rows.clone(), cols.clone())?,
                None => {
                    let plan = provider.scan(&context.state(), Some(&columns), &[], None).await;
                    plan.map_err(from_datafusion)?
                }
            };
            execute_stream(plan, context.task_ctx()).map_err(from_datafusion)
        })?;
        reader(stream, &QueryOptions::default())
    }

    /// The names of the tables that queries may read.
    ///
    /// # Errors
    /// `unsupported-feature` for a store with types of a later version.
    pub fn tables(&self) -> Result<Vec<String>> {
        Ok(self.session()?.tables.clone())
    }

    fn session(&self) -> Result<&Session> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        // Of two threads that come here at once, one's session is dropped.
        let session = Session::new(&self.inner)?;
        Ok(self.session.get_or_init(|| session))
    }

    async fn plan(&self, sql: &str, options: &QueryOptions) -> Result<DataFrame> {
        let Catalog { context, tables, columns } = self.session()?.with_tables(&options.tables)?;
        let mut query = Query::parse(sql, columns, options.dialect)?;
        let unknown = query.unknown_names();
        let mut genes = Vec::new();
        for name in &unknown {
            if self.inner.gene_of_column(name).await?.is_some() {
                genes.push(name.clone());
            }
        }
        query.add_genes(&genes);
        // Only a query that names no column asks for genes that are near.
        let names = if unknown.is_empty() { Vec::new() } else { self.inner.names_of_genes().await? };
        let near_genes = |name: &str| near(name, names.iter().flat_map(|n| n.iter()));
        let plan = query.plan(context.state(), &tables, &options.parameters, &near_genes).await?;
        context.execute_logical_plan(plan).await.map_err(from_datafusion)
    }
}

/// The batches of a stream for callers that block.
fn reader(mut stream: SendableRecordBatchStream, options: &QueryOptions) -> Result<Box<dyn RecordBatchReader + Send>> {
    let (schema, runtime, options) = (stream.schema(), runtime()?, options.clone());
    let next = std::iter::from_fn(move || {
        let next = async { stream.next().await.transpose().map_err(from_datafusion) };
        let next = runtime.block_on(within(&options, next));
        next.map_err(|e| ArrowError::from_external_error(Box::new(e))).transpose()
    });
    Ok(Box::new(RecordBatchIterator::new(next, schema)))
}

/// Runs until the end, the time limit, or the user's stop.
async fn within<T>(options: &QueryOptions, work: impl Future<Output = Result<T>>) -> Result<T> {
    let over = async {
        match options.time_limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => futures::future::pending().await,
        }
    };
    tokio::select! {
        result = work => result,
        () = over => {
            let seconds = options.time_limit.unwrap_or_default().as_secs_f64();
            Err(Error::new(ErrorKind::TimeLimit, format!("the query took longer than {seconds} s")))
        }
        () = options.cancel.0.notified() => Err(Error::new(ErrorKind::Interrupted, "the query was stopped")),
    }
}
