//! Targets, losses, interruption, and the way back to h5ad.

use crate::{Fixture, QUIET};
use slaf::{ConvertOptions, Dataset, ErrorKind, ExportFormat, ExportOptions, MatrixKey, Selection};
use slaf_ingest::MatrixEncoding;
use slaf_testing::Sample;
use std::sync::atomic::{AtomicU32, Ordering};

fn convert(fixture: &Fixture, overwrite: bool) -> slaf::Result<slaf::ConvertReport> {
    let options = ConvertOptions { overwrite, ..ConvertOptions::default() };
    slaf::convert(&[&fixture.h5ad()], fixture.store().to_str().unwrap(), &options, QUIET)
}

#[test]
fn an_existing_target_is_refused_or_replaced() {
    let fixture = Fixture::new(1, 40, 20);
    assert_eq!(convert(&fixture, false).unwrap_err().kind(), ErrorKind::AlreadyExists);
    Sample::new(9, 25, 12).write_h5ad(&fixture.folder.path().join("other.h5ad"), MatrixEncoding::Dense).unwrap();
    std::fs::rename(fixture.folder.path().join("other.h5ad"), fixture.h5ad()).unwrap();
    convert(&fixture, true).unwrap();
    let dataset = fixture.dataset();
    assert_eq!((dataset.n_cells(), dataset.n_genes(), dataset.version()), (25, 12, 2));
    assert_eq!(dataset.versions().unwrap().len(), 1);
    let tables: Vec<_> = std::fs::read_dir(fixture.store()).unwrap().collect();
    assert_eq!(tables.len(), 4, "three tables and _slaf: {tables:?}");
}

#[test]
fn a_folder_that_is_no_store_is_never_overwritten() {
    let fixture = Fixture::new(1, 10, 5);
    let folder = fixture.folder.path().join("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("thesis.txt"), "all my work").unwrap();
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    let error = slaf::convert(&[&fixture.h5ad()], folder.to_str().unwrap(), &options, QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(folder.join("thesis.txt").exists());
}

#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let fixture = Fixture::new(2, 200, 30);
    let target = fixture.folder.path().join("late.slaf");
    // Interrupted at the first, second, ... report of progress, until one conversion runs through.
    for limit in 0.. {
        let seen = AtomicU32::new(0);
        let stop = |_| seen.fetch_add(1, Ordering::Relaxed) < limit;
        let result = slaf::convert(&[&fixture.h5ad()], target.to_str().unwrap(), &ConvertOptions::default(), &stop);
        match result {
            Ok(_) => {
                assert!(limit > 2);
                break;
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Interrupted);
                assert!(!target.exists(), "after {limit} reports");
            }
        }
    }
}

#[test]
fn an_interrupted_overwrite_keeps_the_old_store() {
    let fixture = Fixture::new(3, 60, 20);
    let before = slaf_testing::files_below(&fixture.store()).unwrap();
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    let stop = |e: slaf::ProgressEvent| e.phase != "committing";
    let error = slaf::convert(&[&fixture.h5ad()], fixture.store().to_str().unwrap(), &options, &stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(slaf_testing::files_below(&fixture.store()).unwrap(), before);
    assert_eq!(fixture.dataset().n_cells(), 60);
}

#[test]
fn every_encoding_of_x_gives_the_same_store() {
    let sample = Sample::new(4, 70, 33);
    let folder = tempfile::tempdir().unwrap();
    for encoding in [MatrixEncoding::Csr, MatrixEncoding::Csc, MatrixEncoding::Dense] {
        let path = folder.path().join(format!("{}.h5ad", encoding.name()));
        sample.write_h5ad(&path, encoding).unwrap();
        let store = path.with_extension("slaf");
        slaf::convert(&[&path], store.to_str().unwrap(), &ConvertOptions::default(), QUIET).unwrap();
        let dataset = Dataset::open(store.to_str().unwrap()).unwrap();
        assert_eq!(dataset.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap(), sample.x);
        assert_eq!(dataset.matrix_info(&MatrixKey::X).unwrap().encoding, encoding);
    }
}

#[test]
fn export_and_convert_again_give_the_same_store() {
    let fixture = Fixture::new(5, 50, 25);
    let (dataset, out) = (fixture.dataset(), fixture.folder.path().join("out.h5ad"));
    slaf::export(&dataset, &out, ExportFormat::H5ad, &ExportOptions::default(), QUIET).unwrap();
    let again = slaf::export(&dataset, &out, ExportFormat::H5ad, &ExportOptions::default(), QUIET).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let store = fixture.folder.path().join("again.slaf");
    slaf::convert(&[&out], store.to_str().unwrap(), &ConvertOptions::default(), QUIET).unwrap();
    let copy = Dataset::open(store.to_str().unwrap()).unwrap();
    for frame in [Dataset::obs, Dataset::var] {
        assert_eq!(frame(&copy, None, &Selection::All).unwrap(), frame(&dataset, None, &Selection::All).unwrap());
    }
    let read = |d: &Dataset| d.read(&MatrixKey::X, &Selection::All, &Selection::All).unwrap();
    assert_eq!(read(&copy), read(&dataset));
}

#[test]
fn without_by_gene_all_answers_are_the_same() {
    let fixture = Fixture::new(6, 80, 30);
    let store = fixture.folder.path().join("lean.slaf");
    let options = ConvertOptions { by_gene: false, ..ConvertOptions::default() };
    let report = slaf::convert(&[&fixture.h5ad()], store.to_str().unwrap(), &options, QUIET).unwrap();
    assert_eq!(report.bits_per_nonzero_by_gene, None);
    let (lean, full) = (Dataset::open(store.to_str().unwrap()).unwrap(), fixture.dataset());
    assert!(lean.manifest().tables.by_gene.is_none() && full.manifest().tables.by_gene.is_some());
    let genes = Selection::Ids(vec![3, 29, 3]);
    let read = |d: &Dataset| d.read(&MatrixKey::X, &Selection::All, &genes).unwrap();
    assert_eq!(read(&lean), read(&full));
    assert_eq!(lean.gene_stats().unwrap().total, full.gene_stats().unwrap().total);
}

#[test]
fn what_is_no_single_cell_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let convert = |name: &str| {
        let target = folder.path().join("x.slaf");
        let result =
            slaf::convert(&[&folder.path().join(name)], target.to_str().unwrap(), &ConvertOptions::default(), QUIET);
        assert!(!target.exists());
        result.unwrap_err()
    };
    assert_eq!(convert("absent.h5ad").kind(), ErrorKind::NotFound);
    std::fs::write(folder.path().join("photo.h5ad"), b"\x89PNG\r\n\x1a\n").unwrap();
    let error = convert("photo.h5ad");
    assert!(error.to_string().contains("photo.h5ad"), "{error}");
}
