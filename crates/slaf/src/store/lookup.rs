//! The names of cells and genes, and what is found by them.

use crate::selection::Selection;
use crate::store::kept::Key;
use crate::store::manifest::Slot;
use crate::store::names::Names;
use crate::store::schema;
use crate::store::snapshot::Snapshot;
use crate::store::table_name::TableName;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, UInt32Type};
use slaf_core::order::GeneOrder;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::Axis;
use slaf_lance::error::from_arrow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Columns of var that hold gene symbols, in the order of preference; the names are those that
/// Cell Ranger, scanpy, CELLxGENE and Seurat write.
const SYMBOLS: [&str; 9] = [
    "gene_symbol", "gene_symbols", "symbol", "symbols", "gene_name", "gene_names", "feature_name", "gene_short_name",
    "name",
];

/// As many names as are looked for in all names once, before an index of these is made.
const FEW: usize = 4;
/// Cells whose names are read at once when all are looked through.
const SCAN_ROWS: u64 = 1 << 18;

impl Snapshot {
    /// The names of all cells or genes.
    pub(crate) async fn ids(&self, axis: Axis) -> Result<Arc<StringArray>> {
        let table = TableName::of_axis(axis);
        let array = self.column(table, table.index()).await?;
        let strings = array
            .as_string_opt::<i32>()
            .filter(|s| s.null_count() == 0)
            .ok_or_else(|| Error::corrupt(format!("column {} holds no names", table.index())))?;
        Ok(Arc::new(strings.clone()))
    }

    /// The names of some cells or genes.
    pub(crate) async fn ids_of(&self, axis: Axis, rows: &Selection) -> Result<ArrayRef> {
        if axis == Axis::Genes {
            // Genes are few, and asked for again and again: once read, all stay.
            self.ids(axis).await?;
        }
        let table = TableName::of_axis(axis);
        self.column_of(table, table.index(), rows).await
    }

    /// The row of each name.
    ///
    /// # Errors
    /// `unknown-cell` or `unknown-gene` (lists up to five, with near names), `ambiguous-name`.
    pub(crate) async fn resolve(&self, axis: Axis, names: &[&str]) -> Result<Vec<u64>> {
        let found = self.find(axis, names).await?;
        if found.iter().all(|rows| rows.len() == 1) {
            return Ok(found.concat());
        }
        let (what, unknown) = match axis {
            Axis::Cells => ("cell", ErrorKind::UnknownCell),
            Axis::Genes => ("gene", ErrorKind::UnknownGene),
        };
        self.names(axis).await?.resolve(names, what, unknown)
    }

    /// The rows of each name, rising.
    pub(crate) async fn find(&self, axis: Axis, names: &[&str]) -> Result<Vec<Vec<u64>>> {
        let is_indexed = self.kept.has_names(TableName::of_axis(axis));
        if axis == Axis::Cells && !is_indexed && names.len() <= FEW && self.first_find.swap(false, Ordering::Relaxed) {
            return self.find_in_all(names).await;
        }
        let index = self.names(axis).await?;
        Ok(names.iter().map(|name| index.find(name)).collect())
    }

    /// The rows of each cell's name, rising, without keeping the names of others.
    async fn find_in_all(&self, names: &[&str]) -> Result<Vec<Vec<u64>>> {
        let n = self.manifest.n_cells;
        let mut found = vec![Vec::new(); names.len()];
        for start in (0..n).step_by(SCAN_ROWS as usize) {
            let rows = Selection::Range(start..(start + SCAN_ROWS).min(n));
            let part = self.column_of(TableName::Cells, schema::CELL_ID, &rows).await?;
            let part = part.as_string_opt::<i32>().ok_or_else(|| Error::corrupt("names of cells that are no text"))?;
            for (name, rows) in names.iter().zip(&mut found) {
                let bytes = name.as_bytes();
                let at = part.offsets().windows(2).map(|w| &part.value_data()[w[0] as usize..w[1] as usize]);
                rows.extend((start..).zip(at).filter(|(_, value)| *value == bytes).map(|(row, _)| row));
            }
        }
        Ok(found)
    }

    /// The cells or genes by name.
    pub(crate) async fn names(&self, axis: Axis) -> Result<Arc<Names>> {
        let load = async { Names::new(self.ids(axis).await?).map(Some) };
        let names = self.storage.guard(self.kept.names(Key::Names(TableName::of_axis(axis)), load)).await?;
        names.ok_or_else(|| Error::new(ErrorKind::Internal, "names that were not loaded"))
    }

    /// The genes by symbol, if var has a column of symbols.
    pub(crate) async fn symbols(&self) -> Result<Option<Arc<Names>>> {
        let load = async {
            let frame = &self.manifest.var;
            let Some(column) = SYMBOLS.iter().find(|s| frame.columns.iter().any(|c| c.name == **s)) else {
                return Ok(None);
            };
            let columns = [column.to_string()];
            let array = self.frame_columns(TableName::Genes, frame, &columns, false, &Selection::All).await?;
            let text = arrow::compute::cast(&array[0], &DataType::Utf8).map_err(from_arrow)?;
            Ok(Some(Names::new(Arc::new(text.as_string::<i32>().clone()))?))
        };
        self.storage.guard(self.kept.names(Key::Symbols, load)).await
    }

    /// The gene order of X and the layers.
    pub(crate) async fn order(&self) -> Result<Arc<GeneOrder>> {
        self.order_of(TableName::Genes).await
    }

    /// The gene order of raw.
    pub(crate) async fn raw_order(&self) -> Result<Arc<GeneOrder>> {
        self.order_of(TableName::RawGenes).await
    }

    async fn order_of(&self, table: TableName) -> Result<Arc<GeneOrder>> {
        self.storage.guard(self.kept.order(table, self.load_order(table))).await
    }

    async fn load_order(&self, name: TableName) -> Result<GeneOrder> {
        let ranks = self.column(name, schema::RANK).await?;
        let ranks = ranks
            .as_primitive_opt::<UInt32Type>()
            .ok_or_else(|| Error::corrupt("the ranks of the genes are no uint32"))?;
        GeneOrder::from_ranks(ranks.values().to_vec())
            .ok_or_else(|| Error::corrupt("the ranks of the genes are no permutation"))
    }

    /// The gene that a column of `cells` shows: by its id, or else by its symbol.
    pub(crate) async fn gene_of_column(&self, name: &str) -> Result<Option<u64>> {
        if self.manifest.matrices.iter().all(|m| m.slot != Slot::X) {
            return Ok(None);
        }
        let one = |rows: &[u64], what: &str| match rows {
            [] => Ok(None),
            [row] => Ok(Some(*row)),
            [first, second, ..] => Err(Error::new(
                ErrorKind::AmbiguousName,
                format!("\"{name}\" is the {what} of more than one gene (rows {first}, {second}, ...)"),
            )),
        };
        if let Some(row) = one(&self.names(Axis::Genes).await?.find(name), "id")? {
            return Ok(Some(row));
        }
        match self.symbols().await? {
            Some(symbols) => one(&symbols.find(name), "symbol"),
            None => Ok(None),
        }
    }

    /// The ids and the symbols under which genes are columns.
    pub(crate) async fn names_of_genes(&self) -> Result<Vec<Arc<Names>>> {
        if self.manifest.matrices.iter().all(|m| m.slot != Slot::X) {
            return Ok(Vec::new());
        }
        let mut names = vec![self.names(Axis::Genes).await?];
        names.extend(self.symbols().await?);
        Ok(names)
    }
}
