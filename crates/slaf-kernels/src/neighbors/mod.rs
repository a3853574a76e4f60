//! Nearest neighbours, and graphs of them.
//!
//! [`all_nearest`] finds for each of some points the others that are nearest to it. Points are put
//! into clusters; whole clusters that cannot hold a neighbour are left out by two bounds, and of the
//! others distances come from products of blocks in float32, which decide only what is certain: what
//! could be a neighbour is measured in float64, from the values as they were given. The result is
//! what comparing every pair in float64 gives, ties by row number, with any number of threads. Where
//! bounds leave out too little, [`Effort`] allows to find most of them instead, and their recall.
//!
//! [`FlatScan`] compares points that come in blocks with some queries, in the same way. [`Lists`] are
//! points in lists around centres: a [`Walk`] tells which lists can hold what is nearest to a query.
//!
//! [`umap_connectivities`] makes the graph of UMAP of them.

mod blocks;
mod clusters;
mod exact;
mod flat;
mod graph;
mod lists;
mod lists_first;
mod search;

pub use blocks::Report;
pub use exact::{Metric, Real};
pub use flat::{FlatScan, Hits, LARGEST, Measure, Numbers, Portion, Targets};
pub use graph::{Graph, umap_connectivities};
pub use lists::{Lists, ListsBuilder, Walk};
pub use search::{Effort, Nearest, all_nearest, nearest};
