//! Rust work that Python can interrupt.
//!
//! The work runs in a thread of its own, and the calling thread waits for it without the GIL,
//! looking for signals ten times a second. So Ctrl-C ends every call within a second, whatever
//! the work is waiting for.

use crate::ending::detached;
use crate::error::to_py;
use pyo3::prelude::*;
use slaf::{Cancel, Error, ErrorKind, ProgressEvent};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Stops a query that was given it, from any thread.
#[pyclass(module = "slaf._slaf", name = "Cancel", frozen, from_py_object)]
#[derive(Clone, Default)]
pub(crate) struct PyCancel(pub(crate) Cancel);

#[pymethods]
impl PyCancel {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn cancel(&self) {
        self.0.cancel();
    }
}

const POLL: Duration = Duration::from_millis(100);

/// Runs `work`; an interrupted call leaves it to finish in the background, its result unused.
pub(crate) fn run<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce() -> slaf::Result<T> + Send + 'static,
{
    let mut results = start(py, work)?;
    loop {
        let received;
        (received, results) = wait(py, results);
        match received {
            Some(result) => return result.map_err(|e| to_py(py, &e)),
            None => py.check_signals()?,
        }
    }
}

/// Runs a query; an interrupted call stops it.
pub(crate) fn run_or_cancel<T, F>(py: Python<'_>, cancel: &Cancel, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce() -> slaf::Result<T> + Send + 'static,
{
    let result = run(py, work);
    if result.is_err() {
        cancel.cancel();
    }
    result
}

/// Runs `work`, which reports its progress; an interrupted call waits until it has cleaned up.
///
/// `callback` is called as `callback(phase, done, total)`, at most ten times a second.
pub(crate) fn run_with_progress<T, F>(py: Python<'_>, callback: Option<Py<PyAny>>, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce(slaf::Progress<'_>) -> slaf::Result<T> + Send + 'static,
{
    let state = Arc::new(State::default());
    let shared = Arc::clone(&state);
    let mut results = start(py, move || work(&|event| shared.report(event)))?;
    let mut stopped_by = None;
    loop {
        let received;
        (received, results) = wait(py, results);
        if stopped_by.is_none() {
            let observed = py.check_signals().and_then(|()| state.show(py, callback.as_ref()));
            if let Err(e) = observed {
                state.stop.store(true, Ordering::Relaxed);
                stopped_by = Some(e);
            }
        }
        if let Some(result) = received {
            return match stopped_by {
                Some(e) => Err(e),
                None => result.map_err(|e| to_py(py, &e)),
            };
        }
    }
}

/// What the working and the waiting thread tell each other.
#[derive(Default)]
struct State {
    stop: AtomicBool,
    latest: Mutex<Option<ProgressEvent>>,
}

impl State {
    fn report(&self, event: ProgressEvent) -> bool {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
        !self.stop.load(Ordering::Relaxed)
    }

    fn show(&self, py: Python<'_>, callback: Option<&Py<PyAny>>) -> PyResult<()> {
        let event = self.latest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(callback), Some(event)) = (callback, event) {
            callback.call1(py, (event.phase, event.cells_done, event.cells_total))?;
        }
        Ok(())
    }
}

fn start<T, F>(py: Python<'_>, work: F) -> PyResult<Receiver<slaf::Result<T>>>
where
    T: Send + 'static,
    F: FnOnce() -> slaf::Result<T> + Send + 'static,
{
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("slaf-call".into())
        .stack_size(slaf::STACK)
        // The receiver is gone when the call was interrupted.
        .spawn(move || drop(sender.send(work())))
        .map_err(|e| to_py(py, &e.into()))?;
    Ok(receiver)
}

type Waited<T> = (Option<slaf::Result<T>>, Receiver<slaf::Result<T>>);

/// Waits for one poll interval; the receiver travels along because it cannot be shared.
fn wait<T: Send + 'static>(py: Python<'_>, results: Receiver<slaf::Result<T>>) -> Waited<T> {
    detached(py, move || {
        let received = match results.recv_timeout(POLL) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(Error::new(
                ErrorKind::Internal,
                "a worker thread panicked (see stderr); this is a defect of slaf, please report it",
            ))),
        };
        (received, results)
    })
}
