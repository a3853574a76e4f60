//! Datasets, written in row order as the rows come.

use super::attr::Attr;
use super::file::H5Out;
use super::message::{self, Space, Type};
use super::tail::UNDEFINED;
use slaf_core::{Error, ErrorKind, Result};
use std::io::Write;

/// Children per node of a chunk B-tree: HDF5's default, which superblock 2 cannot change.
const FANOUT: usize = 64;

/// What is done to chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    None,
    Deflate(u32),
}

/// A dataset of which the first dimension is open until the end.
pub(crate) struct DatasetWriter {
    of: Type,
    /// The dimensions after the first.
    inner: Vec<u64>,
    row_bytes: usize,
    chunk_rows: usize,
    filter: Filter,
    buffer: Vec<u8>,
    /// Address and stored size of each full chunk.
    chunks: Vec<(u64, u32)>,
}

impl DatasetWriter {
    /// A dataset whose chunks have about `chunk_bytes`.
    pub(crate) fn new(of: Type, inner: Vec<u64>, filter: Filter, chunk_bytes: usize) -> Result<Self> {
        let row = inner.iter().try_fold(of.size() as u64, |n, &d| n.checked_mul(d));
        // A chunk's size is a 32-bit number.
        let row_bytes = row
            .filter(|&n| n < 1 << 31)
            .ok_or_else(|| Error::new(ErrorKind::UnsupportedFeature, "a row of 2 GiB or more cannot be written"))?
            as usize;
        let chunk_rows = (chunk_bytes / row_bytes.max(1)).max(1);
        Ok(DatasetWriter { of, inner, row_bytes, chunk_rows, filter, buffer: Vec::new(), chunks: Vec::new() })
    }

    /// A dataset of another type in place of this one, to which nothing was pushed yet.
    pub(crate) fn with_type(&self, of: Type) -> Result<DatasetWriter> {
        let chunk_bytes = self.chunk_rows * self.row_bytes;
        DatasetWriter::new(of, self.inner.clone(), self.filter, chunk_bytes)
    }

    /// Appends little-endian elements: any number of bytes.
    pub(crate) fn push(&mut self, out: &mut H5Out, mut bytes: &[u8]) -> Result<()> {
        let chunk = self.chunk_rows * self.row_bytes;
        while !bytes.is_empty() && self.buffer.len() + bytes.len() > chunk {
            let take = (chunk - self.buffer.len()).min(bytes.len());
            let (head, tail) = bytes.split_at(take);
            if self.buffer.is_empty() {
                self.write_chunk(out, head)?;
            } else {
                self.buffer.extend_from_slice(head);
                let full = std::mem::take(&mut self.buffer);
                self.write_chunk(out, &full)?;
                self.buffer = full;
                self.buffer.clear();
            }
            bytes = tail;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends strings of a variable-length type.
    pub(crate) fn push_strings<'a>(&mut self, out: &mut H5Out, strings: impl Iterator<Item = &'a str>) -> Result<()> {
        for s in strings {
            let reference = out.store(s.as_bytes())?;
            self.push(out, &reference)?;
        }
        Ok(())
    }

    fn write_chunk(&mut self, out: &mut H5Out, bytes: &[u8]) -> Result<()> {
        let (address, len) = match self.filter {
            Filter::None => (out.tail.append(bytes)?, bytes.len()),
            Filter::Deflate(level) => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(bytes)?;
                let packed = encoder.finish()?;
                (out.tail.append(&packed)?, packed.len())
            }
        };
        let len =
            u32::try_from(len).map_err(|_| Error::new(ErrorKind::UnsupportedFeature, "a chunk of 4 GiB or more"))?;
        self.chunks.push((address, len));
        Ok(())
    }

    /// Writes the rest and the header, and links the dataset to its path. All that was pushed is
    /// `n_rows` rows.
    pub(crate) fn finish(mut self, out: &mut H5Out, path: &str, n_rows: u64, attrs: &[Attr]) -> Result<()> {
        let pushed = (self.chunks.len() * self.chunk_rows * self.row_bytes + self.buffer.len()) as u64;
        if n_rows.checked_mul(self.row_bytes as u64) != Some(pushed) {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("{pushed} bytes for {n_rows} rows of {} bytes", self.row_bytes),
            )
            .at(path));
        }
        let mut dims = vec![n_rows];
        dims.extend(&self.inner);
        if self.chunks.is_empty() && (self.filter == Filter::None || self.buffer.is_empty()) {
            return write_small(out, path, &self.of, &Space::Simple(dims), &self.buffer, attrs);
        }
        if self.chunks.is_empty() {
            self.chunk_rows = n_rows as usize;
        }
        if !self.buffer.is_empty() {
            let mut last = std::mem::take(&mut self.buffer);
            last.resize(self.chunk_rows * self.row_bytes, 0);
            self.write_chunk(out, &last)?;
        }
        let tree = self.write_tree(out)?;
        let rank = dims.len() as u8;
        let mut layout = vec![3, 2, rank + 1];
        layout.extend(tree.to_le_bytes());
        layout.extend((self.chunk_rows as u32).to_le_bytes());
        self.inner.iter().for_each(|&d| layout.extend((d as u32).to_le_bytes()));
        layout.extend((self.of.size() as u32).to_le_bytes());
        let mut messages = vec![(message::LAYOUT, layout)];
        if let Filter::Deflate(level) = self.filter {
            let mut filters = vec![2, 1, 1, 0, 1, 0, 1, 0];
            filters.extend(level.to_le_bytes());
            messages.push((message::FILTERS, filters));
        }
        write_header(out, path, &self.of, &Space::Simple(dims), messages, attrs)
    }

    /// The version 1 B-tree over the chunks, from the leaves to the root.
    fn write_tree(&self, out: &mut H5Out) -> Result<u64> {
        // A key: stored size, filter mask, and the chunk's first element in every dimension.
        let key = |chunk: usize| {
            let size = self.chunks.get(chunk).map_or(0, |c| c.1);
            let mut key = size.to_le_bytes().to_vec();
            key.extend([0; 4]);
            key.extend(((chunk * self.chunk_rows) as u64).to_le_bytes());
            key.resize(key.len() + 8 * (self.inner.len() + 1), 0);
            key
        };
        let node_size = 24 + (FANOUT + 1) * key(0).len() + FANOUT * 8;
        // What the level below consists of: (first chunk, address).
        let mut below: Vec<(usize, u64)> = self.chunks.iter().enumerate().map(|(i, c)| (i, c.0)).collect();
        for level in 0_u8.. {
            let n = below.len().div_ceil(FANOUT);
            let base = out.tail.allocate((n * node_size) as u64);
            let address = |i: usize| base + (i * node_size) as u64;
            let mut above = Vec::with_capacity(n);
            for (i, children) in below.chunks(FANOUT).enumerate() {
                let mut node = b"TREE\x01".to_vec();
                node.push(level);
                node.extend((children.len() as u16).to_le_bytes());
                let left = if i == 0 { UNDEFINED } else { address(i - 1) };
                let right = if i + 1 == n { UNDEFINED } else { address(i + 1) };
                node.extend(left.to_le_bytes());
                node.extend(right.to_le_bytes());
                for &(chunk, child) in children {
                    node.extend(key(chunk));
                    node.extend(child.to_le_bytes());
                }
                let end = below.get((i + 1) * FANOUT).map_or(self.chunks.len(), |c| c.0);
                node.extend(key(end));
                node.resize(node_size, 0);
                out.tail.write_at(address(i), &node)?;
                above.push((children[0].0, address(i)));
            }
            if let [(_, root)] = above[..] {
                return Ok(root);
            }
            below = above;
        }
        Err(Error::new(ErrorKind::Internal, "a chunk index of more than 255 levels"))
    }
}

/// Writes a dataset whose data is at hand, and links it to its path.
pub(crate) fn write_small(
    out: &mut H5Out,
    path: &str,
    of: &Type,
    space: &Space,
    data: &[u8],
    attrs: &[Attr],
) -> Result<()> {
    let address = if data.is_empty() { UNDEFINED } else { out.tail.append(data)? };
    let mut layout = vec![3, 1];
    layout.extend(address.to_le_bytes());
    layout.extend((data.len() as u64).to_le_bytes());
    write_header(out, path, of, space, vec![(message::LAYOUT, layout)], attrs)
}

fn write_header(
    out: &mut H5Out,
    path: &str,
    of: &Type,
    space: &Space,
    layout: Vec<(u8, Vec<u8>)>,
    attrs: &[Attr],
) -> Result<()> {
    // Fill values: of the default kind, written only if set; allocation late or, in chunks, incremental.
    let chunked = layout.first().is_some_and(|(_, l)| l.get(1) == Some(&2));
    let fill = vec![3, if chunked { 0x0b } else { 0x0a }];
    let mut messages =
        vec![(message::DATASPACE, space.encode()), (message::DATATYPE, of.bytes.clone()), (message::FILL_VALUE, fill)];
    messages.extend(layout);
    for attr in attrs {
        messages.push((message::ATTRIBUTE, attr.encode(out)?));
    }
    let address = out.object_header(&messages)?;
    out.link(path, address)
}
