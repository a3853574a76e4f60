//! Integers of a matrix whose values have a floating-point type in common.

use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, with_values};
use slaf_ingest::{MatrixInfo, MatrixKey};

/// Follows the chunks of a matrix: a chunk of integers and one of floats, as of two inputs, are
/// read back as float64, which not every integer is.
pub(super) struct Exact {
    key: MatrixKey,
    dtype: Dtype,
    rows: u64,
    /// The first integer that float64 rounds, and its place.
    first: Option<String>,
    allow_loss: bool,
}

impl Exact {
    pub(super) fn new(info: &MatrixInfo, allow_loss: bool) -> Exact {
        Exact { key: info.key.clone(), dtype: info.dtype, rows: 0, first: None, allow_loss }
    }

    /// Counts rows from this one on.
    pub(super) fn begin_at(&mut self, row: u64) {
        self.rows = row;
    }

    /// The first integer that float64 rounds, and its place.
    pub(super) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Adds the next chunk.
    pub(super) fn add(&mut self, chunk: &CsrChunk) -> Result<()> {
        self.dtype = self.dtype.promote(chunk.values.dtype());
        if self.first.is_none()
            && let Some(i) = chunk.values.first_rounded(Dtype::F64)
        {
            let row = self.rows + chunk.indptr.partition_point(|&p| p <= i as u64) as u64 - 1;
            let value = with_values!(&chunk.values, v => format!("{:?}", v[i]));
            self.first = Some(format!("{value} in row {row}, column {}", chunk.indices[i]));
        }
        self.rows += chunk.n_rows() as u64;
        match &self.first {
            Some(first) if !self.allow_loss => refuse_rounding(&self.key, self.dtype, first),
            _ => Ok(()),
        }
    }
}

/// Refuses an integer that float64 rounds, where all values have the type `dtype` in common.
///
/// # Errors
/// `would-lose-data` for a type of floats.
pub(super) fn refuse_rounding(key: &MatrixKey, dtype: Dtype, first: &str) -> Result<()> {
    if !dtype.is_float() {
        return Ok(());
    }
    let what = format!(
        "{first} would be rounded: other values need {dtype}; give all inputs one type of values, or round with \
         --allow-loss (allow_loss=True)"
    );
    Err(Error::new(ErrorKind::WouldLoseData, what).at(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use slaf_core::Values;
    use slaf_ingest::MatrixEncoding;

    #[test]
    fn the_first_integer_is_named_whatever_comes_first() {
        let chunk = |values: Values| CsrChunk { indptr: vec![0, 0, 1, 2], indices: vec![4, 7], values };
        let integers = chunk(Values::I64(vec![1 << 53, (1 << 53) + 1]));
        let floats = chunk(Values::F32(vec![0.5, 1.0]));
        let info = |dtype| MatrixInfo {
            key: MatrixKey::X,
            encoding: MatrixEncoding::Csr,
            dtype,
            n_rows: 6,
            n_cols: 9,
            nnz: None,
        };
        for (dtype, chunks, row) in [
            (Dtype::I64, [&integers, &floats], 2),
            (Dtype::F32, [&floats, &integers], 5),
            (Dtype::F64, [&floats, &integers], 5),
        ] {
            let mut exact = Exact::new(&info(dtype), false);
            let e = chunks.into_iter().try_for_each(|c| exact.add(c)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::WouldLoseData);
            assert!(e.to_string().starts_with(&format!("X: 9007199254740993 in row {row}, column 7")), "{e}");
            let mut lossy = Exact::new(&info(dtype), true);
            chunks.into_iter().try_for_each(|c| lossy.add(c)).unwrap();
        }
        let mut exact = Exact::new(&info(Dtype::I64), false);
        [&integers, &integers].into_iter().try_for_each(|c| exact.add(c)).unwrap();
    }
}
