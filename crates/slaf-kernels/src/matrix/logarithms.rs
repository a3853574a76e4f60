//! Logarithms and exponentials of float32 values, several at once. They are computed in float64 and rounded
//! once: so a result is the nearest float32, but for about one value in a million that is as near to two,
//! and the same on every machine, which functions of C libraries are not.

/// The coefficients of fdlibm's `e_log.c` (Sun Microsystems 1993): with `s = f / (2 + f)`, `log(1 + f)` is
/// `f - s (f - R)`, where R is a polynomial in `s * s`, for `1 + f` between the roots of 1/2 and 2.
const LG: [f64; 7] = [
    0.666_666_666_666_673_5, 0.399_999_999_994_094_2, 0.285_714_287_436_623_9, 0.222_221_984_321_497_84,
    0.181_835_721_616_180_5, 0.153_138_376_992_093_73, 0.147_981_986_051_165_86,
];
const ROOT_OF_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
const ONE: u64 = 1.0f64.to_bits();
/// A whole number below 2^52 in the bits of this is added to it.
const TO_FLOAT: f64 = (1u64 << 52) as f64;
/// Below this in magnitude `log1p(x)` rounds to x, and `1 + x` would have lost bits of it.
const TINY: f32 = 1.0 / (1 << 26) as f32;

/// The terms of `expm1(r)` after `r + r * r / 2`: `1 / n!` from n = 3. What is left out of a series that ends
/// with n = 13 is below 1e-17 of it for r up to half of the logarithm of 2.
const TERMS: [f64; 11] = [
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];
/// What is added to a number to round it: its last bits are the whole number.
const TO_WHOLE: f64 = 1.5 * TO_FLOAT;
/// Exponentials of more are infinite in float32, of less they are zero.
const FAR: f64 = 200.0;

/// Takes each value to the logarithm of 1 more than it.
pub(super) fn log1p(values: &mut [f32]) {
    in_vectors(values, log1p_of);
}

/// Takes each value to 1 less than its exponential.
pub(super) fn expm1(values: &mut [f32]) {
    in_vectors(values, expm1_of);
}

fn in_vectors(values: &mut [f32], f: impl Fn(f32) -> f32) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { with_avx2(values, f) };
    }
    each(values, f);
}

/// [`each`] with instructions that not every processor has. There is no fused multiplication among them,
/// so that the bits are the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(values: &mut [f32], f: impl Fn(f32) -> f32) {
    each(values, f);
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|x| *x = f(*x));
}

#[inline(always)]
fn log1p_of(x: f32) -> f32 {
    let y = 1.0 + f64::from(x);
    // y = 2^k (1 + f).
    let biased = y.to_bits().wrapping_add(ONE - ROOT_OF_HALF) >> 52;
    let f = f64::from_bits(y.to_bits().wrapping_sub(biased.wrapping_sub(1023) << 52)) - 1.0;
    let k = f64::from_bits(TO_FLOAT.to_bits() | biased) - (TO_FLOAT + 1023.0);
    let s = f / (2.0 + f);
    let (z, half) = (s * s, 0.5 * f * f);
    let w = z * z;
    let odd = z * (LG[0] + w * (LG[2] + w * (LG[4] + w * LG[6])));
    let even = w * (LG[1] + w * (LG[3] + w * LG[5]));
    let log = k * std::f64::consts::LN_2 + (f - (half - s * (half + (odd + even))));
    let is_above = y > 0.0;
    let of_bound = if y == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    let finite = if is_above { log as f32 } else { of_bound };
    // Also what is infinite and positive, and NaN with its bits.
    if x.abs() < TINY || x.is_nan() || x == f32::INFINITY { x } else { finite }
}

#[inline(always)]
fn expm1_of(x: f32) -> f32 {
    let of = f64::from(x).clamp(-FAR, FAR);
    // of = k ln 2 + r.
    let shifted = of * std::f64::consts::LOG2_E + TO_WHOLE;
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let r = of - (shifted - TO_WHOLE) * std::f64::consts::LN_2;
    let rest = TERMS.iter().rev().fold(0.0, |sum, term| sum * r + term);
    let of_r = r + (r * r) * (0.5 + r * rest);
    let result = (power * of_r + (power - 1.0)) as f32;
    if x.abs() < TINY || x.is_nan() { x } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances in units of the last place.
    fn apart(a: f32, b: f32) -> u32 {
        a.to_bits().abs_diff(b.to_bits())
    }

    /// Compares every 61st of these floats with what is computed in float64.
    fn assert_nearest(all: impl Iterator<Item = f32>, ours: impl Fn(&mut [f32]), theirs: impl Fn(f64) -> f64) {
        let all: Vec<f32> = all.step_by(61).collect();
        let mut values = all.clone();
        ours(&mut values);
        let mut differ = 0;
        for (x, ours) in all.iter().zip(values) {
            let theirs = theirs(f64::from(*x)) as f32;
            differ += usize::from(apart(ours, theirs) > 0);
            assert!(apart(ours, theirs) <= 1, "of {x:e}: {theirs:e}, not {ours:e}");
        }
        assert!(differ <= all.len() / 200_000, "{differ} of {}", all.len());
    }

    #[test]
    fn results_are_the_nearest() {
        let positive = (0..f32::INFINITY.to_bits()).map(f32::from_bits);
        let above_minus_one = (0..1.0f32.to_bits()).map(|bits| -f32::from_bits(bits));
        assert_nearest(positive.clone().chain(above_minus_one), log1p, f64::ln_1p);
        let negative = positive.clone().map(|x| -x);
        assert_nearest(positive.chain(negative), expm1, f64::exp_m1);
    }

    #[test]
    fn bounds_are_as_numpy_has_them() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let before = [0.0, -0.0, 1e-40, inf, -1.0, -1.0 + f32::EPSILON / 2.0, -1.5, -inf, nan];
        let (mut log, mut exp) = (before, before);
        log1p(&mut log);
        expm1(&mut exp);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&log[..4]), bits(&before[..4]));
        assert_eq!(log[4..6], [-inf, -16.635532]);
        assert!(log[6..].iter().all(|x| x.is_nan()));
        assert_eq!(bits(&exp[..4]), bits(&before[..4]));
        assert_eq!((exp[4], exp[7]), (-0.63212056, -1.0));
        assert!(exp[8].is_nan());
    }

    #[test]
    fn vectors_have_the_bits_of_single_values() {
        let values: Vec<f32> = (0..10_007).map(|i| (i as f32).powi(3) * 1e-7).collect();
        let (mut log, mut exp) = (values.clone(), values.clone());
        log1p(&mut log);
        expm1(&mut exp);
        for ((x, log), exp) in values.into_iter().zip(log).zip(exp) {
            assert_eq!((log.to_bits(), exp.to_bits()), (log1p_of(x).to_bits(), expm1_of(x).to_bits()));
        }
    }
}
