//! Reading the cell-major rows (and obsp, varp, layers, raw, which have no other).

use super::packed_rows::{CELL_GAP, PackedRows};
use crate::memory::zeros;
use crate::selection::Selection;
use crate::store::manifest::MatrixEntry;
use crate::store::{Snapshot, TableName};
use rayon::prelude::*;
use slaf_core::order::{DROP, Renumber};
use slaf_core::packed::Row;
use slaf_core::{CsrChunk, Result, Value};
use slaf_ingest::MatrixKey;
use slaf_lance::runtime::in_pool;
use std::collections::HashMap;
use std::ops::Range;

/// Up to this many columns are looked up one by one in the blocks that may have them.
const LOOKUP: usize = 64;
/// Rows, and bytes of them, that the calling thread decodes: to wake others takes as long.
const FEW_ROWS: usize = 64;
const FEW_BYTES: u64 = 64 << 10;

/// What becomes of a row's columns.
enum Columns<'a> {
    /// They stay as they are.
    Same,
    /// All stay, under new numbers.
    All(&'a [u32]),
    /// Some stay, under new numbers.
    Some { map: Vec<u32>, n_out: usize },
    /// Few stay: their numbers in the packed row, rising, and their new ones.
    Few { wanted: Vec<u32>, new: Vec<u32> },
}

impl Snapshot {
    pub(super) async fn read_by_cell<T: Value>(
        &self,
        key: &MatrixKey,
        entry: &MatrixEntry,
        rows: &Selection,
        cols: &Selection,
        unsorted: bool,
    ) -> Result<CsrChunk> {
        let table = self.table(TableName::of_matrix(key)).await?;
        let packed = PackedRows::fetch(table, &entry.column, rows.resolve(table.rows()), CELL_GAP).await?;
        let order = match key {
            MatrixKey::X | MatrixKey::Layer(_) => Some(self.order().await?),
            MatrixKey::RawX => Some(self.raw_order().await?),
            MatrixKey::Obsp(_) | MatrixKey::Varp(_) => None,
        };
        let (rank_of, gene_of) =
            (order.as_ref().map(|o| o.rank_of.as_slice()), order.as_ref().map(|o| o.gene_of.as_slice()));
        let n_cols = entry.n_cols;
        let Unique { ids, repeats } = Unique::new(cols);
        let columns = match (&ids, gene_of) {
            (None, None) => Columns::Same,
            (None, Some(gene_of)) => Columns::All(gene_of),
            (Some(ids), _) if ids.len() <= LOOKUP => {
                let mut pairs: Vec<(u32, u32)> = ids
                    .iter()
                    .enumerate()
                    .map(|(new, &id)| (rank_of.map_or(id as u32, |r| r[id as usize]), new as u32))
                    .collect();
                pairs.sort_unstable();
                let (wanted, new) = pairs.into_iter().unzip();
                Columns::Few { wanted, new }
            }
            (Some(ids), _) => {
                let mut map = vec![DROP; n_cols as usize];
                for (new, &id) in ids.iter().enumerate() {
                    map[rank_of.map_or(id as usize, |r| r[id as usize] as usize)] = new as u32;
                }
                Columns::Some { map, n_out: ids.len() }
            }
        };
        let decode = || {
            let chunk = decode::<T>(&packed, &columns, n_cols, unsorted)?;
            Ok(match repeats {
                Some(repeats) => repeat_columns::<T>(&chunk, &repeats),
                None => chunk,
            })
        };
        if is_little(&packed) { decode() } else { in_pool(decode) }
    }
}

/// A selection of columns with each column once.
struct Unique {
    /// `None` for all columns.
    ids: Option<Vec<u64>>,
    /// Where columns repeat: for each of `ids`, its places in the selection.
    repeats: Option<Vec<Vec<u32>>>,
}

impl Unique {
    fn new(cols: &Selection) -> Unique {
        let ids: Vec<u64> = match cols {
            Selection::All => return Unique { ids: None, repeats: None },
            Selection::Range(r) => r.clone().collect(),
            Selection::Ids(ids) => ids.clone(),
        };
        let mut places: HashMap<u64, usize> = HashMap::with_capacity(ids.len());
        let (mut unique, mut repeats) = (Vec::new(), Vec::<Vec<u32>>::new());
        for (place, &id) in ids.iter().enumerate() {
            let i = *places.entry(id).or_insert_with(|| {
                unique.push(id);
                repeats.push(Vec::new());
                unique.len() - 1
            });
            repeats[i].push(place as u32);
        }
        let repeats = (unique.len() < ids.len()).then_some(repeats);
        Unique { ids: Some(unique), repeats }
    }
}

/// Whether rows are decoded in one thread.
fn is_little(packed: &PackedRows) -> bool {
    packed.len() <= FEW_ROWS && packed.bytes_read <= FEW_BYTES
}

/// Rows that one thread decodes at a time.
fn parts(packed: &PackedRows) -> Vec<Range<usize>> {
    let n_rows = packed.len();
    if is_little(packed) {
        return vec![0..n_rows];
    }
    let n = (rayon::current_num_threads() * 4).min(n_rows).max(1);
    (0..n).map(|i| n_rows * i / n..n_rows * (i + 1) / n).collect()
}

/// What is made of each of several, by all threads if these are more than one.
fn each<T: Send, R: Send>(of: Vec<T>, make: impl Fn(T) -> Result<R> + Sync + Send) -> Result<Vec<R>> {
    match of.len() {
        // Outside of the pool even one would be handed to another thread.
        0 | 1 => of.into_iter().map(make).collect(),
        _ => of.into_par_iter().map(make).collect(),
    }
}

fn decode<T: Value>(packed: &PackedRows, columns: &Columns<'_>, n_cols: u64, unsorted: bool) -> Result<CsrChunk> {
    match columns {
        Columns::Same => decode_all::<T>(packed, None, n_cols, unsorted),
        Columns::All(map) => decode_all::<T>(packed, Some(map), n_cols, unsorted),
        Columns::Some { map, .. } if unsorted => decode_some(packed, |row, scratch: &mut Scratch<T>, out| {
            scratch.decode(row, n_cols)?;
            let renumbered = scratch.columns.iter().map(|&c| map[c as usize]);
            out.extend(renumbered.zip(scratch.values.iter().copied()).filter(|p| p.0 != DROP));
            Ok(())
        }),
        Columns::Some { map, n_out } => decode_some(packed, |row, scratch: &mut Scratch<T>, out| {
            scratch.decode(row, n_cols)?;
            let renumber = scratch.renumber.get_or_insert_with(|| Renumber::new(*n_out));
            let (start, room) = (out.columns.len(), scratch.columns.len());
            out.resize(start + room);
            let (columns, values) = (&mut out.columns[start..], &mut out.values[start..]);
            let kept = renumber.row(map, &scratch.columns, &scratch.values, columns, values);
            out.resize(start + kept);
            Ok(())
        }),
        Columns::Few { wanted, new } => decode_some(packed, |row, scratch: &mut Scratch<T>, out| {
            scratch.pairs.clear();
            row.lookup(wanted, |i, v| scratch.pairs.push((new[i], v)))?;
            scratch.pairs.sort_unstable_by_key(|p| p.0);
            out.extend(scratch.pairs.iter().copied());
            Ok(())
        }),
    }
}

/// Working memory of one thread.
struct Scratch<T> {
    columns: Vec<u32>,
    values: Vec<T>,
    renumber: Option<Renumber<T>>,
    pairs: Vec<(u32, T)>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Scratch { columns: Vec::new(), values: Vec::new(), renumber: None, pairs: Vec::new() }
    }
}

impl<T: Value> Scratch<T> {
    fn decode(&mut self, row: &Row<'_>, n_cols: u64) -> Result<()> {
        self.columns.resize(row.nnz(), 0);
        self.values.resize(row.nnz(), T::default());
        row.decode(n_cols, &mut self.columns, &mut self.values)
    }
}

/// Every value of every row, decoded straight into the result: the headers tell the lengths.
fn decode_all<T: Value>(packed: &PackedRows, map: Option<&[u32]>, n_cols: u64, unsorted: bool) -> Result<CsrChunk> {
    let n = packed.len();
    let lengths = |rows: Range<usize>| rows.map(|i| Ok(packed.row(i)?.nnz() as u64)).collect::<Result<Vec<_>>>();
    let mut indptr = Vec::with_capacity(n + 1);
    indptr.push(0);
    for length in each(parts(packed), lengths)?.into_iter().flatten() {
        indptr.push(indptr[indptr.len() - 1] + length);
    }
    let nnz = indptr[n] as usize;
    let (mut indices, mut values) = (zeros::<u32>(nnz), zeros::<T>(nnz));
    let mut jobs = Vec::new();
    let (mut indices_left, mut values_left) = (indices.as_mut_slice(), values.as_mut_slice());
    for rows in parts(packed) {
        let length = (indptr[rows.end] - indptr[rows.start]) as usize;
        let (i, rest) = indices_left.split_at_mut(length);
        indices_left = rest;
        let (v, rest) = values_left.split_at_mut(length);
        values_left = rest;
        jobs.push((rows, i, v));
    }
    each(jobs, |(rows, indices, values)| {
        let mut scratch = Scratch::default();
        let first = indptr[rows.start];
        for i in rows {
            let row = packed.row(i)?;
            let at = (indptr[i] - first) as usize..(indptr[i + 1] - first) as usize;
            let (columns_out, values_out) = (&mut indices[at.clone()], &mut values[at]);
            let Some(map) = map else {
                row.decode(n_cols, columns_out, values_out)?;
                continue;
            };
            if unsorted {
                row.decode(n_cols, columns_out, values_out)?;
                columns_out.iter_mut().for_each(|c| *c = map[*c as usize]);
                continue;
            }
            scratch.decode(&row, n_cols)?;
            let renumber = scratch.renumber.get_or_insert_with(|| Renumber::new(map.len()));
            renumber.row(map, &scratch.columns, &scratch.values, columns_out, values_out);
        }
        Ok(())
    })?;
    Ok(CsrChunk { indptr, indices, values: T::wrap(values) })
}

/// Values of consecutive rows.
struct Picked<T> {
    /// The end of each row.
    ends: Vec<u64>,
    columns: Vec<u32>,
    values: Vec<T>,
}

impl<T: Value> Picked<T> {
    fn extend(&mut self, pairs: impl Iterator<Item = (u32, T)>) {
        for (column, value) in pairs {
            self.columns.push(column);
            self.values.push(value);
        }
    }

    fn resize(&mut self, len: usize) {
        self.columns.resize(len, 0);
        self.values.resize(len, T::default());
    }
}

/// Some values of every row.
fn decode_some<T: Value>(
    packed: &PackedRows,
    pick: impl Fn(&Row<'_>, &mut Scratch<T>, &mut Picked<T>) -> Result<()> + Sync,
) -> Result<CsrChunk> {
    let done = each(parts(packed), |rows| {
        let ends = Vec::with_capacity(rows.len());
        let (mut picked, mut scratch) = (Picked { ends, columns: Vec::new(), values: Vec::new() }, Scratch::default());
        for i in rows {
            pick(&packed.row(i)?, &mut scratch, &mut picked)?;
            picked.ends.push(picked.columns.len() as u64);
        }
        Ok(picked)
    })?;
    let nnz = done.iter().map(|d| d.columns.len()).sum();
    let mut indptr = Vec::with_capacity(packed.len() + 1);
    indptr.push(0);
    let (mut indices, mut values) = (Vec::with_capacity(nnz), Vec::with_capacity(nnz));
    for picked in done {
        let before = indices.len() as u64;
        indptr.extend(picked.ends.into_iter().map(|e| before + e));
        indices.extend_from_slice(&picked.columns);
        values.extend_from_slice(&picked.values);
    }
    Ok(CsrChunk { indptr, indices, values: T::wrap(values) })
}

/// Puts each column at all its places.
fn repeat_columns<T: Value>(chunk: &CsrChunk, places: &[Vec<u32>]) -> CsrChunk {
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    let empty = Vec::new();
    let old = T::unwrap_ref(&chunk.values).unwrap_or(&empty);
    for i in 0..chunk.n_rows() {
        let mut row: Vec<(u32, T)> = chunk
            .row(i)
            .flat_map(|at| places[chunk.indices[at] as usize].iter().map(move |&place| (place, old[at])))
            .collect();
        row.sort_unstable_by_key(|p| p.0);
        indices.extend(row.iter().map(|p| p.0));
        values.extend(row.iter().map(|p| p.1));
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: T::wrap(values) }
}
