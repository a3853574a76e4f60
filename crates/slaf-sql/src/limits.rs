//! What one query may use, and how it is stopped.
//!
//! DataFusion has no place for either: they travel as an extension of a query's settings, which
//! functions and rules see.

use crate::comparisons::ExactComparisons;
use crate::error::to_datafusion;
use crate::floats::OneForm;
use crate::guard::{Guard, ShortUnnests};
use crate::integers::Exact;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use slaf_core::{Error, ErrorKind};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The share of the memory of all queries that one call of a function may fill.
const SHARE_OF_A_CALL: usize = 8;

/// What one query may use. Clones share it.
#[derive(Clone, Debug)]
pub struct Limits {
    stopped: Arc<AtomicBool>,
    pool: Arc<dyn MemoryPool>,
    /// Bytes that one call of a function may make.
    call: usize,
}

impl Limits {
    /// Limits of a query that takes its memory from a pool of this many bytes.
    pub fn new(pool: Arc<dyn MemoryPool>, bytes: usize) -> Limits {
        Limits { stopped: Arc::default(), pool, call: bytes / SHARE_OF_A_CALL }
    }

    /// Puts the limits into the settings of a query.
    pub fn put_into(&self, state: &mut SessionState) {
        state.config_mut().options_mut().extensions.insert(self.clone());
        // Expressions keep the settings of when their query began.
        state.mark_start_execution();
    }

    /// The limits of the query that has these settings.
    pub(crate) fn of(options: &ConfigOptions) -> Option<&Limits> {
        options.extensions.get::<Limits>()
    }

    /// Lets the query end at its next check: planning between two rules, functions that may take
    /// long or fill memory, and windows.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Fails when the query was stopped.
    pub(crate) fn check(&self) -> DfResult<()> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(to_datafusion(Error::new(ErrorKind::Interrupted, "the query was stopped"))),
            false => Ok(()),
        }
    }

    /// Memory for what one call of a function makes.
    pub(crate) fn for_call(&self, function: &str, bytes: u128) -> DfResult<MemoryReservation> {
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= self.call => self.reserve(function, bytes),
            _ => Err(too_much(function, bytes, self.call)),
        }
    }

    /// Memory that counts against what all queries may hold.
    ///
    /// # Errors
    /// DataFusion's, of exhausted resources.
    pub fn reserve(&self, what: &str, bytes: usize) -> DfResult<MemoryReservation> {
        let reservation = MemoryConsumer::new(what).register(&self.pool);
        reservation.try_grow(bytes)?;
        Ok(reservation)
    }
}

pub(crate) fn too_much(function: &str, bytes: u128, limit: usize) -> DataFusionError {
    let message = format!(
        "{function} would make {bytes} bytes at once, beyond the limit of {limit}: ask for less, or raise \
         SLAF_QUERY_MEMORY"
    );
    to_datafusion(Error::new(ErrorKind::MemoryLimit, message))
}

impl ConfigExtension for Limits {
    const PREFIX: &'static str = "slaf";
}

impl ExtensionOptions for Limits {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> DfResult<()> {
        Err(DataFusionError::Configuration(format!("no setting slaf.{key}")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// Lets the queries of a session keep to their limits: planning ends soon when a query is
/// [stopped](Limits::stop), and functions that could fill the memory are [guarded](crate::guard).
///
/// # Errors
/// DataFusion's, if it does not take the rules.
pub fn protect(state: SessionState) -> DfResult<SessionState> {
    let analyzer: Vec<_> = state.analyzer().rules.iter().map(|rule| Arc::new(Stoppable(rule.clone())) as _).collect();
    let optimizer: Vec<_> = state.optimizers().iter().map(|rule| Arc::new(Stoppable(rule.clone())) as _).collect();
    let physical = state.physical_optimizers().iter().map(|rule| Arc::new(Stoppable(rule.clone())) as _);
    let physical: Vec<_> = physical.collect();
    let mut state = SessionStateBuilder::new_from_existing(state)
        .with_analyzer_rules(analyzer)
        .with_optimizer_rules(optimizer)
        .with_physical_optimizer_rules(physical)
        .with_physical_optimizer_rule(Arc::new(ShortUnnests))
        .build();
    state.register_function_rewrite(Arc::new(Guard))?;
    state.register_function_rewrite(Arc::new(ExactComparisons))?;
    state.register_function_rewrite(Arc::new(OneForm))?;
    state.register_function_rewrite(Arc::new(Exact))?;
    Ok(state)
}

fn check(options: &ConfigOptions) -> DfResult<()> {
    Limits::of(options).map_or(Ok(()), Limits::check)
}

/// A rule that does not begin after its query was stopped.
#[derive(Debug)]
struct Stoppable<R: ?Sized>(Arc<R>);

impl AnalyzerRule for Stoppable<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> DfResult<LogicalPlan> {
        check(config)?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Stoppable<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        check(&config.options())?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Stoppable<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        check(config)?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        check(context.config_options())?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
