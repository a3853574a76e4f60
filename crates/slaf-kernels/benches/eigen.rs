//! Seconds for the 50 largest eigenvalues of 2,000, and their vectors, by the number of threads.

use criterion::{Criterion, criterion_group, criterion_main};
use slaf_kernels::linear::largest;
use std::hint::black_box;

const N: usize = 2000;

fn eigen(criterion: &mut Criterion) {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    let mut matrix = vec![0.0; N * N];
    for i in 0..N {
        for j in 0..=i {
            (matrix[i * N + j], matrix[j * N + i]) = {
                let v = next();
                (v, v)
            };
        }
    }
    let mut group = criterion.benchmark_group("eigen");
    group.sample_size(10);
    for threads in [1, 2] {
        group.bench_function(format!("50 of {N}, {threads} threads"), |b| {
            b.iter(|| black_box(largest(&matrix, N, 50, threads)));
        });
    }
    group.finish();
}

criterion_group!(benches, eigen);
criterion_main!(benches);
