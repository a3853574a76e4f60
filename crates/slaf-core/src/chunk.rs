use crate::dtype::{Dtype, Values};
use crate::error::{Error, Result};
use crate::order::rises;

/// Some consecutive rows of a sparse matrix, in compressed sparse row form.
///
/// `indptr` has one entry more than there are rows, begins with 0 and ends with the number of
/// stored values; row `i` is `indices[indptr[i]..indptr[i + 1]]` with the values beside them.
/// Column indices rise strictly within a row, unless a function says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct CsrChunk {
    /// Where rows begin in the other two, and where the last one ends.
    pub indptr: Vec<u64>,
    /// The column of each stored value.
    pub indices: Vec<u32>,
    /// The stored values, of one type.
    pub values: Values,
}

impl CsrChunk {
    /// No rows.
    pub fn empty(dtype: Dtype) -> Self {
        CsrChunk { indptr: vec![0], indices: Vec::new(), values: Values::empty(dtype) }
    }

    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// The number of stored values, explicit zeros included.
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// The positions of row `i` in `indices` and `values`.
    pub fn row(&self, i: usize) -> std::ops::Range<usize> {
        self.indptr[i] as usize..self.indptr[i + 1] as usize
    }

    /// Whether the columns of every row rise strictly.
    pub fn rises(&self) -> bool {
        (0..self.n_rows()).all(|i| rises(&self.indices[self.row(i)]))
    }

    /// A copy of consecutive rows.
    #[must_use]
    pub fn slice(&self, rows: std::ops::Range<usize>) -> CsrChunk {
        let (start, end) = (self.indptr[rows.start] as usize, self.indptr[rows.end] as usize);
        CsrChunk {
            indptr: self.indptr[rows.start..=rows.end].iter().map(|p| p - start as u64).collect(),
            indices: self.indices[start..end].to_vec(),
            values: self.values.slice(start..end),
        }
    }

    /// These rows and then those of `next`, in the value type that holds both.
    #[must_use]
    pub fn concat(mut self, next: &CsrChunk) -> CsrChunk {
        let nnz = self.indices.len() as u64;
        self.indptr.extend(next.indptr[1..].iter().map(|p| p + nnz));
        self.indices.extend_from_slice(&next.indices);
        self.values = self.values.concat(&next.values);
        self
    }

    /// Checks the invariants of the type, and that every column is below `n_cols`.
    ///
    /// # Errors
    /// `malformed-input` that names the first offending row, counted from `first_row`.
    pub fn validate(&self, n_cols: u64, first_row: u64) -> Result<()> {
        if self.indptr.first() != Some(&0) {
            return Err(Error::malformed("indptr does not begin with 0"));
        }
        if self.indices.len() != self.values.len() {
            return Err(Error::malformed(format!(
                "{} column indices, but {} values",
                self.indices.len(),
                self.values.len()
            )));
        }
        for (i, w) in self.indptr.windows(2).enumerate() {
            if w[1] < w[0] {
                return Err(Error::malformed(format!(
                    "indptr is not monotone at row {} ({} > {})",
                    first_row + i as u64,
                    w[0],
                    w[1]
                )));
            }
        }
        if self.indptr.last().copied() != Some(self.indices.len() as u64) {
            return Err(Error::malformed(format!(
                "indptr ends with {}, but there are {} values",
                self.indptr.last().copied().unwrap_or(0),
                self.indices.len()
            )));
        }
        for i in 0..self.n_rows() {
            let row = &self.indices[self.row(i)];
            if let Some(w) = row.windows(2).find(|w| w[1] <= w[0]) {
                return Err(Error::malformed(format!(
                    "column {} after column {} in row {}",
                    w[1],
                    w[0],
                    first_row + i as u64
                )));
            }
            if row.last().is_some_and(|&c| u64::from(c) >= n_cols) {
                return Err(Error::malformed(format!(
                    "column {} in row {}, but the matrix has {n_cols} columns",
                    row[row.len() - 1],
                    first_row + i as u64
                )));
            }
        }
        Ok(())
    }
}
