//! Parallel work whose results come in order.

use crate::parallel::spawn;
use slaf_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

/// Does `n` pieces of work in `threads` threads, and gives the results to `take` in their order.
///
/// At most two more pieces than threads are begun before they are taken, so that memory is
/// bounded. The first error ends it. The threads are not those of a pool: work may block.
///
/// # Errors
/// Those of `work` and `take`, and of starting a thread.
pub fn in_order<T: Send>(
    n: usize,
    threads: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let threads = threads.clamp(1, n.max(1));
    if n == 1 {
        return take(0, work(0)?);
    }
    let (order, orders) = channel::<usize>();
    let (result, results) = channel();
    let orders = Mutex::new(orders);
    let ahead = threads + 2;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (work, orders, result) = (&work, &orders, result.clone());
            spawn(scope, move || {
                let next = || orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(i) = next() {
                    if result.send((i, work(i))).is_err() {
                        break;
                    }
                }
            })?;
        }
        drop(result);
        // Dropped at the end, on every path: then the threads end.
        let order = order;
        let give = |i: usize| {
            if i < n {
                // It fails when all threads have ended, which shows below.
                let _ = order.send(i);
            }
        };
        (0..ahead).for_each(give);
        let mut done = BTreeMap::new();
        for i in 0..n {
            let value = loop {
                if let Some(value) = done.remove(&i) {
                    break value;
                }
                let lost = |_| Error::new(ErrorKind::Internal, "a thread ended before its work was done");
                let (at, value) = results.recv().map_err(lost)?;
                done.insert(at, value?);
            };
            take(i, value)?;
            give(i + ahead);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_few_wait() {
        let begun = AtomicUsize::new(0);
        let mut taken = Vec::new();
        let work = |i: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_micros(((i * 7) % 5) as u64 * 100));
            Ok(i * i)
        };
        in_order(50, 3, work, |i, v| {
            assert!(begun.load(Ordering::SeqCst) <= i + 5);
            taken.push(v);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, (0..50).map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_it() {
        let work = |i| if i == 4 { Err(Error::invalid("four")) } else { Ok(i) };
        for threads in [1, 4] {
            let error = in_order(100, threads, work, |_, _| Ok(())).unwrap_err();
            assert_eq!(error.message(), "four");
        }
        assert!(in_order(9, 2, Ok, |_, _| Err(Error::invalid("no"))).is_err());
        in_order(0, 2, Ok, |_, _| Err(Error::invalid("no"))).unwrap();
    }
}
