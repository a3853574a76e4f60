//! SUM, AVG, VAR and STDDEV of floats over a window that moves. DataFusion's subtract what leaves the window:
//! an infinity leaves NaN for ever, and a large number takes the digits of the others with it.
//!
//! These add only: what comes is added to one sum, and a stack has the sums of what was there before from
//! each value on, so that the oldest value is taken off. The stack is built anew when it is empty, which
//! costs each value one addition ("two stacks", Tangwongsan, Hirzel and Schneider, DEBS 2017).

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result as DfResult, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::AccumulatorArgs;

/// The accumulator of such a window, if it is for this function and these values.
pub(crate) fn accumulator(function: &str, args: &AccumulatorArgs<'_>) -> Option<Box<dyn Accumulator>> {
    let are_floats = args.expr_fields.iter().all(|field| *field.data_type() == DataType::Float64);
    if args.is_distinct || !are_floats || args.return_field.data_type() != &DataType::Float64 {
        return None;
    }
    let result: fn(Moments) -> Option<f64> = match function {
        "sum" => |m| (m.n > 0.0).then_some(m.sum),
        "avg" => |m| (m.n > 0.0).then(|| m.sum / m.n),
        "var" => |m| (m.n > 1.0).then(|| m.squares / (m.n - 1.0)),
        "var_pop" => |m| (m.n > 0.0).then(|| m.squares / m.n),
        "stddev" => |m| (m.n > 1.0).then(|| (m.squares / (m.n - 1.0)).sqrt()),
        "stddev_pop" => |m| (m.n > 0.0).then(|| (m.squares / m.n).sqrt()),
        _ => return None,
    };
    Some(Box::new(Moving { older: Vec::new(), newer: Vec::new(), of_newer: Moments::default(), result }))
}

/// What is known of some values.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: f64,
    sum: f64,
    /// Of the distances to the mean.
    squares: f64,
}

impl Moments {
    fn of(x: f64) -> Moments {
        // No number has a distance to an infinite mean.
        Moments { n: 1.0, sum: x, squares: if x.is_finite() { 0.0 } else { f64::NAN } }
    }

    /// Of the values of both (Chan, Golub and LeVeque, 1979).
    fn and(self, other: Moments) -> Moments {
        if self.n == 0.0 || other.n == 0.0 {
            return if self.n == 0.0 { other } else { self };
        }
        let n = self.n + other.n;
        let distance = other.sum / other.n - self.sum / self.n;
        let squares = self.squares + other.squares + distance * distance * (self.n * other.n / n);
        Moments { n, sum: self.sum + other.sum, squares }
    }
}

#[derive(Debug)]
struct Moving {
    /// Of each older value and those that came after it and are not new; the oldest value is the last.
    older: Vec<Moments>,
    newer: Vec<f64>,
    of_newer: Moments,
    result: fn(Moments) -> Option<f64>,
}

impl Moving {
    fn moments(&self) -> Moments {
        self.older.last().copied().unwrap_or_default().and(self.of_newer)
    }
}

fn values(values: &[ArrayRef]) -> DfResult<impl Iterator<Item = f64> + '_> {
    match values[0].as_primitive_opt::<Float64Type>() {
        Some(numbers) => Ok(numbers.iter().flatten()),
        None => plan_err!("a window of another type: {}", values[0].data_type()),
    }
}

impl Accumulator for Moving {
    fn update_batch(&mut self, batch: &[ArrayRef]) -> DfResult<()> {
        for x in values(batch)? {
            self.newer.push(x);
            self.of_newer = self.of_newer.and(Moments::of(x));
        }
        Ok(())
    }

    fn retract_batch(&mut self, batch: &[ArrayRef]) -> DfResult<()> {
        for _ in values(batch)? {
            if self.older.is_empty() {
                let mut sum = Moments::default();
                self.older.extend(self.newer.drain(..).rev().map(|x| {
                    sum = Moments::of(x).and(sum);
                    sum
                }));
                self.of_newer = Moments::default();
            }
            if self.older.pop().is_none() {
                return internal_err!("a window that gives more values back than it got");
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Float64((self.result)(self.moments())))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.older.capacity() * size_of::<Moments>() + self.newer.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        internal_err!("a window has no state that others take")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> DfResult<()> {
        internal_err!("a window has no state that others take")
    }
}
