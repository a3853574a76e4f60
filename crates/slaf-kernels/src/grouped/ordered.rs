//! Values as integers of the same order.

use super::places::Places;
use slaf_core::{Dtype, Value};

/// Values with integers that are ordered as SQL orders the values: -0 is 0, and NaN, of which there
/// is one, is above all.
pub trait Ordered: Value {
    /// An integer that has all of them, and as few bits as there is one of.
    type Key: Copy + Ord + Into<i64>;
    /// The integer of the value.
    fn narrow_key(self) -> Self::Key;
    /// The integer of the value.
    #[inline]
    fn key(self) -> i64 {
        self.narrow_key().into()
    }
    /// The value of an integer that [`Ordered::key`] gave.
    fn from_key(key: i64) -> Self;
}

macro_rules! whole {
    ($key:ty: $($t:ty),*) => {$(
        impl Ordered for $t {
            type Key = $key;
            #[inline]
            fn narrow_key(self) -> $key {
                self as $key
            }
            fn from_key(key: i64) -> Self {
                key as $t
            }
        }
    )*};
}
whole!(i32: u8, u16, i8, i16, i32);
whole!(i64: u32, i64);

impl Ordered for bool {
    type Key = i32;
    #[inline]
    fn narrow_key(self) -> i32 {
        i32::from(self)
    }
    fn from_key(key: i64) -> Self {
        key != 0
    }
}

impl Ordered for u64 {
    type Key = i64;
    #[inline]
    fn narrow_key(self) -> i64 {
        (self ^ (1 << 63)) as i64
    }
    fn from_key(key: i64) -> Self {
        key as u64 ^ (1 << 63)
    }
}

impl Ordered for f32 {
    type Key = i32;
    #[inline]
    fn narrow_key(self) -> i32 {
        let bits = if self.is_nan() { f32::NAN.to_bits() } else { (self + 0.0).to_bits() } as i32;
        bits ^ ((bits >> 31) & i32::MAX)
    }
    fn from_key(key: i64) -> Self {
        let key = key as i32;
        f32::from_bits((key ^ ((key >> 31) & i32::MAX)) as u32)
    }
}

impl Ordered for f64 {
    type Key = i64;
    #[inline]
    fn narrow_key(self) -> i64 {
        let bits = if self.is_nan() { f64::NAN.to_bits() } else { (self + 0.0).to_bits() } as i64;
        bits ^ ((bits >> 63) & i64::MAX)
    }
    fn from_key(key: i64) -> Self {
        f64::from_bits((key ^ ((key >> 63) & i64::MAX)) as u64)
    }
}

/// How a value is compared with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is equal.
    Equal,
    /// It is not equal.
    NotEqual,
    /// It is less.
    Less,
    /// It is not greater.
    LessOrEqual,
    /// It is greater.
    Greater,
    /// It is not less.
    GreaterOrEqual,
}

/// A condition on a value: that it is in an interval, or that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    low: i64,
    high: i64,
    is_outside: bool,
    /// The values are compared as float64.
    widened: bool,
}

impl Test {
    /// Compares a value with a number of its type.
    pub fn new<T: Ordered>(comparison: Comparison, number: T) -> Test {
        Test::of_key(comparison, number.key(), false)
    }

    /// Compares a value, as float64, with a number.
    pub fn widened(comparison: Comparison, number: f64) -> Test {
        Test::of_key(comparison, number.key(), true)
    }

    /// Compares a whole number, of any type but uint64, with another.
    pub fn whole(comparison: Comparison, number: i64) -> Test {
        Test::of_key(comparison, number, false)
    }

    fn of_key(comparison: Comparison, key: i64, widened: bool) -> Test {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let inside = |low, high| Test { low, high, is_outside: false, widened };
        let nothing = inside(1, 0);
        match comparison {
            Equal => inside(key, key),
            NotEqual => Test { is_outside: true, ..inside(key, key) },
            Less => key.checked_sub(1).map_or(nothing, |high| inside(i64::MIN, high)),
            LessOrEqual => inside(i64::MIN, key),
            Greater => key.checked_add(1).map_or(nothing, |low| inside(low, i64::MAX)),
            GreaterOrEqual => inside(key, i64::MAX),
        }
    }

    /// Copies the values that pass, and their places, to the front of the second pair of slices,
    /// and tells how many there are. A pair comes from `read`; of [`Places::NONE`] none passes.
    pub(super) fn copy<T: Ordered>(
        &self,
        n: usize,
        read: impl Fn(usize) -> (T, u32),
        values: &mut [T],
        places: &mut [u32],
    ) -> usize {
        match self.floats::<T>() {
            Some(floats) => copy(n, read, values, places, |v| floats.pass(v.as_f64())),
            None => copy(n, read, values, places, |v| self.passes(v.key())),
        }
    }

    /// Keeps the values that pass, and their places if there are any, at the front.
    pub(super) fn keep<T: Ordered>(&self, values: &mut [T], places: &mut [u32]) -> usize {
        match self.floats::<T>() {
            Some(floats) => keep(values, places, |v| floats.pass(v.as_f64())),
            None => keep(values, places, |v| self.passes(v.key())),
        }
    }

    #[inline]
    fn passes(&self, key: i64) -> bool {
        (self.low <= key && key <= self.high) != self.is_outside
    }

    /// The same for values that are compared as floats: these need no key.
    fn floats<T: Ordered>(&self) -> Option<Floats> {
        match (self.widened, T::DTYPE) {
            (true, _) => Some(self.of_type::<f64>(f64::NAN)),
            (false, Dtype::F32) => Some(self.of_type::<f32>(f32::NAN)),
            (false, Dtype::F64) => Some(self.of_type::<f64>(f64::NAN)),
            _ => None,
        }
    }

    fn of_type<F: Ordered>(&self, nan: F) -> Floats {
        let nan = nan.key();
        // Keys beyond those of the infinities are of no number; no number is compared with NaN.
        let number = |key: i64| (-nan..nan).contains(&key).then(|| F::from_key(key).as_f64()).filter(|x| !x.is_nan());
        let end = |key: i64, beyond: f64, before: f64| number(key).unwrap_or(if key > 0 { beyond } else { before });
        // -1 would be that of a second zero.
        let high = if self.high == -1 { -2 } else { self.high };
        Floats {
            low: end(self.low, f64::NAN, f64::NEG_INFINITY),
            high: end(high, f64::INFINITY, f64::NAN),
            nan: (self.low..=self.high).contains(&nan),
            is_outside: self.is_outside,
        }
    }
}

/// An interval of floats, and whether NaN is in it.
#[derive(Clone, Copy, Debug)]
struct Floats {
    low: f64,
    high: f64,
    nan: bool,
    is_outside: bool,
}

impl Floats {
    #[inline]
    fn pass(&self, x: f64) -> bool {
        ((self.low <= x) & (x <= self.high) | (self.nan & x.is_nan())) != self.is_outside
    }
}

/// Without a branch on what passes, which is mispredicted.
#[inline]
pub(super) fn copy<T: Copy>(
    n: usize,
    read: impl Fn(usize) -> (T, u32),
    values: &mut [T],
    places: &mut [u32],
    passes: impl Fn(T) -> bool,
) -> usize {
    let (values, places) = (&mut values[..n], &mut places[..n]);
    let mut kept = 0;
    for at in 0..n {
        let (value, place) = read(at);
        (values[kept], places[kept]) = (value, place);
        kept += usize::from(passes(value) & (place != Places::NONE));
    }
    kept
}

#[inline]
fn keep<T: Copy>(values: &mut [T], places: &mut [u32], passes: impl Fn(T) -> bool) -> usize {
    let mut kept = 0;
    if places.is_empty() {
        for at in 0..values.len() {
            let value = values[at];
            values[kept] = value;
            kept += usize::from(passes(value));
        }
        return kept;
    }
    let places = &mut places[..values.len()];
    for at in 0..values.len() {
        let (value, place) = (values[at], places[at]);
        (values[kept], places[kept]) = (value, place);
        kept += usize::from(passes(value));
    }
    kept
}
