//! Turns of the writers of a process at a store: they go one after another, where each try of each would make
//! all others lose. Writers of other processes meet as ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Who has its turn for so long has much to write: the next does not wait for it, and competes with it.
const LONG_TURN: Duration = Duration::from_secs(1);
/// How often who waits looks whether the turn before has become long.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The longest wait for a lock that is held for a moment: a child that was forked in that moment finds it held
/// for good.
const LONGEST_MOMENT: Duration = Duration::from_secs(1);

/// A store and the process that writes: after a fork nobody waits for a thread of the parent.
type Whose = (u32, String);

#[derive(Default)]
struct Queue {
    /// Whose turn it is, and since when.
    taken: Option<(u64, Instant)>,
    /// Who waits, the longest first.
    waiting: VecDeque<(u64, Thread)>,
}

static QUEUES: Mutex<BTreeMap<Whose, Queue>> = Mutex::new(BTreeMap::new());
static TICKETS: AtomicU64 = AtomicU64::new(0);

/// The turn of a writer, until it is dropped or the next has waited too long.
pub(super) struct Turn {
    whose: Whose,
    ticket: u64,
}

impl Turn {
    /// Waits for a turn at a store.
    pub(super) fn wait(uri: &str) -> Turn {
        let whose = (std::process::id(), uri.to_string());
        let turn = Turn { whose, ticket: TICKETS.fetch_add(1, Ordering::Relaxed) };
        let mut is_queued = false;
        while let Some(mut queues) = lock() {
            let queue = queues.entry(turn.whose.clone()).or_default();
            if !is_queued {
                queue.waiting.push_back((turn.ticket, std::thread::current()));
                is_queued = true;
            }
            let is_next = queue.waiting.front().is_some_and(|(first, _)| *first == turn.ticket);
            if is_next && queue.taken.is_none_or(|(_, since)| since.elapsed() >= LONG_TURN) {
                queue.waiting.pop_front();
                queue.taken = Some((turn.ticket, Instant::now()));
                break;
            }
            drop(queues);
            std::thread::park_timeout(LOOK_AGAIN);
        }
        turn
    }

    /// Whether nobody else has taken it since.
    pub(super) fn is_held(&self) -> bool {
        let queues = lock();
        let queue = queues.as_ref().and_then(|queues| queues.get(&self.whose));
        queue.and_then(|queue| queue.taken).is_some_and(|(ticket, _)| ticket == self.ticket)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut queues) = lock() else { return };
        let Some(queue) = queues.get_mut(&self.whose) else { return };
        queue.taken = queue.taken.filter(|(ticket, _)| *ticket != self.ticket);
        match (queue.taken, queue.waiting.front()) {
            (None, Some((_, next))) => next.unpark(),
            (None, None) => drop(queues.remove(&self.whose)),
            _ => {}
        }
    }
}

fn lock() -> Option<MutexGuard<'static, BTreeMap<Whose, Queue>>> {
    let until = Instant::now() + LONGEST_MOMENT;
    loop {
        match QUEUES.try_lock() {
            Ok(queues) => return Some(queues),
            Err(TryLockError::Poisoned(poisoned)) => return Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    #[test]
    fn who_waits_longest_is_next() {
        let first = Turn::wait("one");
        let order = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..5)
            .map(|i| {
                let order = order.clone();
                let thread = std::thread::spawn(move || {
                    let turn = Turn::wait("one");
                    order.lock().unwrap().push(i);
                    drop(turn);
                });
                let waiting = || QUEUES.lock().unwrap().get(&first.whose).map_or(0, |q| q.waiting.len());
                while waiting() <= i {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        assert!(first.is_held() && order.lock().unwrap().is_empty());
        drop(first);
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert!(!QUEUES.lock().unwrap().keys().any(|(_, uri)| uri == "one"));
    }

    #[test]
    fn nobody_waits_for_a_long_turn_or_another_store() {
        let long = Turn::wait("long");
        assert!(Turn::wait("other").is_held());
        let (send, taken) = channel();
        let thread = std::thread::spawn(move || {
            let turn = Turn::wait("long");
            send.send(turn.is_held()).unwrap();
            turn
        });
        assert!(taken.recv().unwrap() && !long.is_held());
        // What is over takes nothing from who came after it.
        drop(long);
        let next = thread.join().unwrap();
        assert!(next.is_held());
    }
}
