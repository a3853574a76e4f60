//! Packed gene-major rows of 20,000 cells by 30,000 genes into tallies: values of a gene in one group,
//! and in groups of 12 types of cells.

mod counts;
mod numbers;

use counts::{CELLS, GENES, counts};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slaf_core::Values;
use slaf_core::packed::{Row, encode_row};
use slaf_kernels::grouped::{Comparison, Lane, Places, Tallies, Test};
use std::hint::black_box;

const TYPES: u32 = 12;

fn run(c: &mut Criterion) {
    let (counts, _) = counts();
    let Values::F32(values) = &counts.values else { return };
    let bounds = counts.indptr.windows(2).map(|w| w[0] as usize..w[1] as usize);
    let packed: Vec<Vec<u8>> =
        bounds.filter_map(|row| encode_row(&counts.indices[row.clone()], &values[row]).ok()).collect();
    let rows: Vec<Row<'_>> = packed.iter().filter_map(|bytes| Row::parse(bytes).ok()).collect();
    assert_eq!(rows.len(), GENES);
    let types: Vec<u32> = (0..CELLS as u32).map(|i| i.wrapping_mul(2_654_435_761) % TYPES).collect();
    let mut some = types.clone();
    some.iter_mut().step_by(3).for_each(|t| *t = Places::NONE);

    let average = Lane { sum: true, ..Lane::default() };
    let range = Lane { range: true, ..Lane::default() };
    let above = [Test::widened(Comparison::Greater, 1.0)];
    let mut group = c.benchmark_group("grouped");
    group.sample_size(10).throughput(Throughput::Elements(values.len() as u64));
    for (lane_name, lane, conditions) in
        [("avg", &average, &[][..]), ("max", &range, &[]), ("avg where", &average, &above[..])]
    {
        let lanes = std::slice::from_ref(lane);
        for (name, n_groups, places) in
            [("gene", 1, Places::One), ("type", TYPES, Places::Whole(&types)), ("some", TYPES, Places::Table(&some))]
        {
            let (mut cells, mut of) = (vec![0; CELLS], vec![0f32; CELLS]);
            group.bench_function(format!("{lane_name}/{name}"), |b| {
                b.iter(|| {
                    let mut tallies = Tallies::<f32>::new(lanes, conditions, GENES * n_groups as usize);
                    for (gene, row) in rows.iter().enumerate() {
                        let (cells, of) = (&mut cells[..row.nnz()], &mut of[..row.nnz()]);
                        let read = match places {
                            Places::One => row.values(of),
                            _ => row.decode(CELLS as u64, cells, of),
                        };
                        assert!(read.is_ok());
                        tallies.add(gene * n_groups as usize, cells, of, places);
                    }
                    black_box(tallies.all.len())
                });
            });
        }
    }
}

criterion_group!(benches, run);
criterion_main!(benches);
