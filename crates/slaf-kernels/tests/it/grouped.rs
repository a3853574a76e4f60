//! Tallies against lists of the values of each group.

use proptest::prelude::*;
use slaf_core::Dtype;
use slaf_kernels::grouped::{Comparison, Lane, Ordered, Places, Tallies, Test};
use std::cmp::Ordering;

/// As SQL orders floats: NaN is the largest, and there is one zero.
fn order(a: f64, b: f64) -> Ordering {
    (a.is_nan(), a + 0.0).partial_cmp(&(b.is_nan(), b + 0.0)).unwrap_or(a.is_nan().cmp(&b.is_nan()))
}

const COMPARISONS: [Comparison; 6] = [
    Comparison::Equal,
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Greater,
    Comparison::GreaterOrEqual,
];

fn passes(comparison: Comparison, value: f64, number: f64) -> bool {
    let found = order(value, number);
    match comparison {
        Comparison::Equal => found.is_eq(),
        Comparison::NotEqual => found.is_ne(),
        Comparison::Less => found.is_lt(),
        Comparison::LessOrEqual => found.is_le(),
        Comparison::Greater => found.is_gt(),
        Comparison::GreaterOrEqual => found.is_ge(),
    }
}

fn values() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, 1.0, 2.0, 2.5, -3.0, 250.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    prop_oneof![prop::sample::select(special.to_vec()), -1e3..1e3f64, (0..9).prop_map(f64::from)]
}

fn same(found: f64, expected: f64, scale: f64) -> bool {
    found.is_nan() && expected.is_nan() || found == expected || (found - expected).abs() <= 1e-12 * scale
}

/// Adds rows to tallies of one type and compares these with lists.
fn check<T: Ordered>(
    rows: &[(usize, Vec<(u32, T)>)],
    n_places: usize,
    table: Option<&[u32]>,
    is_one: bool,
    tests: &[(Comparison, T)],
    split: usize,
    with_range: bool,
) {
    let test = |&(comparison, number): &(Comparison, T)| Test::new(comparison, number);
    let (conditions, filters) = tests.split_at(tests.len().min(1));
    let lanes = [
        Lane { sum: true, range: with_range, ..Lane::default() },
        Lane { tests: filters.iter().map(test).collect(), moments: true, sum: true, range: true },
    ];
    let conditions: Vec<Test> = conditions.iter().map(test).collect();
    let firsts = rows.iter().map(|r| r.0).max().unwrap_or(0) + 1;
    let mut parts = [0, 1].map(|_| Tallies::<T>::new(&lanes, &conditions, firsts * n_places));
    let mut groups = vec![[Vec::new(), Vec::new()]; firsts * n_places];
    for (i, (first, row)) in rows.iter().enumerate() {
        let (numbers, row_values): (Vec<u32>, Vec<T>) = row.iter().copied().unzip();
        let places = match (table, is_one) {
            (_, true) => Places::One,
            (Some(table), _) if table.contains(&Places::NONE) => Places::Table(table),
            (Some(table), _) => Places::Whole(table),
            (None, _) => Places::Own,
        };
        parts[usize::from(i >= split)].add(first * n_places, &numbers, &row_values, places);
        for &(number, value) in row {
            let place = match places {
                Places::One => 0,
                Places::Own => number,
                Places::Whole(table) | Places::Table(table) => table[number as usize],
            };
            let passes = |tests: &[(Comparison, T)]| tests.iter().all(|t| passes(t.0, value.as_f64(), t.1.as_f64()));
            if place == Places::NONE || !passes(&tests[..tests.len().min(1)]) {
                continue;
            }
            let group = &mut groups[first * n_places + place as usize];
            group[0].push(value.as_f64());
            if passes(&tests[tests.len().min(1)..]) {
                group[1].push(value.as_f64());
            }
        }
    }
    let [mut tallies, next] = parts;
    tallies.merge(&next);
    for (place, group) in groups.iter().enumerate() {
        assert_eq!(tallies.all[place], group[0].len() as u64);
        for (lane, of) in group.iter().enumerate() {
            let tally = &tallies.lanes[lane];
            let scale = of.iter().map(|v| v.abs()).sum::<f64>() + 1.0;
            assert_eq!(tallies.count(lane)[place], of.len() as u64);
            let sum = if T::DTYPE.is_float() { tally.sum[place] } else { tally.whole[place] as f64 };
            assert!(same(sum, of.iter().sum::<f64>() + 0.0, scale), "{sum} {of:?}");
            if (lane == 1 || with_range)
                && let Some(min) = of.iter().copied().min_by(|a, b| order(*a, *b))
                && let Some(max) = of.iter().copied().max_by(|a, b| order(*a, *b))
            {
                assert!(order(T::from_key(tally.min[place]).as_f64(), min).is_eq());
                assert!(order(T::from_key(tally.max[place]).as_f64(), max).is_eq());
            }
            if lane == 1 && !of.is_empty() {
                let mean = of.iter().sum::<f64>() / of.len() as f64;
                let square = of.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
                if mean.is_finite() {
                    assert!(same(tally.mean[place], mean, scale));
                }
                assert!(same(tally.square[place], square, scale * scale), "{} {square} {of:?}", tally.square[place]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn tallies_are_those_of_lists(
        rows in prop::collection::vec((0..3usize, prop::collection::btree_map(0..6u32, values(), 0..6)), 0..12),
        table in prop::option::of(prop_oneof![
            prop::collection::vec(prop::sample::select(vec![0, 1, 2, Places::NONE]), 6),
            prop::collection::vec(0..3u32, 6),
        ]),
        is_one in any::<bool>(),
        tests in prop::collection::vec((prop::sample::select(COMPARISONS.to_vec()), values()), 0..4),
        split in 0..12usize,
        with_range in any::<bool>(),
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::F64, Dtype::I16, Dtype::U8]),
    ) {
        type Rows<T> = Vec<(usize, Vec<(u32, T)>)>;
        fn of<T: Ordered>(
            rows: &[(usize, std::collections::BTreeMap<u32, f64>)],
            tests: &[(Comparison, f64)],
            from: impl Fn(f64) -> T,
        ) -> (Rows<T>, Vec<(Comparison, T)>) {
            let row = |r: &std::collections::BTreeMap<u32, f64>| r.iter().map(|(&c, &v)| (c, from(v))).collect();
            (rows.iter().map(|(f, r)| (*f, row(r))).collect(), tests.iter().map(|t| (t.0, from(t.1))).collect())
        }
        macro_rules! check_as {
            ($t:ty) => {{
                let (rows, tests) = of(&rows, &tests, |v| v as $t);
                check::<$t>(&rows, 6, table.as_deref(), is_one, &tests, split, with_range)
            }};
        }
        match dtype {
            Dtype::F32 => check_as!(f32),
            Dtype::F64 => check_as!(f64),
            Dtype::I16 => check_as!(i16),
            _ => check_as!(u8),
        }
    }

    #[test]
    fn keys_have_the_order_of_values(a in any::<f64>(), b in any::<f64>(), x in any::<u64>(), y in any::<u64>()) {
        prop_assert_eq!(a.key().cmp(&b.key()), order(a, b));
        prop_assert_eq!((a as f32).key().cmp(&(b as f32).key()), order((a as f32).into(), (b as f32).into()));
        prop_assert_eq!(x.key().cmp(&y.key()), x.cmp(&y));
        prop_assert_eq!((u64::from_key(x.key()), i64::from_key((x as i64).key())), (x, x as i64));
        prop_assert!(order(f64::from_key(a.key()), a).is_eq());
    }
}

#[test]
fn numbers_at_the_ends_of_a_type() {
    let none = Test::new(Comparison::Greater, u64::MAX);
    let all = Test::new(Comparison::LessOrEqual, u64::MAX);
    for (test, n) in [(none, 0), (all, 3)] {
        let mut tallies = Tallies::<u64>::new(&[], &[test], 1);
        tallies.add(0, &[0, 1, 2], &[0, 5, u64::MAX], Places::One);
        assert_eq!(tallies.all, [n]);
    }
    let mut tallies = Tallies::<i32>::new(&[], &[Test::widened(Comparison::Greater, 1.5)], 1);
    tallies.add(0, &[0, 1, 2], &[1, 2, -7], Places::One);
    assert_eq!(tallies.all, [1]);
}
