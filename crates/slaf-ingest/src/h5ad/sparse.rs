//! Sparse matrices: `indptr`, `indices` and `data`, compressed by rows or by columns.

use crate::chunk_builder::{ChunkBuilder, Entry};
use crate::h5::{Dataset, Reader, decode_u32, unsupported};
use crate::model::{OpenOptions, RowStream, StreamOptions};
use crate::parallel::Ordered;
use crate::row_sorter::RowSorter;
use slaf_core::{CsrChunk, Dtype, Error, Result, Values, with_values};
use std::ops::Range;

/// Entries of `indptr` that are read at a time.
const INDPTR_WINDOW: u64 = 1 << 18;

/// A row may be longer than there are columns, by duplicates, but not longer than this.
const MAX_ROW: u64 = 4 << 20;

/// Entries that [`Sparse::minor_counts`] looks at, and in how many places.
const SAMPLE: u64 = 4 << 20;
const SAMPLE_WINDOWS: u64 = 64;

/// A compressed sparse matrix of the file. Its major axis is the compressed one.
#[derive(Clone)]
pub(crate) struct Sparse {
    indptr: Dataset,
    indices: Dataset,
    data: Dataset,
    n_major: u64,
    n_minor: u64,
    dtype: Dtype,
}

impl Sparse {
    /// A matrix out of its three parts.
    ///
    /// # Errors
    /// `malformed-input` where lengths do not agree; the contents are checked as they are read.
    pub(crate) fn new(indptr: Dataset, indices: Dataset, data: Dataset, n_major: u64, n_minor: u64) -> Result<Sparse> {
        let expected = n_major
            .checked_add(1)
            .ok_or_else(|| Error::malformed(format!("{n_major} rows are impossible")).at(indptr.path()))?;
        indptr.expect_len(expected)?;
        indptr.integer()?;
        indices.integer()?;
        let (dtype, _) = data.number()?;
        let nnz = data.len()?;
        indices.expect_len(nnz)?;
        if n_minor > 1 << 32 {
            return Err(unsupported(format!("more than 2^32 columns ({n_minor})")).at(indices.path()));
        }
        let sparse = Sparse { indptr, indices, data, n_major, n_minor, dtype };
        let mut reader = sparse.indptr.reader()?;
        let first = reader.u64s(0..1)?;
        if first != [0] {
            return Err(Error::malformed(format!("begins with {}, not 0", first[0])).at(sparse.indptr.path()));
        }
        let last = reader.u64s(n_major..n_major + 1)?;
        if last != [nnz] {
            return Err(
                Error::malformed(format!("ends with {}, but there are {nnz} values", last[0])).at(sparse.indptr.path())
            );
        }
        Ok(sparse)
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn data(&self) -> &Dataset {
        &self.data
    }

    pub(crate) fn nnz(&self) -> u64 {
        self.data.shape().first().copied().unwrap_or(0)
    }

    fn plan(&self, major: Range<u64>, options: StreamOptions) -> Result<Blocks> {
        Ok(Blocks {
            indptr: self.indptr.reader()?,
            n_major: self.n_major,
            n_minor: self.n_minor,
            nnz: self.nnz(),
            options,
            window: Vec::new(),
            window_start: 0,
            next: major.start,
            end: major.end.min(self.n_major),
        })
    }

    /// Blocks of some of the major axis; `sorted` ones satisfy [`CsrChunk::validate`].
    fn blocks(&self, major: Range<u64>, options: StreamOptions, sorted: bool) -> Result<Ordered<Block, Read, Blocks>> {
        Ordered::new(self.plan(major, options)?, || {
            let mut indices = self.indices.reader()?;
            let mut data = self.data.reader()?;
            let n_minor = self.n_minor;
            Ok(move |block: Block| {
                let read = read_block(&mut indices, &mut data, n_minor, block)?;
                if sorted && !read.chunk.rises() { canonical(read) } else { Ok(read) }
            })
        })
    }

    /// Some rows, where rows are the compressed axis.
    pub(crate) fn stream_rows(&self, rows: Range<u64>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        Ok(Box::new(SparseRows { blocks: self.blocks(rows, options, true)?, duplicates: 0 }))
    }

    /// The columns of a matrix that is compressed by columns, turned into rows.
    pub(crate) fn stream_transposed(&self, options: StreamOptions, open: &OpenOptions) -> Result<Box<dyn RowStream>> {
        if self.n_major > 1 << 32 {
            return Err(unsupported(format!("more than 2^32 columns ({})", self.n_major)).at(self.indptr.path()));
        }
        let mut sorter = RowSorter::new(self.n_minor, self.n_major, self.dtype, open)?;
        let (mut rows, mut cols) = (Vec::new(), Vec::new());
        for read in self.blocks(0..self.n_major, StreamOptions { max_rows: 1 << 16, max_nnz: 1 << 20 }, false)? {
            let read = read?;
            rows.clear();
            rows.extend(read.chunk.indices.iter().map(|&r| u64::from(r)));
            cols.clear();
            for i in 0..read.chunk.n_rows() {
                let col = (read.first + i as u64) as u32;
                cols.extend(std::iter::repeat_n(col, read.chunk.row(i).len()));
            }
            sorter.push(&rows, &cols, &read.chunk.values)?;
        }
        sorter.finish(options)
    }

    /// Entries per minor index, from a sample over the whole file.
    pub(crate) fn minor_counts(&self) -> Result<Vec<u64>> {
        let nnz = self.nnz();
        let mut counts = vec![0; self.n_minor as usize];
        let mut reader = self.indices.reader()?;
        let (dtype, big) = self.indices.integer()?;
        for range in sample(nnz, SAMPLE, SAMPLE_WINDOWS) {
            let bytes = reader.bytes(range.clone())?;
            let indices = decode_u32(&bytes, dtype, big, self.n_minor).map_err(|(i, x)| {
                out_of_range(x, self.n_minor).at(format!(
                    "{}, position {}",
                    self.indices.path(),
                    range.start + i as u64
                ))
            })?;
            indices.iter().for_each(|&i| counts[i as usize] += 1);
        }
        Ok(counts)
    }

    /// Entries per major index.
    pub(crate) fn major_counts(&self) -> Result<Vec<u64>> {
        let mut counts = Vec::new();
        let all = StreamOptions { max_rows: usize::MAX, max_nnz: usize::MAX };
        for block in self.plan(0..self.n_major, all)? {
            counts.extend(block?.indptr.windows(2).map(|w| w[1] - w[0]));
        }
        Ok(counts)
    }
}

/// Ranges of together at most `budget` out of `n`, spread over all.
pub(crate) fn sample(n: u64, budget: u64, windows: u64) -> Vec<Range<u64>> {
    let (width, count) = if n <= budget { (n, 1) } else { ((budget / windows).max(1), windows.min(budget)) };
    let at = |i: u64| (u128::from(n - width) * u128::from(i) / u128::from((count - 1).max(1))) as u64;
    (0..count).map(|i| at(i)..at(i) + width).collect()
}

fn out_of_range(index: i128, n: u64) -> Error {
    Error::malformed(format!("index {index}, but there are {n} columns"))
}

/// Some rows to read.
struct Block {
    first: u64,
    /// Positions in the whole file.
    indptr: Vec<u64>,
}

/// Cuts a matrix into blocks, and checks `indptr` on the way.
struct Blocks {
    indptr: Reader,
    n_major: u64,
    n_minor: u64,
    nnz: u64,
    options: StreamOptions,
    /// Entries of `indptr` from `window_start` on.
    window: Vec<u64>,
    window_start: u64,
    next: u64,
    /// Where the blocks end.
    end: u64,
}

impl Blocks {
    fn entry(&mut self, i: u64) -> Result<u64> {
        if i < self.window_start || i - self.window_start >= self.window.len() as u64 {
            let end = (i + INDPTR_WINDOW).min(self.n_major + 1);
            self.window = self.indptr.u64s(i..end)?;
            self.window_start = i;
        }
        let at = (i - self.window_start) as usize;
        self.window
            .get(at)
            .copied()
            .ok_or_else(|| Error::malformed("shorter than its shape").at(self.indptr.dataset().path()))
    }

    fn block(&mut self) -> Result<Block> {
        let first = self.next;
        let start = self.entry(first)?;
        let mut indptr = vec![start];
        let mut last = start;
        while self.next < self.end && indptr.len() <= self.options.max_rows.max(1) {
            let end = self.entry(self.next + 1)?;
            if end < last {
                return Err(Error::malformed(format!("not monotone at row {} ({last} > {end})", self.next))
                    .at(self.indptr.dataset().path()));
            }
            if end > self.nnz {
                return Err(Error::malformed(format!("{end} at row {}, but there are {} values", self.next, self.nnz))
                    .at(self.indptr.dataset().path()));
            }
            if end - last > MAX_ROW.max(self.n_minor.saturating_mul(4)) {
                return Err(Error::malformed(format!(
                    "{} values in row {}, but there are {} columns",
                    end - last,
                    self.next,
                    self.n_minor
                ))
                .at(self.indptr.dataset().path()));
            }
            if indptr.len() > 1 && end - start > self.options.max_nnz as u64 {
                break;
            }
            indptr.push(end);
            last = end;
            self.next += 1;
        }
        Ok(Block { first, indptr })
    }
}

impl Iterator for Blocks {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Result<Block>> {
        (self.next < self.end).then(|| {
            let block = self.block();
            if block.is_err() {
                self.next = self.end;
            }
            block
        })
    }
}

/// A block with its values; the indices are in range.
struct Read {
    first: u64,
    chunk: CsrChunk,
    duplicates: u64,
}

fn read_block(indices: &mut Reader, data: &mut Reader, n_minor: u64, block: Block) -> Result<Read> {
    let Block { first, mut indptr } = block;
    let start = indptr.first().copied().unwrap_or(0);
    let range = start..indptr.last().copied().unwrap_or(start);
    indptr.iter_mut().for_each(|p| *p -= start);
    let (dtype, big) = indices.dataset().integer()?;
    let bytes = indices.bytes(range.clone())?;
    let columns = decode_u32(&bytes, dtype, big, n_minor).map_err(|(i, x)| {
        let row = indptr.partition_point(|&p| p <= i as u64) as u64 - 1;
        out_of_range(x, n_minor).at(format!("{}, row {}", indices.dataset().path(), first + row))
    })?;
    drop(bytes);
    let values = data.values(range)?;
    Ok(Read { first, chunk: CsrChunk { indptr, indices: columns, values }, duplicates: 0 })
}

/// The rows of a matrix that is compressed by rows.
struct SparseRows {
    blocks: Ordered<Block, Read, Blocks>,
    duplicates: u64,
}

impl Iterator for SparseRows {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Result<CsrChunk>> {
        Some(self.blocks.next()?.map(|read| {
            self.duplicates += read.duplicates;
            read.chunk
        }))
    }
}

impl RowStream for SparseRows {
    fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

/// Sorts the rows and adds up duplicates.
fn canonical(read: Read) -> Result<Read> {
    fn rebuild<T: Entry>(indptr: &[u64], indices: &[u32], values: &[T]) -> Result<(CsrChunk, u64)> {
        let all = StreamOptions { max_rows: usize::MAX, max_nnz: usize::MAX };
        let mut builder = ChunkBuilder::new(all);
        let mut row: Vec<(u32, T)> = Vec::new();
        for w in indptr.windows(2) {
            let range = w[0] as usize..w[1] as usize;
            row.clear();
            row.extend(indices[range.clone()].iter().copied().zip(values[range].iter().copied()));
            row.sort_by_key(|e| e.0);
            row.iter().for_each(|&(c, v)| builder.push(c, v));
            builder.end_row()?;
        }
        let duplicates = builder.duplicates();
        Ok((builder.finish()?.unwrap_or_else(|| CsrChunk::empty(T::DTYPE)), duplicates))
    }
    let CsrChunk { indptr, indices, values } = &read.chunk;
    let (chunk, duplicates) = with_values!(values, v => rebuild(indptr, indices, v))?;
    Ok(Read { first: read.first, chunk, duplicates })
}

/// A chunk of rows out of dense rows: zeros are left out, but -0.0 is kept.
pub(crate) fn sparsify(values: &Values, n_cols: usize) -> CsrChunk {
    fn is_default<T: Default + PartialEq>(x: T) -> bool {
        x == T::default()
    }
    fn build<T: Entry>(values: &[T], n_cols: usize, is_zero: impl Fn(T) -> bool) -> CsrChunk {
        let mut chunk = (vec![0], Vec::new(), Vec::new());
        for row in values.chunks_exact(n_cols.max(1)) {
            for (c, &x) in row.iter().enumerate() {
                if !is_zero(x) {
                    chunk.1.push(c as u32);
                    chunk.2.push(x);
                }
            }
            chunk.0.push(chunk.1.len() as u64);
        }
        CsrChunk { indptr: chunk.0, indices: chunk.1, values: T::wrap(chunk.2) }
    }
    match values {
        Values::F32(v) => build(v, n_cols, |x| x.to_bits() == 0),
        Values::F64(v) => build(v, n_cols, |x| x.to_bits() == 0),
        other => with_values!(other, v => build(v, n_cols, is_default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_cover_the_whole_range() {
        assert_eq!(sample(10, 20, 4).first(), Some(&(0..10)));
        let s = sample(1000, 40, 4);
        assert_eq!((s.len(), s[0].clone(), s[3].clone()), (4, 0..10, 990..1000));
        assert_eq!(sample(0, 20, 4).first(), Some(&(0..0)));
    }

    #[test]
    fn rows_are_sorted_and_duplicates_added() {
        let chunk = CsrChunk {
            indptr: vec![0, 3, 3, 6],
            indices: vec![4, 1, 4, 0, 0, 0],
            values: Values::U8(vec![200, 2, 100, 1, 2, 3]),
        };
        assert!(!chunk.rises());
        let Read { chunk: c, duplicates, .. } = canonical(Read { first: 0, chunk, duplicates: 0 }).unwrap();
        assert_eq!(duplicates, 3);
        assert_eq!((c.indptr, c.indices), (vec![0, 2, 2, 3], vec![1, 4, 0]));
        assert_eq!(c.values, Values::U16(vec![2, 300, 6]));
    }

    #[test]
    fn negative_zero_and_nan_are_not_zero() {
        let c = sparsify(&Values::F32(vec![0.0, -0.0, 1.0, f32::NAN]), 2);
        assert_eq!((c.indptr, c.indices), (vec![0, 1, 3], vec![1, 0, 1]));
        let c = sparsify(&Values::I16(vec![0, 5, 0, 0]), 2);
        assert_eq!((c.indptr, c.values), (vec![0, 1, 1], Values::I16(vec![5])));
    }
}
