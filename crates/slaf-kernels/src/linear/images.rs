//! What the products of columns make of vectors, without the products: sums over rows.

use super::block::Block;
use crate::matrix::{Plan, Source};
use crate::parallel::{next, on_threads};
use crate::wire::{Reader, put_all};
use slaf_core::{Error, Result};
use std::ops::Range;
use std::sync::Mutex;

/// Vectors that a thread multiplies at once.
const STRIP: usize = 8;

/// Vectors that `F.T @ F` is multiplied with, where `F` are the columns of a matrix less `means` and then
/// times `factors`.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// What is subtracted from each column.
    pub means: Vec<f64>,
    /// What each column is multiplied by.
    pub factors: Vec<f64>,
    /// The vectors, one after another, each with a value for each column.
    pub values: Vec<f64>,
}

impl Vectors {
    fn check(&self, n_cols: usize) -> Result<()> {
        let Vectors { means, factors, values } = self;
        if means.len() == n_cols && factors.len() == n_cols && n_cols > 0 && values.len().is_multiple_of(n_cols) {
            return Ok(());
        }
        let [means, factors, values] = [means.len(), factors.len(), values.len()];
        Err(Error::invalid(format!(
            "{means} means, {factors} factors and {values} values of vectors for {n_cols} columns"
        )))
    }

    fn strips(&self) -> Vec<Strip> {
        self.values.chunks(self.means.len() * STRIP).map(|some| Strip::of(some, &self.means, &self.factors)).collect()
    }
}

/// Vectors side by side.
struct Strip {
    /// For each column of the matrix.
    vectors: Vec<[f64; STRIP]>,
    /// The product of the means with the vectors.
    shift: [f64; STRIP],
}

impl Strip {
    fn of(vectors: &[f64], means: &[f64], factors: &[f64]) -> Strip {
        let n = means.len();
        let mut side_by_side = vec![[0.0; STRIP]; n];
        let mut shift = [0.0; STRIP];
        for (at, vector) in vectors.chunks_exact(n).enumerate() {
            for (column, value) in vector.iter().enumerate() {
                side_by_side[column][at] = value * factors[column];
                shift[at] += means[column] * side_by_side[column][at];
            }
        }
        Strip { vectors: side_by_side, shift }
    }
}

/// What rows make of the vectors of a strip.
#[derive(Clone, Debug, PartialEq)]
struct Sums {
    /// For each column of the matrix.
    images: Vec<[f64; STRIP]>,
    /// The sum of what the rows make of the vectors.
    total: [f64; STRIP],
}

impl Sums {
    fn add_rows(&mut self, block: &Block, strip: &Strip) {
        for places in block.starts.windows(2) {
            let row = places[0]..places[1];
            let of_row = || block.columns[row.clone()].iter().zip(&block.values[row.clone()]);
            let mut made = strip.shift.map(|shift| -shift);
            for (&column, value) in of_row() {
                made.iter_mut().zip(&strip.vectors[column as usize]).for_each(|(made, v)| *made += value * v);
            }
            for (&column, value) in of_row() {
                self.images[column as usize].iter_mut().zip(&made).for_each(|(image, made)| *image += value * made);
            }
            self.total.iter_mut().zip(&made).for_each(|(total, made)| *total += made);
        }
    }

    fn add(&mut self, next: &Sums) {
        let images = self.images.as_flattened_mut().iter_mut().zip(next.images.as_flattened());
        images.for_each(|(sum, more)| *sum += more);
        self.total.iter_mut().zip(&next.total).for_each(|(sum, more)| *sum += more);
    }
}

/// What rows of a matrix make of vectors, before means and factors are applied to the sums.
#[derive(Clone, Debug, PartialEq)]
pub struct Images(Vec<Sums>);

impl Images {
    /// Before the first row.
    ///
    /// # Errors
    /// `invalid-argument` for vectors, means or factors that are not of so many columns.
    pub fn zeros(of: &Vectors, n_cols: usize) -> Result<Images> {
        of.check(n_cols)?;
        let strips = of.values.len().div_ceil(n_cols * STRIP);
        Ok(Images(vec![Sums { images: vec![[0.0; STRIP]; n_cols], total: [0.0; STRIP] }; strips]))
    }

    /// Adds those of the rows that follow, for the same vectors.
    pub fn add(&mut self, next: &Images) {
        self.0.iter_mut().zip(&next.0).for_each(|(sums, more)| sums.add(more));
    }

    fn clear(&mut self) {
        for Sums { images, total } in &mut self.0 {
            images.fill([0.0; STRIP]);
            *total = [0.0; STRIP];
        }
    }

    /// Appends the sums, for [`Images::from_bytes`].
    pub fn to_bytes(&self, to: &mut Vec<u8>) {
        for Sums { images, total } in &self.0 {
            put_all(images.as_flattened(), to);
            put_all(total, to);
        }
    }

    /// What [`Images::to_bytes`] wrote, for the same vectors.
    ///
    /// # Errors
    /// `invalid-argument` for other bytes.
    pub fn from_bytes(bytes: &[u8], of: &Vectors, n_cols: usize) -> Result<Images> {
        let mut found = Images::zeros(of, n_cols)?;
        let mut reader = Reader(bytes);
        for Sums { images, total } in &mut found.0 {
            images.as_flattened_mut().copy_from_slice(&reader.all(n_cols * STRIP)?);
            total.copy_from_slice(&reader.all(STRIP)?);
        }
        reader.end()?;
        Ok(found)
    }

    /// `F.T @ F` times each vector, of all rows.
    pub fn finish(&self, of: &Vectors) -> Vec<f64> {
        let Vectors { means, factors, values } = of;
        let mut found = vec![0.0; values.len()];
        let n = means.len().max(1);
        for (Sums { images, total }, to) in self.0.iter().zip(found.chunks_mut(n * STRIP)) {
            for (at, vector) in to.chunks_exact_mut(n).enumerate() {
                for (column, value) in vector.iter_mut().enumerate() {
                    *value = factors[column] * (images[column][at] - means[column] * total[at]);
                }
            }
        }
        found
    }
}

/// What some rows of a matrix with the plan applied make of vectors. Sums of stretches of
/// [`Source::stretch_rows`] rows are added in their order, as [`Images::add`] adds those of other machines.
///
/// Every sum is one to which one thread adds, in the order of the rows.
///
/// # Errors
/// Those of reading and of the plan; `invalid-argument` for NaN and infinite values, and those of
/// [`Images::zeros`].
pub fn images_of_rows(source: &Source<'_>, plan: &Plan, rows: Range<usize>, of: &Vectors) -> Result<Images> {
    let (n, stretch) = (source.n_cols, source.stretch_rows.max(1));
    let mut all = Images::zeros(of, n)?;
    let strips = of.strips();
    // Of the stretches after the first.
    let mut later: Option<Images> = None;
    Block::for_each(source, plan, rows.clone(), stretch, |block| {
        if block.first > rows.start && block.first.is_multiple_of(stretch) {
            match &mut later {
                Some(later) => {
                    all.add(later);
                    later.clear();
                }
                None => later.insert(all.clone()).clear(),
            }
        }
        let sums = later.as_mut().unwrap_or(&mut all);
        let waiting = Mutex::new(sums.0.iter_mut().zip(&strips));
        on_threads(source.threads, || {
            while let Some((sums, strip)) = next(&waiting) {
                sums.add_rows(block, strip);
            }
        });
    })?;
    if let Some(later) = later {
        all.add(&later);
    }
    Ok(all)
}
