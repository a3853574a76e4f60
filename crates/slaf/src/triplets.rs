//! Stored values one row each, with the names of their cells and genes.

use crate::reader::ReadOptions;
use crate::selection::Selection;
use crate::store::Snapshot;
use crate::store::values::{dense_columns, to_arrow};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringViewArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, filter, take};
use slaf_core::{CsrChunk, Error, ErrorKind, Result, Values};
use slaf_ingest::{Axis, MatrixKey};
use slaf_lance::error::from_arrow;
use std::sync::Arc;

/// In which order [`Dataset::triplets`](crate::Dataset::triplets) gives values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripletOrder {
    /// Cell by cell in the order of the selection; within a cell genes rise in that of theirs.
    ByCell,
    /// Gene by gene; within a gene cells rise.
    ByGene,
}

/// Which cell, gene and value, for each stored value: places in a chunk.
struct Places {
    cells: Vec<u32>,
    genes: Vec<u32>,
    /// Where the values are; `None` for the order of the chunk.
    values: Option<Vec<u32>>,
}

impl Places {
    fn new(chunk: &CsrChunk, n_genes: usize, order: TripletOrder) -> Result<Places> {
        if chunk.nnz() > u32::MAX as usize || chunk.n_rows() > u32::MAX as usize {
            let message = "more than 2^32 values in one frame: ask for fewer cells or genes, or use query_stream";
            return Err(Error::new(ErrorKind::UnsupportedFeature, message));
        }
        let lengths = chunk.indptr.windows(2).map(|w| (w[1] - w[0]) as usize);
        let cells = (0..).zip(lengths).flat_map(|(cell, n)| std::iter::repeat_n(cell, n));
        if order == TripletOrder::ByCell || n_genes <= 1 {
            return Ok(Places { cells: cells.collect(), genes: chunk.indices.clone(), values: None });
        }
        // Where each gene begins; then each value goes behind those before it.
        let mut next = vec![0u32; n_genes + 1];
        chunk.indices.iter().for_each(|&gene| next[gene as usize + 1] += 1);
        (0..n_genes).for_each(|gene| next[gene + 1] += next[gene]);
        let (mut to_cells, mut genes, mut values) = (vec![0; chunk.nnz()], vec![0; chunk.nnz()], vec![0; chunk.nnz()]);
        for (at, (cell, &gene)) in (0..).zip(cells.zip(&chunk.indices)) {
            let place = next[gene as usize] as usize;
            next[gene as usize] += 1;
            (to_cells[place], genes[place], values[place]) = (cell, gene, at);
        }
        Ok(Places { cells: to_cells, genes, values: Some(values) })
    }
}

/// The cells of a batch.
#[derive(Clone, Copy)]
pub(crate) enum Cells<'a> {
    Rows(&'a Selection),
    /// A cell by its row and its name, which need not be read again.
    Named(u64, &'a str),
}

/// A batch of `cell_id`, `gene_id` and `value`.
pub(crate) async fn read(
    snapshot: &Snapshot,
    key: &MatrixKey,
    cells: Cells<'_>,
    cols: &Selection,
    order: TripletOrder,
) -> Result<RecordBatch> {
    let entry = snapshot.matrix(key)?;
    let one;
    let rows = match cells {
        Cells::Rows(rows) => rows,
        Cells::Named(row, _) => {
            one = Selection::Range(row..row + 1);
            &one
        }
    };
    let chunk = snapshot.read(key, entry, rows, cols, ReadOptions::default()).await?;
    let places = Places::new(&chunk, cols.len(entry.n_cols) as usize, order)?;
    let n_rows = chunk.n_rows();
    let cells = match cells {
        Cells::Rows(rows) => cell_names(snapshot, rows, entry.n_rows, n_rows, places.cells).await?,
        Cells::Named(_, name) => at(&StringViewArray::from(vec![name]), places.cells)?,
    };
    let genes = gene_names(snapshot, cols, places.genes).await?;
    let values = shown(chunk.values);
    let values = match places.values {
        Some(order) => at(&*values, order)?,
        None => values,
    };
    RecordBatch::try_from_iter([("cell_id", cells), ("gene_id", genes), ("value", values)]).map_err(from_arrow)
}

/// Values as they are shown: those of bool are truth values.
fn shown(values: Values) -> ArrayRef {
    match values {
        Values::Bool(values) => Arc::new(BooleanArray::from(values)),
        values => to_arrow(values),
    }
}

/// A batch like that of [`read`]: a row for each cell in which a gene was measured, zeros among them.
pub(crate) async fn read_measured(snapshot: &Snapshot, cols: &Selection) -> Result<RecordBatch> {
    let entry = snapshot.matrix(&MatrixKey::X)?;
    let genes: Vec<u64> = cols.iter(entry.n_cols).collect();
    if u128::from(entry.n_rows) * genes.len() as u128 > u128::from(u32::MAX) {
        let message = "more than 2^32 values in one frame: ask for fewer genes";
        return Err(Error::new(ErrorKind::UnsupportedFeature, message));
    }
    let chunk = snapshot.read(&MatrixKey::X, entry, &Selection::All, cols, ReadOptions::default()).await?;
    let n_cells = chunk.n_rows();
    let measured = snapshot.measured().await?;
    let sets = measured.map(|m| m.sets_of(0..entry.n_rows));
    let (mut cells, mut places, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for ((place, gene), values) in (0..).zip(&genes).zip(dense_columns(&chunk, genes.len())) {
        let is_there = match (measured, &sets) {
            (Some(measured), Some(sets)) => {
                BooleanBuffer::collect_bool(n_cells, |cell| measured.sets()[sets[cell]].value(*gene as usize))
            }
            _ => BooleanBuffer::new_set(n_cells),
        };
        cells.extend(is_there.set_indices().map(|cell| cell as u32));
        places.resize(cells.len(), place);
        parts.push(filter(&shown(values), &BooleanArray::new(is_there, None)).map_err(from_arrow)?);
    }
    let values = match parts.is_empty() {
        true => shown(Values::empty(entry.dtype)),
        false => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(from_arrow)?,
    };
    let cells = cell_names(snapshot, &Selection::All, entry.n_rows, n_cells, cells).await?;
    let genes = gene_names(snapshot, cols, places).await?;
    RecordBatch::try_from_iter([("cell_id", cells), ("gene_id", genes), ("value", values)]).map_err(from_arrow)
}

/// The values at places of an array.
fn at(array: &dyn Array, places: Vec<u32>) -> Result<ArrayRef> {
    take(array, &UInt32Array::from(places), None).map_err(from_arrow)
}

/// The names at places of a selection of genes.
async fn gene_names(snapshot: &Snapshot, selection: &Selection, mut places: Vec<u32>) -> Result<ArrayRef> {
    match selection {
        Selection::All => {}
        Selection::Range(genes) => places.iter_mut().for_each(|place| *place += genes.start as u32),
        Selection::Ids(genes) => places.iter_mut().for_each(|place| *place = genes[*place as usize] as u32),
    }
    at(&*snapshot.gene_views().await?, places)
}

/// The names at places of a selection of cells: each is read once, and stands there as a view of its bytes.
async fn cell_names(
    snapshot: &Snapshot,
    selection: &Selection,
    n: u64,
    n_selected: usize,
    mut places: Vec<u32>,
) -> Result<ArrayRef> {
    let mut occurs = vec![false; n_selected];
    places.iter().for_each(|&place| occurs[place as usize] = true);
    let selection = match occurs.iter().all(|&occurs| occurs) {
        true => selection.clone(),
        false => {
            // The place of each among those that occur.
            let ranks = occurs.iter().scan(0, |next, &o| {
                let rank = *next;
                *next += u32::from(o);
                Some(rank)
            });
            let ranks: Vec<u32> = ranks.collect();
            places.iter_mut().for_each(|place| *place = ranks[*place as usize]);
            Selection::Ids(selection.iter(n).zip(occurs).filter(|(_, o)| *o).map(|(i, _)| i).collect())
        }
    };
    let names = snapshot.ids_of(Axis::Cells, &selection).await?;
    let names = names.as_string_opt::<i32>().ok_or_else(|| Error::corrupt("names that are no text"))?;
    at(&StringViewArray::from(names), places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_gene_keep_the_order_of_cells() {
        let chunk = CsrChunk {
            indptr: vec![0, 2, 2, 3, 5],
            indices: vec![0, 2, 2, 0, 1],
            values: Values::U8(vec![1, 2, 3, 4, 5]),
        };
        let places = Places::new(&chunk, 3, TripletOrder::ByGene).unwrap();
        assert_eq!(places.genes, [0, 0, 1, 2, 2]);
        assert_eq!(places.cells, [0, 3, 3, 0, 2]);
        assert_eq!(places.values, Some(vec![0, 3, 4, 1, 2]));
        let places = Places::new(&chunk, 3, TripletOrder::ByCell).unwrap();
        assert_eq!((&places.cells[..], &places.genes[..]), (&[0, 0, 2, 3, 3][..], &chunk.indices[..]));
    }
}
