//! What can be converted.

use super::slafdb;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Input, OpenOptions};
use std::path::Path;

/// Opens whatever can be converted: data sets of `slafdb`, and the formats of [`slaf_ingest`].
///
/// # Errors
/// `unsupported-input` for a store of this library; otherwise those of [`slaf_ingest::open`].
pub(crate) fn open_any(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    if path.join("_slaf").is_dir() {
        let message = "a SLAF store already: open it as it is, or export it to h5ad to convert it again";
        return Err(Error::new(ErrorKind::UnsupportedInput, message).at(path.display()));
    }
    match slafdb::open(path, options)? {
        Some(input) => Ok(input),
        None => slaf_ingest::open(path, options),
    }
}
