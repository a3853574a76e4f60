//! What the tests of several crates need: small data sets, and ways to damage files.

mod damage;
mod generate;

pub use damage::{files_below, flip_bit, truncate};
pub use generate::{Random, Sample, dense};
