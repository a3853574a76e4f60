//! A random order of any number of things that needs no memory.

use crate::random::Stream;

/// Rounds of the Feistel network. Four make a pseudo-random permutation of a large set (Luby and
/// Rackoff 1988); small sets need some more to be mixed well.
const ROUNDS: u64 = 8;

/// A pseudo-random permutation of `0..n`: a Feistel network over the next power of two, walked
/// along its cycle until it comes back below `n` (Black and Rogaway 2002). Any place of the order
/// is had without those before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    n: u64,
    /// Bits of the two halves; the first one has as many or one less.
    left: u32,
    right: u32,
    stream: Stream,
}

impl Permutation {
    pub(super) fn new(n: u64, stream: Stream) -> Permutation {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Permutation { n, left: bits / 2, right: bits - bits / 2, stream }
    }

    /// What comes at place `i`, which is below `n`.
    pub(super) fn get(&self, i: u64) -> u64 {
        debug_assert!(i < self.n, "{i} of {}", self.n);
        let mut x = i;
        loop {
            x = self.network(x);
            // Less than half of the values are beyond `n`, and the cycle leads back.
            if x < self.n {
                return x;
            }
        }
    }

    fn network(&self, x: u64) -> u64 {
        let (mut a_bits, mut b_bits) = (self.left, self.right);
        let (mut a, mut b) = (x >> b_bits, x & mask(b_bits));
        for round in 0..ROUNDS {
            let mixed = a ^ (self.stream.bits(b << 4 | round) & mask(a_bits));
            (a, b) = (b, mixed);
            (a_bits, b_bits) = (b_bits, a_bits);
        }
        a << b_bits | b
    }
}

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(n: u64, key: u64) -> Vec<u64> {
        let p = Permutation::new(n, Stream::keyed(3, &[key]));
        (0..n).map(|i| p.get(i)).collect()
    }

    #[test]
    fn everything_comes_once() {
        for n in (0..200).chain([255, 256, 257, 4095, 4096, 4097, 70_001]) {
            let mut all = order(n, n);
            all.sort_unstable();
            assert!(all.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn every_place_has_everything_equally_often() {
        for n in [2_u64, 3, 5, 8, 13] {
            let trials = 4000 * n;
            let mut counts = vec![0_u64; (n * n) as usize];
            for key in 0..trials {
                for (i, x) in order(n, key).into_iter().enumerate() {
                    counts[i * n as usize + x as usize] += 1;
                }
            }
            // Six standard deviations of a binomial around 4000.
            let limit = 6.0 * (4000.0 * (1.0 - 1.0 / n as f64)).sqrt();
            for count in counts {
                assert!((count as f64 - 4000.0).abs() < limit, "{count} of {trials} for {n}");
            }
        }
    }

    #[test]
    fn all_orders_of_four_occur_equally_often() {
        let mut counts = std::collections::HashMap::<Vec<u64>, u32>::new();
        (0..48_000).for_each(|key| *counts.entry(order(4, key)).or_default() += 1);
        assert_eq!(counts.len(), 24);
        // Six standard deviations around 2000.
        assert!(counts.values().all(|&c| (1732..2268).contains(&c)), "{counts:?}");
    }

    #[test]
    fn neighbours_are_torn_apart() {
        let n = 100_000;
        let order = order(n, 9);
        let near = order.windows(2).filter(|w| w[0].abs_diff(w[1]) <= 50).count();
        // 100 of 100,000 pairs by chance; ten standard deviations.
        assert!((0..200).contains(&near), "{near}");
        let mean = order.iter().zip(0..).map(|(&x, i)| x.abs_diff(i) as f64).sum::<f64>() / n as f64;
        assert!((mean / n as f64 - 1.0 / 3.0).abs() < 0.01, "{mean}");
    }
}
