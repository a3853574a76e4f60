//! Chunked storage: the table of chunks, and their decoding.

use super::{H5File, to_usize};
use flate2::{Decompress, FlushDecompress, Status};
use slaf_core::{Error, Result};
use std::ops::Range;

/// A step of the pipeline that a chunk was written through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Deflate,
    Shuffle,
    Fletcher32,
    Lzf,
}

/// No supported filter makes its input smaller than this fraction of it.
const MAX_RATIO: u64 = 1100;

/// Larger chunks than this must be compressed by less than [`LARGE_RATIO`].
const LARGE: u64 = 64 << 20;
const LARGE_RATIO: u64 = 32;

/// Decoded chunks of the last band are kept up to this many bytes.
const MAX_CACHE: usize = 64 << 20;

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    size: u32,
    mask: u32,
}

/// Where the chunks of a one- or two-dimensional dataset are.
pub(super) struct ChunkTable {
    elem: usize,
    n_cols: u64,
    /// Rows and columns of a chunk.
    chunk: (u64, u64),
    grid_cols: u64,
    entries: Vec<Entry>,
    filters: Vec<Filter>,
}

impl ChunkTable {
    /// The table, or `None` where chunks have never been written or only the library can decode
    /// them; and how many bytes the present chunks hold.
    pub(super) fn new(
        shape: &[u64],
        chunk_shape: &[u64],
        elem: u64,
        chunks: &[hdf5_pure::Chunk],
        filters: Option<Vec<Filter>>,
        file_len: u64,
    ) -> Result<(Option<ChunkTable>, u64)> {
        let damaged = || Error::malformed("the chunks do not fit the shape");
        let bytes = chunk_shape
            .iter()
            .try_fold(elem, |n, &d| n.checked_mul(d))
            .filter(|&b| b > 0 && b < 1 << 32 && chunk_shape.len() == shape.len())
            .ok_or_else(damaged)?;
        let present = bytes.saturating_mul(chunks.len() as u64);
        for c in chunks {
            let inside = c.address.checked_add(c.storage_size).is_some_and(|end| end <= file_len);
            if !inside || c.storage_size >= 1 << 32 {
                return Err(Error::malformed(format!("the chunk at {} lies outside of the file", c.address)));
            }
            let ratio = if bytes > LARGE { LARGE_RATIO } else { MAX_RATIO };
            if filters.is_some() && bytes / ratio > c.storage_size {
                return Err(Error::malformed(format!(
                    "the chunk at {} of {} bytes claims to hold {bytes} bytes",
                    c.address, c.storage_size
                )));
            }
        }
        let (dims, chunk) = match (shape, chunk_shape) {
            ([n], [c]) => ((*n, 1), (*c, 1)),
            ([n, m], [c, d]) => ((*n, *m), (*c, *d)),
            _ => return Ok((None, present)),
        };
        let grid = (dims.0.div_ceil(chunk.0), dims.1.div_ceil(chunk.1));
        let cells = grid.0.checked_mul(grid.1).ok_or_else(damaged)?;
        let Some(filters) = filters else { return Ok((None, present)) };
        if cells > chunks.len() as u64 {
            return Ok((None, present));
        }
        let mut entries = vec![Entry { address: 0, size: 0, mask: 0 }; to_usize(cells)?];
        for c in chunks {
            let row = c.offset.first().copied().unwrap_or(0) / chunk.0;
            let col = c.offset.get(1).copied().unwrap_or(0) / chunk.1;
            // A dataset that was cut may keep chunks past its end.
            if row >= grid.0 || col >= grid.1 {
                continue;
            }
            entries[(row * grid.1 + col) as usize] =
                Entry { address: c.address, size: c.storage_size as u32, mask: c.filter_mask };
        }
        if entries.iter().any(|e| e.size == 0) {
            return Ok((None, present));
        }
        let elem = to_usize(elem)?;
        Ok((Some(ChunkTable { elem, n_cols: dims.1, chunk, grid_cols: grid.1, entries, filters }), present))
    }

    /// The bytes of some rows; `cache` holds what neighbouring calls share.
    pub(super) fn read(&self, file: &H5File, rows: Range<u64>, cache: &mut Vec<(usize, Vec<u8>)>) -> Result<Vec<u8>> {
        let row_bytes = self.n_cols as usize * self.elem;
        let chunk_row = self.chunk.1 as usize * self.elem;
        let mut out = vec![0; to_usize(rows.end - rows.start)? * row_bytes];
        let bands = rows.start / self.chunk.0..rows.end.div_ceil(self.chunk.0);
        let last = bands.end.saturating_sub(1);
        let keep = !rows.end.is_multiple_of(self.chunk.0)
            && (self.grid_cols as usize).saturating_mul(self.chunk_bytes()) <= MAX_CACHE;
        let mut kept = Vec::new();
        for band in bands {
            let band_start = band * self.chunk.0;
            let from = rows.start.max(band_start);
            let to = rows.end.min(band_start + self.chunk.0);
            for col in 0..self.grid_cols {
                let number = (band * self.grid_cols + col) as usize;
                let chunk = match cache.iter().position(|c| c.0 == number) {
                    Some(i) => cache.swap_remove(i).1,
                    None => self.decode(file, self.entries[number])?,
                };
                let x = (col * self.chunk.1) as usize * self.elem;
                let width = chunk_row.min(row_bytes - x);
                let source = (from - band_start) as usize * chunk_row;
                let target = (from - rows.start) as usize * row_bytes + x;
                if width == row_bytes && chunk_row == row_bytes {
                    let n = (to - from) as usize * row_bytes;
                    out[target..target + n].copy_from_slice(&chunk[source..source + n]);
                } else {
                    for i in 0..(to - from) as usize {
                        let (s, t) = (source + i * chunk_row, target + i * row_bytes);
                        out[t..t + width].copy_from_slice(&chunk[s..s + width]);
                    }
                }
                if keep && band == last {
                    kept.push((number, chunk));
                }
            }
        }
        *cache = kept;
        Ok(out)
    }

    fn chunk_bytes(&self) -> usize {
        (self.chunk.0 * self.chunk.1) as usize * self.elem
    }

    /// A chunk, through the pipeline backwards.
    fn decode(&self, file: &H5File, entry: Entry) -> Result<Vec<u8>> {
        let expected = self.chunk_bytes();
        let mut bytes = file.read_vec(entry.address, u64::from(entry.size))?;
        for (i, filter) in self.filters.iter().enumerate().rev() {
            if i < 32 && entry.mask & (1 << i) != 0 {
                continue;
            }
            // Between two filters a checksum may follow the data.
            bytes = match filter {
                Filter::Deflate => inflate(&bytes, expected + 4)?,
                Filter::Lzf => lzf(&bytes, expected + 4)?,
                Filter::Shuffle => unshuffle(&bytes, self.elem),
                Filter::Fletcher32 => checked(bytes)?,
            };
        }
        if bytes.len() != expected {
            return Err(damaged_chunk());
        }
        Ok(bytes)
    }
}

fn damaged_chunk() -> Error {
    Error::malformed("a compressed chunk is damaged")
}

fn inflate(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(limit);
    let status = Decompress::new(true)
        .decompress_vec(bytes, &mut out, FlushDecompress::Finish)
        .map_err(|e| damaged_chunk().with_source(e))?;
    if status != Status::StreamEnd {
        return Err(damaged_chunk());
    }
    Ok(out)
}

fn unshuffle(bytes: &[u8], elem: usize) -> Vec<u8> {
    let n = bytes.len() / elem.max(1);
    if elem <= 1 || n <= 1 {
        return bytes.to_vec();
    }
    let mut out = vec![0; bytes.len()];
    for (j, plane) in bytes[..n * elem].chunks_exact(n).enumerate() {
        for (slot, &b) in out[j..].iter_mut().step_by(elem).zip(plane) {
            *slot = b;
        }
    }
    out[n * elem..].copy_from_slice(&bytes[n * elem..]);
    out
}

/// Removes and checks the checksum behind the data.
fn checked(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let (data, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged_chunk)?;
    if fletcher32(data) != u32::from_le_bytes(*sum) {
        return Err(Error::malformed("the checksum of a chunk is wrong"));
    }
    bytes.truncate(bytes.len() - 4);
    Ok(bytes)
}

fn fletcher32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (0_u32, 0_u32);
    let (words, rest) = data.as_chunks::<2>();
    // 360 sums of 16-bit words fit into 32 bits.
    for block in words.chunks(360) {
        for w in block {
            a += u32::from(u16::from_be_bytes(*w));
            b += a;
        }
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    if let [last] = rest {
        a += u32::from(*last) << 8;
        b += a;
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
    b << 16 | a
}

fn lzf(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(limit);
    let mut at = 0;
    let next = |at: &mut usize| {
        let b = bytes.get(*at).copied().ok_or_else(damaged_chunk)?;
        *at += 1;
        Ok::<usize, Error>(usize::from(b))
    };
    while at < bytes.len() {
        let control = next(&mut at)?;
        if control < 32 {
            let run = bytes.get(at..at + control + 1).ok_or_else(damaged_chunk)?;
            out.extend_from_slice(run);
            at += control + 1;
        } else {
            let mut len = control >> 5;
            if len == 7 {
                len += next(&mut at)?;
            }
            let back = ((control & 31) << 8 | next(&mut at)?) + 1;
            let start = out.len().checked_sub(back).ok_or_else(damaged_chunk)?;
            // The match may reach into what it makes.
            let mut left = len + 2;
            while left > 0 {
                let n = left.min(out.len() - start);
                out.extend_from_within(start..start + n);
                left -= n;
            }
        }
        if out.len() > limit {
            return Err(damaged_chunk());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffle_is_undone() {
        assert_eq!(unshuffle(&[1, 3, 5, 2, 4, 6, 9], 2), [1, 2, 3, 4, 5, 6, 9]);
    }

    #[test]
    fn lzf_copies_literals_and_overlapping_matches() {
        // Three literals, then a match of seven bytes, three back.
        assert_eq!(lzf(&[2, b'a', b'b', b'c', 5 << 5, 2], 100).unwrap(), b"abcabcabca");
        assert!(lzf(&[2, b'a'], 100).is_err());
        assert!(lzf(&[32, 9], 100).is_err());
        assert!(lzf(&[2, b'a', b'b', b'c', 5 << 5, 2], 5).is_err());
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        use std::io::Write;
        let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        z.write_all(&vec![0; 1 << 20]).unwrap();
        let z = z.finish().unwrap();
        assert!(inflate(&z, 1000).is_err());
        assert_eq!(inflate(&z, 1 << 20).unwrap().len(), 1 << 20);
    }
}
