//! Where random tokenizers draw from.

use rand_mt::Mt;
use slaf_core::{Error, Result};

/// The source of all chance in a tokenizer.
///
/// Everything but strict binning is a function of (seed, epoch, cell number), so that any thread
/// with a source of the same seed and epoch gets the same rows. Strict binning continues one
/// stream of numpy's legacy generator, `RandomState(seed)`, from row to row and from chunk to
/// chunk: there, one source must see all cells in order, and the epoch does not matter.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    epoch: u64,
    numpy: Option<Box<Mt>>,
}

impl Random {
    pub fn new(seed: u64, epoch: u64) -> Self {
        Random { seed, epoch, numpy: None }
    }

    pub(super) fn keys(&self) -> (u64, u64) {
        (self.seed, self.epoch)
    }

    /// # Errors
    /// `invalid-argument` for a seed that numpy's legacy generator refuses.
    pub(super) fn numpy(&mut self) -> Result<&mut Mt> {
        let seed = u32::try_from(self.seed).map_err(|_| {
            Error::invalid(format!("the seed of strict binning is below 2^32, as numpy's is: {}", self.seed))
        })?;
        Ok(self.numpy.get_or_insert_with(|| Box::new(Mt::new(seed))))
    }
}

/// numpy's legacy `rand()`: 53 random bits in 0..1.
pub(super) fn numpy_rand(generator: &mut Mt) -> f64 {
    let (a, b) = (generator.next_u32() >> 5, generator.next_u32() >> 6);
    (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
}

/// What a stream of a cell is for: two parts of a tokenizer never share draws.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Bins = 1,
    Sample = 2,
    Ties = 3,
    Fill = 4,
    Order = 5,
}

/// The random numbers of one cell for one purpose. The `i`-th is had without those before it.
#[derive(Clone, Copy)]
pub(super) struct Stream(u64);

impl Stream {
    pub(super) fn new((seed, epoch): (u64, u64), cell: u64, purpose: Purpose) -> Self {
        [epoch, cell, purpose as u64].into_iter().fold(Stream(seed), |s, key| Stream(s.bits(0) ^ key)).rekeyed()
    }

    /// Keys that differ in few bits are far apart afterwards.
    fn rekeyed(self) -> Self {
        Stream(self.bits(0))
    }

    /// Output `i` of SplitMix64 (Steele, Lea and Flood 2014), which is a hash of a counter.
    pub(super) fn bits(self, i: u64) -> u64 {
        let z = self.0.wrapping_add(i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In 0..1, below 1.
    pub(super) fn unit(self, i: u64) -> f64 {
        // Signed, since that conversion is one instruction.
        (self.bits(i) >> 11) as i64 as f64 / (1_u64 << 53) as f64
    }

    /// In 0..n; `n` is above 0.
    pub(super) fn below(self, i: u64, n: usize) -> usize {
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
    fn streams_differ_by_each_key() {
        let first = |seed, epoch, cell, p| Stream::new((seed, epoch), cell, p).bits(0);
        let mut all: Vec<u64> = Vec::new();
        for (seed, epoch, cell) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)] {
            all.push(first(seed, epoch, cell, Purpose::Bins));
            all.push(first(seed, epoch, cell, Purpose::Order));
        }
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
    }

    #[test]
    fn draws_are_uniform() {
        let s = Stream::new((7, 0), 3, Purpose::Sample);
        let mut seen = [0_u32; 10];
        (0..100_000).for_each(|i| seen[s.below(i, 10)] += 1);
        // Ten standard deviations around 10,000.
        assert!(seen.iter().all(|&n| (9_050..10_950).contains(&n)), "{seen:?}");
        let mean = (0..100_000).map(|i| s.unit(i)).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn numpy_refuses_large_seeds() {
        assert!(Random::new(1 << 32, 0).numpy().is_err());
        assert!(Random::new((1 << 32) - 1, 0).numpy().is_ok());
    }
}
