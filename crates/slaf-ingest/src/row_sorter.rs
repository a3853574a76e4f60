//! Sorts (row, column, value) triplets that come in any order into a [`RowStream`], in bounded
//! memory: beyond the budget they go to a temporary file, in buckets of rows.

use crate::chunk_builder::{ChunkBuilder, Entry};
use crate::model::{OpenOptions, RowStream, StreamOptions};
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Values, with_dtype, with_values};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DEFAULT_MEMORY: usize = 256 << 20;
/// Buckets per split. A bucket too large for the memory is split again.
const BUCKETS: u64 = 256;

/// Collects (row, column, value) triplets in any order and gives them back as a [`RowStream`]; an
/// implementation of [`Input`](crate::Input) for a format that has no order may use it.
pub struct RowSorter {
    sink: Box<dyn Sink>,
}

trait Sink: Send {
    fn push(&mut self, rows: &[u64], cols: &[u32], values: &Values) -> Result<()>;
    fn finish(self: Box<Self>, options: StreamOptions) -> Result<Box<dyn RowStream>>;
}

impl RowSorter {
    /// A sorter for a matrix of this shape and value type, in the memory and temporary folder of
    /// the options.
    ///
    /// # Errors
    /// `unsupported-input` for more than 2^32 columns.
    pub fn new(n_rows: u64, n_cols: u64, dtype: Dtype, options: &OpenOptions) -> Result<Self> {
        if n_cols > 1 << 32 {
            return Err(Error::new(
                ErrorKind::UnsupportedInput,
                format!("a matrix of {n_cols} columns: at most 2^32 are supported"),
            ));
        }
        let folder = options.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
        let memory = if options.memory == 0 { DEFAULT_MEMORY } else { options.memory };
        Ok(with_dtype!(dtype, T => RowSorter {
            sink: Box::new(Sorter::<T>::new(n_rows, n_cols, memory, folder)),
        }))
    }

    /// Adds triplets: three slices of one length.
    ///
    /// # Errors
    /// `malformed-input` for a row or column outside of the matrix; those of writing the
    /// temporary file.
    pub fn push(&mut self, rows: &[u64], cols: &[u32], values: &Values) -> Result<()> {
        self.sink.push(rows, cols, values)
    }

    /// All rows, the empty ones too, in order. Duplicates are added up in the order of pushing.
    ///
    /// # Errors
    /// Those of writing the temporary file.
    pub fn finish(self, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.sink.finish(options)
    }
}

#[derive(Clone, Copy, Default)]
struct Triplet<T> {
    row: u64,
    col: u32,
    value: T,
}

/// A part of the matrix whose triplets lie in a temporary file.
struct Bucket {
    rows: Range<u64>,
    cols: Range<u64>,
    /// Byte offset and number of triplets of each piece, in the order of pushing.
    pieces: Vec<(u64, u64)>,
    file: Option<Arc<File>>,
}

impl Bucket {
    fn len(&self) -> u64 {
        self.pieces.iter().map(|(_, n)| n).sum()
    }

    /// Empty parts of this one: by rows, or by columns when it has one row only.
    fn parts(&self) -> Vec<Bucket> {
        let cut = |range: &Range<u64>| {
            let width = (range.end - range.start).div_ceil(BUCKETS).max(1);
            let mut begin = range.start;
            let mut parts = Vec::new();
            while begin < range.end {
                let end = begin.saturating_add(width).min(range.end);
                parts.push(begin..end);
                begin = end;
            }
            parts
        };
        let part = |rows, cols| Bucket { rows, cols, pieces: Vec::new(), file: None };
        if self.rows.end - self.rows.start > 1 {
            cut(&self.rows).into_iter().map(|rows| part(rows, self.cols.clone())).collect()
        } else {
            cut(&self.cols).into_iter().map(|cols| part(self.rows.clone(), cols)).collect()
        }
    }

    /// Whether all triplets have one position, so that no split makes it smaller.
    fn is_point(&self) -> bool {
        self.rows.end - self.rows.start <= 1 && self.cols.end - self.cols.start <= 1
    }
}

/// Writes triplets into the buckets that split one bucket (at first: the whole matrix).
struct Spill {
    buckets: Vec<Bucket>,
    file: Arc<File>,
    offset: u64,
    by_rows: bool,
    begin: u64,
    width: u64,
    bytes: Vec<u8>,
}

impl Spill {
    fn new(whole: &Bucket, folder: &Path) -> Result<Spill> {
        let file = Arc::new(tempfile::tempfile_in(folder).at(place(folder))?);
        let mut buckets = whole.parts();
        buckets.iter_mut().for_each(|b| b.file = Some(file.clone()));
        let by_rows = whole.rows.end - whole.rows.start > 1;
        let range = if by_rows { &whole.rows } else { &whole.cols };
        let width = (range.end - range.start).div_ceil(BUCKETS).max(1);
        Ok(Spill { buckets, file, offset: 0, by_rows, begin: range.start, width, bytes: Vec::new() })
    }

    /// Appends a piece to each bucket that some of the triplets belong to.
    fn write<T: Entry>(&mut self, triplets: &[Triplet<T>], folder: &Path) -> Result<()> {
        let size = record_size::<T>();
        let bucket_of = |t: &Triplet<T>| {
            let key = if self.by_rows { t.row } else { u64::from(t.col) };
            ((key - self.begin) / self.width) as usize
        };
        let mut ends = vec![0; self.buckets.len()];
        triplets.iter().for_each(|t| ends[bucket_of(t)] += 1);
        let mut sum = 0;
        for (bucket, end) in self.buckets.iter_mut().zip(&mut ends) {
            let n = *end;
            if n > 0 {
                bucket.pieces.push((self.offset + (sum * size) as u64, n as u64));
            }
            *end = sum;
            sum += n;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(triplets.len() * size, 0);
        for t in triplets {
            let slot = &mut ends[bucket_of(t)];
            let record = &mut bytes[*slot * size..(*slot + 1) * size];
            record[..8].copy_from_slice(&t.row.to_le_bytes());
            record[8..12].copy_from_slice(&t.col.to_le_bytes());
            t.value.put(&mut record[12..]);
            *slot += 1;
        }
        (&*self.file).write_all(&bytes).at(place(folder))?;
        self.offset += bytes.len() as u64;
        self.bytes = bytes;
        Ok(())
    }

    /// The buckets that hold something, the last one first.
    fn into_stack(self) -> Vec<Bucket> {
        self.buckets.into_iter().filter(|b| !b.pieces.is_empty()).rev().collect()
    }
}

fn record_size<T: Entry>() -> usize {
    12 + T::DTYPE.size()
}

fn place(folder: &Path) -> String {
    format!("temporary file in {}", folder.display())
}

struct Sorter<T> {
    n_rows: u64,
    n_cols: u64,
    /// How many triplets may be in memory.
    capacity: usize,
    folder: PathBuf,
    triplets: Vec<Triplet<T>>,
    spill: Option<Spill>,
}

impl<T: Entry> Sorter<T> {
    fn new(n_rows: u64, n_cols: u64, memory: usize, folder: PathBuf) -> Self {
        // The triplets, their sorted copy, and the chunk under construction share the budget.
        let capacity = (memory / (3 * size_of::<Triplet<T>>())).max(1024);
        Sorter { n_rows, n_cols, capacity, folder, triplets: Vec::new(), spill: None }
    }

    fn flush(&mut self) -> Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => {
                let whole = Bucket { rows: 0..self.n_rows, cols: 0..self.n_cols, pieces: Vec::new(), file: None };
                self.spill.insert(Spill::new(&whole, &self.folder)?)
            }
        };
        spill.write(&self.triplets, &self.folder)?;
        self.triplets.clear();
        Ok(())
    }
}

impl<T: Entry> Sink for Sorter<T> {
    fn push(&mut self, rows: &[u64], cols: &[u32], values: &Values) -> Result<()> {
        let values = T::unwrap_ref(values)
            .filter(|v| v.len() == rows.len() && cols.len() == rows.len())
            .ok_or_else(|| Error::new(ErrorKind::Internal, "triplets of unequal length or type"))?;
        for ((&row, &col), &value) in rows.iter().zip(cols).zip(values) {
            if row >= self.n_rows || u64::from(col) >= self.n_cols {
                return Err(Error::malformed(format!(
                    "a value in row {row}, column {col}, but the matrix has {} rows and {} columns",
                    self.n_rows, self.n_cols
                )));
            }
            if self.triplets.len() >= self.capacity {
                self.flush()?;
            }
            self.triplets.push(Triplet { row, col, value });
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let mut block = Vec::new();
        if self.spill.is_some() {
            self.flush()?;
        } else {
            block = sorted(std::mem::take(&mut self.triplets));
        }
        Ok(Box::new(Sorted {
            n_rows: self.n_rows,
            row: 0,
            capacity: self.capacity,
            folder: self.folder,
            stack: self.spill.map(Spill::into_stack).unwrap_or_default(),
            block: block.into_iter(),
            builder: ChunkBuilder::new(options),
            done: false,
        }))
    }
}

/// Reads the buckets back, one after the other.
struct Sorted<T> {
    n_rows: u64,
    /// The row under construction.
    row: u64,
    capacity: usize,
    folder: PathBuf,
    /// What is left to read, the next one last.
    stack: Vec<Bucket>,
    block: std::vec::IntoIter<Triplet<T>>,
    builder: ChunkBuilder<T>,
    done: bool,
}

impl<T: Entry> Sorted<T> {
    /// Loads the next triplets in order; false when there are none.
    fn load(&mut self) -> Result<bool> {
        while let Some(mut bucket) = self.stack.pop() {
            let fits = bucket.len() <= self.capacity as u64;
            if fits || bucket.is_point() {
                // A point needs no order: its pieces go by one at a time.
                let rest = if fits { Vec::new() } else { bucket.pieces.split_off(1) };
                let triplets = self.read(&bucket)?;
                if !rest.is_empty() {
                    self.stack.push(Bucket { pieces: rest, ..bucket });
                }
                self.block = sorted(triplets).into_iter();
                return Ok(true);
            }
            let mut spill = Spill::new(&bucket, &self.folder)?;
            let pieces = std::mem::take(&mut bucket.pieces);
            for piece in pieces {
                bucket.pieces = vec![piece];
                let triplets = self.read(&bucket)?;
                spill.write(&triplets, &self.folder)?;
            }
            self.stack.extend(spill.into_stack());
        }
        Ok(false)
    }

    fn read(&self, bucket: &Bucket) -> Result<Vec<Triplet<T>>> {
        let size = record_size::<T>();
        let mut triplets = Vec::with_capacity(bucket.len() as usize);
        let Some(file) = &bucket.file else { return Ok(triplets) };
        let mut bytes = Vec::new();
        for &(offset, n) in &bucket.pieces {
            bytes.resize(n as usize * size, 0);
            let mut file = &**file;
            file.seek(SeekFrom::Start(offset)).at(place(&self.folder))?;
            file.read_exact(&mut bytes).at(place(&self.folder))?;
            triplets.extend(bytes.chunks_exact(size).map(|record| Triplet {
                row: u64::get(record),
                col: u32::get(&record[8..]),
                value: T::get(&record[12..]),
            }));
        }
        Ok(triplets)
    }

    fn step(&mut self) -> Result<Option<CsrChunk>> {
        loop {
            let Some(next) = self.block.as_slice().first().copied() else {
                if self.load()? {
                    continue;
                }
                while self.row < self.n_rows {
                    self.row += 1;
                    if let Some(chunk) = self.builder.end_row()? {
                        return Ok(Some(chunk));
                    }
                }
                self.done = true;
                return self.builder.finish();
            };
            while self.row < next.row {
                self.row += 1;
                if let Some(chunk) = self.builder.end_row()? {
                    return Ok(Some(chunk));
                }
            }
            self.block.next();
            self.builder.push(next.col, next.value);
        }
    }
}

impl<T: Entry> Iterator for Sorted<T> {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done |= !matches!(step, Some(Ok(_)));
        step
    }
}

impl<T: Entry> RowStream for Sorted<T> {
    fn duplicates(&self) -> u64 {
        self.builder.duplicates()
    }
}

/// Sorts by row and column; equal positions keep their order.
fn sorted<T: Entry>(triplets: Vec<Triplet<T>>) -> Vec<Triplet<T>> {
    if triplets.is_sorted_by_key(|t| (t.row, t.col)) {
        return triplets;
    }
    let (low, high) = triplets.iter().fold((u64::MAX, 0), |(l, h), t| (l.min(t.row), h.max(t.row)));
    let span = high.saturating_sub(low);
    let mut triplets = triplets;
    if span > 4 * triplets.len() as u64 + 1024 {
        triplets.sort_by_key(|t| (t.row, t.col));
        return triplets;
    }
    // Counting sort by row; columns mostly come in order already.
    let mut starts = vec![0_usize; span as usize + 2];
    triplets.iter().for_each(|t| starts[(t.row - low) as usize + 1] += 1);
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut out = vec![Triplet::default(); triplets.len()];
    for t in triplets {
        let slot = &mut starts[(t.row - low) as usize];
        out[*slot] = t;
        *slot += 1;
    }
    for row in out.chunk_by_mut(|a, b| a.row == b.row) {
        if !row.is_sorted_by_key(|t| t.col) {
            row.sort_by_key(|t| t.col);
        }
    }
    out
}

/// Sorts the rows of a chunk and adds up duplicates, of which it returns the number. The value
/// type widens where a sum needs it.
///
/// # Errors
/// `malformed-input` when `indptr` does not fit the other parts.
pub(crate) fn canonicalize(chunk: CsrChunk) -> Result<(CsrChunk, u64)> {
    let nnz = chunk.indices.len();
    let sound = chunk.indptr.first() == Some(&0)
        && chunk.indptr.is_sorted()
        && chunk.indptr.last() == Some(&(nnz as u64))
        && chunk.values.len() == nnz;
    if !sound {
        return Err(Error::malformed("indptr does not fit the indices and values"));
    }
    if chunk.rises() {
        return Ok((chunk, 0));
    }
    with_values!(&chunk.values, v => merge(&chunk, v))
}

fn merge<T: Entry>(chunk: &CsrChunk, values: &[T]) -> Result<(CsrChunk, u64)> {
    let mut builder = ChunkBuilder::new(StreamOptions { max_rows: usize::MAX, max_nnz: usize::MAX });
    let mut row = Vec::new();
    for i in 0..chunk.n_rows() {
        row.clear();
        row.extend(chunk.row(i).map(|j| (chunk.indices[j], values[j])));
        if !row.is_sorted_by_key(|(c, _)| *c) {
            row.sort_by_key(|(c, _)| *c);
        }
        row.iter().for_each(|&(c, v)| builder.push(c, v));
        builder.end_row()?;
    }
    let merged = builder.finish()?.unwrap_or_else(|| CsrChunk::empty(T::DTYPE));
    Ok((merged, builder.duplicates()))
}

#[cfg(test)]
mod tests;
