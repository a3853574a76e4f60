//! What lies at a path that is no store, and how it becomes one.

use super::inputs::open_any;
use super::slafdb;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::OpenOptions;
use slaf_lance::Storage;
use slaf_lance::runtime::block_on;
use std::path::Path;

/// Opening a larger text file reads much of it; such a file is told by its name alone.
const MAX_TEXT: u64 = 64 << 20;

/// Refuses addresses of the web, which no object store answers.
///
/// # Errors
/// `not-a-store`.
pub(crate) fn refuse_web(uri: &str) -> Result<()> {
    match uri.split_once("://") {
        Some(("http" | "https" | "ftp", _)) => {
            let message = "an address of the web, and not of a store: download the file, and convert it \
                           with `slaf convert FILE OUTPUT.slaf`; stores open from a folder, file://, s3://, \
                           gs:// and az://";
            Err(Error::new(ErrorKind::NotAStore, message).at(uri))
        }
        _ => Ok(()),
    }
}

/// Adds to a `not-a-store` what is there instead, if it is not a store that was begun.
pub(crate) fn explain(error: Error, storage: &Storage) -> Error {
    let message = match storage.local() {
        Some(path) if path.is_file() || (!path.join("_slaf").is_dir() && !is_empty(path)) => of_path(path),
        Some(_) => return error,
        None => match block_on(in_bucket(storage)) {
            Ok(Some(message)) => message.to_owned(),
            Ok(None) => return error,
            Err(e) => return e,
        },
    };
    Error::new(ErrorKind::NotAStore, message).at(storage.uri())
}

async fn in_bucket(storage: &Storage) -> Result<Option<&'static str>> {
    Ok(if storage.is_file().await? {
        Some("a single file and no store: download it, and convert it with `slaf convert FILE OUTPUT.slaf`")
    } else if slafdb::is_at(storage).await? {
        Some(
            "a data set of slafdb, which is not read in place: download the folder, and convert it with \
             `slaf convert FOLDER s3://.../OUTPUT.slaf`",
        )
    } else {
        None
    })
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn of_path(path: &Path) -> String {
    if let Ok(Some((files, _))) = slaf_ingest::h5ads_in(path) {
        return format!("a folder of {} h5ad files, {}", files.len(), advice(path));
    }
    // Opening it would unpack all of it.
    if slaf_ingest::is_packed_hdf5(path) {
        return format!("an HDF5 file packed with gzip, {}", advice(path));
    }
    let is_large = || std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > MAX_TEXT);
    if is_text(path) && is_large() {
        return format!("a text file, {}", advice(path));
    }
    match open_any(path, &OpenOptions::default()) {
        Ok(input) => format!("{}, {}", input.description().format, advice(path)),
        // Found, and refused: the reader of inputs says what it is.
        Err(e) => format!("not a SLAF store: {}", e.message()),
    }
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    extension.is_some_and(|e| ["csv", "tsv", "txt", "gz", "mtx"].iter().any(|t| e == *t))
}

fn advice(path: &Path) -> String {
    let shown = path.display();
    let name = path.file_stem().map_or_else(|| "output".into(), |n| n.to_string_lossy());
    let name = name.strip_suffix(".h5ad").unwrap_or(&name).to_owned();
    format!(
        "and not a SLAF store: make one with `slaf convert {shown} {name}.slaf` or \
         SLAFConverter().convert(\"{shown}\", \"{name}.slaf\")"
    )
}
