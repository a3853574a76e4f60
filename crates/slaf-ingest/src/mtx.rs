//! Data sets in Matrix Market form: folders of 10x Genomics (Cell Ranger 2, 3 and ARC), STARsolo,
//! kb-python, Parse and alevin-fry.

mod layout;
mod parse;
mod side;

use crate::chunk_builder::ChunkBuilder;
use crate::model::{
    ArrayKey, ColumnInfo, Description, Frame, FrameInfo, Input, Loss, MatrixEncoding, MatrixInfo, MatrixKey,
    OpenOptions, RowStream, StreamOptions,
};
use crate::number::{Extent, Number, ROUNDED};
use crate::plain::{absent, changed, filter_frame, frame_rows, name_of, open_text};
use crate::row_sorter::RowSorter;
use layout::Layout;
use parse::{Entries, Entry};
use side::GeneFrame;
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Values};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// In place of the new number of a gene that is left out.
const LEFT_OUT: u32 = u32::MAX;
/// The layers of a gene's three columns, in the order of alevin-fry.
const BLOCKS: [&str; 3] = ["spliced", "unspliced", "ambiguous"];

/// Opens a folder, or the matrix file in one.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let layout = Layout::find(path, options.genome.as_deref())?;
    let mut notes = layout.notes.clone();
    let (obs, cell_index) = side::read_cells(&layout.cells, &mut notes)?;
    let genes = GeneFrame::read(&layout.genes, &mut notes)?;
    let n_cells = obs.index.len() as u64;
    let n_all = genes.frame.index.len();
    let keep = select(&genes, options.feature_type.as_deref(), &mut notes)?;
    let var = match &keep {
        Some(keep) => filter_frame(genes.frame, keep)?,
        None => genes.frame,
    };
    let mut matrices = Vec::new();
    let mut described = Vec::new();
    let mut losses = Vec::new();
    for (key, path) in &layout.matrices {
        for (block, layer) in BLOCKS.iter().enumerate().take(genes.blocks) {
            let key = if genes.blocks == 1 { key.clone() } else { MatrixKey::Layer((*layer).to_owned()) };
            let entries = open_entries(path)?;
            let shape = (entries.n_rows, entries.n_cols);
            let cells_in_rows = orientation(shape, n_cells, (genes.blocks * n_all) as u64, &layout, path)?;
            if cells_in_rows != layout.cells_in_rows {
                let axis = if cells_in_rows { "cells" } else { "genes" };
                notes.push(format!("{axis} in rows (detected: the numbers of barcodes and features)"));
            }
            let plan = Plan {
                matrix: path.clone(),
                genes: numbers(keep.as_deref(), n_all, genes.blocks, block),
                cells_in_rows,
                n_cells,
                n_genes: var.index.len() as u64,
            };
            let found = Survey::take(&plan, entries).at(name_of(path))?;
            if found.dtype != Dtype::F32 {
                notes.push(format!("{key}: values as {}: not all of them are exact as float32", found.dtype));
            }
            let rounded = found.extent.rounded_by(found.dtype);
            losses.extend(
                rounded.map(|place| Loss { path: format!("{}: {place}", name_of(path)), reason: ROUNDED.into() }),
            );
            described.push(MatrixInfo {
                key,
                encoding: MatrixEncoding::Csr,
                dtype: found.dtype,
                n_rows: n_cells,
                n_cols: plan.n_genes,
                nnz: (found.order == Order::Strict).then_some(found.nnz),
            });
            matrices.push((plan, found));
        }
    }
    if !described.iter().any(|m| m.key == MatrixKey::X) {
        let names: Vec<_> = described.iter().map(|m| m.key.to_string()).collect();
        notes.push(format!("no X: the counts are in {}", names.join(", ")));
    }
    let version = match (layout.program, genes.types.is_some()) {
        ("10x", true) => " v3",
        ("10x", false) => " v2",
        _ => "",
    };
    let columns = |frame: &Frame| -> Vec<ColumnInfo> { frame.columns.iter().map(|c| c.info.clone()).collect() };
    let description = Description {
        format: format!("{} mtx{version}", layout.program),
        n_cells,
        n_genes: var.index.len() as u64,
        obs: FrameInfo { index_name: cell_index, columns: columns(&obs) },
        var: FrameInfo { index_name: genes.index_name, columns: columns(&var) },
        matrices: described,
        losses,
        notes,
        ..Description::default()
    };
    Ok(Box::new(Mtx { description, obs, var, matrices, options: options.clone() }))
}

/// The files that [`open`] reads; `None` for what it does not open.
pub(crate) fn files_of(path: &Path, options: &OpenOptions) -> Option<Vec<PathBuf>> {
    Layout::find(path, options.genome.as_deref()).ok().map(Layout::files)
}

/// Whether the cells are in the rows of a matrix.
fn orientation(shape: (u64, u64), n_cells: u64, n_genes: u64, layout: &Layout, matrix: &Path) -> Result<bool> {
    let expected = if layout.cells_in_rows { (n_cells, n_genes) } else { (n_genes, n_cells) };
    if shape == expected {
        return Ok(layout.cells_in_rows);
    }
    if shape == (expected.1, expected.0) {
        return Ok(!layout.cells_in_rows);
    }
    Err(Error::malformed(format!(
        "a matrix of {} x {}, but {n_genes} features in {} and {n_cells} barcodes in {}",
        shape.0,
        shape.1,
        name_of(layout.genes.path()),
        name_of(layout.cells.path())
    ))
    .at(name_of(matrix)))
}

fn open_entries(matrix: &Path) -> Result<Entries> {
    Entries::new(open_text(matrix)?).at(name_of(matrix))
}

/// Which features are of the type that is wanted, if not all are.
fn select(genes: &GeneFrame, feature_type: Option<&str>, notes: &mut Vec<String>) -> Result<Option<Vec<bool>>> {
    let Some(wanted) = feature_type else { return Ok(None) };
    let Some(types) = &genes.types else {
        notes.push("no feature types in the file: all features are read".to_owned());
        return Ok(None);
    };
    let keep: Vec<bool> = types.iter().map(|t| t == wanted).collect();
    if !keep.contains(&true) {
        let mut known: Vec<_> = types.iter().map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        return Err(Error::invalid(format!("no features of type {wanted:?}; the file has: {}", known.join(", "))));
    }
    Ok(Some(keep))
}

/// The new number of each column of genes, if some are left out: those of other blocks, and
/// features that are not kept.
fn numbers(keep: Option<&[bool]>, n: usize, blocks: usize, block: usize) -> Option<Vec<u32>> {
    if keep.is_none() && blocks == 1 {
        return None;
    }
    let mut numbers = vec![LEFT_OUT; n * blocks];
    let kept = (0..n).filter(|&i| keep.is_none_or(|k| k[i]));
    for (number, i) in (0..).zip(kept) {
        numbers[block * n + i] = number;
    }
    Some(numbers)
}

/// How the entries of the file map to cells and genes.
#[derive(Clone)]
struct Plan {
    matrix: PathBuf,
    genes: Option<Vec<u32>>,
    cells_in_rows: bool,
    n_cells: u64,
    /// Without those left out.
    n_genes: u64,
}

impl Plan {
    /// Cell and gene of an entry; `None` if the gene is left out.
    #[inline]
    fn place(&self, e: &Entry) -> Option<(u64, u32)> {
        let (cell, gene) = if self.cells_in_rows { (e.row, e.col) } else { (e.col, e.row) };
        match &self.genes {
            None => Some((cell, gene as u32)),
            Some(genes) => {
                let gene = genes.get(gene as usize).copied().unwrap_or(LEFT_OUT);
                (gene != LEFT_OUT).then_some((cell, gene))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// By cell and gene, without duplicates.
    Strict,
    /// By cell.
    Cells,
    None,
}

/// What one pass over the file finds: the value type depends on every value.
struct Survey {
    dtype: Dtype,
    extent: Extent,
    order: Order,
    nnz: u64,
    counts: Vec<u64>,
}

impl Survey {
    fn take(plan: &Plan, mut entries: Entries) -> Result<Survey> {
        if plan.n_genes >= u64::from(LEFT_OUT) {
            return Err(Error::new(ErrorKind::UnsupportedInput, "2^32 features or more"));
        }
        let counts = vec![0; plan.n_genes as usize];
        let mut found = Survey { dtype: Dtype::F32, extent: Extent::default(), order: Order::Strict, nnz: 0, counts };
        let mut last = None;
        let mut block = Vec::new();
        while entries.read(&mut block)? {
            for entry in &block {
                let Some(place) = plan.place(entry) else { continue };
                found.extent.add(entry.value, || format!("the entry at {}, {}", entry.row + 1, entry.col + 1));
                if Some(place) <= last {
                    let forward = last.is_some_and(|(cell, _)| cell == place.0);
                    let order = if forward { Order::Cells } else { Order::None };
                    if found.order != Order::None {
                        found.order = order;
                    }
                }
                last = Some(place);
                found.nnz += 1;
                found.counts[place.1 as usize] += 1;
            }
        }
        found.dtype = found.extent.smallest_float();
        Ok(found)
    }
}

struct Mtx {
    description: Description,
    obs: Frame,
    var: Frame,
    /// Beside the matrices of the description.
    matrices: Vec<(Plan, Survey)>,
    options: OpenOptions,
}

impl Mtx {
    fn source(&self, key: &MatrixKey) -> Result<&(Plan, Survey)> {
        let position = self.description.matrices.iter().position(|m| m.key == *key);
        position.and_then(|i| self.matrices.get(i)).ok_or_else(|| absent(key))
    }

    fn stream<T: Number>(&self, plan: &Plan, found: &Survey, limits: StreamOptions) -> Result<Box<dyn RowStream>> {
        let entries = open_entries(&plan.matrix)?;
        if found.order == Order::None {
            return self.sort::<T>(plan, entries, limits).at(name_of(&plan.matrix));
        }
        Ok(Box::new(Stream::<T> {
            plan: plan.clone(),
            entries,
            block: Vec::new(),
            next: 0,
            cell: 0,
            row: Vec::new(),
            builder: ChunkBuilder::new(limits),
            state: State::Reading,
        }))
    }

    fn sort<T: Number>(&self, plan: &Plan, mut entries: Entries, limits: StreamOptions) -> Result<Box<dyn RowStream>> {
        let mut sorter = RowSorter::new(plan.n_cells, plan.n_genes, T::DTYPE, &self.options)?;
        let (mut block, mut cells, mut genes) = (Vec::new(), Vec::new(), Vec::new());
        while entries.read(&mut block)? {
            cells.clear();
            genes.clear();
            let mut values = Vec::with_capacity(block.len());
            for entry in &block {
                if let Some((cell, gene)) = plan.place(entry) {
                    cells.push(cell);
                    genes.push(gene);
                    values.push(T::of(entry.value).ok_or_else(changed)?);
                }
            }
            sorter.push(&cells, &genes, &T::wrap(values))?;
        }
        sorter.finish(limits)
    }
}

impl Input for Mtx {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        frame_rows(&self.obs, rows)
    }

    fn var(&self) -> Result<Frame> {
        Ok(self.var.clone())
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let (plan, found) = self.source(key)?;
        match found.dtype {
            Dtype::F32 => self.stream::<f32>(plan, found, options),
            Dtype::I64 => self.stream::<i64>(plan, found, options),
            Dtype::U64 => self.stream::<u64>(plan, found, options),
            _ => self.stream::<f64>(plan, found, options),
        }
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        Ok(self.source(key)?.1.counts.clone())
    }

    fn array(&self, key: &ArrayKey, _rows: Range<u64>) -> Result<Values> {
        Err(absent(&key.name))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// All entries are read; empty cells may follow.
    Ending,
    Done,
}

/// Rows of a file that is ordered by cell.
struct Stream<T> {
    plan: Plan,
    entries: Entries,
    block: Vec<Entry>,
    next: usize,
    /// The row under construction.
    cell: u64,
    row: Vec<(u32, T)>,
    builder: ChunkBuilder<T>,
    state: State,
}

impl<T: Number> Stream<T> {
    fn end_row(&mut self) -> Result<Option<CsrChunk>> {
        if !self.row.is_sorted_by_key(|(gene, _)| *gene) {
            self.row.sort_by_key(|(gene, _)| *gene);
        }
        self.row.drain(..).for_each(|(gene, value)| self.builder.push(gene, value));
        self.cell += 1;
        self.builder.end_row()
    }

    fn step(&mut self) -> Result<Option<CsrChunk>> {
        while self.state == State::Reading {
            let Some(entry) = self.block.get(self.next) else {
                self.next = 0;
                if !self.entries.read(&mut self.block)? {
                    self.state = State::Ending;
                }
                continue;
            };
            let Some((cell, gene)) = self.plan.place(entry) else {
                self.next += 1;
                continue;
            };
            if cell < self.cell {
                return Err(changed());
            }
            if cell > self.cell {
                if let Some(chunk) = self.end_row()? {
                    return Ok(Some(chunk));
                }
                continue;
            }
            self.row.push((gene, T::of(entry.value).ok_or_else(changed)?));
            self.next += 1;
        }
        while self.cell < self.plan.n_cells {
            if let Some(chunk) = self.end_row()? {
                return Ok(Some(chunk));
            }
        }
        self.state = State::Done;
        self.builder.finish()
    }
}

impl<T: Number> Iterator for Stream<T> {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let step = self.step().at(name_of(&self.plan.matrix));
        if step.is_err() {
            self.state = State::Done;
        }
        step.transpose()
    }
}

impl<T: Number> RowStream for Stream<T> {
    fn duplicates(&self) -> u64 {
        self.builder.duplicates()
    }
}
