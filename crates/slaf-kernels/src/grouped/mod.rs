//! Statistics of groups of stored values, in arrays that have a place for each group.
//!
//! A [`Lane`] is what is wanted of the values that pass some tests. [`Tallies`] take rows of packed
//! values, each with the place of its group, and are merged in the order of the rows, so that
//! answers do not depend on the number of threads.

mod ordered;
mod places;
mod tally;

pub use ordered::{Comparison, Ordered, Test};
pub use places::Places;
pub use tally::{Lane, Tallies, Tally};
