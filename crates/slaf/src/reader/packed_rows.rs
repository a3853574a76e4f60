//! Packed rows of a selection, fetched and not yet decoded.

use crate::config;
use crate::selection::Rows;
use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use slaf_core::packed::Row;
use slaf_core::{Context, Error, Result};
use slaf_lance::Table;

/// The packed rows of a batch that has this column alone.
pub(crate) fn packed_column<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a BinaryArray> {
    let array = batch.column(0).as_binary_opt::<i32>().filter(|a| a.null_count() == 0);
    array.ok_or_else(|| Error::corrupt(format!("column {column} holds no packed rows")))
}

/// The rows of a selection, in its order.
pub(super) struct PackedRows {
    arrays: Vec<BinaryArray>,
    /// The first row of each array, and the number of all.
    starts: Vec<usize>,
    order: Option<Vec<u32>>,
    column: String,
}

impl PackedRows {
    pub(super) async fn fetch(table: &Table, column: &str, rows: Rows) -> Result<PackedRows> {
        let batches = table.read(&[column], &rows.ranges, config::batch_rows()).await?;
        let (mut arrays, mut starts) = (Vec::with_capacity(batches.len()), vec![0]);
        for batch in batches {
            let array = packed_column(&batch, column)?.clone();
            starts.push(starts[starts.len() - 1] + array.len());
            arrays.push(array);
        }
        let got = starts[starts.len() - 1];
        if got != rows.len {
            return Err(Error::corrupt(format!("{got} rows of column {column}, not {}", rows.len)));
        }
        Ok(PackedRows { arrays, starts, order: rows.order, column: column.to_string() })
    }

    /// How many rows the selection has.
    pub(super) fn len(&self) -> usize {
        self.order.as_ref().map_or(self.starts[self.starts.len() - 1], Vec::len)
    }

    /// A row of the selection.
    pub(super) fn row(&self, i: usize) -> Result<Row<'_>> {
        let i = self.order.as_ref().map_or(i, |o| o[i] as usize);
        let array = self.starts.partition_point(|&s| s <= i) - 1;
        Row::parse(self.arrays[array].value(i - self.starts[array])).at(format!("column {} row {i}", self.column))
    }
}
