//! Tables of text (csv, tsv): one axis in the rows, the other in the columns.

mod orientation;

use crate::chunk_builder::ChunkBuilder;
use crate::fields::Records;
use crate::model::{
    ArrayKey, Description, Frame, Input, Loss, MatrixEncoding, MatrixInfo, MatrixKey, OpenOptions, RowStream,
    StreamOptions,
};
use crate::number::{Extent, Number, ROUNDED, TextNumber};
use crate::plain::{absent, changed, name_frame, only_x, open_text, read_error};
use crate::row_sorter::RowSorter;
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
    let dtype = survey.extent.integer_or_float();
    let losses = survey.extent.rounded_by(dtype).map(|place| Loss { path: place.to_owned(), reason: ROUNDED.into() });
    let (cells, genes, counts) = match genes_in_rows {
        true => (columns, survey.names, survey.row_counts),
        false => (survey.names, columns, survey.column_counts),
    };
    let format = match delimiter {
        b'\t' => "tsv",
        b' ' => "text table",
        _ => "csv",
    };
    let description = Description {
        format: format.to_owned(),
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
        losses: losses.into_iter().collect(),
        notes: note.into_iter().collect(),
        ..Description::default()
    };
    let path = path.to_owned();
    let options = options.clone();
    Ok(Box::new(Text { path, delimiter, options, description, cells, genes, counts, dtype, genes_in_rows }))
}

/// The delimiter that the first line has most often, outside of quotes; a blank only where there
/// is no other. R leaves the corner out: of a table of one column, the second line tells.
fn delimiter_of(path: &Path) -> Result<u8> {
    let mut head = Vec::new();
    open_text(path)?.take(PEEK).read_to_end(&mut head).map_err(read_error)?;
    if head.contains(&0) {
        return Err(Error::new(ErrorKind::UnknownFormat, "a binary file, not a table of text"));
    }
    for line in head.split(|&b| b == b'\n' || b == b'\r').filter(|line| !line.is_empty()).take(2) {
        let mut counts = [(b',', 0), (b'\t', 0), (b';', 0), (b' ', 0)];
        let mut quoted = false;
        for &byte in line {
            quoted ^= byte == b'"';
            counts.iter_mut().filter(|(d, _)| !quoted && *d == byte).for_each(|(_, n)| *n += 1);
        }
        let [others @ .., blank] = counts;
        let most = others.into_iter().rev().max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0);
        if let Some((delimiter, _)) = most.or_else(|| (blank.1 > 0).then_some(blank)) {
            return Ok(delimiter);
        }
    }
    Err(Error::malformed("line 1: no comma, tab, semicolon or blank: not a table"))
}

/// A pass over the rows of the file.
struct Table {
    records: Records,
    delimiter: u8,
    /// The names in the header; whether they begin with the first field is known from the first row.
    columns: Vec<String>,
    width: usize,
    /// The first row, which was read to learn its width.
    pending: bool,
}

impl Table {
    fn open(path: &Path, delimiter: u8) -> Result<Table> {
        let records = Records::open(path, delimiter)?;
        let mut table = Table { records, delimiter, columns: Vec::new(), width: 0, pending: false };
        if !table.records.read()? {
            return Err(Error::malformed("an empty file"));
        }
        let mut columns = (0..table.records.len()).map(|i| table.name(i)).collect::<Result<Vec<_>>>()?;
        table.pending = table.records.read()?;
        table.width = if table.pending { table.records.len() } else { columns.len() };
        // R leaves the corner out.
        if table.width == columns.len() {
            columns.remove(0);
        } else if table.width != columns.len() + 1 {
            return Err(table.ragged(columns.len()));
        }
        if delimiter == b' ' && columns.iter().any(String::is_empty) {
            return Err(Error::malformed("line 1: two blanks between names; separate them by tabs or commas"));
        }
        table.columns = columns;
        table.check_blanks()?;
        Ok(table)
    }

    /// Goes to the next row; false at the end.
    fn next(&mut self) -> Result<bool> {
        if std::mem::take(&mut self.pending) {
            return Ok(true);
        }
        if !self.records.read()? {
            return Ok(false);
        }
        if self.records.len() != self.width {
            return Err(self.ragged(self.width));
        }
        self.check_blanks()?;
        Ok(true)
    }

    /// Between two blanks there is no missing value, but an alignment.
    fn check_blanks(&self) -> Result<()> {
        let empty = |i| self.records.bytes(i).is_empty();
        if self.delimiter == b' ' && (0..self.records.len()).any(empty) {
            let line = self.records.line();
            return Err(Error::malformed(format!(
                "line {line}: two blanks in a row; separate fields by tabs or commas"
            )));
        }
        Ok(())
    }

    fn ragged(&self, expected: usize) -> Error {
        let (line, n) = (self.records.line(), self.records.len());
        Error::malformed(format!("line {line}: {n} fields, where the lines before have {expected}"))
    }

    /// A field that is a name.
    fn name(&self, i: usize) -> Result<String> {
        Ok(self.records.text(i)?.trim().to_owned())
    }

    /// The values of the row.
    fn values(&self) -> impl Iterator<Item = Option<TextNumber>> {
        (1..self.records.len()).map(|i| parse(self.records.bytes(i)))
    }

    fn place(&self, column: usize, name: &str) -> String {
        format!("line {}, column {} (\"{name}\")", self.records.line(), column + 2)
    }

    /// The error for a value that is none.
    fn not_a_number(&self, column: usize, name: &str) -> Error {
        let field = String::from_utf8_lossy(self.records.bytes(column + 1)).into_owned();
        let shown: String = field.chars().take(40).collect();
        Error::malformed(format!("{}: not a number: {shown:?}", self.place(column, name)))
    }

    /// A value of the type that the pass at opening found.
    fn typed<T: Number>(&self, column: usize, value: Option<TextNumber>) -> Result<T> {
        let value = value.ok_or_else(|| self.not_a_number(column, ""))?;
        T::of(value).ok_or_else(changed)
    }
}

/// A value of the table.
fn parse(field: &[u8]) -> Option<TextNumber> {
    if let [digit @ b'0'..=b'9'] = field {
        return Some(TextNumber::Int(i64::from(digit - b'0')));
    }
    TextNumber::parse_or_missing(std::str::from_utf8(field).ok()?.trim())
}

/// What the pass at opening finds.
#[derive(Default)]
struct Survey {
    names: Vec<String>,
    row_counts: Vec<u64>,
    column_counts: Vec<u64>,
    extent: Extent,
}

impl Survey {
    fn add(&mut self, table: &Table, columns: &[String]) -> Result<()> {
        let mut stored = 0;
        for (i, value) in table.values().enumerate() {
            let name = columns.get(i).map_or("", String::as_str);
            let value = value.ok_or_else(|| table.not_a_number(i, name))?;
            self.extent.add(value, || table.place(i, name));
            let count = u64::from(value.is_stored());
            stored += count;
            self.column_counts[i] += count;
        }
        self.names.push(table.name(0)?);
        self.row_counts.push(stored);
        Ok(())
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
                if value.is_none_or(TextNumber::is_stored) {
                    cells.push(cell as u64);
                    values.push(table.typed::<T>(cell, value)?);
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
        match self.dtype {
            Dtype::I64 => self.stream::<i64>(options),
            Dtype::U64 => self.stream::<u64>(options),
            _ => self.stream::<f64>(options),
        }
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
                if value.is_none_or(TextNumber::is_stored) {
                    self.builder.push(i as u32, self.table.typed(i, value)?);
                }
            }
            if let Some(chunk) = self.builder.end_row()? {
                return Ok(Some(chunk));
            }
        }
        self.done = true;
        self.builder.finish()
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
