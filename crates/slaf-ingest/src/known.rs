//! An input of which more is known than its file tells.

use crate::measured::Measured;
use crate::model::{ArrayKey, Description, Frame, Input, MatrixKey, RowStream, StreamOptions};
use slaf_core::{Error, Result, Values};
use std::ops::Range;
use std::path::Path;

/// An input, and which genes were measured in its cells.
pub(crate) struct Known {
    input: Box<dyn Input>,
    description: Description,
}

impl Known {
    /// # Errors
    /// `invalid-argument` for other numbers of cells or genes.
    pub(crate) fn new(input: Box<dyn Input>, measured: Measured) -> Result<Known> {
        let mut description = input.description().clone();
        let (cells, genes) = (measured.n_cells(), measured.n_genes());
        if (cells, genes) != (description.n_cells, description.n_genes) {
            let (n, m) = (description.n_cells, description.n_genes);
            let what = format!("what was measured is of {cells} cells x {genes} genes, and the input has {n} x {m}");
            return Err(Error::invalid(what));
        }
        description.measured = Some(measured);
        Ok(Known { input, description })
    }
}

impl Input for Known {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.input.obs(rows)
    }

    fn var(&self) -> Result<Frame> {
        self.input.var()
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        self.input.raw_var()
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.input.matrix(key, options)
    }

    fn matrix_rows(&self, key: &MatrixKey, rows: Range<u64>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.input.matrix_rows(key, rows, options)
    }

    fn has_cheap_rows(&self) -> bool {
        self.input.has_cheap_rows()
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        self.input.column_counts(key)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        self.input.array(key, rows)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        self.input.write_extras(target)
    }
}
