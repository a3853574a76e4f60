//! Rust work that Python can interrupt.
//!
//! The work runs in another thread, and the calling thread waits for it without the GIL,
//! looking for signals ten times a second. So Ctrl-C ends every call within a second, whatever
//! the work is waiting for. Where Python handles no signals, in all threads but the main one, work
//! that is soon done runs in the calling thread.

use crate::ending::detached;
use crate::error::to_py;
use pyo3::prelude::*;
use slaf::{Cancel, Error, ErrorKind, ProgressEvent};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
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
/// Bytes of stack that work which is soon done may need.
const SMALL_STACK: usize = 4 << 20;
/// Threads that wait for work.
const MOST_IDLE: usize = 4;

/// Runs `work` as [`run`] does, or in the calling thread if `is_small` and no signal can come there.
pub(crate) fn run_small<T, F>(py: Python<'_>, is_small: bool, work: F) -> PyResult<T>
where
    T: Send + 'static,
    F: FnOnce() -> slaf::Result<T> + Send + 'static,
{
    let has_stack = || stacker::remaining_stack().is_some_and(|left| left >= SMALL_STACK);
    if !is_small || !has_stack() || gets_signals(py)? {
        return run(py, work);
    }
    let result = detached(py, || catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|_| Err(panicked()));
    result.map_err(|e| to_py(py, &e))
}

/// Whether this is the thread in which Python handles signals.
fn gets_signals(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        // With the process: the thread that forks is the main one of its child.
        static KNOWN: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    }
    let here = std::process::id();
    if let Some((process, is_main)) = KNOWN.get()
        && process == here
    {
        return Ok(is_main);
    }
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    let is_main = threading.call_method0("get_ident")?.eq(main)?;
    KNOWN.set(Some((here, is_main)));
    Ok(is_main)
}

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
    // The receiver is gone when the call was interrupted.
    hand_over(Box::new(move || drop(sender.send(work())))).map_err(|e| to_py(py, &e.into()))?;
    Ok(receiver)
}

type Waited<T> = (Option<slaf::Result<T>>, Receiver<slaf::Result<T>>);

/// Waits for one poll interval; the receiver travels along because it cannot be shared.
fn wait<T: Send + 'static>(py: Python<'_>, results: Receiver<slaf::Result<T>>) -> Waited<T> {
    detached(py, move || {
        let received = match results.recv_timeout(POLL) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(panicked())),
        };
        (received, results)
    })
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "a worker thread panicked (see stderr); this is a defect of slaf, please report it")
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that wait for a job, and the process that they are in: to start one takes longer than
/// much of the work.
static IDLE: Mutex<(u32, Vec<SyncSender<Job>>)> = Mutex::new((0, Vec::new()));

/// The idle threads of this process; `None` where others have them just now.
fn idle<T>(with: impl FnOnce(&mut Vec<SyncSender<Job>>) -> T) -> Option<T> {
    // A fork may have left the lock with a thread that is not in the child.
    let mut idle = IDLE.try_lock().ok()?;
    let here = std::process::id();
    if idle.0 != here {
        // Dropped, they would wake threads that are not here.
        std::mem::forget(std::mem::replace(&mut *idle, (here, Vec::new())));
    }
    Some(with(&mut idle.1))
}

/// Lets a thread do a job.
fn hand_over(mut job: Job) -> std::io::Result<()> {
    while let Some(thread) = idle(Vec::pop).flatten() {
        match thread.send(job) {
            Ok(()) => return Ok(()),
            Err(SendError(back)) => job = back,
        }
    }
    let thread = std::thread::Builder::new().name("slaf-call".into()).stack_size(slaf::STACK);
    thread.spawn(move || do_jobs(job)).map(drop)
}

/// Does a job, and then those that come; ends where enough others wait.
fn do_jobs(first: Job) {
    first();
    loop {
        let (sender, jobs) = sync_channel(1);
        // Dropped where there is no room, it sends no job.
        idle(|idle| {
            if idle.len() < MOST_IDLE {
                idle.push(sender);
            }
        });
        match jobs.recv() {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
