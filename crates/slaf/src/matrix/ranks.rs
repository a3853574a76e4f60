//! Ranks of the cells of a matrix by their genes.

use super::part::{Part, compute, streamed};
use crate::config;
use crate::progress::{Progress, ProgressEvent};
use crate::reader::reads_genes;
use slaf_core::{Context, Result};
use slaf_kernels::matrix::{Columns, Plan, Request};
use slaf_kernels::rank_sums::{Comparison, GeneSource, RankSums, parts_of, rank_sums_by_cell};
use slaf_lance::runtime::{block_on, pool_threads};
use std::ops::Range;

/// Where genes are made of cells, so many times the values are held that a thread ranks.
const HELD: u64 = 32;

/// Rank sums of the genes of a part with `plan` applied to it.
pub(crate) fn rank_sums(
    part: Part<'_>,
    plan: &Plan,
    comparison: &Comparison,
    progress: Progress<'_>,
) -> Result<RankSums> {
    let Part { snapshot, key, rows, cols } = part;
    let entry = snapshot.matrix(key)?;
    let (n_rows, n_cols) = part.shape()?;
    let _span = tracing::debug_span!("rank", matrix = %key, rows = n_rows, columns = n_cols).entered();
    let done =
        |done: usize| progress(ProgressEvent { phase: "genes", cells_done: done as u64, cells_total: n_cols as u64 });
    let moments = match reads_genes(&snapshot.manifest, key, entry, rows) {
        true => block_on(snapshot.gene_moments())?,
        false => None,
    };
    if let Some(moments) = moments {
        let order = block_on(snapshot.order())?;
        // By rank, as the rows lie.
        let rank_of = |column: u64| order.rank_of[column as usize];
        let columns: Vec<u64> = cols.iter(entry.n_cols).collect();
        let mut by_rank: Vec<u32> = (0..n_cols as u32).collect();
        by_rank.sort_by_key(|&i| rank_of(columns[i as usize]));
        if let Some(plan) = plan.transposed(&by_rank) {
            let genes: Vec<u64> = by_rank.iter().map(|&i| columns[i as usize]).collect();
            let stored = genes.iter().map(|&gene| moments.stored[rank_of(gene) as usize]);
            let values: Vec<u64> = if plan.is_dense() { vec![n_rows as u64; n_cols] } else { stored.collect() };
            let read = |part: Range<usize>| {
                let chunk = block_on(snapshot.read_genes(entry, rows, &genes[part.clone()])).at(key)?;
                plan.apply(chunk, part.start, n_rows)
            };
            let parts = parts_of(&values, config::part_values());
            let threads = pool_threads()?;
            let source =
                GeneSource { n_genes: n_cols, n_cells: n_rows, parts: &parts, read: &read, threads, progress: &done };
            let found = slaf_kernels::rank_sums::rank_sums(&source, comparison)?;
            let mut places = vec![0; n_cols];
            by_rank.iter().enumerate().for_each(|(place, &i)| places[i as usize] = place);
            return Ok(found.reordered(&places));
        }
    }
    let most = config::part_values() * HELD;
    let values = values_of(part, plan, most, progress)?;
    let compute = |block: Range<usize>| {
        let ids: Vec<u32> = (block.start as u32..block.end as u32).collect();
        let cols = cols.part(block.start as u64..block.end as u64);
        compute(Part { cols: &cols, ..part }, &plan.of_columns(&ids), progress)
    };
    rank_sums_by_cell(n_rows, &parts_of(&values, most), &compute, comparison, pool_threads()?, &done)
}

/// Values of each gene, if they do not all fit into `most`: counted in one pass.
fn values_of(part: Part<'_>, plan: &Plan, most: u64, progress: Progress<'_>) -> Result<Vec<u64>> {
    let (n_rows, n_cols) = part.shape()?;
    let entry = part.snapshot.matrix(part.key)?;
    if plan.is_dense() {
        return Ok(vec![n_rows as u64; n_cols]);
    }
    // Rows and columns may repeat.
    let times = |chosen: usize, of: u64| (chosen as u64).div_ceil(of.max(1));
    if entry.nnz.saturating_mul(times(n_rows, entry.n_rows) * times(n_cols, entry.n_cols)) <= most {
        return Ok(vec![0; n_cols]);
    }
    let request = Request { columns: Some(Columns::default()), ..Request::default() };
    let found = streamed(part, &Plan::default(), &request, progress)?.columns;
    Ok(found.nonzero.into_iter().map(u64::from).collect())
}
