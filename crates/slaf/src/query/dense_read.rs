//! Rows of packed values on their way into tallies: no chunk of values is ever made.

use super::dense_plan::Dense;
use super::side_groups::GroupOf;
use super::sides::Sides;
use super::view::View;
use crate::config;
use crate::reader::{CELL_GAP, Orientation, PackedRows};
use crate::selection::Selection;
use crate::store::{TableName, schema};
use slaf_core::order::GeneOrder;
use slaf_core::packed::Row;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::MatrixKey;
use slaf_kernels::grouped::{Ordered, Places, Tallies};
use std::ops::Range;
use std::sync::Arc;

/// Up to this many columns are looked up in a row in place of decoding it.
const LOOKUP: usize = 64;
/// Cells that are soon read.
const FEW_CELLS: u64 = 16;
/// Genes of one piece of work.
const GENES: usize = 64;
/// Bytes of gene-major rows that are read at once, about.
const BYTES: u64 = 16 << 20;
/// A row may be so many times longer than an average one.
const LONGEST: u64 = 32;
/// Values that a piece of work has for each place, at least: merging costs as much as a few.
const VALUES_A_PLACE: u64 = 8;
/// The most places of a piece whose rows have groups of their own.
const PLACES: usize = 1 << 20;
/// The most places of a piece of genes.
const GENE_PLACES: usize = 1 << 21;
/// Places of pieces that are in work at once, about.
const PLACES_IN_WORK: usize = 1 << 24;
/// Gene-major rows are decoded whole: it takes this share of the cells to make that worth while.
const SHARE: u64 = 2;

/// How places of pieces are numbered, and what becomes of the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Groups of cells x groups of genes; pieces are added.
    Merged,
    /// Cells of the piece x groups of genes.
    OwnCells,
    /// Genes of the piece x groups of cells.
    OwnGenes,
}

/// What all pieces of work share.
pub(super) struct Reading {
    view: Arc<View>,
    dense: Arc<Dense>,
    sides: Arc<Sides>,
    pub(super) layout: Layout,
    orientation: Orientation,
    /// The selected genes by rank, and their places in the selection.
    genes: Vec<(u32, u32)>,
    /// For each number in a row, of a gene or of a cell, its place; `None` if all are one.
    table: Option<Vec<u32>>,
    /// The table names every number as itself.
    is_own: bool,
    /// The table leaves none out.
    is_whole: bool,
    n_row_groups: usize,
    n_col_groups: usize,
}

impl Reading {
    /// `None` where few genes are read gene by gene and each cell is a group.
    pub(super) async fn new(view: &Arc<View>, dense: &Arc<Dense>, sides: &Arc<Sides>) -> Result<Option<Reading>> {
        let (n_rows, n_cols) = view.shape();
        let chosen = &sides.chosen;
        let (own_rows, own_cols) = (is_own(&sides.rows.group_of), is_own(&sides.cols.group_of));
        let inner = &view.inner;
        let by_gene = view.keys[..] == [MatrixKey::X] && inner.manifest.tables.by_gene.is_some() && !own_rows;
        let grouped_cols = !matches!(sides.cols.group_of, GroupOf::One);
        let (n_row_groups, n_col_groups) = (sides.rows.len(0), sides.n_col_groups);
        let fits = n_row_groups.saturating_mul(GENES) <= GENE_PLACES;
        let many = grouped_cols && chosen.rows.len(n_rows) * SHARE >= n_rows && fits;
        let orientation = if by_gene && many { Orientation::ByGene } else { chosen.orientation };
        if orientation == Orientation::ByGene && !by_gene {
            return Ok(None);
        }
        let layout = match orientation {
            _ if own_rows => Layout::OwnCells,
            Orientation::ByGene if own_cols => Layout::OwnGenes,
            _ => Layout::Merged,
        };
        let order = match view.keys[0] {
            MatrixKey::X | MatrixKey::Layer(_) => Some(inner.order().await?),
            MatrixKey::RawX => Some(inner.raw_order().await?),
            MatrixKey::Obsp(_) | MatrixKey::Varp(_) => None,
        };
        let mut reading = Reading {
            view: view.clone(),
            dense: dense.clone(),
            sides: sides.clone(),
            layout,
            orientation,
            genes: Vec::new(),
            table: None,
            is_own: false,
            is_whole: false,
            n_row_groups,
            n_col_groups,
        };
        reading.number(order.as_deref(), n_rows, n_cols);
        reading.is_whole = reading.table.as_ref().is_some_and(|table| !table.contains(&Places::NONE));
        Ok(Some(reading))
    }

    /// Fills in the tables of numbers.
    fn number(&mut self, order: Option<&GeneOrder>, n_rows: u64, n_cols: u64) {
        let chosen = &self.sides.chosen;
        let is_one = matches!(self.sides.cols.group_of, GroupOf::One) && chosen.cols == Selection::All;
        if is_one && self.orientation == Orientation::ByCell {
            return;
        }
        let rank = |gene: u64| order.map_or(gene as u32, |o| o.rank_of[gene as usize]);
        self.genes = chosen.cols.iter(n_cols).zip(0..).map(|(gene, place)| (rank(gene), place)).collect();
        self.genes.sort_unstable();
        match self.orientation {
            Orientation::ByCell => {
                let mut table = vec![Places::NONE; n_cols as usize];
                for &(rank, place) in &self.genes {
                    table[rank as usize] = self.col_group(place);
                }
                // Tallies in the order of the ranks are near each other where genes are popular.
                self.is_own = is_own(&self.sides.cols.group_of) && chosen.cols == Selection::All;
                self.table = Some(table);
            }
            Orientation::ByGene => {
                if matches!(self.sides.rows.group_of, GroupOf::One) && chosen.rows == Selection::All {
                    return;
                }
                let mut table = vec![Places::NONE; n_rows as usize];
                let groups = self.sides.rows.of(chosen.rows.iter(n_rows));
                let apart = if self.layout == Layout::Merged { self.n_col_groups as u32 } else { 1 };
                for (row, group) in chosen.rows.iter(n_rows).zip(groups) {
                    table[row as usize] = group * apart;
                }
                self.table = Some(table);
            }
        }
    }

    fn col_group(&self, place: u32) -> u32 {
        match self.sides.cols.group_of {
            GroupOf::One => 0,
            _ => self.sides.col_groups[place as usize],
        }
    }

    /// Pieces of work: selected cells, or selected genes by rank. They do not depend on threads.
    pub(super) fn pieces(&self) -> Vec<Range<u64>> {
        let (n, step) = match self.orientation {
            Orientation::ByCell => {
                let n = self.sides.chosen.rows.len(self.view.shape().0);
                (n, self.piece_rows())
            }
            Orientation::ByGene => (self.genes.len() as u64, GENES as u64),
        };
        (0..n).step_by(step as usize).map(|start| start..(start + step).min(n)).collect()
    }

    fn piece_rows(&self) -> u64 {
        let batch = config::batch_rows() as u64;
        if self.layout == Layout::OwnCells {
            return batch.min((PLACES / self.n_col_groups.max(1)) as u64).max(1);
        }
        let matrix = &self.view.matrices[0];
        let places = (self.n_row_groups * self.n_col_groups) as u64;
        let rows = VALUES_A_PLACE * places / (matrix.nnz / matrix.n_rows.max(1)).max(1);
        rows.clamp(batch, batch * 64) / batch * batch
    }

    /// Whether so few cells are read that to wake another thread takes longer.
    pub(super) fn is_small(&self) -> bool {
        self.orientation == Orientation::ByCell && self.sides.chosen.rows.len(self.view.shape().0) <= FEW_CELLS
    }

    /// How many pieces may be in work at once, of so many threads.
    pub(super) fn at_once(&self, threads: usize) -> usize {
        (PLACES_IN_WORK / self.n_places(&(0..1)).max(1)).clamp(1, threads + 1)
    }

    /// How many places a piece has.
    fn n_places(&self, piece: &Range<u64>) -> usize {
        let n = (piece.end - piece.start) as usize;
        match self.layout {
            Layout::Merged => self.n_row_groups * self.n_col_groups,
            Layout::OwnCells => n * self.n_col_groups,
            Layout::OwnGenes => n * self.n_row_groups,
        }
    }

    /// The place among all groups, rows x columns, of a place of a piece; of cells with groups of
    /// their own, among those of the piece.
    pub(super) fn group(&self, piece: &Range<u64>, place: usize) -> usize {
        match self.layout {
            Layout::OwnGenes => {
                let (gene, row_group) = (place / self.n_row_groups, place % self.n_row_groups);
                let gene = self.genes[piece.start as usize + gene].1;
                row_group * self.n_col_groups + self.col_group(gene) as usize
            }
            _ if self.is_own => {
                let (row_group, rank) = (place / self.n_col_groups, place % self.n_col_groups);
                row_group * self.n_col_groups + self.genes[rank].1 as usize
            }
            _ => place,
        }
    }

    /// The cells of a piece.
    pub(super) fn cells(&self, piece: &Range<u64>) -> Selection {
        self.sides.chosen.rows.part(piece.clone())
    }

    /// Reads a piece and tallies its values.
    pub(super) async fn tally<T: Ordered>(&self, piece: Range<u64>) -> Result<Tallies<T>> {
        let mut tallies = Tallies::new(&self.dense.lanes, &self.dense.conditions, self.n_places(&piece));
        match self.orientation {
            Orientation::ByCell => self.add_cells(&piece, &mut tallies).await?,
            Orientation::ByGene => self.add_genes(&piece, &mut tallies).await?,
        }
        Ok(tallies)
    }

    async fn add_cells<T: Ordered>(&self, piece: &Range<u64>, tallies: &mut Tallies<T>) -> Result<()> {
        let (view, entry) = (&self.view, &self.view.matrices[0]);
        let table = view.inner.table(TableName::of_matrix(&view.keys[0])).await?;
        let few = (self.sides.chosen.cols != Selection::All && self.genes.len() <= LOOKUP).then(|| {
            let (ranks, places): (Vec<u32>, Vec<u32>) =
                self.genes.iter().map(|&(rank, place)| (rank, self.col_group(place))).unzip();
            (ranks, places)
        });
        let batch = config::batch_rows() as u64;
        let mut scratch = Scratch::default();
        let mut start = piece.start;
        while start < piece.end {
            let rows = start..(start + batch).min(piece.end);
            let selection = self.sides.chosen.rows.part(rows.clone());
            let packed = PackedRows::fetch(table, &entry.column, selection.resolve(table.rows()), CELL_GAP).await?;
            let ids = selection.iter(entry.n_rows);
            let firsts: Vec<usize> = match self.layout {
                Layout::OwnCells => {
                    (rows.start - piece.start..rows.end - piece.start).map(|i| i as usize * self.n_col_groups).collect()
                }
                _ => self.sides.rows.of(ids).iter().map(|&g| g as usize * self.n_col_groups).collect(),
            };
            tokio::task::block_in_place(|| {
                for (i, &first) in firsts.iter().enumerate() {
                    let row = packed.row(i)?;
                    match &few {
                        Some((ranks, places)) => scratch.look_up(&row, ranks, places, first, tallies)?,
                        None => {
                            let places = self.places(0);
                            let (ranks, values) = scratch.decode(&row, entry.n_cols, places)?;
                            tallies.add(first, ranks, values, places);
                        }
                    }
                }
                Ok::<(), Error>(())
            })?;
            start = rows.end;
        }
        Ok(())
    }

    /// The places of numbers from `first` on.
    fn places(&self, first: usize) -> Places<'_> {
        match &self.table {
            None => Places::One,
            Some(_) if self.is_own => Places::Own,
            Some(table) if self.is_whole => Places::Whole(&table[first..]),
            Some(table) => Places::Table(&table[first..]),
        }
    }

    async fn add_genes<T: Ordered>(&self, piece: &Range<u64>, tallies: &mut Tallies<T>) -> Result<()> {
        let inner = &self.view.inner;
        let table = inner.table(TableName::ByGene).await?;
        let stripes = &inner.manifest.stripes;
        let average = self.view.matrices[0].bytes / self.view.shape().1.max(1);
        let at_once = (BYTES / (average * LONGEST).max(1)).clamp(1, GENES as u64);
        let mut scratch = Scratch::default();
        for start in (piece.start..piece.end).step_by(at_once as usize) {
            let genes = start..(start + at_once).min(piece.end);
            // In the order of the table, which is that of stripes and, within one, of ranks.
            let mut rows = Vec::new();
            for stripe in stripes {
                for gene in genes.clone() {
                    let rank = u64::from(self.genes[gene as usize].0);
                    if rank < stripe.n_genes {
                        rows.push((stripe, gene, stripe.first_row + rank));
                    }
                }
            }
            let selection = Selection::Ids(rows.iter().map(|r| r.2).collect());
            let packed = PackedRows::fetch(table, schema::PACKED, selection.resolve(table.rows()), 0).await?;
            tokio::task::block_in_place(|| {
                for (i, &(stripe, gene, _)) in rows.iter().enumerate() {
                    let places = self.places(stripe.first_cell as usize);
                    let (cells, values) = scratch.decode(&packed.row(i)?, stripe.n_cells, places)?;
                    let first = match self.layout {
                        Layout::OwnGenes => (gene - piece.start) as usize * self.n_row_groups,
                        _ => self.col_group(self.genes[gene as usize].1) as usize,
                    };
                    tallies.add(first, cells, values, places);
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(())
    }
}

fn is_own(groups: &GroupOf) -> bool {
    matches!(groups, GroupOf::Own)
}

/// Working memory of one thread.
struct Scratch<T> {
    columns: Vec<u32>,
    values: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Scratch { columns: Vec::new(), values: Vec::new() }
    }
}

impl<T: Ordered> Scratch<T> {
    /// The numbers of a row, none where all have one place, and its values.
    fn decode(&mut self, row: &Row<'_>, n_columns: u64, places: Places<'_>) -> Result<(&[u32], &[T])> {
        let n = row.nnz();
        if self.columns.len() < n {
            self.columns.resize(n, 0);
        }
        if self.values.len() < n {
            self.values.resize(n, T::default());
        }
        if matches!(places, Places::One) {
            row.values(&mut self.values[..n])?;
            return Ok((&[], &self.values[..n]));
        }
        row.decode(n_columns, &mut self.columns[..n], &mut self.values[..n])?;
        Ok((&self.columns[..n], &self.values[..n]))
    }

    /// Adds the few values that are wanted of a row.
    fn look_up(
        &mut self,
        row: &Row<'_>,
        wanted: &[u32],
        places: &[u32],
        first: usize,
        tallies: &mut Tallies<T>,
    ) -> Result<()> {
        self.columns.clear();
        self.values.clear();
        let (columns, values) = (&mut self.columns, &mut self.values);
        row.lookup(wanted, |i, value| {
            columns.push(i as u32);
            values.push(value);
        })?;
        tallies.add(first, &self.columns, &self.values, Places::Table(places));
        Ok(())
    }
}

/// An error for a piece of work that did not end.
pub(super) fn lost(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("a piece of a query ended before its work was done: {error}"))
}
