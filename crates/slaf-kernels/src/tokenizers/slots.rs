//! Sorting a cell's nonzeros by their keys through a set of bits.
//!
//! A key, computed roughly, has one of many slots, rising as keys fall. The slots of a cell are marked
//! in a set of bits, and how many bits come before a slot is its place in the order: no entry is moved
//! twice. The few entries that find their slot taken are kept apart, and compared.

/// Slots of an octave of keys, as a power of two: of 2,000 genes, some 40 share a slot.
const FINE: u32 = 14;
/// Octaves that have slots of their own, as a power of two; keys beyond share the outermost slots.
const OCTAVES: u32 = 3;
const SLOTS: u32 = 1 << (FINE + OCTAVES);
/// Behind all others, slots for what is left out: many, since one alone would wait for itself.
const LEFT_OUT: u32 = 1 << 12;
const WORDS: usize = ((SLOTS + LEFT_OUT) / u64::BITS) as usize;

/// Bits of a rough key below those that tell slots apart.
const BELOW: u32 = f64::MANTISSA_DIGITS - 1 - FINE;

/// Units in the last place. Rough keys so near to the end of a slot may be on the wrong side: rough and
/// exact keys are at most 5 roundings apart, which is 10 units for two keys.
const SLACK: u64 = 16;

/// How many nonzeros fit: their numbers have 16 bits.
const MOST: usize = u16::MAX as usize;

/// The largest of the keys that have slots of their own, and where slots end below it.
#[derive(Clone, Copy)]
pub(super) struct Top(u64);

impl Top {
    /// For keys around this one.
    pub(super) fn around(key: f64) -> Top {
        // Counts raise keys, so that most of the octaves are above. Slots end at no number that is
        // likely to be a key.
        const END: u64 = 0x9_e377_9b97;
        Top((key * 48.0).to_bits() >> BELOW << BELOW | END)
    }

    /// The slot of a rough key, and a number below `1 << BELOW` if it surely is.
    #[inline(always)]
    fn slot(self, key: f64) -> (u32, u64) {
        let down = self.0.wrapping_sub(key.to_bits());
        let unsure = down.wrapping_add(SLACK) ^ down.wrapping_sub(SLACK);
        // Halves of the number, since the processor compares several of these at once.
        let high = ((down >> 32) as i32).max(0) as u32;
        ((high >> (BELOW - 32)).min(SLOTS - 1), unsure)
    }

    /// The slot of a rough key.
    pub(super) fn slot_of(self, key: f64) -> u32 {
        self.slot(key).0
    }
}

/// The memory of a sort, used again for each cell.
#[derive(Default)]
pub(super) struct Slots {
    present: Vec<u64>,
    /// By word, the bits before it.
    before: Vec<u16>,
    slots: Vec<u32>,
    /// The first nonzero of each slot, largest key first.
    sorted: Vec<u16>,
    /// The other ones: the place of the slot above the nonzero. Rising.
    shared: Vec<u32>,
    group: Vec<u16>,
    /// Slots with nonzeros, and nonzeros that share one.
    n_slots: usize,
    n_shared: usize,
}

impl Slots {
    /// Sorts the numbers of `n` nonzeros by rough keys, which are above 0; those with a key below 0 are
    /// left out. False if this is not the way: too many keys share a slot, or cannot be told apart.
    ///
    /// A rough key is the product of a number and an exactly rounded reciprocal; `key` gives that of a
    /// nonzero.
    #[inline(always)]
    pub(super) fn sort(&mut self, top: Top, n: usize, key: impl Fn(usize) -> f64) -> bool {
        if n > MOST {
            return false;
        }
        self.grow(n);
        let mut unsure = 0;
        // Numbers in place of an iterator of keys, which the compiler would make no vectors of.
        for (i, slot) in self.slots[..n].iter_mut().enumerate() {
            let key = key(i);
            let (own, bits) = top.slot(key);
            unsure |= bits;
            // Without a branch, which would be mispredicted for every gene that the vocabulary lacks.
            let is_left_out = (((key.to_bits() >> 32) as i32) >> 31) as u32;
            *slot = own & !is_left_out | (SLOTS + i as u32 % LEFT_OUT) & is_left_out;
        }
        if unsure >> BELOW != 0 {
            return false;
        }
        let n_taken = self.mark(n);
        // What shares a slot is compared, which takes as long as sorting four others.
        let is_sparse = n_taken <= n / 4 + 64;
        if is_sparse {
            self.place(n, n_taken);
        }
        self.present.fill(0);
        is_sparse
    }

    fn grow(&mut self, n: usize) {
        self.present.resize(WORDS, 0);
        self.before.resize(WORDS, 0);
        if self.slots.len() < n {
            self.slots.resize(n, 0);
            self.sorted.resize(n, 0);
            self.shared.resize(n, 0);
        }
    }

    /// Marks the slots; returns how many nonzeros found theirs taken, whose numbers are then in `shared`.
    #[inline(always)]
    fn mark(&mut self, n: usize) -> usize {
        let (slots, present, taken) = (&self.slots[..n], self.present.as_mut_slice(), self.shared.as_mut_slice());
        let mut n_taken = 0;
        for (start, slots) in (0..).step_by(64).zip(slots.chunks(64)) {
            // Which of these found theirs taken: as bits, since to write down one's number, at a place that
            // depends on those before it, holds up all marks after it.
            let mut found = 0_u64;
            for (i, &slot) in slots.iter().enumerate() {
                // SAFETY: all slots have a word.
                let word = unsafe { present.get_unchecked_mut(slot as usize / 64) };
                found |= (*word >> (slot % 64) & 1) << i;
                *word |= 1 << (slot % 64);
            }
            while found != 0 {
                taken[n_taken] = start + found.trailing_zeros();
                n_taken += 1;
                found &= found - 1;
            }
        }
        n_taken
    }

    /// Puts the nonzeros into the places of their slots.
    #[inline(always)]
    fn place(&mut self, n: usize, n_taken: usize) {
        let mut before = 0;
        for (word, place) in self.present.iter().zip(&mut self.before) {
            *place = before;
            before += word.count_ones() as u16;
        }
        self.n_slots = usize::from(self.before[(SLOTS / u64::BITS) as usize]);
        let (present, before) = (self.present.as_slice(), self.before.as_slice());
        let place = |slot: u32| {
            let at = slot as usize / 64;
            // SAFETY: all slots have a word.
            let (word, before) = unsafe { (present.get_unchecked(at), before.get_unchecked(at)) };
            u32::from(*before) + (word & ((1 << (slot % 64)) - 1)).count_ones()
        };
        let sorted = &mut self.sorted[..n];
        // Backwards, so that the first nonzero of a slot stays.
        for (i, &slot) in (0..n).zip(&self.slots[..n]).rev() {
            // SAFETY: the bits before this slot are those of other nonzeros, which are fewer than `n`.
            unsafe { *sorted.get_unchecked_mut(place(slot) as usize) = i as u16 };
        }
        self.n_shared = 0;
        for j in 0..n_taken {
            let i = self.shared[j];
            let slot = self.slots[i as usize];
            self.shared[self.n_shared] = place(slot) << 16 | i;
            self.n_shared += usize::from(slot < SLOTS);
        }
        self.shared[..self.n_shared].sort_unstable();
    }

    /// How many nonzeros were not left out.
    pub(super) fn n(&self) -> usize {
        self.n_slots + self.n_shared
    }

    /// Calls `each` with the nonzeros in order, run by run, up to `most` of them; returns how many
    /// these are. `order` compares the exact keys of two nonzeros.
    pub(super) fn write(
        &mut self,
        most: usize,
        mut order: impl FnMut(u16, u16) -> std::cmp::Ordering,
        mut each: impl FnMut(&[u16]),
    ) -> usize {
        let n = self.n().min(most);
        let mut left = n;
        let mut copy = |run: &[u16]| {
            let fits = run.len().min(left);
            left -= fits;
            each(&run[..fits]);
        };
        let mut start = 0;
        for group in self.shared[..self.n_shared].chunk_by(|a, b| a >> 16 == b >> 16) {
            let place = (group[0] >> 16) as usize;
            if place >= n {
                break;
            }
            copy(&self.sorted[start..place]);
            self.group.clear();
            self.group.push(self.sorted[place]);
            self.group.extend(group.iter().map(|&entry| entry as u16));
            self.group.sort_unstable_by(|&a, &b| order(a, b));
            copy(&self.group);
            start = place + 1;
        }
        copy(&self.sorted[start..self.n_slots.max(start)]);
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A value and the scale of its gene; without one, the gene is left out.
    type Entry = (f64, Option<f64>);

    fn exact(entry: Entry) -> Option<f64> {
        entry.1.map(|scale| entry.0 / 7_013.0 * 10_000.0 / scale)
    }

    /// The numbers of the `k` largest, if this is the way for these entries.
    fn sorted(slots: &mut Slots, entries: &[Entry], top: f64, k: usize) -> Option<Vec<u16>> {
        let rough = |i: usize| entries[i].0 * entries[i].1.map_or(-1.0, |scale| 1.0 / scale);
        slots.sort(Top::around(top), entries.len(), rough).then(|| {
            assert_eq!(slots.n(), entries.iter().filter(|e| e.1.is_some()).count());
            let key = |i: u16| exact(entries[usize::from(i)]).unwrap();
            let mut out = Vec::new();
            let order = |a, b| key(b).total_cmp(&key(a)).then(a.cmp(&b));
            let n = slots.write(k, order, |run| out.extend_from_slice(run));
            assert_eq!(n, out.len());
            out
        })
    }

    /// The definition: a stable sort.
    fn oracle(entries: &[Entry], k: usize) -> Vec<u16> {
        let known = (0..).zip(entries).filter_map(|(i, &entry)| Some((exact(entry)?, i)));
        let mut all: Vec<(f64, u16)> = known.collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().take(k).map(|e| e.1).collect()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![8 => (1_u8..5).prop_map(f64::from), 2 => 0.01_f64..900.0, 1 => Just(3e9), 1 => Just(1e-30)]
    }

    /// Equal ones, those that differ in the last bits, and any others.
    fn scale() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![
            1 => Just(None),
            2 => (1_u8..7).prop_map(|n| Some(f64::from(n))),
            1 => (0_u64..4).prop_map(|n| Some(f64::from_bits(2.5_f64.to_bits() + n))),
            8 => (0.1_f64..40.0).prop_map(Some),
            1 => prop_oneof![Just(1e-30), Just(1e30)].prop_map(Some),
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort(
            cells in proptest::collection::vec(proptest::collection::vec((value(), scale()), 0..400), 1..3),
            top in prop_oneof![0.01_f64..9.0, Just(1e300), Just(1e-300)],
            k in 0_usize..500,
        ) {
            let mut slots = Slots::default();
            // One after the other: nothing of a cell may stay behind.
            for entries in &cells {
                if let Some(found) = sorted(&mut slots, entries, top, k) {
                    prop_assert_eq!(found, oracle(entries, k));
                }
            }
        }
    }

    /// Keys around the ends of slots, in steps of a unit in the last place: never in a wrong order.
    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let end = Top::around(1.0).0;
        let mut refused = 0;
        for unit in 0..64 {
            // Scales whose reciprocals, times 1, lie about an end.
            let near = |n: u64| (1.0, Some(1.0 / f64::from_bits(end - (5 << BELOW) - 32 + n)));
            let entries = [near(unit), near(unit + 1), near(unit + 2), (2.0, Some(0.3)), near(unit)];
            match sorted(&mut Slots::default(), &entries, 1.0, 9) {
                Some(found) => assert_eq!(found, oracle(&entries, 9)),
                None => refused += 1,
            }
        }
        assert!((16..60).contains(&refused), "{refused}");
    }

    /// As many genes as a cell has, with scales like the published ones.
    #[test]
    fn usual_cells_are_sorted_so() {
        let unit = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64;
        for cell in 0..20 {
            let scale = |i: u64| (1.1 + 1.6 * (unit(i) + unit(i + 7) - 1.0)).exp();
            let entry = |i: u64| ((1.0 / (1.0 - unit(i * 3 + 1))).floor(), (!i.is_multiple_of(6)).then(|| scale(i)));
            let entries: Vec<Entry> = (cell * 3_000..(cell + 1) * 3_000).map(entry).collect();
            for k in [100, 2_048, 9_000] {
                assert_eq!(sorted(&mut Slots::default(), &entries, 0.33, k), Some(oracle(&entries, k)));
            }
        }
    }

    #[test]
    fn equal_keys_and_long_rows_are_no_case_for_it() {
        let equal = vec![(1.0, Some(2.0)); 1_000];
        assert_eq!(sorted(&mut Slots::default(), &equal, 0.5, 9), None);
        assert_eq!(sorted(&mut Slots::default(), &equal[..60], 0.5, 9), Some((0..9).collect()));
        assert_eq!(sorted(&mut Slots::default(), &vec![(1.0, None); MOST + 1], 0.5, 9), None);
        assert_eq!(sorted(&mut Slots::default(), &[], 0.5, 9), Some(Vec::new()));
    }
}
