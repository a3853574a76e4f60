//! Where random tokenizers draw from.

use rand_mt::Mt;
use slaf_core::{Error, Result};

/// The source of all chance in a tokenizer.
///
/// Everything but strict binning is a function of (seed, epoch, cell number), so that any thread
/// with a source of the same seed and epoch gets the same rows. Strict binning continues one
/// stream of numpy's legacy generator, `RandomState(seed)`, from row to row and from chunk to
/// chunk: there, one source must see all cells in order, and the epoch does not matter.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    epoch: u64,
    numpy: Option<Box<Mt>>,
}

impl Random {
    /// The generator of an epoch: what it gives for a cell depends on these two and the cell alone.
    pub fn new(seed: u64, epoch: u64) -> Self {
        Random { seed, epoch, numpy: None }
    }

    pub(super) fn keys(&self) -> (u64, u64) {
        (self.seed, self.epoch)
    }

    /// # Errors
    /// `invalid-argument` for a seed that numpy's legacy generator refuses.
    pub(super) fn numpy(&mut self) -> Result<&mut Mt> {
        let seed = u32::try_from(self.seed).map_err(|_| {
            Error::invalid(format!("the seed of strict binning is below 2^32, as numpy's is: {}", self.seed))
        })?;
        Ok(self.numpy.get_or_insert_with(|| Box::new(Mt::new(seed))))
    }
}

/// numpy's legacy `rand()`: 53 random bits in 0..1.
pub(super) fn numpy_rand(generator: &mut Mt) -> f64 {
    let (a, b) = (generator.next_u32() >> 5, generator.next_u32() >> 6);
    (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
}

/// What a stream of a cell is for: two parts of a tokenizer never share draws.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Bins = 1,
    Sample = 2,
    Ties = 3,
    Fill = 4,
    Order = 5,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_refuses_large_seeds() {
        assert!(Random::new(1 << 32, 0).numpy().is_err());
        assert!(Random::new((1 << 32) - 1, 0).numpy().is_ok());
    }
}
