//! Some cells of an input, as an input.

use crate::model::{ArrayKey, Axis, Description, Frame, Input, MatrixKey, RowStream, StreamOptions};
use slaf_core::{Error, ErrorKind, Result, Values};
use std::ops::Range;
use std::path::Path;

/// Consecutive cells of an input.
pub struct Rows {
    input: Box<dyn Input>,
    rows: Range<u64>,
    description: Description,
}

impl Rows {
    /// The cells in `rows`; of an input without cheap rows, all of them.
    ///
    /// # Errors
    /// `out-of-range` for rows that the input does not have, `internal` for some of an input that is
    /// read whole.
    pub fn new(input: Box<dyn Input>, rows: Range<u64>) -> Result<Rows> {
        let mut description = input.description().clone();
        let all = description.n_cells;
        if rows.start > rows.end || rows.end > all {
            let what = format!("cells {}..{} of {all}", rows.start, rows.end);
            return Err(Error::new(ErrorKind::OutOfRange, what));
        }
        if rows != (0..all) && !input.has_cheap_rows() {
            return Err(Error::new(ErrorKind::Internal, "some cells of an input that is read whole"));
        }
        description.n_cells = rows.end - rows.start;
        for matrix in description.matrices.iter_mut().filter(|m| !matches!(m.key, MatrixKey::Varp(_))) {
            matrix.n_rows = description.n_cells;
            matrix.nnz = matrix.nnz.filter(|_| description.n_cells == all);
        }
        for array in description.arrays.iter_mut().filter(|a| a.key.axis == Axis::Cells) {
            array.n_rows = description.n_cells;
        }
        Ok(Rows { input, rows, description })
    }

    /// These rows, counted as the input does.
    fn of(&self, rows: &Range<u64>) -> Range<u64> {
        self.rows.start + rows.start..self.rows.start + rows.end
    }
}

impl Input for Rows {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.input.obs(self.of(&rows))
    }

    fn var(&self) -> Result<Frame> {
        self.input.var()
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        self.input.raw_var()
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let is_whole = self.rows == (0..self.input.description().n_cells);
        match key {
            MatrixKey::Varp(_) => self.input.matrix(key, options),
            // Also of an input that has nothing but all.
            _ if is_whole => self.input.matrix(key, options),
            _ => self.input.matrix_rows(key, self.rows.clone(), options),
        }
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        self.input.column_counts(key)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        match key.axis {
            Axis::Cells => self.input.array(key, self.of(&rows)),
            Axis::Genes => self.input.array(key, rows),
        }
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        self.input.write_extras(target)
    }
}
