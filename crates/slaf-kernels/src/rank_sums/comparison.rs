//! What is compared with what.

use crate::matrix::Groups;

/// Which groups are compared, and with what.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Groups of cells.
    pub groups: Groups,
    /// What each is compared with.
    pub against: Against,
    /// Whether to find the [coefficients](super::RankSums::ties) that correct for ties.
    pub ties: bool,
}

/// What a group is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// All other cells, also those that are in no group.
    Rest,
    /// The cells of one group alone.
    Group(usize),
}
