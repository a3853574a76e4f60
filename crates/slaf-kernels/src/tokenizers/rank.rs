//! Sorting a cell's genes by their keys.
//!
//! Keys come twice: roughly, in single precision, and exactly, as a comparison. The rough keys
//! are radix sorted in two passes. Where neighbours are so close that rounding could have put
//! them in the wrong order, which is rare or they are equal, the comparison decides.

use std::cmp::Ordering;

/// Bits of a pass. Twice as many bits tell nearly all different keys of a cell apart; with more,
/// adding up the counters costs more than the few comparisons that it saves.
const PASS: u32 = 10;
const BUCKETS: usize = 1 << PASS;

/// How many units in the last place apart two rough keys may be although the exact ones are
/// equal, or the other way round: each is at most 3 units off.
const SLACK: u32 = 6;

/// The memory of a sort, used again for each cell.
///
/// An entry is a 64-bit number: a digit of 20 bits that falls with the key, and the position of
/// the gene.
#[derive(Default)]
pub(super) struct Ranker {
    entries: Vec<u64>,
    sorted: Vec<u64>,
    high: Counts,
    low: Counts,
    rough: Vec<f32>,
}

struct Counts(Box<[u32; BUCKETS]>);

impl Default for Counts {
    fn default() -> Self {
        Counts(Box::new([0; BUCKETS]))
    }
}

impl Counts {
    /// The count of a bucket; the remainder spares the check of bounds.
    fn of(&mut self, bucket: usize) -> &mut u32 {
        &mut self.0[bucket % BUCKETS]
    }

    /// Turns counts into the first places of their buckets.
    fn places(&mut self) {
        let mut next = 0;
        for c in self.0.iter_mut() {
            next += std::mem::replace(c, next);
        }
    }
}

fn position(entry: u64) -> u32 {
    entry as u32
}

fn digit(entry: u64) -> usize {
    (entry >> 32) as usize
}

/// A key roughly, at most one unit in the last place off.
pub(super) fn rough(key: f64) -> f32 {
    (key as f32).min(f32::MAX)
}

impl Ranker {
    /// The positions of the `k` first keys, largest first, into `picked`.
    ///
    /// `rough` are the keys, not negative and at most 3 units in the last place off (keys beyond
    /// the range of f32 are its ends). `order` compares the exact keys of two positions; of equals,
    /// the lower position is first.
    pub(super) fn rank(
        &mut self,
        rough: &[f32],
        k: usize,
        order: impl Fn(u32, u32) -> Ordering,
        picked: &mut Vec<u32>,
    ) {
        picked.clear();
        let (k, mut n) = (k.min(rough.len()), rough.len());
        if k == 0 {
            return;
        }
        let slack = self.enter(rough);
        if k < n {
            n = self.keep_largest(n, k, slack);
        }
        self.sort(n);
        self.order_neighbours(n, k, slack, order);
        picked.extend(self.entries[..k].iter().map(|&e| position(e)));
    }

    /// The positions of the `k` largest of finite keys that are not negative, largest first; of
    /// equals, the lower position is first.
    pub(super) fn rank_exact(&mut self, keys: &[f64], k: usize, picked: &mut Vec<u32>) {
        let mut approximate = std::mem::take(&mut self.rough);
        approximate.clear();
        approximate.extend(keys.iter().map(|&key| rough(key)));
        self.rank(&approximate, k, |a, b| keys[b as usize].total_cmp(&keys[a as usize]), picked);
        self.rough = approximate;
    }

    /// Makes an entry for each key and counts digits. Returns how far apart digits are from which
    /// the order of two keys is sure.
    fn enter(&mut self, rough: &[f32]) -> usize {
        // The bits of floats that are not negative are in the order of the floats. Signed, since
        // the least instruction set compares several of these at once.
        let bits = rough.iter().map(|key| key.to_bits() as i32);
        let (min, max) = bits.fold((i32::MAX, 0), |(min, max), bits| (min.min(bits), max.max(bits)));
        let (min, max) = (min as u32, max as u32);
        let shift = (u32::BITS - (max - min).leading_zeros()).saturating_sub(2 * PASS);
        if self.entries.len() < rough.len() {
            self.entries.resize(rough.len(), 0);
            self.sorted.resize(rough.len(), 0);
        }
        for (i, (entry, key)) in self.entries.iter_mut().zip(rough).enumerate() {
            *entry = u64::from((max - key.to_bits()) >> shift) << 32 | i as u64;
        }
        self.count(rough.len());
        (SLACK >> shift) as usize + 1
    }

    /// Drops entries that are surely not among the `k` largest; returns how many stay.
    fn keep_largest(&mut self, n: usize, k: usize, slack: usize) -> usize {
        let mut kept = 0;
        let last = self.high.0.iter().position(|&c| {
            kept += c as usize;
            kept >= k
        });
        let end = (last.unwrap_or(BUCKETS) + 1) * BUCKETS + slack;
        let mut kept = 0;
        for i in 0..n {
            let e = self.entries[i];
            self.entries[kept] = e;
            kept += usize::from(digit(e) < end);
        }
        self.count(kept);
        kept
    }

    /// Counts both halves of the digits of the first `n` entries.
    fn count(&mut self, n: usize) {
        let (high, low) = (&mut self.high, &mut self.low);
        high.0.fill(0);
        low.0.fill(0);
        for &e in &self.entries[..n] {
            *high.of(digit(e) >> PASS) += 1;
            *low.of(digit(e)) += 1;
        }
    }

    fn sort(&mut self, n: usize) {
        self.low.places();
        for &e in &self.entries[..n] {
            let place = self.low.of(digit(e));
            self.sorted[*place as usize] = e;
            *place += 1;
        }
        self.high.places();
        for &e in &self.sorted[..n] {
            let place = self.high.of(digit(e) >> PASS);
            self.entries[*place as usize] = e;
            *place += 1;
        }
    }

    /// Puts runs of close digits in order, as far as the first `k` entries reach.
    fn order_neighbours(&mut self, n: usize, k: usize, slack: usize, order: impl Fn(u32, u32) -> Ordering) {
        let order = |a: &u64, b: &u64| {
            let (a, b) = (position(*a), position(*b));
            order(a, b).then(a.cmp(&b))
        };
        let is_close = |w: &[u64]| digit(w[1]) - digit(w[0]) <= slack;
        let mut start = 0;
        while start < k
            && let Some(at) = self.entries[start..n].windows(2).position(is_close)
        {
            start += at;
            let far = self.entries[start..n].windows(2).position(|w| !is_close(w));
            let end = far.map_or(n, |at| start + at + 1);
            let run = &mut self.entries[start..end];
            if !run.is_sorted_by(|a, b| order(a, b) == Ordering::Less) {
                run.sort_unstable_by(order);
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(keys: &[f64], k: usize) -> Vec<u32> {
        let mut picked = Vec::new();
        // The memory of an earlier, longer sort must not show.
        let mut ranker = Ranker::default();
        ranker.rank_exact(&[3.5; 5_000], 9, &mut picked);
        ranker.rank_exact(keys, k, &mut picked);
        picked
    }

    fn oracle(keys: &[f64], k: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..keys.len() as u32).collect();
        all.sort_by(|&a, &b| keys[b as usize].total_cmp(&keys[a as usize]));
        all.truncate(k);
        all
    }

    fn key() -> impl Strategy<Value = f64> {
        prop_oneof![
            (0_u8..5).prop_map(f64::from),
            0.0..1e-3,
            0.0..1e9,
            // Keys that differ in the last bits only, of double and of single precision.
            (0_u64..20).prop_map(|n| f64::from_bits(1.5_f64.to_bits() + n)),
            (0_u32..20).prop_map(|n| f64::from(f32::from_bits(1.5_f32.to_bits() + n))),
            Just(f64::MAX),
            Just(1e-42),
            Just(f64::MIN_POSITIVE / 8.0),
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort(keys in proptest::collection::vec(key(), 0..600), k in 0_usize..700) {
            prop_assert_eq!(ranked(&keys, k), oracle(&keys, k));
        }

        #[test]
        fn close_keys_are_ordered_by_the_comparison(
            keys in proptest::collection::vec((0_u32..60, 0_u32..7), 1..300),
            base in prop_oneof![Just(1.0_f32), Just(1.999_999_9), Just(0.0), Just(1e30)],
            k in 1_usize..300,
            outlier in any::<bool>(),
        ) {
            // Each rough key is up to 3 units off its exact key, in either direction.
            let at = |n: u32| f32::from_bits(base.to_bits() + n);
            let mut exact: Vec<f64> = keys.iter().map(|e| f64::from(at(e.0 + 3))).collect();
            let mut rough: Vec<f32> = keys.iter().map(|e| at(e.0 + e.1)).collect();
            if outlier {
                exact.push(1e35);
                rough.push(1e35);
            }
            let mut picked = Vec::new();
            let order = |a: u32, b: u32| exact[b as usize].total_cmp(&exact[a as usize]);
            Ranker::default().rank(&rough, k, order, &mut picked);
            prop_assert_eq!(picked, oracle(&exact, k));
        }
    }

    #[test]
    fn one_huge_key_does_not_spoil_the_digits_of_the_others() {
        let mut keys: Vec<f64> = (0..60_000_u64).map(|i| 1.0 + (i * 7_919 % 60_000) as f64 * 1e-12).collect();
        keys.push(1e300);
        assert_eq!(ranked(&keys, 2_048), oracle(&keys, 2_048));
    }

    #[test]
    fn equal_keys_are_in_the_given_order() {
        let mut picked = Vec::new();
        let order = |a: u32, b: u32| (a == 1).cmp(&(b == 1)).reverse().then(b.cmp(&a));
        Ranker::default().rank(&[1.0, 2.0, 1.0, 1.0], 3, order, &mut picked);
        assert_eq!(picked, [1, 3, 2]);
    }
}
