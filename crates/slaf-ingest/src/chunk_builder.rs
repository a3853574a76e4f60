//! Builds canonical [`CsrChunk`]s out of entries that come in row and column order.

use crate::model::StreamOptions;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Value, Values};

/// A sum that the value type itself may be too narrow for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wide {
    Int(i128),
    Float(f64),
}

/// A value type that can be added up and written to a temporary file.
pub(crate) trait Entry: Value {
    /// The value, wide.
    fn widen(self) -> Wide;
    /// Adds `other` as numpy adds values of this type, but without overflow, and without rounding
    /// whole numbers of float32: a sum that the type cannot hold stays in `sum` alone and gives
    /// `None`.
    fn add(sum: Wide, other: Self) -> (Wide, Option<Self>);
    /// Appends the little-endian bytes of the value.
    fn put(self, bytes: &mut [u8]);
    /// The value of the little-endian bytes at the start of `bytes`.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! int_entry {
    ($($t:ty),*) => {$(
        impl Entry for $t {
            fn widen(self) -> Wide { Wide::Int(i128::from(self)) }
            fn add(sum: Wide, other: Self) -> (Wide, Option<Self>) {
                let Wide::Int(sum) = sum else { return (sum, None) };
                let sum = sum.saturating_add(i128::from(other));
                (Wide::Int(sum), <$t>::try_from(sum).ok())
            }
            fn put(self, bytes: &mut [u8]) { bytes.copy_from_slice(&self.to_le_bytes()); }
            fn get(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$t>()];
                array.copy_from_slice(&bytes[..size_of::<$t>()]);
                <$t>::from_le_bytes(array)
            }
        }
    )*};
}
int_entry!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! float_entry {
    ($($t:ty),*) => {$(
        impl Entry for $t {
            fn widen(self) -> Wide { Wide::Float(f64::from(self)) }
            fn add(sum: Wide, other: Self) -> (Wide, Option<Self>) {
                let Wide::Float(sum) = sum else { return (sum, None) };
                let narrow = sum as $t + other;
                if size_of::<$t>() == 8 {
                    return (Wide::Float(f64::from(narrow)), Some(narrow));
                }
                // Past the range of the type (and then for good), the sum goes on in f64; so do
                // whole numbers that the type would round: counts are exact.
                let wide = sum + f64::from(other);
                let overflow = other.is_finite()
                    && sum.is_finite()
                    && (narrow.is_infinite() || (sum as $t).is_infinite());
                let whole = sum.fract() == 0.0 && other.fract() == 0.0 && f64::from(narrow) != wide;
                if !overflow && !whole {
                    return (Wide::Float(f64::from(narrow)), Some(narrow));
                }
                let back = wide as $t;
                let fits = back.is_finite() && (!whole || f64::from(back) == wide);
                (Wide::Float(wide), fits.then_some(back))
            }
            fn put(self, bytes: &mut [u8]) { bytes.copy_from_slice(&self.to_le_bytes()); }
            fn get(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$t>()];
                array.copy_from_slice(&bytes[..size_of::<$t>()]);
                <$t>::from_le_bytes(array)
            }
        }
    )*};
}
float_entry!(f32, f64);

impl Entry for bool {
    fn widen(self) -> Wide {
        Wide::Int(i128::from(self))
    }
    /// numpy's sum of two booleans is their "or".
    fn add(sum: Wide, other: Self) -> (Wide, Option<Self>) {
        let any = sum != Wide::Int(0) || other;
        (Wide::Int(i128::from(any)), Some(any))
    }
    fn put(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&[u8::from(self)]);
    }
    fn get(bytes: &[u8]) -> Self {
        bytes.first().is_some_and(|&b| b != 0)
    }
}

/// Collects rows into chunks of the size that [`StreamOptions`] ask for, and adds up duplicates.
pub(crate) struct ChunkBuilder<T> {
    options: StreamOptions,
    indptr: Vec<u64>,
    indices: Vec<u32>,
    values: Vec<T>,
    /// The sum at the last position, once that has had a duplicate.
    sum: Option<Wide>,
    /// Sums that do not fit `T`, with their positions.
    too_wide: Vec<(usize, Wide)>,
    duplicates: u64,
}

impl<T: Entry> ChunkBuilder<T> {
    pub(crate) fn new(options: StreamOptions) -> Self {
        ChunkBuilder {
            options,
            indptr: vec![0],
            indices: Vec::new(),
            values: Vec::new(),
            sum: None,
            too_wide: Vec::new(),
            duplicates: 0,
        }
    }

    /// Duplicate positions added up so far.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The column pushed last into the row under construction.
    pub(crate) fn last_column(&self) -> Option<u32> {
        let begin = self.indptr.last().copied().unwrap_or(0) as usize;
        self.indices.get(begin..).and_then(|row| row.last().copied())
    }

    /// Adds a value to the row under construction; columns must not fall within the row.
    pub(crate) fn push(&mut self, column: u32, value: T) {
        if self.last_column() != Some(column) {
            self.sum = None;
            self.indices.push(column);
            self.values.push(value);
            return;
        }
        let Some(last) = self.values.last_mut() else { return };
        let position = self.indices.len() - 1;
        self.duplicates += 1;
        let (sum, narrow) = T::add(self.sum.unwrap_or_else(|| last.widen()), value);
        self.sum = Some(sum);
        self.too_wide.pop_if(|(p, _)| *p == position);
        match narrow {
            Some(v) => *last = v,
            None => self.too_wide.push((position, sum)),
        }
    }

    /// Ends the row under construction; gives a chunk when the limits are reached.
    ///
    /// # Errors
    /// `would-lose-data` if a sum of duplicates is beyond 64 bits.
    pub(crate) fn end_row(&mut self) -> Result<Option<CsrChunk>> {
        self.sum = None;
        let begin = self.indptr.last().copied().unwrap_or(0) as usize;
        let rows = self.indptr.len() - 1;
        self.indptr.push(self.indices.len() as u64);
        if rows > 0 && self.indices.len() > self.options.max_nnz {
            // The row goes to the next chunk: with it, this one would be too large.
            self.indptr.pop();
            let split = self.too_wide.partition_point(|(p, _)| *p < begin);
            let mut next = ChunkBuilder {
                indptr: vec![0, (self.indices.len() - begin) as u64],
                indices: self.indices.split_off(begin),
                values: self.values.split_off(begin),
                too_wide: self.too_wide.split_off(split),
                ..ChunkBuilder::new(self.options)
            };
            next.too_wide.iter_mut().for_each(|(p, _)| *p -= begin);
            next.duplicates = self.duplicates;
            return std::mem::replace(self, next).into_chunk().map(Some);
        }
        (rows + 1 >= self.options.max_rows || self.indices.len() >= self.options.max_nnz)
            .then(|| self.take())
            .transpose()
    }

    /// The rows that are left, if any.
    ///
    /// # Errors
    /// As [`ChunkBuilder::end_row`].
    pub(crate) fn finish(&mut self) -> Result<Option<CsrChunk>> {
        (self.indptr.len() > 1).then(|| self.take()).transpose()
    }

    fn take(&mut self) -> Result<CsrChunk> {
        let mut next = ChunkBuilder::new(self.options);
        next.duplicates = self.duplicates;
        std::mem::replace(self, next).into_chunk()
    }

    fn into_chunk(self) -> Result<CsrChunk> {
        let values = patch(self.values, &self.too_wide)?;
        Ok(CsrChunk { indptr: self.indptr, indices: self.indices, values })
    }
}

/// Puts sums that do not fit `T` into their places, in the narrowest type that holds them all.
fn patch<T: Entry>(values: Vec<T>, too_wide: &[(usize, Wide)]) -> Result<Values> {
    if too_wide.is_empty() {
        return Ok(T::wrap(values));
    }
    let dtype = too_wide.iter().try_fold(T::DTYPE, |d, (_, w)| {
        widest(d, *w).ok_or_else(|| {
            let what = "a sum of entries of the same row and column is beyond 64 bits";
            Error::new(ErrorKind::WouldLoseData, format!("{what}; store the matrix as float64, or without duplicates"))
        })
    })?;
    let mut wide = T::wrap(values).cast(dtype);
    slaf_core::with_values!(&mut wide, v => {
        for &(p, w) in too_wide {
            if let Some(slot) = v.get_mut(p) {
                *slot = from_wide(w);
            }
        }
    });
    Ok(wide)
}

/// The first type of `dtype`'s own ladder that holds `value`; none beyond 64 bits.
fn widest(dtype: Dtype, value: Wide) -> Option<Dtype> {
    use Dtype::*;
    let Wide::Int(i) = value else { return Some(F64) };
    let ladder: &[(Dtype, i128)] = match dtype {
        U8 | U16 | U32 | U64 => {
            &[(U8, u8::MAX as i128), (U16, u16::MAX as i128), (U32, u32::MAX as i128), (U64, u64::MAX as i128)]
        }
        I8 | I16 | I32 | I64 => {
            &[(I8, i8::MAX as i128), (I16, i16::MAX as i128), (I32, i32::MAX as i128), (I64, i64::MAX as i128)]
        }
        Bool | F32 | F64 => return Some(dtype),
    };
    let magnitude = if i < 0 { -(i + 1) } else { i };
    ladder.iter().find(|(d, max)| d.size() >= dtype.size() && magnitude <= *max).map(|(d, _)| *d)
}

fn from_wide<T: Value>(value: Wide) -> T {
    // By way of `Values::cast`, which saturates and which every type has.
    let one = match value {
        Wide::Int(i) => match (i64::try_from(i), u64::try_from(i)) {
            (Ok(i), _) => Values::I64(vec![i]),
            (_, Ok(u)) => Values::U64(vec![u]),
            _ => Values::F64(vec![i as f64]),
        },
        Wide::Float(f) => Values::F64(vec![f]),
    };
    T::unwrap_ref(&one.cast(T::DTYPE)).and_then(|v| v.first().copied()).unwrap_or_default()
}
