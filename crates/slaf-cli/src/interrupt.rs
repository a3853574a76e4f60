//! Ctrl-C, and the signals by which systems end a process.

use crate::failure::{Failure, Outcome, status};
use crate::progress::Bar;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use slaf::{Error, ErrorKind, Progress};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
const SIGNALS: [c_int; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [c_int; 2] = [SIGINT, SIGTERM];

/// How long a change of a store has to remove what it wrote. A store that does not answer must not hold up who
/// wants to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often who waits looks for signals.
const LOOK: Duration = Duration::from_millis(50);

/// A signal during a command: the first one is remembered here, a second one ends the process.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<Signals>);

#[derive(Debug)]
struct Signals {
    came: Arc<AtomicBool>,
    which: Arc<AtomicUsize>,
    handlers: Vec<SigId>,
}

impl Interrupt {
    pub(crate) fn new() -> Outcome<Interrupt> {
        // Whoever started the command so, `nohup` or a shell without job control, wants it to go on.
        let heeded: Vec<c_int> = SIGNALS.into_iter().filter(|&signal| action(signal) != Action::Ignore).collect();
        Commands::begin()?;
        let mut signals = Signals { came: Arc::default(), which: Arc::default(), handlers: Vec::new() };
        for signal in heeded {
            // In this order: the first one must find the flag unset in the handler that ends.
            let (came, which) = (&signals.came, &signals.which);
            let handlers = [
                flag::register_conditional_shutdown(signal, status(signal), Arc::clone(came))?,
                flag::register_usize(signal, Arc::clone(which), signal as usize)?,
                flag::register(signal, Arc::clone(came))?,
            ];
            signals.handlers.extend(handlers);
        }
        Ok(Interrupt(Arc::new(signals)))
    }

    /// Whether a signal came.
    pub(crate) fn came(&self) -> bool {
        self.0.came.load(Ordering::Relaxed)
    }

    /// The signal that came.
    pub(crate) fn signal(&self) -> Option<c_int> {
        self.came().then(|| self.0.which.load(Ordering::Relaxed) as c_int)
    }

    /// Does `work` in a thread of its own and does not wait for it after a signal: for work that
    /// only reads, so that nothing is lost when the process ends in the midst of it.
    pub(crate) fn abandonable<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.wait(Duration::ZERO, work)?
            .unwrap_or_else(|| Err(Failure::Failed(Error::new(ErrorKind::Interrupted, "interrupted"))))
    }

    /// Does `work`, which writes, in a thread of its own: after a signal it is asked to stop, and has some time to
    /// remove what it wrote.
    pub(crate) fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(Progress<'_>) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let bar = Bar::new(self.clone());
        let shown = bar.clone();
        let done = self.wait(PATIENCE, move || work(&|event| shown.update(event)));
        bar.clear();
        done?.unwrap_or(Err(Failure::Abandoned))
    }

    /// What `work` gives, or `None` if it had not ended so long after a signal.
    fn wait<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<Option<Outcome<T>>> {
        let (done, result) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().stack_size(slaf::STACK).spawn(move || {
            // The receiver is gone if nobody waits any more.
            let _ = done.send(work());
        })?;
        let mut since = None;
        loop {
            match result.recv_timeout(LOOK) {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(RecvTimeoutError::Timeout) if self.came() => {
                    if since.get_or_insert_with(Instant::now).elapsed() >= patience {
                        return Ok(None);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(panic) = thread.join() {
                        std::panic::resume_unwind(panic);
                    }
                    return Err(Failure::Failed(Error::new(ErrorKind::Internal, "a worker ended without a result")));
                }
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for &id in &self.handlers {
            low_level::unregister(id);
        }
        Commands::end();
    }
}

/// The commands that run in this process. Signals that ended it before the first one do so again when there is none:
/// unregistering alone would leave them ignored.
struct Commands {
    running: usize,
    idle: Option<Arc<AtomicBool>>,
}

static COMMANDS: Mutex<Commands> = Mutex::new(Commands { running: 0, idle: None });

impl Commands {
    fn begin() -> Outcome {
        let mut commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = match &commands.idle {
            Some(idle) => Arc::clone(idle),
            None => {
                let idle = Arc::new(AtomicBool::new(true));
                for signal in SIGNALS.into_iter().filter(|&signal| action(signal) == Action::Default) {
                    flag::register_conditional_default(signal, Arc::clone(&idle))?;
                }
                idle
            }
        };
        idle.store(false, Ordering::Relaxed);
        commands.idle = Some(idle);
        commands.running += 1;
        Ok(())
    }

    fn end() {
        let mut commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        commands.running -= 1;
        if let Some(idle) = commands.idle.as_ref().filter(|_| commands.running == 0) {
            idle.store(true, Ordering::Relaxed);
        }
    }
}

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Default,
    Ignore,
    Handler,
}

#[cfg(unix)]
fn action(signal: c_int) -> Action {
    // SAFETY: asks for the action of the signal and sets none; zeros are a valid action.
    let (asked, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &mut action), action.sa_sigaction)
    };
    match action {
        libc::SIG_IGN if asked == 0 => Action::Ignore,
        libc::SIG_DFL if asked == 0 => Action::Default,
        _ => Action::Handler,
    }
}

#[cfg(not(unix))]
fn action(_: c_int) -> Action {
    Action::Default
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_signal_ends_reading_at_once_and_gives_writing_time() {
        let interrupt = Interrupt::new().unwrap();
        assert_eq!(interrupt.abandonable(|| Ok(7)).unwrap(), 7);
        assert_eq!(interrupt.signal(), None);
        low_level::raise(SIGTERM).unwrap();
        assert_eq!(interrupt.signal(), Some(SIGTERM));
        let (_hold, wait) = mpsc::channel::<()>();
        let read = interrupt.abandonable(move || Ok(wait.recv().is_ok()));
        assert!(matches!(read, Err(Failure::Failed(e)) if e.kind() == ErrorKind::Interrupted));
        let event = slaf::ProgressEvent { phase: "cells", cells_done: 0, cells_total: 0 };
        let written = interrupt.change(move |progress| {
            thread::sleep(4 * LOOK);
            Ok(progress(event))
        });
        assert!(!written.unwrap());
        let (hold, wait) = mpsc::channel::<()>();
        let started = Instant::now();
        let stuck = interrupt.change(move |_| Ok(wait.recv().is_ok()));
        assert!(started.elapsed() >= PATIENCE);
        let failure = stuck.unwrap_err();
        assert!(matches!(failure, Failure::Abandoned));
        assert_eq!(failure.report(&mut io::sink(), interrupt.signal()), 143);
        drop(hold);
    }
}
