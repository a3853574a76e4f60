//! Samplers, and the cells of their epochs.

use super::mixture::{MixtureEpoch, Part, quotas};
use super::order::{Order, Purpose, Shuffle};
use super::pool::Pool;
use super::sets::Sets;
use super::weighted::{Alias, check, once};
use crate::random::Stream;
use slaf_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Which cells come in an epoch, and in which order.
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cover { pool: Pool, shuffle: Shuffle },
    Draws { pool: Pool, alias: Arc<Alias>, n: u64 },
    Once { pool: Pool, weights: Arc<[f64]>, n: u64 },
    Mixture { parts: Vec<Part>, quotas: Vec<u64>, n: u64 },
    Sets(Arc<Sets>),
}

impl Sampler {
    /// Each cell of the pool once in an epoch.
    pub fn cover(pool: Pool, shuffle: Shuffle, seed: u64) -> Sampler {
        Sampler { seed, kind: Kind::Cover { pool, shuffle } }
    }

    /// `n` draws by weight, in which a cell may come more than once; weights lie beside the cells
    /// of the pool.
    ///
    /// # Errors
    /// `invalid-argument` for weights that are negative, not finite, all 0, or not as many as
    /// there are cells.
    pub fn with_replacement(pool: Pool, weights: &[f64], n: u64, seed: u64) -> Result<Sampler> {
        same_length(&pool, weights)?;
        Ok(Sampler { seed, kind: Kind::Draws { pool, alias: Arc::new(Alias::new(weights)?), n } })
    }

    /// `n` different cells by weight. [`Sampler::epoch`] sorts the pool: 16 bytes a cell while it
    /// does, 4 afterwards.
    ///
    /// # Errors
    /// As [`Sampler::with_replacement`]; and if fewer than `n` weights are above 0.
    pub fn without_replacement(pool: Pool, weights: Vec<f64>, n: u64, seed: u64) -> Result<Sampler> {
        same_length(&pool, &weights)?;
        check(&weights)?;
        let possible = weights.iter().filter(|w| **w > 0.0).count() as u64;
        if n > possible {
            return Err(Error::invalid(format!("{n} cells without replacement, but {possible} have a weight above 0")));
        }
        if u32::try_from(weights.len()).is_err() {
            return Err(Error::invalid(format!("weighted sampling takes up to 2^32 cells, not {}", weights.len())));
        }
        Ok(Sampler { seed, kind: Kind::Once { pool, weights: weights.into(), n } })
    }

    /// `n` cells of several samplers by proportion. Each part goes through its own epochs, one
    /// after the other, however many of them one epoch of the mixture needs.
    ///
    /// # Errors
    /// `invalid-argument` for proportions that are negative, all 0, or below 1 in 4096, and for
    /// parts without cells.
    pub fn mixture(parts: Vec<Part>, n: u64, seed: u64) -> Result<Sampler> {
        let quotas = quotas(&parts)?;
        Ok(Sampler { seed, kind: Kind::Mixture { parts, quotas, n } })
    }

    /// Sets of cells with matched controls, in random order.
    pub fn sets(sets: Sets, seed: u64) -> Sampler {
        Sampler { seed, kind: Kind::Sets(Arc::new(sets)) }
    }

    /// Positions of an epoch.
    pub fn len(&self) -> u64 {
        match &self.kind {
            Kind::Cover { pool, .. } => pool.len(),
            Kind::Draws { n, .. } | Kind::Once { n, .. } | Kind::Mixture { n, .. } => *n,
            Kind::Sets(sets) => sets.len(),
        }
    }

    /// Whether an epoch has no positions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions that belong together: the rows of a set.
    pub fn granule(&self) -> u64 {
        match &self.kind {
            Kind::Sets(sets) => sets.rows(),
            _ => 1,
        }
    }

    /// The order of one epoch.
    ///
    /// # Errors
    /// Those of the parts of a mixture.
    pub fn epoch(&self, epoch: u64) -> Result<Epoch> {
        let seed = self.seed;
        let kind = match &self.kind {
            Kind::Cover { pool, shuffle } => {
                EpochKind::Cover { pool: pool.clone(), order: Order::new(pool.len(), *shuffle, seed, epoch) }
            }
            Kind::Draws { pool, alias, .. } => {
                let stream = Stream::keyed(seed, &[epoch, Purpose::Draw as u64]);
                EpochKind::Draws { pool: pool.clone(), alias: alias.clone(), stream }
            }
            Kind::Once { pool, weights, n } => {
                EpochKind::Once { pool: pool.clone(), indices: once(weights, *n as usize, seed, epoch).into() }
            }
            Kind::Mixture { parts, quotas, n } => {
                EpochKind::Mixture(Box::new(MixtureEpoch::new(parts, quotas, *n, seed, epoch)?))
            }
            Kind::Sets(sets) => EpochKind::Sets { sets: sets.clone(), seed, epoch },
        };
        Ok(Epoch { n: self.len(), kind })
    }
}

fn same_length(pool: &Pool, weights: &[f64]) -> Result<()> {
    if pool.len() == weights.len() as u64 {
        return Ok(());
    }
    Err(Error::invalid(format!("{} weights for {} cells", weights.len(), pool.len())))
}

/// The order of one epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    n: u64,
    kind: EpochKind,
}

#[derive(Clone, Debug)]
enum EpochKind {
    Cover { pool: Pool, order: Order },
    Draws { pool: Pool, alias: Arc<Alias>, stream: Stream },
    Once { pool: Pool, indices: Arc<[u32]> },
    Mixture(Box<MixtureEpoch>),
    Sets { sets: Arc<Sets>, seed: u64, epoch: u64 },
}

impl Epoch {
    /// How many positions there are.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The cell at a position below the length.
    pub(super) fn get(&self, position: u64) -> u64 {
        match &self.kind {
            EpochKind::Cover { pool, order } => pool.get(order.get(position)),
            EpochKind::Draws { pool, alias, stream } => pool.get(alias.draw(*stream, position)),
            EpochKind::Once { pool, indices } => pool.get(u64::from(indices[position as usize])),
            EpochKind::Mixture(mixture) => mixture.get(position),
            EpochKind::Sets { sets, seed, epoch } => sets.get(position, *seed, *epoch),
        }
    }

    /// Appends the cells at positions; those beyond the length go on from the beginning.
    pub fn cells(&self, positions: Range<u64>, out: &mut Vec<u64>) {
        if self.n > 0 {
            out.extend(positions.map(|p| self.get(p % self.n)));
        }
    }

    /// Where the positions end that are best read together with this one, if there is such an end.
    pub fn read_end(&self, position: u64) -> Option<u64> {
        match &self.kind {
            EpochKind::Cover { order, .. } => order.window_end(position),
            _ => None,
        }
    }
}
