//! The one way in which expression is read: a selection of cells and of genes becomes CSR chunks.
//!
//! The [plan] picks the cell-major or the gene-major rows, whichever means less work; both give
//! the same answer. Rows come in the order of the selection, columns rise within a row and are
//! numbered by their place in the selection of genes.

mod by_cell;
mod by_gene;
mod packed_rows;
mod plan;

pub(crate) use packed_rows::{CELL_GAP, PackedRows};
pub(crate) use plan::{Orientation, choose, reads_genes};

use crate::selection::Selection;
use crate::store::Snapshot;
use crate::store::manifest::MatrixEntry;
use slaf_core::{Context, CsrChunk, Result, with_dtype};
use slaf_ingest::MatrixKey;
use slaf_lance::runtime::block_on;
use std::sync::Arc;

/// Reads a part of a matrix in chunks of at most `batch_rows` rows.
pub(crate) fn stream(
    snapshot: &Arc<Snapshot>,
    key: &MatrixKey,
    rows: &Selection,
    cols: &Selection,
    batch_rows: usize,
) -> Result<impl Iterator<Item = Result<CsrChunk>> + Send + use<>> {
    let entry = snapshot.matrix(key)?;
    rows.check(entry.n_rows, "row").at(key)?;
    cols.check(entry.n_cols, "column").at(key)?;
    let (n, step) = (rows.len(entry.n_rows), batch_rows.max(1));
    let orientation = choose(&snapshot.manifest, key, entry, rows, cols);
    let part_rows = orientation.part_rows(step, entry, cols);
    let options = ReadOptions { orientation: Some(orientation), unsorted: false };
    let (snapshot, key, rows, cols) = (snapshot.clone(), key.clone(), rows.clone(), cols.clone());
    let read = move |start: u64| {
        let part = rows.part(start..(start + part_rows as u64).min(n));
        block_on(snapshot.read(&key, snapshot.matrix(&key)?, &part, &cols, options)).at(&key)
    };
    Ok((0..n).step_by(part_rows).flat_map(move |start| batches(read(start), step)))
}

/// The rows of a part in chunks of at most `step` rows.
fn batches(part: Result<CsrChunk>, step: usize) -> Box<dyn Iterator<Item = Result<CsrChunk>> + Send> {
    match part {
        Ok(part) if part.n_rows() > step => {
            let n = part.n_rows();
            Box::new((0..n).step_by(step).map(move |start| Ok(part.slice(start..(start + step).min(n)))))
        }
        part => Box::new(std::iter::once(part)),
    }
}

/// How to read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadOptions {
    /// In place of the planner's choice.
    pub(crate) orientation: Option<Orientation>,
    /// The columns of a row may come in any order, which saves sorting them.
    pub(crate) unsorted: bool,
}

impl Snapshot {
    /// Reads genes of X as rows, which are checked; their columns are places among the selected
    /// cells, in any order.
    pub(crate) async fn read_genes(&self, entry: &MatrixEntry, rows: &Selection, genes: &[u64]) -> Result<CsrChunk> {
        with_dtype!(entry.dtype, T => self.genes_of::<T>(rows, genes).await)
    }

    /// Reads a part of a matrix.
    pub(crate) async fn read(
        &self,
        key: &MatrixKey,
        entry: &MatrixEntry,
        rows: &Selection,
        cols: &Selection,
        options: ReadOptions,
    ) -> Result<CsrChunk> {
        rows.check(entry.n_rows, "row")?;
        cols.check(entry.n_cols, "column")?;
        let dtype = entry.dtype;
        let orientation = match options.orientation {
            Some(orientation) => orientation,
            None => plan::choose(&self.manifest, key, entry, rows, cols),
        };
        with_dtype!(dtype, T => match orientation {
            Orientation::ByGene => self.read_by_gene::<T>(rows, cols).await,
            Orientation::ByCell => self.read_by_cell::<T>(key, entry, rows, cols, options.unsorted).await,
        })
    }
}
