//! Rules and functions that keep to the limits of a query.

use crate::comparisons::ExactComparisons;
use crate::floats::{AggregatesInOneForm, OneForm};
use crate::guard::{Guard, ShortUnnests};
use crate::integers::Exact;
use crate::limits::Limits;
use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Lets the queries of a session keep to their limits: planning ends soon when a query is
/// [stopped](Limits::stop), and functions that could fill the memory are guarded.
///
/// # Errors
/// DataFusion's, if it does not take the rules.
pub fn protect(state: SessionState) -> DfResult<SessionState> {
    let in_one_form: Arc<dyn AnalyzerRule + Send + Sync> = Arc::new(AggregatesInOneForm);
    let analyzer = state.analyzer().rules.iter().chain([&in_one_form]);
    let analyzer: Vec<_> = analyzer.map(|rule| Arc::new(Stoppable(rule.clone())) as _).collect();
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
