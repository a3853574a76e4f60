//! An inverted file: points in lists around centres, with bounds of how near the points of a list can
//! be to a query. What the bounds leave out is certain to be farther, so that answers are those of a
//! scan of all points.

use super::clusters::{BLOCK, SAMPLE, centres, norms, product, rounding};
use super::exact::{Real, in_lanes};
use super::flat::{FlatScan, Measure, NEEDED, TINY, first_unusable, length, lifted};
use crate::parallel::{next, on_threads};
use slaf_core::{Error, Result};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Lists that a query is compared with before its next ones are chosen.
const FIRST: usize = 4;

/// What is known of lists of points, one after another. Points lie where they are, or, where cosines
/// are compared, in their direction at unit length.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// Coordinates of a point.
    pub dims: usize,
    /// How far apart points are.
    pub measure: Measure,
    /// Where the centres are, one after another.
    pub centres: Vec<f64>,
    /// No point of a list is farther from its centre.
    pub radii: Vec<f64>,
    /// By how much, at the most, the squared distance of a point of a list to another centre is less
    /// than that to its own.
    pub slacks: Vec<f64>,
    /// How many points lists have.
    pub sizes: Vec<u32>,
}

/// A bound of the relative error of sums of `dims` products in float64, of roots and of what is made
/// of a few of them.
fn error(dims: usize) -> f64 {
    (dims as f64 + 16.0) * f64::EPSILON
}

fn squared<T: Real>(a: &[f64], b: &[T]) -> f64 {
    in_lanes(a, b, |x, y| {
        let d = x - y;
        d * d
    })
}

/// Where a usable point is; `false` if it has no place, or no direction.
fn place<T: Real>(measure: Measure, row: &[T], out: &mut [f64]) -> bool {
    out.iter_mut().zip(row).for_each(|(out, &x)| *out = x.into());
    if row.iter().any(|&x| x.into().is_nan()) {
        return false;
    }
    if measure == Measure::Cosine {
        if length(row) < TINY {
            out.copy_from_slice(&lifted(row));
        }
        let of_row = length(out);
        out.iter_mut().for_each(|x| *x /= of_row);
        return of_row > 0.0;
    }
    true
}

impl Lists {
    /// How many lists to make of points, of about `rows` each. Of many points lists are at most four times
    /// as many as the root of their number: each point is compared with each centre.
    pub fn number(n_points: u64, rows: u64) -> u64 {
        n_points.div_ceil(rows.max(1)).min(4 * n_points.isqrt()).max(1)
    }

    /// How many points to choose the centres of so many lists by.
    pub fn sample(n_lists: u64) -> u64 {
        n_lists * SAMPLE as u64
    }

    /// Where a list has its centre.
    fn centre(&self, list: usize) -> &[f64] {
        &self.centres[list * self.dims..(list + 1) * self.dims]
    }

    /// Whether a point is in a list: one without a place or a direction is in none.
    pub fn is_listed<T: Real>(&self, row: &[T]) -> bool {
        place(self.measure, row, &mut vec![0.0; self.dims])
    }

    /// Whether a point can be in this list.
    pub fn can_hold<T: Real>(&self, list: usize, row: &[T]) -> bool {
        let mut at = vec![0.0; self.dims];
        place(self.measure, row, &mut at) && squared(&at, self.centre(list)).sqrt() <= self.radii[list]
    }

    /// What keys of the points of each list are not below.
    fn bounds(&self, query: &[f64]) -> Vec<f64> {
        let e = error(self.dims);
        // What squares lose that are too small for float64.
        let tiny = self.dims as f64 * 1e-300;
        if self.measure == Measure::InnerProduct {
            let of_query = length(query) * (1.0 + e);
            let bound = |(centre, radius): (&[f64], &f64)| {
                let product = in_lanes(query, centre, |x, y| x * y);
                // A point is the centre and at most `radius` more, in the direction of the query.
                -product - of_query * radius - 4.0 * e * of_query * (length(centre) + radius) - tiny
            };
            return self.centres.chunks_exact(self.dims).zip(&self.radii).map(bound).collect();
        }
        let mut at = vec![0.0; self.dims];
        place(self.measure, query, &mut at);
        // Directions of unit length, and their cosines, are rounded by themselves.
        let rounded = if self.measure == Measure::Cosine { 8.0 * e } else { 0.0 };
        let to_centres: Vec<f64> = self.centres.chunks_exact(self.dims).map(|centre| squared(&at, centre)).collect();
        let nearest = (0..to_centres.len()).min_by(|a, b| to_centres[*a].total_cmp(&to_centres[*b])).unwrap_or(0);
        let bound = |(list, &to_centre): (usize, &f64)| {
            // What is in a ball is no nearer than the ball.
            let ball = to_centre.sqrt() * (1.0 - e) - self.radii[list] - rounded;
            // What is nearer to another centre than to that one is behind the plane between them.
            let behind = to_centre * (1.0 - e) - to_centres[nearest] * (1.0 + e) - self.slacks[list] - 4.0 * rounded;
            let plane = match behind > 0.0 {
                true => behind / (2.0 * squared(self.centre(nearest), self.centre(list)).sqrt() * (1.0 + e)),
                false => 0.0,
            };
            let far = ball.max(plane).max(0.0);
            far * far * (1.0 - 4.0 * e) - rounded - tiny
        };
        to_centres.iter().enumerate().map(bound).collect()
    }
}

/// What was seen of the points of lists.
#[derive(Clone)]
struct Extent {
    radii: Vec<f64>,
    /// Their largest sums of squares, shifted.
    largest: Vec<f64>,
    sizes: Vec<u32>,
}

impl Extent {
    fn new(n: usize) -> Extent {
        Extent { radii: vec![0.0; n], largest: vec![0.0; n], sizes: vec![0; n] }
    }

    /// Maxima and counts, which do not depend on any order.
    fn merge(&mut self, other: &Extent) {
        let largest = |all: &mut Vec<f64>, some: &[f64]| all.iter_mut().zip(some).for_each(|(a, s)| *a = a.max(*s));
        largest(&mut self.radii, &other.radii);
        largest(&mut self.largest, &other.largest);
        self.sizes.iter_mut().zip(&other.sizes).for_each(|(all, some)| *all += some);
    }
}

/// Puts points into lists, in blocks. The result is the same with any number of threads.
pub struct ListsBuilder {
    dims: usize,
    measure: Measure,
    /// What is taken from all coordinates, so that float32 rounds less.
    shift: Vec<f64>,
    /// Around `shift`.
    centres: Vec<f32>,
    centre_norms: Vec<f32>,
    /// Where they are.
    places: Vec<f64>,
    extent: Extent,
}

impl ListsBuilder {
    /// Chooses at most `n_lists` centres by k-means of a sample of points, which lie one after another.
    ///
    /// # Errors
    /// `invalid-argument` for a sample that is no rows of `dims` values. Points of it that cannot be
    /// compared count when they are assigned.
    pub fn new<T: Real>(
        sample: &[T],
        dims: usize,
        measure: Measure,
        n_lists: usize,
        threads: usize,
    ) -> Result<ListsBuilder> {
        if dims == 0 || !sample.len().is_multiple_of(dims) {
            return Err(Error::invalid(format!("{} values are no rows of {dims}", sample.len())));
        }
        let mut at = vec![0.0; dims];
        let mut placed = Vec::with_capacity(sample.len());
        for row in sample.chunks_exact(dims) {
            if first_unusable(row, dims).is_none() && place(measure, row, &mut at) {
                placed.extend_from_slice(&at);
            }
        }
        let n = placed.len() / dims;
        let mut shift = vec![0.0; dims];
        for row in placed.chunks_exact(dims) {
            shift.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n as f64);
        }
        let shifted: Vec<f32> =
            placed.chunks_exact(dims).flat_map(|row| row.iter().zip(&shift).map(|(x, s)| (x - s) as f32)).collect();
        let n_lists = n_lists.clamp(1, n.max(1));
        let chosen = centres(&shifted, dims, n_lists, threads);
        let places: Vec<f64> =
            chosen.chunks_exact(dims).flat_map(|c| c.iter().zip(&shift).map(|(&c, s)| f64::from(c) + s)).collect();
        // Rounded once, as points are.
        let centres: Vec<f32> =
            places.chunks_exact(dims).flat_map(|c| c.iter().zip(&shift).map(|(c, s)| (c - s) as f32)).collect();
        let centre_norms = norms(&centres, dims);
        Ok(ListsBuilder { dims, measure, shift, centres, centre_norms, places, extent: Extent::new(n_lists) })
    }

    /// The list of each of some more points, which lie one after another: that with the nearest centre.
    /// `None` for those that have no place or no direction, and that nothing finds. `first` is the number
    /// of the first one.
    ///
    /// # Errors
    /// `invalid-argument` for coordinates that cannot be compared, with the number of the point.
    pub fn assign<T: Real>(&mut self, rows: &[T], first: u32, threads: usize) -> Result<Vec<Option<u32>>> {
        let (dims, n_lists) = (self.dims, self.centre_norms.len());
        if let Some(at) = first_unusable(rows, dims) {
            let (number, x): (usize, f64) = (first as usize + at / dims, rows[at].into());
            return Err(Error::invalid(format!("row {number} has the coordinate {x}: {NEEDED}")));
        }
        let mut labels = vec![None; rows.len() / dims];
        let extent = Mutex::new(&mut self.extent);
        let blocks = Mutex::new(rows.chunks(dims * BLOCK).zip(labels.chunks_mut(BLOCK)));
        let (shift, centres, centre_norms, places) = (&self.shift, &self.centres, &self.centre_norms, &self.places);
        let measure = self.measure;
        on_threads(threads, || {
            let mut seen = Extent::new(n_lists);
            let (mut products, mut at) = (vec![0.0; BLOCK * n_lists], vec![0.0; dims * BLOCK]);
            let mut values = vec![0.0f32; dims * BLOCK];
            while let Some((rows, labels)) = next(&blocks) {
                let n = labels.len();
                values.fill(0.0);
                for (i, row) in rows.chunks_exact(dims).enumerate() {
                    let (at, values) = (&mut at[i * dims..(i + 1) * dims], &mut values[i * dims..(i + 1) * dims]);
                    if place(measure, row, at) {
                        labels[i] = Some(0);
                        values.iter_mut().zip(&*at).zip(shift).for_each(|((v, x), s)| *v = (x - s) as f32);
                    }
                }
                product(&values[..n * dims], centres, dims, &mut products);
                for (i, products) in products.chunks_exact(n_lists).take(n).enumerate() {
                    let Some(label) = &mut labels[i] else { continue };
                    let mut best = f32::INFINITY;
                    for (list, (product, norm)) in products.iter().zip(centre_norms).enumerate() {
                        let score = norm - 2.0 * product;
                        if score < best {
                            (best, *label) = (score, list as u32);
                        }
                    }
                    let list = *label as usize;
                    let centre = &places[list * dims..(list + 1) * dims];
                    let distance = squared(&at[i * dims..(i + 1) * dims], centre).sqrt();
                    let values = &values[i * dims..(i + 1) * dims];
                    seen.radii[list] = seen.radii[list].max(distance);
                    seen.largest[list] = seen.largest[list].max(in_lanes(values, values, |x, y| x * y));
                    seen.sizes[list] += 1;
                }
            }
            extent.lock().unwrap_or_else(PoisonError::into_inner).merge(&seen);
        });
        Ok(labels)
    }

    /// What is known of the lists.
    pub fn finish(self) -> Lists {
        let (e, unit) = (error(self.dims), rounding(self.dims));
        let Extent { radii, largest, sizes } = self.extent;
        let of_centres = self.centre_norms.iter().fold(0.0f64, |largest, &norm| largest.max(norm.into()));
        // Both squared distances that were compared have such an error.
        let slack = |largest: f64| 2.0 * unit * (largest + of_centres) * (1.0 + 1e-6) + self.dims as f64 * 1e-36;
        Lists {
            dims: self.dims,
            measure: self.measure,
            centres: self.places,
            radii: radii.into_iter().map(|radius| radius * (1.0 + 2.0 * e) + f64::MIN_POSITIVE).collect(),
            slacks: largest.into_iter().map(slack).collect(),
            sizes,
        }
    }
}

/// Bounds and lists of a query, the nearest first, and how many of these it was given.
type Order = (Vec<(f64, u32)>, usize);

/// The lists that queries have to be compared with, round by round: the nearest lists first, twice as
/// many in each round, until no other list can hold a nearer point.
pub struct Walk<'a> {
    lists: &'a Lists,
    scan: &'a FlatScan,
    queries: Range<usize>,
    /// Of each query.
    orders: Vec<Order>,
    round: u32,
}

impl<'a> Walk<'a> {
    /// For some of the queries of a scan.
    pub fn new(lists: &'a Lists, scan: &'a FlatScan, queries: Range<usize>, threads: usize) -> Walk<'a> {
        let dims = lists.dims;
        let mut orders = vec![(Vec::new(), 0); queries.len()];
        let of_queries = &scan.targets().values[queries.start * dims..queries.end * dims];
        let work = Mutex::new(of_queries.chunks_exact(dims).zip(&mut orders));
        on_threads(threads.min(queries.len()), || {
            while let Some((query, (order, _))) = next(&work) {
                let bounds = lists.bounds(query).into_iter().zip(0..);
                order.extend(bounds.filter(|(_, list)| lists.sizes[*list as usize] > 0));
                order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            }
        });
        Walk { lists, scan, queries, orders, round: 0 }
    }

    /// The next lists, rising, each with its queries, rising; none if all is found.
    pub fn next_round(&mut self) -> Vec<(usize, Vec<u32>)> {
        let limits = self.scan.limits(self.queries.clone());
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for ((query, (order, at)), limit) in (self.queries.start as u32..).zip(&mut self.orders).zip(limits) {
            let some = order[*at..].iter().take(FIRST << self.round.min(24)).take_while(|(bound, _)| *bound <= limit);
            let before = pairs.len();
            pairs.extend(some.map(|(_, list)| (*list, query)));
            *at += pairs.len() - before;
        }
        self.round += 1;
        pairs.sort_unstable();
        let by_list = pairs.chunk_by(|a, b| a.0 == b.0);
        by_list.map(|pairs| (pairs[0].0 as usize, pairs.iter().map(|(_, query)| *query).collect())).collect()
    }

    /// How many pairs of points and queries are still to be compared, at the most; `None` while that is
    /// not known, before each query has found enough.
    pub fn left(&self) -> Option<u64> {
        let limits = self.scan.limits(self.queries.clone());
        if limits.contains(&f64::INFINITY) {
            return None;
        }
        let of = |((order, at), limit): (&Order, f64)| {
            let some = order[*at..].iter().take_while(|(bound, _)| *bound <= limit);
            some.map(|(_, list)| u64::from(self.lists.sizes[*list as usize])).sum::<u64>()
        };
        Some(self.orders.iter().zip(limits).map(of).sum())
    }
}
