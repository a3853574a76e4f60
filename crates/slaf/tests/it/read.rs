//! Every selection against the dense matrix.

use crate::Fixture;
use slaf::{ErrorKind, MatrixKey, Selection};
use slaf_testing::{Random, dense};

fn expected(all: &[Vec<f64>], rows: &[u64], cols: &[u64]) -> Vec<Vec<f64>> {
    rows.iter().map(|&r| cols.iter().map(|&c| all[r as usize][c as usize]).collect()).collect()
}

#[test]
fn any_selection_equals_the_dense_matrix() {
    let (n_cells, n_genes) = (300, 120);
    let fixture = Fixture::new(1, n_cells, n_genes);
    let dataset = fixture.dataset();
    let all = dense(&fixture.sample.x, n_genes as usize);
    let mut random = Random(7);
    let mut selection = |n: u64| -> Selection {
        match random.below(5) {
            0 => Selection::All,
            1 => {
                let start = random.below(n);
                Selection::Range(start..start + random.below(n - start + 1))
            }
            2 => Selection::Ids(vec![random.below(n)]),
            3 => Selection::Ids((0..random.below(12)).map(|_| random.below(n)).collect()),
            _ => Selection::Ids((0..random.below(2 * n)).map(|_| random.below(n)).collect()),
        }
    };
    for _ in 0..150 {
        let (rows, cols) = (selection(n_cells as u64), selection(n_genes));
        let chunk = dataset.read(&MatrixKey::X, &rows, &cols).unwrap();
        let (r, c): (Vec<u64>, Vec<u64>) = (rows.iter(n_cells as u64).collect(), cols.iter(n_genes).collect());
        chunk.validate(c.len() as u64, 0).unwrap();
        assert_eq!(dense(&chunk, c.len()), expected(&all, &r, &c), "{rows:?} x {cols:?}");
        let streamed: Vec<_> = dataset.stream(&MatrixKey::X, &rows, &cols, 7).unwrap().map(Result::unwrap).collect();
        assert!(streamed.iter().all(|s| s.n_rows() <= 7));
        let rows_in_stream: Vec<Vec<f64>> = streamed.iter().flat_map(|s| dense(s, c.len())).collect();
        assert_eq!(rows_in_stream, expected(&all, &r, &c));
    }
}

#[test]
fn the_value_type_is_that_of_the_input() {
    let fixture = Fixture::new(2, 50, 20);
    let chunk = fixture.dataset().read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    assert_eq!(chunk, fixture.sample.x);
}

#[test]
fn beyond_the_axes_is_an_error() {
    let fixture = Fixture::new(3, 20, 10);
    let dataset = fixture.dataset();
    let read = |rows, cols| dataset.read(&MatrixKey::X, &rows, &cols).unwrap_err().kind();
    assert_eq!(read(Selection::Ids(vec![20]), Selection::All), ErrorKind::OutOfRange);
    assert_eq!(read(Selection::All, Selection::Range(5..11)), ErrorKind::OutOfRange);
    let error = dataset.read(&MatrixKey::Layer("counts".into()), &Selection::All, &Selection::All).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTable);
    assert!(error.to_string().contains("it has X"), "{error}");
}

#[test]
fn names_resolve_or_say_what_is_near() {
    let fixture = Fixture::new(4, 30, 10);
    let dataset = fixture.dataset();
    assert_eq!(dataset.resolve_cells(&["c7", "c0"]).unwrap(), [7, 0]);
    assert_eq!(dataset.resolve_genes(&["g9"]).unwrap(), [9]);
    let error = dataset.resolve_genes(&["G9", "nothing"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownGene);
    assert!(error.to_string().contains("\"G9\", \"nothing\"; near \"G9\": g9"), "{error}");
}

#[test]
fn statistics_are_those_of_the_matrix() {
    let (n_cells, n_genes) = (90, 40);
    let fixture = Fixture::new(5, n_cells, n_genes);
    let all = dense(&fixture.sample.x, n_genes as usize);
    let (cells, genes) = (fixture.dataset().cell_stats().unwrap(), fixture.dataset().gene_stats().unwrap());
    for (i, row) in all.iter().enumerate() {
        assert_eq!(cells.total[i], row.iter().sum::<f64>());
        assert_eq!(cells.n_genes[i] as usize, row.iter().filter(|x| **x != 0.0).count());
    }
    for g in 0..n_genes as usize {
        assert_eq!(genes.total[g], all.iter().map(|r| r[g]).sum::<f64>());
        assert_eq!(genes.n_cells[g] as usize, all.iter().filter(|r| r[g] != 0.0).count());
    }
}
