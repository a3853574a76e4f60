//! Watching requests to an object store: which ones failed and why, and whether it still answers.
//!
//! Errors of requests reach us through Lance, which retries, and may pass on no more than a text.
//! What is seen here has its type, so that an outage is never taken for damage. And clients wait
//! and retry for minutes, each at its own level: the limit on silence holds for all of them together.

use crate::error::{Outage, outage};
use crate::layer::{Layer, Request};
use async_trait::async_trait;
use futures::future::BoxFuture;
use object_store::path::Path;
use slaf_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a store may say nothing. The clients' own limit on a request is 30 s.
const DEFAULT_LIMIT: Duration = Duration::from_secs(25);
/// The storage option, and the variable of the environment, that changes it.
pub(crate) const OPTION: &str = "answer_timeout";
const VARIABLE: &str = "SLAF_ANSWER_TIMEOUT";
/// How often a future that waits for no answer is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// The requests of one store.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that wait for an answer.
    waiting: usize,
    /// When the store last answered, or was first asked after it had.
    answered: Instant,
    /// Whether the last request failed.
    failing: bool,
    /// The requests that failed last, by path, until they succeed.
    failed: HashMap<Path, Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    kind: ErrorKind,
    message: String,
    at: Instant,
    tries: usize,
    unexplained: bool,
}

impl Watch {
    /// # Errors
    /// `invalid-argument` for a limit that is no time.
    pub(crate) fn new(place: &str, options: &HashMap<String, String>) -> Result<Watch> {
        let given = match options.get(OPTION) {
            Some(text) => Some((OPTION, text.clone())),
            None => std::env::var(VARIABLE).ok().map(|text| (VARIABLE, text)),
        };
        let limit = match given {
            Some((name, text)) => seconds(&text).ok_or_else(|| {
                Error::invalid(format!("{name}=\"{text}\" is no time such as 30s or 500ms")).at(place)
            })?,
            // Whoever lets a request take longer waits for it.
            None => options.get("timeout").and_then(|t| seconds(t)).map_or(DEFAULT_LIMIT, |t| t.max(DEFAULT_LIMIT)),
        };
        let state = State { waiting: 0, answered: Instant::now(), failing: false, failed: HashMap::new() };
        Ok(Watch { limit, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that needs the store, until it ends or the store has been silent for too long.
    ///
    /// # Errors
    /// `io` after a silence; those of `work`, or what the store answered in place of one that came
    /// of it.
    pub(crate) async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let mut work = pin!(work);
        loop {
            let (left, waits) = {
                let state = self.state();
                let quiet = state.answered.max(started).elapsed();
                (self.limit.saturating_sub(quiet), state.waiting > 0)
            };
            if left.is_zero() && waits {
                return Err(self.silence(started));
            }
            let wait = if left.is_zero() { IDLE } else { left };
            match tokio::time::timeout(wait, &mut work).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(e)) => return Err(self.explain(e, started)),
                Err(_) => {}
            }
        }
    }

    fn silence(&self, started: Instant) -> Error {
        if let Some(failure) = self.failure(started) {
            return failure;
        }
        let what = format!(
            "the object store has not answered for {:.0?}; it may be tried again (the storage option {OPTION} or \
             {VARIABLE} sets how long it is waited for)",
            self.limit
        );
        Error::new(ErrorKind::Io, what)
    }

    /// The last failure since then.
    fn failure(&self, started: Instant) -> Option<Error> {
        let state = self.state();
        let failure = state.failed.values().filter(|f| f.at >= started).max_by_key(|f| f.at)?.clone();
        let tries = state.failed.values().filter(|f| f.at >= started).map(|f| f.tries).max().unwrap_or(1);
        drop(state);
        let message = match failure.kind {
            ErrorKind::Io => again(&failure.message, tries),
            _ => failure.message,
        };
        Some(Error::new(failure.kind, message))
    }

    /// Whether a request failed since then, and the store did not say why.
    pub(crate) fn is_unexplained(&self, started: Instant) -> bool {
        self.state().failed.values().any(|f| f.at >= started && f.unexplained)
    }

    /// What made the store fail is a better name for an error than what came of it.
    fn explain(&self, error: Error, started: Instant) -> Error {
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Io | ErrorKind::PermissionDenied => {
                match self.failure(started) {
                    // The place is known within.
                    Some(failure) => match error.location().map(str::to_owned) {
                        Some(place) => failure.at(place).with_source(error),
                        None => failure.with_source(error),
                    },
                    None => error,
                }
            }
            _ => error,
        }
    }
}

fn again(message: &str, tries: usize) -> String {
    let times = if tries == 1 { "1 try".to_string() } else { format!("{tries} tries") };
    format!("{message}; given up after {times}, it may be tried again")
}

/// A time as the options of clients have it: `30`, `30s`, `500ms`, `2m`.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" => 1e-3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()?;
    (!time.is_zero()).then_some(time)
}

/// Counts a request that waits, also when it is given up.
struct Waiting<'a>(&'a Watch);

impl Waiting<'_> {
    fn begin(watch: &Watch) -> Waiting<'_> {
        let mut state = watch.state();
        // A store that failed is not taken for one that answers because it is asked again.
        if state.waiting == 0 && !state.failing {
            state.answered = Instant::now();
        }
        state.waiting += 1;
        Waiting(watch)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[async_trait]
impl Layer for Watch {
    async fn around(
        &self,
        request: &Request,
        run: BoxFuture<'_, object_store::Result<()>>,
    ) -> object_store::Result<()> {
        let waiting = Waiting::begin(self);
        let result = run.await;
        let mut state = self.state();
        match result.as_ref().err().and_then(outage) {
            Some(Outage { kind, message, tries, unexplained }) => {
                let before = state.failed.get(&request.path).map_or(0, |f| f.tries);
                let failure = Failure { kind, message, at: Instant::now(), tries: before + tries, unexplained };
                state.failed.insert(request.path.clone(), failure);
                state.failing = true;
            }
            None => {
                state.answered = Instant::now();
                state.failing = false;
                state.failed.remove(&request.path);
            }
        }
        drop(state);
        drop(waiting);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_times() {
        for (text, limit) in [("30", 30_000), ("2.5s", 2500), ("500ms", 500), ("2 minutes", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(seconds(text), Some(Duration::from_millis(limit)), "{text}");
        }
        for text in ["", "s", "0", "-1", "1 day", "ever", "1e400s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        let limit = |name: &str, text: &str| {
            let options = HashMap::from([(name.to_string(), text.to_string())]);
            Watch::new("s3://b", &options).map(|w| w.limit).map_err(|e| e.kind())
        };
        assert_eq!(limit("answer_timeout", "2s"), Ok(Duration::from_secs(2)));
        assert_eq!(limit("answer_timeout", "soon"), Err(ErrorKind::InvalidArgument));
        assert_eq!(limit("timeout", "2 minutes"), Ok(Duration::from_secs(120)));
        assert_eq!(limit("timeout", "1s"), Ok(DEFAULT_LIMIT));
    }

    #[tokio::test]
    async fn silence_is_named_and_work_without_requests_is_not_silence() {
        let options = HashMap::from([(OPTION.to_string(), "50ms".to_string())]);
        let watch = Watch::new("s3://b", &options).unwrap();
        let computing = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(1)
        };
        assert_eq!(watch.guard(computing).await.unwrap(), 1);
        let request =
            Request { operation: crate::layer::Operation::Get, path: Path::from("a"), continued: false, sent: 0 };
        let never = async {
            let pending = Box::pin(std::future::pending::<object_store::Result<()>>());
            watch.around(&request, pending).await.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
        };
        let error = watch.guard(never).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("has not answered for 50ms"), "{error}");
        assert_eq!(watch.state().waiting, 0);
        // Slow, but never silent for that long.
        let slow = async {
            for _ in 0..6 {
                let answer = Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(())
                });
                watch.around(&request, answer).await.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
            }
            Ok(())
        };
        watch.guard(slow).await.unwrap();
    }
}
