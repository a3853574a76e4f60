//! Work that threads share.

use slaf_core::STACK;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope};

/// Hands out the next piece of work.
pub(crate) fn next<T: Iterator>(of: &Mutex<T>) -> Option<T::Item> {
    of.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Starts a thread whose work may read from a store.
pub(crate) fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) -> io::Result<()> {
    Builder::new().stack_size(STACK).spawn_scoped(scope, work).map(|_| ())
}

/// Does the same in so many threads, or in as many as can be had, and waits for them.
pub(crate) fn on_threads(threads: usize, work: impl Fn() + Sync) {
    if threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        for _ in 1..threads {
            if spawn(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}
