//! Numbers as bytes, for what one machine finds and another puts together.

use slaf_core::{Error, Result};

/// What has a fixed number of bytes.
pub(crate) trait Plain: Copy {
    const SIZE: usize;
    fn put(self, to: &mut Vec<u8>);
    /// Of as many bytes as it has.
    fn get(from: &[u8]) -> Self;
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Plain for $t {
            const SIZE: usize = size_of::<$t>();
            fn put(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn get(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<$t>()];
                bytes.copy_from_slice(from);
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}
plain!(u8, u32, u64, i128, f64);

/// Appends numbers, after how many there are.
pub(crate) fn put_all<T: Plain>(values: &[T], to: &mut Vec<u8>) {
    to.reserve(8 + values.len() * T::SIZE);
    (values.len() as u64).put(to);
    values.iter().for_each(|value| value.put(to));
}

/// What is left of some bytes.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn one<T: Plain>(&mut self) -> Result<T> {
        let (value, rest) = self.0.split_at_checked(T::SIZE).ok_or_else(wrong)?;
        self.0 = rest;
        Ok(T::get(value))
    }

    /// Numbers that are so many.
    pub(crate) fn all<T: Plain>(&mut self, n: usize) -> Result<Vec<T>> {
        if self.one::<u64>()? != n as u64 {
            return Err(wrong());
        }
        let size = n.checked_mul(T::SIZE).ok_or_else(wrong)?;
        let (values, rest) = self.0.split_at_checked(size).ok_or_else(wrong)?;
        self.0 = rest;
        Ok(values.chunks_exact(T::SIZE.max(1)).map(T::get).collect())
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(wrong()) }
    }
}

pub(crate) fn wrong() -> Error {
    Error::invalid("this is no partial result for what was asked: all machines need the same version of slaf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_others_are_refused() {
        let mut bytes = Vec::new();
        put_all(&[1.5, -0.0, f64::NAN], &mut bytes);
        put_all(&[i128::MIN], &mut bytes);
        7u8.put(&mut bytes);
        let mut reader = Reader(&bytes);
        let bits: Vec<u64> = reader.all::<f64>(3).unwrap().into_iter().map(f64::to_bits).collect();
        assert_eq!(bits, [1.5, -0.0, f64::NAN].map(f64::to_bits));
        assert!(reader.end().is_err());
        assert_eq!(reader.all::<i128>(1).unwrap(), [i128::MIN]);
        assert_eq!(reader.one::<u8>().unwrap(), 7);
        reader.end().unwrap();
        assert!(reader.one::<u8>().is_err());
        assert!(Reader(&bytes).all::<f64>(4).is_err());
        assert!(Reader(&bytes[..20]).all::<f64>(3).is_err());
        assert!(Reader(&u64::MAX.to_le_bytes()).all::<f64>(usize::MAX).is_err());
    }
}
