//! The different values of a cell.
//!
//! Counts, and what is computed from counts cell by cell, have few different values in a cell.
//! Finding them is faster than sorting all values, and bins and ranks follow from them.

/// Different values up to which it is worth it.
const LIMIT: usize = 1 << (SLOT_BITS - 1);
const SLOT_BITS: u32 = 11;
const SLOTS: usize = 1 << SLOT_BITS;

/// The different values of a cell, and which of them each entry has. Used again for each cell.
pub(super) struct Distinct {
    /// By entry, the number of its value, in order of first appearance.
    codes: Vec<u16>,
    /// By code, the entries at even and at odd places: an addition waits for the last one to the
    /// same counter, and most entries have the same value.
    counts: Vec<[u32; 2]>,
    /// Values and their codes, smallest first.
    sorted: Vec<(f64, u16)>,
    /// A hash table of values, 0 where a slot is free, and their codes.
    keys: Box<[u64; SLOTS]>,
    key_codes: Box<[u16; SLOTS]>,
    places: Vec<u32>,
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct {
            codes: Vec::new(),
            counts: Vec::new(),
            sorted: Vec::new(),
            keys: Box::new([0; SLOTS]),
            key_codes: Box::new([0; SLOTS]),
            places: Vec::new(),
        }
    }
}

impl Distinct {
    /// Finds the different values, which are finite and above 0; false if there are too many.
    pub(super) fn find(&mut self, values: &[f64]) -> bool {
        self.keys.fill(0);
        self.codes.resize(values.len(), 0);
        self.counts.clear();
        self.sorted.clear();
        for (i, (&value, entry)) in values.iter().zip(&mut self.codes).enumerate() {
            let key = value.to_bits();
            let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize;
            // At least half of the slots are free.
            while self.keys[slot % SLOTS] != key {
                if self.keys[slot % SLOTS] == 0 {
                    if self.sorted.len() == LIMIT {
                        return false;
                    }
                    let code = self.sorted.len() as u16;
                    (self.keys[slot % SLOTS], self.key_codes[slot % SLOTS]) = (key, code);
                    self.sorted.push((value, code));
                    self.counts.push([0; 2]);
                    break;
                }
                slot += 1;
            }
            let code = self.key_codes[slot % SLOTS];
            *entry = code;
            self.counts[usize::from(code)][i % 2] += 1;
        }
        self.sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        true
    }

    fn count(&self, code: u16) -> u32 {
        self.counts[usize::from(code)].iter().sum()
    }

    /// By entry, a code below [`Distinct::len`].
    pub(super) fn codes(&self) -> &[u16] {
        &self.codes
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Value, code and count, smallest value first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (f64, u16, u32)> {
        self.sorted.iter().map(|&(value, code)| (value, code, self.count(code)))
    }

    /// The entries with the `k` largest values, largest first; of equals, the earlier one.
    pub(super) fn rank(&mut self, k: usize, picked: &mut Vec<u32>) {
        self.places.clear();
        self.places.resize(self.len(), 0);
        let mut next = 0;
        for &(_, code) in self.sorted.iter().rev() {
            self.places[usize::from(code)] = next;
            next += self.count(code);
        }
        picked.clear();
        picked.resize(k.min(self.codes.len()), 0);
        for (i, &code) in (0..).zip(&self.codes) {
            let place = &mut self.places[usize::from(code)];
            if let Some(at) = picked.get_mut(*place as usize) {
                *at = i;
            }
            *place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_and_ranks_are_those_of_a_stable_sort(
            values in proptest::collection::vec(prop_oneof![(1_u8..9).prop_map(f64::from), 0.001_f64..1e9], 0..800),
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
        let values: Vec<f64> = (1..=LIMIT as u32 + 1).map(f64::from).collect();
        let mut d = Distinct::default();
        assert!(d.find(&values[..LIMIT]));
        assert!(!d.find(&values));
        assert!(d.find(&values[1..]));
    }
}
