//! The answer about a matrix grows, part by part.

use super::columns::Accumulator;
use super::plan::Plan;
use super::request::{Groups, Request, Running, Summary};
use super::rows::{self, RowStats};
use super::source::Source;
use slaf_core::{CsrChunk, Dtype, Result, with_values};
use std::ops::Range;

/// More columns of groups than this are held once, not once for each part in work.
pub(super) const HELD_APART: usize = 1 << 21;

/// Puts the statistics of parts together.
pub(super) struct Builder {
    dtype: Dtype,
    /// The rows of the matrix that the statistics are of.
    pub(super) of: Range<usize>,
    pub(super) rows: Option<RowStats>,
    pub(super) columns: Option<Accumulator>,
    /// Statistics of the stretch of rows that is being added.
    current: Option<Accumulator>,
    stretch: usize,
    pub(super) running: Option<Running>,
    n_cols: usize,
    wanted: u8,
    /// Whether parts are added one by one, value by value.
    in_place: bool,
    /// Numbers of rows, and of columns.
    row_groups: Vec<usize>,
    column_groups: Vec<usize>,
}

impl Request {
    /// Whether values of columns are added one by one in the order of the rows: because their order
    /// matters, or because each part would need too much memory of its own.
    pub(super) fn adds_in_place(&self, n_cols: usize) -> bool {
        let running = self.columns.as_ref().is_some_and(|columns| columns.running);
        let n = self.n_groups();
        running || self.columns.is_some() && n > 1 && n * n_cols > HELD_APART
    }
}

impl Builder {
    /// Before the first part of some rows of a matrix, for values of a type.
    pub(super) fn new(request: &Request, dtype: Dtype, of: Range<usize>, source: &Source<'_>) -> Builder {
        let sizes = |groups: Option<&Groups>, n: usize| groups.map_or_else(|| vec![n], Groups::sizes);
        let n_cols = source.n_cols;
        Builder {
            dtype,
            rows: request.rows.as_ref().map(|rows| RowStats::zeros(dtype, rows, of.len())),
            of,
            columns: request.columns.is_some().then(|| Accumulator::of(dtype, request, n_cols)),
            current: None,
            stretch: source.stretch(),
            running: Running::of(request, n_cols),
            n_cols,
            wanted: request.wanted(),
            in_place: request.adds_in_place(n_cols),
            row_groups: sizes(request.columns.as_ref().and_then(|c| c.groups.as_ref()), source.n_rows),
            column_groups: sizes(request.rows.as_ref().and_then(|r| r.groups.as_ref()), n_cols),
        }
    }

    /// The same, which adds value by value.
    pub(super) fn in_place(self) -> Builder {
        Builder { in_place: true, ..self }
    }

    /// Adds all of its rows.
    pub(super) fn add_all(&mut self, source: &Source<'_>, plan: &Plan, request: &Request) -> Result<()> {
        let (dtype, in_place, group_sizes) = (self.dtype, self.in_place, self.column_groups.clone());
        let work = |first: usize, chunk: CsrChunk| {
            let rows = with_values!(&chunk.values, v => rows::of(&chunk, v, request, &group_sizes));
            if in_place {
                return Ok((rows, None, Some(chunk)));
            }
            let columns = Accumulator::of(dtype, request, source.n_cols).add(&chunk, first, request);
            Ok((rows, Some(columns), None))
        };
        source.for_each(self.of.clone(), plan, work, |first, (rows, columns, chunk)| {
            if let (Some(all), Some(part)) = (&mut self.rows, rows) {
                all.put(first - self.of.start, &part);
            }
            match (columns, chunk) {
                (Some(columns), _) => self.merge(first, columns),
                (None, Some(chunk)) => self.add(&chunk, first, request),
                (None, None) => {}
            }
            Ok(())
        })?;
        self.end_stretch();
        Ok(())
    }

    fn merge(&mut self, first: usize, part: Accumulator) {
        if first.is_multiple_of(self.stretch) {
            self.end_stretch();
        }
        match &mut self.current {
            Some(current) => current.merge(&part),
            None => self.current = Some(part),
        }
    }

    fn end_stretch(&mut self) {
        if let (Some(columns), Some(stretch)) = (&mut self.columns, self.current.take()) {
            columns.merge(&stretch);
        }
    }

    fn add(&mut self, chunk: &CsrChunk, first: usize, request: &Request) {
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
