//! Arithmetic and statistics of stored matrices against the dense matrix.

use crate::{Fixture, QUIET};
use slaf::linear::{Lanczos, Vectors, Wanted};
use slaf::plans::{Columns, Detail, Dot, Function, Groups, Op, Operand, Plan, Request, Rows, Step};
use slaf::rank_sums::{Against, Comparison};
use slaf::{Answer, ErrorKind, MatrixKey, Piece, Question, Selection, Values};
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

#[test]
fn pieces_make_the_same_answers() {
    let (n_cells, n_genes) = (160usize, 70usize);
    let fixture = Fixture::new(14, n_cells, n_genes as u64);
    let dataset = fixture.dataset();
    let labels = |n: usize| Groups { labels: (0..n).map(|i| (i % 3) as u32).collect(), n: 3 };
    let dot = Some(Dot { weights: (0..n_genes).map(|g| (g % 4) as f64).collect(), k: 1 });
    let of_columns = |columns| Request { columns: Some(columns), detail: Detail::Squares, ..Request::default() };
    let requests = [
        // Of X as it is stored from the tables, in part or all; the product of the rest in a pass.
        Request {
            rows: Some(Rows { dot, ..Rows::default() }),
            columns: Some(Columns::default()),
            ..Request::default()
        },
        of_columns(Columns::default()),
        Request { rows: Some(Rows { top: vec![3], ..Rows::default() }), ..of_columns(Columns::default()) },
        of_columns(Columns { groups: Some(labels(n_cells)), ..Columns::default() }),
        of_columns(Columns { running: true, ..Columns::default() }),
    ];
    let scaled = Step::Combine {
        op: Op::Divide,
        operand: Operand::Columns(Values::F64((0..n_genes).map(|g| 1.0 + g as f64).collect())),
        rows: None,
    };
    let steps = [Vec::new(), vec![Step::Cast(slaf::Dtype::F64), scaled, Step::Map(Function::Log1p)]];
    for plan in steps.map(|steps| Plan::new(steps).unwrap()) {
        let done = |question: &Question, workers| {
            let (key, all) = (MatrixKey::X, Selection::All);
            let mut pieces = dataset.pieces(&key, &all, &all, &plan, question.clone(), workers).unwrap();
            let waiting: Vec<Piece> = pieces.waiting().cloned().collect();
            if let Some(first) = waiting.first() {
                let bytes = dataset.work(&key, &all, &all, &plan, question, first, QUIET).unwrap();
                let mut other = dataset.pieces(&key, &all, &all, &plan, question.clone(), workers).unwrap();
                assert_eq!(other.take(&bytes[1..]).unwrap_err().kind(), ErrorKind::InvalidArgument);
                assert_eq!(pieces_left(other), ErrorKind::InvalidArgument);
            }
            for piece in waiting {
                let piece = Piece::from_numbers(piece.to_numbers()).unwrap();
                pieces.take(&dataset.work(&key, &all, &all, &plan, question, &piece, QUIET).unwrap()).unwrap();
            }
            pieces.finish().unwrap()
        };
        for request in &requests {
            let expected =
                dataset.reduce(&MatrixKey::X, &Selection::All, &Selection::All, &plan, request, QUIET).unwrap();
            for workers in [1, 2, 5] {
                let Answer::Statistics(found) = done(&Question::Statistics(request.clone()), workers) else {
                    panic!("no statistics")
                };
                assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            }
        }
        let Answer::Products(found) = done(&Question::Products, 2) else { panic!("no products") };
        assert_eq!(found, dataset.gram(&MatrixKey::X, &Selection::All, &Selection::All, &plan, QUIET).unwrap());
        let means: Vec<f64> = (0..n_genes).map(|g| (g % 5) as f64 / 3.0).collect();
        let factors = vec![1.5; n_genes];
        let wanted = Wanted { means: &means, factors: &factors, k: 4 };
        let expected = dataset.leading(&MatrixKey::X, &Selection::All, &Selection::All, &plan, wanted, QUIET).unwrap();
        let mut search = Lanczos::new(n_genes, 4, 1).unwrap();
        let mut vectors = Vectors { means: means.clone(), factors: factors.clone(), values: Vec::new() };
        let found = loop {
            vectors.values = search.block().to_vec();
            let Answer::Images(images) = done(&Question::Images(vectors.clone()), 2) else { panic!("no images") };
            if let Some(found) = search.take(images).unwrap() {
                break found;
            }
        };
        assert_eq!(found, expected);
        let comparison = Comparison { groups: labels(n_cells), against: Against::Rest, ties: true };
        let expected =
            dataset.rank_sums(&MatrixKey::X, &Selection::All, &Selection::All, &plan, &comparison, QUIET).unwrap();
        for workers in [1, 2, 5] {
            let Answer::Ranks(found) = done(&Question::Ranks(comparison.clone()), workers) else { panic!("no ranks") };
            assert_eq!(found, expected);
        }
    }
}

/// Why there is no answer yet.
fn pieces_left(pieces: slaf::Pieces) -> ErrorKind {
    pieces.finish().err().map_or(ErrorKind::Internal, |e| e.kind())
}
