//! Genes that were not measured in some cells: appends, rewrites and versions in random order, compared
//! with a plain list of what each cell's source has.

use crate::QUIET;
use crate::manifest::rewrite;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int64Type};
use slaf::grow::{self, AppendOptions, GcOptions, GrowOptions, GrowReport, RewriteOptions};
use slaf::sampling::{Pool, Sampler, Shuffle};
use slaf::{
    ConvertOptions, Dataset, EpochPart, ErrorKind, Form, Join, Loader, LoaderOptions, MatrixKey, QueryOptions,
    Selection,
};
use slaf_ingest::MatrixEncoding;
use slaf_testing::{Random, Sample, dense, files_below, flip_bit};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The genes that panels are made of.
const POOL: u64 = 14;

/// A cell: what its source is called, which genes that has, and its value of obs.
#[derive(Clone, Debug)]
struct Cell {
    source: Option<String>,
    genes: BTreeSet<String>,
    n: i64,
}

/// A store, and what must be known of it.
struct Model {
    folder: TempDir,
    random: Random,
    store: String,
    genes: Vec<String>,
    cells: Vec<Cell>,
    made: u64,
}

impl Model {
    fn new(seed: u64) -> Model {
        let (folder, random) = (tempfile::tempdir().unwrap(), Random(seed));
        let store = folder.path().join("0.slaf").display().to_string();
        let mut model = Model { folder, random, store, genes: Vec::new(), cells: Vec::new(), made: 0 };
        let n = 1 + model.random.below(3);
        let panels: Vec<(PathBuf, Vec<Cell>, Vec<String>)> = (0..n).map(|_| model.panel()).collect();
        let join = if model.random.below(3) == 0 { Join::Reference } else { Join::Outer };
        let options = ConvertOptions { join, source_column: None, few_names: 0, ..ConvertOptions::default() };
        let inputs: Vec<&Path> = panels.iter().map(|(path, ..)| path.as_path()).collect();
        slaf::convert(&inputs, &model.store, &options, QUIET).unwrap();
        for (i, (_, cells, genes)) in panels.into_iter().enumerate() {
            model.take(cells, &genes, i == 0 || join == Join::Outer);
        }
        model.forget();
        model
    }

    fn name(&mut self, extension: &str) -> PathBuf {
        self.made += 1;
        self.folder.path().join(format!("{}.{extension}", self.made))
    }

    /// A file with some genes in any order, all of the pool now and then.
    fn panel(&mut self) -> (PathBuf, Vec<Cell>, Vec<String>) {
        let path = self.name("h5ad");
        let mut genes: Vec<u64> = (0..POOL).collect();
        for i in (1..genes.len()).rev() {
            genes.swap(i, self.random.below(i as u64 + 1) as usize);
        }
        if self.random.below(3) > 0 {
            genes.truncate(3 + self.random.below(POOL - 3) as usize);
        }
        // One that all have, so that any two can be joined.
        if !genes.contains(&0) {
            genes.push(0);
        }
        let genes: Vec<String> = genes.into_iter().map(|g| format!("g{g}")).collect();
        let mut sample = Sample::new(self.made, 1 + self.random.below(9) as usize, genes.len() as u64);
        sample.var.index.clone_from(&genes);
        sample.var.columns.clear();
        sample.obs.columns.retain(|c| c.info.name == "n");
        sample.write_h5ad(&path, MatrixEncoding::Csr).unwrap();
        let set: BTreeSet<String> = genes.iter().cloned().collect();
        let source = Some(path.display().to_string());
        let cell = |n| Cell { source: source.clone(), genes: set.clone(), n: n as i64 };
        (path, (0..sample.n_cells()).map(cell).collect(), genes)
    }

    fn take(&mut self, cells: Vec<Cell>, genes: &[String], are_kept: bool) {
        for gene in genes.iter().filter(|_| are_kept) {
            if !self.genes.contains(gene) {
                self.genes.push(gene.clone());
            }
        }
        for mut cell in cells {
            // What is left out is not there when the gene comes later.
            cell.genes.retain(|gene| self.genes.contains(gene));
            self.cells.push(cell);
        }
    }

    /// Where all genes were measured in all cells, nothing is recorded.
    fn forget(&mut self) {
        if self.cells.iter().all(|cell| self.genes.iter().all(|gene| cell.genes.contains(gene))) {
            self.cells.iter_mut().for_each(|cell| cell.source = None);
        }
    }

    fn append(&mut self) {
        let join = if self.random.below(3) == 0 { Join::Reference } else { Join::Outer };
        let source_name = (self.random.below(3) == 0).then(|| format!("night {}", self.random.below(2)));
        let panels: Vec<_> = (0..1 + self.random.below(2)).map(|_| self.panel()).collect();
        let mut inputs: Vec<String> = panels.iter().map(|(path, ..)| path.display().to_string()).collect();
        let as_store = self.random.below(3) == 0;
        if as_store {
            // A store that has a table of its own, if there are two.
            let target = self.name("slaf");
            let files: Vec<&Path> = panels.iter().map(|(path, ..)| path.as_path()).collect();
            let options = ConvertOptions { source_column: None, ..ConvertOptions::default() };
            slaf::convert(&files, target.to_str().unwrap(), &options, QUIET).unwrap();
            inputs = vec![target.display().to_string()];
        }
        let names_of_store = as_store && panels.iter().any(|(_, _, genes)| sorted(genes) != sorted(&panels[0].2));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let options = AppendOptions { join, source_name: source_name.clone(), ..AppendOptions::default() };
        let before: BTreeSet<String> = self.genes.iter().cloned().collect();
        let report = grow::append(&self.store, &inputs, &options, &GrowOptions::default(), QUIET).unwrap();
        if !as_store {
            assert_report(&report, &before, &panels, join);
        }
        for (_, mut cells, genes) in panels {
            for cell in &mut cells {
                if as_store && !names_of_store {
                    cell.source = Some(inputs[0].to_string());
                }
                cell.source = source_name.clone().or(cell.source.take());
            }
            self.take(cells, &genes, join == Join::Outer);
        }
        self.forget();
    }

    fn delete(&mut self) {
        let rest = self.random.below(3) as i64;
        let condition = format!("n % 3 = {rest}");
        let (options, grow) = (RewriteOptions::default(), GrowOptions::default());
        grow::delete_cells(&self.store, &condition, &options, &grow, QUIET).unwrap();
        let before = self.cells.len();
        self.cells.retain(|cell| cell.n % 3 != rest);
        if self.cells.len() < before {
            self.forget();
        }
    }

    fn optimize(&mut self) {
        grow::optimize(&self.store, true, &RewriteOptions::default(), &GrowOptions::default(), QUIET).unwrap();
    }

    /// Goes on with a new store of some cells.
    fn filter(&mut self) {
        let target = self.name("slaf").display().to_string();
        let dataset = Dataset::open(&self.store).unwrap();
        grow::filter(&dataset, "n % 4 > 0", &target, &ConvertOptions::default(), QUIET).unwrap();
        self.store = target;
        self.cells.retain(|cell| cell.n % 4 > 0);
        self.forget();
    }

    fn is_complete(&self) -> bool {
        self.cells.iter().all(|cell| self.genes.iter().all(|gene| cell.genes.contains(gene)))
    }

    fn compare(&self, what: &str) {
        let dataset = Dataset::open(&self.store).unwrap();
        let manifest = dataset.manifest();
        assert_eq!(dataset.verify().unwrap(), [], "{what}");
        let names = dataset.gene_ids().unwrap();
        assert_eq!(names.iter().flatten().collect::<Vec<_>>(), self.genes, "{what}");
        assert_eq!(manifest.measured.is_none(), self.is_complete(), "{what}");
        assert_eq!(manifest.writer_features.is_empty(), self.is_complete(), "{what}");
        let mask: Vec<Vec<bool>> =
            self.cells.iter().map(|cell| self.genes.iter().map(|gene| cell.genes.contains(gene)).collect()).collect();
        let all = Selection::All;
        assert_eq!(dataset.measured_mask(&all, &all).unwrap(), mask.concat(), "{what}");
        let sources = dataset.sources().unwrap();
        assert_eq!(sources.n_cells(), self.cells.len() as u64);
        for (i, cell) in (0..).zip(&self.cells) {
            assert_eq!(sources.source_of(i).unwrap().name, cell.source, "{what}, cell {i}");
        }
        let x = dense(&dataset.read(&MatrixKey::X, &all, &all).unwrap(), self.genes.len());
        let of_gene = |gene: usize| -> Vec<f64> {
            (0..self.cells.len()).filter(|cell| mask[*cell][gene]).map(|cell| x[cell][gene]).collect()
        };
        let statistics = dataset.gene_statistics(&MatrixKey::X, &all, true, QUIET).unwrap();
        let zeros = dataset.gene_statistics(&MatrixKey::X, &all, false, QUIET).unwrap();
        for gene in 0..self.genes.len() {
            let values = of_gene(gene);
            let (n, sum) = (values.len(), values.iter().sum::<f64>());
            assert_eq!((statistics.n_cells[gene], statistics.total[gene]), (n as u64, sum), "{what}");
            let mean = sum / n as f64;
            assert!(statistics.mean[gene] == mean || n == 0 && statistics.mean[gene].is_nan());
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n as f64 - 1.0);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
            assert!(n < 2 && statistics.variance[gene].is_nan() || near(statistics.variance[gene], variance), "{what}");
            assert_eq!((zeros.n_cells[gene], zeros.total[gene]), (self.cells.len() as u64, sum));
        }
        self.compare_queries(&dataset, &of_gene, what);
        if !self.cells.is_empty() {
            self.compare_loader(&dataset, &mask, what);
        }
    }

    fn compare_queries(&self, dataset: &Dataset, of_gene: &dyn Fn(usize) -> Vec<f64>, what: &str) {
        let options = QueryOptions { measured: true, ..QueryOptions::default() };
        for (gene, name) in self.genes.iter().enumerate().step_by(3) {
            let values = of_gene(gene);
            let sql = format!("SELECT COUNT({name}) AS n, COUNT(*) AS all_cells, SUM({name}) AS s FROM cells");
            let found = dataset.query_with(&sql, &options).unwrap().batches.remove(0);
            assert_eq!(found.column(0).as_primitive::<Int64Type>().value(0), values.len() as i64, "{what}");
            assert_eq!(found.column(1).as_primitive::<Int64Type>().value(0), self.cells.len() as i64);
            assert_eq!(found.column(2).is_null(0), values.is_empty());
            // The plan that is kept is another one.
            let found = dataset.query(&sql).unwrap().batches.remove(0);
            assert_eq!(found.column(0).as_primitive::<Int64Type>().value(0), self.cells.len() as i64);
            let rows = dataset.values_where_measured(&Selection::Ids(vec![gene as u64])).unwrap();
            let found: Vec<f64> =
                rows.column(2).as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect();
            assert_eq!(found, values, "{what}");
            // By the sources, too.
            let sql = format!(
                "SELECT COUNT(*) FROM cells JOIN measured('{name}') m ON source_of(cell_integer_id) = m.source_id"
            );
            let found = dataset.query(&sql).unwrap().batches.remove(0);
            assert_eq!(found.column(0).as_primitive::<Int64Type>().value(0), values.len() as i64, "{what}");
        }
        let sql = "SELECT gene_integer_id, SUM(n_cells) AS n FROM measured() GROUP BY 1";
        let mut counts = BTreeMap::new();
        for batch in dataset.query(sql).unwrap().batches {
            let numbers = |i: usize| batch.column(i).as_primitive::<Int64Type>().values().to_vec();
            counts.extend(numbers(0).into_iter().zip(numbers(1)));
        }
        let expected = (0..self.genes.len()).map(|gene| (gene as i64, of_gene(gene).len() as i64));
        assert_eq!(counts, expected.filter(|(_, n)| *n > 0).collect(), "{what}");
    }

    fn compare_loader(&self, dataset: &Dataset, mask: &[Vec<bool>], what: &str) {
        let n_genes = self.genes.len() as u64;
        // Every other gene, from the last on.
        let genes: Vec<u64> = (0..n_genes).rev().step_by(2).collect();
        for form in [Form::Sparse, Form::Dense] {
            let options = LoaderOptions { batch_size: 4, form, measured: true, ..LoaderOptions::default() };
            let mut source = dataset.source();
            source.genes = Selection::Ids(genes.clone());
            let sampler = Sampler::cover(Pool::Range(0..dataset.n_cells()), Shuffle::Full, 3);
            let mut seen = 0;
            for batch in Loader::new(vec![source], sampler, options).unwrap().epoch(&EpochPart::whole(0)).unwrap() {
                let batch = batch.unwrap();
                let row = |cell: &u64| genes.iter().map(|gene| mask[*cell as usize][*gene as usize]).collect();
                let expected: Vec<Vec<bool>> = batch.cells.iter().map(row).collect();
                assert_eq!(batch.measured.unwrap(), expected.concat(), "{what}");
                seen += batch.cells.len();
            }
            assert_eq!(seen, self.cells.len());
        }
    }
}

fn sorted(genes: &[String]) -> BTreeSet<&String> {
    genes.iter().collect()
}

fn assert_report(
    report: &GrowReport,
    before: &BTreeSet<String>,
    panels: &[(PathBuf, Vec<Cell>, Vec<String>)],
    join: Join,
) {
    assert_eq!(report.sources.len(), panels.len());
    for (source, (path, cells, genes)) in report.sources.iter().zip(panels) {
        let genes: BTreeSet<String> = genes.iter().cloned().collect();
        let matched = genes.intersection(before).count() as u64;
        let others = genes.len() as u64 - matched;
        assert_eq!((&source.name, source.n_cells), (&path.display().to_string(), cells.len() as u64));
        assert_eq!(source.genes_matched, matched);
        let (new, left_out) = if join == Join::Outer { (others, 0) } else { (0, others) };
        assert_eq!((source.genes_new, source.genes_left_out), (new, left_out));
        assert_eq!(source.genes_lacking, before.len() as u64 - matched);
    }
}

#[test]
fn what_was_measured_is_known_after_any_changes() {
    for seed in 0..5 {
        let mut model = Model::new(seed);
        model.compare(&format!("{seed}: made"));
        // What each version was, to go back to.
        let mut versions = BTreeMap::from([(1, (model.genes.clone(), model.cells.clone()))]);
        for _ in 0..8 {
            let what = match model.random.below(9) {
                0 => {
                    model.delete();
                    "delete"
                }
                1 => {
                    model.optimize();
                    "optimize"
                }
                2 => {
                    model.filter();
                    versions.clear();
                    "filter"
                }
                3 => {
                    let back = *versions.keys().next().unwrap();
                    grow::rollback(&model.store, back, &GrowOptions::default()).unwrap();
                    (model.genes, model.cells) = versions[&back].clone();
                    "rollback"
                }
                _ => {
                    model.append();
                    "append"
                }
            };
            model.compare(&format!("{seed}: {what}"));
            let version = Dataset::open(&model.store).unwrap().version();
            versions.insert(version, (model.genes.clone(), model.cells.clone()));
        }
        // What no version needs goes, and nothing else.
        let options = GcOptions { older_than: Duration::ZERO, dry_run: false };
        grow::gc(&model.store, &options, &GrowOptions::default()).unwrap();
        model.compare(&format!("{seed}: gc"));
        let root = Path::new(&model.store);
        let files = files_below(&root.join("_slaf")).unwrap();
        let named: Vec<PathBuf> =
            Dataset::open(&model.store).unwrap().manifest().files.iter().map(|f| root.join(&f.path)).collect();
        let of_table = |f: &&PathBuf| f.display().to_string().contains("_slaf/measured/");
        let there: Vec<&PathBuf> = files.iter().filter(of_table).collect();
        assert!(there.len() <= 1 && there.iter().all(|f| named.contains(f)), "{there:?}");
    }
}

/// A store of two panels, and its address.
fn two_panels(folder: &Path) -> String {
    let store = folder.join("two.slaf").display().to_string();
    let options = ConvertOptions { source_column: None, ..ConvertOptions::default() };
    let inputs = [panel(folder, "a", 20, &["g0", "g1", "g2", "g3"]), panel(folder, "b", 30, &["g2", "g4", "g3"])];
    slaf::convert(&[&inputs[0], &inputs[1]], &store, &options, QUIET).unwrap();
    store
}

fn panel(folder: &Path, name: &str, n_cells: usize, genes: &[&str]) -> PathBuf {
    let path = folder.join(format!("{name}.h5ad"));
    let mut sample = Sample::new(n_cells as u64, n_cells, genes.len() as u64);
    sample.var.index = genes.iter().map(ToString::to_string).collect();
    sample.var.columns.clear();
    sample.write_h5ad(&path, MatrixEncoding::Csr).unwrap();
    path
}

fn append(store: &str, input: &Path, allow_disjoint: bool) -> slaf::Result<GrowReport> {
    let options = AppendOptions { allow_disjoint, ..AppendOptions::default() };
    grow::append(store, &[input.to_str().unwrap()], &options, &GrowOptions::default(), QUIET)
}

#[test]
fn known_genes_write_no_new_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = two_panels(folder.path());
    let entry = |store: &str| Dataset::open(store).unwrap().manifest().measured.clone().unwrap();
    let first = entry(&store);
    assert_eq!((first.n_sets, first.sources.len()), (2, 2));
    append(&store, &folder.path().join("a.h5ad"), false).unwrap();
    let second = entry(&store);
    assert_eq!((&second.path, second.n_sets, second.sources.len()), (&first.path, 2, 3));
    append(&store, &panel(folder.path(), "c", 5, &["g4", "g0"]), false).unwrap();
    let third = entry(&store);
    assert!(third.path != first.path && third.n_sets == 3, "{third:?}");
    let info = Dataset::open(&store).unwrap().info();
    assert_eq!(info.measured.as_deref(), Some("3 sets of genes in 4 sources"));
}

#[test]
fn sources_without_a_gene_in_common_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = two_panels(folder.path());
    let other = panel(folder.path(), "c", 5, &["ENSG1", "ENSG2"]);
    let error = append(&store, &other, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    for part in ["none of its 2 genes", "\"g0\"", "\"ENSG1\"", "allow_disjoint=True"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(error.location().unwrap().ends_with("c.h5ad"), "{error}");
    assert_eq!(Dataset::open(&store).unwrap().version(), 1);
    let report = append(&store, &other, true).unwrap();
    assert_eq!((report.n_cells, report.n_genes), (55, 7));
    let text = report.to_string();
    assert!(text.contains("0 of its 2 match, 2 are new; 5 of the store's were not measured in its cells"), "{text}");
}

#[test]
fn writers_that_do_not_know_the_table_are_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = two_panels(folder.path());
    assert_eq!(Dataset::open(&store).unwrap().manifest().writer_features, ["measured"]);
    // As a later feature is to this version.
    let manifest = files_below(&Path::new(&store).join("_slaf/versions")).unwrap().remove(0);
    rewrite(&manifest, |m| m["writer_features"] = vec!["measured", "quantum"].into());
    let error = append(&store, &folder.path().join("a.h5ad"), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    assert!(error.message().contains("\"quantum\""), "{error}");
    Dataset::open(&store).unwrap();
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = two_panels(folder.path());
    let manifest = files_below(&Path::new(&store).join("_slaf/versions")).unwrap().remove(0);
    let good = std::fs::read(&manifest).unwrap();
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 9] = [
        ("measured", |m| m["writer_features"] = Vec::<String>::new().into()),
        ("measured.path", |m| m["measured"]["path"] = "_slaf/measured/other.arrow".into()),
        ("sources.1.first_cell", |m| m["measured"]["sources"][1]["first_cell"] = 21.into()),
        ("sources.1.n_cells", |m| m["measured"]["sources"][1]["n_cells"] = 31.into()),
        ("sources.0.n_cells", |m| m["measured"]["sources"][0]["n_cells"] = 0.into()),
        ("sources.0.set", |m| m["measured"]["sources"][0]["set"] = 2.into()),
        ("n_sets", |m| m["measured"]["n_sets"] = 3.into()),
        ("sources", |m| drop(m["measured"]["sources"].as_array_mut().unwrap().pop())),
        ("sources.1", |m| {
            let name = m["measured"]["sources"][0]["name"].clone();
            m["measured"]["sources"][1]["name"] = name;
            m["measured"]["sources"][1]["set"] = 0.into();
        }),
    ];
    for (place, change) in changes {
        std::fs::write(&manifest, &good).unwrap();
        rewrite(&manifest, change);
        let error = Dataset::open(&store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}: {error}");
        assert!(error.to_string().contains(place), "{place}: {error}");
    }
    std::fs::write(&manifest, &good).unwrap();
    assert_eq!(Dataset::open(&store).unwrap().verify().unwrap(), []);
}

#[test]
fn values_that_nobody_measured_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("a.slaf").display().to_string();
    let options = ConvertOptions { source_column: None, ..ConvertOptions::default() };
    slaf::convert(&[&panel(folder.path(), "a", 20, &["g0", "g1", "g2"])], &store, &options, QUIET).unwrap();
    append(&store, &panel(folder.path(), "b", 30, &["g2", "g4", "g3"]), false).unwrap();
    let manifest = Path::new(&store).join(format!("_slaf/versions/{:020}.json", 2));
    rewrite(&manifest, |m| {
        m["measured"]["sources"][0]["set"] = 1.into();
        m["measured"]["sources"][1]["set"] = 0.into();
    });
    let damage = Dataset::open(&store).unwrap().verify().unwrap();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert!(damage[0].reason.contains("no source of these cells measured it"), "{damage:?}");
}

#[test]
fn damage_of_the_table_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = two_panels(folder.path());
    let path = Dataset::open(&store).unwrap().manifest().measured.as_ref().unwrap().path.clone();
    let file = Path::new(&store).join(&path);
    let good = std::fs::read(&file).unwrap();
    let mut random = Random(4);
    for _ in 0..30 {
        std::fs::write(&file, &good).unwrap();
        flip_bit(&file, random.below(good.len() as u64), random.below(8) as u8).unwrap();
        let dataset = Dataset::open(&store).unwrap();
        assert_eq!(dataset.measured().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(dataset.verify().unwrap()[0].file, path);
        // What does not ask for it is as it was.
        dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(Dataset::open(&store).unwrap().measured().unwrap_err().kind(), ErrorKind::Corrupt);
    let options = AppendOptions::default();
    let input = folder.path().join("a.h5ad");
    let error = grow::append(&store, &[input.to_str().unwrap()], &options, &GrowOptions::default(), QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn loaders_refuse_masks_of_what_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&two_panels(folder.path())).unwrap();
    let sampler = || Sampler::cover(Pool::Range(0..50), Shuffle::Full, 0);
    let options = LoaderOptions { measured: true, form: Form::Tokens, ..LoaderOptions::default() };
    assert!(Loader::new(vec![dataset.source()], sampler(), options).is_err());
    let options = LoaderOptions { measured: true, matrix: MatrixKey::RawX, ..LoaderOptions::default() };
    assert!(Loader::new(vec![dataset.source()], sampler(), options).is_err());
    let batch = Loader::new(vec![dataset.source()], sampler(), LoaderOptions::default()).unwrap();
    assert!(batch.epoch(&EpochPart::whole(0)).unwrap().all(|b| b.unwrap().measured.is_none()));
}
