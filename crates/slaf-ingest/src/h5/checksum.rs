//! The checksum of HDF5's metadata.

/// Bob Jenkins' lookup3, with which HDF5 protects metadata.
pub(crate) fn checksum(data: &[u8]) -> u32 {
    let mut s = [0xdead_beef_u32.wrapping_add(data.len() as u32); 3];
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |w, &b| (w << 8) | u32::from(b));
    let mut rest = data;
    while rest.len() > 12 {
        for i in 0..3 {
            s[i] = s[i].wrapping_add(word(&rest[4 * i..4 * i + 4]));
        }
        for (i, r) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
            let (a, b, c) = (i % 3, (i + 1) % 3, (i + 2) % 3);
            s[a] = s[a].wrapping_sub(s[c]) ^ s[c].rotate_left(r);
            s[c] = s[c].wrapping_add(s[b]);
        }
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return s[2];
    }
    for (i, part) in rest.chunks(4).enumerate() {
        s[i] = s[i].wrapping_add(word(part));
    }
    for (i, r) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (c, b) = ((i + 2) % 3, (i + 1) % 3);
        s[c] = (s[c] ^ s[b]).wrapping_sub(s[b].rotate_left(r));
    }
    s[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_the_reference_implementation() {
        assert_eq!(checksum(b""), 0xdead_beef);
        assert_eq!(checksum(b"Four score and seven years ago"), 0x1777_0551);
    }
}
