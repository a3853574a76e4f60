//! Several inputs in one store.

use crate::QUIET;
use arrow::array::{Array, AsArray};
use slaf::{ConvertOptions, Dataset, Join, MatrixKey, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_testing::{Sample, dense};

#[test]
fn cells_follow_each_other_and_genes_join_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = Sample::new(1, 30, 12);
    let mut second = Sample::new(2, 20, 10);
    // Other order, and two genes that the first has not.
    second.var.index = ["g9", "g1", "new1", "g0", "g2", "g3", "new2", "g5", "g6", "g7"].map(String::from).to_vec();
    let lengths: Vec<i64> = second.var.index.iter().map(|g| g[1..].parse().map_or(0, |n: i64| n * 100)).collect();
    second.var.columns[0].array = std::sync::Arc::new(arrow::array::Int64Array::from(lengths));
    let (a, b) = (folder.path().join("a.h5ad"), folder.path().join("b.h5ad"));
    first.write_h5ad(&a, MatrixEncoding::Csr).unwrap();
    second.write_h5ad(&b, MatrixEncoding::Csr).unwrap();
    for join in [Join::Outer, Join::Inner] {
        let store = folder.path().join(format!("{join:?}.slaf"));
        let options = ConvertOptions { join, ..ConvertOptions::default() };
        slaf::convert(&[&a, &b], store.to_str().unwrap(), &options, QUIET).unwrap();
        let dataset = Dataset::open(store.to_str().unwrap()).unwrap();
        assert_eq!(dataset.n_cells(), 50);
        let genes = dataset.gene_ids().unwrap();
        assert_eq!(genes.len(), if join == Join::Outer { 14 } else { 8 });
        let got = dense(&dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap(), genes.len());
        for (sample, rows) in [(&first, 0..30), (&second, 30..50)] {
            let x = dense(&sample.x, sample.n_genes as usize);
            for (i, row) in rows.enumerate() {
                for (gene, value) in genes.iter().flatten().zip(&got[row]) {
                    let at = sample.var.index.iter().position(|n| n == gene);
                    assert_eq!(*value, at.map_or(0.0, |at| x[i][at]), "cell {row} gene {gene}");
                }
            }
        }
        let source = dataset.obs(Some(&["source".to_string()]), &Selection::All).unwrap();
        let source = source.column(1).as_dictionary::<arrow::datatypes::Int32Type>();
        assert_eq!((source.keys().value(29), source.keys().value(30)), (0, 1));
        let types = dataset.obs(Some(&["cell_type".to_string()]), &Selection::All).unwrap();
        assert_eq!(types.column(1).as_dictionary::<arrow::datatypes::Int32Type>().values().len(), 4);
    }
}
