//! The global heap: where the contents of variable-length strings lie.

use super::tail::Tail;
use slaf_core::{Error, ErrorKind, Result};

const HEADER: usize = 16;
/// A reader loads a collection whole: not too large, and small files stay small.
const SMALLEST: u64 = 4096;
const LARGEST: u64 = 64 << 10;

/// The collection under construction. Its space in the file is taken when it begins, because its
/// address is part of every reference.
#[derive(Default)]
pub(super) struct Heap {
    address: u64,
    size: u64,
    objects: u32,
    bytes: Vec<u8>,
    next_size: u64,
}

impl Heap {
    pub(super) fn put(&mut self, out: &mut Tail, data: &[u8]) -> Result<[u8; 16]> {
        let mut reference = [0; 16];
        if data.is_empty() {
            return Ok(reference);
        }
        let len = u32::try_from(data.len())
            .map_err(|_| Error::new(ErrorKind::UnsupportedFeature, "a string of more than 4 GiB"))?;
        let need = (HEADER + data.len().next_multiple_of(8)) as u64;
        if self.bytes.len() as u64 + need > self.size || self.objects == u32::from(u16::MAX) {
            self.flush(out)?;
            self.next_size = (self.next_size * 2).clamp(SMALLEST, LARGEST);
            self.size = (HEADER as u64 + need).max(self.next_size);
            self.address = out.allocate(self.size);
            self.objects = 0;
            self.bytes.extend(b"GCOL\x01\0\0\0");
            self.bytes.extend(self.size.to_le_bytes());
        }
        self.objects += 1;
        let index = self.objects;
        self.bytes.extend((index as u16).to_le_bytes());
        self.bytes.extend([0; 6]);
        self.bytes.extend(u64::from(len).to_le_bytes());
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        reference[..4].copy_from_slice(&len.to_le_bytes());
        reference[4..12].copy_from_slice(&self.address.to_le_bytes());
        reference[12..].copy_from_slice(&index.to_le_bytes());
        Ok(reference)
    }

    pub(super) fn flush(&mut self, out: &mut Tail) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        // Object 0 is the free space, of which the size counts its own header.
        let free = self.size - self.bytes.len() as u64;
        if free >= HEADER as u64 {
            self.bytes.extend([0; 8]);
            self.bytes.extend(free.to_le_bytes());
        }
        self.bytes.resize(self.size as usize, 0);
        out.write_at(self.address, &self.bytes)?;
        self.bytes.clear();
        self.size = 0;
        Ok(())
    }
}
