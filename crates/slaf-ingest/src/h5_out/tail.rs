//! The end of a file that grows.

use slaf_core::Result;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

/// The address of nothing.
pub(super) const UNDEFINED: u64 = u64::MAX;

/// Where data goes as it comes.
pub(super) struct Tail {
    file: File,
    position: u64,
    end: u64,
}

impl Tail {
    /// Data begins at `end` of an empty file.
    pub(super) fn new(file: File, end: u64) -> Tail {
        Tail { file, position: 0, end }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Takes space at the end of the file.
    pub(super) fn allocate(&mut self, len: u64) -> u64 {
        let address = self.end.next_multiple_of(8);
        self.end = address + len;
        address
    }

    pub(super) fn write_at(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        if self.position != address {
            self.file.seek(SeekFrom::Start(address))?;
        }
        self.file.write_all(bytes)?;
        self.position = address + bytes.len() as u64;
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let address = self.allocate(bytes.len() as u64);
        self.write_at(address, bytes)?;
        Ok(address)
    }

    /// Gives the file back, as long as what was taken of it: a collection of the heap may end past
    /// what was written last.
    pub(super) fn finish(self) -> Result<File> {
        self.file.set_len(self.end)?;
        Ok(self.file)
    }
}
