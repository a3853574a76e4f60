//! Packed rows of a selection, fetched and not yet decoded.

use crate::config;
use crate::selection::Rows;
use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::packed::Row;
use slaf_core::{Context, Error, Result};
use slaf_lance::error::from_arrow;
use slaf_lance::{ByteRows, Doubt, Table};
use std::iter::Peekable;
use std::ops::Range;

/// Rows of cells between wanted ones that are read along rather than begin a new range: a range
/// costs about as much as this many rows. They are not kept.
pub(crate) const CELL_GAP: u64 = 8;
/// Parts of a read that are under way at once.
const READS: usize = 4;

/// The packed rows of a batch that has this column alone.
fn packed_column<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a BinaryArray> {
    let array = batch.column(0).as_binary_opt::<i32>().filter(|a| a.null_count() == 0);
    array.ok_or_else(|| Error::corrupt(format!("column {column} holds no packed rows")))
}

/// Some rows.
enum Held {
    /// As Lance reads them.
    Array(BinaryArray),
    /// As they lie in a file.
    Bytes(ByteRows),
}

impl Held {
    fn len(&self) -> usize {
        match self {
            Held::Array(array) => array.len(),
            Held::Bytes(rows) => rows.len(),
        }
    }

    fn value(&self, i: usize) -> &[u8] {
        match self {
            Held::Array(array) => array.value(i),
            Held::Bytes(rows) => rows.value(i),
        }
    }
}

/// The rows of a selection, in its order.
pub(crate) struct PackedRows {
    held: Vec<Held>,
    /// The first row of each part, and the number of all.
    starts: Vec<usize>,
    order: Option<Vec<u32>>,
    column: String,
    /// Where damaged rows are from.
    doubt: Option<Doubt>,
    /// Bytes of all rows that were read, unwanted ones included.
    pub(crate) bytes_read: u64,
}

impl PackedRows {
    /// Reads rows, and up to `gap` unwanted ones between two of them.
    pub(crate) async fn fetch(table: &Table, column: &str, rows: Rows, gap: u64) -> Result<PackedRows> {
        let mut packed = PackedRows {
            held: Vec::new(),
            starts: vec![0],
            order: rows.order,
            column: column.to_string(),
            doubt: table.doubt(),
            bytes_read: 0,
        };
        if packed.fetch_bytes(table, &rows.ranges).await? {
            return packed.of_length(rows.len);
        }
        let columns = [column];
        let mut parts = stream::iter(parts(&rows.ranges, gap, config::batch_rows() as u64))
            .map(|part| async move {
                let batches = table.read(&columns, &part.reads, config::batch_rows()).await?;
                Ok::<_, Error>((batches, part))
            })
            .buffered(READS);
        while let Some((batches, part)) = parts.try_next().await? {
            let mut wanted = part.wanted.iter().cloned().flatten().peekable();
            let mut numbers = part.reads.iter().cloned().flatten();
            let has_gaps = part.wanted != part.reads;
            for batch in batches {
                packed.keep(&batch, has_gaps.then_some((&mut numbers, &mut wanted)))?;
            }
        }
        packed.of_length(rows.len)
    }

    /// Reads ranges of rows where they lie in the files; false if they are not there to be read so.
    async fn fetch_bytes(&mut self, table: &Table, ranges: &[Range<u64>]) -> Result<bool> {
        // On a local disk a gap costs more than a read; in an object store gaps are measured in
        // bytes, where requests are made.
        let parts = parts(ranges, 0, config::batch_rows() as u64);
        let column = self.column.clone();
        let read = |part: Part| {
            let column = &column;
            async move { table.read_bytes(column, &part.reads).await }
        };
        let at_once = if table.is_local() { 1 } else { READS };
        let mut all = Vec::with_capacity(parts.len());
        let mut reads = stream::iter(parts).map(read).buffered(at_once);
        while let Some(rows) = reads.try_next().await? {
            match rows {
                Some(rows) => all.extend(rows),
                None => return Ok(false),
            }
        }
        drop(reads);
        for rows in all {
            self.bytes_read += rows.bytes();
            self.push(Held::Bytes(rows));
        }
        Ok(true)
    }

    fn push(&mut self, held: Held) {
        self.starts.push(self.starts[self.starts.len() - 1] + held.len());
        self.held.push(held);
    }

    fn of_length(self, n: usize) -> Result<PackedRows> {
        let got = self.starts[self.starts.len() - 1];
        if got != n {
            return Err(Error::corrupt(format!("{got} rows of column {}, not {n}", self.column)));
        }
        Ok(self)
    }

    /// Adds the rows of a batch: all, or those whose numbers are wanted.
    fn keep<N: Iterator<Item = u64>, W: Iterator<Item = u64>>(
        &mut self,
        batch: &RecordBatch,
        choice: Option<(&mut N, &mut Peekable<W>)>,
    ) -> Result<()> {
        let array = packed_column(batch, &self.column)?;
        let offsets = array.value_offsets();
        self.bytes_read += (offsets[array.len()] - offsets[0]) as u64;
        let array = match choice {
            None => array.clone(),
            Some((numbers, wanted)) => {
                let rows = (0..array.len() as u32).zip(numbers);
                let places: Vec<u32> = rows.filter(|(_, n)| wanted.next_if_eq(n).is_some()).map(|(i, _)| i).collect();
                let kept = take(array, &UInt32Array::from(places), None).map_err(from_arrow)?;
                kept.as_binary::<i32>().clone()
            }
        };
        self.push(Held::Array(array));
        Ok(())
    }

    /// How many rows the selection has.
    pub(crate) fn len(&self) -> usize {
        self.order.as_ref().map_or(self.starts[self.starts.len() - 1], Vec::len)
    }

    /// A row of the selection.
    pub(crate) fn row(&self, i: usize) -> Result<Row<'_>> {
        let i = self.order.as_ref().map_or(i, |o| o[i] as usize);
        let part = self.starts.partition_point(|&s| s <= i) - 1;
        let row = Row::parse(self.held[part].value(i - self.starts[part]));
        if let (Err(_), Some(doubt)) = (&row, &self.doubt) {
            doubt.forget();
        }
        row.at(format!("column {} row {i}", self.column))
    }
}

/// Some ranges of wanted rows, and the ranges to read for them.
#[derive(Debug)]
struct Part {
    wanted: Vec<Range<u64>>,
    reads: Vec<Range<u64>>,
}

/// Rising ranges as parts, gaps of up to `gap` rows filled. A part ends once it has `most` rows.
fn parts(ranges: &[Range<u64>], gap: u64, most: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut n = 0;
    for range in ranges.iter().filter(|r| !r.is_empty()) {
        if n >= most || parts.is_empty() {
            parts.push(Part { wanted: Vec::new(), reads: Vec::new() });
            n = 0;
        }
        let Some(part) = parts.last_mut() else { continue };
        part.wanted.push(range.clone());
        match part.reads.last_mut() {
            Some(last) if range.start <= last.end + gap => {
                n += range.end - last.end;
                last.end = range.end;
            }
            _ => {
                n += range.end - range.start;
                part.reads.push(range.clone());
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use slaf_lance::ranges_of;

    #[test]
    fn parts_have_all_rows_and_small_gaps() {
        let rows: Vec<u64> = (0..30_000).map(|i| i * 3 + (i / 1000) * 500).collect();
        for (gap, most) in [(0, 4096), (CELL_GAP, 4096), (CELL_GAP, 3)] {
            let parts = parts(&ranges_of(&rows), gap, most);
            assert!(parts.len() > 1);
            let wanted = parts.iter().flat_map(|p| p.wanted.iter().cloned().flatten());
            assert!(wanted.eq(rows.iter().copied()));
            for part in parts {
                assert!(part.reads.windows(2).all(|w| w[0].end + gap < w[1].start));
                let read: u64 = part.reads.iter().map(|r| r.end - r.start).sum();
                assert!(read <= most + gap + 1);
                let is_read = |row: u64| part.reads.iter().any(|r| r.contains(&row));
                assert!(part.wanted.iter().cloned().flatten().all(is_read));
            }
        }
    }

    #[test]
    fn runs_without_gaps_stay_whole() {
        let parts = parts(&[0..100_000, 100_000..100_000, 100_003..100_004], 2, 4096);
        assert_eq!(parts.iter().map(|p| p.reads.len()).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(parts[0].reads, [0..100_000]);
    }
}
