//! Points of clusters in blocks, which threads work on.

use super::clusters::{BLOCK, Clusters};
use super::exact::Best;
use crate::parallel::{next, on_threads};
use slaf_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Told what is done and for how many points; `false` stops.
pub type Report<'a> = dyn Fn(&'static str, usize) -> bool + Sync + 'a;

/// Some points of one cluster, by their places in the order of clusters.
pub(super) struct Block {
    pub(super) cluster: usize,
    pub(super) points: Range<usize>,
}

/// All points, cluster by cluster.
pub(super) fn blocks(clusters: &Clusters) -> Vec<Block> {
    let of = |cluster: usize| {
        let all = clusters.starts[cluster]..clusters.starts[cluster + 1];
        let block = move |start: usize| Block { cluster, points: start..(start + BLOCK).min(all.end) };
        (clusters.starts[cluster]..clusters.starts[cluster + 1]).step_by(BLOCK).map(block)
    };
    (0..clusters.n()).flat_map(of).collect()
}

/// How blocks are gone through.
pub(super) struct Pass<'a> {
    pub(super) threads: usize,
    pub(super) progress: &'a Report<'a>,
}

impl Pass<'_> {
    /// Finds something for the points of each block, and puts it at their places.
    ///
    /// # Errors
    /// `interrupted`.
    pub(super) fn each(
        &self,
        blocks: Vec<Block>,
        what: &'static str,
        of: impl Fn(&Block) -> Vec<Best> + Sync,
        put: impl FnMut(usize, Best) + Send,
    ) -> Result<()> {
        let (work, done) = (Mutex::new(blocks.into_iter()), AtomicUsize::new(0));
        let (put, stop) = (Mutex::new(put), AtomicBool::new(false));
        on_threads(self.threads, || {
            while let Some(block) = next(&work) {
                let found = of(&block);
                {
                    let mut put = put.lock().unwrap_or_else(PoisonError::into_inner);
                    found.into_iter().zip(block.points.clone()).for_each(|(best, at)| put(at, best));
                }
                let so_far = done.fetch_add(block.points.len(), Ordering::Relaxed) + block.points.len();
                if stop.load(Ordering::Relaxed) || !(self.progress)(what, so_far) {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
        });
        match stop.into_inner() {
            true => Err(Error::new(ErrorKind::Interrupted, "stopped before the last point")),
            false => Ok(()),
        }
    }
}
