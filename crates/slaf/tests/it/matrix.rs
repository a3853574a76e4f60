//! Arithmetic and statistics of stored matrices against the dense matrix.

use crate::{Fixture, QUIET};
use slaf::plans::{Columns, Function, Op, Operand, Plan, Request, Rows, Step};
use slaf::{ErrorKind, MatrixKey, Selection, Values};
use slaf_testing::{Random, dense};

fn f64s(values: &Values) -> Vec<f64> {
    match values.cast(slaf::Dtype::F64) {
        Values::F64(v) => v,
        _ => panic!("no f64"),
    }
}

#[test]
fn sums_of_selections_are_those_of_the_dense_matrix() {
    let (n_cells, n_genes) = (300usize, 120usize);
    let fixture = Fixture::new(11, n_cells, n_genes as u64);
    let dataset = fixture.dataset();
    let all = dense(&fixture.sample.x, n_genes);
    let mut random = Random(5);
    let request = Request { rows: Some(Rows::default()), columns: Some(Columns::default()), ..Request::default() };
    for round in 0..40 {
        let rows: Vec<u64> = (0..random.below(400)).map(|_| random.below(n_cells as u64)).collect();
        // Few genes, most genes once, and repeated ones take different ways.
        let cols: Vec<u64> = match round % 3 {
            0 => (0..random.below(6)).map(|_| random.below(n_genes as u64)).collect(),
            1 => (0..n_genes as u64).rev().filter(|c| c % 5 != 0).collect(),
            _ => (0..200).map(|_| random.below(n_genes as u64)).collect(),
        };
        let (r, c) = (Selection::Ids(rows.clone()), Selection::Ids(cols.clone()));
        let got = dataset.reduce(&MatrixKey::X, &r, &c, &Plan::default(), &request, QUIET).unwrap();
        let value = |r: u64, c: u64| all[r as usize][c as usize];
        let by_row: Vec<f64> = rows.iter().map(|&r| cols.iter().map(|&c| value(r, c)).sum()).collect();
        let by_col: Vec<f64> = cols.iter().map(|&c| rows.iter().map(|&r| value(r, c)).sum()).collect();
        assert_eq!(f64s(got.rows.sum.as_ref().unwrap()), by_row);
        assert_eq!(f64s(got.columns.sum.as_ref().unwrap()), by_col);
    }
}

#[test]
fn plans_are_applied_while_reading() {
    let fixture = Fixture::new(12, 90, 40);
    let all = dense(&fixture.sample.x, 40);
    let factors: Vec<f64> = (0..90).map(|i| 1.0 + f64::from(i)).collect();
    let plan = Plan::new(vec![
        Step::Cast(slaf::Dtype::F64),
        Step::Combine { op: Op::Divide, operand: Operand::Rows(Values::F64(factors.clone())), rows: None },
        Step::Map(Function::Log1p),
    ])
    .unwrap();
    let got = fixture.dataset().compute(&MatrixKey::X, &Selection::All, &Selection::All, &plan, QUIET).unwrap();
    got.validate(40, 0).unwrap();
    for (i, (got, row)) in dense(&got, 40).iter().zip(&all).enumerate() {
        let expected: Vec<f64> = row.iter().map(|x| (x / factors[i]).ln_1p()).collect();
        assert_eq!(*got, expected);
    }
}

#[test]
fn a_pass_can_be_stopped_and_checks_its_selection() {
    let fixture = Fixture::new(13, 50, 20);
    let dataset = fixture.dataset();
    let request = Request { rows: Some(Rows::default()), ..Request::default() };
    // Sums of X as it is stored take no pass.
    let plan = Plan::new(vec![Step::Map(Function::Log1p)]).unwrap();
    let reduce = |rows, progress: slaf::Progress<'_>| {
        dataset.reduce(&MatrixKey::X, &rows, &Selection::All, &plan, &request, progress).unwrap_err().kind()
    };
    assert_eq!(reduce(Selection::All, &|_| false), ErrorKind::Interrupted);
    assert_eq!(reduce(Selection::Ids(vec![50]), QUIET), ErrorKind::OutOfRange);
}
