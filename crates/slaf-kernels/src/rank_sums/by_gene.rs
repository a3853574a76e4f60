//! Genes of a matrix that is read by genes.

use super::comparison::{Against, Comparison};
use super::gene::{Found, Ranker};
use crate::matrix::{Groups, in_order};
use crate::wire::{Plain, Reader, put_all};
use slaf_core::{CsrChunk, Error, ErrorKind, Result};
use std::ops::Range;

/// What is known of each gene in each group. Arrays are genes x groups, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct RankSums {
    /// The sum of the average ranks of the cells of the group, among all cells or among those of
    /// the group and the reference; of the reference itself 0.
    pub rank_sums: Vec<f64>,
    /// Sums of values.
    pub sums: Vec<f64>,
    /// Values other than zero.
    pub nonzero: Vec<u32>,
    /// `1 - sum(t^3 - t) / (n^3 - n)` over the ties of `t` cells among the `n` compared: one for
    /// each gene, or genes x groups against a group. Empty unless asked for.
    pub ties: Vec<f64>,
    /// The first gene that has NaN, which has no rank: what is told of such genes means nothing.
    pub nan: Option<usize>,
    /// Whether every value is an integer that is not negative.
    pub is_counts: bool,
}

/// A matrix whose genes can be read in parts, in any order and from many threads.
pub struct GeneSource<'a> {
    /// Genes.
    pub n_genes: usize,
    /// Cells.
    pub n_cells: usize,
    /// Disjoint parts, each of which is read and ranked by one thread.
    pub parts: &'a [Range<usize>],
    /// Reads some genes as rows, whose columns are cells, in any order.
    pub read: &'a (dyn Fn(Range<usize>) -> Result<CsrChunk> + Sync),
    /// Parts in work at once.
    pub threads: usize,
    /// Is told how many genes are done; `false` stops.
    pub progress: &'a (dyn Fn(usize) -> bool + Sync),
}

/// Ranks every gene.
///
/// # Errors
/// Those of reading; `invalid-argument` for labels of the wrong number and a reference that is no
/// group; `interrupted`.
pub fn rank_sums(source: &GeneSource<'_>, comparison: &Comparison) -> Result<RankSums> {
    let mut all = RankSums::empty(comparison, source.n_genes, source.n_cells)?;
    let sizes = sizes(&comparison.groups);
    let work = |i: usize| {
        let chunk = (source.read)(source.parts[i].clone())?;
        let (mut found, mut ranker) = (Found::default(), Ranker::new(comparison, &sizes));
        for gene in 0..chunk.n_rows() {
            ranker.gene(&chunk.indices, &chunk.values, chunk.row(gene), &mut found);
        }
        Ok(found)
    };
    let mut done = 0;
    in_order(source.parts.len(), source.threads, work, |i, found| {
        let part = &source.parts[i];
        all.put(part, &found, comparison.groups.n)?;
        done += part.len();
        if (source.progress)(done) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Interrupted, "stopped before the last gene"))
        }
    })?;
    Ok(all)
}

/// Consecutive genes with up to so many values together, or of one gene more.
pub fn parts_of(values: &[u64], most: u64) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut n) = (Vec::new(), 0, 0);
    for (gene, of_gene) in values.iter().enumerate() {
        if gene > start && n + of_gene > most {
            parts.push(start..gene);
            (start, n) = (gene, 0);
        }
        n += of_gene;
    }
    if start < values.len() {
        parts.push(start..values.len());
    }
    parts
}

/// Cells of each group, and of those in none.
fn sizes(groups: &Groups) -> Vec<u64> {
    let mut sizes = vec![0; groups.n + 1];
    groups.labels.iter().for_each(|&label| sizes[(label as usize).min(groups.n)] += 1);
    sizes
}

impl RankSums {
    /// Of so many genes, before anything is known of them.
    ///
    /// # Errors
    /// `invalid-argument` as of [`rank_sums`].
    pub fn empty(comparison: &Comparison, n_genes: usize, n_cells: usize) -> Result<RankSums> {
        let n = comparison.groups.n;
        if comparison.groups.labels.len() != n_cells {
            let got = comparison.groups.labels.len();
            return Err(Error::invalid(format!("{got} labels of cells, not {n_cells}")));
        }
        let of_ties = match comparison.against {
            Against::Group(reference) if reference >= n => {
                return Err(Error::invalid(format!("group {reference} as the reference, but there are {n}")));
            }
            Against::Group(_) => n,
            Against::Rest => 1,
        };
        Ok(RankSums {
            rank_sums: vec![0.0; n_genes * n],
            sums: vec![0.0; n_genes * n],
            nonzero: vec![0; n_genes * n],
            ties: vec![0.0; if comparison.ties { n_genes * of_ties } else { 0 }],
            nan: None,
            is_counts: true,
        })
    }

    fn put(&mut self, genes: &Range<usize>, found: &Found, n: usize) -> Result<()> {
        if found.doubled.len() != genes.len() * n {
            let got = found.doubled.len() / n.max(1);
            return Err(Error::new(ErrorKind::Internal, format!("{got} genes were read, not {}", genes.len())));
        }
        let at = genes.start * n..genes.end * n;
        // Exact below 2^53, that is for 94 million cells.
        let halves = found.doubled.iter().map(|&doubled| doubled as f64 / 2.0);
        self.rank_sums[at.clone()].iter_mut().zip(halves).for_each(|(sum, half)| *sum = half);
        self.sums[at.clone()].copy_from_slice(&found.sums);
        self.nonzero[at].copy_from_slice(&found.nonzero);
        if !genes.is_empty() {
            let of_gene = found.ties.len() / genes.len();
            self.ties[genes.start * of_gene..genes.end * of_gene].copy_from_slice(&found.ties);
        }
        let nan = found.nan.map(|gene| genes.start + gene);
        self.nan = [self.nan, nan].into_iter().flatten().min();
        self.is_counts &= !found.has_others;
        Ok(())
    }

    /// Appends all of it, for [`RankSums::from_bytes`].
    pub fn to_bytes(&self, to: &mut Vec<u8>) {
        [&self.rank_sums, &self.sums, &self.ties].into_iter().for_each(|array| put_all(array, to));
        put_all(&self.nonzero, to);
        let nan: Vec<u64> = self.nan.iter().map(|&gene| gene as u64).collect();
        (nan.len() as u8).put(to);
        put_all(&nan, to);
        u8::from(self.is_counts).put(to);
    }

    /// What [`RankSums::to_bytes`] wrote of so many genes and cells.
    ///
    /// # Errors
    /// `invalid-argument` for other bytes.
    pub fn from_bytes(bytes: &[u8], comparison: &Comparison, n_genes: usize, n_cells: usize) -> Result<RankSums> {
        let like = RankSums::empty(comparison, n_genes, n_cells)?;
        let mut from = Reader(bytes);
        let (rank_sums, sums) = (from.all(like.rank_sums.len())?, from.all(like.sums.len())?);
        let (ties, nonzero) = (from.all(like.ties.len())?, from.all(like.nonzero.len())?);
        let has_nan = from.one::<u8>()? != 0;
        let nan = from.all::<u64>(usize::from(has_nan))?.first().map(|&gene| gene as usize);
        let is_counts = from.one::<u8>()? != 0;
        from.end()?;
        Ok(RankSums { rank_sums, sums, nonzero, ties, nan, is_counts })
    }

    /// The same with the genes in another order: gene `i` of the result is gene `places[i]` of this.
    #[must_use]
    pub fn reordered(&self, places: &[usize]) -> RankSums {
        let n = places.len().max(1);
        let pick = |array: &[f64]| rows(array, array.len() / n, places);
        RankSums {
            rank_sums: pick(&self.rank_sums),
            sums: pick(&self.sums),
            nonzero: rows(&self.nonzero, self.nonzero.len() / n, places),
            ties: pick(&self.ties),
            nan: self.nan.and_then(|gene| places.iter().position(|&p| p == gene)),
            is_counts: self.is_counts,
        }
    }
}

fn rows<T: Copy>(array: &[T], width: usize, places: &[usize]) -> Vec<T> {
    places.iter().flat_map(|&p| array[p * width..(p + 1) * width].iter().copied()).collect()
}
