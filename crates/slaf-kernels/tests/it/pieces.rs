//! Work in pieces against the same work at once: the same bits.

use crate::kind;
use slaf_core::{CsrChunk, Dtype, ErrorKind, Result, Values};
use slaf_kernels::linear::{Gram, gram, gram_of_rows};
use slaf_kernels::matrix::{
    Assembly, Columns, Detail, Dot, Function, Groups, Left, Piece, Plan, Request, Rows, Source, Step, Summary, partial,
    pieces, reduce,
};
use slaf_kernels::rank_sums::{Against, Comparison, GeneSource, RankSums, rank_sums};
use std::ops::Range;

/// Thirds, which sums round, of about half of the places.
fn thirds(n_rows: usize, n_cols: usize, dtype: Dtype) -> CsrChunk {
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in 0..n_rows {
        for column in (0..n_cols).filter(|column| (row * 7 + column * 3) % 11 < 5) {
            indices.push(column as u32);
            values.push(((row * 31 + column * 17) % 101 + 1) as f64 / if dtype.is_float() { 3.0 } else { 1.0 });
        }
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: Values::F64(values).cast(dtype) }
}

/// The sizes of a source, and threads.
#[derive(Clone, Copy)]
struct Sizes {
    part_rows: usize,
    stretch_rows: usize,
    threads: usize,
}

fn with_source<T>(matrix: &CsrChunk, n_cols: usize, sizes: Sizes, work: impl FnOnce(&Source<'_>) -> T) -> T {
    let read = |rows: Range<usize>| -> Result<CsrChunk> { Ok(matrix.slice(rows)) };
    let Sizes { part_rows, stretch_rows, threads } = sizes;
    let n_rows = matrix.n_rows();
    work(&Source { n_rows, n_cols, read: &read, part_rows, stretch_rows, threads, progress: &|_| true })
}

fn some_columns(matrix: &CsrChunk, of: &Range<usize>) -> CsrChunk {
    let Values::F64(all) = matrix.values.cast(Dtype::F64) else { panic!("no f64") };
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in 0..matrix.n_rows() {
        for at in matrix.row(row).filter(|&at| of.contains(&(matrix.indices[at] as usize))) {
            indices.push(matrix.indices[at] - of.start as u32);
            values.push(all[at]);
        }
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: Values::F64(values).cast(matrix.values.dtype()) }
}

/// Each piece by itself, in any order, through bytes.
fn in_pieces(
    matrix: &CsrChunk,
    n_cols: usize,
    plan: &Plan,
    request: &Request,
    sizes: Sizes,
    workers: usize,
) -> Summary {
    let dtype = matrix.values.dtype();
    let (all, mut assembly) = with_source(matrix, n_cols, sizes, |source| {
        (pieces(source, request, workers), Assembly::new(source, dtype, plan, request).unwrap())
    });
    let work = |piece: &Piece| {
        let mut bytes = Vec::new();
        match piece {
            Piece::Rows(_) => with_source(matrix, n_cols, sizes, |s| partial(s, dtype, plan, request, piece)),
            Piece::Columns(of) => {
                let ids: Vec<u32> = (of.start as u32..of.end as u32).collect();
                let (plan, request, part) = (plan.of_columns(&ids), request.of_columns(of), some_columns(matrix, of));
                // Other parts make no difference here.
                let sizes = Sizes { part_rows: sizes.part_rows + 1, ..sizes };
                with_source(&part, of.len(), sizes, |s| partial(s, dtype, &plan, &request, piece))
            }
        }
        .unwrap()
        .to_bytes(&mut bytes);
        bytes
    };
    let found: Vec<Vec<u8>> = all.iter().rev().map(work).collect();
    for (piece, bytes) in all.iter().zip(found.iter().rev()) {
        if let Some((_, shorter)) = bytes.split_last() {
            let mut other = assembly_like(matrix, n_cols, plan, request, sizes);
            assert_eq!(kind(other.take(piece, shorter)), WRONG);
        }
        assembly.take(piece, bytes).unwrap();
    }
    assembly.finish()
}

const WRONG: ErrorKind = ErrorKind::InvalidArgument;

fn assembly_like(matrix: &CsrChunk, n_cols: usize, plan: &Plan, request: &Request, sizes: Sizes) -> Assembly {
    let dtype = matrix.values.dtype();
    with_source(matrix, n_cols, sizes, |source| Assembly::new(source, dtype, plan, request)).unwrap()
}

/// Bits: what is printed of a float64 is that number alone.
fn bits(summary: &Summary) -> String {
    format!("{summary:?}")
}

fn groups(n: usize, of: usize) -> Option<Groups> {
    Some(Groups { labels: (0..n).map(|i| (i % (of + 1)) as u32).collect(), n: of })
}

#[test]
fn statistics_are_the_same_bits_in_pieces_and_at_any_number_of_threads() {
    let (n_rows, n_cols) = (203, 13);
    let weights = |n: usize| (0..n * 2).map(|i| (i % 5) as f64 / 7.0).collect::<Vec<_>>();
    let rows = Rows { top: vec![1, 4], dot: Some(Dot { weights: weights(n_cols), k: 2 }), groups: groups(n_cols, 3) };
    let columns = Columns {
        groups: groups(n_rows, 3),
        centres: Some(weights(n_cols)[..n_cols].to_vec()),
        left: Some(Left { weights: weights(n_rows), k: 2 }),
        running: false,
    };
    let running = Columns { running: true, ..columns.clone() };
    let both = Request { rows: Some(rows.clone()), columns: Some(columns.clone()), ..Request::default() };
    let requests = [
        both.clone(),
        Request { detail: Detail::All, signs: true, ..both.clone() },
        Request { detail: Detail::Squares, skip_nan: true, ..both.clone() },
        Request { rows: None, ..both.clone() },
        Request { columns: None, ..both.clone() },
        Request { rows: None, columns: Some(running.clone()), ..Request::default() },
        Request { columns: Some(running), ..both },
        Request::default(),
    ];
    for dtype in [Dtype::F32, Dtype::F64, Dtype::U8] {
        let matrix = thirds(n_rows, n_cols, dtype);
        let steps = if dtype.is_float() { vec![Step::Map(Function::Log1p)] } else { Vec::new() };
        let plan = Plan::new(steps).unwrap();
        for request in &requests {
            for (part_rows, stretch_rows) in [(3, 12), (3, 20), (5, 5), (7, 1), (4, 1 << 16)] {
                let at_once = |threads| {
                    let sizes = Sizes { part_rows, stretch_rows, threads };
                    with_source(&matrix, n_cols, sizes, |s| reduce(s, dtype, &plan, request)).unwrap()
                };
                let expected = bits(&at_once(1));
                for threads in [2, 5] {
                    assert_eq!(bits(&at_once(threads)), expected);
                }
                for workers in [1, 2, 5] {
                    let sizes = Sizes { part_rows, stretch_rows, threads: workers };
                    let found = in_pieces(&matrix, n_cols, &plan, request, sizes, workers);
                    assert_eq!(bits(&found), expected, "{part_rows} {stretch_rows} {workers}");
                }
            }
        }
    }
}

#[test]
fn groups_that_are_held_once_are_worked_on_by_columns() {
    let (n_rows, n_cols, n) = (40, 30, 80_000);
    let matrix = thirds(n_rows, n_cols, Dtype::F64);
    let labels = (0..n_rows).map(|i| (i % 2 * (n - 1)) as u32).collect();
    let columns = Columns { groups: Some(Groups { labels, n }), ..Columns::default() };
    let request = Request { columns: Some(columns), detail: Detail::Squares, ..Request::default() };
    let sizes = Sizes { part_rows: 7, stretch_rows: 14, threads: 2 };
    let expected = with_source(&matrix, n_cols, sizes, |s| reduce(s, Dtype::F64, &Plan::default(), &request)).unwrap();
    let all = with_source(&matrix, n_cols, sizes, |s| pieces(s, &request, 2));
    assert_eq!(all, [Piece::Columns(0..15), Piece::Columns(15..30)]);
    let found = in_pieces(&matrix, n_cols, &Plan::default(), &request, sizes, 2);
    assert!(bits(&found) == bits(&expected));
}

#[test]
fn nothing_is_a_piece_too() {
    let matrix = thirds(0, 4, Dtype::F32);
    let request = Request { rows: Some(Rows::default()), columns: Some(Columns::default()), ..Request::default() };
    let sizes = Sizes { part_rows: 3, stretch_rows: 6, threads: 2 };
    let expected = with_source(&matrix, 4, sizes, |s| reduce(s, Dtype::F32, &Plan::default(), &request)).unwrap();
    assert_eq!(bits(&in_pieces(&matrix, 4, &Plan::default(), &request, sizes, 3)), bits(&expected));
}

#[test]
fn products_are_the_same_bits_in_stretches_and_at_any_number_of_threads() {
    for (n_rows, n_cols, share) in
        [(9000, 40, Dtype::F32), (403, 150, Dtype::F64), (1, 1, Dtype::U8), (0, 3, Dtype::F32)]
    {
        let matrix = thirds(n_rows, n_cols, share);
        for (part_rows, stretch_rows) in [(100, 64), (64, 100), (1000, 5000), (1000, 1 << 16)] {
            let at_once = |threads| {
                let sizes = Sizes { part_rows, stretch_rows, threads };
                with_source(&matrix, n_cols, sizes, |s| gram(s, &Plan::default())).unwrap()
            };
            let expected = at_once(1);
            for threads in [2, 5] {
                assert_eq!(at_once(threads), expected);
            }
            let mut sum = Gram::zeros(0, n_cols).unwrap();
            for start in (0..n_rows).step_by(stretch_rows) {
                let rows = start..(start + stretch_rows).min(n_rows);
                // How many rows are read at once makes no difference.
                let sizes = Sizes { part_rows: 37, stretch_rows, threads: 2 };
                let part = with_source(&matrix, n_cols, sizes, |s| gram_of_rows(s, &Plan::default(), rows.clone()));
                let mut bytes = Vec::new();
                part.unwrap().to_bytes(&mut bytes);
                assert_eq!(kind(Gram::from_bytes(&bytes[1..], rows.len(), n_cols)), WRONG);
                sum.add(&Gram::from_bytes(&bytes, rows.len(), n_cols).unwrap()).unwrap();
            }
            assert_eq!(sum, expected);
        }
    }
    assert_eq!(kind(Gram::zeros(0, 3).unwrap().add(&Gram::zeros(0, 2).unwrap())), WRONG);
}

#[test]
fn ranks_of_genes_are_put_together() {
    let (n_genes, n_cells) = (23, 60);
    let matrix = thirds(n_genes, n_cells, Dtype::F32);
    for against in [Against::Rest, Against::Group(1)] {
        let comparison = Comparison { groups: groups(n_cells, 3).unwrap(), against, ties: true };
        let of = |genes: Range<usize>| {
            let part = matrix.slice(genes);
            let read = |genes: Range<usize>| -> Result<CsrChunk> { Ok(part.slice(genes)) };
            let (n_genes, parts) = (part.n_rows(), [0..part.n_rows()]);
            let source = GeneSource { n_genes, n_cells, parts: &parts, read: &read, threads: 2, progress: &|_| true };
            rank_sums(&source, &comparison).unwrap()
        };
        let mut found = RankSums::empty(&comparison, 0, n_cells).unwrap();
        for start in (0..n_genes).step_by(5) {
            let genes = start..(start + 5).min(n_genes);
            let mut bytes = Vec::new();
            of(genes.clone()).to_bytes(&mut bytes);
            let shorter = RankSums::from_bytes(&bytes[..bytes.len() - 1], &comparison, genes.len(), n_cells);
            assert_eq!(kind(shorter), WRONG);
            found.append(RankSums::from_bytes(&bytes, &comparison, genes.len(), n_cells).unwrap(), start);
        }
        assert_eq!(found, of(0..n_genes));
    }
}
