//! The bytes of a file, and what is read in them without the parser: object headers, links and
//! indices, of which `hdf5-pure` shows too little.

use super::limits::to_usize;
use hdf5_pure::FormatError;
use slaf_core::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, RwLock};

/// The address of nothing.
const NONE: u64 = u64::MAX;

enum Store {
    File(std::fs::File),
    Memory(Vec<u8>),
}

/// A whole file, of which any part may be read at any time.
pub(crate) struct Raw {
    store: Store,
    pub(super) len: u64,
}

impl Raw {
    pub(super) fn open(path: &Path) -> Result<Raw> {
        let file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Raw { store: Store::File(file), len })
    }

    pub(super) fn of_bytes(bytes: Vec<u8>) -> Raw {
        Raw { len: bytes.len() as u64, store: Store::Memory(bytes) }
    }

    /// Fills `buffer` from an absolute position.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(offset, buffer.len() as u64)?;
        match &self.store {
            Store::File(file) => read_exact_at(file, buffer, offset)?,
            Store::Memory(bytes) => {
                let at = to_usize(offset)?;
                buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
            }
        }
        Ok(())
    }

    /// As [`Raw::read_at`]; the check comes before the allocation.
    pub(super) fn read_vec(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.check(offset, len)?;
        let mut buffer = vec![0; to_usize(len)?];
        self.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::malformed(format!("{len} bytes at {offset} are past the end of the file")));
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &std::fs::File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// What the parser reads through. Soft links of old groups are shown to it as links to the root:
/// it takes every entry for an object, and would fail on those without an address. Layouts of
/// HDF5 2.0 are shown as those of before, from which only the version differs.
pub(super) struct Patched {
    pub(super) raw: Arc<Raw>,
    pub(super) patches: Arc<RwLock<Patches>>,
}

/// Bytes, eight at most, that the parser sees in place of those of the file.
pub(super) type Patches = BTreeMap<u64, Vec<u8>>;

impl hdf5_pure::Source for Patched {
    fn len(&self) -> u64 {
        self.raw.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        self.raw.read_at(offset, buf).map_err(|_| FormatError::UnexpectedEof {
            expected: buf.len(),
            available: self.raw.len.saturating_sub(offset) as usize,
        })?;
        let Ok(patches) = self.patches.read() else { return Ok(()) };
        let end = offset + buf.len() as u64;
        for (&at, bytes) in patches.range(offset.saturating_sub(7)..end) {
            for (i, &b) in (at..).zip(bytes) {
                if i >= offset && i < end {
                    buf[(i - offset) as usize] = b;
                }
            }
        }
        Ok(())
    }
}

/// What a group's link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The absolute address of an object header.
    Hard(u64),
    /// A path.
    Soft(String),
    /// Into another file, or of a kind that only a program knows.
    External,
}

/// A message of an object header.
pub(super) struct Message {
    /// [`SHARED`] is added to it where the body only says where the content is.
    pub(super) kind: u64,
    pub(super) body: Vec<u8>,
    /// Where the body begins in the file.
    at: u64,
    /// From where to where a checksum protects it, which follows.
    checked: Option<(u64, u64)>,
}

/// Reads structures of the file. `None` is damage, or a form that is not known.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) raw: &'a Raw,
    /// Where the addresses of the file begin to count: behind a user block.
    pub(super) base: u64,
}

pub(super) fn le(bytes: &[u8], at: usize, n: usize) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..n)?.copy_from_slice(bytes.get(at..at.checked_add(n)?)?);
    Some(u64::from_le_bytes(word))
}

/// Bytes that numbers up to `n` take.
fn width_of(n: u64) -> usize {
    (8 - n.leading_zeros() as usize / 8).max(1)
}

/// Bytes of the number of records below a child of a version 2 B-tree.
fn total_width(level: usize, total: &[u64]) -> usize {
    if level > 1 { width_of(total[level - 1]) } else { 0 }
}

/// Added to the kind of a message that only says where its content is.
pub(super) const SHARED: u64 = 0x100;

/// How deep trees may be.
const DEPTH: u32 = 16;

impl Scan<'_> {
    fn read(&self, at: u64, n: u64) -> Option<Vec<u8>> {
        self.raw.read_vec(at, n).ok()
    }

    /// An address of the file as a position.
    fn position(&self, bytes: &[u8], at: usize) -> Option<u64> {
        le(bytes, at, 8).filter(|&a| a != NONE)?.checked_add(self.base)
    }

    /// The object whose header is here: its links, if it is a group, and what the parser must see
    /// instead of some bytes of the file.
    pub(super) fn object(&self, address: u64, root: u64) -> Option<(Option<Links>, Patches)> {
        let messages = self.messages(address)?;
        let is_group = messages.iter().any(|m| matches!(m.kind, 0x02 | 0x06 | 0x0a | 0x11));
        if let Some(layout) = messages.iter().find(|m| m.kind == 0x08) {
            // Version 5 has wider sizes of filtered chunks, of which the parser learns the width
            // elsewhere.
            let newer = layout.body.starts_with(&[5, 2]);
            return Some((None, if newer { self.as_version_4(layout)? } else { Patches::new() }));
        }
        if !is_group {
            return Some((None, Patches::new()));
        }
        let mut links = Links::default();
        for Message { kind, body, .. } in messages {
            match kind {
                0x02 => self.dense(&body, &mut links)?,
                0x06 => links.all.push(self.link(&body)?),
                0x11 => {
                    let heap = self.position(&body, 8)?;
                    let names = self.position(&self.read(heap, 32)?, 24)?;
                    let size = le(&self.read(heap, 32)?, 8, 8)?;
                    let names = self.read(names, size)?;
                    self.tree(self.position(&body, 0)?, &names, &mut HashSet::new(), &mut links)?;
                }
                _ => {}
            }
        }
        let root = root.checked_sub(self.base)?.to_le_bytes();
        let patches = links.soft.iter().map(|&at| (at, root.to_vec())).collect();
        Some((Some(links), patches))
    }

    /// What shows a layout message as one of version 4: the version, and the checksum.
    fn as_version_4(&self, layout: &Message) -> Option<Patches> {
        let mut patches = Patches::from([(layout.at, vec![4])]);
        if let Some((begin, end)) = layout.checked {
            let mut block = self.read(begin, end.checked_sub(begin)?)?;
            *block.get_mut(usize::try_from(layout.at.checked_sub(begin)?).ok()?)? = 4;
            patches.insert(end, super::checksum::checksum(&block).to_le_bytes().to_vec());
        }
        Some(patches)
    }

    /// The messages of an object header.
    pub(super) fn messages(&self, address: u64) -> Option<Vec<Message>> {
        let head = self.read(address, 16)?;
        let (version_2, order, start, len) = if &head[..4] == b"OHDR" {
            let flags = head[5];
            let at = 6 + if flags & 0x20 != 0 { 16 } else { 0 } + if flags & 0x10 != 0 { 4 } else { 0 };
            let width = 1 << (flags & 3);
            let size = le(&self.read(address, at + width)?, at as usize, width as usize)?;
            (true, flags & 4 != 0, address + at + width, size)
        } else {
            (false, false, address + 16, le(&head, 8, 4)?)
        };
        let mut messages = Vec::new();
        let mut blocks = vec![(address, start, len)];
        let mut seen = HashSet::new();
        while let Some((begin, start, len)) = blocks.pop() {
            if !seen.insert(start) {
                continue;
            }
            let block = self.read(start, len)?;
            let mut at = 0;
            loop {
                let (kind, size, flags, body) = if version_2 {
                    let Some(size) = le(&block, at + 1, 2) else { break };
                    (u64::from(block[at]), size, le(&block, at + 3, 1), at + 4 + if order { 2 } else { 0 })
                } else {
                    let Some(size) = le(&block, at + 2, 2) else { break };
                    (le(&block, at, 2)?, size, le(&block, at + 4, 1), at + 8)
                };
                let kind = if flags.unwrap_or(0) & 2 != 0 { kind + SHARED } else { kind };
                let Some(bytes) = block.get(body..body + size as usize) else { break };
                if kind == 0x10 {
                    let (next, n) = (self.position(bytes, 0)?, le(bytes, 8, 8)?);
                    // Such a block has a signature before its messages, and a checksum after.
                    blocks.push(if version_2 {
                        (next, next.checked_add(4)?, n.checked_sub(8)?)
                    } else {
                        (next, next, n)
                    });
                } else {
                    let checked = version_2.then_some((begin, start + len));
                    messages.push(Message { kind, body: bytes.to_vec(), at: start + body as u64, checked });
                }
                at = body + size as usize;
            }
        }
        Some(messages)
    }

    /// The links of a group with an index: in a heap, found by a B-tree of their names.
    fn dense(&self, info: &[u8], links: &mut Links) -> Option<()> {
        let at = 2 + if info.get(1)? & 1 != 0 { 8 } else { 0 };
        if le(info, at, 8)? == NONE {
            return Some(());
        }
        let heap = FractalHeap::open(*self, self.position(info, at)?)?;
        for record in self.records(self.position(info, at + 8)?)?.1 {
            links.all.push(self.link(&heap.object(record.get(4..)?)?)?);
        }
        Some(())
    }

    /// The type and the records of a version 2 B-tree.
    pub(super) fn records(&self, address: u64) -> Option<(u8, Vec<Vec<u8>>)> {
        let head = self.read(address, 34)?;
        if &head[..4] != b"BTHD" {
            return None;
        }
        let (node, record) = (le(&head, 6, 4)?, le(&head, 10, 2)?);
        let depth = le(&head, 12, 2)? as u32;
        if record == 0 || node < 10 + record || depth > DEPTH {
            return None;
        }
        // How many records a node of each level holds, and a whole tree below it.
        let mut most = vec![(node - 10) / record];
        let mut total = vec![most[0]];
        for level in 1..=depth as usize {
            let pointer = 8 + width_of(most[0]) as u64 + total_width(level, &total) as u64;
            let n = (node - 10).checked_sub(pointer)? / (record + pointer);
            most.push(n);
            total.push(n.saturating_add((n + 1).saturating_mul(total[level - 1])));
        }
        let mut tree = Tree2 { scan: *self, record: record as usize, node, most, total, seen: HashSet::new() };
        let mut records = Vec::new();
        if le(&head, 26, 8)? > 0 {
            tree.node(self.position(&head, 16)?, le(&head, 24, 2)?, depth, &mut records)?;
        }
        (records.len() as u64 == le(&head, 26, 8)?).then_some((head[5], records))
    }

    /// The links of an old group.
    fn tree(&self, address: u64, names: &[u8], seen: &mut HashSet<u64>, links: &mut Links) -> Option<()> {
        let head = self.read(address, 24)?;
        let n = le(&head, 6, 2)?;
        if &head[..4] != b"TREE" || !seen.insert(address) || seen.len() > 1 << 24 {
            return None;
        }
        let body = self.read(address + 24, n * 16 + 8)?;
        for i in 0..n as usize {
            let child = self.position(&body, 8 + 16 * i)?;
            match head[5] {
                0 => self.symbols(child, names, links)?,
                level => {
                    // Levels fall, so that the depth is bounded.
                    let below = *self.read(child, 24)?.get(5)?;
                    if below >= level {
                        return None;
                    }
                    self.tree(child, names, seen, links)?;
                }
            }
            // More links than fit into the file would be a cycle of nodes.
            if links.all.len() as u64 > self.raw.len / 40 {
                return None;
            }
        }
        Some(())
    }

    fn symbols(&self, address: u64, names: &[u8], links: &mut Links) -> Option<()> {
        let text = |at: u64| {
            let bytes = names.get(usize::try_from(at).ok()?..)?;
            let bytes = bytes.split(|&b| b == 0).next()?;
            Some(std::str::from_utf8(bytes).ok()?.to_owned())
        };
        let head = self.read(address, 8)?;
        let n = le(&head, 6, 2)?;
        if &head[..4] != b"SNOD" {
            return None;
        }
        let body = self.read(address + 8, n * 40)?;
        for (i, entry) in body.chunks_exact(40).enumerate() {
            let name = text(le(entry, 0, 8)?)?;
            if le(entry, 16, 4)? == 2 {
                links.all.push((name, Link::Soft(text(le(entry, 24, 4)?)?)));
                links.soft.push(address + 8 + 40 * i as u64 + 8);
            } else {
                links.all.push((name, Link::Hard(self.position(entry, 8)?)));
            }
        }
        Some(())
    }

    /// A link message.
    fn link(&self, body: &[u8]) -> Option<(String, Link)> {
        let flags = *body.get(1)?;
        let (mut at, mut kind) = (2, 0);
        if flags & 8 != 0 {
            kind = *body.get(at)?;
            at += 1;
        }
        at += if flags & 4 != 0 { 8 } else { 0 } + if flags & 0x10 != 0 { 1 } else { 0 };
        let width = 1 << (flags & 3);
        let len = usize::try_from(le(body, at, width)?).ok()?;
        at += width;
        let name = std::str::from_utf8(body.get(at..at.checked_add(len)?)?).ok()?.to_owned();
        at += len;
        let link = match kind {
            0 => Link::Hard(self.position(body, at)?),
            1 => {
                let len = le(body, at, 2)? as usize;
                Link::Soft(std::str::from_utf8(body.get(at + 2..at + 2 + len)?).ok()?.to_owned())
            }
            _ => Link::External,
        };
        Some((name, link))
    }
}

/// The links of a group.
#[derive(Default)]
pub(super) struct Links {
    pub(super) all: Vec<(String, Link)>,
    /// Where an old group has the addresses of soft links, which mean nothing.
    soft: Vec<u64>,
}

/// A version 2 B-tree.
struct Tree2<'a> {
    scan: Scan<'a>,
    record: usize,
    node: u64,
    most: Vec<u64>,
    total: Vec<u64>,
    seen: HashSet<u64>,
}

impl Tree2<'_> {
    fn node(&mut self, address: u64, n: u64, level: u32, records: &mut Vec<Vec<u8>>) -> Option<()> {
        let level = level as usize;
        let bytes = self.scan.read(address, self.node)?;
        let signature: &[u8] = if level == 0 { b"BTLF" } else { b"BTIN" };
        let end = 6 + (n as usize).checked_mul(self.record)?;
        if bytes.get(..4)? != signature || n > self.most[level] || !self.seen.insert(address) {
            return None;
        }
        records.extend(bytes.get(6..end)?.chunks_exact(self.record).map(<[u8]>::to_vec));
        if level > 0 {
            let width = width_of(self.most[0]);
            let pointer = 8 + width + total_width(level, &self.total);
            for child in bytes.get(end..end + (n as usize + 1) * pointer)?.chunks_exact(pointer) {
                self.node(self.scan.position(child, 0)?, le(child, 8, width)?, level as u32 - 1, records)?;
            }
        }
        Some(())
    }
}

/// Where links of large groups are.
struct FractalHeap<'a> {
    scan: Scan<'a>,
    head: Vec<u8>,
    /// Bytes of a position and of a length in the heap.
    widths: (usize, usize),
}

impl FractalHeap<'_> {
    fn open(scan: Scan<'_>, address: u64) -> Option<FractalHeap<'_>> {
        let head = scan.read(address, 142)?;
        // Filtered heaps are not written by anyone for links.
        if &head[..4] != b"FRHP" || le(&head, 7, 2)? != 0 {
            return None;
        }
        let position = (le(&head, 128, 2)? as usize).div_ceil(8);
        let block = (le(&head, 120, 8)?.checked_ilog2()? as usize).div_ceil(8);
        let length = block.min(width_of(le(&head, 10, 4)?));
        Some(FractalHeap { scan, head, widths: (position, length) })
    }

    /// The object of an identifier.
    fn object(&self, id: &[u8]) -> Option<Vec<u8>> {
        // Larger objects than the heap manages itself are no links.
        if id.first()? & 0x30 != 0 {
            return None;
        }
        let at = le(id, 1, self.widths.0)?;
        let len = le(id, 1 + self.widths.0, self.widths.1)?;
        let root = self.scan.position(&self.head, 132)?;
        let rows = le(&self.head, 140, 2)?;
        let start = if rows == 0 { root.checked_add(at)? } else { self.find(root, rows, at, DEPTH)? };
        self.scan.read(start, len)
    }

    /// Where a position of the heap is in the file: in a block of blocks.
    fn find(&self, block: u64, rows: u64, at: u64, depth: u32) -> Option<u64> {
        let (width, first) = (le(&self.head, 110, 2)?, le(&self.head, 112, 8)?);
        let max_direct = le(&self.head, 120, 8)?;
        let mut begin = 0_u64;
        let mut entry = block.checked_add(13 + self.widths.0 as u64)?;
        for row in 0..rows.min(64) {
            let size = first.checked_mul(1_u64.checked_shl(row.saturating_sub(1) as u32)?)?;
            for _ in 0..width {
                let end = begin.checked_add(size)?;
                if at < end {
                    let child = self.scan.position(&self.scan.read(entry, 8)?, 0)?;
                    if size <= max_direct {
                        return child.checked_add(at - begin);
                    }
                    // As many rows as make up the size of the block.
                    let ratio = size / first.checked_mul(width)?.max(1);
                    let rows = u64::from(ratio.checked_ilog2()?) + 1;
                    return self.find(child, rows, at - begin, depth.checked_sub(1)?);
                }
                begin = end;
                entry += 8;
            }
        }
        None
    }
}
