//! The graph of UMAP.

use slaf_core::{Error, Result};

/// The relative precision of the sum that a bandwidth is chosen by, and the least bandwidth for
/// each unit of the mean distance: `SMOOTH_K_TOLERANCE` and `MIN_K_DIST_SCALE` of umap-learn.
const TOLERANCE: f64 = 1e-5;
const LEAST: f32 = 1e-3;
const ROUNDS: usize = 64;

/// A square sparse matrix of float32, in rows whose columns rise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Where rows begin, and where the last one ends.
    pub starts: Vec<u64>,
    /// The columns.
    pub columns: Vec<u32>,
    /// The values.
    pub values: Vec<f32>,
}

/// The fuzzy union of the neighbourhoods of points: McInnes, Healy and Melville (2018), section 3.1,
/// as `fuzzy_simplicial_set` of umap-learn 0.5 computes it, with local connectivity and bandwidth 1.
///
/// `rows` and `distances` are those of `k` neighbours of each point, the nearest first and without the
/// point itself, which counts as one more.
///
/// # Errors
/// `invalid-argument` for numbers that are not those of `k` neighbours.
pub fn umap_connectivities(rows: &[u32], distances: &[f64], k: usize) -> Result<Graph> {
    let n = rows.len().checked_div(k).unwrap_or(0);
    if rows.len() != distances.len() || rows.len() != n * k || rows.iter().any(|&row| row as usize >= n) {
        return Err(Error::invalid(format!("{} neighbours are not {k} of each point", rows.len())));
    }
    let distances: Vec<f32> = distances.iter().map(|&d| d as f32).collect();
    // The distance of each point to itself counts in means.
    let mean = |of: &[f32], n: usize| of.iter().map(|&d| f64::from(d)).sum::<f64>() as f32 / n.max(1) as f32;
    let mean_of_all = mean(&distances, n * (k + 1));
    let target = ((k + 1) as f64).log2();
    let mut strengths = Vec::with_capacity(rows.len());
    for of_point in distances.chunks_exact(k.max(1)) {
        let nearest = of_point.iter().copied().find(|d| *d > 0.0).unwrap_or(0.0);
        let mean = if nearest > 0.0 { mean(of_point, k + 1) } else { mean_of_all };
        let width = bandwidth(of_point, nearest, target).max(LEAST * mean);
        strengths.extend(of_point.iter().map(|d| {
            let beyond = d - nearest;
            if beyond <= 0.0 || width == 0.0 { 1.0 } else { (-(beyond / width)).exp() }
        }));
    }
    Ok(union(rows, &strengths, n, k))
}

/// The width at which memberships add to the target, by bisection.
fn bandwidth(distances: &[f32], nearest: f32, target: f64) -> f32 {
    let (mut low, mut high, mut middle) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..ROUNDS {
        let membership = |d: &f32| {
            let beyond = d - nearest;
            if beyond > 0.0 { (-(f64::from(beyond) / middle)).exp() } else { 1.0 }
        };
        let sum: f64 = distances.iter().map(membership).sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = middle;
            middle = f64::midpoint(low, high);
        } else {
            low = middle;
            middle = if high.is_finite() { f64::midpoint(low, high) } else { middle * 2.0 };
        }
    }
    middle as f32
}

/// `a + b - a * b` of each strength and the one of the opposite direction.
fn union(rows: &[u32], strengths: &[f32], n: usize, k: usize) -> Graph {
    let mut incoming = vec![0usize; n + 1];
    rows.iter().for_each(|&row| incoming[row as usize + 1] += 1);
    (0..n).for_each(|i| incoming[i + 1] += incoming[i]);
    let (mut from, mut next) = (vec![(0u32, 0f32); rows.len()], incoming.clone());
    for (at, (&to, &strength)) in rows.iter().zip(strengths).enumerate() {
        let place = &mut next[to as usize];
        from[*place] = ((at / k) as u32, strength);
        *place += 1;
    }
    let mut graph = Graph { starts: vec![0], ..Graph::default() };
    let mut outgoing: Vec<(u32, f32)> = Vec::with_capacity(k);
    for i in 0..n {
        outgoing.clear();
        outgoing.extend(rows[i * k..(i + 1) * k].iter().copied().zip(strengths[i * k..(i + 1) * k].iter().copied()));
        outgoing.sort_by_key(|(row, _)| *row);
        let mut others = from[incoming[i]..incoming[i + 1]].iter().copied().peekable();
        let mut add = |column: u32, a: f32, b: f32| {
            let strength = a + b - a * b;
            if strength != 0.0 {
                graph.columns.push(column);
                graph.values.push(strength);
            }
        };
        for &(column, a) in &outgoing {
            while let Some((column, b)) = others.next_if(|(other, _)| *other < column) {
                add(column, 0.0, b);
            }
            let b = others.next_if(|(other, _)| *other == column).map_or(0.0, |(_, b)| b);
            add(column, a, b);
        }
        others.for_each(|(column, b)| add(column, 0.0, b));
        graph.starts.push(graph.columns.len() as u64);
    }
    graph
}
