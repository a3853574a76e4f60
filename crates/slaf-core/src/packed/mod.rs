//! The packed row: the nonzeros of one cell (or of one gene in a stripe of cells) as bytes.
//!
//! The byte layout is specified in `SPEC.md`, with a reference decoder in numpy. In short: a
//! header that says how values are held and how many there are, a table with one entry for each
//! block of 128 nonzeros (first column, bit widths), then the blocks. Columns are delta-coded;
//! columns and values are bit-packed, with the few that need more bits kept apart as patches
//! (PFOR: Zukowski et al., "Super-Scalar RAM-CPU Cache Compression", ICDE 2006). A block can be
//! found and decoded alone.
//!
//! Rows are lossless for every [`Value`]: NaN payloads, infinities and -0.0 included. Explicit
//! zeros are stored like any other value.
//!
//! A row ends with a checksum, which is compared before values are decoded. Version 1 of the layout
//! had none; its rows are read as ever.
//!
//! Decoding is safe on arbitrary bytes: it returns [`ErrorKind::Corrupt`](crate::ErrorKind) and
//! never allocates more than a fixed multiple of the input's length.

mod bits;
mod builder;
mod decode;
mod encode;
mod layout;

pub use builder::RowBuilder;
pub use decode::Row;
pub use encode::{encode_row, encode_row_into};
pub use layout::{BLOCK, VERSION};

use crate::{Result, Value};

/// Decodes a whole row, appending to `columns` and `values`.
///
/// Columns come in rising order.
///
/// # Errors
/// `corrupt` when the bytes are no packed row of this value type; nothing is appended then.
pub fn decode_row<T: Value>(bytes: &[u8], columns: &mut Vec<u32>, values: &mut Vec<T>) -> Result<()> {
    let row = Row::parse(bytes)?;
    let (c, v) = (columns.len(), values.len());
    columns.resize(c + row.nnz(), 0);
    values.resize(v + row.nnz(), T::default());
    let result = row.decode(1 << 32, &mut columns[c..], &mut values[v..]);
    if result.is_err() {
        columns.truncate(c);
        values.truncate(v);
    }
    result
}

#[cfg(test)]
mod tests;
