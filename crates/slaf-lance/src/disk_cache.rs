//! Blocks of files of object stores on a local disk, for all processes that are told of the same
//! folder.
//!
//! A block is a file, `<hash of its file>/<number>`: the hash says what its bytes are, wherever they
//! came from, so that no name and no address of a store is there. Each begins with a checksum of
//! itself; one that differs is removed and read anew from its store. Files appear whole, by renaming,
//! and whoever reads one that another process removes finds nothing.

use bytes::Bytes;
use slaf_core::{Result, bytes_from_env};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The folder; without it, nothing is kept on a disk.
const FOLDER: &str = "SLAF_CACHE_DIR";
/// The most bytes.
const SIZE: &str = "SLAF_CACHE_SIZE";
const DEFAULT_SIZE: u64 = 10_000_000_000;
/// Bytes of the checksum before a block.
const CHECKSUM: usize = 32;
/// What files of this layout are below.
const LAYOUT: &str = "blocks-1";

/// A block: the hash of its file, and its number.
pub(crate) type Key = ([u8; 32], u64);

#[derive(Debug)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    limit: u64,
    /// Bytes that are there, as far as this process knows; `u64::MAX` until it has looked.
    used: AtomicU64,
    /// Bytes that this process has written since it looked: others may have written as many.
    written: AtomicU64,
    /// Whether writing has failed: the disk is only read from then on.
    is_failing: AtomicBool,
    /// How often what is too much was removed; held while it is.
    sweeps: Mutex<u64>,
    /// Of these, how often it was begun.
    begun: AtomicU64,
}

/// A cache with the folder and size that it was made for.
type OfProcess = ((OsString, u64), Arc<DiskCache>);

/// The cache of this process.
static OF_PROCESS: Mutex<Option<OfProcess>> = Mutex::new(None);

impl DiskCache {
    /// The one that the environment names.
    ///
    /// # Errors
    /// `invalid-argument` for a size that is no number.
    pub(crate) fn from_env() -> Result<Option<Arc<DiskCache>>> {
        let limit = bytes_from_env(SIZE, DEFAULT_SIZE)?;
        let Some(folder) = std::env::var_os(FOLDER).filter(|f| !f.is_empty()) else { return Ok(None) };
        let mut of_process = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (folder, limit);
        if let Some((_, cache)) = of_process.as_ref().filter(|(there, _)| *there == key) {
            return Ok(Some(cache.clone()));
        }
        let cache = Arc::new(DiskCache::new(PathBuf::from(&key.0), limit));
        *of_process = Some((key, cache.clone()));
        Ok(Some(cache))
    }

    pub(crate) fn new(folder: PathBuf, limit: u64) -> DiskCache {
        DiskCache {
            folder: folder.join(LAYOUT),
            limit,
            used: AtomicU64::new(u64::MAX),
            written: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            sweeps: Mutex::new(0),
            begun: AtomicU64::new(0),
        }
    }

    fn folder_of(&self, hash: [u8; 32]) -> PathBuf {
        self.folder.join(blake3::Hash::from_bytes(hash).to_hex().as_str())
    }

    fn path(&self, (hash, block): Key) -> PathBuf {
        self.folder_of(hash).join(block.to_string())
    }

    /// A block, if it is here and whole.
    pub(crate) async fn get(&self, key: Key) -> Option<Bytes> {
        let path = self.path(key);
        tokio::task::spawn_blocking(move || read(key, &path)).await.ok().flatten()
    }

    /// Keeps a block. What cannot be written is not kept; the first time that is told.
    pub(crate) async fn put(self: &Arc<Self>, key: Key, block: Bytes) {
        if self.is_failing.load(Ordering::Relaxed) || block.len() as u64 > self.limit {
            return;
        }
        let cache = self.clone();
        let write = move || {
            let written = cache.write(key, &block).and_then(|n| {
                cache.written.fetch_add(n, Ordering::Relaxed);
                cache.make_room(n)
            });
            if let Err(e) = written
                && !cache.is_failing.swap(true, Ordering::Relaxed)
            {
                let folder = cache.folder.display();
                tracing::warn!("the cache in {folder} cannot be written, and is left as it is: {e}");
            }
        };
        let _ = tokio::task::spawn_blocking(write).await;
    }

    /// Removes all blocks of a file.
    pub(crate) fn forget(&self, hash: [u8; 32]) {
        // Others may have removed it.
        let _ = fs::remove_dir_all(self.folder_of(hash));
    }

    fn write(&self, key: Key, block: &[u8]) -> io::Result<u64> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.path(key);
        let content = [&checksum(key, block)[..], block].concat();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let staging = self.folder.join(format!(".{}-{number}", std::process::id()));
        let mut tries = 0;
        loop {
            let write = || {
                make_folder(&self.folder_of(key.0))?;
                fs::write(&staging, &content)?;
                fs::rename(&staging, &path)
            };
            match write() {
                Ok(()) => return Ok(content.len() as u64),
                // Somebody has just removed the empty folder.
                Err(e) if e.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
                Err(e) => {
                    let _ = fs::remove_file(&staging);
                    return Err(e);
                }
            }
        }
    }

    /// Removes what was used longest ago, if there is too much.
    fn make_room(&self, written: u64) -> io::Result<()> {
        let used = match self.used.load(Ordering::Relaxed) {
            u64::MAX => u64::MAX,
            used => {
                let used = used.saturating_add(written);
                self.used.store(used, Ordering::Relaxed);
                used
            }
        };
        if used <= self.limit && self.written.load(Ordering::Relaxed) <= self.limit / 10 {
            return Ok(());
        }
        let begun = self.begun.load(Ordering::SeqCst);
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was begun after this block was written has seen it.
        if *sweeps > begun {
            return Ok(());
        }
        *sweeps = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let mut blocks = blocks_in(&self.folder)?;
        let mut used: u64 = blocks.iter().map(|(_, length, _)| length).sum();
        if used > self.limit {
            blocks.sort();
            let mut emptied = HashSet::new();
            for (_, length, path) in blocks {
                if used <= self.limit / 10 * 9 {
                    break;
                }
                // Others may have removed it.
                let _ = fs::remove_file(&path);
                used -= length;
                emptied.extend(path.parent().map(Path::to_path_buf));
            }
            for folder in emptied {
                // Fails, as it should, for a folder that is not empty.
                let _ = fs::remove_dir(folder);
            }
        }
        self.used.store(used, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        Ok(())
    }
}

/// A checksum that holds for this block of this file, and no other.
fn checksum((hash, block): Key, bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&hash).update(&block.to_le_bytes()).update(bytes);
    *hasher.finalize().as_bytes()
}

fn read(key: Key, path: &Path) -> Option<Bytes> {
    let content = fs::read(path).ok()?;
    let is_whole = content.split_first_chunk().is_some_and(|(sum, block)| *sum == checksum(key, block));
    if !is_whole {
        let _ = fs::remove_file(path);
        return None;
    }
    // What was used last goes last.
    let _ = File::options().append(true).open(path).and_then(|f| f.set_modified(SystemTime::now()));
    Some(Bytes::from(content).slice(CHECKSUM..))
}

/// The blocks below a folder: when each was used last, its length and its path.
fn blocks_in(folder: &Path) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let folders = match fs::read_dir(folder) {
        // Others may remove anything at any time, also all.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folders => folders?,
    };
    let mut blocks = Vec::new();
    for folder in folders.flatten().map(|entry| entry.path()) {
        // Files are blocks that are not whole: of this process, or of one that died.
        let Ok(entries) = fs::read_dir(&folder) else {
            remove_if_old(&folder);
            continue;
        };
        for entry in entries.flatten() {
            if let Ok(meta) = entry.metadata() {
                blocks.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), entry.path()));
            }
        }
    }
    Ok(blocks)
}

/// A folder that others of this machine cannot read: the store may be nobody else's to read.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Removes a file that no process can still be writing.
fn remove_if_old(file: &Path) {
    const OLD: std::time::Duration = std::time::Duration::from_secs(3600);
    let age = fs::metadata(file).and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
    if age.is_some_and(|age| age > OLD) {
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("cache")
        }

        fn cache(&self, limit: u64) -> Arc<DiskCache> {
            Arc::new(DiskCache::new(self.path(), limit))
        }

        fn bytes(&self) -> u64 {
            let files = fs::read_dir(self.path().join(LAYOUT)).unwrap().flatten();
            let blocks = files.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
            blocks.map(|block| block.metadata().unwrap().len()).sum()
        }
    }

    fn block(n: u8) -> Bytes {
        Bytes::from(vec![n; 1000])
    }

    #[tokio::test]
    async fn what_is_damaged_or_moved_is_not_given() {
        let folder = Folder::new();
        let (cache, other) = (folder.cache(1 << 20), folder.cache(1 << 20));
        let key = ([7; 32], 3);
        cache.put(key, block(1)).await;
        assert_eq!(other.get(key).await, Some(block(1)));
        for at in [0, 31, 32, 600] {
            cache.put(key, block(1)).await;
            let path = cache.path(key);
            let mut content = fs::read(&path).unwrap();
            content[at] ^= 4;
            fs::write(&path, &content).unwrap();
            assert_eq!(cache.get(key).await, None, "{at}");
            assert!(!path.exists());
        }
        for length in [0, 10, 32, 500] {
            cache.put(key, block(1)).await;
            let path = cache.path(key);
            let content = fs::read(&path).unwrap();
            fs::write(&path, &content[..length]).unwrap();
            assert_eq!(cache.get(key).await, None, "{length}");
        }
        cache.put(key, block(1)).await;
        fs::copy(cache.path(key), cache.path(([7; 32], 4))).unwrap();
        assert_eq!(cache.get(([7; 32], 4)).await, None, "another block");
        assert_eq!(cache.get(key).await, Some(block(1)));
        cache.forget([7; 32]);
        assert_eq!(cache.get(key).await, None);
    }

    #[tokio::test]
    async fn it_stays_within_its_limit() {
        let folder = Folder::new();
        let caches = [folder.cache(20_000), folder.cache(20_000)];
        for n in 0..200_u8 {
            caches[usize::from(n % 2)].put(([n; 32], 0), block(n)).await;
            // Each knows of what the other wrote after it has written a tenth itself.
            assert!(folder.bytes() <= 20_000 + 2 * 3_100, "{}", folder.bytes());
        }
        assert!(folder.bytes() > 15_000);
        assert_eq!(caches[0].get(([199; 32], 0)).await, Some(block(199)));
        assert_eq!(caches[0].get(([0; 32], 0)).await, None);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_gone_without() {
        let folder = Folder::new();
        fs::write(folder.path(), "a file").unwrap();
        let cache = folder.cache(1 << 20);
        cache.put(([1; 32], 0), block(1)).await;
        assert!(cache.is_failing.load(Ordering::Relaxed));
        assert_eq!(cache.get(([1; 32], 0)).await, None);
    }

    #[tokio::test]
    async fn a_folder_that_somebody_removes_is_made_again() {
        let folder = Folder::new();
        let cache = folder.cache(20_000);
        cache.make_room(1).unwrap();
        for n in 0..100_u8 {
            cache.put(([n; 32], 0), block(n)).await;
            assert_eq!(cache.get(([n; 32], 0)).await, Some(block(n)));
            if n % 7 == 0 {
                fs::remove_dir_all(folder.path()).unwrap();
                cache.make_room(1).unwrap();
            }
        }
        assert!(!cache.is_failing.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn writers_at_once_do_not_disturb_each_other() {
        let folder = Folder::new();
        let caches = [folder.cache(30_000), folder.cache(30_000)];
        let tasks = (0..8_u8).map(|task| {
            let cache = caches[usize::from(task % 2)].clone();
            tokio::spawn(async move {
                for n in 0..100_u8 {
                    let key = ([n % 50; 32], 0);
                    cache.put(key, block(n % 50)).await;
                    if let Some(found) = cache.get(key).await {
                        assert_eq!(found, block(n % 50));
                    }
                }
                assert!(!cache.is_failing.load(Ordering::Relaxed));
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}
