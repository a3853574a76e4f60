//! Tables of text (csv, tsv): one axis in the rows, the other in the columns.

mod orientation;

use crate::chunk_builder::{ChunkBuilder, Entry};
use crate::model::{
    ArrayKey, Description, Frame, Input, MatrixEncoding, MatrixInfo, MatrixKey, OpenOptions, RowStream, StreamOptions,
};
use crate::plain::{absent, name_frame, only_x, open_text, read_error};
use crate::row_sorter::RowSorter;
use csv::ByteRecord;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Values};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How many bytes of the file are looked at for the delimiter.
const PEEK: u64 = 1 << 20;

/// Opens a table.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let delimiter = delimiter_of(path)?;
    let mut table = Table::open(path, delimiter)?;
    let columns = std::mem::take(&mut table.columns);
    let mut survey = Survey { column_counts: vec![0; columns.len()], ..Survey::default() };
    while table.next()? {
        survey.add(&table, &columns)?;
    }
    if columns.is_empty() && survey.names.is_empty() {
        return Err(Error::malformed("no names and no values"));
    }
    let (genes_in_rows, note) = match options.genes_in_rows {
        Some(given) => (given, None),
        None => {
            let (genes, why) = orientation::genes_in_rows(&survey.names, &columns);
            let axis = if genes { "genes" } else { "cells" };
            (genes, Some(format!("{axis} in rows (detected: {why})")))
        }
    };
    let dtype = if survey.fraction { Dtype::F64 } else { Dtype::I64 };
    let (cells, genes, counts) = match genes_in_rows {
        true => (columns, survey.names, survey.row_counts),
        false => (survey.names, columns, survey.column_counts),
    };
    let description = Description {
        format: if delimiter == b'\t' { "tsv" } else { "csv" }.to_owned(),
        n_cells: cells.len() as u64,
        n_genes: genes.len() as u64,
        matrices: vec![MatrixInfo {
            key: MatrixKey::X,
            encoding: MatrixEncoding::Dense,
            dtype,
            n_rows: cells.len() as u64,
            n_cols: genes.len() as u64,
            nnz: Some(counts.iter().sum()),
        }],
        notes: note.into_iter().collect(),
        ..Description::default()
    };
    let path = path.to_owned();
    let options = options.clone();
    Ok(Box::new(Text { path, delimiter, options, description, cells, genes, counts, dtype, genes_in_rows }))
}

/// The delimiter that the first line has most often, outside of quotes.
fn delimiter_of(path: &Path) -> Result<u8> {
    let mut head = Vec::new();
    open_text(path)?.take(PEEK).read_to_end(&mut head).map_err(read_error)?;
    let mut counts = [(b',', 0), (b'\t', 0), (b';', 0)];
    let mut quoted = false;
    for &byte in head.iter().take_while(|&&b| b != b'\n') {
        quoted ^= byte == b'"';
        counts.iter_mut().filter(|(d, _)| !quoted && *d == byte).for_each(|(_, n)| *n += 1);
    }
    if head.contains(&0) {
        return Err(Error::new(ErrorKind::UnknownFormat, "a binary file, not a table of text"));
    }
    match counts.into_iter().rev().max_by_key(|(_, n)| *n) {
        Some((delimiter, n)) if n > 0 => Ok(delimiter),
        _ => Err(Error::malformed("line 1: no comma, tab or semicolon: not a table")),
    }
}

/// A pass over the rows of the file.
struct Table {
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: ByteRecord,
    /// The names in the header; whether they begin with the first field is known from the first row.
    columns: Vec<String>,
    width: usize,
    /// The first row, which was read to learn its width.
    pending: bool,
}

impl Table {
    fn open(path: &Path, delimiter: u8) -> Result<Table> {
        let reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(open_text(path)?);
        let mut table = Table { reader, record: ByteRecord::new(), columns: Vec::new(), width: 0, pending: false };
        if !table.read()? {
            return Err(Error::malformed("an empty file"));
        }
        let mut columns = table.record.iter().map(|f| table.text(f)).collect::<Result<Vec<_>>>()?;
        if let Some(first) = columns.first_mut()
            && let Some(rest) = first.strip_prefix('\u{feff}')
        {
            *first = rest.to_owned();
        }
        table.pending = table.read()?;
        table.width = if table.pending { table.record.len() } else { columns.len() };
        // R leaves the corner out.
        if table.width == columns.len() {
            columns.remove(0);
        } else if table.width != columns.len() + 1 {
            return Err(table.ragged(columns.len()));
        }
        table.columns = columns;
        Ok(table)
    }

    /// Goes to the next row; false at the end.
    fn next(&mut self) -> Result<bool> {
        if std::mem::take(&mut self.pending) {
            return Ok(true);
        }
        if !self.read()? {
            return Ok(false);
        }
        if self.record.len() == self.width { Ok(true) } else { Err(self.ragged(self.width)) }
    }

    fn read(&mut self) -> Result<bool> {
        self.reader.read_byte_record(&mut self.record).map_err(|e| match e.into_kind() {
            csv::ErrorKind::Io(e) => read_error(e),
            other => Error::malformed(format!("{other:?}")),
        })
    }

    fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    fn ragged(&self, expected: usize) -> Error {
        Error::malformed(format!(
            "line {}: {} fields, where the lines before have {expected}",
            self.line(),
            self.record.len()
        ))
    }

    fn text(&self, field: &[u8]) -> Result<String> {
        let text =
            std::str::from_utf8(field).map_err(|_| Error::malformed(format!("line {}: not UTF-8", self.line())))?;
        Ok(text.trim().to_owned())
    }

    fn name(&self) -> Result<String> {
        self.text(self.record.get(0).unwrap_or_default())
    }

    /// The values of the row.
    fn values(&self) -> impl Iterator<Item = Option<Cell>> {
        self.record.iter().skip(1).map(Cell::parse)
    }

    /// The error for a value that is none.
    fn not_a_number(&self, column: usize, name: &str) -> Error {
        let field = String::from_utf8_lossy(self.record.get(column + 1).unwrap_or_default()).into_owned();
        let shown: String = field.chars().take(40).collect();
        Error::malformed(format!("line {}, column {} (\"{name}\"): not a number: {shown:?}", self.line(), column + 2))
    }
}

/// A value of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Int(i64),
    Float(f64),
}

impl Cell {
    fn parse(field: &[u8]) -> Option<Cell> {
        if let [digit @ b'0'..=b'9'] = field {
            return Some(Cell::Int(i64::from(digit - b'0')));
        }
        let text = std::str::from_utf8(field).ok()?.trim();
        if let Ok(int) = text.parse() {
            return Some(Cell::Int(int));
        }
        match text {
            "" | "NA" | "N/A" | "#N/A" | "NaN" | "nan" | "NULL" | "null" => Some(Cell::Float(f64::NAN)),
            _ => text.parse().ok().map(Cell::Float),
        }
    }

    /// Zeros are left out, -0.0 is not.
    fn is_stored(self) -> bool {
        match self {
            Cell::Int(i) => i != 0,
            Cell::Float(f) => f.to_bits() != 0,
        }
    }
}

/// What the pass at opening finds.
#[derive(Default)]
struct Survey {
    names: Vec<String>,
    row_counts: Vec<u64>,
    column_counts: Vec<u64>,
    fraction: bool,
}

impl Survey {
    fn add(&mut self, table: &Table, columns: &[String]) -> Result<()> {
        let mut stored = 0;
        for (i, value) in table.values().enumerate() {
            let name = columns.get(i).map_or("", String::as_str);
            let value = value.ok_or_else(|| table.not_a_number(i, name))?;
            self.fraction |= matches!(value, Cell::Float(_));
            let count = u64::from(value.is_stored());
            stored += count;
            self.column_counts[i] += count;
        }
        self.names.push(table.name()?);
        self.row_counts.push(stored);
        Ok(())
    }
}

/// The two value types of this format.
trait Number: Entry {
    fn of(cell: Cell) -> Self;
}

impl Number for i64 {
    fn of(cell: Cell) -> i64 {
        match cell {
            Cell::Int(i) => i,
            Cell::Float(f) => f as i64,
        }
    }
}

impl Number for f64 {
    fn of(cell: Cell) -> f64 {
        match cell {
            Cell::Int(i) => i as f64,
            Cell::Float(f) => f,
        }
    }
}

struct Text {
    path: PathBuf,
    delimiter: u8,
    options: OpenOptions,
    description: Description,
    cells: Vec<String>,
    genes: Vec<String>,
    /// Stored values of each gene.
    counts: Vec<u64>,
    dtype: Dtype,
    genes_in_rows: bool,
}

impl Text {
    fn stream<T: Number>(&self, limits: StreamOptions) -> Result<Box<dyn RowStream>> {
        let table = Table::open(&self.path, self.delimiter)?;
        if self.genes_in_rows {
            return self.sort::<T>(table, limits);
        }
        Ok(Box::new(Stream::<T> { table, builder: ChunkBuilder::new(limits), done: false }))
    }

    fn sort<T: Number>(&self, mut table: Table, limits: StreamOptions) -> Result<Box<dyn RowStream>> {
        let (n_cells, n_genes) = (self.cells.len() as u64, self.genes.len() as u64);
        let mut sorter = RowSorter::new(n_cells, n_genes, self.dtype, &self.options)?;
        let (mut gene, mut cells, mut genes) = (0_u32, Vec::new(), Vec::new());
        while table.next()? {
            cells.clear();
            let mut values = Vec::new();
            for (cell, value) in table.values().enumerate() {
                let value = value.ok_or_else(|| table.not_a_number(cell, ""))?;
                if value.is_stored() {
                    cells.push(cell as u64);
                    values.push(T::of(value));
                }
            }
            genes.clear();
            genes.resize(cells.len(), gene);
            sorter.push(&cells, &genes, &T::wrap(values))?;
            gene += 1;
        }
        sorter.finish(limits)
    }
}

impl Input for Text {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        name_frame(&self.cells, rows)
    }

    fn var(&self) -> Result<Frame> {
        name_frame(&self.genes, 0..self.genes.len() as u64)
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        only_x(key)?;
        if self.dtype == Dtype::I64 { self.stream::<i64>(options) } else { self.stream::<f64>(options) }
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        only_x(key)?;
        Ok(self.counts.clone())
    }

    fn array(&self, key: &ArrayKey, _rows: Range<u64>) -> Result<Values> {
        Err(absent(&key.name))
    }
}

/// The rows of a table of which the rows are cells.
struct Stream<T> {
    table: Table,
    builder: ChunkBuilder<T>,
    done: bool,
}

impl<T: Number> Stream<T> {
    fn step(&mut self) -> Result<Option<CsrChunk>> {
        while self.table.next()? {
            for (i, value) in self.table.values().enumerate() {
                let value = value.ok_or_else(|| self.table.not_a_number(i, ""))?;
                if value.is_stored() {
                    self.builder.push(i as u32, T::of(value));
                }
            }
            if let Some(chunk) = self.builder.end_row() {
                return Ok(Some(chunk));
            }
        }
        self.done = true;
        Ok(self.builder.finish())
    }
}

impl<T: Number> Iterator for Stream<T> {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step();
        self.done |= step.is_err();
        step.transpose()
    }
}

impl<T: Number> RowStream for Stream<T> {}
