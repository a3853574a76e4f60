//! A file under construction: its groups, and what holds their members.

use super::heap::Heap;
use super::message;
use super::tail::{Tail, UNDEFINED};
use crate::h5::checksum;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fs::File;

const SUPERBLOCK_SIZE: u64 = 48;

/// An HDF5 file under construction.
pub(crate) struct H5Out {
    pub(super) tail: Tail,
    heap: Heap,
    root: GroupNode,
}

/// A group, until it is written at the end.
#[derive(Default)]
pub(crate) struct GroupNode {
    pub(super) attrs: BTreeMap<String, Vec<u8>>,
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
        H5Out { tail: Tail::new(file, SUPERBLOCK_SIZE), heap: Heap::default(), root: GroupNode::default() }
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

    pub(super) fn group_mut(&mut self, path: &str) -> Result<&mut GroupNode> {
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

    /// The 16 bytes that stand for a string of a variable-length type.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Result<[u8; 16]> {
        self.heap.put(&mut self.tail, bytes)
    }

    pub(super) fn object_header(&mut self, messages: &[(u8, Vec<u8>)]) -> Result<u64> {
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
        self.tail.append(&header)
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
        self.heap.flush(&mut self.tail)?;
        let root = std::mem::take(&mut self.root);
        let root = self.write_group(root)?;
        let mut superblock = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
        for address in [0, UNDEFINED, self.tail.end(), root] {
            superblock.extend(address.to_le_bytes());
        }
        superblock.extend(checksum(&superblock).to_le_bytes());
        self.tail.write_at(0, &superblock)?;
        self.tail.finish()
    }
}

fn exists(path: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "written already").at(path)
}
