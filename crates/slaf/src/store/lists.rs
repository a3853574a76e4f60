//! Reading an index of an array: its head, which is small, whole, and lists when a query needs them. Both
//! are kept with what else a handle keeps.

use super::inverted::{Inverted, KIND, ListRows, Place, decode_head};
use super::manifest::{ArrayEntry, IndexEntry};
use super::snapshot::Snapshot;
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_kernels::neighbors::Measure;
use std::ops::Range;
use std::sync::Arc;

/// Lists that lie closer are read together.
const GAP: u64 = 1 << 14;
/// Bytes that are read at a time, about.
const RUN: u64 = 1 << 22;
/// Reads at once.
const AT_ONCE: usize = 16;

/// What to do about an index that is damaged: every search can do without it.
fn advised(error: Error) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let advised = Error::corrupt(format!(
        "{}; it is of an index: slaf index STORE KEY --drop (drop_index) takes that out, and all rows are compared until \
         it is made again",
        error.message()
    ));
    match error.location().map(str::to_string) {
        Some(place) => advised.at(place).with_source(error),
        None => advised.with_source(error),
    }
}

impl Snapshot {
    /// The index of an array for a metric, if there is one that is known here.
    pub(crate) fn index(&self, array: &ArrayEntry, measure: Measure) -> Option<&IndexEntry> {
        let mut indexes = self.manifest.indexes.iter().filter(|index| index.kind == KIND);
        indexes.find(|index| {
            index.metric == measure.name()
                && index.array(&self.manifest).is_some_and(|a| a.axis == array.axis && a.column == array.column)
        })
    }

    /// An index, by its head.
    pub(crate) async fn inverted(&self, entry: &IndexEntry) -> Result<Arc<Inverted>> {
        let load = async {
            let array = entry.array(&self.manifest).ok_or_else(|| Error::corrupt("an index of no array"))?;
            let lengths: Vec<u64> = entry.parts.iter().map(|path| self.manifest.length_of(path)).collect();
            let bytes = self.read_file(&entry.head).await?;
            decode_head(&bytes, entry, array, &lengths).at(self.storage.full(&entry.head))
        };
        self.kept.inverted(&entry.head, load).await.map_err(advised)
    }

    /// Some lists of an index, which rise.
    pub(crate) async fn lists(&self, index: &Inverted, wanted: &[usize]) -> Result<Vec<Arc<ListRows>>> {
        let key = |list: usize| (index.parts[index.places[list].part as usize].clone(), list as u32);
        let mut found: Vec<Option<Arc<ListRows>>> = wanted.iter().map(|&list| self.kept.list(key(list))).collect();
        let mut runs: Vec<(u32, Range<u64>, Vec<usize>)> = Vec::new();
        for at in 0..wanted.len() {
            if found[at].is_some() {
                continue;
            }
            let Place { part, bytes, .. } = &index.places[wanted[at]];
            if bytes.is_empty() {
                // Behind the end of a file there is nothing to ask for.
                let path = &index.parts[*part as usize];
                let rows = index.decode(wanted[at], &[]).at(self.storage.full(path))?;
                found[at] = Some(Arc::new(rows));
                continue;
            }
            match runs.last_mut() {
                Some((last, run, places))
                    if last == part && bytes.start <= run.end + GAP && bytes.end - run.start <= RUN =>
                {
                    run.end = bytes.end;
                    places.push(at);
                }
                _ => runs.push((*part, bytes.clone(), vec![at])),
            }
        }
        let read = async |(part, run, places): (u32, Range<u64>, Vec<usize>)| {
            let path = &index.parts[part as usize];
            let bytes = self.read_part(path, run.clone()).await.map_err(advised)?;
            let doubted = |result: Result<ListRows>| {
                if let (Err(_), Some(doubt)) = (&result, self.storage.doubt(path)) {
                    doubt.forget();
                }
                result
            };
            let decode = |at: usize| {
                let own = &index.places[wanted[at]].bytes;
                let own = &bytes[(own.start - run.start) as usize..(own.end - run.start) as usize];
                Ok((at, Arc::new(doubted(index.decode(wanted[at], own))?)))
            };
            let decoded = places.into_iter().map(decode).collect::<Result<Vec<_>>>();
            decoded.at(self.storage.full(path)).map_err(advised)
        };
        let read: Vec<Vec<(usize, Arc<ListRows>)>> =
            stream::iter(runs.into_iter().map(read)).buffered(AT_ONCE).try_collect().await?;
        for (at, rows) in read.into_iter().flatten() {
            self.kept.keep_list(key(wanted[at]), &rows);
            found[at] = Some(rows);
        }
        Ok(found.into_iter().flatten().collect())
    }
}
