//! Batches of cells for training, read, decoded and tokenized by threads while the model works.
//!
//! A [`Sampler`] says which cell is at which position of an epoch, a [`Schedule`] which positions
//! make which batch. One thread reads the packed rows of many batches at once, sorted by row;
//! another one has them decoded and tokenized in the pool, batch by batch, and hands them out
//! through a bounded queue. Neither changes what is in a batch.
//!
//! ```no_run
//! use slaf::sampling::{Pool, Sampler, Shuffle};
//! use slaf::{BatchData, Dataset, EpochPart, Loader, LoaderOptions};
//!
//! let pbmc = Dataset::open("pbmc.slaf")?;
//! let sampler = Sampler::cover(Pool::Range(0..pbmc.n_cells()), Shuffle::Full, 0);
//! let loader = Loader::new(vec![pbmc.source()], sampler, LoaderOptions { batch_size: 64, ..Default::default() })?;
//! for batch in loader.epoch(&EpochPart::whole(0))? {
//!     let batch = batch?;
//!     if let BatchData::Sparse { indptr, indices, values } = &batch.data {
//!         assert_eq!(indptr.len(), batch.cells.len() + 1);
//!         assert_eq!(indices.len(), values.len());
//!     }
//! }
//! # Ok::<(), slaf::Error>(())
//! ```

mod batch;
mod build;
mod change;
mod fetch;
mod options;
mod pipeline;
mod prepared;
mod stats;

pub use batch::{BatchData, LoadedBatch};
pub use options::{EpochPart, Form, LoaderOptions, Source};
pub use pipeline::LoadedBatches;
pub use stats::LoaderStats;

use crate::config;
use crate::selection::Selection;
use crate::store::manifest::MatrixEntry;
use prepared::{Prepared, out_dtype};
use slaf_core::{Error, Result};
use slaf_ingest::MatrixKey;
use slaf_kernels::sampling::{Sampler, Schedule};
use slaf_kernels::tokenizers::Binning;
use slaf_lance::runtime::block_on;

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
        if options.measured && options.form == Form::Tokens {
            let what = "tokens are of stored values alone: genes that were not measured never are among them";
            return Err(Error::invalid(what));
        }
        if options.measured && !matches!(options.matrix, MatrixKey::X | MatrixKey::Layer(_)) {
            return Err(Error::invalid(format!("{} has other genes than those of which it is known", options.matrix)));
        }
        if sources.is_empty() {
            return Err(Error::invalid("a loader needs a store"));
        }
        if options.batch_size > i32::MAX as usize || sampler.len() > 1 << 62 {
            let message = format!("batches of {} cells in an epoch of {}", options.batch_size, sampler.len());
            return Err(Error::invalid(message));
        }
        for source in &sources {
            source.snapshot.matrix(&options.matrix)?;
            if options.form == Form::Tokens {
                let tokenizer = source.tokenizer.as_ref().ok_or_else(|| Error::invalid("tokens need a tokenizer"))?;
                let bins = tokenizer.description().values.and_then(|v| v.bins);
                if bins.is_some_and(|b| b.mode == Binning::Strict) {
                    return Err(Error::invalid(
                        "strict binning goes cell by cell in order: call `tokenize` of the tokenizer",
                    ));
                }
                if source.genes != Selection::All {
                    return Err(Error::invalid("a tokenizer chooses genes by its vocabulary, not by a selection"));
                }
                if tokenizer.length() != sources[0].tokenizer.as_ref().map_or(0, |t| t.length()) {
                    return Err(Error::invalid("the tokenizers of the stores give rows of different lengths"));
                }
            }
        }
        out_dtype(&sources, &options)?;
        let loader = Loader { sources, sampler, options };
        let (cells, width) = (loader.sampler.len().min(loader.options.batch_size as u64), loader.width());
        if cells.saturating_mul(width) > i32::MAX as u64 {
            let message = format!("a batch of {cells} cells has {width} values of each: take fewer cells");
            return Err(Error::invalid(message));
        }
        Ok(loader)
    }

    /// Values that a row of a batch has in any case: none of a sparse one without a mask.
    fn width(&self) -> u64 {
        match self.options.form {
            Form::Tokens => self.sources[0].tokenizer.as_ref().map_or(0, |t| t.length() as u64),
            Form::Sparse if !self.options.measured => 0,
            Form::Dense | Form::Sparse => self.sources[0].genes.len(self.sources[0].snapshot.manifest.n_genes),
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
        let dtype = out_dtype(&self.sources, &self.options)?;
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

    fn mean(&self, of_source: impl Fn(&MatrixEntry) -> u64) -> usize {
        let sums = self.sources.iter().filter_map(|s| {
            let entry = s.snapshot.matrix(&self.options.matrix).ok()?;
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
            Form::Sparse => self.mean(|m| m.nnz).saturating_mul(8).saturating_add(self.width() as usize),
            Form::Dense => (self.width() as usize).saturating_mul(if self.options.measured { 5 } else { 4 }),
        };
        (self.options.memory / 4 / row.saturating_mul(self.options.batch_size).max(1)).clamp(2, 32)
    }
}
