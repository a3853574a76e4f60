//! The threads of an epoch.

use super::batch::{BatchData, LoadedBatch};
use super::build::build;
use super::fetch::{Fetch, Rack};
use super::options::{EpochPart, Form};
use super::prepared::Prepared;
use super::stats::{Counters, LoaderStats, timed};
use rayon::prelude::*;
use slaf_core::{Error, ErrorKind, Result};
use slaf_kernels::sampling::{Epoch, Schedule};
use slaf_lance::runtime::{block_on, in_pool, pool_threads};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::Span;

/// Cells that the pool gets at once: enough for all of its threads, and soon done.
const GROUP_CELLS: usize = 512;

/// All that the threads need to know.
pub(super) struct Plan {
    pub(super) fetch: Fetch,
    pub(super) order: Epoch,
    pub(super) schedule: Schedule,
    pub(super) part: EpochPart,
    pub(super) form: Form,
    /// Seed and epoch of the tokenizers.
    pub(super) random: (u64, u64),
    /// Batches that wait for the consumer.
    pub(super) queue: usize,
}

/// What the threads of an epoch share.
struct Shared {
    counters: Counters,
    stopped: AtomicBool,
    /// Wakes a read that waits for the storage.
    stop: Notify,
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// The batches of a part of an epoch, in order; see [`Loader::epoch`](super::Loader::epoch).
///
/// After an error there are no more. Dropping it stops the threads: at once while they wait, and
/// otherwise after the batches that they are at.
pub struct LoadedBatches {
    batches: Receiver<Result<LoadedBatch>>,
    shared: Arc<Shared>,
    left: u64,
    /// Ends when the iterator is dropped.
    _span: Span,
}

pub(super) fn start(plan: Plan) -> Result<LoadedBatches> {
    let shared = Arc::new(Shared { counters: Counters::start(), stopped: AtomicBool::new(false), stop: Notify::new() });
    let left = plan.schedule.steps(plan.part.shard).saturating_sub(plan.part.skip);
    let span = tracing::debug_span!("load", epoch = plan.part.epoch, batches = left);
    crate::memory::keep_freed_memory();
    let (send_batch, batches) = sync_channel(plan.queue);
    // No room: besides the rack that is decoded there is one that is read or waits.
    let (send_rack, racks) = sync_channel(0);
    let make = Make {
        sources: Arc::clone(&plan.fetch.sources),
        form: plan.form,
        random: plan.random,
        shared: Arc::clone(&shared),
    };
    let read = Read {
        fetch: plan.fetch,
        order: plan.order,
        schedule: plan.schedule,
        part: plan.part,
        shared: Arc::clone(&shared),
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    thread("slaf-read").spawn(move || read.run(&send_rack))?;
    thread("slaf-make").spawn(move || make.run(&racks, &send_batch))?;
    Ok(LoadedBatches { batches, shared, left, _span: span })
}

/// Reads packed rows, ahead of the decoding.
struct Read {
    fetch: Fetch,
    order: Epoch,
    schedule: Schedule,
    part: EpochPart,
    shared: Arc<Shared>,
}

impl Read {
    fn run(mut self, racks: &SyncSender<Result<Rack>>) {
        let (mut step, end) = (self.part.skip, self.schedule.steps(self.part.shard));
        while step < end && !self.shared.is_stopped() {
            let (cells, batches) = self.plan(&mut step, end);
            let rack = self.read(&cells, batches);
            let failed = rack.is_err();
            // The receiver is gone when the batches are not wanted any more.
            if racks.send(rack).is_err() || failed {
                return;
            }
        }
    }

    /// The cells of the next batches, as many as are read at once.
    fn plan(&mut self, step: &mut u64, end: u64) -> (Vec<u64>, Vec<std::ops::Range<usize>>) {
        let shard = self.part.shard;
        let stop_at = self.order.read_end(self.schedule.positions(shard, *step).start);
        let rows = self.fetch.next_rows(stop_at.is_some());
        let (mut cells, mut batches) = (Vec::with_capacity(rows), Vec::new());
        while *step < end {
            let positions = self.schedule.positions(shard, *step);
            let is_beyond = stop_at.is_some_and(|e| positions.start >= e);
            let is_full = cells.len() as u64 + (positions.end - positions.start) > rows as u64;
            if !batches.is_empty() && (is_beyond || is_full) {
                break;
            }
            let first = cells.len();
            self.order.cells(positions, &mut cells);
            batches.push(first..cells.len());
            *step += 1;
        }
        (cells, batches)
    }

    fn read(&self, cells: &[u64], batches: Vec<std::ops::Range<usize>>) -> Result<Rack> {
        let rack = block_on(async {
            tokio::select! {
                rack = self.fetch.read(cells, batches) => rack,
                () = self.shared.stop.notified() => Err(Error::new(ErrorKind::Interrupted, "the loader was stopped")),
            }
        })?;
        self.shared.counters.bytes_read.fetch_add(rack.bytes_read(), Ordering::Relaxed);
        Ok(rack)
    }
}

/// Decodes and tokenizes.
struct Make {
    sources: Arc<Vec<Prepared>>,
    form: Form,
    random: (u64, u64),
    shared: Arc<Shared>,
}

impl Make {
    fn run(&self, racks: &Receiver<Result<Rack>>, batches: &SyncSender<Result<LoadedBatch>>) {
        let counters = &self.shared.counters;
        while let Ok(rack) = timed(&counters.read_wait, || racks.recv()) {
            let done = rack.and_then(|rack| self.rack(&rack, batches));
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => {
                    // Who does not wait for batches does not wait for the error either.
                    drop(batches.send(Err(e)));
                    return;
                }
            }
        }
    }

    /// False if the batches are not wanted any more.
    fn rack(&self, rack: &Rack, batches: &SyncSender<Result<LoadedBatch>>) -> Result<bool> {
        let mut next = 0;
        while next < rack.batches.len() {
            let size = rack.batches[next].len().max(1);
            let group = next..(next + (GROUP_CELLS / size).max(pool_threads()?)).min(rack.batches.len());
            next = group.end;
            if self.shared.is_stopped() {
                return Ok(false);
            }
            let build = |batch| build(&self.sources, rack, batch, self.form, self.random);
            let made: Vec<Result<LoadedBatch>> = in_pool(|| Ok(group.into_par_iter().map(build).collect()))?;
            for batch in made {
                let batch = batch?;
                if !timed(&self.shared.counters.producer_wait, || batches.send(Ok(batch)).is_ok()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl LoadedBatches {
    /// Waits for the next batch, but not longer than this; `None` if it takes longer.
    ///
    /// # Errors
    /// Those of reading and tokenizing.
    pub fn next_within(&mut self, limit: Duration) -> Option<Option<Result<LoadedBatch>>> {
        if self.left == 0 {
            return Some(None);
        }
        let counters = &self.shared.counters;
        let result = match timed(&counters.consumer_wait, || self.batches.recv_timeout(limit)) {
            Err(RecvTimeoutError::Timeout) => return None,
            Ok(result) => result,
            // Batches are missing, and nobody said why.
            Err(RecvTimeoutError::Disconnected) => Err(Error::new(
                ErrorKind::Internal,
                "a thread of the loader panicked (see stderr); this is a defect of slaf, please report it",
            )),
        };
        match &result {
            Ok(batch) => {
                self.left -= 1;
                let tokens = match &batch.data {
                    BatchData::Tokens { attention_mask, .. } => attention_mask.iter().filter(|m| **m).count() as u64,
                    _ => 0,
                };
                counters.delivered(batch.cells.len(), tokens);
            }
            Err(_) => self.left = 0,
        }
        Some(Some(result))
    }

    /// Batches that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// How fast the epoch has been so far, and who waited.
    pub fn stats(&self) -> LoaderStats {
        self.shared.counters.get()
    }
}

impl Iterator for LoadedBatches {
    type Item = Result<LoadedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.next_within(Duration::from_secs(3600)) {
                return next;
            }
        }
    }
}

impl Drop for LoadedBatches {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.stop.notify_one();
    }
}
