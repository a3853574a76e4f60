//! Sets for models of perturbations: cells of one group together, with controls beside them.

use super::order::Purpose;
use super::permutation::Permutation;
use super::pool::Pool;
use crate::random::Stream;
use slaf_core::{Error, Result};

/// Cells that belong together: of one perturbation, or of one perturbation in one cell line.
#[derive(Clone, Debug)]
pub struct Group {
    /// The cells of the group.
    pub cells: Pool,
    /// Index of its pool of matching controls.
    pub controls: usize,
}

/// Groups to be sampled as sets of `set_size` cells, each followed by `n_controls` of its matched
/// controls.
#[derive(Clone, Debug)]
pub struct Sets {
    groups: Vec<Group>,
    controls: Vec<Pool>,
    set_size: u64,
    n_controls: u64,
    /// Sets before each group, and all.
    first_set: Vec<u64>,
}

impl Sets {
    /// # Errors
    /// `invalid-argument` for sets of size 0, empty groups, and groups without controls.
    pub fn new(groups: Vec<Group>, controls: Vec<Pool>, set_size: u64, n_controls: u64) -> Result<Sets> {
        if set_size == 0 {
            return Err(Error::invalid("a set has at least one cell"));
        }
        let mut first_set = vec![0];
        for (i, group) in groups.iter().enumerate() {
            if group.cells.is_empty() {
                return Err(Error::invalid(format!("group {i} has no cells")));
            }
            if n_controls > 0 && controls.get(group.controls).is_none_or(Pool::is_empty) {
                return Err(Error::invalid(format!("group {i} has no matched controls")));
            }
            first_set.push(first_set[i] + group.cells.len().div_ceil(set_size));
        }
        let rows = set_size.checked_add(n_controls).and_then(|rows| rows.checked_mul(first_set[groups.len()]));
        if rows.is_none() {
            return Err(Error::invalid(format!("sets of {set_size} cells and {n_controls} controls are too large")));
        }
        Ok(Sets { groups, controls, set_size, n_controls, first_set })
    }

    /// Cells of a set, controls included.
    pub fn rows(&self) -> u64 {
        self.set_size + self.n_controls
    }

    fn n_sets(&self) -> u64 {
        self.first_set[self.groups.len()]
    }

    pub(super) fn len(&self) -> u64 {
        self.n_sets() * self.rows()
    }

    /// The cell at a position. In an epoch each cell of a group comes once; the last set of a
    /// group is filled with cells of its first.
    pub(super) fn get(&self, position: u64, seed: u64, epoch: u64) -> u64 {
        let stream = |purpose: Purpose, of: u64| Stream::keyed(seed, &[epoch, purpose as u64, of]);
        let (place, row) = (position / self.rows(), position % self.rows());
        let set = Permutation::new(self.n_sets(), stream(Purpose::Sets, 0)).get(place);
        let g = self.first_set.partition_point(|&s| s <= set) - 1;
        let group = &self.groups[g];
        let of_pool = |pool: &Pool, i: u64, stream| pool.get(Permutation::new(pool.len(), stream).get(i % pool.len()));
        if row < self.set_size {
            let i = (set - self.first_set[g]) * self.set_size + row;
            return of_pool(&group.cells, i, stream(Purpose::Members, g as u64));
        }
        of_pool(&self.controls[group.controls], row - self.set_size, stream(Purpose::Controls, set))
    }
}
