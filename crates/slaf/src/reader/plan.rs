//! Which orientation answers a selection with less work.

use crate::selection::Selection;
use crate::store::manifest::{Manifest, MatrixEntry};
use slaf_ingest::MatrixKey;

/// The two ways in which X is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orientation {
    ByCell,
    ByGene,
}

/// Microseconds to fetch a row that stands alone, and one in a run of neighbours.
const LONE_ROW: f64 = 7.0;
const NEXT_ROW: f64 = 1.0;
/// Microseconds to decode a stored value, and to put one in its place.
const DECODE: f64 = 0.001;
const PLACE: f64 = 0.003;

/// Rows of a part that comes from few gene-major rows, which are decoded once for every part.
const PART_ROWS_BY_GENE: usize = 1 << 18;

impl Orientation {
    /// How many rows are read at once where `rows` are wanted.
    pub(crate) fn part_rows(self, rows: usize) -> usize {
        match self {
            Orientation::ByCell => rows,
            Orientation::ByGene => rows.max(PART_ROWS_BY_GENE / rows.max(1) * rows),
        }
    }
}

/// Whether whole genes of these rows are read from the gene-major rows, which are decoded for all
/// cells: not for few of them.
pub(crate) fn reads_genes(manifest: &Manifest, key: &MatrixKey, entry: &MatrixEntry, rows: &Selection) -> bool {
    const SHARE: u64 = 8;
    *key == MatrixKey::X && manifest.tables.by_gene.is_some() && rows.len(entry.n_rows) >= entry.n_rows / SHARE
}

/// Estimates both ways. Genes are taken to be of average popularity, so that gene-major reading
/// is not chosen on a lucky guess.
pub(crate) fn choose(
    manifest: &Manifest,
    key: &MatrixKey,
    entry: &MatrixEntry,
    rows: &Selection,
    cols: &Selection,
) -> Orientation {
    if *key != MatrixKey::X || manifest.tables.by_gene.is_none() || matches!(cols, Selection::All) {
        return Orientation::ByCell;
    }
    let (n_rows, n_cols) = (rows.len(entry.n_rows) as f64, cols.len(entry.n_cols) as f64);
    let per_row = entry.nnz as f64 / entry.n_rows.max(1) as f64;
    let per_gene = entry.nnz as f64 / entry.n_cols.max(1) as f64;
    let fetch = |selection: &Selection, n: f64| match selection {
        Selection::Ids(_) => n * LONE_ROW,
        _ => LONE_ROW + n * NEXT_ROW,
    };
    let by_cell = fetch(rows, n_rows) + n_rows * per_row * DECODE + n_rows * n_cols.min(per_row) * PLACE;
    let stripes = manifest.stripes.len() as f64;
    let touched = n_cols * per_gene;
    let placed = touched * (n_rows / entry.n_rows.max(1) as f64).min(1.0);
    let by_gene = fetch(cols, n_cols * stripes) + touched * DECODE + placed * PLACE;
    if by_gene < by_cell { Orientation::ByGene } else { Orientation::ByCell }
}
