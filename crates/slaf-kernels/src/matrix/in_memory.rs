//! Matrices in memory as sources.

use super::plan::Plan;
use super::source::Source;
use slaf_core::{CsrChunk, Result};
use std::ops::Range;

/// Rows that are worked on at once.
pub const PART_ROWS: usize = 1024;
/// Rows whose sums are added at once.
pub const STRETCH_ROWS: usize = 64 * PART_ROWS;
/// Values of a part of which every value is stored.
const DENSE_PART: usize = 1 << 22;

/// Hands a matrix in memory over as a source; `progress` is told how many rows are done.
///
/// # Errors
/// Those of `work`.
pub fn with_memory<T>(
    matrix: &CsrChunk,
    n_cols: usize,
    plan: &Plan,
    progress: &(dyn Fn(usize) -> bool + Sync),
    work: impl FnOnce(&Source<'_>) -> Result<T>,
) -> Result<T> {
    let read = |rows: Range<usize>| Ok(matrix.slice(rows));
    let part_rows = plan.part_rows(PART_ROWS, n_cols);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let stretch_rows = STRETCH_ROWS;
    work(&Source { n_rows: matrix.n_rows(), n_cols, read: &read, part_rows, stretch_rows, threads, progress })
}

impl Plan {
    /// How many rows are worked on at once: fewer where every value is stored.
    pub fn part_rows(&self, rows: usize, n_cols: usize) -> usize {
        if self.is_dense() { rows.min((DENSE_PART / n_cols.max(1)).max(1)) } else { rows }
    }
}
