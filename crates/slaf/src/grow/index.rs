//! An index of an array for the search by similarity: an inverted file.

use super::options::{GrowOptions, GrowReport};
use super::writer::{Head, Next, commit_over};
use crate::config;
use crate::convert::job::tick;
use crate::convert::survey;
use crate::progress::Progress;
use crate::search::{Source, slot};
use crate::selection::Selection;
use crate::store::TableName;
use crate::store::inverted::{KIND, NUMBER, Place, encode_head, row_length};
use crate::store::manifest::{ArrayEntry, IndexEntry, Manifest};
use crate::store::values::Coordinates;
use arrow::array::ArrayRef;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{ArrayKey, Axis};
use slaf_kernels::neighbors::{Lists, ListsBuilder, Measure};
use slaf_lance::runtime::{block_on, pool_threads};
use std::time::Instant;

/// Which index to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// An inverted file, where there are so many rows that it is faster than comparing all.
    Auto,
    /// An inverted file.
    Ivf,
}

slaf_core::names!(IndexKind, "kind", { Auto => "auto", Ivf => "ivf" });

/// How to make an index.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// How far apart rows are; a search with another metric does not use the index.
    pub measure: Measure,
    /// Which index.
    pub kind: IndexKind,
    /// Bytes that may be held, about, beside four for each row.
    pub memory: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        IndexOptions { measure: Measure::L2, kind: IndexKind::Auto, memory: 1 << 30 }
    }
}

/// Makes an index of an array of obsm or varm, in one commit, in place of one for the same metric.
/// [`Dataset::nearest`](crate::Dataset::nearest) uses it by itself, and gives the same bits with it.
///
/// Cells that are appended later are compared one by one beside it. What changes the array or the numbers
/// of its rows makes a version without it; `optimize` keeps it.
///
/// # Errors
/// `unknown-table` with near names; `invalid-argument` for arrays that cannot be searched, and for
/// coordinates that cannot be compared, with the number of the row; those of reading and writing;
/// `interrupted`. After an error nothing is left, unless it is `commit-outcome-unknown`.
pub fn create_index(
    uri: &str,
    key: &ArrayKey,
    options: &IndexOptions,
    grow: &GrowOptions,
    progress: Progress<'_>,
) -> Result<GrowReport> {
    let started = Instant::now();
    let metric = options.measure.name();
    let operation = format!("index {} by {metric}", slot(key));
    // What was built for a try that lost, of a version that has the same rows.
    let mut built: Option<IndexEntry> = None;
    let change = |head: &Head<'_>| {
        let source = block_on(Source::new(&head.snapshot, key)).at(slot(key))?;
        let least = config::indexed_rows();
        if options.kind == IndexKind::Auto && source.n < least {
            let n = source.n;
            return Ok((
                None,
                vec![format!(
                    "no index was made: comparing all {n} rows takes no longer below {least}; kind=\"ivf\" (--kind ivf) makes \
                 one"
                )],
            ));
        }
        let entry = match built.take().filter(|entry| entry.array(head.manifest()) == Some(source.entry)) {
            Some(entry) => entry,
            None => Building { head, source: &source, key, options, progress }.build()?,
        };
        built = Some(entry.clone());
        let mut next = head.next();
        put(&mut next, entry);
        Ok((Some(next), Vec::new()))
    };
    let (manifest, notes) = commit_over(uri, grow, &operation, change)?;
    let written = if notes.is_empty() { vec![format!("index of {} by {metric}", slot(key))] } else { Vec::new() };
    let report = GrowReport::new(&manifest, written, Vec::new());
    Ok(GrowReport { notes, seconds: started.elapsed().as_secs_f64(), ..report })
}

/// Takes the indexes of an array out of the next version, or the one for a metric, in one commit; the array
/// and all else stay. Older versions have them, until [`gc`](super::gc) removes these.
///
/// # Errors
/// `unknown-table` with near names for an array that there is not; `not-found` for one without such an
/// index, with those that there are; those of writing.
pub fn drop_index(uri: &str, key: &ArrayKey, measure: Option<Measure>, grow: &GrowOptions) -> Result<GrowReport> {
    let started = Instant::now();
    let shown = |measure: &str| format!("index of {} by {measure}", slot(key));
    let change = |head: &Head<'_>| {
        let before = head.manifest();
        let array = head.snapshot.array_entry(key)?;
        let mut next = head.next();
        let gone = next.manifest().take_indexes(|manifest, index| {
            index.array(manifest) == Some(array) && measure.is_none_or(|measure| index.metric == measure.name())
        });
        if gone.is_empty() {
            return Err(no_index(before, key, measure));
        }
        Ok((Some(next), gone.iter().map(|index| shown(&index.metric)).collect()))
    };
    let operation =
        format!("drop {}", measure.map_or_else(|| format!("indexes of {}", slot(key)), |m| shown(m.name())));
    let (manifest, removed) = commit_over(uri, grow, &operation, change)?;
    Ok(GrowReport { seconds: started.elapsed().as_secs_f64(), ..GrowReport::new(&manifest, Vec::new(), removed) })
}

fn no_index(manifest: &Manifest, key: &ArrayKey, measure: Option<Measure>) -> Error {
    let there: Vec<String> = manifest
        .indexes
        .iter()
        .filter_map(|index| Some(format!("{} by {}", index.array(manifest)?.shown(), index.metric)))
        .collect();
    let there = if there.is_empty() { "there are none".to_string() } else { format!("there are {}", there.join(", ")) };
    let by = measure.map_or_else(String::new, |measure| format!(" by {}", measure.name()));
    Error::new(ErrorKind::NotFound, format!("{} has no index{by}; {there}", slot(key)))
}

/// Names an index in place of one of the same array and metric.
fn put(next: &mut Next, entry: IndexEntry) {
    let is_same = |old: &IndexEntry| (old.axis, &old.column, &old.metric) == (entry.axis, &entry.column, &entry.metric);
    next.manifest().take_indexes(|_, old| is_same(old));
    for path in entry.files() {
        next.replace_file(None, Some(path));
    }
    next.manifest().indexes.push(entry);
}

/// Takes the indexes of a version over to a next one, whose tables are others with the same rows.
pub(super) fn carry(before: &Manifest, next: &mut Manifest) {
    for old in &before.indexes {
        let Some(moved) = moved(old, before, next) else { continue };
        next.indexes.push(moved);
        next.files.extend(before.files.iter().filter(|f| old.files().any(|path| *path == f.path)).cloned());
    }
}

/// Lets the indexes of arrays of genes follow them from a version, which the next one began as, into a table
/// whose first rows are the same.
pub(super) fn follow_genes(before: &Manifest, next: &mut Manifest) {
    let followed = |old: &IndexEntry| match old.axis {
        Axis::Genes => moved(old, before, next).unwrap_or_else(|| old.clone()),
        Axis::Cells => old.clone(),
    };
    next.indexes = next.indexes.iter().map(followed).collect();
}

/// An index as one of the array of the same name in the next version.
fn moved(old: &IndexEntry, before: &Manifest, next: &Manifest) -> Option<IndexEntry> {
    let name = &old.array(before)?.name;
    let same = |a: &&ArrayEntry| a.axis == old.axis && a.name == *name;
    let column = next.arrays.iter().find(same)?.column.clone()?;
    Some(IndexEntry { table: next.tables.of_axis(old.axis).path.clone(), column, ..old.clone() })
}

/// The arrays of a version that have an index.
pub(super) fn indexed(manifest: &Manifest) -> Vec<String> {
    let mut names: Vec<String> = manifest.indexes.iter().filter_map(|i| Some(i.array(manifest)?.shown())).collect();
    names.dedup();
    names
}

struct Building<'a, 'h> {
    head: &'a Head<'h>,
    source: &'a Source<'a>,
    key: &'a ArrayKey,
    options: &'a IndexOptions,
    progress: Progress<'a>,
}

impl Building<'_, '_> {
    fn build(&self) -> Result<IndexEntry> {
        let Source { n, entry: array, .. } = self.source;
        let (n, dims, threads) = (*n, array.width as usize, pool_threads()?);
        let n_lists = Lists::number(n, config::list_rows() as u64);
        let m = n.min(Lists::sample(n_lists));
        let sample = (0..m).map(|i| (u128::from(i) * u128::from(n) / u128::from(m)) as u64).collect();
        let whole = block_on(self.source.whole(&Selection::All))?;
        self.tick(0)?;
        let measure = self.options.measure;
        let sample = block_on(self.source.read_of(whole.as_ref(), &Selection::Ids(sample)))?;
        let mut builder = match &sample {
            Coordinates::F32(values) => ListsBuilder::new(values.values(), dims, measure, n_lists as usize, threads),
            Coordinates::F64(values) => ListsBuilder::new(values.values(), dims, measure, n_lists as usize, threads),
        }
        .at(slot(self.key))?;
        drop(sample);
        let mut labels = Vec::with_capacity(n as usize);
        self.blocks(whole.as_ref(), |first, block| {
            labels.extend(
                match block {
                    Coordinates::F32(values) => builder.assign(values.values(), first, threads),
                    Coordinates::F64(values) => builder.assign(values.values(), first, threads),
                }
                .at(slot(self.key))?,
            );
            Ok(())
        })?;
        let lists = builder.finish();
        let (parts, places) = self.write_lists(&lists, &labels, whole.as_ref())?;
        let head = self.write(0, encode_head(&lists, &places))?;
        let table = self.head.manifest().tables.of_axis(self.key.axis);
        Ok(IndexEntry {
            kind: KIND.to_string(),
            axis: self.key.axis,
            table: table.path.clone(),
            column: array.column.clone().unwrap_or_default(),
            metric: measure.name().to_string(),
            n_rows: n,
            n_lists: lists.sizes.len() as u64,
            head,
            parts,
        })
    }

    /// Reads all rows, block by block.
    fn blocks(&self, whole: Option<&ArrayRef>, mut each: impl FnMut(u32, &Coordinates) -> Result<()>) -> Result<()> {
        let (n, step) = (self.source.n, config::search_rows() as u64);
        for start in (0..n).step_by(step as usize) {
            self.tick(start)?;
            let rows = Selection::Range(start..(start + step).min(n));
            each(start as u32, &block_on(self.source.read_of(whole, &rows))?)?;
        }
        Ok(())
    }

    /// Writes the rows of the lists: as many lists at a time as may be held, with a pass over the array
    /// for each of these parts.
    fn write_lists(
        &self,
        lists: &Lists,
        labels: &[Option<u32>],
        whole: Option<&ArrayRef>,
    ) -> Result<(Vec<String>, Vec<Place>)> {
        let row_length = row_length(self.source.entry);
        let (mut parts, mut places): (Vec<String>, Vec<Place>) = (Vec::new(), Vec::new());
        while places.len() < lists.sizes.len() {
            let first = places.len();
            let (part, mut end) = (parts.len() as u32, 0);
            for &size in &lists.sizes[first..] {
                let length = u64::from(size) * row_length as u64;
                if places.len() > first && end + length > self.options.memory as u64 / 2 {
                    break;
                }
                places.push(Place { part, bytes: end..end + length, checksum: 0 });
                end += length;
            }
            let mut bytes = vec![0; end as usize];
            let mut filled = vec![0; places.len() - first];
            self.blocks(whole, |start, block| {
                let labels = &labels[start as usize..];
                let is_here = |(row, label): (usize, &Option<u32>)| {
                    let list = (*label)? as usize;
                    (first..places.len()).contains(&list).then_some((row, list))
                };
                let width = lists.dims;
                let n = match block {
                    Coordinates::F32(values) => values.values().len() / width,
                    Coordinates::F64(values) => values.values().len() / width,
                };
                for (row, list) in labels[..n].iter().enumerate().filter_map(is_here) {
                    let at = &mut filled[list - first];
                    let (begin, size) = (places[list].bytes.start as usize, lists.sizes[list] as usize);
                    let number = begin + *at * NUMBER;
                    bytes[number..number + NUMBER].copy_from_slice(&(start + row as u32).to_le_bytes());
                    let of_values = row_length - NUMBER;
                    let values = begin + size * NUMBER + *at * of_values;
                    let out = &mut bytes[values..values + of_values];
                    let own = row * width..(row + 1) * width;
                    match block {
                        Coordinates::F32(values) => {
                            let values = values.values()[own].iter().zip(out.chunks_exact_mut(4));
                            values.for_each(|(x, out)| out.copy_from_slice(&x.to_le_bytes()));
                        }
                        Coordinates::F64(values) => {
                            let values = values.values()[own].iter().zip(out.chunks_exact_mut(8));
                            values.for_each(|(x, out)| out.copy_from_slice(&x.to_le_bytes()));
                        }
                    }
                    *at += 1;
                }
                Ok(())
            })?;
            for place in &mut places[first..] {
                place.checksum = crc32fast::hash(&bytes[place.bytes.start as usize..place.bytes.end as usize]);
            }
            parts.push(self.write(1 + parts.len(), bytes)?);
        }
        Ok((parts, places))
    }

    fn write(&self, number: usize, bytes: Vec<u8>) -> Result<String> {
        let place = self.head.place();
        let path = survey::index(place.write_id, number);
        block_on(place.storage.write(&path, bytes.into()))?;
        Ok(path)
    }

    fn tick(&self, done: u64) -> Result<()> {
        let phase = if TableName::of_axis(self.key.axis) == TableName::Cells { "cells" } else { "genes" };
        tick(self.progress, phase, done, self.source.n)
    }
}
