//! Which positions make which batch of which rank and worker.

use slaf_core::{Error, Result};
use std::ops::Range;

/// What becomes of the last positions, where they are fewer than a batch for each rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// They are left out.
    Drop,
    /// Every rank gets equally many: the first positions of the epoch are repeated to make up
    /// (fewer than there are ranks).
    Pad,
    /// They are shared as evenly as it goes; a rank may have one batch less than another.
    Uneven,
}

slaf_core::names!(Remainder, "remainder", { Drop => "drop", Pad => "pad", Uneven => "uneven" });

/// One consumer of the batches: a worker of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The number of the rank, below `world`.
    pub rank: u64,
    /// How many ranks there are.
    pub world: u64,
    /// Workers of a rank take its batches in turns.
    pub worker: u64,
    /// How many workers a rank has.
    pub workers: u64,
}

impl Shard {
    /// The only consumer.
    pub const ALL: Shard = Shard { rank: 0, world: 1, worker: 0, workers: 1 };

    /// Checks that such a consumer can be.
    ///
    /// # Errors
    /// `invalid-argument` for a rank or worker beyond their numbers, and for numbers that are absurd.
    pub fn check(&self) -> Result<()> {
        const MOST: u64 = 1 << 32;
        for (what, number, of) in [("rank", self.rank, self.world), ("worker", self.worker, self.workers)] {
            if number >= of || of > MOST {
                return Err(Error::invalid(format!("{what} {number} of {of}")));
            }
        }
        Ok(())
    }
}

/// The batches of an epoch. Step `k` of a rank is one batch; the ranks' batches of one step are
/// neighbours in the order of the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Positions of the epoch.
    pub n: u64,
    /// Positions of a batch, of one rank.
    pub batch: u64,
    /// What becomes of positions that fill no batch of all ranks.
    pub remainder: Remainder,
    /// Positions that are not parted, of which `batch` is a multiple.
    pub granule: u64,
    /// Positions that were consumed before, by all ranks together.
    pub start: u64,
}

impl Schedule {
    fn left(&self) -> u64 {
        self.n.saturating_sub(self.start)
    }

    /// Positions of a step in which every rank has a whole batch.
    fn round(&self, world: u64) -> u64 {
        self.batch.saturating_mul(world).max(1)
    }

    /// Steps in which every rank has a whole batch.
    fn whole_steps(&self, world: u64) -> u64 {
        self.left() / self.round(world)
    }

    /// Batches of one rank.
    pub fn rank_steps(&self, rank: u64, world: u64) -> u64 {
        let whole = self.whole_steps(world);
        whole + u64::from(!self.rank_positions(rank, world, whole).is_empty())
    }

    /// Batches of one consumer.
    pub fn steps(&self, shard: Shard) -> u64 {
        let steps = self.rank_steps(shard.rank, shard.world);
        steps.saturating_sub(shard.worker).div_ceil(shard.workers.max(1))
    }

    /// The positions of a consumer's batch `step`; they may go beyond the end, where the epoch
    /// goes on from its beginning.
    pub fn positions(&self, shard: Shard, step: u64) -> Range<u64> {
        let step = step.saturating_mul(shard.workers).saturating_add(shard.worker);
        self.rank_positions(shard.rank, shard.world, step)
    }

    fn rank_positions(&self, rank: u64, world: u64, step: u64) -> Range<u64> {
        let (whole, round) = (self.whole_steps(world), self.round(world));
        let tail = self.left() - whole * round;
        if step > whole || (step == whole && tail == 0) {
            return 0..0;
        }
        let first = self.start + step * round;
        if step < whole {
            return first + rank * self.batch..first + (rank + 1) * self.batch;
        }
        let granules = tail.div_ceil(self.granule);
        match self.remainder {
            Remainder::Drop => 0..0,
            Remainder::Pad => {
                let share = granules.div_ceil(world.max(1)).saturating_mul(self.granule);
                // Without other ranks there is nobody to be equal with.
                let share = if world == 1 { tail } else { share };
                let begin = |rank: u64| first.saturating_add(rank.saturating_mul(share));
                begin(rank)..begin(rank.saturating_add(1))
            }
            Remainder::Uneven => {
                // Of any width: the product may be beyond 64 bits.
                let share = |rank: u64| u128::from(granules) * u128::from(rank) / u128::from(world.max(1));
                let bound = |rank: u64| (share(rank) * u128::from(self.granule)).min(u128::from(tail)) as u64;
                first + bound(rank)..first + bound(rank + 1)
            }
        }
    }

    /// Positions consumed by all ranks together, after each of them has had this many batches of
    /// this schedule.
    pub fn consumed(&self, world: u64, steps: u64) -> u64 {
        let end = self.start + steps.min(self.whole_steps(world)) * self.round(world);
        if steps > self.whole_steps(world) { self.n.max(end) } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(schedule: &Schedule, world: u64, workers: u64) -> Vec<Vec<u64>> {
        let mut by_rank = Vec::new();
        for rank in 0..world {
            let mut seen = Vec::new();
            for worker in 0..workers {
                let shard = Shard { rank, world, worker, workers };
                for step in 0..schedule.steps(shard) {
                    let positions = schedule.positions(shard, step);
                    assert!(!positions.is_empty() && positions.end - positions.start <= schedule.batch);
                    seen.extend(positions);
                }
                assert!(schedule.positions(shard, schedule.steps(shard)).is_empty());
            }
            by_rank.push(seen);
        }
        by_rank
    }

    proptest! {
        #[test]
        fn every_position_comes_once(
            n in 0_u64..400, batch in 1_u64..40, world in 1_u64..6, workers in 1_u64..5, start in 0_u64..500,
        ) {
            for remainder in [Remainder::Drop, Remainder::Pad, Remainder::Uneven] {
                let schedule = Schedule { n, batch, remainder, granule: 1, start };
                let by_rank = all(&schedule, world, workers);
                let mut seen = by_rank.concat();
                seen.sort_unstable();
                let left = n.saturating_sub(start);
                match remainder {
                    Remainder::Drop => {
                        prop_assert!(seen.into_iter().eq(start..start + left / (batch * world) * batch * world));
                        prop_assert!(by_rank.iter().all(|r| r.len() == by_rank[0].len()));
                    }
                    Remainder::Pad => {
                        let extra = seen.len() as u64 - left;
                        prop_assert!(extra < world, "{extra}");
                        prop_assert!(seen.into_iter().eq(start.min(n + extra)..start.min(n + extra) + left + extra) || left == 0);
                        prop_assert!(by_rank.iter().all(|r| r.len() == by_rank[0].len()));
                    }
                    Remainder::Uneven => prop_assert!(seen.into_iter().eq(start..start + left)),
                }
                let steps: Vec<u64> = (0..world).map(|rank| schedule.rank_steps(rank, world)).collect();
                if remainder != Remainder::Uneven {
                    prop_assert!(steps.iter().all(|s| *s == steps[0]));
                }
            }
        }

        #[test]
        fn a_run_goes_on_with_any_number_of_ranks(
            n in 1_u64..400, batch in 1_u64..20, before in 1_u64..5, after in 1_u64..5, steps in 0_u64..9,
        ) {
            let whole = Schedule { n, batch, remainder: Remainder::Uneven, granule: 1, start: 0 };
            let steps = steps.min(whole.rank_steps(0, before));
            let consumed = whole.consumed(before, steps);
            let mut seen: Vec<u64> = Vec::new();
            for rank in 0..before {
                let shard = Shard { rank, world: before, ..Shard::ALL };
                (0..steps).for_each(|s| seen.extend(whole.positions(shard, s)));
            }
            seen.extend(all(&Schedule { start: consumed, ..whole }, after, 2).concat());
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..n));
        }

        #[test]
        fn sets_are_not_parted(sets in 0_u64..60, rows in 1_u64..6, per_batch in 1_u64..5, world in 1_u64..5) {
            for remainder in [Remainder::Drop, Remainder::Pad, Remainder::Uneven] {
                let schedule =
                    Schedule { n: sets * rows, batch: rows * per_batch, remainder, granule: rows, start: 0 };
                for rank in 0..world {
                    let shard = Shard { rank, world, ..Shard::ALL };
                    for step in 0..schedule.steps(shard) {
                        let positions = schedule.positions(shard, step);
                        prop_assert!(positions.start.is_multiple_of(rows) && positions.end.is_multiple_of(rows));
                    }
                }
            }
        }
    }
}
