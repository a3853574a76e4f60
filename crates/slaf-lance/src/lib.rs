//! The Lance tables and the files of a store: all of SLAF that touches Lance.
//!
//! Rust generates the code of an `async fn` where its future is first polled, so a crate that
//! awaits Lance compiles for minutes. This one boxes Lance's futures, and the crates above it
//! build in seconds. It is a part of the crate `slaf`, without a promise of its own.

#![warn(missing_docs, unreachable_pub)]

mod blocks;
mod byte_column;
mod byte_rows;
mod cached;
mod data_files;
mod disk_cache;
mod durable;
pub mod error;
mod file_heads;
mod first_touch;
mod foreign;
mod growth;
mod identity;
mod layer;
mod layers;
mod meter;
mod options;
mod parts;
pub mod runtime;
mod storage;
mod table;
mod trouble;
mod watch;

pub use blocks::{Doubt, Head, SMALL};
pub use byte_rows::ByteRows;
pub use file_heads::head_of_data_file;
pub use first_touch::FirstTouch;
pub use foreign::ForeignTable;
pub use growth::{Grown, Growth, WriteNames};
pub use identity::Identity;
pub use layer::{Layer, Operation, Request};
pub use meter::IoStats;
pub use parts::{PartWriter, WrittenFile, assemble};
pub use storage::{LayerGuard, Storage, add_layer, create_with_folders};
pub use table::{Explain, Table, TableEntry, TableWriter, ranges_of};
