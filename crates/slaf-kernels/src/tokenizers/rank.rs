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
const LAST_DIGIT: u32 = (1 << (2 * PASS)) - 1;

/// Bits of a rough key that digits leave out. A digit is 5 bits of the exponent and 15 of the
/// fraction: keys of 32 octaves have digits of their own, those beyond share the outermost ones.
const SHIFT: u32 = 8;

/// How many units in the last place apart two rough keys may be although the exact ones are
/// equal, or the other way round: each is at most 3 units off.
const SLACK: u32 = 6;
/// How far apart digits are at least where that cannot be.
const SURE: u64 = (SLACK >> SHIFT) as u64 + 2;

/// Bits of an entry below its digit.
const PAYLOAD: u32 = u64::BITS - 2 * PASS;

/// The memory of a sort, used again for each cell.
///
/// An entry is a digit that falls with the key, and its position below it.
#[derive(Default)]
pub(super) struct Ranker {
    n: usize,
    entries: Vec<u64>,
    sorted: Vec<u64>,
    high: Counts,
    low: Counts,
    close: Vec<u32>,
    rough: Vec<f32>,
}

struct Counts(Box<[u32; BUCKETS]>);

impl Default for Counts {
    fn default() -> Self {
        Counts(Box::new([0; BUCKETS]))
    }
}

impl Counts {
    /// Turns counts into the first places of their buckets.
    fn places(&mut self) {
        let mut next = 0;
        for c in self.0.iter_mut() {
            next += std::mem::replace(c, next);
        }
    }
}

fn digit(entry: u64) -> usize {
    (entry >> PAYLOAD) as usize
}

fn payload(entry: u64) -> u64 {
    entry & ((1 << PAYLOAD) - 1)
}

/// A key roughly, at most one unit in the last place off.
fn rough(key: f64) -> f32 {
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
        // The bits of floats that are not negative are in the order of the floats. Signed, since
        // the least instruction set compares several of these at once.
        let min = rough.iter().map(|key| key.to_bits() as i32).fold(i32::MAX, i32::min) as u32;
        self.enter(min, rough);
        let order = |a: u64, b: u64| order(a as u32, b as u32).then(a.cmp(&b));
        let k = k.min(self.n);
        // Sorting a few more is cheaper than finding them.
        if k < self.n / 2 {
            self.keep_largest(k);
        }
        self.sort();
        self.order_neighbours(k, order);
        picked.clear();
        picked.extend(self.entries[..k].iter().map(|&e| payload(e) as u32));
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

    /// Makes entries of rough keys, whose payloads are their positions. The range of their digits
    /// begins with the bits of the smallest key.
    fn enter(&mut self, min: u32, rough: &[f32]) {
        self.n = rough.len();
        if self.entries.len() < self.n {
            self.entries.resize(self.n, 0);
            self.sorted.resize(self.n, 0);
        }
        for ((i, entry), key) in (0..).zip(&mut self.entries).zip(rough) {
            let digit = LAST_DIGIT - ((key.to_bits() - min) >> SHIFT).min(LAST_DIGIT);
            *entry = u64::from(digit) << PAYLOAD | i;
        }
        self.count();
    }

    /// Counts both halves of the digits.
    fn count(&mut self) {
        let (high, low) = (&mut *self.high.0, &mut *self.low.0);
        high.fill(0);
        low.fill(0);
        for &e in &self.entries[..self.n] {
            high[(digit(e) >> PASS) % BUCKETS] += 1;
            low[digit(e) % BUCKETS] += 1;
        }
    }

    /// Drops entries that are surely not among the `k` largest.
    fn keep_largest(&mut self, k: usize) {
        let mut kept = 0;
        let last = self.high.0.iter().position(|&c| {
            kept += c as usize;
            kept >= k
        });
        let end = (last.unwrap_or(BUCKETS) + 1) * BUCKETS + SURE as usize;
        let mut kept = 0;
        for i in 0..self.n {
            let e = self.entries[i];
            self.entries[kept] = e;
            kept += usize::from(digit(e) < end);
        }
        self.n = kept;
        self.count();
    }

    fn sort(&mut self) {
        self.low.places();
        self.high.places();
        // The remainders spare the check of bounds.
        let (high, low, n) = (&mut *self.high.0, &mut *self.low.0, self.n);
        let (entries, sorted) = (&mut self.entries[..n], &mut self.sorted[..n]);
        for &e in &*entries {
            let place = &mut low[digit(e) % BUCKETS];
            sorted[*place as usize] = e;
            *place += 1;
        }
        for &e in &*sorted {
            let place = &mut high[(digit(e) >> PASS) % BUCKETS];
            entries[*place as usize] = e;
            *place += 1;
        }
    }

    /// Puts runs of close digits in order, as far as the first `k` entries reach.
    fn order_neighbours(&mut self, k: usize, order: impl Fn(u64, u64) -> Ordering) {
        let entries = &mut self.entries[..self.n];
        if self.close.len() < entries.len() {
            self.close.resize(entries.len(), 0);
        }
        // Which entries are close to the one after them; found without a branch.
        let (close, mut n) = (self.close.as_mut_slice(), 0);
        for (i, w) in (0..).zip(entries.windows(2)) {
            close[n] = i;
            n += usize::from((w[1] >> PAYLOAD) - (w[0] >> PAYLOAD) < SURE);
        }
        let order = |a: &u64, b: &u64| order(payload(*a), payload(*b));
        let mut close = close[..n].iter().map(|&i| i as usize).peekable();
        while let Some(start) = close.next().filter(|&start| start < k) {
            let mut end = start + 2;
            while close.next_if_eq(&(end - 1)).is_some() {
                end += 1;
            }
            match &mut entries[start..end] {
                [a, b] => {
                    if order(a, b) == Ordering::Greater {
                        std::mem::swap(a, b);
                    }
                }
                run if run.is_sorted_by(|a, b| order(a, b) == Ordering::Less) => {}
                run => run.sort_unstable_by(order),
            }
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
