//! Rank sums against ranks that are found cell by cell.

use crate::kind;
use proptest::prelude::*;
use slaf_core::{CsrChunk, Dtype, ErrorKind, Result, Values};
use slaf_kernels::matrix::{Groups, Op, Operand, Plan, Step};
use slaf_kernels::rank_sums::{Against, Comparison, GeneSource, RankSums, parts_of, rank_sums, rank_sums_by_cell};
use std::ops::Range;

/// Genes x cells.
type Dense = Vec<Vec<f64>>;

/// Explicit zeros at every third place; cells of a gene fall.
fn gene_major(dense: &Dense, dtype: Dtype) -> CsrChunk {
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for gene in dense {
        for (cell, &value) in gene.iter().enumerate().rev().filter(|(i, v)| **v != 0.0 || i % 3 == 0) {
            indices.push(cell as u32);
            values.push(value);
        }
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: Values::F64(values).cast(dtype) }
}

fn cell_major(dense: &Dense, genes: Range<usize>, n_cells: usize, dtype: Dtype) -> CsrChunk {
    let cells: Dense = (0..n_cells).map(|c| dense[genes.clone()].iter().map(|gene| gene[c]).collect()).collect();
    gene_major(&cells, dtype)
}

fn run(dense: &Dense, dtype: Dtype, comparison: &Comparison, parts: &[Range<usize>], threads: usize) -> RankSums {
    let all = gene_major(dense, dtype);
    let read = |genes: Range<usize>| -> Result<CsrChunk> { Ok(all.slice(genes)) };
    let n_cells = comparison.groups.labels.len();
    let n_genes = dense.len();
    let source = GeneSource { n_genes, n_cells, parts, read: &read, threads, progress: &|_| true };
    rank_sums(&source, comparison).unwrap()
}

/// The average rank of each of some values among them.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |x: &f64| {
        let (below, equal) = (values.iter().filter(|v| *v < x).count(), values.iter().filter(|v| *v == x).count());
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// `1 - sum(t^3 - t) / (n^3 - n)`.
fn tie_coefficient(values: &[f64]) -> f64 {
    let cubed = |t: f64| t * t * t - t;
    let of_value = |x: &f64| {
        let t = values.iter().filter(|v| *v == x).count() as f64;
        cubed(t) / t
    };
    let n = values.len() as f64;
    if n < 2.0 { 1.0 } else { 1.0 - values.iter().map(of_value).sum::<f64>() / cubed(n) }
}

fn assert_plain(found: &RankSums, dense: &Dense, comparison: &Comparison) {
    let (labels, n) = (&comparison.groups.labels, comparison.groups.n);
    let members = |g: usize| (0..labels.len()).filter(move |&c| labels[c] as usize == g);
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} {b}");
    for (gene, values) in dense.iter().enumerate() {
        for g in 0..n {
            let at = gene * n + g;
            let of_group = || members(g).map(|c| values[c]);
            close(found.sums[at], of_group().sum());
            assert_eq!(found.nonzero[at] as usize, of_group().filter(|v| *v != 0.0).count());
            match comparison.against {
                Against::Rest => {
                    let ranks = ranks(values);
                    assert_eq!(found.rank_sums[at], members(g).map(|c| ranks[c]).sum::<f64>());
                    close(found.ties[gene], tie_coefficient(values));
                }
                Against::Group(reference) if reference == g => assert_eq!(found.rank_sums[at], 0.0),
                Against::Group(reference) => {
                    let both: Vec<f64> = of_group().chain(members(reference).map(|c| values[c])).collect();
                    assert_eq!(found.rank_sums[at], ranks(&both)[..of_group().count()].iter().sum::<f64>());
                    close(found.ties[at], tie_coefficient(&both));
                }
            }
        }
    }
    assert_eq!(found.nan, None);
    assert_eq!(found.is_counts, dense.iter().flatten().all(|v| *v >= 0.0 && v.fract() == 0.0));
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![4 => Just(0.0), 2 => (-2i32..5).prop_map(f64::from), 1 => (-9i32..9).prop_map(|i| f64::from(i) / 4.0)]
}

/// Values, and labels of the cells: group 1 has none.
fn data() -> impl Strategy<Value = (Dense, Vec<u32>)> {
    (1usize..5, 1usize..40).prop_flat_map(|(genes, cells)| {
        let dense = proptest::collection::vec(proptest::collection::vec(value(), cells), genes);
        (dense, proptest::collection::vec(prop_oneof![Just(0), 2u32..4, Just(9)], cells))
    })
}

proptest! {
    #[test]
    fn ranks_are_those_of_every_cell(
        (dense, labels) in data(),
        against in prop_oneof![Just(Against::Rest), (0usize..4).prop_map(Against::Group)],
        threads in 1usize..4,
        part in 1usize..3,
        is_f32: bool,
    ) {
        let dtype = if is_f32 { Dtype::F32 } else { Dtype::F64 };
        let n_cells = labels.len();
        let comparison = Comparison { groups: Groups { labels, n: 4 }, against, ties: true };
        let parts: Vec<_> = (0..dense.len()).step_by(part).map(|i| i..(i + part).min(dense.len())).collect();
        let found = run(&dense, dtype, &comparison, &parts, threads);
        assert_plain(&found, &dense, &comparison);
        let compute = |genes: Range<usize>| -> Result<CsrChunk> { Ok(cell_major(&dense, genes, n_cells, dtype)) };
        let by_cell = rank_sums_by_cell(n_cells, &parts, &compute, &comparison, threads, &|_| true).unwrap();
        assert_plain(&by_cell, &dense, &comparison);
        let places: Vec<usize> = (0..dense.len()).rev().collect();
        let turned: Dense = dense.iter().rev().cloned().collect();
        assert_plain(&by_cell.reordered(&places), &turned, &comparison);
        let without = Comparison { ties: false, ..comparison };
        prop_assert_eq!(run(&dense, dtype, &without, &parts, 1).ties, Vec::<f64>::new());
    }

    #[test]
    fn a_plan_of_the_transpose_gives_the_transpose(
        (dense, _) in data(),
        numbers in proptest::collection::vec(-3.0f64..3.0, 200),
    ) {
        let (n_genes, n_cells) = (dense.len(), dense[0].len());
        let (rows, columns) = (numbers[..n_cells].to_vec(), numbers[100..100 + n_genes].to_vec());
        let combine = |op, operand| Step::Combine { op, operand, rows: None };
        let plan = Plan::new(vec![
            combine(Op::Multiply, Operand::Rows(Values::F64(rows.clone()))),
            combine(Op::Divide, Operand::Scalar(Values::F64(vec![0.7]))),
            Step::Densify,
            combine(Op::Subtract, Operand::Columns(Values::F64(columns.clone()))),
            Step::SubtractProduct {
                left: numbers[..n_cells * 2].to_vec(),
                right: numbers[90..90 + n_genes * 2].to_vec(),
                k: 2,
            },
        ]).unwrap();
        let whole = plan.apply(cell_major(&dense, 0..n_genes, n_cells, Dtype::F64), 0, n_genes).unwrap();
        let chosen: Vec<u32> = (0..n_genes as u32).rev().step_by(2).collect();
        let of_chosen: Dense = chosen.iter().map(|&g| dense[g as usize].clone()).collect();
        let transposed = plan.transposed(&chosen).unwrap();
        let turned = transposed.apply(gene_major(&of_chosen, Dtype::F64), 0, n_cells).unwrap();
        let parts = plan.of_columns(&chosen);
        let part = cell_major(&of_chosen, 0..chosen.len(), n_cells, Dtype::F64);
        let part = parts.apply(part, 0, chosen.len()).unwrap();
        let (Values::F64(whole), Values::F64(turned), Values::F64(part)) = (whole.values, turned.values, part.values)
            else { panic!("no f64") };
        for (i, &gene) in chosen.iter().enumerate() {
            for cell in 0..n_cells {
                let expected = whole[cell * n_genes + gene as usize];
                prop_assert_eq!(turned[i * n_cells + cell].to_bits(), expected.to_bits());
                prop_assert_eq!(part[cell * chosen.len() + i].to_bits(), expected.to_bits());
            }
        }
    }
}

#[test]
fn a_plan_that_changes_some_rows_has_no_transpose() {
    let operand = Operand::Scalar(Values::F64(vec![2.0]));
    let step = Step::Combine { op: Op::Multiply, operand, rows: Some(vec![true, false]) };
    assert!(Plan::new(vec![step]).unwrap().transposed(&[0]).is_none());
}

fn of_labels(labels: Vec<u32>, n: usize, against: Against) -> Comparison {
    Comparison { groups: Groups { labels, n }, against, ties: true }
}

#[test]
fn many_groups_and_many_values_are_ranked() {
    let (n, n_groups) = (6000usize, 1500u32);
    let dense = vec![(0..n).map(|i| ((i * 7919) % 2003) as f64 / 8.0 - 20.0).collect::<Vec<_>>()];
    let labels: Vec<u32> = (0..n as u32).map(|i| i % n_groups).collect();
    for against in [Against::Rest, Against::Group(3)] {
        let comparison = of_labels(labels.clone(), n_groups as usize, against);
        let found = run(&dense, Dtype::F32, &comparison, &[0..1], 2);
        let few = [0, 3, 1499];
        let ranks = ranks(&dense[0]);
        for g in few {
            let members = || (0..n).filter(|i| i % n_groups as usize == g);
            let expected: f64 = match against {
                Against::Rest => members().map(|i| ranks[i]).sum(),
                Against::Group(r) if r == g => 0.0,
                Against::Group(r) => {
                    let both: Vec<f64> =
                        members().chain((0..n).filter(|i| i % n_groups as usize == r)).map(|i| dense[0][i]).collect();
                    self::ranks(&both)[..members().count()].iter().sum()
                }
            };
            assert_eq!(found.rank_sums[g], expected);
        }
    }
}

#[test]
fn whole_numbers_of_64_bits_are_not_rounded() {
    let values = Values::I64(vec![i64::MAX, i64::MAX - 1, i64::MIN, i64::MIN + 1, 1 << 60, (1 << 60) + 1]);
    let chunk = CsrChunk { indptr: vec![0, 6], indices: (0..6).collect(), values };
    let read = |_: Range<usize>| -> Result<CsrChunk> { Ok(chunk.clone()) };
    let source = GeneSource { n_genes: 1, n_cells: 6, parts: &[0..1], read: &read, threads: 1, progress: &|_| true };
    let found = rank_sums(&source, &of_labels((0..6).collect(), 6, Against::Rest)).unwrap();
    assert_eq!(found.rank_sums, [6.0, 5.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(found.ties, [1.0]);
}

#[test]
fn genes_with_nan_are_named() {
    let dense = vec![vec![1.0, 2.0], vec![f64::NAN, 1.0], vec![f64::NAN, 0.0]];
    let comparison = of_labels(vec![0, 1], 2, Against::Rest);
    let found = run(&dense, Dtype::F32, &comparison, &[0..1, 1..3], 2);
    assert_eq!(found.nan, Some(1));
    assert_eq!(found.reordered(&[2, 1, 0]).nan, Some(1));
    assert!(!found.is_counts);
}

#[test]
fn infinities_are_ranked_and_negative_zero_is_zero() {
    let dense = vec![vec![f64::INFINITY, -0.0, f64::NEG_INFINITY, 1.0]];
    let found = run(&dense, Dtype::F32, &of_labels(vec![0, 1, 2, 3], 4, Against::Rest), &[0..1], 1);
    assert_eq!(found.rank_sums, [4.0, 2.0, 1.0, 3.0]);
    assert_eq!(found.nonzero, [1, 0, 1, 1]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let read = |_: Range<usize>| -> Result<CsrChunk> { Ok(CsrChunk::empty(Dtype::F32)) };
    let source = |progress| GeneSource { n_genes: 1, n_cells: 2, parts: &[0..1], read: &read, threads: 1, progress };
    let run = |comparison: &Comparison| kind(rank_sums(&source(&|_| true), comparison));
    assert_eq!(run(&of_labels(vec![0], 1, Against::Rest)), ErrorKind::InvalidArgument);
    assert_eq!(run(&of_labels(vec![0, 1], 2, Against::Group(2))), ErrorKind::InvalidArgument);
    assert_eq!(run(&of_labels(vec![0, 1], 2, Against::Rest)), ErrorKind::Internal);
    let comparison = of_labels(vec![0, 1], 2, Against::Rest);
    let compute = |genes| -> Result<CsrChunk> { Ok(cell_major(&vec![vec![1.0, 0.0]], genes, 2, Dtype::F32)) };
    let stopped = rank_sums_by_cell(2, &[0..1], &compute, &comparison, 1, &|_| false);
    assert_eq!(kind(stopped), ErrorKind::Interrupted);
}

#[test]
fn parts_have_all_genes_and_few_values() {
    assert_eq!(parts_of(&[5, 5, 20, 1, 1], 10), [0..2, 2..3, 3..5]);
    assert_eq!(parts_of(&[], 10), Vec::<Range<usize>>::new());
    assert_eq!(parts_of(&[0; 3], 0), [0..3]);
}
