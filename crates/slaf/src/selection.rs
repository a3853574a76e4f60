use slaf_core::{Error, ErrorKind, Result};
use slaf_lance::ranges_of;
use std::ops::Range;

/// Which cells or genes, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of the axis.
    All,
    /// Consecutive ones.
    Range(Range<u64>),
    /// These, in this order; the same one may come more than once.
    Ids(Vec<u64>),
}

impl Selection {
    /// How many, on an axis of `n`.
    pub fn len(&self, n: u64) -> u64 {
        match self {
            Selection::All => n,
            Selection::Range(r) => r.end.saturating_sub(r.start),
            Selection::Ids(ids) => ids.len() as u64,
        }
    }

    /// Whether there are none, on an axis of `n`.
    pub fn is_empty(&self, n: u64) -> bool {
        self.len(n) == 0
    }

    /// The selected ones, on an axis of `n`.
    pub fn iter(&self, n: u64) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Selection::All => Box::new(0..n),
            Selection::Range(r) => Box::new(r.clone()),
            Selection::Ids(ids) => Box::new(ids.iter().copied()),
        }
    }

    /// Some consecutive ones of the selected.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Selection {
        match self {
            Selection::All => Selection::Range(range),
            Selection::Range(r) => Selection::Range(r.start + range.start..r.start + range.end),
            Selection::Ids(ids) => Selection::Ids(ids[range.start as usize..range.end as usize].to_vec()),
        }
    }

    /// Checks that all are on an axis of `n`.
    pub(crate) fn check(&self, n: u64, axis: &str) -> Result<()> {
        let beyond = match self {
            Selection::All => None,
            Selection::Range(r) => (r.start < r.end && r.end > n).then(|| r.end - 1),
            Selection::Ids(ids) => ids.iter().copied().find(|&i| i >= n),
        };
        match beyond {
            Some(i) => Err(Error::new(ErrorKind::OutOfRange, format!("{axis} {i}, but there are {n}"))),
            None => Ok(()),
        }
    }

    /// How to read the selected rows of a table of `n` rows.
    pub(crate) fn resolve(&self, n: u64) -> Rows {
        match self {
            Selection::All => Rows { ranges: vec![0..n], order: None, len: n as usize },
            Selection::Range(r) => Rows { ranges: vec![r.clone()], order: None, len: self.len(n) as usize },
            Selection::Ids(ids) if ids.is_sorted_by(|a, b| a < b) => {
                Rows { ranges: ranges_of(ids), order: None, len: ids.len() }
            }
            Selection::Ids(ids) => {
                let mut pairs: Vec<(u64, u32)> = ids.iter().copied().zip(0..).collect();
                pairs.sort_unstable();
                let (mut sorted, mut order) = (Vec::with_capacity(ids.len()), vec![0; ids.len()]);
                for (id, place) in pairs {
                    if sorted.last() != Some(&id) {
                        sorted.push(id);
                    }
                    order[place as usize] = sorted.len() as u32 - 1;
                }
                Rows { ranges: ranges_of(&sorted), order: Some(order), len: sorted.len() }
            }
        }
    }
}

/// The rows of a selection, as a table is read: rising, each once.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) ranges: Vec<Range<u64>>,
    /// For each selected row its place among the rows read; `None` where they are the same.
    pub(crate) order: Option<Vec<u32>>,
    /// How many rows are read.
    pub(crate) len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_unsorted_rows_are_read_once_and_in_order() {
        let rows = Selection::Ids(vec![7, 3, 4, 7]).resolve(10);
        assert_eq!(rows.ranges, [3..5, 7..8]);
        assert_eq!(rows.order, Some(vec![2, 0, 1, 2]));
        assert_eq!(rows.len, 3);
    }

    #[test]
    fn parts_compose() {
        assert_eq!(Selection::Range(10..20).part(2..4), Selection::Range(12..14));
        assert_eq!(Selection::Ids(vec![5, 1, 9]).part(1..3), Selection::Ids(vec![1, 9]));
    }

    #[test]
    fn beyond_the_axis_is_an_error() {
        assert!(Selection::Ids(vec![9]).check(9, "cell").is_err());
        assert!(Selection::Range(3..9).check(9, "cell").is_ok());
    }
}
