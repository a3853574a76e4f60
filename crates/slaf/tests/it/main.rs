//! Tests of the store through its public API.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod append;
mod byte_rows;
mod cell_names;
mod convert;
mod damage;
mod distributed;
mod grow;
mod heads;
mod index;
mod loader;
mod manifest;
mod matrix;
mod measured;
mod outputs;
mod place;
mod query;
mod read;
mod real;
mod rewrite;
mod seam;
mod slafdb;
mod union;
mod writers;

use slaf::{ConvertOptions, Dataset};
use slaf_ingest::MatrixEncoding;
use slaf_testing::Sample;
use std::path::PathBuf;
use tempfile::TempDir;

/// Goes on to the end.
const QUIET: slaf::Progress<'static> = &|_| true;

/// A folder with a sample as h5ad and as a store.
struct Fixture {
    folder: TempDir,
    sample: Sample,
}

impl Fixture {
    fn new(seed: u64, n_cells: usize, n_genes: u64) -> Fixture {
        let fixture = Fixture { folder: tempfile::tempdir().unwrap(), sample: Sample::new(seed, n_cells, n_genes) };
        fixture.sample.write_h5ad(&fixture.h5ad(), MatrixEncoding::Csr).unwrap();
        slaf::convert(&[&fixture.h5ad()], fixture.store().to_str().unwrap(), &ConvertOptions::default(), QUIET)
            .unwrap();
        fixture
    }

    fn h5ad(&self) -> PathBuf {
        self.folder.path().join("sample.h5ad")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("sample.slaf")
    }

    fn open(&self) -> slaf::Result<Dataset> {
        Dataset::open(self.store().to_str().unwrap())
    }

    fn dataset(&self) -> Dataset {
        self.open().unwrap()
    }
}

/// The folder of real data, if it is there.
fn shared_data() -> Option<PathBuf> {
    let folder = match std::env::var_os("SLAF_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from("../../../shared/data"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no real data at {}", folder.display());
    None
}
