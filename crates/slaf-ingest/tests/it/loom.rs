//! loom files.

use crate::support::read;
use arrow::array::AsArray;
use hdf5_pure::{AttrValue, FileBuilder, GroupBuilder};
use slaf_core::{Dtype, ErrorKind, Values};
use slaf_ingest::{ArrayKey, Axis, Input, MatrixKey, OpenOptions, open};
use std::path::PathBuf;

/// 3 genes x 2 cells.
fn write(edit: impl FnOnce(&mut FileBuilder, &mut GroupBuilder, &mut GroupBuilder)) -> PathBuf {
    let mut file = FileBuilder::new();
    let (mut rows, mut columns) = (file.create_group("row_attrs"), file.create_group("col_attrs"));
    edit(&mut file, &mut rows, &mut columns);
    file.add_group(rows.finish());
    file.add_group(columns.finish());
    let path = tempfile::tempdir().unwrap().keep().join("a.loom");
    file.write(&path).unwrap();
    path
}

fn matrix(file: &mut FileBuilder) {
    file.create_dataset("matrix").with_f32_data(&[1.0, 0.0, 0.0, -0.0, 2.5, 3.0]).with_shape(&[3, 2]);
}

fn open_loom(path: &std::path::Path) -> slaf_core::Result<Box<dyn Input>> {
    open(path, &OpenOptions { memory: 1, ..OpenOptions::default() })
}

#[test]
fn reads_every_part() {
    let path = write(|file, rows, columns| {
        matrix(file);
        rows.create_dataset("Gene").with_vlen_strings(&["g1", "g2", "g3"]);
        rows.create_dataset("n").with_i64_data(&[7, 8, 9]);
        columns.create_dataset("CellID").with_vlen_strings(&["c1", "c2"]);
        columns.create_dataset("pca").with_f64_data(&[0.1, 0.2, 0.3, 0.4]).with_shape(&[2, 2]);
        let mut layers = file.create_group("layers");
        layers.create_dataset("spliced").with_u16_data(&[0, 1, 2, 0, 0, 5]).with_shape(&[3, 2]);
        file.add_group(layers.finish());
        let mut graphs = file.create_group("col_graphs");
        let mut knn = graphs.create_group("knn");
        knn.create_dataset("a").with_i64_data(&[1, 0]);
        knn.create_dataset("b").with_i64_data(&[0, 1]);
        knn.create_dataset("w").with_f64_data(&[0.5, 0.25]);
        graphs.add_group(knn.finish());
        file.add_group(graphs.finish());
        let mut attrs = file.create_group("attrs");
        attrs.create_dataset("LOOM_SPEC_VERSION").with_vlen_strings(&["3.0.0"]);
        attrs.create_dataset("title").with_vlen_strings(&["x"]);
        file.add_group(attrs.finish());
    });
    let input = open_loom(&path).unwrap();
    let d = input.description();
    assert_eq!((d.format.as_str(), d.n_cells, d.n_genes), ("loom 3.0.0", 2, 3));
    assert_eq!((d.losses.len(), &d.extras[..]), (0, &["uns".to_owned()][..]));
    let extras = path.with_file_name("extras.h5");
    input.write_extras(&extras).unwrap();
    assert_eq!(hdf5_pure::File::open(&extras).unwrap().dataset("uns/title").unwrap().read_string().unwrap(), ["x"]);
    let obs = input.obs(0..2).unwrap();
    assert_eq!((obs.index, d.obs.index_name.as_deref()), (vec!["c1".to_owned(), "c2".into()], Some("CellID")));
    let var = input.var().unwrap();
    assert_eq!(
        (&var.index[..], &var.columns[0].info.name[..]),
        (&["g1".to_owned(), "g2".into(), "g3".into()][..], "n")
    );
    assert_eq!(var.columns[0].array.as_primitive::<arrow::datatypes::Int64Type>().values(), &[7, 8, 9]);
    let x = read(&*input, &MatrixKey::X).unwrap();
    let values: Vec<_> = x.values.into_iter().collect();
    assert_eq!(values, [((0, 0), 1.0), ((0, 2), 2.5), ((1, 1), 0.0), ((1, 2), 3.0)]);
    assert!(values[2].1.is_sign_negative());
    assert_eq!(input.column_counts(&MatrixKey::X).unwrap(), [1, 1, 2]);
    let layer = read(&*input, &MatrixKey::Layer("spliced".into())).unwrap();
    assert_eq!(layer.values.into_iter().collect::<Vec<_>>(), [((0, 1), 2.0), ((1, 0), 1.0), ((1, 2), 5.0)]);
    let graph = read(&*input, &MatrixKey::Obsp("knn".into())).unwrap();
    assert_eq!(graph.values.into_iter().collect::<Vec<_>>(), [((0, 1), 0.25), ((1, 0), 0.5)]);
    let key = ArrayKey { axis: Axis::Cells, name: "pca".into() };
    assert_eq!(d.arrays[0].dtype, Dtype::F64);
    assert_eq!(input.array(&key, 1..2).unwrap(), Values::F64(vec![0.3, 0.4]));
}

/// What has no slot is named, and the rest is read.
#[test]
fn attributes_without_a_slot_are_losses() {
    let path = write(|file, rows, columns| {
        matrix(file);
        rows.create_dataset("Gene").with_vlen_strings(&["g1", "g2", "g3"]);
        columns.create_dataset("CellID").with_vlen_strings(&["c1", "c2"]);
        columns.create_dataset("cube").with_f32_data(&[1.0; 4]).with_shape(&[2, 2, 1]);
        file.set_attr("LOOM_SPEC_VERSION", AttrValue::VarLenString("2.0.1".into()));
        file.set_attr("MetaData", AttrValue::VarLenString("{}".into()));
        file.set_attr("a/b", AttrValue::I64(1));
        file.set_attr("n", AttrValue::U64(u64::MAX));
    });
    let input = open_loom(&path).unwrap();
    let d = input.description();
    let lost: Vec<_> = d.losses.iter().map(|l| l.path.as_str()).collect();
    assert_eq!((d.format.as_str(), &lost[..]), ("loom 2.0.1", &["col_attrs/cube", "a/b"][..]));
    let extras = path.with_file_name("extras.h5");
    input.write_extras(&extras).unwrap();
    let extras = hdf5_pure::File::open(&extras).unwrap();
    assert_eq!(extras.dataset("uns/MetaData").unwrap().read_string().unwrap(), ["{}"]);
    assert_eq!(extras.dataset("uns/n").unwrap().read_u64().unwrap(), [u64::MAX]);
}

#[test]
fn without_names_there_are_numbers() {
    let path = write(|file, rows, _| {
        matrix(file);
        rows.create_dataset("score").with_f32_data(&[1.0, 2.0, 3.0]);
    });
    let input = open_loom(&path).unwrap();
    assert_eq!(input.obs(0..2).unwrap().index, ["0", "1"]);
    let var = input.var().unwrap();
    assert_eq!((var.index[2].as_str(), var.columns.len()), ("2", 1));
    assert_eq!(input.description().notes.len(), 2);
}

#[test]
fn malformed_files() {
    let kind = |path: PathBuf| {
        let e = open_loom(&path).err().unwrap();
        (e.kind(), e.to_string())
    };
    let (k, message) = kind(write(|file, rows, _| {
        matrix(file);
        rows.create_dataset("Gene").with_vlen_strings(&["g1", "g2"]);
    }));
    assert_eq!(k, ErrorKind::MalformedInput);
    assert!(message.contains("/row_attrs/Gene"), "{message}");

    let (k, message) = kind(write(|file, _, _| {
        matrix(file);
        let mut layers = file.create_group("layers");
        layers.create_dataset("a").with_f32_data(&[1.0; 6]).with_shape(&[2, 3]);
        file.add_group(layers.finish());
    }));
    assert_eq!(k, ErrorKind::MalformedInput);
    assert!(message.contains("/layers/a"), "{message}");

    let (k, _) = kind(write(|file, _, _| {
        file.create_dataset("matrix").with_f32_data(&[1.0; 6]);
    }));
    assert_eq!(k, ErrorKind::MalformedInput);

    let (k, _) = kind(write(|file, _, _| {
        file.create_dataset("matrix").with_vlen_strings(&["a"]);
    }));
    assert_eq!(k, ErrorKind::MalformedInput);

    let path = write(|file, _, columns| {
        matrix(file);
        let _ = columns;
        let mut graphs = file.create_group("col_graphs");
        let mut knn = graphs.create_group("knn");
        knn.create_dataset("a").with_i64_data(&[2]);
        knn.create_dataset("b").with_i64_data(&[0]);
        knn.create_dataset("w").with_f64_data(&[0.5]);
        graphs.add_group(knn.finish());
        file.add_group(graphs.finish());
    });
    let input = open_loom(&path).unwrap();
    let e = read(&*input, &MatrixKey::Obsp("knn".into())).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::MalformedInput);
}
