//! The different values of a cell.
//!
//! Counts, and what is computed from counts cell by cell, have few different values in a cell.
//! Finding them is faster than sorting all values, and bins and ranks follow from them.

use super::entries::is_expressed;
use slaf_core::Value;

/// Different values up to which it is worth it.
const LIMIT: usize = 1 << (SLOT_BITS - 1);
const SLOT_BITS: u32 = 11;
const SLOTS: usize = 1 << SLOT_BITS;

/// Whole numbers below this are their own codes.
const DIRECT: usize = 256;
const NOT_DIRECT: u16 = u16::MAX;

/// Codes up to this one are most of a cell's.
const USUAL: u16 = 4;

/// Parts of a cell that are gone through side by side. Most entries have the same value, and an
/// addition to a counter waits for the last one to it: each part has counters of its own.
const PARTS: usize = 4;

/// The different values of a cell, and which of them each entry has. Used again for each cell.
pub(super) struct Distinct {
    /// By entry, the code of its value.
    codes: Vec<u16>,
    /// By code, the entries of each part.
    counts: Vec<[u32; PARTS]>,
    /// Values and their codes, smallest first.
    sorted: Vec<(f64, u16)>,
    /// The values without a code of their own, in order of code.
    others: Vec<f64>,
    /// A hash table of these, 0 where a slot is free, and their codes.
    keys: Box<[u64; SLOTS]>,
    key_codes: Box<[u16; SLOTS]>,
    places: Vec<[u32; PARTS]>,
    /// The codes above [`USUAL`].
    rare: Vec<u16>,
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct {
            codes: Vec::new(),
            counts: Vec::new(),
            sorted: Vec::new(),
            others: Vec::new(),
            keys: Box::new([0; SLOTS]),
            key_codes: Box::new([0; SLOTS]),
            places: Vec::new(),
            rare: Vec::new(),
        }
    }
}

/// The code of a whole number above 0 and below [`DIRECT`]; [`NOT_DIRECT`] for every other value.
#[inline(always)]
fn direct(value: f64) -> u16 {
    // Adding 2^52 rounds to a whole number and leaves it in the low bits. Unlike a conversion,
    // processors do it with several values at once.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let rounded = value + WHOLE;
    let is_direct = (rounded - WHOLE == value) & (value > 0.0) & (value < DIRECT as f64);
    if is_direct { rounded.to_bits() as u16 } else { NOT_DIRECT }
}

impl Distinct {
    /// Finds the different values, which are finite and above 0; false if there are too many.
    pub(super) fn find(&mut self, values: &[f64]) -> bool {
        let found = self.code(values, values.len());
        if found {
            self.count_parts();
            self.sort();
        }
        found
    }

    /// The codes of values alone; false if there are too many different ones, any that is no expression,
    /// or more than `others` that are no small whole numbers.
    #[inline(always)]
    pub(super) fn code<T: Value>(&mut self, values: &[T], others: usize) -> bool {
        self.codes.clear();
        self.codes.extend(values.iter().map(|value| direct(value.as_f64())));
        self.others.clear();
        if others < values.len() && occurs(&self.codes, NOT_DIRECT) > others {
            return false;
        }
        let mut start = 0;
        while let Some(at) = position(&self.codes[start..], NOT_DIRECT) {
            let value = values[start + at].as_f64();
            let Some(code) =
                Some(value).filter(|&x| is_expressed(x) && x <= f64::MAX).and_then(|x| self.code_of_other(x))
            else {
                return false;
            };
            self.codes[start + at] = code;
            start += at + 1;
        }
        true
    }

    /// Puts other entries in the place of those that have codes, and finds their different values. They
    /// cannot be ranked.
    #[inline(always)]
    pub(super) fn replace(&mut self, codes: impl Iterator<Item = u16>) {
        self.codes.clear();
        self.codes.extend(codes);
        self.counts.clear();
        self.counts.resize(DIRECT + self.others.len(), [0; PARTS]);
        self.rare.resize(self.codes.len(), 0);
        let mut n = 0;
        for &code in &self.codes {
            self.rare[n] = code;
            // Without a branch, which would often be mispredicted.
            n += usize::from(code > USUAL);
        }
        let (codes, counts) = (&self.rare[..n], &mut self.counts);
        for_parts(n, |part, i| counts[usize::from(codes[i])][part] += 1);
        (0..=USUAL).for_each(|code| self.counts[usize::from(code)][0] = occurs(&self.codes, code) as u32);
        self.sort();
    }

    /// Counts the entries of each part that have a code.
    fn count_parts(&mut self) {
        self.counts.clear();
        self.counts.resize(DIRECT + self.others.len(), [0; PARTS]);
        let (codes, counts) = (&self.codes, &mut self.counts);
        for_parts(codes.len(), |part, i| counts[usize::from(codes[i])][part] += 1);
    }

    /// Sorts the codes that were counted.
    fn sort(&mut self) {
        self.sorted.clear();
        let used = |code: &u16| self.counts[usize::from(*code)] != [0; PARTS];
        self.sorted.extend((0..DIRECT as u16).filter(used).map(|code| (f64::from(code), code)));
        if !self.others.is_empty() {
            let others = self.others.iter().copied().zip(DIRECT as u16..);
            self.sorted.extend(others.filter(|(_, code)| used(code)));
            self.sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        }
    }

    /// The code of a value in the hash table; `None` if there is no room for it.
    fn code_of_other(&mut self, value: f64) -> Option<u16> {
        if self.others.is_empty() {
            self.keys.fill(0);
        }
        let key = value.to_bits();
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize;
        // At least half of the slots are free.
        while self.keys[slot % SLOTS] != key {
            if self.keys[slot % SLOTS] == 0 {
                if self.others.len() == LIMIT {
                    return None;
                }
                let code = (DIRECT + self.others.len()) as u16;
                (self.keys[slot % SLOTS], self.key_codes[slot % SLOTS]) = (key, code);
                self.others.push(value);
                break;
            }
            slot += 1;
        }
        Some(self.key_codes[slot % SLOTS])
    }

    fn count(&self, code: u16) -> u32 {
        self.counts[usize::from(code)].iter().sum()
    }

    /// By entry, a code below [`Distinct::code_end`].
    pub(super) fn codes(&self) -> &[u16] {
        &self.codes
    }

    pub(super) fn code_end(&self) -> usize {
        self.counts.len()
    }

    /// Value, code and count, smallest value first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (f64, u16, u32)> {
        self.sorted.iter().map(|&(value, code)| (value, code, self.count(code)))
    }

    /// The entries with the `k` largest values, largest first; of equals, the earlier one.
    pub(super) fn rank(&mut self, k: usize, picked: &mut Vec<u32>) {
        self.places.resize(self.counts.len(), [0; PARTS]);
        let mut next = 0;
        for &(_, code) in self.sorted.iter().rev() {
            let (places, counts) = (&mut self.places[usize::from(code)], &self.counts[usize::from(code)]);
            for (place, count) in places.iter_mut().zip(counts) {
                *place = next;
                next += count;
            }
        }
        picked.resize(self.codes.len(), 0);
        let (codes, places) = (&self.codes, &mut self.places);
        // All of them: whether an entry is among the first `k` is hard to predict.
        for_parts(codes.len(), |part, i| {
            let place = &mut places[usize::from(codes[i])][part];
            picked[*place as usize] = i as u32;
            *place += 1;
        });
        picked.truncate(k);
    }
}

/// Where a code is; many at once are compared with it.
fn position(codes: &[u16], code: u16) -> Option<usize> {
    const AT_ONCE: usize = 64;
    let chunk = codes.chunks(AT_ONCE).position(|c| c.iter().fold(false, |any, &c| any | (c == code)))?;
    let start = chunk * AT_ONCE;
    codes[start..].iter().position(|&c| c == code).map(|at| start + at)
}

/// How often a code occurs; many at once are compared with it.
#[inline(always)]
fn occurs(codes: &[u16], code: u16) -> usize {
    let of = |chunk: &[u16]| chunk.iter().fold(0, |n, &c| n + u16::from(c == code));
    codes.chunks(usize::from(u16::MAX)).map(|chunk| usize::from(of(chunk))).sum()
}

/// Calls `each(part, i)` for all of `0..n`, within a part in rising order.
#[inline(always)]
fn for_parts(n: usize, mut each: impl FnMut(usize, usize)) {
    let length = n.div_ceil(PARTS);
    for i in 0..length {
        for part in 0..PARTS {
            let at = part * length + i;
            if at < n {
                each(part, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few counts that repeat, others around where they stop being their own codes, and any others.
    fn value() -> impl Strategy<Value = f64> {
        let around = DIRECT as u32 - 3..DIRECT as u32 + 3;
        let huge = prop_oneof![Just(4_503_599_627_370_497.0), Just(f64::MAX), Just(f64::from(f32::MIN_POSITIVE))];
        prop_oneof![8 => (1_u8..9).prop_map(f64::from), 2 => around.prop_map(f64::from), 2 => 0.001_f64..1e9, 1 => huge]
    }

    proptest! {
        #[test]
        fn values_and_ranks_are_those_of_a_stable_sort(
            values in proptest::collection::vec(value(), 0..800),
            k in 0_usize..900,
        ) {
            let mut d = Distinct::default();
            assert!(d.find(&[2.0, 7.0, 2.0]));
            prop_assert!(d.find(&values));
            let sorted: Vec<(f64, u16, u32)> = d.iter().collect();
            prop_assert!(sorted.is_sorted_by(|a, b| a.0 < b.0));
            for (value, code, count) in sorted {
                prop_assert_eq!(count as usize, values.iter().filter(|&&v| v == value).count());
                prop_assert!(values.iter().zip(d.codes()).all(|(&v, &c)| (v == value) == (c == code)));
            }
            let mut picked = vec![9];
            d.rank(k, &mut picked);
            let mut all: Vec<u32> = (0..values.len() as u32).collect();
            all.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]));
            all.truncate(k);
            prop_assert_eq!(picked, all);
        }
    }

    #[test]
    fn too_many_values_are_refused() {
        let values: Vec<f64> = (1..=LIMIT as u32 + 1).map(|i| f64::from(i) + 0.5).collect();
        let mut d = Distinct::default();
        assert!(d.find(&values[..LIMIT]));
        assert!(!d.find(&values));
        assert!(d.find(&values[1..]));
    }
}
