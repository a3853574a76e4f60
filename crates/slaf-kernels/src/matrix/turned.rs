//! Plans for some columns of a matrix, and for its transpose.

use super::{Operand, Plan, Step};
use slaf_core::{Value, Values, with_values};

impl Plan {
    /// The plan for these columns of the matrix.
    #[must_use]
    pub fn of_columns(&self, columns: &[u32]) -> Plan {
        let steps = self.steps.iter().map(|step| match step {
            Step::Combine { op, operand: Operand::Columns(numbers), rows } => {
                Step::Combine { op: *op, operand: Operand::Columns(picked(numbers, columns)), rows: rows.clone() }
            }
            Step::SubtractProduct { left, right, k } => {
                let width = right.len() / (*k).max(1);
                let of = |term: usize| columns.iter().map(move |&c| right[term * width + c as usize]);
                Step::SubtractProduct { left: left.clone(), right: (0..*k).flat_map(of).collect(), k: *k }
            }
            other => other.clone(),
        });
        Plan { steps: steps.collect() }
    }

    /// The plan for the transpose of the matrix, whose rows are these columns; `None` if a step
    /// changes some rows alone.
    pub fn transposed(&self, columns: &[u32]) -> Option<Plan> {
        let steps = self.of_columns(columns).steps.into_iter().map(|step| match step {
            Step::Combine { rows: Some(_), .. } => None,
            Step::Combine { op, operand, rows: None } => {
                let operand = match operand {
                    Operand::Scalar(number) => Operand::Scalar(number),
                    Operand::Rows(numbers) => Operand::Columns(numbers),
                    Operand::Columns(numbers) => Operand::Rows(numbers),
                };
                Some(Step::Combine { op, operand, rows: None })
            }
            Step::SubtractProduct { left, right, k } => {
                let (left, right) = (turned(&right, columns.len()), turned(&left, k));
                Some(Step::SubtractProduct { left, right, k })
            }
            other => Some(other),
        });
        Some(Plan { steps: steps.collect::<Option<_>>()? })
    }
}

fn picked(numbers: &Values, columns: &[u32]) -> Values {
    fn of<T: Value>(v: &[T], columns: &[u32]) -> Values {
        T::wrap(columns.iter().map(|&c| v[c as usize]).collect())
    }
    with_values!(numbers, v => of(v, columns))
}

/// The transpose of a matrix with so many columns.
fn turned(matrix: &[f64], n_cols: usize) -> Vec<f64> {
    let n_rows = matrix.len() / n_cols.max(1);
    (0..n_cols).flat_map(|c| (0..n_rows).map(move |r| matrix[r * n_cols + c])).collect()
}
