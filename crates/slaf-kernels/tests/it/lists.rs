//! An inverted file finds what a scan of all points finds, bit for bit.

use crate::kind;
use proptest::prelude::*;
use slaf_core::ErrorKind;
use slaf_kernels::neighbors::{FlatScan, Hits, Lists, ListsBuilder, Measure, Numbers, Portion, Real, Targets, Walk};

const MEASURES: [Measure; 3] = [Measure::L2, Measure::Cosine, Measure::InnerProduct];

/// Points in lists.
struct Inverted<T> {
    lists: Lists,
    numbers: Vec<Vec<u32>>,
    values: Vec<Vec<T>>,
}

fn built<T: Real>(values: &[T], dims: usize, measure: Measure, n_lists: usize, threads: usize) -> Inverted<T> {
    let n = values.len() / dims;
    let sample: Vec<T> = values.chunks(dims).step_by(1 + n / 500).flatten().copied().collect();
    let mut builder = ListsBuilder::new(&sample, dims, measure, n_lists, threads).unwrap();
    let mut labels = Vec::new();
    for block in values.chunks(dims * 700) {
        labels.extend(builder.assign(block, labels.len() as u32, threads).unwrap());
    }
    let lists = builder.finish();
    let (mut numbers, mut of_lists) = (vec![Vec::new(); lists.sizes.len()], vec![Vec::new(); lists.sizes.len()]);
    for (i, list) in labels.iter().enumerate().filter_map(|(i, label)| Some((i, (*label)? as usize))) {
        let row = &values[i * dims..(i + 1) * dims];
        assert!(lists.can_hold(list, row));
        numbers[list].push(i as u32);
        of_lists[list].extend_from_slice(row);
    }
    assert!(numbers.iter().zip(&lists.sizes).all(|(numbers, &size)| numbers.len() == size as usize));
    Inverted { lists, numbers, values: of_lists }
}

/// What is found, and the part of all pairs that was compared.
fn walked<T: Real>(inverted: &Inverted<T>, targets: &Targets, k: usize, threads: usize) -> (Hits, f64) {
    let n_queries = targets.values.len() / targets.dims;
    let scan = FlatScan::new(targets.clone(), k, inverted.lists.measure).unwrap();
    let mut compared = 0;
    for start in (0..n_queries).step_by(150) {
        let mut walk = Walk::new(&inverted.lists, &scan, start..(start + 150).min(n_queries), threads);
        loop {
            let round = walk.next_round();
            if round.is_empty() {
                break;
            }
            let portion =
                |(list, queries): &(usize, Vec<u32>)| -> usize { inverted.numbers[*list].len() * queries.len() };
            let pairs: usize = round.iter().map(portion).sum();
            assert!(walk.left().is_none_or(|left| compared + pairs + left as usize <= n_queries * total(inverted)));
            compared += pairs;
            let portions: Vec<Portion<'_, T>> = round
                .iter()
                .map(|(list, queries)| Portion {
                    values: &inverted.values[*list],
                    numbers: &inverted.numbers[*list],
                    queries,
                })
                .collect();
            scan.offer_some(&portions, threads, &|| true).unwrap();
        }
        assert_eq!(walk.left().unwrap_or(0), 0);
    }
    (scan.finish(threads), compared as f64 / (n_queries * total(inverted)).max(1) as f64)
}

fn total<T>(inverted: &Inverted<T>) -> usize {
    inverted.numbers.iter().map(Vec::len).sum()
}

fn scanned<T: Real>(values: &[T], targets: &Targets, k: usize, measure: Measure) -> Hits {
    let scan = FlatScan::new(targets.clone(), k, measure).unwrap();
    scan.offer(values, Numbers::From(0), 2, &|| true).unwrap();
    scan.finish(2)
}

fn noise(i: u64) -> f64 {
    let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

/// Points in groups, far from zero.
fn in_groups(n: usize, dims: usize, offset: f64) -> Vec<f64> {
    let at = |at| {
        let (i, d) = (at / dims, at % dims);
        offset + 8.0 * noise((i % 41 * dims + d) as u64) + noise((1 << 32) + at as u64)
    };
    (0..n * dims).map(at).collect()
}

fn targets(values: &[f64], dims: usize, own: Vec<u32>) -> Targets {
    Targets { dims, values: values.to_vec(), own, first: 0 }
}

#[test]
fn lists_find_what_a_scan_finds() {
    let (n, dims) = (4000, 6);
    for offset in [0.0, 50.0, 1e7] {
        let values = in_groups(n, dims, offset);
        let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let own: Vec<u32> = (0..300).map(|i| i * 13).collect();
        let queries: Vec<f64> =
            own.iter().flat_map(|&i| &narrow[i as usize * dims..][..dims]).map(|&x| f64::from(x)).collect();
        for measure in MEASURES {
            let inverted = built(&values, dims, measure, 60, 3);
            let of_narrow = built(&narrow, dims, measure, 60, 2);
            for (n_queries, k, own) in [(1, 10, vec![]), (300, 3, own.clone()), (130, 500, vec![]), (3, 5000, vec![])] {
                let targets = targets(&queries[..n_queries * dims], dims, own);
                let (found, part) = walked(&inverted, &targets, k, 3);
                assert_eq!(found, scanned(&values, &targets, k, measure), "{measure:?} {offset} {k}");
                assert_eq!(walked(&of_narrow, &targets, k, 1).0, scanned(&narrow, &targets, k, measure));
                // The groups are apart: their lists are left out.
                if k == 3 && measure == Measure::L2 && offset < 100.0 {
                    assert!(part < 0.2, "{part} of all pairs");
                }
            }
        }
    }
}

#[test]
fn what_is_close_behind_a_border_is_found() {
    // Points all over a square: the nearest others of many are in another list.
    for dims in [1, 2, 3] {
        let values: Vec<f64> = (0..4000 * dims).map(|i| noise(i as u64)).collect();
        let queries: Vec<f64> = (0..500 * dims).map(|i| noise((1 << 40) + i as u64)).collect();
        for n_lists in [40, 400] {
            let inverted = built(&values, dims, Measure::L2, n_lists, 2);
            for k in [1, 4] {
                let targets = targets(&queries, dims, vec![]);
                let (found, part) = walked(&inverted, &targets, k, 2);
                assert_eq!(found, scanned(&values, &targets, k, Measure::L2), "{dims} {n_lists} {k}");
                assert!(part < 0.5, "{dims} {n_lists} {k}: {part}");
            }
        }
    }
}

#[test]
fn lists_are_the_same_with_any_number_of_threads() {
    let values = in_groups(3000, 5, 3.0);
    for measure in MEASURES {
        let (one, five) = (built(&values, 5, measure, 40, 1), built(&values, 5, measure, 40, 5));
        assert_eq!(one.lists, five.lists);
        assert_eq!(one.numbers, five.numbers);
    }
}

#[test]
fn what_has_no_place_is_in_no_list() {
    let nan = f64::NAN;
    let values = [nan, nan, 0.0, 0.0, 3.0, 4.0, 1e-200, 0.0, 3.0, 4.0];
    for (measure, there) in [(Measure::L2, 4), (Measure::InnerProduct, 4), (Measure::Cosine, 3)] {
        let inverted = built(&values, 2, measure, 9, 1);
        assert_eq!(total(&inverted), there, "{measure:?}");
        let targets = targets(&[1.0, 0.0], 2, vec![]);
        assert_eq!(walked(&inverted, &targets, 9, 1).0, scanned(&values, &targets, 9, measure));
    }
    // Nothing at all, and one point.
    for values in [vec![], vec![nan, nan], vec![1.0, 2.0]] {
        let inverted = built(&values, 2, Measure::L2, 5, 2);
        let targets = targets(&[1.0, 0.0], 2, vec![]);
        assert_eq!(walked(&inverted, &targets, 3, 1).0, scanned(&values, &targets, 3, Measure::L2));
    }
}

#[test]
fn what_has_half_a_place_is_refused_by_its_number() {
    let sample = [1.0, f64::INFINITY, 1.0, 2.0];
    for dims in [0, 3] {
        assert_eq!(kind(ListsBuilder::new(&sample, dims, Measure::L2, 1, 1).map(|_| ())), ErrorKind::InvalidArgument);
    }
    let mut builder = ListsBuilder::new(&sample, 2, Measure::L2, 1, 1).unwrap();
    let error = builder.assign(&[1.0, 2.0, f64::NAN, 1.0], 40, 1).unwrap_err();
    assert!(error.message().starts_with("row 41 has the coordinate NaN"), "{error}");
}

#[test]
fn lists_are_about_the_root_of_the_points() {
    assert_eq!([0, 1, 256, 257, 1_000_000].map(|n| Lists::number(n, 256)), [1, 1, 1, 2, 3907]);
    assert_eq!(Lists::number(100_000_000, 256), 40_000);
}

proptest! {
    #[test]
    fn lattices_with_twins_are_searched_exactly(
        dims in 1usize..5,
        points in prop::collection::vec(-2i8..3, 8..300),
        k in 1usize..12,
        n_lists in 1usize..30,
        scale in prop::sample::select(vec![1e-160, 1e-30, 1e-3, 1.0, 1e9]),
        shift in prop::sample::select(vec![0.0, 1.0, 1e6])
    ) {
        let whole = &points[..points.len() / dims * dims];
        let values: Vec<f64> = whole.iter().map(|&x| (f64::from(x) + shift) * scale).collect();
        for measure in MEASURES {
            let inverted = built(&values, dims, measure, n_lists, 2);
            let rows = values.chunks(dims).filter(|row| measure != Measure::Cosine || row.iter().any(|x| *x != 0.0));
            let queries: Vec<f64> = rows.flatten().copied().collect();
            let targets = targets(&queries, dims, vec![]);
            prop_assert_eq!(walked(&inverted, &targets, k, 1).0, scanned(&values, &targets, k, measure), "{:?}", measure);
        }
    }

    #[test]
    fn points_at_random_are_searched_exactly(
        values in prop::collection::vec(-1e3f32..1e3, 60..900), dims in 1usize..9, k in 1usize..40, n_lists in 1usize..40
    ) {
        let values = &values[..values.len() / dims * dims];
        let queries: Vec<f64> = values.iter().take(20 / dims * dims).map(|&x| f64::from(x) * 0.9 + 1.0).collect();
        prop_assume!(!queries.is_empty());
        for measure in MEASURES {
            let targets = targets(&queries, dims, vec![]);
            prop_assert_eq!(
                walked(&built(values, dims, measure, n_lists, 2), &targets, k, 2).0, scanned(values, &targets, k, measure)
            );
        }
    }
}
