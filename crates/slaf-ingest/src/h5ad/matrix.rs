//! Matrices in any of their encodings.

use super::columns::Refusal;
use super::sparse::{Sparse, sample, sparsify};
use crate::h5::{Dataset, Elem, Group, Node, unsupported};
use crate::model::{MatrixEncoding, MatrixInfo, MatrixKey, OpenOptions, RowStream, StreamOptions, not_from_within};
use crate::parallel::Ordered;
use slaf_core::{CsrChunk, Dtype, Error, Result};
use std::ops::Range;

/// Bytes of dense rows that one thread reads at a time, at most (or one row).
const DENSE_BLOCK: u64 = 32 << 20;

/// Values of dense rows that [`MatrixSource::column_counts`] looks at.
const DENSE_SAMPLE: u64 = 16 << 20;
const DENSE_WINDOWS: u64 = 32;

/// A matrix of the file, opened.
pub(crate) struct MatrixSource {
    pub(crate) info: MatrixInfo,
    storage: Storage,
}

enum Storage {
    Rows(Sparse),
    Columns(Sparse),
    Dense(Dataset),
}

impl MatrixSource {
    /// Opens the matrix in `node`, which must have the shape that its place asks for.
    pub(crate) fn open(node: Node, key: MatrixKey, shape: (u64, u64)) -> Result<Self, Refusal> {
        let path = node.path().to_owned();
        let storage = match node {
            Node::Group(g) => open_sparse(&g, shape)?,
            Node::Dataset(d) => open_dense(d, shape)?,
        };
        if shape.1 > 1 << 32 {
            return Err(unsupported(format!("more than 2^32 columns ({})", shape.1)).at(path).into());
        }
        let (encoding, dtype, nnz) = match &storage {
            Storage::Rows(s) => (MatrixEncoding::Csr, s.dtype(), Some(s.nnz())),
            Storage::Columns(s) => (MatrixEncoding::Csc, s.dtype(), Some(s.nnz())),
            Storage::Dense(d) => (MatrixEncoding::Dense, d.number()?.0, None),
        };
        let info = MatrixInfo { key, encoding, dtype, n_rows: shape.0, n_cols: shape.1, nnz };
        Ok(MatrixSource { info, storage })
    }

    /// Whether the file has 16-bit floats, which are widened.
    pub(crate) fn is_half(&self) -> bool {
        let values = match &self.storage {
            Storage::Rows(s) | Storage::Columns(s) => s.data(),
            Storage::Dense(d) => d,
        };
        matches!(values.elem(), Elem::Float16 { .. })
    }

    /// See [`crate::Input::matrix`].
    pub(crate) fn stream(&self, options: StreamOptions, open: &OpenOptions) -> Result<Box<dyn RowStream>> {
        match &self.storage {
            Storage::Columns(s) => s.stream_transposed(options, open),
            Storage::Rows(_) | Storage::Dense(_) => self.stream_some(0..self.info.n_rows, options),
        }
    }

    /// See [`crate::Input::matrix_rows`].
    pub(crate) fn stream_some(&self, rows: Range<u64>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        match &self.storage {
            Storage::Rows(s) => s.stream_rows(rows, options),
            Storage::Columns(_) => Err(not_from_within(&self.info.key)),
            Storage::Dense(d) => Ok(Box::new(dense_rows(d, self.info.dtype, rows, self.info.n_cols, options)?)),
        }
    }

    /// See [`crate::Input::has_cheap_rows`].
    pub(crate) fn has_cheap_rows(&self) -> bool {
        !matches!(self.storage, Storage::Columns(_))
    }

    /// See [`crate::Input::column_counts`].
    pub(crate) fn column_counts(&self) -> Result<Vec<u64>> {
        match &self.storage {
            Storage::Rows(s) => s.minor_counts(),
            Storage::Columns(s) => s.major_counts(),
            Storage::Dense(d) => {
                let n_cols = self.info.n_cols;
                let mut counts = vec![0; n_cols as usize];
                if n_cols == 0 {
                    return Ok(counts);
                }
                let mut reader = d.reader()?;
                let budget = (DENSE_SAMPLE / n_cols).max(1);
                for range in sample(self.info.n_rows, budget, DENSE_WINDOWS) {
                    for rows in cut(range, (DENSE_BLOCK / n_cols.saturating_mul(8)).max(1)) {
                        let chunk = sparsify(&reader.values(rows)?, n_cols as usize);
                        chunk.indices.iter().for_each(|&i| counts[i as usize] += 1);
                    }
                }
                Ok(counts)
            }
        }
    }
}

/// Pieces of at most `step`.
fn cut(range: Range<u64>, step: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let Range { mut start, end } = range;
    std::iter::from_fn(move || {
        let piece = start..start.saturating_add(step).min(end);
        start = piece.end;
        (piece.start < piece.end).then_some(piece)
    })
}

fn open_sparse(g: &Group, shape: (u64, u64)) -> Result<Storage, Refusal> {
    let attrs = g.attrs()?;
    let encoding = attrs.str("encoding-type").or_else(|| attrs.str("h5sparse_format")).unwrap_or("");
    let by_rows = match encoding {
        "csr_matrix" | "csr" => true,
        "csc_matrix" | "csc" => false,
        other => return Err(Refusal::Loss(format!("a matrix of encoding \"{other}\""))),
    };
    let stored = attrs.u64s("shape").or_else(|| attrs.u64s("h5sparse_shape"));
    match stored.as_deref() {
        Some([r, c]) if (*r, *c) == shape => {}
        Some(other) => return Err(wrong_shape(other, shape).at(g.path()).into()),
        None => return Err(Error::malformed("no attribute \"shape\"").at(g.path()).into()),
    }
    let (n_major, n_minor) = if by_rows { shape } else { (shape.1, shape.0) };
    let data = g.dataset("data")?;
    let (indptr, indices) = (g.dataset("indptr")?, g.dataset("indices")?);
    if let Some(loss) = not_a_number(&data) {
        return Err(loss);
    }
    let sparse = Sparse::new(indptr, indices, data, n_major, n_minor)?;
    Ok(if by_rows { Storage::Rows(sparse) } else { Storage::Columns(sparse) })
}

fn open_dense(d: Dataset, shape: (u64, u64)) -> Result<Storage, Refusal> {
    if let Some(loss) = not_a_number(&d) {
        return Err(loss);
    }
    if d.shape() != [shape.0, shape.1] {
        return Err(wrong_shape(d.shape(), shape).at(d.path()).into());
    }
    Ok(Storage::Dense(d))
}

/// Why the values of a matrix cannot be kept.
fn not_a_number(d: &Dataset) -> Option<Refusal> {
    match d.elem() {
        Elem::Number { .. } | Elem::Float16 { .. } => None,
        other => Some(Refusal::Loss(format!("a matrix of {} values", other.name()))),
    }
}

fn wrong_shape(stored: &[u64], expected: (u64, u64)) -> Error {
    let stored: Vec<String> = stored.iter().map(ToString::to_string).collect();
    Error::malformed(format!("shape {} instead of {} x {}", stored.join(" x "), expected.0, expected.1))
}

/// Some rows of a dense matrix.
fn dense_rows(
    d: &Dataset,
    dtype: Dtype,
    rows: Range<u64>,
    n_cols: u64,
    options: StreamOptions,
) -> Result<impl RowStream + use<>> {
    let limit = options.max_rows.max(1) as u64;
    let row_bytes = n_cols.saturating_mul(dtype.size() as u64).max(1);
    let by_nnz = options.max_nnz as u64 / n_cols.max(1);
    let mut step = limit.min(by_nnz).min(DENSE_BLOCK / row_bytes).max(1);
    let chunk_rows = d.chunk_rows();
    if step > chunk_rows {
        step -= step % chunk_rows;
    }
    let blocks = Ordered::new(cut(rows, step).map(Ok), || {
        let mut reader = d.reader()?;
        Ok(move |rows: Range<u64>| {
            let n = (rows.end - rows.start) as usize;
            if n_cols == 0 {
                return Ok(CsrChunk { indptr: vec![0; n + 1], ..CsrChunk::empty(dtype) });
            }
            Ok(sparsify(&reader.values(rows)?, n_cols as usize))
        })
    })?;
    Ok(DenseRows(blocks))
}

struct DenseRows<I>(I);

impl<I: Iterator<Item = Result<CsrChunk>>> Iterator for DenseRows<I> {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Result<CsrChunk>> {
        self.0.next()
    }
}

impl<I: Iterator<Item = Result<CsrChunk>> + Send> RowStream for DenseRows<I> {}
