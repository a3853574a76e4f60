//! Conversion by several processes, on one machine or many.
//!
//! [`Distributed::plan`] decides all that needs the whole input: genes and their ranks, columns and
//! their types, categories, and how the cells are cut into parts. [`convert_part`] makes data files of
//! a part, with stripes of its own, and tells what it wrote; a part is repeated by converting it again.
//! [`Distributed::finish`] makes the tables of the data files and commits them. Who calls these, and
//! where, is not decided here: `local` starts processes on this machine, Python hands parts to
//! schedulers.
//!
//! Parts depend on the inputs alone, and what they tell is added in their order: the store is the same,
//! whoever converted which part, and how often.

mod cut;
mod fingerprint;
mod finish;
mod local;
mod message;
mod plan;
mod serve;
mod work;

pub use local::{Workers, convert_with_workers};
pub use plan::Distributed;
pub use serve::serve;
pub use work::convert_part;
