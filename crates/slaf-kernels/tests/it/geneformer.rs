use crate::{Cell, chunk, column, kind, random_cells, shared_data, tokenize, tokenize_with};
use proptest::prelude::*;
use slaf_core::{Dtype, ErrorKind};
use slaf_kernels::tokenizers::{
    Batch, Description, GeneTable, Geneformer, MedianBuilder, Random, Recipe, Tokenizer, Vocabulary,
};
use std::collections::HashMap;

const N_GENES: u32 = 40;

fn ids() -> Vec<String> {
    (0..N_GENES).map(|i| format!("ENSG{i:011}")).collect()
}

/// Genes 0, 7, 14, ... have no token, genes 3 and 4 no median.
fn has_both(gene: u32) -> bool {
    !gene.is_multiple_of(7) && gene != 3 && gene != 4
}

/// With all genes, or those that [`has_both`] alone.
fn recipe(description: Description, medians: &[f64], all: bool) -> Recipe {
    let specials = ["<pad>", "<mask>", "<cls>", "<eos>"].map(String::from);
    let genes = (0..).zip(ids()).filter(|(g, _)| all || g % 7 != 0).map(|(_, id)| id);
    let vocabulary = Vocabulary::new(specials.into_iter().chain(genes).zip(0..)).unwrap();
    let medians = (0..).zip(ids().into_iter().zip(medians.iter().copied())).filter(|(g, _)| all || !matches!(g, 3 | 4));
    Recipe::new(description, vocabulary).with_scales(GeneTable::new(medians.map(|(_, median)| median)).unwrap())
}

/// The definition: keys in double precision, a stable sort, then the cut.
fn oracle(cell: &Cell, token: impl Fn(u32) -> Option<i64>, median: impl Fn(u32) -> f64, body: usize) -> Vec<i64> {
    let total: f64 = cell.iter().map(|e| e.1).sum();
    let mut ranked: Vec<(f64, i64)> = cell
        .iter()
        .filter(|e| e.1 != 0.0)
        .filter_map(|&(g, x)| Some((x / total * 10_000.0 / median(g), token(g)?)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.truncate(body);
    ranked.into_iter().map(|e| e.1).collect()
}

fn a_cell() -> impl Strategy<Value = Cell> {
    let value = prop_oneof![4 => (0_u8..4).prop_map(f64::from), 1 => (0_u16..500).prop_map(|x| f64::from(x) / 8.0)];
    proptest::collection::btree_map(0..N_GENES, value, 0..40).prop_map(|m| m.into_iter().collect())
}

/// Few different medians make many ties, medians that differ in the last bit make near ties.
fn medians() -> impl Strategy<Value = Vec<f64>> {
    let median = prop_oneof![
        (1_u8..4).prop_map(f64::from),
        (0_u64..3).prop_map(|n| f64::from_bits(2.5_f64.to_bits() + n)),
        0.1_f64..9.0
    ];
    proptest::collection::vec(median, N_GENES as usize)
}

proptest! {
    #[test]
    fn rows_are_those_of_the_definition(
        cells in proptest::collection::vec(a_cell(), 1..5),
        medians in medians(),
        v2 in any::<bool>(),
        scale in any::<bool>(),
        all in any::<bool>(),
        length in 3_usize..45,
        dtype in prop_oneof![Just(Dtype::F32), Just(Dtype::F64)],
    ) {
        let version = if v2 { Geneformer::V2 } else { Geneformer::V1 };
        let recipe = recipe(Description { scale, ..Description::geneformer(version, length) }, &medians, all);
        let tokenizer = recipe.prepare(&[column("gene_id", &ids())]).unwrap();
        let rows = tokenize(&tokenizer, &chunk(&cells, dtype));
        let tokens: HashMap<String, i64> = recipe.vocabulary.genes().map(|(n, t)| (n.to_string(), i64::from(t))).collect();
        let token = |g: u32| tokens.get(&ids()[g as usize]).copied().filter(|_| all || !scale || has_both(g));
        let body = tokenizer.description().body();
        for (i, cell) in cells.iter().enumerate() {
            let mut row = oracle(cell, token, |g| if scale { medians[g as usize] } else { 1.0 }, body);
            if v2 && !row.is_empty() {
                row.insert(0, 2);
                row.push(3);
            }
            prop_assert_eq!(rows.done.empty.contains(&i), row.is_empty());
            let mask: Vec<bool> = (0..length).map(|i| i < row.len()).collect();
            row.resize(length, 0);
            prop_assert_eq!(&rows.ids[i], &row);
            prop_assert_eq!(&rows.mask[i], &mask);
        }
    }
}

/// Without medians, which is how a vocabulary from the data set begins.
#[test]
fn the_data_set_ranks_by_count() {
    let names = ["a", "b", "c", "d", "e"];
    let description = Description { scale: false, ..Description::geneformer(Geneformer::V1, 6) };
    let recipe = Recipe::new(description, Vocabulary::from_data_set(&names, 8).unwrap());
    let tokenizer = recipe.prepare(&[column("gene_id", &names)]).unwrap();
    // Gene 4 is beyond vocab_size.
    let cells = vec![vec![(0, 1.0), (1, 5.0), (2, 1.0), (3, 5.0), (4, 9.0)], vec![(4, 1.0)], vec![]];
    let rows = tokenize(&tokenizer, &chunk(&cells, Dtype::U8));
    assert_eq!(rows.ids, [[5, 7, 4, 6, 0, 0], [0; 6], [0; 6]]);
    assert_eq!(rows.done.empty, [1, 2]);
    assert!(rows.mask[1].iter().all(|m| !m));
}

/// More genes than a row holds, so that selection and sorting work together.
#[test]
fn large_cells_are_cut_by_rank() {
    let n = 6_000;
    let names: Vec<String> = (0..n).map(|i| format!("ENSG{i:011}")).collect();
    let specials = ["<pad>", "<mask>"].map(String::from);
    let vocabulary = Vocabulary::new(specials.into_iter().chain(names.iter().cloned()).zip(0..)).unwrap();
    let median = |g: u32| 1.0 + f64::from(g * 7_919 % 977) / 100.0;
    let medians = GeneTable::new(names.iter().cloned().zip((0..n).map(median))).unwrap();
    let cells = random_cells(20, n, 0.6, 9);
    for (length, scale) in [(2_048, true), (100, true), (1, true), (2_048, false)] {
        let description = Description { scale, ..Description::geneformer(Geneformer::V1, length) };
        let recipe = Recipe::new(description, vocabulary.clone()).with_scales(medians.clone());
        let rows = tokenize(&recipe.prepare(&[column("gene_id", &names)]).unwrap(), &chunk(&cells, Dtype::U16));
        for (cell, row) in cells.iter().zip(&rows.ids) {
            let median = |g: u32| if scale { median(g) } else { 1.0 };
            assert_eq!(*row, oracle(cell, |g| Some(i64::from(g) + 2), median, length));
        }
    }
}

/// As Geneformer sums columns of one Ensembl id before it tokenizes.
#[test]
fn columns_of_one_gene_are_summed() {
    let vocabulary =
        Vocabulary::new([("<pad>", 0), ("ENSG1", 1), ("ENSG2", 2), ("ENSG3", 3)].map(|(n, t)| (n.into(), t)));
    let description = Description { scale: false, ..Description::geneformer(Geneformer::V1, 4) };
    let recipe = Recipe::new(description, vocabulary.unwrap());
    let tokenizer = recipe.prepare(&[column("id", &["ENSG2", "ENSG1", "ensg2", "ENSG3", "ENSG1.4"])]).unwrap();
    assert_eq!((tokenizer.gene_match().n_matched, tokenizer.gene_match().n_merged), (5, 2));
    let cells = vec![
        // 2: 1 + 3, 1: 2, 3: 4; the tie is in order of the first column of gene 2.
        vec![(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)],
        // 2 is only in its second column; it still comes first.
        vec![(1, 2.0), (2, 2.0), (3, 2.0)],
        vec![(1, 2.0), (3, 5.0), (4, 4.0)],
    ];
    let rows = tokenize(&tokenizer, &chunk(&cells, Dtype::F32));
    assert_eq!(rows.ids, [[2, 3, 1, 0], [2, 1, 3, 0], [1, 3, 0, 0]]);
}

#[test]
fn given_totals_change_nothing_but_rounding() {
    let medians: Vec<f64> = (0..N_GENES).map(|g| 1.0 + f64::from(g) / 7.0).collect();
    let recipe = recipe(Description::geneformer(Geneformer::V1, 30), &medians, false);
    let tokenizer = recipe.prepare(&[column("gene_id", &ids())]).unwrap();
    let chunk = chunk(&random_cells(9, N_GENES, 0.5, 4), Dtype::I32);
    let cells: Vec<u64> = (0..9).collect();
    let with = |totals: &[f64]| {
        tokenize_with(&tokenizer, &Batch { chunk: &chunk, cells: &cells, totals: Some(totals) }, &mut Random::new(0, 0))
    };
    assert_eq!(with(&[5_000.0; 9]).unwrap(), tokenize(&tokenizer, &chunk));
    assert_eq!(kind(with(&[0.0; 9])), ErrorKind::InvalidArgument);
    assert_eq!(kind(with(&[1.0; 8])), ErrorKind::InvalidArgument);
}

fn real(description: Description, names: &[String]) -> Option<(Recipe, Tokenizer)> {
    let folder = shared_data()?.join("geneformer_v1");
    let vocabulary = Vocabulary::from_file(folder.join("token_dictionary.json")).unwrap();
    let medians = GeneTable::from_file(folder.join("gene_median_dictionary.json")).unwrap();
    let recipe = Recipe::new(description, vocabulary).with_scales(medians);
    let tokenizer = recipe.prepare(&[column("gene_id", names)]).unwrap();
    Some((recipe, tokenizer))
}

#[test]
fn the_published_dictionaries_rank_as_defined() {
    let Some(folder) = shared_data() else { return };
    let medians = GeneTable::from_file(folder.join("geneformer_v1/gene_median_dictionary.json")).unwrap();
    // Every third gene is none of theirs.
    let names: Vec<String> =
        (0..).zip(medians.iter()).map(|(i, (id, _))| if i % 3 == 0 { format!("X{id}") } else { id.into() }).collect();
    let (recipe, tokenizer) = real(Description::geneformer(Geneformer::V1, 2_048), &names).unwrap();
    assert_eq!((recipe.vocabulary.size(), medians.len()), (25_426, 25_424));
    assert_eq!(tokenizer.gene_match().n_matched, 16_949);
    assert_eq!(tokenizer.gene_match().warning, None);
    let info = tokenizer.vocab_info();
    assert_eq!(info.special_tokens, [("<pad>".to_string(), 0), ("<mask>".to_string(), 1)]);
    let cells = random_cells(50, names.len() as u32, 0.15, 2);
    let rows = tokenize(&tokenizer, &chunk(&cells, Dtype::U32));
    let tokens: HashMap<&str, u32> = recipe.vocabulary.entries().collect();
    for (cell, row) in cells.iter().zip(&rows.ids) {
        let token = |g: u32| tokens.get(names[g as usize].as_str()).map(|&t| i64::from(t));
        let median = |g: u32| medians.get(&names[g as usize]).unwrap_or(1.0);
        let mut expected = oracle(cell, token, median, 2_048);
        expected.resize(2_048, 0);
        assert_eq!(*row, expected);
    }
    let first = recipe.vocabulary.decode(&rows.ids[0][..3]).unwrap();
    assert!(first.iter().all(|name| name.starts_with("ENSG")));
}

#[test]
fn own_medians_are_used_and_saved() {
    let names = ids();
    let chunk = chunk(&random_cells(200, N_GENES, 0.3, 8), Dtype::U16);
    let mut builder = MedianBuilder::new(names.len(), 10_000.0);
    builder.push(&chunk.slice(0..90), None).unwrap();
    builder.push(&chunk.slice(90..200), None).unwrap();
    let medians = builder.into_table(&names).unwrap();
    let recipe =
        Recipe::new(Description::geneformer(Geneformer::V1, 16), Vocabulary::from_data_set(&names, 50_000).unwrap())
            .with_scales(medians.clone());
    let folder = tempfile::tempdir().unwrap();
    let (file, table) = (folder.path().join("tokenizer.json"), folder.path().join("medians.json"));
    recipe.save(&file).unwrap();
    medians.save(&table).unwrap();
    assert_eq!(GeneTable::from_file(&table).unwrap(), medians);
    let again = Recipe::load(&file).unwrap();
    assert_eq!(again, recipe);
    let rows = |r: &Recipe| tokenize(&r.prepare(&[column("gene_id", &names)]).unwrap(), &chunk);
    assert_eq!(rows(&again), rows(&recipe));
    // Genes in another order have the tokens of their names.
    let swapped: Vec<&String> = names.iter().rev().collect();
    let other = recipe.prepare(&[column("gene_id", &swapped)]).unwrap();
    assert_eq!(tokenize(&other, &crate::chunk(&[vec![(0, 1.0)]], Dtype::U8)).ids[0][0], i64::from(N_GENES - 1) + 4);
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(kind(Recipe::load(&file)), ErrorKind::MalformedInput);
}
