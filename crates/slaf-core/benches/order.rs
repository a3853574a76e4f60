//! Speed of renumbering genes from ranks of popularity to their own numbers: 2,500 genes of
//! 30,000 in a cell.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slaf_core::Value;
use slaf_core::order::Renumber;
use std::hint::black_box;

const GENES: u32 = 30_000;
const CELLS: u32 = 256;

/// A fixed permutation that looks random.
fn genes_of_ranks() -> Vec<u32> {
    let mut genes: Vec<u32> = (0..GENES).collect();
    genes.sort_by_key(|&g| g.wrapping_mul(2_654_435_761));
    genes
}

/// The ranks of a cell: popular genes are nearly always there.
fn ranks(cell: u32) -> Vec<u32> {
    let draw = |rank: u32| (rank ^ cell.wrapping_mul(40_503)).wrapping_mul(2_654_435_761) >> 8;
    (0..GENES).filter(|&rank| u64::from(draw(rank)) * u64::from(1_000 + rank) < (1 << 24) * 1_000).collect()
}

fn renumber<T: Value>(c: &mut Criterion, value: T) {
    let map = genes_of_ranks();
    let cells: Vec<Vec<u32>> = (0..CELLS).map(ranks).collect();
    let nnz: usize = cells.iter().map(Vec::len).sum();
    let longest = cells.iter().map(Vec::len).max().unwrap_or(0);
    let values = vec![value; longest];
    let (mut columns_out, mut values_out) = (vec![0; longest], vec![value; longest]);
    let mut renumber = Renumber::new(map.len());
    let mut group = c.benchmark_group("renumber");
    group.throughput(Throughput::Elements(nnz as u64));
    group.bench_function(T::DTYPE.name(), |b| {
        b.iter(|| {
            for columns in black_box(&cells) {
                let n = columns.len();
                black_box(renumber.row(&map, columns, &values[..n], &mut columns_out, &mut values_out));
            }
        });
    });
}

fn order(c: &mut Criterion) {
    renumber(c, 1.0f32);
    renumber(c, 1u16);
}

criterion_group!(benches, order);
criterion_main!(benches);
