//! Conversion in parts gives what conversion in one process gives, whoever converts which part.

use crate::QUIET;
use crate::damage::read_all;
use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use slaf::{
    ConvertOptions, ConvertReport, Dataset, Distributed, ErrorKind, ExportFormat, ExportOptions, Join, MatrixKey,
    Selection,
};
use slaf_ingest::MatrixEncoding;
use slaf_testing::{Sample, files_below};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A folder with inputs.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn input(&self, name: &str, sample: &Sample, encoding: MatrixEncoding) -> PathBuf {
        sample.write_h5ad(&self.path(name), encoding).unwrap();
        self.path(name)
    }

    /// Inputs that differ in genes, columns, categories and types of values.
    fn inputs(&self) -> Vec<PathBuf> {
        let first = Sample::new(1, 30, 12);
        let mut second = Sample::new(2, 20, 10);
        second.var.index = ["g9", "g1", "new1", "g0", "g2", "g3", "new2", "g5", "g6", "g7"].map(String::from).to_vec();
        let lengths: Vec<i64> = second.var.index.iter().map(|g| g[1..].parse().map_or(0, |n: i64| n * 100)).collect();
        second.var.columns[0].array = Arc::new(Int64Array::from(lengths));
        let types: ArrayRef = Arc::new(StringArray::from(vec!["NK", "Mono", "T cells", "never seen"]));
        let codes = arrow::array::AsArray::as_dictionary::<arrow::datatypes::Int32Type>(&second.obs.columns[0].array);
        let codes = codes.keys().clone();
        second.obs.columns[0].array =
            Arc::new(arrow::array::DictionaryArray::<arrow::datatypes::Int32Type>::new(codes, types));
        let mut third = Sample::new(3, 15, 12);
        third.obs.columns.truncate(2);
        vec![
            self.input("a.h5ad", &first, MatrixEncoding::Csr),
            self.input("b.h5ad", &second, MatrixEncoding::Dense),
            self.input("c.h5ad", &third, MatrixEncoding::Csc),
        ]
    }
}

fn paths(inputs: &[PathBuf]) -> Vec<&Path> {
    inputs.iter().map(PathBuf::as_path).collect()
}

/// Converts in parts, the last one first.
fn distributed(
    inputs: &[PathBuf],
    store: &str,
    options: &ConvertOptions,
    part_cells: u64,
) -> slaf::Result<ConvertReport> {
    let mut plan = Distributed::plan(&paths(inputs), store, options, Some(part_cells), QUIET)?;
    let results = (0..plan.n_parts()).rev().map(|part| slaf::convert_part(&plan.task(part)?, QUIET));
    let results = results.collect::<slaf::Result<Vec<_>>>()?;
    plan.finish(&results, QUIET)
}

fn open(store: &str) -> Dataset {
    Dataset::open(store).unwrap()
}

/// Asserts that a store is whole, and that there is nothing beside it.
fn assert_whole(store: &str) {
    let dataset = open(store);
    assert_eq!(dataset.verify().unwrap(), []);
    read_all(&dataset).unwrap();
    let mut named: Vec<PathBuf> = dataset.manifest().files.iter().map(|f| Path::new(store).join(&f.path)).collect();
    named.push(Path::new(store).join(format!("_slaf/versions/{:020}.json", dataset.version())));
    named.sort();
    assert_eq!(files_below(Path::new(store)).unwrap(), named);
}

/// Asserts that two stores hold the same, by every way that there is to it.
fn assert_same(one: &str, other: &str) {
    assert_whole(other);
    let (a, b) = (open(one), open(other));
    let exported = [&a, &b].map(|dataset| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.h5ad");
        slaf::export(dataset, &file, ExportFormat::H5ad, &ExportOptions::default(), QUIET).unwrap();
        std::fs::read(file).unwrap()
    });
    assert!(exported[0] == exported[1], "exported to other files");
    assert_eq!(a.stored_genes().unwrap(), b.stored_genes().unwrap());
    let (s, t) = (a.gene_stats().unwrap(), b.gene_stats().unwrap());
    assert_eq!((s.n_cells, s.total), (t.n_cells, t.total));
    let (s, t) = (a.cell_stats().unwrap(), b.cell_stats().unwrap());
    assert_eq!((s.nnz, s.total), (t.nnz, t.total));
    assert_eq!(a.nnz_per_gene().unwrap(), b.nnz_per_gene().unwrap());
    let json = |dataset: &Dataset, of: fn(&slaf::manifest::Manifest) -> serde_json::Value| of(dataset.manifest());
    for of in [
        (|m| serde_json::to_value(&m.obs).unwrap()) as fn(&slaf::manifest::Manifest) -> _,
        |m| serde_json::to_value(&m.var).unwrap(),
        |m| serde_json::to_value(&m.matrices).unwrap(),
        |m| serde_json::to_value(&m.arrays).unwrap(),
    ] {
        assert_eq!(json(&a, of), json(&b, of));
    }
    let has_x = a.manifest().matrix(&MatrixKey::X).is_some();
    for gene in (0..a.n_genes()).filter(|_| has_x) {
        let of = |dataset: &Dataset| dataset.read(&MatrixKey::X, &Selection::All, &Selection::Ids(vec![gene])).unwrap();
        assert_eq!(of(&a), of(&b), "gene {gene}");
    }
    let names = a.cell_ids().unwrap();
    for row in [0, names.len() / 2, names.len().saturating_sub(1)].into_iter().filter(|&r| r < names.len()) {
        let of = |dataset: &Dataset| dataset.rows_named(slaf::Axis::Cells, names.value(row)).unwrap();
        assert_eq!(of(&a), of(&b), "{}", names.value(row));
    }
}

#[test]
fn one_input_in_parts() {
    let place = Place::new();
    for (name, encoding) in
        [("csr", MatrixEncoding::Csr), ("csc", MatrixEncoding::Csc), ("dense", MatrixEncoding::Dense)]
    {
        let inputs = [place.input(&format!("{name}.h5ad"), &Sample::new(5, 50, 20), encoding)];
        let options = ConvertOptions { few_names: 10, ..ConvertOptions::default() };
        let one = place.store(&format!("{name}.slaf"));
        slaf::convert(&paths(&inputs), &one, &options, QUIET).unwrap();
        for part_cells in [1, 7, 25, 1000] {
            let many = place.store(&format!("{name}-{part_cells}.slaf"));
            let report = distributed(&inputs, &many, &options, part_cells).unwrap();
            assert_eq!((report.n_cells, report.n_genes), (50, 20));
            assert_same(&one, &many);
            // Columns that lie together are read whole.
            let stripes = if name == "csc" { 1 } else { 50u64.div_ceil(part_cells) };
            assert_eq!(open(&many).manifest().stripes.len() as u64, stripes, "{name}, {part_cells}");
            assert_eq!(open(&many).manifest().cell_names.len(), 1);
        }
    }
}

#[test]
fn several_inputs_in_parts() {
    let place = Place::new();
    let inputs = place.inputs();
    for (i, join) in [Join::Outer, Join::Inner, Join::Reference].into_iter().enumerate() {
        for (by_gene, source) in [(true, Some("source".to_string())), (false, None)] {
            let options = ConvertOptions { join, by_gene, source_column: source, ..ConvertOptions::default() };
            let one = place.store(&format!("one-{i}-{by_gene}.slaf"));
            let expected = slaf::convert(&paths(&inputs), &one, &options, QUIET).unwrap();
            for part_cells in [4, 13, 40, 1000] {
                let many = place.store(&format!("{i}-{by_gene}-{part_cells}.slaf"));
                let report = distributed(&inputs, &many, &options, part_cells).unwrap();
                assert_same(&one, &many);
                assert_eq!(
                    (report.kept, report.nnz, report.dtype),
                    (expected.kept.clone(), expected.nnz, expected.dtype.clone())
                );
                assert!(report.notes.iter().any(|n| n.starts_with("converted in ")), "{:?}", report.notes);
            }
        }
    }
}

#[test]
fn an_input_without_cells() {
    let place = Place::new();
    let inputs = [place.input("none.h5ad", &Sample::new(1, 0, 5), MatrixEncoding::Csr)];
    let options = ConvertOptions::default();
    slaf::convert(&paths(&inputs), &place.store("one.slaf"), &options, QUIET).unwrap();
    distributed(&inputs, &place.store("many.slaf"), &options, 3).unwrap();
    assert_same(&place.store("one.slaf"), &place.store("many.slaf"));
}

#[test]
fn a_part_that_is_converted_twice_counts_once() {
    let place = Place::new();
    let inputs = place.inputs();
    let options = ConvertOptions { few_names: 10, ..ConvertOptions::default() };
    let (one, many) = (place.store("one.slaf"), place.store("many.slaf"));
    slaf::convert(&paths(&inputs), &one, &options, QUIET).unwrap();
    let mut plan = Distributed::plan(&paths(&inputs), &many, &options, Some(9), QUIET).unwrap();
    let mut results = Vec::new();
    for part in (0..plan.n_parts()).chain([1, 0]) {
        results.push(slaf::convert_part(&plan.task(part).unwrap(), QUIET).unwrap());
    }
    // One whose result was lost.
    slaf::convert_part(&plan.task(2).unwrap(), QUIET).unwrap();
    plan.finish(&results, QUIET).unwrap();
    assert_same(&one, &many);
    let e = plan.finish(&results, QUIET).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn results_that_are_missing_or_foreign_are_refused() {
    let place = Place::new();
    let inputs = place.inputs();
    let plan = |name: &str| {
        Distributed::plan(&paths(&inputs), &place.store(name), &ConvertOptions::default(), Some(20), QUIET).unwrap()
    };
    let (mut plan_a, mut plan_b) = (plan("a.slaf"), plan("b.slaf"));
    let parts = |plan: &Distributed| -> Vec<Vec<u8>> {
        (0..plan.n_parts()).map(|part| slaf::convert_part(&plan.task(part).unwrap(), QUIET).unwrap()).collect()
    };
    let (a, b) = (parts(&plan_a), parts(&plan_b));
    let e = plan_a.finish(&a[1..], QUIET).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("part 1 of") && e.to_string().contains("a.h5ad is missing"), "{e}");
    assert!(!place.path("a.slaf").exists());
    let mixed = [&a[..1], &b[1..]].concat();
    assert_eq!(plan_b.finish(&mixed, QUIET).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(!place.path("b.slaf").exists());
}

#[test]
fn a_part_of_another_version_is_refused() {
    let place = Place::new();
    let inputs = place.inputs();
    let plan = Distributed::plan(&paths(&inputs), &place.store("a.slaf"), &ConvertOptions::default(), None, QUIET);
    let task = plan.as_ref().unwrap().task(0).unwrap();
    let old = concat!("slaf ", env!("CARGO_PKG_VERSION")).as_bytes();
    let at = task.windows(old.len()).position(|w| w == old).unwrap();
    let mut other = task.clone();
    other[at + 5] = b'9';
    let e = slaf::convert_part(&other, QUIET).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedFeature, "{e}");
    for end in (0..task.len()).step_by(97) {
        assert!(slaf::convert_part(&task[..end], QUIET).is_err());
    }
    drop(plan);
    assert!(!place.path("a.slaf").exists());
}

#[test]
fn an_input_that_changes_is_noticed() {
    let place = Place::new();
    let inputs = place.inputs();
    let plan = |store: &str| {
        Distributed::plan(&paths(&inputs), &place.store(store), &ConvertOptions::default(), Some(20), QUIET).unwrap()
    };
    let mut early = plan("early.slaf");
    let results: Vec<Vec<u8>> =
        (0..early.n_parts()).map(|part| slaf::convert_part(&early.task(part).unwrap(), QUIET).unwrap()).collect();
    let late = plan("late.slaf");
    Sample::new(9, 20, 10).write_h5ad(&place.path("new.h5ad"), MatrixEncoding::Dense).unwrap();
    std::fs::rename(place.path("new.h5ad"), place.path("b.h5ad")).unwrap();
    let failed: Vec<_> =
        (0..late.n_parts()).filter_map(|part| slaf::convert_part(&late.task(part).unwrap(), QUIET).err()).collect();
    assert!(!failed.is_empty());
    for e in failed {
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.location().unwrap().ends_with("b.h5ad") && e.message().contains("since the conversion began"), "{e}");
    }
    let e = early.finish(&results, QUIET).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    drop(late);
    for store in ["early.slaf", "late.slaf"] {
        assert!(!place.path(store).exists(), "{store}");
    }
}

#[test]
fn a_conversion_that_was_given_up_leaves_nothing() {
    let place = Place::new();
    let inputs = place.inputs();
    let mut plan =
        Distributed::plan(&paths(&inputs), &place.store("a.slaf"), &ConvertOptions::default(), Some(20), QUIET)
            .unwrap();
    let tasks: Vec<_> = (0..plan.n_parts()).map(|part| plan.task(part).unwrap()).collect();
    slaf::convert_part(&tasks[0], QUIET).unwrap();
    assert!(place.path("a.slaf").exists());
    // One is in the midst of it, and finds it out.
    let e = slaf::convert_part(&tasks[1], &|event| {
        if event.cells_done > 0 || event.phase == "cells" {
            std::fs::remove_dir_all(place.path("a.slaf")).unwrap();
        }
        true
    });
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Conflict);
    plan.abandon();
    // One comes too late.
    let e = slaf::convert_part(&tasks[2], QUIET).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert!(files_below(&place.path("a.slaf")).unwrap_or_default().is_empty());
}

#[test]
fn a_part_that_fails_removes_what_it_wrote() {
    let place = Place::new();
    let inputs = place.inputs();
    let plan = Distributed::plan(&paths(&inputs), &place.store("a.slaf"), &ConvertOptions::default(), Some(30), QUIET)
        .unwrap();
    let before = files_below(&place.path("a.slaf")).unwrap();
    let e = slaf::convert_part(&plan.task(0).unwrap(), &|event| event.cells_done == 0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
    assert_eq!(files_below(&place.path("a.slaf")).unwrap(), before);
}

#[test]
fn of_two_at_one_target_one_wins() {
    let place = Place::new();
    let inputs = place.inputs();
    let (store, options) = (place.store("a.slaf"), ConvertOptions::default());
    let one = place.store("one.slaf");
    slaf::convert(&paths(&inputs), &one, &options, QUIET).unwrap();
    let mut plans = [(); 2].map(|()| Distributed::plan(&paths(&inputs), &store, &options, Some(20), QUIET).unwrap());
    let results = [0, 1].map(|i: usize| -> Vec<Vec<u8>> {
        let plan = &plans[i];
        (0..plan.n_parts()).map(|part| slaf::convert_part(&plan.task(part).unwrap(), QUIET).unwrap()).collect()
    });
    plans[1].finish(&results[1], QUIET).unwrap();
    let e = plans[0].finish(&results[0], QUIET).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    assert_same(&one, &store);
    // Replaced, and again by the one-process conversion.
    let options = ConvertOptions { overwrite: true, ..options };
    distributed(&inputs, &store, &options, 11).unwrap();
    assert_same(&one, &store);
    slaf::convert(&paths(&inputs), &store, &options, QUIET).unwrap();
    assert_same(&one, &store);
}

#[test]
fn what_a_late_attempt_leaves_is_swept() {
    let place = Place::new();
    let inputs = place.inputs();
    let (store, options) = (place.store("a.slaf"), ConvertOptions { overwrite: true, ..ConvertOptions::default() });
    distributed(&inputs, &store, &options, 20).unwrap();
    let cells = open(&store).manifest().tables.cells.path.clone();
    let left = Path::new(&store).join(&cells).join("data/part-1-0123456789abcdef0123456789abcdef-0.lance");
    std::fs::write(&left, "x").unwrap();
    let grow = slaf::grow::GrowOptions::default();
    slaf::grow::gc(&store, &slaf::grow::GcOptions { older_than: std::time::Duration::ZERO, dry_run: false }, &grow)
        .unwrap();
    assert!(!left.exists(), "gc");
    std::fs::write(&left, "x").unwrap();
    distributed(&inputs, &store, &options, 20).unwrap();
    assert_whole(&store);
}

#[test]
fn files_of_others_among_the_parts_stay() {
    let place = Place::new();
    let inputs = place.inputs();
    let (store, options) = (place.store("a.slaf"), ConvertOptions::default());
    let mut plan = Distributed::plan(&paths(&inputs), &store, &options, Some(20), QUIET).unwrap();
    let results: Vec<_> =
        (0..plan.n_parts()).map(|p| slaf::convert_part(&plan.task(p).unwrap(), QUIET).unwrap()).collect();
    let data = files_below(Path::new(&store)).unwrap().into_iter().find(|f| f.to_str().unwrap().contains("/cells-"));
    let data = data.unwrap().parent().unwrap().to_owned();
    let theirs = ["notes.txt", "theirs.lance"].map(|name| data.join(name));
    theirs.iter().for_each(|file| std::fs::write(file, "x").unwrap());
    let lost = data.join("part-0-0123456789abcdef0123456789abcdef-0.lance");
    std::fs::write(&lost, "x").unwrap();
    plan.finish(&results, QUIET).unwrap();
    assert!(theirs.iter().all(|file| file.exists()) && !lost.exists());
    let dataset = open(&store);
    assert_eq!(dataset.verify().unwrap(), []);
    read_all(&dataset).unwrap();
    let named = |file: &PathBuf| dataset.manifest().files.iter().any(|f| file.ends_with(&f.path));
    assert!(!theirs.iter().any(named));
}

#[test]
fn cells_are_appended_to_a_store_made_in_parts() {
    let place = Place::new();
    let inputs = place.inputs();
    let options = ConvertOptions::default();
    let stores = [place.store("one.slaf"), place.store("many.slaf")];
    slaf::convert(&paths(&inputs[..2]), &stores[0], &options, QUIET).unwrap();
    distributed(&inputs[..2], &stores[1], &options, 7).unwrap();
    for store in &stores {
        let more = inputs[2].to_str().unwrap();
        let append = slaf::grow::AppendOptions { allow_loss: true, ..Default::default() };
        slaf::grow::append(store, &[more], &append, &slaf::grow::GrowOptions::default(), QUIET).unwrap();
    }
    let (a, b) = (open(&stores[0]), open(&stores[1]));
    assert_eq!(b.verify().unwrap(), []);
    let x = |d: &Dataset| d.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    assert_eq!(x(&a), x(&b));
    assert_eq!(a.obs(None, &Selection::All).unwrap(), b.obs(None, &Selection::All).unwrap());
    slaf::grow::optimize(&stores[1], true, &Default::default(), &Default::default(), QUIET).unwrap();
    let b = open(&stores[1]);
    assert_eq!((x(&a), b.verify().unwrap()), (x(&b), vec![]));
}
