//! Files on a local disk that survive a power loss.

use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A file system writes its journal once for all that wait for it together: syncing twelve small files one after
/// the other takes some four times as long.
const AT_ONCE: usize = 12;

/// Syncs files below a root, and then the folders that hold their names, up to the one that holds the root.
///
/// # Errors
/// The first one, with its path.
pub(crate) fn sync(root: &Path, files: &[&str]) -> Result<()> {
    let files: Vec<PathBuf> = files.iter().map(|file| root.join(file)).collect();
    let above = files.iter().flat_map(|file| file.ancestors().skip(1).take_while(|a| a.starts_with(root)));
    let folders: BTreeSet<&Path> = above.chain(root.parent()).collect();
    all(&files)?;
    all(&folders.into_iter().rev().collect::<Vec<_>>())
}

fn all<P: AsRef<Path> + Sync>(paths: &[P]) -> Result<()> {
    let one = |path: &P| {
        let path = path.as_ref();
        File::open(path).and_then(|file| file.sync_all()).at(path.display())
    };
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(path)?;
        }
        Ok(())
    };
    let done = thread::scope(|scope| {
        let helpers = 1..AT_ONCE.min(paths.len());
        // Where there are no threads to be had, this one does all.
        let helpers = helpers.map_while(|_| thread::Builder::new().spawn_scoped(scope, some).ok());
        let helpers: Vec<_> = helpers.collect();
        let own: Result<()> = some();
        helpers.into_iter().fold(own, |done, helper| {
            let stopped = |_| Err(Error::new(ErrorKind::Internal, "a thread that syncs files stopped"));
            done.and(helper.join().unwrap_or_else(stopped))
        })
    });
    match done {
        // One file at a time may be within the limit.
        Err(e) if e.kind() == ErrorKind::TooManyFiles => paths.iter().try_for_each(one),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_what_cannot_be_synced_is_named() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..40).map(|i| format!("a/b{}/{i}", i % 3)).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in &names {
            std::fs::create_dir_all(root.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(name), name).unwrap();
        }
        sync(root.path(), &names).unwrap();
        sync(root.path(), &[]).unwrap();
        names.insert(20, "a/missing");
        let error = sync(root.path(), &names).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.location().unwrap().ends_with("a/missing"), "{error}");
    }
}
