//! Random numbers that are a function of keys and a counter: any thread has any of them at once.

/// A stream of random numbers; the `i`-th is had without those before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream of a seed and keys; it is another one for every other key.
    pub(crate) fn keyed(seed: u64, keys: &[u64]) -> Self {
        // Keys that differ in few bits are far apart after the last step.
        Stream(keys.iter().fold(Stream(seed), |s, key| Stream(s.bits(0) ^ key)).bits(0))
    }

    /// Output `i` of SplitMix64 (Steele, Lea and Flood 2014), which is a hash of a counter.
    pub(crate) fn bits(self, i: u64) -> u64 {
        let z = self.0.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In 0..1, below 1.
    pub(crate) fn unit(self, i: u64) -> f64 {
        // Signed, since that conversion is one instruction.
        (self.bits(i) >> 11) as i64 as f64 / (1_u64 << 53) as f64
    }

    /// [`Stream::unit`] of many, of which processors can do several at once.
    #[inline(always)]
    pub(crate) fn units(self, of: &[u32], out: &mut [f64]) {
        // Bits of the numbers 2^52 and 2^84, whose fractions take 32 bits each.
        const LOW: u64 = 0x4330_0000_0000_0000;
        const HIGH: u64 = 0x4530_0000_0000_0000;
        for (&i, unit) in of.iter().zip(out) {
            let bits = self.bits(u64::from(i)) >> 11;
            let high = f64::from_bits(bits >> 32 | HIGH) - f64::from_bits(HIGH);
            let low = f64::from_bits(bits & 0xffff_ffff | LOW) - f64::from_bits(LOW);
            *unit = (high + low) / (1_u64 << 53) as f64;
        }
    }

    /// In 0..n; `n` is above 0.
    pub(crate) fn below(self, i: u64, n: usize) -> usize {
        ((u128::from(self.bits(i)) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The first outputs of SplitMix64 for the seed 1234567, as published with the algorithm.
        let s = Stream(1_234_567);
        assert_eq!([s.bits(0), s.bits(1)], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert_eq!(s.bits(4), 16_408_922_859_458_223_821);
    }

    #[test]
    fn many_numbers_are_those_of_one_at_a_time() {
        let (s, of) = (Stream::keyed(3, &[1]), [7, 0, u32::MAX, 12, 13, 5_000]);
        let mut units = [0.0; 5];
        s.units(&of, &mut units);
        assert_eq!(units, [7, 0, u32::MAX, 12, 13].map(|i| s.unit(u64::from(i))));
    }

    #[test]
    fn streams_differ_by_each_key() {
        let mut all: Vec<u64> = Vec::new();
        for keys in [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]] {
            all.push(Stream::keyed(0, &keys).bits(0));
            all.push(Stream::keyed(1, &keys).bits(0));
        }
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
    }

    #[test]
    fn draws_are_uniform() {
        let s = Stream::keyed(7, &[0, 3, 2]);
        let mut seen = [0_u32; 10];
        (0..100_000).for_each(|i| seen[s.below(i, 10)] += 1);
        // Ten standard deviations around 10,000.
        assert!(seen.iter().all(|&n| (9_050..10_950).contains(&n)), "{seen:?}");
        let mean = (0..100_000).map(|i| s.unit(i)).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
