//! Search by similarity: the rows of an array beside an axis that are nearest to some points.
//!
//! A flat scan of the array, in blocks, which is exact, and which a condition only makes shorter. Where
//! the array has an index, only what it cannot leave out is compared; the answer is the same.

use crate::config;
use crate::search_lists;
use crate::selection::Selection;
use crate::store::inverted::Inverted;
use crate::store::manifest::ArrayEntry;
use crate::store::table_columns::of_rows;
use crate::store::values::{Coordinates, coordinates};
use crate::store::{Snapshot, TableName};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{ArrayKey, Axis, kind_of_extra};
use slaf_kernels::neighbors::{FlatScan, Hits, Measure, Numbers, Targets};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::pool_threads;
use std::ops::Range;
use std::sync::Arc;

/// Hits that are held while a scan runs: so many of all its queries together.
const HITS: usize = 1 << 22;
/// Queries of a scan.
const QUERIES: usize = 1 << 14;
/// Where fewer than one row in so many is compared, these alone are read.
const FEW: u64 = 64;

/// What [`Dataset::nearest`](crate::Dataset::nearest) searches for.
#[derive(Clone, Debug)]
pub enum SearchQuery {
    /// Points, one after another, each with as many values as the array has columns.
    Points {
        /// Values of a point.
        dims: usize,
        /// All values.
        values: Vec<f64>,
    },
    /// Cells (or genes, of an array of varm) of the store.
    Rows(Selection),
}

/// How to search.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// How many are found for each query, if there are so many.
    pub k: usize,
    /// How far apart points are.
    pub measure: Measure,
    /// The rows that are compared, each once.
    pub among: Selection,
    /// Leave a row out of what is found for itself.
    pub exclude_self: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        SearchOptions { k: 10, measure: Measure::L2, among: Selection::All, exclude_self: false }
    }
}

/// Is asked with the rows that were compared and all that will be; `false` stops.
pub(crate) type Going<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

/// The slot of an array, for messages.
pub(crate) fn slot(key: &ArrayKey) -> String {
    format!("{}/{}", if key.axis == Axis::Cells { "obsm" } else { "varm" }, key.name)
}

/// An array, and how many rows it has.
pub(crate) struct Source<'a> {
    snapshot: &'a Snapshot,
    key: &'a ArrayKey,
    pub(crate) entry: &'a ArrayEntry,
    pub(crate) n: u64,
}

/// Whether this is an element that the store keeps as it came, and no array.
pub(crate) fn is_extra(snapshot: &Snapshot, key: &ArrayKey) -> bool {
    snapshot.manifest.extras.iter().any(|extras| extras.elements.contains(&slot(key)))
}

/// Why such an element cannot be searched.
async fn refused_extra(snapshot: &Snapshot, key: &ArrayKey) -> Result<Error> {
    let path = snapshot.manifest.extras.as_ref().map_or("", |extras| &extras.path);
    let kind = kind_of_extra(snapshot.read_file(path).await?.to_vec(), &slot(key)).at(path)?;
    let message = format!(
        "it is {kind}, which the store keeps as it came and cannot search: add a float32 array of it under another \
         name (add_embedding in Python), and search that"
    );
    Ok(Error::invalid(message))
}

impl<'a> Source<'a> {
    pub(crate) async fn new(snapshot: &'a Snapshot, key: &'a ArrayKey) -> Result<Source<'a>> {
        if is_extra(snapshot, key) {
            return Err(refused_extra(snapshot, key).await?);
        }
        let entry = snapshot.array_entry(key)?;
        let n = if key.axis == Axis::Cells { snapshot.manifest.n_cells } else { snapshot.manifest.n_genes };
        if entry.column.is_none() || entry.width == 0 {
            return Err(Error::invalid("an array without columns has no coordinates"));
        }
        if n >= u64::from(u32::MAX) {
            return Err(Error::invalid(format!("{n} rows: at most 2^32 are compared")));
        }
        Ok(Source { snapshot, key, entry, n })
    }

    pub(crate) async fn read(&self, rows: &Selection) -> Result<Coordinates> {
        self.of(&self.snapshot.array_column(self.key, rows).await?)
    }

    fn of(&self, lists: &ArrayRef) -> Result<Coordinates> {
        coordinates(lists, self.entry.dtype, self.entry.width)
    }

    /// All rows, if it is worth to keep them in memory for a search among some.
    pub(crate) async fn whole(&self, among: &Selection) -> Result<Option<ArrayRef>> {
        let bytes = self.n * self.entry.width * self.entry.dtype.size() as u64;
        if self.are_few(among) || bytes > config::kept_memory() as u64 / 2 {
            return Ok(None);
        }
        self.snapshot.array_column(self.key, &Selection::All).await.map(Some)
    }

    /// Rows that are read from the array where they are few, from all of it otherwise.
    pub(crate) async fn read_of(&self, whole: Option<&ArrayRef>, rows: &Selection) -> Result<Coordinates> {
        match whole {
            Some(whole) => self.of(&of_rows(whole, rows)?),
            None => self.read(rows).await,
        }
    }

    fn are_few(&self, among: &Selection) -> bool {
        among.len(self.n) * FEW < self.n
    }

    /// The index that finds the `k` nearest of some rows, where it can be faster than comparing all.
    async fn index(&self, k: usize, options: &SearchOptions) -> Result<Option<Arc<Inverted>>> {
        let entry = self.snapshot.index(self.entry, options.measure);
        match entry.filter(|entry| k > 0 && k as u64 <= entry.n_rows / 4 && !self.are_few(&options.among)) {
            Some(entry) => self.snapshot.inverted(entry).await.map(Some),
            None => Ok(None),
        }
    }
}

/// How rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By an index where there is one.
    Any,
    /// By comparing all.
    Scan,
}

/// The rows that are nearest to each query, the nearest first; of ties those of smaller number.
pub(crate) async fn nearest(
    snapshot: &Snapshot,
    key: &ArrayKey,
    query: &SearchQuery,
    options: &SearchOptions,
    going: Going<'_>,
) -> Result<Hits> {
    nearest_by(snapshot, key, query, options, Way::Any, going).await.map(|(hits, _)| hits)
}

/// As [`nearest`], and how many pairs of a query and a row were compared.
pub(crate) async fn nearest_by(
    snapshot: &Snapshot,
    key: &ArrayKey,
    query: &SearchQuery,
    options: &SearchOptions,
    way: Way,
    going: Going<'_>,
) -> Result<(Hits, u64)> {
    let source = Source::new(snapshot, key).await.at(slot(key))?;
    let width = source.entry.width as usize;
    let axis = TableName::of_axis(key.axis).row();
    options.among.check(source.n, axis)?;
    let n_queries = match query {
        SearchQuery::Points { dims, values } if *dims == width => values.len() / width,
        SearchQuery::Points { dims, .. } => {
            let message = format!("points of {dims} values are no queries of an array with {width} columns");
            return Err(Error::invalid(message).at(slot(key)));
        }
        SearchQuery::Rows(rows) => {
            rows.check(source.n, axis)?;
            rows.len(source.n) as usize
        }
    };
    let n_among = options.among.len(source.n);
    let k = options.k.min(n_among as usize);
    let scans = (HITS / k.max(1)).clamp(1, QUERIES);
    let mut hits = Hits { starts: vec![0], ..Hits::default() };
    let total = n_among * n_queries.div_ceil(scans) as u64;
    let mut index = if way == Way::Scan { None } else { source.index(k, options).await.at(slot(key))? };
    let (mut whole, mut compared) = (None, 0);
    for (i, start) in (0..n_queries).step_by(scans).enumerate() {
        let part = start..(start + scans).min(n_queries);
        let targets = targets(&source, query, part.clone(), options.exclude_self).await?;
        let before = n_among * i as u64;
        let going = |done: u64| going(before + done, total);
        if let Some(lists) = &index {
            let scan = FlatScan::new(targets.clone(), k, options.measure).at(slot(key))?;
            match by_index(&source, lists, &scan, part.len(), &options.among, &going).await? {
                Some(pairs) => {
                    compared += pairs;
                    hits.append(scan.finish(pool_threads()?));
                    continue;
                }
                None => index = None,
            }
        }
        let scan = FlatScan::new(targets, k, options.measure).at(slot(key))?;
        if whole.is_none() {
            whole = Some(source.whole(&options.among).await?);
        }
        compare(&source, whole.as_ref().and_then(Option::as_ref), &scan, &options.among, &going).await?;
        compared += n_among * part.len() as u64;
        hits.append(scan.finish(pool_threads()?));
    }
    Ok((hits, compared))
}

/// Compares the queries of a scan with what an index cannot leave out, and with the rows that it is not
/// about; gives the number of pairs. `None` where comparing all is as fast.
async fn by_index(
    source: &Source<'_>,
    index: &Inverted,
    scan: &FlatScan,
    n_queries: usize,
    among: &Selection,
    going: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Option<u64>> {
    let (beyond, wanted) = match among {
        Selection::All => (Selection::Range(index.n_rows..source.n), None),
        rows => {
            let mut wanted = vec![false; source.n as usize];
            rows.iter(source.n).for_each(|row| wanted[row as usize] = true);
            let beyond = (index.n_rows..source.n).filter(|row| wanted[*row as usize]);
            (Selection::Ids(beyond.collect()), Some(wanted))
        }
    };
    compare(source, None, scan, &beyond, &|_| going(0)).await?;
    let going = || going(0);
    let pairs = search_lists::compare(source.snapshot, index, scan, n_queries, wanted.as_deref(), &going).await;
    Ok(pairs.at(slot(source.key))?.map(|pairs| pairs + beyond.len(source.n) * n_queries as u64))
}

async fn targets(source: &Source<'_>, query: &SearchQuery, part: Range<usize>, exclude_self: bool) -> Result<Targets> {
    let dims = source.entry.width as usize;
    match query {
        SearchQuery::Points { values, .. } => {
            let values = values[part.start * dims..part.end * dims].to_vec();
            Ok(Targets { dims, values, own: Vec::new(), first: part.start })
        }
        SearchQuery::Rows(rows) => {
            let rows = rows.part(part.start as u64..part.end as u64);
            let own = if exclude_self { rows.iter(source.n).map(|row| row as u32).collect() } else { Vec::new() };
            Ok(Targets { dims, values: source.read(&rows).await?.to_f64(), own, first: part.start })
        }
    }
}

/// Compares rows with all queries of a scan, block by block.
async fn compare(
    source: &Source<'_>,
    whole: Option<&ArrayRef>,
    scan: &FlatScan,
    among: &Selection,
    going: &(dyn Fn(u64) -> bool + Sync),
) -> Result<()> {
    let (n, threads) = (among.len(source.n), pool_threads()?);
    let step = config::search_rows() as u64;
    for start in (0..n).step_by(step as usize) {
        let part = among.part(start..(start + step).min(n));
        let block = source.read_of(whole, &part).await?;
        let each: Vec<u32> = match &part {
            Selection::Ids(ids) => ids.iter().map(|&id| id as u32).collect(),
            _ => Vec::new(),
        };
        let numbers = match &part {
            Selection::Ids(_) => Numbers::Each(&each),
            Selection::Range(rows) => Numbers::From(rows.start as u32),
            Selection::All => Numbers::From(0),
        };
        let going = || going(start);
        // A thread of the runtime hands its other tasks over before it computes.
        tokio::task::block_in_place(|| match &block {
            Coordinates::F32(values) => scan.offer(values.values(), numbers, threads, &going),
            Coordinates::F64(values) => scan.offer(values.values(), numbers, threads, &going),
        })
        .at(slot(source.key))?;
    }
    Ok(())
}

/// The columns of what was found, before those of obs or var.
pub(crate) fn schema(axis: Axis, query: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("query", query, false),
        Field::new("rank", DataType::Int64, false),
        Field::new(TableName::of_axis(axis).index(), DataType::Utf8, false),
        Field::new("distance", DataType::Float64, false),
    ]))
}

/// The ranks of hits, from 1.
pub(crate) fn ranks(hits: &Hits) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..hits.n_queries()).flat_map(|i| 1..=hits.of(i).len() as i64)))
}

/// The rows that were found.
pub(crate) fn rows(hits: &Hits) -> Selection {
    Selection::Ids(hits.rows.iter().map(|&row| u64::from(row)).collect())
}

/// A column that is shown beside what was found.
enum Shown {
    Distance,
    Number,
    /// A column of obs or var, and the name that it was asked by.
    Frame(String, String),
}

/// What the names of further columns mean: `distance`, the number of the row, and columns of obs or
/// var by their names in SQL, or behind `obs:`.
fn shown(snapshot: &Snapshot, axis: Axis, names: &[String]) -> Result<Vec<Shown>> {
    let (frame, prefix, number) = match axis {
        Axis::Cells => (&snapshot.manifest.obs, "obs", "cell_integer_id"),
        Axis::Genes => (&snapshot.manifest.var, "var", "gene_integer_id"),
    };
    let mut public: Vec<(String, &str)> = Vec::new();
    for column in &frame.columns {
        let mut name = column.name.clone();
        while name == TableName::of_axis(axis).index() || name == number || public.iter().any(|(p, _)| *p == name) {
            name = format!("{prefix}:{name}");
        }
        public.push((name, &column.name));
    }
    let stored = |name: &str| public.iter().find(|(p, _)| p == name).map(|(_, stored)| (*stored).to_string());
    let mut found: Vec<Shown> = Vec::new();
    for name in names {
        let behind = || name.strip_prefix(prefix)?.strip_prefix(':').and_then(stored);
        let one = match name.as_str() {
            "distance" => Shown::Distance,
            name if name == number => Shown::Number,
            name => match stored(name).or_else(behind) {
                Some(stored) => Shown::Frame(stored, name.to_string()),
                // The names of cells and genes, and their numbers, are not those of columns.
                None if frame.columns.iter().any(|column| column.name == name) => {
                    let message = format!("no column \"{name}\"; did you mean \"{prefix}:{name}\"?");
                    return Err(Error::new(ErrorKind::UnknownColumn, message));
                }
                None => Shown::Frame(name.to_string(), name.to_string()),
            },
        };
        let is_same = |other: &Shown| match (other, &one) {
            (Shown::Distance, Shown::Distance) | (Shown::Number, Shown::Number) => true,
            (Shown::Frame(a, _), Shown::Frame(b, _)) => a == b,
            _ => false,
        };
        if found.iter().any(is_same) {
            return Err(Error::invalid(format!("the column {name:?} comes twice in {names:?}")));
        }
        found.push(one);
    }
    Ok(found)
}

/// What was found as a table: `query` (the name of the row, or the number of the point from 0),
/// `rank` from 1, `cell_id` or `gene_id`, `distance`, and the further columns of these names, among
/// which `distance` may have a place of its own.
pub(crate) async fn table(
    snapshot: &Snapshot,
    axis: Axis,
    query: &SearchQuery,
    hits: &Hits,
    columns: &[String],
) -> Result<RecordBatch> {
    let repeated = || (0..hits.n_queries() as u64).flat_map(|i| hits.of(i as usize).map(move |_| i));
    let (query, data_type): (ArrayRef, DataType) = match query {
        SearchQuery::Points { .. } => {
            (Arc::new(Int64Array::from_iter_values(repeated().map(|i| i as i64))), DataType::Int64)
        }
        SearchQuery::Rows(rows) => {
            let names = snapshot.ids_of(axis, rows).await?;
            let places = UInt64Array::from_iter_values(repeated());
            (take(&names, &places, None).map_err(from_arrow)?, DataType::Utf8)
        }
    };
    let (table, frame, prefix, number) = match axis {
        Axis::Cells => (TableName::Cells, &snapshot.manifest.obs, "obs", "cell_integer_id"),
        Axis::Genes => (TableName::Genes, &snapshot.manifest.var, "var", "gene_integer_id"),
    };
    let mut shown = shown(snapshot, axis, columns)?;
    if !shown.iter().any(|one| matches!(one, Shown::Distance)) {
        shown.insert(0, Shown::Distance);
    }
    let stored = shown.iter().filter_map(|one| match one {
        Shown::Frame(stored, _) => Some(stored.clone()),
        _ => None,
    });
    let stored: Vec<String> = stored.collect();
    let mut arrays = snapshot.frame_columns(table, frame, &stored, true, &rows(hits)).await?;
    let mut of_frame = arrays.split_off(1).into_iter();
    let mut fields = schema(axis, data_type).fields()[..3].to_vec();
    let mut all = vec![query, ranks(hits), arrays.swap_remove(0)];
    let mut taken: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    taken.push("distance".to_string());
    taken.extend(shown.iter().any(|one| matches!(one, Shown::Number)).then(|| number.to_string()));
    for one in shown {
        let (name, array): (String, ArrayRef) = match one {
            Shown::Distance => ("distance".to_string(), Arc::new(Float64Array::from(hits.distances.clone()))),
            Shown::Number => {
                let numbers = Int64Array::from_iter_values(hits.rows.iter().map(|&row| i64::from(row)));
                (number.to_string(), Arc::new(numbers))
            }
            Shown::Frame(_, mut name) => {
                while taken.contains(&name) {
                    name = format!("{prefix}:{name}");
                }
                taken.push(name.clone());
                let array = of_frame.next().ok_or_else(|| Error::new(ErrorKind::Internal, "a column is missing"))?;
                (name, array)
            }
        };
        let is_of_frame = name != "distance" && name != number;
        fields.push(Arc::new(Field::new(name, array.data_type().clone(), is_of_frame)));
        all.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), all).map_err(from_arrow)
}

/// Rows whose nearest others are listed one after another, and where to go on.
pub(crate) struct Rankings {
    snapshot: Arc<Snapshot>,
    key: ArrayKey,
    rows: Selection,
    options: SearchOptions,
    at: u64,
}

impl Rankings {
    pub(crate) async fn new(
        snapshot: Arc<Snapshot>,
        key: &ArrayKey,
        rows: &Selection,
        options: SearchOptions,
    ) -> Result<Rankings> {
        let n = Source::new(&snapshot, key).await.at(slot(key))?.n;
        let axis = TableName::of_axis(key.axis).row();
        rows.check(n, axis)?;
        options.among.check(n, axis)?;
        Ok(Rankings { snapshot, key: key.clone(), rows: rows.clone(), options, at: 0 })
    }

    /// The next rows with what is nearest to them, as [`table`]. Rows without a direction have none.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let source = Source::new(&self.snapshot, &self.key).await?;
        let n = self.rows.len(source.n);
        if self.at >= n {
            return Ok(None);
        }
        let k = self.options.k.min(self.options.among.len(source.n) as usize).max(1);
        let step = (HITS / k).clamp(1, QUERIES) as u64;
        let mut rows = self.rows.part(self.at..(self.at + step).min(n));
        self.at += step;
        if self.options.measure == Measure::Cosine {
            let values = source.read(&rows).await?.to_f64();
            let has_direction = values.chunks(source.entry.width as usize).map(|row| row.iter().any(|x| *x != 0.0));
            rows = Selection::Ids(
                rows.iter(source.n).zip(has_direction).filter(|(_, has)| *has).map(|(i, _)| i).collect(),
            );
        }
        let query = SearchQuery::Rows(rows);
        let hits = nearest(&self.snapshot, &self.key, &query, &self.options, &|_, _| true).await?;
        table(&self.snapshot, self.key.axis, &query, &hits, &[]).await.map(Some)
    }
}
