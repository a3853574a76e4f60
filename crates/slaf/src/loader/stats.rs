//! How fast a loader is, and who waits for whom.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What a running epoch has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct LoaderStats {
    /// Batches that were handed out.
    pub batches: u64,
    /// Cells in these batches.
    pub cells: u64,
    /// Tokens that are not padding.
    pub tokens: u64,
    /// Bytes of packed rows that were read, rows that lie between wanted ones included.
    pub bytes_read: u64,
    /// Seconds since the start until the first batch was handed out.
    pub first_batch_seconds: f64,
    /// Seconds since the start until the last batch was handed out, or until now.
    pub seconds: f64,
    /// Seconds in which the consumer waited for a batch.
    pub consumer_wait_seconds: f64,
    /// Seconds in which finished batches waited for the consumer.
    pub producer_wait_seconds: f64,
    /// Seconds in which decoding waited for rows that were being read.
    pub read_wait_seconds: f64,
}

/// What the threads of an epoch count.
pub(super) struct Counters {
    begun: Instant,
    pub(super) batches: AtomicU64,
    pub(super) cells: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    pub(super) consumer_wait: AtomicU64,
    pub(super) producer_wait: AtomicU64,
    pub(super) read_wait: AtomicU64,
}

impl Counters {
    pub(super) fn start() -> Counters {
        Counters {
            begun: Instant::now(),
            batches: AtomicU64::new(0),
            cells: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            consumer_wait: AtomicU64::new(0),
            producer_wait: AtomicU64::new(0),
            read_wait: AtomicU64::new(0),
        }
    }

    /// The consumer got a batch.
    pub(super) fn delivered(&self, cells: usize, tokens: u64) {
        let now = nanos(self.begun.elapsed());
        if self.batches.fetch_add(1, Relaxed) == 0 {
            self.first.store(now, Relaxed);
        }
        self.last.store(now, Relaxed);
        self.cells.fetch_add(cells as u64, Relaxed);
        self.tokens.fetch_add(tokens, Relaxed);
    }

    pub(super) fn get(&self) -> LoaderStats {
        let seconds = |counter: &AtomicU64| counter.load(Relaxed) as f64 / 1e9;
        LoaderStats {
            batches: self.batches.load(Relaxed),
            cells: self.cells.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            first_batch_seconds: seconds(&self.first),
            seconds: seconds(&self.last),
            consumer_wait_seconds: seconds(&self.consumer_wait),
            producer_wait_seconds: seconds(&self.producer_wait),
            read_wait_seconds: seconds(&self.read_wait),
        }
    }
}

/// Runs `work` and adds the time that it takes to a counter.
pub(super) fn timed<T>(counter: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    counter.fetch_add(nanos(begun.elapsed()), Relaxed);
    result
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
