//! Pieces of the work for an answer, which are done apart, on other machines as well.

use super::builder::{Builder, HELD_APART};
use super::columns::Accumulator;
use super::plan::Plan;
use super::request::{Columns, Request, Running, Summary};
use super::rows::RowStats;
use super::source::{Source, steps};
use crate::wire::{Reader, put_all};
use slaf_core::{Dtype, Result};
use std::ops::Range;

/// Work that is done apart from other work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some rows.
    Rows(Range<usize>),
    /// Some columns of all rows.
    Columns(Range<usize>),
}

/// The pieces of a request, for so many workers: stretches of rows, whose sums are added in their
/// order; or columns, where values are added one by one in the order of the rows.
pub fn pieces(source: &Source<'_>, request: &Request, workers: usize) -> Vec<Piece> {
    let (n_rows, n_cols) = (source.n_rows, source.n_cols);
    if request.adds_in_place(n_cols) {
        if request.rows.is_some() || n_cols == 0 {
            return vec![Piece::Rows(0..n_rows)];
        }
        let most = HELD_APART / request.n_groups().max(1);
        return steps(0..n_cols, n_cols.div_ceil(workers.max(1)).min(most)).into_iter().map(Piece::Columns).collect();
    }
    // Rows are independent of each other; sums of columns are not.
    let step = if request.columns.is_some() { source.stretch() } else { source.stretch_rows };
    if n_rows == 0 { vec![Piece::Rows(0..0)] } else { steps(0..n_rows, step).into_iter().map(Piece::Rows).collect() }
}

impl Request {
    /// The same of some columns; [`Rows`](super::Rows) is about all, and left out.
    #[must_use]
    pub fn of_columns(&self, range: &Range<usize>) -> Request {
        let columns = self.columns.as_ref().map(|columns| Columns {
            centres: columns.centres.as_ref().map(|centres| centres[range.clone()].to_vec()),
            ..columns.clone()
        });
        Request { rows: None, columns, ..self.clone() }
    }
}

/// What a request found in a piece.
pub struct Partial {
    rows: Option<RowStats>,
    columns: Option<Accumulator>,
    running: Option<Running>,
}

/// Does a piece: of [`Piece::Columns`] source, plan and request are those of these columns.
///
/// # Errors
/// As [`reduce`](super::reduce).
pub fn partial(source: &Source<'_>, dtype: Dtype, plan: &Plan, request: &Request, piece: &Piece) -> Result<Partial> {
    request.check(source.n_rows, source.n_cols)?;
    let dtype = plan.dtype(dtype);
    let mut builder = match piece {
        Piece::Rows(rows) => Builder::new(request, dtype, rows.clone(), source),
        Piece::Columns(_) => Builder::new(request, dtype, 0..source.n_rows, source).in_place(),
    };
    builder.add_all(source, plan, request)?;
    let Builder { rows, columns, running, .. } = builder;
    Ok(Partial { rows, columns, running })
}

impl Partial {
    /// For another machine; see [`Assembly::take`].
    pub fn to_bytes(&self, to: &mut Vec<u8>) {
        if let Some(rows) = &self.rows {
            rows.to_bytes(to);
        }
        if let Some(columns) = &self.columns {
            columns.to_bytes(to);
        }
        if let Some(Running { stored, mean, square }) = &self.running {
            put_all(stored, to);
            put_all(mean, to);
            put_all(square, to);
        }
    }
}

/// An answer that is put together from those of its pieces, in their order. It is the one that
/// [`reduce`](super::reduce) gives, bit by bit.
pub struct Assembly {
    n_groups: usize,
    n_cols: usize,
    all: Builder,
}

impl Assembly {
    /// Before the first piece.
    ///
    /// # Errors
    /// `invalid-argument` for labels and weights of the wrong length.
    pub fn new(source: &Source<'_>, dtype: Dtype, plan: &Plan, request: &Request) -> Result<Assembly> {
        request.check(source.n_rows, source.n_cols)?;
        let all = Builder::new(request, plan.dtype(dtype), 0..source.n_rows, source);
        Ok(Assembly { n_groups: request.n_groups(), n_cols: source.n_cols, all })
    }

    /// Takes what [`Partial::to_bytes`] wrote of the next piece.
    ///
    /// # Errors
    /// `invalid-argument` for bytes of another piece or request.
    pub fn take(&mut self, piece: &Piece, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader(bytes);
        let n_cols = match piece {
            Piece::Rows(_) => self.n_cols,
            Piece::Columns(columns) => columns.len(),
        };
        if let (Some(rows), Piece::Rows(of)) = (&mut self.all.rows, piece) {
            let part = rows.like(of.len(), &mut reader)?;
            rows.put(of.start, &part);
        }
        if let Some(columns) = &mut self.all.columns {
            let part = columns.like(n_cols, &mut reader)?;
            match piece {
                Piece::Rows(_) => columns.merge(&part),
                Piece::Columns(of) => columns.put(of.start, &part),
            }
        }
        if let Some(running) = &mut self.all.running {
            let n = self.n_groups * n_cols;
            let part = Running { stored: reader.all(n)?, mean: reader.all(n)?, square: reader.all(n)? };
            let first = if let Piece::Columns(of) = piece { of.start } else { 0 };
            for group in 0..self.n_groups {
                let (from, to) = (group * n_cols..(group + 1) * n_cols, group * self.n_cols + first);
                running.stored[to..to + n_cols].copy_from_slice(&part.stored[from.clone()]);
                running.mean[to..to + n_cols].copy_from_slice(&part.mean[from.clone()]);
                running.square[to..to + n_cols].copy_from_slice(&part.square[from]);
            }
        }
        reader.end()
    }

    /// The answer, after the last piece.
    pub fn finish(self) -> Summary {
        self.all.finish()
    }
}
