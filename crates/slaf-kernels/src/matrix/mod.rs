//! Arithmetic and statistics of matrices that are read in parts.
//!
//! A [`Plan`] says what becomes of the values of a matrix, step by step, as numpy and scanpy would
//! compute it: in the same type and with the same roundings. A [`Request`] says what to find out
//! about the result, and [`reduce`] finds it in one pass over parts of rows, in parallel and in
//! memory that does not grow with the number of stored values. The answer does not depend on the
//! number of threads: parts have a fixed size and are added in their order.

mod builder;
mod columns;
mod in_memory;
mod in_order;
mod memo;
mod moments;
mod plan;
mod request;
mod rows;
mod running;
mod step;
mod turned;

pub use in_memory::{PART_ROWS, with_memory};
pub use in_order::in_order;
pub use plan::Plan;
pub use request::{Columns, Detail, Dot, Groups, Left, Request, Rows, Running, Stats, Summary};
pub use step::{Function, Op, Operand, Step};

use builder::Builder;
use slaf_core::{CsrChunk, Error, ErrorKind, Result, with_values};
use std::ops::Range;

/// A matrix that can be read in parts, in any order and from many threads.
pub struct Source<'a> {
    /// Its rows.
    pub n_rows: usize,
    /// Its columns.
    pub n_cols: usize,
    /// Reads consecutive rows; columns may come in any order.
    pub read: &'a (dyn Fn(Range<usize>) -> Result<CsrChunk> + Sync),
    /// Rows that are read at once. The answer depends on it in the last bits only.
    pub part_rows: usize,
    /// Parts in work at once.
    pub threads: usize,
    /// Is told how many rows are done; `false` stops.
    pub progress: &'a (dyn Fn(usize) -> bool + Sync),
}

impl Source<'_> {
    fn parts(&self) -> Vec<Range<usize>> {
        let step = self.part_rows.max(1);
        (0..self.n_rows).step_by(step).map(|start| start..(start + step).min(self.n_rows)).collect()
    }

    /// Reads every part, applies the plan, and hands the results over in order.
    pub(crate) fn for_each<T: Send>(
        &self,
        plan: &Plan,
        work: impl Fn(usize, CsrChunk) -> Result<T> + Sync,
        mut take: impl FnMut(usize, T) -> Result<()>,
    ) -> Result<()> {
        plan.check(self.n_rows, self.n_cols)?;
        let parts = self.parts();
        let read = |i: usize| {
            let rows = parts[i].clone();
            let chunk = plan.apply((self.read)(rows.clone())?, rows.start, self.n_cols)?;
            work(rows.start, chunk)
        };
        in_order(parts.len(), self.threads, read, |i, done| {
            if !(self.progress)(parts[i].end) {
                return Err(Error::new(ErrorKind::Interrupted, "stopped before the last row"));
            }
            take(parts[i].start, done)
        })
    }
}

/// The whole matrix with the plan applied.
///
/// # Errors
/// Those of reading; `invalid-argument` for a plan that does not fit the matrix, and for integers
/// that overflow; `interrupted`.
pub fn compute(source: &Source<'_>, dtype: slaf_core::Dtype, plan: &Plan) -> Result<CsrChunk> {
    let mut all = CsrChunk::empty(plan.dtype(dtype));
    source.for_each(
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
    let out = plan.dtype(dtype);
    let mut summary = Builder::new(request, out, source.n_rows, source.n_cols);
    let together = summary.adds_in_place();
    let group_sizes = summary.column_groups().to_vec();
    let work = |first: usize, chunk: CsrChunk| {
        let rows = with_values!(&chunk.values, v => rows::of(&chunk, v, request, &group_sizes));
        if together {
            return Ok((rows, None, Some(chunk)));
        }
        let columns = columns::Accumulator::of(out, request, source.n_cols).add(&chunk, first, request);
        Ok((rows, Some(columns), None))
    };
    source.for_each(plan, work, |first, (rows, columns, chunk)| {
        summary.take_rows(first, rows);
        match (columns, chunk) {
            (Some(columns), _) => summary.merge(&columns),
            (None, Some(chunk)) => summary.add(&chunk, first, request),
            (None, None) => {}
        }
        Ok(())
    })?;
    Ok(summary.finish())
}
