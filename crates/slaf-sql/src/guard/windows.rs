//! Aggregates over windows: a frame that grows with each row is work that grows with the square of
//! the rows, all in one call of the window's operator. The accumulators look whether the query was
//! stopped.

use crate::limits::Limits;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
    WindowFunctionDefinition,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The call of a window function with an aggregate that stops.
pub(super) fn guarded(mut call: Box<WindowFunction>, config: &ConfigOptions) -> Transformed<Expr> {
    if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun
        && function.inner().downcast_ref::<Stopping>().is_none()
        && let Some(limits) = Limits::of(config)
    {
        let stopping = Stopping { udaf: AggregateUDF::clone(function), limits: limits.clone() };
        call.fun = WindowFunctionDefinition::AggregateUDF(Arc::new(AggregateUDF::from(stopping)));
        return Transformed::yes(Expr::WindowFunction(call));
    }
    Transformed::no(Expr::WindowFunction(call))
}

/// An aggregate whose accumulators stop with their query.
#[derive(Debug)]
struct Stopping {
    udaf: AggregateUDF,
    limits: Limits,
}

impl PartialEq for Stopping {
    fn eq(&self, other: &Self) -> bool {
        self.udaf == other.udaf
    }
}

impl Eq for Stopping {}

impl Hash for Stopping {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.udaf.hash(state);
    }
}

impl Stopping {
    fn with(&self, udaf: AggregateUDF) -> Stopping {
        Stopping { udaf, limits: self.limits.clone() }
    }

    fn stopping(&self, inner: Box<dyn Accumulator>) -> Box<dyn Accumulator> {
        Box::new(StoppingAccumulator { inner, limits: self.limits.clone() })
    }
}

impl AggregateUDFImpl for Stopping {
    fn name(&self) -> &str {
        self.udaf.inner().name()
    }

    fn signature(&self) -> &Signature {
        self.udaf.inner().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        self.udaf.inner().return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(self.stopping(self.udaf.inner().accumulator(args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(self.stopping(self.udaf.inner().create_sliding_accumulator(args)?))
    }

    fn aliases(&self) -> &[String] {
        self.udaf.inner().aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        self.udaf.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        self.udaf.inner().human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> DfResult<String> {
        self.udaf.inner().window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        self.udaf.inner().display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> DfResult<String> {
        self.udaf.inner().window_function_display_name(params)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        self.udaf.inner().state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.udaf.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        self.udaf.inner().create_groups_accumulator(args)
    }

    fn with_beneficial_ordering(self: Arc<Self>, beneficial: bool) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = Arc::clone(self.udaf.inner()).with_beneficial_ordering(beneficial)?;
        Ok(inner
            .map(|inner| Arc::new(self.with(AggregateUDF::new_from_shared_impl(inner))) as Arc<dyn AggregateUDFImpl>))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.udaf.inner().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.udaf.inner().reverse_expr() {
            ReversedUDAF::Reversed(reversed) => {
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(self.with(AggregateUDF::clone(&reversed)))))
            }
            same => same,
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.udaf.inner().coerce_types(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> DfResult<FieldRef> {
        self.udaf.inner().return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.udaf.inner().is_nullable()
    }

    fn is_descending(&self) -> Option<bool> {
        self.udaf.inner().is_descending()
    }

    fn default_value(&self, data_type: &DataType) -> DfResult<ScalarValue> {
        self.udaf.inner().default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.udaf.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.udaf.inner().supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.udaf.inner().set_monotonicity(data_type)
    }
}

#[derive(Debug)]
struct StoppingAccumulator {
    inner: Box<dyn Accumulator>,
    limits: Limits,
}

impl Accumulator for StoppingAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.limits.check()?;
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.limits.check()?;
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.limits.check()?;
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.limits.check()?;
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}
