//! Counts of 20,000 cells by 30,000 genes, gene-major, 1,500 values a cell.

use crate::numbers::Numbers;
use slaf_core::{CsrChunk, Values};

pub const GENES: usize = 30_000;
pub const CELLS: usize = 20_000;

/// Counts, popular genes first, and the counts of each cell.
pub fn counts() -> (CsrChunk, Vec<f32>) {
    let mut r = Numbers(1);
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    let mut totals = vec![0f32; CELLS];
    for gene in 0..GENES {
        let share = 0.9 * (-(gene as f64) / 1670.0).exp() + 0.0005;
        let mut cell = 0;
        loop {
            // The distance to the next cell that has the gene.
            cell += ((1.0 - r.next()).ln() / (1.0 - share).ln()) as usize;
            if cell >= CELLS {
                break;
            }
            let count = 1.0 + ((1.0 - r.next()).ln() / (share * 0.7).ln()).floor() as f32;
            indices.push(cell as u32);
            values.push(count);
            totals[cell] += count;
            cell += 1;
        }
        indptr.push(indices.len() as u64);
    }
    println!("{:.0} values a cell", indices.len() as f64 / CELLS as f64);
    (CsrChunk { indptr, indices, values: Values::F32(values) }, totals)
}
