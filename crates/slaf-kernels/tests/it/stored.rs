//! Rows whose columns are in another order than the genes.

use crate::{Cell, chunk, column, kind, random_cells, tokenize};
use proptest::prelude::*;
use slaf_core::{CsrChunk, Dtype, ErrorKind};
use slaf_kernels::tokenizers::{
    Binning, Description, GeneTable, Geneformer, Recipe, Select, Ties, Tokenizer, TotalOf, Vocabulary,
};

const N_GENES: u32 = 70;

/// Every sixth gene has no token; if `shared`, genes 10 and 20 have the same.
fn tokenizer(description: Description, medians: &[f64], shared: bool) -> Tokenizer {
    let name = |g: u32| if shared && g == 20 { "ENSG00000000010.2".into() } else { format!("ENSG{g:011}") };
    let ids: Vec<String> = (0..N_GENES).map(name).collect();
    let known = |g: &u32| g % 6 != 1 && !(shared && *g == 20);
    let genes = (0..N_GENES).filter(known).map(|g| format!("ENSG{g:011}"));
    let specials = ["<pad>", "<mask>", "<cls>", "<eos>"].map(String::from);
    let vocabulary = Vocabulary::new(specials.into_iter().chain(genes.clone()).zip(0..)).unwrap();
    let medians = GeneTable::new(genes.zip(medians.iter().copied())).unwrap();
    let description = Description { genes: slaf_kernels::tokenizers::IdStyle::Ensembl, ..description };
    Recipe::new(description, vocabulary).with_scales(medians).prepare(&[column("gene_id", &ids)]).unwrap()
}

fn descriptions(length: usize) -> Vec<Description> {
    let geneformer = Description::geneformer(Geneformer::V1, length);
    let scgpt = |mode| Description::scgpt(length, 9, mode, -2.0);
    vec![
        Description { scale: false, ..geneformer.clone() },
        Description { total: TotalOf::Vocabulary, ..geneformer.clone() },
        Description { select: Select::Top { ties: Ties::Random }, ..geneformer.clone() },
        Description { target_sum: None, ..geneformer.clone() },
        geneformer,
        Description::geneformer(Geneformer::V2, length),
        Description { select: Select::Head, ..scgpt(Binning::Deterministic) },
        scgpt(Binning::ScGpt),
        scgpt(Binning::Strict),
    ]
}

/// The rows with column `i` where gene `gene_of[i]` was.
fn stored(cells: &[Cell], gene_of: &[u32], dtype: Dtype) -> CsrChunk {
    let moved = |cell: &Cell| -> Cell {
        let rank = |gene: u32| gene_of.iter().position(|&g| g == gene).unwrap() as u32;
        let mut moved: Cell = cell.iter().map(|&(gene, x)| (rank(gene), x)).collect();
        moved.sort_by_key(|e| e.0);
        moved
    };
    chunk(&cells.iter().map(moved).collect::<Vec<_>>(), dtype)
}

/// Counts with explicit zeros, parts of a count whose sums depend on their order, and far ones.
fn a_cell() -> impl Strategy<Value = Cell> {
    let value = prop_oneof![
        6 => (0_u8..4).prop_map(f64::from),
        1 => (1_u16..900).prop_map(|x| f64::from(x) / 7.0),
        1 => Just(1e-3),
        1 => Just(3e9),
    ];
    proptest::collection::btree_map(0..N_GENES, value, 0..70).prop_map(|m| m.into_iter().collect())
}

/// Ties, and keys that differ in the last bits.
fn medians() -> impl Strategy<Value = Vec<f64>> {
    let median = prop_oneof![
        (1_u8..4).prop_map(f64::from),
        (0_u64..4).prop_map(|n| f64::from_bits(2.5_f64.to_bits() + n)),
        (0_u32..4).prop_map(|n| f64::from(f32::from_bits(2.5_f32.to_bits() + n))),
        0.1_f64..9.0,
    ];
    proptest::collection::vec(median, N_GENES as usize)
}

proptest! {
    #[test]
    fn rows_are_the_same_in_any_order_of_the_columns(
        cells in proptest::collection::vec(a_cell(), 1..4),
        gene_of in Just((0..N_GENES).collect::<Vec<u32>>()).prop_shuffle(),
        medians in medians(),
        length in 4_usize..80,
        shared in any::<bool>(),
        dtype in prop_oneof![Just(Dtype::F32), Just(Dtype::F64)],
    ) {
        for description in descriptions(length) {
            let tokenizer = tokenizer(description.clone(), &medians, shared);
            let expected = tokenize(&tokenizer, &chunk(&cells, dtype));
            let found = tokenize(&tokenizer.with_columns(&gene_of).unwrap(), &stored(&cells, &gene_of, dtype));
            prop_assert_eq!(found, expected, "{:?}", description);
        }
    }
}

/// Counts alone, small and large, and few other values.
fn counts() -> impl Strategy<Value = Cell> {
    let value = prop_oneof![
        60 => (1_u8..4).prop_map(f64::from),
        6 => (4_u16..300).prop_map(f64::from),
        6 => (1_u16..900).prop_map(|x| f64::from(x) / 7.0),
        1 => Just(3e9),
    ];
    proptest::collection::btree_map(0..N_GENES, value, 0..70).prop_map(|m| m.into_iter().collect())
}

proptest! {
    #[test]
    fn bins_of_counts_are_the_same_in_any_order_of_the_columns(
        cells in proptest::collection::vec(counts(), 1..4),
        gene_of in Just((0..N_GENES).collect::<Vec<u32>>()).prop_shuffle(),
        length in 4_usize..80,
        dtype in prop_oneof![Just(Dtype::F32), Just(Dtype::F64), Just(Dtype::U32)],
    ) {
        let models = [Binning::Deterministic, Binning::ScGpt].map(|mode| Description::scgpt(length, 51, mode, -2.0));
        for select in [models[0].select, Select::Head] {
            for model in &models {
                let tokenizer = tokenizer(Description { select, ..model.clone() }, &[1.0; N_GENES as usize], false);
                let expected = tokenize(&tokenizer, &chunk(&cells, dtype));
                let found = tokenize(&tokenizer.with_columns(&gene_of).unwrap(), &stored(&cells, &gene_of, dtype));
                prop_assert_eq!(found, expected, "{:?}", tokenizer.description());
            }
        }
    }
}

/// Rows that are sorted by radix in full, and cut.
#[test]
fn large_rows_are_the_same() {
    let medians: Vec<f64> = (0..N_GENES).map(|g| 0.2 + f64::from(g * 7_919 % 97) / 50.0).collect();
    let gene_of: Vec<u32> = (0..N_GENES).rev().collect();
    let cells = random_cells(30, N_GENES, 0.9, 3);
    for dtype in [Dtype::U8, Dtype::U16, Dtype::I64, Dtype::F32] {
        for description in descriptions(12) {
            let tokenizer = tokenizer(description, &medians, false);
            let again = tokenizer.with_columns(&gene_of).unwrap();
            assert_eq!(tokenize(&again, &stored(&cells, &gene_of, dtype)), tokenize(&tokenizer, &chunk(&cells, dtype)));
        }
    }
}

#[test]
fn every_gene_has_a_column() {
    let tokenizer = tokenizer(Description::geneformer(Geneformer::V1, 5), &[1.0; N_GENES as usize], false);
    for gene_of in [vec![0; N_GENES as usize], (0..N_GENES - 1).collect(), (0..=N_GENES).collect(), Vec::new()] {
        assert_eq!(kind(tokenizer.with_columns(&gene_of)), ErrorKind::InvalidArgument);
    }
    let negative = chunk(&[vec![(0, 1.0), (69, -2.0)]], Dtype::F32);
    let again = tokenizer.with_columns(&(0..N_GENES).rev().collect::<Vec<_>>()).unwrap();
    let error = crate::tokenize_with(
        &again,
        &slaf_kernels::tokenizers::Batch { chunk: &negative, cells: &[7], totals: None },
        &mut slaf_kernels::tokenizers::Random::new(0, 0),
    );
    // Column 69 is gene 0.
    assert!(error.unwrap_err().to_string().contains("gene 0 in cell 7"));
}
