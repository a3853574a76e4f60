//! Layers over object stores that fail, wait and count, and stores in memory to put them on.

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::{Error, Result};
use slaf_lance::{Layer, LayerGuard, Operation, Request, add_layer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The address of a store in memory that nobody else has in this process.
pub fn memory_store() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("shared-memory://store{}/a.slaf", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// It fails, and is not carried out.
    Error,
    /// The store refuses the credentials.
    Denied,
    /// It is never answered.
    Timeout,
    /// It fails, and is not carried out; nor is any later one.
    Crash,
    /// It is carried out, and fails.
    LostAnswer,
    /// Something happens, then it fails and is not carried out.
    Meanwhile(Arc<dyn Fn() + Send + Sync>),
    /// It is carried out after this time.
    Delay(Duration),
    /// Only so many bytes of a part of a body are read.
    Truncate(usize),
    /// The lowest bit of this byte of a part of a body is flipped.
    Corrupt(usize),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Error => "Error",
            Fault::Denied => "Denied",
            Fault::Timeout => "Timeout",
            Fault::Crash => "Crash",
            Fault::LostAnswer => "LostAnswer",
            Fault::Meanwhile(_) => "Meanwhile",
            Fault::Delay(_) => "Delay",
            Fault::Truncate(_) => "Truncate",
            Fault::Corrupt(_) => "Corrupt",
        })
    }
}

impl Fault {
    fn is_of_content(&self) -> bool {
        matches!(self, Fault::Truncate(_) | Fault::Corrupt(_))
    }
}

/// Which requests have a fault.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    operation: Option<Operation>,
    path: String,
    first: usize,
    times: usize,
    seen: usize,
}

impl Rule {
    /// Every request.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, operation: None, path: String::new(), first: 1, times: usize::MAX, seen: 0 }
    }

    /// Requests of this kind.
    #[must_use]
    pub fn operation(self, operation: Operation) -> Rule {
        Rule { operation: Some(operation), ..self }
    }

    /// Requests for paths that contain this.
    #[must_use]
    pub fn path(self, path: &str) -> Rule {
        Rule { path: path.to_string(), ..self }
    }

    /// Begins with the n-th of them, counted from 1.
    #[must_use]
    pub fn from(self, n: usize) -> Rule {
        Rule { first: n, ..self }
    }

    /// Ends after so many.
    #[must_use]
    pub fn times(self, times: usize) -> Rule {
        Rule { times, ..self }
    }

    /// Counts a request; whether it has the fault.
    fn hits(&mut self, request: &Request) -> bool {
        if self.operation.is_some_and(|o| o != request.operation) || !request.path.as_ref().contains(&self.path) {
            return false;
        }
        self.seen += 1;
        self.seen >= self.first && self.seen - self.first < self.times
    }
}

/// A layer that fails by rules. The first rule that fits a request decides.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    crashed: Mutex<bool>,
}

impl Faults {
    /// Over the stores below an address, until the guard is dropped.
    pub fn over(address: &str) -> (Arc<Faults>, LayerGuard) {
        let faults = Arc::new(Faults::default());
        (faults.clone(), add_layer(address, faults))
    }

    /// Adds a rule behind those that are there.
    pub fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// Ends all faults; says whether there was a crash.
    pub fn clear(&self) -> bool {
        self.rules().clear();
        std::mem::take(&mut *self.crashed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, request: &Request, of_content: bool) -> Option<Fault> {
        let mut crashed = self.crashed.lock().unwrap_or_else(PoisonError::into_inner);
        if *crashed {
            return (!of_content).then_some(Fault::Crash);
        }
        let mut rules = self.rules();
        let rule = rules.iter_mut().filter(|r| r.fault.is_of_content() == of_content).find_map(|r| {
            let hit = r.hits(request);
            hit.then(|| r.fault.clone())
        });
        *crashed = matches!(rule, Some(Fault::Crash));
        rule
    }
}

fn failed(why: &str) -> Error {
    Error::Generic { store: "faults", source: why.into() }
}

#[async_trait]
impl Layer for Faults {
    async fn around(&self, request: &Request, run: BoxFuture<'_, Result<()>>) -> Result<()> {
        // A request is hit, and not each part of its answer; after a crash nothing comes.
        let fault = match request.continued {
            true if *self.crashed.lock().unwrap_or_else(PoisonError::into_inner) => Some(Fault::Crash),
            true => None,
            false => self.fault(request, false),
        };
        match fault {
            Some(Fault::Error) => Err(failed("the connection was reset")),
            Some(Fault::Crash) => Err(failed("the process has crashed")),
            Some(Fault::Denied) => {
                Err(Error::PermissionDenied { path: request.path.to_string(), source: "access denied".into() })
            }
            Some(Fault::Timeout) => std::future::pending().await,
            Some(Fault::LostAnswer) => {
                run.await?;
                Err(failed("the answer was lost"))
            }
            Some(Fault::Meanwhile(what)) => {
                let done = tokio::task::spawn_blocking(move || what()).await;
                Err(failed(if done.is_ok() { "the connection was reset" } else { "what came meanwhile failed" }))
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                run.await
            }
            Some(Fault::Truncate(_) | Fault::Corrupt(_)) | None => run.await,
        }
    }

    fn received(&self, request: &Request, part: Bytes) -> Bytes {
        match self.fault(request, true) {
            Some(Fault::Truncate(length)) => part.slice(..length.min(part.len())),
            Some(Fault::Corrupt(at)) if at < part.len() => {
                let mut bytes = part.to_vec();
                bytes[at] ^= 1;
                Bytes::from(bytes)
            }
            _ => part,
        }
    }
}

/// A layer that counts requests by operation, and bytes.
#[derive(Debug, Default)]
pub struct Counts {
    requests: Mutex<BTreeMap<&'static str, usize>>,
    received: AtomicUsize,
    sent: AtomicUsize,
}

impl Counts {
    /// Over the stores below an address, until the guard is dropped.
    pub fn over(address: &str) -> (Arc<Counts>, LayerGuard) {
        let counts = Arc::new(Counts::default());
        (counts.clone(), add_layer(address, counts))
    }

    /// Requests by the name of their operation, since the last call.
    pub fn take(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes that were read and written.
    pub fn bytes(&self) -> (usize, usize) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Layer for Counts {
    async fn around(&self, request: &Request, run: BoxFuture<'_, Result<()>>) -> Result<()> {
        if !request.continued {
            let name = match request.operation {
                Operation::Get => "get",
                Operation::Head => "head",
                Operation::List => "list",
                Operation::Delete => "delete",
                _ => "write",
            };
            *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
            self.sent.fetch_add(request.sent, Ordering::Relaxed);
        }
        run.await
    }

    fn received(&self, _: &Request, part: Bytes) -> Bytes {
        self.received.fetch_add(part.len(), Ordering::Relaxed);
        part
    }
}

/// A layer that lets every request wait.
#[derive(Debug)]
pub struct Latency(pub Duration);

#[async_trait]
impl Layer for Latency {
    async fn around(&self, request: &Request, run: BoxFuture<'_, Result<()>>) -> Result<()> {
        if !request.continued {
            tokio::time::sleep(self.0).await;
        }
        run.await
    }
}
