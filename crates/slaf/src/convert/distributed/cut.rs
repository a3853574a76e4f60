//! How the cells of the inputs are cut into parts.

use super::super::cells::stripe_nnz;
use slaf_ingest::{Description, Input, MatrixKey};
use std::ops::Range;

/// A part has at least so many values, if there are as many: less is not worth a stripe.
const MIN_VALUES: u64 = 1 << 24;
/// So many parts suffice for every number of workers that a scheduler has.
const PARTS: u64 = 64;
/// What the annotations of a cell cost beside its values.
const CELL: u64 = 64;
/// Where the number of values is not known, one in so many is not zero.
const DENSITY: u64 = 16;

/// What is known of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) n_cells: u64,
    /// Values of all matrices, about.
    pub(super) values: u64,
    /// Whether it can be read in parts.
    pub(super) has_cheap_rows: bool,
}

impl Size {
    pub(super) fn of(input: &dyn Input) -> Size {
        let description: &Description = input.description();
        let matrices = description.matrices.iter().filter(|m| !matches!(m.key, MatrixKey::Varp(_)));
        let values = matrices.map(|m| m.nnz.unwrap_or_else(|| m.n_rows.saturating_mul(m.n_cols) / DENSITY));
        let cells = description.n_cells.saturating_mul(CELL);
        Size {
            n_cells: description.n_cells,
            values: values.fold(cells, u64::saturating_add),
            has_cheap_rows: input.has_cheap_rows(),
        }
    }
}

/// Rows of inputs that follow each other: the number of each input, and its rows.
pub(super) type Part = Vec<(usize, Range<u64>)>;

/// Cuts inputs into parts, which depend on these alone and not on who converts them. No part has more
/// than `part_cells` cells, but for an input that is read whole; `memory` is what a worker may hold.
/// There is at least one part.
pub(super) fn cut(sizes: &[Size], memory: usize, part_cells: u64) -> Vec<Part> {
    let total = sizes.iter().map(|s| s.values).fold(0, u64::saturating_add);
    // A part is one stripe, or less.
    let limit = (total / PARTS).clamp(MIN_VALUES.min(stripe_nnz(memory)), stripe_nnz(memory));
    let mut parts: Vec<Part> = Vec::new();
    let mut open: Option<(u64, u64)> = None;
    for (i, size) in sizes.iter().enumerate().filter(|(_, s)| s.n_cells > 0) {
        let pieces = match size.has_cheap_rows {
            true => size.values.div_ceil(limit).max(size.n_cells.div_ceil(part_cells.max(1))).clamp(1, size.n_cells),
            false => 1,
        };
        for piece in 0..pieces {
            let at = |piece: u64| (u128::from(size.n_cells) * u128::from(piece) / u128::from(pieces)) as u64;
            let rows = at(piece)..at(piece + 1);
            let (values, cells) = (size.values / pieces, rows.end - rows.start);
            match (&mut open, parts.last_mut()) {
                (Some((v, c)), Some(part)) if *v + values <= limit && *c + cells <= part_cells => {
                    (*v, *c) = (*v + values, *c + cells);
                    match part.last_mut() {
                        Some((input, before)) if *input == i => before.end = rows.end,
                        _ => part.push((i, rows)),
                    }
                }
                _ => {
                    open = Some((values, cells));
                    parts.push(vec![(i, rows)]);
                }
            }
        }
    }
    if parts.is_empty() && !sizes.is_empty() {
        parts.push(vec![(0, 0..0)]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(n_cells: u64, values: u64, has_cheap_rows: bool) -> Size {
        Size { n_cells, values, has_cheap_rows }
    }

    /// That the parts are the cells of all inputs, in order.
    fn check(sizes: &[Size], parts: &[Part]) {
        let mut all = parts.iter().flatten().cloned();
        for (i, size) in sizes.iter().enumerate() {
            let mut at = 0;
            while at < size.n_cells {
                let (input, rows) = all.next().unwrap();
                assert_eq!((input, rows.start), (i, at));
                assert!(rows.end > at && rows.end <= size.n_cells);
                at = rows.end;
            }
        }
        assert!(all.next().is_none());
    }

    #[test]
    fn large_inputs_are_cut_and_small_ones_joined() {
        let memory = 1 << 30;
        let sizes = [size(50_000, 100 << 20, true)];
        let parts = cut(&sizes, memory, u64::MAX);
        check(&sizes, &parts);
        assert_eq!(parts.len(), 7);
        let small = vec![size(500, 1 << 20, true); 40];
        let parts = cut(&small, memory, u64::MAX);
        check(&small, &parts);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8]);
        // Of a very large one, parts are stripes.
        let sizes = [size(100_000_000, 200 << 30, true)];
        let parts = cut(&sizes, memory, u64::MAX);
        check(&sizes, &parts);
        assert_eq!(parts.len(), 1600);
    }

    #[test]
    fn what_is_read_whole_is_not_cut() {
        let sizes = [size(10, 1 << 40, false), size(0, 0, false), size(7, 1, true), size(5, 1, false)];
        let parts = cut(&sizes, 1 << 30, 3);
        check(&sizes, &parts);
        assert_eq!(parts.len(), 5, "{parts:?}");
    }

    #[test]
    fn tiny_parts_cross_inputs() {
        let sizes = [size(5, 0, true), size(1, 0, true), size(4, 0, true)];
        for part_cells in 1..12 {
            let parts = cut(&sizes, 1 << 30, part_cells);
            check(&sizes, &parts);
            assert!(parts.iter().all(|p| p.iter().map(|(_, r)| r.end - r.start).sum::<u64>() <= part_cells));
        }
        assert_eq!(cut(&[size(0, 0, true)], 1 << 30, 4), vec![vec![(0, 0..0)]]);
    }
}
