//! SLAF, the Sparse Lazy Array Format: one store, on disk or in the cloud, for single-cell data.
//!
//! A [`Dataset`] holds an annotated matrix of cells x genes with everything that AnnData holds.
//! [`convert`] makes one from h5ad, 10x, loom and text files; [`export`] writes one back.
//!
//! ```no_run
//! use slaf::{Dataset, MatrixKey, Selection};
//!
//! let pbmc = Dataset::open("pbmc.slaf")?;
//! let genes = pbmc.resolve_genes(&["CD3D", "MS4A1"])?;
//! let counts = pbmc.read(&MatrixKey::X, &Selection::Range(0..100), &Selection::Ids(genes))?;
//! assert_eq!(counts.n_rows(), 100);
//! let types = pbmc.query("SELECT cell_type, COUNT(*) FROM cells GROUP BY cell_type")?;
//! # Ok::<(), slaf::Error>(())
//! ```
//!
//! The calls block and may come from any thread but one of a tokio runtime. Errors are
//! [`Error`]s with a stable [`ErrorKind`].

#![warn(missing_docs, unreachable_pub)]

mod config;
mod convert;
mod dataset;
mod export;
pub mod grow;
mod info;
pub mod loader;
mod matrix;
mod memory;
mod missing;
mod progress;
mod query;
mod reader;
mod search;
mod search_lists;
mod selection;
mod size;
mod store;
mod tokenize;
mod trace;
mod triplets;
mod verify;

pub use config::query_memory;
pub use convert::{
    ConvertOptions, ConvertReport, Distributed, Durability, LEAST_MEMORY, Workers, convert, convert_part,
    convert_with_workers, serve,
};
pub use dataset::{CellStats, Dataset, DatasetOptions, GeneStatistics, GeneStats, IndexReport, Verify, VersionInfo};
pub use export::{ExportFormat, ExportOptions, export};
pub use info::Info;
pub use loader::{BatchData, EpochPart, Form, LoadedBatch, LoadedBatches, Loader, LoaderOptions, LoaderStats, Source};
pub use matrix::{Answer, Piece, Pieces, Question};
pub use missing::with_nulls;
pub use progress::{Progress, ProgressEvent};
pub use query::name_with_nul;
pub use query::{Cancel, Dialect, Parameter, ParameterType, Parameters, QueryOptions, QueryResult, UserTable};
pub use search::{SearchOptions, SearchQuery};
pub use selection::Selection;
pub use slaf_core::{
    CsrChunk, Dtype, Error, ErrorKind, Result, STACK, Value, Values, parse_bytes, with_dtype, with_values,
};
pub use slaf_ingest::{
    ArrayKey, Axis, ColumnInfo, ColumnKind, FrameInfo, Join, MatrixEncoding, MatrixKey, Measured, MeasuredSource,
    OpenOptions,
};
pub use slaf_lance::IoStats;
pub use slaf_lance::runtime::pool_threads as threads;
pub use store::manifest;

/// Products of columns and eigenvalues, of which principal components are made; see [`Dataset::gram`].
pub use slaf_kernels::linear;
/// Arithmetic and statistics of matrices; see [`Dataset::compute`] and [`Dataset::reduce`].
pub use slaf_kernels::matrix as plans;
/// Exact nearest neighbours of points, and their graph.
pub use slaf_kernels::neighbors;
/// Ranks of cells by their genes; see [`Dataset::rank_sums`].
pub use slaf_kernels::rank_sums;
/// Which cells a model sees, and in which order; see [`Loader`].
pub use slaf_kernels::sampling;
/// Tokenizers for foundation models; see [`Dataset::tokenize`].
pub use slaf_kernels::tokenizers;
pub use tokenize::Tokens;
pub use triplets::TripletOrder;
pub use verify::Damage;
