//! Packing of up to 128 numbers at a fixed bit width, with patches for outliers.

use super::layout::{BLOCK, PATCH_BITS};
use bitpacking::{BitPacker, BitPacker4x};

/// Bytes that `n` packed numbers of `width` bits take, without patches.
pub(super) fn packed_len(n: usize, width: u8) -> usize {
    (n * width as usize).div_ceil(8)
}

/// The width that makes `numbers` smallest, and how many of them then need a patch.
fn best_width(numbers: &[u32]) -> (u8, usize) {
    let max = 32 - numbers.iter().fold(0, |all, x| all | x).leading_zeros();
    let mut best = (max as u8, 0, packed_len(numbers.len(), max as u8));
    for w in (max.saturating_sub(PATCH_BITS)..max).rev() {
        let patches = numbers.iter().map(|&x| u32::from(x >> w != 0)).sum::<u32>() as usize;
        // Narrower numbers need no fewer patches.
        if 2 * patches >= best.2 {
            break;
        }
        let cost = packed_len(numbers.len(), w as u8) + 2 * patches;
        if cost < best.2 {
            best = (w as u8, patches, cost);
        }
    }
    (best.0, best.1)
}

/// Appends `numbers` (at most 128) at their best width; returns width and number of patches.
pub(super) fn pack(numbers: &[u32], out: &mut Vec<u8>) -> (u8, u8) {
    let (width, patches) = best_width(numbers);
    let start = out.len();
    out.resize(start + packed_len(numbers.len(), width), 0);
    let target = &mut out[start..];
    // A patched number is packed with its low bits only; for numbers without patch the mask
    // changes nothing.
    let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
    if width > 0 {
        let mut low = [0u32; BLOCK];
        for (l, &x) in low.iter_mut().zip(numbers) {
            *l = x & mask;
        }
        if numbers.len() == BLOCK {
            BitPacker4x::new().compress(&low, target, width);
        } else {
            pack_tail(&low[..numbers.len()], width, target);
        }
    }
    if patches > 0 {
        for (i, &x) in numbers.iter().enumerate() {
            if x > mask {
                out.extend([i as u8, (x >> width) as u8]);
            }
        }
    }
    (width, patches as u8)
}

/// Unpacks `numbers.len()` numbers. `packed` has [`packed_len`] bytes and `patches` two for each
/// patch; `false` if a patch lies outside of the block.
pub(super) fn unpack(packed: &[u8], width: u8, patches: &[u8], numbers: &mut [u32]) -> bool {
    if width == 0 {
        numbers.fill(0);
    } else if numbers.len() == BLOCK {
        BitPacker4x::new().decompress(packed, numbers, width);
    } else {
        unpack_tail(packed, width, numbers);
    }
    for patch in patches.chunks_exact(2) {
        let Some(x) = numbers.get_mut(patch[0] as usize) else { return false };
        *x |= u32::from(patch[1]).checked_shl(u32::from(width)).unwrap_or(0);
    }
    true
}

/// Number `i` takes the bits `i * width ..` of the target, least significant bit first.
fn pack_tail(numbers: &[u32], width: u8, target: &mut [u8]) {
    let (mut buffer, mut filled, mut at) = (0u64, 0u32, 0);
    for &x in numbers {
        buffer |= u64::from(x) << filled;
        filled += u32::from(width);
        while filled >= 8 {
            target[at] = buffer as u8;
            (buffer, filled, at) = (buffer >> 8, filled - 8, at + 1);
        }
    }
    if filled > 0 {
        target[at] = buffer as u8;
    }
}

fn unpack_tail(packed: &[u8], width: u8, numbers: &mut [u32]) {
    // Eight spare bytes let every read be a whole u64.
    let mut padded = [0u8; (BLOCK - 1) * 4 + 8];
    padded[..packed.len()].copy_from_slice(packed);
    let mask = if width == 32 { u64::from(u32::MAX) } else { (1 << width) - 1 };
    for (i, x) in numbers.iter_mut().enumerate() {
        let bit = i * width as usize;
        let mut word = [0u8; 8];
        word.copy_from_slice(&padded[bit / 8..bit / 8 + 8]);
        *x = ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as u32;
    }
}

/// Appends `n` in LEB128: seven bits a byte, low ones first, the high bit set on all but the last.
pub(super) fn write_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads a LEB128 number of at most five bytes; `None` if it is cut or longer.
pub(super) fn read_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut n = 0;
    for shift in (0..35).step_by(7) {
        let b = *bytes.get(*at)?;
        *at += 1;
        n |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every width that patches can make up for.
    fn smallest(numbers: &[u32]) -> usize {
        let bits = |x: u32| 32 - x.leading_zeros();
        let max = numbers.iter().map(|&x| bits(x)).max().unwrap_or(0);
        let cost = |w: u32| packed_len(numbers.len(), w as u8) + 2 * numbers.iter().filter(|&&x| bits(x) > w).count();
        (max.saturating_sub(PATCH_BITS)..=max).map(cost).min().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(
            prop_oneof![4 => 0u32..4, 2 => 0u32..300, 1 => any::<u32>()], 0..=BLOCK)) {
            let mut bytes = Vec::new();
            let (width, patches) = pack(&numbers, &mut bytes);
            let packed = packed_len(numbers.len(), width);
            prop_assert_eq!(bytes.len(), packed + 2 * patches as usize);
            prop_assert_eq!(bytes.len(), smallest(&numbers));
            let mut back = vec![7; numbers.len()];
            prop_assert!(unpack(&bytes[..packed], width, &bytes[packed..], &mut back));
            prop_assert_eq!(back, numbers);
        }
    }

    #[test]
    fn outliers_are_patched() {
        let mut numbers = [1u32; BLOCK];
        numbers[77] = 200;
        let mut bytes = Vec::new();
        assert_eq!(pack(&numbers, &mut bytes), (1, 1));
        assert_eq!(bytes.len(), 16 + 2);
    }
}
