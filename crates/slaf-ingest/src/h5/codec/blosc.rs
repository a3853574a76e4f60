//! Containers of Blosc 1.

use super::filters::{RESERVED, damaged_chunk, lz4, repeat, unshuffle, unzlib, zstd};
use crate::h5::limits::unsupported;
use slaf_core::{Error, Result};

const HEADER: usize = 16;
/// Blocks are cut into the bytes of elements only where these are not larger, and not fewer.
const MAX_SPLITS: usize = 16;
const MIN_SPLIT: usize = 128;

/// Decodes a container of at most `limit` bytes.
pub(crate) fn blosc(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let word = |at: usize| {
        let w = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or_else(damaged_chunk)?;
        Ok::<usize, Error>(u32::from_le_bytes(*w) as usize)
    };
    let (total, block, size) = (word(4)?, word(8)?, word(12)?);
    let (version, flags, elem) = (bytes[0], bytes[2], usize::from(bytes[3]).max(1));
    if version > 2 {
        return Err(unsupported(format!("compressed by version {version} of Blosc; rewrite the file with zstd")));
    }
    if total > limit || size > bytes.len() {
        return Err(damaged_chunk());
    }
    if flags & 2 != 0 {
        let data = bytes.get(HEADER..HEADER + total).ok_or_else(damaged_chunk)?;
        return Ok(data.to_vec());
    }
    let mut out = Vec::with_capacity(total.min(RESERVED));
    if total > 0 && block == 0 {
        return Err(damaged_chunk());
    }
    for i in 0..total.div_ceil(block.max(1)) {
        let n = block.min(total - i * block);
        let cut = flags & 0x10 == 0 && n == block && elem <= MAX_SPLITS && block / elem >= MIN_SPLIT;
        let parts = if cut { elem } else { 1 };
        let mut at = word(HEADER + 4 * i)?;
        let mut data = Vec::with_capacity(n.min(RESERVED));
        for _ in 0..parts {
            let len = word(at)?;
            at += 4;
            let part = at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(damaged_chunk)?;
            at += len;
            let wanted = n / parts;
            if len == wanted {
                data.extend_from_slice(part);
                continue;
            }
            let part = match flags >> 5 {
                0 => blosclz(part, wanted)?,
                1 => lz4(part, wanted)?,
                3 => unzlib(part, wanted)?,
                4 => zstd(part, wanted)?,
                _ => return Err(unsupported("compressed by Snappy in Blosc; rewrite the file with zstd")),
            };
            if part.len() != wanted {
                return Err(damaged_chunk());
            }
            data.extend(part);
        }
        if data.len() != n {
            return Err(damaged_chunk());
        }
        out.extend(match flags {
            f if f & 1 != 0 => unshuffle(&data, elem),
            f if f & 4 != 0 => unshuffle_bits(data, elem),
            _ => data,
        });
    }
    Ok(out)
}

/// Puts the bits of elements together again; a block whose elements are no multiple of eight was
/// not taken apart.
fn unshuffle_bits(data: Vec<u8>, elem: usize) -> Vec<u8> {
    let n = data.len() / elem;
    if n == 0 || !n.is_multiple_of(8) {
        return data;
    }
    let mut out = vec![0; data.len()];
    for (plane, row) in data.chunks_exact(n / 8).take(elem * 8).enumerate() {
        let (byte, bit) = (plane / 8, plane % 8);
        for (i, &bits) in row.iter().enumerate() {
            for k in 0..8 {
                out[(8 * i + k) * elem + byte] |= (bits >> k & 1) << bit;
            }
        }
    }
    out[n * elem..].copy_from_slice(&data[n * elem..]);
    out
}

/// Blosc's own compressor.
fn blosclz(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    /// Longer distances than this take two more bytes.
    const FAR: usize = 8191;
    let mut out = Vec::with_capacity(limit.min(RESERVED));
    let mut at = 0;
    let next = |at: &mut usize| {
        let b = bytes.get(*at).copied().ok_or_else(damaged_chunk)?;
        *at += 1;
        Ok::<usize, Error>(usize::from(b))
    };
    // The highest bits of the first byte are no part of it.
    let mut control = next(&mut at)? & 31;
    loop {
        if control >= 32 {
            let mut len = (control >> 5) - 1;
            let mut back = (control & 31) << 8;
            if len == 6 {
                loop {
                    let more = next(&mut at)?;
                    len += more;
                    if more != 255 {
                        break;
                    }
                }
            }
            let low = next(&mut at)?;
            back =
                if low == 255 && back == 31 << 8 { (next(&mut at)? << 8 | next(&mut at)?) + FAR } else { back + low };
            repeat(&mut out, back + 1, len + 3, limit)?;
        } else {
            let run = bytes.get(at..at + control + 1).ok_or_else(damaged_chunk)?;
            if out.len() + run.len() > limit {
                return Err(damaged_chunk());
            }
            out.extend_from_slice(run);
            at += control + 1;
        }
        if at >= bytes.len() {
            return Ok(out);
        }
        control = next(&mut at)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_containers_are_errors() {
        // As c-blosc keeps what it cannot compress.
        let raw = [&[2, 1, 2, 4, 8, 0, 0, 0, 8, 0, 0, 0, 24, 0, 0, 0][..], b"abcdefgh"].concat();
        assert_eq!(blosc(&raw, 8).unwrap(), b"abcdefgh");
        assert!(blosc(&raw, 7).is_err());
        for n in 0..raw.len() {
            assert!(blosc(&raw[..n], 8).is_err(), "{n}");
        }
        for i in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[i / 8] ^= 1 << (i % 8);
            // Whatever it gives, it ends.
            assert!(blosc(&bad, 8).map_or(true, |b| b.len() <= 8));
        }
    }

    #[test]
    fn bits_are_put_together() {
        // Eight elements of one byte: the lowest bit of each, then the next ones.
        assert_eq!(unshuffle_bits(vec![0b1000_0001, 0, 0, 0, 0, 0, 0, 1], 1), [129, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(unshuffle_bits(vec![7; 3], 1), [7; 3]);
    }
}
