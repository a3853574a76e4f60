//! What an index of an array is good for.

use super::handle::Dataset;
use crate::search::{SearchOptions, SearchQuery};
use crate::search::{Source, Way, nearest_by, slot};
use crate::selection::Selection;
use crate::size::human_bytes;
use serde::Serialize;
use slaf_core::{Context, Error, Result};
use slaf_ingest::{ArrayKey, Axis};
use slaf_kernels::neighbors::{Hits, Measure};
use slaf_lance::runtime::block_on;
use std::fmt;
use std::time::Instant;

/// An index of an array, and how it compares with comparing all rows. [`Display`](fmt::Display) prints it
/// for people.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// The array, `obsm/X_pca` for example.
    pub array: String,
    /// `ivf`; `scan` without an index.
    pub kind: String,
    /// `l2`, `cosine` or `ip`.
    pub metric: String,
    /// Rows that the index is about.
    pub rows: u64,
    /// Rows that came later, and are compared one by one.
    pub rows_beyond: u64,
    /// Into so many lists the rows are put.
    pub lists: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// How many rows were searched for, at even distances.
    pub queries: u64,
    /// How many rows were found for each.
    pub k: u64,
    /// The part of the nearest rows that was found with the index: 1, unless something is wrong.
    pub recall: f64,
    /// The part of all rows that was compared with a query, on average.
    pub rows_read: f64,
    /// Seconds of a query, the middle one of all, with what it reads in memory.
    pub seconds: f64,
    /// As `seconds`, comparing all rows.
    pub seconds_scan: f64,
}

impl fmt::Display for IndexReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "array        {}", self.array)?;
        writeln!(f, "index        {} by {}", self.kind, self.metric)?;
        writeln!(f, "rows         {} in {} lists, {} beside them", self.rows, self.lists, self.rows_beyond)?;
        writeln!(f, "size         {}", human_bytes(self.bytes))?;
        writeln!(f, "recall       {} of the nearest {} of {} rows", self.recall, self.k, self.queries)?;
        writeln!(f, "compared     {:.2} % of the rows", self.rows_read * 100.0)?;
        write!(f, "time         {:.2} ms, comparing all {:.2} ms", self.seconds * 1e3, self.seconds_scan * 1e3)
    }
}

impl Dataset {
    /// Searches for the `k` nearest of some rows of an array, with its index and without, and tells what
    /// was found. By default the metric is that of its first index.
    ///
    /// # Errors
    /// Those of [`Dataset::nearest`]; `invalid-argument` for no queries and for `k` = 0.
    pub fn index_report(
        &self,
        key: &ArrayKey,
        measure: Option<Measure>,
        queries: usize,
        k: usize,
    ) -> Result<IndexReport> {
        if queries == 0 || k == 0 {
            return Err(Error::invalid("a report needs at least one query that finds at least one row"));
        }
        block_on(self.index_report_of(key, measure, queries, k))
    }

    async fn index_report_of(
        &self,
        key: &ArrayKey,
        measure: Option<Measure>,
        queries: usize,
        k: usize,
    ) -> Result<IndexReport> {
        let snapshot = &*self.snapshot;
        let source = Source::new(snapshot, key).await.at(slot(key))?;
        let (n, width) = (source.n, source.entry.width as usize);
        let usual = if key.axis == Axis::Cells { Measure::L2 } else { Measure::Cosine };
        let of_array = |measure: &&Measure| snapshot.index(source.entry, **measure).is_some();
        let measure = measure.unwrap_or(*Measure::ALL.iter().find(of_array).unwrap_or(&usual));
        let index = snapshot.index(source.entry, measure);
        let bytes = |path: &String| self.manifest().length_of(path);
        let mut report = IndexReport {
            array: slot(key),
            kind: index.map_or("scan", |index| &index.kind).to_string(),
            metric: measure.name().to_string(),
            rows: index.map_or(0, |index| index.n_rows),
            rows_beyond: n - index.map_or(0, |index| index.n_rows),
            lists: index.map_or(0, |index| index.n_lists),
            bytes: index.map_or(0, |index| index.files().map(bytes).sum()),
            queries: 0,
            k: k as u64,
            recall: 1.0,
            rows_read: 0.0,
            seconds: 0.0,
            seconds_scan: 0.0,
        };
        let m = n.min(queries as u64);
        let rows = (0..m).map(|i| (u128::from(i) * u128::from(n) / u128::from(m)) as u64).collect();
        let values = source.read(&Selection::Ids(rows)).await?.to_f64();
        // What has no place is no query.
        let placed = |row: &&[f64]| !row.iter().any(|x| x.is_nan()) && row.iter().any(|x| *x != 0.0);
        let options = SearchOptions { k, measure, ..SearchOptions::default() };
        let (mut times, mut found, mut there, mut pairs) = ([Vec::new(), Vec::new()], 0, 0, 0);
        for row in values.chunks_exact(width).filter(placed) {
            let query = SearchQuery::Points { dims: width, values: row.to_vec() };
            let mut hits = Vec::new();
            for (way, times) in [Way::Any, Way::Scan].into_iter().zip(&mut times) {
                let search = || nearest_by(snapshot, key, &query, &options, way, &|_, _| true);
                search().await?;
                let started = Instant::now();
                let (of_way, compared) = search().await?;
                times.push(started.elapsed().as_secs_f64());
                pairs += if way == Way::Any { compared } else { 0 };
                hits.push(of_way);
            }
            report.queries += 1;
            there += hits[1].rows.len();
            found += in_both(&hits[0], &hits[1]);
        }
        let middle = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        [report.seconds, report.seconds_scan] = [middle(&mut times[0]), middle(&mut times[1])];
        report.recall = if there == 0 { 1.0 } else { found as f64 / there as f64 };
        report.rows_read = pairs as f64 / (n * report.queries).max(1) as f64;
        Ok(report)
    }
}

/// How many rows both found.
fn in_both(a: &Hits, b: &Hits) -> usize {
    b.rows.iter().filter(|row| a.rows.contains(row)).count()
}
