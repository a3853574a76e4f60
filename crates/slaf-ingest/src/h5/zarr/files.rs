//! Where the files of a Zarr store are: in a folder, or in a zip archive.

use super::super::codec;
use super::super::limits::unsupported;
use super::super::raw::{Raw, le};
use slaf_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Metadata and chunks larger than this are not read.
const MAX_FILE: u64 = 4 << 30;

pub(super) enum Files {
    Folder(PathBuf),
    Zip(Raw, BTreeMap<String, Entry>),
}

/// A file of an archive.
pub(super) struct Entry {
    header: u64,
    stored: u64,
    size: u64,
    method: u64,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Files> {
        if path.is_dir() {
            return Ok(Files::Folder(path.to_owned()));
        }
        let raw = Raw::open(path)?;
        let entries = directory(&raw)?;
        Ok(Files::Zip(raw, entries))
    }

    /// The content of a file; `None` if there is none.
    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Files::Folder(folder) => match std::fs::metadata(folder.join(key)) {
                Ok(m) if m.is_file() && m.len() <= MAX_FILE => Ok(Some(std::fs::read(folder.join(key))?)),
                Ok(m) if m.is_file() => Err(unsupported("a file of more than 4 GiB").at(key)),
                Ok(_) => Ok(None),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(e) => Err(Error::from(e).at(key)),
            },
            Files::Zip(raw, entries) => match entries.get(key) {
                Some(entry) => entry.read(raw).map(Some).map_err(|e| e.at(key)),
                None => Ok(None),
            },
        }
    }

    /// The names in a folder of the store.
    pub(super) fn list(&self, key: &str) -> Result<Vec<String>> {
        match self {
            Files::Folder(folder) => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(folder.join(key))? {
                    let name = entry?.file_name();
                    let name =
                        name.to_str().ok_or_else(|| Error::malformed("a file name that is not UTF-8").at(key))?;
                    names.push(name.to_owned());
                }
                Ok(names)
            }
            Files::Zip(_, entries) => {
                let prefix = if key.is_empty() { String::new() } else { format!("{key}/") };
                let inside = entries.range(prefix.clone()..).map(|e| e.0).take_while(|k| k.starts_with(&prefix));
                let mut names: Vec<String> =
                    inside.filter_map(|k| k[prefix.len()..].split('/').next()).map(str::to_owned).collect();
                names.dedup();
                Ok(names)
            }
        }
    }
}

/// The directory of a zip archive; of several files of a name the last counts.
fn directory(raw: &Raw) -> Result<BTreeMap<String, Entry>> {
    let damaged = || Error::malformed("the directory of the zip archive is damaged");
    let tail_at = raw.len.saturating_sub(66_000);
    let tail = raw.read_vec(tail_at, raw.len - tail_at)?;
    let end = tail.windows(4).rposition(|w| w == b"PK\x05\x06").ok_or_else(damaged)?;
    let field = |at: usize, n: usize| le(&tail, end + at, n).ok_or_else(damaged);
    let (mut count, mut size, mut at) = (field(10, 2)?, field(12, 4)?, field(16, 4)?);
    // Large archives have the same once more, in wider fields.
    if (count == 0xffff || size == 0xffff_ffff || at == 0xffff_ffff)
        && let Some(locator) = end.checked_sub(20).filter(|&l| tail[l..].starts_with(b"PK\x06\x07"))
    {
        let wide = raw.read_vec(le(&tail, locator + 8, 8).ok_or_else(damaged)?, 56)?;
        let field = |at: usize| le(&wide, at, 8).ok_or_else(damaged);
        (count, size, at) = (field(32)?, field(40)?, field(48)?);
    }
    let bytes = raw.read_vec(at, size)?;
    let mut entries = BTreeMap::new();
    let mut at = 0;
    for _ in 0..count {
        if bytes.get(at..at + 4) != Some(b"PK\x01\x02") {
            return Err(damaged());
        }
        let field = |offset: usize, n: usize| le(&bytes, at + offset, n).ok_or_else(damaged);
        let (name_len, extra_len, comment_len) = (field(28, 2)?, field(30, 2)?, field(32, 2)?);
        let (flags, method) = (field(8, 2)?, field(10, 2)?);
        let (mut stored, mut size, mut header) = (field(20, 4)?, field(24, 4)?, field(42, 4)?);
        let extra_at = at + 46 + name_len as usize;
        let name = bytes.get(at + 46..extra_at).ok_or_else(damaged)?;
        let name = std::str::from_utf8(name).map_err(|_| damaged())?.to_owned();
        let mut extra = bytes.get(extra_at..extra_at + extra_len as usize).ok_or_else(damaged)?;
        while let (Some(kind), Some(len)) = (le(extra, 0, 2), le(extra, 2, 2)) {
            let body = extra.get(4..4 + len as usize).ok_or_else(damaged)?;
            if kind == 1 {
                let mut i = 0;
                for value in [&mut size, &mut stored, &mut header] {
                    if *value == 0xffff_ffff {
                        *value = le(body, i, 8).ok_or_else(damaged)?;
                        i += 8;
                    }
                }
            }
            extra = &extra[4 + len as usize..];
        }
        if flags & 1 != 0 {
            return Err(unsupported("an encrypted zip archive"));
        }
        if !name.ends_with('/') {
            entries.insert(name, Entry { header, stored, size, method });
        }
        at = extra_at + extra_len as usize + comment_len as usize;
    }
    Ok(entries)
}

impl Entry {
    fn read(&self, raw: &Raw) -> Result<Vec<u8>> {
        let damaged = || Error::malformed("the zip archive is damaged");
        let head = raw.read_vec(self.header, 30)?;
        if !head.starts_with(b"PK\x03\x04") || self.size > MAX_FILE {
            return Err(damaged());
        }
        let names = le(&head, 26, 2).zip(le(&head, 28, 2)).ok_or_else(damaged)?;
        let bytes = raw.read_vec(self.header + 30 + names.0 + names.1, self.stored)?;
        let bytes = match self.method {
            0 => bytes,
            8 if self.size / 1100 <= self.stored => codec::inflate_raw(&bytes, self.size as usize)?,
            8 => return Err(damaged()),
            other => return Err(unsupported(format!("method {other} of zip"))),
        };
        if bytes.len() as u64 == self.size { Ok(bytes) } else { Err(damaged()) }
    }
}
