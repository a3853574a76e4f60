//! Reading the gene-major rows: few genes over many cells.

use super::packed_rows::PackedRows;
use crate::selection::Selection;
use crate::store::manifest::Stripe;
use crate::store::{Snapshot, TableName};
use rayon::prelude::*;
use slaf_core::{CsrChunk, Result, Value};
use slaf_lance::runtime::in_pool;

/// Cells fewer than this share of a stripe are looked up; otherwise the row is decoded whole.
const LOOKUP_SHARE: u64 = 512;

/// A gene's values in the selected cells: places in `Cells::wanted`, rising.
type GeneColumn<T> = Vec<(u32, T)>;

impl Snapshot {
    pub(super) async fn read_by_gene<T: Value>(&self, rows: &Selection, cols: &Selection) -> Result<CsrChunk> {
        let genes: Vec<u64> = cols.iter(self.manifest.n_genes).collect();
        let cells = Cells::new(rows, self.manifest.n_cells);
        let packed = self.fetch_genes(&genes, &cells).await?;
        in_pool(|| Ok(cells.assemble(&packed.columns::<T>(&cells)?)))
    }

    /// Reads genes as rows.
    pub(super) async fn genes_of<T: Value>(&self, rows: &Selection, genes: &[u64]) -> Result<CsrChunk> {
        let cells = Cells::new(rows, self.manifest.n_cells);
        let packed = self.fetch_genes(genes, &cells).await?;
        in_pool(|| Ok(cells.side_by_side(packed.columns::<T>(&cells)?)))
    }

    async fn fetch_genes(&self, genes: &[u64], cells: &Cells) -> Result<PackedGenes<'_>> {
        let order = self.order().await?;
        let stripes: Vec<InStripe<'_>> = self.manifest.stripes.iter().filter_map(|s| cells.in_stripe(s)).collect();
        let table = self.table(TableName::ByGene).await?;
        let mut wanted = Vec::with_capacity(genes.len() * stripes.len());
        let mut places = Vec::with_capacity(genes.len() * stripes.len());
        for InStripe { stripe, .. } in &stripes {
            for &gene in genes {
                let rank = u64::from(order.rank_of[gene as usize]);
                let has_row = rank < stripe.n_genes;
                places.push(has_row.then_some(wanted.len()));
                wanted.extend(has_row.then_some(stripe.first_row + rank));
            }
        }
        // Rows of popular genes are long: none is read along.
        let wanted = Selection::Ids(wanted).resolve(table.rows());
        let rows = PackedRows::fetch(table, crate::store::schema::PACKED, wanted, 0).await?;
        Ok(PackedGenes { rows, places, stripes, n: genes.len() })
    }
}

/// The rows of some genes in the stripes of some cells, not decoded yet.
struct PackedGenes<'a> {
    rows: PackedRows,
    /// Where the row of each gene in each stripe is; genes that came later have none in older ones.
    places: Vec<Option<usize>>,
    stripes: Vec<InStripe<'a>>,
    n: usize,
}

impl PackedGenes<'_> {
    /// The values of each gene.
    fn columns<T: Value>(&self, cells: &Cells) -> Result<Vec<GeneColumn<T>>> {
        let column = |gene: usize| {
            let mut column = Vec::new();
            for (s, stripe) in self.stripes.iter().enumerate() {
                if let Some(place) = self.places[s * self.n + gene] {
                    cells.pick(&self.rows, place, stripe, &mut column)?;
                }
            }
            Ok(column)
        };
        (0..self.n).into_par_iter().map(column).collect()
    }
}

/// A stripe that has some of the selected cells.
struct InStripe<'a> {
    stripe: &'a Stripe,
    /// Of cells that lie apart the place of the first one, and all, counted from the first cell of the stripe.
    wanted: Option<(usize, Vec<u32>)>,
}

/// The selected cells, each once, rising; and where each comes in the selection.
struct Cells {
    /// `None` for `first..first + n`.
    ids: Option<Vec<u64>>,
    first: u64,
    n: u64,
    /// For each place of the selection its place in `ids`; `None` where they are the same.
    order: Option<Vec<u32>>,
}

impl Cells {
    fn new(rows: &Selection, n_cells: u64) -> Cells {
        match rows {
            Selection::All => Cells { ids: None, first: 0, n: n_cells, order: None },
            Selection::Range(r) => Cells { ids: None, first: r.start, n: rows.len(n_cells), order: None },
            Selection::Ids(_) => {
                let resolved = rows.resolve(n_cells);
                let ids: Vec<u64> = resolved.ranges.into_iter().flatten().collect();
                Cells { first: 0, n: ids.len() as u64, ids: Some(ids), order: resolved.order }
            }
        }
    }

    /// Those of a stripe; `None` if it has none of them.
    fn in_stripe<'a>(&self, stripe: &'a Stripe) -> Option<InStripe<'a>> {
        let end = stripe.first_cell + stripe.n_cells;
        let wanted = self.ids.as_ref().map(|ids| {
            let from = ids.partition_point(|&c| c < stripe.first_cell);
            let to = ids.partition_point(|&c| c < end);
            (from, ids[from..to].iter().map(|c| (c - stripe.first_cell) as u32).collect::<Vec<_>>())
        });
        let has_some = match &wanted {
            Some((_, wanted)) => !wanted.is_empty(),
            None => self.first < end && stripe.first_cell < self.first + self.n,
        };
        has_some.then_some(InStripe { stripe, wanted })
    }

    /// Adds the values of one packed row in the selected cells.
    fn pick<T: Value>(&self, packed: &PackedRows, i: usize, of: &InStripe<'_>, out: &mut GeneColumn<T>) -> Result<()> {
        let (row, InStripe { stripe, wanted }) = (packed.row(i)?, of);
        if let Some((from, wanted)) = wanted
            && (wanted.len() as u64) < stripe.n_cells / LOOKUP_SHARE
        {
            return row.lookup(wanted, |j, v| out.push(((from + j) as u32, v)));
        }
        let (mut offsets, mut values) = (vec![0; row.nnz()], vec![T::default(); row.nnz()]);
        row.decode(stripe.n_cells, &mut offsets, &mut values)?;
        match wanted {
            Some((from, wanted)) => {
                let mut next = 0;
                for (&cell, &value) in offsets.iter().zip(&values) {
                    while next < wanted.len() && wanted[next] < cell {
                        next += 1;
                    }
                    if next == wanted.len() {
                        break;
                    }
                    if wanted[next] == cell {
                        out.push(((from + next) as u32, value));
                    }
                }
            }
            None => {
                let (low, high) = (self.first, self.first + self.n);
                let cells = offsets.iter().map(|&o| stripe.first_cell + u64::from(o));
                out.extend(
                    cells.zip(&values).filter(|(c, _)| (low..high).contains(c)).map(|(c, &v)| ((c - low) as u32, v)),
                );
            }
        }
        Ok(())
    }

    /// The genes' columns one after the other, under places in the selection.
    fn side_by_side<T: Value>(&self, columns: Vec<GeneColumn<T>>) -> CsrChunk {
        let mut places_of: Vec<Vec<u32>> = Vec::new();
        if let Some(order) = &self.order {
            places_of.resize(self.n as usize, Vec::new());
            order.iter().zip(0..).for_each(|(&cell, place)| places_of[cell as usize].push(place));
        }
        let nnz = columns.iter().map(Vec::len).sum();
        let (mut indptr, mut indices, mut values) = (vec![0], Vec::with_capacity(nnz), Vec::with_capacity(nnz));
        for column in columns {
            if self.order.is_none() {
                indices.extend(column.iter().map(|(cell, _)| *cell));
                values.extend(column.iter().map(|(_, value)| *value));
            } else {
                for (cell, value) in column {
                    let places = &places_of[cell as usize];
                    indices.extend_from_slice(places);
                    values.extend(places.iter().map(|_| value));
                }
            }
            indptr.push(indices.len() as u64);
        }
        CsrChunk { indptr, indices, values: T::wrap(values) }
    }

    /// Transposes the genes' columns into rows in the order of the selection.
    fn assemble<T: Value>(&self, columns: &[GeneColumn<T>]) -> CsrChunk {
        let mut indptr = vec![0u64; self.n as usize + 1];
        for (cell, _) in columns.iter().flatten() {
            indptr[*cell as usize + 1] += 1;
        }
        for i in 1..indptr.len() {
            indptr[i] += indptr[i - 1];
        }
        let nnz = indptr[self.n as usize] as usize;
        let (mut indices, mut values) = (vec![0u32; nnz], vec![T::default(); nnz]);
        let mut at: Vec<u64> = indptr[..self.n as usize].to_vec();
        for (g, column) in columns.iter().enumerate() {
            for &(cell, value) in column {
                let to = at[cell as usize] as usize;
                at[cell as usize] += 1;
                (indices[to], values[to]) = (g as u32, value);
            }
        }
        let Some(order) = &self.order else {
            return CsrChunk { indptr, indices, values: T::wrap(values) };
        };
        let (mut new_indptr, mut new_indices, mut new_values) = (vec![0], Vec::new(), Vec::new());
        for &i in order {
            let row = indptr[i as usize] as usize..indptr[i as usize + 1] as usize;
            new_indices.extend_from_slice(&indices[row.clone()]);
            new_values.extend_from_slice(&values[row]);
            new_indptr.push(new_indices.len() as u64);
        }
        CsrChunk { indptr: new_indptr, indices: new_indices, values: T::wrap(new_values) }
    }
}
