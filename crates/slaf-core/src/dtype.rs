use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// The type of the values of a matrix, named as numpy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Truth values.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Dtype {
    /// Every value type.
    pub const ALL: [Dtype; 11] = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::U16,
        Dtype::U32,
        Dtype::U64,
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::I64,
        Dtype::F32,
        Dtype::F64,
    ];

    /// numpy's name, for example `float32`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "uint8",
            Dtype::U16 => "uint16",
            Dtype::U32 => "uint32",
            Dtype::U64 => "uint64",
            Dtype::I8 => "int8",
            Dtype::I16 => "int16",
            Dtype::I32 => "int32",
            Dtype::I64 => "int64",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        }
    }

    /// The type with this numpy name.
    ///
    /// # Errors
    /// `unsupported-feature` for any other name.
    pub fn from_name(name: &str) -> Result<Dtype> {
        Dtype::ALL
            .into_iter()
            .find(|d| d.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::UnsupportedFeature, format!("unknown value type \"{name}\"")))
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// Whether the type is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F64)
    }

    /// The smallest type that holds the values of both: numpy's `result_type`.
    #[must_use]
    pub fn promote(self, other: Dtype) -> Dtype {
        use Dtype::*;
        if self == other {
            return self;
        }
        let signed = |d: Dtype| matches!(d, I8 | I16 | I32 | I64);
        let int_of = |size: usize| match size {
            1 => I8,
            2 => I16,
            4 => I32,
            _ => I64,
        };
        match (self, other) {
            (Bool, d) | (d, Bool) => d,
            (F64, _) | (_, F64) => F64,
            (F32, d) | (d, F32) => {
                if d == F32 || d.size() <= 2 {
                    F32
                } else {
                    F64
                }
            }
            (a, b) if signed(a) == signed(b) => {
                if a.size() >= b.size() {
                    a
                } else {
                    b
                }
            }
            (a, b) => {
                let (s, u) = if signed(a) { (a, b) } else { (b, a) };
                if s.size() > u.size() {
                    s
                } else if u.size() == 8 {
                    F64
                } else {
                    int_of(u.size() * 2)
                }
            }
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The values of a matrix in their own type.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of [`Dtype::Bool`].
    Bool(Vec<bool>),
    /// Of [`Dtype::U8`].
    U8(Vec<u8>),
    /// Of [`Dtype::U16`].
    U16(Vec<u16>),
    /// Of [`Dtype::U32`].
    U32(Vec<u32>),
    /// Of [`Dtype::U64`].
    U64(Vec<u64>),
    /// Of [`Dtype::I8`].
    I8(Vec<i8>),
    /// Of [`Dtype::I16`].
    I16(Vec<i16>),
    /// Of [`Dtype::I32`].
    I32(Vec<i32>),
    /// Of [`Dtype::I64`].
    I64(Vec<i64>),
    /// Of [`Dtype::F32`].
    F32(Vec<f32>),
    /// Of [`Dtype::F64`].
    F64(Vec<f64>),
}

/// Runs `$body` with `$v` bound to the typed vector inside of a [`Values`].
#[macro_export]
macro_rules! with_values {
    ($values:expr, $v:ident => $body:expr) => {
        match $values {
            $crate::Values::Bool($v) => $body,
            $crate::Values::U8($v) => $body,
            $crate::Values::U16($v) => $body,
            $crate::Values::U32($v) => $body,
            $crate::Values::U64($v) => $body,
            $crate::Values::I8($v) => $body,
            $crate::Values::I16($v) => $body,
            $crate::Values::I32($v) => $body,
            $crate::Values::I64($v) => $body,
            $crate::Values::F32($v) => $body,
            $crate::Values::F64($v) => $body,
        }
    };
}

/// Runs `$body` with the type alias `$T` bound to the Rust type of a [`Dtype`].
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::Bool => {
                type $T = bool;
                $body
            }
            $crate::Dtype::U8 => {
                type $T = u8;
                $body
            }
            $crate::Dtype::U16 => {
                type $T = u16;
                $body
            }
            $crate::Dtype::U32 => {
                type $T = u32;
                $body
            }
            $crate::Dtype::U64 => {
                type $T = u64;
                $body
            }
            $crate::Dtype::I8 => {
                type $T = i8;
                $body
            }
            $crate::Dtype::I16 => {
                type $T = i16;
                $body
            }
            $crate::Dtype::I32 => {
                type $T = i32;
                $body
            }
            $crate::Dtype::I64 => {
                type $T = i64;
                $body
            }
            $crate::Dtype::F32 => {
                type $T = f32;
                $body
            }
            $crate::Dtype::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}

impl Values {
    /// No values of this type.
    pub fn empty(dtype: Dtype) -> Values {
        with_dtype!(dtype, T => T::wrap(Vec::new()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        with_values!(self, v => v.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    pub fn dtype(&self) -> Dtype {
        fn of<T: Value>(_: &[T]) -> Dtype {
            T::DTYPE
        }
        with_values!(self, v => of(v))
    }

    /// A copy of some consecutive values.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Values {
        fn of<T: Value>(v: &[T]) -> Values {
            T::wrap(v.to_vec())
        }
        with_values!(self, v => of(&v[range]))
    }

    /// These values and then `next`, in the type that holds both.
    #[must_use]
    pub fn concat(self, next: &Values) -> Values {
        fn of<T: Value>(v: Vec<T>, next: &Values) -> Values {
            let mut v = v;
            if let Some(next) = T::unwrap_ref(next) {
                v.extend_from_slice(next);
            }
            T::wrap(v)
        }
        let dtype = self.dtype().promote(next.dtype());
        let all = if dtype == self.dtype() { self } else { self.cast(dtype) };
        let next = if dtype == next.dtype() {
            std::borrow::Cow::Borrowed(next)
        } else {
            std::borrow::Cow::Owned(next.cast(dtype))
        };
        with_values!(all, v => of(v, &next))
    }

    /// The position of the first integer that [`Values::cast`] to `dtype` would round, where `dtype`
    /// holds the type by [`Dtype::promote`].
    pub fn first_rounded(&self, dtype: Dtype) -> Option<usize> {
        fn find<T: Value>(v: &[T]) -> Option<usize> {
            v.iter().position(|x| match x.to_number() {
                Number::Int(i) => (i as f64) as i128 != i,
                Number::Float(_) => false,
            })
        }
        match self {
            Values::I64(v) if dtype.is_float() => find(v),
            Values::U64(v) if dtype.is_float() => find(v),
            _ => None,
        }
    }

    /// A copy in another type. Floats cut to integers and narrowed integers saturate: meant for
    /// types that hold every value, such as a [`Dtype::promote`]d one.
    #[must_use]
    pub fn cast(&self, dtype: Dtype) -> Values {
        fn to<S: Value, T: Value>(v: &[S]) -> Values {
            T::wrap(v.iter().map(|&x| T::from_number(x.to_number())).collect())
        }
        if dtype == self.dtype() {
            return self.clone();
        }
        with_values!(self, v => with_dtype!(dtype, T => to::<_, T>(v)))
    }
}

/// A value on its way between types, exact for every type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i128),
    Float(f64),
}

/// A Rust type that a matrix value can have.
pub trait Value: Copy + Default + PartialEq + PartialOrd + Send + Sync + fmt::Debug + 'static {
    /// The type's name.
    const DTYPE: Dtype;
    /// Puts typed values into [`Values`].
    fn wrap(values: Vec<Self>) -> Values;
    /// The typed values, if they have this type.
    fn unwrap_ref(values: &Values) -> Option<&Vec<Self>>;
    /// The value as f64, rounded when a 64-bit integer does not fit.
    fn as_f64(self) -> f64;
    /// The value, exactly.
    fn to_number(self) -> Number;
    /// The nearest value of this type.
    fn from_number(n: Number) -> Self;
    /// The bits of the value, integers sign-extended: the exact value, NaN payloads included.
    fn to_bits64(self) -> u64;
    /// The value with these bits.
    fn from_bits64(bits: u64) -> Self;
    /// The value if it is an integer of 0..2^32 (and not -0.0).
    fn as_count(self) -> Option<u32>;
    /// The value from a count, or `None` where the type cannot hold it.
    fn from_count(count: u32) -> Option<Self>;
    /// The largest count that the type holds.
    const MAX_COUNT: u32;
    /// `from_count` for a count of at most [`Value::MAX_COUNT`].
    fn from_count_unchecked(count: u32) -> Self;
    /// The same for a count below 2^31, from a type that processors convert several values of at once.
    fn from_small_count(count: i32) -> Self;
    /// The value if it is an integer of 0..2^31 - 1 (and not -0.0), else a number below zero: without a
    /// branch, so that several values are converted at once.
    fn to_small_count(self) -> i32;
}

macro_rules! int_value {
    ($($t:ty, $d:ident);*) => {$(
        impl Value for $t {
            const DTYPE: Dtype = Dtype::$d;
            const MAX_COUNT: u32 = if (<$t>::MAX as i128) < u32::MAX as i128 { <$t>::MAX as u32 } else { u32::MAX };
            fn wrap(values: Vec<Self>) -> Values { Values::$d(values) }
            fn unwrap_ref(values: &Values) -> Option<&Vec<Self>> {
                if let Values::$d(v) = values { Some(v) } else { None }
            }
            #[inline]
            fn as_f64(self) -> f64 { self as f64 }
            fn to_number(self) -> Number { Number::Int(self as i128) }
            fn from_number(n: Number) -> Self {
                match n {
                    Number::Int(i) => i.clamp(<$t>::MIN as i128, <$t>::MAX as i128) as $t,
                    Number::Float(f) => f as $t,
                }
            }
            fn to_bits64(self) -> u64 { self as u64 }
            fn from_bits64(bits: u64) -> Self { bits as $t }
            #[inline]
            fn as_count(self) -> Option<u32> { u32::try_from(self).ok() }
            fn from_count(count: u32) -> Option<Self> { <$t>::try_from(count).ok() }
            #[inline]
            fn from_count_unchecked(count: u32) -> Self { count as $t }
            #[inline]
            fn from_small_count(count: i32) -> Self { count as $t }
            #[inline]
            fn to_small_count(self) -> i32 {
                match i32::try_from(self) {
                    Ok(count) if count != i32::MAX => count,
                    _ => -1,
                }
            }
        }
    )*};
}
int_value!(u8, U8; u16, U16; u32, U32; u64, U64; i8, I8; i16, I16; i32, I32; i64, I64);

macro_rules! float_value {
    ($($t:ty, $bits:ty, $d:ident);*) => {$(
        impl Value for $t {
            const DTYPE: Dtype = Dtype::$d;
            const MAX_COUNT: u32 = u32::MAX;
            fn wrap(values: Vec<Self>) -> Values { Values::$d(values) }
            fn unwrap_ref(values: &Values) -> Option<&Vec<Self>> {
                if let Values::$d(v) = values { Some(v) } else { None }
            }
            #[inline]
            fn as_f64(self) -> f64 { f64::from(self) }
            fn to_number(self) -> Number { Number::Float(f64::from(self)) }
            fn from_number(n: Number) -> Self {
                match n { Number::Int(i) => i as $t, Number::Float(f) => f as $t }
            }
            fn to_bits64(self) -> u64 { u64::from(self.to_bits()) }
            fn from_bits64(bits: u64) -> Self { <$t>::from_bits(bits as $bits) }
            #[inline]
            fn as_count(self) -> Option<u32> {
                // The cast saturates, so that the comparison of bits also refuses -0.0 and NaN.
                let count = self as u32;
                ((count as $t).to_bits() == self.to_bits() && f64::from(self) < 4_294_967_296.0).then_some(count)
            }
            fn from_count(count: u32) -> Option<Self> { Some(count as $t) }
            #[inline]
            fn from_count_unchecked(count: u32) -> Self { count as $t }
            #[inline]
            fn from_small_count(count: i32) -> Self { count as $t }
            #[inline]
            fn to_small_count(self) -> i32 {
                // The cast saturates: the largest integer is that of any larger number, too.
                let count = self as i32;
                if (count as $t).to_bits() == self.to_bits() && count != i32::MAX { count } else { -1 }
            }
        }
    )*};
}
float_value!(f32, u32, F32; f64, u64, F64);

impl Value for bool {
    const DTYPE: Dtype = Dtype::Bool;
    const MAX_COUNT: u32 = 1;
    fn wrap(values: Vec<Self>) -> Values {
        Values::Bool(values)
    }
    fn unwrap_ref(values: &Values) -> Option<&Vec<Self>> {
        if let Values::Bool(v) = values { Some(v) } else { None }
    }
    #[inline]
    fn as_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn to_number(self) -> Number {
        Number::Int(i128::from(self))
    }
    fn from_number(n: Number) -> Self {
        n != Number::Int(0) && n != Number::Float(0.0)
    }
    fn to_bits64(self) -> u64 {
        u64::from(self)
    }
    fn from_bits64(bits: u64) -> Self {
        bits != 0
    }
    #[inline]
    fn as_count(self) -> Option<u32> {
        Some(u32::from(self))
    }
    fn from_count(count: u32) -> Option<Self> {
        (count <= 1).then_some(count == 1)
    }
    #[inline]
    fn from_count_unchecked(count: u32) -> Self {
        count != 0
    }
    #[inline]
    fn from_small_count(count: i32) -> Self {
        count != 0
    }
    #[inline]
    fn to_small_count(self) -> i32 {
        i32::from(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotes_as_numpy_does() {
        use Dtype::*;
        for (a, b, c) in [
            (U8, I8, I16),
            (U16, I8, I32),
            (U32, I32, I64),
            (U64, I64, F64),
            (I16, F32, F32),
            (I32, F32, F64),
            (U64, F32, F64),
            (Bool, U8, U8),
            (F32, F64, F64),
            (U8, U32, U32),
            (I64, U8, I64),
        ] {
            assert_eq!((a.promote(b), b.promote(a)), (c, c), "{a} and {b}");
        }
    }

    #[test]
    fn finds_the_integer_that_a_float_rounds() {
        let big = (1_u64 << 53) + 1;
        assert_eq!(Values::U64(vec![1 << 53, 1 << 60, big, big]).first_rounded(Dtype::F64), Some(2));
        assert_eq!(Values::I64(vec![i64::MIN, -(big as i64)]).first_rounded(Dtype::F64), Some(1));
        assert_eq!(Values::I64(vec![i64::MAX]).first_rounded(Dtype::F64), Some(0));
        assert_eq!(Values::I64(vec![big as i64]).first_rounded(Dtype::I64), None);
        assert_eq!(Values::I32(vec![i32::MAX]).first_rounded(Dtype::F64), None);
    }

    #[test]
    fn only_exact_counts_are_counts() {
        assert_eq!(3.0_f32.as_count(), Some(3));
        assert_eq!(0.0_f32.as_count(), Some(0));
        for x in [-0.0_f32, 0.5, -1.0, f32::NAN, f32::INFINITY, 4_294_967_296.0] {
            assert_eq!(x.as_count(), None, "{x}");
        }
        assert_eq!(4_294_967_295.0_f64.as_count(), Some(u32::MAX));
        assert_eq!((-1_i64).as_count(), None);
    }

    #[test]
    fn small_counts_are_counts_below_two_to_the_31_less_one() {
        fn check<T: Value>(values: &[T]) {
            for &value in values {
                let small = value.as_count().and_then(|count| i32::try_from(count).ok()).filter(|c| *c != i32::MAX);
                assert_eq!(Some(value.to_small_count()).filter(|c| *c >= 0), small, "{value:?}");
            }
        }
        let odd = [0.0, -0.0, 0.5, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-320, 16_777_217.0];
        let large = [2_147_483_520.0, 2_147_483_646.0, 2_147_483_647.0, 2_147_483_648.0, 4_294_967_295.0, 1e300];
        check(&[odd.as_slice(), &large].concat());
        check(&[odd.as_slice(), &large].concat().iter().map(|v| *v as f32).collect::<Vec<_>>());
        check(&[0_i64, 1, -1, i64::MAX, i64::MIN, 2_147_483_646, 2_147_483_647, 2_147_483_648]);
        check(&[0_u64, 1, u64::MAX, 2_147_483_646, 2_147_483_647]);
        check(&[0_u32, 1, u32::MAX, 2_147_483_646, 2_147_483_647]);
        check(&[0_i32, 1, -1, i32::MAX, i32::MIN]);
        check(&[i8::MIN, -1, 0, i8::MAX]);
        check(&[true, false]);
    }
}
