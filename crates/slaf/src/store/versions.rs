//! The committed versions of a store: a file of a root manifest each.

use crate::store::manifest::{LINEAGE, Manifest};
use crate::store::manifest_check::{check, version_of};
use bytes::Bytes;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_lance::Storage;
use std::fs::{File, TryLockError};
use std::time::Duration;

const FOLDER: &str = "_slaf/versions";
/// The number of a version that was the newest.
pub(crate) const HINT: &str = "_slaf/versions/newest";
/// The first version that is told so.
const HINT_FROM: u64 = 500;
/// Files that an object store lists in one answer.
const PAGE: usize = 1000;

/// The path of the root manifest of a version.
pub(crate) fn path(version: u64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

/// The version that a file is of.
fn version_in(file: &str) -> Option<u64> {
    version_of(file.strip_prefix(FOLDER)?.strip_prefix('/')?)
}

/// The committed versions, oldest first. A file that is no version is not one.
pub(crate) async fn versions(storage: &Storage) -> Result<Vec<u64>> {
    let files = storage.list(FOLDER).await?;
    let mut versions: Vec<u64> = files.iter().filter_map(|(f, _)| version_in(f)).collect();
    versions.sort_unstable();
    Ok(versions)
}

/// The newest version, whatever their number: where there are many in an object store, they are not all
/// listed.
pub(crate) async fn newest(storage: &Storage) -> Result<Option<u64>> {
    let all = match storage.local() {
        Some(_) => return Ok(versions(storage).await?.last().copied()),
        None => storage.list_some(FOLDER, None, PAGE).await?,
    };
    if all.len() < PAGE {
        return Ok(all.iter().filter_map(|f| version_in(f)).max());
    }
    // A version that is there, with none behind it, is the newest, whoever said so.
    if let Some(hint) = hint(storage).await? {
        let file = path(hint);
        let behind = storage.list_some(FOLDER, Some(&file), usize::MAX);
        let (behind, there) = futures::future::try_join(behind, storage.exists(&file)).await?;
        let newest = behind.iter().filter_map(|f| version_in(f)).max();
        if let Some(newest) = newest.or(there.then_some(hint)) {
            return Ok(Some(newest));
        }
    }
    Ok(versions(storage).await?.last().copied())
}

/// The version that was the newest when somebody said so.
async fn hint(storage: &Storage) -> Result<Option<u64>> {
    match storage.read(HINT).await {
        Ok(text) => Ok(std::str::from_utf8(&text).ok().and_then(|t| t.trim().parse().ok())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Says that a version is the newest, where there may be many. Who reads it looks for newer ones.
async fn give_hint(storage: &Storage, version: u64) {
    if storage.local().is_none() && version >= HINT_FROM {
        // Without it, all are listed.
        let _ = storage.write(HINT, Bytes::from(version.to_string())).await;
    }
}

/// Loads a version, the newest one by default.
pub(crate) async fn load(storage: &Storage, version: Option<u64>) -> Result<Manifest> {
    if storage.local().is_some_and(|path| path.is_file()) {
        return Err(other_than_a_store(storage));
    }
    for _ in 0..10 {
        match load_once(storage, version).await {
            // Somebody has just replaced what was the newest version.
            Err(e) if e.kind() == ErrorKind::NotFound && version.is_none() && newest(storage).await?.is_some() => {}
            done => return done,
        }
    }
    load_once(storage, version).await
}

async fn load_once(storage: &Storage, version: Option<u64>) -> Result<Manifest> {
    let Some(newest) = newest(storage).await? else { return Err(no_store(storage).await) };
    let wanted = version.unwrap_or(newest);
    if wanted < newest && read(storage, newest).await.is_ok_and(|m| m.expired.contains(&wanted)) {
        return Err(Error::new(ErrorKind::NotFound, format!("version {wanted} was removed by gc")).at(storage.uri()));
    }
    match read(storage, wanted).await {
        Err(e) if e.kind() == ErrorKind::NotFound && version.is_some() => {
            let oldest = versions(storage).await?.first().copied().unwrap_or(newest);
            let what = format!("no version {wanted}; there are versions {oldest} to {newest}");
            Err(Error::new(ErrorKind::NotFound, what).at(storage.uri()))
        }
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            for &older in versions(storage).await?.iter().rev().filter(|&&v| v < wanted) {
                if read(storage, older).await.is_ok() {
                    let place = e.location().unwrap_or(storage.uri()).to_string();
                    return Err(Error::corrupt(format!(
                        "{}; version {older} is intact: open it with version={older}",
                        e.message()
                    ))
                    .at(place));
                }
            }
            Err(e)
        }
        other => other,
    }
}

pub(crate) async fn read(storage: &Storage, version: u64) -> Result<Manifest> {
    let file = path(version);
    let bytes = storage.read(&file).await?;
    let manifest = Manifest::from_bytes(&bytes).at(storage.full(&file))?;
    if manifest.version != version {
        return Err(Error::corrupt(format!("holds version {}", manifest.version)).at(storage.full(&file)));
    }
    check(&manifest).at(storage.full(&file))?;
    Ok(manifest)
}

/// A lock on the root manifest of a version, on a local disk: as long as it is held, `gc` keeps the
/// version.
pub(crate) fn use_version(storage: &Storage, version: u64) -> Option<File> {
    let file = File::open(storage.local()?.join(path(version))).ok()?;
    for _ in 0..20 {
        match file.try_lock_shared() {
            Ok(()) => return Some(file),
            // Somebody is asking whether it is in use.
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// Whether a handle on this machine has a version open.
pub(crate) fn is_in_use(storage: &Storage, version: u64) -> bool {
    let Some(root) = storage.local() else { return false };
    let Ok(file) = File::open(root.join(path(version))) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// The version that a tag names, or the one that was the newest at a time.
///
/// # Errors
/// `not-found`, with the tags that there are; those of [`load`].
pub(crate) async fn find(storage: &Storage, tag: Option<&str>, time: Option<u64>) -> Result<Option<u64>> {
    if let Some(tag) = tag {
        let newest = load(storage, None).await?;
        return match newest.tags.get(tag) {
            Some(version) => Ok(Some(*version)),
            None => {
                let tags: Vec<&str> = newest.tags.keys().map(String::as_str).collect();
                let there = if tags.is_empty() {
                    "there are none".to_string()
                } else {
                    format!("there are {}", tags.join(", "))
                };
                // No tag is one: see `grow::tag`.
                let hint = match tag.parse::<i128>() {
                    Ok(_) => format!("; a version is a number and no text: version={tag}"),
                    Err(_) => String::new(),
                };
                Err(Error::new(ErrorKind::NotFound, format!("no tag \"{tag}\"; {there}{hint}")).at(storage.uri()))
            }
        };
    }
    let Some(time) = time else { return Ok(None) };
    for version in kept(storage).await?.into_iter().rev() {
        match read(storage, version).await {
            Ok(manifest) if manifest.created <= time => return Ok(Some(version)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(ErrorKind::NotFound, "no version is so old").at(storage.uri()))
}

/// Whether a version was made over the version `version` of a write, or is that one: otherwise the
/// store was replaced in between.
pub(crate) async fn goes_on_from(storage: &Storage, manifest: &Manifest, version: u64, write_id: &str) -> Result<bool> {
    let follows = |m: &Manifest| m.write_id == write_id || m.lineage.iter().any(|id| id == write_id);
    let mut earlier: Manifest;
    let mut current = manifest;
    while !follows(current) {
        // Further back than a version remembers: the oldest one that it knows may tell.
        let oldest = current.version.checked_sub(LINEAGE as u64).filter(|v| *v >= version);
        let (Some(oldest), Some(id)) = (oldest, current.lineage.get(LINEAGE - 1)) else { return Ok(false) };
        earlier = match read(storage, oldest).await {
            Ok(m) if m.write_id == *id => m,
            Ok(_) => return Ok(false),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        current = &earlier;
    }
    Ok(true)
}

/// The versions that can be opened, oldest first.
pub(crate) async fn kept(storage: &Storage) -> Result<Vec<u64>> {
    let expired = load(storage, None).await?.expired;
    Ok(versions(storage).await?.into_iter().filter(|v| !expired.contains(v)).collect())
}

/// Something is there that is no store; whoever opens it says what.
fn other_than_a_store(storage: &Storage) -> Error {
    Error::new(ErrorKind::NotAStore, "not a SLAF store (no _slaf/versions in it)").at(storage.uri())
}

/// Why a path without versions does not open.
async fn no_store(storage: &Storage) -> Error {
    let error = match storage.list("").await {
        Ok(files) if files.is_empty() && storage.local().is_none_or(|p| !p.exists()) => match storage.is_file().await {
            Ok(true) => return other_than_a_store(storage),
            Ok(false) => Error::new(ErrorKind::NotFound, "no such store"),
            Err(e) => return e,
        },
        Ok(files) if files.is_empty() => Error::new(
            ErrorKind::NotAStore,
            "an empty folder: perhaps of an interrupted conversion; convert again with --overwrite",
        ),
        Ok(files) if files.iter().any(|(f, _)| f.starts_with("_slaf/")) => Error::new(
            ErrorKind::NotAStore,
            "a store without a root manifest: it is being copied or converted, or that was interrupted; wait for it, \
             or convert again with --overwrite",
        ),
        Ok(_) => return other_than_a_store(storage),
        Err(e) => e,
    };
    error.at(storage.uri())
}

/// Commits a version: the one step that makes a write visible. `lost` is the error if another
/// writer was first. On a local disk the file has the name `staging` until it is whole.
///
/// A lost answer is looked up: if the version is there and carries our write id, it is ours.
pub(crate) async fn commit(
    storage: &Storage,
    manifest: &Manifest,
    staging: &str,
    durable: bool,
    lost: impl Fn() -> Error,
) -> Result<()> {
    let file = path(manifest.version);
    let unknown = |e: Error| {
        let what = format!(
            "the answer to the commit of version {} was lost ({}); open the store to see whether it is there",
            manifest.version,
            e.message()
        );
        Error::new(ErrorKind::CommitOutcomeUnknown, what).at(storage.uri()).with_source(e)
    };
    // What no reader would take must not become the newest version.
    check(manifest).map_err(|e| Error::new(ErrorKind::Internal, format!("a version that is none: {e}")))?;
    if let Err(e) = storage.create(&file, Bytes::from(manifest.to_bytes()?), staging, durable).await {
        match read(storage, manifest.version).await {
            Ok(there) if there.write_id == manifest.write_id => {}
            Ok(_) => return Err(lost()),
            Err(_) if e.kind() == ErrorKind::AlreadyExists => return Err(lost()),
            // An object store may still carry out a request whose answer did not come.
            Err(read)
                if read.kind() == ErrorKind::NotFound && (storage.local().is_some() || e.kind() != ErrorKind::Io) =>
            {
                return Err(e);
            }
            Err(_) => return Err(unknown(e)),
        }
    }
    // Others may have gone on from this version, or may have gone on before and removed the one that
    // was in its place.
    loop {
        let newest = newest(storage).await.map_err(unknown)?;
        let Some(newest) = newest.filter(|n| *n > manifest.version) else {
            give_hint(storage, manifest.version).await;
            return Ok(());
        };
        match read(storage, newest).await {
            Ok(newest) if newest.lineage.contains(&manifest.write_id) => return Ok(()),
            Ok(_) => break,
            // Removed since it was listed, after a later one was there.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(unknown(e)),
        }
    }
    storage.delete(&file).await?;
    Err(lost())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slaf_ingest::MatrixEncoding;
    use slaf_lance::runtime::block_on;

    fn store_at(address: &str) -> (Storage, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.h5ad");
        slaf_testing::Sample::new(1, 5, 4).write_h5ad(&input, MatrixEncoding::Csr).unwrap();
        crate::convert(&[&input], address, &crate::ConvertOptions::default(), &|_| true).unwrap();
        let storage = block_on(Storage::new(address, &Default::default())).unwrap();
        let first = block_on(load(&storage, None)).unwrap();
        (storage, first)
    }

    #[test]
    fn the_newest_of_thousands_is_found_in_few_requests() {
        let address = slaf_testing::memory_store();
        let (counts, _guard) = slaf_testing::Counts::over(&address);
        let (storage, first) = store_at(&address);
        let mut expected = 1;
        let mut add = |versions: std::ops::RangeInclusive<u64>| {
            for version in versions {
                let manifest = Manifest { version, ..first.clone() };
                block_on(storage.write(&path(version), Bytes::from(manifest.to_bytes().unwrap()))).unwrap();
                expected = version;
            }
            expected
        };
        let open = |newest: u64| {
            counts.take();
            assert_eq!(block_on(load(&storage, None)).unwrap().version, newest);
            counts.take()
        };
        let few = open(add(2..=900));
        assert_eq!(few.into_iter().collect::<Vec<_>>(), [("get", 1), ("list", 1)]);
        let commit_next = |version: u64| {
            let manifest = Manifest { version, write_id: version.to_string(), ..first.clone() };
            let lost = || Error::new(ErrorKind::Conflict, "lost");
            block_on(commit(&storage, &manifest, "_slaf/writing/x.json", true, lost)).unwrap();
            version
        };
        let newest = commit_next(add(901..=3000) + 1);
        let hinted = open(newest);
        assert_eq!(hinted.into_iter().collect::<Vec<_>>(), [("get", 2), ("head", 1), ("list", 2)]);
        // Others have gone on, not all of them saying so, and not one after the other.
        open(add(3010..=3010));
        // What is said may be of another store, or nothing that makes sense.
        for hint in ["", "one", "7", "2999", "3010", "99999", "18446744073709551616", "-1"] {
            block_on(storage.write(HINT, Bytes::from(hint))).unwrap();
            open(3010);
        }
        block_on(storage.delete(HINT)).unwrap();
        open(3010);
        // Whatever the number of versions, a version that is named is read as such.
        counts.take();
        assert_eq!(block_on(load(&storage, Some(1500))).unwrap().version, 1500);
        let error = block_on(load(&storage, Some(3005))).unwrap_err();
        assert!(error.message().contains("no version 3005; there are versions 1 to 3010"), "{error}");
        commit_next(3011);
        block_on(storage.delete(&path(3011))).unwrap();
        open(3010);
    }

    #[test]
    fn a_commit_is_ours_lost_or_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a.slaf");
        let (storage, first) = store_at(store.to_str().unwrap());
        let commit = |version, write_id: &str| {
            let manifest = Manifest { version, write_id: write_id.to_string(), ..first.clone() };
            let lost = || Error::new(ErrorKind::Conflict, "lost");
            let committed = block_on(commit(&storage, &manifest, "_slaf/writing/x.json", true, lost));
            committed.map_err(|e| e.kind())
        };
        let there = || block_on(versions(&storage)).unwrap();
        assert_eq!(commit(5, "five"), Ok(()));
        // The answer was lost, and the commit is tried again.
        assert_eq!(commit(5, "five"), Ok(()));
        assert_eq!(commit(5, "other"), Err(ErrorKind::Conflict));
        // Its place is free, because others have passed: nobody would ever see it.
        assert_eq!(commit(3, "three"), Err(ErrorKind::Conflict));
        assert_eq!(there(), [1, 5]);
        assert_eq!(block_on(load(&storage, None)).unwrap().write_id, "five");
        assert!(!store.join("_slaf/writing/x.json").exists());
    }
}
