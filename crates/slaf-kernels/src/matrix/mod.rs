//! Arithmetic and statistics of matrices that are read in parts.
//!
//! A [`Plan`] says what becomes of the values of a matrix, step by step, as numpy and scanpy would
//! compute it: in the same type and with the same roundings. A [`Request`] says what to find out
//! about the result, and [`reduce`] finds it in one pass over parts of rows, in parallel and in
//! memory that does not grow with the number of stored values. The answer does not depend on the
//! number of threads: parts have a fixed size, parts of a stretch of rows are added in their order,
//! and then stretches in theirs. So stretches can be worked on apart ([`pieces`]).

mod builder;
mod columns;
mod in_memory;
mod in_order;
mod logarithms;
mod memo;
mod moments;
mod partial;
mod plan;
mod request;
mod rows;
mod running;
mod source;
mod step;
mod turned;

pub use in_memory::{PART_ROWS, STRETCH_ROWS, with_memory};
pub use in_order::in_order;
pub use partial::{Assembly, Partial, Piece, partial, pieces};
pub use plan::Plan;
pub use request::{Columns, Detail, Dot, Groups, Left, Request, Rows, Running, Stats, Summary};
pub use source::{Source, steps};
pub use step::{Function, Op, Operand, Step};

use builder::Builder;
use slaf_core::{CsrChunk, Result};

/// The whole matrix with the plan applied.
///
/// # Errors
/// Those of reading; `invalid-argument` for a plan that does not fit the matrix, and for integers
/// that overflow; `interrupted`.
pub fn compute(source: &Source<'_>, dtype: slaf_core::Dtype, plan: &Plan) -> Result<CsrChunk> {
    let mut all = CsrChunk::empty(plan.dtype(dtype));
    source.for_each(
        0..source.n_rows,
        plan,
        |_, chunk| Ok(chunk),
        |_, chunk| {
            let so_far = std::mem::replace(&mut all, CsrChunk::empty(dtype));
            all = so_far.concat(&chunk);
            Ok(())
        },
    )?;
    Ok(all)
}

/// What `request` asks about the matrix with the plan applied, in one pass.
///
/// # Errors
/// As [`compute`]; `invalid-argument` also for labels and weights of the wrong length.
pub fn reduce(source: &Source<'_>, dtype: slaf_core::Dtype, plan: &Plan, request: &Request) -> Result<Summary> {
    request.check(source.n_rows, source.n_cols)?;
    let mut builder = Builder::new(request, plan.dtype(dtype), 0..source.n_rows, source);
    builder.add_all(source, plan, request)?;
    Ok(builder.finish())
}
