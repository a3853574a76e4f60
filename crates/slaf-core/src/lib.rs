//! The parts of SLAF that everything else shares and that need no storage engine:
//! [error kinds](ErrorKind), [value types](Dtype), [CSR chunks](CsrChunk) and the
//! [packed row](packed), the byte format in which a cell's (or a gene's) nonzeros are stored.
//!
//! ```
//! use slaf_core::packed::{decode_row, encode_row};
//!
//! let (genes, counts) = (vec![2, 3, 40_000], vec![1_u16, 7, 1]);
//! let bytes = encode_row(&genes, &counts)?;
//! let (mut g, mut c) = (Vec::new(), Vec::<u16>::new());
//! decode_row(&bytes, &mut g, &mut c)?;
//! assert_eq!((g, c), (genes, counts));
//! # Ok::<(), slaf_core::Error>(())
//! ```

#![warn(missing_docs, unreachable_pub)]

mod chunk;
mod dtype;
mod error;
mod names;
mod near;
pub mod order;
pub mod packed;
mod size;
pub mod uri;

pub use chunk::CsrChunk;
pub use dtype::{Dtype, Value, Values};
pub use error::{Context, Error, ErrorKind, Result, cause};
pub use names::{check_printable, unknown_name};
pub use near::near;
pub use size::{bytes_from_env, parse_bytes};

/// Bytes of stack of a thread that works for a call: expressions are evaluated as deep as a query
/// nests them, and without optimisation large futures are copied from frame to frame.
pub const STACK: usize = 16 << 20;
