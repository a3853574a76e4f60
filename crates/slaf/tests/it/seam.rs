//! The seam of storage: stores in memory, with faults in each request, as SLAF and Lance make them.

use crate::QUIET;
use crate::damage::read_all;
use crate::place::{Place, VERSIONS, commit};
use slaf::{ConvertOptions, Dataset, DatasetOptions, ErrorKind, MatrixKey, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_lance::runtime::block_on;
use slaf_lance::{Operation, add_layer};
use slaf_testing::{Counts, Fault, Latency, Rule, Sample};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Place {
    /// Two inputs that differ in their number of cells, and a target.
    fn new() -> Place {
        let place = Place::empty();
        for n in 1..=2 {
            Sample::new(n, 20 * n as usize, 12).write_h5ad(&place.input(n), MatrixEncoding::Csr).unwrap();
        }
        place
    }

    fn input(&self, n: u64) -> PathBuf {
        self.folder.path().join(format!("{n}.h5ad"))
    }

    fn convert(&self, n: u64, overwrite: bool) -> slaf::Result<()> {
        let options = ConvertOptions { overwrite, ..ConvertOptions::default() };
        slaf::convert(&[&self.input(n)], &self.address, &options, QUIET).map(drop)
    }

    fn open(&self) -> slaf::Result<Dataset> {
        Dataset::open(&self.address)
    }

    /// A handle of a store that does not answer from then on.
    fn faults_after_opening(&self, options: &DatasetOptions) -> Dataset {
        self.faults.clear();
        let dataset = Dataset::open_with(&self.address, options).unwrap();
        self.faults.add(Rule::new(Fault::Timeout));
        dataset
    }

    fn remove_marks(&self) {
        block_on(self.storage().remove("_slaf/writing")).unwrap();
    }

    fn assert_holds_only_its_version(&self) {
        let files = block_on(self.storage().list("")).unwrap().into_iter().map(|(f, _)| f);
        let files: Vec<String> = files.filter(|f| !f.starts_with(VERSIONS)).collect();
        let mut named: Vec<String> = self.open().unwrap().manifest().files.iter().map(|f| f.path.clone()).collect();
        named.sort();
        assert_eq!(files, named);
    }

    /// The input whose store is there, whole.
    fn holds(&self) -> u64 {
        let dataset = self.open().unwrap();
        assert_eq!(dataset.verify().unwrap(), []);
        read_all(&dataset).unwrap();
        dataset.n_cells() / 20
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_recognised() {
    for overwrite in [false, true] {
        let place = Place::new();
        if overwrite {
            place.convert(1, false).unwrap();
        }
        place.faults.add(commit(Fault::LostAnswer));
        place.convert(2, overwrite).unwrap();
        assert_eq!(place.holds(), 2);
    }
}

#[test]
fn a_commit_without_an_answer_may_come_later() {
    for overwrite in [false, true] {
        let place = Place::new();
        if overwrite {
            place.convert(1, false).unwrap();
        }
        place.faults.add(commit(Fault::Error));
        let error = place.convert(2, overwrite).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommitOutcomeUnknown, "{error}");
        assert!(error.message().contains("connection was reset"), "{error}");
        // It did not come: the old version is there, or none.
        match overwrite {
            true => assert_eq!(place.holds(), 1),
            false => assert_eq!(place.open().unwrap_err().kind(), ErrorKind::NotAStore),
        }
        place.convert(2, overwrite).unwrap();
        assert_eq!(place.holds(), 2);
    }
}

#[test]
fn a_commit_of_which_nothing_can_be_seen_keeps_its_files() {
    let place = Place::new();
    place.faults.add(commit(Fault::LostAnswer));
    place.faults.add(Rule::new(Fault::Error).operation(Operation::Get).path(VERSIONS));
    assert_eq!(place.convert(2, false).unwrap_err().kind(), ErrorKind::CommitOutcomeUnknown);
    place.faults.clear();
    assert_eq!(place.holds(), 2);
}

#[test]
fn a_commit_that_another_took_is_a_conflict() {
    for overwrite in [false, true] {
        let place = Arc::new(Place::new());
        if overwrite {
            place.convert(1, false).unwrap();
        }
        let other = place.clone();
        // Between the last look and the commit, whose answer is lost as well.
        let meanwhile = move || other.convert(1, overwrite).unwrap();
        place.faults.add(commit(Fault::Meanwhile(Arc::new(meanwhile))));
        let error = place.convert(2, overwrite).unwrap_err();
        let kind = if overwrite { ErrorKind::Conflict } else { ErrorKind::AlreadyExists };
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(place.holds(), 1);
        place.faults.clear();
    }
}

#[test]
fn a_refused_commit_is_no_commit() {
    let place = Place::new();
    place.faults.add(commit(Fault::Denied));
    let error = place.convert(2, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(place.open().unwrap_err().kind(), ErrorKind::NotFound, "nothing is left");
}

#[test]
fn a_crash_at_any_request_leaves_the_old_version_or_the_new_one() {
    for overwrite in [false, true] {
        let mut outcomes = [0; 3];
        for n in 1.. {
            let place = Place::new();
            if overwrite {
                place.convert(1, false).unwrap();
            }
            place.faults.add(Rule::new(Fault::Crash).from(n));
            let outcome = place.convert(2, overwrite);
            let crashed = place.faults.clear();
            match place.open() {
                Ok(_) => {
                    let there = place.holds();
                    assert!(there == 2 || overwrite && there == 1, "{n}: {there}");
                    outcomes[there as usize] += 1;
                }
                Err(e) => {
                    let kinds = [ErrorKind::NotFound, ErrorKind::NotAStore];
                    assert!(!overwrite && kinds.contains(&e.kind()), "{n}: {e}");
                    outcomes[0] += 1;
                }
            }
            if let Err(e) = outcome {
                let kinds = [ErrorKind::Io, ErrorKind::CommitOutcomeUnknown];
                assert!(crashed && kinds.contains(&e.kind()), "{n}: {e}");
            }
            // Whatever is left, it is in nobody's way; without its mark it goes.
            if n % 2 == 0 {
                place.remove_marks();
            }
            place.convert(1, true).unwrap();
            assert_eq!(place.holds(), 1, "{n}");
            if n % 2 == 0 {
                place.assert_holds_only_its_version();
            }
            if !crashed {
                break;
            }
        }
        let before = outcomes[usize::from(overwrite)];
        assert!(before > 10 && outcomes[2] > 1, "{outcomes:?}");
    }
}

#[test]
fn faults_of_reading_keep_their_kind_through_every_way() {
    let place = Place::new();
    place.convert(2, false).unwrap();
    type Way = fn(&Dataset) -> slaf::Result<()>;
    let ways: [(&str, Way); 4] = [
        ("slice", |d| d.read(&MatrixKey::X, &Selection::All, &Selection::All).map(drop)),
        ("obs", |d| d.obs(None, &Selection::All).map(drop)),
        ("sum", |d| d.query("SELECT gene_id, AVG(value) FROM expression WHERE value > 1 GROUP BY 1").map(drop)),
        ("join", |d| d.query("SELECT COUNT(*) FROM cells JOIN expression USING (cell_id)").map(drop)),
    ];
    for (way, act) in ways {
        for (fault, kind) in
            [(Fault::Error, ErrorKind::Io), (Fault::Denied, ErrorKind::PermissionDenied), (Fault::Crash, ErrorKind::Io)]
        {
            for from in 1..4 {
                let dataset = place.open().unwrap();
                place.faults.add(Rule::new(fault.clone()).operation(Operation::Get).from(from));
                let outcome = act(&dataset);
                place.faults.clear();
                let Err(error) = outcome else {
                    assert!(from > 1, "{way} {fault:?}");
                    continue;
                };
                assert_eq!(error.kind(), kind, "{way} {fault:?} {from}: {error}");
                assert!(error.to_string().contains(&place.address), "{way} {fault:?}: {error}");
                // The fault is over, and the handle reads on.
                act(&dataset).unwrap();
            }
        }
    }
}

#[test]
fn bytes_that_changed_or_are_missing_are_damage() {
    let place = Place::new();
    place.convert(2, false).unwrap();
    let good = read_values(&place.open().unwrap()).unwrap();
    // Small files are whole in the heads: without these, they are asked for.
    let heads = place.open().unwrap().manifest().heads.clone().unwrap();
    block_on(place.storage().delete(&heads)).unwrap();
    let mut damaged = 0;
    // A small file is one request: bytes all over it change.
    let corrupt = (0..8000).step_by(160).map(Fault::Corrupt);
    for fault in [Fault::Truncate(0), Fault::Truncate(10)].into_iter().chain(corrupt) {
        for from in 1..4 {
            let dataset = place.open().unwrap();
            place.faults.add(Rule::new(fault.clone()).operation(Operation::Get).path("cells-").from(from));
            let outcome = read_values(&dataset);
            place.faults.clear();
            match outcome {
                Ok(values) => assert_eq!(values, good, "{fault:?} {from}"),
                Err(error) => {
                    damaged += 1;
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{fault:?} {from}: {error}");
                }
            }
        }
    }
    assert!(damaged > 8, "{damaged}");
}

fn read_values(dataset: &Dataset) -> slaf::Result<Vec<u8>> {
    let chunk = dataset.read(&MatrixKey::X, &Selection::All, &Selection::All)?;
    Ok(format!("{chunk:?}").into_bytes())
}

#[test]
fn a_request_without_an_answer_ends() {
    let place = Place::new();
    place.convert(2, false).unwrap();
    let storage_options = HashMap::from([("answer_timeout".to_string(), "300ms".to_string())]);
    let options = DatasetOptions { storage_options: storage_options.clone(), ..DatasetOptions::default() };
    let dataset = Dataset::open_with(&place.address, &options).unwrap();
    // Slow answers are answers.
    place.faults.add(Rule::new(Fault::Delay(Duration::from_millis(100))));
    read_all(&dataset).unwrap();
    place.faults.clear();
    // What was read is kept.
    let dataset = Dataset::open_with(&place.address, &options).unwrap();
    place.faults.add(Rule::new(Fault::Timeout).operation(Operation::Get));
    let started = Instant::now();
    for _ in 0..2 {
        let error = dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("has not answered for 300ms"), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    place.faults.clear();
    // Opening tables waits no longer than reading them: once, whatever there is to open.
    let second = HashMap::from([("answer_timeout".to_string(), "1s".to_string())]);
    let options = DatasetOptions { storage_options: second, ..options };
    for act in [read_all, |d: &Dataset| d.query("SELECT AVG(value) FROM expression").map(drop)] {
        let dataset = place.faults_after_opening(&options);
        let started = Instant::now();
        assert_eq!(act(&dataset).unwrap_err().kind(), ErrorKind::Io);
        assert!(started.elapsed() < Duration::from_millis(1900), "{:?}", started.elapsed());
    }
    place.faults.clear();
    // Writing waits no longer.
    place.faults.add(Rule::new(Fault::Timeout).operation(Operation::Put).path("genes-"));
    let options = ConvertOptions { overwrite: true, storage_options, ..ConvertOptions::default() };
    let error = slaf::convert(&[&place.input(1)], &place.address, &options, QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    place.faults.clear();
    assert_eq!(place.holds(), 2);
}

#[test]
fn opening_and_reading_make_few_requests() {
    let place = Place::new();
    place.convert(2, false).unwrap();
    let (counts, _guard) = Counts::over(&place.address);
    let dataset = place.open().unwrap();
    let opening = counts.take();
    assert_eq!(opening.get("list"), Some(&1), "{opening:?}");
    assert_eq!(opening.get("get"), Some(&1), "{opening:?}");
    assert_eq!(opening.len(), 2, "{opening:?}");
    dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    let first: usize = counts.take().values().sum();
    dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    let second: usize = counts.take().values().sum();
    assert!(second < first && first < 25, "{first} {second}");
    let (received, sent) = counts.bytes();
    assert!(received > 1000 && sent == 0, "{received} {sent}");
    let io = dataset.io_stats();
    assert_eq!((io.lists, io.puts, io.deletes, io.bytes_written), (1, 0, 0, 0), "{io}");
    assert_eq!((io.requests() as usize, io.bytes_read as usize), (2 + first + second, received), "{io}");
    assert!(io.seconds > 0.0 && io.cache_hits > 0, "{io}");
    assert_eq!(dataset.clone().io_stats(), io, "clones share them");
    assert_eq!(place.open().unwrap().io_stats().requests(), 2, "other handles do not");
}

#[test]
fn a_slow_store_takes_time_and_nothing_else() {
    let place = Place::new();
    place.convert(2, false).unwrap();
    let _guard = add_layer(&place.address, Arc::new(Latency(Duration::from_millis(20))));
    let started = Instant::now();
    assert_eq!(place.holds(), 2);
    assert!(started.elapsed() > Duration::from_millis(100));
}

#[test]
fn nothing_is_written_into_a_store_in_an_object_store() {
    let place = Place::new();
    place.convert(2, false).unwrap();
    let inside = format!("{}/more/b.slaf", place.address);
    let error = slaf::convert(&[&place.input(1)], &inside, &ConvertOptions::default(), QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.message().contains(&place.address), "{error}");
    assert_eq!(place.holds(), 2);
}
