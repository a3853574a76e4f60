//! Stores as a loader reads them.

use super::change::Change;
use super::options::{Form, LoaderOptions, Source};
use crate::reader::{CELL_GAP, PackedRows};
use crate::selection::Selection;
use crate::store::{Snapshot, TableName};
use arrow::buffer::BooleanBuffer;
use slaf_core::order::DROP;
use slaf_core::{Dtype, Error, Result, Values};
use slaf_ingest::{MatrixKey, Measured};
use slaf_kernels::tokenizers::Tokenizer;
use std::sync::Arc;

/// A store, ready to be read.
pub(super) struct Prepared {
    pub(super) snapshot: Arc<Snapshot>,
    table: TableName,
    column: String,
    pub(super) stored: Dtype,
    pub(super) n_cols: u64,
    /// Column of the packed row to column of the batch.
    pub(super) map: Vec<u32>,
    moves: Moves,
    pub(super) width: usize,
    /// For rows as they are stored.
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) columns: Arc<Vec<Values>>,
    pub(super) change: Change,
    /// Which genes were measured, if that is asked for.
    pub(super) measured: Option<MeasuredColumns>,
}

/// Which columns of a batch were measured.
pub(super) struct MeasuredColumns {
    /// None where all were, in all cells.
    measured: Option<Measured>,
    /// For each set of genes, and at the end for all.
    rows: Vec<Vec<bool>>,
}

impl MeasuredColumns {
    fn new(measured: Option<&Measured>, genes: &Selection, n_genes: u64) -> MeasuredColumns {
        let of_set = |set: &BooleanBuffer| genes.iter(n_genes).map(|gene| set.value(gene as usize)).collect();
        let mut rows: Vec<Vec<bool>> = measured.iter().flat_map(|m| m.sets()).map(of_set).collect();
        rows.push(vec![true; genes.len(n_genes) as usize]);
        MeasuredColumns { measured: measured.cloned(), rows }
    }

    /// Those of a cell.
    pub(super) fn row(&self, cell: u64) -> &[bool] {
        let source = self.measured.as_ref().and_then(|m| m.source_of(cell));
        &self.rows[source.map_or(self.rows.len() - 1, |s| s.set)]
    }
}

/// What [`Prepared::map`] does to a row.
enum Moves {
    /// Nothing.
    None,
    /// It leaves columns out.
    Out,
    /// It changes their order, too.
    About,
}

/// The columns of decoded rows.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    /// As they are stored, in order of popularity.
    Stored,
    /// Those that a map keeps, which leaves their order as it is.
    Kept(&'a [u32]),
    /// Those that a map keeps, in the order that it gives them.
    Moved(&'a [u32]),
}

/// The type of the values of batches.
///
/// # Errors
/// `invalid-argument` for a type that values are not converted to.
pub(super) fn out_dtype(sources: &[Source], options: &LoaderOptions) -> Result<Dtype> {
    let stored =
        sources.iter().map(|s| Ok(s.snapshot.matrix(&options.matrix)?.dtype)).collect::<Result<Vec<Dtype>>>()?;
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
        let snapshot = source.snapshot.clone();
        let entry = snapshot.matrix(&options.matrix)?;
        let (table, column, n_cols) = (TableName::of_matrix(&options.matrix), entry.column.clone(), entry.n_cols);
        source.genes.check(n_cols, "gene")?;
        let stored = entry.dtype;
        let order = match options.matrix {
            MatrixKey::X | MatrixKey::Layer(_) => snapshot.order().await?,
            MatrixKey::RawX => snapshot.raw_order().await?,
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
        let kept = map.iter().filter(|new| **new != DROP);
        let moves = match kept.is_sorted() {
            false => Moves::About,
            true if map.contains(&DROP) => Moves::Out,
            true => Moves::None,
        };
        let tokenizer = source.tokenizer.as_ref().filter(|_| options.form == Form::Tokens);
        let tokenizer = tokenizer.map(|t| t.with_columns(&order.gene_of)).transpose()?;
        let n_cells = snapshot.manifest.n_cells as usize;
        if let Some(values) = source.columns.iter().find(|c| c.len() != n_cells) {
            return Err(Error::invalid(format!("a column of {} values for {n_cells} cells", values.len())));
        }
        Ok(Prepared {
            table,
            column,
            stored,
            n_cols,
            map,
            moves,
            width: source.genes.len(n_cols) as usize,
            tokenizer,
            columns: source.columns.clone(),
            measured: match options.measured {
                true => Some(MeasuredColumns::new(snapshot.measured().await?, &source.genes, n_cols)),
                false => None,
            },
            change: Change { dtype, target_sum: options.target_sum, log1p: options.log1p },
            snapshot,
        })
    }

    /// The columns of the batch.
    pub(super) fn batch_columns(&self) -> Columns<'_> {
        match self.moves {
            Moves::None => Columns::Stored,
            Moves::Out => Columns::Kept(&self.map),
            Moves::About => Columns::Moved(&self.map),
        }
    }

    pub(super) fn n_cells(&self) -> u64 {
        self.snapshot.manifest.n_cells
    }

    /// Reads the rows of cells in any order.
    pub(super) async fn fetch(&self, cells: Vec<u64>) -> Result<PackedRows> {
        let table = self.snapshot.table(self.table).await?;
        PackedRows::fetch(table, &self.column, Selection::Ids(cells).resolve(table.rows()), CELL_GAP).await
    }
}
