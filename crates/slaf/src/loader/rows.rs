//! Packed rows that lie apart, in one piece of memory.

use crate::config;
use crate::reader::packed_column;
use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::packed::Row;
use slaf_core::{Context, Error, Result};
use slaf_lance::Table;
use std::ops::Range;

/// Rows between wanted ones that are read along rather than begin a new range: a range costs about
/// as much as this many rows. They are not kept.
const GAP: u64 = 8;
/// Parts of a read that are under way at once.
const READS: usize = 4;

/// Rows in the order in which they were asked for.
pub(super) struct PackedRows {
    bytes: Vec<u8>,
    /// The start of each row that was read, and the end of the last.
    offsets: Vec<usize>,
    /// For each row asked for, its place among those.
    places: Vec<u32>,
    column: String,
    /// Bytes of all rows that were read, unwanted ones included.
    pub(super) bytes_read: u64,
}

impl PackedRows {
    /// Reads rows in any order, with repeats.
    pub(super) async fn fetch(table: &Table, column: &str, wanted: &[u64]) -> Result<PackedRows> {
        let (sorted, places) = sorted(wanted);
        let mut rows =
            PackedRows { bytes: Vec::new(), offsets: vec![0], places, column: column.to_string(), bytes_read: 0 };
        let columns = [column];
        let mut parts = stream::iter(parts(&sorted))
            .map(|(at, ranges)| async move {
                Ok::<_, Error>((at, table.read(&columns, &ranges, config::batch_rows()).await?, ranges))
            })
            .buffered(READS);
        while let Some((at, batches, ranges)) = parts.try_next().await? {
            rows.keep(&sorted[at], &ranges, &batches)?;
        }
        Ok(rows)
    }

    /// Copies the wanted rows of a part.
    fn keep(&mut self, wanted: &[u64], ranges: &[Range<u64>], batches: &[RecordBatch]) -> Result<()> {
        let mut wanted = wanted.iter().peekable();
        let mut numbers = ranges.iter().cloned().flatten();
        for batch in batches {
            for (row, number) in packed_column(batch, &self.column)?.iter().flatten().zip(&mut numbers) {
                self.bytes_read += row.len() as u64;
                if wanted.next_if(|w| **w == number).is_some() {
                    self.bytes.extend_from_slice(row);
                    self.offsets.push(self.bytes.len());
                }
            }
        }
        match wanted.next() {
            None => Ok(()),
            Some(row) => Err(Error::corrupt(format!("row {row} of column {} is missing", self.column))),
        }
    }

    /// The row that was asked for at a place.
    pub(super) fn row(&self, place: usize) -> Result<Row<'_>> {
        let i = self.places[place] as usize;
        Row::parse(&self.bytes[self.offsets[i]..self.offsets[i + 1]]).at(format!("column {}", self.column))
    }
}

/// The different rows, rising, and the place of each among them.
fn sorted(wanted: &[u64]) -> (Vec<u64>, Vec<u32>) {
    let mut pairs: Vec<(u64, u32)> = wanted.iter().copied().zip(0..).collect();
    pairs.sort_unstable();
    let (mut rows, mut places) = (Vec::with_capacity(wanted.len()), vec![0; wanted.len()]);
    for (row, i) in pairs {
        if rows.last() != Some(&row) {
            rows.push(row);
        }
        places[i as usize] = rows.len() as u32 - 1;
    }
    (rows, places)
}

/// Rising rows as parts of a bounded number of rows, gaps included: where the part lies in `rows`,
/// and the ranges to read.
fn parts(rows: &[u64]) -> Vec<(Range<usize>, Vec<Range<u64>>)> {
    let most = config::batch_rows() as u64;
    let mut parts: Vec<(Range<usize>, Vec<Range<u64>>)> = Vec::new();
    let mut n = 0;
    for (i, &row) in rows.iter().enumerate() {
        if let Some((at, ranges)) = parts.last_mut().filter(|_| n < most)
            && let Some(last) = ranges.last_mut()
        {
            at.end = i + 1;
            if row <= last.end + GAP {
                n += row + 1 - last.end;
                last.end = row + 1;
            } else {
                n += 1;
                ranges.push(row..row + 1);
            }
            continue;
        }
        n = 1;
        parts.push((i..i + 1, vec![row..row + 1]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_again() {
        let wanted = [7, 3, 4, 7, 100, 9, 0, 101, 9];
        let (rows, places) = sorted(&wanted);
        assert!(rows.is_sorted_by(|a, b| a < b));
        let found: Vec<u64> = places.into_iter().map(|p| rows[p as usize]).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn parts_have_all_rows_and_small_gaps() {
        let rows: Vec<u64> = (0..30_000).map(|i| i * 3 + (i / 1000) * 500).collect();
        let parts = parts(&rows);
        assert!(parts.len() > 1);
        assert_eq!(parts.iter().flat_map(|p| p.0.clone()).collect::<Vec<_>>(), (0..30_000).collect::<Vec<_>>());
        for (at, ranges) in parts {
            assert!(ranges.windows(2).all(|w| w[0].end + GAP < w[1].start));
            assert!(rows[at].iter().all(|row| ranges.iter().any(|r| r.contains(row))));
            let read: u64 = ranges.iter().map(|r| r.end - r.start).sum();
            assert!(read <= config::batch_rows() as u64 + GAP + 1);
        }
    }
}
