//! Eigenvalues of symmetric matrices.

use faer::{MatRef, Par, Side};
use slaf_core::{Error, ErrorKind, Result};

/// Eigenvalues, the largest first, and their vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// The eigenvalues.
    pub values: Vec<f64>,
    /// A unit vector for each, one after another. Of a vector and its negative either may be here.
    pub vectors: Vec<f64>,
}

/// The `k` largest eigenvalues of a symmetric matrix, row-major, and their vectors.
///
/// # Errors
/// `invalid-argument` for a matrix that is not `n` x `n`, for values that are not finite, and for
/// more eigenvalues than there are.
pub fn largest(matrix: &[f64], n: usize, k: usize) -> Result<Eigen> {
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
    // One thread: the roundings would depend on their number.
    faer::set_global_parallelism(Par::Seq);
    let found = MatRef::from_row_major_slice(matrix, n, n).self_adjoint_eigen(Side::Lower);
    let found = found.map_err(|e| Error::new(ErrorKind::Internal, format!("no eigenvalues: {e:?}")))?;
    let (values, vectors) = (found.S(), found.U());
    let order = (n - k..n).rev();
    Ok(Eigen {
        values: order.clone().map(|i| values[i]).collect(),
        vectors: order.flat_map(|i| (0..n).map(move |row| vectors[(row, i)])).collect(),
    })
}
