//! What a query that groups reads, and the groups of both sides.

use super::block::Chosen;
use super::side_groups::SideGroups;

/// The chosen cells and genes, and their groups.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) chosen: Chosen,
    pub(super) rows: SideGroups,
    pub(super) cols: SideGroups,
    /// The ids of the chosen columns and their groups.
    pub(super) col_ids: Vec<u64>,
    pub(super) col_groups: Vec<u32>,
    pub(super) n_col_groups: usize,
}
