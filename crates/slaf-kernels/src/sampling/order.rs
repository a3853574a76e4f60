//! In which order the cells of a pool come.

use super::permutation::Permutation;
use crate::random::Stream;

/// How the cells of a pool are shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Not at all.
    Sequential,
    /// Every order is equally likely, as far as a pseudo-random permutation goes.
    Full,
    /// Runs of neighbours come together, so that far fewer reads are made: runs of `block` cells
    /// are shuffled, and the cells of many runs are shuffled with each other within a window.
    Block {
        /// Cells of a run.
        block: u64,
        /// Cells of a window, about: windows of a pool have all the same length.
        window: u64,
    },
}

/// What a stream of random numbers is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Order = 11,
    Blocks = 12,
    Window = 13,
    Rotation = 14,
    Draw = 15,
    Parts = 16,
    Sets = 17,
    Members = 18,
    Controls = 19,
    Split = 20,
}

/// Place to index, for the `n` cells of a pool in one epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    n: u64,
    seed: u64,
    epoch: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sequential,
    Full(Permutation),
    Block {
        block: u64,
        n_windows: u64,
        /// Of the blocks that are whole.
        blocks: Permutation,
        n_blocks: u64,
        /// Where the pool begins, so that block borders and the part of the pool that is in no
        /// whole block differ from epoch to epoch.
        rotation: u64,
    },
}

impl Order {
    pub(super) fn new(n: u64, shuffle: Shuffle, seed: u64, epoch: u64) -> Order {
        let stream = |purpose: Purpose| Stream::keyed(seed, &[epoch, purpose as u64]);
        let kind = match shuffle {
            Shuffle::Sequential => Kind::Sequential,
            Shuffle::Full => Kind::Full(Permutation::new(n, stream(Purpose::Order))),
            Shuffle::Block { block, window } => {
                let block = block.clamp(1, n.max(1));
                let n_blocks = n / block;
                Kind::Block {
                    block,
                    n_windows: (n.saturating_add(window / 2) / window.max(1)).max(1),
                    blocks: Permutation::new(n_blocks, stream(Purpose::Blocks)),
                    n_blocks,
                    rotation: stream(Purpose::Rotation).below(0, n.max(1) as usize) as u64,
                }
            }
        };
        Order { n, seed, epoch, kind }
    }

    /// The index at a place.
    pub(super) fn get(&self, place: u64) -> u64 {
        match &self.kind {
            Kind::Sequential => place,
            Kind::Full(order) => order.get(place),
            Kind::Block { block, n_windows, blocks, n_blocks, rotation } => {
                let window = self.window_of(place, *n_windows);
                let (start, end) = (self.start_of(window, *n_windows), self.start_of(window + 1, *n_windows));
                let stream = Stream::keyed(self.seed, &[self.epoch, Purpose::Window as u64, window]);
                let mixed = start + Permutation::new(end - start, stream).get(place - start);
                let (b, within) = (mixed / block, mixed % block);
                let index = if b < *n_blocks { blocks.get(b) * block + within } else { mixed };
                (index + rotation) % self.n
            }
        }
    }

    /// Where the window that holds a place ends: what comes before is best read at once.
    pub(super) fn window_end(&self, place: u64) -> Option<u64> {
        match self.kind {
            Kind::Block { n_windows, .. } => Some(self.start_of(self.window_of(place, n_windows) + 1, n_windows)),
            _ => None,
        }
    }

    fn start_of(&self, window: u64, n_windows: u64) -> u64 {
        (u128::from(self.n) * u128::from(window) / u128::from(n_windows)) as u64
    }

    /// The inverse of [`Order::start_of`].
    fn window_of(&self, place: u64, n_windows: u64) -> u64 {
        ((u128::from(place + 1) * u128::from(n_windows) - 1) / u128::from(self.n.max(1))) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shuffles() -> impl Strategy<Value = Shuffle> {
        prop_oneof![
            Just(Shuffle::Sequential),
            Just(Shuffle::Full),
            (1_u64..40, 1_u64..900).prop_map(|(block, window)| Shuffle::Block { block, window }),
        ]
    }

    proptest! {
        #[test]
        fn every_index_has_one_place(n in 0_u64..700, shuffle in shuffles(), seed: u64, epoch in 0_u64..9) {
            let order = Order::new(n, shuffle, seed, epoch);
            let mut all: Vec<u64> = (0..n).map(|p| order.get(p)).collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..n));
        }

        #[test]
        fn windows_tile_the_places(n in 1_u64..700, window in 1_u64..900) {
            let order = Order::new(n, Shuffle::Block { block: 3, window }, 1, 0);
            let mut place = 0;
            while place < n {
                let end = order.window_end(place).unwrap();
                prop_assert!(end > place && end <= n);
                prop_assert!((place..end).all(|p| order.window_end(p) == Some(end)));
                place = end;
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        let shuffle = Shuffle::Block { block: 4, window: 100 };
        let of = |seed, epoch| {
            let order = Order::new(500, shuffle, seed, epoch);
            (0..500).map(|p| order.get(p)).collect::<Vec<_>>()
        };
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }

    #[test]
    fn a_window_is_made_of_runs() {
        let order = Order::new(100_000, Shuffle::Block { block: 16, window: 10_000 }, 5, 0);
        let mut first: Vec<u64> = (0..order.window_end(0).unwrap()).map(|p| order.get(p)).collect();
        assert_eq!(first.len(), 10_000);
        assert!(first.windows(2).filter(|w| w[0] + 1 == w[1]).count() < 100, "not mixed");
        first.sort_unstable();
        let runs = 1 + first.windows(2).filter(|w| w[0] + 1 != w[1]).count();
        // 625 blocks; some are neighbours.
        assert!((500..=626).contains(&runs), "{runs}");
    }
}
