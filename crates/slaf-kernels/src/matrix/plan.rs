//! Steps in a row.

use super::memo;
use super::step::{self, Operand, Place, Step};
use slaf_core::{CsrChunk, Dtype, Error, Result};

/// Steps of arithmetic, from a stored matrix to the one that is meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// A plan of these steps.
    ///
    /// # Errors
    /// `invalid-argument` where a step would change zeros that are not stored, and
    /// [`Step::Densify`] does not come before it.
    pub fn new(steps: Vec<Step>) -> Result<Plan> {
        let mut is_dense = false;
        for step in &steps {
            let leaves_zeros = match step {
                Step::Combine { op, operand, .. } => op.leaves_zeros(operand.values()),
                Step::SubtractProduct { .. } => false,
                Step::Cast(_) | Step::Widen | Step::Map(_) => true,
                Step::Densify | Step::Sparsify => {
                    is_dense = *step == Step::Densify;
                    true
                }
            };
            if !is_dense && !leaves_zeros {
                return Err(Error::invalid("this step changes zeros that are not stored"));
            }
        }
        Ok(Plan { steps })
    }

    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether every value is stored after some step.
    pub fn is_dense(&self) -> bool {
        self.steps.contains(&Step::Densify)
    }

    /// The type of the result for a matrix of this type.
    pub fn dtype(&self, of: Dtype) -> Dtype {
        self.steps.iter().fold(of, |dtype, step| step.dtype(dtype))
    }

    /// Checks that the operands fit a matrix of this shape.
    pub(super) fn check(&self, n_rows: usize, n_cols: usize) -> Result<()> {
        let wrong = |what: &str, got: usize, wanted: usize| {
            Error::invalid(format!("{got} numbers for {wanted} {what} of the matrix"))
        };
        for step in &self.steps {
            match step {
                Step::Combine { operand, rows, .. } => {
                    let got = operand.values().len();
                    match operand {
                        Operand::Scalar(_) if got != 1 => return Err(wrong("scalar", got, 1)),
                        Operand::Rows(_) if got != n_rows => return Err(wrong("rows", got, n_rows)),
                        Operand::Columns(_) if got != n_cols => return Err(wrong("columns", got, n_cols)),
                        _ => {}
                    }
                    if let Some(rows) = rows.as_ref().filter(|rows| rows.len() != n_rows) {
                        return Err(wrong("rows", rows.len(), n_rows));
                    }
                }
                Step::SubtractProduct { left, right, k } => {
                    if left.len() != n_rows * k {
                        return Err(wrong("rows", left.len(), n_rows * k));
                    }
                    if right.len() != n_cols * k {
                        return Err(wrong("columns", right.len(), n_cols * k));
                    }
                }
                Step::Cast(_) | Step::Widen | Step::Map(_) | Step::Densify | Step::Sparsify => {}
            }
        }
        Ok(())
    }

    /// Applies the steps to rows that begin with row `first_row` of the matrix.
    ///
    /// # Errors
    /// `invalid-argument` for a value type that a step does not take, and for integers that
    /// overflow.
    pub fn apply(&self, chunk: CsrChunk, first_row: usize, n_cols: usize) -> Result<CsrChunk> {
        let place = Place { first_row, n_cols };
        let by_row = self.steps.iter().take_while(|s| depends_on_row_and_value(s)).count();
        let (first, rest) = self.steps.split_at(by_row);
        let chunk = if memo::pays(first, &chunk) {
            memo::apply(first, chunk, &place)?
        } else {
            step::apply_all(first, chunk, &place)?
        };
        step::apply_all(rest, chunk, &place)
    }
}

/// Whether a step gives equal values of a row equal results.
fn depends_on_row_and_value(step: &Step) -> bool {
    match step {
        Step::Cast(_) | Step::Widen | Step::Map(_) => true,
        Step::Combine { operand, .. } => !matches!(operand, Operand::Columns(_)),
        Step::Densify | Step::Sparsify | Step::SubtractProduct { .. } => false,
    }
}
