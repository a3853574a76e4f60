//! The search for nearest points.

use super::clusters::{BLOCK, Clusters, product, rounding};
use super::exact::{Best, Metric, Points, Real};
use crate::parallel::{next, on_threads};
use slaf_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The nearest points of each of some points, the nearest first; of ties those of smaller number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearest {
    /// How many there are for each.
    pub k: usize,
    /// Their numbers.
    pub rows: Vec<u32>,
    /// Their distances.
    pub distances: Vec<f64>,
}

/// The `k` nearest other points of each point, of points that are rows of `dims` values. `progress`
/// is told how many points are done; `false` stops.
///
/// # Errors
/// `invalid-argument` for values that are no such rows or not finite, for points without a direction
/// where cosines are compared, and for a `k` that is not below the number of points; `interrupted`.
pub fn all_nearest<T: Real>(
    values: &[T],
    dims: usize,
    k: usize,
    metric: Metric,
    threads: usize,
    progress: &(dyn Fn(usize) -> bool + Sync),
) -> Result<Nearest> {
    let points = checked(values, dims, metric)?;
    let n = values.len() / dims;
    if k >= n {
        return Err(Error::invalid(format!("{k} nearest others of each of {n} points")));
    }
    let mut nearest = Nearest { k, rows: vec![0; n * k], distances: vec![0.0; n * k] };
    if k == 0 {
        return Ok(nearest);
    }
    let clusters = Clusters::of(points, threads);
    let blocks: Vec<(usize, Range<usize>)> = (0..clusters.n())
        .flat_map(|c| {
            let all = clusters.starts[c]..clusters.starts[c + 1];
            all.clone().step_by(BLOCK).map(move |start| (c, start..(start + BLOCK).min(all.end)))
        })
        .collect();
    let (work, done) = (Mutex::new(blocks.into_iter()), AtomicUsize::new(0));
    let (found, stop) = (Mutex::new(&mut nearest), AtomicBool::new(false));
    on_threads(threads, || {
        while let Some((cluster, block)) = next(&work) {
            let best = of_block(points, &clusters, cluster, block.clone(), k);
            {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                for (best, at) in best.into_iter().zip(block.clone()) {
                    let first = clusters.order[at] as usize * k;
                    for (i, (row, squared)) in best.sorted().enumerate() {
                        found.rows[first + i] = row;
                        found.distances[first + i] = points.distance(squared);
                    }
                }
            }
            let so_far = done.fetch_add(block.len(), Ordering::Relaxed) + block.len();
            if stop.load(Ordering::Relaxed) || !progress(so_far) {
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
    if stop.into_inner() {
        return Err(Error::new(ErrorKind::Interrupted, "stopped before the last point"));
    }
    Ok(nearest)
}

/// The nearest others of some points of a cluster.
fn of_block<T: Real>(
    points: Points<'_, T>,
    clusters: &Clusters,
    cluster: usize,
    block: Range<usize>,
    k: usize,
) -> Vec<Best> {
    let dims = clusters.dims;
    let bounds = Bounds::of(clusters, cluster, block.clone());
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
        for first in members.clone().step_by(BLOCK) {
            let some = first..(first + BLOCK).min(members.end);
            product(&rows, &clusters.values[some.start * dims..some.end * dims], dims, &mut products);
            for (products, &i) in products.chunks_exact(some.len()).zip(&numbers) {
                scan(points, clusters, block.start + i, some.clone(), products, &mut best[i]);
            }
        }
    }
    best
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
    /// Points x clusters, squared.
    squared: Vec<f64>,
    /// The clusters by the least of their bounds, which is beside them.
    order: Vec<(f64, usize)>,
}

impl Bounds {
    fn of(clusters: &Clusters, cluster: usize, block: Range<usize>) -> Bounds {
        let (dims, n) = (clusters.dims, clusters.n());
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
                least[c] = least[c].min(*bound);
            }
        }
        let mut order: Vec<(f64, usize)> = least.into_iter().enumerate().map(|(c, bound)| (bound, c)).collect();
        // Our own cluster first: it makes the limits small.
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1 != cluster).cmp(&(b.1 != cluster))).then(a.1.cmp(&b.1)));
        Bounds { squared, order }
    }
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
    let mut nearest = Nearest { k, rows: vec![0; n_queries * k], distances: vec![0.0; n_queries * k] };
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
