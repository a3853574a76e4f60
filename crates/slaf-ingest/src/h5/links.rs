//! Links that the parser leaves out (soft and external ones), and links that make a cycle.
//!
//! `hdf5-pure` lists hard links only, so that elements behind other links would be lost without
//! a word. This walk counts the links that the file itself holds.

use super::{MAX_DEPTH, guard, unsupported};
use hdf5_pure::{FormatError, Source};
use slaf_core::Result;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NONE: u64 = u64::MAX;

/// A file that remembers where the parser read first: the address of a group's header, which
/// has no other way out of the parser.
struct Recorder {
    file: std::fs::File,
    len: u64,
    first: Arc<AtomicU64>,
}

impl Source for Recorder {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        let _ = self.first.compare_exchange(NONE, offset, Ordering::Relaxed, Ordering::Relaxed);
        super::read_exact_at(&self.file, buf, offset).map_err(|_| FormatError::UnexpectedEof {
            expected: buf.len(),
            available: self.len.saturating_sub(offset) as usize,
        })
    }
}

/// Checks every group of the file.
///
/// # Errors
/// `unsupported-input` that names a link, or the group that holds it.
pub(super) fn check(path: &Path) -> Result<()> {
    let file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    let first = Arc::new(AtomicU64::new(NONE));
    let bytes = file.try_clone()?;
    let source = Recorder { file, len, first: first.clone() };
    let file = guard("/", || hdf5_pure::File::from_source(source))?;
    let mut seen = HashSet::new();
    let mut groups = vec![(String::new(), file.root())];
    while let Some((path, group)) = groups.pop() {
        let shown = if path.is_empty() { "/" } else { &path };
        first.store(NONE, Ordering::Relaxed);
        guard(shown, || group.attrs())?;
        let address = first.load(Ordering::Relaxed);
        if path.matches('/').count() > MAX_DEPTH {
            let top: Vec<&str> = path.splitn(4, '/').take(3).collect();
            let message = format!("groups within groups, more than {MAX_DEPTH} of them: too deep to be read back");
            return Err(unsupported(message).at(top.join("/")));
        }
        if !seen.insert(address) {
            return Err(unsupported("a second link to a group, or a cycle of links").at(shown));
        }
        let links = Scan { file: &bytes, len }.group(address);
        if let Some(Links::Other(name)) = links {
            return Err(unsupported(format!("\"{name}\" is a soft or external link")).at(shown));
        }
        let mut listed = guard(shown, || Ok(group.datasets()?.len() + group.named_datatypes()?.len()))?;
        for (name, child) in guard(shown, || Ok(group.iter_groups()?.collect::<Vec<_>>()))? {
            listed += 1;
            groups.push((format!("{path}/{name}"), child));
        }
        if let Some(Links::Hard(n)) = links
            && n > listed as u64
        {
            return Err(unsupported(format!("{} soft or external links", n - listed as u64)).at(shown));
        }
    }
    Ok(())
}

/// The links of a group.
enum Links {
    /// How many there are; of a group with many, soft ones are among them.
    Hard(u64),
    /// The name of a link that is not a hard one.
    Other(String),
}

/// Reads the structures that hold links. What it does not know it skips: the parser has read
/// the same group without complaint.
struct Scan<'a> {
    file: &'a std::fs::File,
    len: u64,
}

fn le(bytes: &[u8], at: usize, n: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..n].copy_from_slice(bytes.get(at..at.checked_add(n)?)?);
    Some(u64::from_le_bytes(word))
}

impl Scan<'_> {
    fn read(&self, at: u64, n: u64) -> Option<Vec<u8>> {
        if n > self.len || at.checked_add(n)? > self.len {
            return None;
        }
        let mut bytes = vec![0; n as usize];
        super::read_exact_at(self.file, &mut bytes, at).ok()?;
        Some(bytes)
    }

    fn group(&self, address: u64) -> Option<Links> {
        let mut hard = 0;
        for (kind, body) in self.messages(address)? {
            match kind {
                0x02 => hard += self.link_info(&body).unwrap_or(0),
                0x06 => {
                    if let Some(name) = other_link(&body) {
                        return Some(Links::Other(name));
                    }
                    hard += 1;
                }
                0x11 => {
                    let heap = le(&body, 8, 8)?;
                    return self.tree(le(&body, 0, 8)?, heap, 16);
                }
                _ => {}
            }
        }
        Some(Links::Hard(hard))
    }

    /// Kinds and bodies of the messages of an object header.
    fn messages(&self, address: u64) -> Option<Vec<(u64, Vec<u8>)>> {
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
        let mut blocks = vec![(start, len)];
        let mut seen = HashSet::new();
        while let Some((start, len)) = blocks.pop() {
            if !seen.insert(start) {
                continue;
            }
            let block = self.read(start, len)?;
            let mut at = 0;
            loop {
                let (kind, size, body) = if version_2 {
                    let Some(size) = le(&block, at + 1, 2) else { break };
                    (u64::from(block[at]), size, at + 4 + if order { 2 } else { 0 })
                } else {
                    let Some(size) = le(&block, at + 2, 2) else { break };
                    (le(&block, at, 2)?, size, at + 8)
                };
                let Some(bytes) = block.get(body..body + size as usize) else { break };
                if kind == 0x10 {
                    let (next, n) = (le(bytes, 0, 8)?, le(bytes, 8, 8)?);
                    // Such a block has a signature before its messages, and a checksum after.
                    blocks.push(if version_2 { (next.checked_add(4)?, n.checked_sub(8)?) } else { (next, n) });
                } else {
                    messages.push((kind, bytes.to_vec()));
                }
                at = body + size as usize;
            }
        }
        Some(messages)
    }

    /// How many links a group with an index has.
    fn link_info(&self, body: &[u8]) -> Option<u64> {
        let at = 2 + if body.get(1)? & 1 != 0 { 8 } else { 0 };
        let index = le(body, at + 8, 8)?;
        if index == NONE {
            return None;
        }
        let head = self.read(index, 34)?;
        (&head[..4] == b"BTHD").then(|| le(&head, 26, 8))?
    }

    /// The links of an old group.
    fn tree(&self, address: u64, heap: u64, depth: u32) -> Option<Links> {
        let head = self.read(address, 24)?;
        let n = le(&head, 6, 2)?;
        let body = self.read(address + 24, n * 16 + 8)?;
        let mut hard = 0;
        for i in 0..n as usize {
            let child = le(&body, 8 + 16 * i, 8)?;
            let links = match head[5] {
                0 => self.node(child, heap)?,
                _ => self.tree(child, heap, depth.checked_sub(1)?)?,
            };
            match links {
                Links::Hard(n) => hard += n,
                other => return Some(other),
            }
        }
        Some(Links::Hard(hard))
    }

    fn node(&self, address: u64, heap: u64) -> Option<Links> {
        let n = le(&self.read(address, 8)?, 6, 2)?;
        let body = self.read(address + 8, n * 40)?;
        for entry in body.chunks_exact(40) {
            if le(entry, 16, 4)? == 2 {
                let names = le(&self.read(heap, 32)?, 24, 8)?;
                let at = names.checked_add(le(entry, 0, 8)?)?;
                let bytes = self.read(at, 256.min(self.len.saturating_sub(at)))?;
                let name = bytes.split(|&b| b == 0).next().unwrap_or(&[]);
                return Some(Links::Other(String::from_utf8_lossy(name).into_owned()));
            }
        }
        Some(Links::Hard(n))
    }
}

/// The name in a link message, if the link is not a hard one.
fn other_link(body: &[u8]) -> Option<String> {
    let flags = *body.get(1)?;
    let mut at = 2;
    if flags & 8 == 0 || *body.get(at)? == 0 {
        return None;
    }
    at += 1 + if flags & 4 != 0 { 8 } else { 0 } + if flags & 0x10 != 0 { 1 } else { 0 };
    let width = 1 << (flags & 3);
    let len = le(body, at, width)? as usize;
    let name = body.get(at + width..(at + width).checked_add(len)?)?;
    Some(String::from_utf8_lossy(name).into_owned())
}
