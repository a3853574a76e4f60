//! Strings: fixed-length, and those of the global heap.

use super::file::H5File;
use super::limits::to_usize;
use hdf5_pure::StringPadding;
use slaf_core::{Error, Result};
use std::collections::VecDeque;

/// Text of a fixed-length slot, as h5py reads it.
pub(crate) fn fixed_string<'a>(slot: &'a [u8], padding: &StringPadding) -> Result<&'a str> {
    let text = match padding {
        StringPadding::NullTerminate => slot.split(|&b| b == 0).next().unwrap_or(&[]),
        StringPadding::NullPad => trim_end(slot, 0),
        StringPadding::SpacePad => trim_end(slot, b' '),
    };
    utf8(text)
}

/// Text of four-byte characters, as NumPy keeps it.
pub(crate) fn utf32_string(slot: &[u8], big: bool) -> Result<String> {
    let (words, _) = slot.as_chunks::<4>();
    let codes = words.iter().map(|w| if big { u32::from_be_bytes(*w) } else { u32::from_le_bytes(*w) });
    let text: Option<String> = codes.map(char::from_u32).collect();
    let text = text.ok_or_else(|| Error::malformed("text that is not Unicode"))?;
    Ok(text.trim_end_matches('\0').to_owned())
}

fn trim_end(mut slot: &[u8], byte: u8) -> &[u8] {
    while let [rest @ .., last] = slot {
        if *last != byte {
            break;
        }
        slot = rest;
    }
    slot
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| Error::malformed("text that is not UTF-8").with_source(e))
}

/// A collection of the global heap: objects by number.
struct Collection {
    address: u64,
    bytes: Vec<u8>,
    /// Number, start, length; sorted by number.
    objects: Vec<(u16, usize, usize)>,
}

/// How many bytes of collections are kept: neighbouring strings share them.
const CACHE: usize = 1 << 20;

/// Reads strings of the global heap.
pub(crate) struct Heap<'a> {
    file: &'a H5File,
    cache: VecDeque<Collection>,
    cached: usize,
}

impl<'a> Heap<'a> {
    pub(crate) fn new(file: &'a H5File) -> Self {
        Heap { file, cache: VecDeque::new(), cached: 0 }
    }

    /// The string that a 16-byte reference names. A null reference is the empty string.
    pub(crate) fn string(&mut self, reference: &[u8; 16]) -> Result<&str> {
        let text = self.object(reference, 1)?;
        utf8(text.split(|&b| b == 0).next().unwrap_or(&[]))
    }

    /// The elements of a size that a reference names: their number, address of the collection,
    /// number of the object.
    pub(crate) fn object(&mut self, reference: &[u8; 16], size: usize) -> Result<&[u8]> {
        let word =
            |at: usize| u32::from_le_bytes([reference[at], reference[at + 1], reference[at + 2], reference[at + 3]]);
        let len = (word(0) as usize).saturating_mul(size);
        let address = u64::from(word(4)) | u64::from(word(8)) << 32;
        let number = word(12);
        if len == 0 || address == 0 || address == u64::MAX {
            return Ok(&[]);
        }
        let at = match self.cache.iter().position(|c| c.address == address) {
            Some(at) => at,
            None => {
                self.load(address)?;
                self.cache.len() - 1
            }
        };
        let c = &self.cache[at];
        let found = u16::try_from(number)
            .ok()
            .and_then(|n| c.objects.binary_search_by_key(&n, |o| o.0).ok())
            .map(|i| c.objects[i]);
        match found {
            Some((_, start, size)) if len <= size => Ok(&c.bytes[start..start + len]),
            _ => Err(Error::malformed(format!("no string {number} of {len} bytes in the heap at {address}"))),
        }
    }

    fn load(&mut self, address: u64) -> Result<()> {
        let at = address.saturating_add(self.file.base);
        let head = self.file.raw.read_vec(at, 16)?;
        let damaged = || Error::malformed(format!("the heap at {address} is damaged"));
        if &head[..5] != b"GCOL\x01" {
            return Err(damaged());
        }
        let size = u64_at(&head, 8).ok_or_else(damaged)?;
        let bytes = self.file.raw.read_vec(at, size)?;
        let mut objects = Vec::new();
        let mut at = 16;
        while at + 16 <= bytes.len() {
            let number = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            if number == 0 {
                break;
            }
            let len = to_usize(u64_at(&bytes, at + 8).ok_or_else(damaged)?)?;
            let start = at + 16;
            let end = start.checked_add(len).filter(|&e| e <= bytes.len()).ok_or_else(damaged)?;
            objects.push((number, start, len));
            at = end.next_multiple_of(8);
        }
        objects.sort_unstable();
        self.cached += bytes.len();
        self.cache.push_back(Collection { address, bytes, objects });
        while self.cached > CACHE && self.cache.len() > 1 {
            if let Some(old) = self.cache.pop_front() {
                self.cached -= old.bytes.len();
            }
        }
        Ok(())
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_removed_as_h5py_does() {
        assert_eq!(fixed_string(b"ab\0c", &StringPadding::NullTerminate).unwrap(), "ab");
        assert_eq!(fixed_string(b"ab\0\0", &StringPadding::NullPad).unwrap(), "ab");
        assert_eq!(fixed_string(b"a b ", &StringPadding::SpacePad).unwrap(), "a b");
        assert!(fixed_string(b"\xff\xfe", &StringPadding::NullPad).is_err());
    }
}
