//! Where files for the user may be written.

use crate::temporary::folder_of;
use slaf_core::uri::plain_path;
use slaf_core::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The path of a file or folder to write, which the user may have given as a file URI.
///
/// # Errors
/// `invalid-argument` for a path inside of a store, or in an object store, and for a device or a pipe;
/// `already-exists`, unless it is to be replaced. A symbolic link that leads nowhere exists, too.
pub fn output_path(path: &Path, replace: bool) -> Result<PathBuf> {
    let plain = plain_path(path)?.into_owned();
    if plain.to_str().is_some_and(|p| p.contains("://")) {
        let what = "is not on a local disk: write it to one, and copy it there";
        return Err(Error::invalid(what).at(path.display()));
    }
    if let Some(store) = store_around(folder_of(&plain)) {
        let what = format!("lies inside of the store {}: choose another place", store.display());
        return Err(Error::invalid(what).at(plain.display()));
    }
    if plain.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        let what = "is no file but a device, a pipe or a socket, which is not replaced: choose another name";
        return Err(Error::invalid(what).at(plain.display()));
    }
    if !replace && plain.symlink_metadata().is_ok() {
        return Err(exists(&plain));
    }
    Ok(plain)
}

pub(crate) fn exists(path: &Path) -> Error {
    let what = "exists already; choose another name or pass --overwrite (overwrite=True)";
    Error::new(ErrorKind::AlreadyExists, what).at(path.display())
}

/// The store that a folder, which may not be there yet, is or lies in.
pub fn store_around(folder: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(folder).ok()?;
    let real = absolute.ancestors().find_map(|a| a.canonicalize().ok())?;
    real.ancestors().find(|a| a.join("_slaf").is_dir()).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_a_store_or_there_already_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a.slaf/_slaf/versions")).unwrap();
        std::fs::write(at("there"), "").unwrap();
        let kind = |path: &Path, replace| output_path(path, replace).map_err(|e| e.kind());
        for inside in ["a.slaf/b.h5ad", "a.slaf/_slaf/b.h5ad", "a.slaf/new/folder/b.h5ad", "a.slaf/../a.slaf/b.h5ad"] {
            for replace in [false, true] {
                let error = output_path(&at(inside), replace).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{inside}");
                assert!(error.message().contains("a.slaf"), "{error}");
            }
        }
        assert_eq!(kind(&at("there"), false), Err(ErrorKind::AlreadyExists));
        assert_eq!(kind(&at("there"), true), Ok(at("there")));
        assert_eq!(kind(&at("new"), false), Ok(at("new")));
        let uri = format!("file://localhost{}", at("a%20b").display());
        assert_eq!(kind(Path::new(&uri), false), Ok(at("a b")));
        assert_eq!(kind(Path::new("s3://bucket/a.h5ad"), true), Err(ErrorKind::InvalidArgument));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
            assert_eq!(kind(&at("link"), false), Err(ErrorKind::AlreadyExists));
            std::os::unix::fs::symlink(at("a.slaf"), at("other")).unwrap();
            assert_eq!(kind(&at("other/b.h5ad"), false), Err(ErrorKind::InvalidArgument));
            assert_eq!(kind(Path::new("/dev/null"), true), Err(ErrorKind::InvalidArgument));
        }
    }
}
