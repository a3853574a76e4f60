//! Counts, sums and extremes of some values.

use super::request::Stats;
use crate::wire::{Plain, Reader, put_all, wrong};
use slaf_core::{Dtype, Result, Value, Values};

/// The type of a sum: float64 of floats, and of integers and bool one that 2^32 of them never leave.
pub(super) trait Number:
    Copy + Default + PartialOrd + Send + Sync + std::ops::Add<Output = Self> + 'static
{
    fn as_f64(self) -> f64;
    /// Whether it can be given out for values of this type.
    fn fits(self, dtype: Dtype) -> bool;
    /// As they are given out: uint64 for uint64, int64 for other integers, else float64.
    fn wrap(numbers: Vec<Self>, dtype: Dtype) -> Values;
    fn of(moments: &Moments) -> Option<&[Moment<Self>]>;
    fn of_mut(moments: &mut Moments) -> Option<&mut [Moment<Self>]>;
}

impl Number for f64 {
    fn as_f64(self) -> f64 {
        self
    }
    fn fits(self, _: Dtype) -> bool {
        true
    }
    fn wrap(numbers: Vec<Self>, _: Dtype) -> Values {
        Values::F64(numbers)
    }
    fn of(moments: &Moments) -> Option<&[Moment<f64>]> {
        if let Moments::Float(m) = moments { Some(m) } else { None }
    }
    fn of_mut(moments: &mut Moments) -> Option<&mut [Moment<f64>]> {
        if let Moments::Float(m) = moments { Some(m) } else { None }
    }
}

impl Number for i128 {
    fn as_f64(self) -> f64 {
        self as f64
    }
    fn fits(self, dtype: Dtype) -> bool {
        if dtype == Dtype::U64 { u64::try_from(self).is_ok() } else { i64::try_from(self).is_ok() }
    }
    fn wrap(numbers: Vec<Self>, dtype: Dtype) -> Values {
        if dtype == Dtype::U64 {
            Values::U64(numbers.into_iter().map(|n| n as u64).collect())
        } else {
            Values::I64(numbers.into_iter().map(|n| n as i64).collect())
        }
    }
    fn of(moments: &Moments) -> Option<&[Moment<i128>]> {
        if let Moments::Int(m) = moments { Some(m) } else { None }
    }
    fn of_mut(moments: &mut Moments) -> Option<&mut [Moment<i128>]> {
        if let Moments::Int(m) = moments { Some(m) } else { None }
    }
}

/// A value that can be summed.
pub(super) trait Summed: Value {
    type Sum: Number;
    fn summand(self) -> Self::Sum;
}

macro_rules! summed {
    ($sum:ty: $($t:ty),*) => {$(
        impl Summed for $t {
            type Sum = $sum;
            fn summand(self) -> $sum {
                <$sum>::from(self)
            }
        }
    )*};
}
summed!(f64: f32, f64);
summed!(i128: bool, i8, i16, i32, i64, u8, u16, u32, u64);

/// What a loop over values finds beside counts and sums. Loops are compiled for each of them.
pub(super) const SIGNS: u8 = 1;
pub(super) const SQUARES: u8 = 2;
pub(super) const RANGE: u8 = 4;

/// Runs `$body` with the constant `$W` bound to what a request wants.
macro_rules! with_wanted {
    ($request:expr, $W:ident => $body:expr) => {{
        use $crate::matrix::moments::{RANGE, SIGNS, SQUARES};
        match $request.wanted() {
            0 => {
                const $W: u8 = 0;
                $body
            }
            SIGNS => {
                const $W: u8 = SIGNS;
                $body
            }
            SQUARES => {
                const $W: u8 = SQUARES;
                $body
            }
            w if w & RANGE == 0 => {
                const $W: u8 = SIGNS | SQUARES;
                $body
            }
            _ => {
                const $W: u8 = SIGNS | SQUARES | RANGE;
                $body
            }
        }
    }};
}
pub(super) use with_wanted;

/// Statistics of some values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment<S> {
    pub(super) sum: S,
    pub(super) square: f64,
    pub(super) min: S,
    pub(super) max: S,
    pub(super) nonzero: u32,
    pub(super) positive: u32,
    pub(super) nan: u32,
    pub(super) fractional: u32,
}

impl<S: Number> Moment<S> {
    /// Adds a value that is not zero.
    #[inline]
    pub(super) fn add<T: Summed<Sum = S>, const WANTED: u8>(&mut self, value: T, centre: f64, skip_nan: bool) {
        #[allow(clippy::eq_op)]
        if skip_nan && value != value {
            self.nan += 1;
            return;
        }
        let summand = value.summand();
        self.sum = self.sum + summand;
        let number = value.as_f64();
        if WANTED & SQUARES != 0 {
            let distance = number - centre;
            self.square += distance * distance;
        }
        if WANTED & RANGE != 0 {
            self.extend(summand, summand, self.nonzero == 0);
        }
        self.nonzero += 1;
        if WANTED & SIGNS != 0 {
            self.positive += u32::from(value > T::default());
            // The cast saturates, so that neither NaN nor infinity is whole.
            self.fractional += u32::from(T::DTYPE.is_float() && (number as i64) as f64 != number);
        }
    }

    /// Widens the range; NaN stays once it is there.
    #[inline]
    #[allow(clippy::eq_op)]
    fn extend(&mut self, low: S, high: S, is_first: bool) {
        if is_first || low < self.min || low != low {
            self.min = low;
        }
        if is_first || high > self.max || high != high {
            self.max = high;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.nonzero > 0 {
            self.extend(other.min, other.max, self.nonzero == 0);
        }
        self.sum = self.sum + other.sum;
        self.square += other.square;
        self.nonzero += other.nonzero;
        self.positive += other.positive;
        self.nan += other.nan;
        self.fractional += other.fractional;
    }

    /// Lets the zeros among `n` values take part in the range.
    pub(super) fn with_zeros(mut self, n: usize) -> Self {
        let counted = self.nonzero as usize + self.nan as usize;
        if counted < n {
            self.extend(S::default(), S::default(), self.nonzero == 0);
        }
        self
    }
}

impl<S: Number + Plain> Plain for Moment<S> {
    const SIZE: usize = 3 * S::SIZE + f64::SIZE + 4 * u32::SIZE;

    fn put(self, to: &mut Vec<u8>) {
        [self.sum, self.min, self.max].into_iter().for_each(|number| number.put(to));
        self.square.put(to);
        [self.nonzero, self.positive, self.nan, self.fractional].into_iter().for_each(|count| count.put(to));
    }

    fn get(from: &[u8]) -> Self {
        let number = |i: usize| S::get(&from[i * S::SIZE..(i + 1) * S::SIZE]);
        let (square, counts) = from[3 * S::SIZE..].split_at(f64::SIZE);
        let count = |i: usize| u32::get(&counts[i * u32::SIZE..(i + 1) * u32::SIZE]);
        Moment {
            sum: number(0),
            min: number(1),
            max: number(2),
            square: f64::get(square),
            nonzero: count(0),
            positive: count(1),
            nan: count(2),
            fractional: count(3),
        }
    }
}

/// Statistics side by side.
#[derive(Clone, Debug)]
pub(super) enum Moments {
    Float(Vec<Moment<f64>>),
    Int(Vec<Moment<i128>>),
}

impl Moments {
    pub(super) fn zeros(dtype: Dtype, n: usize) -> Moments {
        if dtype.is_float() {
            Moments::Float(vec![Moment::default(); n])
        } else {
            Moments::Int(vec![Moment::default(); n])
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Moments::Float(m) => m.len(),
            Moments::Int(m) => m.len(),
        }
    }

    /// Appends them, after their kind.
    pub(super) fn to_bytes(&self, to: &mut Vec<u8>) {
        match self {
            Moments::Float(m) => {
                0u8.put(to);
                put_all(m, to);
            }
            Moments::Int(m) => {
                1u8.put(to);
                put_all(m, to);
            }
        }
    }

    /// As many of the same kind.
    pub(super) fn like(&self, n: usize, from: &mut Reader<'_>) -> Result<Moments> {
        match (self, from.one::<u8>()?) {
            (Moments::Float(_), 0) => Ok(Moments::Float(from.all(n)?)),
            (Moments::Int(_), 1) => Ok(Moments::Int(from.all(n)?)),
            _ => Err(wrong()),
        }
    }

    /// The statistics of values of a type, when entry `i` is of `counted(i)` values; `wanted` are
    /// those that were found.
    pub(super) fn finish(&self, dtype: Dtype, wanted: u8, counted: impl Fn(usize) -> usize) -> Stats {
        fn of<S: Number>(moments: &[Moment<S>], dtype: Dtype, wanted: u8, counted: impl Fn(usize) -> usize) -> Stats {
            let whole: Vec<_> = moments.iter().enumerate().map(|(i, m)| m.with_zeros(counted(i))).collect();
            let all = |f: fn(&Moment<S>) -> S| S::wrap(whole.iter().map(f).collect(), dtype);
            let signs: &[Moment<S>] = if wanted & SIGNS != 0 { &whole } else { &[] };
            Stats {
                nonzero: whole.iter().map(|m| m.nonzero).collect(),
                positive: signs.iter().map(|m| m.positive).collect(),
                nan: whole.iter().map(|m| m.nan).collect(),
                fractional: signs.iter().map(|m| m.fractional).collect(),
                sum: whole.iter().all(|m| m.sum.fits(dtype)).then(|| all(|m| m.sum)),
                square: whole.iter().map(|m| m.square).collect(),
                min: all(|m| m.min),
                max: all(|m| m.max),
            }
        }
        match self {
            Moments::Float(m) => of(m, dtype, wanted, counted),
            Moments::Int(m) => of(m, dtype, wanted, counted),
        }
    }
}
