//! Parts of matrices, read part by part.

use crate::config;
use crate::progress::{Progress, ProgressEvent};
use crate::reader::{Orientation, ReadOptions, choose};
use crate::selection::Selection;
use crate::store::Snapshot;
use slaf_core::order::DROP;
use slaf_core::{Context, CsrChunk, Dtype, Result, Value, with_values};
use slaf_ingest::MatrixKey;
use slaf_kernels::matrix::{self, PART_ROWS, Plan, Request, STRETCH_ROWS, Source, Summary};
use slaf_lance::runtime::{block_on, pool_threads};
use std::ops::Range;

/// Rows and columns of a matrix of a store.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) key: &'a MatrixKey,
    pub(crate) rows: &'a Selection,
    pub(crate) cols: &'a Selection,
}

impl Part<'_> {
    /// Rows and columns, which are checked.
    pub(super) fn shape(&self) -> Result<(usize, usize)> {
        let entry = self.snapshot.matrix(self.key)?;
        self.rows.check(entry.n_rows, "row").at(self.key)?;
        self.cols.check(entry.n_cols, "column").at(self.key)?;
        Ok((self.rows.len(entry.n_rows) as usize, self.cols.len(entry.n_cols) as usize))
    }
}

/// Reads a part with `plan` applied to it.
pub(crate) fn compute(part: Part<'_>, plan: &Plan, progress: Progress<'_>) -> Result<CsrChunk> {
    in_parts(part, plan, false, progress, |source, dtype| matrix::compute(source, dtype, plan))
}

/// Statistics of a part, found in its values.
pub(super) fn streamed(part: Part<'_>, plan: &Plan, request: &Request, progress: Progress<'_>) -> Result<Summary> {
    in_parts(part, plan, true, progress, |source, dtype| matrix::reduce(source, dtype, plan, request))
}

/// Hands a part over as a source; with `unsorted` columns of a row come in any order.
pub(super) fn in_parts<T>(
    part: Part<'_>,
    plan: &Plan,
    unsorted: bool,
    progress: Progress<'_>,
    work: impl FnOnce(&Source<'_>, Dtype) -> Result<T>,
) -> Result<T> {
    let Part { snapshot, key, rows, cols } = part;
    let entry = snapshot.matrix(key)?;
    let (n_rows, n_cols) = part.shape()?;
    let _span = tracing::debug_span!("compute", matrix = %key, rows = n_rows, columns = n_cols).entered();
    let orientation = choose(&snapshot.manifest, key, entry, rows, cols);
    let base = PART_ROWS.min(config::batch_rows());
    let part_rows = plan.part_rows(orientation.part_rows(base, entry, cols), n_cols);
    let options = ReadOptions { orientation: Some(orientation), unsorted };
    // Most columns in any order are picked from all faster than each row is looked through.
    let places = (unsorted && orientation == Orientation::ByCell).then(|| places(cols, entry.n_cols)).flatten();
    let cols = if places.is_some() { &Selection::All } else { cols };
    let read = |part: Range<usize>| {
        let rows = rows.part(part.start as u64..part.end as u64);
        let chunk = block_on(snapshot.read(key, entry, &rows, cols, options)).at(key)?;
        Ok(match &places {
            Some(places) => pick(chunk, places),
            None => chunk,
        })
    };
    let stretch_rows = base * (STRETCH_ROWS / PART_ROWS);
    let done =
        |done: usize| progress(ProgressEvent { phase: "cells", cells_done: done as u64, cells_total: n_rows as u64 });
    let source =
        Source { n_rows, n_cols, read: &read, part_rows, stretch_rows, threads: pool_threads()?, progress: &done };
    work(&source, entry.dtype)
}

/// For each column its place among the selected ones, or [`DROP`]; `None` unless most columns are
/// selected, and each once.
fn places(cols: &Selection, n_cols: u64) -> Option<Vec<u32>> {
    let n = cols.len(n_cols);
    if *cols == Selection::All || n < n_cols / 2 || n > n_cols {
        return None;
    }
    let mut places = vec![DROP; n_cols as usize];
    for (place, column) in cols.iter(n_cols).enumerate() {
        if places[column as usize] != DROP {
            return None;
        }
        places[column as usize] = place as u32;
    }
    Some(places)
}

/// The values whose columns have a place, under the new numbers.
fn pick(chunk: CsrChunk, places: &[u32]) -> CsrChunk {
    fn of<T: Value>(mut indptr: Vec<u64>, mut indices: Vec<u32>, mut values: Vec<T>, places: &[u32]) -> CsrChunk {
        let (mut kept, mut start) = (0, 0);
        for end in indptr.iter_mut().skip(1) {
            for at in start..*end as usize {
                let place = places[indices[at] as usize];
                (indices[kept], values[kept]) = (place, values[at]);
                kept += usize::from(place != DROP);
            }
            (start, *end) = (*end as usize, kept as u64);
        }
        indices.truncate(kept);
        values.truncate(kept);
        CsrChunk { indptr, indices, values: T::wrap(values) }
    }
    let CsrChunk { indptr, indices, values } = chunk;
    with_values!(values, v => of(indptr, indices, v, places))
}
