//! Names, annotations and stored statistics of cells and genes.

use super::handle::Dataset;
use crate::selection::Selection;
use crate::store::values::{self, primitive};
use crate::store::{TableName, schema};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use bytes::Bytes;
use slaf_core::{Error, ErrorKind, Result, Values};
use slaf_ingest::{ArrayKey, Axis};
use slaf_lance::runtime::block_on;
use std::sync::Arc;

/// Statistics of the cells over all genes of X, in cell order.
#[derive(Clone, Debug)]
pub struct CellStats {
    /// Stored values, explicit zeros included.
    pub nnz: Vec<u32>,
    /// Values that are not zero.
    pub n_genes: Vec<u32>,
    /// The sum of the cell's values.
    pub total: Vec<f64>,
}

/// Statistics of the genes over all cells of X, in gene order.
#[derive(Clone, Debug)]
pub struct GeneStats {
    /// Cells in which the gene's value is not zero.
    pub n_cells: Vec<u64>,
    /// The sum of the gene's values.
    pub total: Vec<f64>,
}

impl Dataset {
    /// Columns of obs (all by default) for some cells: first `cell_id` (Utf8), then the columns
    /// under the user's names; a categorical is `Dictionary(Int32, _)` with all its categories.
    ///
    /// # Errors
    /// `unknown-column` with near names, `out-of-range`, `corrupt`.
    pub fn obs(&self, columns: Option<&[String]>, rows: &Selection) -> Result<RecordBatch> {
        block_on(self.snapshot.frame(TableName::Cells, &self.snapshot.manifest.obs, columns, rows))
            .map_err(|e| self.name(e, "obs"))
    }

    /// Columns of var (all by default) for some genes: first `gene_id`; see [`Dataset::obs`].
    ///
    /// # Errors
    /// As [`Dataset::obs`].
    pub fn var(&self, columns: Option<&[String]>, rows: &Selection) -> Result<RecordBatch> {
        block_on(self.snapshot.frame(TableName::Genes, &self.snapshot.manifest.var, columns, rows))
            .map_err(|e| self.name(e, "var"))
    }

    /// The var frame of raw, if there is a raw.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn raw_var(&self) -> Result<Option<RecordBatch>> {
        let Some(frame) = &self.snapshot.manifest.raw_var else { return Ok(None) };
        block_on(self.snapshot.frame(TableName::RawGenes, frame, None, &Selection::All)).map(Some)
    }

    /// Errors of arguments name the frame; those of files name their own place already.
    fn name(&self, error: Error, what: &str) -> Error {
        if error.kind() == ErrorKind::UnknownColumn { error.at(what) } else { error }
    }

    /// The names of all cells.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn cell_ids(&self) -> Result<Arc<StringArray>> {
        block_on(self.snapshot.ids(Axis::Cells))
    }

    /// The names of all genes.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn gene_ids(&self) -> Result<Arc<StringArray>> {
        block_on(self.snapshot.ids(Axis::Genes))
    }

    /// The numbers of all genes in the order in which rows of X and of layers have them: by how many
    /// cells express them, most first. What is read in this order need not be renumbered.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn stored_genes(&self) -> Result<Vec<u64>> {
        let order = block_on(self.snapshot.order())?;
        Ok(order.gene_of.iter().map(|&gene| u64::from(gene)).collect())
    }

    /// The names (Utf8) of some cells or genes.
    ///
    /// # Errors
    /// `out-of-range`, `corrupt`.
    pub fn names(&self, axis: Axis, rows: &Selection) -> Result<ArrayRef> {
        block_on(self.snapshot.ids_of(axis, rows))
    }

    /// The numbers of cells by name.
    ///
    /// # Errors
    /// `unknown-cell` (lists up to five, with near names), `ambiguous-name`.
    pub fn resolve_cells(&self, names: &[&str]) -> Result<Vec<u64>> {
        block_on(self.snapshot.resolve(Axis::Cells, names))
    }

    /// The numbers of genes by name (the index of var).
    ///
    /// # Errors
    /// `unknown-gene` (lists up to five, with near names), `ambiguous-name`.
    pub fn resolve_genes(&self, names: &[&str]) -> Result<Vec<u64>> {
        block_on(self.snapshot.resolve(Axis::Genes, names))
    }

    /// The numbers of the cells or genes with this name, rising: none, one, or several.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn rows_named(&self, axis: Axis, name: &str) -> Result<Vec<u64>> {
        block_on(async { Ok(self.snapshot.find(axis, &[name]).await?.swap_remove(0)) })
    }

    /// Rows of an obsm or varm array, row-major, and its width.
    ///
    /// # Errors
    /// `unknown-table`, `out-of-range`, `corrupt`.
    pub fn array(&self, key: &ArrayKey, rows: &Selection) -> Result<(Values, usize)> {
        let entry = self.snapshot.array_entry(key)?;
        let dtype = entry.dtype;
        if entry.column.is_none() {
            return Ok((Values::empty(dtype), 0));
        }
        let lists = block_on(self.snapshot.array_column(key, rows))?;
        Ok((values::from_lists(&lists, dtype, entry.width)?, entry.width as usize))
    }

    /// The HDF5 file with the extras of the root manifest (uns and whatever no table holds),
    /// in AnnData's on-disk format.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn extras(&self) -> Result<Option<Bytes>> {
        match &self.snapshot.manifest.extras {
            Some(extras) => block_on(self.snapshot.read_file(&extras.path)).map(Some),
            None => Ok(None),
        }
    }

    /// Stored statistics of the cells.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn cell_stats(&self) -> Result<CellStats> {
        block_on(async {
            let counts = async |name| {
                let array = self.snapshot.column(TableName::Cells, name).await?;
                Ok::<_, Error>(primitive::<UInt32Type>(&array, name)?.to_vec())
            };
            let total = self.snapshot.column(TableName::Cells, schema::TOTAL).await?;
            Ok(CellStats {
                nnz: counts(schema::NNZ).await?,
                n_genes: counts(schema::N_GENES).await?,
                total: primitive::<Float64Type>(&total, schema::TOTAL)?.to_vec(),
            })
        })
    }

    /// Stored values of X of each gene, explicit zeros included, in gene order; `None` for a store
    /// without gene-major rows, which does not know them.
    ///
    /// # Errors
    /// `unknown-table` without X; `corrupt`.
    pub fn nnz_per_gene(&self) -> Result<Option<Vec<u64>>> {
        block_on(async {
            let Some(moments) = self.snapshot.gene_moments().await? else { return Ok(None) };
            let order = self.snapshot.order().await?;
            Ok(Some(order.rank_of.iter().map(|&rank| moments.stored[rank as usize]).collect()))
        })
    }

    /// Stored statistics of the genes.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn gene_stats(&self) -> Result<GeneStats> {
        block_on(async {
            let n_cells = self.snapshot.column(TableName::Genes, schema::N_CELLS).await?;
            let total = self.snapshot.column(TableName::Genes, schema::TOTAL).await?;
            Ok(GeneStats {
                n_cells: primitive::<UInt64Type>(&n_cells, schema::N_CELLS)?.to_vec(),
                total: primitive::<Float64Type>(&total, schema::TOTAL)?.to_vec(),
            })
        })
    }
}
