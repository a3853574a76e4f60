//! Which genes were measured in which cells, and what follows from it: a gene that was not is no zero.

use super::handle::Dataset;
use crate::progress::Progress;
use crate::query;
use crate::selection::Selection;
use crate::triplets;
use arrow::array::{ArrayRef, Float64Array, Int64Array, Int64Builder, ListBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use slaf_core::{Context, Error, Result, Value, with_values};
use slaf_ingest::{Axis, MatrixKey, Measured};
use slaf_kernels::matrix::{Columns, Detail, Plan, Request};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::block_on;
use std::borrow::Cow;
use std::sync::Arc;

/// Statistics of genes over cells: all, or those in which each gene was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneStatistics {
    /// How many cells that is.
    pub n_cells: Vec<u64>,
    /// Cells in which the value is not zero.
    pub n_expressing: Vec<u64>,
    /// The sum of the values.
    pub total: Vec<f64>,
    /// Their mean; NaN of no cell.
    pub mean: Vec<f64>,
    /// Their variance with one degree of freedom less; NaN of fewer than two cells.
    pub variance: Vec<f64>,
}

impl GeneStatistics {
    /// As a table, with the names and numbers of the genes; what is NaN of too few cells is null.
    ///
    /// # Errors
    /// `out-of-range`, `corrupt`.
    pub fn batch(&self, dataset: &Dataset, genes: &Selection) -> Result<RecordBatch> {
        let whole =
            |numbers: &[u64]| -> ArrayRef { Arc::new(Int64Array::from_iter_values(numbers.iter().map(|&n| n as i64))) };
        let of_cells = |numbers: &[f64], least: u64| -> ArrayRef {
            let there = numbers.iter().zip(&self.n_cells).map(|(x, &n)| (n >= least).then_some(*x));
            Arc::new(there.collect::<Float64Array>())
        };
        let numbers: Vec<u64> = genes.iter(dataset.n_genes()).collect();
        let columns: [(&str, ArrayRef); 7] = [
            ("gene_id", dataset.names(Axis::Genes, genes)?),
            ("gene_integer_id", whole(&numbers)),
            ("n_cells", whole(&self.n_cells)),
            ("n_expressing", whole(&self.n_expressing)),
            ("total", of_cells(&self.total, 0)),
            ("mean", of_cells(&self.mean, 1)),
            ("variance", of_cells(&self.variance, 2)),
        ];
        RecordBatch::try_from_iter(columns).map_err(from_arrow)
    }
}

impl Dataset {
    /// Which genes were measured in which cells: a gene that a source does not have is no zero in its
    /// cells, though it is stored as one. `None` where all were measured in all.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn measured(&self) -> Result<Option<&Measured>> {
        block_on(self.snapshot.measured())
    }

    /// As [`Dataset::measured`]; where all genes were measured in all cells, these are of one source.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn sources(&self) -> Result<Cow<'_, Measured>> {
        block_on(self.snapshot.sources())
    }

    /// The sources as a table: `source_id`, `source` (null where nobody named it), `first_cell`,
    /// `n_cells`, and `n_genes`, the number of genes that it measured.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn source_table(&self) -> Result<RecordBatch> {
        query::sources_batch(&*self.sources()?)
    }

    /// A row for each of some genes: `gene_id`, `gene_integer_id`, `n_cells`, the number of cells in which
    /// it was measured, and `source_ids`, the sources that measured it.
    ///
    /// # Errors
    /// `out-of-range`, `corrupt`.
    pub fn measured_table(&self, genes: &Selection) -> Result<RecordBatch> {
        genes.check(self.n_genes(), "gene")?;
        let measured = self.sources()?;
        let names = self.names(Axis::Genes, genes)?;
        let n_cells = measured.cells_per_gene();
        let numbers: Vec<i64> = genes.iter(self.n_genes()).map(|gene| gene as i64).collect();
        let mut lists = ListBuilder::new(Int64Builder::new());
        for &gene in &numbers {
            for (id, source) in (0..).zip(measured.sources()) {
                if measured.genes(source).value(gene as usize) {
                    lists.values().append_value(id);
                }
            }
            lists.append(true);
        }
        let counts: Int64Array = numbers.iter().map(|&gene| Some(n_cells[gene as usize] as i64)).collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("gene_id", names),
            ("gene_integer_id", Arc::new(Int64Array::from(numbers))),
            ("n_cells", Arc::new(counts)),
            ("source_ids", Arc::new(lists.finish())),
        ];
        RecordBatch::try_from_iter(columns).map_err(from_arrow)
    }

    /// For some cells, row by row, whether each of some genes was measured there.
    ///
    /// # Errors
    /// `out-of-range`, `corrupt`.
    pub fn measured_mask(&self, cells: &Selection, genes: &Selection) -> Result<Vec<bool>> {
        let (n_cells, n_genes) = (self.n_cells(), self.n_genes());
        cells.check(n_cells, "cell")?;
        genes.check(n_genes, "gene")?;
        let width = genes.len(n_genes) as usize;
        let size = usize::try_from(cells.len(n_cells)).ok().and_then(|n| n.checked_mul(width));
        let size = size.filter(|size| isize::try_from(*size).is_ok());
        let size = size.ok_or_else(|| Error::invalid("a mask of more than 2^63 values: ask for fewer cells"))?;
        let Some(measured) = self.measured()? else { return Ok(vec![true; size]) };
        let of_set = |set: &BooleanBuffer| genes.iter(n_genes).map(|gene| set.value(gene as usize)).collect();
        let rows: Vec<Vec<bool>> = measured.sets().iter().map(of_set).collect();
        let mut mask = Vec::with_capacity(size);
        measured.sets_of(cells.iter(n_cells)).into_iter().for_each(|set| mask.extend_from_slice(&rows[set]));
        Ok(mask)
    }

    /// What was measured of some cells and genes, in their order; `None` where all were in all of the store.
    ///
    /// # Errors
    /// `out-of-range`, `corrupt`.
    pub fn measured_of(&self, cells: &Selection, genes: &Selection) -> Result<Option<Measured>> {
        cells.check(self.n_cells(), "cell")?;
        genes.check(self.n_genes(), "gene")?;
        let numbers: Vec<u64> = genes.iter(self.n_genes()).collect();
        Ok(self.measured()?.map(|all| all.of_cells(cells.iter(self.n_cells())).of_genes(&numbers)))
    }

    /// The values of X of some genes in all cells in which they were measured, zeros among them: as
    /// [`Dataset::triplets`], gene by gene in the order of the selection, within a gene cells rise.
    ///
    /// # Errors
    /// Those of [`Dataset::triplets`].
    pub fn values_where_measured(&self, genes: &Selection) -> Result<RecordBatch> {
        block_on(triplets::read_measured(&self.snapshot, genes)).at(MatrixKey::X)
    }

    /// Statistics of some genes of X or of a layer: over all cells, where genes that were not measured
    /// are zeros, or with `measured` over the cells in which each gene was measured.
    ///
    /// # Errors
    /// Those of [`Dataset::reduce`].
    pub fn gene_statistics(
        &self,
        key: &MatrixKey,
        genes: &Selection,
        measured: bool,
        progress: Progress<'_>,
    ) -> Result<GeneStatistics> {
        if !matches!(key, MatrixKey::X | MatrixKey::Layer(_)) {
            return Err(Error::invalid("statistics of genes are those of X or of a layer").at(key));
        }
        let n = self.n_genes();
        genes.check(n, "gene")?;
        let measured = self.measured()?.filter(|_| measured);
        let n_cells: Vec<u64> = match measured {
            Some(measured) => {
                let all = measured.cells_per_gene();
                genes.iter(n).map(|gene| all[gene as usize]).collect()
            }
            None => vec![self.n_cells(); genes.len(n) as usize],
        };
        // X has no values that were not measured; a layer that was added may have some.
        let parts = match measured.filter(|_| *key != MatrixKey::X) {
            Some(measured) => parts_of(measured, &genes.iter(n).collect::<Vec<_>>()),
            None => vec![GenesOfCells { cells: Selection::All, genes: genes.clone(), places: None }],
        };
        let sums = self.sums_of(key, &parts, n_cells.len(), None, progress)?;
        let mean: Vec<f64> = sums.total.iter().zip(&n_cells).map(|(total, &n)| total / n as f64).collect();
        // About the mean, so that nothing cancels.
        let centres: Vec<f64> = mean.iter().map(|mean| if mean.is_finite() { *mean } else { 0.0 }).collect();
        let squares = self.sums_of(key, &parts, n_cells.len(), Some(&centres), progress)?;
        let variance = |i: usize| {
            let zeros = n_cells[i] as f64 - squares.nonzero[i] as f64;
            let square = squares.square[i] + zeros * centres[i] * centres[i];
            if n_cells[i] < 2 || !mean[i].is_finite() { f64::NAN } else { square / (n_cells[i] - 1) as f64 }
        };
        Ok(GeneStatistics {
            variance: (0..mean.len()).map(variance).collect(),
            n_expressing: sums.nonzero,
            n_cells,
            total: sums.total,
            mean,
        })
    }

    /// Adds up the values of `n` genes, part by part: their squares about `centres`, or else the values.
    fn sums_of(
        &self,
        key: &MatrixKey,
        parts: &[GenesOfCells],
        n: usize,
        centres: Option<&[f64]>,
        progress: Progress<'_>,
    ) -> Result<Sums> {
        let mut sums = Sums { nonzero: vec![0; n], total: vec![0.0; n], square: vec![0.0; n] };
        for GenesOfCells { cells, genes, places } in parts {
            let place = |i: usize| places.as_ref().map_or(i, |places| places[i]);
            let detail = if centres.is_some() { Detail::Squares } else { Detail::Sums };
            let centres = centres.map(|all| (0..genes.len(self.n_genes()) as usize).map(|i| all[place(i)]).collect());
            let columns = Some(Columns { centres, ..Columns::default() });
            let request = Request { columns, detail, ..Request::default() };
            let found = self.reduce(key, cells, genes, &Plan::default(), &request, progress)?.columns;
            found.nonzero.iter().enumerate().for_each(|(i, &x)| sums.nonzero[place(i)] += u64::from(x));
            if detail == Detail::Squares {
                found.square.iter().enumerate().for_each(|(i, x)| sums.square[place(i)] += x);
                continue;
            }
            let total = found.sum.ok_or_else(|| Error::invalid("a sum overflows 64 bits").at(key))?;
            with_values!(&total, v => v.iter().enumerate().for_each(|(i, x)| sums.total[place(i)] += x.as_f64()));
        }
        Ok(sums)
    }
}

/// Genes that were measured in some cells.
struct GenesOfCells {
    cells: Selection,
    genes: Selection,
    /// The place of each among the genes that are asked for; `None` where they are these.
    places: Option<Vec<usize>>,
}

/// Those of each set of genes.
fn parts_of(measured: &Measured, genes: &[u64]) -> Vec<GenesOfCells> {
    let of_set = |(set, bits): (usize, &BooleanBuffer)| {
        let sources = measured.sources().iter().filter(|s| s.set == set);
        let places: Vec<usize> = (0..genes.len()).filter(|&i| bits.value(genes[i] as usize)).collect();
        GenesOfCells {
            cells: Selection::Ids(sources.flat_map(|s| s.cells()).collect()),
            genes: Selection::Ids(places.iter().map(|&i| genes[i]).collect()),
            places: Some(places),
        }
    };
    measured
        .sets()
        .iter()
        .enumerate()
        .map(of_set)
        .filter(|part| part.places.as_ref().is_some_and(|p| !p.is_empty()))
        .collect()
}

/// What is added up for each gene.
struct Sums {
    nonzero: Vec<u64>,
    total: Vec<f64>,
    square: Vec<f64>,
}
