//! What a loader gives.

use slaf_core::Values;

/// What a batch holds of its cells, by [`Form`](super::Form).
#[derive(Clone, Debug, PartialEq)]
pub enum BatchData {
    /// Compressed sparse rows; columns rise within a row.
    Sparse {
        /// Where each row begins, and the end of the last.
        indptr: Vec<u32>,
        /// The column of each value.
        indices: Vec<u32>,
        /// The values, row by row.
        values: Values,
    },
    /// Row by row, `width` values each.
    Dense {
        /// As many as there are cells times `width`.
        values: Values,
        /// Columns: the genes that were asked for.
        width: usize,
    },
    /// Row by row, `length` tokens each; `values` is empty for a tokenizer without values.
    Tokens {
        /// Padded at the end of a row.
        input_ids: Vec<i64>,
        /// True for everything but padding.
        attention_mask: Vec<bool>,
        /// What a tokenizer gives beside each token.
        values: Vec<f32>,
        /// Tokens of a row, padding included.
        length: usize,
    },
}

/// Cells that go to the model at once.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedBatch {
    /// The number of each row's cell in its store.
    pub cells: Vec<u64>,
    /// The store of each row; empty if there is only one.
    pub sources: Vec<u32>,
    /// What the model gets: one row for each cell.
    pub data: BatchData,
    /// Row by row, whether the gene of each column was measured; of [`LoaderOptions::measured`] alone.
    ///
    /// [`LoaderOptions::measured`]: super::LoaderOptions::measured
    pub measured: Option<Vec<bool>>,
    /// The values of [`Source::columns`](super::Source::columns) in these cells.
    pub columns: Vec<Values>,
}
