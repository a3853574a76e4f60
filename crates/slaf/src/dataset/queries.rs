//! Questions in SQL.

use super::handle::Dataset;
use crate::query::{self, Cancel, QueryOptions, QueryResult, Session};
use crate::selection::Selection;
use arrow::array::{AsArray, RecordBatchReader};
use arrow::datatypes::Int64Type;
use slaf_core::Result;
use slaf_ingest::Axis;
use std::sync::Arc;

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
        query::run(self.session()?, sql, options)
    }

    /// The numbers of the cells or genes for which a condition in SQL holds, in rising order.
    ///
    /// # Errors
    /// `invalid-query` for a text that holds no condition, or more than one; as [`Dataset::query`].
    pub fn rows_where(&self, axis: Axis, condition: &str, cancel: &Cancel) -> Result<Vec<u64>> {
        let what = if axis == Axis::Cells { "cell" } else { "gene" };
        let (sql, lines_before) = slaf_sql::rows_where(what, condition)?;
        let found =
            self.query_with(&sql, &QueryOptions { lines_before, cancel: cancel.clone(), ..Default::default() })?;
        let numbers = found.batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        let mut numbers: Vec<u64> = numbers.map(|&number| number as u64).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Whether a query is one for the values of single cells whose plan is kept, and what it needs is at
    /// hand: it is answered in the calling thread, and soon.
    pub fn is_point(&self, sql: &str, options: &QueryOptions) -> bool {
        self.session.get().is_some_and(|session| query::is_point(session, sql, options))
    }

    /// Runs an SQL query and hands its rows out as they come.
    ///
    /// # Errors
    /// As [`Dataset::query`]; while rows are read, as Arrow errors from the reader. The time between
    /// reads does not count against the time limit.
    pub fn query_stream(&self, sql: &str, options: &QueryOptions) -> Result<Box<dyn RecordBatchReader + Send>> {
        query::stream(self.session()?, sql, options)
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
        query::scan(self.session()?, table, columns, rows, cols)
    }

    /// The names of the tables that queries may read.
    ///
    /// # Errors
    /// `unsupported-feature` for a store with types of a later version.
    pub fn tables(&self) -> Result<Vec<String>> {
        Ok(self.session()?.tables.clone())
    }

    fn session(&self) -> Result<&Arc<Session>> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        // Of two threads that come here at once, one's session is dropped.
        let session = Arc::new(Session::new(&self.snapshot)?);
        Ok(self.session.get_or_init(|| session))
    }
}
