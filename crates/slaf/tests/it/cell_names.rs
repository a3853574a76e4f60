//! Cells by their names, through the index that large stores have. What is found is compared with the
//! names themselves, and the files with what `SPEC.md` says of their bytes.

use crate::QUIET;
use crate::manifest::rewrite;
use crate::place::Place;
use arrow::array::AsArray;
use slaf::grow::{self, AppendOptions, GcOptions, GrowOptions, RewriteOptions};
use slaf::manifest::NameSegment;
use slaf::{Axis, ConvertOptions, Dataset, DatasetOptions, ErrorKind, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_lance::runtime::block_on;
use slaf_testing::{Counts, Random, Sample, files_below, flip_bit, truncate};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The bytes of the segment in a file, by the description.
fn segment(path: &str, entries: &mut [(u64, u32)]) -> Vec<u8> {
    entries.sort_unstable();
    let mut bytes = Vec::new();
    for (number, block) in (0_u64..).zip(entries.chunks(512)) {
        let block: Vec<u8> =
            block.iter().flat_map(|(hash, row)| [&hash.to_le_bytes()[..], &row.to_le_bytes()].concat()).collect();
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(
            &crc32fast::hash(&[path.as_bytes(), &number.to_le_bytes(), &block].concat()).to_le_bytes(),
        );
    }
    bytes
}

fn hash(name: &str) -> u64 {
    u64::from_le_bytes(blake3::hash(name.as_bytes()).as_bytes()[..8].try_into().unwrap())
}

fn entries(names: &[String]) -> Vec<(u64, u32)> {
    names.iter().zip(0..).map(|(name, row)| (hash(name), row)).collect()
}

fn write(folder: &Path, names: &[String]) -> PathBuf {
    let path = folder.join(format!("{}.h5ad", names.len()));
    let mut sample = Sample::new(1, names.len(), 5);
    sample.obs.index = names.to_vec();
    sample.write_h5ad(&path, MatrixEncoding::Csr).unwrap();
    path
}

fn convert(input: &Path, store: &str, few_names: u64) {
    let options = ConvertOptions { source_column: None, few_names, ..ConvertOptions::default() };
    slaf::convert(&[input], store, &options, QUIET).unwrap();
}

fn append(store: &str, input: &Path) {
    let input = [input.to_str().unwrap()];
    grow::append(store, &input, &AppendOptions::default(), &GrowOptions::default(), QUIET).unwrap();
}

/// A store on a local disk with an index.
fn store_of(names: &[String]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a.slaf").display().to_string();
    convert(&write(folder.path(), names), &store, 0);
    (folder, store)
}

fn names_like(prefix: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{prefix}{i}")).collect()
}

fn rows_of(names: &[String], name: &str) -> Vec<u64> {
    (0..).zip(names).filter(|(_, other)| *other == name).map(|(row, _)| row).collect()
}

/// Looks names up in handles of their own: one that looks for many reads all names.
fn assert_finds(store: &str, names: &[String], wanted: &[&str]) {
    for wanted in wanted.chunks(4) {
        let dataset = Dataset::open(store).unwrap();
        assert!(!dataset.manifest().cell_names.is_empty());
        for name in wanted {
            assert_eq!(dataset.rows_named(Axis::Cells, name).unwrap(), rows_of(names, name), "{name:?}");
        }
    }
    // By the names in memory, it is the same.
    let dataset = Dataset::open(store).unwrap();
    for name in wanted {
        assert_eq!(dataset.rows_named(Axis::Cells, name).unwrap(), rows_of(names, name), "{name:?}");
    }
}

/// The parts of an index, as numbers of rows; they cover all cells and are as described.
fn assert_index(store: &str, names: &[String]) -> Vec<u64> {
    let dataset = Dataset::open(store).unwrap();
    assert_eq!(dataset.verify().unwrap(), []);
    let mut row = 0;
    for NameSegment { path, first_row, n_rows, .. } in &dataset.manifest().cell_names {
        assert_eq!(*first_row, row);
        row += n_rows;
        let part = &names[*first_row as usize..row as usize];
        assert_eq!(std::fs::read(Path::new(store).join(path)).unwrap(), segment(path, &mut entries(part)));
    }
    assert_eq!(row, names.len() as u64);
    dataset.manifest().cell_names.iter().map(|s| s.n_rows).collect()
}

#[test]
fn all_kinds_of_names_are_found() {
    let mut random = Random(1);
    let words = ["", "a", "ä", "細胞", "🧬", "AAACATACAACCAC-1", " ", "'", "\""];
    let mut word = |i: usize| match i % 3 {
        0 => format!("cell{i}"),
        _ => (0..i % 4).map(|_| words[random.below(words.len() as u64) as usize]).collect(),
    };
    let names: Vec<String> = (0..1500).map(&mut word).collect();
    let (_folder, store) = store_of(&names);
    assert_eq!(assert_index(&store, &names), [1500]);
    let absent = ["cell1", "absent", "\0", "c"];
    let wanted: Vec<&str> = names.iter().step_by(37).map(String::as_str).chain(words).chain(absent).collect();
    assert_finds(&store, &names, &wanted);
}

#[test]
fn repeated_and_unknown_names_are_told_as_without_an_index() {
    let mut names = names_like("cell", 600);
    names[7] = "cell4".to_string();
    let (folder, store) = store_of(&names);
    let without = folder.path().join("without.slaf").display().to_string();
    convert(&write(folder.path(), &names), &without, 600);
    assert!(Dataset::open(&without).unwrap().manifest().cell_names.is_empty());
    assert!(!Path::new(&without).join("_slaf/names").exists());
    for wanted in [vec!["cell4"], vec!["cell5", "cell4"], vec!["cell7"], vec!["cel5", "x"], vec!["cell599", "cell0"]] {
        let told = |store: &str| {
            Dataset::open(store).unwrap().resolve_cells(&wanted).map_err(|e| (e.kind(), e.message().to_string()))
        };
        assert_eq!(told(&store), told(&without), "{wanted:?}");
    }
    let dataset = Dataset::open(&store).unwrap();
    assert_eq!(dataset.resolve_cells(&["cell4"]).unwrap_err().kind(), ErrorKind::AmbiguousName);
    let sql = "SELECT cell_integer_id FROM cells WHERE cell_id IN ('cell4', 'cell599', 'x') ORDER BY 1";
    let found = Dataset::open(&store).unwrap().query(sql).unwrap();
    let rows = found.batches[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
    assert_eq!(rows, [4, 7, 599]);
}

#[test]
fn an_index_grows_with_its_store() {
    let mut names = names_like("a", 900);
    let (folder, store) = store_of(&names);
    let (mut parts, mut all) = (Vec::new(), vec![names.len()]);
    for (i, n) in [40, 35, 30, 200, 10, 10, 10, 700].into_iter().enumerate() {
        // Names that are there come again.
        let mut more = names_like(&format!("b{i}-"), n);
        more[3] = "a7".to_string();
        append(&store, &write(folder.path(), &more));
        names.extend(more);
        all.push(names.len());
        parts.push(assert_index(&store, &names));
        assert_finds(&store, &names, &["a0", "a7", "a899", &format!("b{i}-0"), "b0-39", "b9-1"]);
    }
    // Parts that are short beside those that come are joined with them.
    let expected: [&[u64]; 8] = [
        &[900, 40],
        &[900, 75],
        &[900, 75, 30],
        &[900, 305],
        &[900, 305, 10],
        &[900, 305, 20],
        &[900, 305, 20, 10],
        &[1935],
    ];
    assert_eq!(parts, expected);
    // Every version has its own.
    for (version, n) in (1..).zip(all) {
        let options = DatasetOptions { version: Some(version), ..DatasetOptions::default() };
        let dataset = Dataset::open_with(&store, &options).unwrap();
        assert_eq!(dataset.rows_named(Axis::Cells, "a7").unwrap(), rows_of(&names[..n], "a7"));
        assert_eq!(dataset.verify().unwrap(), []);
    }
    grow::rollback(&store, 3, &GrowOptions::default()).unwrap();
    names.truncate(975);
    assert_eq!(assert_index(&store, &names), [900, 75]);
    append(&store, &write(folder.path(), &names_like("c", 4)));
    names.extend(names_like("c", 4));
    assert_finds(&store, &names, &["a7", "b1-2", "c3", "b3-1"]);
    // What no version needs goes, and nothing else.
    let collect = GcOptions { older_than: Duration::ZERO, dry_run: false };
    grow::gc(&store, &collect, &GrowOptions::default()).unwrap();
    assert_index(&store, &names);
    let named = Dataset::open(&store).unwrap().manifest().cell_names.len();
    assert_eq!(files_below(&Path::new(&store).join("_slaf/names")).unwrap().len(), named);
}

#[test]
fn an_index_is_written_anew_with_the_cells() {
    let names = names_like("cell", 700);
    let (folder, store) = store_of(&names);
    let (rewriting, growing) = (RewriteOptions::default(), GrowOptions::default());
    grow::delete_cells(&store, "cell_integer_id % 3 = 1", &rewriting, &growing, QUIET).unwrap();
    let left: Vec<String> = names.iter().enumerate().filter(|(i, _)| i % 3 != 1).map(|(_, n)| n.clone()).collect();
    assert_eq!(assert_index(&store, &left), [left.len() as u64]);
    assert_finds(&store, &left, &["cell0", "cell1", "cell2", "cell699"]);
    append(&store, &write(folder.path(), &names_like("b", 20)));
    grow::optimize(&store, true, &rewriting, &growing, QUIET).unwrap();
    let all = [left, names_like("b", 20)].concat();
    assert_eq!(assert_index(&store, &all), [all.len() as u64]);
    let target = folder.path().join("some.slaf").display().to_string();
    let options = ConvertOptions { few_names: 10, ..ConvertOptions::default() };
    grow::filter(&Dataset::open(&store).unwrap(), "cell_id LIKE 'b%'", &target, &options, QUIET).unwrap();
    assert_index(&target, &names_like("b", 20));
    // Another store in its place takes its files away.
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    slaf::convert(&[&write(folder.path(), &names)], &store, &options, QUIET).unwrap();
    assert!(!Path::new(&store).join("_slaf/names").exists());
    assert_eq!(Dataset::open(&store).unwrap().resolve_cells(&["cell5"]).unwrap(), [5]);
}

/// Changes the one segment of a store, and the root manifest with it.
fn forge(store: &str, entries: &mut [(u64, u32)]) {
    let path = Dataset::open(store).unwrap().manifest().cell_names[0].path.clone();
    let bytes = &segment(&path, entries);
    std::fs::write(Path::new(store).join(&path), bytes).unwrap();
    let manifest = files_below(&Path::new(store).join("_slaf/versions")).unwrap().remove(0);
    rewrite(&manifest, |m| {
        let file = m["files"].as_array_mut().unwrap().iter_mut().find(|f| f["path"] == path.as_str()).unwrap();
        file["blake3"] = blake3::hash(bytes).to_hex().as_str().into();
    });
}

#[test]
fn a_name_that_has_the_hash_of_another_is_not_taken_for_it() {
    let names = names_like("cell", 600);
    let (_folder, store) = store_of(&names);
    let mut forged = entries(&names);
    for row in [3, 599] {
        forged[row].0 = hash("cell5");
    }
    forged[100].0 = hash("none");
    forge(&store, &mut forged);
    let dataset = Dataset::open(&store).unwrap();
    assert_eq!(dataset.rows_named(Axis::Cells, "cell5").unwrap(), [5]);
    assert_eq!(dataset.rows_named(Axis::Cells, "none").unwrap(), [] as [u64; 0]);
    let damage = dataset.verify().unwrap();
    assert!(damage[0].reason.contains("does not have the names of the cells"), "{damage:?}");
}

#[test]
fn a_damaged_index_is_named() {
    let names = names_like("cell", 2000);
    let (_folder, store) = store_of(&names);
    let file = Path::new(&store).join(&Dataset::open(&store).unwrap().manifest().cell_names[0].path);
    let whole = std::fs::read(&file).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| (0..4).for_each(|block| flip_bit(&file, block * 6148 + 300, 5).unwrap()),
        &|| truncate(&file, 100).unwrap(),
        &|| truncate(&file, 0).unwrap(),
        &|| std::fs::remove_file(&file).unwrap(),
    ];
    for damage in damages {
        damage();
        let error = Dataset::open(&store).unwrap().resolve_cells(&["cell77"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("_slaf/names/"), "{error}");
        assert!(Dataset::open(&store).unwrap().verify().unwrap()[0].file.starts_with("_slaf/names/"));
        std::fs::write(&file, &whole).unwrap();
    }
    // Its rows are those of the segment.
    let mut forged = entries(&names);
    forged.iter_mut().for_each(|e| e.1 += 7);
    forge(&store, &mut forged);
    let error = Dataset::open(&store).unwrap().resolve_cells(&["cell1999"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_cell_by_name_does_not_read_all_names() {
    let names = names_like("a-rather-long-name-of-a-cell-", 60_000);
    let place = Place::empty();
    convert(&write(place.folder.path(), &names), &place.address, ConvertOptions::default().few_names);
    let (counts, _guard) = Counts::over(&place.address);
    let dataset = Dataset::open(&place.address).unwrap();
    counts.take();
    // Opens the table.
    dataset.names(Axis::Cells, &Selection::Range(9..10)).unwrap();
    let (before, _) = counts.bytes();
    counts.take();
    for row in [0, 31_415, 59_999] {
        assert_eq!(dataset.resolve_cells(&[&names[row as usize]]).unwrap(), [row]);
    }
    let bytes = counts.bytes().0 - before;
    let requests: usize = counts.take().values().sum();
    let all: usize = names.iter().map(String::len).sum();
    assert!(bytes < all / 4 && requests <= 6, "{requests} requests, {bytes} bytes of {all}");
    let found = dataset.query(&format!("SELECT cell_integer_id FROM cells WHERE cell_id = '{}'", names[7])).unwrap();
    assert_eq!(found.batches[0].num_rows(), 1);
    let segments = &dataset.manifest().cell_names;
    assert!(block_on(place.storage().list("_slaf/names")).unwrap().iter().any(|(f, _)| *f == segments[0].path));
}
