//! A tokenizer that is ready for the genes of a data set.

use super::binned::Binned;
use super::by_key::ByKey;
use super::columns::{Cell, Columns};
use super::description::{Binning, Description, Empty};
use super::matching::GeneMatch;
use super::memory::{Memory, RowOut};
use super::random::Random;
use super::row::{Plan, Scratch};
use super::vocabulary::Vocabulary;
use rand_mt::Mt;
use rayon::prelude::*;
use serde::Serialize;
use slaf_core::order::rises;
use slaf_core::{CsrChunk, Error, Result, Value, with_values};
use std::sync::{Arc, Mutex, TryLockError};

/// Turns rows of a matrix into rows of tokens; from [`Recipe::prepare`](super::Recipe::prepare).
///
/// It can be shared between threads.
pub struct Tokenizer {
    pub(super) plan: Plan,
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) found: GeneMatch,
    /// Memory of threads that are done with it.
    pub(super) scratches: Mutex<Vec<Scratch>>,
}

/// Cells to tokenize.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// One row for each cell; the columns are the genes of the data set, in order, or those of
    /// [`Tokenizer::with_columns`].
    pub chunk: &'a CsrChunk,
    /// The cells' numbers in the data set, which key all chance.
    pub cells: &'a [u64],
    /// The cells' totals over all genes; without them, the rows are summed.
    pub totals: Option<&'a [f64]>,
}

/// Buffers of `b x length` tokens, row by row.
#[derive(Debug)]
pub struct Output<'a> {
    /// The tokens.
    pub input_ids: &'a mut [i64],
    /// True for everything but padding.
    pub attention_mask: &'a mut [bool],
    /// Empty for a tokenizer without values.
    pub values: &'a mut [f32],
}

/// Rows of tokens that are appended to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The tokens, row by row, padded at the end of a row.
    pub input_ids: Vec<i64>,
    /// True for everything but padding.
    pub attention_mask: Vec<bool>,
    /// Beside `input_ids`; empty for a tokenizer without values.
    pub values: Vec<f32>,
}

impl Rows {
    /// None yet, with memory for those of `cells` cells.
    pub fn with_capacity(tokenizer: &Tokenizer, cells: usize) -> Rows {
        let n = cells * tokenizer.length();
        let values = Vec::with_capacity(if tokenizer.has_values() { n } else { 0 });
        Rows { input_ids: Vec::with_capacity(n), attention_mask: Vec::with_capacity(n), values }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// Rows of the buffers that hold cells. Below the number of cells only if the description
    /// drops cells without tokens; what the buffers hold after these rows is then unspecified.
    pub rows: usize,
    /// The cells without tokens, as positions in the batch, rising.
    pub empty: Vec<usize>,
}

impl Tokenized {
    /// The cells of the rows that were written, of the batch's `cells`.
    pub fn kept<'a>(&'a self, cells: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let drops = self.rows < cells.len();
        let kept = cells.iter().enumerate().filter(move |(i, _)| !drops || self.empty.binary_search(i).is_err());
        kept.map(|(_, cell)| *cell)
    }
}

/// Rows without padding, back to back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    /// The tokens of all rows.
    pub input_ids: Vec<i64>,
    /// Beside `input_ids`; empty for a tokenizer without values.
    pub values: Vec<f32>,
    /// Row `i` is `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<u64>,
    /// The cells without tokens, as positions in the batch, rising.
    pub empty: Vec<usize>,
}

/// The vocabulary of a tokenizer in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VocabInfo {
    /// One more than the largest token.
    pub vocab_size: usize,
    /// Genes of the vocabulary.
    pub n_genes: usize,
    /// Special tokens by name, in order of token.
    pub special_tokens: Vec<(String, u32)>,
    /// Tokens in a row.
    pub max_length: usize,
    /// Whether the vocabulary was made from the genes of the data set.
    pub from_data_set: bool,
    /// How the genes of the data set were found.
    pub genes: GeneMatch,
}

/// Rows that a thread takes at once: enough work to be worth handing over, and few enough that
/// all threads have some of a batch.
const BLOCK: usize = 32;

struct Block<'a> {
    start: usize,
    rows: usize,
    out: Memory<'a>,
}

impl Tokenizer {
    /// The same tokenizer for rows whose column `i` stands for gene `gene_of[i]`, as a store has
    /// them by popularity. Each cell has the same row of tokens.
    ///
    /// # Errors
    /// `invalid-argument` if a gene has no column, or several.
    pub fn with_columns(&self, gene_of: &[u32]) -> Result<Tokenizer> {
        let columns = Columns::stored(gene_of, &self.plan.genes)?;
        let plan = Plan {
            d: self.plan.d.clone(),
            by_key: ByKey::new(&self.plan.d, &self.plan.genes, &columns),
            binned: Binned::new(&self.plan.d, &self.plan.genes, &columns),
            genes: self.plan.genes.clone(),
            columns,
            first: self.plan.first.clone(),
            last: self.plan.last.clone(),
            pad: self.plan.pad,
        };
        let (vocabulary, found) = (Arc::clone(&self.vocabulary), self.found.clone());
        Ok(Tokenizer { plan, vocabulary, found, scratches: Mutex::default() })
    }

    /// The parts that the tokenizer is made of.
    pub fn description(&self) -> &Description {
        &self.plan.d
    }

    /// Its tokens by gene and by name.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// How the genes were found; its `warning` is meant for the user.
    pub fn gene_match(&self) -> &GeneMatch {
        &self.found
    }

    /// Tokens in a row.
    pub fn length(&self) -> usize {
        self.plan.d.length
    }

    /// Whether there are values beside the tokens.
    pub fn has_values(&self) -> bool {
        self.plan.d.values.is_some()
    }

    /// The vocabulary in numbers, and how the genes were found.
    pub fn vocab_info(&self) -> VocabInfo {
        VocabInfo {
            vocab_size: self.vocabulary.size(),
            n_genes: self.found.n_vocabulary,
            special_tokens: self.vocabulary.specials().map(|(name, t)| (name.to_string(), t)).collect(),
            max_length: self.length(),
            from_data_set: self.vocabulary.is_from_data_set(),
            genes: self.found.clone(),
        }
    }

    /// Writes one row for each cell of the batch.
    ///
    /// Large batches are done in parallel in the current rayon pool; the result is the same. Only
    /// strict binning goes row by row, since its generator does.
    ///
    /// # Errors
    /// `invalid-argument` for slices of the wrong length, values that are negative or not finite,
    /// and totals that are not above 0; `malformed-input` for a chunk that breaks the rules of its
    /// type or has columns beyond the genes.
    pub fn tokenize(&self, batch: &Batch<'_>, random: &mut Random, mut out: Output<'_>) -> Result<Tokenized> {
        self.check(batch)?;
        let n = batch.cells.len() * self.length();
        expect("input_ids", out.input_ids.len(), n)?;
        expect("attention_mask", out.attention_mask.len(), n)?;
        expect("values", out.values.len(), if self.has_values() { n } else { 0 })?;
        let empty = self.fill(batch, random, Memory::of(out.input_ids, out.attention_mask, out.values))?;
        Ok(self.without(empty, batch.cells.len(), &mut out))
    }

    /// Appends one row for each cell of the batch, and none for one that is dropped: as
    /// [`Tokenizer::tokenize`], to memory that nobody has to set before.
    ///
    /// # Errors
    /// Those of [`Tokenizer::tokenize`]; there are no more rows then than before.
    pub fn append(&self, batch: &Batch<'_>, random: &mut Random, rows: &mut Rows) -> Result<Tokenized> {
        self.check(batch)?;
        let n = batch.cells.len() * self.length();
        let n_values = if self.has_values() { n } else { 0 };
        let Rows { input_ids, attention_mask, values } = rows;
        let starts = (input_ids.len(), attention_mask.len(), values.len());
        let empty = self.fill(batch, random, Memory::behind(input_ids, attention_mask, values, n, n_values))?;
        // SAFETY: there is memory for so many, and all of it was filled.
        unsafe {
            input_ids.set_len(starts.0 + n);
            attention_mask.set_len(starts.1 + n);
            values.set_len(starts.2 + n_values);
        }
        let mut out = Output {
            input_ids: &mut input_ids[starts.0..],
            attention_mask: &mut attention_mask[starts.1..],
            values: &mut values[starts.2..],
        };
        let done = self.without(empty, batch.cells.len(), &mut out);
        let n = done.rows * self.length();
        input_ids.truncate(starts.0 + n);
        attention_mask.truncate(starts.1 + n);
        values.truncate(starts.2 + n.min(n_values));
        Ok(done)
    }

    /// Fills the rows of all cells, and with them all of the memory; returns the cells without tokens.
    fn fill(&self, batch: &Batch<'_>, random: &mut Random, out: Memory<'_>) -> Result<Vec<usize>> {
        let keys = random.keys();
        if self.is_strict() {
            let numpy = random.numpy()?;
            return self.block(batch, keys, Some(numpy), Block { start: 0, rows: batch.cells.len(), out });
        }
        let blocks = self.blocks(batch.cells.len(), out);
        let run = |block| self.block(batch, keys, None, block);
        let done: Vec<Result<Vec<usize>>> = match blocks.len() {
            0 | 1 => blocks.into_iter().map(run).collect(),
            _ => blocks.into_par_iter().map(run).collect(),
        };
        // The first error in order of cells, whichever thread was first.
        Ok(done.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Drops the rows of cells without tokens, if the description says so.
    fn without(&self, empty: Vec<usize>, rows: usize, out: &mut Output<'_>) -> Tokenized {
        let drops = self.plan.d.empty == Empty::Drop && !empty.is_empty();
        Tokenized { rows: if drops { out.drop_rows(&empty, rows, self.length()) } else { rows }, empty }
    }

    /// Rows without padding; cells without tokens are rows of length 0, or dropped if the
    /// description says so.
    ///
    /// # Errors
    /// Those of [`Tokenizer::tokenize`].
    pub fn tokenize_packed(&self, batch: &Batch<'_>, random: &mut Random) -> Result<Packed> {
        let mut padded = Rows::default();
        let Tokenized { rows, empty } = self.append(batch, random, &mut padded)?;
        let Rows { mut input_ids, attention_mask: mask, mut values } = padded;
        let mut offsets = vec![0];
        let mut end = 0;
        for (row, mask) in mask.chunks_exact(self.length()).take(rows).enumerate() {
            let (start, len) = (row * self.length(), mask.iter().filter(|&&m| m).count());
            input_ids.copy_within(start..start + len, end);
            if self.has_values() {
                values.copy_within(start..start + len, end);
            }
            end += len;
            offsets.push(end as u64);
        }
        input_ids.truncate(end);
        values.truncate(end);
        Ok(Packed { input_ids, values, offsets, empty })
    }

    fn is_strict(&self) -> bool {
        self.plan.d.values.and_then(|v| v.bins).is_some_and(|b| b.mode == Binning::Strict)
    }

    fn check(&self, batch: &Batch<'_>) -> Result<()> {
        let (rows, chunk) = (batch.chunk.n_rows(), batch.chunk);
        expect("cells", batch.cells.len(), rows)?;
        expect("totals", batch.totals.map_or(rows, <[f64]>::len), rows)?;
        let n_genes = self.plan.genes.tokens.len();
        let is_sound = chunk.indptr.first() == Some(&0)
            && chunk.indptr.last() == Some(&(chunk.indices.len() as u64))
            && chunk.indices.len() == chunk.values.len()
            && chunk.indptr.is_sorted()
            && (0..rows).all(|i| is_rising(&chunk.indices[chunk.row(i)], n_genes));
        // Only to find the words for it.
        if is_sound { Ok(()) } else { chunk.validate(n_genes as u64, 0) }
    }

    fn blocks<'a>(&self, rows: usize, out: Memory<'a>) -> Vec<Block<'a>> {
        if rows <= 2 * BLOCK || rayon::current_num_threads() == 1 {
            return vec![Block { start: 0, rows, out }];
        }
        let (mut blocks, mut out) = (Vec::with_capacity(rows.div_ceil(BLOCK)), out);
        for start in (0..rows).step_by(BLOCK) {
            let rows = BLOCK.min(rows - start);
            let (head, tail) = out.split(rows * self.length());
            blocks.push(Block { start, rows, out: head });
            out = tail;
        }
        blocks
    }

    /// Returns the cells without tokens.
    fn block(
        &self,
        batch: &Batch<'_>,
        keys: (u64, u64),
        numpy: Option<&mut Mt>,
        block: Block<'_>,
    ) -> Result<Vec<usize>> {
        let mut scratch = self.spare().and_then(|mut s| s.pop()).unwrap_or_default();
        let result = with_values!(&batch.chunk.values, v => self.rows(batch, v, keys, numpy, block, &mut scratch));
        if let Some(mut spare) = self.spare() {
            spare.push(scratch);
        }
        result
    }

    /// Memory that is free. Nobody waits for it: in a process that was forked while another thread
    /// held the lock, it stays locked for ever.
    fn spare(&self) -> Option<std::sync::MutexGuard<'_, Vec<Scratch>>> {
        match self.scratches.try_lock() {
            Ok(spare) => Some(spare),
            // What a panic left behind is memory of any content.
            Err(TryLockError::Poisoned(spare)) => Some(spare.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn rows<T: Value>(
        &self,
        batch: &Batch<'_>,
        values: &[T],
        keys: (u64, u64),
        mut numpy: Option<&mut Mt>,
        block: Block<'_>,
        scratch: &mut Scratch,
    ) -> Result<Vec<usize>> {
        let (mut empty, mut rest) = (Vec::new(), block.out);
        for i in block.start..block.start + block.rows {
            let nonzeros = batch.chunk.row(i);
            let cell = Cell {
                number: batch.cells[i],
                columns: &batch.chunk.indices[nonzeros.clone()],
                values: &values[nonzeros],
                total: batch.totals.map(|t| t[i]),
            };
            let (row, later) = rest.split(self.length());
            rest = later;
            let mut out = RowOut::new(row);
            if !self.plan.row(scratch, &cell, keys, numpy.as_deref_mut(), &mut out)? {
                empty.push(i);
            }
            assert!(out.is_full(), "a row that was not filled");
        }
        Ok(empty)
    }
}

fn expect(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} has {found} entries, not {expected}")))
}

/// Whether columns rise strictly and end below `n_genes`.
fn is_rising(columns: &[u32], n_genes: usize) -> bool {
    rises(columns) && columns.last().is_none_or(|&c| (c as usize) < n_genes)
}

impl Output<'_> {
    /// Moves all rows but these together; returns how many are left.
    fn drop_rows(&mut self, dropped: &[usize], rows: usize, length: usize) -> usize {
        let mut dropped = dropped.iter().peekable();
        let mut to = 0;
        for from in 0..rows {
            if dropped.next_if_eq(&&from).is_some() {
                continue;
            }
            let at = from * length..(from + 1) * length;
            self.input_ids.copy_within(at.clone(), to * length);
            self.attention_mask.copy_within(at.clone(), to * length);
            if !self.values.is_empty() {
                self.values.copy_within(at, to * length);
            }
            to += 1;
        }
        to
    }
}
