//! What a query is asked with, and what it gives.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use slaf_sql::{Dialect, Parameters};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The rows of an SQL query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The columns of the result, also where it has no row.
    pub schema: SchemaRef,
    /// The rows, in the order of the query.
    pub batches: Vec<RecordBatch>,
}

impl QueryResult {
    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// A table for one query.
#[derive(Clone, Debug)]
pub struct UserTable {
    /// The name in the query.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
}

/// How to run a query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Values for `?`, `$1` or `$name`.
    pub parameters: Parameters,
    /// Lines of the text before those of the user: places in errors are counted from behind them.
    pub lines_before: u64,
    /// How words in double quotes and `/` are read.
    pub dialect: Dialect,
    /// Tables beside those of the store.
    pub tables: Vec<UserTable>,
    /// A gene as a column of `cells` is null where it was not measured, and not 0.
    pub measured: bool,
    /// The query stops after this time, with `time-limit`.
    pub time_limit: Option<Duration>,
    /// Stops the query from another thread.
    pub cancel: Cancel,
}

/// Stops a query: clones share what they stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Lets the query end soon with `interrupted`, also one that has not begun.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
