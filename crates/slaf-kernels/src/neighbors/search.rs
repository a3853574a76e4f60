//! The search for nearest points.

use super::blocks::{Block, Pass, Report, blocks};
use super::clusters::{BLOCK, Clusters, product, rounding};
use super::exact::{Best, Metric, Points, Real};
use super::lists_first;
use crate::parallel::{next, on_threads};
use slaf_core::{Error, Result};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The nearest points of each of some points, the nearest first; of ties those of smaller number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearest {
    /// How many there are for each.
    pub k: usize,
    /// Their numbers.
    pub rows: Vec<u32>,
    /// Their distances.
    pub distances: Vec<f64>,
    /// What part of the nearest points these are, by a sample that was compared with all; `None` if all
    /// of them are.
    pub recall: Option<f64>,
}

/// How much to do for the nearest points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// What it takes to find all of them.
    Exact,
    /// Most of them: each point is compared with those of the nearest clusters, and then with the
    /// neighbours of its neighbours, until little changes.
    Lists,
    /// All of them, unless bounds leave so many pairs to be compared that it takes more products of
    /// coordinates than this, by a sample (where coordinates are mostly noise); then most of them.
    Within(f64),
}

impl Effort {
    /// Some five minutes of two cores, at the most.
    pub const USUAL: Effort = Effort::Within(1.5e13);
}

/// The `k` nearest other points of each point, of points that are rows of `dims` values. `progress`
/// is told what is done, and for how many points; `false` stops.
///
/// # Errors
/// `invalid-argument` for values that are no such rows or not finite, for points without a direction
/// where cosines are compared, and for a `k` that is not below the number of points; `interrupted`.
pub fn all_nearest<T: Real>(
    values: &[T],
    dims: usize,
    k: usize,
    metric: Metric,
    effort: Effort,
    threads: usize,
    progress: &Report<'_>,
) -> Result<Nearest> {
    let points = checked(values, dims, metric)?;
    let n = values.len() / dims;
    if k >= n {
        return Err(Error::invalid(format!("{k} nearest others of each of {n} points")));
    }
    if k == 0 {
        return Ok(Nearest::default());
    }
    let clusters = Clusters::of(points, threads);
    let pass = Pass { threads, progress };
    let products = values.len() as f64;
    let most = match effort {
        Effort::Exact => f64::INFINITY,
        Effort::Lists => 0.0,
        Effort::Within(most) => most,
    };
    if products * n as f64 > most {
        let sample = Sample::of(points, &clusters, k, &pass)?;
        if products * sample.pairs_of_each > most {
            return lists_first::most(points, &clusters, &sample, &pass);
        }
    }
    let mut nearest = Nearest { k, rows: vec![0; n * k], distances: vec![0.0; n * k], recall: None };
    let of = |block: &Block| of_block(points, &clusters, block, k, usize::MAX).0;
    pass.each(blocks(&clusters), "cells", of, |at, best| nearest.put(points, clusters.order[at], best))?;
    Ok(nearest)
}

impl Nearest {
    /// Those of a point.
    pub(super) fn put<T: Real>(&mut self, points: Points<'_, T>, number: u32, best: Best) {
        let first = number as usize * self.k;
        for (i, (row, squared)) in best.sorted().enumerate() {
            self.rows[first + i] = row;
            self.distances[first + i] = points.distance(squared);
        }
    }
}

/// Some points at even distances, and all of their nearest.
pub(super) struct Sample {
    pub(super) k: usize,
    /// Numbers of points, each with those of its nearest.
    nearest: Vec<(u32, Vec<u32>)>,
    /// With how many points each was compared, on the average.
    pairs_of_each: f64,
}

impl Sample {
    /// Blocks of points.
    const BLOCKS: usize = 32;

    fn of<T: Real>(points: Points<'_, T>, clusters: &Clusters, k: usize, pass: &Pass<'_>) -> Result<Sample> {
        let all = blocks(clusters);
        let step = all.len().div_ceil(Sample::BLOCKS);
        let (mut nearest, compared) = (Vec::new(), AtomicU64::new(0));
        let of = |block: &Block| {
            let (best, pairs) = of_block(points, clusters, block, k, usize::MAX);
            compared.fetch_add(pairs, Ordering::Relaxed);
            best
        };
        pass.each(all.into_iter().step_by(step).collect(), "sample", of, |at, best| {
            nearest.push((clusters.order[at], best.sorted().map(|(row, _)| row).collect()));
        })?;
        let pairs_of_each = compared.into_inner() as f64 / nearest.len() as f64;
        Ok(Sample { k, nearest, pairs_of_each })
    }

    /// What part of the nearest points was found.
    pub(super) fn recall(&self, found: &[u32]) -> f64 {
        let of = |(number, nearest): &(u32, Vec<u32>)| {
            let found = &found[*number as usize * self.k..][..self.k];
            nearest.iter().filter(|row| found.contains(row)).count()
        };
        self.nearest.iter().map(of).sum::<usize>() as f64 / (self.nearest.len() * self.k) as f64
    }
}

/// The nearest others of some points of a cluster, of those in the clusters with the nearest centres that
/// have so many `members`; and how many pairs of points were compared.
pub(super) fn of_block<T: Real>(
    points: Points<'_, T>,
    clusters: &Clusters,
    block: &Block,
    k: usize,
    members: usize,
) -> (Vec<Best>, u64) {
    let dims = clusters.dims;
    let bounds = Bounds::of(clusters, block, members);
    let block = block.points.clone();
    let mut compared = 0;
    let mut best: Vec<Best> = block.clone().map(|_| Best::new(k)).collect();
    let (mut rows, mut numbers) = (Vec::new(), Vec::new());
    let mut products = vec![0.0; BLOCK * BLOCK];
    for &(of_all, other) in &bounds.order {
        if best.iter().all(|best| of_all > best.limit()) {
            break;
        }
        rows.clear();
        numbers.clear();
        for (i, at) in block.clone().enumerate() {
            if bounds.squared[i * clusters.n() + other] <= best[i].limit() {
                numbers.push(i);
                rows.extend_from_slice(&clusters.values[at * dims..(at + 1) * dims]);
            }
        }
        if numbers.is_empty() {
            continue;
        }
        let members = clusters.starts[other]..clusters.starts[other + 1];
        compared += (numbers.len() * members.len()) as u64;
        for first in members.clone().step_by(BLOCK) {
            let some = first..(first + BLOCK).min(members.end);
            product(&rows, &clusters.values[some.start * dims..some.end * dims], dims, &mut products);
            for (products, &i) in products.chunks_exact(some.len()).zip(&numbers) {
                scan(points, clusters, block.start + i, some.clone(), products, &mut best[i]);
            }
        }
    }
    (best, compared)
}

/// Offers the members of a cluster that may be among the nearest of a point.
fn scan<T: Real>(
    points: Points<'_, T>,
    clusters: &Clusters,
    at: usize,
    members: Range<usize>,
    products: &[f32],
    best: &mut Best,
) {
    const LANES: usize = 16;
    let norms = &clusters.norms[members.clone()];
    let unit = rounding(clusters.dims) as f32;
    let own = clusters.norms[at];
    let limit_of = |best: &Best| {
        // The error is borne by the sums of squares: `norm * (1 - unit) - 2 * product` is less than this
        // where the squared distance is not above the limit.
        let limit = best.limit() - f64::from(own) * f64::from(1.0 - unit);
        (limit + limit.abs() * 1e-6) as f32
    };
    let mut limit = limit_of(best);
    let row = points.row(clusters.order[at] as usize);
    let places = members.step_by(LANES);
    for ((products, norms), first) in products.chunks(LANES).zip(norms.chunks(LANES)).zip(places) {
        let score = |(product, norm): (&f32, &f32)| norm * (1.0 - unit) - 2.0 * product;
        let near = products.iter().zip(norms).fold(false, |near, pair| near | (score(pair) <= limit));
        if !near {
            continue;
        }
        for (i, pair) in products.iter().zip(norms).enumerate() {
            if score(pair) <= limit && first + i != at {
                let number = clusters.order[first + i];
                best.offer(points.squared(row, points.row(number as usize)), number);
                limit = limit_of(best);
            }
        }
    }
}

/// How near the points of clusters can be to some points of one cluster, at the least.
struct Bounds {
    /// Points x clusters, squared; NaN for what is left out whatever it is.
    squared: Vec<f64>,
    /// The clusters by the least of their bounds, which is beside them.
    order: Vec<(f64, usize)>,
}

impl Bounds {
    fn of(clusters: &Clusters, block: &Block, members: usize) -> Bounds {
        let (dims, n) = (clusters.dims, clusters.n());
        let (cluster, block) = (block.cluster, block.points.clone());
        if n == 1 {
            return Bounds { squared: vec![0.0; block.len()], order: vec![(0.0, 0)] };
        }
        let mut products = vec![0.0; block.len() * n];
        product(&clusters.values[block.start * dims..block.end * dims], &clusters.centres, dims, &mut products);
        let mut between = vec![0.0; n];
        product(&clusters.centres[cluster * dims..(cluster + 1) * dims], &clusters.centres, dims, &mut between);
        let unit = rounding(dims);
        let own_norm = f64::from(clusters.centre_norms[cluster]);
        // At most the distance between centres.
        let between: Vec<f64> = between
            .iter()
            .zip(&clusters.centre_norms)
            .map(|(&product, &norm)| {
                let (norm, product) = (f64::from(norm), f64::from(product));
                (norm + own_norm - 2.0 * product + unit * (norm + own_norm)).max(0.0).sqrt()
            })
            .collect();
        let mut squared = vec![0.0; block.len() * n];
        let mut least = vec![f64::INFINITY; n];
        let mut by_centre = Vec::new();
        for (i, at) in block.enumerate() {
            let norm = f64::from(clusters.norms[at]);
            let products = &products[i * n..(i + 1) * n];
            let to_own = norm + own_norm - 2.0 * f64::from(products[cluster]);
            for (c, bound) in squared[i * n..(i + 1) * n].iter_mut().enumerate() {
                if c != cluster {
                    let to_centre = norm + f64::from(clusters.centre_norms[c]) - 2.0 * f64::from(products[c]);
                    // Both distances of the point, and both of the members, have such an error.
                    let error = 4.0 * unit * (norm + own_norm + clusters.largest[c]);
                    // What is nearer to that centre than to ours is behind the plane between them.
                    let plane = (to_centre - to_own - error) / (2.0 * between[c]);
                    // What is in a ball is no nearer than the ball.
                    let ball = (to_centre - error).max(0.0).sqrt() - clusters.radii[c];
                    let far = plane.max(ball).max(0.0) * (1.0 - 1e-6);
                    *bound = (far * far - error).max(0.0);
                }
            }
            let bounds = &mut squared[i * n..(i + 1) * n];
            if members < clusters.order.len() {
                by_centre.clear();
                by_centre.extend((0..n).map(|c| (clusters.centre_norms[c] - 2.0 * products[c], c)));
                for (_, c) in beyond(&mut by_centre, clusters, members) {
                    bounds[*c] = f64::NAN;
                }
            }
            least.iter_mut().zip(bounds).for_each(|(least, bound)| *least = least.min(*bound));
        }
        let mut order: Vec<(f64, usize)> = least.into_iter().enumerate().map(|(c, bound)| (bound, c)).collect();
        // Our own cluster first: it makes the limits small.
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1 != cluster).cmp(&(b.1 != cluster))).then(a.1.cmp(&b.1)));
        Bounds { squared, order }
    }
}

/// The clusters behind the nearest that have so many members together, of clusters with what grows with
/// the distance of their centres.
fn beyond<'a>(by_centre: &'a mut [(f32, usize)], clusters: &Clusters, members: usize) -> &'a [(f32, usize)] {
    let size = |&(_, c): &(f32, usize)| clusters.starts[c + 1] - clusters.starts[c];
    let mut nearest = members.div_ceil(clusters.order.len().div_ceil(clusters.n()));
    while nearest < by_centre.len() {
        by_centre.select_nth_unstable_by(nearest, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if by_centre[..nearest].iter().map(size).sum::<usize>() >= members {
            return &by_centre[nearest..];
        }
        nearest *= 2;
    }
    &[]
}

/// The `k` points, or as many as there are, that are nearest to each of some queries: a flat scan.
///
/// # Errors
/// As [`all_nearest`], of which there are as many as points at the most.
pub fn nearest<T: Real>(
    values: &[T],
    dims: usize,
    queries: &[T],
    k: usize,
    metric: Metric,
    threads: usize,
) -> Result<Nearest> {
    let points = checked(values, dims, metric)?;
    checked(queries, dims, metric)?;
    let n = values.len() / dims;
    let k = k.min(n);
    let n_queries = queries.len() / dims;
    let mut nearest = Nearest { k, rows: vec![0; n_queries * k], distances: vec![0.0; n_queries * k], recall: None };
    if k == 0 {
        return Ok(nearest);
    }
    let work = Mutex::new(
        queries.chunks_exact(dims).zip(nearest.rows.chunks_exact_mut(k).zip(nearest.distances.chunks_exact_mut(k))),
    );
    on_threads(threads.min(n_queries), || {
        while let Some((query, (rows, distances))) = next(&work) {
            let mut best = Best::new(k);
            for i in 0..n {
                let squared = points.squared(query, points.row(i));
                if squared <= best.limit() {
                    best.offer(squared, i as u32);
                }
            }
            for ((row, distance), found) in rows.iter_mut().zip(distances).zip(best.sorted()) {
                (*row, *distance) = (found.0, points.distance(found.1));
            }
        }
    });
    Ok(nearest)
}

fn checked<T: Real>(values: &[T], dims: usize, metric: Metric) -> Result<Points<'_, T>> {
    if dims == 0 || !values.len().is_multiple_of(dims) {
        return Err(Error::invalid(format!("{} values are no rows of {dims}", values.len())));
    }
    if values.len() / dims > u32::MAX as usize {
        return Err(Error::invalid(format!("{} points: at most 2^32 are compared", values.len() / dims)));
    }
    // Sums of squares of float32 are to be finite.
    let usable = |&x: &T| x.into().abs() < 1e18;
    if let Some(at) = values.iter().position(|x| !usable(x)) {
        return Err(Error::invalid(format!(
            "row {} has the coordinate {}: distances need finite values below 1e18",
            at / dims,
            values[at].into()
        )));
    }
    if metric == Metric::Cosine {
        let zero = |row: &[T]| row.iter().all(|&x| x.into() == 0.0);
        if let Some(row) = values.chunks_exact(dims).position(zero) {
            return Err(Error::invalid(format!(
                "row {row} is zero and has no direction: leave it out, or use euclidean"
            )));
        }
    }
    Ok(Points { values, dims, metric })
}
