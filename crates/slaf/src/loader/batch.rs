//! What a loader gives.

use slaf_core::Values;

/// What a batch holds of its cells, by [`Form`](super::Form).
#[derive(Clone, Debug, PartialEq)]
pub enum BatchData {
    /// Compressed sparse rows; columns rise within a row.
    Sparse { indptr: Vec<u32>, indices: Vec<u32>, values: Values },
    /// Row by row, `width` values each.
    Dense { values: Values, width: usize },
    /// Row by row, `length` tokens each; `values` is empty for a tokenizer without values.
    Tokens { input_ids: Vec<i64>, attention_mask: Vec<bool>, values: Vec<f32>, length: usize },
}

/// Cells that go to the model at once.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedBatch {
    /// The number of each row's cell in its store.
    pub cells: Vec<u64>,
    /// The store of each row; empty if there is only one.
    pub sources: Vec<u32>,
    pub data: BatchData,
    /// The values of [`Source::columns`](super::Source::columns) in these cells.
    pub columns: Vec<Values>,
}
