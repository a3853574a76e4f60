//! Several inputs as one: their cells one after the other, over the genes of all or of each.

use crate::measured::Measured;
use crate::model::{
    ArrayKey, Axis, Column, ColumnInfo, ColumnKind, Description, Frame, FrameInfo, Input, Loss, MatrixKey, RowStream,
    StreamOptions, create_empty_hdf5,
};
use crate::row_sorter::canonicalize;
use crate::union_columns::United;
use crate::union_frames::{arrow_error, unite_obs, unite_var};
use crate::union_genes::{GeneMatch, Join, gene_keys, gene_match, match_genes, measured_in, no_common_gene};
use crate::union_slots::{absent_layers, unite_slots};
use crate::union_uns;
use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use slaf_core::order::DROP;
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values, with_values};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How to unite inputs.
#[derive(Clone, Debug)]
pub struct UnionOptions {
    /// Which genes the union has.
    pub join: Join,
    /// The obs column that names each cell's input.
    pub source_column: Option<String>,
    /// Take a layer that an input lacks as zeros in its cells; otherwise such a layer is a loss.
    pub fill_layers: bool,
}

pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) input: Box<dyn Input>,
    pub(crate) first_cell: u64,
    /// The union's number of each gene, or [`DROP`].
    pub(crate) genes: Arc<Vec<u32>>,
}

/// Several inputs as one; see [`union()`].
pub struct Union {
    pub(crate) sources: Vec<Source>,
    pub(crate) description: Description,
    pub(crate) var: Frame,
    pub(crate) obs: Vec<United>,
    /// The column that names the input of a cell.
    pub(crate) labels: Option<Labels>,
    pub(crate) uns: bool,
    /// How many sources, the first ones, give their genes and columns and not their cells.
    pub(crate) hidden: usize,
    /// Of all sources, those first ones among them.
    pub(crate) measured: Measured,
    pub(crate) matches: Vec<GeneMatch>,
}

/// The names of inputs as categories. An input that is given twice is one category.
#[derive(Clone)]
pub(crate) struct Labels {
    pub(crate) categories: Arc<StringArray>,
    /// The category of each source.
    pub(crate) codes: Vec<i32>,
}

impl Labels {
    fn of(sources: &[Source]) -> Labels {
        let mut names: Vec<&str> = Vec::new();
        let mut codes = Vec::new();
        for source in sources {
            let code = names.iter().position(|n| *n == source.name).unwrap_or(names.len());
            if code == names.len() {
                names.push(&source.name);
            }
            codes.push(code as i32);
        }
        Labels { categories: Arc::new(StringArray::from_iter_values(names)), codes }
    }
}

/// Unites inputs, each with the name that its cells get in the source column.
///
/// Genes are matched by `var["gene_ids"]` where every input has it without repeats, otherwise by
/// the index of var; never by position. Obs columns are united by name: a column that an input
/// lacks is missing there, categories are merged, numbers are promoted. X, and layers and obsm
/// that every input has, are kept, and so is `uns`: entries that are the same in every input as
/// they are, all others for each input under `by_source`. What cannot be united is listed in
/// [`Description::losses`].
///
/// # Errors
/// `ambiguous-name` when genes cannot be told apart, `invalid-argument` for an empty inner join
/// or a source column that obs has already, and those of reading.
pub fn union(inputs: Vec<(String, Box<dyn Input>)>, options: &UnionOptions) -> Result<Union> {
    unite(inputs, options, 0)
}

impl Union {
    /// The inputs, by their names.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &dyn Input)> {
        self.sources[self.hidden..].iter().map(|s| (s.name.as_str(), &*s.input))
    }
}

/// The cells of inputs as they follow those of another one: with its genes first and its columns, in
/// the types that hold the values of all.
pub struct Appended(Union);

/// Unites inputs with a first one, whose cells are not read again; see [`union()`]. Where no genes come, what
/// only the first one has of varm is kept.
///
/// # Errors
/// Those of [`union()`].
pub fn append(
    first: (String, Box<dyn Input>),
    others: Vec<(String, Box<dyn Input>)>,
    options: &UnionOptions,
) -> Result<Appended> {
    let inputs = std::iter::once(first).chain(others).collect();
    unite(inputs, options, 1).map(Appended)
}

impl Appended {
    /// Rows of obs of the first input, as they are in the union.
    ///
    /// # Errors
    /// Those of reading.
    pub fn obs_of_first(&self, rows: Range<u64>) -> Result<Frame> {
        let first = &self.0.sources[0];
        let frame = first.input.obs(rows).at(&first.name)?;
        let n = frame.index.len();
        let columns = self.0.obs.iter().map(|united| {
            let array = match united.places[0] {
                Some(at) => united.convert(0, &frame.columns[at].array).at("obs").at(&first.name)?,
                None => united.missing(n),
            };
            Ok(Column { info: united.info.clone(), array })
        });
        Ok(Frame { columns: columns.collect::<Result<_>>()?, index: frame.index })
    }

    /// The cells of the first input, and those of the others behind them, with the genes that were
    /// measured in them; those of the first have no name unless it says so itself.
    pub fn measured(&self) -> &Measured {
        &self.0.measured
    }

    /// How the genes of each of the other inputs go with those of the first.
    pub fn matches(&self) -> &[GeneMatch] {
        &self.0.matches[1..]
    }

    /// What one of the first input's genes is called where they are matched.
    pub fn example(&self) -> Option<&str> {
        self.0.matches[0].example.as_deref()
    }

    /// The inputs whose cells these are, by their names.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &dyn Input)> {
        self.0.sources()
    }

    /// Writes new HDF5 files below `folder`, each with the `uns` of the one before and what there is to tell of
    /// one more input, under `uns["by_source"]`: its absent layers, and of others than the first what it has and
    /// `before`, the extras of the first, has not the same. Gives the last, or `None` if there is nothing to tell.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn append_uns(&self, before: Option<Vec<u8>>, folder: &Path) -> Result<Option<Vec<u8>>> {
        let (mut image, mut is_changed) = (before, false);
        let first = format!("the first {} cells", self.0.sources[0].input.description().n_cells);
        for (i, source) in self.0.sources.iter().enumerate() {
            let (name, input) = if i == 0 { (&first, None) } else { (&source.name, Some(&*source.input)) };
            let absent_layers = absent_layers(&*source.input, &self.0.description.matrices);
            let file = folder.join(format!("{i}.h5"));
            if union_uns::append(image.as_deref(), &union_uns::Part { name, input, absent_layers }, &file)? {
                image = Some(std::fs::read(&file).at(file.display())?);
                is_changed = true;
            }
        }
        Ok(image.filter(|_| is_changed))
    }
}

impl Input for Appended {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        self.0.obs(rows)
    }

    fn var(&self) -> Result<Frame> {
        self.0.var()
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        self.0.raw_var()
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        self.0.matrix(key, options)
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        self.0.column_counts(key)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        self.0.array(key, rows)
    }
}

fn unite(inputs: Vec<(String, Box<dyn Input>)>, options: &UnionOptions, hidden: usize) -> Result<Union> {
    let mut vars = Vec::new();
    for (name, input) in &inputs {
        vars.push(input.var().at("var").at(name)?);
    }
    let (keys, by) = gene_keys(&inputs, &vars)?;
    let (union_genes, maps) = match_genes(&keys, options.join);
    let matches: Vec<GeneMatch> = maps.iter().zip(&keys).map(|(map, keys)| gene_match(map, &maps[0], keys)).collect();
    let left_out: u64 = matches.iter().map(|m| m.left_out).sum();
    if union_genes.is_empty() && keys.iter().any(|k| !k.is_empty()) {
        return Err(no_common_gene(&inputs, &keys));
    }
    let mut losses = Vec::new();
    let shown: Vec<String> = inputs.iter().map(|(n, _)| n.clone()).collect();
    let mut notes = vec![format!("{} genes, joined by {by}", union_genes.len())];
    if left_out > 0 {
        notes.push(format!("{left_out} genes of inputs are left out, as --join {} has it", options.join));
    }
    let var = unite_var(&vars, &maps, union_genes.len(), &shown, &mut losses, &mut notes)?;
    let obs_infos: Vec<&FrameInfo> = inputs.iter().map(|(_, i)| &i.description().obs).collect();
    let obs = unite_obs(&inputs, &obs_infos, &mut losses, &mut notes)?;
    if let Some(column) = &options.source_column
        && obs.iter().any(|c| c.info.name == *column)
    {
        return Err(Error::invalid(format!("obs has a column \"{column}\" already; choose another --source-column")));
    }
    let n_cells = inputs[hidden..].iter().map(|(_, i)| i.description().n_cells).sum();
    let n_genes = union_genes.len() as u64;
    // The genes of the first input come first.
    let same_genes = hidden == 1 && n_genes == inputs[0].1.description().n_genes;
    let (matrices, arrays) = unite_slots(&inputs, [n_cells, n_genes], options.fill_layers, same_genes, &mut losses);
    let mut columns: Vec<ColumnInfo> = obs.iter().map(|c| c.info.clone()).collect();
    columns.extend(options.source_column.iter().map(|name| ColumnInfo {
        name: name.clone(),
        data_type: crate::union_columns::string_dictionary(),
        kind: ColumnKind::Categorical { ordered: false },
    }));
    for (name, input) in &inputs {
        let d = input.description();
        notes.push(format!("{name}: {}, {} cells x {} genes", d.format, d.n_cells, d.n_genes));
        notes.extend(d.notes.iter().map(|n| format!("{name}: {n}")));
        let absent = absent_layers(&**input, &matrices);
        if !absent.is_empty() {
            notes.push(format!("{name}: zeros in {}, which it does not have", absent.join(", ")));
        }
        losses
            .extend(d.losses.iter().map(|l| Loss { path: format!("{} of {name}", l.path), reason: l.reason.clone() }));
    }
    let measured = measured_in(&inputs, &maps, union_genes.len() as u64, hidden);
    let told = (hidden == 0 && !measured.is_all()).then(|| measured.clone());
    if told.is_some() {
        notes
            .push("genes that an input does not have are zeros in its cells, and known not to be measured".to_string());
    }
    let uns = hidden == 0
        && inputs.iter().any(|(_, i)| union_uns::has_uns(&**i) || !absent_layers(&**i, &matrices).is_empty());
    let description = Description {
        format: format!("{} inputs", inputs.len()),
        n_cells,
        n_genes: union_genes.len() as u64,
        obs: FrameInfo { index_name: obs_infos[0].index_name.clone(), columns },
        var: FrameInfo {
            index_name: inputs[0].1.description().var.index_name.clone(),
            columns: var.columns.iter().map(|c| c.info.clone()).collect(),
        },
        raw_var: None,
        matrices,
        arrays,
        extras: if uns { vec!["uns".to_string()] } else { Vec::new() },
        measured: told,
        losses,
        notes,
    };
    let mut first_cell = 0;
    let sources = inputs.into_iter().zip(maps).enumerate().map(|(i, ((name, input), genes))| {
        let source = Source { name, first_cell, genes: Arc::new(genes), input };
        if i >= hidden {
            first_cell += source.input.description().n_cells;
        }
        source
    });
    let sources: Vec<Source> = sources.collect();
    let labels = options.source_column.as_ref().map(|_| Labels::of(&sources));
    Ok(Union { sources, description, var, obs, labels, uns, hidden, measured, matches })
}

impl Union {
    /// The rows of each input that lie in `rows`.
    fn split(&self, rows: &Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> {
        self.sources.iter().enumerate().skip(self.hidden).filter_map(move |(i, s)| {
            let end = s.first_cell + s.input.description().n_cells;
            let (from, to) = (rows.start.max(s.first_cell), rows.end.min(end));
            // An empty request still needs one input to name the columns.
            (from < to || (rows.is_empty() && i == self.hidden)).then(|| match from < to {
                true => (i, from - s.first_cell..to - s.first_cell),
                false => (i, 0..0),
            })
        })
    }
}

impl Input for Union {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        let mut index = Vec::new();
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.obs.len()];
        let mut sources = Vec::new();
        for (i, local) in self.split(&rows) {
            let source = &self.sources[i];
            let frame = source.input.obs(local).at(&source.name)?;
            let n = frame.index.len();
            for (united, parts) in self.obs.iter().zip(&mut parts) {
                parts.push(match united.places[i] {
                    Some(at) => united.convert(i, &frame.columns[at].array).at("obs").at(&source.name)?,
                    None => united.missing(n),
                });
            }
            sources.extend(std::iter::repeat_n(i, n));
            index.extend(frame.index);
        }
        let mut columns = Vec::new();
        for (united, parts) in self.obs.iter().zip(parts) {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            columns.push(Column { info: united.info.clone(), array: united.concat(&parts)? });
        }
        if let Some(Labels { categories, codes }) = &self.labels {
            let keys: Int32Array = sources.into_iter().map(|i: usize| Some(codes[i])).collect();
            let array: ArrayRef = Arc::new(DictionaryArray::try_new(keys, categories.clone()).map_err(arrow_error)?);
            let info = self.description.obs.columns[self.description.obs.columns.len() - 1].clone();
            columns.push(Column { info, array });
        }
        Ok(Frame { index, columns })
    }

    fn var(&self) -> Result<Frame> {
        Ok(self.var.clone())
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let mut streams = Vec::new();
        let dtype = self.description.matrices.iter().find(|m| m.key == *key).map(|m| m.dtype);
        for source in &self.sources[self.hidden..] {
            let stream = match dtype {
                Some(dtype) if !has(&*source.input, key) => {
                    Box::new(NoValues { left: source.input.description().n_cells, dtype, options })
                }
                _ => source.input.matrix(key, options).at(&source.name)?,
            };
            streams.push((source.name.clone(), stream, source.genes.clone()));
        }
        Ok(Box::new(UnionStream { streams, at: 0 }))
    }

    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        let mut counts = vec![0; self.description.n_genes as usize];
        for source in self.sources[self.hidden..].iter().filter(|s| has(&*s.input, key)) {
            let here = source.input.column_counts(key).at(&source.name)?;
            for (&gene, count) in source.genes.iter().zip(here).filter(|(g, _)| **g != DROP) {
                counts[gene as usize] += count;
            }
        }
        Ok(counts)
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        let found = self.description.arrays.iter().find(|a| a.key == *key);
        let dtype = found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no array {}", key.name)))?.dtype;
        if key.axis == Axis::Genes {
            let first = &self.sources[0];
            return first.input.array(key, rows).at(&first.name);
        }
        let mut all = Values::empty(dtype);
        for (i, local) in self.split(&rows) {
            let source = &self.sources[i];
            let part = source.input.array(key, local).at(&source.name)?;
            if part.first_rounded(dtype).is_some() {
                let message = format!("integers would be rounded: other inputs need {dtype}; give all inputs one type");
                return Err(Error::new(ErrorKind::WouldLoseData, message).at(&key.name).at(&source.name));
            }
            all = all.concat(&part);
        }
        Ok(all)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        if !self.uns {
            return create_empty_hdf5(target);
        }
        let parts = self.sources.iter().map(|s| union_uns::Part {
            name: &s.name,
            input: Some(&*s.input),
            absent_layers: absent_layers(&*s.input, &self.description.matrices),
        });
        union_uns::write(&parts.collect::<Vec<_>>(), target)
    }
}

fn has(input: &dyn Input, key: &MatrixKey) -> bool {
    input.description().matrices.iter().any(|m| m.key == *key)
}

/// The rows of a layer that an input does not have.
struct NoValues {
    left: u64,
    dtype: Dtype,
    options: StreamOptions,
}

impl Iterator for NoValues {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let n = self.left.min(self.options.max_rows.max(1) as u64);
        self.left -= n;
        let chunk = || CsrChunk { indptr: vec![0; n as usize + 1], ..CsrChunk::empty(self.dtype) };
        (n > 0).then(|| Ok(chunk()))
    }
}

impl RowStream for NoValues {}

/// The name of an input, its rows, and its map of genes.
type SourceStream = (String, Box<dyn RowStream>, Arc<Vec<u32>>);

/// The streams of the inputs one after the other, columns renumbered.
struct UnionStream {
    streams: Vec<SourceStream>,
    at: usize,
}

impl Iterator for UnionStream {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (name, stream, genes) = self.streams.get_mut(self.at)?;
            match stream.next() {
                Some(chunk) => return Some(chunk.and_then(|c| renumber(&c, genes)).at(&*name)),
                None => self.at += 1,
            }
        }
    }
}

impl RowStream for UnionStream {
    fn duplicates(&self) -> u64 {
        self.streams.iter().map(|s| s.1.duplicates()).sum()
    }
}

fn renumber(chunk: &CsrChunk, genes: &[u32]) -> Result<CsrChunk> {
    fn of<T: Value>(values: &[T], chunk: &CsrChunk, genes: &[u32]) -> CsrChunk {
        let (mut indptr, mut indices, mut kept) = (vec![0], Vec::new(), Vec::new());
        for i in 0..chunk.n_rows() {
            for at in chunk.row(i) {
                let gene = genes[chunk.indices[at] as usize];
                if gene != DROP {
                    indices.push(gene);
                    kept.push(values[at]);
                }
            }
            indptr.push(indices.len() as u64);
        }
        CsrChunk { indptr, indices, values: T::wrap(kept) }
    }
    let renumbered = with_values!(&chunk.values, v => of(v, chunk, genes));
    // The new numbers need not rise.
    Ok(canonicalize(renumbered)?.0)
}
