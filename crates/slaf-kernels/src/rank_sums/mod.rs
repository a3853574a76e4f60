//! Rank sums of groups of cells, gene by gene: Wilcoxon's test (1945), which is that of Mann and
//! Whitney (1947), of every group at once.
//!
//! Of a gene the values other than zero are sorted once, and cells that have none are one tie, so
//! that a gene costs what it has of values, and the number of groups. Ranks are halves and are
//! added as integers; genes are ranked each by one thread. So the answer does not depend on the
//! number of threads.

mod by_cell;
mod by_gene;
mod comparison;
mod gene;
mod keys;

pub use by_cell::{rank_sums_by_cell, rank_sums_in_memory};
pub use by_gene::{GeneSource, RankSums, parts_of, rank_sums};
pub use comparison::{Against, Comparison};
