//! Queries while they run.
//!
//! Planning and executing are synchronous work of unknown length, in code of others that looks at
//! no clock. Both run on threads that the caller does not wait for after the time limit or a stop:
//! planning on one with a large stack, executing on those of the runtime. What is left behind ends
//! at its next check (`slaf_sql::limits`), or with the batch that it works on.

use super::options::{QueryOptions, QueryResult};
use super::planning;
use super::ready::name_with_nul;
use super::session::Session;
use crate::config::query_memory;
use crate::trace::Address;
use arrow::array::{Array, ArrayData, RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{FutureExt, StreamExt};
use slaf_core::{Error, ErrorKind, Result};
use slaf_lance::runtime::runtime;
use slaf_sql::PLANNING_STACK;
use slaf_sql::error::from_datafusion;
use slaf_sql::limits::Limits;
use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

/// How often a waiting caller looks whether the user stopped the query.
const LOOK: Duration = Duration::from_millis(50);

/// A query that is planned or runs.
pub(super) struct Running {
    schema: SchemaRef,
    plan: Option<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)>,
    options: QueryOptions,
    limits: Limits,
    /// It is soon done, in the calling thread: to wake others takes longer.
    is_small: bool,
    /// The time that the query has used of its limit.
    used: Duration,
    /// Ends with the query.
    span: Span,
}

impl Running {
    pub(super) fn new(schema: SchemaRef, options: &QueryOptions, limits: Limits) -> Running {
        Running {
            schema,
            plan: None,
            options: options.clone(),
            limits,
            is_small: false,
            used: Duration::ZERO,
            span: Span::none(),
        }
    }

    /// Plans a query.
    pub(super) fn plan(session: &Arc<Session>, sql: &str, options: &QueryOptions) -> Result<Running> {
        let limits = session.limits();
        let mut running = Running::new(Arc::new(Schema::empty()), options, limits.clone());
        let store = session.snapshot.storage.uri();
        running.span = tracing::debug_span!("query", store = %Address(store), characters = sql.len());
        if let Some(error) = running.over() {
            return Err(error);
        }
        let kept = session.plans.get(sql, options);
        let point = kept.as_ref().and_then(|plan| plan.point());
        if let Some(point) = point.filter(|point| point.is_at_hand()) {
            let _runtime = runtime()?.enter();
            if let Some(plan) = running.wait(point.bind(&options.parameters))?? {
                running.schema = point.schema.clone();
                running.plan = Some((plan, session.of_points.clone()));
                running.is_small = true;
                return Ok(running);
            }
        }
        let span = tracing::debug_span!(parent: &running.span, "plan");
        let ready = match kept {
            Some(plan) => {
                let (session, options) = (session.clone(), options.clone());
                let plan = async move { planning::again(&session, &plan, &options, &limits).await };
                let mut task = Task(runtime()?.spawn(plan.boxed().instrument(span)));
                running.wait(&mut task.0)?.map_err(|_| panicked())??
            }
            None => {
                let (session, sql, options) = (session.clone(), sql.to_string(), options.clone());
                let (done, planned) = oneshot::channel();
                let runtime = runtime()?;
                // It is large, and would be copied from frame to frame.
                let plan = async move { planning::plan(&session, &sql, &options, &limits).await }.boxed();
                let plan = plan.instrument(span);
                // The receiver is gone when the time is over.
                let work = move || drop(done.send(runtime.block_on(plan)));
                thread::Builder::new().name("slaf-plan".into()).stack_size(PLANNING_STACK).spawn(work)?;
                running.wait(planned)?.map_err(|_| panicked())??
            }
        };
        if let Some(name) = name_with_nul(ready.schema.fields()) {
            let message = format!("the column {name:?} has a NUL character in its name: give it another with AS");
            return Err(Error::new(ErrorKind::InvalidQuery, message));
        }
        running.schema = ready.schema;
        running.plan = Some((ready.plan, ready.context));
        Ok(running)
    }

    fn execute(&mut self) -> Result<SendableRecordBatchStream> {
        let (plan, context) =
            self.plan.take().ok_or_else(|| Error::new(ErrorKind::Internal, "a query without a plan"))?;
        // Operators start tasks.
        let _runtime = runtime()?.enter();
        execute_stream(plan, context).map_err(from_datafusion)
    }

    /// All rows, as many as the memory of queries holds.
    pub(super) fn collect(mut self) -> Result<QueryResult> {
        let mut stream = self.execute()?;
        let mut held = Held { bytes: 0, seen: HashSet::new() };
        let collect = async move {
            let mut batches = Vec::new();
            while let Some(batch) = stream.next().await.transpose().map_err(from_datafusion)? {
                held.add(&batch)?;
                batches.push(batch);
            }
            Ok::<_, Error>(batches)
        };
        let batches = match self.is_small {
            true => {
                let _runtime = runtime()?.enter();
                let batches = self.wait(AssertUnwindSafe(collect).catch_unwind())?.map_err(|_| panicked())??;
                self.over().map_or(Ok(batches), Err)?
            }
            false => {
                let mut task = Task(runtime()?.spawn(collect));
                self.wait(&mut task.0)?.map_err(|_| panicked())??
            }
        };
        let schema = batches.first().map_or(self.schema, RecordBatch::schema);
        Ok(QueryResult { schema, batches })
    }

    /// The rows as they come.
    pub(super) fn stream(mut self) -> Result<Box<dyn RecordBatchReader + Send>> {
        let stream = self.execute()?;
        self.stream_of(stream)
    }

    /// The batches of a stream for callers that block.
    pub(super) fn stream_of(
        mut self,
        mut stream: SendableRecordBatchStream,
    ) -> Result<Box<dyn RecordBatchReader + Send>> {
        let schema = stream.schema();
        // None is the end: a sender that is dropped without it has panicked.
        let (send, mut receive) = mpsc::channel(1);
        let task = Task(runtime()?.spawn(async move {
            loop {
                let batch = stream.next().await.transpose().map_err(from_datafusion).transpose();
                let last = !matches!(batch, Some(Ok(_)));
                // The receiver is gone when nobody reads on.
                if send.send(batch).await.is_err() || last {
                    return;
                }
            }
        }));
        let mut over = false;
        let next = std::iter::from_fn(move || {
            let _running = &task;
            if over {
                return None;
            }
            let next = match self.wait(receive.recv()) {
                Ok(Some(next)) => next,
                Ok(None) => Some(Err(panicked())),
                Err(e) => Some(Err(e)),
            };
            over = !matches!(next, Some(Ok(_)));
            next.map(|batch| batch.map_err(|e| ArrowError::from_external_error(Box::new(e))))
        });
        Ok(Box::new(RecordBatchIterator::new(next, schema)))
    }

    /// Waits for work on other threads: until its end, the time limit, or the user's stop.
    fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let (mut work, mut context) = (pin!(work), Context::from_waker(&waker));
        let (start, used) = (Instant::now(), self.used);
        loop {
            let done = work.as_mut().poll(&mut context);
            self.used = used + start.elapsed();
            if let Poll::Ready(value) = done {
                return Ok(value);
            }
            if let Some(error) = self.over() {
                self.limits.stop();
                return Err(error);
            }
            let left = self.options.time_limit.map(|limit| limit.saturating_sub(self.used));
            thread::park_timeout(left.map_or(LOOK, |left| left.min(LOOK)));
        }
    }

    /// The error of a query that the user stopped, or that has used its time.
    fn over(&self) -> Option<Error> {
        if self.options.cancel.is_cancelled() {
            return Some(Error::new(ErrorKind::Interrupted, "the query was stopped"));
        }
        let limit = self.options.time_limit.filter(|limit| self.used >= *limit)?.as_secs_f64();
        Some(Error::new(ErrorKind::TimeLimit, format!("the query took longer than {limit} s")))
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "a thread of the query panicked (see stderr); this is a defect, please report it")
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The memory of batches that are kept. Batches share buffers, as names of cells: each is counted
/// once.
struct Held {
    bytes: usize,
    seen: HashSet<usize>,
}

impl Held {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.bytes += batch.columns().iter().map(|column| self.new_bytes(&column.to_data())).sum::<usize>();
        if self.bytes <= query_memory() {
            return Ok(());
        }
        let message = "the result does not fit in the memory of queries: ask for less, read it in parts (query_stream, \
                       slaf query -o), or raise SLAF_QUERY_MEMORY";
        Err(Error::new(ErrorKind::MemoryLimit, message))
    }

    fn new_bytes(&mut self, data: &ArrayData) -> usize {
        let buffers = data.buffers().iter().chain(data.nulls().map(|nulls| nulls.buffer()));
        let mut bytes = 0;
        for buffer in buffers {
            if self.seen.insert(buffer.data_ptr().as_ptr() as usize) {
                bytes += buffer.capacity();
            }
        }
        bytes + data.child_data().iter().map(|child| self.new_bytes(child)).sum::<usize>()
    }
}
