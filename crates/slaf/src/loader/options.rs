//! What a loader is asked for.

use crate::selection::Selection;
use crate::store::Snapshot;
use slaf_core::{Dtype, Values};
use slaf_ingest::MatrixKey;
use slaf_kernels::sampling::{Remainder, Shard};
use slaf_kernels::tokenizers::Tokenizer;
use std::sync::Arc;

/// What a batch holds of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// Rows of a sparse matrix.
    #[default]
    Sparse,
    /// Rows of a dense matrix.
    Dense,
    /// Rows of tokens.
    Tokens,
}

slaf_core::names!(Form, "form of batches", { Sparse => "sparse", Dense => "dense", Tokens => "tokens" });

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// The matrix that cells are read from.
    pub matrix: MatrixKey,
    /// What the rows of a batch are.
    pub form: Form,
    /// Cells of a batch, of one rank.
    pub batch_size: usize,
    /// What becomes of cells that do not fill a batch on each rank.
    pub remainder: Remainder,
    /// The type of the values of matrices; by default the stored one if it is floating-point, and
    /// otherwise `F32`.
    pub dtype: Option<Dtype>,
    /// What the values of each cell are scaled to sum up to: `x / (total / target)` in the
    /// precision of the values, as scanpy's `normalize_total`. The total is that over all genes.
    pub target_sum: Option<f64>,
    /// Takes the natural logarithm of 1 + x, after scaling.
    pub log1p: bool,
    /// Batches of matrices tell which of their genes were measured in each cell.
    pub measured: bool,
    /// Keys all chance of tokenizers, together with epoch and cell.
    pub seed: u64,
    /// Bytes that packed rows and finished batches may take together, about.
    pub memory: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions {
            matrix: MatrixKey::X,
            form: Form::Sparse,
            batch_size: 32,
            remainder: Remainder::Pad,
            dtype: None,
            target_sum: None,
            log1p: false,
            measured: false,
            seed: 0,
            memory: 512 << 20,
        }
    }
}

/// A store that a loader reads. The cells of several are numbered on from store to store.
#[derive(Clone)]
pub struct Source {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Needed for [`Form::Tokens`].
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The columns of matrices, in order, none twice. In the order in which they are stored
    /// ([`Dataset::stored_genes`](crate::Dataset::stored_genes)), rows need not be renumbered.
    pub genes: Selection,
    /// Columns that come with each batch: one value for each cell of the store.
    pub columns: Arc<Vec<Values>>,
}

impl Source {
    /// All genes, and nothing else.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Source {
        Source { snapshot, tokenizer: None, genes: Selection::All, columns: Arc::default() }
    }
}

/// Which part of an epoch is wanted.
#[derive(Clone, Copy, Debug)]
pub struct EpochPart {
    /// The number of the epoch, which chooses the order of the cells.
    pub epoch: u64,
    /// Positions that were consumed before, by all ranks together.
    pub start: u64,
    /// Batches after `start` that this consumer has had already.
    pub skip: u64,
    /// The part of this consumer among all ranks and workers.
    pub shard: Shard,
}

impl EpochPart {
    /// All of it, for one consumer.
    pub fn whole(epoch: u64) -> EpochPart {
        EpochPart { epoch, start: 0, skip: 0, shard: Shard::ALL }
    }
}
