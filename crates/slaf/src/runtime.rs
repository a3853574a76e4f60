//! The threads behind the blocking API: one tokio runtime for reading and writing, one rayon pool
//! for decoding and packing.

use rayon::{ThreadPool, ThreadPoolBuilder};
use slaf_core::{Error, ErrorKind, Result};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::runtime::{Builder, Runtime};

/// Something with threads, and the process that made it: threads do not survive a fork, so a
/// child makes its own.
type Slot<T> = Mutex<Option<(u32, &'static T)>>;

static RUNTIME: Slot<Runtime> = Mutex::new(None);
static POOL: Slot<ThreadPool> = Mutex::new(None);

fn of_this_process<T>(slot: &Slot<T>, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if let Some((owner, made)) = *slot
        && owner == pid
    {
        return Ok(made);
    }
    let made: &'static T = Box::leak(Box::new(make()?));
    *slot = Some((pid, made));
    Ok(made)
}

pub(crate) fn runtime() -> Result<&'static Runtime> {
    of_this_process(&RUNTIME, || Ok(Builder::new_multi_thread().enable_all().thread_name("slaf").build()?))
}

/// Runs a future to its end. Must not be called from inside of the runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(future)
}

/// Runs a computation whose parallel iterators use our pool.
pub(crate) fn in_pool<T: Send>(compute: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = of_this_process(&POOL, || {
        ThreadPoolBuilder::new()
            .thread_name(|i| format!("slaf-compute-{i}"))
            .build()
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start threads: {e}")))
    })?;
    pool.install(compute)
}
