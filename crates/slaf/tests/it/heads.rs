//! The heads of files: what `SPEC.md` says of them, what they spare, and what comes of damage to them.

use crate::QUIET;
use crate::manifest::rewrite;
use crate::place::Place;
use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use bytes::Bytes;
use slaf::grow::{self, AddOptions, Additions, AnnotationTable, AppendOptions, GcOptions, GrowOptions, RewriteOptions};
use slaf::{Axis, ConvertOptions, Dataset, DatasetOptions, Distributed, MatrixKey, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_lance::runtime::block_on;
use slaf_testing::{Counts, Sample, files_below, flip_bit, truncate};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const N: usize = 60_000;

fn write(folder: &Path, n_cells: usize) -> PathBuf {
    let path = folder.join(format!("{n_cells}.h5ad"));
    let mut sample = Sample::new(3, n_cells, 30);
    sample.obs.index = (0..n_cells).map(|i| format!("a-rather-long-name-of-a-cell-{n_cells}-{i}")).collect();
    sample.write_h5ad(&path, MatrixEncoding::Csr).unwrap();
    path
}

fn convert(input: &Path, store: &str) {
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    slaf::convert(&[input], store, &options, QUIET).unwrap();
}

fn add_column(store: &str, name: &str) {
    let n = Dataset::open(store).unwrap().n_cells() as usize;
    let values = Arc::new(Float64Array::from_iter_values((0..n).map(|i| (i as f64).sin())));
    let batch = RecordBatch::try_from_iter([(name, values as ArrayRef)]).unwrap();
    let table = AnnotationTable::new(Axis::Cells, &batch, None).unwrap();
    grow::add(store, &Additions::Table(&table), &AddOptions::default(), &GrowOptions::default(), QUIET).unwrap();
}

fn append(store: &str, input: &Path) {
    let input = [input.to_str().unwrap()];
    grow::append(store, &input, &AppendOptions::default(), &GrowOptions::default(), QUIET).unwrap();
}

/// The parts of a version's files by path, by the description; all are as they are in the files.
fn heads_of(store: &str, version: Option<u64>) -> BTreeMap<String, Vec<(u64, u64)>> {
    let dataset = Dataset::open_with(store, &DatasetOptions { version, ..DatasetOptions::default() }).unwrap();
    assert_eq!(dataset.verify().unwrap(), []);
    let manifest = dataset.manifest();
    let path = manifest.heads.clone().expect("a version with heads");
    let bytes = std::fs::read(Path::new(store).join(&path)).unwrap();
    assert!(bytes.len() <= 1 << 20);
    assert_eq!(manifest.files.iter().filter(|f| f.path.starts_with("_slaf/heads/")).count(), 1);
    let n = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (mut heads, mut at) = (BTreeMap::<String, Vec<_>>::new(), 4 + 44 * n);
    for entry in bytes[4..at].chunks(44) {
        let hash = blake3::Hash::from_bytes(entry[..32].try_into().unwrap()).to_hex();
        let start = u64::from_le_bytes(entry[32..40].try_into().unwrap());
        let length = u32::from_le_bytes(entry[40..].try_into().unwrap()) as usize;
        let part = &bytes[at..at + length];
        at += length;
        let Some(file) = manifest.files.iter().find(|f| f.blake3 == hash.as_str()) else { continue };
        let whole = std::fs::read(Path::new(store).join(&file.path)).unwrap();
        assert_eq!(part, &whole[start as usize..start as usize + length], "{}", file.path);
        heads.entry(file.path.clone()).or_default().push((start, length as u64));
    }
    assert_eq!(at, bytes.len());
    heads
}

/// Of each file whether it is there whole, by kinds of files.
fn kinds(store: &str, version: Option<u64>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for path in heads_of(store, version).keys() {
        let kind = match path.split_once('/').unwrap() {
            ("_slaf", rest) => rest.split_once('/').unwrap().0.to_string(),
            (table, rest) => format!("{} {}", table.split_once('-').unwrap().0, rest.split_once('/').unwrap().0),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn counted<const N: usize>(kinds: [(&str, usize); N]) -> BTreeMap<String, usize> {
    kinds.into_iter().map(|(kind, n)| (kind.to_string(), n)).collect()
}

#[test]
fn every_version_has_the_heads_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a.slaf").display().to_string();
    convert(&write(folder.path(), N), &store);
    let first = [
        ("by_gene _versions", 1),
        ("by_gene data", 1),
        ("categories", 1),
        ("cells _versions", 1),
        ("cells data", 1),
        ("genes _versions", 1),
        ("genes data", 1),
    ];
    assert_eq!(kinds(&store, None), counted(first));
    // The end of a file with its columns, and the structure of some pages.
    let heads = heads_of(&store, None);
    let (path, parts) = heads.iter().find(|(path, _)| path.contains("cells-") && path.contains("/data/")).unwrap();
    let length = Path::new(&store).join(path).metadata().unwrap().len();
    assert_eq!(parts.last().map(|(start, n)| (start + n, *n >= 1 << 16)), Some((length, true)));
    assert!(parts.len() > 3 && parts.iter().map(|(_, n)| n).sum::<u64>() < length / 10, "{parts:?}");
    // What is there already is not read again, and stays.
    let growing = GrowOptions::default();
    add_column(&store, "sine");
    assert_eq!(kinds(&store, None)["cells data"], 2);
    let before = Dataset::open(&store).unwrap().manifest().heads.clone();
    grow::tag(&store, "t", None, &growing).unwrap();
    assert_eq!(Dataset::open(&store).unwrap().manifest().heads, before, "no file is new");
    append(&store, &write(folder.path(), 400));
    // A small file is read whole.
    assert_eq!(kinds(&store, None)["cells data"], 2);
    assert_eq!(kinds(&store, None)["genes data"], 1);
    grow::drop_slots(&store, &["obs/sine"], &growing).unwrap();
    kinds(&store, None);
    grow::rollback(&store, 1, &growing).unwrap();
    assert_eq!(kinds(&store, None), counted(first));
    append(&store, &write(folder.path(), 400));
    let rewriting = RewriteOptions::default();
    grow::delete_cells(&store, "cell_integer_id % 3 = 1", &rewriting, &growing, QUIET).unwrap();
    assert_eq!(kinds(&store, None)["cells data"], 1);
    grow::optimize(&store, true, &rewriting, &growing, QUIET).unwrap();
    let newest = Dataset::open(&store).unwrap().version();
    for version in 1..=newest {
        kinds(&store, Some(version));
    }
    let collect = GcOptions { older_than: Duration::ZERO, dry_run: false };
    grow::gc(&store, &collect, &growing).unwrap();
    // Those of the version with a tag, and of the newest one.
    assert_eq!(files_below(&Path::new(&store).join("_slaf/heads")).unwrap().len(), 2);
    kinds(&store, Some(2));
    convert(&write(folder.path(), 400), &store);
    assert_eq!(files_below(&Path::new(&store).join("_slaf/heads")).unwrap().len(), 1);
}

#[test]
fn what_others_wrote_for_a_conversion_has_heads() {
    let folder = tempfile::tempdir().unwrap();
    let (input, store) = (write(folder.path(), N), folder.path().join("a.slaf").display().to_string());
    let mut plan = Distributed::plan(&[&input], &store, &ConvertOptions::default(), Some(N as u64 / 2), QUIET).unwrap();
    let tasks = (0..plan.n_parts()).map(|part| plan.task(part).unwrap());
    let results: Vec<_> = tasks.map(|task| slaf::convert_part(&task, QUIET).unwrap()).collect();
    plan.finish(&results, QUIET).unwrap();
    assert_eq!(kinds(&store, None)["cells data"], 2);
}

#[test]
fn a_writer_that_does_not_know_heads_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a.slaf").display().to_string();
    convert(&write(folder.path(), N), &store);
    let manifest = files_below(&Path::new(&store).join("_slaf/versions")).unwrap().remove(0);
    let file = Dataset::open(&store).unwrap().manifest().heads.clone().unwrap();
    rewrite(&manifest, |m| {
        m.as_object_mut().unwrap().remove("heads");
    });
    let dataset = Dataset::open(&store).unwrap();
    assert!(dataset.verify().unwrap().is_empty() && dataset.manifest().files.iter().any(|f| f.path == file));
    // The next version has the heads of what is new.
    add_column(&store, "sine");
    assert_eq!(kinds(&store, None), counted([("cells _versions", 1), ("cells data", 1)]));
    grow::optimize(&store, true, &RewriteOptions::default(), &GrowOptions::default(), QUIET).unwrap();
    assert_eq!(kinds(&store, None)["genes data"], 1);
}

/// What a store in memory answers, and in how many requests to a handle of its own each.
fn answers(address: &str) -> Vec<(String, usize)> {
    let (counts, _guard) = Counts::over(address);
    let cell = format!("a-rather-long-name-of-a-cell-{N}-31415");
    let ask = |question: &dyn Fn(&Dataset) -> String| {
        let dataset = Dataset::open(address).unwrap();
        counts.take();
        let answer = question(&dataset);
        let first = counts.take().values().sum();
        assert_eq!(question(&dataset), answer);
        assert_eq!(counts.take().values().sum::<usize>(), 0, "the second time");
        (answer, first)
    };
    let sql =
        |sql: &str| ask(&|dataset| pretty_format_batches(&dataset.query(sql).unwrap().batches).unwrap().to_string());
    vec![
        ask(&|dataset| {
            let row = dataset.resolve_cells(&[&cell]).unwrap();
            let genes = dataset.gene_ids().unwrap();
            format!("{genes:?} {:?}", dataset.read(&MatrixKey::X, &Selection::Ids(row), &Selection::All).unwrap())
        }),
        ask(&|dataset| {
            let gene = Selection::Ids(dataset.resolve_genes(&["g7"]).unwrap());
            format!("{:?}", dataset.read(&MatrixKey::X, &Selection::All, &gene).unwrap())
        }),
        sql("SELECT cell_type, COUNT(*), AVG(score) FROM cells WHERE batch = 'b1' GROUP BY 1 ORDER BY 1"),
    ]
}

#[test]
fn a_fresh_handle_asks_little() {
    let place = Place::empty();
    convert(&write(place.folder.path(), N), &place.address);
    let requests: Vec<usize> = answers(&place.address).into_iter().map(|(_, requests)| requests).collect();
    assert!(requests[0] <= 5 && requests[1] <= 3 && requests[2] <= 2, "{requests:?}");
}

#[test]
fn damaged_heads_are_done_without_and_named() {
    let place = Place::empty();
    convert(&write(place.folder.path(), N), &place.address);
    let whole = answers(&place.address);
    let (storage, dataset) = (place.storage(), Dataset::open(&place.address).unwrap());
    let path = dataset.manifest().heads.clone().unwrap();
    let content = block_on(storage.read(&path)).unwrap().to_vec();
    let mut flipped = content.clone();
    flipped[content.len() / 2] ^= 4;
    for damaged in [Some(flipped), Some(content[..100].to_vec()), Some(Vec::new()), None] {
        match damaged {
            Some(damaged) => block_on(storage.write(&path, Bytes::from(damaged))).unwrap(),
            None => block_on(storage.delete(&path)).unwrap(),
        }
        for ((answer, requests), (expected, with_heads)) in answers(&place.address).into_iter().zip(&whole) {
            assert_eq!(answer, *expected);
            assert!(requests > *with_heads);
        }
        for damage in [dataset.verify().unwrap(), dataset.verify_quick().unwrap()] {
            // A quick look compares lengths.
            assert!(damage.iter().all(|d| d.file == path), "{damage:?}");
        }
        assert_eq!(Dataset::open(&place.address).unwrap().verify().unwrap()[0].file, path);
        // A writer goes on without them.
        grow::tag(&place.address, "t", None, &GrowOptions::default()).unwrap();
        grow::untag(&place.address, "t", &GrowOptions::default()).unwrap();
    }
    grow::optimize(&place.address, true, &RewriteOptions::default(), &GrowOptions::default(), QUIET).unwrap();
    assert_eq!(Dataset::open(&place.address).unwrap().verify().unwrap(), []);
    assert_eq!(answers(&place.address)[1].1, whole[1].1);
}

#[test]
fn heads_with_other_bytes_than_the_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a.slaf").display().to_string();
    convert(&write(folder.path(), 3000), &store);
    let path = Dataset::open(&store).unwrap().manifest().heads.clone().unwrap();
    let (file, manifest) =
        (Path::new(&store).join(&path), files_below(&Path::new(&store).join("_slaf/versions")).unwrap().remove(0));
    let length = file.metadata().unwrap().len();
    let forge = |damage: &dyn Fn()| {
        damage();
        let bytes = std::fs::read(&file).unwrap();
        rewrite(&manifest, |m| {
            let entry = m["files"].as_array_mut().unwrap().iter_mut().find(|f| f["path"] == path.as_str()).unwrap();
            entry["blake3"] = blake3::hash(&bytes).to_hex().as_str().into();
            entry["length"] = bytes.len().into();
        });
        Dataset::open(&store).unwrap().verify().unwrap().remove(0).reason
    };
    let reason = forge(&|| flip_bit(&file, length - 30, 3).unwrap());
    assert!(reason.contains("other bytes than those of") && reason.contains("heads"), "{reason}");
    let reason = forge(&|| truncate(&file, length - 1).unwrap());
    assert!(reason.contains("make no sense"), "{reason}");
}
