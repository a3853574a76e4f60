//! Seconds for the ranks of 20,000 cells in 24 groups by 30,000 genes, with ties: 1,500 values a
//! cell, normalised to the counts of the cell and in logarithms, in gene-major rows that are in
//! memory. `as_stored` applies these steps to counts, as for a store.

use criterion::{Criterion, criterion_group, criterion_main};
use slaf_core::{CsrChunk, Result, Values};
use slaf_kernels::matrix::{Function, Groups, Op, Operand, Plan, Step};
use slaf_kernels::rank_sums::{Against, Comparison, GeneSource, parts_of, rank_sums};
use std::hint::black_box;
use std::ops::Range;

const GENES: usize = 30_000;
const CELLS: usize = 20_000;
const GROUPS: u32 = 24;
const PART: u64 = 1 << 20;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Counts, popular genes first, and the counts of each cell.
fn counts() -> (CsrChunk, Vec<f32>) {
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
            let count = 1.0 + ((1.0 - r.next()).ln() / (share * 0.7).ln()) as f32;
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

fn run(c: &mut Criterion) {
    let (counts, totals) = counts();
    let combine = |op, operand| Step::Combine { op, operand, rows: None };
    let steps = [
        combine(Op::Divide, Operand::Columns(Values::F32(totals.iter().map(|t| t / 1e4).collect()))),
        Step::Map(Function::Log1p),
    ];
    let plan = Plan::new(steps.to_vec());
    let Ok(plan) = plan else { return };
    let Ok(logs) = plan.apply(counts.clone(), 0, CELLS) else { return };
    let sizes: Vec<u64> = counts.indptr.windows(2).map(|w| w[1] - w[0]).collect();
    let parts = parts_of(&sizes, PART);
    let labels: Vec<u32> = (0..CELLS as u32).map(|i| i.wrapping_mul(2_654_435_761) % GROUPS).collect();
    let mut group = c.benchmark_group("rank_sums");
    group.sample_size(10);
    for threads in [1, 2] {
        for (name, against) in [("rest", Against::Rest), ("group", Against::Group(0))] {
            let comparison =
                Comparison { groups: Groups { labels: labels.clone(), n: GROUPS as usize }, against, ties: true };
            let mut measure = |name: String, read: &(dyn Fn(Range<usize>) -> Result<CsrChunk> + Sync)| {
                let source =
                    GeneSource { n_genes: GENES, n_cells: CELLS, parts: &parts, read, threads, progress: &|_| true };
                group.bench_function(name, |b| b.iter(|| black_box(rank_sums(&source, &comparison))));
            };
            measure(format!("{name}/{threads}"), &|genes| Ok(logs.slice(genes)));
            if against == Against::Rest {
                let read = |genes: Range<usize>| plan.apply(counts.slice(genes.clone()), genes.start, CELLS);
                measure(format!("as_stored/{threads}"), &read);
            }
        }
    }
}

criterion_group!(benches, run);
criterion_main!(benches);
