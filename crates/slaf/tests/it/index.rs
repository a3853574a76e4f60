//! Indexes of embeddings: what is found with one is what comparing all rows finds, whatever happens to the
//! store.

use crate::QUIET;
use crate::manifest::rewrite;
use crate::place::{Place, commit};
use slaf::grow::{self, AppendOptions, GcOptions, GrowOptions, IndexKind, IndexOptions, RewriteOptions};
use slaf::neighbors::{Hits, Measure};
use slaf::{ArrayKey, Axis, ConvertOptions, Dataset, DatasetOptions, Dtype, ErrorKind};
use slaf::{SearchOptions, SearchQuery, Selection, Values};
use slaf_ingest::{FrameInfo, H5adWriter, MatrixEncoding, WriteOptions};
use slaf_testing::{Counts, Fault, Random, Rule, Sample, files_below, flip_bit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const WIDTH: usize = 5;
const MEASURES: [Measure; 3] = [Measure::L2, Measure::Cosine, Measure::InnerProduct];

/// Points in groups, some of them twice, some without a place, one without a direction.
fn points(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random(seed);
    let mut noise = move || random.below(1 << 16) as f32 / f32::from(u16::MAX) - 0.5;
    let centres: Vec<f32> = (0..30 * WIDTH).map(|_| 20.0 * noise()).collect();
    let mut values: Vec<f32> =
        (0..n * WIDTH).map(|at| centres[at / WIDTH % 30 * WIDTH + at % WIDTH] + noise()).collect();
    for i in (0..n).step_by(17).filter(|i| i + 1 < n) {
        values.copy_within(i * WIDTH..(i + 1) * WIDTH, (i + 1) * WIDTH);
    }
    values[3 * WIDTH..4 * WIDTH].fill(f32::NAN);
    values[5 * WIDTH..6 * WIDTH].fill(0.0);
    values
}

/// An h5ad with an embedding of cells.
fn write(folder: &Path, seed: u64, values: &[f32], width: usize) -> PathBuf {
    write_genes(folder, seed, values, width, 12, None)
}

/// An h5ad with an embedding of cells, so many genes, and one of these.
fn write_genes(
    folder: &Path,
    seed: u64,
    values: &[f32],
    width: usize,
    n_genes: u64,
    of_genes: Option<&[f32]>,
) -> PathBuf {
    let n = values.len() / width;
    let path = folder.join(format!("{seed}-{n}.h5ad"));
    let mut sample = Sample::new(seed, n, n_genes);
    sample.obs.index = (0..n).map(|i| format!("{seed}-{i}")).collect();
    let info = |f: &slaf_ingest::Frame| FrameInfo {
        index_name: None,
        columns: f.columns.iter().map(|c| c.info.clone()).collect(),
    };
    let mut writer = H5adWriter::create(&path, WriteOptions::default()).unwrap();
    writer.write_frame("obs", None, &info(&sample.obs), [Ok(sample.obs.clone())]).unwrap();
    writer.write_frame("var", None, &info(&sample.var), [Ok(sample.var.clone())]).unwrap();
    let nnz = sample.x.nnz() as u64;
    writer
        .write_matrix("X", MatrixEncoding::Csr, Dtype::F32, n as u64, n_genes, Some(nnz), [Ok(sample.x.clone())])
        .unwrap();
    let of_cells = Values::F32(values.to_vec());
    writer.write_array("obsm/X_pca", Dtype::F32, n as u64, width as u64, [Ok(of_cells)]).unwrap();
    if let Some(of_genes) = of_genes {
        let of_genes = Values::F32(of_genes.to_vec());
        writer.write_array("varm/PCs", Dtype::F32, n_genes, width as u64, [Ok(of_genes)]).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// An h5ad with an embedding of cells and nothing else.
fn write_array(folder: &Path, values: &[f32], width: usize) -> PathBuf {
    let n = values.len() / width;
    let (path, sample) = (folder.join("only.h5ad"), Sample::new(1, n, 12));
    let bare = |f: &slaf_ingest::Frame| slaf_ingest::Frame { index: f.index.clone(), columns: Vec::new() };
    let mut writer = H5adWriter::create(&path, WriteOptions::default()).unwrap();
    writer.write_frame("obs", None, &FrameInfo::default(), [Ok(bare(&sample.obs))]).unwrap();
    writer.write_frame("var", None, &FrameInfo::default(), [Ok(bare(&sample.var))]).unwrap();
    let array = Values::F32(values.to_vec());
    writer.write_array("obsm/X_pca", Dtype::F32, n as u64, width as u64, [Ok(array)]).unwrap();
    writer.finish().unwrap();
    path
}

/// Puts the embedding of a file in the place of that of a store.
fn replace(store: &str, path: &Path) {
    let options = grow::AddOptions { overwrite: true, by_position: true, ..Default::default() };
    grow::add(store, &grow::Additions::File(path), &options, &GrowOptions::default(), QUIET).unwrap();
}

fn convert(input: &Path, store: &str, overwrite: bool) {
    let options = ConvertOptions { source_column: None, overwrite, ..ConvertOptions::default() };
    slaf::convert(&[input], store, &options, QUIET).unwrap();
}

fn store_of(values: &[f32], width: usize) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a.slaf").display().to_string();
    convert(&write(folder.path(), 1, values, width), &store, false);
    (folder, store)
}

fn key(name: &str) -> ArrayKey {
    ArrayKey { axis: Axis::Cells, name: name.into() }
}

fn create(store: &str, name: &str, measure: Measure) -> slaf::Result<grow::GrowReport> {
    let options = IndexOptions { measure, kind: IndexKind::Ivf, ..IndexOptions::default() };
    grow::create_index(store, &key(name), &options, &GrowOptions::default(), QUIET)
}

fn indexes(store: &str) -> Vec<String> {
    let dataset = Dataset::open(store).unwrap();
    assert_eq!(dataset.verify().unwrap(), []);
    let manifest = dataset.manifest();
    let named: Vec<&String> = manifest.indexes.iter().flat_map(|i| [&i.head].into_iter().chain(&i.parts)).collect();
    let files = manifest.files.iter().filter(|f| f.path.starts_with("_slaf/indexes/"));
    assert_eq!(files.count(), named.len(), "no other index is named");
    manifest.indexes.iter().map(|index| index.metric.clone()).collect()
}

fn nearest(dataset: &Dataset, name: &str, query: &SearchQuery, options: &SearchOptions) -> Hits {
    dataset.nearest(&key(name), query, options, QUIET).unwrap()
}

/// The nearest rows to one of `values`, by comparing all of them.
fn by_comparing_all(values: &[f32], query: &[f32], k: usize, measure: Measure) -> Vec<(f64, u32)> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let distance = |row: &[f32]| match measure {
        Measure::L2 => row.iter().zip(query).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt(),
        Measure::Cosine => 1.0 - dot(row, query) / (dot(row, row) * dot(query, query)).sqrt(),
        Measure::InnerProduct => -dot(row, query),
    };
    let rows = values.chunks(query.len()).map(distance).zip(0..).filter(|(distance, _)| !distance.is_nan());
    let mut all: Vec<(f64, u32)> = rows.collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.truncate(k);
    all
}

/// Searches for rows of `values` in a store that has these.
fn assert_finds(store: &str, name: &str, values: &[f32], width: usize, measure: Measure) {
    let dataset = Dataset::open(store).unwrap();
    let n = values.len() / width;
    for row in [0, 1, 7, n / 2, n - 1] {
        let query = SearchQuery::Rows(Selection::Ids(vec![row as u64]));
        let options = SearchOptions { k: 9, measure, ..SearchOptions::default() };
        let hits = nearest(&dataset, name, &query, &options);
        let expected = by_comparing_all(values, &values[row * width..(row + 1) * width], 9, measure);
        assert_eq!(hits.rows.len(), expected.len());
        for (i, (distance, number)) in expected.into_iter().enumerate() {
            assert!((hits.distances[i] - distance).abs() < 1e-9, "{measure:?} {row} {i}");
            assert!(hits.rows[i] == number || measure != Measure::L2, "{row} {i}");
        }
    }
}

#[test]
fn an_index_gives_the_bits_of_a_scan() {
    let values = points(3, 3000);
    let (_folder, store) = store_of(&values, WIDTH);
    let plain = Dataset::open(&store).unwrap();
    for measure in MEASURES {
        let report = create(&store, "X_pca", measure).unwrap();
        assert_eq!(report.written, [format!("index of obsm/X_pca by {measure}")]);
    }
    assert_eq!(indexes(&store), ["l2", "cosine", "ip"]);
    let dataset = Dataset::open(&store).unwrap();
    let (some, few): (Vec<u64>, _) = ((0..3000).filter(|i| i % 3 != 1).collect(), vec![4, 9, 2999]);
    let vectors = SearchQuery::Points { dims: WIDTH, values: (0..40 * WIDTH).map(|i| (i % 13) as f64 - 6.5).collect() };
    for measure in MEASURES {
        for among in
            [Selection::All, Selection::Range(100..2990), Selection::Ids(some.clone()), Selection::Ids(few.clone())]
        {
            for (query, k) in [
                (SearchQuery::Rows(Selection::Ids(vec![8])), 10),
                (SearchQuery::Rows(Selection::Range(100..400)), 3),
                (vectors.clone(), 600),
                (vectors.clone(), 0),
                (vectors.clone(), 3000),
            ] {
                for exclude_self in [false, true] {
                    let options = SearchOptions { k, measure, among: among.clone(), exclude_self };
                    let (with, without) =
                        (nearest(&dataset, "X_pca", &query, &options), nearest(&plain, "X_pca", &query, &options));
                    assert_eq!(with, without, "{measure:?} {k}");
                }
            }
        }
        let report = dataset.index_report(&key("X_pca"), Some(measure), 20, 10).unwrap();
        assert_eq!((report.kind.as_str(), report.recall, report.rows), ("ivf", 1.0, 3000));
        assert!(report.lists == 12 && report.bytes > 3000 * 20, "{report:?}");
        assert!(report.rows_read < 0.7 || measure == Measure::InnerProduct, "{report:?}");
        assert_finds(&store, "X_pca", &values, WIDTH, measure);
    }
    let report = plain.index_report(&key("X_pca"), None, 5, 10).unwrap();
    assert_eq!((report.kind.as_str(), report.rows, report.rows_beyond, report.rows_read), ("scan", 0, 3000, 1.0));
    assert_eq!(plain.index_report(&key("X_pca"), None, 0, 1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // One more of the same metric takes the place of the first.
    create(&store, "X_pca", Measure::L2).unwrap();
    assert_eq!(indexes(&store), ["cosine", "ip", "l2"]);
}

#[test]
fn where_bounds_leave_nothing_out_all_is_compared() {
    let mut random = Random(5);
    let values: Vec<f32> = (0..20_000 * 30).map(|_| (random.below(1 << 16) as f32 - 32768.0) / 1e3).collect();
    let (_folder, store) = store_of(&values, 30);
    create(&store, "X_pca", Measure::L2).unwrap();
    let dataset = Dataset::open(&store).unwrap();
    let report = dataset.index_report(&key("X_pca"), None, 3, 50).unwrap();
    assert_eq!((report.recall, report.rows_read), (1.0, 1.0));
    assert_finds(&store, "X_pca", &values, 30, Measure::L2);
}

#[test]
fn lists_without_rows_are_whole() {
    // All lists but the first one are empty, and the last ones lie behind the end of the file.
    let same = [[1.5; WIDTH]; 20_000].concat();
    let nowhere = [[f32::NAN; WIDTH]; 40].concat();
    let zero = [[0.0; WIDTH]; 40].concat();
    for (values, measure, finds) in [(same, Measure::L2, 9), (nowhere, Measure::L2, 0), (zero, Measure::Cosine, 0)] {
        let (_folder, store) = store_of(&values, WIDTH);
        create(&store, "X_pca", measure).unwrap();
        assert_eq!(indexes(&store), [measure.name()]);
        let query = SearchQuery::Points { dims: WIDTH, values: vec![1.0; WIDTH] };
        let options = SearchOptions { k: 9, measure, ..SearchOptions::default() };
        let hits = nearest(&Dataset::open(&store).unwrap(), "X_pca", &query, &options);
        assert_eq!(hits.rows, (0..finds).collect::<Vec<u32>>());
    }
}

#[test]
fn what_changes_a_store_keeps_its_index_or_drops_it() {
    let values = points(3, 1500);
    let (folder, store) = store_of(&values, WIDTH);
    let grow = GrowOptions::default();
    create(&store, "X_pca", Measure::L2).unwrap();
    // Cells that are appended are compared beside it.
    let more = points(4, 700);
    let input = write(folder.path(), 4, &more, WIDTH);
    grow::append(&store, &[input.to_str().unwrap()], &AppendOptions::default(), &grow, QUIET).unwrap();
    let all = [values.clone(), more].concat();
    assert_eq!(indexes(&store), ["l2"]);
    let report = Dataset::open(&store).unwrap().index_report(&key("X_pca"), None, 9, 10).unwrap();
    assert_eq!((report.rows, report.rows_beyond, report.recall), (1500, 700, 1.0));
    assert_finds(&store, "X_pca", &all, WIDTH, Measure::L2);
    // Another name, another order of bytes.
    grow::rename(&store, "obsm/X_pca", "moved", &grow).unwrap();
    grow::optimize(&store, true, &RewriteOptions::default(), &grow, QUIET).unwrap();
    assert_eq!(indexes(&store), ["l2"]);
    assert_finds(&store, "moved", &all, WIDTH, Measure::L2);
    let report = Dataset::open(&store).unwrap().index_report(&key("moved"), None, 9, 10).unwrap();
    assert_eq!((report.kind.as_str(), report.rows), ("ivf", 1500));
    let with_index = Dataset::open(&store).unwrap().version();
    // Other cells, other numbers.
    let rewriting = RewriteOptions::default();
    let report = grow::delete_cells(&store, "cell_integer_id < 100", &rewriting, &grow, QUIET).unwrap();
    assert!(report.notes[0].contains("the index of obsm/moved"), "{:?}", report.notes);
    assert_eq!(indexes(&store), [] as [&str; 0]);
    assert_finds(&store, "moved", &all[100 * WIDTH..], WIDTH, Measure::L2);
    grow::rollback(&store, with_index, &grow).unwrap();
    assert_eq!(indexes(&store), ["l2"]);
    assert_finds(&store, "moved", &all, WIDTH, Measure::L2);
    grow::drop_slots(&store, &["obsm/moved"], &grow).unwrap();
    assert_eq!(indexes(&store), [] as [&str; 0]);
    // What no version needs goes.
    let collect = GcOptions { older_than: Duration::ZERO, dry_run: false };
    grow::gc(&store, &collect, &grow).unwrap();
    assert!(!Path::new(&store).join("_slaf/indexes").exists());
    assert_eq!(indexes(&store), [] as [&str; 0]);
    // Another store in its place.
    convert(&write(folder.path(), 7, &values, WIDTH), &store, true);
    create(&store, "X_pca", Measure::L2).unwrap();
    convert(&write(folder.path(), 8, &values, WIDTH), &store, true);
    assert!(!Path::new(&store).join("_slaf/indexes").exists());
    assert_eq!(indexes(&store), [] as [&str; 0]);
}

#[test]
fn genes_keep_their_array_and_index_where_none_come() {
    let (folder, grow) = (tempfile::tempdir().unwrap(), GrowOptions::default());
    let (values, of_genes) = (points(3, 200), points(6, 12));
    let store = folder.path().join("a.slaf").display().to_string();
    convert(&write_genes(folder.path(), 1, &values, WIDTH, 12, Some(&of_genes)), &store, false);
    let genes = ArrayKey { axis: Axis::Genes, name: "PCs".into() };
    let options = IndexOptions { measure: Measure::Cosine, kind: IndexKind::Ivf, ..IndexOptions::default() };
    grow::create_index(&store, &genes, &options, &grow, QUIET).unwrap();
    let search = || {
        let query = SearchQuery::Rows(Selection::Ids(vec![0, 1, 7]));
        let options = SearchOptions { k: 6, measure: Measure::Cosine, ..SearchOptions::default() };
        Dataset::open(&store).unwrap().nearest(&genes, &query, &options, QUIET).unwrap()
    };
    let before = search();
    let append = |input: &Path, allow_loss| {
        let options = AppendOptions { allow_loss, ..AppendOptions::default() };
        grow::append(&store, &[input.to_str().unwrap()], &options, &grow, QUIET)
    };
    append(&write(folder.path(), 4, &points(4, 70), WIDTH), false).unwrap();
    assert_eq!(indexes(&store), ["cosine"]);
    let dataset = Dataset::open(&store).unwrap();
    assert_eq!((dataset.n_cells(), dataset.manifest().indexes[0].n_rows), (270, 12));
    let Values::F32(stored) = dataset.array(&genes, &Selection::All).unwrap().0 else { panic!("another type") };
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&stored), bits(&of_genes));
    assert_eq!(search(), before);
    // One that a source has as well, and one of other genes.
    let both = write_genes(folder.path(), 5, &points(5, 20), WIDTH, 12, Some(&of_genes));
    let more = write_genes(folder.path(), 7, &points(7, 20), WIDTH, 15, None);
    for input in [&both, &more] {
        let error = append(input, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldLoseData, "{error}");
        assert!(error.to_string().contains("varm/PCs"), "{error}");
    }
    append(&more, true).unwrap();
    assert_eq!(indexes(&store), [] as [&str; 0]);
    let dataset = Dataset::open(&store).unwrap();
    assert_eq!(dataset.manifest().n_genes, 15);
    assert!(dataset.manifest().arrays.iter().all(|a| a.axis == Axis::Cells));
}

#[test]
fn an_index_is_dropped_and_nothing_else() {
    let values = points(3, 900);
    let (_folder, store) = store_of(&values, WIDTH);
    let grow = GrowOptions::default();
    let drop_index = |name: &str, measure| grow::drop_index(&store, &key(name), measure, &grow);
    let refused = |name: &str, measure, kind: ErrorKind, says: &str| {
        let error = drop_index(name, measure).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    };
    refused("X_pca", None, ErrorKind::NotFound, "obsm/X_pca has no index; there are none");
    refused("X_pc", None, ErrorKind::UnknownTable, "did you mean X_pca");
    for measure in MEASURES {
        create(&store, "X_pca", measure).unwrap();
    }
    let before = Dataset::open(&store).unwrap();
    let report = drop_index("X_pca", Some(Measure::Cosine)).unwrap();
    assert_eq!((report.version, report.removed), (5, vec!["index of obsm/X_pca by cosine".to_string()]));
    assert_eq!(indexes(&store), ["l2", "ip"]);
    let there = "obsm/X_pca has no index by cosine; there are obsm/X_pca by l2, obsm/X_pca by ip";
    refused("X_pca", Some(Measure::Cosine), ErrorKind::NotFound, there);
    assert_eq!(drop_index("X_pca", None).unwrap().removed.len(), 2);
    assert_eq!(indexes(&store), [] as [&str; 0]);
    let after = Dataset::open(&store).unwrap();
    let of_tables = |dataset: &Dataset| -> Vec<(String, String)> {
        let files = dataset.manifest().files.iter().filter(|f| !f.path.starts_with("_slaf/"));
        files.map(|f| (f.path.clone(), f.blake3.clone())).collect()
    };
    assert_eq!(of_tables(&after), of_tables(&before));
    assert_eq!(after.manifest().arrays, before.manifest().arrays);
    assert_finds(&store, "X_pca", &values, WIDTH, Measure::L2);
    grow::rollback(&store, 4, &grow).unwrap();
    assert_eq!(indexes(&store), MEASURES.map(|measure| measure.name()));
}

#[test]
fn an_embedding_that_is_replaced_has_no_index() {
    let (values, others) = (points(3, 900), points(9, 900));
    let (folder, store) = store_of(&values, WIDTH);
    let grow = GrowOptions::default();
    create(&store, "X_pca", Measure::L2).unwrap();
    grow::drop_slots(&store, &["obsm/X_pca"], &grow).unwrap();
    // An append takes the dropped column out of the table, whose name is free then.
    let few = points(4, 20);
    let input = write(folder.path(), 4, &few, WIDTH);
    let options = AppendOptions { allow_loss: true, ..AppendOptions::default() };
    grow::append(&store, &[input.to_str().unwrap()], &options, &grow, QUIET).unwrap();
    assert_eq!(indexes(&store), [] as [&str; 0]);
    grow::rollback(&store, 2, &grow).unwrap();
    assert_eq!(indexes(&store), ["l2"]);
    replace(&store, &write_array(folder.path(), &others, WIDTH));
    assert_eq!(indexes(&store), [] as [&str; 0]);
    assert_finds(&store, "X_pca", &others, WIDTH, Measure::L2);
}

#[test]
fn few_rows_have_no_index_unless_it_is_asked_for() {
    let (_folder, store) = store_of(&points(3, 300), WIDTH);
    let options = IndexOptions::default();
    let create_auto = |name: &str| grow::create_index(&store, &key(name), &options, &GrowOptions::default(), QUIET);
    let report = create_auto("X_pca").unwrap();
    assert_eq!((report.version, report.written.len()), (1, 0));
    assert!(report.notes[0].contains("comparing all 300 rows"), "{:?}", report.notes);
    assert_eq!(create_auto("X_pc").unwrap_err().kind(), ErrorKind::UnknownTable);
    let stopped = grow::create_index(
        &store,
        &key("X_pca"),
        &IndexOptions { kind: IndexKind::Ivf, ..IndexOptions::default() },
        &GrowOptions::default(),
        &|_| false,
    );
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    let left: Vec<PathBuf> = files_below(&Path::new(&store).join("_slaf")).unwrap();
    assert!(left.iter().all(|f| !f.display().to_string().contains("indexes")), "{left:?}");
    // Small parts: a list or a few in each.
    let small = IndexOptions { kind: IndexKind::Ivf, memory: 1, ..IndexOptions::default() };
    grow::create_index(&store, &key("X_pca"), &small, &GrowOptions::default(), QUIET).unwrap();
    assert_eq!(Dataset::open(&store).unwrap().manifest().indexes[0].parts.len(), 2);
    assert_eq!(indexes(&store), ["l2"]);
    assert_finds(&store, "X_pca", &points(3, 300), WIDTH, Measure::L2);
}

#[test]
fn a_row_that_cannot_be_compared_is_named() {
    let mut values = points(3, 600);
    values[400 * WIDTH] = f32::INFINITY;
    let (_folder, store) = store_of(&values, WIDTH);
    let error = create(&store, "X_pca", Measure::L2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("row 400"), "{error}");
}

#[test]
fn a_damaged_index_is_named_and_gives_no_other_answer() {
    let (_folder, store) = store_of(&points(3, 1500), WIDTH);
    create(&store, "X_pca", Measure::L2).unwrap();
    let entry = Dataset::open(&store).unwrap().manifest().indexes[0].clone();
    let search = || {
        let query = SearchQuery::Points { dims: WIDTH, values: vec![0.0; WIDTH] };
        let options = SearchOptions { k: 300, ..SearchOptions::default() };
        Dataset::open(&store).unwrap().nearest(&key("X_pca"), &query, &options, QUIET)
    };
    let expected = search().unwrap();
    for path in [&entry.head, &entry.parts[0]] {
        let file = Path::new(&store).join(path);
        let whole = std::fs::read(&file).unwrap();
        for damage in 0..40 {
            match damage {
                0 => std::fs::write(&file, &whole[..whole.len() / 2]).unwrap(),
                1 => std::fs::remove_file(&file).unwrap(),
                n => flip_bit(&file, n * 7919 % whole.len() as u64, (n % 8) as u8).unwrap(),
            }
            match search() {
                Ok(hits) => assert_eq!(hits, expected, "in a list that was not read"),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                    assert!(e.to_string().contains("_slaf/indexes/"), "{e}");
                    assert!(e.message().contains("index STORE KEY --drop"), "{e}");
                }
            }
            assert_eq!(Dataset::open(&store).unwrap().verify().unwrap()[0].file, *path);
            std::fs::write(&file, &whole).unwrap();
        }
    }
    assert_eq!(search().unwrap(), expected);
}

#[test]
fn an_index_of_other_rows_is_found_by_verify_and_a_wrong_entry_at_once() {
    let (_folder, store) = store_of(&points(3, 600), WIDTH);
    create(&store, "X_pca", Measure::L2).unwrap();
    let manifest = files_below(&Path::new(&store).join("_slaf/versions")).unwrap().pop().unwrap();
    let whole = std::fs::read(&manifest).unwrap();
    let changes: [&dyn Fn(&mut serde_json::Value); 6] = [
        &|m| m["indexes"][0]["n_rows"] = 599.into(),
        &|m| m["indexes"][0]["n_rows"] = 601.into(),
        &|m| m["indexes"][0]["n_lists"] = 1.into(),
        &|m| m["indexes"][0]["column"] = "m7".into(),
        &|m| m["indexes"][0]["head"] = m["indexes"][0]["parts"][0].clone(),
        &|m| m["indexes"][0]["metric"] = "cosine".into(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        rewrite(&manifest, change);
        let opened = Dataset::open(&store);
        assert_eq!(opened.is_err(), (1..5).contains(&i), "{i}");
        match opened {
            Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}"),
            Ok(dataset) => assert_eq!(dataset.verify().unwrap().len(), 1, "{i}"),
        }
        std::fs::write(&manifest, &whole).unwrap();
    }
    // What is not known here is left out.
    for (field, value) in [("kind", "hnsw"), ("metric", "hamming")] {
        rewrite(&manifest, |m| m["indexes"][0][field] = value.into());
        assert_finds(&store, "X_pca", &points(3, 600), WIDTH, Measure::L2);
        std::fs::write(&manifest, &whole).unwrap();
    }
}

#[test]
fn a_query_of_an_object_store_reads_a_part() {
    let (place, width) = (Place::empty(), 40);
    let few = points(3, 72_000);
    let values: Vec<f32> = few.iter().enumerate().map(|(i, x)| if x.is_nan() { i as f32 } else { *x }).collect();
    convert(&write(place.folder.path(), 1, &values, width), &place.address, false);
    let before = Dataset::open(&place.address).unwrap().version();
    create(&place.address, "X_pca", Measure::L2).unwrap();
    let bytes = |options: &DatasetOptions| {
        let (counts, _guard) = Counts::over(&place.address);
        let dataset = Dataset::open_with(&place.address, options).unwrap();
        let query =
            SearchQuery::Points { dims: width, values: values[width..2 * width].iter().map(|&x| x.into()).collect() };
        let (opened, _) = counts.bytes();
        let hits = nearest(&dataset, "X_pca", &query, &SearchOptions::default());
        (hits, counts.bytes().0 - opened)
    };
    let (with, read) = bytes(&DatasetOptions::default());
    let (without, scanned) = bytes(&DatasetOptions { version: Some(before), ..DatasetOptions::default() });
    assert_eq!(with, without);
    assert!(read < scanned / 2, "{read} bytes, and {scanned} by comparing all");
}

#[test]
fn cells_that_come_meanwhile_are_beside_the_index() {
    let (values, more) = (points(3, 400), points(4, 50));
    let place = Place::empty();
    convert(&write(place.folder.path(), 1, &values, WIDTH), &place.address, false);
    let (input, address) = (write(place.folder.path(), 4, &more, WIDTH), place.address.clone());
    let append = move || {
        let input = [input.to_str().unwrap()];
        grow::append(&address, &input, &AppendOptions::default(), &GrowOptions::default(), QUIET).map(drop).unwrap();
    };
    place.faults.add(commit(Fault::Meanwhile(Arc::new(append))));
    assert_eq!(create(&place.address, "X_pca", Measure::L2).unwrap().version, 3);
    place.faults.clear();
    assert_eq!(indexes(&place.address), ["l2"]);
    let report = Dataset::open(&place.address).unwrap().index_report(&key("X_pca"), None, 5, 4).unwrap();
    assert_eq!((report.rows, report.rows_beyond, report.recall), (400, 50, 1.0));
    assert_finds(&place.address, "X_pca", &[values, more].concat(), WIDTH, Measure::L2);
}

#[test]
fn an_embedding_that_comes_back_meanwhile_as_another_one_is_read_anew() {
    let (first, second, third) = (points(3, 400), points(9, 400), points(12, 400));
    let place = Place::empty();
    let folder = place.folder.path();
    convert(&write(folder, 1, &first, WIDTH), &place.address, false);
    replace(&place.address, &write_array(folder, &second, WIDTH));
    let (array, address) = (write_array(folder, &third, WIDTH), place.address.clone());
    let change = move || {
        grow::rollback(&address, 1, &GrowOptions::default()).unwrap();
        replace(&address, &array);
    };
    place.faults.add(commit(Fault::Meanwhile(Arc::new(change))));
    assert_eq!(create(&place.address, "X_pca", Measure::L2).unwrap().version, 5);
    place.faults.clear();
    assert_eq!(indexes(&place.address), ["l2"]);
    assert_finds(&place.address, "X_pca", &third, WIDTH, Measure::L2);
}

#[test]
fn a_writer_that_dies_leaves_a_whole_store() {
    let values = points(3, 300);
    for n in (1..40).step_by(3) {
        let place = Place::empty();
        convert(&write(place.folder.path(), 1, &values, WIDTH), &place.address, false);
        place.faults.add(Rule::new(Fault::Crash).from(n));
        let outcome = create(&place.address, "X_pca", Measure::L2);
        place.faults.clear();
        let there = indexes(&place.address);
        assert!(outcome.is_err() || there.len() == 1);
        assert_finds(&place.address, "X_pca", &values, WIDTH, Measure::L2);
    }
}
