//! Packed rows become batches.

use super::batch::{BatchData, LoadedBatch};
use super::fetch::Rack;
use super::options::Form;
use super::prepared::{Columns, Prepared};
use crate::reader::PackedRows;
use slaf_core::order::{DROP, Renumber};
use slaf_core::{Context, CsrChunk, Error, ErrorKind, Result, Value, Values, with_dtype, with_values};
use slaf_kernels::tokenizers::{Batch, Random, Rows};
use std::ops::Range;

/// Cells that are decoded, and then tokenized or laid out, in one go: few enough to stay in a near
/// cache from the first step to the last.
const CELLS_AT_ONCE: usize = 8;

/// Columns and values of one row.
struct RowBuffer<T> {
    columns: Vec<u32>,
    values: Vec<T>,
}

impl<T: Value> RowBuffer<T> {
    fn new(longest: usize) -> Self {
        RowBuffer { columns: vec![0; longest], values: vec![T::default(); longest] }
    }

    fn front(&mut self, n: usize) -> (&mut [u32], &mut [T]) {
        (&mut self.columns[..n], &mut self.values[..n])
    }
}

/// Keeps the columns that a map keeps, under their new numbers; returns how many.
fn keep<T: Value>(map: &[u32], columns: &mut [u32], values: &mut [T]) -> usize {
    let mut n = 0;
    for i in 0..columns.len() {
        let new = map[columns[i] as usize];
        (columns[n], values[n]) = (new, values[i]);
        // Whether a gene was chosen is hard to predict.
        n += usize::from(new != DROP);
    }
    n
}

impl Prepared {
    /// Decodes rows; `totals` receives the sums over all genes.
    fn decode<T: Value>(
        &self,
        packed: &PackedRows,
        places: &[u32],
        columns: Columns<'_>,
        mut totals: Option<&mut Vec<f64>>,
    ) -> Result<CsrChunk> {
        let rows = places.iter().map(|&p| packed.row(p as usize)).collect::<Result<Vec<_>>>()?;
        let most = rows.iter().map(|r| r.nnz()).sum();
        let longest = rows.iter().map(|r| r.nnz()).max().unwrap_or(0);
        let (mut indptr, mut indices, mut values) = (vec![0], Vec::with_capacity(most), Vec::with_capacity(most));
        // A row stays in the nearest cache from the first of these to the copy, which spares
        // writing zeros into the memory of the batch.
        let (mut stored, mut renumbered) = (RowBuffer::<T>::new(longest), RowBuffer::<T>::new(longest));
        let mut renumber = Renumber::new(self.width);
        for row in rows {
            let (row_columns, row_values) = stored.front(row.nnz());
            row.decode(self.n_cols, row_columns, row_values)?;
            if let Some(totals) = &mut totals {
                totals.push(row_values.iter().map(|v| v.as_f64()).sum());
            }
            let (row_columns, row_values) = match columns {
                Columns::Stored => (&*row_columns, &*row_values),
                Columns::Kept(map) => {
                    let kept = keep(map, row_columns, row_values);
                    (&row_columns[..kept], &row_values[..kept])
                }
                Columns::Moved(map) => {
                    let (columns_out, values_out) = renumbered.front(row.nnz());
                    let kept = renumber.row(map, row_columns, row_values, columns_out, values_out);
                    (&columns_out[..kept], &values_out[..kept])
                }
            };
            indices.extend_from_slice(row_columns);
            values.extend_from_slice(row_values);
            indptr.push(indices.len() as u64);
        }
        Ok(CsrChunk { indptr, indices, values: T::wrap(values) })
    }

    /// Decodes rows as they are stored into memory that is used again.
    fn decode_again(&self, packed: &PackedRows, places: &[u32], chunk: &mut CsrChunk) -> Result<()> {
        let rows = places.iter().map(|&p| packed.row(p as usize)).collect::<Result<Vec<_>>>()?;
        if chunk.values.dtype() != self.stored {
            chunk.values = Values::empty(self.stored);
        }
        chunk.indptr.truncate(1);
        chunk.indptr.extend(rows.iter().scan(0, |end, row| {
            *end += row.nnz() as u64;
            Some(*end)
        }));
        let n = rows.iter().map(|r| r.nnz()).sum();
        chunk.indices.resize(n, 0);
        with_values!(&mut chunk.values, values => {
            values.resize(n, Default::default());
            let (mut columns, mut values) = (chunk.indices.as_mut_slice(), values.as_mut_slice());
            for row in rows {
                let (row_columns, later_columns) = columns.split_at_mut(row.nnz());
                let (row_values, later_values) = values.split_at_mut(row.nnz());
                row.decode(self.n_cols, row_columns, row_values)?;
                (columns, values) = (later_columns, later_values);
            }
        });
        Ok(())
    }

    /// Rows with the values of the batch.
    fn matrix<T: Value>(&self, packed: &PackedRows, places: &[u32], columns: Columns<'_>) -> Result<CsrChunk> {
        let mut totals = self.change.target_sum.map(|_| Vec::with_capacity(places.len()));
        let chunk = self.decode::<T>(packed, places, columns, totals.as_mut())?;
        self.change.of(chunk, totals.as_deref(), self.n_cols as usize)
    }
}

/// Makes one batch of a rack.
pub(super) fn build(
    sources: &[Prepared],
    rack: &Rack,
    batch: usize,
    form: Form,
    random: (u64, u64),
) -> Result<LoadedBatch> {
    let mut cells = rack.cells[rack.batches[batch].clone()].to_vec();
    let data = match form {
        Form::Sparse => sparse(sources, rack, batch)?,
        Form::Dense => dense(sources, rack, batch)?,
        Form::Tokens => tokens(sources, rack, batch, random, &mut cells)?,
    };
    let n_columns = sources.first().map_or(0, |s| s.columns.len());
    Ok(LoadedBatch {
        columns: (0..n_columns).map(|i| column(sources, i, &cells)).collect(),
        measured: measured(sources, &cells),
        sources: if sources.len() > 1 { cells.iter().map(|c| c.0).collect() } else { Vec::new() },
        cells: cells.into_iter().map(|c| c.1).collect(),
        data,
    })
}

/// The values of a column in these cells.
fn column(sources: &[Prepared], i: usize, cells: &[(u32, u64)]) -> Values {
    fn of<T: Value>(sources: &[Prepared], i: usize, cells: &[(u32, u64)]) -> Values {
        let columns: Vec<Option<&Vec<T>>> =
            sources.iter().map(|s| s.columns.get(i).and_then(|c| T::unwrap_ref(c))).collect();
        let value = |&(source, cell): &(u32, u64)| Some(columns[source as usize]?[cell as usize]);
        T::wrap(cells.iter().map(|c| value(c).unwrap_or_default()).collect())
    }
    with_dtype!(sources[0].columns[i].dtype(), T => of::<T>(sources, i, cells))
}

/// Which genes were measured in these cells, if that is asked for.
fn measured(sources: &[Prepared], cells: &[(u32, u64)]) -> Option<Vec<bool>> {
    sources.first()?.measured.as_ref()?;
    let width = sources[0].width;
    let mut mask = Vec::with_capacity(cells.len() * width);
    for &(source, cell) in cells {
        mask.extend_from_slice(sources[source as usize].measured.as_ref()?.row(cell));
    }
    Some(mask)
}

/// The rows of one run of cells of one store, and the store.
fn matrix<'a>(
    sources: &'a [Prepared],
    rack: &Rack,
    run: Range<usize>,
    columns: impl Fn(&'a Prepared) -> Columns<'a>,
) -> Result<(CsrChunk, &'a Prepared)> {
    let number = rack.cells[run.start].0;
    let (source, packed) = (&sources[number as usize], rack.packed(number)?);
    let rows = with_dtype!(source.stored, T => source.matrix::<T>(packed, &rack.places[run], columns(source)));
    Ok((rows.at(source.snapshot.storage.uri())?, source))
}

fn sparse(sources: &[Prepared], rack: &Rack, batch: usize) -> Result<BatchData> {
    let mut runs = rack.runs(batch).map(|run| matrix(sources, rack, run, Prepared::batch_columns).map(|found| found.0));
    let mut all = runs.next().unwrap_or_else(|| Ok(CsrChunk::empty(sources[0].change.dtype)))?;
    for run in runs {
        all = all.concat(&run?);
    }
    if i32::try_from(all.nnz()).is_err() {
        return Err(Error::invalid(format!("a batch with {} values: take fewer cells", all.nnz())));
    }
    let indptr = all.indptr.iter().map(|&p| p as u32).collect();
    Ok(BatchData::Sparse { indptr, indices: all.indices, values: all.values })
}

fn dense(sources: &[Prepared], rack: &Rack, batch: usize) -> Result<BatchData> {
    fn of<T: Value>(sources: &[Prepared], rack: &Rack, batch: usize) -> Result<Values> {
        let width = sources[0].width;
        let mut values = vec![T::default(); rack.batches[batch].len() * width];
        let mut rows = values.chunks_exact_mut(width.max(1));
        for run in rack.runs(batch).flat_map(few) {
            // No order is needed of what goes to its place.
            let (chunk, source) = matrix(sources, rack, run, |_| Columns::Stored)?;
            let typed = T::unwrap_ref(&chunk.values)
                .ok_or_else(|| Error::new(ErrorKind::Internal, "values of another type than the batch"))?;
            for (i, row) in (0..chunk.n_rows()).zip(&mut rows) {
                for (&column, &value) in chunk.indices[chunk.row(i)].iter().zip(&typed[chunk.row(i)]) {
                    // A gene that is left out has a place beyond the row.
                    if let Some(place) = row.get_mut(source.map[column as usize] as usize) {
                        *place = value;
                    }
                }
            }
        }
        Ok(T::wrap(values))
    }
    let values = with_dtype!(sources[0].change.dtype, T => of::<T>(sources, rack, batch))?;
    Ok(BatchData::Dense { values, width: sources[0].width })
}

/// Parts of a run of cells.
fn few(run: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    run.clone().step_by(CELLS_AT_ONCE).map(move |i| i..(i + CELLS_AT_ONCE).min(run.end))
}

/// Tokens; cells that the tokenizer drops are taken from `cells`.
fn tokens(
    sources: &[Prepared],
    rack: &Rack,
    batch: usize,
    (seed, epoch): (u64, u64),
    cells: &mut Vec<(u32, u64)>,
) -> Result<BatchData> {
    let prepared = |source: u32| {
        let source = &sources[source as usize];
        let tokenizer = source.tokenizer.as_ref();
        let missing = || Error::new(ErrorKind::Internal, "tokens without a tokenizer");
        Ok::<_, Error>((source, tokenizer.ok_or_else(missing)?))
    };
    let (_, tokenizer) = prepared(0)?;
    let length = tokenizer.length();
    let mut rows = Rows::with_capacity(tokenizer, cells.len());
    let mut kept = Vec::with_capacity(cells.len());
    let (mut random, mut chunk) = (Random::new(seed, epoch), CsrChunk::empty(sources[0].stored));
    for run in rack.runs(batch).flat_map(few) {
        let number = rack.cells[run.start].0;
        let (source, tokenizer) = prepared(number)?;
        let packed = rack.packed(number)?;
        let places = &rack.places[run.clone()];
        source.decode_again(packed, places, &mut chunk)?;
        let here: Vec<u64> = rack.cells[run].iter().map(|c| c.1).collect();
        let done = tokenizer
            .append(&Batch { chunk: &chunk, cells: &here, totals: None }, &mut random, &mut rows)
            .at(source.snapshot.storage.uri())?;
        kept.extend(done.kept(&here).map(|cell| (number, cell)));
    }
    *cells = kept;
    let Rows { input_ids, attention_mask, values } = rows;
    Ok(BatchData::Tokens { input_ids, attention_mask, values, length })
}
