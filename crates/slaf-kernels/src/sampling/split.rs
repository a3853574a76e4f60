//! Stable splits into training, validation and test data.

use super::order::Purpose;
use crate::random::Stream;

/// Where a cell, or a group of cells, lies in 0..1: a split takes the keys of a part of this
/// interval. It depends on nothing but the key, so that appended cells change no other's split.
pub fn split_point(key: u64, seed: u64) -> f64 {
    Stream::keyed(seed, &[Purpose::Split as u64, key]).unit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_evenly() {
        let mut tenths = [0_u32; 10];
        (0..100_000).for_each(|key| tenths[(split_point(key, 3) * 10.0) as usize] += 1);
        assert!(tenths.iter().all(|n| (9_400..10_600).contains(n)), "{tenths:?}");
    }
}
