//! Matrices: compressed sparse rows or columns, or dense.

use super::encoding::{CHUNK, bytes_of, encoding_attrs, widened};
use crate::h5_out::{Attr, DatasetWriter, Filter, H5Out, dtype_type};
use crate::model::{MatrixEncoding, OpenOptions, StreamOptions};
use crate::row_sorter::RowSorter;
use arrow::datatypes::ToByteSlice;
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result};

#[cfg(target_endian = "big")]
compile_error!("HDF5 files are written in little-endian order from memory");

/// Where a matrix goes.
pub(super) struct Target<'a> {
    pub(super) out: &'a mut H5Out,
    pub(super) filter: Filter,
    /// How rows are sorted into columns.
    pub(super) sorting: &'a OpenOptions,
}

pub(super) struct Shape {
    pub(super) dtype: Dtype,
    pub(super) n_rows: u64,
    pub(super) n_cols: u64,
    pub(super) nnz: Option<u64>,
}

impl Shape {
    /// The index type that SciPy would choose.
    fn index_type(&self) -> Dtype {
        let nnz = self.nnz.unwrap_or_else(|| self.n_rows.saturating_mul(self.n_cols));
        let largest = nnz.max(self.n_rows).max(self.n_cols);
        if largest <= i32::MAX as u64 { Dtype::I32 } else { Dtype::I64 }
    }

    fn check_end(&self, n_rows: u64, nnz: u64) -> Result<()> {
        if n_rows != self.n_rows || self.nnz.is_some_and(|n| n != nnz) {
            return Err(Error::malformed(format!(
                "{n_rows} rows with {nnz} values came for a matrix of {} rows{}",
                self.n_rows,
                self.nnz.map(|n| format!(" and {n} values")).unwrap_or_default()
            )));
        }
        Ok(())
    }
}

pub(super) fn write(
    to: &mut Target<'_>,
    path: &str,
    encoding: MatrixEncoding,
    shape: Shape,
    chunks: impl IntoIterator<Item = Result<CsrChunk>>,
) -> Result<()> {
    let mut seen = 0;
    let chunks = chunks.into_iter().map(|chunk| {
        let chunk = chunk?;
        chunk.validate(shape.n_cols, seen)?;
        seen += chunk.n_rows() as u64;
        Ok(CsrChunk { values: widened(chunk.values, shape.dtype)?, ..chunk })
    });
    match encoding {
        MatrixEncoding::Csr => write_sparse(to, path, "csr_matrix", &shape, &shape, chunks),
        MatrixEncoding::Csc => {
            // The matrix, seen as one of columns.
            let turned = Shape { n_rows: shape.n_cols, n_cols: shape.n_rows, ..shape };
            let mut sorter = RowSorter::new(turned.n_rows, turned.n_cols, shape.dtype, to.sorting)?;
            let (mut row, mut nnz, mut columns, mut rows) = (0_u64, 0, Vec::new(), Vec::new());
            for chunk in chunks {
                let chunk = chunk?;
                columns.clear();
                columns.extend(chunk.indices.iter().map(|&c| u64::from(c)));
                rows.clear();
                for i in 0..chunk.n_rows() {
                    let number = u32::try_from(row)
                        .map_err(|_| Error::new(ErrorKind::UnsupportedFeature, "csc with 2^32 rows or more"))?;
                    rows.resize(rows.len() + chunk.row(i).len(), number);
                    row += 1;
                }
                nnz += chunk.nnz() as u64;
                sorter.push(&columns, &rows, &chunk.values)?;
            }
            shape.check_end(row, nnz)?;
            let columns = sorter.finish(StreamOptions::default())?;
            write_sparse(to, path, "csc_matrix", &shape, &turned, columns)
        }
        MatrixEncoding::Dense => write_dense(to, path, &shape, chunks),
    }
}

/// `shape` goes into the file; `lines` is that of the stream, which differs for csc.
fn write_sparse(
    to: &mut Target<'_>,
    path: &str,
    encoding: &str,
    shape: &Shape,
    lines: &Shape,
    chunks: impl Iterator<Item = Result<CsrChunk>>,
) -> Result<()> {
    let out = &mut *to.out;
    let index = shape.index_type();
    let new = |dtype| DatasetWriter::new(dtype_type(dtype), Vec::new(), to.filter, CHUNK);
    let (mut data, mut indices, mut indptr) = (new(shape.dtype)?, new(index)?, new(index)?);
    let (mut n_rows, mut nnz, mut bytes) = (0_u64, 0_u64, Vec::new());
    indptr.push(out, &vec![0; index.size()])?;
    for chunk in chunks {
        let chunk = chunk?;
        data.push(out, bytes_of(&chunk.values, &mut bytes))?;
        if index == Dtype::I32 {
            // A u32 below 2^31 has the bytes of the i32.
            indices.push(out, chunk.indices.to_byte_slice())?;
            let ends: Vec<i32> = chunk.indptr[1..].iter().map(|&p| (nnz + p) as i32).collect();
            indptr.push(out, ends.to_byte_slice())?;
        } else {
            let wide: Vec<i64> = chunk.indices.iter().map(|&c| i64::from(c)).collect();
            indices.push(out, wide.to_byte_slice())?;
            let ends: Vec<i64> = chunk.indptr[1..].iter().map(|&p| (nnz + p) as i64).collect();
            indptr.push(out, ends.to_byte_slice())?;
        }
        n_rows += chunk.n_rows() as u64;
        nnz += chunk.nnz() as u64;
        if index == Dtype::I32 && nnz > i32::MAX as u64 {
            break;
        }
    }
    lines.check_end(n_rows, nnz)?;
    let mut attrs = encoding_attrs(encoding, "0.1.0");
    attrs.push(Attr::ints("shape", &[shape.n_rows as i64, shape.n_cols as i64]));
    attrs.iter().try_for_each(|a| out.set_attr(path, a))?;
    data.finish(out, &format!("{path}/data"), nnz, &[]).at("data")?;
    indices.finish(out, &format!("{path}/indices"), nnz, &[]).at("indices")?;
    indptr.finish(out, &format!("{path}/indptr"), n_rows + 1, &[]).at("indptr")
}

fn write_dense(
    to: &mut Target<'_>,
    path: &str,
    shape: &Shape,
    chunks: impl Iterator<Item = Result<CsrChunk>>,
) -> Result<()> {
    let mut data = DatasetWriter::new(dtype_type(shape.dtype), vec![shape.n_cols], to.filter, CHUNK)?;
    let size = shape.dtype.size();
    let width = usize::try_from(shape.n_cols)
        .ok()
        .and_then(|n| n.checked_mul(size))
        .ok_or_else(|| Error::new(ErrorKind::UnsupportedFeature, "so many columns cannot be written densely"))?;
    let (mut n_rows, mut nnz) = (0_u64, 0);
    let (mut row, mut bytes) = (vec![0; width], Vec::new());
    for chunk in chunks {
        let chunk = chunk?;
        let values = bytes_of(&chunk.values, &mut bytes);
        for i in 0..chunk.n_rows() {
            for j in chunk.row(i) {
                let at = chunk.indices[j] as usize * size;
                row[at..at + size].copy_from_slice(&values[j * size..(j + 1) * size]);
            }
            data.push(to.out, &row)?;
            for j in chunk.row(i) {
                let at = chunk.indices[j] as usize * size;
                row[at..at + size].fill(0);
            }
        }
        n_rows += chunk.n_rows() as u64;
        nnz += chunk.nnz() as u64;
    }
    Shape { nnz: None, ..*shape }.check_end(n_rows, nnz)?;
    data.finish(to.out, path, n_rows, &encoding_attrs("array", "0.2.0"))
}
