//! Means and squared deviations that are updated value by value.

use super::request::{Columns, Request, Running};
use slaf_core::{CsrChunk, Value, with_values};

impl Running {
    /// Before the first row, if it is asked for.
    pub(super) fn of(request: &Request, n_cols: usize) -> Option<Running> {
        request.columns.as_ref().filter(|columns| columns.running)?;
        let n = request.n_groups() * n_cols;
        Some(Running { stored: vec![0; n], mean: vec![0.0; n], square: vec![0.0; n] })
    }

    /// With the next rows, which begin with row `first` of the matrix.
    pub(super) fn add(&mut self, chunk: &CsrChunk, first: usize, columns: &Columns, n_cols: usize) {
        with_values!(&chunk.values, v => self.add_values(chunk, v, first, columns, n_cols));
    }

    fn add_values<T: Value>(&mut self, chunk: &CsrChunk, values: &[T], first: usize, columns: &Columns, n_cols: usize) {
        for i in 0..chunk.n_rows() {
            let Some(group) = columns.group(first + i) else { continue };
            let of_group = group * n_cols..(group + 1) * n_cols;
            let stored = &mut self.stored[of_group.clone()];
            let mean = &mut self.mean[of_group.clone()];
            let square = &mut self.square[of_group];
            for (&column, value) in chunk.indices[chunk.row(i)].iter().zip(&values[chunk.row(i)]) {
                let (column, value) = (column as usize, value.as_f64());
                stored[column] += 1;
                let distance = value - mean[column];
                mean[column] += distance / f64::from(stored[column]);
                square[column] += distance * (value - mean[column]);
            }
        }
    }
}
