//! The nonzeros of one cell that have a token.

use super::matching::DROP;
use slaf_core::Value;
use slaf_core::order::Renumber;
use std::cmp::Ordering;

/// What a tokenizer knows of each gene of the data set. Entries have genes as their columns.
#[derive(Clone)]
pub(super) struct Genes {
    /// By column, [`DROP`] where there is none.
    pub(super) tokens: Vec<u32>,
    /// A bit for each column that has a token. Unlike the tokens they stay in the nearest cache,
    /// and tokens are needed of the chosen entries alone.
    pub(super) known: Vec<u64>,
    pub(super) all_known: bool,
    /// By column; empty if keys are not scaled.
    pub(super) scales: Vec<f64>,
    /// By column, about 1 over the scale; empty if keys are not scaled.
    pub(super) factors: Vec<f32>,
    /// By column, the first column of the same token; empty if no two columns share one.
    pub(super) first_of_token: Vec<u32>,
    /// By column; empty if the order is not by position.
    pub(super) positions: Vec<f64>,
    /// The first columns of all tokens, rising; empty if nothing is filled.
    pub(super) fillers: Vec<u32>,
}

impl Genes {
    /// The bits of [`Genes::known`].
    pub(super) fn known(tokens: &[u32]) -> Vec<u64> {
        let word = |tokens: &[u32]| (0..).zip(tokens).fold(0, |word, (i, &t)| word | u64::from(t != DROP) << i);
        tokens.chunks(64).map(word).collect()
    }
}

/// How a cell's values become keys.
#[derive(Clone, Copy)]
pub(super) struct KeyOf<'a> {
    /// The cell's total and the target sum, if keys are normalised.
    pub(super) normalize: Option<(f64, f64)>,
    pub(super) scales: &'a [f64],
}

impl KeyOf<'_> {
    /// In the order of operations of Geneformer's own tokenizer, so that the roundings are its own.
    pub(super) fn key(self, x: f64, column: u32) -> f64 {
        let normalized = self.normalize.map_or(x, |(total, target)| x / total * target);
        self.scales.get(column as usize).map_or(normalized, |scale| normalized / scale)
    }

    /// Which of two values, each with its column, has the larger key.
    pub(super) fn compare(self, a: (f64, u32), b: (f64, u32)) -> Ordering {
        let scale = |column: u32| self.scales.get(column as usize);
        if a.0 == b.0 && scale(a.1) == scale(b.1) {
            return Ordering::Equal;
        }
        self.key(b.0, b.1).total_cmp(&self.key(a.0, a.1))
    }
}

/// Whether a value is not taken for zero: rough keys of smaller values would not be as exact as they
/// have to be.
#[inline(always)]
pub(super) fn is_expressed(x: f64) -> bool {
    x >= f64::from(f32::MIN_POSITIVE)
}

/// Whether all values are finite and none is taken for zero.
fn are_expressed<T: Value>(values: &[T]) -> bool {
    values.iter().fold(true, |all, v| all & is_expressed(v.as_f64()) & (v.as_f64() <= f64::MAX))
}

/// Whether tokenizers take all of these values.
fn are_expression<T: Value>(values: &[T]) -> bool {
    values.iter().all(|v| (0.0..=f64::MAX).contains(&v.as_f64()))
}

/// Parallel vectors, used again for each cell; `n` entries of them are valid, by rising column.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) n: usize,
    pub(super) columns: Vec<u32>,
    pub(super) x: Vec<f64>,
    unmerged: Vec<((u32, u32), f64)>,
    renumber: Option<Renumber<f64>>,
}

impl Entries {
    pub(super) fn grow(&mut self, n: usize) {
        if self.columns.len() < n {
            self.columns.resize(n, 0);
            self.x.resize(n, 0.0);
        }
    }

    /// Takes the nonzeros of a row; false if one of its values is negative or not finite.
    pub(super) fn gather<T: Value>(&mut self, genes: &Genes, columns: &[u32], values: &[T]) -> bool {
        // One more than the row may have, for the entry after the last.
        self.grow(columns.len() + 1);
        self.x.iter_mut().zip(values).for_each(|(x, value)| *x = value.as_f64());
        let expressed = are_expressed(values);
        let mut n = columns.len();
        if genes.all_known && expressed {
            self.columns[..n].copy_from_slice(columns);
        } else {
            n = 0;
            for (i, &column) in columns.iter().enumerate() {
                let x = self.x[i];
                let known = genes.known[column as usize / 64] >> (column % 64) & 1 == 1;
                self.columns[n] = column;
                self.x[n] = x;
                // A branch here would be mispredicted for every gene that the vocabulary lacks.
                n += usize::from(known & is_expressed(x));
            }
        }
        self.n = n;
        if !genes.first_of_token.is_empty() {
            self.merge(genes);
        }
        expressed || are_expression(values)
    }

    /// [`Entries::gather`] for a row whose columns stand for the genes of `known`, [`DROP`] for those
    /// without a token.
    pub(super) fn gather_stored<T: Value>(
        &mut self,
        genes: &Genes,
        known: &[u32],
        columns: &[u32],
        values: &[T],
    ) -> bool {
        self.grow(columns.len() + 1);
        let expressed = are_expressed(values);
        self.n = self.renumber(known, columns, values);
        if !expressed {
            let mut n = 0;
            for i in 0..self.n {
                (self.columns[n], self.x[n]) = (self.columns[i], self.x[i]);
                n += usize::from(is_expressed(self.x[i]));
            }
            self.n = n;
        }
        if !genes.first_of_token.is_empty() {
            self.merge(genes);
        }
        expressed || are_expression(values)
    }

    /// The values of a row as entries, with the columns of a map; returns how many.
    pub(super) fn renumber<T: Value>(&mut self, map: &[u32], columns: &[u32], values: &[T]) -> usize {
        self.grow(columns.len());
        let renumber = self.renumber.get_or_insert_with(|| Renumber::new(map.len()));
        renumber.row_as(map, columns, values, &mut self.columns, &mut self.x, T::as_f64)
    }

    /// Adds up the entries of columns that share a token, in the place of the first such column.
    fn merge(&mut self, genes: &Genes) {
        let mut last = None;
        let mut rising = true;
        for column in &mut self.columns[..self.n] {
            *column = genes.first_of_token[*column as usize];
            rising &= last < Some(*column);
            last = Some(*column);
        }
        if rising {
            return;
        }
        let entries = self.columns[..self.n].iter().zip(&self.x);
        self.unmerged.clear();
        self.unmerged.extend((0..).zip(entries).map(|(i, (&c, &x))| ((c, i), x)));
        // The summands of a token stay in column order, and so does their rounding.
        self.unmerged.sort_unstable_by_key(|e| e.0);
        let mut n = 0;
        for &((column, _), x) in &self.unmerged {
            if n > 0 && self.columns[n - 1] == column {
                self.x[n - 1] += x;
            } else {
                (self.columns[n], self.x[n]) = (column, x);
                n += 1;
            }
        }
        self.n = n;
    }

    /// The valid ones, as columns and values.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, f64)> {
        self.columns[..self.n].iter().copied().zip(self.x[..self.n].iter().copied())
    }

    /// One of them.
    pub(super) fn at(&self, i: u32) -> (u32, f64) {
        (self.columns[i as usize], self.x[i as usize])
    }

    /// Which of two entries has the larger key.
    pub(super) fn compare(&self, keys: KeyOf<'_>, a: u32, b: u32) -> Ordering {
        keys.compare(self.value_at(a), self.value_at(b))
    }

    fn value_at(&self, i: u32) -> (f64, u32) {
        (self.x[i as usize], self.columns[i as usize])
    }
}

/// The key of an entry without the cell's own factor, roughly: see
/// [`Ranker`](super::rank::Ranker). Three roundings, each of at most half a unit in the last place, are below three units in sum.
#[inline(always)]
pub(super) fn rough(x: f64, factor: f32) -> f32 {
    (x as f32 * factor).min(f32::MAX)
}

impl Genes {
    /// The rough keys of entries.
    pub(super) fn rough(&self, entries: impl Iterator<Item = (u32, f64)>, out: &mut Vec<f32>) {
        out.clear();
        match self.factors.as_slice() {
            [] => out.extend(entries.map(|(_, x)| rough(x, 1.0))),
            factors => out.extend(entries.map(|(column, x)| rough(x, factors[column as usize]))),
        }
    }
}

/// The sum of values, in a fixed order that the processor can do in parallel.
pub(super) fn sum<T: Copy>(values: &[T], as_f64: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(lanes.len());
    let rest: f64 = chunks.remainder().iter().map(|&v| as_f64(v)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane += as_f64(v));
    }
    lanes.iter().sum::<f64>() + rest
}
