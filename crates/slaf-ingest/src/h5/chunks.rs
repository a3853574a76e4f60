//! Chunked storage: the grid of chunks, and where HDF5 keeps them.

use super::codec::{blosc, checked, damaged_chunk, inflate, lz4_blocks, lzf, unshuffle, zstd};
use super::limits::to_usize;
use super::raw::Raw;
use slaf_core::{Error, Result};
use std::ops::Range;

/// A step of the pipeline that a chunk was written through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Deflate,
    Shuffle,
    Fletcher32,
    Lzf,
    Lz4,
    Zstd,
    Blosc,
}

/// Neither gzip nor lzf makes its input smaller than this fraction of it.
const MAX_RATIO: u64 = 1100;

/// Larger chunks than this must be compressed by less than [`LARGE_RATIO`].
const LARGE: u64 = 64 << 20;
const LARGE_RATIO: u64 = 32;

/// Decoded chunks of the last band are kept up to this many bytes.
const MAX_CACHE: usize = 64 << 20;

/// Decoded chunks by number, which neighbouring reads share.
pub(super) type Cache = Vec<(usize, Vec<u8>)>;

/// How an array is cut into chunks. Those at the edge are stored whole.
pub(super) struct Grid {
    elem: usize,
    shape: Vec<u64>,
    chunk: Vec<u64>,
    /// Chunks along each axis.
    counts: Vec<u64>,
    /// The bytes of an element that was never written, where they are not all zero.
    fill: Option<Vec<u8>>,
}

impl Grid {
    /// # Errors
    /// `malformed-input` for a chunk of 4 GiB or more, or of other dimensions than the shape.
    pub(super) fn new(shape: &[u64], chunk: &[u64], elem: u64, fill: Option<Vec<u8>>) -> Result<Grid> {
        let damaged = || Error::malformed("the chunks do not fit the shape");
        let bytes = chunk.iter().try_fold(elem, |n, &d| n.checked_mul(d));
        if !bytes.is_some_and(|b| b > 0 && b < 1 << 32) || chunk.len() != shape.len() || shape.is_empty() {
            return Err(damaged());
        }
        let counts: Vec<u64> = shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c)).collect();
        counts.iter().try_fold(1_u64, |n, &c| n.checked_mul(c)).ok_or_else(damaged)?;
        let fill = fill.filter(|f| f.len() as u64 == elem && f.iter().any(|&b| b != 0));
        Ok(Grid { elem: to_usize(elem)?, shape: shape.to_vec(), chunk: chunk.to_vec(), counts, fill })
    }

    /// How many chunks there are.
    pub(super) fn len(&self) -> u64 {
        self.counts.iter().product()
    }

    /// Bytes of a chunk.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk.iter().product::<u64>() as usize * self.elem
    }

    /// Chunks that begin at the same row.
    fn band(&self) -> u64 {
        self.counts[1..].iter().product()
    }

    /// The number of the chunk at an offset; `None` past the end.
    fn number(&self, offset: &[u64]) -> Option<usize> {
        let axes = self.counts.iter().zip(&self.chunk).enumerate();
        let mut number = 0;
        for (i, (&count, &c)) in axes {
            let at = offset.get(i).copied().unwrap_or(0) / c;
            if at >= count {
                return None;
            }
            number = number * count + at;
        }
        Some(number as usize)
    }

    /// Where a chunk is in the grid.
    pub(super) fn place(&self, number: usize) -> Vec<u64> {
        let mut rest = number as u64;
        let mut place: Vec<u64> = self
            .counts
            .iter()
            .rev()
            .map(|&count| {
                let at = rest % count.max(1);
                rest /= count.max(1);
                at
            })
            .collect();
        place.reverse();
        place
    }

    /// The bytes of some rows; `decode` gives a chunk, or `None` of one that was never written.
    pub(super) fn read(
        &self,
        rows: Range<u64>,
        cache: &mut Cache,
        decode: impl Fn(usize) -> Result<Option<Vec<u8>>>,
    ) -> Result<Vec<u8>> {
        let row_bytes = self.shape[1..].iter().product::<u64>() as usize * self.elem;
        let mut out = self.filled(to_usize(rows.end - rows.start)? * row_bytes);
        let bands = rows.start / self.chunk[0]..rows.end.div_ceil(self.chunk[0]);
        let last = bands.end.saturating_sub(1);
        let keep = !rows.end.is_multiple_of(self.chunk[0])
            && (self.band() as usize).saturating_mul(self.chunk_bytes()) <= MAX_CACHE;
        let mut kept = Vec::new();
        for band in bands {
            for i in 0..self.band() {
                let number = (band * self.band() + i) as usize;
                let chunk = match cache.iter().position(|c| c.0 == number) {
                    Some(i) => cache.swap_remove(i).1,
                    None => match decode(number)? {
                        Some(chunk) if chunk.len() != self.chunk_bytes() => return Err(damaged_chunk()),
                        Some(chunk) => chunk,
                        None => continue,
                    },
                };
                self.copy(&chunk, number, &rows, &mut out);
                if keep && band == last {
                    kept.push((number, chunk));
                }
            }
        }
        *cache = kept;
        Ok(out)
    }

    fn filled(&self, len: usize) -> Vec<u8> {
        match &self.fill {
            Some(fill) => fill.iter().copied().cycle().take(len).collect(),
            None => vec![0; len],
        }
    }

    /// Copies what a chunk has of some rows.
    fn copy(&self, chunk: &[u8], number: usize, rows: &Range<u64>, out: &mut [u8]) {
        let begin: Vec<u64> = self.place(number).iter().zip(&self.chunk).map(|(p, c)| p * c).collect();
        let from = rows.start.max(begin[0]);
        let to = rows.end.min(begin[0] + self.chunk[0]);
        let rank = self.shape.len();
        // Runs along the last axis, or of whole rows where the chunk is as wide as the array.
        let whole = self.chunk[1..] == self.shape[1..];
        let inner = if whole { 1 } else { rank };
        let extent = |k: usize| if k == 0 { to - from } else { self.chunk[k].min(self.shape[k] - begin[k]) };
        let run = if whole {
            (to - from) as usize * self.shape[1..].iter().product::<u64>() as usize
        } else {
            extent(rank - 1) as usize
        } * self.elem;
        let mut at = vec![0_u64; inner];
        loop {
            let (mut source, mut target) = (0, 0);
            for k in 0..rank {
                let i = at.get(k).copied().unwrap_or(0);
                let (in_chunk, in_rows) = match k {
                    0 => (from - begin[0] + i, from - rows.start + i),
                    _ => (i, begin[k] + i),
                };
                source = source * self.chunk[k] + in_chunk;
                target = target * self.shape[k] + in_rows;
            }
            let (s, t) = (source as usize * self.elem, target as usize * self.elem);
            out[t..t + run].copy_from_slice(&chunk[s..s + run]);
            // The next run: all axes but the last count on, as an odometer.
            let mut axes = (0..inner - 1).rev();
            loop {
                let Some(k) = axes.next() else { return };
                at[k] += 1;
                if at[k] < extent(k) {
                    break;
                }
                at[k] = 0;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    size: u32,
    mask: u32,
}

/// A chunk of the file.
pub(super) struct Stored {
    pub(super) offset: Vec<u64>,
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) mask: u32,
}

/// Where the chunks of an HDF5 dataset are.
pub(super) struct ChunkTable {
    grid: Grid,
    /// Those without a size were never written.
    entries: Vec<Entry>,
    filters: Vec<Filter>,
}

impl ChunkTable {
    /// Checks the chunks against the file; they may be fewer than the grid has places.
    pub(super) fn new(grid: Grid, chunks: &[Stored], filters: Vec<Filter>, file_len: u64) -> Result<ChunkTable> {
        let mut entries = vec![Entry { address: 0, size: 0, mask: 0 }; to_usize(grid.len())?];
        check_chunks(&grid, chunks, Some(&filters), file_len)?;
        for c in chunks {
            // A dataset that was cut may keep chunks past its end.
            if let Some(number) = grid.number(&c.offset) {
                entries[number] = Entry { address: c.address, size: c.size as u32, mask: c.mask };
            }
        }
        Ok(ChunkTable { grid, entries, filters })
    }

    pub(super) fn read(&self, raw: &Raw, rows: Range<u64>, cache: &mut Cache) -> Result<Vec<u8>> {
        self.grid.read(rows, cache, |number| {
            let entry = self.entries[number];
            if entry.size == 0 { Ok(None) } else { self.decode(raw, entry).map(Some) }
        })
    }

    /// A chunk, through the pipeline backwards.
    fn decode(&self, raw: &Raw, entry: Entry) -> Result<Vec<u8>> {
        // Between two filters a checksum may follow the data.
        let limit = self.grid.chunk_bytes() + 4;
        let mut bytes = raw.read_vec(entry.address, u64::from(entry.size))?;
        for (i, filter) in self.filters.iter().enumerate().rev() {
            if i < 32 && entry.mask & (1 << i) != 0 {
                continue;
            }
            bytes = match filter {
                Filter::Deflate => inflate(&bytes, limit)?,
                Filter::Lzf => lzf(&bytes, limit)?,
                Filter::Lz4 => lz4_blocks(&bytes, limit)?,
                Filter::Zstd => zstd(&bytes, limit)?,
                Filter::Blosc => blosc(&bytes, limit)?,
                Filter::Shuffle => unshuffle(&bytes, self.grid.elem),
                Filter::Fletcher32 => checked(bytes)?,
            };
        }
        Ok(bytes)
    }
}

/// Whether the chunks lie in the file, and could hold what they claim to.
pub(super) fn check_chunks(grid: &Grid, chunks: &[Stored], filters: Option<&[Filter]>, file_len: u64) -> Result<()> {
    let bytes = grid.chunk_bytes() as u64;
    let newer = filters.is_some_and(|f| f.iter().any(|f| matches!(f, Filter::Zstd | Filter::Blosc)));
    let ratio = match (bytes > LARGE, newer) {
        (true, _) => LARGE_RATIO,
        (false, true) => u64::MAX,
        (false, false) => MAX_RATIO,
    };
    for c in chunks {
        if c.address.checked_add(c.size).is_none_or(|end| end > file_len) || c.size >= 1 << 32 {
            return Err(Error::malformed(format!("the chunk at {} lies outside of the file", c.address)));
        }
        if filters.is_some() && bytes / ratio > c.size {
            return Err(Error::malformed(format!(
                "the chunk at {} of {} bytes claims to hold {bytes} bytes",
                c.address, c.size
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_grid_are_those_of_the_array() {
        for (shape, chunk) in [
            (&[7][..], &[3][..]),
            (&[5, 4], &[2, 4]),
            (&[5, 7], &[2, 3]),
            (&[4, 3, 5], &[3, 2, 2]),
            (&[4, 3, 5], &[1, 3, 5]),
            (&[3, 2, 3, 4], &[2, 1, 2, 3]),
        ] {
            let n = shape.iter().product::<u64>();
            let array: Vec<u8> = (0..n as u8).collect();
            let grid = Grid::new(shape, chunk, 1, Some(vec![99])).unwrap();
            let index = |at: &[u64]| at.iter().zip(shape).fold(0, |i, (a, n)| i * n + a);
            // Chunk number 1 is missing.
            let decode = |number: usize| {
                if number == 1 {
                    return Ok(None);
                }
                let begin: Vec<u64> = grid.place(number).iter().zip(chunk).map(|(p, c)| p * c).collect();
                let size = chunk.iter().product::<u64>();
                let one = |i: u64| {
                    let mut rest = i;
                    let mut at = vec![0; chunk.len()];
                    for k in (0..chunk.len()).rev() {
                        at[k] = begin[k] + rest % chunk[k];
                        rest /= chunk[k];
                    }
                    let inside = at.iter().zip(shape).all(|(a, n)| a < n);
                    if inside { array[index(&at) as usize] } else { 255 }
                };
                Ok(Some((0..size).map(one).collect()))
            };
            let row = array.len() / shape[0] as usize;
            let mut cache = Vec::new();
            for range in [0..shape[0], 1..3, 2..3, 0..1] {
                let bytes = grid.read(range.clone(), &mut cache, decode).unwrap();
                let expected = &array[range.start as usize * row..range.end as usize * row];
                for (i, (b, e)) in bytes.iter().zip(expected).enumerate() {
                    let mut rest = range.start * row as u64 + i as u64;
                    let mut at = vec![0; shape.len()];
                    for k in (0..shape.len()).rev() {
                        at[k] = rest % shape[k];
                        rest /= shape[k];
                    }
                    let missing = grid.number(&at) == Some(1);
                    assert_eq!(*b, if missing { 99 } else { *e }, "{shape:?} {chunk:?} {range:?} {at:?}");
                }
                assert_eq!(bytes.len(), expected.len());
            }
        }
    }
}
