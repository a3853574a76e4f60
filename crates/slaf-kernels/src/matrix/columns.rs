//! Statistics of columns.

use super::moments::{ALL, Moments, Number, SQUARES, SUMS, Summed, fitting};
use super::request::{Columns, Detail, Groups, Request, Stats};
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
    pub(super) fn add(mut self, chunk: &CsrChunk, first: usize, request: &Request) -> Result<Accumulator> {
        self.add_rows(chunk, first, request)?;
        Ok(self)
    }

    pub(super) fn add_rows(&mut self, chunk: &CsrChunk, first: usize, request: &Request) -> Result<()> {
        let Some(columns) = &request.columns else { return Ok(()) };
        with_values!(&chunk.values, v => {
            match request.detail {
                Detail::Sums => self.add_moments::<_, SUMS>(chunk, v, first, columns, request.skip_nan),
                Detail::Squares => self.add_moments::<_, SQUARES>(chunk, v, first, columns, request.skip_nan),
                Detail::All => self.add_moments::<_, ALL>(chunk, v, first, columns, request.skip_nan),
            }?;
            self.add_left(chunk, v, first, columns);
        });
        Ok(())
    }

    fn add_moments<T: Summed, const DETAIL: u8>(
        &mut self,
        chunk: &CsrChunk,
        values: &[T],
        first: usize,
        columns: &Columns,
        skip_nan: bool,
    ) -> Result<()> {
        let n_cols = self.n_cols;
        let Some(moments) = T::Sum::of_mut(&mut self.moments) else { return Ok(()) };
        let mut fits = true;
        for i in 0..chunk.n_rows() {
            let group = match &columns.groups {
                None => 0,
                Some(Groups { labels, n }) => match labels[first + i] as usize {
                    label if label < *n => label,
                    _ => continue,
                },
            };
            let of_group = &mut moments[group * n_cols..(group + 1) * n_cols];
            let (columns_of_row, values) = (&chunk.indices[chunk.row(i)], &values[chunk.row(i)]);
            for (&column, &value) in columns_of_row.iter().zip(values) {
                if value != T::default() {
                    let centre = columns.centres.as_ref().map_or(0.0, |c| c[column as usize]);
                    fits &= of_group[column as usize].add::<T, DETAIL>(value, centre, skip_nan);
                }
            }
        }
        fitting(fits)
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
    pub(super) fn merge(&mut self, next: &Accumulator) -> Result<()> {
        fn of<S: Number>(ours: &mut Moments, theirs: &Moments) -> bool {
            let (Some(ours), Some(theirs)) = (S::of_mut(ours), S::of(theirs)) else { return true };
            ours.iter_mut().zip(theirs).fold(true, |fits, (a, b)| a.merge(b) && fits)
        }
        let fits = of::<f64>(&mut self.moments, &next.moments) && of::<i64>(&mut self.moments, &next.moments);
        self.left.iter_mut().zip(&next.left).for_each(|(a, b)| *a += b);
        fitting(fits)
    }

    /// The answer, for groups of these numbers of rows.
    pub(super) fn finish(self, group_sizes: &[usize]) -> (Stats, Vec<f64>) {
        let n_cols = self.n_cols.max(1);
        (self.moments.finish(|i| group_sizes[i / n_cols]), self.left)
    }
}
