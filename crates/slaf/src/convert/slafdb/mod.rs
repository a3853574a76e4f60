//! Data sets of `slafdb`, the Python reference implementation: a folder with `config.json`, the
//! Lance tables `cells`, `genes` and `expression` (a row for each value), and optional ones.
//!
//! Rows of a matrix are found by the ids beside each value. The column `cell_start_index` of
//! `cells` is wrong in sets made from several files, and is not used.

mod axis;
mod columns;
mod coo;
mod uns;

use axis::AxisTable;
use coo::Coo;
use serde::Deserialize;
use slaf_core::{Context, Dtype, Error, ErrorKind, Result, Values};
use slaf_ingest::{
    ArrayKey, Axis, Description, Element, Frame, Input, MatrixEncoding, MatrixInfo, MatrixKey, OpenOptions, RowSorter,
    RowStream, StreamOptions, write_element,
};
use slaf_lance::Storage;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

const CONFIG: &str = "config.json";
const UNS: &str = "uns.json";
/// A configuration larger than this is none.
const MAX_CONFIG: u64 = 16 << 20;

/// Opens a data set of `slafdb`; `None` for anything else.
///
/// # Errors
/// Those of its configuration and tables.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Option<Box<dyn Input>>> {
    match config_of(path).at(path.display())? {
        Some(config) => Ok(Some(Box::new(Slafdb::open(path, config, options).at(path.display())?))),
        None => Ok(None),
    }
}

/// Whether an object store has a data set of `slafdb` there, as far as names tell.
///
/// # Errors
/// Those of asking.
pub(crate) async fn is_at(storage: &Storage) -> Result<bool> {
    Ok(storage.exists(CONFIG).await? && !storage.list_some("expression.lance", None, 1).await?.is_empty())
}

#[derive(Deserialize)]
struct Config {
    format_version: String,
    array_shape: Option<(u64, u64)>,
    n_cells: Option<u64>,
    n_genes: Option<u64>,
    tables: BTreeMap<String, String>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    conversion_in_progress: bool,
}

/// The configuration, if the folder has one that is not of another program.
fn config_of(path: &Path) -> Result<Option<Config>> {
    let Ok(file) = std::fs::File::open(path.join(CONFIG)) else { return Ok(None) };
    let mut text = Vec::new();
    file.take(MAX_CONFIG).read_to_end(&mut text).at(CONFIG)?;
    let wrong = |e: serde_json::Error| Error::malformed(e.to_string()).at(CONFIG);
    let json: serde_json::Value = match serde_json::from_slice(&text) {
        Ok(json) => json,
        Err(e) if path.join("expression.lance").is_dir() => return Err(wrong(e)),
        Err(_) => return Ok(None),
    };
    if json.get("format_version").is_none() || json.get("tables").is_none() {
        return Ok(None);
    }
    serde_json::from_value(json).map(Some).map_err(wrong)
}

impl Config {
    fn shape(&self) -> Result<(u64, u64)> {
        let (rows, cols) = self.array_shape.unzip();
        let one = |a: Option<u64>, b: Option<u64>, name: &str| match (a, b) {
            (Some(a), Some(b)) if a != b => {
                Err(Error::malformed(format!("{name} is {a}, but array_shape has {b}")).at(CONFIG))
            }
            (a, b) => a.or(b).ok_or_else(|| Error::malformed(format!("no {name}")).at(CONFIG)),
        };
        Ok((one(self.n_cells, rows, "n_cells")?, one(self.n_genes, cols, "n_genes")?))
    }

    /// The folder of a table; `None` if there is no such table. Names lead nowhere else.
    fn table(&self, key: &str) -> Result<Option<&str>> {
        match self.tables.get(key) {
            Some(name) if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':']) => {
                Err(Error::malformed(format!("{name:?} is no name of a table")).at(CONFIG))
            }
            name => Ok(name.map(String::as_str)),
        }
    }

    fn required(&self, key: &str) -> Result<&str> {
        self.table(key)?.ok_or_else(|| Error::malformed(format!("no table \"{key}\"")).at(CONFIG))
    }
}

/// Where a matrix of the description is: a table, and the column with its values.
struct Source {
    table: usize,
    column: String,
}

/// An opened data set.
struct Slafdb {
    description: Description,
    cells: AxisTable,
    genes: AxisTable,
    tables: Vec<Coo>,
    /// Beside `description.matrices`.
    sources: Vec<Source>,
    uns: Option<Element>,
    options: OpenOptions,
}

impl Slafdb {
    fn open(path: &Path, config: Config, options: &OpenOptions) -> Result<Slafdb> {
        let version = &config.format_version;
        if !version.starts_with("0.") {
            let message = format!("format version {version} of slafdb; versions 0.x are supported");
            return Err(Error::new(ErrorKind::UnsupportedInput, message).at(CONFIG));
        }
        if config.metadata.conversion_in_progress {
            return Err(Error::malformed("the conversion that makes this data set did not end").at(CONFIG));
        }
        let (n_cells, n_genes) = config.shape()?;
        let mut description =
            Description { format: format!("slafdb {version}"), n_cells, n_genes, ..Description::default() };
        let cells = AxisTable::open(path, config.required("cells")?, Axis::Cells, n_cells, &mut description)?;
        let genes = AxisTable::open(path, config.required("genes")?, Axis::Genes, n_genes, &mut description)?;
        let mut set = Slafdb {
            description,
            cells,
            genes,
            tables: Vec::new(),
            sources: Vec::new(),
            uns: None,
            options: options.clone(),
        };
        set.add_x(path, config.required("expression")?)?;
        let both = [Axis::Cells, Axis::Genes];
        set.add_matrices(path, config.table("layers")?, both, MatrixKey::Layer)?;
        set.add_matrices(path, config.table("cellsxcells")?, [Axis::Cells; 2], MatrixKey::Obsp)?;
        set.add_matrices(path, config.table("genesxgenes")?, [Axis::Genes; 2], MatrixKey::Varp)?;
        set.add_uns(path)?;
        Ok(set)
    }

    fn axis(&self, axis: Axis) -> &AxisTable {
        if axis == Axis::Cells { &self.cells } else { &self.genes }
    }

    fn add_x(&mut self, path: &Path, name: &str) -> Result<()> {
        let table = Coo::open(path, name, [&self.cells, &self.genes])?;
        let dtype = table.dtype("value")?;
        if !matches!(table.stored_as("value").as_str(), "Float32" | "Float64") {
            let stored = table.stored_as("value");
            self.description
                .notes
                .push(format!("X: values of type {stored} read as {dtype}; AnnData's own type is not kept by slafdb"));
        }
        self.add(table, [("value".to_owned(), dtype, MatrixKey::X)], [Axis::Cells, Axis::Genes]);
        Ok(())
    }

    fn add_matrices(
        &mut self,
        path: &Path,
        name: Option<&str>,
        axes: [Axis; 2],
        key: fn(String) -> MatrixKey,
    ) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let table = Coo::open(path, name, axes.map(|a| self.axis(a)))?;
        let columns = table.value_columns();
        let mut found = Vec::new();
        for column in columns {
            match table.dtype(&column) {
                Ok(dtype) => found.push((column.clone(), dtype, key(column))),
                Err(e) => self
                    .description
                    .losses
                    .push(slaf_ingest::Loss { path: key(column).to_string(), reason: e.message().to_owned() }),
            }
        }
        if table.zeros_are_absent() {
            let names: Vec<_> = found.iter().map(|f| f.2.to_string()).collect();
            let note = "share a table, in which 0 fills what one of them lacks: zeros are left out";
            self.description.notes.push(format!("{} {note}", names.join(", ")));
        }
        self.add(table, found, axes);
        Ok(())
    }

    fn add(&mut self, table: Coo, columns: impl IntoIterator<Item = (String, Dtype, MatrixKey)>, axes: [Axis; 2]) {
        let [n_rows, n_cols] = axes.map(|a| self.axis(a).len());
        for (column, dtype, key) in columns {
            self.sources.push(Source { table: self.tables.len(), column });
            let encoding = MatrixEncoding::Csr;
            self.description.matrices.push(MatrixInfo { key, encoding, dtype, n_rows, n_cols, nnz: None });
        }
        self.tables.push(table);
    }

    fn add_uns(&mut self, path: &Path) -> Result<()> {
        let text = match std::fs::read(path.join(UNS)) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).at(UNS),
        };
        let uns = uns::parse(&text, &mut self.description.losses).at(UNS)?;
        if matches!(&uns, Element::Dict(items) if !items.is_empty()) {
            self.description.extras.push("uns".to_owned());
            self.uns = Some(uns);
        }
        Ok(())
    }

    fn source(&self, key: &MatrixKey) -> Result<(&MatrixInfo, &Coo, &str)> {
        let mut all = self.description.matrices.iter().zip(&self.sources);
        let (info, source) = all
            .find(|(info, _)| info.key == *key)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no {key} in the input")))?;
        Ok((info, &self.tables[source.table], &source.column))
    }

    fn axes_of(&self, key: &MatrixKey) -> [&AxisTable; 2] {
        match key {
            MatrixKey::Obsp(_) => [&self.cells, &self.cells],
            MatrixKey::Varp(_) => [&self.genes, &self.genes],
            MatrixKey::X | MatrixKey::Layer(_) | MatrixKey::RawX => [&self.cells, &self.genes],
        }
    }
}

impl Input for Slafdb {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.cells.frame(rows)
    }

    fn var(&self) -> Result<Frame> {
        self.genes.frame(0..self.genes.len())
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let (info, table, column) = self.source(key)?;
        let mut sorter = RowSorter::new(info.n_rows, info.n_cols, info.dtype, &self.options)?;
        table.each(column, info.dtype, self.axes_of(key), |rows, cols, values| sorter.push(rows, cols, values))?;
        sorter.finish(options)
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        let (info, table, column) = self.source(key)?;
        let mut counts = vec![0; info.n_cols as usize];
        table.each(column, info.dtype, self.axes_of(key), |_, cols, _| {
            cols.iter().for_each(|&c| counts[c as usize] += 1);
            Ok(())
        })?;
        Ok(counts)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        let info = self
            .description
            .arrays
            .iter()
            .find(|a| a.key == *key)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no {} in the input", key.name)))?;
        self.axis(key.axis).array(info, rows)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        let nothing = Element::Dict(Vec::new());
        write_element(target, "uns", self.uns.as_ref().unwrap_or(&nothing))
    }
}
