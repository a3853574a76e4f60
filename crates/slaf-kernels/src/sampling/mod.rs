//! Which cells a model sees, and in which order: pure functions of (seed, epoch, position).
//!
//! A [`Sampler`] is a description; [`Sampler::epoch`] gives the [`Epoch`] that tells which cell is
//! at any position. A [`Schedule`] says which positions make which batch of which rank. Nothing
//! depends on what was asked before: an epoch that begins in the middle, in another process or
//! with another number of ranks goes through the same cells.
//!
//! ```
//! use slaf_kernels::sampling::{Pool, Remainder, Sampler, Schedule, Shard, Shuffle};
//!
//! let sampler = Sampler::cover(Pool::Range(0..10), Shuffle::Full, 7);
//! let epoch = sampler.epoch(0)?;
//! let schedule = Schedule { n: epoch.len(), batch: 4, remainder: Remainder::Pad, granule: 1, start: 0 };
//! let mut seen = Vec::new();
//! for step in 0..schedule.steps(Shard::ALL) {
//!     epoch.cells(schedule.positions(Shard::ALL, step), &mut seen);
//! }
//! seen.sort();
//! assert!(seen.into_iter().eq(0..10));
//! # Ok::<(), slaf_core::Error>(())
//! ```

mod mixture;
mod order;
mod permutation;
mod pool;
mod sampler;
mod schedule;
mod sets;
mod split;
mod weighted;

pub use mixture::Part;
pub use order::Shuffle;
pub use pool::Pool;
pub use sampler::{Epoch, Sampler};
pub use schedule::{Remainder, Schedule, Shard};
pub use sets::{Group, Sets};
pub use split::split_point;
