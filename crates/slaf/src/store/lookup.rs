//! The names of cells and genes, and what is found by them.

use crate::selection::Selection;
use crate::store::kept::Key;
use crate::store::manifest::{NameSegment, Slot};
use crate::store::name_index;
use crate::store::names::Names;
use crate::store::schema;
use crate::store::snapshot::Snapshot;
use crate::store::table_name::TableName;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringViewArray};
use arrow::datatypes::{DataType, UInt32Type};
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::order::GeneOrder;
use slaf_core::{Context, Error, ErrorKind, Result};
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
const FEW: u64 = 4;
/// Looking for one name in the index that a store has reads as many bytes as this many names take:
/// who looks for more than a part of them gets all.
const NAMES_OF_A_FIND: u64 = 4096;
/// Segments and names that are looked up at once.
const AT_ONCE: usize = 16;
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

    /// The names of all genes, as views of their bytes.
    pub(crate) async fn gene_views(&self) -> Result<ArrayRef> {
        let load = async {
            let views: ArrayRef = Arc::new(StringViewArray::from(&*self.ids(Axis::Genes).await?));
            Ok(views)
        };
        self.storage.guard(self.kept.views(TableName::Genes, load)).await
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
        if axis == Axis::Cells && !self.kept.has_names(TableName::Cells) {
            let n = names.len() as u64;
            let before = self.found.fetch_add(n, Ordering::Relaxed);
            if self.manifest.cell_names.is_empty() {
                if before == 0 && n <= FEW {
                    return self.find_in_all(names).await;
                }
            } else if before + n <= FEW.max(self.manifest.n_cells / NAMES_OF_A_FIND) {
                return self.find_in_segments(names).await;
            }
        }
        let index = self.names(axis).await?;
        Ok(names.iter().map(|name| index.find(name)).collect())
    }

    /// The rows of each cell's name, rising, by the index that the store has.
    async fn find_in_segments(&self, names: &[&str]) -> Result<Vec<Vec<u64>>> {
        let mut searches = Vec::with_capacity(names.len() * self.manifest.cell_names.len());
        for (i, name) in names.iter().enumerate() {
            searches.extend(self.manifest.cell_names.iter().map(|segment| self.find_in_segment(i, name, segment)));
        }
        let found: Vec<(usize, Vec<u64>)> = stream::iter(searches).buffered(AT_ONCE).try_collect().await?;
        // Other names may have the same hash.
        let mut rows: Vec<u64> = found.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        let there = match rows.is_empty() {
            true => None,
            false => Some(self.column_of(TableName::Cells, schema::CELL_ID, &Selection::Ids(rows.clone())).await?),
        };
        let there = there.as_ref().and_then(|names| names.as_string_opt::<i32>());
        let mut out = vec![Vec::new(); names.len()];
        for (i, candidates) in found {
            let is_it = |row: &u64| {
                rows.binary_search(row).is_ok_and(|at| there.is_some_and(|there| there.value(at) == names[i]))
            };
            out[i].extend(candidates.into_iter().filter(is_it));
        }
        Ok(out)
    }

    /// The rows that may have the `i`-th name, of the cells of a segment.
    async fn find_in_segment(&self, i: usize, name: &str, segment: &NameSegment) -> Result<(usize, Vec<u64>)> {
        let rows = name_index::find(segment, name, |range| self.read_part(&segment.path, range)).await;
        if let (Err(_), Some(doubt)) = (&rows, self.storage.doubt(&segment.path)) {
            doubt.forget();
        }
        rows.map(|rows| (i, rows)).at(self.storage.full(&segment.path))
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

    /// The gene that a column of `cells` shows.
    pub(crate) async fn gene_of_column(&self, name: &str) -> Result<Option<u64>> {
        match self.manifest.matrices.iter().any(|m| m.slot == Slot::X) {
            true => self.gene_of_name(name).await,
            false => Ok(None),
        }
    }

    /// The gene that a name in SQL means: by its id, or else by its symbol.
    ///
    /// # Errors
    /// `ambiguous-name`.
    pub(crate) async fn gene_of_name(&self, name: &str) -> Result<Option<u64>> {
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

    /// The row that a name in SQL means: of a cell by its id, of a gene by its id, or else by its symbol.
    ///
    /// # Errors
    /// Those of [`Snapshot::resolve`].
    pub(crate) async fn row_of_name(&self, axis: Axis, name: &str) -> Result<u64> {
        if axis == Axis::Genes
            && let Some(gene) = self.gene_of_name(name).await?
        {
            return Ok(gene);
        }
        Ok(self.resolve(axis, &[name]).await?.swap_remove(0))
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
