//! Filters of single chunks: deflate, LZF, LZ4, Zstandard, shuffle, checksums.

use flate2::{Decompress, FlushDecompress, Status};
use slaf_core::{Error, Result};
use std::io::Read;

/// Bytes that are reserved before any is decoded, at most.
pub(super) const RESERVED: usize = 64 << 20;

pub(crate) fn damaged_chunk() -> Error {
    Error::malformed("a compressed chunk is damaged")
}

pub(crate) fn inflate(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(limit);
    let status = Decompress::new(true)
        .decompress_vec(bytes, &mut out, FlushDecompress::Finish)
        .map_err(|e| damaged_chunk().with_source(e))?;
    if status != Status::StreamEnd {
        return Err(damaged_chunk());
    }
    Ok(out)
}

/// Puts the bytes of elements together again.
pub(crate) fn unshuffle(bytes: &[u8], elem: usize) -> Vec<u8> {
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
pub(crate) fn checked(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
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

pub(crate) fn lzf(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
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
            repeat(&mut out, back, len + 2, limit)?;
        }
        if out.len() > limit {
            return Err(damaged_chunk());
        }
    }
    Ok(out)
}

/// A block of LZ4.
pub(crate) fn lz4(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(limit.min(RESERVED));
    let mut at = 0;
    let next = |at: &mut usize| {
        let b = bytes.get(*at).copied().ok_or_else(damaged_chunk)?;
        *at += 1;
        Ok::<usize, Error>(usize::from(b))
    };
    let length = |at: &mut usize, short: usize| {
        let mut n = short;
        if short == 15 {
            loop {
                let more = next(at)?;
                n += more;
                if more != 255 {
                    break;
                }
            }
        }
        Ok::<usize, Error>(n)
    };
    loop {
        let token = next(&mut at)?;
        let n = length(&mut at, token >> 4)?;
        let run = at.checked_add(n).and_then(|end| bytes.get(at..end)).ok_or_else(damaged_chunk)?;
        if out.len() + n > limit {
            return Err(damaged_chunk());
        }
        out.extend_from_slice(run);
        at += n;
        if at == bytes.len() {
            return Ok(out);
        }
        let back = next(&mut at)? | next(&mut at)? << 8;
        let n = length(&mut at, token & 15)? + 4;
        repeat(&mut out, back, n, limit)?;
    }
}

/// Appends `n` bytes from `back` bytes before the end; they may reach into what they make.
pub(super) fn repeat(out: &mut Vec<u8>, back: usize, n: usize, limit: usize) -> Result<()> {
    let start = out.len().checked_sub(back).filter(|_| back > 0).ok_or_else(damaged_chunk)?;
    if n > limit.saturating_sub(out.len()) {
        return Err(damaged_chunk());
    }
    let mut left = n;
    while left > 0 {
        let n = left.min(out.len() - start);
        out.extend_from_within(start..start + n);
        left -= n;
    }
    Ok(())
}

/// As the HDF5 filter packs blocks of LZ4: their size before them, in the byte order of networks.
pub(crate) fn lz4_blocks(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let word = |at: usize| {
        let w = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or_else(damaged_chunk)?;
        Ok::<usize, Error>(u32::from_be_bytes(*w) as usize)
    };
    let (total, block) = (word(0)? << 32 | word(4)?, word(8)?);
    if total > limit || (block == 0 && total > 0) {
        return Err(damaged_chunk());
    }
    let mut out = Vec::with_capacity(total);
    let mut at = 12;
    while out.len() < total {
        let n = block.min(total - out.len());
        let size = word(at)?;
        at += 4;
        let part = at.checked_add(size).and_then(|end| bytes.get(at..end)).ok_or_else(damaged_chunk)?;
        at += size;
        if size == n {
            out.extend_from_slice(part);
        } else {
            let part = lz4(part, n)?;
            if part.len() != n {
                return Err(damaged_chunk());
            }
            out.extend(part);
        }
    }
    Ok(out)
}

/// A block of LZ4 behind its size, as numcodecs writes it.
pub(crate) fn lz4_sized(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let (size, block) = bytes.split_first_chunk::<4>().ok_or_else(damaged_chunk)?;
    lz4(block, limit.min(u32::from_le_bytes(*size) as usize))
}

/// Frames of Zstandard.
pub(crate) fn zstd(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let reader = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| damaged_chunk().with_source(e))?;
    up_to(reader, limit)
}

/// As [`inflate`], where `limit` is far more than is expected.
pub(crate) fn unzlib(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    up_to(flate2::read::ZlibDecoder::new(bytes), limit)
}

/// A gzip file.
pub(crate) fn gunzip(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    up_to(flate2::read::MultiGzDecoder::new(bytes), limit)
}

/// Deflated bytes without a header, as in zip archives.
pub(crate) fn inflate_raw(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    up_to(flate2::read::DeflateDecoder::new(bytes), limit)
}

fn up_to(reader: impl Read, limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(limit.min(RESERVED));
    reader.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| damaged_chunk().with_source(e))?;
    if out.len() > limit { Err(damaged_chunk()) } else { Ok(out) }
}

/// Removes and checks the CRC-32C behind the data.
pub(crate) fn crc32c(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let (data, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged_chunk)?;
    let table: [u32; 256] =
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 }));
    let crc = !data.iter().fold(!0_u32, |c, &b| c >> 8 ^ table[usize::from(c as u8 ^ b)]);
    if crc != u32::from_le_bytes(*sum) {
        return Err(Error::malformed("the checksum of a chunk is wrong"));
    }
    bytes.truncate(bytes.len() - 4);
    Ok(bytes)
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
    fn lz4_copies_literals_and_overlapping_matches() {
        // Three literals, a match of seven bytes, three back, and a last literal.
        let bytes = [0x33, b'a', b'b', b'c', 3, 0, 0x10, b'z'];
        assert_eq!(lz4(&bytes, 11).unwrap(), b"abcabcabcaz");
        assert!(lz4(&bytes, 10).is_err());
        assert!(lz4(&bytes[..5], 11).is_err());
        assert!(lz4(&[0x10, b'a', 0, 0, 0], 11).is_err(), "a match of no distance");
        assert!(lz4(&[0x10, b'a', 2, 0, 0], 11).is_err(), "a match before the beginning");
        let block = [&[0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 11, 0, 0, 0, 8][..], &bytes].concat();
        assert_eq!(lz4_blocks(&block, 11).unwrap(), b"abcabcabcaz");
        assert!(lz4_blocks(&block, 10).is_err());
        assert!(lz4_blocks(&block[..20], 11).is_err());
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
