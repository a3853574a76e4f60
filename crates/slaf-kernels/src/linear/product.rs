//! Products and sums of vectors and matrices in one order of operations.

/// The product of two vectors, in eight sums.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (mut a8, mut b8) = (a.chunks_exact(8), b.chunks_exact(8));
    for (a, b) in a8.by_ref().zip(b8.by_ref()) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// The product of two vectors, and `to += factor * a`.
pub(super) fn dot_and_add(a: &[f64], b: &[f64], factor: f64, to: &mut [f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (mut a8, mut b8, mut to8) = (a.chunks_exact(8), b.chunks_exact(8), to.chunks_exact_mut(8));
    for ((a, b), to) in a8.by_ref().zip(b8.by_ref()).zip(to8.by_ref()) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
            to[lane] += factor * a[lane];
        }
    }
    let mut rest = 0.0;
    for ((a, b), to) in a8.remainder().iter().zip(b8.remainder()).zip(to8.into_remainder()) {
        rest += a * b;
        *to += factor * a;
    }
    sums.iter().sum::<f64>() + rest
}

/// `a -= factor * b`.
pub(super) fn subtract(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a -= factor * b);
}

/// `c = alpha a @ b + beta c` of matrices of m x k and k x n with given strides, and c with rows of
/// `c_stride` values.
pub(super) fn multiply(
    [m, k, n]: [usize; 3],
    alpha: f64,
    (a, a_strides): (&[f64], [usize; 2]),
    (b, b_strides): (&[f64], [usize; 2]),
    beta: f64,
    (c, c_stride): (&mut [f64], usize),
) {
    let needed = |rows: usize, cols: usize, [by_row, by_col]: [usize; 2]| match (rows, cols) {
        (0, _) | (_, 0) => 0,
        _ => (rows - 1) * by_row + (cols - 1) * by_col + 1,
    };
    assert!(a.len() >= needed(m, k, a_strides) && b.len() >= needed(k, n, b_strides));
    assert!(c_stride >= n && c.len() >= needed(m, n, [c_stride, 1]));
    let [ra, ca] = a_strides.map(|s| s as isize);
    let [rb, cb] = b_strides.map(|s| s as isize);
    // SAFETY: the strides stay within the slices, as was just found; rows of `c` do not overlap, and it
    // is borrowed alone.
    unsafe {
        let to = c.as_mut_ptr();
        matrixmultiply::dgemm(m, k, n, alpha, a.as_ptr(), ra, ca, b.as_ptr(), rb, cb, beta, to, c_stride as isize, 1);
    }
}
