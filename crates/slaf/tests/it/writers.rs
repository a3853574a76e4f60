//! Several writers at one target: one wins, the others are told, and each removes only what it
//! wrote itself.

use crate::QUIET;
use crate::damage::read_all;
use slaf::{ConvertOptions, Dataset, ErrorKind, MatrixKey, ProgressEvent, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_testing::{Sample, files_below};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use tempfile::TempDir;

/// Inputs that differ in their number of cells, and a target.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        for n in 1..=4 {
            Sample::new(n, 20 * n as usize, 12).write_h5ad(&place.input(n), MatrixEncoding::Csr).unwrap();
        }
        place
    }

    fn input(&self, n: u64) -> PathBuf {
        self.folder.path().join(format!("{n}.h5ad"))
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target.slaf")
    }

    fn convert(&self, n: u64, overwrite: bool, progress: slaf::Progress<'_>) -> slaf::Result<()> {
        let options = ConvertOptions { overwrite, durability: slaf::Durability::Os, ..ConvertOptions::default() };
        slaf::convert(&[&self.input(n)], self.target().to_str().unwrap(), &options, progress).map(drop)
    }

    fn open(&self) -> Dataset {
        Dataset::open(self.target().to_str().unwrap()).unwrap()
    }

    /// Asserts that the target is the whole store of one input, and nothing else.
    fn assert_is(&self, n: u64) {
        let dataset = self.open();
        assert_eq!(dataset.n_cells(), 20 * n);
        assert_eq!(dataset.verify().unwrap(), []);
        read_all(&dataset).unwrap();
        let mut named: Vec<PathBuf> = dataset.manifest().files.iter().map(|f| self.target().join(&f.path)).collect();
        named.push(self.manifest());
        named.sort();
        assert_eq!(files_below(&self.target()).unwrap(), named);
    }

    fn manifest(&self) -> PathBuf {
        self.target().join(format!("_slaf/versions/{:020}.json", self.open().version()))
    }
}

/// Runs `work` at the report of progress with this number; says whether it came to that.
fn at<'a>(number: u32, seen: &'a AtomicU32, work: impl Fn() + Sync + 'a) -> impl Fn(ProgressEvent) -> bool + Sync + 'a {
    move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == number {
            work();
        }
        true
    }
}

#[test]
fn whoever_commits_first_wins() {
    for overwrite in [false, true] {
        // The second writer does all of its work at the first, second, ... step of the first one.
        for step in 0.. {
            let place = Place::new();
            if overwrite {
                place.convert(3, false, QUIET).unwrap();
            }
            let seen = AtomicU32::new(0);
            let first = place.convert(1, overwrite, &at(step, &seen, || place.convert(2, overwrite, QUIET).unwrap()));
            if seen.into_inner() <= step {
                assert!(step > 3);
                first.unwrap();
                place.assert_is(1);
                break;
            }
            let error = first.unwrap_err();
            let kind = if overwrite { ErrorKind::Conflict } else { ErrorKind::AlreadyExists };
            assert_eq!(error.kind(), kind, "step {step}: {error}");
            place.assert_is(2);
        }
    }
}

#[test]
fn four_writers_of_which_the_last_is_the_first_to_commit() {
    for overwrite in [false, true] {
        let place = Place::new();
        if overwrite {
            place.convert(3, false, QUIET).unwrap();
        }
        let kinds = Mutex::new(Vec::new());
        fn nested(place: &Place, n: u64, overwrite: bool, kinds: &Mutex<Vec<Option<ErrorKind>>>) {
            let seen = AtomicU32::new(0);
            let next = || {
                if n < 4 {
                    nested(place, n + 1, overwrite, kinds)
                }
            };
            let outcome = place.convert(n, overwrite, &at(1 + n as u32 % 2, &seen, next));
            kinds.lock().unwrap().push(outcome.err().map(|e| e.kind()));
        }
        nested(&place, 1, overwrite, &kinds);
        let lost = Some(if overwrite { ErrorKind::Conflict } else { ErrorKind::AlreadyExists });
        assert_eq!(kinds.into_inner().unwrap(), [None, lost, lost, lost]);
        place.assert_is(4);
    }
}

#[test]
fn a_version_that_came_and_went_is_noticed() {
    let place = Place::new();
    place.convert(3, false, QUIET).unwrap();
    let twice = |e: ProgressEvent| {
        if e.phase == "committing" {
            place.convert(1, true, QUIET).unwrap();
            place.convert(4, true, QUIET).unwrap();
        }
        true
    };
    assert_eq!(place.convert(2, true, &twice).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(place.open().version(), 3);
    place.assert_is(4);
}

#[test]
fn an_interrupted_writer_leaves_the_others_alone() {
    for overwrite in [false, true] {
        let place = Place::new();
        if overwrite {
            place.convert(3, false, QUIET).unwrap();
        }
        let stop = |e: ProgressEvent| {
            if e.phase == "committing" {
                place.convert(2, overwrite, QUIET).unwrap();
            }
            e.phase != "committing"
        };
        assert_eq!(place.convert(1, overwrite, &stop).unwrap_err().kind(), ErrorKind::Interrupted);
        place.assert_is(2);
        // The other way round: the one that is interrupted is within the one that wins.
        let inner = AtomicU32::new(0);
        let within = || {
            let stop = |e: ProgressEvent| e.phase != "genes";
            assert_eq!(place.convert(1, true, &stop).unwrap_err().kind(), ErrorKind::Interrupted);
        };
        place.convert(4, true, &at(2, &inner, within)).unwrap();
        place.assert_is(4);
    }
}

#[test]
fn writers_at_the_same_time() {
    for round in 0..6 {
        let place = Place::new();
        let overwrite = round % 2 == 1;
        if overwrite {
            place.convert(1, false, QUIET).unwrap();
        }
        let start = Barrier::new(3);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let writers = [2, 3, 4].map(|n| {
                let (place, start) = (&place, &start);
                scope.spawn(move || {
                    start.wait();
                    (n, place.convert(n, overwrite, QUIET))
                })
            });
            writers.map(|w| w.join().unwrap()).into()
        });
        let won: Vec<u64> = outcomes.iter().filter(|(_, o)| o.is_ok()).map(|(n, _)| *n).collect();
        for error in outcomes.iter().filter_map(|(_, o)| o.as_ref().err()) {
            let kinds = [ErrorKind::Conflict, ErrorKind::AlreadyExists];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        assert!(!won.is_empty() && (overwrite || won.len() == 1), "{won:?}");
        let last = place.open().n_cells() / 20;
        assert!(won.contains(&last));
        place.assert_is(last);
    }
}

const DEAD: &str = "0123456789abcdef0123456789abcdef";

/// What a writer has at the target when it is killed.
fn write_debris(target: &Path, host: &str) -> Vec<PathBuf> {
    let mark = format!(r#"{{"host": "{host}", "process": 1}}"#);
    let files = [
        (format!("_slaf/writing/{DEAD}"), mark.as_str()),
        (format!("_slaf/writing/{DEAD}.json"), "half a manifest"),
        (format!("_slaf/categories/{DEAD}.arrow#1"), "half"),
        (format!("cells-{DEAD}.lance/data/.tmpAbCdEf"), "half"),
        (format!("genes-{DEAD}.lance/_versions/1.manifest"), "whole"),
    ];
    let write = |(name, content): &(String, &str)| {
        let path = target.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    };
    files.iter().map(write).collect()
}

#[test]
fn what_dead_writers_left_goes() {
    let host = slaf_ingest::temporary::host().unwrap();
    for overwrite in [false, true] {
        let place = Place::new();
        if overwrite {
            place.convert(1, false, QUIET).unwrap();
        }
        write_debris(&place.target(), &host);
        // Killed before it could say whose it is.
        std::fs::write(place.target().join(format!("_slaf/writing/{}", "f".repeat(32))), "").unwrap();
        // An interrupted conversion is no store, and needs no permission to be replaced.
        place.convert(2, overwrite, QUIET).unwrap();
        place.assert_is(2);
        let folders = std::fs::read_dir(place.target()).unwrap().count();
        assert_eq!(folders, 4, "three tables and _slaf");
    }
}

/// Takes files of a store away, by what their paths contain, and gives a way to bring them back.
fn take_away(target: &Path, what: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_below(target).unwrap().into_iter().filter(|f| f.to_str().unwrap().contains(what));
    let taken: Vec<_> = files.map(|f| (f.clone(), std::fs::read(f).unwrap())).collect();
    taken.iter().for_each(|(f, _)| std::fs::remove_file(f).unwrap());
    taken
}

fn bring_back(taken: &[(PathBuf, Vec<u8>)]) {
    for (file, content) in taken {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

#[test]
fn tables_without_a_root_manifest_stay() {
    // A copy that has come so far, or a store that lost a part.
    for gone in ["_slaf/versions", "_slaf", "/genes-"] {
        for without_folders in [false, true] {
            let place = Place::new();
            place.convert(1, false, QUIET).unwrap();
            let mut taken = take_away(&place.target(), gone);
            taken.extend(take_away(&place.target(), "_slaf/versions"));
            if without_folders {
                let _ = std::fs::remove_dir_all(place.target().join(gone.trim_matches('/')));
            }
            let there = files_below(&place.target()).unwrap();
            let error = place.convert(2, false, QUIET).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{gone}: {error}");
            assert!(error.message().contains(".lance/") && error.message().contains("being copied"), "{error}");
            assert_eq!(files_below(&place.target()).unwrap(), there);
            bring_back(&taken);
            place.assert_is(1);
        }
    }
}

#[test]
fn a_conversion_with_overwrite_replaces_tables_without_a_root_manifest() {
    let place = Place::new();
    place.convert(1, false, QUIET).unwrap();
    let taken = take_away(&place.target(), "_slaf/versions");
    // They stay until the new version is there.
    let stop = |e: ProgressEvent| e.phase != "committing";
    assert_eq!(place.convert(2, true, &stop).unwrap_err().kind(), ErrorKind::Interrupted);
    bring_back(&taken);
    place.assert_is(1);
    // The copy ends while the conversion runs.
    take_away(&place.target(), "_slaf/versions");
    let copied = |e: ProgressEvent| {
        if e.phase == "committing" {
            bring_back(&taken);
        }
        true
    };
    assert_eq!(place.convert(2, true, &copied).unwrap_err().kind(), ErrorKind::Conflict);
    place.assert_is(1);
    take_away(&place.target(), "_slaf/versions");
    place.convert(2, true, QUIET).unwrap();
    place.assert_is(2);
    assert_eq!(std::fs::read_dir(place.target()).unwrap().count(), 4, "three tables and _slaf");
}

#[test]
fn what_living_writers_and_other_machines_wrote_stays() {
    let host = slaf_ingest::temporary::host().unwrap();
    for (host, locked) in [(host.as_str(), true), ("elsewhere", false)] {
        let place = Place::new();
        place.convert(1, false, QUIET).unwrap();
        let debris = write_debris(&place.target(), host);
        let mark = std::fs::File::options().write(true).open(&debris[0]).unwrap();
        if locked {
            mark.try_lock().unwrap();
        }
        place.convert(2, true, QUIET).unwrap();
        assert!(debris.iter().all(|f| f.exists()), "{host}");
        assert_eq!(place.open().verify().unwrap(), []);
        assert_eq!(place.open().n_cells(), 40);
    }
}

#[test]
fn foreign_files_are_refused_by_name_and_stay() {
    let foreign = [
        "README.md",
        "notes/chapter1.tex",
        "_slaf/notes.txt",
        "_slaf/versions/mine.json",
        "_slaf/writing/mine",
        "_slaf/categories/mine.arrow",
        "cells.lance/data/mine.lance",
        "TABLE/notes.txt",
        "TABLE/data/mine.lance",
        ".hidden",
        "_slaf/versions/00000000000000000002.json",
    ];
    for name in foreign {
        let place = Place::new();
        place.convert(1, false, QUIET).unwrap();
        let name = name.replace("TABLE", &place.open().manifest().tables.cells.path);
        let file = place.target().join(&name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "mine").unwrap();
        let before = files_below(&place.target()).unwrap();
        let error = place.convert(2, true, QUIET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name}: {error}");
        assert!(error.message().contains(&name), "{name}: {error}");
        assert_eq!(files_below(&place.target()).unwrap(), before);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        std::fs::remove_file(&file).unwrap();
        place.convert(2, true, QUIET).unwrap();
        assert_eq!(place.open().n_cells(), 40);
    }
}

#[test]
fn a_folder_that_only_looks_like_a_store_is_refused() {
    for overwrite in [false, true] {
        let place = Place::new();
        std::fs::create_dir_all(place.target().join("_slaf/versions")).unwrap();
        let file = place.target().join("thesis.tex");
        std::fs::write(&file, "mine").unwrap();
        let error = place.convert(1, overwrite, QUIET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.message().contains("thesis.tex"), "{error}");
        assert_eq!(files_below(&place.target()).unwrap(), [file]);
        let file = place.input(2);
        let options = ConvertOptions { overwrite, ..ConvertOptions::default() };
        let error = slaf::convert(&[&place.input(1)], file.to_str().unwrap(), &options, QUIET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "a file as a target: {error}");
        assert!(file.is_file());
    }
}

#[test]
fn a_folder_with_the_name_of_a_version_is_refused_by_name() {
    let place = Place::new();
    let folder = place.target().join("_slaf/versions/00000000000000000002.json");
    place.convert(1, false, QUIET).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let error = place.convert(2, true, QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(error.message().contains("00000000000000000002.json"), "{error}");
    assert_eq!(place.open().n_cells(), 20);
    std::fs::remove_dir(&folder).unwrap();
    place.convert(2, true, QUIET).unwrap();
    place.assert_is(2);
}

#[test]
#[cfg(unix)]
fn links_are_not_followed() {
    let place = Place::new();
    place.convert(1, false, QUIET).unwrap();
    let mine = place.folder.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("thesis.tex"), "mine").unwrap();
    std::os::unix::fs::symlink(&mine, place.target().join("link")).unwrap();
    let error = place.convert(2, true, QUIET).unwrap_err();
    assert!(error.kind() == ErrorKind::AlreadyExists && error.message().contains("link"), "{error}");
    assert!(mine.join("thesis.tex").exists());
}

#[test]
fn an_input_inside_of_the_target_is_refused() {
    let place = Place::new();
    place.convert(1, false, QUIET).unwrap();
    let inside = place.target().join("in.h5ad");
    std::fs::copy(place.input(2), &inside).unwrap();
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    for input in [&inside, &place.target(), &place.target().join("../target.slaf/in.h5ad")] {
        let error = slaf::convert(&[input], place.target().to_str().unwrap(), &options, QUIET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("inside of the target"), "{error}");
    }
    assert!(inside.exists());
    std::fs::remove_file(&inside).unwrap();
    place.assert_is(1);
}

/// Gives the tables the names that earlier versions gave them.
fn with_old_names(place: &Place) {
    let file = place.manifest();
    let mut text = std::fs::read_to_string(&file).unwrap();
    for table in ["cells", "genes", "by_gene"] {
        let new = format!("{table}-{}.lance", place.open().manifest().write_id);
        std::fs::rename(place.target().join(&new), place.target().join(format!("{table}.lance"))).unwrap();
        text = text.replace(&new, &format!("{table}.lance"));
    }
    let at = text.find("\"checksum\": \"").unwrap() + 13;
    let zeroed = format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..]);
    let hash = blake3::hash(zeroed.as_bytes()).to_hex();
    std::fs::write(&file, format!("{}{hash}{}", &text[..at], &text[at + 64..])).unwrap();
}

#[test]
fn stores_of_earlier_versions_are_read_and_replaced() {
    let place = Place::new();
    place.convert(1, false, QUIET).unwrap();
    with_old_names(&place);
    place.assert_is(1);
    // Half a file of a killed writer of that time.
    let unfinished = ["cells.lance/data/x.lance#1", "_slaf/versions/00000000000000000002.json.tmp.0123456789abcdef"];
    for name in unfinished {
        std::fs::write(place.target().join(name), "half").unwrap();
    }
    place.convert(2, true, QUIET).unwrap();
    place.assert_is(2);
    assert_eq!(std::fs::read_dir(place.target()).unwrap().count(), 4, "three tables and _slaf");
}

#[test]
fn a_handle_of_a_store_that_is_gone_says_so() {
    for moved in [false, true] {
        let place = Place::new();
        place.convert(1, false, QUIET).unwrap();
        let handles = [place.open(), place.open()];
        handles[1].gene_ids().unwrap();
        if moved {
            std::fs::rename(place.target(), place.folder.path().join("moved.slaf")).unwrap();
        } else {
            std::fs::remove_dir_all(place.target()).unwrap();
        }
        for handle in &handles {
            let error = handle.obs(None, &Selection::All).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.message().contains("removed or moved since it was opened"), "{error}");
        }
        let error = handles[0].query("SELECT AVG(value) FROM expression").map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn a_handle_of_a_store_that_was_overwritten_says_so() {
    for old_names in [false, true] {
        let place = Place::new();
        place.convert(1, false, QUIET).unwrap();
        if old_names {
            with_old_names(&place);
        }
        let handles = [place.open(), place.open(), place.open()];
        handles[1].obs(None, &Selection::All).unwrap();
        handles[2].gene_ids().unwrap();
        place.convert(2, true, QUIET).unwrap();
        let gene = Selection::Ids(vec![0]);
        for handle in &handles {
            let results = [
                handle.var(None, &Selection::All).map(drop),
                handle.read(&MatrixKey::X, &Selection::All, &Selection::All).map(drop),
                handle.read(&MatrixKey::X, &Selection::All, &gene).map(drop),
                handle.query("SELECT AVG(value) FROM expression").map(drop),
            ];
            for error in results.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert!(error.to_string().contains("open it again"), "{error}");
            }
        }
        assert_eq!(handles[0].obs(None, &Selection::All).unwrap_err().kind(), ErrorKind::Conflict);
    }
}
