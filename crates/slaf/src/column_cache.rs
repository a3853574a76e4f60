//! Columns of obs and var in memory: questions about cells come many at a time.

use crate::dataset::TableName;
use crate::selection::Selection;
use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::take;
use slaf_core::Result;
use slaf_lance::error::from_arrow;
use std::collections::HashMap;

/// Whole columns that have been read, up to a limit.
#[derive(Debug, Default)]
pub(crate) struct ColumnCache {
    columns: HashMap<(TableName, String), ArrayRef>,
    bytes: usize,
}

impl ColumnCache {
    const MOST_BYTES: usize = 256 << 20;

    /// These columns, if all of them are here.
    pub(crate) fn get(&self, table: TableName, columns: &[&str]) -> Option<Vec<ArrayRef>> {
        columns.iter().map(|c| self.columns.get(&(table, c.to_string())).cloned()).collect()
    }

    /// Keeps those that fit.
    pub(crate) fn keep(&mut self, table: TableName, columns: &[&str], arrays: &[ArrayRef]) {
        for (column, array) in columns.iter().zip(arrays) {
            let bytes = array.get_array_memory_size();
            let key = (table, column.to_string());
            if self.bytes + bytes <= Self::MOST_BYTES && !self.columns.contains_key(&key) {
                self.bytes += bytes;
                self.columns.insert(key, array.clone());
            }
        }
    }
}

/// Some rows of a whole column.
pub(crate) fn of_rows(array: &ArrayRef, rows: &Selection) -> Result<ArrayRef> {
    match rows {
        Selection::All => Ok(array.clone()),
        Selection::Range(r) => Ok(array.slice(r.start as usize, r.end.saturating_sub(r.start) as usize)),
        Selection::Ids(ids) => take(array, &UInt64Array::from(ids.clone()), None).map_err(from_arrow),
    }
}
