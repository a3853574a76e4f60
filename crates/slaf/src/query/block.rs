//! A block of stored values as a record batch.

use super::ids::dictionary;
use super::view::{Side, View, ViewColumn};
use crate::reader::{Orientation, ReadOptions};
use crate::selection::Selection;
use crate::store::TableName;
use crate::store::schema;
use crate::store::values::{primitive, to_arrow};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{SchemaRef, UInt32Type};
use datafusion::common::Result as DfResult;
use futures::Stream;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values, with_values};
use slaf_ingest::MatrixKey;
use slaf_lance::error::from_arrow;
use slaf_sql::floats::{f32_in_one_form, f64_in_one_form};
use std::collections::HashMap;
use std::sync::Arc;

/// A batch in slices of the size that DataFusion works on.
pub(super) fn in_slices(batch: &RecordBatch, rows: usize) -> impl Stream<Item = DfResult<RecordBatch>> + use<> {
    let (batch, n) = (batch.clone(), batch.num_rows());
    futures::stream::iter((0..n).step_by(rows.max(1)).map(move |start| Ok(batch.slice(start, rows.min(n - start)))))
}

/// What is read of a view.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) rows: Selection,
    pub(super) cols: Selection,
    pub(super) orientation: Orientation,
}

/// The stored values of some rows.
pub(super) struct Block {
    rows: Selection,
    cols: Selection,
    /// How many values each row has; the positions of all matrices, where they are needed.
    positions: CsrChunk,
    /// A chunk for each matrix, unless `positions` is all of it.
    chunks: Vec<CsrChunk>,
}

impl Block {
    /// Reads what `columns` of the view need. `unsorted` values come in any order within a row.
    pub(super) async fn read(
        view: &View,
        rows: Selection,
        chosen: &Chosen,
        columns: &[ViewColumn],
        unsorted: bool,
    ) -> Result<Block> {
        let cols = chosen.cols.clone();
        if let Some(positions) = lengths(view, &rows, &cols, columns).await? {
            return Ok(Block { rows, cols, positions, chunks: Vec::new() });
        }
        let mut chunks = Vec::new();
        for (key, matrix) in view.keys.iter().zip(&view.matrices) {
            // Several matrices are put together by position.
            let unsorted = unsorted && view.keys.len() == 1;
            let options = ReadOptions { orientation: Some(chosen.orientation), unsorted };
            chunks.push(view.inner.read(key, matrix, &rows, &cols, options).await?);
        }
        let positions = match chunks.len() {
            1 => chunks.swap_remove(0),
            _ => positions_of_all(&chunks),
        };
        Ok(Block { rows, cols, positions, chunks })
    }

    /// The selected rows with the number of values of each, in order.
    pub(super) fn rows(&self, view: &View) -> Vec<(u64, usize)> {
        let lengths = self.positions.indptr.windows(2).map(|w| (w[1] - w[0]) as usize);
        self.rows.iter(view.shape().0).zip(lengths).collect()
    }

    /// For each value its place among the selected columns. Empty where these were not asked for.
    pub(super) fn cols(&self) -> &[u32] {
        &self.positions.indices
    }

    /// The columns of a view for these values.
    pub(super) async fn batch(mut self, view: &View, columns: &[ViewColumn], schema: SchemaRef) -> Result<RecordBatch> {
        let nnz = self.positions.indptr.last().copied().unwrap_or(0) as usize;
        let (n_rows, n_cols) = view.shape();
        let rows: Vec<u64> = self.rows.iter(n_rows).collect();
        let empty = Values::empty(self.positions.values.dtype());
        let mut values = Some(std::mem::replace(&mut self.positions.values, empty));
        let row_of_value = || per_value(&self.positions, &rows);
        let cols: Option<Vec<u64>> = match &self.cols {
            Selection::All => None,
            some => Some(some.iter(n_cols).collect()),
        };
        let col = |i: u32| cols.as_ref().map_or(u64::from(i), |c| c[i as usize]);
        let twice = || Error::new(ErrorKind::Internal, "a column of values is asked for twice");
        let mut out: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for &column in columns {
            out.push(match column {
                ViewColumn::Number(Side::Rows) => {
                    Arc::new(Int64Array::from_iter_values(row_of_value().map(|r| r as i64)))
                }
                ViewColumn::Number(Side::Cols) => {
                    Arc::new(Int64Array::from_iter_values(self.positions.indices.iter().map(|&i| col(i) as i64)))
                }
                ViewColumn::Value(matrix) => match self.chunks.get(matrix) {
                    Some(chunk) => sql_values(values_at(chunk, &self.positions)),
                    None => sql_values(values.take().ok_or_else(twice)?),
                },
                ViewColumn::Name(Side::Rows) => dictionary(&view.inner.ids(view.rows.axis).await?, row_of_value())?,
                ViewColumn::Name(Side::Cols) => {
                    let numbers = self.positions.indices.iter().map(|&i| col(i));
                    dictionary(&view.inner.ids(view.cols.axis).await?, numbers)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(nnz));
        RecordBatch::try_new_with_options(schema, out, &options).map_err(from_arrow)
    }
}

/// Where only cells are asked for, the stored counts tell how many values each has.
async fn lengths(view: &View, rows: &Selection, cols: &Selection, columns: &[ViewColumn]) -> Result<Option<CsrChunk>> {
    let of_rows = [ViewColumn::Number(Side::Rows), ViewColumn::Name(Side::Rows)];
    let only_rows = columns.iter().all(|c| of_rows.contains(c));
    if !only_rows || view.keys[..] != [MatrixKey::X] || !matches!(cols, Selection::All) {
        return Ok(None);
    }
    let counts = view.inner.column_of(TableName::Cells, schema::NNZ, rows).await?;
    let mut indptr = vec![0u64];
    indptr.extend(primitive::<UInt32Type>(&counts, schema::NNZ)?.iter().scan(0u64, |end, &n| {
        *end += u64::from(n);
        Some(*end)
    }));
    Ok(Some(CsrChunk { indptr, indices: Vec::new(), values: Values::empty(Dtype::U8) }))
}

/// Values of a matrix as SQL has them: floats in one form, those of bool as truth values.
pub(super) fn sql_values(values: Values) -> ArrayRef {
    match values {
        Values::Bool(v) => Arc::new(arrow::array::BooleanArray::from(v)),
        Values::F32(mut v) => {
            v.iter_mut().for_each(|x| *x = f32_in_one_form(*x));
            to_arrow(Values::F32(v))
        }
        Values::F64(mut v) => {
            v.iter_mut().for_each(|x| *x = f64_in_one_form(*x));
            to_arrow(Values::F64(v))
        }
        other => to_arrow(other),
    }
}

/// The row's number for each stored value.
fn per_value(chunk: &CsrChunk, rows: &[u64]) -> impl Iterator<Item = u64> {
    let lengths = chunk.indptr.windows(2).map(|w| (w[1] - w[0]) as usize);
    lengths.zip(rows).flat_map(|(length, &row)| std::iter::repeat_n(row, length))
}

/// The positions that at least one chunk has.
fn positions_of_all(chunks: &[CsrChunk]) -> CsrChunk {
    let n_rows = chunks.first().map_or(0, CsrChunk::n_rows);
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    let mut row = Vec::new();
    for i in 0..n_rows {
        row.clear();
        row.extend(chunks.iter().flat_map(|c| &c.indices[c.row(i)]));
        row.sort_unstable();
        row.dedup();
        indices.extend_from_slice(&row);
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: Values::empty(Dtype::U8) }
}

/// The values of a chunk at these positions, 0 where it has none.
fn values_at(chunk: &CsrChunk, positions: &CsrChunk) -> Values {
    fn of<T: Value>(values: &[T], chunk: &CsrChunk, positions: &CsrChunk) -> Values {
        let mut out = Vec::with_capacity(positions.nnz());
        for row in 0..positions.n_rows() {
            let there: HashMap<u32, T> = chunk.row(row).map(|i| (chunk.indices[i], values[i])).collect();
            let wanted = positions.indices[positions.row(row)].iter();
            out.extend(wanted.map(|c| there.get(c).copied().unwrap_or_default()));
        }
        T::wrap(out)
    }
    with_values!(&chunk.values, v => of(v, chunk, positions))
}
