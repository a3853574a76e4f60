//! Work on several threads whose results come in order.

use slaf_core::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// More threads than this read no faster.
const MAX_THREADS: usize = 8;

/// What a plan gives to a thread, and where the result goes.
type Job<J, R> = (J, SyncSender<Result<R>>);

/// An iterator over the results of a plan's jobs, in the plan's order; at most one job more than
/// there are threads is under way.
pub(crate) struct Ordered<J, R, P> {
    plan: P,
    jobs: Option<Sender<Job<J, R>>>,
    waiting: VecDeque<Receiver<Result<R>>>,
    depth: usize,
}

impl<J, R, P> Ordered<J, R, P>
where
    J: Send + 'static,
    R: Send + 'static,
    P: Iterator<Item = Result<J>>,
{
    /// Starts the threads; `worker` makes the function that does the jobs of one of them.
    ///
    /// # Errors
    /// Those of `worker`, and of starting a thread.
    pub(crate) fn new<W>(plan: P, mut worker: impl FnMut() -> Result<W>) -> Result<Self>
    where
        W: FnMut(J) -> Result<R> + Send + 'static,
    {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS);
        let (sender, receiver) = channel::<Job<J, R>>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let (mut work, queue) = (worker()?, receiver.clone());
            std::thread::Builder::new().name("slaf-ingest".into()).spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, answer)) = job else { break };
                    // Nobody waits for the answer when the stream was dropped.
                    let _ = answer.send(work(job));
                }
            })?;
        }
        Ok(Ordered { plan, jobs: Some(sender), waiting: VecDeque::new(), depth: threads + 1 })
    }
}

impl<J, R, P: Iterator<Item = Result<J>>> Iterator for Ordered<J, R, P> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        while let Some(jobs) = self.jobs.as_ref().filter(|_| self.waiting.len() < self.depth) {
            let (answer, result) = sync_channel(1);
            match self.plan.next() {
                Some(Ok(job)) => {
                    if jobs.send((job, answer)).is_err() {
                        self.jobs = None;
                    }
                }
                // The error comes in its turn, and ends the plan.
                Some(Err(e)) => {
                    let _ = answer.send(Err(e));
                    self.jobs = None;
                }
                None => {
                    self.jobs = None;
                    break;
                }
            }
            self.waiting.push_back(result);
        }
        let stopped = || Error::new(ErrorKind::Internal, "a reading thread stopped");
        let result = self.waiting.pop_front()?.recv().unwrap_or_else(|_| Err(stopped()));
        if result.is_err() {
            self.jobs = None;
            self.waiting.clear();
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_stop_at_the_first_error() {
        let run = |bad: u64| {
            let plan = (0..100).map(Ok);
            Ordered::new(plan, || {
                Ok(move |i: u64| {
                    std::thread::sleep(std::time::Duration::from_micros(200 * (i % 3)));
                    if i == bad { Err(Error::malformed("bad")) } else { Ok(i) }
                })
            })
            .unwrap()
            .collect::<Vec<_>>()
        };
        let all: Vec<u64> = run(1000).into_iter().map(Result::unwrap).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        let some = run(7);
        assert_eq!(some.len(), 8);
        assert!(some[7].is_err());
    }

    #[test]
    fn an_error_of_the_plan_comes_after_the_results_before_it() {
        let plan = (0..5).map(|i| if i == 3 { Err(Error::malformed("plan")) } else { Ok(i) });
        let got: Vec<_> = Ordered::new(plan, || Ok(Ok)).unwrap().collect();
        assert_eq!(got.len(), 4);
        assert!(got[3].is_err());
    }
}
