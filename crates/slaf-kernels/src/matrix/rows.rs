//! Statistics of rows.

use super::moments::{ALL, Moment, Moments, Number, SQUARES, SUMS, Summed, fitting};
use super::request::{Detail, Dot, Request, Rows, Stats};
use slaf_core::{CsrChunk, Dtype, Result};

/// Statistics of some rows.
pub(super) struct RowStats {
    moments: Moments,
    n_top: usize,
    k: usize,
    top: Vec<f64>,
    dot: Vec<f64>,
}

impl RowStats {
    pub(super) fn zeros(dtype: Dtype, rows: &Rows, n_rows: usize) -> RowStats {
        let (n_top, k) = (rows.top.len(), rows.dot.as_ref().map_or(0, |dot| dot.k));
        RowStats {
            moments: Moments::zeros(dtype, n_rows),
            n_top,
            k,
            top: vec![0.0; n_rows * n_top],
            dot: vec![0.0; n_rows * k],
        }
    }

    /// Takes over the statistics of rows that begin with row `first`.
    pub(super) fn put(&mut self, first: usize, part: &RowStats) {
        fn of<S: Number>(ours: &mut Moments, theirs: &Moments, first: usize) {
            if let (Some(ours), Some(theirs)) = (S::of_mut(ours), S::of(theirs)) {
                ours[first..first + theirs.len()].copy_from_slice(theirs);
            }
        }
        of::<f64>(&mut self.moments, &part.moments, first);
        of::<i64>(&mut self.moments, &part.moments, first);
        self.top[first * self.n_top..][..part.top.len()].copy_from_slice(&part.top);
        self.dot[first * self.k..][..part.dot.len()].copy_from_slice(&part.dot);
    }

    pub(super) fn finish(self, n_cols: usize) -> (Stats, Vec<f64>, Vec<f64>) {
        (self.moments.finish(|_| n_cols), self.top, self.dot)
    }
}

/// The statistics of the rows of a part, if they are asked for.
pub(super) fn of<T: Summed>(
    chunk: &CsrChunk,
    values: &[T],
    request: &Request,
    n_cols: usize,
) -> Result<Option<RowStats>> {
    let Some(rows) = &request.rows else { return Ok(None) };
    let mut stats = RowStats::zeros(T::DTYPE, rows, chunk.n_rows());
    let mut fits = true;
    if let Some(moments) = T::Sum::of_mut(&mut stats.moments) {
        for (i, moment) in moments.iter_mut().enumerate() {
            let row = &values[chunk.row(i)];
            fits &= match request.detail {
                Detail::Sums => add_row::<T, SUMS>(moment, row, n_cols, request.skip_nan),
                Detail::Squares => add_row::<T, SQUARES>(moment, row, n_cols, request.skip_nan),
                Detail::All => add_row::<T, ALL>(moment, row, n_cols, request.skip_nan),
            };
        }
    }
    fitting(fits)?;
    let mut sorted = Vec::new();
    let weighted = rows.dot.as_ref().map_or_else(Vec::new, |dot| dot.weighted());
    for i in 0..chunk.n_rows() {
        let row = &values[chunk.row(i)];
        if !rows.top.is_empty() {
            sums_of_largest(row, &rows.top, &mut sorted, &mut stats.top[i * stats.n_top..(i + 1) * stats.n_top]);
        }
        if let Some(dot) = &rows.dot {
            dot_row(
                &chunk.indices[chunk.row(i)],
                row,
                dot,
                &weighted,
                request.skip_nan,
                &mut stats.dot[i * dot.k..(i + 1) * dot.k],
            );
        }
    }
    Ok(Some(stats))
}

/// Adds the values of a row; the squares are of the distance to the mean of the row.
fn add_row<T: Summed, const DETAIL: u8>(moment: &mut Moment<T::Sum>, row: &[T], n_cols: usize, skip_nan: bool) -> bool {
    let nonzero = || row.iter().filter(|v| **v != T::default());
    if !nonzero().all(|&value| moment.add::<T, DETAIL>(value, 0.0, skip_nan)) {
        return false;
    }
    if DETAIL >= SQUARES {
        let mean = moment.sum.as_f64() / (n_cols - moment.nan as usize) as f64;
        let distances = nonzero().map(|v| v.as_f64() - mean).filter(|d| !(skip_nan && d.is_nan()));
        moment.square = distances.map(|d| d * d).sum();
    }
    true
}

fn sums_of_largest<T: Summed>(row: &[T], top: &[usize], sorted: &mut Vec<f64>, out: &mut [f64]) {
    sorted.clear();
    sorted.extend(row.iter().map(|v| v.as_f64()));
    let most = top.last().copied().unwrap_or(0);
    if most < sorted.len() {
        sorted.select_nth_unstable_by(most, |a, b| b.total_cmp(a));
        sorted.truncate(most);
    }
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut used) = (0.0, 0);
    for (&n, out) in top.iter().zip(out) {
        let n = n.min(sorted.len());
        sum += sorted[used..n].iter().sum::<f64>();
        used = n;
        *out = sum;
    }
}

/// `weighted` tells the columns of which a weight is not zero.
fn dot_row<T: Summed>(columns: &[u32], values: &[T], dot: &Dot, weighted: &[bool], skip_nan: bool, out: &mut [f64]) {
    for (&column, &value) in columns.iter().zip(values) {
        let (column, value) = (column as usize, value.as_f64());
        // NaN times zero is NaN.
        if !weighted[column] && value.is_finite() || skip_nan && value.is_nan() {
            continue;
        }
        let weights = &dot.weights[column * dot.k..][..dot.k];
        out.iter_mut().zip(weights).for_each(|(o, w)| *o += w * value);
    }
}
