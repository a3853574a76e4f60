//! Statistics of columns.

use super::moments::{Moments, Number, Summed, with_wanted};
use super::request::{Columns, Request, Stats};
use crate::wire::{Reader, put_all};
use slaf_core::{CsrChunk, Dtype, Result, with_values};

/// Statistics of the columns of some rows, for each group.
#[derive(Clone, Debug)]
pub(super) struct Accumulator {
    n_cols: usize,
    /// Groups x columns.
    moments: Moments,
    /// `k` x columns.
    left: Vec<f64>,
}

impl Accumulator {
    pub(super) fn of(dtype: Dtype, request: &Request, n_cols: usize) -> Accumulator {
        let columns = request.columns.as_ref();
        let n = if columns.is_some() { request.n_groups() * n_cols } else { 0 };
        let k = columns.and_then(|c| c.left.as_ref()).map_or(0, |left| left.k);
        Accumulator { n_cols, moments: Moments::zeros(dtype, n), left: vec![0.0; k * n_cols] }
    }

    /// With the rows of a part, which begin with row `first` of the matrix.
    pub(super) fn add(mut self, chunk: &CsrChunk, first: usize, request: &Request) -> Accumulator {
        self.add_rows(chunk, first, request);
        self
    }

    pub(super) fn add_rows(&mut self, chunk: &CsrChunk, first: usize, request: &Request) {
        let Some(columns) = &request.columns else { return };
        with_values!(&chunk.values, v => {
            with_wanted!(request, W => self.add_moments::<_, W>(chunk, v, first, columns, request.skip_nan));
            self.add_left(chunk, v, first, columns);
        });
    }

    fn add_moments<T: Summed, const WANTED: u8>(
        &mut self,
        chunk: &CsrChunk,
        values: &[T],
        first: usize,
        columns: &Columns,
        skip_nan: bool,
    ) {
        let n_cols = self.n_cols;
        let Some(moments) = T::Sum::of_mut(&mut self.moments) else { return };
        for i in 0..chunk.n_rows() {
            let Some(group) = columns.group(first + i) else { continue };
            let of_group = &mut moments[group * n_cols..(group + 1) * n_cols];
            let (columns_of_row, values) = (&chunk.indices[chunk.row(i)], &values[chunk.row(i)]);
            for (&column, &value) in columns_of_row.iter().zip(values) {
                if value != T::default() {
                    let centre = columns.centres.as_ref().map_or(0.0, |c| c[column as usize]);
                    of_group[column as usize].add::<T, WANTED>(value, centre, skip_nan);
                }
            }
        }
    }

    fn add_left<T: Summed>(&mut self, chunk: &CsrChunk, values: &[T], first: usize, columns: &Columns) {
        let Some(left) = &columns.left else { return };
        for i in 0..chunk.n_rows() {
            let weights = &left.weights[(first + i) * left.k..(first + i + 1) * left.k];
            for at in chunk.row(i) {
                let (column, value) = (chunk.indices[at] as usize, values[at].as_f64());
                for (j, weight) in weights.iter().enumerate() {
                    self.left[j * self.n_cols + column] += weight * value;
                }
            }
        }
    }

    /// With the rows of the next part.
    pub(super) fn merge(&mut self, next: &Accumulator) {
        fn of<S: Number>(ours: &mut Moments, theirs: &Moments) {
            if let (Some(ours), Some(theirs)) = (S::of_mut(ours), S::of(theirs)) {
                ours.iter_mut().zip(theirs).for_each(|(a, b)| a.merge(b));
            }
        }
        of::<f64>(&mut self.moments, &next.moments);
        of::<i128>(&mut self.moments, &next.moments);
        self.left.iter_mut().zip(&next.left).for_each(|(a, b)| *a += b);
    }

    /// Takes over the statistics of columns that begin with column `first`.
    pub(super) fn put(&mut self, first: usize, part: &Accumulator) {
        fn of<S: Copy>(ours: &mut [S], all: usize, theirs: &[S], n: usize, first: usize) {
            for (ours, theirs) in ours.chunks_mut(all.max(1)).zip(theirs.chunks(n.max(1))) {
                ours[first..first + n].copy_from_slice(theirs);
            }
        }
        let (all, n) = (self.n_cols, part.n_cols);
        match (&mut self.moments, &part.moments) {
            (Moments::Float(ours), Moments::Float(theirs)) => of(ours, all, theirs, n, first),
            (Moments::Int(ours), Moments::Int(theirs)) => of(ours, all, theirs, n, first),
            _ => {}
        }
        of(&mut self.left, all, &part.left, n, first);
    }

    pub(super) fn to_bytes(&self, to: &mut Vec<u8>) {
        self.moments.to_bytes(to);
        put_all(&self.left, to);
    }

    /// The same statistics of so many columns.
    pub(super) fn like(&self, n_cols: usize, from: &mut Reader<'_>) -> Result<Accumulator> {
        let (n_groups, k) = (self.moments.len() / self.n_cols.max(1), self.left.len() / self.n_cols.max(1));
        Ok(Accumulator { n_cols, moments: self.moments.like(n_groups * n_cols, from)?, left: from.all(k * n_cols)? })
    }

    /// The answer about values of a type, for groups of these numbers of rows.
    pub(super) fn finish(self, dtype: Dtype, wanted: u8, group_sizes: &[usize]) -> (Stats, Vec<f64>) {
        let n_cols = self.n_cols.max(1);
        (self.moments.finish(dtype, wanted, |i| group_sizes[i / n_cols]), self.left)
    }
}
