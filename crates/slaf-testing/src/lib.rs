//! What the tests of several crates need: small data sets, ways to damage files, and object stores
//! that fail.

#![warn(missing_docs, unreachable_pub)]

mod damage;
mod faults;
mod generate;

pub use damage::{files_below, flip_bit, truncate};
pub use faults::{Counts, Fault, Faults, Latency, Rule, memory_store};
pub use generate::{Random, Sample, dense};
