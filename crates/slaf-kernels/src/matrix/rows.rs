//! Statistics of rows.

use super::moments::{Moment, Moments, Number, SQUARES, Summed, with_wanted};
use super::request::{Dot, Request, Rows, Stats};
use crate::wire::{Reader, put_all};
use slaf_core::{CsrChunk, Dtype, Result};

/// Statistics of some rows.
pub(super) struct RowStats {
    /// Rows x groups.
    moments: Moments,
    n_groups: usize,
    n_top: usize,
    k: usize,
    top: Vec<f64>,
    dot: Vec<f64>,
}

impl RowStats {
    pub(super) fn zeros(dtype: Dtype, rows: &Rows, n_rows: usize) -> RowStats {
        let (n_top, k) = (rows.top.len(), rows.dot.as_ref().map_or(0, |dot| dot.k));
        let n_groups = rows.groups.as_ref().map_or(1, |groups| groups.n);
        RowStats {
            moments: Moments::zeros(dtype, n_rows * n_groups),
            n_groups,
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
        of::<f64>(&mut self.moments, &part.moments, first * self.n_groups);
        of::<i128>(&mut self.moments, &part.moments, first * self.n_groups);
        self.top[first * self.n_top..][..part.top.len()].copy_from_slice(&part.top);
        self.dot[first * self.k..][..part.dot.len()].copy_from_slice(&part.dot);
    }

    pub(super) fn to_bytes(&self, to: &mut Vec<u8>) {
        self.moments.to_bytes(to);
        put_all(&self.top, to);
        put_all(&self.dot, to);
    }

    /// The same statistics of so many rows.
    pub(super) fn like(&self, n_rows: usize, from: &mut Reader<'_>) -> Result<RowStats> {
        Ok(RowStats {
            moments: self.moments.like(n_rows * self.n_groups, from)?,
            n_groups: self.n_groups,
            n_top: self.n_top,
            k: self.k,
            top: from.all(n_rows * self.n_top)?,
            dot: from.all(n_rows * self.k)?,
        })
    }

    /// The answer about values of a type, for groups of these numbers of columns.
    pub(super) fn finish(self, dtype: Dtype, wanted: u8, group_sizes: &[usize]) -> (Stats, Vec<f64>, Vec<f64>) {
        let n_groups = self.n_groups.max(1);
        (self.moments.finish(dtype, wanted, |i| group_sizes[i % n_groups]), self.top, self.dot)
    }
}

/// The statistics of the rows of a part, if they are asked for.
pub(super) fn of<T: Summed>(
    chunk: &CsrChunk,
    values: &[T],
    request: &Request,
    group_sizes: &[usize],
) -> Option<RowStats> {
    let rows = request.rows.as_ref()?;
    let mut stats = RowStats::zeros(T::DTYPE, rows, chunk.n_rows());
    let n_groups = stats.n_groups.max(1);
    if let Some(moments) = T::Sum::of_mut(&mut stats.moments) {
        for (i, moments) in moments.chunks_mut(n_groups).enumerate() {
            let row = (&chunk.indices[chunk.row(i)], &values[chunk.row(i)]);
            match &rows.groups {
                None => add_row(moments, row, |_| 0, group_sizes, request),
                Some(groups) => add_row(moments, row, |c| groups.labels[c as usize] as usize, group_sizes, request),
            }
        }
    }
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
    Some(stats)
}

fn add_row<T: Summed>(
    moments: &mut [Moment<T::Sum>],
    row: (&[u32], &[T]),
    group: impl Fn(u32) -> usize,
    group_sizes: &[usize],
    request: &Request,
) {
    with_wanted!(request, W => add_values::<T, W>(moments, row, group, group_sizes, request.skip_nan));
}

/// Adds the values of a row; the squares are of the distance to the mean of the group of columns.
fn add_values<T: Summed, const WANTED: u8>(
    moments: &mut [Moment<T::Sum>],
    (columns, values): (&[u32], &[T]),
    group: impl Fn(u32) -> usize,
    group_sizes: &[usize],
    skip_nan: bool,
) {
    let nonzero = || columns.iter().zip(values).filter(|(_, v)| **v != T::default());
    for (&column, &value) in nonzero() {
        if let Some(moment) = moments.get_mut(group(column)) {
            moment.add::<T, WANTED>(value, 0.0, skip_nan);
        }
    }
    if WANTED & SQUARES != 0 {
        let mean =
            |(moment, size): (&Moment<T::Sum>, &usize)| moment.sum.as_f64() / (size - moment.nan as usize) as f64;
        let means: Vec<f64> = moments.iter().zip(group_sizes).map(mean).collect();
        moments.iter_mut().for_each(|moment| moment.square = 0.0);
        for (&column, value) in nonzero() {
            let label = group(column);
            if let (Some(moment), Some(mean)) = (moments.get_mut(label), means.get(label)) {
                let distance = value.as_f64() - mean;
                if !(skip_nan && distance.is_nan()) {
                    moment.square += distance * distance;
                }
            }
        }
    }
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
