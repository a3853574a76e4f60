//! Distances in float64, and the nearest of what was measured.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// How far points are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The root of the sum of squared differences.
    Euclidean,
    /// One minus the cosine of the angle.
    Cosine,
}

slaf_core::names!(Metric, "metric", { Euclidean => "euclidean", Cosine => "cosine" });

/// A type of coordinates.
pub trait Real: Copy + Send + Sync + Into<f64> + 'static {
    /// The difference, rounded to float32.
    fn less(self, other: f32) -> f32;
}

impl Real for f32 {
    fn less(self, other: f32) -> f32 {
        self - other
    }
}

impl Real for f64 {
    fn less(self, other: f32) -> f32 {
        (self - f64::from(other)) as f32
    }
}

/// Points as they were given, row-major.
#[derive(Clone, Copy)]
pub(super) struct Points<'a, T> {
    pub(super) values: &'a [T],
    pub(super) dims: usize,
    pub(super) metric: Metric,
}

impl<'a, T: Real> Points<'a, T> {
    pub(super) fn row(&self, i: usize) -> &'a [T] {
        &self.values[i * self.dims..(i + 1) * self.dims]
    }

    /// What neighbours are ordered by: the squared distance, or twice that of cosines. With
    /// directions of unit length both are the squared distance between them.
    pub(super) fn squared(&self, a: &[T], b: &[T]) -> f64 {
        match self.metric {
            Metric::Euclidean => in_lanes(a, b, |x, y| {
                let d = x - y;
                d * d
            }),
            Metric::Cosine => {
                let length = (in_lanes(a, a, |x, y| x * y) * in_lanes(b, b, |x, y| x * y)).sqrt();
                // Rounding leaves a direction at a tiny distance of itself, of either sign.
                (2.0 * (1.0 - in_lanes(a, b, |x, y| x * y) / length)).max(0.0)
            }
        }
    }

    /// The distance of what [`Points::squared`] gives.
    pub(super) fn distance(&self, squared: f64) -> f64 {
        match self.metric {
            Metric::Euclidean => squared.sqrt(),
            Metric::Cosine => squared / 2.0,
        }
    }
}

/// A sum over pairs, in four partial sums.
pub(super) fn in_lanes<A: Real, B: Real>(a: &[A], b: &[B], f: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; 4];
    let (mut a4, mut b4) = (a.chunks_exact(4), b.chunks_exact(4));
    for (a, b) in a4.by_ref().zip(b4.by_ref()) {
        for lane in 0..4 {
            sums[lane] += f(a[lane].into(), b[lane].into());
        }
    }
    for ((a, b), sum) in a4.remainder().iter().zip(b4.remainder()).zip(&mut sums) {
        *sum += f((*a).into(), (*b).into());
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// A point at a distance; nearer ones, and of ties those of smaller number, come first.
#[derive(Clone, Copy, PartialEq)]
struct Found {
    squared: f64,
    row: u32,
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Found) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Found) -> Ordering {
        self.squared.total_cmp(&other.squared).then(self.row.cmp(&other.row))
    }
}

/// The nearest `k` of the points that were offered.
pub(super) struct Best {
    k: usize,
    heap: BinaryHeap<Found>,
}

impl Best {
    pub(super) fn new(k: usize) -> Best {
        Best { k, heap: BinaryHeap::with_capacity(k) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// What is farther than this is not among them.
    pub(super) fn limit(&self) -> f64 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.squared,
            _ => f64::INFINITY,
        }
    }

    pub(super) fn offer(&mut self, squared: f64, row: u32) {
        let found = Found { squared, row };
        if self.heap.len() < self.k {
            self.heap.push(found);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && found < *worst
        {
            *worst = found;
        }
    }

    /// Rows and squared distances, the nearest first.
    pub(super) fn sorted(self) -> impl Iterator<Item = (u32, f64)> {
        self.heap.into_sorted_vec().into_iter().map(|found| (found.row, found.squared))
    }
}
