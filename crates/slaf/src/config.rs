//! Sizes that tests make tiny, to cross every boundary with little data.

/// The version of the Lance file format that tables are written in.
pub(crate) const LANCE_FILE_VERSION: &str = "2.2";

/// Batches that are decoded at once.
pub(crate) const READ_AHEAD: usize = 4;

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

/// Rows that are read or converted at once. `SLAF_BATCH_ROWS` overrides it.
pub(crate) fn batch_rows() -> usize {
    from_env("SLAF_BATCH_ROWS", 4096)
}
