//! Workers on this machine: processes, each with a share of the processors.
//!
//! A process that dies takes its part with it, and another one converts it again. A process is told to
//! end by the end of its input, so that it ends also when this one dies.

use super::super::job::tick;
use super::super::options::ConvertOptions;
use super::super::report::ConvertReport;
use super::plan::Distributed;
use super::serve::{DONE, FAILED, PROGRESS, TASK, error_from_bytes, read_frame, write_frame};
use crate::progress::Progress;
use slaf_core::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a part is begun before the conversion fails.
const ATTEMPTS: u32 = 3;
/// How often `progress` is asked whether to go on.
const POLL: Duration = Duration::from_millis(50);
/// How long a process may take to end of itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Settings of the numbers of threads of a process, where the user has none.
const THREADS: [&str; 3] = ["RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS"];

/// Processes that convert parts.
#[derive(Clone, Debug)]
pub struct Workers {
    /// How many there are at a time, at most; there are no more than parts.
    pub count: usize,
    /// The program and its arguments: one that calls [`serve`](super::serve) with its standard input and
    /// output.
    pub command: Vec<OsString>,
}

/// Converts as [`convert`](crate::convert()), with worker processes on this machine. `options.memory` is
/// what each of them may hold. The most cells of a part are as [`Distributed::plan`] has them.
///
/// A worker that dies is replaced, and its part begun again, three times at most.
///
/// # Errors
/// Those of [`convert`](crate::convert()); `conflict` for an input that changes meanwhile; `io` if a part
/// ends its worker each time, naming the part and its input.
pub fn convert_with_workers(
    inputs: &[&Path],
    output: &str,
    options: &ConvertOptions,
    part_cells: Option<u64>,
    workers: &Workers,
    progress: Progress<'_>,
) -> Result<ConvertReport> {
    if workers.count == 0 || workers.command.is_empty() {
        return Err(Error::invalid("a conversion by no workers"));
    }
    let mut plan = Distributed::plan(inputs, output, options, part_cells, progress)?;
    let results = match run(&plan, workers, progress) {
        Ok(results) => results,
        Err(e) => {
            // All workers have ended: nothing is written after this.
            plan.abandon();
            return Err(e);
        }
    };
    plan.finish(&results, progress)
}

/// What a thread that minds a worker tells.
enum Event {
    Progress(usize, u64),
    Done(usize, Vec<u8>),
    Failed(Error),
}

/// Parts that wait, and how many are not done.
struct Queue {
    waiting: VecDeque<(usize, u32)>,
    left: usize,
}

struct Crew<'a> {
    plan: &'a Distributed,
    workers: &'a Workers,
    threads: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
    stop: AtomicBool,
    /// The process of each worker, while there is one.
    processes: Vec<Mutex<Option<Child>>>,
}

/// Converts all parts; gives the results, in no order. No process is left.
fn run(plan: &Distributed, workers: &Workers, progress: Progress<'_>) -> Result<Vec<Vec<u8>>> {
    let n = plan.n_parts();
    let count = workers.count.min(n);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let crew = Crew {
        plan,
        workers,
        threads: (cores / count).max(1),
        queue: Mutex::new(Queue { waiting: (0..n).map(|part| (part, 1)).collect(), left: n }),
        changed: Condvar::new(),
        stop: AtomicBool::new(false),
        processes: (0..count).map(|_| Mutex::default()).collect(),
    };
    let (tell, events) = channel();
    std::thread::scope(|scope| {
        for worker in 0..count {
            let (crew, tell) = (&crew, tell.clone());
            let mind = move || {
                if let Err(e) = crew.mind(worker, &tell) {
                    // Nobody listens after the first error.
                    let _ = tell.send(Event::Failed(e));
                }
                crew.end(worker, PATIENCE);
            };
            if let Err(e) = std::thread::Builder::new().name("slaf-worker".into()).spawn_scoped(scope, mind) {
                crew.stop();
                return Err(e.into());
            }
        }
        drop(tell);
        let (mut results, mut done) = (Vec::new(), vec![0; n]);
        let outcome = loop {
            if let Err(e) = tick(progress, "cells", done.iter().sum(), plan.n_cells_of_all()) {
                break Err(e);
            }
            match events.recv_timeout(POLL) {
                Ok(Event::Progress(part, cells)) => done[part] = cells,
                Ok(Event::Done(part, result)) => {
                    done[part] = plan.n_cells(part);
                    results.push(result);
                    if results.len() == n {
                        break Ok(results);
                    }
                }
                Ok(Event::Failed(e)) => break Err(e),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(Error::new(ErrorKind::Internal, "the workers ended before their work"));
                }
            }
        };
        if outcome.is_err() {
            crew.stop();
        }
        outcome
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crew<'_> {
    /// Lets a worker convert parts, as long as there are some.
    fn mind(&self, worker: usize, tell: &Sender<Event>) -> Result<()> {
        let mut pipes = None;
        while let Some((part, attempt)) = self.next() {
            let task = self.plan.task(part)?;
            if pipes.is_none() {
                pipes = Some(self.start(worker)?);
            }
            let Some((to, from)) = &mut pipes else { return Ok(()) };
            let result = match write_frame(to, TASK, &task) {
                Ok(()) => wait_for(from, part, tell),
                Err(e) => Err(e),
            };
            match result {
                Ok(Some(Ok(result))) => {
                    self.done();
                    // Nobody listens after an error of another worker.
                    let _ = tell.send(Event::Done(part, result));
                }
                Ok(Some(Err(e))) => return Err(e),
                _ if self.stop.load(Ordering::Relaxed) => return Ok(()),
                died => {
                    pipes = None;
                    let status = self.end(worker, PATIENCE);
                    let _ = tell.send(Event::Progress(part, 0));
                    if attempt == ATTEMPTS {
                        return Err(self.gave_up(part, status, died.err()));
                    }
                    self.again(part, attempt + 1);
                }
            }
        }
        Ok(())
    }

    fn gave_up(&self, part: usize, status: Option<ExitStatus>, error: Option<std::io::Error>) -> Error {
        let how = match (&error, status) {
            (Some(e), _) if e.kind() == std::io::ErrorKind::InvalidData => format!("wrote {e}"),
            (_, Some(status)) => format!("ended ({status})"),
            (Some(e), None) => format!("ended ({e})"),
            (None, None) => "ended".to_string(),
        };
        let what = format!(
            "its worker {how}, {ATTEMPTS} times: the system ends processes that take too much memory, in which case \
             fewer workers or less memory for each (--memory, memory=) help"
        );
        Error::new(ErrorKind::Io, what).at(self.plan.shown(part))
    }

    /// The next part; waits while a part may come back from a worker that dies.
    fn next(&self) -> Option<(usize, u32)> {
        let mut queue = lock(&self.queue);
        loop {
            if self.stop.load(Ordering::Relaxed) || queue.left == 0 {
                return None;
            }
            if let Some(next) = queue.waiting.pop_front() {
                return Some(next);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self) {
        lock(&self.queue).left -= 1;
        self.changed.notify_all();
    }

    fn again(&self, part: usize, attempt: u32) {
        lock(&self.queue).waiting.push_back((part, attempt));
        self.changed.notify_all();
    }

    fn start(&self, worker: usize) -> Result<(ChildStdin, ChildStdout)> {
        let [program, args @ ..] = &self.workers.command[..] else {
            return Err(Error::invalid("a worker without a program"));
        };
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        for name in THREADS.into_iter().filter(|name| std::env::var_os(name).is_none()) {
            command.env(name, self.threads.to_string());
        }
        // Ctrl-C is for this process, which ends the others.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |e| Error::from(e).at(Path::new(program).display());
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let mut slot = lock(&self.processes[worker]);
        *slot = Some(child);
        // One that is stopped before it is known would not be ended.
        if self.stop.load(Ordering::Relaxed)
            && let Some(child) = &mut *slot
        {
            let _ = child.kill();
        }
        pipes.ok_or_else(|| Error::new(ErrorKind::Internal, "a process without pipes"))
    }

    /// Waits for the end of a process, which has no input any more; ends it if that takes too long.
    fn end(&self, worker: usize, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        let mut slot = lock(&self.processes[worker]);
        let mut child = slot.take()?;
        while begun.elapsed() < patience && !self.stop.load(Ordering::Relaxed) {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => break,
            }
        }
        // It fails for a process that has ended.
        let _ = child.kill();
        child.wait().ok()
    }

    /// Ends all processes.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for process in &self.processes {
            if let Some(child) = &mut *lock(process) {
                let _ = child.kill();
            }
        }
        // A thread that is about to wait has the lock.
        drop(lock(&self.queue));
        self.changed.notify_all();
    }
}

/// What a worker says of a part: its result, or its error; `None` if it says nothing more.
fn wait_for(from: &mut ChildStdout, part: usize, tell: &Sender<Event>) -> std::io::Result<Option<Result<Vec<u8>>>> {
    while let Some((kind, content)) = read_frame(from)? {
        match (kind, content.first_chunk::<8>()) {
            (DONE, _) => return Ok(Some(Ok(content))),
            (FAILED, _) => return Ok(Some(Err(error_from_bytes(&content)))),
            (PROGRESS, Some(cells)) => {
                let _ = tell.send(Event::Progress(part, u64::from_le_bytes(*cells)));
            }
            _ => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "something else than a result")),
        }
    }
    Ok(None)
}
