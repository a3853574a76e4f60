//! loom files, versions 2 and 3: a dense matrix genes x cells, with attributes for both axes.
//!
//! The names are found as scanpy's `read_loom` does; layers become layers, attributes of two
//! dimensions become obsm and varm, graphs become obsp and varp, attributes of the file uns. The
//! fields of a compound attribute, as SCope writes them, are columns: `Embedding._X`.

use crate::h5::{Dataset, Elem, Group, H5File, Node, unsupported};
use crate::h5ad::{ColumnSource, FrameReader, Refusal};
use crate::h5ad_writer::{Element, check_name, write_element};
use crate::model::{
    ArrayInfo, ArrayKey, Axis, ColumnInfo, Description, Frame, FrameInfo, Input, Loss, MatrixEncoding, MatrixInfo,
    MatrixKey, OpenOptions, RowStream, StreamOptions,
};
use crate::plain::absent;
use crate::row_sorter::RowSorter;
use hdf5_pure::AttrValue;
use slaf_core::{Context, Dtype, Error, Result, Values, with_values};
use std::ops::Range;
use std::path::Path;

/// Attributes that name cells and genes, the most usual first.
const CELL_NAMES: [&str; 6] = ["CellID", "obs_names", "cell_id", "cell_names", "barcodes", "index"];
const GENE_NAMES: [&str; 7] = ["Gene", "var_names", "gene_names", "gene_symbols", "Accession", "gene_ids", "index"];
const VERSION: &str = "LOOM_SPEC_VERSION";
/// Attributes of the file that are about the file, not the data.
const HOUSEKEEPING: [&str; 2] = ["CreationDate", "last_modified"];
/// An axis longer than this must have names.
const MAX_UNNAMED: u64 = 10_000_000;
const DEFAULT_MEMORY: usize = 256 << 20;

/// Opens a loom file.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Input>> {
    let root = Group::root(&H5File::open(path)?);
    let matrix = root.dataset("matrix")?;
    let (n_genes, n_cells) = plane(&matrix)?;
    let mut loom = Loom {
        description: Description { n_cells, n_genes, ..Description::default() },
        obs: None,
        var: None,
        matrices: vec![Source::Dense(Box::new(matrix.clone()))],
        arrays: Vec::new(),
        uns: Vec::new(),
        options: options.clone(),
    };
    loom.add_matrix(MatrixKey::X, &matrix)?;
    loom.obs = loom.attributes(&root, "col_attrs", Axis::Cells)?;
    loom.var = loom.attributes(&root, "row_attrs", Axis::Genes)?;
    if let Some(layers) = root.group("layers")? {
        for (name, node) in layers.members()? {
            match node {
                Node::Dataset(d) if plane(&d)? == (n_genes, n_cells) => {
                    loom.add_matrix(MatrixKey::Layer(name), &d)?;
                    loom.matrices.push(Source::Dense(Box::new(d)));
                }
                Node::Dataset(d) => {
                    return Err(Error::malformed("not of the shape of the matrix").at(d.path()));
                }
                Node::Group(g) => loom.lose(g.path(), "a group, not a layer"),
            }
        }
    }
    loom.graphs(&root, "col_graphs", Axis::Cells)?;
    loom.graphs(&root, "row_graphs", Axis::Genes)?;
    let mut version = None;
    let mut attributes = Vec::new();
    // Version 2 keeps attributes of the file at the root, version 3 in a group.
    let of_file = root.attrs()?;
    for name in of_file.unread() {
        loom.lose(name, "an attribute of the whole file, of a type that is not read");
    }
    for (name, value) in of_file.all() {
        match element(value) {
            Some(Element::String(text)) if name == VERSION => version = Some(text),
            _ if HOUSEKEEPING.contains(&name) => {}
            Some(value) => attributes.push((name.to_owned(), value)),
            None => loom.lose(name, "an attribute of the whole file"),
        }
    }
    for (name, node) in root.members()? {
        match (name.as_str(), node) {
            ("matrix" | "layers" | "col_attrs" | "row_attrs" | "col_graphs" | "row_graphs", _) => {}
            ("attrs", Node::Group(attrs)) => {
                for (name, node) in attrs.members()? {
                    match (name.as_str(), node) {
                        (VERSION, Node::Dataset(d)) if d.elem().is_string() => version = d.read_strings()?.pop(),
                        (name, _) if HOUSEKEEPING.contains(&name) => {}
                        (_, Node::Dataset(d)) if text(&d) => attributes.push((name, strings(&d)?)),
                        (_, node) => loom.lose(node.path(), "an attribute of the whole file"),
                    }
                }
            }
            (_, node) => loom.lose(node.path(), "not a part of a loom file"),
        }
    }
    for (name, value) in attributes {
        if check_name(&name).is_err() || loom.uns.iter().any(|(other, _)| *other == name) {
            loom.lose(&name, "an attribute of the whole file whose name uns cannot have");
        } else {
            loom.uns.push((name, value));
        }
    }
    if !loom.uns.is_empty() {
        loom.description.extras.push("uns".to_owned());
    }
    loom.description.format = match version {
        Some(version) => format!("loom {version}"),
        None => "loom".to_owned(),
    };
    Ok(Box::new(loom))
}

/// An attribute's value as an entry of uns.
fn element(value: &AttrValue) -> Option<Element> {
    if let Some(text) = value.as_str() {
        return Some(Element::String(text.to_owned()));
    }
    if let Some(strings) = value.as_strings() {
        return Some(Element::Strings { shape: vec![strings.len() as u64], strings: strings.to_vec() });
    }
    let values = match value {
        AttrValue::F64(_) | AttrValue::F32(_) => Values::F64(value.to_f64s()?),
        AttrValue::U64(v) => Values::U64(vec![*v]),
        _ => Values::I64(vec![value.as_i64()?]),
    };
    Some(Element::Scalar(values))
}

/// Whether a dataset is one text, or a list of them.
fn text(d: &Dataset) -> bool {
    d.elem().is_string() && d.shape().len() <= 1
}

fn strings(d: &Dataset) -> Result<Element> {
    let strings = d.read_strings()?;
    Ok(match (d.shape(), &strings[..]) {
        ([], [one]) => Element::String(one.clone()),
        _ => Element::Strings { shape: vec![strings.len() as u64], strings },
    })
}

/// Rows and columns.
fn plane(d: &Dataset) -> Result<(u64, u64)> {
    d.number()?;
    d.check_storage()?;
    match *d.shape() {
        [rows, columns] if rows <= 1 << 32 => Ok((rows, columns)),
        [..] => Err(Error::malformed("not a matrix of two dimensions and up to 2^32 rows").at(d.path())),
    }
}

/// Where a matrix is, in the order of the description.
enum Source {
    /// genes x cells
    Dense(Box<Dataset>),
    /// Edges: from, to, weight.
    Graph(Box<[Dataset; 3]>),
}

struct Loom {
    description: Description,
    obs: Option<Names>,
    var: Option<Names>,
    matrices: Vec<Source>,
    arrays: Vec<Dataset>,
    uns: Vec<(String, Element)>,
    options: OpenOptions,
}

/// A frame, of which the index may be missing.
struct Names {
    reader: FrameReader,
    named: bool,
}

impl Loom {
    fn lose(&mut self, path: &str, reason: &str) {
        let path = path.trim_start_matches('/').to_owned();
        self.description.losses.push(Loss { path, reason: reason.to_owned() });
    }

    fn add_matrix(&mut self, key: MatrixKey, d: &Dataset) -> Result<()> {
        let (dtype, _) = d.number()?;
        let n = |axis| self.len(axis);
        let (n_rows, n_cols) = match key {
            MatrixKey::Obsp(_) => (n(Axis::Cells), n(Axis::Cells)),
            MatrixKey::Varp(_) => (n(Axis::Genes), n(Axis::Genes)),
            _ => (n(Axis::Cells), n(Axis::Genes)),
        };
        // As scanpy reads it; dense, most of an export would be zeros.
        let encoding = MatrixEncoding::Csr;
        self.description.matrices.push(MatrixInfo { key, encoding, dtype, n_rows, n_cols, nnz: None });
        Ok(())
    }

    fn len(&self, axis: Axis) -> u64 {
        match axis {
            Axis::Cells => self.description.n_cells,
            Axis::Genes => self.description.n_genes,
        }
    }

    fn add_array(&mut self, axis: Axis, name: String, d: Dataset) -> Result<()> {
        let (n_rows, n_cols) = (self.len(axis), d.shape()[1]);
        if d.shape()[0] != n_rows {
            return Err(Error::malformed(format!("{} rows instead of {n_rows}", d.shape()[0])).at(d.path()));
        }
        d.check_storage()?;
        let (dtype, _) = d.number()?;
        self.description.arrays.push(ArrayInfo { key: ArrayKey { axis, name }, dtype, n_rows, n_cols });
        self.arrays.push(d);
        Ok(())
    }

    fn attributes(&mut self, root: &Group, name: &str, axis: Axis) -> Result<Option<Names>> {
        let n = self.len(axis);
        let (what, candidates): (_, &[&str]) = match axis {
            Axis::Cells => ("cells", &CELL_NAMES),
            Axis::Genes => ("genes", &GENE_NAMES),
        };
        let group = root.group(name)?;
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for (name, node) in group.as_ref().map(Group::members).transpose()?.unwrap_or_default() {
            let path = node.path().to_owned();
            match (&group, node) {
                (_, Node::Dataset(d)) if d.shape().len() == 2 && d.number().is_ok() => self.add_array(axis, name, d)?,
                (_, Node::Dataset(d)) if *d.elem() == Elem::Compound && d.shape().len() == 1 => {
                    fields.push((name, d));
                }
                (_, Node::Dataset(d)) if d.shape().len() != 1 => {
                    self.lose(&path, &format!("{} values of {} dimensions", d.elem().name(), d.shape().len()));
                }
                (Some(group), node @ Node::Dataset(_)) => match ColumnSource::open(group, node, n) {
                    Ok(source) => columns.push((name, source)),
                    Err(Refusal::Loss(reason)) => self.lose(&path, &reason),
                    Err(Refusal::Error(e)) => return Err(e),
                },
                _ => self.lose(&path, "a group, not an attribute"),
            }
        }
        for (attribute, d) in fields {
            d.expect_len(n)?;
            d.check_storage()?;
            for (field, d) in d.fields()? {
                let (name, path) = (format!("{attribute}.{field}"), d.path().to_owned());
                if d.shape().len() == 2 && d.number().is_ok() {
                    self.add_array(axis, name, d)?;
                    continue;
                }
                let source = ColumnSource::Plain(d);
                let taken = columns.iter().any(|(other, _)| *other == name);
                match source.check(n) {
                    _ if taken => self.lose(&path, &format!("there is an attribute \"{name}\" as well")),
                    Ok(()) => columns.push((name, source)),
                    Err(Refusal::Loss(reason)) => self.lose(&path, &reason),
                    Err(Refusal::Error(e)) => return Err(e),
                }
            }
        }
        let found = candidates.iter().find_map(|c| columns.iter().position(|(name, _)| name == c));
        if found.is_none() {
            if n > MAX_UNNAMED {
                return Err(Error::malformed(format!("{n} {what} without names")).at(format!("/{name}")));
            }
            self.description.notes.push(format!("{what} are named by their numbers: no attribute has names"));
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let info = |(name, source): &(String, ColumnSource)| ColumnInfo {
            name: name.clone(),
            data_type: source.data_type(),
            kind: source.kind(),
        };
        let (index_name, index, infos) = match found {
            Some(i) => {
                let (name, index) = columns.remove(i);
                (Some(name), index, columns.iter().map(info).collect())
            }
            None => {
                // Something must be read as the index; its strings are not used.
                let infos: Vec<_> = columns.iter().map(info).collect();
                let copy = match &columns[0].1 {
                    ColumnSource::Plain(d) => ColumnSource::Plain(d.clone()),
                    _ => return Err(unsupported("an attribute that is not a plain array").at(name)),
                };
                (None, copy, infos)
            }
        };
        let frame = FrameInfo { index_name, columns: infos };
        match axis {
            Axis::Cells => self.description.obs = frame.clone(),
            Axis::Genes => self.description.var = frame.clone(),
        }
        let sources = columns.into_iter().map(|(_, source)| source).collect();
        let reader = FrameReader::from_parts(frame, n, &format!("/{name}"), index, sources);
        Ok(Some(Names { reader, named: found.is_some() }))
    }

    fn graphs(&mut self, root: &Group, name: &str, axis: Axis) -> Result<()> {
        let Some(graphs) = root.group(name)? else { return Ok(()) };
        for (name, node) in graphs.members()? {
            let Node::Group(g) = node else {
                self.lose(node.path(), "not a graph");
                continue;
            };
            let (a, b, w) = (g.dataset("a")?, g.dataset("b")?, g.dataset("w")?);
            let n = a.len()?;
            for (d, integer) in [(&a, true), (&b, true), (&w, false)] {
                d.expect_len(n)?;
                d.check_storage()?;
                if integer {
                    d.integer()?
                } else {
                    d.number()?
                };
            }
            let key = if axis == Axis::Cells { MatrixKey::Obsp(name) } else { MatrixKey::Varp(name) };
            self.add_matrix(key, &w)?;
            self.matrices.push(Source::Graph(Box::new([a, b, w])));
        }
        Ok(())
    }

    fn source(&self, key: &MatrixKey) -> Result<(&MatrixInfo, &Source)> {
        let mut all = self.description.matrices.iter().zip(&self.matrices);
        all.find(|(info, _)| info.key == *key).ok_or_else(|| absent(key))
    }

    /// Genes per read: as many as a quarter of the memory holds, in whole chunks if possible.
    fn genes_per_block(&self, d: &Dataset, dtype: Dtype) -> u64 {
        let memory = if self.options.memory == 0 { DEFAULT_MEMORY } else { self.options.memory };
        let row = self.description.n_cells.saturating_mul(dtype.size() as u64).max(1);
        let fit = (memory as u64 / 4 / row).max(1);
        let chunk = d.chunk_rows().max(1);
        if fit > chunk { fit / chunk * chunk } else { fit }
    }

    fn each_block(&self, d: &Dataset, mut f: impl FnMut(u64, Values) -> Result<()>) -> Result<()> {
        let step = self.genes_per_block(d, d.number()?.0);
        let mut reader = d.reader()?;
        let mut begin = 0;
        while begin < self.description.n_genes {
            let end = begin.saturating_add(step).min(self.description.n_genes);
            f(begin, reader.values(begin..end)?)?;
            begin = end;
        }
        Ok(())
    }

    fn sort_dense(&self, info: &MatrixInfo, d: &Dataset) -> Result<RowSorter> {
        let mut sorter = RowSorter::new(info.n_rows, info.n_cols, info.dtype, &self.options)?;
        let n_cells = self.description.n_cells as usize;
        let (mut cells, mut genes) = (Vec::new(), Vec::new());
        self.each_block(d, |first, block| {
            with_values!(&block, v => {
                for (i, row) in v.chunks_exact(n_cells.max(1)).enumerate() {
                    cells.clear();
                    let mut values = Vec::new();
                    for (cell, &value) in row.iter().enumerate() {
                        if stored(value) {
                            cells.push(cell as u64);
                            values.push(value);
                        }
                    }
                    genes.clear();
                    genes.resize(cells.len(), (first + i as u64) as u32);
                    sorter.push(&cells, &genes, &slaf_core::Value::wrap(values))?;
                }
            });
            Ok(())
        })?;
        Ok(sorter)
    }

    fn sort_graph(&self, info: &MatrixInfo, [a, b, w]: &[Dataset; 3]) -> Result<RowSorter> {
        const STEP: u64 = 1 << 18;
        let mut sorter = RowSorter::new(info.n_rows, info.n_cols, info.dtype, &self.options)?;
        let (mut from, mut to, mut weights) = (a.reader()?, b.reader()?, w.reader()?);
        let n = a.len()?;
        let mut begin = 0;
        while begin < n {
            let end = (begin + STEP).min(n);
            let rows = from.u64s(begin..end)?;
            let columns = to
                .u64s(begin..end)?
                .into_iter()
                .map(|c| u32::try_from(c).map_err(|_| Error::malformed(format!("an edge to {c}")).at(b.path())));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            sorter.push(&rows, &columns, &weights.values(begin..end)?).at(a.path())?;
            begin = end;
        }
        Ok(sorter)
    }

    fn frame(names: &Option<Names>, rows: Range<u64>) -> Result<Frame> {
        let numbers = |rows: Range<u64>| rows.map(|i| i.to_string()).collect();
        match names {
            None => Ok(Frame { index: numbers(rows), columns: Vec::new() }),
            Some(names) => {
                let mut frame = names.reader.read(rows.clone())?;
                if !names.named {
                    frame.index = numbers(rows);
                }
                Ok(frame)
            }
        }
    }
}

/// Zeros are left out, -0.0 is not.
fn stored<T: slaf_core::Value>(value: T) -> bool {
    value != T::default() || value.as_f64().is_sign_negative()
}

impl Input for Loom {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        if rows.end > self.description.n_cells || rows.start > rows.end {
            return Err(Error::invalid(format!("rows {}..{}", rows.start, rows.end)));
        }
        Loom::frame(&self.obs, rows)
    }

    fn var(&self) -> Result<Frame> {
        Loom::frame(&self.var, 0..self.description.n_genes)
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let (info, source) = self.source(key)?;
        let sorter = match source {
            Source::Dense(d) => self.sort_dense(info, d)?,
            Source::Graph(edges) => self.sort_graph(info, edges)?,
        };
        sorter.finish(options)
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        let (info, source) = self.source(key)?;
        let mut counts = vec![0; info.n_cols as usize];
        match source {
            Source::Dense(d) => self.each_block(d, |first, block| {
                with_values!(&block, v => {
                    let rows = v.chunks_exact((self.description.n_cells as usize).max(1));
                    for (count, row) in counts[first as usize..].iter_mut().zip(rows) {
                        *count = row.iter().filter(|&&v| stored(v)).count() as u64;
                    }
                });
                Ok(())
            })?,
            Source::Graph(_) => {
                for chunk in self.matrix(key, StreamOptions::default())? {
                    chunk?.indices.iter().for_each(|&c| counts[c as usize] += 1);
                }
            }
        }
        Ok(counts)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        let mut all = self.description.arrays.iter().zip(&self.arrays);
        let (_, d) = all.find(|(info, _)| info.key == *key).ok_or_else(|| absent(&key.name))?;
        d.reader()?.values(rows)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        write_element(target, "uns", &Element::Dict(self.uns.clone()))
    }
}
