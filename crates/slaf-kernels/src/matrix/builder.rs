//! The answer about a matrix grows, part by part.

use super::columns::Accumulator;
use super::request::{Groups, Request, Running, Summary};
use super::rows::RowStats;
use slaf_core::{CsrChunk, Dtype};

/// More columns of groups than this are held once, not once for each part in work.
const HELD_APART: usize = 1 << 21;

/// Puts the statistics of parts together.
pub(super) struct Builder {
    dtype: Dtype,
    rows: Option<RowStats>,
    columns: Option<Accumulator>,
    running: Option<Running>,
    n_cols: usize,
    wanted: u8,
    /// Numbers of rows, and of columns.
    row_groups: Vec<usize>,
    column_groups: Vec<usize>,
}

impl Builder {
    pub(super) fn new(request: &Request, dtype: Dtype, n_rows: usize, n_cols: usize) -> Builder {
        let sizes = |groups: Option<&Groups>, n: usize| groups.map_or_else(|| vec![n], Groups::sizes);
        Builder {
            dtype,
            rows: request.rows.as_ref().map(|rows| RowStats::zeros(dtype, rows, n_rows)),
            columns: request.columns.is_some().then(|| Accumulator::of(dtype, request, n_cols)),
            running: Running::of(request, n_cols),
            n_cols,
            wanted: request.wanted(),
            row_groups: sizes(request.columns.as_ref().and_then(|c| c.groups.as_ref()), n_rows),
            column_groups: sizes(request.rows.as_ref().and_then(|r| r.groups.as_ref()), n_cols),
        }
    }

    pub(super) fn column_groups(&self) -> &[usize] {
        &self.column_groups
    }

    /// Whether parts are added one by one: because their order matters, or because each would need
    /// too much memory of its own.
    pub(super) fn adds_in_place(&self) -> bool {
        let n = self.row_groups.len();
        self.running.is_some() || self.columns.is_some() && n > 1 && n * self.n_cols > HELD_APART
    }

    pub(super) fn take_rows(&mut self, first: usize, part: Option<RowStats>) {
        if let (Some(rows), Some(part)) = (&mut self.rows, part) {
            rows.put(first, &part);
        }
    }

    pub(super) fn merge(&mut self, part: &Accumulator) {
        if let Some(columns) = &mut self.columns {
            columns.merge(part);
        }
    }

    pub(super) fn add(&mut self, chunk: &CsrChunk, first: usize, request: &Request) {
        if let Some(columns) = &mut self.columns {
            columns.add_rows(chunk, first, request);
        }
        if let (Some(running), Some(columns)) = (&mut self.running, &request.columns) {
            running.add(chunk, first, columns, self.n_cols);
        }
    }

    pub(super) fn finish(self) -> Summary {
        let mut summary = Summary { running: self.running, ..Summary::default() };
        if let Some(rows) = self.rows {
            (summary.rows, summary.top, summary.dot) = rows.finish(self.dtype, self.wanted, &self.column_groups);
        }
        if let Some(columns) = self.columns {
            (summary.columns, summary.left) = columns.finish(self.dtype, self.wanted, &self.row_groups);
        }
        summary
    }
}
