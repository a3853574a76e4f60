//! Reflections of a symmetric matrix, some at a time (Dongarra, Hammarling and Sorensen 1989; LAPACK's
//! `dlatrd`): what they change is kept as pairs of vectors, and the matrix takes it in by a product of
//! matrices. So the matrix is read once for each reflection, and written once for all of a panel.

use super::product::{dot, dot_and_add, multiply, subtract};
use crate::parallel::{next, on_threads};
use std::sync::Mutex;

/// Reflections that are kept before the matrix takes them in.
const PANEL: usize = 32;
/// Rows that a thread takes at once.
const ROWS: usize = 64;

/// A matrix whose columns are reflected one after another.
pub(super) struct Panel<'a> {
    /// Only what is on and below the diagonal is read.
    matrix: &'a mut [f64],
    n: usize,
    threads: usize,
    /// The first column of the panel. The matrix is as it was before it was reflected.
    first: usize,
    /// Vectors v and w of each column of the panel, of `n - first` values: `A - v w^T - w v^T` is what the
    /// matrix would be.
    vs: Vec<f64>,
    ws: Vec<f64>,
}

impl<'a> Panel<'a> {
    pub(super) fn of(matrix: &'a mut [f64], n: usize, threads: usize) -> Panel<'a> {
        Panel { matrix, n, threads, first: 0, vs: Vec::new(), ws: Vec::new() }
    }

    /// Pairs of vectors from the column `k` on.
    fn pairs(&self, k: usize) -> impl Iterator<Item = (&[f64], &[f64])> {
        let (width, from) = (self.n - self.first, k - self.first);
        self.vs.chunks_exact(width).zip(self.ws.chunks_exact(width)).map(move |(v, w)| (&v[from..], &w[from..]))
    }

    /// The value on the diagonal in the next column, which is `k`, and those below.
    pub(super) fn column(&mut self, k: usize) -> (f64, Vec<f64>) {
        if k - self.first == PANEL {
            self.take_in(k);
        }
        let mut column: Vec<f64> = self.matrix[k * self.n + k..].iter().step_by(self.n).copied().collect();
        for (v, w) in self.pairs(k) {
            subtract(&mut column, v[0], w);
            subtract(&mut column, w[0], v);
        }
        let below = column.split_off(1);
        (column[0], below)
    }

    /// Goes on without a reflection.
    pub(super) fn leave(&mut self) {
        let width = self.n - self.first;
        self.vs.resize(self.vs.len() + width, 0.0);
        self.ws.resize(self.ws.len() + width, 0.0);
    }

    /// Reflects rows and columns below the last column by `1 - factor v v^T`.
    pub(super) fn reflect(&mut self, factor: f64, v: &[f64]) {
        let k = self.n - v.len();
        let mut image = self.times(k, v);
        for (before_v, before_w) in self.pairs(k) {
            let (of_v, of_w) = (dot(before_v, v), dot(before_w, v));
            subtract(&mut image, of_w, before_v);
            subtract(&mut image, of_v, before_w);
        }
        image.iter_mut().for_each(|value| *value *= factor);
        let half = factor / 2.0 * dot(&image, v);
        subtract(&mut image, half, v);
        let above = k - self.first;
        for (vectors, new) in [(&mut self.vs, v), (&mut self.ws, &image)] {
            vectors.resize(vectors.len() + above, 0.0);
            vectors.extend_from_slice(new);
        }
    }

    /// What the matrix as it is makes of a vector, both from the row `k` on. In one thread: memory is the
    /// limit, and others would have to be woken for each column.
    fn times(&self, k: usize, vector: &[f64]) -> Vec<f64> {
        let mut image = vec![0.0; vector.len()];
        for (i, row) in self.matrix[k * self.n..].chunks_exact(self.n).enumerate() {
            // Each value below the diagonal is that above it, too.
            let (above, own) = image.split_at_mut(i);
            let product = dot_and_add(&row[k..k + i], &vector[..i], vector[i], above);
            own[0] += product + row[k + i] * vector[i];
        }
        image
    }

    /// Changes the matrix from the column `k` on as the panel says, and begins the next panel there.
    fn take_in(&mut self, k: usize) {
        let (n, width, from) = (self.n, self.n - self.first, k - self.first);
        let left = [self.vs.as_slice(), &self.ws].concat();
        let right = [self.ws.as_slice(), &self.vs].concat();
        let depth = left.len() / width;
        let strips = Mutex::new(self.matrix[k * n..].chunks_mut(ROWS * n).enumerate());
        on_threads(self.threads, || {
            while let Some((at, rows)) = next(&strips) {
                let (n_rows, first) = (rows.len() / n, at * ROWS);
                let (left, right) = (&left[from + first..], &right[from..]);
                let size = [n_rows, depth, first + n_rows];
                multiply(size, -1.0, (left, [1, width]), (right, [width, 1]), 1.0, (&mut rows[k..], n));
            }
        });
        self.first = k;
        self.vs.clear();
        self.ws.clear();
    }
}
