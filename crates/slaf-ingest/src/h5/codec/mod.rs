//! Decoders of compressed chunks. None of them gives more bytes than it is asked for.

mod blosc;
mod filters;

pub(super) use blosc::blosc;
pub(super) use filters::{
    checked, crc32c, damaged_chunk, gunzip, inflate, inflate_raw, lz4_blocks, lz4_sized, lzf, unshuffle, unzlib, zstd,
};
