//! Plans and statistics against the dense matrix, computed the plain way.

use crate::kind;
use proptest::prelude::*;
use slaf_core::{CsrChunk, Dtype, ErrorKind, Result, Values};
use slaf_kernels::matrix::{
    Columns, Detail, Dot, Function, Groups, Left, Op, Operand, Plan, Request, Rows, Source, Stats, Step, Summary,
    compute, reduce,
};
use std::ops::Range;

type Dense = Vec<Vec<f64>>;

fn chunk(dense: &Dense, dtype: Dtype) -> CsrChunk {
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in dense {
        // Columns come in falling order: no order is promised.
        for (column, &value) in row.iter().enumerate().rev().filter(|(_, v)| **v != 0.0) {
            indices.push(column as u32);
            values.push(value);
        }
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: Values::F64(values).cast(dtype) }
}

fn dense_of(chunk: &CsrChunk, n_cols: usize) -> Dense {
    let Values::F64(values) = chunk.values.cast(Dtype::F64) else { panic!("no f64") };
    let mut dense = vec![vec![0.0; n_cols]; chunk.n_rows()];
    for (i, row) in dense.iter_mut().enumerate() {
        chunk.row(i).for_each(|at| row[chunk.indices[at] as usize] = values[at]);
    }
    dense
}

fn with_source<T>(
    matrix: &CsrChunk,
    n_cols: usize,
    part: usize,
    threads: usize,
    f: impl FnOnce(&Source<'_>) -> T,
) -> T {
    let read = |rows: Range<usize>| -> Result<CsrChunk> { Ok(matrix.slice(rows)) };
    let (n_rows, stretch_rows) = (matrix.n_rows(), 1 << 16);
    let source = Source { n_rows, n_cols, read: &read, part_rows: part, stretch_rows, threads, progress: &|_| true };
    f(&source)
}

fn statistics(matrix: &CsrChunk, n_cols: usize, request: &Request, part: usize, threads: usize) -> Summary {
    let dtype = matrix.values.dtype();
    with_source(matrix, n_cols, part, threads, |s| reduce(s, dtype, &Plan::default(), request)).unwrap()
}

fn all_of(n_rows: usize, n_cols: usize, n_groups: usize) -> Request {
    let weights = |n: usize| (0..n * 2).map(|i| (i % 5) as f64 - 1.0).collect::<Vec<_>>();
    Request {
        rows: Some(Rows { top: vec![1, 3], dot: Some(Dot { weights: weights(n_cols), k: 2 }), groups: None }),
        columns: Some(Columns {
            groups: Some(Groups { labels: (0..n_rows).map(|i| (i % (n_groups + 1)) as u32).collect(), n: n_groups }),
            centres: Some((0..n_cols).map(|c| c as f64 * 0.5).collect()),
            left: Some(Left { weights: weights(n_rows), k: 2 }),
            running: false,
        }),
        skip_nan: false,
        detail: Detail::All,
        signs: true,
    }
}

fn sums(stats: &Stats) -> Vec<f64> {
    f64s(stats.sum.as_ref().unwrap())
}

fn f64s(values: &Values) -> Vec<f64> {
    match values.cast(Dtype::F64) {
        Values::F64(v) => v,
        _ => panic!("no f64"),
    }
}

fn matrices() -> impl Strategy<Value = (Dense, Dtype)> {
    let value = prop_oneof![3 => Just(0.0), 3 => (1..9i32).prop_map(f64::from), 1 => (-3..200i32).prop_map(f64::from)];
    let dense = (1..40usize, 1..9usize)
        .prop_flat_map(move |(n, m)| prop::collection::vec(prop::collection::vec(value.clone(), m), n));
    (dense, prop::sample::select(vec![Dtype::F32, Dtype::F64, Dtype::I16, Dtype::I64]))
}

proptest! {
    #[test]
    fn statistics_are_those_of_the_dense_matrix((dense, dtype) in matrices(), part in 1..9usize) {
        let (n, m) = (dense.len(), dense[0].len());
        let request = all_of(n, m, 2);
        let got = statistics(&chunk(&dense, dtype), m, &request, part, 2);
        let count = |f: &dyn Fn(f64) -> bool, v: &[f64]| v.iter().filter(|x| f(**x)).count() as u32;
        for (i, row) in dense.iter().enumerate() {
            let mean = row.iter().sum::<f64>() / m as f64;
            let squares: f64 = row.iter().filter(|x| **x != 0.0).map(|x| (x - mean).powi(2)).sum();
            prop_assert_eq!(got.rows.nonzero[i], count(&|x| x != 0.0, row));
            prop_assert_eq!(got.rows.positive[i], count(&|x| x > 0.0, row));
            prop_assert_eq!(sums(&got.rows)[i], row.iter().sum::<f64>());
            prop_assert!((got.rows.square[i] - squares).abs() < 1e-6);
            prop_assert_eq!(f64s(&got.rows.min)[i], row.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(f64s(&got.rows.max)[i], row.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            let mut stored: Vec<f64> = row.iter().copied().filter(|x| *x != 0.0).collect();
            stored.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(got.top[2 * i + 1], stored.iter().take(3).sum::<f64>());
            let dot: f64 = row.iter().enumerate().map(|(c, x)| x * ((2 * c % 5) as f64 - 1.0)).sum();
            prop_assert!((got.dot[2 * i] - dot).abs() < 1e-9);
        }
        let value = |i: usize, c: usize| dense[i][c];
        for group in 0..2 {
            for c in 0..m {
                let column: Vec<f64> = (0..n).filter(|i| i % 3 == group).map(|i| value(i, c)).collect();
                let at = group * m + c;
                let squares: f64 =
                    column.iter().filter(|x| **x != 0.0).map(|x| (x - c as f64 * 0.5).powi(2)).sum();
                prop_assert_eq!(got.columns.nonzero[at], count(&|x| x != 0.0, &column));
                prop_assert_eq!(sums(&got.columns)[at], column.iter().sum::<f64>());
                prop_assert!((got.columns.square[at] - squares).abs() < 1e-6);
                if !column.is_empty() {
                    let max = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    prop_assert_eq!(f64s(&got.columns.max)[at], max);
                }
            }
        }
        for c in 0..m {
            let left: f64 = (0..n).map(|i| value(i, c) * (((2 * i + 1) % 5) as f64 - 1.0)).sum();
            prop_assert!((got.left[m + c] - left).abs() < 1e-9);
        }
    }

    #[test]
    fn groups_of_columns_are_matrices_of_their_own((dense, dtype) in matrices(), part in 1..9usize) {
        let (n, m) = (dense.len(), dense[0].len());
        let labels: Vec<u32> = (0..m).map(|c| (c % 3) as u32).collect();
        let rows = Rows { groups: Some(Groups { labels, n: 2 }), ..Rows::default() };
        let request = Request { rows: Some(rows), detail: Detail::All, ..Request::default() };
        let got = statistics(&chunk(&dense, dtype), m, &request, part, 2).rows;
        for group in 0..2 {
            let alone: Dense = dense.iter().map(|r| r.iter().skip(group).step_by(3).copied().collect()).collect();
            let request = Request { rows: Some(Rows::default()), detail: Detail::All, ..Request::default() };
            let expected = statistics(&chunk(&alone, dtype), alone[0].len(), &request, part, 1).rows;
            for i in 0..n {
                let at = 2 * i + group;
                prop_assert_eq!(got.nonzero[at], expected.nonzero[i]);
                prop_assert_eq!(sums(&got)[at], sums(&expected)[i]);
                prop_assert_eq!(got.square[at], expected.square[i]);
                prop_assert_eq!(f64s(&got.min)[at], f64s(&expected.min)[i]);
                prop_assert_eq!(f64s(&got.max)[at], f64s(&expected.max)[i]);
            }
        }
    }

    #[test]
    fn the_answer_does_not_depend_on_threads((dense, _) in matrices()) {
        let thirds: Dense = dense.iter().map(|r| r.iter().map(|x| x / 3.0).collect()).collect();
        let (n, m) = (dense.len(), dense[0].len());
        let matrix = chunk(&thirds, Dtype::F64);
        let [one, five] = [1, 5].map(|threads| statistics(&matrix, m, &all_of(n, m, 2), 4, threads));
        prop_assert_eq!(format!("{one:?}"), format!("{five:?}"));
    }

    #[test]
    fn counts_that_repeat_are_computed_alike((dense, dtype) in matrices()) {
        // Wide enough rows that small counts are remembered.
        let wide: Dense = dense.iter().map(|r| r.iter().copied().cycle().take(900).collect()).collect();
        let rows: Vec<f32> = (0..wide.len()).map(|i| 0.7 + i as f32).collect();
        let plan = Plan::new(vec![
            Step::Cast(Dtype::F32),
            Step::Map(Function::Abs),
            Step::Combine { op: Op::Divide, operand: Operand::Rows(Values::F32(rows.clone())), rows: None },
            Step::Map(Function::Log1p),
        ]).unwrap();
        let matrix = chunk(&wide, dtype);
        let got = with_source(&matrix, 900, 7, 2, |s| compute(s, dtype, &plan)).unwrap();
        for (i, (got, row)) in dense_of(&got, 900).iter().zip(&wide).enumerate() {
            for (got, x) in got.iter().zip(row) {
                let nearest = f64::from(x.abs() as f32 / rows[i]).ln_1p() as f32;
                prop_assert_eq!(*got, f64::from(nearest));
            }
        }
    }
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan::new(steps).unwrap()
}

fn combine(op: Op, operand: Operand) -> Step {
    Step::Combine { op, operand, rows: None }
}

#[test]
fn dense_steps_change_zeros() {
    let dense = vec![vec![1.0, 0.0, 2.0], vec![0.0, 0.0, 5.0]];
    let matrix = chunk(&dense, Dtype::F32);
    let steps = plan(vec![
        Step::Densify,
        combine(Op::Subtract, Operand::Columns(Values::F64(vec![0.5, 1.0, 2.0]))),
        Step::Combine {
            op: Op::Minimum,
            operand: Operand::Scalar(Values::F64(vec![1.0])),
            rows: Some(vec![false, true]),
        },
        Step::SubtractProduct { left: vec![1.0, 2.0], right: vec![1.0, 0.0, 0.5], k: 1 },
    ]);
    let got = with_source(&matrix, 3, 1, 2, |s| compute(s, Dtype::F32, &steps)).unwrap();
    assert_eq!(dense_of(&got, 3), [vec![-0.5, -1.0, -0.5], vec![-2.5, -1.0, 0.0]]);
    assert_eq!(got.nnz(), 6);
}

#[test]
fn what_would_change_hidden_zeros_is_refused() {
    let scalar = |x: f64| Operand::Scalar(Values::F64(vec![x]));
    for (op, number, fine) in [
        (Op::Add, 1.0, false),
        (Op::Add, 0.0, true),
        (Op::Multiply, 3.0, true),
        (Op::Minimum, -1.0, false),
        (Op::Maximum, 1.0, false),
        (Op::Power, 0.0, true),
        (Op::Greater, 0.0, true),
        (Op::GreaterEqual, 0.0, false),
        (Op::Equal, 0.0, false),
        (Op::NotEqual, 0.0, true),
    ] {
        assert_eq!(Plan::new(vec![combine(op, scalar(number))]).is_ok(), fine, "{op:?} {number}");
        Plan::new(vec![Step::Densify, combine(op, scalar(number))]).unwrap();
        let sparse_again = vec![Step::Densify, Step::Sparsify, combine(op, scalar(number))];
        assert_eq!(Plan::new(sparse_again).is_ok(), fine, "{op:?} {number}");
    }
}

#[test]
fn sparsify_stores_no_zero() {
    let matrix = chunk(&vec![vec![0.0, 2.0, 0.0], vec![0.0, 0.0, 0.0], vec![1.0, 0.0, 3.0]], Dtype::F64);
    let steps = [Step::Densify, combine(Op::Equal, Operand::Scalar(Values::F64(vec![2.0]))), Step::Sparsify];
    let got = with_source(&matrix, 3, 2, 1, |s| compute(s, Dtype::F64, &plan(steps.to_vec()))).unwrap();
    assert_eq!((got.indptr, got.indices, got.values), (vec![0, 1, 1, 1], vec![1], Values::Bool(vec![true])));
}

#[test]
fn whole_numbers_are_widened_exactly_or_refused() {
    let matrix = |x: u64| CsrChunk { indptr: vec![0, 1], indices: vec![0], values: Values::U64(vec![x]) };
    let run = |x: u64| with_source(&matrix(x), 1, 1, 1, |s| compute(s, Dtype::U64, &plan(vec![Step::Widen])));
    assert_eq!(run((1 << 53) + 1).unwrap().values, Values::I64(vec![(1 << 53) + 1]));
    assert_eq!(kind(run(1 << 63)), ErrorKind::InvalidArgument);
}

#[test]
fn operands_must_fit() {
    let matrix = chunk(&vec![vec![1.0, 2.0]; 3], Dtype::F64);
    let run = |steps| kind(with_source(&matrix, 2, 2, 1, |s| compute(s, Dtype::F64, &plan(steps))));
    let three = || Values::F64(vec![1.0; 3]);
    assert_eq!(run(vec![combine(Op::Multiply, Operand::Columns(three()))]), ErrorKind::InvalidArgument);
    assert_eq!(run(vec![combine(Op::Multiply, Operand::Scalar(three()))]), ErrorKind::InvalidArgument);
    assert_eq!(run(vec![combine(Op::Multiply, Operand::Scalar(Values::I64(vec![2])))]), ErrorKind::InvalidArgument);
    let request =
        Request { columns: Some(Columns { centres: Some(vec![0.0]), ..Columns::default() }), ..Request::default() };
    let wrong = with_source(&matrix, 2, 2, 1, |s| reduce(s, Dtype::F64, &Plan::default(), &request));
    assert_eq!(kind(wrong), ErrorKind::InvalidArgument);
}

#[test]
fn integers_do_not_wrap() {
    let matrix = CsrChunk { indptr: vec![0, 2], indices: vec![0, 1], values: Values::I64(vec![i64::MAX, 1]) };
    let double = plan(vec![combine(Op::Multiply, Operand::Scalar(Values::I64(vec![2])))]);
    let error = with_source(&matrix, 2, 1, 1, |s| compute(s, Dtype::I64, &double)).unwrap_err();
    assert!(error.message().contains("overflows"), "{error}");
}

#[test]
fn a_sum_that_does_not_fit_is_none_and_the_rest_is_known() {
    let rows = Request { rows: Some(Rows::default()), detail: Detail::All, ..Request::default() };
    let of = |values: Values| {
        let matrix = CsrChunk { indptr: vec![0, 2], indices: vec![0, 1], values };
        statistics(&matrix, 3, &rows, 1, 1).rows
    };
    let signed = of(Values::I64(vec![i64::MAX, 1]));
    assert_eq!((signed.sum, signed.nonzero, signed.max), (None, vec![2], Values::I64(vec![i64::MAX])));
    let back = of(Values::I64(vec![i64::MIN, 1]));
    assert_eq!((back.sum, back.min), (Some(Values::I64(vec![i64::MIN + 1])), Values::I64(vec![i64::MIN])));
    let unsigned = of(Values::U64(vec![u64::MAX - 1, 1]));
    assert_eq!((unsigned.sum, unsigned.max), (Some(Values::U64(vec![u64::MAX])), Values::U64(vec![u64::MAX - 1])));
    assert_eq!(of(Values::U64(vec![u64::MAX, 1])).sum, None);
}

#[test]
fn running_statistics_have_the_order_of_the_rows() {
    // Sums and means of thirds depend on the order in their last bits.
    let rows: Dense = (0..50).map(|i| vec![f64::from(i * i % 17) / 3.0, 0.0, f64::from(i) / 7.0]).collect();
    let matrix = chunk(&rows, Dtype::F64);
    let labels = (0..50).map(|i| i % 3).collect();
    let columns = Columns { groups: Some(Groups { labels, n: 2 }), running: true, ..Columns::default() };
    let request = Request { columns: Some(columns), ..Request::default() };
    let got = statistics(&matrix, 3, &request, 7, 4).running.unwrap();
    for (at, stored) in got.stored.iter().enumerate() {
        let (group, column) = (at / 3, at % 3);
        let (mut n, mut mean, mut square) = (0.0, 0.0, 0.0);
        for value in (group..50).step_by(3).map(|i| rows[i][column]).filter(|v| *v != 0.0) {
            n += 1.0;
            let distance: f64 = value - mean;
            mean += distance / n;
            square += distance * (value - mean);
        }
        assert_eq!((f64::from(*stored), got.mean[at], got.square[at]), (n, mean, square));
    }
    let skipping = Request { skip_nan: true, ..request };
    let refused = with_source(&matrix, 3, 7, 1, |s| reduce(s, Dtype::F64, &Plan::default(), &skipping));
    assert_eq!(kind(refused), ErrorKind::InvalidArgument);
}

#[test]
fn nan_is_counted_or_spreads() {
    let matrix = CsrChunk { indptr: vec![0, 2], indices: vec![0, 1], values: Values::F32(vec![f32::NAN, 2.0]) };
    let request =
        |skip_nan| Request { rows: Some(Rows::default()), skip_nan, detail: Detail::All, ..Request::default() };
    let skipped = statistics(&matrix, 3, &request(true), 1, 1).rows;
    assert_eq!((skipped.nan[0], skipped.nonzero[0], sums(&skipped)[0], f64s(&skipped.max)[0]), (1, 1, 2.0, 2.0));
    let spread = statistics(&matrix, 3, &request(false), 1, 1).rows;
    assert!(sums(&spread)[0].is_nan() && f64s(&spread.min)[0].is_nan() && f64s(&spread.max)[0].is_nan());
    assert_eq!(spread.fractional[0], 1);
}

#[test]
fn many_groups_are_added_in_place() {
    // So many columns of groups that no part holds its own.
    let (n_cols, n_groups) = (3000, 800);
    let matrix = CsrChunk {
        indptr: (0..=1600).collect(),
        indices: (0..1600).map(|i| i * 7 % 3000).collect(),
        values: Values::U16((0..1600).map(|i| i % 9).collect()),
    };
    let labels: Vec<u32> = (0..1600).map(|i| i / 2).collect();
    let columns = Columns { groups: Some(Groups { labels, n: n_groups }), ..Columns::default() };
    let got = statistics(&matrix, n_cols, &Request { columns: Some(columns), ..Request::default() }, 100, 3).columns;
    let of_groups = sums(&got);
    for i in 0..1600usize {
        assert_eq!(of_groups[i / 2 * n_cols + i * 7 % n_cols], (i % 9) as f64);
    }
    assert_eq!(of_groups.iter().sum::<f64>(), (0..1600).map(|i| f64::from(i % 9)).sum::<f64>());
}

#[test]
fn it_can_be_stopped() {
    let matrix = chunk(&vec![vec![1.0]; 100], Dtype::F64);
    let read = |rows: Range<usize>| -> Result<CsrChunk> { Ok(matrix.slice(rows)) };
    let progress = |done| done < 50;
    let (read, progress): (&(dyn Fn(_) -> _ + Sync), &(dyn Fn(_) -> _ + Sync)) = (&read, &progress);
    let source = Source { n_rows: 100, n_cols: 1, read, part_rows: 10, stretch_rows: 100, threads: 2, progress };
    let stopped = compute(&source, Dtype::F64, &Plan::default());
    assert_eq!(kind(stopped), ErrorKind::Interrupted);
}
