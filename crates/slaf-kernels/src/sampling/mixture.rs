//! Samplers mixed by proportion.

use super::order::Purpose;
use super::permutation::Permutation;
use super::sampler::{Epoch, Sampler};
use super::weighted::check;
use crate::random::Stream;
use slaf_core::{Error, Result};

/// Positions in which each part has its share exactly, to one position.
const PERIOD: u64 = 4096;

/// Passes through one part in an epoch, each of which is held.
const MOST_PASSES: u64 = 1 << 20;

/// One sampler of a mixture.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where its cells come from.
    pub sampler: Sampler,
    /// Its share of the positions, relative to the others'.
    pub proportion: f64,
}

/// How many positions of each period the parts have: the largest remainders get what rounding
/// leaves over (Hamilton's method).
pub(super) fn quotas(parts: &[Part]) -> Result<Vec<u64>> {
    let proportions: Vec<f64> = parts.iter().map(|p| p.proportion).collect();
    let sum = check(&proportions)?;
    let exact: Vec<f64> = proportions.iter().map(|p| p / sum * PERIOD as f64).collect();
    let mut quotas: Vec<u64> = exact.iter().map(|e| *e as u64).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = PERIOD - quotas.iter().sum::<u64>();
    by_remainder.into_iter().take(missing as usize).for_each(|i| quotas[i] += 1);
    for (i, part) in parts.iter().enumerate() {
        if part.proportion > 0.0 && quotas[i] == 0 {
            return Err(Error::invalid(format!(
                "a proportion of {} is less than 1 in {PERIOD}",
                part.proportion / sum
            )));
        }
        if quotas[i] > 0 && part.sampler.is_empty() {
            return Err(Error::invalid(format!("part {i} of the mixture has no cells")));
        }
    }
    Ok(quotas)
}

/// One epoch of a mixture.
#[derive(Clone, Debug)]
pub(super) struct MixtureEpoch {
    /// The passes over each part that the epoch needs: a part that is used up begins anew.
    parts: Vec<Vec<Epoch>>,
    quotas: Vec<u64>,
    seed: u64,
    epoch: u64,
}

impl MixtureEpoch {
    pub(super) fn new(parts: &[Part], quotas: &[u64], n: u64, seed: u64, epoch: u64) -> Result<MixtureEpoch> {
        let periods = n.div_ceil(PERIOD);
        let passes = |(part, &quota): (&Part, &u64)| {
            let cells = part.sampler.len().max(1);
            let passes = periods.saturating_mul(quota).div_ceil(cells);
            if passes > MOST_PASSES {
                return Err(Error::invalid(format!(
                    "{n} cells of a mixture go {passes} times through a store of {cells}"
                )));
            }
            // Passes are numbered on from epoch to epoch, so that none repeats another.
            (0..passes).map(|pass| part.sampler.epoch(epoch.wrapping_mul(passes).wrapping_add(pass))).collect()
        };
        let parts = parts.iter().zip(quotas).map(passes).collect::<Result<Vec<_>>>()?;
        Ok(MixtureEpoch { parts, quotas: quotas.to_vec(), seed, epoch })
    }

    pub(super) fn get(&self, position: u64) -> u64 {
        let (period, slot) = (position / PERIOD, position % PERIOD);
        let stream = Stream::keyed(self.seed, &[self.epoch, Purpose::Parts as u64, period]);
        let mut slot = Permutation::new(PERIOD, stream).get(slot);
        let mut part = 0;
        while slot >= self.quotas[part] {
            slot -= self.quotas[part];
            part += 1;
        }
        let place = period * self.quotas[part] + slot;
        let passes = &self.parts[part];
        let n = passes[0].len();
        passes[(place / n) as usize].get(place % n)
    }
}
