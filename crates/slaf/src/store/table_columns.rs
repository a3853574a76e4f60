//! Columns of the tables, as Arrow arrays: annotations, names, statistics, arrays beside an axis.

use crate::config;
use crate::selection::Selection;
use crate::store::frames::join_dictionary;
use crate::store::manifest::{ArrayEntry, ColumnSchema, FrameSchema, Kind};
use crate::store::schema;
use crate::store::snapshot::Snapshot;
use crate::store::table_name::TableName;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema};
use futures::FutureExt;
use slaf_core::{Context, Error, ErrorKind, Result, near};
use slaf_ingest::{ArrayKey, Axis};
use slaf_lance::error::from_arrow;
use std::sync::Arc;

/// One row of so many, read alone, is as much work as reading all of them.
const MANY: u64 = 64;
/// Bytes of memory that a value may take on average for its column to be read where many rows are
/// wanted.
const VALUE_BYTES: u64 = 32;

impl Snapshot {
    /// One column of a table, whole.
    pub(crate) async fn column(&self, name: TableName, column: &str) -> Result<ArrayRef> {
        // What is asked of genes takes both: of an object store, at once.
        let both = [schema::GENE_ID, schema::RANK];
        match both.iter().position(|one| name == TableName::Genes && *one == column) {
            Some(at) if !self.table(name).await?.is_local() => {
                Ok(self.columns_of(name, &both, &Selection::All).boxed().await?.swap_remove(at))
            }
            _ => self.column_of(name, column, &Selection::All).await,
        }
    }

    /// Columns of obs or var with the users' names; names come first.
    pub(crate) async fn frame(
        &self,
        name: TableName,
        frame: &FrameSchema,
        columns: Option<&[String]>,
        rows: &Selection,
    ) -> Result<RecordBatch> {
        let all: Vec<String>;
        let columns = match columns {
            Some(columns) => columns,
            None => {
                all = frame.columns.iter().map(|c| c.name.clone()).collect();
                &all
            }
        };
        let arrays = self.frame_columns(name, frame, columns, true, rows).await?;
        let mut fields = vec![Field::new(name.index(), DataType::Utf8, false)];
        let named = columns.iter().zip(&arrays[1..]);
        fields.extend(named.map(|(name, array)| Field::new(name, array.data_type().clone(), true)));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(from_arrow)
    }

    /// Columns of obs or var by the users' names, after the names of the rows if these are wanted.
    pub(crate) async fn frame_columns(
        &self,
        name: TableName,
        frame: &FrameSchema,
        columns: &[String],
        with_index: bool,
        rows: &Selection,
    ) -> Result<Vec<ArrayRef>> {
        let chosen = columns.iter().map(|n| column_of(frame, n)).collect::<Result<Vec<_>>>()?;
        let mut ids: Vec<&str> = if with_index { vec![name.index()] } else { Vec::new() };
        ids.extend(chosen.iter().map(|c| c.id.as_str()));
        let mut arrays = self.columns_of(name, &ids, rows).await?;
        let of_frame = arrays.iter_mut().skip(usize::from(with_index));
        for (array, column) in of_frame.zip(chosen).filter(|(_, c)| c.kind == Kind::Categorical) {
            let categories = self
                .categories()
                .await?
                .get(&column.id)
                .ok_or_else(|| Error::corrupt("its categories are missing").at(&column.name))?;
            *array = join_dictionary(array, categories).at(&column.name)?;
        }
        Ok(arrays)
    }

    /// Columns of a table, by their names in Lance, for some rows. Whole columns are kept, so that
    /// the next query does not read them; where many single rows are wanted, all are read.
    async fn columns_of(&self, name: TableName, columns: &[&str], rows: &Selection) -> Result<Vec<ArrayRef>> {
        let table = self.table(name).await?;
        rows.check(table.rows(), name.row())?;
        let kept: Option<Vec<ArrayRef>> = columns.iter().map(|c| self.kept.column(name, c)).collect();
        if let Some(whole) = kept {
            return whole.iter().map(|array| of_rows(array, rows)).collect();
        }
        let mut unique = columns.to_vec();
        unique.sort_unstable();
        unique.dedup();
        let n = table.rows();
        let are_many = matches!(rows, Selection::Ids(_)) && rows.len(n) > n / MANY;
        let (wanted, rows) = match are_many && n * unique.len() as u64 * VALUE_BYTES <= config::kept_memory() as u64 {
            true => (Some(rows), &Selection::All),
            false => (None, rows),
        };
        let resolved = rows.resolve(n);
        let batches = table.read(&unique, &resolved.ranges, 1 << 16).await?;
        let order = resolved.order.map(UInt32Array::from);
        let read = |column: &&str| -> Result<ArrayRef> {
            let at = unique.partition_point(|u| u < column);
            let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(at).as_ref()).collect();
            let all = match &parts[..] {
                [] => arrow::array::new_empty_array(table.arrow_field(column)?.data_type()),
                parts => concat(parts).map_err(from_arrow)?,
            };
            match &order {
                Some(order) => take(&all, order, None).map_err(from_arrow),
                None => Ok(all),
            }
        };
        let arrays: Vec<ArrayRef> = columns.iter().map(read).collect::<Result<_>>()?;
        if *rows == Selection::All || *rows == Selection::Range(0..table.rows()) {
            columns.iter().zip(&arrays).for_each(|(column, array)| self.kept.keep_column(name, column, array));
        }
        match wanted {
            Some(rows) => arrays.iter().map(|array| of_rows(array, rows)).collect(),
            None => Ok(arrays),
        }
    }

    /// Asks an object store for columns of a table, by their names in Lance, of which the rows of `part` are read
    /// next, and all of `rows` by and by.
    pub(crate) async fn read_ahead(
        &self,
        name: TableName,
        columns: &[&str],
        part: &Selection,
        rows: &Selection,
    ) -> Result<()> {
        let table = self.table(name).await?;
        let columns: Vec<&str> = columns.iter().copied().filter(|c| !self.kept.has_column(name, c)).collect();
        // Single rows are no pages.
        if table.is_local() || columns.is_empty() || matches!(rows, Selection::Ids(_)) {
            return Ok(());
        }
        let (next, later) = (part.resolve(table.rows()), rows.resolve(table.rows()));
        table.read_ahead(&columns, &next.ranges, &later.ranges).await
    }

    /// One column of a table, by its name in Lance, for some rows.
    pub(crate) async fn column_of(&self, name: TableName, column: &str, rows: &Selection) -> Result<ArrayRef> {
        Ok(self.columns_of(name, &[column], rows).await?.swap_remove(0))
    }

    /// The entry of an obsm or varm array.
    pub(crate) fn array_entry(&self, key: &ArrayKey) -> Result<&ArrayEntry> {
        let slot = if key.axis == Axis::Cells { "obsm" } else { "varm" };
        let arrays = || self.manifest.arrays.iter().filter(|a| a.axis == key.axis);
        arrays().find(|a| a.name == key.name).ok_or_else(|| {
            let near = near(&key.name, arrays().map(|a| a.name.as_str()));
            let all: Vec<&str> = arrays().map(|a| a.name.as_str()).collect();
            let hint = match (near.is_empty(), all.is_empty()) {
                (false, _) => format!("did you mean {}?", near.join(", ")),
                (true, false) => format!("there are {}", all.join(", ")),
                (true, true) => format!("it has no arrays in {slot}"),
            };
            Error::new(ErrorKind::UnknownTable, format!("the store has no {slot}/{}; {hint}", key.name))
        })
    }

    /// Rows of an obsm or varm array as lists of fixed size.
    pub(crate) async fn array_column(&self, key: &ArrayKey, rows: &Selection) -> Result<ArrayRef> {
        let column = self.array_entry(key)?.column.as_deref().unwrap_or_default();
        let name = TableName::of_axis(key.axis);
        self.column_of(name, column, rows).await
    }
}

/// The column with this name.
fn column_of<'a>(frame: &'a FrameSchema, name: &str) -> Result<&'a ColumnSchema> {
    frame.columns.iter().find(|c| c.name == name).ok_or_else(|| {
        let near = near(name, frame.columns.iter().map(|c| c.name.as_str()));
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean \"{}\"?", near.join("\", \"")) };
        Error::new(ErrorKind::UnknownColumn, format!("no column \"{name}\"{hint}"))
    })
}

/// Some rows of a whole column.
pub(crate) fn of_rows(array: &ArrayRef, rows: &Selection) -> Result<ArrayRef> {
    match rows {
        Selection::All => Ok(array.clone()),
        Selection::Range(r) => Ok(array.slice(r.start as usize, r.end.saturating_sub(r.start) as usize)),
        Selection::Ids(ids) => take(array, &UInt64Array::from(ids.clone()), None).map_err(from_arrow),
    }
}
