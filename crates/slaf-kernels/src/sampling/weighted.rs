//! Cells drawn by weight.

use super::order::Purpose;
use crate::random::Stream;
use slaf_core::{Error, Result};

/// Checks weights: finite, not negative, and not all 0. Returns their sum.
pub(super) fn check(weights: &[f64]) -> Result<f64> {
    if let Some(i) = weights.iter().position(|w| !(0.0..=f64::MAX).contains(w)) {
        return Err(Error::invalid(format!("weight {i} is {}: weights are finite and not negative", weights[i])));
    }
    let sum: f64 = weights.iter().sum();
    if !(sum.is_finite() && sum > 0.0) {
        return Err(Error::invalid(format!("the weights sum to {sum}: at least one must be above 0")));
    }
    Ok(sum)
}

/// Draws with replacement in constant time: the alias method (Walker 1977, Vose 1991).
#[derive(Clone, Debug)]
pub(super) struct Alias {
    /// For each column, the probability to stay and the index to take otherwise.
    columns: Vec<(f32, u32)>,
}

impl Alias {
    pub(super) fn new(weights: &[f64]) -> Result<Alias> {
        let n = weights.len();
        if u32::try_from(n).is_err() {
            return Err(Error::invalid(format!("weighted sampling takes up to 2^32 cells, not {n}")));
        }
        let scale = n as f64 / check(weights)?;
        let mut left: Vec<f64> = weights.iter().map(|w| w * scale).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..n as u32).partition(|&i| left[i as usize] < 1.0);
        let mut columns = vec![(1.0_f32, 0_u32); n];
        while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
            small.pop();
            columns[s as usize] = (left[s as usize] as f32, l);
            left[l as usize] -= 1.0 - left[s as usize];
            if left[l as usize] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        // What rounding leaves over stays: but nothing of weight 0 may.
        let heaviest = (0..n).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap_or(0) as u32;
        for i in small.into_iter().chain(large) {
            columns[i as usize] = if weights[i as usize] > 0.0 { (1.0, i) } else { (0.0, heaviest) };
        }
        Ok(Alias { columns })
    }

    /// The index that draw `i` of a stream gives.
    pub(super) fn draw(&self, stream: Stream, i: u64) -> u64 {
        let column = stream.below(2 * i, self.columns.len());
        let (stay, other) = self.columns[column];
        if stream.unit(2 * i + 1) < f64::from(stay) { column as u64 } else { u64::from(other) }
    }
}

/// The first `k` of a weighted sample without replacement, in random order (Efraimidis and
/// Spirakis 2006): indices by falling `u^(1/w)`; weights of 0 never come.
pub(super) fn once(weights: &[f64], k: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let stream = Stream::keyed(seed, &[epoch, Purpose::Draw as u64]);
    let mut keys: Vec<(f64, u32)> = weights
        .iter()
        .zip(0..)
        .filter(|(w, _)| **w > 0.0)
        // `unit` is below 1, so that the logarithm of what is left is finite and a draw of 0 is 0.
        .map(|(w, i)| (-(-stream.unit(u64::from(i))).ln_1p() / w, i))
        .collect();
    keys.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keys.truncate(k);
    keys.into_iter().map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn draws_follow_the_weights() {
        let weights = [1.0, 0.0, 2.0, 5.0, 0.5, 1.5];
        let alias = Alias::new(&weights).unwrap();
        let stream = Stream::keyed(1, &[]);
        let mut counts = [0_u32; 6];
        (0..100_000).for_each(|i| counts[alias.draw(stream, i) as usize] += 1);
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = weight * 10_000.0;
            assert!((f64::from(count) - expected).abs() < 6.0 * (expected + 1.0).sqrt(), "{count} for {weight}");
        }
        assert_eq!(counts[1], 0);
    }

    #[test]
    fn the_first_of_a_sample_without_replacement_follows_the_weights() {
        let weights = [1.0, 3.0, 0.0, 6.0];
        let mut counts = [0_u32; 4];
        for epoch in 0..20_000 {
            let sample = once(&weights, 4, 5, epoch);
            let mut sorted = sample.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 3]);
            counts[sample[0] as usize] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = weight * 2000.0;
            assert!((f64::from(count) - expected).abs() < 6.0 * (expected + 1.0).sqrt(), "{count} for {weight}");
        }
    }

    #[test]
    fn wrong_weights_are_refused() {
        for weights in [&[1.0, -1.0][..], &[f64::NAN], &[0.0, 0.0], &[]] {
            assert!(Alias::new(weights).is_err(), "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_weight_0_is_drawn(weights in proptest::collection::vec(prop_oneof![Just(0.0), 0.0_f64..3.0], 1..40)) {
            prop_assume!(weights.iter().any(|w| *w > 0.0));
            let alias = Alias::new(&weights).unwrap();
            let stream = Stream::keyed(2, &[]);
            prop_assert!((0..500).all(|i| weights[alias.draw(stream, i) as usize] > 0.0));
        }
    }
}
