//! What is done to the values of a batch.

use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values, with_values};
use slaf_kernels::matrix::{Function, Op, Operand, Plan, Step};

/// Integers up to this one are exact in single precision.
const EXACT_IN_F32: f64 = 16_777_216.0;

/// What is done to values.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) dtype: Dtype,
    pub(super) target_sum: Option<f64>,
    pub(super) log1p: bool,
}

impl Change {
    /// The chunk with the values of the batch; `totals` are the sums of its rows.
    pub(super) fn of(self, chunk: CsrChunk, totals: Option<&[f64]>, n_cols: usize) -> Result<CsrChunk> {
        let stored = chunk.values.dtype();
        let is_computed = self.target_sum.is_some() || self.log1p;
        if !is_computed && self.dtype == Dtype::F32 && !with_values!(&chunk.values, v => are_exact_in_f32(v)) {
            let message = "counts above 16,777,216 are not exact in float32: ask for float64";
            return Err(Error::new(ErrorKind::WouldLoseData, message));
        }
        let mut steps = Vec::new();
        if is_computed {
            // What scanpy computes in: integers become float32.
            let dtype = if stored == Dtype::F64 { Dtype::F64 } else { Dtype::F32 };
            steps.push(Step::Cast(dtype));
            if let (Some(target), Some(totals)) = (self.target_sum, totals) {
                let operand = Operand::Rows(divisors(totals, target, dtype));
                steps.push(Step::Combine { op: Op::Divide, operand, rows: None });
            }
            if self.log1p {
                steps.push(Step::Map(Function::Log1p));
            }
        }
        steps.push(Step::Cast(self.dtype));
        Plan::new(steps)?.apply(chunk, 0, n_cols)
    }
}

/// What rows are divided by to sum up to `target`; cells without counts stay as they are.
fn divisors(totals: &[f64], target: f64, dtype: Dtype) -> Values {
    match dtype {
        Dtype::F64 => {
            let of = |total: &f64| total / target;
            Values::F64(totals.iter().map(of).map(|d| if d == 0.0 { 1.0 } else { d }).collect())
        }
        _ => {
            let of = |total: &f64| *total as f32 / target as f32;
            Values::F32(totals.iter().map(of).map(|d| if d == 0.0 { 1.0 } else { d }).collect())
        }
    }
}

fn are_exact_in_f32<T: Value>(values: &[T]) -> bool {
    T::DTYPE.is_float() || values.iter().all(|v| v.as_f64().abs() <= EXACT_IN_F32)
}
