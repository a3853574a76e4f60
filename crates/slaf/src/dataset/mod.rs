//! The face of a store: what users call, over the modules that do it.

mod annotations;
mod handle;
mod index;
mod matrices;
mod measured;
mod queries;
mod search;

pub use annotations::{CellStats, GeneStats};
pub use handle::{Dataset, DatasetOptions, Verify, VersionInfo};
pub use index::IndexReport;
pub use measured::GeneStatistics;
