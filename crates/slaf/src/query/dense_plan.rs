//! Which aggregates are found in arrays with a place for each group: those of the value itself,
//! of values that pass comparisons with numbers.

use super::ids;
use super::view::{Side, View, ViewColumn};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::PhysicalExpr;
use slaf_core::Dtype;
use slaf_ingest::arrow_type;
use slaf_kernels::grouped::{Comparison, Lane, Ordered, Test};
use std::sync::Arc;

/// What an aggregate makes of a [`Lane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Moments,
}

/// Aggregates as lanes.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) lanes: Vec<Lane>,
    /// For each aggregate its lane and what it takes of it.
    pub(super) results: Vec<(usize, Found)>,
    /// WHERE, of values.
    pub(super) conditions: Vec<Test>,
    /// WHERE, of the ids of each side.
    pub(super) on_rows: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) on_cols: Vec<Arc<dyn PhysicalExpr>>,
}

impl Dense {
    /// `None` if one of the aggregates, or a condition, is of another kind.
    pub(super) fn of(
        view: &View,
        aggregates: &[Arc<AggregateFunctionExpr>],
        arguments: &[Vec<Arc<dyn PhysicalExpr>>],
        filters: &[Option<Arc<dyn PhysicalExpr>>],
        conditions: &[Arc<dyn PhysicalExpr>],
        used: &[ViewColumn],
    ) -> Option<Dense> {
        let [matrix] = &view.matrices[..] else { return None };
        let value =
            Value { dtype: matrix.dtype, nnz: matrix.nnz, at: used.iter().position(|c| *c == ViewColumn::Value(0)) };
        let mut dense = Dense {
            lanes: Vec::new(),
            results: Vec::new(),
            conditions: Vec::new(),
            on_rows: Vec::new(),
            on_cols: Vec::new(),
        };
        for part in conditions.iter().flat_map(split_conjunction) {
            match ids::side(view, part).filter(|_| !is_volatile(part)) {
                Some(Side::Rows) => dense.on_rows.push(part.clone()),
                Some(Side::Cols) => dense.on_cols.push(part.clone()),
                None => dense.conditions.push(value.test(part)?),
            }
        }
        for ((aggregate, arguments), filter) in aggregates.iter().zip(arguments).zip(filters) {
            let ([argument], false) = (&arguments[..], aggregate.is_distinct()) else { return None };
            let found = value.found(aggregate.fun().name(), argument)?;
            let parts = filter.iter().flat_map(split_conjunction);
            let tests = parts.map(|part| value.test(part)).collect::<Option<Vec<_>>>()?;
            let at = dense.lanes.iter().position(|lane| lane.tests == tests).unwrap_or_else(|| {
                dense.lanes.push(Lane { tests, ..Lane::default() });
                dense.lanes.len() - 1
            });
            let lane = &mut dense.lanes[at];
            lane.sum |= matches!(found, Found::Sum | Found::Mean);
            lane.range |= matches!(found, Found::Min | Found::Max);
            lane.moments |= found == Found::Moments;
            dense.results.push((at, found));
        }
        Some(dense)
    }
}

/// The column of values.
struct Value {
    dtype: Dtype,
    nnz: u64,
    /// Its place in the schema of the expressions.
    at: Option<usize>,
}

impl Value {
    fn is(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        expr.downcast_ref::<Column>().is_some_and(|c| Some(c.index()) == self.at)
    }

    fn is_cast(&self, expr: &Arc<dyn PhysicalExpr>, to: &DataType) -> bool {
        expr.downcast_ref::<CastExpr>().is_some_and(|cast| cast.cast_type() == to && self.is(cast.expr()))
    }

    fn as_float(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        self.is_cast(expr, &DataType::Float64) || self.dtype == Dtype::F64 && self.is(expr)
    }

    fn as_int(&self, expr: &Arc<dyn PhysicalExpr>) -> bool {
        self.is_cast(expr, &DataType::Int64) || self.dtype == Dtype::I64 && self.is(expr)
    }

    /// Whether any sum of all values fits in 64 bits.
    fn sums_fit(&self) -> bool {
        let bits = 8 * self.dtype.size() as u32;
        bits < 64 && self.nnz < 1 << (63 - bits)
    }

    fn found(&self, function: &str, argument: &Arc<dyn PhysicalExpr>) -> Option<Found> {
        let is_float = self.dtype.is_float();
        if function == "count" {
            let literal = argument.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null());
            let counts = literal || self.is(argument) || self.as_float(argument) || self.test(argument).is_some();
            return counts.then_some(Found::Count);
        }
        if self.dtype == Dtype::Bool {
            return None;
        }
        match function {
            "sum" if is_float => self.as_float(argument).then_some(Found::Sum),
            "sum" => (self.sums_fit() && self.as_int(argument)).then_some(Found::Sum),
            "avg" => (self.as_float(argument) && (is_float || self.sums_fit())).then_some(Found::Mean),
            "min" => self.is(argument).then_some(Found::Min),
            "max" => self.is(argument).then_some(Found::Max),
            "var" | "var_pop" | "stddev" | "stddev_pop" => self.as_float(argument).then_some(Found::Moments),
            _ => None,
        }
    }

    /// A comparison of the value with a number.
    fn test(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Test> {
        let binary = expr.downcast_ref::<BinaryExpr>()?;
        let literal = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<Literal>().map(|l| l.value().clone());
        let (value, op, number) = match (literal(binary.left()), literal(binary.right())) {
            (None, Some(number)) => (binary.left(), *binary.op(), number),
            (Some(number), None) => (binary.right(), binary.op().swap()?, number),
            _ => return None,
        };
        let comparison = match op {
            Operator::Eq => Comparison::Equal,
            Operator::NotEq => Comparison::NotEqual,
            Operator::Lt => Comparison::Less,
            Operator::LtEq => Comparison::LessOrEqual,
            Operator::Gt => Comparison::Greater,
            Operator::GtEq => Comparison::GreaterOrEqual,
            _ => return None,
        };
        if self.dtype == Dtype::Bool || number.is_null() {
            return None;
        }
        let is_whole = !self.dtype.is_float() && self.dtype != Dtype::U64;
        if self.is(value) && number.data_type() == arrow_type(self.dtype) {
            return of_type(comparison, &number);
        }
        match number {
            ScalarValue::Float64(Some(number)) if self.is_cast(value, &DataType::Float64) => {
                Some(Test::widened(comparison, number))
            }
            ScalarValue::Int64(Some(number)) if is_whole && self.is_cast(value, &DataType::Int64) => {
                Some(Test::whole(comparison, number))
            }
            _ => None,
        }
    }
}

/// A comparison with a number of the type of the values.
fn of_type(comparison: Comparison, number: &ScalarValue) -> Option<Test> {
    fn test<T: Ordered>(comparison: Comparison, number: Option<T>) -> Option<Test> {
        Some(Test::new(comparison, number?))
    }
    match *number {
        ScalarValue::UInt8(n) => test(comparison, n),
        ScalarValue::UInt16(n) => test(comparison, n),
        ScalarValue::UInt32(n) => test(comparison, n),
        ScalarValue::UInt64(n) => test(comparison, n),
        ScalarValue::Int8(n) => test(comparison, n),
        ScalarValue::Int16(n) => test(comparison, n),
        ScalarValue::Int32(n) => test(comparison, n),
        ScalarValue::Int64(n) => test(comparison, n),
        ScalarValue::Float32(n) => test(comparison, n),
        ScalarValue::Float64(n) => test(comparison, n),
        _ => None,
    }
}
