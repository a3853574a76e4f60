//! Matrices that are read in parts.

use super::in_order::in_order;
use super::plan::Plan;
use slaf_core::{CsrChunk, Error, ErrorKind, Result};
use std::ops::Range;

/// A matrix that can be read in parts, in any order and from many threads.
pub struct Source<'a> {
    /// Its rows.
    pub n_rows: usize,
    /// Its columns.
    pub n_cols: usize,
    /// Reads consecutive rows; columns may come in any order.
    pub read: &'a (dyn Fn(Range<usize>) -> Result<CsrChunk> + Sync),
    /// Rows that are read at once. The answer depends on it in the last bits only.
    pub part_rows: usize,
    /// Rows whose sums are found before they are added to those of the rows before. The answer
    /// depends on it, too, in the last bits only.
    pub stretch_rows: usize,
    /// Parts in work at once.
    pub threads: usize,
    /// Is told how many rows are done; `false` stops.
    pub progress: &'a (dyn Fn(usize) -> bool + Sync),
}

impl Source<'_> {
    /// Rows of a stretch of whole parts.
    pub(super) fn stretch(&self) -> usize {
        let part = self.part_rows.max(1);
        (self.stretch_rows / part).max(1) * part
    }

    /// Reads some rows part by part, applies the plan, and hands the results over in order.
    pub(crate) fn for_each<T: Send>(
        &self,
        rows: Range<usize>,
        plan: &Plan,
        work: impl Fn(usize, CsrChunk) -> Result<T> + Sync,
        mut take: impl FnMut(usize, T) -> Result<()>,
    ) -> Result<()> {
        plan.check(self.n_rows, self.n_cols)?;
        let parts = steps(rows, self.part_rows);
        let read = |i: usize| {
            let rows = parts[i].clone();
            let chunk = plan.apply((self.read)(rows.clone())?, rows.start, self.n_cols)?;
            work(rows.start, chunk)
        };
        in_order(parts.len(), self.threads, read, |i, done| {
            if !(self.progress)(parts[i].end) {
                return Err(Error::new(ErrorKind::Interrupted, "stopped before the last row"));
            }
            take(parts[i].start, done)
        })
    }
}

/// A range in pieces of `step`, the last one perhaps shorter.
pub fn steps(range: Range<usize>, step: usize) -> Vec<Range<usize>> {
    let step = step.max(1);
    range.clone().step_by(step).map(|start| start..(start + step).min(range.end)).collect()
}
