//! What is asked of an object store, counted: requests by kind, bytes, and the time that was waited.

use crate::layer::{Layer, Operation, Request};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::Result;
use std::fmt;
use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was asked of an object store, and what it answered. The difference of two is what happened
/// in between.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct IoStats {
    /// Requests for bytes of an object, all or some.
    pub gets: u64,
    /// Requests for the length of an object.
    pub heads: u64,
    /// Listings, each of which the store may have answered in several pages.
    pub lists: u64,
    /// Requests that make or change objects, the parts of large ones each.
    pub puts: u64,
    /// Objects that were removed.
    pub deletes: u64,
    /// Bytes of objects that were received.
    pub bytes_read: u64,
    /// Bytes of objects that were sent.
    pub bytes_written: u64,
    /// How often something was in memory that would have been asked for.
    pub cache_hits: u64,
    /// Seconds in which at least one request waited for its answer.
    pub seconds: f64,
}

impl IoStats {
    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.gets + self.heads + self.lists + self.puts + self.deletes
    }
}

impl Sub for IoStats {
    type Output = IoStats;

    fn sub(self, earlier: IoStats) -> IoStats {
        IoStats {
            gets: self.gets.saturating_sub(earlier.gets),
            heads: self.heads.saturating_sub(earlier.heads),
            lists: self.lists.saturating_sub(earlier.lists),
            puts: self.puts.saturating_sub(earlier.puts),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
            bytes_written: self.bytes_written.saturating_sub(earlier.bytes_written),
            cache_hits: self.cache_hits.saturating_sub(earlier.cache_hits),
            seconds: (self.seconds - earlier.seconds).max(0.0),
        }
    }
}

impl fmt::Display for IoStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IoStats { gets, heads, lists, puts, deletes, .. } = *self;
        let kinds = [("get", gets), ("head", heads), ("list", lists), ("put", puts), ("delete", deletes)];
        let kinds: Vec<String> = kinds.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| format!("{n} {kind}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        let IoStats { bytes_read, bytes_written, cache_hits, seconds, .. } = self;
        write!(
            f,
            "{} requests{kinds}, {bytes_read} bytes read, {bytes_written} written, {cache_hits} cache hits, \
             {seconds:.3} s waiting",
            self.requests()
        )
    }
}

/// A layer that counts.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    hits: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// The time that was waited, without counting it twice for requests at the same time.
#[derive(Debug, Default)]
struct Waiting {
    requests: usize,
    since: Option<Instant>,
    before: Duration,
}

impl Meter {
    pub(crate) fn stats(&self) -> IoStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let waiting = self.waiting();
        let seconds = waiting.before + waiting.since.map_or(Duration::ZERO, |since| since.elapsed());
        IoStats {
            gets: count(&self.gets),
            heads: count(&self.heads),
            lists: count(&self.lists),
            puts: count(&self.puts),
            deletes: count(&self.deletes),
            bytes_read: count(&self.read),
            bytes_written: count(&self.written),
            cache_hits: count(&self.hits),
            seconds: seconds.as_secs_f64(),
        }
    }

    /// Counts things that were in memory.
    pub(crate) fn hit(&self, n: usize) {
        self.hits.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, operation: Operation) -> &AtomicU64 {
        match operation {
            Operation::Get => &self.gets,
            Operation::Head => &self.heads,
            Operation::List => &self.lists,
            Operation::Delete => &self.deletes,
            Operation::Put
            | Operation::PutPart
            | Operation::BeginParts
            | Operation::CompleteParts
            | Operation::AbortParts
            | Operation::Copy
            | Operation::Rename => &self.puts,
        }
    }
}

/// A request on its way, also when it is given up.
struct OnItsWay<'a>(&'a Meter);

impl OnItsWay<'_> {
    fn begin(meter: &Meter) -> OnItsWay<'_> {
        let mut waiting = meter.waiting();
        if waiting.requests == 0 {
            waiting.since = Some(Instant::now());
        }
        waiting.requests += 1;
        OnItsWay(meter)
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.requests -= 1;
        if waiting.requests == 0
            && let Some(since) = waiting.since.take()
        {
            waiting.before += since.elapsed();
        }
    }
}

#[async_trait]
impl Layer for Meter {
    async fn around(&self, request: &Request, run: BoxFuture<'_, Result<()>>) -> Result<()> {
        if !request.continued {
            self.of(request.operation).fetch_add(1, Ordering::Relaxed);
            self.written.fetch_add(request.sent as u64, Ordering::Relaxed);
        }
        let _waiting = OnItsWay::begin(self);
        run.await
    }

    fn received(&self, _: &Request, part: Bytes) -> Bytes {
        self.read.fetch_add(part.len() as u64, Ordering::Relaxed);
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use object_store::path::Path;

    #[tokio::test]
    async fn time_of_requests_at_once_counts_once() {
        let meter = Meter::default();
        let get = Request { operation: Operation::Get, path: Path::from("a"), continued: false, sent: 0 };
        let put = Request { operation: Operation::PutPart, sent: 7, ..get.clone() };
        let rest = Request { continued: true, ..get.clone() };
        let slow = || {
            async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(())
            }
            .boxed()
        };
        let before = meter.stats();
        assert_eq!(before, IoStats::default());
        let started = Instant::now();
        let (a, b, c) =
            tokio::join!(meter.around(&get, slow()), meter.around(&put, slow()), meter.around(&rest, slow()));
        a.and(b).and(c).unwrap();
        let stats = meter.stats() - before;
        assert_eq!((stats.gets, stats.puts, stats.bytes_written, stats.requests()), (1, 1, 7, 2));
        assert!(stats.seconds >= 0.05 && stats.seconds <= started.elapsed().as_secs_f64(), "{stats:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(meter.stats().seconds, stats.seconds, "nothing waits");
        // One that is given up waits no longer.
        let never = meter.around(&get, std::future::pending().boxed());
        assert!(tokio::time::timeout(Duration::from_millis(20), never).await.is_err());
        assert_eq!(meter.waiting().requests, 0);
        assert_eq!((meter.stats() - stats).gets, 1);
        let told = IoStats { seconds: 0.0514, ..stats }.to_string();
        assert_eq!(told, "2 requests (1 get, 1 put), 0 bytes read, 7 written, 0 cache hits, 0.051 s waiting");
    }
}
