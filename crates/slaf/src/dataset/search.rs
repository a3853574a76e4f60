//! Search by similarity.

use super::handle::Dataset;
use crate::progress::{Progress, ProgressEvent};
use crate::search::{self, Rankings, SearchOptions, SearchQuery};
use crate::selection::Selection;
use arrow::array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use slaf_core::Result;
use slaf_ingest::ArrayKey;
use slaf_kernels::neighbors::Hits;
use slaf_lance::runtime::block_on;

impl Dataset {
    /// The cells (or genes, for an array of varm) that are nearest to each query by an array, the
    /// nearest first; of ties those of smaller number. The answer is that of comparing every row, with an
    /// index ([`create_index`](crate::grow::create_index)) and with any number of threads. Distances are computed
    /// in float64 from the stored values.
    ///
    /// The array is kept in memory if it takes less than half of what a handle may keep; otherwise it
    /// is read in blocks, once for every 16,384 queries (or for 4 million hits).
    ///
    /// # Errors
    /// `unknown-table` with near names; `out-of-range`; `invalid-argument` for points of another
    /// width, for elements that are kept as they came, and for coordinates that are not finite or not below 2^53, in a query or in what is
    /// compared, and for a query without a direction where cosines are compared; `interrupted`.
    pub fn nearest(
        &self,
        key: &ArrayKey,
        query: &SearchQuery,
        options: &SearchOptions,
        progress: Progress<'_>,
    ) -> Result<Hits> {
        let _span = tracing::debug_span!("nearest", array = %search::slot(key), k = options.k).entered();
        let going = |done, total| progress(ProgressEvent { phase: "cells", cells_done: done, cells_total: total });
        block_on(search::nearest(&self.snapshot, key, query, options, &going))
    }

    /// What [`Dataset::nearest`] found for this query as a table: `query` (the name of the row, or the
    /// number of the point from 0), `rank` (from 1), `cell_id` or `gene_id`, `distance`, and further
    /// columns: `cell_integer_id` or `gene_integer_id`, and those of obs or var by their names in SQL
    /// (or behind `obs:` and `var:`). One that has the name of another column gets `obs:` before its
    /// name; `distance` among them stands where it is named.
    ///
    /// # Errors
    /// `unknown-column` with near names; `invalid-argument` for a column that is named twice;
    /// `corrupt`.
    pub fn hits(&self, key: &ArrayKey, query: &SearchQuery, hits: &Hits, columns: &[String]) -> Result<RecordBatch> {
        block_on(search::table(&self.snapshot, key.axis, query, hits, columns))
    }

    /// The nearest others of some rows, as [`Dataset::hits`] has them, read while they are found: all
    /// rankings of all genes are many. Where cosines are compared, rows without a direction have none.
    ///
    /// # Errors
    /// Those of [`Dataset::nearest`]; while rows are compared, as Arrow errors from the reader.
    pub fn rankings(
        &self,
        key: &ArrayKey,
        rows: &Selection,
        options: SearchOptions,
    ) -> Result<Box<dyn RecordBatchReader + Send>> {
        let mut rankings = block_on(Rankings::new(self.snapshot.clone(), key, rows, options))?;
        let schema = search::schema(key.axis, DataType::Utf8);
        let mut over = false;
        let batches = std::iter::from_fn(move || {
            if over {
                return None;
            }
            let next = block_on(rankings.next()).transpose();
            over = !matches!(next, Some(Ok(_)));
            next.map(|batch| batch.map_err(|e| ArrowError::from_external_error(Box::new(e))))
        });
        Ok(Box::new(RecordBatchIterator::new(batches, schema)))
    }
}
