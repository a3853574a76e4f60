//! The cells of many batches, read at once.

use super::prepared::Prepared;
use crate::reader::PackedRows;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// Rows of the first read, so that the first batch is there soon. Each read is larger than the
/// one before, up to the limit of memory.
const FIRST_ROWS: usize = 2048;
const GROWTH: usize = 4;

/// The stores, and how much of them is read at once.
pub(super) struct Fetch {
    pub(super) sources: Arc<Vec<Prepared>>,
    /// The first cell of each store in the numbering of all, and their number.
    starts: Vec<u64>,
    max_rows: usize,
    next_rows: usize,
}

/// Some batches with their packed rows.
pub(super) struct Rack {
    /// The cells of each batch, as positions in `rows`.
    pub(super) batches: Vec<Range<usize>>,
    /// Store and cell.
    pub(super) cells: Vec<(u32, u64)>,
    /// The place of each cell among the rows of its store.
    pub(super) places: Vec<u32>,
    /// By store; none where no cell of it is here.
    pub(super) packed: Vec<Option<PackedRows>>,
}

impl Fetch {
    pub(super) fn new(sources: Vec<Prepared>, max_rows: usize) -> Fetch {
        let mut starts = vec![0];
        for source in &sources {
            starts.push(starts[starts.len() - 1] + source.n_cells());
        }
        Fetch { sources: Arc::new(sources), starts, max_rows, next_rows: FIRST_ROWS.min(max_rows) }
    }

    /// How many rows the next read should have; reads that have a natural end are not cut before
    /// it without need.
    pub(super) fn next_rows(&mut self, has_end: bool) -> usize {
        if has_end {
            return self.max_rows;
        }
        let rows = self.next_rows;
        self.next_rows = (rows * GROWTH).min(self.max_rows);
        rows
    }

    /// Reads the rows of cells, which are numbered over all stores.
    pub(super) async fn read(&self, cells: &[u64], batches: Vec<Range<usize>>) -> Result<Rack> {
        let mut by_source: Vec<Vec<u64>> = vec![Vec::new(); self.sources.len()];
        let mut rack = Rack { batches, cells: Vec::with_capacity(cells.len()), places: Vec::new(), packed: Vec::new() };
        for &cell in cells {
            let source = self.starts.partition_point(|&s| s <= cell) - 1;
            let Some(wanted) = by_source.get_mut(source) else {
                let (all, stores) = (self.starts[self.sources.len()], self.sources.len());
                let message = format!("cell {cell}, but there are {all} in {stores} stores");
                return Err(Error::new(ErrorKind::OutOfRange, message));
            };
            let local = cell - self.starts[source];
            rack.places.push(wanted.len() as u32);
            rack.cells.push((source as u32, local));
            wanted.push(local);
        }
        for (source, wanted) in self.sources.iter().zip(by_source) {
            let rows = if wanted.is_empty() { None } else { Some(source.fetch(wanted).await?) };
            rack.packed.push(rows);
        }
        Ok(rack)
    }
}

impl Rack {
    /// Runs of neighbouring cells of one store in a batch.
    pub(super) fn runs(&self, batch: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut rest = self.batches[batch].clone();
        std::iter::from_fn(move || {
            let source = self.cells[rest.clone()].first()?.0;
            let n = self.cells[rest.clone()].iter().take_while(|c| c.0 == source).count();
            let run = rest.start..rest.start + n;
            rest.start = run.end;
            Some(run)
        })
    }

    pub(super) fn packed(&self, source: u32) -> Result<&PackedRows> {
        let packed = self.packed.get(source as usize).and_then(Option::as_ref);
        packed.ok_or_else(|| Error::new(ErrorKind::Internal, "rows that were not read")).at("loader")
    }

    /// Bytes of packed rows that were read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.packed.iter().flatten().map(|rows| rows.bytes_read).sum()
    }
}
