//! Cells that are appended. What comes of it is compared with a conversion of all at once.

use crate::QUIET;
use crate::damage::read_all;
use arrow::array::RecordBatch;
use slaf::grow::{self, AppendOptions, GrowOptions, GrowReport};
use slaf::{ConvertOptions, Dataset, ErrorKind, Join, MatrixKey, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_lance::runtime::block_on;
use slaf_lance::{Operation, Storage};
use slaf_testing::{Fault, Faults, Rule, Sample, memory_store};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use tempfile::TempDir;

const VERSIONS: &str = "_slaf/versions";

/// Inputs, by the numbers of their cells and genes.
struct Inputs(TempDir);

impl Inputs {
    fn new() -> Inputs {
        Inputs(tempfile::tempdir().unwrap())
    }

    fn write(&self, n_cells: usize, n_genes: u64) -> PathBuf {
        let path = self.0.path().join(format!("{n_cells}x{n_genes}.h5ad"));
        Sample::new(n_cells as u64, n_cells, n_genes).write_h5ad(&path, MatrixEncoding::Csr).unwrap();
        path
    }

    fn store(&self, name: &str, inputs: &[PathBuf]) -> String {
        let path = self.0.path().join(name).display().to_string();
        convert(&path, inputs);
        path
    }
}

fn convert(store: &str, inputs: &[PathBuf]) {
    let options = ConvertOptions { source_column: None, overwrite: true, ..ConvertOptions::default() };
    let inputs: Vec<_> = inputs.iter().map(PathBuf::as_path).collect();
    slaf::convert(&inputs, store, &options, QUIET).unwrap();
}

fn append(store: &str, inputs: &[PathBuf]) -> slaf::Result<GrowReport> {
    let inputs: Vec<&str> = inputs.iter().map(|p| p.to_str().unwrap()).collect();
    grow::append(store, &inputs, &AppendOptions::default(), &GrowOptions::default(), QUIET)
}

fn frame(batch: &RecordBatch) -> String {
    arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

fn assert_alike(grown: &Dataset, whole: &Dataset) {
    assert_eq!((grown.n_cells(), grown.n_genes()), (whole.n_cells(), whole.n_genes()));
    let all = Selection::All;
    assert_eq!(frame(&grown.obs(None, &all).unwrap()), frame(&whole.obs(None, &all).unwrap()));
    assert_eq!(frame(&grown.var(None, &all).unwrap()), frame(&whole.var(None, &all).unwrap()));
    let read = |d: &Dataset, rows: &Selection, cols: &Selection| d.read(&MatrixKey::X, rows, cols).unwrap();
    assert_eq!(read(grown, &all, &all), read(whole, &all, &all));
    // From the gene-major rows, among them those of genes that came later.
    for gene in 0..whole.n_genes() {
        let genes = Selection::Ids(vec![gene]);
        assert_eq!(read(grown, &all, &genes), read(whole, &all, &genes), "gene {gene}");
    }
    let (a, b) = (grown.gene_stats().unwrap(), whole.gene_stats().unwrap());
    assert_eq!((a.n_cells, a.total), (b.n_cells, b.total));
    let (a, b) = (grown.cell_stats().unwrap(), whole.cell_stats().unwrap());
    assert_eq!((a.nnz, a.n_genes, a.total), (b.nnz, b.n_genes, b.total));
    let sql = "SELECT gene_id, SUM(value) AS s, COUNT(*) AS n FROM expression GROUP BY gene_id ORDER BY gene_id";
    let rows = |d: &Dataset| d.query(sql).unwrap().batches.iter().map(frame).collect::<Vec<_>>();
    assert_eq!(rows(grown), rows(whole));
    assert_eq!(grown.verify().unwrap(), []);
}

#[test]
fn appended_cells_are_as_if_converted_together() {
    let inputs = Inputs::new();
    let [a, b, c] = [inputs.write(40, 12), inputs.write(25, 17), inputs.write(30, 9)];
    let grown = inputs.store("grown.slaf", std::slice::from_ref(&a));
    let before = Dataset::open(&grown).unwrap();
    let old = before.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    let report = append(&grown, std::slice::from_ref(&b)).unwrap();
    assert_eq!((report.version, report.n_cells, report.n_genes), (2, 65, 17));
    let whole = inputs.store("two.slaf", &[a.clone(), b.clone()]);
    assert_alike(&Dataset::open(&grown).unwrap(), &Dataset::open(&whole).unwrap());
    append(&grown, std::slice::from_ref(&c)).unwrap();
    append(&grown, &[a.clone(), b.clone()]).unwrap();
    let whole = inputs.store("all.slaf", &[a.clone(), b.clone(), c, a, b]);
    assert_alike(&Dataset::open(&grown).unwrap(), &Dataset::open(&whole).unwrap());
    // The handle that was open shows what it showed.
    assert_eq!(before.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap(), old);
    let gene = before.read(&MatrixKey::X, &Selection::All, &Selection::Ids(vec![3])).unwrap();
    assert_eq!(gene.n_rows(), 40);
}

#[test]
fn stores_are_appended_and_genes_of_the_store_are_kept() {
    let inputs = Inputs::new();
    let [a, b] = [inputs.write(40, 12), inputs.write(25, 17)];
    let (grown, other) =
        (inputs.store("a.slaf", std::slice::from_ref(&a)), inputs.store("b.slaf", std::slice::from_ref(&b)));
    append(&grown, &[PathBuf::from(&other)]).unwrap();
    let whole = inputs.store("two.slaf", &[a.clone(), b.clone()]);
    assert_alike(&Dataset::open(&grown).unwrap(), &Dataset::open(&whole).unwrap());
    let kept = inputs.store("kept.slaf", std::slice::from_ref(&a));
    let options = |join| AppendOptions { join, ..AppendOptions::default() };
    let of = |store: &str, input: &PathBuf, join| {
        grow::append(store, &[input.to_str().unwrap()], &options(join), &GrowOptions::default(), QUIET)
    };
    let report = of(&kept, &b, Join::Reference).unwrap();
    assert_eq!((report.n_cells, report.n_genes), (65, 12));
    assert!(report.notes.iter().any(|n| n.starts_with("5 genes")), "{:?}", report.notes);
    assert_eq!(Dataset::open(&kept).unwrap().verify().unwrap(), []);
    let few = inputs.write(10, 5);
    let error = of(&kept, &few, Join::Inner).unwrap_err();
    assert!(error.message().contains("take 7 genes from the store"), "{error}");
}

#[test]
fn a_crash_at_any_request_leaves_the_old_version_or_the_new_one() {
    let inputs = Inputs::new();
    let [a, b] = [inputs.write(20, 12), inputs.write(10, 14)];
    let mut outcomes = [0; 2];
    for n in (1..).step_by(3) {
        let store = memory_store();
        let (faults, _guard) = Faults::over(&store);
        convert(&store, std::slice::from_ref(&a));
        faults.add(Rule::new(Fault::Crash).from(n));
        let outcome = append(&store, std::slice::from_ref(&b));
        let crashed = faults.clear();
        let dataset = Dataset::open(&store).unwrap();
        assert_eq!(dataset.verify().unwrap(), [], "{n}");
        read_all(&dataset).unwrap();
        outcomes[usize::from(dataset.n_cells() == 30)] += 1;
        match outcome {
            Ok(_) => assert_eq!(dataset.n_cells(), 30, "{n}"),
            Err(e) => {
                let kinds = [ErrorKind::Io, ErrorKind::CommitOutcomeUnknown];
                assert!(crashed && kinds.contains(&e.kind()), "{n}: {e}");
            }
        }
        // What is left is in nobody's way; without its mark it goes.
        let there = dataset.n_cells();
        append(&store, std::slice::from_ref(&b)).unwrap();
        assert_eq!(Dataset::open(&store).unwrap().n_cells(), there + 10, "{n}");
        let storage = block_on(Storage::new(&store, &HashMap::new())).unwrap();
        block_on(storage.remove("_slaf/writing")).unwrap();
        convert(&store, std::slice::from_ref(&a));
        let files = block_on(storage.list("")).unwrap().into_iter().map(|(file, _)| file);
        let files: BTreeSet<String> = files.filter(|f| !f.starts_with(VERSIONS)).collect();
        let dataset = Dataset::open(&store).unwrap();
        assert_eq!(files, dataset.manifest().files.iter().map(|f| f.path.clone()).collect(), "{n}");
        if !crashed {
            break;
        }
    }
    assert!(outcomes[0] > 5 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn appends_at_once_and_lost_answers_are_each_there_once() {
    let inputs = Inputs::new();
    let [a, b] = [inputs.write(20, 12), inputs.write(10, 14)];
    let store = memory_store();
    let (faults, _guard) = Faults::over(&store);
    convert(&store, std::slice::from_ref(&a));
    faults.add(Rule::new(Fault::LostAnswer).operation(Operation::Put).path(VERSIONS).times(1));
    append(&store, std::slice::from_ref(&b)).unwrap();
    faults.clear();
    assert_eq!(Dataset::open(&store).unwrap().n_cells(), 30);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| append(&store, std::slice::from_ref(&b)).unwrap());
        }
    });
    let dataset = Dataset::open(&store).unwrap();
    assert_eq!((dataset.n_cells(), dataset.version()), (70, 6));
    assert_eq!(dataset.verify().unwrap(), []);
    let whole = inputs.store("whole.slaf", &[a, b.clone(), b.clone(), b.clone(), b.clone(), b]);
    assert_alike(&dataset, &Dataset::open(&whole).unwrap());
}
