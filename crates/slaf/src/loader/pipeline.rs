//! The threads of an epoch.

use super::batch::{BatchData, LoadedBatch};
use super::build::build;
use super::fetch::{Fetch, Rack};
use super::options::{EpochPart, Form};
use super::prepared::Prepared;
use super::stats::{Counters, LoaderStats, timed};
use slaf_core::{Error, ErrorKind, Result};
use slaf_kernels::sampling::{Epoch, Schedule};
use slaf_lance::runtime::{block_on, pool_threads, spawn_in_pool};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::Span;

/// Cells that a thread of the pool gets at once: enough to be worth handing over.
const TASK_CELLS: usize = 64;
/// Tasks of the pool beside one for each thread: what is made stays in a cache until it is handed out, and no
/// thread waits for the others.
const AHEAD: usize = 2;

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
    // No room: besides the rack that is decoded, and what the pool still makes of the one before, there is one
    // that is read or waits.
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
    fn plan(&mut self, step: &mut u64, end: u64) -> (Vec<u64>, Vec<Range<usize>>) {
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

    fn read(&self, cells: &[u64], batches: Vec<Range<usize>>) -> Result<Rack> {
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

/// Batches that the pool makes, up to the first that fails.
type Made = Receiver<Vec<Result<LoadedBatch>>>;

/// The batches are handed out, or they are not wanted any more.
#[derive(PartialEq)]
enum Wanted {
    More,
    NoMore,
}

impl Make {
    fn run(self, racks: &Receiver<Result<Rack>>, batches: &SyncSender<Result<LoadedBatch>>) {
        let this = Arc::new(self);
        if let Err(e) = this.make(racks, batches) {
            // Who does not wait for batches does not wait for the error either.
            drop(batches.send(Err(e)));
        }
    }

    /// Hands out the batches of all racks in order, while the pool is at the next ones.
    fn make(self: &Arc<Self>, racks: &Receiver<Result<Rack>>, batches: &SyncSender<Result<LoadedBatch>>) -> Result<()> {
        let most = pool_threads()? + AHEAD;
        let mut tasks = VecDeque::with_capacity(most);
        loop {
            let rack = match racks.try_recv() {
                Ok(rack) => rack,
                // What is made does not wait for what is read.
                Err(_) => {
                    if self.hand_out(&mut tasks, 0, batches)? == Wanted::NoMore {
                        return Ok(());
                    }
                    match timed(&self.shared.counters.read_wait, || racks.recv()) {
                        Ok(rack) => rack,
                        Err(_) => return Ok(()),
                    }
                }
            };
            let rack = match rack {
                Ok(rack) => Arc::new(rack),
                Err(e) => {
                    self.hand_out(&mut tasks, 0, batches)?;
                    return Err(e);
                }
            };
            let mut next = 0;
            while next < rack.batches.len() {
                let size = rack.batches[next].len().max(1);
                let task = next..(next + (TASK_CELLS / size).max(1)).min(rack.batches.len());
                next = task.end;
                if self.hand_out(&mut tasks, most - 1, batches)? == Wanted::NoMore {
                    return Ok(());
                }
                tasks.push_back(self.begin(&rack, task)?);
            }
        }
    }

    /// Lets the pool make some batches of a rack.
    fn begin(self: &Arc<Self>, rack: &Arc<Rack>, task: Range<usize>) -> Result<Made> {
        let (send, made) = sync_channel(1);
        let (this, rack) = (Arc::clone(self), Arc::clone(rack));
        spawn_in_pool(move || {
            let mut done = Vec::with_capacity(task.len());
            for batch in task {
                if this.shared.is_stopped() {
                    return;
                }
                let batch = build(&this.sources, &rack, batch, this.form, this.random);
                let failed = batch.is_err();
                done.push(batch);
                if failed {
                    break;
                }
            }
            // The receiver is gone when the batches are not wanted any more.
            drop(send.send(done));
        })?;
        Ok(made)
    }

    /// Hands out what the first tasks have made, until `left` tasks are left.
    fn hand_out(
        &self,
        tasks: &mut VecDeque<Made>,
        left: usize,
        batches: &SyncSender<Result<LoadedBatch>>,
    ) -> Result<Wanted> {
        while tasks.len() > left {
            // A task that was stopped, or that panicked, sends nothing.
            let Some(Ok(made)) = tasks.pop_front().map(|task| task.recv()) else { return Ok(Wanted::NoMore) };
            for batch in made {
                let batch = batch?;
                if timed(&self.shared.counters.producer_wait, || batches.send(Ok(batch)).is_err()) {
                    return Ok(Wanted::NoMore);
                }
            }
        }
        Ok(if self.shared.is_stopped() { Wanted::NoMore } else { Wanted::More })
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
