//! Arrays of a Zarr store, and reading ranges of their rows.

use super::super::attrs::Attrs;
use super::super::chunks::{Cache, Grid};
use super::super::codec::{blosc, crc32c, damaged_chunk, gunzip, lz4_sized, unshuffle, unzlib, zstd};
use super::super::elem::Elem;
use super::super::limits::{to_usize, unsupported};
use super::files::Files;
use super::types::{Type, attrs, numbers};
use hdf5_pure::Datatype;
use serde_json::Value;
use slaf_core::{Context, Error, Result};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A chunk of strings may take this many bytes, of which the metadata say nothing.
const MAX_STRINGS: usize = 1 << 30;
/// Bytes of one axis that a store may leave out because they are the fill value.
const MAX_FILL: u64 = 1 << 30;

/// The codec whose files hold several chunks.
const SHARDS: &str = "sharding_indexed";

/// A step by which a chunk was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Blosc,
    Zstd,
    Gzip,
    Zlib,
    Lz4,
    Crc32c,
    Shuffle(usize),
}

/// Files that hold several chunks each, and say where.
struct Shards {
    /// Chunks of a file along each axis.
    counts: Vec<u64>,
    /// Whether the places stand before the chunks, not behind.
    first: bool,
    /// What the places are written through.
    codecs: Vec<Codec>,
    /// The last file: its chunks are read one after the other.
    last: Mutex<Option<(String, Arc<Vec<u8>>)>>,
}

/// An array of the store.
pub(crate) struct ZarrArray {
    files: Arc<Files>,
    key: String,
    /// Between the numbers of a chunk, and before them.
    separator: String,
    prefix: &'static str,
    shape: Vec<u64>,
    of: Type,
    grid: Option<Grid>,
    /// In the order of writing.
    codecs: Vec<Codec>,
    shards: Option<Shards>,
    fill: Value,
    attrs: Value,
    chunk_rows: Option<u64>,
}

impl ZarrArray {
    pub(super) fn open(files: Arc<Files>, key: String, version: u64, meta: &Value, attrs: Value) -> Result<ZarrArray> {
        let shape = numbers(meta.get("shape"), "shape")?;
        let fill = meta.get("fill_value").cloned().unwrap_or(Value::Null);
        let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_owned);
        let mut shards = None;
        let (chunk, of, codecs, separator, prefix) = if version == 2 {
            if text(meta.get("order")).is_some_and(|o| o == "F") && shape.len() > 1 {
                return Err(unsupported("chunks in Fortran order"));
            }
            let (codecs, strings) = version_2_codecs(meta)?;
            let of = Type::version_2(meta.get("dtype").unwrap_or(&Value::Null), strings)?;
            let separator = text(meta.get("dimension_separator")).unwrap_or_else(|| ".".into());
            (numbers(meta.get("chunks"), "chunks")?, of, codecs, separator, "")
        } else {
            if meta.get("storage_transformers").and_then(Value::as_array).is_some_and(|v| !v.is_empty()) {
                return Err(unsupported("storage transformers of Zarr"));
            }
            let mut meta = meta.clone();
            let inner = meta.pointer("/codecs/0").filter(|c| c.get("name").and_then(Value::as_str) == Some(SHARDS));
            if let Some(config) = inner.and_then(|c| c.get("configuration")).cloned() {
                let outer = numbers(meta.pointer("/chunk_grid/configuration/chunk_shape"), "chunk_shape")?;
                let chunk = numbers(config.get("chunk_shape"), "chunk_shape")?;
                let fits = outer.len() == chunk.len() && outer.iter().zip(&chunk).all(|(o, c)| *c > 0 && o % c == 0);
                if !fits || meta.pointer("/codecs/1").is_some() {
                    return Err(unsupported("shards of another form"));
                }
                shards = Some(Shards {
                    counts: outer.iter().zip(&chunk).map(|(o, c)| o / c).collect(),
                    first: config.get("index_location").and_then(Value::as_str) == Some("start"),
                    codecs: version_3_codecs(config.get("index_codecs"), 1)?.0,
                    last: Mutex::new(None),
                });
                meta["codecs"] = config.get("codecs").cloned().unwrap_or(Value::Null);
                meta["chunk_grid"]["configuration"]["chunk_shape"] = chunk.into();
            }
            let (codecs, big) = version_3_codecs(meta.get("codecs"), shape.len())?;
            let of = Type::version_3(meta.get("data_type").unwrap_or(&Value::Null), big)?;
            let grid = meta.get("chunk_grid").filter(|g| g.get("name").and_then(Value::as_str) == Some("regular"));
            let grid = grid.ok_or_else(|| unsupported("a grid of chunks that is not regular"))?;
            let chunk = numbers(grid.pointer("/configuration/chunk_shape"), "chunk_shape")?;
            let keys = meta.get("chunk_key_encoding");
            let separator = text(keys.and_then(|k| k.pointer("/configuration/separator")));
            match keys.and_then(|k| k.get("name")?.as_str()) {
                Some("v2") => (chunk, of, codecs, separator.unwrap_or_else(|| ".".into()), ""),
                _ => (chunk, of, codecs, separator.unwrap_or_else(|| "/".into()), "c"),
            }
        };
        let scalar = shape.is_empty() && chunk.is_empty();
        let (grid_shape, grid_chunk) = if scalar { (vec![1], vec![1]) } else { (shape.clone(), chunk.clone()) };
        let grid = match shape.contains(&0) {
            true => None,
            false => Some(Grid::new(&grid_shape, &grid_chunk, of.size, of.fill(&fill).unwrap_or(None))?),
        };
        let chunk_rows = chunk.first().copied();
        Ok(ZarrArray { files, key, separator, prefix, shape, of, grid, codecs, shards, fill, attrs, chunk_rows })
    }

    pub(crate) fn shape(&self) -> &[u64] {
        &self.shape
    }

    pub(crate) fn elem(&self) -> &Elem {
        &self.of.elem
    }

    pub(crate) fn elem_size(&self) -> u64 {
        self.of.size
    }

    pub(crate) fn datatype(&self) -> Option<&Datatype> {
        self.of.datatype.as_ref()
    }

    pub(crate) fn attrs(&self) -> Result<Attrs> {
        attrs(&self.attrs)
    }

    pub(crate) fn chunk_rows(&self) -> Option<u64> {
        self.chunk_rows
    }

    /// Refuses a column whose length is nothing but a claim.
    pub(crate) fn check_storage(&self) -> Result<()> {
        let bytes = self.shape.iter().try_fold(self.of.size, |n, &d| n.checked_mul(d));
        let bytes = bytes.ok_or_else(|| Error::malformed(format!("shape {:?} is impossible", self.shape)))?;
        if bytes / self.shape.first().copied().unwrap_or(1).max(1) > MAX_FILL {
            return Err(Error::malformed(format!("shape {:?} has rows that are too large", self.shape)));
        }
        if self.shape.len() != 1 || bytes <= MAX_FILL {
            return Ok(());
        }
        let folder = if self.prefix.is_empty() { self.key.clone() } else { format!("{}/{}", self.key, self.prefix) };
        let present = self.files.list(&folder).map_or(0, |names| names.len() as u64);
        let chunk = self.grid.as_ref().map_or(0, Grid::chunk_bytes) as u64;
        if bytes.saturating_sub(present.saturating_mul(chunk)) > MAX_FILL {
            return Err(Error::malformed(format!("shape {:?} needs more than the store has", self.shape)));
        }
        Ok(())
    }

    /// The bytes of some rows.
    pub(crate) fn read(&self, rows: Range<u64>, cache: &mut Cache) -> Result<Vec<u8>> {
        let Some(grid) = &self.grid else { return Ok(Vec::new()) };
        grid.read(rows, cache, |number| {
            let Some(bytes) = self.chunk(grid, number, grid.chunk_bytes())? else {
                // Of a form that is not known, it must not be taken for zero.
                self.of.fill(&self.fill)?;
                return Ok(None);
            };
            self.of.decode(bytes).at(&self.key).map(Some)
        })
    }

    /// The strings of some rows.
    pub(crate) fn strings(&self, rows: Range<u64>) -> Result<Vec<String>> {
        let Some(grid) = &self.grid else { return Ok(Vec::new()) };
        let fill = self.fill.as_str().unwrap_or("");
        // The grid moves numbers; what they stand for is beside it. Number 0 is the fill value.
        let pool = RefCell::new(vec![fill.to_owned()]);
        let numbers = grid.read(rows, &mut Vec::new(), |number| {
            let Some(bytes) = self.chunk(grid, number, MAX_STRINGS)? else { return Ok(None) };
            let mut pool = pool.borrow_mut();
            let mut numbers = Vec::with_capacity(grid.chunk_bytes());
            for text in strings(&bytes)? {
                numbers.extend((pool.len() as u32).to_le_bytes());
                pool.push(text.to_owned());
            }
            Ok(Some(numbers))
        })?;
        let pool = pool.into_inner();
        let (words, _) = numbers.as_chunks::<4>();
        Ok(words.iter().map(|w| pool[u32::from_le_bytes(*w) as usize].clone()).collect())
    }

    /// A chunk, decoded to at most `limit` bytes; `None` if it was not written.
    fn chunk(&self, grid: &Grid, number: usize, limit: usize) -> Result<Option<Vec<u8>>> {
        let place = if self.shape.is_empty() { Vec::new() } else { grid.place(number) };
        let (key, bytes) = match &self.shards {
            Some(shards) => {
                let file: Vec<u64> = place.iter().zip(&shards.counts).map(|(p, n)| p / n).collect();
                let key = self.file(&file);
                let bytes = shards.chunk(&self.files, &key, &place).at(&key)?;
                (key, bytes)
            }
            None => {
                let key = self.file(&place);
                let bytes = self.files.read(&key)?;
                (key, bytes)
            }
        };
        let Some(bytes) = bytes else { return Ok(None) };
        decode(&self.codecs, bytes, limit).at(&key).map(Some)
    }

    /// The file of a chunk, or of a shard.
    fn file(&self, place: &[u64]) -> String {
        let mut parts: Vec<String> = place.iter().map(ToString::to_string).collect();
        if self.prefix.is_empty() && parts.is_empty() {
            parts.push("0".into());
        } else if !self.prefix.is_empty() {
            parts.insert(0, self.prefix.into());
        }
        format!("{}/{}", self.key, parts.join(&self.separator))
    }
}

impl Shards {
    /// The bytes of the chunk at a place of the whole grid, as they are stored.
    fn chunk(&self, files: &Files, key: &str, place: &[u64]) -> Result<Option<Vec<u8>>> {
        let damaged = || Error::malformed("the index of the shard is damaged");
        let n = self.counts.iter().try_fold(1_usize, |n, &c| n.checked_mul(usize::try_from(c).ok()?));
        let width = n.and_then(|n| n.checked_mul(16)).ok_or_else(damaged)?;
        // A checksum is the only step that the index may have been written through.
        let stored = width + 4 * self.codecs.iter().filter(|c| **c == Codec::Crc32c).count();
        if self.codecs.iter().any(|c| *c != Codec::Crc32c) {
            return Err(unsupported("a compressed index of shards"));
        }
        let Some(file) = self.read(files, key)? else { return Ok(None) };
        let at = if self.first { Some(0) } else { file.len().checked_sub(stored) }.ok_or_else(damaged)?;
        let index = file.get(at..at + stored).ok_or_else(damaged)?.to_vec();
        let index = decode(&self.codecs, index, width)?;
        let number = place.iter().zip(&self.counts).fold(0, |i, (p, n)| i * n + p % n) as usize;
        let word = |at: usize| index.get(at..).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_le_bytes(*b));
        let (offset, len) = word(16 * number).zip(word(16 * number + 8)).ok_or_else(damaged)?;
        if offset == u64::MAX && len == u64::MAX {
            return Ok(None);
        }
        let range = to_usize(offset)?..to_usize(offset.checked_add(len).ok_or_else(damaged)?)?;
        file.get(range).map(|b| Some(b.to_vec())).ok_or_else(damaged)
    }

    fn read(&self, files: &Files, key: &str) -> Result<Option<Arc<Vec<u8>>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bytes)) = &*last
            && of == key
        {
            return Ok(Some(bytes.clone()));
        }
        let Some(bytes) = files.read(key)?.map(Arc::new) else { return Ok(None) };
        *last = Some((key.to_owned(), bytes.clone()));
        Ok(Some(bytes))
    }
}

fn decode(codecs: &[Codec], mut bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>> {
    for codec in codecs.iter().rev() {
        bytes = match codec {
            Codec::Blosc => blosc(&bytes, limit),
            Codec::Zstd => zstd(&bytes, limit),
            Codec::Gzip => gunzip(&bytes, limit),
            Codec::Zlib => unzlib(&bytes, limit),
            Codec::Lz4 => lz4_sized(&bytes, limit),
            Codec::Crc32c => crc32c(bytes),
            Codec::Shuffle(elem) => Ok(unshuffle(&bytes, *elem)),
        }?;
    }
    Ok(bytes)
}

/// The strings of a chunk: their number, and each behind its length.
fn strings(bytes: &[u8]) -> Result<Vec<&str>> {
    let word = |at: usize| {
        let w = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or_else(damaged_chunk)?;
        Ok::<usize, Error>(u32::from_le_bytes(*w) as usize)
    };
    let n = word(0)?;
    let mut at = 4;
    let mut texts = Vec::with_capacity(n.min(bytes.len() / 4));
    for _ in 0..n {
        let len = word(at)?;
        at += 4;
        let text = at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(damaged_chunk)?;
        texts.push(std::str::from_utf8(text).map_err(|e| Error::malformed("text that is not UTF-8").with_source(e))?);
        at += len;
    }
    Ok(texts)
}

/// The steps of version 2, and whether objects are strings.
fn version_2_codecs(meta: &Value) -> Result<(Vec<Codec>, bool)> {
    let id = |v: &Value| v.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
    let (mut codecs, mut strings) = (Vec::new(), false);
    for filter in meta.get("filters").and_then(Value::as_array).into_iter().flatten() {
        match id(filter).as_str() {
            "vlen-utf8" => strings = true,
            "shuffle" => {
                let elem = filter.get("elementsize").and_then(Value::as_u64).unwrap_or(4);
                codecs.push(Codec::Shuffle(to_usize(elem)?));
            }
            other => return Err(unsupported(format!("the filter \"{other}\"; write the store with zstd or blosc"))),
        }
    }
    match meta.get("compressor") {
        None | Some(Value::Null) => {}
        Some(compressor) => codecs.push(match id(compressor).as_str() {
            "blosc" => Codec::Blosc,
            "zstd" => Codec::Zstd,
            "gzip" => Codec::Gzip,
            "zlib" => Codec::Zlib,
            "lz4" => Codec::Lz4,
            other => {
                return Err(unsupported(format!("the compressor \"{other}\"; write the store with zstd or blosc")));
            }
        }),
    }
    Ok((codecs, strings))
}

/// The steps of version 3, and whether bytes are in the order of networks.
fn version_3_codecs(list: Option<&Value>, rank: usize) -> Result<(Vec<Codec>, bool)> {
    let (mut codecs, mut big) = (Vec::new(), false);
    for codec in list.and_then(Value::as_array).into_iter().flatten() {
        let name = codec.as_str().or_else(|| codec.get("name")?.as_str()).unwrap_or("");
        match name {
            "bytes" => big = codec.pointer("/configuration/endian").and_then(Value::as_str) == Some("big"),
            "vlen-utf8" => {}
            "transpose" if rank < 2 => {}
            "blosc" => codecs.push(Codec::Blosc),
            "zstd" => codecs.push(Codec::Zstd),
            "gzip" => codecs.push(Codec::Gzip),
            "numcodecs.zlib" => codecs.push(Codec::Zlib),
            "numcodecs.lz4" => codecs.push(Codec::Lz4),
            "crc32c" => codecs.push(Codec::Crc32c),
            "sharding_indexed" => {
                return Err(unsupported(
                    "an array in shards; write the store without shards (auto_shard_zarr_v3=False)",
                ));
            }
            other => return Err(unsupported(format!("the codec \"{other}\"; write the store with zstd or blosc"))),
        }
    }
    Ok((codecs, big))
}
