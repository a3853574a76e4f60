//! The heads of the files of a version, in one file: the parts that tell where everything is, so that a
//! reader of an object store learns that with one request.
//!
//! A part is known by the hash of its file. So heads are never of an earlier state: what a version does not
//! have is not looked for, and what is missing is read where it is.

use crate::store::manifest::{FileEntry, Manifest};
use crate::store::snapshot::Snapshot;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_lance::{Doubt, Head, SMALL, Storage, head_of_data_file};
use std::collections::HashMap;

/// The most bytes of a file of heads.
const MOST: usize = 1 << 20;
/// The most bytes that are read as one.
const LONGEST: u64 = 4 * MOST as u64;
/// A file of so many bytes is in it whole.
const WHOLE: u64 = 16 << 10;
/// A version of a table of so many bytes is.
const WHOLE_VERSION: u64 = 128 << 10;
/// Bytes of an entry.
const ENTRY: usize = 44;
/// Files whose heads are read at once.
const AT_ONCE: usize = 8;

/// Heads by BLAKE3 of their files.
pub(crate) type Heads = HashMap<[u8; 32], Head>;

/// What a file of heads says; `None` if it makes no sense.
pub(crate) fn parse(mut bytes: Bytes) -> Option<Heads> {
    let mut heads = Heads::new();
    let n = bytes.try_get_u32_le().ok()? as usize;
    if bytes.len() / ENTRY < n {
        return None;
    }
    let mut entries = bytes.split_to(n * ENTRY);
    for _ in 0..n {
        let mut hash = [0; 32];
        entries.try_copy_to_slice(&mut hash).ok()?;
        let (start, length) = (entries.try_get_u64_le().ok()?, entries.try_get_u32_le().ok()? as usize);
        if length > bytes.len() || start.checked_add(length as u64).is_none() {
            return None;
        }
        let head = heads.entry(hash).or_default();
        // Parts of a file rise, and do not overlap.
        if head.last().is_some_and(|(before, part)| before + part.len() as u64 > start) {
            return None;
        }
        head.push((start, bytes.split_to(length)));
    }
    bytes.is_empty().then_some(heads)
}

fn to_bytes(heads: &[([u8; 32], Head)]) -> Bytes {
    let parts = || heads.iter().flat_map(|(hash, head)| head.iter().map(move |part| (hash, part)));
    let mut out = BytesMut::new();
    out.put_u32_le(parts().count() as u32);
    for (hash, (start, part)) in parts() {
        out.put_slice(hash);
        out.put_u64_le(*start);
        out.put_u32_le(part.len() as u32);
    }
    parts().for_each(|(_, (_, part))| out.put_slice(part));
    out.freeze()
}

fn size(head: &Head) -> usize {
    head.iter().map(|(_, part)| ENTRY + part.len()).sum()
}

fn hash_of(file: &FileEntry) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(&file.blake3).ok().map(|hash| *hash.as_bytes())
}

/// How soon a file is wanted: what is asked of every question first. `None` for a file without a head.
fn turn(manifest: &Manifest, path: &str) -> Option<usize> {
    if path.starts_with("_slaf/categories/") || path.starts_with("_slaf/measured/") {
        return Some(1);
    }
    let tables = &manifest.tables;
    let tables = [Some(&tables.genes), tables.by_gene.as_ref(), Some(&tables.cells), tables.raw_genes.as_ref()];
    let (turn, inner) = tables.into_iter().enumerate().find_map(|(turn, table)| {
        let inner = path.strip_prefix(table?.path.as_str())?.strip_prefix('/')?;
        Some((turn, inner))
    })?;
    match inner.split_once('/')? {
        ("_versions", name) if name.ends_with(".manifest") => Some(0),
        ("data", _) => Some(2 + turn),
        _ => None,
    }
}

/// The head of a file that was written, as it is in the store; empty for one that is read whole in any case.
async fn head_of(storage: &Storage, file: &FileEntry) -> Result<Head> {
    let (path, length) = (file.path.as_str(), file.length);
    let is_version = path.contains("/_versions/");
    let read = async {
        match length {
            0 => Ok(Head::new()),
            _ if length <= if is_version { WHOLE_VERSION } else { WHOLE } => {
                Ok(vec![(0, storage.read_anew(path, 0..length).await?)])
            }
            _ if length > SMALL && path.ends_with(".lance") => head_of_data_file(storage, path, length).await,
            _ => Ok(Head::new()),
        }
    };
    match read.await {
        // Whoever reads it finds that, too.
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(Head::new()),
        done => done,
    }
}

/// The heads of a version that is about to be committed, of whose files some are new; those of the others are
/// taken from `before`. What would make them too long is left out, what is asked for last first.
///
/// # Errors
/// Those of the storage.
pub(crate) async fn collect(
    storage: &Storage,
    manifest: &Manifest,
    is_new: impl Fn(&str) -> bool,
    before: &Heads,
) -> Result<Option<Bytes>> {
    let mut files: Vec<(usize, &FileEntry)> =
        manifest.files.iter().filter_map(|file| Some((turn(manifest, &file.path)?, file))).collect();
    files.sort_by_key(|(turn, _)| *turn);
    let read = files.into_iter().filter_map(|(_, file)| {
        let hash = hash_of(file)?;
        let known = before.get(&hash);
        if known.is_none() && !is_new(&file.path) {
            return None;
        }
        let read = async move {
            let head = match known {
                Some(head) => head.clone(),
                None => head_of(storage, file).await?,
            };
            Ok::<_, Error>((hash, head))
        };
        Some(read.boxed())
    });
    let mut read = stream::iter(read.collect::<Vec<_>>()).buffered(AT_ONCE);
    let (mut heads, mut room) = (Vec::new(), MOST - size_of::<u32>());
    while let Some(found) = read.next().await {
        let (hash, head) = found?;
        if head.is_empty() || heads.iter().any(|(there, _)| *there == hash) {
            continue;
        }
        let Some(left) = room.checked_sub(size(&head)) else { break };
        room = left;
        heads.push((hash, head));
    }
    Ok((!heads.is_empty()).then(|| to_bytes(&heads)))
}

/// The heads that a version has; none if they are not as they were committed.
///
/// # Errors
/// Those of the storage.
pub(crate) async fn of_version(storage: &Storage, manifest: &Manifest) -> Result<Heads> {
    let Some(file) = entry(manifest) else { return Ok(Heads::new()) };
    match storage.read_range(&file.path, 0..file.length).await {
        Ok(bytes) if *blake3::hash(&bytes).as_bytes() == hash_of(file).unwrap_or_default() => {
            Ok(parse(bytes).unwrap_or_default())
        }
        Ok(_) => Ok(Heads::new()),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(Heads::new()),
        Err(e) => Err(e),
    }
}

fn entry(manifest: &Manifest) -> Option<&FileEntry> {
    manifest.file(manifest.heads.as_ref()?).filter(|file| (1..=LONGEST).contains(&file.length))
}

impl Snapshot {
    /// Asks an object store for the heads of the files, once. Without them, or where they are damaged, where
    /// things are is read from the files.
    pub(super) fn heads(&self) -> BoxFuture<'_, Result<()>> {
        let load = || async {
            let Some(file) = entry(&self.manifest).filter(|file| self.storage.takes_heads(file.length)) else {
                return Ok(());
            };
            let heads = of_version(&self.storage, &self.manifest).await?;
            if heads.is_empty() {
                self.storage.doubt(&file.path).iter().for_each(Doubt::forget);
                let place = self.storage.full(&file.path);
                tracing::warn!("{place} is missing or damaged: questions take more requests (`slaf verify` names it)");
            }
            self.storage.put_heads(heads.into_iter());
            Ok(())
        };
        async move { self.storage.guard(self.heads.get_or_try_init(load)).await.copied() }.boxed()
    }

    /// Compares the heads with the files that they are of.
    pub(crate) async fn verify_heads(&self) -> Result<()> {
        let Some(path) = &self.manifest.heads else { return Ok(()) };
        let read = async {
            let senseless = || Error::corrupt("they make no sense");
            let heads = parse(self.read_file(path).await?).ok_or_else(senseless)?;
            for file in &self.manifest.files {
                let head = hash_of(file).and_then(|hash| heads.get(&hash));
                for (start, part) in head.into_iter().flatten() {
                    let range = *start..start + part.len() as u64;
                    if range.end > file.length || self.storage.read_anew(&file.path, range).await? != *part {
                        return Err(Error::corrupt(format!("other bytes than those of {}", file.path)));
                    }
                }
            }
            Ok(())
        };
        read.await.at(self.storage.full(path)).at("heads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: usize) -> Bytes {
        (0..n).map(|i| (i * 7) as u8).collect::<Vec<u8>>().into()
    }

    #[test]
    fn what_was_written_is_read() {
        let heads = vec![([1; 32], vec![(0, bytes(5)), (5, bytes(1)), (90, bytes(7))]), ([2; 32], vec![(3, bytes(0))])];
        let written = to_bytes(&heads);
        assert_eq!(written.len(), 4 + heads.iter().map(|(_, head)| size(head)).sum::<usize>());
        assert_eq!(parse(written), Some(heads.into_iter().collect()));
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        let written = to_bytes(&[([1; 32], vec![(0, bytes(5)), (90, bytes(7))])]);
        for n in 0..written.len() {
            assert_eq!(parse(written.slice(..n)), None, "{n}");
        }
        assert_eq!(parse([&written[..], &[0]].concat().into()), None);
        for head in [vec![(0, bytes(5)), (4, bytes(1))], vec![(9, bytes(1)), (0, bytes(1))], vec![(u64::MAX, bytes(2))]]
        {
            assert_eq!(parse(to_bytes(&[([1; 32], head)])), None);
        }
        let mut many = written.to_vec();
        many[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(many.into()), None);
    }
}
