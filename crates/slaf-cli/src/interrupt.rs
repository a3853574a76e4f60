use crate::failure::{Failure, Outcome};
use signal_hook::SigId;
use signal_hook::consts::SIGINT;
use signal_hook::{flag, low_level};
use slaf::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Ctrl-C during a command: the first one is remembered here, a second one ends the process.
#[derive(Debug)]
pub(crate) struct Interrupt {
    pressed: Arc<AtomicBool>,
    handlers: Vec<SigId>,
}

impl Interrupt {
    pub(crate) fn new() -> Outcome<Interrupt> {
        let pressed = Arc::new(AtomicBool::new(false));
        // Whoever started the command so, `nohup` or a shell without job control, wants it to go on.
        if is_ignored() {
            return Ok(Interrupt { pressed, handlers: Vec::new() });
        }
        // In this order: the first press must find the flag unset in the handler that ends.
        let handlers = vec![
            flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&pressed))?,
            flag::register(SIGINT, Arc::clone(&pressed))?,
        ];
        Ok(Interrupt { pressed, handlers })
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Does `work` in a thread of its own and does not wait for it after Ctrl-C: for work that
    /// only reads, so that nothing is lost when the process ends in the midst of it.
    pub(crate) fn abandonable<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let (done, result) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().stack_size(slaf::STACK).spawn(move || {
            // The receiver is gone after Ctrl-C.
            let _ = done.send(work());
        })?;
        loop {
            match result.recv_timeout(Duration::from_millis(50)) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Timeout) if self.is_pressed() => {
                    return Err(Failure::Failed(Error::new(ErrorKind::Interrupted, "interrupted")));
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

/// Whether the process was started with Ctrl-C ignored.
#[cfg(unix)]
fn is_ignored() -> bool {
    // SAFETY: asks for the action of the signal and sets none; zeros are a valid action.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGINT, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn is_ignored() -> bool {
    false
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for &id in &self.handlers {
            low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_abandoned_after_ctrl_c() {
        // The tests may have been started with Ctrl-C ignored.
        // SAFETY: the default action runs no code of ours.
        unsafe {
            libc::signal(SIGINT, libc::SIG_DFL);
        }
        let interrupt = Interrupt::new().unwrap();
        assert_eq!(interrupt.abandonable(|| Ok(7)).unwrap(), 7);
        low_level::raise(SIGINT).unwrap();
        let (_hold, wait) = mpsc::channel::<()>();
        let outcome = interrupt.abandonable(move || Ok(wait.recv().is_ok()));
        assert!(matches!(outcome, Err(Failure::Failed(e)) if e.kind() == ErrorKind::Interrupted));
    }
}
