//! SQL over a store: DataFusion with the tables `cells`, `genes`, `expression`, `layers` and a
//! table for each graph of obsp and varp. The dialect is that of [`slaf_sql`].
//!
//! What a query says of the numbers and names of cells and genes chooses what is read, also what
//! a join finds out while it runs: see `expression_exec`.

mod block;
mod choice;
mod dense_exec;
mod dense_plan;
mod dense_read;
mod expression_exec;
mod frame_table;
mod grouped_exec;
mod grouping;
mod ids;
mod made_table;
mod measured;
mod nearest;
mod options;
mod planning;
mod plans;
mod point;
mod ready;
mod running;
mod session;
mod side_groups;
mod sides;
mod stopping;
mod stored_sums;
mod used_names;
mod user_tables;
mod view;
mod view_table;

pub(crate) use measured::sources_batch;
pub use options::{Cancel, QueryOptions, QueryResult, UserTable};
pub use ready::name_with_nul;
pub(crate) use session::Session;
pub use slaf_sql::{Dialect, Parameter, ParameterType, Parameters};

use crate::selection::Selection;
use arrow::array::RecordBatchReader;
use datafusion::common::TableReference;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use running::Running;
use slaf_core::{Error, ErrorKind, Result};
use slaf_lance::runtime::block_on;
use slaf_sql::error::from_datafusion;
use std::sync::Arc;
use view_table::ViewTable;

/// Runs a query.
pub(crate) fn run(session: &Arc<Session>, sql: &str, options: &QueryOptions) -> Result<QueryResult> {
    Running::plan(session, sql, options)?.collect()
}

/// Whether a query is answered by a plan that is kept for single cells.
pub(crate) fn is_point(session: &Session, sql: &str, options: &QueryOptions) -> bool {
    let kept = session.plans.get(sql, options);
    kept.is_some_and(|plan| plan.point().is_some_and(|point| point.is_at_hand()))
}

/// Runs a query and hands its rows out as they come.
pub(crate) fn stream(
    session: &Arc<Session>,
    sql: &str,
    options: &QueryOptions,
) -> Result<Box<dyn RecordBatchReader + Send>> {
    Running::plan(session, sql, options)?.stream()
}

/// Columns of a table as they come; of stored values, those of some rows and columns.
pub(crate) fn scan(
    session: &Session,
    table: &str,
    columns: &[&str],
    rows: &Selection,
    cols: &Selection,
) -> Result<Box<dyn RecordBatchReader + Send>> {
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
