//! The one tokio runtime behind the blocking API.

use std::future::Future;
use std::sync::Mutex;
use tokio::runtime::{Builder, Runtime};

/// The runtime and the process that made it: its threads do not survive a fork, so a child makes
/// its own.
static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

pub(crate) fn runtime() -> slaf_core::Result<&'static Runtime> {
    let mut slot = RUNTIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pid = std::process::id();
    if let Some((owner, runtime)) = *slot
        && owner == pid
    {
        return Ok(runtime);
    }
    let runtime: &'static Runtime =
        Box::leak(Box::new(Builder::new_multi_thread().enable_all().thread_name("slaf").build()?));
    *slot = Some((pid, runtime));
    Ok(runtime)
}

/// Runs a future to its end. Must not be called from inside of the runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = slaf_core::Result<T>>) -> slaf_core::Result<T> {
    runtime()?.block_on(future)
}
