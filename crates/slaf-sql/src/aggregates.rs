//! Aggregates that take what users give them: truth values as 0 and 1, categoricals as their values,
//! groups of infinities.

use crate::{extremes, moving, sums};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use std::sync::Arc;

const WIDENED: [&str; 8] = ["avg", "sum", "stddev", "stddev_pop", "var", "var_pop", "corr", "approx_distinct"];
/// Those that take what DataFusion's take.
const EXTREMES: [&str; 2] = ["min", "max"];

/// Puts the widened aggregates in the places of DataFusion's.
///
/// # Errors
/// DataFusion's, if it does not take them.
pub(crate) fn register(state: &mut SessionState) -> DfResult<()> {
    for name in WIDENED.into_iter().chain(EXTREMES) {
        let inner = state.udaf(name)?.as_ref().clone();
        let signature = Signature::user_defined(inner.signature().volatility);
        state.register_udaf(Arc::new(AggregateUDF::new_from_impl(Widened { inner, signature })))?;
    }
    Ok(())
}

/// An aggregate of DataFusion that takes more types.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Widened {
    inner: AggregateUDF,
    signature: Signature,
}

impl Widened {
    fn inner(&self) -> &Arc<dyn AggregateUDFImpl> {
        self.inner.inner()
    }

    fn is_sum(&self) -> bool {
        self.inner.name() == "sum"
    }

    /// The accumulator of a sum of whole numbers.
    fn of_whole(&self, args: &AccumulatorArgs<'_>) -> Option<Box<dyn Accumulator>> {
        if self.is_sum() { sums::accumulator(args.return_field.data_type(), args.is_distinct) } else { None }
    }
}

/// Unsigned numbers of less than 64 bits have a signed sum, from which others can be subtracted.
fn signed(data_type: DataType) -> DataType {
    match data_type {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::Int64,
        other => other,
    }
}

fn widened(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => widened(value),
        DataType::Boolean => DataType::Int64,
        other => other.clone(),
    }
}

// It delegates, so that no method may be left to its default.
#[warn(clippy::missing_trait_methods)]
impl AggregateUDFImpl for Widened {
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        if EXTREMES.contains(&self.name()) {
            return self.inner().coerce_types(types);
        }
        let widened = |t| if self.is_sum() { signed(widened(t)) } else { widened(t) };
        let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("", widened(t), true))).collect();
        let fields = fields_with_udf(&fields, &self.inner)?;
        Ok(fields.iter().map(|f| f.data_type().clone()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        self.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        self.inner().human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> DfResult<String> {
        self.inner().window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        self.inner().display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> DfResult<String> {
        self.inner().window_function_display_name(params)
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner().return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> DfResult<FieldRef> {
        self.inner().return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner().is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        if let Some(of_whole) = self.of_whole(&args) {
            return Ok(of_whole);
        }
        self.inner().accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        self.inner().state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type();
        let of_whole = if self.is_sum() { sums::groups_accumulator(data_type) } else { None };
        match of_whole.or_else(|| extremes::accumulator(self.name(), data_type)) {
            Some(accumulator) => Ok(accumulator),
            None => self.inner().create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        match self.of_whole(&args).or_else(|| moving::accumulator(self.name(), &args)) {
            Some(ours) => Ok(ours),
            None => self.inner().create_sliding_accumulator(args),
        }
    }

    fn with_beneficial_ordering(self: Arc<Self>, beneficial: bool) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        self.inner().clone().with_beneficial_ordering(beneficial)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner().simplify()
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        op: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> DfResult<Option<Expr>> {
        self.inner().simplify_expr_op_literal(function, argument, op, literal, argument_is_left)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner().reverse_expr()
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner().value_from_stats(statistics)
    }

    fn default_value(&self, data_type: &DataType) -> DfResult<ScalarValue> {
        self.inner().default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner().supports_within_group_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }
}
