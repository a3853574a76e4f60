//! Batches of cells for training, read, decoded and tokenized by threads while the model works.
//!
//! A [`Sampler`] says which cell is at which position of an epoch, a [`Schedule`] which positions
//! make which batch. One thread reads the packed rows of many batches at once, sorted by row;
//! another one has them decoded and tokenized in the pool, batch by batch, and hands them out
//! through a bounded queue. Neither changes what is in a batch.
//!
//! ```no_run
//! use slaf::sampling::{Pool, Sampler, Shuffle};
//! use slaf::{BatchData, Dataset, EpochPart, Loader, LoaderOptions, Source};
//!
//! let pbmc = Dataset::open("pbmc.slaf")?;
//! let sampler = Sampler::cover(Pool::Range(0..pbmc.n_cells()), Shuffle::Full, 0);
//! let loader = Loader::new(vec![Source::new(pbmc)], sampler, LoaderOptions { batch_size: 64, ..Default::default() })?;
//! for batch in loader.epoch(&EpochPart::whole(0))? {
//!     let batch = batch?;
//!     if let BatchData::Sparse { indptr, indices, values } = &batch.data {
//!         assert_eq!(indptr.len(), batch.cells.len() + 1);
//!         assert_eq!(indices.len(), values.len());
//!     }
//! }
//! # Ok::<(), slaf::Error>(())
//! ```

mod build;
mod fetch;
mod pipeline;
mod stats;

pub use pipeline::LoadedBatches;
pub use stats::LoaderStats;

use crate::config;
use crate::dataset::Dataset;
use crate::selection::Selection;
use build::Prepared;
use slaf_core::{Dtype, Error, Result, Values};
use slaf_ingest::MatrixKey;
use slaf_kernels::sampling::{Remainder, Sampler, Schedule, Shard};
use slaf_kernels::tokenizers::{Binning, Tokenizer};
use slaf_lance::runtime::block_on;
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
    pub matrix: MatrixKey,
    pub form: Form,
    /// Cells of a batch, of one rank.
    pub batch_size: usize,
    pub remainder: Remainder,
    /// The type of the values of matrices; by default the stored one if it is floating-point, and
    /// otherwise `F32`.
    pub dtype: Option<Dtype>,
    /// What the values of each cell are scaled to sum up to: `x / (total / target)` in the
    /// precision of the values, as scanpy's `normalize_total`. The total is that over all genes.
    pub target_sum: Option<f64>,
    /// Takes the natural logarithm of 1 + x, after scaling.
    pub log1p: bool,
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
            seed: 0,
            memory: 512 << 20,
        }
    }
}

/// A store that a loader reads. The cells of several are numbered on from store to store.
#[derive(Clone)]
pub struct Source {
    pub dataset: Dataset,
    /// Needed for [`Form::Tokens`].
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The columns of matrices, in order, none twice.
    pub genes: Selection,
    /// Columns that come with each batch: one value for each cell of the store.
    pub columns: Arc<Vec<Values>>,
}

impl Source {
    /// All genes, and nothing else.
    pub fn new(dataset: Dataset) -> Source {
        Source { dataset, tokenizer: None, genes: Selection::All, columns: Arc::default() }
    }
}

/// What a batch holds of its cells, by [`Form`].
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
    /// The values of [`Source::columns`] in these cells.
    pub columns: Vec<Values>,
}

/// Which part of an epoch is wanted.
#[derive(Clone, Copy, Debug)]
pub struct EpochPart {
    pub epoch: u64,
    /// Positions that were consumed before, by all ranks together.
    pub start: u64,
    /// Batches after `start` that this consumer has had already.
    pub skip: u64,
    pub shard: Shard,
}

impl EpochPart {
    /// All of it, for one consumer.
    pub fn whole(epoch: u64) -> EpochPart {
        EpochPart { epoch, start: 0, skip: 0, shard: Shard::ALL }
    }
}

/// Gives batches of cells; see the [module](self).
pub struct Loader {
    sources: Vec<Source>,
    sampler: Sampler,
    options: LoaderOptions,
}

impl Loader {
    /// # Errors
    /// `invalid-argument` for options that do not go together, for a tokenizer that bins strictly
    /// (its generator needs all cells in order), and where a batch would part a set;
    /// `unknown-table` for a matrix that a store does not have.
    pub fn new(sources: Vec<Source>, sampler: Sampler, options: LoaderOptions) -> Result<Loader> {
        if options.batch_size == 0 {
            return Err(Error::invalid("a batch holds at least one cell"));
        }
        let granule = sampler.granule();
        if !(options.batch_size as u64).is_multiple_of(granule) {
            let message = format!("batches of {} cells would part sets of {granule}", options.batch_size);
            return Err(Error::invalid(message));
        }
        if options.target_sum.is_some_and(|t| !(t.is_finite() && t > 0.0)) {
            return Err(Error::invalid("the sum to scale to is above 0"));
        }
        if sources.is_empty() {
            return Err(Error::invalid("a loader needs a store"));
        }
        if options.batch_size > i32::MAX as usize || sampler.len() > 1 << 62 {
            let message = format!("batches of {} cells in an epoch of {}", options.batch_size, sampler.len());
            return Err(Error::invalid(message));
        }
        for source in &sources {
            source.dataset.matrix_info(&options.matrix)?;
            if options.form == Form::Tokens {
                let tokenizer = source.tokenizer.as_ref().ok_or_else(|| Error::invalid("tokens need a tokenizer"))?;
                let bins = tokenizer.description().values.and_then(|v| v.bins);
                if bins.is_some_and(|b| b.mode == Binning::Strict) {
                    return Err(Error::invalid("strict binning goes cell by cell in order: use Dataset::tokenize"));
                }
                if source.genes != Selection::All {
                    return Err(Error::invalid("a tokenizer chooses genes by its vocabulary, not by a selection"));
                }
                if tokenizer.length() != sources[0].tokenizer.as_ref().map_or(0, |t| t.length()) {
                    return Err(Error::invalid("the tokenizers of the stores give rows of different lengths"));
                }
            }
        }
        build::out_dtype(&sources, &options)?;
        let loader = Loader { sources, sampler, options };
        let (cells, width) = (loader.sampler.len().min(loader.options.batch_size as u64), loader.width());
        if cells.saturating_mul(width) > i32::MAX as u64 {
            let message = format!("a batch of {cells} cells has {width} values of each: take fewer cells");
            return Err(Error::invalid(message));
        }
        Ok(loader)
    }

    /// Values that a row of a batch has in any case: none of a sparse one.
    fn width(&self) -> u64 {
        match self.options.form {
            Form::Tokens => self.sources[0].tokenizer.as_ref().map_or(0, |t| t.length() as u64),
            Form::Dense => self.sources[0].genes.len(self.sources[0].dataset.n_genes()),
            Form::Sparse => 0,
        }
    }

    fn schedule(&self, start: u64) -> Schedule {
        Schedule {
            n: self.sampler.len(),
            batch: self.options.batch_size as u64,
            remainder: self.options.remainder,
            granule: self.sampler.granule(),
            start,
        }
    }

    /// How many batches a part of an epoch has.
    pub fn n_batches(&self, part: &EpochPart) -> u64 {
        self.schedule(part.start).steps(part.shard).saturating_sub(part.skip)
    }

    /// Positions of an epoch that all ranks together have consumed, after each has had `batches`
    /// batches since position `start`: where a run goes on.
    pub fn consumed(&self, start: u64, world: u64, batches: u64) -> u64 {
        self.schedule(start).consumed(world, batches)
    }

    /// Starts to make the batches of a part of an epoch.
    ///
    /// # Errors
    /// `invalid-argument` for a part that there is not; `corrupt`, those of the storage,
    /// `out-of-range` for genes; the iterator gives those of reading the rows.
    pub fn epoch(&self, part: &EpochPart) -> Result<LoadedBatches> {
        part.shard.check()?;
        if part.start > self.sampler.len() {
            let message = format!("an epoch of {} positions does not begin at {}", self.sampler.len(), part.start);
            return Err(Error::invalid(message));
        }
        let order = self.sampler.epoch(part.epoch)?;
        let dtype = build::out_dtype(&self.sources, &self.options)?;
        let sources = self
            .sources
            .iter()
            .map(|source| block_on(Prepared::new(source, &self.options, dtype)))
            .collect::<Result<Vec<_>>>()?;
        let plan = pipeline::Plan {
            fetch: fetch::Fetch::new(sources, self.rows_at_once()),
            order,
            schedule: self.schedule(part.start),
            part: *part,
            form: self.options.form,
            random: (self.options.seed, part.epoch),
            queue: self.queue(),
        };
        pipeline::start(plan)
    }

    fn mean(&self, of_source: impl Fn(&crate::manifest::MatrixEntry) -> u64) -> usize {
        let sums = self.sources.iter().filter_map(|s| {
            let entry = s.dataset.matrix_info(&self.options.matrix).ok()?;
            Some((of_source(entry), entry.n_rows))
        });
        let add = |(a, b): (u64, u64), (total, rows): (u64, u64)| (a.saturating_add(total), b.saturating_add(rows));
        let (total, rows) = sums.fold((0, 1), add);
        total.div_ceil(rows) as usize
    }

    /// Rows whose packed form is held at once: there are two such parts, one that is read and one
    /// that is decoded.
    fn rows_at_once(&self) -> usize {
        let row = self.mean(|m| m.bytes).max(64);
        (self.options.memory / 3 / row).clamp(1, config::loader_rows())
    }

    /// Batches that wait for the consumer.
    fn queue(&self) -> usize {
        let row = match self.options.form {
            Form::Tokens => (self.width() as usize).saturating_mul(13),
            Form::Sparse => self.mean(|m| m.nnz).saturating_mul(8),
            Form::Dense => (self.width() as usize).saturating_mul(4),
        };
        (self.options.memory / 4 / row.saturating_mul(self.options.batch_size).max(1)).clamp(2, 32)
    }
}
