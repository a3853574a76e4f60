//! Passes in pieces that other machines work on, and answers that are put together from them.

use super::part::{Part, in_parts};
use super::ranks::rank_sums;
use super::stored;
use crate::progress::Progress;
use crate::reader::reads_genes;
use crate::selection::Selection;
use slaf_core::{Error, Result};
use slaf_kernels::linear::{Gram, Images, Vectors, gram_of_rows, images_of_rows};
use slaf_kernels::matrix::{self, Assembly, Plan, Request, Source, Summary, steps};
use slaf_kernels::rank_sums::{Comparison, RankSums};
use std::collections::VecDeque;
use std::ops::Range;

/// Genes of a piece that ranks cells, where genes are read alone.
const GENES: usize = 1024;
/// Versions of slaf that differ in it do not work together.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is asked about a part of a matrix.
#[derive(Clone, Debug)]
pub enum Question {
    /// See [`crate::Dataset::reduce`].
    Statistics(Request),
    /// See [`crate::Dataset::gram`].
    Products,
    /// What these products make of vectors: a pass of [`crate::Dataset::leading`].
    Images(Vectors),
    /// See [`crate::Dataset::rank_sums`].
    Ranks(Comparison),
}

/// The answer to a [`Question`].
// There is one of a pass.
#[allow(clippy::large_enum_variant)]
pub enum Answer {
    /// To [`Question::Statistics`].
    Statistics(Summary),
    /// To [`Question::Products`].
    Products(Gram),
    /// To [`Question::Images`]: one after another.
    Images(Vec<f64>),
    /// To [`Question::Ranks`].
    Ranks(RankSums),
}

/// Some of the work for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which pass over the values it is a part of.
    pass: usize,
    rows_or_columns: matrix::Piece,
    /// Rows that are read at once.
    part_rows: usize,
}

impl Piece {
    /// As numbers, for another machine.
    pub fn to_numbers(&self) -> [u64; 5] {
        let (is_columns, range) = match &self.rows_or_columns {
            matrix::Piece::Rows(rows) => (0, rows),
            matrix::Piece::Columns(columns) => (1, columns),
        };
        [self.pass as u64, is_columns, range.start as u64, range.end as u64, self.part_rows as u64]
    }

    /// What [`Piece::to_numbers`] gave.
    ///
    /// # Errors
    /// `invalid-argument` for other numbers.
    pub fn from_numbers([pass, is_columns, start, end, part_rows]: [u64; 5]) -> Result<Piece> {
        let range = start as usize..end as usize;
        let rows_or_columns = match is_columns {
            0 => matrix::Piece::Rows(range),
            1 => matrix::Piece::Columns(range),
            _ => return Err(Error::invalid("these numbers are no piece")),
        };
        Ok(Piece { pass: pass as usize, rows_or_columns, part_rows: part_rows as usize })
    }

    /// What comes before the result of a piece.
    fn header(&self) -> Vec<u8> {
        let numbers = self.to_numbers().into_iter().flat_map(u64::to_le_bytes);
        VERSION.bytes().chain([0]).chain(numbers).collect()
    }
}

/// Does a piece, for [`Pieces::take`].
pub(crate) fn work(
    part: Part<'_>,
    plan: &Plan,
    question: &Question,
    piece: &Piece,
    progress: Progress<'_>,
) -> Result<Vec<u8>> {
    let mut bytes = piece.header();
    let of = match &piece.rows_or_columns {
        matrix::Piece::Rows(rows) | matrix::Piece::Columns(rows) => rows.clone(),
    };
    match (question, &piece.rows_or_columns) {
        (Question::Statistics(request), which) => {
            let known = stored::known(part, plan, request)?;
            let pass = known.passes().nth(piece.pass).ok_or_else(|| Error::invalid("there is no such pass"))?;
            let part = Part { cols: &pass.cols, ..part };
            let found = match which {
                matrix::Piece::Rows(_) => in_parts(part, plan, true, progress, |source, dtype| {
                    same_parts(source, piece)?;
                    matrix::partial(source, dtype, plan, &pass.request, which)
                })?,
                matrix::Piece::Columns(_) => {
                    let (cols, plan) = columns(part, plan, &of)?;
                    let request = pass.request.of_columns(&of);
                    in_parts(Part { cols: &cols, ..part }, &plan, true, progress, |source, dtype| {
                        matrix::partial(source, dtype, &plan, &request, which)
                    })?
                }
            };
            found.to_bytes(&mut bytes);
        }
        (Question::Products, matrix::Piece::Rows(rows)) => {
            in_parts(part, plan, true, progress, |source, _| {
                same_parts(source, piece)?;
                gram_of_rows(source, plan, rows.clone())
            })?
            .to_bytes(&mut bytes);
        }
        (Question::Images(vectors), matrix::Piece::Rows(rows)) => {
            in_parts(part, plan, true, progress, |source, _| {
                same_parts(source, piece)?;
                images_of_rows(source, plan, rows.clone(), vectors)
            })?
            .to_bytes(&mut bytes);
        }
        (Question::Ranks(comparison), matrix::Piece::Columns(_)) => {
            let (cols, plan) = columns(part, plan, &of)?;
            rank_sums(Part { cols: &cols, ..part }, &plan, comparison, progress)?.to_bytes(&mut bytes);
        }
        _ => return Err(Error::invalid("this is no piece of what was asked")),
    }
    Ok(bytes)
}

fn within(range: &Range<usize>, n: usize) -> Result<Range<usize>> {
    if range.start <= range.end && range.end <= n {
        return Ok(range.clone());
    }
    Err(Error::invalid(format!("a piece from {} to {} of {n}", range.start, range.end)))
}

/// Some columns, and the plan for them.
fn columns(part: Part<'_>, plan: &Plan, of: &Range<usize>) -> Result<(Selection, Plan)> {
    let of = within(of, part.shape()?.1)?;
    let ids: Vec<u32> = (of.start as u32..of.end as u32).collect();
    Ok((part.cols.part(of.start as u64..of.end as u64), plan.of_columns(&ids)))
}

/// Sums depend on the parts that are read, in their last bits.
fn same_parts(source: &Source<'_>, piece: &Piece) -> Result<()> {
    if let matrix::Piece::Rows(rows) = &piece.rows_or_columns {
        within(rows, source.n_rows)?;
    }
    if source.part_rows == piece.part_rows {
        return Ok(());
    }
    let (here, there) = (source.part_rows, piece.part_rows);
    Err(Error::invalid(format!(
        "this machine reads {here} rows at once, and not {there}: set SLAF_BATCH_ROWS alike on all machines"
    )))
}

/// Pieces of the work for an answer, and what is known of it so far.
pub struct Pieces {
    waiting: VecDeque<Piece>,
    state: State,
}

// There is one of a pass.
#[allow(clippy::large_enum_variant)]
enum State {
    Statistics { known: stored::Known, passes: Vec<Assembly> },
    Products { n_cols: usize, so_far: Gram },
    Images { n_cols: usize, vectors: Vectors, so_far: Images },
    Ranks { comparison: Comparison, n_cells: usize, so_far: RankSums },
}

/// The pieces of the work for an answer, for so many workers.
pub(crate) fn pieces(part: Part<'_>, plan: &Plan, question: Question, workers: usize) -> Result<Pieces> {
    let (n_rows, n_cols) = part.shape()?;
    let mut waiting = VecDeque::new();
    let state = match question {
        Question::Statistics(request) => {
            let known = stored::known(part, plan, &request)?;
            let mut assemblies = Vec::new();
            for (i, pass) in known.passes().enumerate() {
                let part = Part { cols: &pass.cols, ..part };
                in_parts(part, plan, true, &|_| true, |source, dtype| {
                    let part_rows = source.part_rows;
                    let piece = |rows_or_columns| Piece { pass: i, rows_or_columns, part_rows };
                    waiting.extend(matrix::pieces(source, &pass.request, workers).into_iter().map(piece));
                    assemblies.push(Assembly::new(source, dtype, plan, &pass.request)?);
                    Ok(())
                })?;
            }
            State::Statistics { known, passes: assemblies }
        }
        Question::Products => {
            waiting.extend(stretches(part, plan)?);
            State::Products { n_cols, so_far: Gram::zeros(0, n_cols)? }
        }
        Question::Images(vectors) => {
            waiting.extend(stretches(part, plan)?);
            State::Images { n_cols, so_far: Images::zeros(&vectors, n_cols)?, vectors }
        }
        Question::Ranks(comparison) => {
            let Part { snapshot, key, rows, .. } = part;
            // Other matrices are read as a whole for each piece.
            let alone = reads_genes(&snapshot.manifest, key, snapshot.matrix(key)?, rows);
            let of_workers = n_cols.div_ceil(workers.max(1));
            for genes in steps(0..n_cols, if alone { of_workers.min(GENES) } else { of_workers }) {
                waiting.push_back(Piece { pass: 0, rows_or_columns: matrix::Piece::Columns(genes), part_rows: 0 });
            }
            let so_far = RankSums::empty(&comparison, 0, n_rows)?;
            State::Ranks { comparison, n_cells: n_rows, so_far }
        }
    };
    Ok(Pieces { waiting, state })
}

/// A piece of each stretch of rows.
fn stretches(part: Part<'_>, plan: &Plan) -> Result<Vec<Piece>> {
    in_parts(part, plan, true, &|_| true, |source, _| {
        let part_rows = source.part_rows;
        let piece = |rows| Piece { pass: 0, rows_or_columns: matrix::Piece::Rows(rows), part_rows };
        Ok(steps(0..source.n_rows, source.stretch_rows).into_iter().map(piece).collect())
    })
}

impl Pieces {
    /// Those that were not yet taken, in their order.
    pub fn waiting(&self) -> impl Iterator<Item = &Piece> {
        self.waiting.iter()
    }

    /// Takes what [`crate::Dataset::work`] gave for the next piece.
    ///
    /// # Errors
    /// `invalid-argument` for the result of another piece, or of another version of slaf.
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let piece = self.waiting.front().ok_or_else(|| Error::invalid("all pieces were taken"))?;
        let wrong = || {
            let message = format!("this is not the result of the next piece from slaf {VERSION}");
            Error::invalid(format!("{message}: all machines need the same version"))
        };
        let bytes = bytes.strip_prefix(piece.header().as_slice()).ok_or_else(wrong)?;
        match (&mut self.state, &piece.rows_or_columns) {
            (State::Statistics { passes, .. }, which) => passes[piece.pass].take(which, bytes)?,
            (State::Products { n_cols, so_far }, matrix::Piece::Rows(rows)) => {
                so_far.add(&Gram::from_bytes(bytes, rows.len(), *n_cols)?)?;
            }
            (State::Images { n_cols, vectors, so_far }, matrix::Piece::Rows(_)) => {
                so_far.add(&Images::from_bytes(bytes, vectors, *n_cols)?);
            }
            (State::Ranks { comparison, n_cells, so_far }, matrix::Piece::Columns(genes)) => {
                so_far.append(RankSums::from_bytes(bytes, comparison, genes.len(), *n_cells)?, genes.start);
            }
            _ => return Err(wrong()),
        }
        self.waiting.pop_front();
        Ok(())
    }

    /// The answer, after the last piece: that of one machine, bit by bit.
    ///
    /// # Errors
    /// `invalid-argument` if a piece is missing.
    pub fn finish(self) -> Result<Answer> {
        if !self.waiting.is_empty() {
            return Err(Error::invalid(format!("{} pieces are missing", self.waiting.len())));
        }
        Ok(match self.state {
            State::Statistics { known, passes } => {
                Answer::Statistics(known.finish(passes.into_iter().map(Assembly::finish).collect()))
            }
            State::Products { so_far, .. } => Answer::Products(so_far),
            State::Images { vectors, so_far, .. } => Answer::Images(so_far.finish(&vectors)),
            State::Ranks { so_far, .. } => Answer::Ranks(so_far),
        })
    }
}
