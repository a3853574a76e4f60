//! Threads that come back from Rust while the interpreter ends.
//!
//! Before Python 3.14 a daemon thread that takes the GIL of an interpreter that ends is unwound by
//! the C library, through the frames of Rust that called it, which ends the process with an abort.
//! So, once the interpreter begins to end, such a thread does not come back, and the interpreter
//! waits for those that are on their way.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// The thread in which the interpreter ends.
static ENDS_IN: Mutex<Option<ThreadId>> = Mutex::new(None);
/// Threads that are about to take the GIL again.
static COMING_BACK: AtomicUsize = AtomicUsize::new(0);

/// How long the interpreter waits for them: one may wait for the GIL behind a thread that keeps it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `work` without the GIL.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let done = py.detach(|| {
        let done = work();
        COMING_BACK.fetch_add(1, Ordering::SeqCst);
        let ends_in = *ENDS_IN.lock().unwrap_or_else(PoisonError::into_inner);
        if ends_in.is_some_and(|thread| thread != thread::current().id()) {
            COMING_BACK.fetch_sub(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        }
        done
    });
    COMING_BACK.fetch_sub(1, Ordering::SeqCst);
    done
}

/// What the interpreter calls when it begins to end.
#[pyfunction]
fn interpreter_ends(py: Python<'_>) {
    *ENDS_IN.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
    py.detach(|| {
        let start = Instant::now();
        while COMING_BACK.load(Ordering::SeqCst) > 0 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Lets the interpreter tell when it begins to end.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let atexit = module.py().import("atexit")?;
    atexit.call_method1("register", (wrap_pyfunction!(interpreter_ends, module)?,))?;
    Ok(())
}
