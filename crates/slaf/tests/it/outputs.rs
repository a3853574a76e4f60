//! What is written for the user replaces nothing unasked, and lands where the user says.

use crate::QUIET;
use slaf::{ConvertOptions, Dataset, ErrorKind, ExportFormat, ExportOptions, ProgressEvent, export};
use slaf_ingest::MatrixEncoding;
use slaf_testing::{Sample, files_below};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FORMATS: [ExportFormat; 2] = [ExportFormat::H5ad, ExportFormat::Mtx10x];

struct Place {
    folder: TempDir,
    dataset: Dataset,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (input, store) = (folder.path().join("in.h5ad"), folder.path().join("a.slaf"));
        Sample::new(1, 20, 12).write_h5ad(&input, MatrixEncoding::Csr).unwrap();
        slaf::convert(&[&input], store.to_str().unwrap(), &ConvertOptions::default(), QUIET).unwrap();
        let dataset = Dataset::open(store.to_str().unwrap()).unwrap();
        Place { folder, dataset }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(
        &self,
        to: &Path,
        format: ExportFormat,
        overwrite: bool,
        progress: slaf::Progress<'_>,
    ) -> slaf::Result<()> {
        let options = ExportOptions { overwrite, ..ExportOptions::default() };
        export(&self.dataset, to, format, &options, progress)
    }

    fn convert(&self, input: &str, output: &str) -> slaf::Result<()> {
        slaf::convert(&[Path::new(input)], output, &ConvertOptions::default(), QUIET).map(drop)
    }

    /// Nothing but the store, the input, and these.
    fn assert_holds(&self, more: &[&str]) {
        let names =
            std::fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n != "a.slaf" && n != "in.h5ad").collect();
        names.sort();
        assert_eq!(names, more);
    }
}

#[test]
#[cfg(unix)]
fn a_link_that_leads_nowhere_is_not_replaced() {
    for format in FORMATS {
        let place = Place::new();
        let link = place.at("link");
        std::os::unix::fs::symlink(place.at("nowhere"), &link).unwrap();
        let error = place.export(&link, format, false, QUIET).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        place.assert_holds(&["link"]);
    }
    let place = Place::new();
    std::os::unix::fs::symlink(place.at("nowhere"), place.at("link")).unwrap();
    let error = place.export(&place.at("link"), ExportFormat::Mtx10x, true, QUIET).unwrap_err();
    assert!(error.kind() == ErrorKind::AlreadyExists && error.message().contains("not a 10x folder"), "{error}");
}

#[test]
fn what_comes_meanwhile_is_not_replaced() {
    for format in FORMATS {
        for folder in [false, true] {
            let place = Place::new();
            let target = place.at("target");
            let comes = |_: ProgressEvent| {
                match folder {
                    true => std::fs::create_dir_all(&target).unwrap(),
                    false => std::fs::write(&target, "mine").unwrap(),
                }
                true
            };
            let error = place.export(&target, format, false, &comes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{format:?} {folder}: {error}");
            assert!(error.to_string().contains("--overwrite"), "{error}");
            match folder {
                true => assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0),
                false => assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine"),
            }
            place.assert_holds(&["target"]);
        }
    }
}

#[test]
fn only_a_10x_folder_is_replaced_by_one() {
    let place = Place::new();
    let target = place.at("target");
    place.export(&target, ExportFormat::Mtx10x, true, QUIET).unwrap();
    place.export(&target, ExportFormat::Mtx10x, true, QUIET).unwrap();
    let comes = |e: ProgressEvent| {
        if e.cells_done == 20 {
            std::fs::write(target.join("thesis.tex"), "mine").unwrap();
        }
        true
    };
    let error = place.export(&target, ExportFormat::Mtx10x, true, &comes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(files_below(&target).unwrap().len(), 4);
    place.assert_holds(&["target"]);
}

#[test]
fn nothing_is_written_into_a_store() {
    let place = Place::new();
    let before = files_below(&place.at("a.slaf")).unwrap();
    for inside in ["a.slaf/b", "a.slaf/_slaf/b", "a.slaf/new/b"] {
        let target = place.at(inside);
        let mut errors = Vec::from(FORMATS.map(|f| place.export(&target, f, true, QUIET).unwrap_err()));
        errors.push(place.convert(place.at("in.h5ad").to_str().unwrap(), target.to_str().unwrap()).unwrap_err());
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.message().contains("inside of the store") && error.message().contains("a.slaf"), "{error}");
        }
    }
    assert_eq!(files_below(&place.at("a.slaf")).unwrap(), before);
}

#[test]
fn file_uris_are_inputs_outputs_and_stores() {
    let place = Place::new();
    let uri = |before: &str, name: &str| format!("{before}{}/{name}", place.folder.path().display());
    std::fs::copy(place.at("in.h5ad"), place.at("in put.h5ad")).unwrap();
    place.convert(&uri("file://localhost", "in%20put.h5ad"), &uri("file:", "b%20c.slaf")).unwrap();
    for before in ["file://", "file://localhost", "file:", "FILE://"] {
        let dataset = Dataset::open(&uri(before, "b%20c.slaf/")).unwrap();
        assert_eq!(dataset.n_cells(), 20);
        dataset.obs(None, &slaf::Selection::All).unwrap();
    }
    place.export(Path::new(&uri("file:", "d%20e.h5ad")), ExportFormat::H5ad, false, QUIET).unwrap();
    place.assert_holds(&["b c.slaf", "d e.h5ad", "in put.h5ad"]);
    for error in [
        Dataset::open("file://server/a.slaf").unwrap_err(),
        place.convert("file://server/a.h5ad", &uri("", "new.slaf")).unwrap_err(),
        place.convert(&uri("", "in.h5ad"), "file://server/a.slaf").unwrap_err(),
        place.export(Path::new("file://server/a.h5ad"), ExportFormat::H5ad, false, QUIET).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().contains("\"server\""), "{error}");
    }
}
