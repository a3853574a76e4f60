//! Rows in blocks that are the same whatever parts are read.

use crate::matrix::{Plan, Source};
use slaf_core::{CsrChunk, Error, Result, Value, with_values};
use std::ops::Range;

/// Rows whose products are added at once, if their values are not too many.
const BLOCK_ROWS: usize = 4096;
/// Values of a block.
const BLOCK_VALUES: usize = 1 << 21;

/// Some rows in a row.
pub(super) struct Block {
    /// The first of them.
    pub(super) first: usize,
    pub(super) n_cols: usize,
    /// Where each row begins, and the end of the last.
    pub(super) starts: Vec<usize>,
    pub(super) columns: Vec<u32>,
    pub(super) values: Vec<f64>,
}

impl Block {
    /// Calls `f` with some rows of a matrix, block by block, in their order. No block has rows on both
    /// sides of a multiple of `stretch`.
    ///
    /// # Errors
    /// Those of reading and of the plan; `invalid-argument` for NaN and infinite values.
    pub(super) fn for_each(
        source: &Source<'_>,
        plan: &Plan,
        rows: Range<usize>,
        stretch: usize,
        mut f: impl FnMut(&Block),
    ) -> Result<()> {
        let n_cols = source.n_cols;
        let mut block = Block { first: rows.start, n_cols, starts: vec![0], columns: Vec::new(), values: Vec::new() };
        source.for_each(
            rows,
            plan,
            |_, chunk| Ok(chunk),
            |_, chunk| {
                let mut first = 0;
                while first < chunk.n_rows() {
                    let last = block.room(&chunk, first, stretch);
                    block.take(&chunk, first..last)?;
                    first = last;
                    if first < chunk.n_rows() {
                        f(&block);
                        block.forget();
                    }
                }
                Ok(())
            },
        )?;
        if block.n_rows() > 0 {
            f(&block);
        }
        Ok(())
    }

    pub(super) fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The end of the rows from `first` that there is room for; at least one where the block is empty.
    fn room(&self, chunk: &CsrChunk, first: usize, stretch: usize) -> usize {
        let base = chunk.indptr[first] as usize;
        let most = BLOCK_ROWS.min(stretch - self.first % stretch);
        let fits = |row: &usize| {
            let rows = self.n_rows() + row + 1 - first;
            let values = self.values.len() + chunk.indptr[row + 1] as usize - base;
            rows <= most && values <= BLOCK_VALUES
        };
        let end = (first..chunk.n_rows()).find(|row| !fits(row)).unwrap_or(chunk.n_rows());
        if self.n_rows() == 0 { end.max(first + 1) } else { end }
    }

    fn take(&mut self, chunk: &CsrChunk, rows: Range<usize>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let places = chunk.indptr[rows.start] as usize..chunk.indptr[rows.end] as usize;
        let (before, base) = (self.values.len(), places.start);
        self.starts.extend(chunk.indptr[rows.start + 1..=rows.end].iter().map(|&p| before + p as usize - base));
        self.columns.extend_from_slice(&chunk.indices[places.clone()]);
        with_values!(&chunk.values, v => self.values.extend(v[places].iter().map(|v| v.as_f64())));
        let mut new = self.values[before..].iter();
        match new.find(|v| !v.is_finite()) {
            None => Ok(()),
            Some(v) if v.is_nan() => Err(Error::invalid("Input X contains NaN.")),
            Some(_) => Err(Error::invalid("Input X contains infinity or a value too large for float64.")),
        }
    }

    fn forget(&mut self) {
        self.first += self.n_rows();
        self.starts.truncate(1);
        self.columns.clear();
        self.values.clear();
    }
}
