//! Arithmetic and statistics of the matrices of a store.

mod part;
mod pieces;
mod ranks;
mod stored;

pub(crate) use part::{Part, compute};
pub use pieces::{Answer, Piece, Pieces, Question};
pub(crate) use pieces::{pieces, work};
pub(crate) use ranks::rank_sums;

use crate::progress::Progress;
use part::{in_parts, streamed};
use slaf_core::Result;
use slaf_kernels::linear::{self, Gram, Leading, Wanted};
use slaf_kernels::matrix::{Plan, Request, Summary};

/// Statistics of a part with `plan` applied to it.
pub(crate) fn reduce(part: Part<'_>, plan: &Plan, request: &Request, progress: Progress<'_>) -> Result<Summary> {
    let known = stored::known(part, plan, request)?;
    let read = |pass: &stored::Pass| streamed(Part { cols: &pass.cols, ..part }, plan, &pass.request, progress);
    let found = known.passes().map(read).collect::<Result<_>>()?;
    Ok(known.finish(found))
}

/// The products of all pairs of columns of a part with `plan` applied to it.
pub(crate) fn gram(part: Part<'_>, plan: &Plan, progress: Progress<'_>) -> Result<Gram> {
    in_parts(part, plan, true, progress, |source, _| linear::gram(source, plan))
}

/// The largest eigenvalues of the products of columns of a part with `plan` applied to it.
pub(crate) fn leading(part: Part<'_>, plan: &Plan, wanted: Wanted<'_>, progress: Progress<'_>) -> Result<Leading> {
    in_parts(part, plan, true, progress, |source, _| linear::leading(source, plan, wanted))
}
