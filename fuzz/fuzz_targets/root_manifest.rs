#![no_main]

use libfuzzer_sys::fuzz_target;
use slaf::{Dataset, Selection};
use std::path::Path;

const FILE: &str = "_slaf/versions/00000000000000000001.json";
const KEY: &[u8] = b"\"checksum\": \"";

/// Gives a root manifest the checksum of its content, so that what it says is looked at.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if let Some(at) = bytes.windows(KEY.len()).position(|w| w == KEY).map(|at| at + KEY.len())
        && out.len() >= at + 64
    {
        out[at..at + 64].fill(b'0');
        let hash = blake3::hash(&out).to_hex();
        out[at..at + 64].copy_from_slice(hash.as_bytes());
    }
    out
}

/// Opens a store of which there is only the root manifest, and uses it.
fn open(folder: &Path) {
    let Ok(dataset) = Dataset::open(folder.to_str().expect("a path in UTF-8")) else { return };
    let (n_cells, n_genes) = (dataset.n_cells(), dataset.n_genes());
    assert!(dataset.obs(None, &Selection::All).is_err(), "{n_cells} cells without a table");
    assert!(dataset.var(None, &Selection::All).is_err(), "{n_genes} genes without a table");
    assert!(dataset.verify().map_or(true, |problems| !problems.is_empty()), "nothing is missing");
}

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(FILE);
    std::fs::create_dir_all(folder.path().join("_slaf/versions")).expect("folders");
    for content in [bytes, &with_checksum(bytes)] {
        std::fs::write(&file, content).expect("a written file");
        open(folder.path());
    }
});
