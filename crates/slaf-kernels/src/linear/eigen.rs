//! Eigenvalues of symmetric matrices: the textbook way for a few of them (Golub and Van Loan 2013, 8.3
//! and 8.4). Reflections make the matrix tridiagonal, bisection finds eigenvalues, inverse iteration
//! their vectors.

use super::panel::Panel;
use super::product::{dot, subtract};
use crate::parallel::{next, on_threads};
use slaf_core::{Error, Result};
use std::sync::Mutex;

/// What a matrix of zeros has for its size: fractions of it, down to a square of the precision, are numbers
/// that can be divided by.
const LEAST_NORM: f64 = f64::MIN_POSITIVE / (f64::EPSILON * f64::EPSILON);
/// What is left of a column where nothing is, in a matrix whose largest value is between 1 and 2.
const NOTHING: f64 = f64::EPSILON * f64::EPSILON;
/// Steps of inverse iteration: two converge, and the others are for eigenvalues that are the same.
const STEPS: usize = 4;

/// Eigenvalues, the largest first, and their vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// The eigenvalues.
    pub values: Vec<f64>,
    /// A unit vector for each, one after another. Of a vector and its negative either may be here.
    pub vectors: Vec<f64>,
}

/// The `k` largest eigenvalues of a symmetric matrix, row-major, and their vectors; the same bits with any
/// number of threads.
///
/// # Errors
/// `invalid-argument` for a matrix that is not `n` x `n`, for values that are not finite, and for
/// more eigenvalues than there are.
pub fn largest(matrix: &[f64], n: usize, k: usize, threads: usize) -> Result<Eigen> {
    if Some(matrix.len()) != n.checked_mul(n) {
        return Err(Error::invalid(format!("{} values for a matrix of {n} x {n}", matrix.len())));
    }
    if k > n {
        return Err(Error::invalid(format!("{k} eigenvalues of a matrix of {n} x {n}")));
    }
    if let Some(at) = matrix.iter().position(|v| !v.is_finite()) {
        return Err(Error::invalid(format!("{} in row {}: eigenvalues need finite values", matrix[at], at / n)));
    }
    if k == 0 {
        return Ok(Eigen { values: Vec::new(), vectors: Vec::new() });
    }
    // Squares of values near one neither overflow nor vanish.
    let size = matrix.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let unit = if size > 0.0 { 2f64.powi((-size.log2().floor()).clamp(-1000.0, 1000.0) as i32) } else { 1.0 };
    let reduced = Tridiagonal::of(matrix.iter().map(|v| v * unit).collect(), n, threads);
    let mut values = reduced.largest(k);
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(k);
    let mut shift = f64::INFINITY;
    for &value in &values {
        // The same shift would find the same vector.
        shift = value.min(shift - 10.0 * f64::EPSILON * reduced.norm);
        vectors.push(reduced.vector(shift, &vectors));
    }
    let waiting = Mutex::new(vectors.iter_mut());
    on_threads(threads.min(k), || {
        while let Some(vector) = next(&waiting) {
            reduced.turn_back(vector);
        }
    });
    values.iter_mut().for_each(|value| *value /= unit);
    Ok(Eigen { values, vectors: vectors.concat() })
}

/// A tridiagonal matrix, and the reflections that made it.
struct Tridiagonal {
    diagonal: Vec<f64>,
    /// What is beside the diagonal.
    beside: Vec<f64>,
    /// For each column but the last two: 2 / |v|^2 and v, of the rows below the diagonal.
    reflections: Vec<(f64, Vec<f64>)>,
    /// A bound of the size of all eigenvalues, above zero.
    norm: f64,
}

impl Tridiagonal {
    fn of(mut a: Vec<f64>, n: usize, threads: usize) -> Tridiagonal {
        let mut reflections = Vec::with_capacity(n.saturating_sub(2));
        let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n - 1]);
        let mut panel = Panel::of(&mut a, n, threads);
        for k in 0..n.saturating_sub(2) {
            let (on_diagonal, mut v) = panel.column(k);
            diagonal[k] = on_diagonal;
            let length = dot(&v, &v).sqrt();
            // Of a matrix of few directions only rounding is left, of rounding of rounding.
            let is_nothing = length <= NOTHING;
            if is_nothing || length == v[0].abs() {
                beside[k] = if is_nothing { 0.0 } else { v[0] };
                panel.leave();
                reflections.push((0.0, Vec::new()));
                continue;
            }
            beside[k] = if v[0] > 0.0 { -length } else { length };
            v[0] -= beside[k];
            let factor = 2.0 / dot(&v, &v);
            panel.reflect(factor, &v);
            reflections.push((factor, v));
        }
        for k in n.saturating_sub(2)..n {
            let (on_diagonal, after) = panel.column(k);
            diagonal[k] = on_diagonal;
            if let Some(after) = after.first() {
                beside[k] = *after;
            }
            panel.leave();
        }
        // Gershgorin's circles.
        let norm = (0..n)
            .map(|i| {
                let before = if i > 0 { beside[i - 1].abs() } else { 0.0 };
                diagonal[i].abs() + before + beside.get(i).map_or(0.0, |b| b.abs())
            })
            .fold(LEAST_NORM, f64::max);
        Tridiagonal { diagonal, beside, reflections, norm }
    }

    /// How many eigenvalues are above `x`: Sturm's sequence.
    fn above(&self, x: f64) -> usize {
        let tiny = f64::EPSILON * f64::EPSILON * self.norm;
        let (mut count, mut pivot) = (0, 1.0f64);
        for (i, d) in self.diagonal.iter().enumerate() {
            let before = if i > 0 { self.beside[i - 1] } else { 0.0 };
            pivot = d - x - before / pivot * before;
            if pivot.abs() < tiny {
                pivot = -tiny;
            }
            count += usize::from(pivot > 0.0);
        }
        count
    }

    /// The `k` largest eigenvalues, by bisection until the ends are neighbours.
    fn largest(&self, k: usize) -> Vec<f64> {
        let mut upper = self.norm * (1.0 + 4.0 * f64::EPSILON);
        let value = |i: usize| {
            let (mut low, mut high) = (-self.norm * (1.0 + 4.0 * f64::EPSILON), upper);
            while high - low > f64::EPSILON / 2.0 * self.norm {
                let middle = f64::midpoint(low, high);
                if middle <= low || middle >= high {
                    break;
                }
                if self.above(middle) > i { low = middle } else { high = middle }
            }
            upper = f64::midpoint(low, high);
            upper
        };
        (0..k).map(value).collect()
    }

    /// A unit vector of the eigenvalue at `shift`, orthogonal to `others`.
    fn vector(&self, shift: f64, others: &[Vec<f64>]) -> Vec<f64> {
        let n = self.diagonal.len();
        let factors = Factors::of(self, shift);
        let mut state = others.len() as u64 + 1;
        // A start that no eigenvector is orthogonal to, but by chance.
        let mut x: Vec<f64> = (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                0.5 + (state >> 33) as f64 / (1u64 << 31) as f64
            })
            .collect();
        for _ in 0..STEPS {
            factors.solve(&mut x);
            let largest = x.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
            x.iter_mut().for_each(|v| *v /= largest);
            for _ in 0..2 {
                for other in others {
                    let product = dot(&x, other);
                    subtract(&mut x, product, other);
                }
            }
            let length = dot(&x, &x).sqrt().max(f64::MIN_POSITIVE);
            x.iter_mut().for_each(|v| *v /= length);
        }
        x
    }

    /// A vector of the tridiagonal matrix as one of the matrix that it was made of.
    fn turn_back(&self, x: &mut [f64]) {
        for (k, (factor, v)) in self.reflections.iter().enumerate().rev() {
            if !v.is_empty() {
                let below = &mut x[k + 1..];
                let product = factor * dot(below, v);
                subtract(below, product, v);
            }
        }
    }
}

/// A shifted tridiagonal matrix in two triangles, its rows exchanged where the next one's is larger.
struct Factors {
    /// The upper triangle: the diagonal and the two beside it.
    upper: Vec<[f64; 3]>,
    /// For each row but the last whether it was exchanged with the next, and what of it was subtracted.
    lower: Vec<(bool, f64)>,
}

impl Factors {
    fn of(matrix: &Tridiagonal, shift: f64) -> Factors {
        let n = matrix.diagonal.len();
        let beside = |i: usize| matrix.beside.get(i).copied().unwrap_or(0.0);
        let tiny = f64::EPSILON * matrix.norm;
        let held = |pivot: f64| if pivot.abs() < tiny { tiny.copysign(pivot) } else { pivot };
        let (mut upper, mut lower) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut row = [matrix.diagonal[0] - shift, beside(0), 0.0];
        for i in 0..n - 1 {
            let next = [beside(i), matrix.diagonal[i + 1] - shift, beside(i + 1)];
            let exchanged = next[0].abs() > row[0].abs();
            let (mut first, second) = if exchanged { (next, row) } else { (row, next) };
            first[0] = held(first[0]);
            let factor = second[0] / first[0];
            row = [second[1] - factor * first[1], second[2] - factor * first[2], 0.0];
            upper.push(first);
            lower.push((exchanged, factor));
        }
        row[0] = held(row[0]);
        upper.push(row);
        Factors { upper, lower }
    }

    fn solve(&self, x: &mut [f64]) {
        for (i, &(exchanged, factor)) in self.lower.iter().enumerate() {
            if exchanged {
                x.swap(i, i + 1);
            }
            x[i + 1] -= factor * x[i];
        }
        for i in (0..x.len()).rev() {
            let after = |by: usize| x.get(i + by).copied().unwrap_or(0.0);
            x[i] = (x[i] - self.upper[i][1] * after(1) - self.upper[i][2] * after(2)) / self.upper[i][0];
        }
    }
}
