//! Folders of 10x Genomics in Matrix Market form, of Cell Ranger 2 (`genes.tsv`) and 3
//! (`features.tsv.gz`).

mod parse;

use crate::chunk_builder::{ChunkBuilder, Entry as Value};
use crate::model::{
    ArrayKey, Column, ColumnInfo, ColumnKind, Description, Frame, FrameInfo, Input, Loss, MatrixEncoding, MatrixInfo,
    MatrixKey, OpenOptions, RowStream, StreamOptions,
};
use crate::plain::{Lines, absent, name_frame, name_of, only_x, open_text};
use crate::row_sorter::RowSorter;
use arrow::array::StringArray;
use arrow::datatypes::DataType;
use parse::{Entries, Entry};
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Values};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How deep the folder of the matrix may lie below the one that was given.
const DEPTH: usize = 3;
/// In place of the new number of a gene that is left out.
const LEFT_OUT: u32 = u32::MAX;

/// Opens a folder, or the matrix file in one.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let files = Files::find(path, options.genome.as_deref(), DEPTH)?;
    let barcodes: Vec<String> =
        read_table(&files.barcodes)?.into_iter().map(|mut row| std::mem::take(&mut row[0])).collect();
    let mut features = Features::read(&files.features)?;
    let mut notes = Vec::new();
    let entries = open_entries(&files.matrix)?;
    let (n_genes, n_cells) = (features.names.len() as u64, barcodes.len() as u64);
    let shape = (entries.n_rows, entries.n_cols);
    let cells_in_rows = shape != (n_genes, n_cells) && shape == (n_cells, n_genes);
    if cells_in_rows {
        notes.push("cells in rows (detected: the numbers of barcodes and features)".to_owned());
    } else if shape != (n_genes, n_cells) {
        return Err(Error::malformed(format!(
            "a matrix of {} x {}, but {n_genes} features in {} and {n_cells} barcodes in {}",
            shape.0,
            shape.1,
            name_of(&files.features),
            name_of(&files.barcodes)
        ))
        .at(name_of(&files.matrix)));
    }
    let genes = features.select(options.feature_type.as_deref(), &mut notes)?;
    let version = if features.types.is_some() { "v3" } else { "v2" };
    let plan = Plan { matrix: files.matrix, genes, cells_in_rows, n_cells, n_genes: features.names.len() as u64 };
    let found = Survey::take(&plan, entries).at(name_of(&plan.matrix))?;
    if found.dtype == Dtype::F64 {
        notes.push("values as float64: not all of them are exact as float32".to_owned());
    }
    let info = MatrixInfo {
        key: MatrixKey::X,
        encoding: MatrixEncoding::Csr,
        dtype: found.dtype,
        n_rows: n_cells,
        n_cols: plan.n_genes,
        nnz: (found.order == Order::Strict).then_some(found.nnz),
    };
    let losses = features
        .more_columns
        .then(|| Loss { path: name_of(&files.features), reason: "columns after the third are not read".into() });
    let description = Description {
        format: format!("10x mtx {version}"),
        n_cells,
        n_genes: plan.n_genes,
        var: FrameInfo { index_name: None, columns: features.columns().into_iter().map(|c| c.info).collect() },
        matrices: vec![info],
        losses: losses.into_iter().collect(),
        notes,
        ..Description::default()
    };
    Ok(Box::new(Mtx { description, barcodes, features, plan, found, options: options.clone() }))
}

/// The three files of a data set.
struct Files {
    matrix: PathBuf,
    features: PathBuf,
    barcodes: PathBuf,
}

impl Files {
    fn find(path: &Path, genome: Option<&str>, depth: usize) -> Result<Files> {
        if !path.is_dir() {
            return Files::beside(path);
        }
        let mut matrices = Vec::new();
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?.path();
            if entry.is_dir() {
                folders.push(entry);
            } else if prefix_of(&entry).is_some() {
                matrices.push(entry);
            }
        }
        matrices.sort();
        folders.sort();
        // A plain file and its packed copy are one.
        matrices.dedup_by_key(|m| prefix_of(m));
        if let [matrix] = &matrices[..] {
            return Files::beside(matrix);
        }
        if !matrices.is_empty() {
            let names: Vec<_> = matrices.iter().map(|m| name_of(m)).collect();
            return Err(Error::invalid(format!("several matrices, give the path of one: {}", names.join(", "))));
        }
        if depth > 0 {
            let mut found: Vec<_> = folders.iter().filter(|f| holds_matrix(f, depth - 1)).collect();
            if let Some(genome) = genome.filter(|_| found.len() > 1) {
                found.retain(|f| name_of(f) == genome);
            }
            match found[..] {
                [folder] => return Files::find(folder, genome, depth - 1),
                [] => {}
                _ => {
                    let names: Vec<_> = found.iter().map(|f| name_of(f)).collect();
                    return Err(Error::invalid(format!("several genomes, name one: {}", names.join(", "))));
                }
            }
        }
        Err(Error::new(ErrorKind::UnknownFormat, "a folder without a matrix.mtx or matrix.mtx.gz"))
    }

    /// The files that belong to a matrix, whose names may begin with one prefix.
    fn beside(matrix: &Path) -> Result<Files> {
        let folder = matrix.parent().unwrap_or(Path::new("."));
        let prefix = prefix_of(matrix).unwrap_or_default();
        let find = |names: &[&str]| {
            names
                .iter()
                .flat_map(|n| [format!("{prefix}{n}.tsv"), format!("{prefix}{n}.tsv.gz")])
                .map(|n| folder.join(n))
                .find(|p| p.is_file())
                .ok_or_else(|| {
                    let name = format!("{prefix}{}.tsv[.gz]", names.join(".tsv[.gz] or "));
                    Error::new(ErrorKind::NotFound, format!("no {name} beside {}", name_of(matrix)))
                })
        };
        Ok(Files { features: find(&["features", "genes"])?, barcodes: find(&["barcodes"])?, matrix: matrix.to_owned() })
    }
}

/// Whether there is a matrix file in the folder or below it.
pub(crate) fn holds_matrix(folder: &Path, depth: usize) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.filter_map(std::result::Result::ok).any(|e| {
            let path = e.path();
            if path.is_dir() { depth > 0 && holds_matrix(&path, depth - 1) } else { prefix_of(&path).is_some() }
        })
    })
}

/// What comes before `matrix.mtx` or `matrix.mtx.gz` in the name of a file.
fn prefix_of(path: &Path) -> Option<String> {
    let name = name_of(path);
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    stem.strip_suffix("matrix.mtx").map(str::to_owned)
}

fn open_entries(matrix: &Path) -> Result<Entries> {
    Entries::new(open_text(matrix)?).at(name_of(matrix))
}

/// The fields of a tab-separated file; every row has at least one.
fn read_table(path: &Path) -> Result<Vec<Vec<String>>> {
    let read = || -> Result<_> {
        let mut lines = Lines::new(open_text(path)?);
        let mut rows = Vec::new();
        while let Some(line) = lines.line()? {
            let line = std::str::from_utf8(line)
                .map_err(|_| Error::malformed(format!("line {}: not UTF-8", rows.len() + 1)))?;
            rows.push(line.split('\t').map(str::to_owned).collect());
        }
        Ok(rows)
    };
    read().at(name_of(path))
}

struct Features {
    names: Vec<String>,
    ids: Option<Vec<String>>,
    types: Option<Vec<String>>,
    more_columns: bool,
}

impl Features {
    fn read(path: &Path) -> Result<Features> {
        let rows = read_table(path)?;
        let width = rows.first().map_or(2, Vec::len);
        if let Some(i) = rows.iter().position(|r| r.len() != width) {
            return Err(Error::malformed(format!(
                "line {}: {} columns, but the first line has {width}",
                i + 1,
                rows[i].len()
            ))
            .at(name_of(path)));
        }
        let column = |i: usize| -> Vec<String> { rows.iter().map(|r| r[i].clone()).collect() };
        Ok(Features {
            names: column(usize::from(width > 1)),
            ids: (width > 1).then(|| column(0)),
            types: (width > 2).then(|| column(2)),
            more_columns: width > 3,
        })
    }

    /// Leaves only the features of a type; gives the new number of each, if any goes.
    fn select(&mut self, feature_type: Option<&str>, notes: &mut Vec<String>) -> Result<Option<Vec<u32>>> {
        let Some(wanted) = feature_type else { return Ok(None) };
        let Some(types) = &self.types else {
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
        let mut next = 0;
        let numbers = keep.iter().map(|&k| {
            if !k {
                return LEFT_OUT;
            }
            next += 1;
            next - 1
        });
        let numbers = numbers.collect();
        for list in [Some(&mut self.names), self.ids.as_mut(), self.types.as_mut()].into_iter().flatten() {
            let mut kept = keep.iter();
            list.retain(|_| kept.next().copied().unwrap_or(false));
        }
        Ok(Some(numbers))
    }

    fn columns(&self) -> Vec<Column> {
        let column = |name: &str, values: &Option<Vec<String>>| {
            values.as_ref().map(|v| Column {
                info: ColumnInfo { name: name.into(), data_type: DataType::Utf8, kind: ColumnKind::Plain },
                array: Arc::new(StringArray::from_iter_values(v)),
            })
        };
        let columns = [column("gene_ids", &self.ids), column("feature_types", &self.types)];
        columns.into_iter().flatten().collect()
    }
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
    order: Order,
    nnz: u64,
    counts: Vec<u64>,
}

impl Survey {
    fn take(plan: &Plan, mut entries: Entries) -> Result<Survey> {
        if plan.n_genes >= u64::from(LEFT_OUT) {
            return Err(Error::new(ErrorKind::UnsupportedInput, "2^32 features or more"));
        }
        let mut found =
            Survey { dtype: Dtype::F32, order: Order::Strict, nnz: 0, counts: vec![0; plan.n_genes as usize] };
        let mut last = None;
        let mut block = Vec::new();
        while entries.read(&mut block)? {
            for entry in &block {
                let Some(place) = plan.place(entry) else { continue };
                let narrow = entry.value as f32;
                if f64::from(narrow) != entry.value && !entry.value.is_nan() {
                    found.dtype = Dtype::F64;
                }
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
        Ok(found)
    }
}

/// The two value types of this format.
trait Real: Value {
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> f64 {
        value
    }
}

struct Mtx {
    description: Description,
    barcodes: Vec<String>,
    features: Features,
    plan: Plan,
    found: Survey,
    options: OpenOptions,
}

impl Mtx {
    fn stream<T: Real>(&self, limits: StreamOptions) -> Result<Box<dyn RowStream>> {
        let entries = open_entries(&self.plan.matrix)?;
        let name = name_of(&self.plan.matrix);
        if self.found.order == Order::None {
            return self.sort(entries, limits).at(name);
        }
        Ok(Box::new(Stream::<T> {
            plan: self.plan.clone(),
            entries,
            block: Vec::new(),
            next: 0,
            cell: 0,
            row: Vec::new(),
            builder: ChunkBuilder::new(limits),
            state: State::Reading,
        }))
    }

    fn sort(&self, mut entries: Entries, limits: StreamOptions) -> Result<Box<dyn RowStream>> {
        let Plan { n_cells, n_genes, .. } = self.plan;
        let mut sorter = RowSorter::new(n_cells, n_genes, self.found.dtype, &self.options)?;
        let (mut block, mut cells, mut genes) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = Vec::new();
        while entries.read(&mut block)? {
            cells.clear();
            genes.clear();
            values.clear();
            for entry in &block {
                if let Some((cell, gene)) = self.plan.place(entry) {
                    cells.push(cell);
                    genes.push(gene);
                    values.push(entry.value);
                }
            }
            let typed = match self.found.dtype {
                Dtype::F32 => Values::F32(values.iter().map(|&v| v as f32).collect()),
                _ => Values::F64(values.clone()),
            };
            sorter.push(&cells, &genes, &typed)?;
        }
        sorter.finish(limits)
    }
}

impl Input for Mtx {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        name_frame(&self.barcodes, rows)
    }

    fn var(&self) -> Result<Frame> {
        Ok(Frame { index: self.features.names.clone(), columns: self.features.columns() })
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        only_x(key)?;
        if self.found.dtype == Dtype::F32 { self.stream::<f32>(options) } else { self.stream::<f64>(options) }
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        only_x(key)?;
        Ok(self.found.counts.clone())
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

impl<T: Real> Stream<T> {
    fn end_row(&mut self) -> Option<CsrChunk> {
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
                return Err(Error::malformed("the file changed while it was read"));
            }
            if cell > self.cell {
                if let Some(chunk) = self.end_row() {
                    return Ok(Some(chunk));
                }
                continue;
            }
            self.row.push((gene, T::from_f64(entry.value)));
            self.next += 1;
        }
        while self.cell < self.plan.n_cells {
            if let Some(chunk) = self.end_row() {
                return Ok(Some(chunk));
            }
        }
        self.state = State::Done;
        Ok(self.builder.finish())
    }
}

impl<T: Real> Iterator for Stream<T> {
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

impl<T: Real> RowStream for Stream<T> {
    fn duplicates(&self) -> u64 {
        self.builder.duplicates()
    }
}
