//! Comparing a whole store with what was committed.

use crate::reader::PackedRows;
use crate::selection::Selection;
use crate::store::inverted;
use crate::store::manifest::{FileEntry, IndexEntry, Kind, MatrixEntry, NameSegment};
use crate::store::name_index::Entries;
use crate::store::values::{coordinates, primitive};
use crate::store::{Snapshot, TableName, schema, versions};
use arrow::array::AsArray;
use arrow::datatypes::{UInt32Type, UInt64Type};
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::MatrixKey;
use std::collections::{BTreeSet, HashMap};

/// Files that are hashed at once.
const FILES_AT_ONCE: usize = 8;
/// Packed rows that are counted at once: those of popular genes are long.
const ROWS_AT_ONCE: u64 = 256;
/// Lists of an index that are read at once.
const LISTS_AT_ONCE: usize = 64;
/// Names that are read at once.
const NAMES_AT_ONCE: u64 = 1 << 18;

/// A file of a store that is not as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its path below the root.
    pub file: String,
    /// How it differs.
    pub reason: String,
}

/// How much of a store is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Everything.
    Content,
    /// Lengths of files, and what the root manifest says of the tables, without reading their rows.
    Lengths,
}

impl Snapshot {
    /// Compares every file with its length and hash and, where all are right, what the root
    /// manifest says with what the tables hold. Gives the files that differ.
    pub(crate) async fn verify(&self, depth: Depth) -> Result<Vec<Damage>> {
        let damaged = self.damaged_files(depth).await?;
        if !damaged.is_empty() {
            return Ok(damaged);
        }
        match self.contents(depth).await {
            Ok(()) => Ok(Vec::new()),
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFeature) => {
                Ok(vec![Damage { file: versions::path(self.manifest.version), reason: e.to_string() }])
            }
            Err(e) => Err(e),
        }
    }

    async fn damaged_files(&self, depth: Depth) -> Result<Vec<Damage>> {
        let storage = &self.storage;
        let there: HashMap<String, u64> = storage.list("").await?.into_iter().collect();
        let compare = async |entry: &FileEntry| {
            let reason = match there.get(&entry.path) {
                None => "missing".to_string(),
                Some(length) if *length != entry.length => format!("{length} bytes, not {}", entry.length),
                Some(_) if depth == Depth::Lengths => return Ok(None),
                Some(_) if storage.hash(&entry.path).await? != entry.blake3 => "its content has changed".to_string(),
                Some(_) => return Ok(None),
            };
            Ok::<_, Error>(Some(Damage { file: entry.path.clone(), reason }))
        };
        let compared = stream::iter(self.manifest.files.iter().map(compare)).buffered(FILES_AT_ONCE);
        compared.try_filter_map(async |damage| Ok(damage)).try_collect().await
    }

    /// Compares what the root manifest says with what the tables hold.
    async fn contents(&self, depth: Depth) -> Result<()> {
        let tables = &self.manifest.tables;
        let mut names = vec![TableName::Cells, TableName::Genes];
        names.extend(tables.by_gene.as_ref().map(|_| TableName::ByGene));
        names.extend(tables.raw_genes.as_ref().map(|_| TableName::RawGenes));
        for name in names {
            self.table(name).await?;
        }
        self.order().await?;
        if tables.raw_genes.is_some() {
            self.raw_order().await?;
        }
        let m = &self.manifest;
        let frames = [("obs", Some(&m.obs)), ("var", Some(&m.var)), ("raw_var", m.raw_var.as_ref())];
        for (field, frame) in frames.into_iter().filter_map(|(field, frame)| Some((field, frame?))) {
            for column in frame.columns.iter().filter(|c| c.kind == Kind::Categorical) {
                if !self.categories().await?.contains_key(&column.id) {
                    return Err(Error::corrupt("its categories are missing").at(&column.name).at(field));
                }
            }
        }
        self.measured().await?;
        if depth == Depth::Lengths {
            return Ok(());
        }
        self.verify_heads().await?;
        for entry in &self.manifest.matrices {
            self.counts(entry).await.at(entry.key())?;
        }
        self.cell_names().await?;
        for entry in self.manifest.indexes.iter().filter(|entry| entry.kind == inverted::KIND) {
            self.indexed(entry).await.at(&entry.head)?;
        }
        self.stripes().await?;
        self.not_measured().await.at("measured")
    }

    /// Compares the index of names with the names: one that lacks a name would hide a cell.
    async fn cell_names(&self) -> Result<()> {
        for NameSegment { path, first_row, n_rows } in &self.manifest.cell_names {
            let mut entries = Entries::default();
            let end = first_row + n_rows;
            for start in (*first_row..end).step_by(NAMES_AT_ONCE as usize) {
                let rows = Selection::Range(start..(start + NAMES_AT_ONCE).min(end));
                let names = self.column_of(TableName::Cells, schema::CELL_ID, &rows).await?;
                let names = names.as_string_opt::<i32>().ok_or_else(|| Error::corrupt("names that are no text"))?;
                names.iter().flatten().for_each(|name| entries.push(name));
            }
            if self.storage.hash(path).await? != blake3::hash(&entries.into_bytes(path)?).to_hex().as_str() {
                return Err(Error::corrupt("the index does not have the names of the cells").at(path));
            }
        }
        Ok(())
    }

    /// Compares an index with the rows of its array: one that lacks a row would hide it.
    async fn indexed(&self, entry: &IndexEntry) -> Result<()> {
        let Some(array) = entry.array(&self.manifest) else { return Ok(()) };
        let (key, index) = (array.key(), self.inverted(entry).await?);
        let read = async |rows: Vec<u64>| {
            coordinates(&self.array_column(&key, &Selection::Ids(rows)).await?, array.dtype, array.width)
        };
        let mut seen = vec![false; entry.n_rows as usize];
        let all: Vec<usize> = (0..index.lists.sizes.len()).collect();
        for lists in all.chunks(LISTS_AT_ONCE) {
            for (list, rows) in lists.iter().zip(self.lists(&index, lists).await?) {
                let stored = read(rows.numbers.iter().map(|&row| u64::from(row)).collect()).await?;
                let (listed, stored) = (rows.values.to_f64(), stored.to_f64());
                let as_stored = listed.iter().zip(&stored).all(|(a, b)| a.to_bits() == b.to_bits());
                let is_new = |row: &u32| !std::mem::replace(&mut seen[*row as usize], true);
                let are_its = listed.chunks_exact(index.lists.dims).all(|row| index.lists.can_hold(*list, row));
                if !as_stored || !are_its || !rows.numbers.iter().all(is_new) {
                    return Err(Error::corrupt(format!("list {list} does not have the rows of {}", array.shown())));
                }
            }
        }
        let left: Vec<u64> = (0..entry.n_rows).filter(|row| !seen[*row as usize]).collect();
        for rows in left.chunks(1 << 16) {
            let stored = read(rows.to_vec()).await?.to_f64();
            let hidden = stored.chunks_exact(index.lists.dims).position(|row| index.lists.is_listed(row));
            if let Some(hidden) = hidden {
                return Err(Error::corrupt(format!("no list has row {} of {}", rows[hidden], array.shown())));
            }
        }
        Ok(())
    }

    /// Counts the values and bytes of a matrix.
    async fn counts(&self, entry: &MatrixEntry) -> Result<()> {
        let table = self.table(TableName::of_matrix(&entry.key())).await?;
        let (mut nnz, mut bytes) = (0, 0);
        for start in (0..entry.n_rows).step_by(ROWS_AT_ONCE as usize) {
            let rows = Selection::Range(start..(start + ROWS_AT_ONCE).min(entry.n_rows)).resolve(table.rows());
            let packed = PackedRows::fetch(table, &entry.column, rows, 0).await?;
            for i in 0..packed.len() {
                nnz += packed.row(i)?.nnz() as u64;
            }
            bytes += packed.bytes_read;
        }
        for (field, said, found) in [("nnz", entry.nnz, nnz), ("bytes", entry.bytes, bytes)] {
            if said != found {
                return Err(Error::corrupt(format!("{said}, but its rows have {found}")).at(field));
            }
        }
        Ok(())
    }

    /// Looks for values of genes that were not measured in any cell of a stripe.
    async fn not_measured(&self) -> Result<()> {
        let (Some(measured), Some(_)) = (self.measured().await?, &self.manifest.tables.by_gene) else { return Ok(()) };
        let order = self.order().await?;
        let nnz = self.column(TableName::ByGene, schema::NNZ).await?;
        let nnz = primitive::<UInt64Type>(&nnz, schema::NNZ)?;
        for (i, stripe) in self.manifest.stripes.iter().enumerate() {
            let cells = stripe.first_cell..stripe.first_cell + stripe.n_cells;
            let within = measured.sources().iter().filter(|s| s.first_cell < cells.end && s.cells().end > cells.start);
            let sets: BTreeSet<usize> = within.map(|s| s.set).collect();
            let rows = &nnz[stripe.first_row as usize..(stripe.first_row + stripe.n_genes) as usize];
            for (&gene, _) in order.gene_of.iter().zip(rows).filter(|(_, n)| **n > 0) {
                if !sets.iter().any(|&set| measured.sets()[set].value(gene as usize)) {
                    let what = format!("gene {gene} has values in cells {}..{}, and no source", cells.start, cells.end);
                    return Err(Error::corrupt(format!("{what} of these cells measured it")).at(format!("stripes.{i}")));
                }
            }
        }
        Ok(())
    }

    /// Compares the values of each stripe with those of its cells: a stripe that begins at another
    /// cell would give the values of other cells.
    async fn stripes(&self) -> Result<()> {
        let has_x = self.manifest.matrix(&MatrixKey::X).is_some();
        if self.manifest.tables.by_gene.is_none() || !has_x {
            return Ok(());
        }
        let of_cells = self.column(TableName::Cells, schema::NNZ).await?;
        let of_cells = primitive::<UInt32Type>(&of_cells, schema::NNZ)?;
        let of_genes = self.column(TableName::ByGene, schema::NNZ).await?;
        let of_genes = primitive::<UInt64Type>(&of_genes, schema::NNZ)?;
        for (i, stripe) in self.manifest.stripes.iter().enumerate() {
            let cells = &of_cells[stripe.first_cell as usize..(stripe.first_cell + stripe.n_cells) as usize];
            let genes = &of_genes[stripe.first_row as usize..(stripe.first_row + stripe.n_genes) as usize];
            let in_cells: u128 = cells.iter().map(|&n| u128::from(n)).sum();
            let in_genes: u128 = genes.iter().map(|&n| u128::from(n)).sum();
            if in_cells != in_genes {
                let what = format!("its cells have {in_cells} values, its genes {in_genes}");
                return Err(Error::corrupt(what).at(format!("stripes.{i}")));
            }
        }
        Ok(())
    }
}
