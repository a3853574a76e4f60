//! Streaming writing of HDF5 files.
//!
//! `hdf5-pure` appends to one-dimensional datasets of fixed-size elements only. What an h5ad
//! needs beyond that (blocks of a 2-D array, variable-length strings, several datasets in turn)
//! is written here: data goes to the end of the file as it comes, and the metadata follows.
//! The format is the HDF5 File Format Specification 3.0: superblock 2, version 2 object headers,
//! compact groups, version 1 B-trees for chunks.

mod copy;
mod dataset;
mod heap;
mod message;

pub(crate) use copy::copy_tree;
pub(crate) use dataset::{DatasetWriter, Filter, write_small};
pub(crate) use message::{Attr, Space, Type, dtype_type};

use heap::Heap;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

/// The address of nothing.
const UNDEFINED: u64 = u64::MAX;
const SUPERBLOCK_SIZE: u64 = 48;

/// An HDF5 file under construction.
pub(crate) struct H5Out {
    file: File,
    position: u64,
    end: u64,
    heap: Heap,
    root: GroupNode,
}

/// A group, until it is written at the end.
#[derive(Default)]
pub(crate) struct GroupNode {
    attrs: BTreeMap<String, Vec<u8>>,
    children: BTreeMap<String, Node>,
}

enum Node {
    Group(GroupNode),
    /// The address of a dataset's object header.
    Dataset(u64),
}

impl H5Out {
    /// Begins an HDF5 file in an empty file.
    pub(crate) fn new(file: File) -> H5Out {
        H5Out { file, position: 0, end: SUPERBLOCK_SIZE, heap: Heap::default(), root: GroupNode::default() }
    }

    /// Whether something of this path was written.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let mut group = &self.root;
        let mut parts = path.split('/').filter(|p| !p.is_empty()).peekable();
        while let Some(part) = parts.next() {
            match group.children.get(part) {
                Some(Node::Group(g)) => group = g,
                Some(Node::Dataset(_)) => return parts.peek().is_none(),
                None => return false,
            }
        }
        true
    }

    /// Sets an attribute of a group.
    pub(crate) fn set_attr(&mut self, path: &str, attr: &Attr) -> Result<()> {
        let body = attr.encode(self)?;
        self.group_mut(path)?.attrs.insert(attr.name.clone(), body);
        Ok(())
    }

    fn group_mut(&mut self, path: &str) -> Result<&mut GroupNode> {
        let mut group = &mut self.root;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let child = group.children.entry(part.to_owned()).or_insert_with(|| Node::Group(GroupNode::default()));
            match child {
                Node::Group(g) => group = g,
                Node::Dataset(_) => return Err(exists(path)),
            }
        }
        Ok(group)
    }

    /// Puts a dataset into its group.
    pub(crate) fn link(&mut self, path: &str, address: u64) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let old = self.group_mut(parent)?.children.insert(name.to_owned(), Node::Dataset(address));
        if old.is_some() { Err(exists(path)) } else { Ok(()) }
    }

    /// Takes space at the end of the file.
    fn allocate(&mut self, len: u64) -> u64 {
        let address = self.end.next_multiple_of(8);
        self.end = address + len;
        address
    }

    fn write_at(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        if self.position != address {
            self.file.seek(SeekFrom::Start(address))?;
        }
        self.file.write_all(bytes)?;
        self.position = address + bytes.len() as u64;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let address = self.allocate(bytes.len() as u64);
        self.write_at(address, bytes)?;
        Ok(address)
    }

    /// The 16 bytes that stand for a string of a variable-length type.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Result<[u8; 16]> {
        let mut heap = std::mem::take(&mut self.heap);
        let reference = heap.put(self, bytes);
        self.heap = heap;
        reference
    }

    fn object_header(&mut self, messages: &[(u8, Vec<u8>)]) -> Result<u64> {
        let mut body = Vec::new();
        for (kind, message) in messages {
            let len = u16::try_from(message.len()).map_err(|_| {
                Error::new(
                    ErrorKind::UnsupportedFeature,
                    "an attribute of more than 64 KiB (about 4,090 columns) does not fit an h5ad: export to zarr instead",
                )
            })?;
            body.push(*kind);
            body.extend(len.to_le_bytes());
            body.push(0);
            body.extend(message);
        }
        let mut header = b"OHDR\x02\x02".to_vec();
        header.extend((body.len() as u32).to_le_bytes());
        header.extend(body);
        header.extend(checksum(&header).to_le_bytes());
        self.append(&header)
    }

    fn write_group(&mut self, group: GroupNode) -> Result<u64> {
        let mut link_info = vec![0, 0];
        link_info.extend([0xff; 16]);
        let mut messages = vec![(message::LINK_INFO, link_info), (message::GROUP_INFO, vec![0, 0])];
        for (name, child) in group.children {
            let address = match child {
                Node::Group(g) => self.write_group(g).at(&name)?,
                Node::Dataset(address) => address,
            };
            messages.push((message::LINK, message::link(&name, address)?));
        }
        messages.extend(group.attrs.into_values().map(|body| (message::ATTRIBUTE, body)));
        self.object_header(&messages)
    }

    /// Writes what is left and gives the file back.
    pub(crate) fn finish(mut self) -> Result<File> {
        let mut heap = std::mem::take(&mut self.heap);
        heap.flush(&mut self)?;
        let root = std::mem::take(&mut self.root);
        let root = self.write_group(root)?;
        let mut superblock = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
        for address in [0, UNDEFINED, self.end, root] {
            superblock.extend(address.to_le_bytes());
        }
        superblock.extend(checksum(&superblock).to_le_bytes());
        self.write_at(0, &superblock)?;
        // A collection of the heap may end past what was written last.
        self.file.set_len(self.end)?;
        Ok(self.file)
    }
}

fn exists(path: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "written already").at(path)
}

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
