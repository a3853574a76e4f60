//! Speed of the packed row on rows like those of a 10x experiment: 2,500 genes of 30,000 in a
//! cell, in order of popularity.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slaf_core::packed::{Row, encode_row_into};
use std::hint::black_box;

const GENES: u32 = 30_000;
const CELLS: usize = 256;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Popular genes are found in nearly every cell and have the higher counts.
fn cells(value: impl Fn(u32) -> f32) -> Vec<(Vec<u32>, Vec<f32>)> {
    let mut r = Numbers(1);
    let mean = |gene: u32| 6.0 / (1.0 + f64::from(gene) / 120.0);
    let mut cell = || {
        (0..GENES)
            .filter_map(|gene| {
                // Geometric: the share of zeros and the long tail of single-cell counts.
                let p = 1.0 / (1.0 + mean(gene));
                let count = ((1.0 - r.next()).ln() / (1.0 - p).ln()) as u32;
                (count > 0).then(|| (gene, value(count)))
            })
            .unzip()
    };
    (0..CELLS).map(|_| cell()).collect()
}

fn pack(cells: &[(Vec<u32>, Vec<f32>)]) -> Vec<Vec<u8>> {
    let pack = |(columns, values): &(Vec<u32>, Vec<f32>)| {
        let mut row = Vec::new();
        // The columns rise, which is all that encoding asks for.
        encode_row_into(columns, values, &mut row).map(|()| row).unwrap_or_default()
    };
    cells.iter().map(pack).collect()
}

fn decode_all(rows: &[Row<'_>], columns: &mut [u32], values: &mut [f32]) {
    for row in rows {
        let n = row.nnz();
        let _ = black_box(row.decode(u64::from(GENES), &mut columns[..n], &mut values[..n]));
    }
}

fn packed(c: &mut Criterion) {
    for (name, cells) in [("counts", cells(|n| n as f32)), ("log1p", cells(|n| (n as f32 * 1.7).ln_1p()))] {
        let nnz: usize = cells.iter().map(|(columns, _)| columns.len()).sum();
        let bytes = pack(&cells);
        let rows: Vec<Row<'_>> = bytes.iter().filter_map(|b| Row::parse(b).ok()).collect();
        assert_eq!(rows.iter().map(Row::nnz).sum::<usize>(), nnz, "rows that do not parse");
        let size: usize = bytes.iter().map(Vec::len).sum();
        eprintln!("{name}: {:.2} bits for a value", size as f64 * 8.0 / nnz as f64);

        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(nnz as u64));
        group.bench_function("encode", |b| b.iter(|| pack(black_box(&cells))));
        let longest = rows.iter().map(Row::nnz).max().unwrap_or(0);
        let (mut columns, mut values) = (vec![0; longest], vec![0.0; longest]);
        group.bench_function("decode", |b| b.iter(|| decode_all(black_box(&rows), &mut columns, &mut values)));

        // One gene of each cell: rows a second.
        group.throughput(Throughput::Elements(CELLS as u64));
        for gene in [10, 2_000, 25_000] {
            group.bench_function(format!("lookup of gene {gene}"), |b| {
                b.iter(|| {
                    let mut sum = 0.0;
                    for row in &rows {
                        let _ = black_box(row.lookup(&[gene], |_, v: f32| sum += v));
                    }
                    sum
                });
            });
        }
    }
}

criterion_group!(benches, packed);
criterion_main!(benches);
