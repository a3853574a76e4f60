//! Seconds for the ranks of 20,000 cells in 24 groups by 30,000 genes, with ties: 1,500 values a
//! cell, normalised to the counts of the cell and in logarithms, in gene-major rows that are in
//! memory. `as_stored` applies these steps to counts, as for a store.

mod counts;
mod numbers;

use counts::{CELLS, GENES, counts};
use criterion::{Criterion, criterion_group, criterion_main};
use slaf_core::{CsrChunk, Result, Values};
use slaf_kernels::matrix::{Function, Groups, Op, Operand, Plan, Step};
use slaf_kernels::rank_sums::{Against, Comparison, GeneSource, parts_of, rank_sums};
use std::hint::black_box;
use std::ops::Range;

const GROUPS: u32 = 24;
const PART: u64 = 1 << 20;

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
