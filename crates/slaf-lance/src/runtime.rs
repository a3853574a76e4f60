//! The threads behind the blocking API: one tokio runtime for reading and writing, one rayon pool
//! for decoding and packing.

use rayon::{ThreadPool, ThreadPoolBuilder};
use slaf_core::{Error, ErrorKind, Result, STACK};
use std::future::Future;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use tokio::runtime::{Builder, Runtime};

/// Something with threads, and the process that made it: threads do not survive a fork, so a
/// child makes its own.
type Slot<T> = Mutex<Option<(u32, &'static T)>>;

/// Pairs of sockets that are free before tokio opens its own files.
#[cfg(unix)]
const ENOUGH_PAIRS: usize = 5;

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

/// The tokio runtime of this process; a child after a fork gets its own.
///
/// # Errors
/// `io` where the system gives no threads or sockets.
pub fn runtime() -> Result<&'static Runtime> {
    of_this_process(&RUNTIME, || {
        // Tokio panics where it gets no sockets for its signals.
        #[cfg(unix)]
        drop((0..ENOUGH_PAIRS).map(|_| UnixStream::pair()).collect::<std::io::Result<Vec<_>>>()?);
        Ok(Builder::new_multi_thread().enable_all().thread_name("slaf").thread_stack_size(STACK).build()?)
    })
}

/// Runs a future to its end. Must not be called from inside of the runtime.
///
/// # Errors
/// Those of the future.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    // Large ones would be copied from frame to frame.
    runtime()?.block_on(Box::pin(future))
}

fn pool() -> Result<&'static ThreadPool> {
    of_this_process(&POOL, || {
        ThreadPoolBuilder::new()
            .thread_name(|i| format!("slaf-compute-{i}"))
            .build()
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start threads: {e}")))
    })
}

/// How many threads compute at once.
///
/// # Errors
/// `io` if they cannot be started.
pub fn pool_threads() -> Result<usize> {
    Ok(pool()?.current_num_threads())
}

/// Runs a computation whose parallel iterators use our pool. It must not wait for the runtime: a
/// thread of the pool that did could wait for a task that waits for the pool.
///
/// # Errors
/// Those of the computation; `io` if threads cannot be started.
pub fn in_pool<T: Send>(compute: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = pool()?;
    // A thread of the runtime hands its other tasks over before it waits.
    tokio::task::block_in_place(|| pool.install(compute))
}

/// Hands work to the pool and does not wait for it. Work that panics ends there; who waits for what it should send
/// sees the other end of the channel gone.
///
/// # Errors
/// `io` if threads cannot be started.
pub fn spawn_in_pool(work: impl FnOnce() + Send + 'static) -> Result<()> {
    // A panic that leaves a task of the pool ends the process.
    pool()?.spawn(|| drop(catch_unwind(AssertUnwindSafe(work))));
    Ok(())
}
