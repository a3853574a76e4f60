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
mod options;
mod running;
mod session;
mod side_groups;
mod stopping;
mod stored_sums;
mod user_tables;
mod view;
mod view_table;

pub use options::{Cancel, QueryOptions, QueryResult};
pub use running::name_with_nul;
pub(crate) use session::Session;
pub use slaf_sql::{Dialect, Parameter, ParameterType, Parameters};
pub use user_tables::UserTable;

use crate::dataset::Dataset;
use crate::selection::Selection;
use arrow::array::RecordBatchReader;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use frame_table::FrameTable;
use running::Running;
use slaf_core::{Error, ErrorKind, Result, near};
use slaf_ingest::Axis;
use slaf_lance::runtime::block_on;
use slaf_sql::error::from_datafusion;
use slaf_sql::limits::Limits;
use slaf_sql::{CELLS, Query};
use std::sync::Arc;
use user_tables::Catalog;
use view_table::ViewTable;

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
        Running::plan(self, sql, options)?.collect()
    }

    /// Runs an SQL query and hands its rows out as they come.
    ///
    /// # Errors
    /// As [`Dataset::query`]; while rows are read, as Arrow errors from the reader. The time between
    /// reads does not count against the time limit.
    pub fn query_stream(&self, sql: &str, options: &QueryOptions) -> Result<Box<dyn RecordBatchReader + Send>> {
        Running::plan(self, sql, options)?.stream()
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
                Some(view) => view.scan_of(&columns, rows.clone(), cols.clone())?,
                None => {
                    let plan = provider.scan(&context.state(), Some(&columns), &[], None).await;
                    plan.map_err(from_datafusion)?
                }
            };
            execute_stream(plan, context.task_ctx()).map_err(from_datafusion)
        })?;
        let limits = session.limits();
        Running::new(stream.schema(), &QueryOptions::default(), limits).stream_of(stream)
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

    async fn plan(&self, sql: &str, options: &QueryOptions, limits: &Limits) -> Result<DataFrame> {
        let session = self.session()?;
        let mut catalog = Catalog::new(session, &options.tables)?;
        let mut query = Query::parse(sql, catalog.columns.clone(), options.dialect)?;
        let mut genes = Vec::new();
        for name in query.unknown_names() {
            if let Some(gene) = self.inner.gene_of_column(&name).await? {
                genes.push((name, gene));
            }
        }
        if !genes.is_empty() {
            query.add_genes(genes.iter().map(|(name, _)| name.as_str()));
            let cells = FrameTable::new(self.inner.clone(), Axis::Cells)?.with_genes(&genes)?;
            catalog.put(CELLS, Arc::new(cells));
        }
        let tables = catalog.tables.clone();
        let mut state = catalog.context(session)?.state();
        limits.put_into(&mut state);
        let context = SessionContext::new_with_state(state);
        let plan = query.clone().plan(context.state(), &tables, &options.parameters, &|_: &str| Vec::new()).await;
        let plan = match plan {
            // Only a query that names no column asks for genes that are near.
            Err(e) if e.kind() == ErrorKind::UnknownColumn => {
                let names = self.inner.names_of_genes().await?;
                let near_genes = |name: &str| near(name, names.iter().flat_map(|n| n.iter()));
                query.plan(context.state(), &tables, &options.parameters, &near_genes).await?
            }
            plan => plan?,
        };
        context.execute_logical_plan(plan).await.map_err(from_datafusion)
    }
}
