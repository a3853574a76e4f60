//! Genes of matrices that are read by cells.

use super::by_gene::{GeneSource, RankSums, parts_of, rank_sums};
use super::comparison::Comparison;
use crate::matrix::{self, Plan, with_memory};
use slaf_core::{CsrChunk, Error, ErrorKind, Result, Value, Values, with_values};
use std::ops::Range;

/// Values that one thread ranks at a time.
const PART: u64 = 1 << 18;
/// Values that are made ready at a time of a matrix in memory.
const BLOCK: u64 = 1 << 25;

/// Ranks every gene of a matrix that is read by cells, in blocks of genes that are held one at a
/// time: `blocks` are consecutive and begin with gene 0, and `compute` gives all cells of one, its
/// genes numbered from 0.
///
/// # Errors
/// As [`rank_sums`].
pub fn rank_sums_by_cell(
    n_cells: usize,
    blocks: &[Range<usize>],
    compute: &dyn Fn(Range<usize>) -> Result<CsrChunk>,
    comparison: &Comparison,
    threads: usize,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<RankSums> {
    let mut all = RankSums::empty(comparison, 0, n_cells)?;
    for block in blocks {
        let chunk = compute(block.clone())?;
        if chunk.n_rows() != n_cells {
            let message = format!("{} cells were read, not {n_cells}", chunk.n_rows());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        if u32::try_from(chunk.nnz()).is_err() {
            return Err(Error::new(ErrorKind::UnsupportedFeature, "a block of genes of more than 2^32 values"));
        }
        let genes = transpose(chunk, block.len());
        let sizes: Vec<u64> = genes.indptr.windows(2).map(|w| w[1] - w[0]).collect();
        let read = |genes_of_part: Range<usize>| Ok(genes.slice(genes_of_part));
        let progress = |done: usize| progress(block.start + done);
        let parts = parts_of(&sizes, PART);
        let source =
            GeneSource { n_genes: block.len(), n_cells, parts: &parts, read: &read, threads, progress: &progress };
        all.append(rank_sums(&source, comparison)?, block.start);
    }
    Ok(all)
}

/// Ranks every gene of a matrix of cells x genes in memory, with `plan` applied to it.
///
/// # Errors
/// As [`rank_sums`]; those of the plan.
pub fn rank_sums_in_memory(
    matrix: &CsrChunk,
    n_genes: usize,
    plan: &Plan,
    comparison: &Comparison,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<RankSums> {
    let n_cells = matrix.n_rows();
    let mut values = vec![if plan.is_dense() { n_cells as u64 } else { 0 }; n_genes];
    if !plan.is_dense() {
        matrix.indices.iter().for_each(|&gene| values[gene as usize] += 1);
    }
    let compute = |block: Range<usize>| {
        let ids: Vec<u32> = (block.start as u32..block.end as u32).collect();
        let (part, plan) = (columns(matrix, &block), plan.of_columns(&ids));
        let dtype = part.values.dtype();
        with_memory(&part, block.len(), &plan, &|_| true, |source| matrix::compute(source, dtype, &plan))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    rank_sums_by_cell(n_cells, &parts_of(&values, BLOCK), &compute, comparison, threads, progress)
}

/// Consecutive columns.
fn columns(chunk: &CsrChunk, columns: &Range<usize>) -> CsrChunk {
    let is_chosen = |at: &usize| columns.contains(&(chunk.indices[*at] as usize));
    let (mut indptr, mut at) = (vec![0], Vec::new());
    for row in 0..chunk.n_rows() {
        at.extend(chunk.row(row).filter(is_chosen));
        indptr.push(at.len() as u64);
    }
    let indices = at.iter().map(|&at| chunk.indices[at] - columns.start as u32).collect();
    let values = with_values!(&chunk.values, v => Value::wrap(at.iter().map(|&at| v[at]).collect()));
    CsrChunk { indptr, indices, values }
}

impl RankSums {
    /// Adds the genes that follow, which begin with gene `first`.
    pub fn append(&mut self, more: RankSums, first: usize) {
        self.rank_sums.extend(more.rank_sums);
        self.sums.extend(more.sums);
        self.nonzero.extend(more.nonzero);
        self.ties.extend(more.ties);
        self.nan = self.nan.or(more.nan.map(|gene| first + gene));
        self.is_counts &= more.is_counts;
    }
}

/// Rows of columns, of fewer than 2^32 values.
fn transpose(chunk: CsrChunk, n_cols: usize) -> CsrChunk {
    let mut indptr = vec![0u64; n_cols + 1];
    chunk.indices.iter().for_each(|&column| indptr[column as usize + 1] += 1);
    for i in 0..n_cols {
        indptr[i + 1] += indptr[i];
    }
    let mut next = indptr.clone();
    let mut place_of = chunk.indices;
    let mut rows = vec![0u32; place_of.len()];
    for (row, w) in chunk.indptr.windows(2).enumerate() {
        for column in &mut place_of[w[0] as usize..w[1] as usize] {
            let place = &mut next[*column as usize];
            rows[*place as usize] = row as u32;
            *column = *place as u32;
            *place += 1;
        }
    }
    fn moved<T: Value>(values: &[T], place_of: &[u32]) -> Values {
        let mut out = vec![T::default(); values.len()];
        values.iter().zip(place_of).for_each(|(&value, &place)| out[place as usize] = value);
        T::wrap(out)
    }
    let values = with_values!(&chunk.values, v => moved(v, &place_of));
    CsrChunk { indptr, indices: rows, values }
}
