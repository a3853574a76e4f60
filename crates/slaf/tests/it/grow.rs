//! Changes of a store: columns and keys that are added, renamed and dropped, and the versions that
//! come of it.

use crate::damage::read_all;
use crate::place::{Place, VERSIONS, commit};
use crate::{Fixture, QUIET};
use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use slaf::grow::{self, AddOptions, Additions, AnnotationTable, Base, GcOptions, GrowOptions, GrowReport};
use slaf::{Axis, ConvertOptions, Dataset, DatasetOptions, ErrorKind, MatrixKey, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_lance::Storage;
use slaf_lance::runtime::block_on;
use slaf_testing::{Fault, Rule, Sample};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const CELLS: usize = 40;

impl Place {
    fn with_store() -> Place {
        let place = Place::empty();
        place.convert_sample(false);
        place
    }

    fn convert_sample(&self, overwrite: bool) {
        let input = self.folder.path().join("a.h5ad");
        Sample::new(1, CELLS, 12).write_h5ad(&input, MatrixEncoding::Csr).unwrap();
        let options = ConvertOptions { overwrite, ..ConvertOptions::default() };
        slaf::convert(&[&input], &self.address, &options, QUIET).unwrap();
    }

    fn dataset(&self) -> Dataset {
        Dataset::open(&self.address).unwrap()
    }

    fn add(&self, name: &str) -> slaf::Result<GrowReport> {
        add(&self.address, name, false)
    }

    fn files(&self) -> BTreeSet<String> {
        block_on(self.storage().list("")).unwrap().into_iter().map(|(file, _)| file).collect()
    }
}

/// A column of numbers that its name tells.
fn numbers(name: &str) -> Vec<i64> {
    let seed: i64 = name.bytes().map(i64::from).sum();
    (0..CELLS as i64).map(|i| seed * 1000 + i).collect()
}

fn add(store: &str, name: &str, overwrite: bool) -> slaf::Result<GrowReport> {
    let batch = RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(numbers(name))) as _)]).unwrap();
    let table = AnnotationTable::new(Axis::Cells, &batch, None)?;
    let options = AddOptions { overwrite, ..AddOptions::default() };
    grow::add(store, &Additions::Table(&table), &options, &GrowOptions::default(), QUIET)
}

fn assert_has(dataset: &Dataset, name: &str) {
    let obs = dataset.obs(Some(&[name.to_string()]), &Selection::All).unwrap();
    assert_eq!(obs.column(1).as_primitive::<Int64Type>().values().to_vec(), numbers(name), "{name}");
}

fn columns(dataset: &Dataset) -> Vec<String> {
    dataset.manifest().obs.columns.iter().map(|c| c.name.clone()).collect()
}

/// All files but root manifests that the versions of a store name.
fn named(dataset: &Dataset) -> BTreeSet<String> {
    let versions = dataset.versions().unwrap();
    let open = |version| {
        let options = DatasetOptions { version: Some(version), ..DatasetOptions::default() };
        Dataset::open_with(dataset.uri(), &options).unwrap()
    };
    versions.iter().flat_map(|v| open(v.version).manifest().files.clone()).map(|f| f.path).collect()
}

#[test]
fn columns_are_added_and_nothing_else_is_written() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    let before = fixture.dataset();
    let old = before.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    let report = add(store, "added", false).unwrap();
    assert_eq!((report.version, &report.written[..]), (2, &["obs/added".to_string()][..]));
    let after = fixture.dataset();
    assert_has(&after, "added");
    assert_eq!(after.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap(), old);
    let gene = after.read(&MatrixKey::X, &Selection::All, &Selection::Ids(vec![3])).unwrap();
    assert_eq!(gene, before.read(&MatrixKey::X, &Selection::All, &Selection::Ids(vec![3])).unwrap());
    assert_eq!(after.verify().unwrap(), []);
    read_all(&after).unwrap();
    // The handle that was open is as it was.
    assert!(!columns(&before).contains(&"added".to_string()));
    read_all(&before).unwrap();
    // What is new, beside the heads of all files: a data file, a version and a transaction of the table of cells.
    let of = |d: &Dataset| {
        let files = d.manifest().files.iter().map(|f| f.path.clone());
        files.filter(|f| !f.starts_with("_slaf/heads/")).collect::<BTreeSet<_>>()
    };
    let new: Vec<String> = of(&after).difference(&of(&before)).cloned().collect();
    assert_eq!(new.len(), 3, "{new:?}");
    assert!(
        new.iter()
            .all(|f| f.starts_with("cells-") && f.contains(&after.manifest().write_id[..12])
                || f.contains("/_versions/d"))
    );
    let sum = after.query("SELECT SUM(added) AS s FROM cells").unwrap();
    assert_eq!(sum.batches[0].column(0).as_primitive::<Int64Type>().value(0), numbers("added").iter().sum::<i64>());
}

#[test]
fn names_that_are_taken_are_refused_and_replaced() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    for name in ["n", "cell_type"] {
        let error = add(store, name, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert!(error.message().contains(&format!("obs/{name}")), "{error}");
    }
    assert_eq!(fixture.dataset().version(), 1);
    let before = columns(&fixture.dataset());
    for name in ["n", "cell_type"] {
        let report = add(store, name, true).unwrap();
        assert_eq!(report.removed, [format!("obs/{name}")]);
        assert_has(&fixture.dataset(), name);
    }
    assert_eq!(columns(&fixture.dataset()), before, "in their places");
    assert_eq!(fixture.dataset().verify().unwrap(), []);
    let older = DatasetOptions { version: Some(1), ..DatasetOptions::default() };
    read_all(&Dataset::open_with(store, &older).unwrap()).unwrap();
}

#[test]
fn rows_are_matched_by_a_key() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    let table = |on: &str, keys: Vec<&str>, values: Vec<f64>| {
        let keys = Arc::new(StringArray::from(keys)) as arrow::array::ArrayRef;
        let values = Arc::new(Float64Array::from(values)) as arrow::array::ArrayRef;
        let batch = RecordBatch::try_from_iter([(on, keys), ("value", values)]).unwrap();
        AnnotationTable::new(Axis::Cells, &batch, Some(on))
    };
    let put = |table: &AnnotationTable| {
        grow::add(store, &Additions::Table(table), &AddOptions::default(), &GrowOptions::default(), QUIET)
    };
    let error = table("cell_id", vec!["c1", "c1"], vec![1.0, 2.0]).and_then(|t| put(&t)).unwrap_err();
    assert!(error.to_string().contains("\"c1\" comes twice"), "{error}");
    let error = table("cell_id", vec!["c1", "c99", "c98"], vec![1.0, 2.0, 3.0]).and_then(|t| put(&t)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownCell);
    assert!(error.to_string().contains("\"c99\", \"c98\""), "{error}");
    assert_eq!(fixture.dataset().version(), 1);
    put(&table("cell_id", vec!["c7", "c2"], vec![7.5, 2.5]).unwrap()).unwrap();
    let obs = fixture.dataset().obs(Some(&["value".to_string()]), &Selection::All).unwrap();
    let values = obs.column(1).as_primitive::<Float64Type>();
    let found: Vec<(usize, f64)> = values.values().iter().copied().enumerate().filter(|(_, v)| !v.is_nan()).collect();
    assert_eq!(found, [(2, 2.5), (7, 7.5)]);
    let batch = RecordBatch::try_from_iter([("other", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
    let error = put(&AnnotationTable::new(Axis::Cells, &batch, None).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "2 rows for 40 cells; say by which column the rows are matched (on=, --on)");
}

#[test]
fn slots_are_renamed_and_dropped() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    let options = GrowOptions::default();
    let values =
        |name: &str| fixture.dataset().obs(Some(&[name.to_string()]), &Selection::All).unwrap().column(1).clone();
    let before = values("cell_type");
    grow::rename(store, "obs/cell_type", "type", &options).unwrap();
    assert_eq!(&values("type"), &before);
    let error = grow::rename(store, "obs/type", "n", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let error = grow::drop_slots(store, &["obs/typ"], &options).unwrap_err();
    assert_eq!(error.to_string(), "the store has no \"obs/typ\"; did you mean obs/type?");
    assert_eq!(grow::drop_slots(store, &["X"], &options).unwrap_err().kind(), ErrorKind::InvalidArgument);
    grow::drop_slots(store, &["obs/type", "obs/n"], &options).unwrap();
    let dataset = fixture.dataset();
    assert_eq!((dataset.version(), columns(&dataset)), (3, vec!["batch".to_string(), "score".to_string()]));
    assert_eq!(dataset.verify().unwrap(), []);
    // What was dropped is another column than one that comes later.
    add(store, "n", false).unwrap();
    assert_has(&fixture.dataset(), "n");
    let operations: Vec<String> = dataset.versions().unwrap().into_iter().map(|v| v.operation).collect();
    let expected = ["convert", "rename obs/cell_type to type", "drop obs/type, obs/n", "add obs/n"];
    assert_eq!(operations, expected);
}

#[test]
fn a_crash_at_any_request_leaves_the_old_version_or_the_new_one() {
    let mut outcomes = [0; 3];
    for n in 1.. {
        let place = Place::with_store();
        place.faults.add(Rule::new(Fault::Crash).from(n));
        let outcome = place.add("added");
        let crashed = place.faults.clear();
        let dataset = place.dataset();
        assert_eq!(dataset.verify().unwrap(), []);
        read_all(&dataset).unwrap();
        outcomes[dataset.version() as usize] += 1;
        match dataset.version() {
            1 => assert!(outcome.is_err(), "{n}"),
            2 => assert_has(&dataset, "added"),
            other => panic!("version {other}"),
        }
        if let Err(e) = outcome {
            let kinds = [ErrorKind::Io, ErrorKind::CommitOutcomeUnknown];
            assert!(crashed && kinds.contains(&e.kind()), "{n}: {e}");
        }
        // What is left is in nobody's way; without its mark it goes.
        place.add("next").unwrap();
        assert_has(&place.dataset(), "next");
        if n % 2 == 0 {
            block_on(place.storage().remove("_slaf/writing")).unwrap();
            place.convert_sample(true);
            let files: BTreeSet<String> = place.files().into_iter().filter(|f| !f.starts_with(VERSIONS)).collect();
            assert_eq!(files, named(&place.dataset()), "{n}");
        }
        if !crashed {
            break;
        }
    }
    assert!(outcomes[1] > 10 && outcomes[2] > 1, "{outcomes:?}");
}

#[test]
fn a_lost_answer_is_no_second_change() {
    let place = Place::with_store();
    place.faults.add(commit(Fault::LostAnswer));
    assert_eq!(place.add("added").unwrap().version, 2);
    place.faults.clear();
    assert_eq!(place.dataset().versions().unwrap().len(), 2);
    assert_has(&place.dataset(), "added");
    // An answer that does not come may stand for a change that comes later.
    place.faults.add(commit(Fault::Error));
    let error = place.add("more").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitOutcomeUnknown, "{error}");
    place.faults.clear();
    assert_eq!(place.add("more").unwrap().version, 3);
}

#[test]
fn who_comes_second_goes_on_from_the_first() {
    let place = Arc::new(Place::with_store());
    let other = place.clone();
    let meanwhile = move || drop(other.add("first").unwrap());
    place.faults.add(commit(Fault::Meanwhile(Arc::new(meanwhile))));
    assert_eq!(place.add("second").unwrap().version, 3);
    place.faults.clear();
    let dataset = place.dataset();
    assert_has(&dataset, "first");
    assert_has(&dataset, "second");
    assert_eq!(dataset.verify().unwrap(), []);
    // What was written for the first try is gone.
    let files: BTreeSet<String> = place.files().into_iter().filter(|f| !f.starts_with(VERSIONS)).collect();
    assert_eq!(files, named(&dataset));
    // The change is looked at again: a name that was free is taken.
    let other = place.clone();
    let meanwhile = move || drop(other.add("same").unwrap());
    place.faults.add(commit(Fault::Meanwhile(Arc::new(meanwhile))));
    assert_eq!(place.add("same").unwrap_err().kind(), ErrorKind::AlreadyExists);
    place.faults.clear();
    let other = place.clone();
    let meanwhile = move || other.convert_sample(true);
    place.faults.add(commit(Fault::Meanwhile(Arc::new(meanwhile))));
    let error = place.add("late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("overwritten"), "{error}");
    place.faults.clear();
    let files: BTreeSet<String> = place.files().into_iter().filter(|f| !f.starts_with(VERSIONS)).collect();
    assert_eq!(files, named(&place.dataset()));
}

#[test]
fn writers_at_once_all_land() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for turn in 0..3 {
                    add(store, &format!("w{writer}t{turn}"), false).unwrap();
                }
            });
        }
    });
    let dataset = fixture.dataset();
    for writer in 0..4 {
        (0..3).for_each(|turn| assert_has(&dataset, &format!("w{writer}t{turn}")));
    }
    let versions: Vec<u64> = dataset.versions().unwrap().iter().map(|v| v.version).collect();
    assert_eq!(versions, (1..=13).collect::<Vec<_>>(), "each once");
    assert_eq!(dataset.verify().unwrap(), []);
    assert!(!fixture.store().join("_slaf/writing").exists());
}

#[test]
fn versions_have_names_and_come_back() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    let options = GrowOptions::default();
    add(store, "a", false).unwrap();
    assert_eq!(grow::tag(store, "before", Some(1), &options).unwrap(), 1);
    assert_eq!(grow::tag(store, "before", Some(1), &options).unwrap(), 1, "twice is once");
    assert_eq!(grow::tag(store, "before", None, &options).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(grow::tag(store, "7", None, &options).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(grow::tag(store, "x", Some(99), &options).unwrap_err().kind(), ErrorKind::NotFound);
    let tagged = DatasetOptions { tag: Some("before".to_string()), ..DatasetOptions::default() };
    let tagged = Dataset::open_with(store, &tagged).unwrap();
    assert_eq!((tagged.version(), columns(&tagged).contains(&"a".to_string())), (1, false));
    let unknown = DatasetOptions { tag: Some("befor".to_string()), ..DatasetOptions::default() };
    let error = Dataset::open_with(store, &unknown).unwrap_err();
    assert!(error.message().contains("there are before"), "{error}");
    let report = grow::rollback(store, 1, &options).unwrap();
    let dataset = fixture.dataset();
    assert_eq!((report.version, dataset.version()), (4, 4));
    assert_eq!(columns(&dataset), columns(&tagged));
    read_all(&dataset).unwrap();
    // Work goes on from there, and back to what was left.
    add(store, "b", false).unwrap();
    assert_has(&fixture.dataset(), "b");
    grow::rollback(store, 2, &options).unwrap();
    assert_has(&fixture.dataset(), "a");
    let difference = grow::diff(&tagged, &fixture.dataset());
    assert_eq!((&difference.added[..], difference.removed.len()), (&["obs/a".to_string()][..], 0));
    assert!(difference.changed.is_empty(), "{difference:?}");
    assert_eq!(grow::untag(store, "before", &options).unwrap(), 1);
    assert_eq!(grow::untag(store, "before", &options).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn columns_after_a_rollback_are_others_than_before() {
    let fixture = Fixture::new(3, 40, 15);
    let store = fixture.store();
    let store = store.to_str().unwrap();
    add(store, "a", false).unwrap();
    let before = fixture.dataset();
    grow::rollback(store, 1, &GrowOptions::default()).unwrap();
    add(store, "a", false).unwrap();
    assert_eq!(grow::diff(&before, &fixture.dataset()).changed, ["obs/a"]);
    // Who knows the first one does not replace the second.
    let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(numbers("b"))) as _)]).unwrap();
    let table = AnnotationTable::new(Axis::Cells, &batch, None).unwrap();
    let base = Base { version: before.version(), write_id: before.manifest().write_id.clone() };
    let options = AddOptions { overwrite: true, keep_changes: true, ..AddOptions::default() };
    let grow = GrowOptions { base: Some(base), ..GrowOptions::default() };
    let error = grow::add(store, &Additions::Table(&table), &options, &grow, QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_has(&fixture.dataset(), "a");
}

#[test]
fn a_broken_head_is_mended() {
    for content in ["", "{", "not json at all"] {
        let fixture = Fixture::new(3, 40, 15);
        let store = fixture.store();
        add(store.to_str().unwrap(), "a", false).unwrap();
        std::fs::write(store.join("_slaf/versions/00000000000000000002.json"), content).unwrap();
        let error = fixture.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("version 1 is intact"), "{error}");
        assert_eq!(add(store.to_str().unwrap(), "b", false).unwrap_err().kind(), ErrorKind::Corrupt);
        grow::rollback(store.to_str().unwrap(), 1, &GrowOptions::default()).unwrap();
        assert_eq!(fixture.dataset().version(), 3);
        add(store.to_str().unwrap(), "b", false).unwrap();
        assert_has(&fixture.dataset(), "b");
    }
}

/// The folders below one in which nothing is.
fn empty_folders(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    match entries.is_empty() {
        true => vec![folder.to_owned()],
        false => entries.iter().filter(|e| e.is_dir()).flat_map(|e| empty_folders(e)).collect(),
    }
}

#[test]
fn gc_removes_what_nobody_needs() {
    let fixture = Fixture::new(3, 40, 15);
    let path = fixture.store();
    let store = path.to_str().unwrap();
    let options = GrowOptions::default();
    add(store, "n", true).unwrap();
    add(store, "cell_type", true).unwrap();
    grow::drop_slots(store, &["obs/n"], &options).unwrap();
    grow::tag(store, "keep", Some(2), &options).unwrap();
    let in_use = Dataset::open_with(store, &DatasetOptions { version: Some(3), ..DatasetOptions::default() }).unwrap();
    let gc = |dry_run, older_than| grow::gc(store, &GcOptions { older_than, dry_run }, &options).unwrap();
    assert_eq!(gc(false, Duration::from_secs(3600)).versions, [0; 0], "young ones stay");
    let would = gc(true, Duration::ZERO);
    assert_eq!((&would.versions[..], would.kept.len()), (&[1, 4][..], 2));
    assert_eq!(would.kept[&2], "tagged keep");
    assert_eq!(would.kept[&3], "in use");
    assert_eq!(fixture.dataset().versions().unwrap().len(), 5, "nothing happened");
    let did = gc(false, Duration::ZERO);
    assert_eq!((did.versions, did.files, did.bytes), (would.versions, would.files, would.bytes));
    let version = |v| Dataset::open_with(store, &DatasetOptions { version: Some(v), ..DatasetOptions::default() });
    assert_eq!(version(1).unwrap_err().kind(), ErrorKind::NotFound);
    for kept in [2, 3, 5, 6] {
        let dataset = version(kept).unwrap();
        assert_eq!(dataset.verify().unwrap(), [], "{kept}");
        read_all(&dataset).unwrap();
    }
    read_all(&in_use).unwrap();
    drop(in_use);
    assert_eq!(gc(false, Duration::ZERO).versions, [3, 5]);
    // No file is left that no version names.
    let storage = block_on(Storage::new(store, &HashMap::new())).unwrap();
    let files = block_on(storage.list("")).unwrap().into_iter().map(|(f, _)| f);
    let files: BTreeSet<String> = files.filter(|f| !f.starts_with(VERSIONS)).collect();
    assert_eq!(files, named(&fixture.dataset()));
    // And no folder that is empty, also where a writer had died.
    let id = "0123456789abcdef0123456789abcdef";
    std::fs::create_dir_all(path.join("_slaf/writing")).unwrap();
    std::fs::write(path.join("_slaf/writing").join(format!("{id}.json")), "").unwrap();
    grow::optimize(store, true, &Default::default(), &options, QUIET).unwrap();
    grow::delete_cells(store, "cell_integer_id < 3", &Default::default(), &options, QUIET).unwrap();
    gc(false, Duration::ZERO);
    assert_eq!(empty_folders(&path), Vec::<PathBuf>::new());
    grow::rollback(store, 2, &options).unwrap();
    assert_has(&fixture.dataset(), "n");
    assert_eq!(grow::rollback(store, 1, &options).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn gc_that_crashed_is_finished_by_the_next() {
    let mut finished = 0;
    for n in (1..).step_by(3) {
        let place = Place::with_store();
        place.add("a").unwrap();
        grow::drop_slots(&place.address, &["obs/a"], &GrowOptions::default()).unwrap();
        let gc = || {
            let options = GcOptions { older_than: Duration::ZERO, dry_run: false };
            grow::gc(&place.address, &options, &GrowOptions::default())
        };
        place.faults.add(Rule::new(Fault::Crash).from(n));
        let outcome = gc();
        let crashed = place.faults.clear();
        assert_eq!(outcome.is_err(), crashed, "{n}: {outcome:?}");
        let dataset = place.dataset();
        assert_eq!(dataset.verify().unwrap(), [], "{n}");
        for v in dataset.versions().unwrap() {
            let options = DatasetOptions { version: Some(v.version), ..DatasetOptions::default() };
            read_all(&Dataset::open_with(&place.address, &options).unwrap()).unwrap();
        }
        block_on(place.storage().remove("_slaf/writing")).unwrap();
        gc().unwrap();
        let files: BTreeSet<String> = place.files().into_iter().filter(|f| !f.starts_with(VERSIONS)).collect();
        assert_eq!(files, named(&place.dataset()), "{n}");
        if !crashed {
            finished = n;
            break;
        }
    }
    assert!(finished > 10, "{finished}");
}
