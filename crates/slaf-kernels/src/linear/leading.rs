//! The largest eigenvalues of `X.T @ X`, where it is too large to be computed.
//!
//! Block Lanczos with all vectors kept and orthogonalised twice (Golub and Underwood 1977; Golub and
//! Van Loan 2013, 10.3): each step multiplies a block of vectors by the centred matrix and by its
//! transpose, in one pass over the rows ([`images_of_rows`]).

use super::eigen::largest;
use super::images::{Vectors, images_of_rows};
use super::product::multiply;
use crate::matrix::{Plan, Source};
use crate::parallel::{next, on_threads};
use crate::random::Stream;
use slaf_core::{Error, Result};
use std::sync::Mutex;

/// Vectors that are multiplied in one pass.
const WIDTH: usize = 32;
/// Vectors that a thread orthogonalises at once.
const STRIP: usize = 8;
/// Residuals at which it stops, of each eigenvalue. The angle between a vector and the true one is about
/// its residual over the distance to the other eigenvalues.
const TOLERANCE: f64 = 1e-9;
/// Eigenvalues below this share of the largest are as exact as one of this size.
const SMALL: f64 = 1e-4;
/// What is left of a vector where nothing but rounding is left, as a share of the largest image.
const ROUNDING: f64 = 1e-13;
/// Vectors that are kept for each that is wanted, and at least: then it stops, whatever the residuals are.
const KEPT: usize = 24;
const KEPT_AT_LEAST: usize = 512;

/// Eigenvalues, the largest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Leading {
    /// The eigenvalues.
    pub values: Vec<f64>,
    /// A unit vector for each, one after another. Of a vector and its negative either may be here.
    pub vectors: Vec<f64>,
    /// For each the norm of what the matrix makes of the vector, less the vector times its value.
    pub residuals: Vec<f64>,
}

impl Leading {
    /// Whether the residuals are below 1e-9 of the eigenvalues, or of 1e-4 of the largest.
    pub fn converged(&self) -> bool {
        let least = SMALL * self.values.first().copied().unwrap_or(0.0);
        self.residuals.iter().zip(&self.values).all(|(residual, value)| *residual <= TOLERANCE * value.max(least))
    }

    /// Whether the values are these, but for rounding.
    fn has(&self, values: &[f64]) -> bool {
        self.values.iter().zip(values).all(|(a, b)| (a - b).abs() <= TOLERANCE * self.values[0])
    }

    /// Whether no value is there as often as there are vectors in a block.
    fn is_simple(&self) -> bool {
        self.values.windows(WIDTH).all(|some| some[0] - some[WIDTH - 1] > TOLERANCE * some[0])
    }
}

/// The `k` largest eigenvalues of `F.T @ F`, where `F` are the columns of a matrix less `means` and then
/// times `factors`.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What is subtracted from each column.
    pub means: &'a [f64],
    /// What each column is multiplied by.
    pub factors: &'a [f64],
    /// How many eigenvalues.
    pub k: usize,
}

/// The largest eigenvalues of products of columns of a matrix with the plan applied.
///
/// Memory is that of up to `24 k` vectors, and up to 512, of float64; where these do not suffice,
/// [`Leading::converged`] is false. The same bits with any number of threads.
///
/// # Errors
/// Those of reading and of the plan; `invalid-argument` for NaN and infinite values, for more
/// eigenvalues than columns, and for means or factors that are not as many as columns.
pub fn leading(source: &Source<'_>, plan: &Plan, wanted: Wanted<'_>) -> Result<Leading> {
    let Wanted { means, factors, k } = wanted;
    let mut search = Lanczos::new(source.n_cols, k, source.threads)?;
    let mut vectors = Vectors { means: means.to_vec(), factors: factors.to_vec(), values: Vec::new() };
    loop {
        search.block().clone_into(&mut vectors.values);
        let images = images_of_rows(source, plan, 0..source.n_rows, &vectors)?.finish(&vectors);
        if let Some(found) = search.take(images)? {
            return Ok(found);
        }
    }
}

/// The search of [`leading`], for who finds the images of its vectors: of [`Lanczos::block`], and then of what
/// is there after [`Lanczos::take`], until that gives the eigenvalues.
pub struct Lanczos {
    k: usize,
    /// The most vectors that are kept.
    most: usize,
    basis: Basis,
    block: Vec<f64>,
    /// The vectors from which on is asked for eigenvalues.
    asked: usize,
    /// Eigenvalues that are exact, if there are no others.
    known: Option<Vec<f64>>,
}

impl Lanczos {
    /// A search for the `k` largest eigenvalues of a symmetric matrix of `n` columns without values below zero.
    ///
    /// # Errors
    /// `invalid-argument` for none, and for more than columns.
    pub fn new(n: usize, k: usize, threads: usize) -> Result<Lanczos> {
        if k == 0 || k > n {
            return Err(Error::invalid(format!("{k} eigenvalues of {n} columns")));
        }
        let most = n.min((KEPT * k).max(KEPT_AT_LEAST));
        let mut basis = Basis { n, vectors: Vec::new(), products: Vec::new(), scale: 0.0, drawn: 0, threads };
        let block = basis.besides(Vec::new(), WIDTH.min(most));
        Ok(Lanczos { k, most, basis, block, asked: k, known: None })
    }

    /// The vectors whose images are wanted, one after another.
    pub fn block(&self) -> &[f64] {
        &self.block
    }

    /// Takes what the matrix makes of the vectors of the block; the eigenvalues, if they are found.
    ///
    /// # Errors
    /// `invalid-argument` for images of other vectors.
    pub fn take(&mut self, images: Vec<f64>) -> Result<Option<Leading>> {
        if images.len() != self.block.len() || images.is_empty() {
            let (given, wanted) = (images.len(), self.block.len());
            return Err(Error::invalid(format!("images of {given} values for vectors of {wanted}")));
        }
        let rest = self.basis.take(std::mem::take(&mut self.block), images);
        let (size, closed) = (self.basis.size(), rest.vectors.is_empty());
        let room = self.most - size;
        let mut widen = closed;
        // Asking takes as long as all vectors cubed.
        if room == 0 || size >= self.asked || (closed && size >= self.k) {
            let found = self.basis.ritz(self.k, &rest)?;
            let converged = found.converged();
            let same = converged && self.known.as_ref().is_some_and(|known| found.has(known));
            if room == 0 || same || (converged && !closed && found.is_simple()) {
                return Ok(Some(found));
            }
            // Of an eigenvalue that there is more often than vectors in a block, some copies are missed.
            widen |= converged;
            self.asked = if widen { 2 * size } else { size + size / 4 };
            if converged {
                self.known = Some(found.values);
            }
        }
        self.block = if widen { self.basis.besides(rest.vectors, WIDTH) } else { rest.vectors };
        self.block.truncate(room * self.basis.n);
        Ok(None)
    }
}

/// Vectors of unit length, orthogonal to each other, and what the matrix makes of them.
struct Basis {
    n: usize,
    /// One after another.
    vectors: Vec<f64>,
    /// For each its image's products with the vectors up to the end of its block.
    products: Vec<Vec<f64>>,
    /// The largest norm of an image.
    scale: f64,
    /// Random vectors that were drawn.
    drawn: u64,
    threads: usize,
}

/// What the images of a block have beside the basis.
struct Rest {
    /// Unit vectors, orthogonal to the basis and each other.
    vectors: Vec<f64>,
    /// For each image its products with these.
    products: Vec<Vec<f64>>,
}

impl Basis {
    fn size(&self) -> usize {
        self.products.len()
    }

    /// Vectors that are orthogonal to the basis and each other, and so many random ones beside them.
    fn besides(&mut self, vectors: Vec<f64>, width: usize) -> Vec<f64> {
        loop {
            let stream = Stream::keyed(0, &[self.drawn]);
            self.drawn += 1;
            let mut drawn: Vec<f64> = (0..(width * self.n) as u64).map(|i| 2.0 * stream.unit(i) - 1.0).collect();
            self.project(&mut drawn);
            let found = self.orthonormal([vectors.clone(), drawn].concat(), 1e-6).vectors;
            if found.len() > vectors.len() {
                return found;
            }
        }
    }

    /// Takes in a block and its image; what the image has beside the basis.
    fn take(&mut self, block: Vec<f64>, mut image: Vec<f64>) -> Rest {
        let norms = image.chunks_exact(self.n).map(norm);
        self.scale = norms.fold(self.scale, f64::max);
        self.vectors.extend(block);
        let products = self.project(&mut image);
        self.products.extend(products);
        self.orthonormal(image, ROUNDING * self.scale)
    }

    /// Subtracts from vectors what lies in the basis; their products with it.
    fn project(&self, vectors: &mut [f64]) -> Vec<Vec<f64>> {
        let (n, size) = (self.n, self.vectors.len() / self.n);
        let mut products = vec![vec![0.0; size]; vectors.len() / n];
        let strips = Mutex::new(vectors.chunks_mut(n * STRIP).zip(products.chunks_mut(STRIP)));
        on_threads(self.threads, || {
            while let Some((vectors, products)) = next(&strips) {
                let width = products.len();
                let mut of_strip = vec![0.0; width * size];
                // Once leaves the rounding of what was subtracted, twice does not.
                for _ in 0..2 {
                    multiply(
                        [width, n, size],
                        1.0,
                        (vectors, [n, 1]),
                        (&self.vectors, [1, n]),
                        0.0,
                        (&mut of_strip, size),
                    );
                    multiply(
                        [width, size, n],
                        -1.0,
                        (&of_strip, [size, 1]),
                        (&self.vectors, [n, 1]),
                        1.0,
                        (vectors, n),
                    );
                    for (sum, found) in products.iter_mut().zip(of_strip.chunks_exact(size.max(1))) {
                        sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
                    }
                }
            }
        });
        products
    }

    /// Vectors as combinations of unit vectors that are orthogonal to each other; what is shorter than
    /// `least` besides those before counts as none.
    fn orthonormal(&self, mut vectors: Vec<f64>, least: f64) -> Rest {
        let (n, width) = (self.n, vectors.len() / self.n);
        let mut products = vec![vec![0.0; width]; width];
        let mut found = 0;
        for (at, products) in products.iter_mut().enumerate() {
            let (before, rest) = vectors.split_at_mut(at * n);
            let vector = &mut rest[..n];
            for _ in 0..2 {
                for (product, unit) in products.iter_mut().zip(before[..found * n].chunks_exact(n)) {
                    let dot: f64 = unit.iter().zip(&*vector).map(|(a, b)| a * b).sum();
                    vector.iter_mut().zip(unit).for_each(|(v, u)| *v -= dot * u);
                    *product += dot;
                }
            }
            let length = norm(vector);
            if length > least {
                vector.iter_mut().for_each(|v| *v /= length);
                products[found] = length;
                vectors.copy_within(at * n..(at + 1) * n, found * n);
                found += 1;
            }
        }
        vectors.truncate(found * n);
        let mut rest = Rest { vectors, products };
        // Small lengths magnify what the basis still had of a vector.
        if found > 0 && self.size() > 0 {
            self.project(&mut rest.vectors);
        }
        rest
    }

    /// The best vectors that the basis has for the largest eigenvalues.
    fn ritz(&self, k: usize, rest: &Rest) -> Result<Leading> {
        let (n, size) = (self.n, self.size());
        let mut matrix = vec![0.0; size * size];
        for (column, products) in self.products.iter().enumerate() {
            for (row, &product) in products.iter().enumerate().take(column + 1) {
                matrix[row * size + column] = product;
                matrix[column * size + row] = product;
            }
        }
        let found = largest(&matrix, size, k, self.threads)?;
        let mut vectors = vec![0.0; k * n];
        multiply([k, size, n], 1.0, (&found.vectors, [size, 1]), (&self.vectors, [n, 1]), 0.0, (&mut vectors, n));
        let last = size - rest.products.len();
        let residuals = found.vectors.chunks_exact(size).map(|weights| {
            let mut left = vec![0.0; rest.vectors.len() / n];
            for (weight, products) in weights[last..].iter().zip(&rest.products) {
                left.iter_mut().zip(products).for_each(|(left, product)| *left += weight * product);
            }
            norm(&left)
        });
        let residuals = residuals.collect();
        // Products of a matrix with itself have none below zero.
        let values = found.values.into_iter().map(|value| value.max(0.0)).collect();
        Ok(Leading { values, vectors, residuals })
    }
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|v| v * v).sum::<f64>().sqrt()
}
