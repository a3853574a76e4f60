//! Data sets of the Python reference implementation.

use crate::{QUIET, shared_data};
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatchIterator;
use slaf::{
    ArrayKey, Axis, ConvertOptions, Dataset, ErrorKind, ExportFormat, ExportOptions, MatrixKey, Selection, Value,
    with_values,
};
use slaf_testing::dense;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn converted(input: &Path, folder: &Path) -> slaf::Result<Dataset> {
    let store = folder.join(input.file_name().unwrap()).with_extension("new");
    slaf::convert(&[input], store.to_str().unwrap(), &ConvertOptions::default(), QUIET)?;
    Dataset::open(store.to_str().unwrap())
}

fn matrix(dataset: &Dataset, key: &MatrixKey) -> Vec<Vec<f64>> {
    let chunk = dataset.read(key, &Selection::All, &Selection::All).unwrap();
    let n = match key {
        MatrixKey::Obsp(_) => dataset.n_cells(),
        _ => dataset.n_genes(),
    };
    dense(&chunk, n as usize)
}

fn array(dataset: &Dataset, axis: Axis, name: &str) -> (Vec<f32>, usize) {
    fn of<T: Value>(values: &[T]) -> Vec<f32> {
        values.iter().map(|v| v.as_f64() as f32).collect()
    }
    let (values, width) = dataset.array(&ArrayKey { axis, name: name.into() }, &Selection::All).unwrap();
    (with_values!(&values, v => of(v)), width)
}

/// A column as strings; the reference implementation writes missing ones as `nan`.
fn texts(column: &ArrayRef) -> Vec<String> {
    let column = cast(column, &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|v| v.unwrap_or("nan").to_owned()).collect()
}

fn same_frame(of: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(of.num_columns(), expected.num_columns());
    for (field, column) in expected.schema().fields().iter().zip(expected.columns()) {
        // Names of Lance columns have no dots.
        let name = field.name().replace('.', "_");
        let got = of.column_by_name(&name).unwrap();
        if field.data_type().is_floating() {
            assert_eq!(got.data_type(), column.data_type(), "{name}");
            let values = |a: &ArrayRef| {
                let a = cast(a, &DataType::Float64).unwrap();
                a.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN).to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(values(got), values(column), "{name}");
        } else {
            assert_eq!(texts(got), texts(column), "{name}");
        }
    }
}

#[test]
fn reference_sets_equal_their_h5ad() {
    let Some(data) = shared_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let h5ad = converted(&data.join("reference_small.h5ad"), folder.path()).unwrap();
    let layer = |name: &str| MatrixKey::Layer(name.into());
    for set in ["reference_small_v05.slaf", "reference_small_anndata_v05.slaf"] {
        let dataset = converted(&data.join(set), folder.path()).unwrap();
        assert!(dataset.verify().unwrap().is_empty());
        let both = |key: &MatrixKey| (matrix(&dataset, key), matrix(&h5ad, key));
        let all = |d: &Dataset, key: &MatrixKey| d.read(key, &Selection::All, &Selection::All).unwrap();
        // Positions and explicit zeros, too.
        assert_eq!(all(&dataset, &MatrixKey::X), all(&h5ad, &MatrixKey::X), "{set}");
        for name in ["lognorm", "spliced"] {
            assert_eq!(all(&dataset, &layer(name)), all(&h5ad, &layer(name)), "{set} {name}");
        }
        same_frame(&dataset.obs(None, &Selection::All).unwrap(), &h5ad.obs(None, &Selection::All).unwrap());
        same_frame(&dataset.var(None, &Selection::All).unwrap(), &h5ad.var(None, &Selection::All).unwrap());
        let (x, (got, expected)) = (matrix(&h5ad, &MatrixKey::X), both(&layer("imputed")));
        if set == "reference_small_v05.slaf" {
            assert_eq!(got, expected);
            continue;
        }
        // This set was written with the values of `imputed` at the positions of X only.
        for (cell, row) in expected.iter().enumerate() {
            for (gene, &value) in row.iter().enumerate() {
                let kept = if x[cell][gene] == 0.0 { 0.0 } else { value };
                assert_eq!(got[cell][gene], kept, "cell {cell} gene {gene}");
            }
        }
        for key in [MatrixKey::Obsp("connectivities".into()), MatrixKey::Varp("corr".into())] {
            assert_eq!(all(&dataset, &key), all(&h5ad, &key), "{key}");
        }
        // Distances were float64.
        let (got, expected) = both(&MatrixKey::Obsp("distances".into()));
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got.iter().zip(expected).all(|(g, e)| *g == f64::from(*e as f32)));
        }
        for (axis, name) in [(Axis::Cells, "X_pca"), (Axis::Cells, "X_umap"), (Axis::Genes, "PCs")] {
            assert_eq!(array(&dataset, axis, name), array(&h5ad, axis, name), "{name}");
        }
        let info = dataset.info();
        assert_eq!(info.extras, ["uns"]);
        // What was made from JSON goes into an h5ad, and is read again.
        let back = folder.path().join("back.h5ad");
        let options = ExportOptions::default();
        slaf::export(&dataset, &back, ExportFormat::H5ad, &options, QUIET).unwrap();
        if let Some(keep) = std::env::var_os("SLAFDB_KEEP") {
            std::fs::copy(&back, keep).unwrap();
        }
        let again = converted(&back, folder.path()).unwrap();
        assert_eq!(again.info().extras, ["uns"]);
    }
}

#[test]
fn a_store_is_no_input() {
    let fixture = crate::Fixture::new(3, 10, 5);
    let folder = tempfile::tempdir().unwrap();
    let error = converted(&fixture.store(), folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedInput, "{error}");
}

/// Writes a table.
fn table(folder: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema = batch.schema();
    let batches = RecordBatchIterator::new([Ok(batch)], schema);
    let path = folder.join(name);
    let _ = std::fs::remove_dir_all(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(lance::Dataset::write(batches, path.to_str().unwrap(), None)).unwrap();
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn numbers(values: &[u32]) -> ArrayRef {
    Arc::new(UInt32Array::from(values.to_vec()))
}

const CONFIG: &str = r#"{"format_version": "0.5", "array_shape": [3, 2], "n_cells": 3, "n_genes": 2,
    "tables": {"expression": "expression.lance", "cells": "cells.lance", "genes": "genes.lance"}}"#;

/// Three cells, of which the table holds the last one first, and two genes.
fn small(folder: &Path) -> PathBuf {
    let set = folder.join("small.slaf");
    std::fs::create_dir_all(&set).unwrap();
    std::fs::write(set.join("config.json"), CONFIG).unwrap();
    table(
        &set,
        "cells.lance",
        vec![
            ("kind", Arc::new(StringArray::from(vec![Some("z"), None, Some("y")]))),
            ("cell_id", strings(&["c2", "c0", "c1"])),
            ("cell_integer_id", numbers(&[2, 0, 1])),
            ("cell_start_index", numbers(&[9, 9, 9])),
        ],
    );
    table(&set, "genes.lance", vec![("gene_id", strings(&["g0", "g1"]))]);
    expression(&set, &["c2", "c0", "c2"], &["g0", "g1", "g1"]);
    set
}

fn expression(set: &Path, cells: &[&str], genes: &[&str]) {
    let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..cells.len()).map(|i| i as f32 + 0.5)));
    table(set, "expression.lance", vec![("cell_id", strings(cells)), ("gene_id", strings(genes)), ("value", values)]);
}

#[test]
fn ids_rule_the_order_whatever_the_rows_say() {
    let folder = tempfile::tempdir().unwrap();
    let set = small(folder.path());
    let expected = [vec![0.0, 1.5], vec![0.0, 0.0], vec![0.5, 2.5]];
    let dataset = converted(&set, folder.path()).unwrap();
    assert_eq!(matrix(&dataset, &MatrixKey::X), expected);
    assert_eq!(dataset.cell_ids().unwrap().iter().flatten().collect::<Vec<_>>(), ["c0", "c1", "c2"]);
    let obs = dataset.obs(None, &Selection::All).unwrap();
    let kind = obs.column_by_name("kind").unwrap().as_string::<i32>().clone();
    assert_eq!(kind.iter().collect::<Vec<_>>(), [None, Some("y"), Some("z")]);
    assert_eq!(obs.num_columns(), 2);
}

#[test]
fn broken_sets_are_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |set: &Path, kind: ErrorKind, part: &str| {
        let error = converted(set, folder.path()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    let set = small(folder.path());
    let config = |from: &str, to: &str| std::fs::write(set.join("config.json"), CONFIG.replace(from, to)).unwrap();
    config("\"n_cells\": 3", "\"n_cells\": 4");
    fails(&set, ErrorKind::MalformedInput, "n_cells is 4, but array_shape has 3");
    config("[3, 2]", "\"wide\"");
    fails(&set, ErrorKind::MalformedInput, "config.json");
    config("[3, 2]", "[3, 7]");
    fails(&set, ErrorKind::MalformedInput, "n_genes is 2");
    config("genes.lance", "../genes.lance");
    fails(&set, ErrorKind::MalformedInput, "no name of a table");
    config("\"0.5\"", "\"2.0\"");
    fails(&set, ErrorKind::UnsupportedInput, "2.0");
    std::fs::write(set.join("config.json"), "{").unwrap();
    fails(&set, ErrorKind::MalformedInput, "config.json");
    std::fs::write(set.join("config.json"), "{}").unwrap();
    assert!(converted(&set, folder.path()).is_err());
    config("", "");
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0]));
    for (cell, gene, part) in [(3, 0, "cell_integer_id: id 3"), (0, 2, "gene_integer_id: id 2")] {
        table(
            &set,
            "expression.lance",
            vec![
                ("cell_integer_id", numbers(&[cell])),
                ("gene_integer_id", numbers(&[gene])),
                ("value", values.clone()),
            ],
        );
        fails(&set, ErrorKind::MalformedInput, part);
    }
    expression(&set, &["c7"], &["g0"]);
    fails(&set, ErrorKind::MalformedInput, "c7");
    table(&set, "expression.lance", vec![("cell_id", strings(&["c0"])), ("gene_id", strings(&["g0"]))]);
    fails(&set, ErrorKind::MalformedInput, "no column value");
    std::fs::remove_dir_all(set.join("expression.lance")).unwrap();
    fails(&set, ErrorKind::MalformedInput, "the table is missing");
}
