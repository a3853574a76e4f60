//! Sizes that tests make tiny, to cross every boundary with little data, and budgets of memory.

use slaf_core::{Result, bytes_from_env};

fn from_env(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).filter(|&n| n > 0).unwrap_or(otherwise)
}

/// Rows of a fragment (a data file) of a table; cells of a stripe are not more than this either
/// when it is set. `SLAF_FRAGMENT_ROWS` overrides it.
pub(crate) fn fragment_rows() -> usize {
    from_env("SLAF_FRAGMENT_ROWS", 1 << 19)
}

/// The most cells of a stripe of `by_gene`.
pub(crate) fn stripe_cells() -> u64 {
    from_env("SLAF_FRAGMENT_ROWS", 1 << 30) as u64
}

/// The most cells of a part of a distributed conversion. `SLAF_PART_CELLS` overrides it.
pub(crate) fn part_cells() -> u64 {
    from_env("SLAF_PART_CELLS", usize::MAX) as u64
}

/// Rows that are read or converted at once. `SLAF_BATCH_ROWS` overrides it.
pub(crate) fn batch_rows() -> usize {
    from_env("SLAF_BATCH_ROWS", 4096)
}

/// Rows of an array that a search compares at once. `SLAF_BATCH_ROWS` overrides it.
pub(crate) fn search_rows() -> usize {
    from_env("SLAF_BATCH_ROWS", 1 << 18)
}

/// Rows below which an array has no index unless it is asked for by name. `SLAF_INDEXED_ROWS` overrides it.
pub(crate) fn indexed_rows() -> u64 {
    from_env("SLAF_INDEXED_ROWS", 100_000) as u64
}

/// Rows of a list of an index, about. `SLAF_LIST_ROWS` overrides it.
pub(crate) fn list_rows() -> usize {
    from_env("SLAF_LIST_ROWS", 256)
}

/// The most rows whose packed form a loader reads at once. `SLAF_BATCH_ROWS` overrides it.
pub(crate) fn loader_rows() -> usize {
    from_env("SLAF_BATCH_ROWS", 1 << 17)
}

/// Values of genes that a thread ranks at a time. `SLAF_PART_VALUES` overrides it.
pub(crate) fn part_values() -> u64 {
    from_env("SLAF_PART_VALUES", 1 << 20) as u64
}

/// The most cells whose names need no index: all are read in little more time. `SLAF_FEW_NAMES`
/// overrides it.
pub(crate) fn few_names() -> u64 {
    from_env("SLAF_FEW_NAMES", 50_000) as u64
}

/// Whether queries choose what they read by their filters and joins, and group while they decode.
/// `SLAF_PUSHDOWN=off` makes DataFusion do it all, to compare the answers.
pub(crate) fn pushdown() -> bool {
    std::env::var_os("SLAF_PUSHDOWN").is_none_or(|v| v != "off")
}

const QUERY_MEMORY: (&str, u64) = ("SLAF_QUERY_MEMORY", 4 << 30);
const KEPT_MEMORY: (&str, u64) = ("SLAF_KEPT_MEMORY", 1 << 30);

/// Refuses budgets of the environment that are none: who sets one would get the default without a word.
///
/// # Errors
/// `invalid-argument` that names the variable.
pub(crate) fn check_budgets() -> Result<()> {
    [QUERY_MEMORY, KEPT_MEMORY].iter().try_for_each(|(name, default)| bytes_from_env(name, *default).map(drop))
}

/// A budget, at least a byte.
fn budget((name, default): (&str, u64)) -> usize {
    let bytes = bytes_from_env(name, default).unwrap_or(default);
    usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
}

/// Bytes that the queries of a handle may hold together before they spill or stop.
/// `SLAF_QUERY_MEMORY` overrides it.
pub fn query_memory() -> usize {
    budget(QUERY_MEMORY)
}

/// Bytes of names, orders of genes and whole columns that a handle keeps. `SLAF_KEPT_MEMORY`
/// overrides it.
pub(crate) fn kept_memory() -> usize {
    budget(KEPT_MEMORY)
}
