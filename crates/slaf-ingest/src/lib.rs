//! Readers of single-cell files: whatever the format, a checked stream of CSR chunks for the
//! matrices, and Arrow arrays for the annotations, in bounded memory.
//!
//! [`open`] looks at the content of a path and gives an [`Input`]. To add a format: implement
//! [`Input`], let `detect` recognise it by content, and add it to the table in the crate's tests.

#![warn(missing_docs, unreachable_pub)]

mod arrow_types;
mod chunk_builder;
mod detect;
mod fields;
mod folder;
mod h5;
mod h5_out;
mod h5ad;
mod h5ad_writer;
mod known;
mod loom;
mod measured;
mod model;
mod mtx;
mod number;
mod output;
mod parallel;
mod plain;
mod row_sorter;
mod rows;
pub mod temporary;
mod tenx_h5;
mod tenx_mtx_writer;
mod text;
mod text_columns;
mod union;
mod union_columns;
mod union_frames;
mod union_genes;
mod union_part;
mod union_slots;
mod union_uns;
mod unpacked;

pub use arrow_types::arrow_type;
pub use detect::{files_of, open};
pub use folder::h5ads_in;
pub use h5ad::kind_of_extra;
pub use h5ad_writer::{Compression, Element, H5adWriter, WriteOptions, check_name, join_extras, write_element};
pub use measured::{Measured, MeasuredSource};
pub use model::{
    ArrayInfo, ArrayKey, Axis, Column, ColumnInfo, ColumnKind, Description, Frame, FrameInfo, Input, Loss,
    MatrixEncoding, MatrixInfo, MatrixKey, OpenOptions, RowStream, StreamOptions,
};
pub use output::{output_path, store_around};
pub use plain::{frame_rows, open_text};
pub use row_sorter::RowSorter;
pub use rows::Rows;
pub use tenx_mtx_writer::{Feature, write_10x_mtx};
pub use union::{Appended, Union, UnionOptions, append, union};
pub use union_genes::{GeneMatch, Join};
pub use union_part::{PartColumn, PartInput, UnionPart};
pub use unpacked::is_packed_hdf5;
