//! Statistics of groups of stored values, in arrays that have a place for each group.
//!
//! A [`Lane`] is what is wanted of the values that pass some tests. [`Tallies`] take rows of packed
//! values, each with the place of its group, and are merged in the order of the rows, so that
//! answers do not depend on the number of threads.

mod ordered;
mod tally;

pub use ordered::{Comparison, Ordered, Test};
pub use tally::{Places, Tallies, Tally};

/// What is wanted of the values that pass tests, beside their number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// All of them are passed.
    pub tests: Vec<Test>,
    /// The sum.
    pub sum: bool,
    /// The least and the greatest value.
    pub range: bool,
    /// The mean, and the sum of squared deviations from it.
    pub moments: bool,
}
