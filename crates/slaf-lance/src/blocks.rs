//! Blocks of files of an object store, kept in memory and, if that is wanted, on a local disk, so that
//! the next question makes no request for them.
//!
//! Only files that a root manifest names are kept: they never change, and their hashes name their
//! blocks, so that no block is ever taken for one of another file or of an earlier one. All else (root
//! manifests, listings, what is written) is asked for anew.

use crate::disk_cache::{DiskCache, Key};
use crate::meter::Meter;
use crate::sizes;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, Result};
use quick_cache::Weighter;
use quick_cache::sync::{Cache, PlaceholderGuard};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of a block. Lance reads the ends of files in parts of this length.
const BLOCK: u64 = 64 << 10;
/// A file of so many bytes is read whole: one request costs more than these.
const SMALL: u64 = 4 * BLOCK;
/// Bytes of blocks that a handle keeps.
const DEFAULT_MEMORY: u64 = 256 << 20;
/// The environment's variable for it.
const VARIABLE: &str = "SLAF_CACHE_MEMORY";
/// A request for more than such a part of the memory would push all others out.
const LARGEST_PART: u64 = 8;
/// Blocks that a handle expects to keep.
const EXPECTED: usize = 1024;

#[derive(Clone, Debug)]
struct Length;

impl Weighter<Key, Bytes> for Length {
    fn weight(&self, _: &Key, block: &Bytes) -> u64 {
        block.len() as u64 + 1
    }
}

type Guard<'a> = PlaceholderGuard<
    'a,
    Key,
    Bytes,
    Length,
    quick_cache::DefaultHashBuilder,
    quick_cache::sync::DefaultLifecycle<Key, Bytes>,
>;

/// A file that never changes.
#[derive(Clone, Copy, Debug)]
struct Known {
    length: u64,
    hash: [u8; 32],
}

/// Blocks of the files of a store.
#[derive(Debug)]
pub(crate) struct Blocks {
    kept: Cache<Key, Bytes, Length>,
    disk: Option<Arc<DiskCache>>,
    largest: u64,
    files: RwLock<HashMap<Path, Known>>,
    meter: Arc<Meter>,
}

impl Blocks {
    /// As the environment says; `None` if nothing is to be kept.
    ///
    /// # Errors
    /// `invalid-argument` for sizes that are no numbers, also where they are not used.
    pub(crate) fn from_env(meter: &Arc<Meter>) -> slaf_core::Result<Option<Blocks>> {
        let (memory, disk) = (sizes::of(VARIABLE, DEFAULT_MEMORY)?, DiskCache::from_env()?);
        Ok((memory > 0).then(|| Blocks::new(memory, disk, meter.clone())))
    }

    fn new(memory: u64, disk: Option<Arc<DiskCache>>, meter: Arc<Meter>) -> Blocks {
        let kept = Cache::with_weighter(EXPECTED, memory, Length);
        Blocks { kept, disk, largest: memory / LARGEST_PART, files: RwLock::default(), meter }
    }

    /// Takes files of the store at an address for ones that never change, by path, length and BLAKE3 in
    /// hexadecimal.
    pub(crate) fn know<'a>(&self, store: &str, files: impl Iterator<Item = (Path, u64, &'a str)>) {
        let files = files.filter_map(|(path, length, hash)| {
            // A store may name a hash that its file does not have: it deceives itself alone.
            let mut key = blake3::Hasher::new();
            key.update(blake3::Hash::from_hex(hash).ok()?.as_bytes());
            key.update(store.as_bytes());
            let hash = *key.finalize().as_bytes();
            Some((path, Known { length, hash }))
        });
        self.files.write().unwrap_or_else(PoisonError::into_inner).extend(files);
    }

    /// Drops what is kept of the files below a path, since something of it was damaged.
    pub(crate) fn forget(&self, below: &Path) {
        let files: Vec<Known> = {
            let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
            files.iter().filter(|(path, _)| path.prefix_matches(below)).map(|(_, known)| *known).collect()
        };
        for known in files {
            self.kept.retain(|key, _| key.0 != known.hash);
            if let Some(disk) = &self.disk {
                disk.forget(known.hash);
            }
        }
    }

    /// The length of a file that never changes.
    pub(crate) fn length(&self, path: &Path) -> Option<u64> {
        self.known(path).map(|known| known.length)
    }

    fn known(&self, path: &Path) -> Option<Known> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    /// Bytes of a file, by way of its blocks; `None` for those that are not to be kept.
    pub(crate) async fn read(&self, store: &dyn ObjectStore, path: &Path, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some(file) = self.known(path) else { return Ok(None) };
        if range.start >= range.end || range.end > file.length || range.end - range.start > self.largest {
            return Ok(None);
        }
        let (first, last) = match file.length <= SMALL.min(self.largest) {
            true => (0, (file.length - 1) / BLOCK),
            false => (range.start / BLOCK, (range.end - 1) / BLOCK),
        };
        let mut blocks = Vec::new();
        let mut missing = Vec::new();
        // Whoever waits for a block of somebody else holds lower ones only, so that nobody waits for ever.
        for block in first..=last {
            match self.kept.get_value_or_guard_async(&(file.hash, block)).await {
                Ok(bytes) => {
                    self.meter.hit(1);
                    blocks.push(bytes);
                }
                Err(guard) => {
                    missing.push((block, guard));
                    blocks.push(Bytes::new());
                }
            }
        }
        let missing = self.from_disk(file, missing, first, &mut blocks).await;
        if !self.fetch(store, path, file, missing, first, &mut blocks).await? {
            return Ok(None);
        }
        let skipped = (range.start - first * BLOCK) as usize;
        let length = (range.end - range.start) as usize;
        if let [block] = &blocks[..] {
            return Ok(Some(block.slice(skipped..skipped + length)));
        }
        let joined = Bytes::from(blocks.concat());
        Ok(Some(joined.slice(skipped..skipped + length)))
    }

    /// Puts blocks that are on the disk in their places; gives the others.
    async fn from_disk<'a>(
        &self,
        file: Known,
        missing: Vec<(u64, Guard<'a>)>,
        first: u64,
        blocks: &mut [Bytes],
    ) -> Vec<(u64, Guard<'a>)> {
        let Some(disk) = self.disk.as_ref().filter(|_| !missing.is_empty()) else { return missing };
        let found = join_all(missing.iter().map(|(block, _)| disk.get((file.hash, *block)))).await;
        let mut left = Vec::new();
        for ((block, guard), bytes) in missing.into_iter().zip(found) {
            match bytes.filter(|bytes| bytes.len() as u64 == length_of(file, block)) {
                Some(bytes) => {
                    self.meter.hit(1);
                    blocks[(block - first) as usize] = bytes.clone();
                    let _ = guard.insert(bytes);
                }
                None => left.push((block, guard)),
            }
        }
        left
    }

    /// Reads blocks, those next to each other in one request, and keeps them; false if the file is not
    /// as long as it should be.
    async fn fetch(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        file: Known,
        missing: Vec<(u64, Guard<'_>)>,
        first: u64,
        blocks: &mut [Bytes],
    ) -> Result<bool> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (block, _) in &missing {
            match runs.last_mut() {
                Some(run) if run.end == *block => run.end += 1,
                _ => runs.push(*block..*block + 1),
            }
        }
        let requests = runs.iter().map(|run| {
            let range = run.start * BLOCK..(run.end * BLOCK).min(file.length);
            async move { store.get_range(path, range).await }
        });
        let read = try_join_all(requests).await?;
        let mut guards = missing.into_iter();
        let mut writes = Vec::new();
        for (run, bytes) in runs.into_iter().zip(read) {
            if bytes.len() as u64 != (run.end * BLOCK).min(file.length) - run.start * BLOCK {
                return Ok(false);
            }
            for (block, guard) in guards.by_ref().take((run.end - run.start) as usize) {
                let from = ((block - run.start) * BLOCK) as usize;
                let part = bytes.slice(from..from + length_of(file, block) as usize);
                // Not a part of what was read along with others.
                let part = if part.len() == bytes.len() { part } else { Bytes::copy_from_slice(&part) };
                blocks[(block - first) as usize] = part.clone();
                let _ = guard.insert(part.clone());
                writes.extend(self.disk.as_ref().map(|disk| disk.put((file.hash, block), part)));
            }
        }
        join_all(writes).await;
        Ok(true)
    }
}

/// Files whose blocks are to be forgotten if something of them turns out to be damaged.
#[derive(Debug)]
pub struct Doubt {
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) folder: Path,
}

impl Doubt {
    /// Forgets them.
    pub fn forget(&self) {
        self.blocks.forget(&self.folder);
    }
}

fn length_of(file: Known, block: u64) -> u64 {
    BLOCK.min(file.length - block * BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use object_store::{PutPayload, path::Path};

    async fn store_with(length: usize) -> (InMemory, Path, Vec<u8>) {
        let (store, path) = (InMemory::new(), Path::from("a/data/b"));
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + i / 256) as u8).collect();
        store.put(&path, PutPayload::from(bytes.clone())).await.unwrap();
        (store, path, bytes)
    }

    fn blocks(memory: u64, disk: Option<Arc<DiskCache>>, path: &Path, bytes: &[u8]) -> Blocks {
        let blocks = Blocks::new(memory, disk, Arc::default());
        let hash = blake3::hash(bytes).to_hex();
        blocks.know("s3://bucket/a.slaf", [(path.clone(), bytes.len() as u64, hash.as_str())].into_iter());
        blocks
    }

    #[tokio::test]
    async fn every_range_is_that_of_the_file() {
        let n = 5 * BLOCK + 77;
        let (store, path, bytes) = store_with(n as usize).await;
        let blocks = blocks(16 << 20, None, &path, &bytes);
        let edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5, 5 * BLOCK, n - 1, n];
        for start in edges {
            for end in edges {
                let read = blocks.read(&store, &path, start..end).await.unwrap();
                let expected = (start < end).then(|| Bytes::copy_from_slice(&bytes[start as usize..end as usize]));
                assert_eq!(read, expected, "{start}..{end}");
            }
        }
        assert_eq!(blocks.read(&store, &path, 0..n + 1).await.unwrap(), None);
        // Without the store, all is here still.
        let empty = InMemory::new();
        assert_eq!(blocks.read(&empty, &path, 0..n).await.unwrap().unwrap(), bytes);
        assert_eq!(blocks.read(&empty, &Path::from("a/data/c"), 0..1).await.unwrap(), None, "an unknown file");
        blocks.forget(&Path::from("a"));
        assert!(blocks.read(&empty, &path, 0..1).await.is_err());
    }

    #[tokio::test]
    async fn a_small_file_is_read_whole() {
        let (store, path, bytes) = store_with(3 * BLOCK as usize).await;
        let blocks = blocks(16 << 20, None, &path, &bytes);
        blocks.read(&store, &path, 2 * BLOCK..2 * BLOCK + 1).await.unwrap().unwrap();
        let all = blocks.read(&InMemory::new(), &path, 5..3 * BLOCK).await.unwrap().unwrap();
        assert_eq!(all, bytes[5..]);
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_kept() {
        let (store, path, bytes) = store_with(64 * BLOCK as usize).await;
        let blocks = blocks(16 * BLOCK, None, &path, &bytes);
        assert_eq!(blocks.read(&store, &path, 0..2 * BLOCK + 1).await.unwrap(), None);
        for block in 0..64 {
            let range = block * BLOCK..(block + 1) * BLOCK;
            let read = blocks.read(&store, &path, range.clone()).await.unwrap().unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize]);
        }
        assert!(blocks.kept.weight() <= 16 * BLOCK, "{}", blocks.kept.weight());
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_left_to_the_store() {
        let (store, path, bytes) = store_with(6 * BLOCK as usize).await;
        let blocks = blocks(16 << 20, None, &path, &bytes);
        store.put(&path, PutPayload::from(bytes[..5 * BLOCK as usize + 9].to_vec())).await.unwrap();
        assert_eq!(blocks.read(&store, &path, 5 * BLOCK..5 * BLOCK + 20).await.unwrap(), None);
        assert!(blocks.read(&store, &path, 0..9).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_on_the_disk_needs_no_store() {
        let folder = tempfile::tempdir().unwrap();
        let (store, path, bytes) = store_with(3 * BLOCK as usize + 5).await;
        let disk = || Some(Arc::new(DiskCache::new(folder.path().to_path_buf(), 1 << 30)));
        let first = blocks(16 << 20, disk(), &path, &bytes);
        let n = bytes.len() as u64;
        assert_eq!(first.read(&store, &path, 0..n).await.unwrap().unwrap(), bytes);
        let empty = InMemory::new();
        let second = blocks(16 << 20, disk(), &path, &bytes);
        assert_eq!(second.read(&empty, &path, 7..n).await.unwrap().unwrap(), bytes[7..]);
        assert_eq!(second.meter.stats().cache_hits, 4);
        second.forget(&Path::from("a/data"));
        let third = blocks(16 << 20, disk(), &path, &bytes);
        assert!(third.read(&empty, &path, 7..n).await.is_err());
    }
}
