//! Logarithms of float32 values, several at once.

/// The coefficients of fdlibm's `e_log.c` (Sun Microsystems 1993): with `s = f / (2 + f)`, `log(1 + f)` is
/// `f - s (f - R)`, where R is a polynomial in `s * s`, for `1 + f` between the roots of 1/2 and 2.
const LG: [f64; 7] = [
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
];
const ROOT_OF_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
const ONE: u64 = 1.0f64.to_bits();
/// A whole number below 2^52 in the bits of this is added to it.
const TO_FLOAT: f64 = (1u64 << 52) as f64;
/// Below this in magnitude `log1p(x)` rounds to x, and `1 + x` would have lost bits of it.
const TINY: f32 = 1.0 / (1 << 26) as f32;

/// Takes each value to `log1p` of it: computed in float64, where `1 + x` is exact, and rounded once. So the
/// result is the float32 nearest to the logarithm, but for about one value in a million that is as near to
/// two; and the same on every machine, which functions of C libraries are not.
pub(super) fn log1p(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { log1p_avx2(values) };
    }
    each(values);
}

/// [`each`] with instructions that not every processor has. There is no fused multiplication among them,
/// so that the bits are the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn log1p_avx2(values: &mut [f32]) {
    each(values);
}

#[inline(always)]
fn each(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x = of(*x));
}

#[inline(always)]
fn of(x: f32) -> f32 {
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
    if x.abs() < TINY || !(x < f32::INFINITY) { x } else { finite }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances in units of the last place.
    fn apart(a: f32, b: f32) -> u32 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn values_are_the_nearest_to_their_logarithms() {
        // Every 61st float from the smallest to the largest, of both signs down to -1.
        let positive = (0..f32::INFINITY.to_bits()).step_by(61).map(f32::from_bits);
        let negative = (0..1.0f32.to_bits()).step_by(61).map(|bits| -f32::from_bits(bits));
        let (mut n, mut differ) = (0u32, 0u32);
        let all: Vec<f32> = positive.chain(negative).collect();
        let mut ours = all.clone();
        log1p(&mut ours);
        for (x, ours) in all.into_iter().zip(ours) {
            let theirs = f64::from(x).ln_1p() as f32;
            n += 1;
            differ += u32::from(apart(ours, theirs) > 0);
            assert!(apart(ours, theirs) <= 1, "log1p({x:e}) is {theirs:e}, not {ours:e}");
        }
        assert!(differ <= n / 200_000, "{differ} of {n}");
    }

    #[test]
    fn bounds_are_as_numpy_has_them() {
        let mut values =
            [0.0, -0.0, -1.0, -1.0 + f32::EPSILON / 2.0, -1.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40];
        let before = values;
        log1p(&mut values);
        assert_eq!(values[..2].iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0, 1 << 31]);
        assert_eq!((values[2], values[5], values[8]), (f32::NEG_INFINITY, f32::INFINITY, before[8]));
        assert_eq!(values[3], -16.635532);
        assert!(values[4].is_nan() && values[6].is_nan() && values[7].is_nan());
    }

    #[test]
    fn vectors_have_the_bits_of_single_values() {
        let mut values: Vec<f32> = (0..10_007).map(|i| (i as f32).powi(3) * 1e-7).collect();
        let single: Vec<u32> = values.iter().map(|&x| of(x).to_bits()).collect();
        log1p(&mut values);
        assert_eq!(values.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), single);
    }
}
