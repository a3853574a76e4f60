//! Products of columns and eigenvalues against what is computed the plain way.

use crate::kind;
use proptest::prelude::*;
use slaf_core::{CsrChunk, ErrorKind, Result, Values};
use slaf_kernels::linear::{Gram, Images, Lanczos, Leading, Vectors, Wanted, gram, images_of_rows, largest, leading};
use slaf_kernels::matrix::{Plan, Source, Step, steps};
use std::ops::Range;

/// Rows of (column, value), in any order of columns.
fn chunk(rows: &[Vec<(u32, f64)>]) -> CsrChunk {
    let mut indptr = vec![0];
    rows.iter().for_each(|row| indptr.push(indptr[indptr.len() - 1] + row.len() as u64));
    let all = || rows.iter().flatten();
    CsrChunk { indptr, indices: all().map(|v| v.0).collect(), values: Values::F64(all().map(|v| v.1).collect()) }
}

fn found(matrix: &CsrChunk, n_cols: usize, plan: &Plan, part_rows: usize, threads: usize) -> Result<Gram> {
    let read = |rows: Range<usize>| -> Result<CsrChunk> { Ok(matrix.slice(rows)) };
    gram(
        &Source {
            n_rows: matrix.n_rows(),
            n_cols,
            read: &read,
            part_rows,
            stretch_rows: 1 << 16,
            threads,
            progress: &|_| true,
        },
        plan,
    )
}

fn noise(i: u64) -> u64 {
    let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33
}

/// Rows of which about one value in `share` is stored.
fn rows(n: usize, n_cols: usize, share: u64) -> Vec<Vec<(u32, f64)>> {
    let value = |i: usize, c: usize| {
        let x = noise((i * n_cols + c) as u64);
        x.is_multiple_of(share).then(|| (c as u32, (x % 1000) as f64 / 250.0 - 1.0))
    };
    (0..n).map(|i| (0..n_cols).rev().filter_map(|c| value(i, c)).collect()).collect()
}

fn naive(rows: &[Vec<(u32, f64)>], n: usize) -> Vec<f64> {
    let mut products = vec![0.0; n * n];
    for row in rows {
        for (i, a) in row {
            row.iter().for_each(|(j, b)| products[*i as usize * n + *j as usize] += a * b);
        }
    }
    products
}

fn close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (at, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{a} for {b} at {at}");
    }
}

#[test]
fn products_of_sparse_and_dense_rows_over_several_blocks() {
    for (n, n_cols, share) in [(9000, 31, 7), (4200, 140, 1), (4097, 5, 2), (1, 1, 1), (3, 4, 1 << 40)] {
        let rows = rows(n, n_cols, share);
        let gram = found(&chunk(&rows), n_cols, &Plan::default(), 1000, 2).unwrap();
        close(&gram.products, &naive(&rows, n_cols));
        let sum = |c: usize| rows.iter().flatten().filter(|v| v.0 as usize == c).map(|v| v.1).sum();
        close(&gram.sums, &(0..n_cols).map(sum).collect::<Vec<f64>>());
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_parts() {
    for share in [1, 6] {
        let matrix = chunk(&rows(5000, 150, share));
        let one = found(&matrix, 150, &Plan::default(), 5000, 1).unwrap();
        for (part, threads) in [(5000, 3), (1024, 2), (77, 5)] {
            assert_eq!(one, found(&matrix, 150, &Plan::default(), part, threads).unwrap());
        }
    }
}

#[test]
fn centred_products_are_those_of_centred_columns() {
    let rows = rows(300, 12, 3);
    let mut gram = found(&chunk(&rows), 12, &Plan::default(), 64, 2).unwrap();
    let means: Vec<f64> = gram.sums.iter().map(|s| s / 300.0).collect();
    let centred: Vec<Vec<(u32, f64)>> = rows
        .iter()
        .map(|row| {
            let of = |c: u32| row.iter().find(|v| v.0 == c).map_or(0.0, |v| v.1) - means[c as usize];
            (0..12).map(|c| (c, of(c))).collect()
        })
        .collect();
    gram.centre();
    let theirs = naive(&centred, 12);
    close(&gram.products, &theirs);
    close(&gram.squares(), &(0..12).map(|i| theirs[i * 13]).collect::<Vec<_>>());
    let factors: Vec<f64> = (0..12).map(|i| 0.5 + f64::from(i)).collect();
    gram.scale(&factors).unwrap();
    let scaled: Vec<f64> = theirs.iter().enumerate().map(|(at, p)| p * factors[at / 12] * factors[at % 12]).collect();
    close(&gram.products, &scaled);
    assert_eq!(kind(gram.scale(&[1.0])), ErrorKind::InvalidArgument);
    // The rows as columns of another matrix, less the mean of all.
    let turned: Vec<Vec<(u32, f64)>> = (0..12)
        .map(|c| {
            rows.iter()
                .enumerate()
                .flat_map(|(i, r)| r.iter().filter(move |v| v.0 == c).map(move |v| (i as u32, v.1)))
                .collect()
        })
        .collect();
    let mut of_rows = found(&chunk(&turned), 300, &Plan::default(), 5, 2).unwrap();
    of_rows.centre_columns_on_their_mean();
    let turned: Vec<Vec<(u32, f64)>> =
        (0..12).map(|c| centred.iter().enumerate().map(|(i, r)| (i as u32, r[c].1)).collect()).collect();
    close(&of_rows.products, &naive(&turned, 300));
}

#[test]
fn what_is_not_finite_is_refused() {
    for (value, says) in [(f64::NAN, "NaN"), (f64::INFINITY, "infinity")] {
        let matrix = chunk(&[vec![(0, 1.0)], vec![(1, value)]]);
        let error = found(&matrix, 2, &Plan::default(), 1, 1).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.message().contains(says), "{error}");
    }
    let plan = Plan::new(vec![Step::Densify]).unwrap();
    assert_eq!(found(&chunk(&[vec![], vec![(1, 2.0)]]), 2, &plan, 1, 1).unwrap().products, [0.0, 0.0, 0.0, 4.0]);
    assert!(found(&chunk(&[]), 3, &Plan::default(), 1, 1).unwrap().products.iter().all(|p| *p == 0.0));
}

#[test]
fn eigenvalues_of_matrices_that_are_known() {
    let found = largest(&[2.0, 1.0, 1.0, 2.0], 2, 2, 1).unwrap();
    close(&found.values, &[3.0, 1.0]);
    let root = 0.5f64.sqrt();
    close(&found.vectors.iter().map(|v| v.abs()).collect::<Vec<_>>(), &[root; 4]);
    // The second difference: 2 - 2 cos(pi j / (n + 1)).
    let n = 40usize;
    let matrix: Vec<f64> = (0..n * n)
        .map(|at| match (at / n).abs_diff(at % n) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        })
        .collect();
    let value = |j: usize| 2.0 - 2.0 * (std::f64::consts::PI * j as f64 / (n + 1) as f64).cos();
    close(&largest(&matrix, n, 7, 1).unwrap().values, &(0..7).map(|i| value(n - i)).collect::<Vec<_>>());
    assert_eq!(largest(&[], 0, 0, 1).unwrap().values, Vec::<f64>::new());
    for n in 1..4 {
        let found = largest(&vec![0.0; n * n], n, n, 1).unwrap();
        close(&found.values, &vec![0.0; n]);
        let length = |vector: &[f64]| vector.iter().map(|v| v * v).sum::<f64>();
        close(&found.vectors.chunks_exact(n).map(length).collect::<Vec<_>>(), &vec![1.0; n]);
    }
    for (matrix, n, k) in [(vec![1.0; 4], 2, 3), (vec![1.0; 3], 2, 1), (vec![f64::NAN; 4], 2, 1)] {
        assert_eq!(kind(largest(&matrix, n, k, 1)), ErrorKind::InvalidArgument);
    }
}

proptest! {
    #[test]
    fn vectors_are_orthonormal_and_belong_to_values(n in 1usize..12, seed in 0u64..1000) {
        let half: Vec<f64> = (0..n * n).map(|i| (noise(seed * 1000 + i as u64) % 17) as f64 - 8.0).collect();
        let matrix: Vec<f64> = (0..n * n).map(|at| half[at] + half[at % n * n + at / n]).collect();
        let found = largest(&matrix, n, n, 1).unwrap();
        prop_assert!(found.values.windows(2).all(|w| w[0] >= w[1]));
        let vector = |i: usize| &found.vectors[i * n..(i + 1) * n];
        for i in 0..n {
            for row in 0..n {
                let image: f64 = matrix[row * n..(row + 1) * n].iter().zip(vector(i)).map(|(a, b)| a * b).sum();
                prop_assert!((image - found.values[i] * vector(i)[row]).abs() < 1e-10);
            }
            for j in 0..n {
                let product: f64 = vector(i).iter().zip(vector(j)).map(|(a, b)| a * b).sum();
                prop_assert!((product - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }
}

fn lead(matrix: &CsrChunk, wanted: Wanted<'_>, part_rows: usize, threads: usize) -> Result<Leading> {
    let read = |rows: Range<usize>| -> Result<CsrChunk> { Ok(matrix.slice(rows)) };
    let n_cols = wanted.means.len();
    let stretch_rows = 1 << 16;
    let source =
        Source { n_rows: matrix.n_rows(), n_cols, read: &read, part_rows, stretch_rows, threads, progress: &|_| true };
    leading(&source, &Plan::default(), wanted)
}

/// What `gram` and `largest` say of the columns less means and times factors.
fn by_products(matrix: &CsrChunk, n_cols: usize, factors: &[f64], centred: bool, k: usize) -> Vec<f64> {
    let mut gram = found(matrix, n_cols, &Plan::default(), 1000, 2).unwrap();
    if centred {
        gram.centre();
    }
    gram.scale(factors).unwrap();
    largest(&gram.products, n_cols, k, 1).unwrap().values
}

#[test]
fn eigenvalues_without_products_are_those_of_products() {
    for (n, n_cols, share, k, centred) in
        [(900, 700, 9, 12, true), (5000, 600, 30, 50, true), (40, 90, 3, 20, false), (300, 5, 1, 5, true)]
    {
        let matrix = chunk(&rows(n, n_cols, share));
        let factors: Vec<f64> = (0..n_cols).map(|c| 1.0 / (1.0 + (c % 60) as f64)).collect();
        let sums = found(&matrix, n_cols, &Plan::default(), n, 1).unwrap().sums;
        let means: Vec<f64> = sums.iter().map(|s| if centred { s / n as f64 } else { 0.0 }).collect();
        let wanted = Wanted { means: &means, factors: &factors, k };
        let found = lead(&matrix, wanted, 333, 2).unwrap();
        assert!(found.converged(), "{:?}", found.residuals);
        let theirs = by_products(&matrix, n_cols, &factors, centred, k);
        let largest = theirs[0];
        for (ours, theirs) in found.values.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-11 * largest, "{ours} for {theirs}");
        }
        let vector = |i: usize| &found.vectors[i * n_cols..(i + 1) * n_cols];
        for i in 0..k {
            for j in 0..k {
                let product: f64 = vector(i).iter().zip(vector(j)).map(|(a, b)| a * b).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-11);
            }
        }
        for (part, threads) in [(n, 1), (77, 5)] {
            assert_eq!(found, lead(&matrix, wanted, part, threads).unwrap());
        }
    }
}

#[test]
fn fewer_directions_than_eigenvalues_and_the_same_one_many_times() {
    // Two different rows only; and forty columns that are alone in a row each.
    let two: Vec<Vec<(u32, f64)>> =
        (0..60).map(|i| if i % 3 == 0 { vec![(1, 2.0)] } else { vec![(5, 1.0), (7, 1.0)] }).collect();
    let each: Vec<Vec<(u32, f64)>> = (0..40).map(|i| vec![(i, 3.0)]).collect();
    for (rows, n_cols, expected) in [(two, 80, vec![80.0, 80.0, 0.0, 0.0]), (each, 70, vec![9.0; 40])] {
        let (means, factors) = (vec![0.0; n_cols], vec![1.0; n_cols]);
        let wanted = Wanted { means: &means, factors: &factors, k: expected.len() };
        let found = lead(&chunk(&rows), wanted, 100, 2).unwrap();
        assert!(found.converged());
        close(&found.values, &expected);
        let length = |vector: &[f64]| vector.iter().map(|v| v * v).sum::<f64>();
        close(&found.vectors.chunks_exact(n_cols).map(length).collect::<Vec<_>>(), &vec![1.0; expected.len()]);
    }
    let zeros = chunk(&[vec![], vec![]]);
    let found = lead(&zeros, Wanted { means: &[0.0; 3], factors: &[1.0; 3], k: 2 }, 1, 1).unwrap();
    assert_eq!(found.values, [0.0, 0.0]);
}

#[test]
fn images_of_stretches_add_up_to_those_of_all_rows() {
    let (n, n_cols, stretch) = (500, 40, 64);
    let rows = rows(n, n_cols, 4);
    let matrix = chunk(&rows);
    let means: Vec<f64> = (0..n_cols).map(|c| (c % 7) as f64 / 9.0).collect();
    let factors: Vec<f64> = (0..n_cols).map(|c| 1.0 / (1.0 + c as f64)).collect();
    let values = (0..11 * n_cols as u64).map(|i| (noise(i) % 1000) as f64 / 500.0 - 1.0).collect();
    let vectors = Vectors { means, factors, values };
    let images = |rows: Range<usize>, part_rows, threads| {
        let read = |rows: Range<usize>| -> Result<CsrChunk> { Ok(matrix.slice(rows)) };
        let source =
            Source { n_rows: n, n_cols, read: &read, part_rows, stretch_rows: stretch, threads, progress: &|_| true };
        images_of_rows(&source, &Plan::default(), rows, &vectors).unwrap()
    };
    let whole = images(0..n, 100, 1);
    let mut apart = Images::zeros(&vectors, n_cols).unwrap();
    for rows in steps(0..n, stretch) {
        let mut bytes = Vec::new();
        images(rows, 30, 2).to_bytes(&mut bytes);
        assert_eq!(kind(Images::from_bytes(&bytes[1..], &vectors, n_cols)), ErrorKind::InvalidArgument);
        apart.add(&Images::from_bytes(&bytes, &vectors, n_cols).unwrap());
    }
    assert_eq!(apart, whole);
    for (part_rows, threads) in [(1, 3), (n, 2), (77, 5)] {
        assert_eq!(images(0..n, part_rows, threads), whole);
    }
    let found = whole.finish(&vectors);
    let mut dense: Vec<Vec<f64>> =
        vec![vectors.means.iter().zip(&vectors.factors).map(|(mean, factor)| -mean * factor).collect(); n];
    for (to, row) in dense.iter_mut().zip(&rows) {
        row.iter().for_each(|&(c, v)| to[c as usize] += v * vectors.factors[c as usize]);
    }
    for (vector, image) in vectors.values.chunks(n_cols).zip(found.chunks(n_cols)) {
        let made: Vec<f64> = dense.iter().map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect();
        for (c, image) in image.iter().enumerate() {
            let expected: f64 = dense.iter().zip(&made).map(|(row, made)| row[c] * made).sum();
            assert!((image - expected).abs() < 1e-9, "{image} for {expected}");
        }
    }
    let wrong = Vectors { factors: vec![1.0; n_cols - 1], ..vectors.clone() };
    assert_eq!(kind(Images::zeros(&wrong, n_cols)), ErrorKind::InvalidArgument);
    let mut search = Lanczos::new(n_cols, 3, 1).unwrap();
    assert_eq!(kind(search.take(vec![0.0; n_cols])), ErrorKind::InvalidArgument);
}

#[test]
fn eigenvalues_that_cannot_be_had_are_refused() {
    let matrix = chunk(&rows(5, 4, 1));
    for (means, factors, k) in [(4, 4, 0), (4, 4, 5), (4, 3, 1)] {
        let (means, factors) = (vec![0.0; means], vec![1.0; factors]);
        let error = lead(&matrix, Wanted { means: &means, factors: &factors, k }, 2, 1);
        assert_eq!(kind(error), ErrorKind::InvalidArgument);
    }
    let matrix = chunk(&[vec![(0, f64::NAN)]]);
    let wanted = Wanted { means: &[0.0; 2], factors: &[1.0; 2], k: 1 };
    assert_eq!(kind(lead(&matrix, wanted, 2, 1)), ErrorKind::InvalidArgument);
}

#[test]
fn eigenvalues_of_large_matrices_do_not_depend_on_threads() {
    // Panels end within the matrix, at its end and one before; the largest is shared by threads. Eigenvalues
    // are i + 1, in the directions of a reflection.
    for n in [33, 34, 35, 64, 66, 67, 700] {
        let v: Vec<f64> = (0..n).map(|i| (noise(i as u64) % 1000) as f64 / 500.0 - 1.0).collect();
        let factor = 2.0 / v.iter().map(|v| v * v).sum::<f64>();
        let direction = |i: usize, row: usize| f64::from(u8::from(i == row)) - factor * v[i] * v[row];
        let of_value: f64 = (0..n).map(|i| (i + 1) as f64 * v[i] * v[i]).sum::<f64>() * factor * factor;
        let value = |i: usize, j: usize| {
            let both = factor * v[i] * v[j];
            (if i == j { (i + 1) as f64 } else { 0.0 }) - both * (i + j + 2) as f64 + of_value * v[i] * v[j]
        };
        let matrix: Vec<f64> = (0..n * n).map(|at| value(at / n, at % n)).collect();
        let found = largest(&matrix, n, 20, 1).unwrap();
        for threads in [2, 5] {
            assert_eq!(largest(&matrix, n, 20, threads).unwrap(), found, "{n}");
        }
        for (at, vector) in found.vectors.chunks_exact(n).enumerate() {
            let i = n - 1 - at;
            assert!((found.values[at] - (i + 1) as f64).abs() < 1e-11 * n as f64, "{n} {at}");
            let cosine: f64 = vector.iter().enumerate().map(|(row, v)| v * direction(i, row)).sum();
            assert!((cosine.abs() - 1.0).abs() < 1e-11, "{n} {at} {cosine}");
        }
    }
}

#[test]
fn matrices_of_few_directions_and_of_any_size_have_vectors() {
    let n = 56;
    for (rank, size) in [(8, 1.0), (1, 1.0), (3, 1e-300), (3, 1e300), (56, 1e-290), (8, 1e-160)] {
        // Groups of equal columns, as of genes that occur several times.
        let of =
            |i: usize| (0..rank).map(move |r| ((noise((i % rank * 100 + r) as u64) % 1000) as f64 - 500.0) / 500.0);
        let product = |i: usize, j: usize| of(i).zip(of(j)).map(|(a, b)| a * b).sum::<f64>() * size;
        let matrix: Vec<f64> = (0..n * n).map(|at| product(at / n, at % n)).collect();
        let found = largest(&matrix, n, n, 1).unwrap();
        assert!(found.values[0] > 0.0 && found.vectors.iter().all(|v| v.is_finite()), "{rank} {size}");
        for i in 0..rank.min(3) {
            let vector = &found.vectors[i * n..(i + 1) * n];
            assert!((vector.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-12);
            for row in 0..n {
                let image: f64 = (0..n).map(|j| matrix[row * n + j] / found.values[0] * vector[j]).sum();
                assert!((image - found.values[i] / found.values[0] * vector[row]).abs() < 1e-12, "{rank} {size} {i}");
            }
        }
    }
}
