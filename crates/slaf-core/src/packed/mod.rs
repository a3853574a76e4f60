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

pub use builder::RowBuilder;
pub use decode::Row;
pub use encode::{encode_row, encode_row_into};

use crate::{Result, Value};

/// The version of the layout, the first byte of every row.
pub const VERSION: u8 = 2;

/// The version of rows without a checksum.
const UNCHECKED: u8 = 1;

/// Bytes of the checksum at the end of a row.
const CHECKSUM: usize = 4;

/// CRC-32 (that of zlib) of a row without its last four bytes.
fn checksum(row: &[u8]) -> u32 {
    crc32fast::hash(row)
}

/// Nonzeros in a full block.
pub const BLOCK: usize = 128;

/// How the values of a row are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Integers of 0..2^32, bit-packed: counts, whatever the matrix's value type is.
    Count = 0,
    /// Signed integers, zigzag-coded into 0..2^32, bit-packed.
    ZigZag = 1,
    /// Bit-packed positions in a dictionary of f32 in the header.
    Dict32 = 2,
    /// Bit-packed positions in a dictionary of f64 in the header.
    Dict64 = 3,
    /// Raw little-endian values.
    F32 = 4,
    F64 = 5,
    I64 = 6,
    U64 = 7,
}

impl Kind {
    fn from_byte(b: u8) -> Option<Kind> {
        use Kind::*;
        [Count, ZigZag, Dict32, Dict64, F32, F64, I64, U64].get(b as usize).copied()
    }

    /// Bytes of one raw value; 0 where values are bit-packed.
    fn raw_size(self) -> usize {
        match self {
            Kind::Count | Kind::ZigZag | Kind::Dict32 | Kind::Dict64 => 0,
            Kind::F32 => 4,
            Kind::F64 | Kind::I64 | Kind::U64 => 8,
        }
    }

    /// Bytes of one dictionary entry; 0 where there is no dictionary.
    fn dict_size(self) -> usize {
        match self {
            Kind::Dict32 => 4,
            Kind::Dict64 => 8,
            _ => 0,
        }
    }
}

/// An entry of the block table.
#[derive(Clone, Copy, Debug)]
struct Block {
    first: u32,
    /// Bits per gap.
    gap_width: u8,
    /// Bits per value, with [`MINUS_ONE`] set where the packed numbers are the values less one.
    value_code: u8,
    gap_patches: u8,
    value_patches: u8,
}

/// Bytes of a table entry besides the first column.
const ENTRY: usize = 4;

/// Flag of [`Block::value_code`].
const MINUS_ONE: u8 = 0x40;

/// The largest patch adds 8 bits above the block's width.
const PATCH_BITS: u32 = 8;

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
