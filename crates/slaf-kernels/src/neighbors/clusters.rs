//! Points in clusters, in float32.

use super::exact::{Metric, Points, Real};
use crate::parallel::{next, on_threads};
use std::sync::Mutex;

/// Points of a cluster, about.
const CLUSTER: usize = 256;
/// Fewer points are one cluster: comparing all is as fast.
const FEW: usize = 4096;
/// Points of the sample for each centre, and rounds of k-means over it.
pub(super) const SAMPLE: usize = 32;
const ROUNDS: usize = 5;
/// Rows of a product.
pub(super) const BLOCK: usize = 256;

/// Points around their mean (or of unit length), cluster by cluster.
pub(super) struct Clusters {
    pub(super) dims: usize,
    /// The number of each point.
    pub(super) order: Vec<u32>,
    /// Where clusters begin in `order`, and where the last one ends.
    pub(super) starts: Vec<usize>,
    /// Coordinates in the order of `order`, and their sums of squares.
    pub(super) values: Vec<f32>,
    pub(super) norms: Vec<f32>,
    pub(super) centres: Vec<f32>,
    pub(super) centre_norms: Vec<f32>,
    /// The largest sum of squares in each cluster, its centre included.
    pub(super) largest: Vec<f64>,
    /// The largest distance of a point to its centre, not less than it is.
    pub(super) radii: Vec<f64>,
}

/// What an error of a squared distance from products in float32 stays below, for each unit of the
/// sums of squares of both points. A product of n terms has a relative error of n roundings (Higham
/// 2002, 3.1); coordinates were rounded once after the shift, and norms and the sum are rounded.
pub(super) fn rounding(dims: usize) -> f64 {
    2.0 * (dims as f64 + 8.0) * f64::from(f32::EPSILON)
}

impl Clusters {
    pub(super) fn n(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn of<T: Real>(points: Points<'_, T>, threads: usize) -> Clusters {
        let (dims, n) = (points.dims, points.values.len() / points.dims);
        let shifted = shifted(points);
        let n_clusters = if n < FEW { 1 } else { n.div_ceil(CLUSTER) };
        let centres = centres(&shifted, dims, n_clusters, threads);
        let centre_norms = norms(&centres, dims);
        let labels = nearest_centres(&shifted, dims, &centres, &centre_norms, threads);
        let mut starts = vec![0; n_clusters + 1];
        labels.iter().for_each(|&label| starts[label as usize + 1] += 1);
        (0..n_clusters).for_each(|c| starts[c + 1] += starts[c]);
        let (mut order, mut at) = (vec![0u32; n], starts.clone());
        for (i, &label) in labels.iter().enumerate() {
            order[at[label as usize]] = i as u32;
            at[label as usize] += 1;
        }
        let values: Vec<f32> =
            order.iter().flat_map(|&i| &shifted[i as usize * dims..(i as usize + 1) * dims]).copied().collect();
        let norms = norms(&values, dims);
        let (mut largest, mut radii) = (vec![0.0f64; n_clusters], vec![0.0f64; n_clusters]);
        for c in 0..n_clusters {
            let centre = &centres[c * dims..(c + 1) * dims];
            largest[c] = f64::from(centre_norms[c]);
            for i in starts[c]..starts[c + 1] {
                let squared: f64 =
                    values[i * dims..(i + 1) * dims].iter().zip(centre).map(|(x, y)| f64::from(x - y).powi(2)).sum();
                radii[c] = radii[c].max(squared.sqrt() * (1.0 + 1e-6));
                largest[c] = largest[c].max(f64::from(norms[i]));
            }
        }
        Clusters { dims, order, starts, values, norms, centres, centre_norms, largest, radii }
    }
}

/// Coordinates less their means, or directions of unit length.
fn shifted<T: Real>(points: Points<'_, T>) -> Vec<f32> {
    let dims = points.dims;
    match points.metric {
        Metric::Euclidean => {
            let mut means = vec![0.0; dims];
            for row in points.values.chunks_exact(dims) {
                means.iter_mut().zip(row).for_each(|(m, &x)| *m += x.into());
            }
            let n = (points.values.len() / dims) as f64;
            means.iter_mut().for_each(|m| *m /= n);
            points
                .values
                .chunks_exact(dims)
                .flat_map(|row| row.iter().zip(&means).map(|(&x, m)| (x.into() - m) as f32))
                .collect()
        }
        Metric::Cosine => points.values.chunks_exact(dims).flat_map(unit).collect(),
    }
}

/// A direction of unit length.
fn unit<T: Real>(row: &[T]) -> impl Iterator<Item = f32> {
    let square = |&x: &T| {
        let x: f64 = x.into();
        x * x
    };
    let length = row.iter().map(square).sum::<f64>().sqrt();
    row.iter().map(move |&x| (x.into() / length) as f32)
}

pub(super) fn norms(values: &[f32], dims: usize) -> Vec<f32> {
    values.chunks_exact(dims).map(|row| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() as f32).collect()
}

/// Centres by a few rounds of k-means (Lloyd 1982) over a sample at even distances.
pub(super) fn centres(values: &[f32], dims: usize, k: usize, threads: usize) -> Vec<f32> {
    if k == 1 {
        return vec![0.0; dims];
    }
    let n = values.len() / dims;
    let evenly = |m: usize| (0..m).map(move |i| (i as u128 * n as u128 / m as u128) as usize);
    let row = |i: usize| &values[i * dims..(i + 1) * dims];
    let mut centres: Vec<f32> = evenly(k).flat_map(row).copied().collect();
    let sample: Vec<f32> = evenly(n.min(k * SAMPLE)).flat_map(row).copied().collect();
    for _ in 0..ROUNDS {
        let labels = nearest_centres(&sample, dims, &centres, &norms(&centres, dims), threads);
        let (mut sums, mut sizes) = (vec![0.0f64; k * dims], vec![0u32; k]);
        for (row, &label) in sample.chunks_exact(dims).zip(&labels) {
            let sum = &mut sums[label as usize * dims..][..dims];
            sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
            sizes[label as usize] += 1;
        }
        for ((centre, sum), &size) in centres.chunks_exact_mut(dims).zip(sums.chunks_exact(dims)).zip(&sizes) {
            if size > 0 {
                centre.iter_mut().zip(sum).for_each(|(c, s)| *c = (s / f64::from(size)) as f32);
            }
        }
    }
    centres
}

/// The centre that is nearest to each row; of ties the first one.
fn nearest_centres(values: &[f32], dims: usize, centres: &[f32], centre_norms: &[f32], threads: usize) -> Vec<u32> {
    let k = centre_norms.len();
    let mut labels = vec![0u32; values.len() / dims];
    if k == 1 {
        return labels;
    }
    let blocks = Mutex::new(values.chunks(dims * BLOCK).zip(labels.chunks_mut(BLOCK)));
    on_threads(threads, || {
        let mut products = vec![0.0; BLOCK * k];
        while let Some((rows, labels)) = next(&blocks) {
            product(rows, centres, dims, &mut products);
            for (label, products) in labels.iter_mut().zip(products.chunks_exact(k)) {
                let mut best = f32::INFINITY;
                for (c, (product, norm)) in products.iter().zip(centre_norms).enumerate() {
                    let score = norm - 2.0 * product;
                    if score < best {
                        (best, *label) = (score, c as u32);
                    }
                }
            }
        }
    });
    labels
}

/// `left @ right.T` of row-major matrices with `dims` columns.
pub(super) fn product(left: &[f32], right: &[f32], dims: usize, out: &mut [f32]) {
    let (m, n) = (left.len() / dims, right.len() / dims);
    let out = &mut out[..m * n];
    // SAFETY: `left` has m rows of `dims` values, `right` has n, and `out` is m x n, all row-major;
    // the strides say so, the right one as its transpose. `out` is borrowed mutably, so overlaps none.
    unsafe {
        let (rows, others) = (dims as isize, n as isize);
        matrixmultiply::sgemm(
            m,
            dims,
            n,
            1.0,
            left.as_ptr(),
            rows,
            1,
            right.as_ptr(),
            1,
            rows,
            0.0,
            out.as_mut_ptr(),
            others,
            1,
        );
    }
}
