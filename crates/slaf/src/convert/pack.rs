//! Chunks of a matrix into packed rows.

use arrow::array::{ArrayRef, AsArray, BinaryArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use rayon::prelude::*;
use slaf_core::order::Renumber;
use slaf_core::packed::encode_row_into;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, with_values};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::{in_pool, pool_threads};
use std::ops::Range;
use std::sync::Arc;

/// Pieces of a computation for each thread: readers work beside them, and a thread that is held up leaves some
/// of its pieces to the others.
pub(crate) const PIECES: usize = 4;

/// Consecutive rows of a chunk, renumbered.
pub(crate) struct Part<T> {
    pub(crate) rows: Range<usize>,
    /// Positions in `columns` and `values`, one more than there are rows.
    pub(crate) indptr: Vec<usize>,
    pub(crate) columns: Vec<u32>,
    pub(crate) values: Vec<T>,
    packed: Vec<u8>,
    packed_ends: Vec<usize>,
}

/// Packs every row of a chunk. `order` renumbers its columns (to ranks, say).
pub(crate) fn pack_chunk<T: Value>(chunk: &CsrChunk, values: &[T], order: Option<&[u32]>) -> Result<Vec<Part<T>>> {
    let parts = parts(chunk, PIECES * pool_threads()?);
    in_pool(|| parts.into_par_iter().map(|rows| pack_part(chunk, values, order, rows)).collect())
}

/// Cuts the rows into ranges of about the same number of values.
fn parts(chunk: &CsrChunk, n: usize) -> Vec<Range<usize>> {
    let (rows, nnz) = (chunk.n_rows(), chunk.nnz() as u64);
    let mut cuts: Vec<usize> =
        (0..=n as u64).map(|i| chunk.indptr.partition_point(|&p| p < nnz * i / n as u64).min(rows)).collect();
    cuts[0] = 0;
    cuts[n] = rows;
    cuts.windows(2).map(|w| w[0]..w[1].max(w[0])).filter(|r| !r.is_empty()).collect()
}

fn pack_part<T: Value>(chunk: &CsrChunk, values: &[T], order: Option<&[u32]>, rows: Range<usize>) -> Result<Part<T>> {
    let nnz = chunk.row(rows.end - 1).end - chunk.row(rows.start).start;
    let mut part = Part {
        indptr: Vec::with_capacity(rows.len() + 1),
        columns: Vec::with_capacity(nnz),
        values: Vec::with_capacity(nnz),
        packed: Vec::with_capacity(nnz + nnz / 2 + 8 * rows.len()),
        packed_ends: Vec::with_capacity(rows.len()),
        rows,
    };
    part.indptr.push(0);
    let mut renumber = Renumber::new(order.map_or(0, <[u32]>::len));
    for i in part.rows.clone() {
        let row = chunk.row(i);
        let start = part.columns.len();
        let (columns, row_values) = (&chunk.indices[row.clone()], &values[row]);
        match order {
            Some(map) => {
                part.columns.resize(start + columns.len(), 0);
                part.values.resize(start + columns.len(), T::default());
                let (c, v) = (&mut part.columns[start..], &mut part.values[start..]);
                renumber.row(map, columns, row_values, c, v);
            }
            None => {
                part.columns.extend_from_slice(columns);
                part.values.extend_from_slice(row_values);
            }
        }
        encode_row_into(&part.columns[start..], &part.values[start..], &mut part.packed)?;
        part.packed_ends.push(part.packed.len());
        part.indptr.push(part.columns.len());
    }
    Ok(part)
}

/// The packed rows of all parts as a column of a table.
pub(crate) fn packed_column<T>(parts: &[Part<T>]) -> Result<ArrayRef> {
    binary(parts.iter().map(|p| (&p.packed, &p.packed_ends)))
}

/// Rows without values as a column of a table.
pub(crate) fn empty_rows(n: usize, dtype: Dtype) -> Result<BinaryArray> {
    let chunk = CsrChunk { indptr: vec![0; n + 1], ..CsrChunk::empty(dtype) };
    with_values!(&chunk.values, values => Ok(packed_column(&pack_chunk(&chunk, values, None)?)?.as_binary::<i32>().clone()))
}

/// One binary array of packed rows that lie in several buffers; each comes with its rows' ends.
pub(crate) fn binary<'a>(buffers: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<usize>)> + Clone) -> Result<ArrayRef> {
    let bytes: usize = buffers.clone().map(|(b, _)| b.len()).sum();
    if i32::try_from(bytes).is_err() {
        return Err(Error::new(ErrorKind::Internal, "more than 2 GiB of packed rows in one batch"));
    }
    let mut all = Vec::with_capacity(bytes);
    let mut offsets = vec![0i32];
    for (buffer, ends) in buffers {
        offsets.extend(ends.iter().map(|&e| (all.len() + e) as i32));
        all.extend_from_slice(buffer);
    }
    let array =
        BinaryArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(all), None).map_err(from_arrow)?;
    Ok(Arc::new(array))
}
