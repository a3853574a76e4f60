//! Functions that could fill the memory or run for ever with few arguments.
//!
//! A pool counts what operators hold, not what a function makes: `repeat('a', 1e12)` allocates
//! without asking. Here such functions are replaced by ones that tell from their arguments what
//! they will make, ask the pool before, and look whether their query was stopped. It is done where
//! a plan is analysed, so that it holds for operators and however a function came into the plan.

mod growth;
mod held;
mod unnest;
mod windows;

pub(crate) use unnest::ShortUnnests;

use crate::limits::{Limits, too_much};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::expressions::{BinaryExpr as PhysicalBinary, Column, Literal};
use growth::Growth;
use slaf_core::{Error, ErrorKind};
use std::sync::Arc;

/// What a call may make without asking.
const SMALL: u128 = 1 << 20;
/// What a call may make where its query has no limits of its own.
const UNLIMITED_CALL: usize = 256 << 20;
/// Steps of work between two looks at whether the query was stopped.
const STEPS: u64 = if cfg!(test) { 1 << 16 } else { 1 << 28 };
/// Steps of work on one row, which nothing stops.
const MOST_STEPS: u64 = 1 << 34;

/// Replaces functions, the operator `||` and aggregates of windows by guarded ones.
#[derive(Debug)]
pub(crate) struct Guard;

impl FunctionRewrite for Guard {
    fn name(&self) -> &str {
        "guard"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, config: &ConfigOptions) -> DfResult<Transformed<Expr>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                let func = ScalarUDF::from(Guarded { udf: ScalarUDF::from(Concat::new()), growth: Growth::Sum(1) });
                let args = vec![*left, *right];
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: Arc::new(func), args }))
            }
            Expr::WindowFunction(call) => windows::guarded(call, config),
            other => guarded_call(other),
        })
    }
}

/// A call of the guarded form of a function, if it has one.
fn guarded_call(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(call) => match guarded(&call.func) {
            Some(func) => {
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: Arc::new(func), args: call.args }))
            }
            None => Transformed::no(Expr::ScalarFunction(call)),
        },
        other => Transformed::no(other),
    }
}

/// The guarded form of a function that needs one and has none.
fn guarded(function: &ScalarUDF) -> Option<ScalarUDF> {
    if function.inner().downcast_ref::<Guarded>().is_some() {
        return None;
    }
    let growth = Growth::of(function.name())?;
    Some(ScalarUDF::from(Guarded { udf: function.clone(), growth }))
}

/// A function that asks before it allocates, and stops.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded {
    udf: ScalarUDF,
    growth: Growth,
}

impl Guarded {
    fn call(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let limits = Limits::of(&args.config_options).cloned();
        let check = || limits.as_ref().map_or(Ok(()), Limits::check);
        check()?;
        let Some(work) = self.growth.work(&args) else { return self.udf.inner().invoke_with_args(args) };
        if let Some(most) = work.iter().max().filter(|most| **most > MOST_STEPS) {
            let what = format!("{} would take {most} steps for one row, beyond the limit of {MOST_STEPS}", self.name());
            return Err(crate::error::to_datafusion(Error::new(ErrorKind::InvalidQuery, what)));
        }
        if work.iter().fold(0_u64, |sum, steps| sum.saturating_add(*steps)) <= STEPS {
            return self.udf.inner().invoke_with_args(args);
        }
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut start = 0;
        while start < work.len() {
            let mut steps = 0_u64;
            let within = work[start..].iter().take_while(|more| {
                steps = steps.saturating_add(**more);
                steps <= STEPS
            });
            let length = within.count().max(1);
            check()?;
            let slice = |arg: &ColumnarValue| match arg {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, length)),
                scalar => scalar.clone(),
            };
            let part = ScalarFunctionArgs {
                args: args.args.iter().map(slice).collect(),
                arg_fields: args.arg_fields.clone(),
                number_rows: length,
                return_field: args.return_field.clone(),
                config_options: args.config_options.clone(),
            };
            parts.push(self.udf.inner().invoke_with_args(part)?.into_array(length)?);
            start += length;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(|part| &**part).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.udf.inner().name()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let bytes = self.growth.bytes(&args)?;
        if bytes <= SMALL {
            return self.call(args);
        }
        let Some(limits) = Limits::of(&args.config_options).cloned() else {
            return if bytes > UNLIMITED_CALL as u128 {
                Err(too_much(self.name(), bytes, UNLIMITED_CALL))
            } else {
                self.call(args)
            };
        };
        let memory = limits.for_call(self.name(), bytes)?;
        match self.call(args)? {
            ColumnarValue::Array(array) => {
                memory.resize(array.get_array_memory_size());
                Ok(ColumnarValue::Array(held::hold(&array, memory)?))
            }
            scalar => Ok(scalar),
        }
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        self.udf.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.udf.inner().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        self.udf.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.udf.inner().return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let udf = self.udf.inner().with_updated_config(config)?;
        Some(ScalarUDF::from(Guarded { udf, growth: self.growth }))
    }

    fn aliases(&self) -> &[String] {
        self.udf.inner().aliases()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        // What it is simplified to may be another function that needs a guard.
        Ok(match self.udf.inner().simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => {
                ExprSimplifyResult::Simplified(expr.transform_up(|expr| Ok(guarded_call(expr)))?.data)
            }
            original => original,
        })
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.udf.inner().conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.udf.inner().short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> DfResult<Interval> {
        self.udf.inner().evaluate_bounds(input)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        self.udf.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> DfResult<bool> {
        self.udf.inner().preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.udf.inner().coerce_types(arg_types)
    }
}

/// The operator `||` of texts as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concat {
    signature: Signature,
}

impl Concat {
    fn new() -> Concat {
        Concat { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Concat {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        BinaryTypeCoercer::new(&types[0], &Operator::StringConcat, &types[1]).get_result_type()
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let coercer = BinaryTypeCoercer::new(&types[0], &Operator::StringConcat, &types[1]);
        let (left, right) = coercer.get_input_types()?;
        Ok(vec![left, right])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let mut operand = |arg: &ColumnarValue| -> Arc<dyn PhysicalExpr> {
            match arg {
                ColumnarValue::Scalar(value) => Arc::new(Literal::new(value.clone())),
                ColumnarValue::Array(array) => {
                    let name = fields.len().to_string();
                    let column = Column::new(&name, fields.len());
                    fields.push(Field::new(name, array.data_type().clone(), true));
                    columns.push(array.clone());
                    Arc::new(column)
                }
            }
        };
        let (left, right) = (operand(&args.args[0]), operand(&args.args[1]));
        let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(args.number_rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)?;
        PhysicalBinary::new(left, Operator::StringConcat, right).evaluate(&batch)
    }
}

#[cfg(test)]
mod tests;
