//! The gene-major copy of X, and statistics of genes, while the cells stream by.

use super::pack::{Part, binary};
use crate::store::schema::by_gene_schema;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use rayon::prelude::*;
use slaf_core::packed::{BLOCK, RowBuilder};
use slaf_core::{Result, Value};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::in_pool;
use std::any::Any;
use std::sync::Arc;

/// Packed bytes of one batch of `by_gene`.
const BATCH_BYTES: usize = 8 << 20;

/// Statistics of the genes over all cells, by rank.
#[derive(Clone, Debug, Default)]
pub(crate) struct GeneSums {
    /// Cells in which the gene's value is not zero.
    pub(crate) n_cells: Vec<u64>,
    pub(crate) total: Vec<f64>,
}

/// A stripe under construction, whatever its value type.
pub(crate) trait AnyStripe: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn n_cells(&self) -> u64;
    fn nnz(&self) -> u64;
    /// Adds the stripe's statistics to `sums` and hands its rows out in batches.
    fn finish(self: Box<Self>, sums: &mut GeneSums, emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<u64>;
}

/// A stripe with values of one type.
pub(crate) struct Stripe<T> {
    shards: Vec<Shard<T>>,
    n_cells: u64,
    nnz: u64,
    keep_rows: bool,
}

/// The genes of consecutive ranks; shards grow in parallel.
struct Shard<T> {
    first_rank: u32,
    genes: Vec<Gene<T>>,
    /// For each gene up to a block of nonzeros that wait to be packed. They lie together, and
    /// apart from all else of a gene, because every nonzero of the data set touches one of them.
    waiting: Vec<(u32, T)>,
    n_waiting: Vec<u8>,
}

struct Gene<T> {
    row: RowBuilder<T>,
    stored: u64,
    nonzero: u64,
    sum: f64,
    sum_of_squares: f64,
}

impl<T: Value> Stripe<T> {
    /// `bounds` are the first ranks of the shards, and the number of genes.
    pub(crate) fn new(bounds: &[u32], keep_rows: bool) -> Self {
        let shards = bounds.windows(2).map(|w| {
            let n = (w[1] - w[0]) as usize;
            Shard {
                first_rank: w[0],
                genes: (0..n).map(|_| Gene::new()).collect(),
                waiting: vec![(0, T::default()); n * BLOCK],
                n_waiting: vec![0; n],
            }
        });
        Stripe { shards: shards.collect(), n_cells: 0, nnz: 0, keep_rows }
    }

    /// Adds the rows of a packed chunk (columns are ranks).
    pub(crate) fn push(&mut self, parts: &[Part<T>]) -> Result<()> {
        let first_cell = self.n_cells as u32;
        let keep_rows = self.keep_rows;
        let add = |shard: &mut Shard<T>| -> Result<()> {
            let end = shard.first_rank + shard.genes.len() as u32;
            for part in parts {
                for (i, bounds) in part.indptr.windows(2).enumerate() {
                    let ranks = &part.columns[bounds[0]..bounds[1]];
                    let values = &part.values[bounds[0]..bounds[1]];
                    let from = ranks.partition_point(|&r| r < shard.first_rank);
                    let cell = first_cell + (part.rows.start + i) as u32;
                    for (&rank, &value) in ranks[from..].iter().zip(&values[from..]) {
                        if rank >= end {
                            break;
                        }
                        shard.add((rank - shard.first_rank) as usize, cell, value, keep_rows)?;
                    }
                }
            }
            Ok(())
        };
        in_pool(|| self.shards.par_iter_mut().try_for_each(add))?;
        self.n_cells += parts.iter().map(|p| p.rows.len() as u64).sum::<u64>();
        self.nnz += parts.iter().map(|p| p.columns.len() as u64).sum::<u64>();
        Ok(())
    }
}

impl<T: Value> Shard<T> {
    #[inline]
    fn add(&mut self, gene: usize, cell: u32, value: T, keep_rows: bool) -> Result<()> {
        let n = &mut self.n_waiting[gene];
        self.waiting[gene * BLOCK + *n as usize] = (cell, value);
        *n += 1;
        if *n as usize == BLOCK { self.pack(gene, keep_rows) } else { Ok(()) }
    }

    /// Packs what waits for a gene.
    fn pack(&mut self, gene: usize, keep_rows: bool) -> Result<()> {
        let n = std::mem::take(&mut self.n_waiting[gene]) as usize;
        let (mut cells, mut values) = ([0; BLOCK], [T::default(); BLOCK]);
        for (i, &(cell, value)) in self.waiting[gene * BLOCK..][..n].iter().enumerate() {
            (cells[i], values[i]) = (cell, value);
        }
        let gene = &mut self.genes[gene];
        gene.add(&values[..n]);
        if keep_rows { gene.row.push_block(&cells[..n], &values[..n]) } else { Ok(()) }
    }
}

impl<T: Value> Gene<T> {
    fn new() -> Self {
        Gene { row: RowBuilder::default(), stored: 0, nonzero: 0, sum: 0.0, sum_of_squares: 0.0 }
    }

    /// Adds the statistics of a block.
    fn add(&mut self, values: &[T]) {
        self.stored += values.len() as u64;
        // Sums of small counts are exact in any order, so that several are added at once.
        let (mut all, mut nonzero, mut sum, mut squares) = (0i32, 0u32, 0u32, 0u64);
        for value in values {
            let count = value.to_small_count();
            all |= count;
            nonzero += u32::from(count != 0);
            sum = sum.wrapping_add(count as u32);
            squares += u64::from((count as u32).wrapping_mul(count as u32));
        }
        if u16::try_from(all).is_ok() {
            self.nonzero += u64::from(nonzero);
            self.sum += f64::from(sum);
            self.sum_of_squares += squares as f64;
            return;
        }
        for x in values.iter().map(|v| v.as_f64()) {
            self.nonzero += u64::from(x != 0.0);
            self.sum += x;
            self.sum_of_squares += x * x;
        }
    }
}

impl<T: Value> AnyStripe for Stripe<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn n_cells(&self) -> u64 {
        self.n_cells
    }

    fn nnz(&self) -> u64 {
        self.nnz
    }

    fn finish(self: Box<Self>, sums: &mut GeneSums, emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<u64> {
        let mut this = *self;
        let keep_rows = this.keep_rows;
        let pack = |shard: &mut Shard<T>| (0..shard.genes.len()).try_for_each(|gene| shard.pack(gene, keep_rows));
        in_pool(|| this.shards.par_iter_mut().try_for_each(pack))?;
        let mut batch = Batch::default();
        let mut bytes = 0;
        for (rank, mut gene) in this.shards.into_iter().flat_map(|s| s.genes).enumerate() {
            sums.n_cells[rank] += gene.nonzero;
            sums.total[rank] += gene.sum;
            if !keep_rows {
                continue;
            }
            gene.row.finish(&mut batch.packed);
            batch.ends.push(batch.packed.len());
            batch.nnz.push(gene.stored);
            batch.sum.push(gene.sum);
            batch.sum_of_squares.push(gene.sum_of_squares);
            if batch.packed.len() >= BATCH_BYTES {
                bytes += batch.packed.len() as u64;
                emit(std::mem::take(&mut batch).finish()?)?;
            }
        }
        bytes += batch.packed.len() as u64;
        if !batch.ends.is_empty() {
            emit(batch.finish()?)?;
        }
        Ok(bytes)
    }
}

/// Rows of `by_gene` on their way into the table.
#[derive(Default)]
struct Batch {
    nnz: Vec<u64>,
    sum: Vec<f64>,
    sum_of_squares: Vec<f64>,
    packed: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    fn finish(self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(self.nnz)),
            Arc::new(Float64Array::from(self.sum)),
            Arc::new(Float64Array::from(self.sum_of_squares)),
            binary(std::iter::once((&self.packed, &self.ends)))?,
        ];
        RecordBatch::try_new(by_gene_schema(), columns).map_err(from_arrow)
    }
}

/// The first ranks of `n` shards that hold about the same number of values, and the number of
/// genes.
pub(crate) fn shard_bounds(counts_by_rank: &[u64], n: usize) -> Vec<u32> {
    let total: u64 = counts_by_rank.iter().sum();
    let mut bounds = vec![0u32];
    let mut seen = 0;
    for (rank, &count) in counts_by_rank.iter().enumerate() {
        if total > 0 && seen >= total * bounds.len() as u64 / n as u64 && bounds.len() < n && rank > 0 {
            bounds.push(rank as u32);
        }
        seen += count;
    }
    bounds.push(counts_by_rank.len() as u32);
    bounds
}
