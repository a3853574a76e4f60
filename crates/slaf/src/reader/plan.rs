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
/// Values of such a part, about, at the most.
const PART_VALUES_BY_GENE: usize = 1 << 25;

impl Orientation {
    /// How many rows are read at once where `rows` are wanted, of so many columns of a matrix.
    pub(crate) fn part_rows(self, rows: usize, entry: &MatrixEntry, cols: &Selection) -> usize {
        match self {
            Orientation::ByCell => rows,
            Orientation::ByGene => {
                let per_row = (entry.nnz / entry.n_rows.max(1)).min(cols.len(entry.n_cols)).max(1);
                let most = PART_ROWS_BY_GENE.min(PART_VALUES_BY_GENE / per_row as usize);
                rows.max(most / rows.max(1) * rows)
            }
        }
    }
}

/// Whether whole genes of these rows are read from the gene-major rows, which are decoded for all
/// cells: not for few of them.
pub(crate) fn reads_genes(manifest: &Manifest, key: &MatrixKey, entry: &MatrixEntry, rows: &Selection) -> bool {
    const SHARE: u64 = 8;
    has_genes(manifest, key) && rows.len(entry.n_rows) >= entry.n_rows / SHARE
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
    match has_genes(manifest, key) {
        true => cheaper(entry, manifest.stripes.len(), rows, cols),
        false => Orientation::ByCell,
    }
}

/// Whether a matrix is held by gene, too.
fn has_genes(manifest: &Manifest, key: &MatrixKey) -> bool {
    *key == MatrixKey::X && manifest.tables.by_gene.is_some()
}

fn cheaper(entry: &MatrixEntry, stripes: usize, rows: &Selection, cols: &Selection) -> Orientation {
    // What a filter leaves out of the genes are the rare ones: most genes have nearly all values.
    if matches!(cols, Selection::All) || cols.len(entry.n_cols) > entry.n_cols / 2 {
        return Orientation::ByCell;
    }
    let (n_rows, n_cols) = (rows.len(entry.n_rows) as f64, cols.len(entry.n_cols) as f64);
    let per_row = entry.nnz as f64 / entry.n_rows.max(1) as f64;
    let per_gene = entry.nnz as f64 / entry.n_cols.max(1) as f64;
    let fetch = |lone: f64, n: f64| lone * LONE_ROW + (n - lone) * NEXT_ROW;
    let by_cell = fetch(runs(rows), n_rows) + n_rows * per_row * DECODE + n_rows * n_cols.min(per_row) * PLACE;
    let stripes = stripes as f64;
    let touched = n_cols * per_gene;
    let placed = touched * (n_rows / entry.n_rows.max(1) as f64).min(1.0);
    // Ranks are in another order than genes.
    let genes = match cols {
        Selection::Ids(_) => n_cols * stripes,
        _ => 1.0,
    };
    let by_gene = fetch(genes, n_cols * stripes) + touched * DECODE + placed * PLACE;
    if by_gene < by_cell { Orientation::ByGene } else { Orientation::ByCell }
}

/// Rows of a selection that do not follow the one before them.
fn runs(selection: &Selection) -> f64 {
    match selection {
        Selection::Ids(ids) => 1.0 + ids.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count() as f64,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::manifest::Slot;
    use slaf_core::Dtype;
    use slaf_ingest::MatrixEncoding;

    fn million() -> MatrixEntry {
        MatrixEntry {
            slot: Slot::X,
            name: String::new(),
            column: "x".into(),
            encoding: MatrixEncoding::Csr,
            dtype: Dtype::F32,
            n_rows: 1_000_000,
            n_cols: 20_000,
            nnz: 1_000_000_000,
            bytes: 0,
        }
    }

    #[test]
    fn most_cells_and_genes_come_from_the_cells() {
        let entry = million();
        let without = |n: u64, left_out: u64| Selection::Ids((0..n).filter(|i| i % left_out != 7).collect());
        let some = |n: u64, every: usize| Selection::Ids((0..n).step_by(every).collect());
        let cases = [
            (without(1_000_000, 100_000), without(20_000, 10_000), Orientation::ByCell),
            (Selection::All, without(20_000, 10_000), Orientation::ByCell),
            (Selection::All, without(20_000, 10), Orientation::ByCell),
            (Selection::All, Selection::All, Orientation::ByCell),
            (without(1_000_000, 100_000), some(20_000, 200), Orientation::ByGene),
            (Selection::All, Selection::Range(5..6), Orientation::ByGene),
            (some(1_000_000, 100_000), some(20_000, 10), Orientation::ByCell),
        ];
        for (i, (rows, cols, expected)) in cases.iter().enumerate() {
            assert_eq!(cheaper(&entry, 8, rows, cols), *expected, "{i}");
        }
    }

    #[test]
    fn parts_have_a_bounded_number_of_values() {
        let (entry, by_gene) = (million(), Orientation::ByGene);
        assert_eq!(Orientation::ByCell.part_rows(1024, &entry, &Selection::All), 1024);
        assert_eq!(by_gene.part_rows(1024, &entry, &Selection::Range(0..10)), PART_ROWS_BY_GENE);
        let rows = by_gene.part_rows(1024, &entry, &Selection::Range(0..2000));
        assert!(rows % 1024 == 0 && rows * 1000 <= PART_VALUES_BY_GENE && rows * 1100 > PART_VALUES_BY_GENE, "{rows}");
        assert_eq!(by_gene.part_rows(1 << 20, &entry, &Selection::All), 1 << 20);
    }
}
