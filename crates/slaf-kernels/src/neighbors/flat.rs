//! A flat scan: what is nearest to some queries of points that come in blocks.

use super::clusters::{product, rounding};
use super::exact::{Best, Real, in_lanes};
use crate::parallel::{next, on_threads};
use slaf_core::{Error, ErrorKind, Result};
use std::mem::take;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Coordinates are below this: whole numbers are exact, and sums of squares in float32 are finite.
pub const LARGEST: f64 = (1u64 << 53) as f64;

/// Below this length squares of coordinates have few bits, or none. Such rows are multiplied by a power
/// of two, which leaves their direction as it is.
pub(super) const TINY: f64 = 1e-100;
const LIFT: f64 = f64::from_bits((1023 + 600) << 52);

/// Rows and queries of a product.
const ROWS: usize = 1024;
const QUERIES: usize = 128;
/// Rows whose products are looked at together.
const LANES: usize = 16;
/// Products of fewer queries are made without copies of the rows.
const FEW: usize = 4;

/// How far a point is from a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The root of the sum of squared differences.
    L2,
    /// One minus the cosine of the angle. What is zero everywhere has no direction: such points are
    /// left out.
    Cosine,
    /// The sum of products, negative: the largest one is the nearest.
    InnerProduct,
}

slaf_core::names!(Measure, "metric", { L2 => "l2", Cosine => "cosine", InnerProduct => "ip" });

impl Measure {
    /// What points are ordered by: the squared distance, or twice that of cosines, in float64 from
    /// the values as they were given.
    fn key<T: Real>(self, query: &[f64], row: &[T]) -> f64 {
        let dot = |a: &[f64], b: &[T]| in_lanes(a, b, |x, y| x * y);
        match self {
            Measure::L2 => {
                let squares = in_lanes(query, row, |x, y| {
                    let d = x - y;
                    d * d
                });
                // Squares that differ in their last bits have one root: these are at one distance.
                let distance = squares.sqrt();
                distance * distance
            }
            Measure::Cosine => {
                let of_row = length(row);
                let cosine = match of_row < TINY {
                    true => {
                        let row = lifted(row);
                        in_lanes(query, &row, |x, y| x * y) / (length(query) * length(&row))
                    }
                    false => dot(query, row) / (length(query) * of_row),
                };
                // Rounding leaves a direction at a tiny distance of itself, of either sign.
                (2.0 * (1.0 - cosine)).max(0.0)
            }
            Measure::InnerProduct => -dot(query, row),
        }
    }

    fn distance(self, key: f64) -> f64 {
        match self {
            Measure::L2 => key.sqrt(),
            Measure::Cosine => key / 2.0,
            Measure::InnerProduct => key,
        }
    }
}

/// What is searched for.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Values of a query.
    pub dims: usize,
    /// The queries, one after another.
    pub values: Vec<f64>,
    /// The row that each query is: it is not among those that are found. Empty for queries that are
    /// none.
    pub own: Vec<u32>,
    /// The number of the first query, for messages.
    pub first: usize,
}

/// The numbers of the rows of a block.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// Of its first row; the others follow.
    From(u32),
    /// Of each row.
    Each(&'a [u32]),
}

impl Numbers<'_> {
    fn of(self, row: usize) -> u32 {
        match self {
            Numbers::From(first) => first + row as u32,
            Numbers::Each(numbers) => numbers[row],
        }
    }
}

/// Rows that some of the queries are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Portion<'a, T> {
    /// The rows, one after another.
    pub values: &'a [T],
    /// Their numbers.
    pub numbers: &'a [u32],
    /// The queries, rising.
    pub queries: &'a [u32],
}

/// Rows that a thread compares at a time, the first one being row `first` of those that are numbered.
struct Piece<'a, T> {
    values: &'a [T],
    first: usize,
    numbers: Numbers<'a>,
    /// The queries, rising; all by default.
    queries: Option<&'a [u32]>,
}

/// What was found for each query, the nearest first; of ties those of smaller number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hits {
    /// Where the hits of queries begin, and where those of the last one end.
    pub starts: Vec<usize>,
    /// Numbers of rows.
    pub rows: Vec<u32>,
    /// Their distances.
    pub distances: Vec<f64>,
}

impl Hits {
    /// How many queries there were.
    pub fn n_queries(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Those of a query.
    pub fn of(&self, query: usize) -> Range<usize> {
        self.starts[query]..self.starts[query + 1]
    }

    /// Adds those of more queries.
    pub fn append(&mut self, more: Hits) {
        let first = self.rows.len();
        match self.starts.is_empty() {
            true => self.starts = more.starts,
            false => self.starts.extend(more.starts.iter().skip(1).map(|start| first + start)),
        }
        self.rows.extend(more.rows);
        self.distances.extend(more.distances);
    }
}

/// Queries in float32, and what is nearest to them so far.
struct Block {
    range: Range<usize>,
    /// Shifted or of unit length, one after another.
    values: Vec<f32>,
    /// Their sums of squares.
    norms: Vec<f32>,
    /// All are zero, and so are products with them.
    is_zero: bool,
    best: Mutex<Vec<Best>>,
}

/// A search among points that come in blocks. Products in float32 decide only what is certain: what
/// could be among the nearest is measured in float64. The result does not depend on how the points
/// are cut into blocks, on their order, nor on the number of threads.
pub struct FlatScan {
    targets: Targets,
    measure: Measure,
    /// What is taken from all coordinates: distances do not change, but are rounded less.
    shift: Vec<f32>,
    blocks: Vec<Block>,
}

impl FlatScan {
    /// A search for the `k` nearest points of each query.
    ///
    /// # Errors
    /// `invalid-argument` for queries that are no rows of `dims` values, not finite or not below
    /// [`LARGEST`], and for one without a direction where cosines are compared.
    pub fn new(mut targets: Targets, k: usize, measure: Measure) -> Result<FlatScan> {
        let dims = targets.dims;
        if dims == 0 || !targets.values.len().is_multiple_of(dims) {
            return Err(Error::invalid(format!("{} values are no queries of {dims}", targets.values.len())));
        }
        let n = targets.values.len() / dims;
        if !targets.own.is_empty() && targets.own.len() != n {
            return Err(Error::invalid(format!("{} rows are not those of {n} queries", targets.own.len())));
        }
        for (i, query) in (targets.first..).zip(targets.values.chunks_exact(dims)) {
            if let Some(x) = query.iter().find(|x| !usable(**x)) {
                return Err(Error::invalid(format!("query {i} has the coordinate {x}: {NEEDED}")));
            }
            if measure == Measure::Cosine && query.iter().all(|x| *x == 0.0) {
                return Err(Error::invalid(format!(
                    "query {i} is zero everywhere and has no direction: leave it out, or use the metric l2"
                )));
            }
        }
        if measure == Measure::Cosine {
            for query in targets.values.chunks_exact_mut(dims).filter(|query| length(query) < TINY) {
                let lifted = lifted(query);
                query.copy_from_slice(&lifted);
            }
        }
        let mut shift = vec![0.0; dims];
        if measure == Measure::L2 && n > 0 {
            let mut means = vec![0.0; dims];
            for query in targets.values.chunks_exact(dims) {
                means.iter_mut().zip(query).for_each(|(mean, x)| *mean += x / n as f64);
            }
            shift = means.into_iter().map(|mean| mean as f32).collect();
        }
        let block = |start: usize| {
            let range = start..(start + QUERIES).min(n);
            let (mut values, mut norms) = (vec![0.0; range.len() * dims], vec![0.0; range.len()]);
            prepare(measure, &shift, &targets.values[start * dims..range.end * dims], &mut values, &mut norms);
            let is_zero = values.iter().all(|x| *x == 0.0);
            Block { best: Mutex::new(range.clone().map(|_| Best::new(k)).collect()), range, values, norms, is_zero }
        };
        let blocks = if k == 0 { Vec::new() } else { (0..n).step_by(QUERIES).map(block).collect() };
        Ok(FlatScan { targets, measure, shift, blocks })
    }

    /// Compares the rows of a block, which lie one after another, with all queries. `going` is asked
    /// now and then: `false` stops.
    ///
    /// # Errors
    /// `invalid-argument` for a row with a coordinate that is not finite or not below [`LARGEST`],
    /// with its number, unless all are NaN: such rows have no place, and are left out; `interrupted`.
    pub fn offer<T: Real>(
        &self,
        values: &[T],
        numbers: Numbers<'_>,
        threads: usize,
        going: &(dyn Fn() -> bool + Sync),
    ) -> Result<()> {
        let chunk = ROWS * self.targets.dims;
        let pieces = values.chunks(chunk).enumerate().map(|(i, values)| Piece {
            values,
            first: i * ROWS,
            numbers,
            queries: None,
        });
        self.compare_all(pieces, threads.min(values.len().div_ceil(chunk)), going)
    }

    /// As [`FlatScan::offer`], each portion with its queries.
    ///
    /// # Errors
    /// As [`FlatScan::offer`].
    pub fn offer_some<T: Real>(
        &self,
        portions: &[Portion<'_, T>],
        threads: usize,
        going: &(dyn Fn() -> bool + Sync),
    ) -> Result<()> {
        let pieces = portions.iter().flat_map(|portion| {
            portion.values.chunks(ROWS * self.targets.dims).enumerate().map(|(i, values)| Piece {
                values,
                first: i * ROWS,
                numbers: Numbers::Each(portion.numbers),
                queries: Some(portion.queries),
            })
        });
        self.compare_all(pieces, threads.min(portions.len()), going)
    }

    fn compare_all<'a, T: Real>(
        &self,
        pieces: impl Iterator<Item = Piece<'a, T>> + Send,
        threads: usize,
        going: &(dyn Fn() -> bool + Sync),
    ) -> Result<()> {
        let work = Mutex::new(pieces.enumerate());
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(None::<(usize, Error)>));
        on_threads(threads, || {
            let mut space = Space::default();
            while let Some((i, piece)) = next(&work) {
                if stop.load(Ordering::Relaxed) || !going() {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
                if let Err(e) = self.compare(&piece, &mut space) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    // The first row at fault, whichever thread came to it first: earlier chunks were
                    // taken before.
                    if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                        *failed = Some((i, e));
                    }
                    return;
                }
            }
        });
        if let Some((_, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        match stop.into_inner() {
            true => Err(Error::new(ErrorKind::Interrupted, "stopped before the last point")),
            false => Ok(()),
        }
    }

    fn compare<T: Real>(&self, piece: &Piece<'_, T>, space: &mut Space) -> Result<()> {
        let dims = self.targets.dims;
        let Piece { values: rows, first, numbers, queries } = *piece;
        if let Some(at) = first_unusable(rows, dims) {
            let (number, x): (u32, f64) = (numbers.of(first + at / dims), rows[at].into());
            return Err(Error::invalid(format!("row {number} has the coordinate {x}: {NEEDED}")));
        }
        let n = rows.len() / dims;
        let Space { values, norms, bases, products, found, places, some } = space;
        values.resize(n * dims, 0.0);
        norms.resize(n, 0.0);
        prepare(self.measure, &self.shift, rows, values, norms);
        let unit = rounding(dims) as f32;
        // A part of the least that a key can be which is the same for all queries.
        bases.clear();
        bases.extend(norms.iter().map(|norm| match self.measure {
            Measure::L2 => norm * (1.0 - unit),
            // A row of zeros is farther than anything.
            Measure::Cosine if *norm == 0.0 => f32::INFINITY,
            Measure::Cosine => 0.0,
            Measure::InnerProduct => -unit * norm,
        }));
        for block in &self.blocks {
            places.clear();
            match queries {
                None => places.extend(0..block.range.len()),
                Some(queries) => {
                    let from = queries.partition_point(|&query| (query as usize) < block.range.start);
                    let of_block = queries[from..].iter().map(|&query| query as usize);
                    places.extend(of_block.take_while(|query| *query < block.range.end).map(|q| q - block.range.start));
                }
            }
            if places.is_empty() {
                continue;
            }
            if !block.is_zero {
                let queries = match places.len() == block.range.len() {
                    true => &block.values,
                    false => {
                        some.clear();
                        places.iter().for_each(|i| some.extend_from_slice(&block.values[i * dims..(i + 1) * dims]));
                        &*some
                    }
                };
                products.resize(n * places.len(), 0.0);
                match places.len() <= FEW {
                    true => few_products(queries, values, dims, products),
                    false => product(queries, values, dims, products),
                }
            }
            let limits: Vec<f64> = {
                let best = lock(&block.best);
                places.iter().map(|&i| best[i].limit()).collect()
            };
            found.clear();
            for (at, (&i, limit)) in places.iter().zip(limits).enumerate() {
                let query = block.range.start + i;
                let limit = self.limit(limit, block.norms[i]);
                let point = &self.targets.values[query * dims..(query + 1) * dims];
                let own = self.targets.own.get(query).copied();
                let mut measured = |row: usize| {
                    let number = numbers.of(first + row);
                    if own != Some(number) {
                        found.push((i, self.measure.key(point, &rows[row * dims..(row + 1) * dims]), number));
                    }
                };
                match block.is_zero {
                    true => near_by_bases(bases, limit, &mut measured),
                    false => near(bases, &products[at * n..(at + 1) * n], self.factor(), limit, &mut measured),
                }
            }
            let mut best = lock(&block.best);
            found.iter().for_each(|(i, key, number)| best[*i].offer(*key, *number));
        }
        Ok(())
    }

    /// The queries.
    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Beyond which keys rows are not among the nearest, of each of these queries.
    pub(super) fn limits(&self, queries: Range<usize>) -> Vec<f64> {
        let of = |block: &Block| lock(&block.best).iter().map(Best::limit).collect::<Vec<_>>();
        let blocks = self.blocks.iter().filter(|b| b.range.start < queries.end && b.range.end > queries.start);
        let (mut first, mut limits) = (queries.start, Vec::with_capacity(queries.len()));
        for block in blocks {
            let end = block.range.end.min(queries.end);
            limits.extend_from_slice(&of(block)[first - block.range.start..end - block.range.start]);
            first = end;
        }
        limits
    }

    /// What products are multiplied with.
    fn factor(&self) -> f32 {
        if self.measure == Measure::InnerProduct { 1.0 } else { 2.0 }
    }

    /// What `base - factor * product` is at the most for a point whose key is at most `limit`.
    fn limit(&self, limit: f64, norm: f32) -> f32 {
        let (unit, norm) = (rounding(self.targets.dims), f64::from(norm));
        let least = match self.measure {
            Measure::L2 => limit - norm * (1.0 - unit),
            Measure::Cosine => limit - 2.0 + 4.0 * unit,
            Measure::InnerProduct => limit + unit * norm,
        };
        // The second term is the rounding of the limit itself, the third one that of numbers so small
        // that float32 has few bits for them.
        let least = least + least.abs() * 1e-6 + self.targets.dims as f64 * 1e-37;
        if least < f64::from(f32::MAX) { least as f32 } else { f32::MAX }
    }

    /// What was found.
    pub fn finish(self, threads: usize) -> Hits {
        let n = self.targets.values.len() / self.targets.dims;
        let best: Vec<Best> = self
            .blocks
            .into_iter()
            .flat_map(|block| block.best.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let mut starts = vec![0; n + 1];
        best.iter().enumerate().for_each(|(i, best)| starts[i + 1] = starts[i] + best.len());
        let total = starts[best.len()];
        let (mut rows, mut distances) = (vec![0; total], vec![0.0; total]);
        let (mut rest, mut rest_distances) = (&mut rows[..], &mut distances[..]);
        let mut work = Vec::with_capacity(best.len());
        for best in best {
            let (rows, others) = take(&mut rest).split_at_mut(best.len());
            let (distances, other_distances) = take(&mut rest_distances).split_at_mut(best.len());
            (rest, rest_distances) = (others, other_distances);
            work.push((best, rows, distances));
        }
        let threads = threads.min(work.len());
        let work = Mutex::new(work.into_iter());
        on_threads(threads, || {
            while let Some((best, rows, distances)) = next(&work) {
                for ((row, distance), found) in rows.iter_mut().zip(distances).zip(best.sorted()) {
                    (*row, *distance) = (found.0, self.measure.distance(found.1));
                }
            }
        });
        Hits { starts, rows, distances }
    }
}

/// What a thread needs for its rows.
#[derive(Default)]
struct Space {
    values: Vec<f32>,
    norms: Vec<f32>,
    bases: Vec<f32>,
    products: Vec<f32>,
    found: Vec<(usize, f64, u32)>,
    /// The queries of a block that are compared, and their values.
    places: Vec<usize>,
    some: Vec<f32>,
}

pub(super) const NEEDED: &str = "distances need finite values below 2^53";

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn usable(x: f64) -> bool {
    x.abs() < LARGEST
}

/// Rows that are NaN everywhere have no place: they are usable, and near nothing.
pub(super) fn first_unusable<T: Real>(values: &[T], dims: usize) -> Option<usize> {
    // Without a branch for each value in the usual case.
    let all = values.chunks(ROWS).all(|some| some.iter().fold(true, |all, &x| all & usable(x.into())));
    if all {
        return None;
    }
    let has_no_place = |at: usize| values[at / dims * dims..][..dims].iter().all(|&x| x.into().is_nan());
    (0..values.len()).find(|&at| !usable(values[at].into()) && !has_no_place(at))
}

/// Rows in float32: less `shift`, or of unit length; and their sums of squares, which are 1 for unit
/// length, and 0 for what has none.
fn prepare<T: Real>(measure: Measure, shift: &[f32], rows: &[T], values: &mut [f32], norms: &mut [f32]) {
    let dims = shift.len();
    let rows = rows.chunks_exact(dims).zip(values.chunks_exact_mut(dims)).zip(norms);
    for ((row, value), norm) in rows {
        if measure == Measure::Cosine {
            let of_row = length(row);
            *norm = 1.0;
            if of_row >= TINY {
                value.iter_mut().zip(row).for_each(|(v, &x)| *v = (x.into() / of_row) as f32);
                continue;
            }
            let row = lifted(row);
            let of_row = length(&row);
            if of_row == 0.0 {
                *norm = 0.0;
            }
            value.iter_mut().zip(&row).for_each(|(v, x)| *v = if of_row == 0.0 { 0.0 } else { (x / of_row) as f32 });
        } else {
            value.iter_mut().zip(row).zip(shift).for_each(|((v, &x), &s)| *v = x.less(s));
            *norm = dot(value, value);
        }
    }
}

pub(super) fn length<T: Real>(row: &[T]) -> f64 {
    in_lanes(row, row, |x, y| x * y).sqrt()
}

/// A tiny row, times a power of two that makes it none.
pub(super) fn lifted<T: Real>(row: &[T]) -> Vec<f64> {
    row.iter().map(|&x| x.into() * LIFT).collect()
}

/// A sum of products, in partial sums that processors add at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (mut a8, mut b8) = (a.chunks_exact(8), b.chunks_exact(8));
    for (a, b) in a8.by_ref().zip(b8.by_ref()) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

fn few_products(queries: &[f32], rows: &[f32], dims: usize, out: &mut [f32]) {
    let n = rows.len() / dims;
    for (query, out) in queries.chunks_exact(dims).zip(out.chunks_exact_mut(n)) {
        out.iter_mut().zip(rows.chunks_exact(dims)).for_each(|(out, row)| *out = dot(query, row));
    }
}

/// Calls `each` with the rows that are not certain to be beyond the limit.
fn near(bases: &[f32], products: &[f32], factor: f32, limit: f32, each: &mut impl FnMut(usize)) {
    let score = |(base, product): (&f32, &f32)| base - factor * product;
    for (at, (bases, products)) in bases.chunks(LANES).zip(products.chunks(LANES)).enumerate() {
        if bases.iter().zip(products).fold(false, |any, pair| any | (score(pair) <= limit)) {
            let pairs = bases.iter().zip(products).enumerate();
            pairs.filter(|(_, pair)| score(*pair) <= limit).for_each(|(i, _)| each(at * LANES + i));
        }
    }
}

/// [`near`] for products that are zero.
fn near_by_bases(bases: &[f32], limit: f32, each: &mut impl FnMut(usize)) {
    for (at, bases) in bases.chunks(LANES).enumerate() {
        if bases.iter().fold(false, |any, base| any | (*base <= limit)) {
            let near = bases.iter().enumerate().filter(|(_, base)| **base <= limit);
            near.for_each(|(i, _)| each(at * LANES + i));
        }
    }
}
