//! Counts, sums and extremes of some values.

use slaf_core::{Dtype, Error, Result, Value, Values};

/// The type of a sum: int64 of integers and bool, float64 of floats.
pub(super) trait Number: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// `None` if it does not fit.
    fn plus(self, other: Self) -> Option<Self>;
    fn as_f64(self) -> f64;
    fn wrap(numbers: Vec<Self>) -> Values;
    fn of(moments: &Moments) -> Option<&[Moment<Self>]>;
    fn of_mut(moments: &mut Moments) -> Option<&mut [Moment<Self>]>;
}

impl Number for f64 {
    fn plus(self, other: Self) -> Option<Self> {
        Some(self + other)
    }
    fn as_f64(self) -> f64 {
        self
    }
    fn wrap(numbers: Vec<Self>) -> Values {
        Values::F64(numbers)
    }
    fn of(moments: &Moments) -> Option<&[Moment<f64>]> {
        if let Moments::Float(m) = moments { Some(m) } else { None }
    }
    fn of_mut(moments: &mut Moments) -> Option<&mut [Moment<f64>]> {
        if let Moments::Float(m) = moments { Some(m) } else { None }
    }
}

impl Number for i64 {
    fn plus(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
    fn as_f64(self) -> f64 {
        self as f64
    }
    fn wrap(numbers: Vec<Self>) -> Values {
        Values::I64(numbers)
    }
    fn of(moments: &Moments) -> Option<&[Moment<i64>]> {
        if let Moments::Int(m) = moments { Some(m) } else { None }
    }
    fn of_mut(moments: &mut Moments) -> Option<&mut [Moment<i64>]> {
        if let Moments::Int(m) = moments { Some(m) } else { None }
    }
}

/// A value that can be summed.
pub(super) trait Summed: Value {
    type Sum: Number;
    /// `None` if it does not fit.
    fn summand(self) -> Option<Self::Sum>;
}

macro_rules! summed {
    ($sum:ty: $($t:ty, $v:ident => $e:expr);*) => {$(
        impl Summed for $t {
            type Sum = $sum;
            fn summand(self) -> Option<$sum> {
                let $v = self;
                $e
            }
        }
    )*};
}
summed!(f64: f32, v => Some(f64::from(v)); f64, v => Some(v));
summed!(i64: bool, v => Some(i64::from(v)); i8, v => Some(i64::from(v)); i16, v => Some(i64::from(v));
    i32, v => Some(i64::from(v)); i64, v => Some(v); u8, v => Some(i64::from(v)); u16, v => Some(i64::from(v));
    u32, v => Some(i64::from(v)); u64, v => i64::try_from(v).ok());

/// [`Detail`](super::Detail) as the loops over values have it, which are compiled for each.
pub(super) const SUMS: u8 = 0;
pub(super) const SQUARES: u8 = 1;
pub(super) const ALL: u8 = 2;

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
    /// Adds a value that is not zero. `false` if a sum does not fit.
    #[inline]
    pub(super) fn add<T: Summed<Sum = S>, const DETAIL: u8>(&mut self, value: T, centre: f64, skip_nan: bool) -> bool {
        #[allow(clippy::eq_op)]
        if skip_nan && value != value {
            self.nan += 1;
            return true;
        }
        let Some(summand) = value.summand() else { return false };
        let Some(sum) = self.sum.plus(summand) else { return false };
        self.sum = sum;
        let number = value.as_f64();
        if DETAIL >= SQUARES {
            let distance = number - centre;
            self.square += distance * distance;
        }
        if DETAIL >= ALL {
            self.extend(summand, summand, self.nonzero == 0);
        }
        self.nonzero += 1;
        self.positive += u32::from(value > T::default());
        // The cast saturates, so that neither NaN nor infinity is whole.
        self.fractional += u32::from(T::DTYPE.is_float() && (number as i64) as f64 != number);
        true
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

    pub(super) fn merge(&mut self, other: &Self) -> bool {
        if other.nonzero > 0 {
            self.extend(other.min, other.max, self.nonzero == 0);
        }
        let Some(sum) = self.sum.plus(other.sum) else { return false };
        self.sum = sum;
        self.square += other.square;
        self.nonzero += other.nonzero;
        self.positive += other.positive;
        self.nan += other.nan;
        self.fractional += other.fractional;
        true
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

/// Statistics side by side.
#[derive(Clone, Debug)]
pub(super) enum Moments {
    Float(Vec<Moment<f64>>),
    Int(Vec<Moment<i64>>),
}

impl Moments {
    pub(super) fn zeros(dtype: Dtype, n: usize) -> Moments {
        if dtype.is_float() {
            Moments::Float(vec![Moment::default(); n])
        } else {
            Moments::Int(vec![Moment::default(); n])
        }
    }

    /// The statistics, when entry `i` is of `counted(i)` values.
    pub(super) fn finish(&self, counted: impl Fn(usize) -> usize) -> super::Stats {
        fn of<S: Number>(moments: &[Moment<S>], counted: impl Fn(usize) -> usize) -> super::Stats {
            let whole: Vec<_> = moments.iter().enumerate().map(|(i, m)| m.with_zeros(counted(i))).collect();
            super::Stats {
                nonzero: whole.iter().map(|m| m.nonzero).collect(),
                positive: whole.iter().map(|m| m.positive).collect(),
                nan: whole.iter().map(|m| m.nan).collect(),
                fractional: whole.iter().map(|m| m.fractional).collect(),
                sum: S::wrap(whole.iter().map(|m| m.sum).collect()),
                square: whole.iter().map(|m| m.square).collect(),
                min: S::wrap(whole.iter().map(|m| m.min).collect()),
                max: S::wrap(whole.iter().map(|m| m.max).collect()),
            }
        }
        match self {
            Moments::Float(m) => of(m, counted),
            Moments::Int(m) => of(m, counted),
        }
    }
}

/// Fails unless every sum fitted.
pub(super) fn fitting(fits: bool) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::invalid("a sum overflows int64: cast the matrix to float64 first")) }
}
