//! The products of all pairs of columns.

use super::block::Block;
use crate::matrix::{Plan, Source};
use crate::parallel::{next, on_threads};
use crate::wire::{Reader, put_all};
use slaf_core::{Error, Result};
use std::ops::Range;
use std::sync::Mutex;

/// From one value stored of so many places on, products of dense rows are faster.
const DENSE_SHARE: usize = 3;
/// Columns that a thread takes at once.
const STRIP: usize = 8;
const DENSE_STRIP: usize = 128;

/// Products and sums of the columns of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    /// The rows of the matrix.
    pub n_rows: usize,
    /// Its columns.
    pub n: usize,
    /// `X.T @ X`, n x n; it is symmetric.
    pub products: Vec<f64>,
    /// The sum of each column.
    pub sums: Vec<f64>,
}

impl Gram {
    /// The products of columns less their means: `X.T @ X - sums * sums.T / n_rows`.
    ///
    /// What is left of a column has an absolute error of about 2e-16 times its sum of squares.
    pub fn centre(&mut self) {
        let rows = self.n_rows.max(1) as f64;
        for (row, si) in self.products.chunks_exact_mut(self.n.max(1)).zip(&self.sums) {
            row.iter_mut().zip(&self.sums).for_each(|(product, sj)| *product -= si * sj / rows);
        }
    }

    /// The products of columns less the mean of all columns, where the rows of another matrix are
    /// the columns of this one.
    pub fn centre_columns_on_their_mean(&mut self) {
        let n = self.n.max(1);
        let means: Vec<f64> = self.products.chunks_exact(n).map(|row| row.iter().sum::<f64>() / n as f64).collect();
        let mean = means.iter().sum::<f64>() / n as f64;
        for (row, mi) in self.products.chunks_exact_mut(n).zip(&means) {
            row.iter_mut().zip(&means).for_each(|(product, mj)| *product += mean - mi - mj);
        }
    }

    /// The products of columns times a number each.
    ///
    /// # Errors
    /// `invalid-argument` unless there is one for each column.
    pub fn scale(&mut self, factors: &[f64]) -> Result<()> {
        if factors.len() != self.n {
            return Err(Error::invalid(format!("{} factors for {} columns", factors.len(), self.n)));
        }
        for (row, fi) in self.products.chunks_exact_mut(self.n.max(1)).zip(factors) {
            row.iter_mut().zip(factors).for_each(|(product, fj)| *product *= fi * fj);
        }
        self.sums.iter_mut().zip(factors).for_each(|(sum, f)| *sum *= f);
        Ok(())
    }

    /// Adds the products of the rows that follow.
    ///
    /// # Errors
    /// `invalid-argument` for those of another number of columns.
    pub fn add(&mut self, next: &Gram) -> Result<()> {
        if next.n != self.n {
            return Err(Error::invalid(format!("the products of {} columns, not {}", next.n, self.n)));
        }
        self.n_rows += next.n_rows;
        self.products.iter_mut().zip(&next.products).for_each(|(sum, product)| *sum += product);
        self.sums.iter_mut().zip(&next.sums).for_each(|(sum, more)| *sum += more);
        Ok(())
    }

    /// Appends one of each pair of equal products, and the sums, for [`Gram::from_bytes`].
    pub fn to_bytes(&self, to: &mut Vec<u8>) {
        put_all(&self.sums, to);
        for (i, row) in self.products.chunks(self.n.max(1)).enumerate() {
            put_all(&row[i..], to);
        }
    }

    /// What [`Gram::to_bytes`] wrote of so many rows and columns.
    ///
    /// # Errors
    /// `invalid-argument` for other bytes.
    pub fn from_bytes(bytes: &[u8], n_rows: usize, n: usize) -> Result<Gram> {
        let mut gram = Gram::zeros(n_rows, n)?;
        let mut reader = Reader(bytes);
        gram.sums = reader.all(n)?;
        for (i, row) in gram.products.chunks_mut(n.max(1)).enumerate() {
            row[i..].copy_from_slice(&reader.all::<f64>(n - i)?);
        }
        reader.end()?;
        gram.mirror();
        Ok(gram)
    }

    /// Before the first row.
    ///
    /// # Errors
    /// `invalid-argument` for more columns than have products.
    pub fn zeros(n_rows: usize, n: usize) -> Result<Gram> {
        let places = n.checked_mul(n).ok_or_else(|| Error::invalid(format!("the products of {n} columns")))?;
        Ok(Gram { n_rows, n, products: vec![0.0; places], sums: vec![0.0; n] })
    }

    /// Copies the products of columns with those that follow to where they stand the other way round.
    fn mirror(&mut self) {
        let n = self.n;
        for i in 0..n {
            for j in 0..i {
                self.products[i * n + j] = self.products[j * n + i];
            }
        }
    }

    /// The sum of squares of each column.
    pub fn squares(&self) -> Vec<f64> {
        self.products.iter().step_by(self.n + 1).copied().collect()
    }
}

/// The products of all pairs of columns of a matrix with the plan applied, and the sums of columns.
///
/// Every product is a float64 to which one thread adds, in the order of the rows; those of a stretch
/// of rows are added to those before it.
///
/// # Errors
/// Those of reading and of the plan; `invalid-argument` for NaN and infinite values.
pub fn gram(source: &Source<'_>, plan: &Plan) -> Result<Gram> {
    gram_of_rows(source, plan, 0..source.n_rows)
}

/// The same of some rows: [`gram`] adds those of stretches of [`Source::stretch_rows`] rows with
/// [`Gram::add`].
///
/// # Errors
/// As [`gram`].
pub fn gram_of_rows(source: &Source<'_>, plan: &Plan, rows: Range<usize>) -> Result<Gram> {
    let (n, stretch) = (source.n_cols, source.stretch_rows.max(1));
    let mut all = Gram::zeros(0, n)?;
    // Of the stretches after the first.
    let mut later: Option<Gram> = None;
    Block::for_each(source, plan, rows.clone(), stretch, |block| {
        if block.first > rows.start && block.first.is_multiple_of(stretch) {
            match &mut later {
                Some(later) => {
                    add_upper(later, &mut all);
                    later.products.fill(0.0);
                    later.sums.fill(0.0);
                }
                None => later = Some(Gram { n_rows: 0, n, products: vec![0.0; n * n], sums: vec![0.0; n] }),
            }
        }
        add(block, later.as_mut().unwrap_or(&mut all), source.threads);
    })?;
    if let Some(later) = later {
        add_upper(&later, &mut all);
    }
    all.n_rows = rows.len();
    all.mirror();
    Ok(all)
}

/// Adds sums, and products that are not yet mirrored.
fn add_upper(from: &Gram, to: &mut Gram) {
    let n = from.n.max(1);
    for (i, (to, from)) in to.products.chunks_mut(n).zip(from.products.chunks(n)).enumerate() {
        to[i..].iter_mut().zip(&from[i..]).for_each(|(sum, product)| *sum += product);
    }
    to.sums.iter_mut().zip(&from.sums).for_each(|(sum, more)| *sum += more);
}

/// Adds the products of a block.
fn add(block: &Block, gram: &mut Gram, threads: usize) {
    if block.values.len() >= block.n_rows() * block.n_cols / DENSE_SHARE {
        add_dense(block, gram, threads);
    } else {
        add_sparse(block, gram, threads);
    }
}

/// Each column times what follows it in its rows.
fn add_sparse(block: &Block, gram: &mut Gram, threads: usize) {
    let by_column = ByColumn::of(block);
    in_strips(gram, STRIP, threads, |first, products, sums| {
        for (column, (products, sum)) in (first..).zip(products.chunks_mut(block.n_cols).zip(sums)) {
            for at in by_column.starts[column]..by_column.starts[column + 1] {
                let (place, end) = by_column.places[at];
                let row = place as usize..end as usize;
                let value = by_column.values[row.start];
                *sum += value;
                for (&other, &times) in by_column.columns[row.clone()].iter().zip(&by_column.values[row]) {
                    products[other as usize] += value * times;
                }
            }
        }
    });
}

fn add_dense(block: &Block, gram: &mut Gram, threads: usize) {
    let (n, rows) = (block.n_cols, block.n_rows());
    let mut dense = vec![0.0; rows * n];
    for (row, places) in dense.chunks_exact_mut(n).zip(block.starts.windows(2)) {
        for at in places[0]..places[1] {
            row[block.columns[at] as usize] = block.values[at];
        }
    }
    in_strips(gram, DENSE_STRIP, threads, |first, products, sums| {
        for row in dense.chunks_exact(n) {
            sums.iter_mut().zip(&row[first..]).for_each(|(sum, v)| *sum += v);
        }
        let (m, k, others) = (sums.len(), rows, n - first);
        // SAFETY: `dense` is rows x n, of which columns from `first` on are read: element (i, p)
        // of the left factor is at `first + i + p * n`, and (p, j) of the right one at
        // `first + j + p * n`, with i < m and j < others = n - first. `products` is m rows of
        // n, of which columns from `first` on are changed; nothing else refers to it.
        unsafe {
            let from = dense.as_ptr().add(first);
            let to = products.as_mut_ptr().add(first);
            let n = n as isize;
            matrixmultiply::dgemm(m, k, others, 1.0, from, 1, n, from, n, 1, 1.0, to, n, 1);
        }
    });
}

/// The values of a block by row, in the order of columns, and where each column has some.
struct ByColumn {
    starts: Vec<usize>,
    /// For each value, in the order of columns and then rows: its place and the end of its row.
    places: Vec<(u32, u32)>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl ByColumn {
    fn of(block: &Block) -> ByColumn {
        let nnz = block.values.len();
        let mut starts = vec![0; block.n_cols + 1];
        block.columns.iter().for_each(|&c| starts[c as usize + 1] += 1);
        (0..block.n_cols).for_each(|c| starts[c + 1] += starts[c]);
        // The rows and values of each column.
        let (mut rows, mut values, mut next) = (vec![0u32; nnz], vec![0.0; nnz], starts.clone());
        for row in 0..block.n_rows() {
            for at in block.starts[row]..block.starts[row + 1] {
                let place = &mut next[block.columns[at] as usize];
                (rows[*place], values[*place]) = (row as u32, block.values[at]);
                *place += 1;
            }
        }
        // Column by column back into rows, which come to be in the order of columns.
        let mut sorted = ByColumn { starts, places: vec![(0, 0); nnz], columns: vec![0; nnz], values: vec![0.0; nnz] };
        let mut next: Vec<usize> = block.starts[..block.n_rows()].to_vec();
        for column in 0..block.n_cols {
            for at in sorted.starts[column]..sorted.starts[column + 1] {
                let row = rows[at] as usize;
                let place = next[row];
                (sorted.columns[place], sorted.values[place]) = (column as u32, values[at]);
                sorted.places[at] = (place as u32, block.starts[row + 1] as u32);
                next[row] += 1;
            }
        }
        sorted
    }
}

/// Calls `f` with strips of columns, each in one thread: the first column, rows of products, and sums.
fn in_strips(gram: &mut Gram, strip: usize, threads: usize, f: impl Fn(usize, &mut [f64], &mut [f64]) + Sync) {
    let n = gram.n;
    let strips = Mutex::new(gram.products.chunks_mut(n * strip).zip(gram.sums.chunks_mut(strip)).enumerate());
    on_threads(threads, || {
        while let Some((i, (products, sums))) = next(&strips) {
            f(i * strip, products, sums);
        }
    });
}
