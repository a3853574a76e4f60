//! What is not read, and how the errors of the HDF5 parser become ours.

use slaf_core::{Error, ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Groups within each other. Readers of nested elements call themselves for each, anndata in about
/// eight frames of Python's thousand.
pub(crate) const MAX_DEPTH: usize = 100;

/// Runs `f`, a call of the HDF5 parser: its errors get our kinds, and a panic over a damaged file
/// becomes an error, too.
pub(super) fn guard<T>(path: &str, f: impl FnOnce() -> Result<T, hdf5_pure::Error>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(hdf5_pure::Error::Io(e))) => Err(Error::from(e).at(path)),
        Ok(Err(e)) => {
            let error = match is_foreign(&e) {
                true => unsupported(format!("HDF5: {e}: not read by this version; rewrite the file with h5repack")),
                false => Error::malformed(format!("HDF5: {e}")),
            };
            Err(error.with_source(e).at(path))
        }
        Err(_) => Err(Error::malformed("HDF5: the structure of the file is damaged").at(path)),
    }
}

/// Whether the parser met a form of storage that it does not know, such as those that HDF5 2.0
/// added, and not damage.
fn is_foreign(e: &hdf5_pure::Error) -> bool {
    use hdf5_pure::{Error as H5, FormatError as F};
    let H5::Format(e) = e else { return false };
    match e {
        F::UnsupportedMessage(_)
        | F::UnsupportedFileSpaceInfoVersion(_)
        | F::UnsupportedFilteredHeapObject
        | F::UnsupportedVirtualLayout
        | F::UnsupportedExternalStorage
        | F::UnsupportedSohmReference
        | F::UnsupportedFilter(_)
        | F::UnsupportedZfp(_)
        | F::UnsupportedFillValueVersion(_) => true,
        // Versions that are not out yet when this is written; others are damage.
        F::UnsupportedVersion(v) => (4..=8).contains(v),
        F::InvalidDatatypeClass(v) => (11..=13).contains(v),
        F::InvalidLayoutVersion(v) => (5..=9).contains(v),
        F::InvalidChunkIndexType(v) => (6..=12).contains(v),
        _ => false,
    }
}

/// An element that is recognised and not supported.
pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedInput, message)
}

pub(crate) fn to_usize(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::malformed(format!("{n} is more than memory can hold")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdf5_pure::FormatError;

    #[test]
    fn newer_forms_are_not_called_damaged() {
        let kind = |e| guard("/x", || Err::<(), _>(hdf5_pure::Error::Format(e))).unwrap_err().kind();
        assert_eq!(kind(FormatError::InvalidLayoutVersion(6)), ErrorKind::UnsupportedInput);
        assert_eq!(kind(FormatError::InvalidDatatypeClass(11)), ErrorKind::UnsupportedInput);
        assert_eq!(kind(FormatError::InvalidLayoutVersion(99)), ErrorKind::MalformedInput);
    }
}
