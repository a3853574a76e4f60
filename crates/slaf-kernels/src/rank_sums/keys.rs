//! Values as keys whose order is theirs, with the group of the cell beside them, sorted.

use slaf_core::{Dtype, Value};

/// Fewer items than this are sorted by comparisons: a radix sort has to clear its counts first.
const FEW: usize = 384;
/// Bits of a digit of the radix sort; three make the key of a float32.
const BITS: u32 = 11;
const DIGITS: [u32; 3] = [32, 32 + BITS, 32 + 2 * BITS];
const SIZE: usize = 1 << BITS;

/// A value other than zero and NaN, and its group.
pub(super) trait Item: Copy {
    /// The bits of the key.
    fn key(self) -> u64;
    /// The group.
    fn group(self) -> u32;
}

/// A float32: its key above its group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Narrow(u64);

/// A value of any other type.
#[derive(Clone, Copy)]
pub(super) struct Wide {
    key: u64,
    group: u32,
}

impl Narrow {
    pub(super) fn new(value: f32, group: u32) -> Narrow {
        let bits = value.to_bits();
        let key = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Narrow(u64::from(key) << 32 | u64::from(group))
    }

    fn digit(self, shift: u32) -> usize {
        (self.0 >> shift) as usize & (SIZE - 1)
    }
}

impl Item for Narrow {
    fn key(self) -> u64 {
        self.0 >> 32
    }

    fn group(self) -> u32 {
        self.0 as u32
    }
}

impl Wide {
    pub(super) fn new<T: Value>(value: T, group: u32) -> Wide {
        const SIGN: u64 = 1 << 63;
        let key = match T::DTYPE {
            Dtype::U64 => value.to_bits64(),
            Dtype::F32 | Dtype::F64 => {
                let bits = value.as_f64().to_bits();
                if bits & SIGN == 0 { bits | SIGN } else { !bits }
            }
            _ => value.to_bits64() ^ SIGN,
        };
        Wide { key, group }
    }
}

impl Item for Wide {
    fn key(self) -> u64 {
        self.key
    }

    fn group(self) -> u32 {
        self.group
    }
}

/// Sorts by the key; `spare` is working memory.
pub(super) fn sort_narrow(items: &mut Vec<Narrow>, spare: &mut Vec<Narrow>) {
    if items.len() < FEW {
        items.sort_unstable();
        return;
    }
    let mut counts = [[0u32; SIZE]; DIGITS.len()];
    for item in items.iter() {
        for (counts, shift) in counts.iter_mut().zip(DIGITS) {
            counts[item.digit(shift)] += 1;
        }
    }
    spare.resize(items.len(), Narrow(0));
    for (counts, shift) in counts.iter_mut().zip(DIGITS) {
        // Expression spans few powers of two: the last digit is often the same for all.
        if counts[items[0].digit(shift)] as usize == items.len() {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &item in items.iter() {
            let place = &mut counts[item.digit(shift)];
            spare[*place as usize] = item;
            *place += 1;
        }
        std::mem::swap(items, spare);
    }
}

/// Sorts by the key.
pub(super) fn sort_wide(items: &mut [Wide]) {
    items.sort_unstable_by_key(|item| item.key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_sorted(items: &[impl Item]) -> bool {
        items.is_sorted_by_key(|item| item.key())
    }

    proptest! {
        #[test]
        fn floats_are_sorted_as_they_compare(
            values in proptest::collection::vec(prop_oneof![any::<f32>(), (0u8..9).prop_map(f32::from)], 0..1200)
        ) {
            let values: Vec<f32> = values.into_iter().filter(|v| *v != 0.0 && !v.is_nan()).collect();
            let mut items: Vec<Narrow> = values.iter().zip(0..).map(|(&v, i)| Narrow::new(v, i)).collect();
            sort_narrow(&mut items, &mut Vec::new());
            prop_assert!(is_sorted(&items));
            let sorted: Vec<f32> = items.iter().map(|item| values[item.group() as usize]).collect();
            prop_assert!(sorted.is_sorted());
            let mut groups: Vec<u32> = items.iter().map(|item| item.group()).collect();
            groups.sort_unstable();
            prop_assert!(groups.into_iter().eq(0..values.len() as u32));
            let mut wide: Vec<Wide> = values.iter().zip(0..).map(|(&v, i)| Wide::new(f64::from(v), i)).collect();
            sort_wide(&mut wide);
            prop_assert!(is_sorted(&wide));
            prop_assert!(wide.iter().map(|item| values[item.group() as usize]).eq(sorted));
        }

        #[test]
        fn integers_are_sorted_exactly(values in proptest::collection::vec(any::<i64>(), 0..50)) {
            let near = values.iter().flat_map(|&v| [v, v.saturating_add(1)]);
            let values: Vec<i64> = near.collect();
            let mut items: Vec<Wide> = values.iter().zip(0..).map(|(&v, i)| Wide::new(v, i)).collect();
            sort_wide(&mut items);
            prop_assert!(items.iter().map(|item| values[item.group() as usize]).is_sorted());
            let mut items: Vec<Wide> = values.iter().zip(0..).map(|(&v, i)| Wide::new(v as u64, i)).collect();
            sort_wide(&mut items);
            prop_assert!(items.iter().map(|item| values[item.group() as usize] as u64).is_sorted());
        }
    }
}
