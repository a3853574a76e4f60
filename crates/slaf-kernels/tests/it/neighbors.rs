//! Nearest neighbours against the comparison of all pairs, and their graph.

use crate::kind;
use proptest::prelude::*;
use slaf_core::ErrorKind;
use slaf_kernels::neighbors::{
    Effort, FlatScan, Hits, Measure, Metric, Nearest, Numbers, Real, Targets, all_nearest, nearest, umap_connectivities,
};

/// The neighbours of every `step`-th point.
fn all_pairs(values: &[f32], dims: usize, k: usize, metric: Metric, step: usize) -> Vec<(usize, Vec<(f64, u32)>)> {
    let rows: Vec<Vec<f64>> = values.chunks(dims).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let distance = |a: &[f64], b: &[f64]| match metric {
        Metric::Euclidean => a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        Metric::Cosine => (1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).max(0.0),
    };
    let of = |i: usize| {
        let others = (0..rows.len()).filter(|j| *j != i);
        let mut all: Vec<(f64, u32)> = others.map(|j| (distance(&rows[i], &rows[j]), j as u32)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(k);
        all
    };
    (0..rows.len()).step_by(step).map(|i| (i, of(i))).collect()
}

fn found(values: &[f32], dims: usize, k: usize, metric: Metric, threads: usize) -> Nearest {
    all_nearest(values, dims, k, metric, Effort::Exact, threads, &|_, _| true).unwrap()
}

fn noise(i: u64) -> f32 {
    let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32) / (1 << 24) as f32 - 0.5
}

/// Points in groups, far from zero: shifts and bounds matter.
fn in_groups(n: usize, dims: usize) -> Vec<f32> {
    (0..n * dims)
        .map(|at| {
            let (i, d) = (at / dims, at % dims);
            50.0 + 8.0 * noise((i % 23 * dims + d) as u64) + noise((1 << 32) + at as u64)
        })
        .collect()
}

#[test]
fn clusters_leave_no_neighbour_out() {
    let (n, dims, k) = (4500, 5, 9);
    let values = in_groups(n, dims);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let ours = found(&values, dims, k, metric, 3);
        for (i, theirs) in all_pairs(&values, dims, k, metric, 61) {
            for (j, (distance, row)) in theirs.iter().enumerate() {
                let at = i * k + j;
                assert!((ours.distances[at] - distance).abs() < 1e-12, "{metric:?} {i} {j}");
                // Cosines of nearly parallel directions cancel: there distances tell less.
                assert!(ours.rows[at] == *row || metric == Metric::Cosine, "{i} {j}");
            }
        }
        assert_eq!(ours, found(&values, dims, k, metric, 1));
    }
}

#[test]
fn ties_come_by_row_and_twins_are_neighbours() {
    // A grid of whole numbers, every point twice.
    let values: Vec<f32> = (0..5000).flat_map(|i| [(i / 2 % 50) as f32, (i / 2 / 50) as f32]).collect();
    let ours = found(&values, 2, 7, Metric::Euclidean, 2);
    for (i, theirs) in all_pairs(&values, 2, 7, Metric::Euclidean, 61) {
        let rows: Vec<u32> = theirs.iter().map(|t| t.1).collect();
        assert_eq!(ours.rows[i * 7..(i + 1) * 7], rows, "row {i}");
        assert_eq!(ours.rows[i * 7], (i ^ 1) as u32);
    }
}

proptest! {
    #[test]
    fn few_points_are_compared_with_all(
        dims in 1usize..7, points in prop::collection::vec(-3i8..4, 14..80), k in 1usize..4, shift in -1e4f32..1e4
    ) {
        let values: Vec<f32> = points.iter().take(points.len() / dims * dims).map(|&x| f32::from(x) + shift).collect();
        let n = values.len() / dims;
        prop_assume!(k < n);
        let ours = found(&values, dims, k, Metric::Euclidean, 2);
        for (i, theirs) in all_pairs(&values, dims, k, Metric::Euclidean, 1) {
            let rows: Vec<u32> = theirs.iter().map(|t| t.1).collect();
            prop_assert_eq!(&ours.rows[i * k..(i + 1) * k], &rows[..]);
        }
        let flat = nearest(&values, dims, &values, k + 1, Metric::Euclidean, 3).unwrap();
        for i in 0..n {
            prop_assert!(flat.distances[i * (k + 1)] == 0.0);
            prop_assert_eq!(&flat.distances[i * (k + 1) + 1..(i + 1) * (k + 1)], &ours.distances[i * k..(i + 1) * k]);
        }
    }
}

#[test]
fn what_has_no_distance_is_refused() {
    let refused =
        |values: &[f64], dims, k, metric| kind(all_nearest(values, dims, k, metric, Effort::Exact, 1, &|_, _| true));
    for values in [[0.0, f64::NAN], [0.0, f64::INFINITY], [0.0, 1e300]] {
        assert_eq!(refused(&values, 1, 1, Metric::Euclidean), ErrorKind::InvalidArgument);
    }
    assert_eq!(refused(&[0.0, 1.0], 1, 2, Metric::Euclidean), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[0.0, 1.0, 2.0], 2, 1, Metric::Euclidean), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[0.0, 1.0], 0, 1, Metric::Euclidean), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[0.0, 1.0], 1, 1, Metric::Cosine), ErrorKind::InvalidArgument);
    let stopped = all_nearest(&[0.0f32; 600], 1, 2, Metric::Euclidean, Effort::Exact, 2, &|_, _| false);
    assert_eq!(kind(stopped), ErrorKind::Interrupted);
    assert_eq!(found(&[1.0, 2.0], 1, 0, Metric::Euclidean, 1).rows, Vec::<u32>::new());
}

#[test]
fn a_graph_is_symmetric_and_the_nearest_has_strength_one() {
    let values = in_groups(300, 4);
    let near = found(&values, 4, 6, Metric::Euclidean, 2);
    let graph = umap_connectivities(&near.rows, &near.distances, 6).unwrap();
    let strength = |i: usize, j: u32| {
        let row = graph.starts[i] as usize..graph.starts[i + 1] as usize;
        graph.columns[row.clone()].binary_search(&j).ok().map(|at| graph.values[row.start + at])
    };
    for i in 0..300 {
        let nearest = strength(i, near.rows[i * 6]).unwrap();
        assert!((nearest - 1.0).abs() < 1e-6, "{nearest}");
        for at in graph.starts[i] as usize..graph.starts[i + 1] as usize {
            assert_eq!(strength(graph.columns[at] as usize, i as u32), Some(graph.values[at]));
        }
    }
    // Three points in a row: (0) -1- (1) -1- (2), one neighbour each: target log2(2) = 1.
    let graph = umap_connectivities(&[1, 0, 1], &[1.0, 1.0, 1.0], 1).unwrap();
    assert_eq!((graph.columns, graph.values), (vec![1, 0, 2, 1], vec![1.0; 4]));
    assert_eq!(kind(umap_connectivities(&[5], &[1.0], 1)), ErrorKind::InvalidArgument);
    assert_eq!(umap_connectivities(&[], &[], 3).unwrap().starts, [0]);
}

/// The nearest of all rows to each query, by comparing all in float64.
fn by_comparing_all(values: &[f64], queries: &[f64], dims: usize, k: usize, measure: Measure) -> Vec<Vec<(f64, u32)>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let distance = |a: &[f64], b: &[f64]| match measure {
        Measure::L2 => a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        Measure::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Measure::InnerProduct => -dot(a, b),
    };
    let of = |query: &[f64]| {
        let rows = values.chunks(dims).enumerate();
        let usable = rows.filter(|(_, row)| measure != Measure::Cosine || row.iter().any(|x| *x != 0.0));
        let mut all: Vec<(f64, u32)> = usable.map(|(i, row)| (distance(query, row), i as u32)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(k);
        all
    };
    queries.chunks(dims).map(of).collect()
}

fn flat<T: Real>(
    values: &[T],
    targets: &Targets,
    k: usize,
    measure: Measure,
    rows_at_once: usize,
    threads: usize,
) -> slaf_core::Result<Hits> {
    let scan = FlatScan::new(targets.clone(), k, measure)?;
    let mut first = 0;
    for block in values.chunks(targets.dims * rows_at_once) {
        scan.offer(block, Numbers::From(first), threads, &|| true)?;
        first += (block.len() / targets.dims) as u32;
    }
    Ok(scan.finish(threads))
}

const MEASURES: [Measure; 3] = [Measure::L2, Measure::Cosine, Measure::InnerProduct];

#[test]
fn a_flat_scan_is_the_comparison_of_all() {
    let (n, dims) = (2500, 7);
    let values = in_groups(n, dims);
    let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    for n_queries in [1, 3, 200] {
        let queries: Vec<f64> = in_groups(n_queries, dims).into_iter().map(|x| f64::from(x) + 0.01).collect();
        let targets = Targets { dims, values: queries.clone(), own: Vec::new(), first: 0 };
        for (measure, k) in MEASURES.into_iter().flat_map(|m| [(m, 1), (m, 20), (m, 3000)]) {
            let ours = flat(&values, &targets, k, measure, 1100, 3).unwrap();
            for (i, theirs) in by_comparing_all(&wide, &queries, dims, k, measure).into_iter().enumerate() {
                let at = ours.of(i);
                assert_eq!(at.len(), k.min(n));
                for (j, (distance, row)) in theirs.into_iter().enumerate() {
                    assert!((ours.distances[at.start + j] - distance).abs() < 1e-9, "{measure:?} {i} {j}");
                    // Distances that differ in the last bit only come in any order.
                    let same = ours.rows[at.start + j] == row;
                    assert!(same || measure != Measure::L2, "{measure:?} {i} {j}");
                }
            }
            for (rows_at_once, threads) in [(1, 1), (n, 1), (n, 2), (333, 5)] {
                assert_eq!(flat(&values, &targets, k, measure, rows_at_once, threads).unwrap(), ours);
                assert_eq!(flat(&wide, &targets, k, measure, rows_at_once, threads).unwrap(), ours);
            }
        }
    }
}

#[test]
fn ties_come_by_number_and_own_rows_are_left_out() {
    // Points of a small lattice, each many times.
    let n = 3000;
    let values: Vec<f64> = (0..n).flat_map(|i| [(i % 5) as f64, (i % 3) as f64]).collect();
    let own: Vec<u32> = vec![0, 7, 2999];
    let queries: Vec<f64> = own.iter().flat_map(|&i| [f64::from(i % 5), f64::from(i % 3)]).collect();
    for own in [Vec::new(), own] {
        let targets = Targets { dims: 2, values: queries.clone(), own: own.clone(), first: 0 };
        let ours = flat(&values, &targets, 450, Measure::L2, 700, 4).unwrap();
        for (i, mut theirs) in by_comparing_all(&values, &queries, 2, n, Measure::L2).into_iter().enumerate() {
            theirs.retain(|(_, row)| own.get(i) != Some(row));
            let rows: Vec<u32> = theirs.into_iter().take(450).map(|(_, row)| row).collect();
            assert_eq!(ours.rows[ours.of(i)], rows[..]);
        }
    }
}

#[test]
fn magnitudes_leave_no_neighbour_out() {
    for scale in [1e-30, 1e-22, 1e-3, 1e6, 1e14] {
        let values: Vec<f64> = in_groups(1500, 3).into_iter().map(|x| f64::from(x) * scale).collect();
        for measure in MEASURES {
            let targets = Targets { dims: 3, values: values[..30].to_vec(), own: Vec::new(), first: 0 };
            let ours = flat(&values, &targets, 5, measure, 500, 2).unwrap();
            for (i, theirs) in by_comparing_all(&values, &values[..30], 3, 5, measure).into_iter().enumerate() {
                for (j, (distance, _)) in theirs.into_iter().enumerate() {
                    let found = ours.distances[ours.of(i).start + j];
                    let unit = if measure == Measure::Cosine { 1.0 } else { scale };
                    let unit = if measure == Measure::InnerProduct { unit * unit } else { unit };
                    assert!((found - distance).abs() <= 1e-9 * unit, "{measure:?} {scale} {found} {distance}");
                }
            }
        }
    }
}

#[test]
fn a_flat_scan_refuses_what_has_no_place() {
    let targets = |values: &[f64]| Targets { dims: 2, values: values.to_vec(), own: Vec::new(), first: 0 };
    let new = |values: &[f64], measure| kind(FlatScan::new(targets(values), 1, measure).map(|_| ()));
    for bad in [f64::NAN, f64::INFINITY, 1e16] {
        assert_eq!(new(&[0.0, bad], Measure::L2), ErrorKind::InvalidArgument);
        let scan = FlatScan::new(targets(&[1.0, 2.0]), 1, Measure::L2).unwrap();
        let error = scan.offer(&[0.0, 1.0, bad, 0.0], Numbers::Each(&[4, 9]), 1, &|| true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().starts_with("row 9 "), "{error}");
    }
    assert_eq!(new(&[0.0], Measure::L2), ErrorKind::InvalidArgument);
    assert_eq!(new(&[0.0, 0.0], Measure::Cosine), ErrorKind::InvalidArgument);
    let scan = FlatScan::new(targets(&[1.0, 2.0]), 1, Measure::L2).unwrap();
    assert_eq!(kind(scan.offer(&[0.0f32; 2], Numbers::From(0), 1, &|| false)), ErrorKind::Interrupted);
    // What has no direction is left out.
    let found = flat(&[0.0, 0.0, 3.0, 4.0], &targets(&[3.0, 4.0]), 2, Measure::Cosine, 1, 1).unwrap();
    assert_eq!((found.rows, found.distances), (vec![1], vec![0.0]));
    let none = flat(&[1.0, 2.0], &targets(&[3.0, 4.0]), 0, Measure::L2, 1, 1).unwrap();
    assert_eq!((none.starts, none.rows), (vec![0, 0], vec![]));
}

#[test]
fn points_at_one_distance_come_in_the_order_of_their_numbers() {
    // The squares of these sums differ in their last bits, their roots do not.
    let values = [0.62, 0.38, 1.0, 0.62, 1.0, 0.38, 0.38, 0.62, 1.0, 0.38, 1.0, 0.62, 1.0, 0.62, 0.38, 1.0, 0.38, 0.62];
    let queries = Targets { dims: 3, values: vec![0.0; 3], own: vec![], first: 0 };
    for k in [3, 6] {
        let hits = flat(&values, &queries, k, Measure::L2, 2, 2).unwrap();
        assert!(hits.distances.windows(2).all(|w| w[0] == w[1]), "{:?}", hits.distances);
        assert_eq!(hits.rows, (0..k as u32).collect::<Vec<_>>());
    }
}

#[test]
fn tiny_points_have_directions() {
    // Of (3, 4) and its like in any size the cosine with (1, 0) is 0.6.
    for size in [1.0, 1e-99, 1e-150, 1e-160, 1e-200, 1e-300, 1e-307] {
        let values = [0.0, 0.0, 3.0 * size, 4.0 * size, 0.0, 2.0 * size, size, 0.0];
        for query in [1.0, 1e-170, 1e-305] {
            let queries = Targets { dims: 2, values: vec![query, 0.0], own: vec![], first: 0 };
            let hits = flat(&values, &queries, 9, Measure::Cosine, 3, 1).unwrap();
            assert_eq!(hits.rows, [3, 1, 2], "{size} {query}");
            for (distance, expected) in hits.distances.iter().zip([0.0, 0.4, 1.0]) {
                assert!((distance - expected).abs() < 1e-15, "{size} {query}: {:?}", hits.distances);
            }
        }
    }
}

#[test]
fn rows_without_a_place_are_left_out() {
    let nan = f64::NAN;
    let values = [1.0, 2.0, nan, nan, 3.0, 1.0, nan, nan, 1.0, 2.0];
    for measure in MEASURES {
        for query in [[1.0, 2.0], [0.0, 0.0]] {
            if measure == Measure::Cosine && query == [0.0, 0.0] {
                continue;
            }
            let queries = Targets { dims: 2, values: query.to_vec(), own: vec![], first: 0 };
            let mut found = flat(&values, &queries, 9, measure, 2, 2).unwrap().rows;
            found.sort_unstable();
            assert_eq!(found, [0, 2, 4], "{measure:?}");
        }
    }
    let queries = Targets { dims: 2, values: vec![1.0, 2.0], own: vec![], first: 0 };
    for half in [[nan, 1.0], [f64::INFINITY, nan]] {
        assert_eq!(kind(flat(&half, &queries, 1, Measure::L2, 2, 1)), ErrorKind::InvalidArgument);
    }
}

/// Which part of the neighbours of one result is in another one.
fn part_of(all: &Nearest, found: &Nearest) -> f64 {
    let pairs = all.rows.chunks(all.k).zip(found.rows.chunks(all.k));
    let both: usize = pairs.map(|(all, found)| all.iter().filter(|row| found.contains(row)).count()).sum();
    both as f64 / all.rows.len() as f64
}

#[test]
fn lists_find_most_and_tell_how_many() {
    let n = 30_000;
    let all_noise: Vec<f32> = (0..n * 20).map(|at| noise(at as u64)).collect();
    let cases = [(in_groups(n, 5), 5, 9, 0.999), (all_noise, 20, 9, 0.9), (in_groups(n, 4), 4, 50, 0.999)];
    for (values, dims, k, at_least) in cases {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let most = |threads| all_nearest(&values, dims, k, metric, Effort::Lists, threads, &|_, _| true).unwrap();
            let (ours, all) = (most(3), found(&values, dims, k, metric, 2));
            let (recall, told) = (part_of(&all, &ours), ours.recall.unwrap());
            assert!(recall >= at_least && (recall - told).abs() < 0.01, "{recall} of {dims}, told {told}");
            assert_eq!(all.recall, None);
            assert_eq!(ours, most(1));
        }
    }
}

#[test]
fn what_is_within_the_effort_is_exact() {
    let (n, dims, k) = (20_000, 6, 5);
    let values = in_groups(n, dims);
    let all = found(&values, dims, k, Metric::Euclidean, 2);
    let within =
        |products| all_nearest(&values, dims, k, Metric::Euclidean, Effort::Within(products), 2, &|_, _| true).unwrap();
    let of_all_pairs = (n * n * dims) as f64;
    assert_eq!(within(of_all_pairs), all);
    // Bounds leave groups out.
    assert_eq!(within(of_all_pairs / 3.0), all);
    assert!(within(of_all_pairs / 1000.0).recall.is_some());
}

#[test]
fn each_phase_can_be_stopped() {
    let values = in_groups(20_000, 3);
    for phase in ["sample", "cells", "neighbours of neighbours"] {
        let stopped = all_nearest(&values, 3, 4, Metric::Euclidean, Effort::Lists, 2, &|what, _| what != phase);
        assert_eq!(kind(stopped), ErrorKind::Interrupted, "{phase}");
    }
}
