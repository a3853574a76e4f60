//! Packed rows become batches.

use super::fetch::Rack;
use super::{BatchData, Form, LoadedBatch, LoaderOptions, Source};
use crate::dataset::{Dataset, Inner, TableName};
use crate::reader::{CELL_GAP, PackedRows};
use crate::selection::Selection;
use slaf_core::order::{DROP, Renumber};
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values, with_dtype, with_values};
use slaf_ingest::MatrixKey;
use slaf_kernels::matrix::{Function, Op, Operand, Plan, Step};
use slaf_kernels::tokenizers::{Batch, Output, Random, Tokenizer};
use std::ops::Range;
use std::sync::Arc;

/// Cells that are decoded and tokenized in one go.
const CELLS_AT_ONCE: usize = 8;

/// Integers up to this one are exact in single precision.
const EXACT_IN_F32: f64 = 16_777_216.0;

/// A store, ready to be read.
pub(super) struct Prepared {
    dataset: Dataset,
    table: TableName,
    column: String,
    stored: Dtype,
    n_cols: u64,
    /// Column of the packed row to column of the batch.
    map: Vec<u32>,
    width: usize,
    tokenizer: Option<Arc<Tokenizer>>,
    columns: Arc<Vec<Values>>,
    change: Change,
}

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

/// What is done to values.
#[derive(Clone, Copy)]
struct Change {
    dtype: Dtype,
    target_sum: Option<f64>,
    log1p: bool,
}

/// The type of the values of batches.
///
/// # Errors
/// `invalid-argument` for a type that values are not converted to.
pub(super) fn out_dtype(sources: &[Source], options: &LoaderOptions) -> Result<Dtype> {
    let stored =
        sources.iter().map(|s| s.dataset.matrix_info(&options.matrix)?.dtype()).collect::<Result<Vec<Dtype>>>()?;
    let is_changed = options.target_sum.is_some() || options.log1p;
    match options.dtype {
        Some(dtype) if dtype.is_float() => Ok(dtype),
        Some(dtype) if !is_changed && stored.iter().all(|s| *s == dtype) => Ok(dtype),
        Some(dtype) => {
            let message =
                format!("values of type {dtype}: a loader gives float32, float64, or the stored type as it is");
            Err(Error::invalid(message))
        }
        None if stored.contains(&Dtype::F64) => Ok(Dtype::F64),
        None => Ok(Dtype::F32),
    }
}

impl Prepared {
    pub(super) async fn new(source: &Source, options: &LoaderOptions, dtype: Dtype) -> Result<Prepared> {
        let dataset = source.dataset.clone();
        let entry = dataset.matrix_info(&options.matrix)?;
        let (table, column, n_cols) = (Inner::table_of(&options.matrix), entry.column.clone(), entry.n_cols);
        source.genes.check(n_cols, "gene")?;
        let stored = entry.dtype()?;
        let order = match options.matrix {
            MatrixKey::X | MatrixKey::Layer(_) => dataset.inner.order().await?,
            MatrixKey::RawX => dataset.inner.raw_order().await?,
            MatrixKey::Obsp(_) | MatrixKey::Varp(_) => {
                return Err(Error::invalid(format!("batches of {}: its columns are no genes", options.matrix)));
            }
        };
        let mut map = vec![DROP; n_cols as usize];
        for (new, gene) in source.genes.iter(n_cols).enumerate() {
            let place = &mut map[order.rank_of[gene as usize] as usize];
            if *place != DROP {
                return Err(Error::invalid(format!("gene {gene} is selected twice")));
            }
            *place = new as u32;
        }
        let n_cells = dataset.n_cells() as usize;
        if let Some(values) = source.columns.iter().find(|c| c.len() != n_cells) {
            return Err(Error::invalid(format!("a column of {} values for {n_cells} cells", values.len())));
        }
        Ok(Prepared {
            table,
            column,
            stored,
            n_cols,
            map,
            width: source.genes.len(n_cols) as usize,
            tokenizer: source.tokenizer.clone(),
            columns: source.columns.clone(),
            change: Change { dtype, target_sum: options.target_sum, log1p: options.log1p },
            dataset,
        })
    }

    pub(super) fn n_cells(&self) -> u64 {
        self.dataset.n_cells()
    }

    /// Reads the rows of cells in any order.
    pub(super) async fn fetch(&self, cells: Vec<u64>) -> Result<PackedRows> {
        let table = self.dataset.inner.table(self.table).await?;
        PackedRows::fetch(table, &self.column, Selection::Ids(cells).resolve(table.rows()), CELL_GAP).await
    }

    /// Decodes rows, genes renumbered and in order; `totals` receives the sums over all genes.
    fn decode<T: Value>(&self, packed: &PackedRows, places: &[u32], totals: Option<&mut Vec<f64>>) -> Result<CsrChunk> {
        let mut totals = totals;
        let rows = places.iter().map(|&p| packed.row(p as usize)).collect::<Result<Vec<_>>>()?;
        let most = rows.iter().map(|r| r.nnz()).sum();
        let longest = rows.iter().map(|r| r.nnz()).max().unwrap_or(0);
        let (mut indptr, mut indices, mut values) = (vec![0], Vec::with_capacity(most), Vec::with_capacity(most));
        // A row stays in the nearest cache from the first of these to the copy, which spares
        // writing zeros into the memory of the batch.
        let (mut stored, mut renumbered) = (RowBuffer::<T>::new(longest), RowBuffer::<T>::new(longest));
        let mut renumber = Renumber::new(self.width);
        for row in rows {
            let (columns, row_values) = stored.front(row.nnz());
            row.decode(self.n_cols, columns, row_values)?;
            if let Some(totals) = &mut totals {
                totals.push(row_values.iter().map(|v| v.as_f64()).sum());
            }
            let (columns_out, values_out) = renumbered.front(row.nnz());
            let kept = renumber.row(&self.map, columns, row_values, columns_out, values_out);
            indices.extend_from_slice(&columns_out[..kept]);
            values.extend_from_slice(&values_out[..kept]);
            indptr.push(indices.len() as u64);
        }
        Ok(CsrChunk { indptr, indices, values: T::wrap(values) })
    }

    /// Rows as the batch has them.
    fn matrix<T: Value>(&self, packed: &PackedRows, places: &[u32]) -> Result<CsrChunk> {
        let mut totals = self.change.target_sum.map(|_| Vec::with_capacity(places.len()));
        let chunk = self.decode::<T>(packed, places, totals.as_mut())?;
        self.change.of(chunk, totals.as_deref(), self.width)
    }
}

impl Change {
    /// The chunk with the values of the batch; `totals` are the sums of its rows.
    fn of(self, chunk: CsrChunk, totals: Option<&[f64]>, n_cols: usize) -> Result<CsrChunk> {
        let stored = chunk.values.dtype();
        let is_computed = self.target_sum.is_some() || self.log1p;
        if !is_computed && self.dtype == Dtype::F32 && !with_values!(&chunk.values, v => are_exact_in_f32(v)) {
            let message = "counts above 16,777,216 are not exact in float32: ask for float64";
            return Err(Error::new(ErrorKind::WouldLoseData, message));
        }
        let mut steps = Vec::new();
        if is_computed {
            // What scanpy computes in: integers become float32.
            let dtype = if stored == Dtype::F64 { Dtype::F64 } else { Dtype::F32 };
            steps.push(Step::Cast(dtype));
            if let (Some(target), Some(totals)) = (self.target_sum, totals) {
                let operand = Operand::Rows(divisors(totals, target, dtype));
                steps.push(Step::Combine { op: Op::Divide, operand, rows: None });
            }
            if self.log1p {
                steps.push(Step::Map(Function::Log1p));
            }
        }
        steps.push(Step::Cast(self.dtype));
        Plan::new(steps)?.apply(chunk, 0, n_cols)
    }
}

/// What rows are divided by to sum up to `target`; cells without counts stay as they are.
fn divisors(totals: &[f64], target: f64, dtype: Dtype) -> Values {
    match dtype {
        Dtype::F64 => {
            let of = |total: &f64| total / target;
            Values::F64(totals.iter().map(of).map(|d| if d == 0.0 { 1.0 } else { d }).collect())
        }
        _ => {
            let of = |total: &f64| *total as f32 / target as f32;
            Values::F32(totals.iter().map(of).map(|d| if d == 0.0 { 1.0 } else { d }).collect())
        }
    }
}

fn are_exact_in_f32<T: Value>(values: &[T]) -> bool {
    T::DTYPE.is_float() || values.iter().all(|v| v.as_f64().abs() <= EXACT_IN_F32)
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

/// The rows of one run of cells of one store.
fn matrix(sources: &[Prepared], rack: &Rack, run: Range<usize>) -> Result<CsrChunk> {
    let number = rack.cells[run.start].0;
    let (source, packed) = (&sources[number as usize], rack.packed(number)?);
    let rows = with_dtype!(source.stored, T => source.matrix::<T>(packed, &rack.places[run]));
    rows.at(source.dataset.uri())
}

fn sparse(sources: &[Prepared], rack: &Rack, batch: usize) -> Result<BatchData> {
    let mut runs = rack.runs(batch);
    let first = runs.next().map(|run| matrix(sources, rack, run)).transpose()?;
    let mut all = first.unwrap_or_else(|| CsrChunk::empty(sources[0].change.dtype));
    for run in runs {
        all = all.concat(&matrix(sources, rack, run)?);
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
        for run in rack.runs(batch) {
            let chunk = matrix(sources, rack, run)?;
            let typed = T::unwrap_ref(&chunk.values)
                .ok_or_else(|| Error::new(ErrorKind::Internal, "values of another type than the batch"))?;
            for (i, row) in (0..chunk.n_rows()).zip(&mut rows) {
                chunk.row(i).for_each(|at| row[chunk.indices[at] as usize] = typed[at]);
            }
        }
        Ok(T::wrap(values))
    }
    let values = with_dtype!(sources[0].change.dtype, T => of::<T>(sources, rack, batch))?;
    Ok(BatchData::Dense { values, width: sources[0].width })
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
    let (length, with_values) = (tokenizer.length(), tokenizer.has_values());
    let n = cells.len() * length;
    let (mut input_ids, mut attention_mask) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut values = Vec::with_capacity(if with_values { n } else { 0 });
    let mut kept = Vec::with_capacity(cells.len());
    let mut random = Random::new(seed, epoch);
    // Few cells at once stay in a near cache from the first step to the copy.
    let n = CELLS_AT_ONCE * length;
    let (mut some_ids, mut some_mask) = (vec![0; n], vec![false; n]);
    let mut some_values = vec![0.0; if with_values { n } else { 0 }];
    let few = |run: Range<usize>| run.clone().step_by(CELLS_AT_ONCE).map(move |i| i..(i + CELLS_AT_ONCE).min(run.end));
    for run in rack.runs(batch).flat_map(few) {
        let number = rack.cells[run.start].0;
        let (source, tokenizer) = prepared(number)?;
        let packed = rack.packed(number)?;
        let chunk = with_dtype!(source.stored, T => source.decode::<T>(packed, &rack.places[run.clone()], None))?;
        let here: Vec<u64> = rack.cells[run].iter().map(|c| c.1).collect();
        let n = here.len() * length;
        let out = Output {
            input_ids: &mut some_ids[..n],
            attention_mask: &mut some_mask[..n],
            values: if with_values { &mut some_values[..n] } else { &mut [] },
        };
        let done = tokenizer
            .tokenize(&Batch { chunk: &chunk, cells: &here, totals: None }, &mut random, out)
            .at(source.dataset.uri())?;
        kept.extend(done.kept(&here).map(|cell| (number, cell)));
        let n = done.rows * length;
        input_ids.extend_from_slice(&some_ids[..n]);
        attention_mask.extend_from_slice(&some_mask[..n]);
        values.extend_from_slice(&some_values[..if with_values { n } else { 0 }]);
    }
    *cells = kept;
    Ok(BatchData::Tokens { input_ids, attention_mask, values, length })
}
