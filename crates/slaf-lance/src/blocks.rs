//! Blocks of files of an object store, kept in memory and, if that is wanted, on a local disk, so that
//! the next question makes no request for them.
//!
//! Only files that a root manifest names are kept: they never change, and their hashes name their
//! blocks, so that no block is ever taken for one of another file or of an earlier one. All else (root
//! manifests, listings, what is written) is asked for anew.

use crate::disk_cache::{DiskCache, Key};
use crate::meter::Meter;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, Result};
use quick_cache::Weighter;
use quick_cache::sync::{Cache, PlaceholderGuard};
use slaf_core::bytes_from_env;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of a block. Lance reads the ends of files in parts of this length.
pub(crate) const BLOCK: u64 = 64 << 10;
/// A file of so many bytes is read whole: one request costs more than these.
pub const SMALL: u64 = 4 * BLOCK;
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

/// A block that is not kept yet.
struct Missing<'a> {
    number: u64,
    /// Where it comes among those that are wanted.
    place: usize,
    guard: Guard<'a>,
}

/// The parts of a file that its head has: where each begins, and its bytes. They rise, and do not overlap.
pub type Head = Vec<(u64, Bytes)>;

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
    /// What was told of files at once; not part of the memory of blocks, but bounded with it.
    heads: RwLock<HashMap<[u8; 32], Head>>,
    meter: Arc<Meter>,
}

impl Blocks {
    /// As the environment says; `None` if nothing is to be kept.
    ///
    /// # Errors
    /// `invalid-argument` for sizes that are no numbers, also where they are not used.
    pub(crate) fn from_env(meter: &Arc<Meter>) -> slaf_core::Result<Option<Blocks>> {
        let (memory, disk) = (bytes_from_env(VARIABLE, DEFAULT_MEMORY)?, DiskCache::from_env()?);
        Ok((memory > 0).then(|| Blocks::new(memory, disk, meter.clone())))
    }

    fn new(memory: u64, disk: Option<Arc<DiskCache>>, meter: Arc<Meter>) -> Blocks {
        let kept = Cache::with_weighter(EXPECTED, memory, Length);
        Blocks { kept, disk, largest: memory / LARGEST_PART, files: RwLock::default(), heads: RwLock::default(), meter }
    }

    /// Takes files of the store at an address for ones that never change, by path, length and BLAKE3 in
    /// hexadecimal.
    pub(crate) fn know<'a>(&self, store: &str, files: impl Iterator<Item = (Path, u64, &'a str)>) {
        let files = files.filter_map(|(path, length, hash)| {
            let hash = key_of(store, blake3::Hash::from_hex(hash).ok()?);
            Some((path, Known { length, hash }))
        });
        self.files.write().unwrap_or_else(PoisonError::into_inner).extend(files);
    }

    /// The most bytes of heads that [`Blocks::put_heads`] takes.
    pub(crate) fn longest_heads(&self) -> u64 {
        self.largest
    }

    /// Takes the heads of files of the store at an address, by BLAKE3 of each, in place of earlier ones.
    pub(crate) fn put_heads(&self, store: &str, heads: impl Iterator<Item = ([u8; 32], Head)>) {
        let heads = heads.map(|(hash, head)| (key_of(store, hash.into()), head)).collect();
        *self.heads.write().unwrap_or_else(PoisonError::into_inner) = heads;
    }

    /// Drops what is kept of the files below a path, since something of it was damaged.
    pub(crate) fn forget(&self, below: &Path) {
        let files: Vec<Known> = {
            let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
            files.iter().filter(|(path, _)| path.prefix_matches(below)).map(|(_, known)| *known).collect()
        };
        for known in files {
            self.heads.write().unwrap_or_else(PoisonError::into_inner).remove(&known.hash);
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
        if range.start >= range.end || range.end > file.length {
            return Ok(None);
        }
        if let Some(bytes) = self.in_head(file, &range) {
            self.meter.hit(1);
            return Ok(Some(bytes));
        }
        if range.end - range.start > self.largest {
            return Ok(None);
        }
        let (first, last) = match file.length <= SMALL.min(self.largest) {
            true => (0, (file.length - 1) / BLOCK),
            false => (range.start / BLOCK, (range.end - 1) / BLOCK),
        };
        let wanted: Vec<u64> = (first..=last).collect();
        let Some(blocks) = self.blocks(store, path, file, &wanted).await? else { return Ok(None) };
        let skipped = (range.start - first * BLOCK) as usize;
        let length = (range.end - range.start) as usize;
        if let [block] = &blocks[..] {
            return Ok(Some(block.slice(skipped..skipped + length)));
        }
        let joined = Bytes::from(blocks.concat());
        Ok(Some(joined.slice(skipped..skipped + length)))
    }

    /// Reads the blocks of parts of a file that will be asked for one after another, close ones in one
    /// request, and keeps them; nothing if they would push all others out.
    pub(crate) async fn read_ahead(&self, store: &dyn ObjectStore, path: &Path, ranges: &[Range<u64>]) -> Result<()> {
        let Some(file) = self.known(path).filter(|file| file.length > SMALL) else { return Ok(()) };
        let wanted = self.close_blocks(file, ranges);
        if wanted.len() as u64 * BLOCK <= self.largest {
            self.blocks(store, path, file, &wanted).await?;
        }
        Ok(())
    }

    /// The blocks of parts of a file that its head does not have, and those in gaps that are not worth a
    /// request; rising.
    fn close_blocks(&self, file: Known, ranges: &[Range<u64>]) -> Vec<u64> {
        let outside = |range: &&Range<u64>| {
            range.start < range.end && range.end <= file.length && self.in_head(file, range).is_none()
        };
        let runs = ranges.iter().filter(outside).map(|range| range.start / BLOCK..(range.end - 1) / BLOCK + 1);
        let mut runs: Vec<Range<u64>> = runs.collect();
        runs.sort_unstable_by_key(|run| run.start);
        let mut wanted: Vec<u64> = Vec::new();
        for run in runs {
            let from = match wanted.last() {
                Some(last) if run.start <= last + 1 + SMALL / BLOCK => last + 1,
                _ => run.start,
            };
            wanted.extend(from..run.end);
        }
        wanted
    }

    /// Blocks of a file, in rising order; `None` if the file is not as long as it should be.
    async fn blocks(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        file: Known,
        wanted: &[u64],
    ) -> Result<Option<Vec<Bytes>>> {
        let mut blocks = Vec::with_capacity(wanted.len());
        let mut missing = Vec::new();
        // Whoever waits for a block of somebody else holds lower ones only, so that nobody waits for ever.
        for &number in wanted {
            match self.kept.get_value_or_guard_async(&(file.hash, number)).await {
                Ok(bytes) => {
                    self.meter.hit(1);
                    blocks.push(bytes);
                }
                Err(guard) => {
                    missing.push(Missing { number, place: blocks.len(), guard });
                    blocks.push(Bytes::new());
                }
            }
        }
        let missing = self.read_disk(file, missing, &mut blocks).await;
        Ok(self.fetch(store, path, file, missing, &mut blocks).await?.then_some(blocks))
    }

    /// Puts blocks that are on the disk in their places; gives the others.
    async fn read_disk<'a>(&self, file: Known, missing: Vec<Missing<'a>>, blocks: &mut [Bytes]) -> Vec<Missing<'a>> {
        let Some(disk) = self.disk.as_ref().filter(|_| !missing.is_empty()) else { return missing };
        let found = join_all(missing.iter().map(|block| disk.get((file.hash, block.number)))).await;
        let mut left = Vec::new();
        for (block, bytes) in missing.into_iter().zip(found) {
            match bytes.filter(|bytes| bytes.len() as u64 == length_of(file, block.number)) {
                Some(bytes) => {
                    self.meter.hit(1);
                    blocks[block.place] = bytes.clone();
                    let _ = block.guard.insert(bytes);
                }
                None => left.push(block),
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
        missing: Vec<Missing<'_>>,
        blocks: &mut [Bytes],
    ) -> Result<bool> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for Missing { number, .. } in &missing {
            match runs.last_mut() {
                Some(run) if run.end == *number => run.end += 1,
                _ => runs.push(*number..*number + 1),
            }
        }
        let requests = runs.iter().map(|run| {
            let range = run.start * BLOCK..(run.end * BLOCK).min(file.length);
            async move { store.get_range(path, range).await }
        });
        let read = try_join_all(requests).await?;
        let mut missing = missing.into_iter();
        let mut writes = Vec::new();
        for (run, bytes) in runs.into_iter().zip(read) {
            if bytes.len() as u64 != (run.end * BLOCK).min(file.length) - run.start * BLOCK {
                return Ok(false);
            }
            for Missing { number, place, guard } in missing.by_ref().take((run.end - run.start) as usize) {
                let from = ((number - run.start) * BLOCK) as usize;
                let part = bytes.slice(from..from + length_of(file, number) as usize);
                // Not a part of what was read along with others.
                let part = if part.len() == bytes.len() { part } else { Bytes::copy_from_slice(&part) };
                blocks[place] = part.clone();
                let _ = guard.insert(part.clone());
                writes.extend(self.disk.as_ref().map(|disk| disk.put((file.hash, number), part)));
            }
        }
        join_all(writes).await;
        Ok(true)
    }

    /// Bytes of a file that came with its head.
    fn in_head(&self, file: Known, range: &Range<u64>) -> Option<Bytes> {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let parts = heads.get(&file.hash)?;
        let at = parts.partition_point(|(start, _)| *start <= range.start).checked_sub(1)?;
        let (start, bytes) = &parts[at];
        let (from, to) = ((range.start - start) as usize, (range.end - start) as usize);
        (to <= bytes.len()).then(|| bytes.slice(from..to))
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

/// What blocks of a file are known by.
fn key_of(store: &str, hash: blake3::Hash) -> [u8; 32] {
    // A store may name a hash that its file does not have: it deceives itself alone.
    let mut key = blake3::Hasher::new();
    key.update(hash.as_bytes());
    key.update(store.as_bytes());
    *key.finalize().as_bytes()
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
    async fn a_head_needs_no_store_and_goes_when_the_file_is_in_doubt() {
        let (_, path, bytes) = store_with(6 * BLOCK as usize).await;
        let blocks = blocks(16 << 20, None, &path, &bytes);
        let part = |range: Range<usize>| (range.start as u64, Bytes::copy_from_slice(&bytes[range]));
        let head = vec![part(5..9), part(100..200), part(bytes.len() - 70_000..bytes.len())];
        blocks.put_heads("s3://bucket/a.slaf", [(*blake3::hash(&bytes).as_bytes(), head)].into_iter());
        let (empty, n) = (InMemory::new(), bytes.len() as u64);
        for range in [5..9, 6..7, 100..200, 199..200, n - 70_000..n, n - 1..n] {
            let read = blocks.read(&empty, &path, range.clone()).await.unwrap().unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize]);
        }
        for range in [4..6, 8..10, 5..101, 200..201, n - 70_001..n] {
            assert!(blocks.read(&empty, &path, range).await.is_err());
        }
        blocks.put_heads("s3://other/a.slaf", [(*blake3::hash(&bytes).as_bytes(), vec![part(0..9)])].into_iter());
        assert!(blocks.read(&empty, &path, 0..9).await.is_err(), "of another store");
        blocks.put_heads("s3://bucket/a.slaf", [(*blake3::hash(&bytes).as_bytes(), vec![part(0..9)])].into_iter());
        assert!(blocks.read(&empty, &path, 0..9).await.unwrap().is_some());
        blocks.forget(&Path::from("a/data/b"));
        assert!(blocks.read(&empty, &path, 0..9).await.is_err());
    }

    #[tokio::test]
    async fn close_parts_are_read_ahead_in_one_request() {
        let (store, path, bytes) = store_with(64 * BLOCK as usize).await;
        let blocks = blocks(512 * BLOCK, None, &path, &bytes);
        let at = |block: u64| block * BLOCK + 7..block * BLOCK + 9;
        assert_eq!(blocks.close_blocks(blocks.known(&path).unwrap(), &[at(8), at(3), at(20)]), [3, 4, 5, 6, 7, 8, 20]);
        blocks.read_ahead(&store, &path, &[at(8), at(3), at(20)]).await.unwrap();
        let empty = InMemory::new();
        for block in [3, 6, 8, 20] {
            let read = blocks.read(&empty, &path, at(block)).await.unwrap().unwrap();
            assert_eq!(read, bytes[at(block).start as usize..at(block).end as usize]);
        }
        assert!(blocks.read(&empty, &path, at(9)).await.is_err());
        // So many that all others would go.
        blocks.read_ahead(&empty, &path, &[0..64 * BLOCK]).await.unwrap_err();
        let small = self::blocks(64 * BLOCK, None, &path, &bytes);
        small.read_ahead(&empty, &path, &[0..64 * BLOCK]).await.unwrap();
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
