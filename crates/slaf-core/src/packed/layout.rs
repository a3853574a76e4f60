//! What a row consists of.

/// The version of the layout, the first byte of every row.
pub const VERSION: u8 = 2;

/// The version of rows without a checksum.
pub(super) const UNCHECKED: u8 = 1;

/// Bytes of the checksum at the end of a row.
pub(super) const CHECKSUM: usize = 4;

/// CRC-32 (that of zlib) of a row without its last four bytes.
pub(super) fn checksum(row: &[u8]) -> u32 {
    crc32fast::hash(row)
}

/// Nonzeros in a full block.
pub const BLOCK: usize = 128;

/// How the values of a row are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
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
    pub(super) fn from_byte(b: u8) -> Option<Kind> {
        use Kind::*;
        [Count, ZigZag, Dict32, Dict64, F32, F64, I64, U64].get(b as usize).copied()
    }

    /// Bytes of one raw value; 0 where values are bit-packed.
    pub(super) fn raw_size(self) -> usize {
        match self {
            Kind::Count | Kind::ZigZag | Kind::Dict32 | Kind::Dict64 => 0,
            Kind::F32 => 4,
            Kind::F64 | Kind::I64 | Kind::U64 => 8,
        }
    }

    /// Bytes of one dictionary entry; 0 where there is no dictionary.
    pub(super) fn dict_size(self) -> usize {
        match self {
            Kind::Dict32 => 4,
            Kind::Dict64 => 8,
            _ => 0,
        }
    }
}

/// An entry of the block table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) first: u32,
    /// Bits per gap.
    pub(super) gap_width: u8,
    /// Bits per value, with [`MINUS_ONE`] set where the packed numbers are the values less one.
    pub(super) value_code: u8,
    pub(super) gap_patches: u8,
    pub(super) value_patches: u8,
}

/// Bytes of a table entry besides the first column.
pub(super) const ENTRY: usize = 4;

/// Flag of [`Block::value_code`].
pub(super) const MINUS_ONE: u8 = 0x40;

/// The largest patch adds 8 bits above the block's width.
pub(super) const PATCH_BITS: u32 = 8;
