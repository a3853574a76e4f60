//! Work that threads share.

use std::sync::{Mutex, PoisonError};

/// Hands out the next piece of work.
pub(crate) fn next<T: Iterator>(of: &Mutex<T>) -> Option<T::Item> {
    of.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Does the same in so many threads, and waits for them.
pub(crate) fn on_threads(threads: usize, work: impl Fn() + Sync) {
    if threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}
