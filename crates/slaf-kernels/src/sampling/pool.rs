//! The cells that a sampler takes from.

use std::ops::Range;
use std::sync::Arc;

/// Numbers of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Consecutive ones.
    Range(Range<u64>),
    /// These; a cell that comes twice is sampled twice.
    Ids(Arc<[u64]>),
}

impl Pool {
    /// How many cells there are.
    pub fn len(&self) -> u64 {
        match self {
            Pool::Range(r) => r.end.saturating_sub(r.start),
            Pool::Ids(ids) => ids.len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cell at an index below the length.
    pub(super) fn get(&self, i: u64) -> u64 {
        match self {
            Pool::Range(r) => r.start + i,
            Pool::Ids(ids) => ids[i as usize],
        }
    }
}
