//! Batches of a loader against the matrix and the tokenizer.

use crate::Fixture;
use slaf::sampling::{Pool, Remainder, Sampler, Shard, Shuffle};
use slaf::tokenizers::{Binning, Description, Geneformer, Random, Recipe, Vocabulary};
use slaf::{BatchData, EpochPart, ErrorKind, Form, Loader, LoaderOptions, MatrixKey, Selection, Values};
use slaf_testing::dense;
use std::sync::Arc;

const N_CELLS: u64 = 90;

fn loader(fixture: &Fixture, options: LoaderOptions, shuffle: Shuffle) -> Loader {
    let mut source = fixture.dataset().source();
    source.columns = Arc::new(vec![Values::I64((0..N_CELLS as i64).map(|i| i * i).collect())]);
    Loader::new(vec![source], Sampler::cover(Pool::Range(0..N_CELLS), shuffle, 5), options).unwrap()
}

#[test]
fn rows_are_those_of_the_matrix() {
    let fixture = Fixture::new(1, N_CELLS as usize, 40);
    let all = dense(&fixture.sample.x, 40);
    for shuffle in [Shuffle::Sequential, Shuffle::Full, Shuffle::Block { block: 4, window: 30 }] {
        for form in [Form::Sparse, Form::Dense] {
            let options = LoaderOptions { batch_size: 7, form, ..LoaderOptions::default() };
            let mut seen = Vec::new();
            for batch in loader(&fixture, options, shuffle).epoch(&EpochPart::whole(3)).unwrap() {
                let batch = batch.unwrap();
                let expected: Vec<f64> = batch.cells.iter().flat_map(|&c| all[c as usize].clone()).collect();
                let found: Vec<f64> = match &batch.data {
                    BatchData::Sparse { indptr, indices, values } => {
                        let indptr = indptr.iter().map(|&p| u64::from(p)).collect();
                        let chunk = slaf::CsrChunk { indptr, indices: indices.clone(), values: values.clone() };
                        chunk.validate(40, 0).unwrap();
                        dense(&chunk, 40).concat()
                    }
                    BatchData::Dense { values: Values::F32(values), width: 40 } => {
                        values.iter().map(|&v| f64::from(v)).collect()
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(found, expected);
                assert_eq!(batch.columns, [Values::I64(batch.cells.iter().map(|&c| (c * c) as i64).collect())]);
                seen.extend(batch.cells);
            }
            assert_eq!(seen.is_sorted(), shuffle == Shuffle::Sequential);
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..N_CELLS));
        }
    }
}

#[test]
fn columns_come_in_the_order_that_is_asked_for() {
    let fixture = Fixture::new(3, N_CELLS as usize, 40);
    let all = dense(&fixture.sample.x, 40);
    let stored = fixture.dataset().stored_genes().unwrap();
    let n_cells = |gene: u64| all.iter().filter(|row| row[gene as usize] != 0.0).count();
    assert!(stored.is_sorted_by(|&a, &b| (n_cells(a), b) > (n_cells(b), a)), "{stored:?}");
    let some = |order: &[u64]| -> Vec<u64> { order.iter().copied().filter(|gene| gene % 3 != 1).collect() };
    let genes = [stored.clone(), some(&stored), some(&(0..40).rev().collect::<Vec<_>>())];
    for (genes, form) in genes.iter().flat_map(|g| [(g, Form::Sparse), (g, Form::Dense)]) {
        let mut source = fixture.dataset().source();
        source.genes = Selection::Ids(genes.clone());
        let sampler = Sampler::cover(Pool::Range(0..N_CELLS), Shuffle::Full, 2);
        let options = LoaderOptions { batch_size: 19, form, target_sum: Some(10.0), ..LoaderOptions::default() };
        for batch in Loader::new(vec![source], sampler, options).unwrap().epoch(&EpochPart::whole(0)).unwrap() {
            let batch = batch.unwrap();
            let width = genes.len();
            let rows = match batch.data {
                BatchData::Sparse { indptr, indices, values } => {
                    let indptr = indptr.into_iter().map(u64::from).collect();
                    let chunk = slaf::CsrChunk { indptr, indices, values };
                    chunk.validate(width as u64, 0).unwrap();
                    dense(&chunk, width)
                }
                BatchData::Dense { values: Values::F32(values), .. } => {
                    values.chunks(width).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
                }
                other => panic!("{other:?}"),
            };
            for (&cell, row) in batch.cells.iter().zip(rows) {
                let counts = &all[cell as usize];
                let total: f64 = counts.iter().sum();
                let divisor = if total == 0.0 { 1.0 } else { total as f32 / 10.0 };
                let expected: Vec<f64> =
                    genes.iter().map(|&gene| f64::from(counts[gene as usize] as f32 / divisor)).collect();
                assert_eq!(row, expected);
            }
        }
    }
}

#[test]
fn tokens_are_those_of_the_tokenizer() {
    let fixture = Fixture::new(2, N_CELLS as usize, 40);
    let dataset = fixture.dataset();
    let names = dataset.gene_ids().unwrap();
    let names: Vec<&str> = names.iter().flatten().collect();
    let geneformer = Description::geneformer(Geneformer::V1, 8);
    let descriptions = [
        Description { scale: false, ..geneformer.clone() },
        geneformer,
        Description::scgpt(8, 5, Binning::ScGpt, -2.0),
        Description::scgpt(40, 51, Binning::Deterministic, -2.0),
    ];
    for description in descriptions {
        // Genes from 30 on have no token.
        let recipe = Recipe::new(description, Vocabulary::from_data_set(&names, 34).unwrap());
        let recipe = recipe.with_scales(dataset.gene_medians(10_000.0).unwrap());
        let tokenizer = Arc::new(recipe.prepare(&dataset.gene_columns(None).unwrap()).unwrap());
        let mut source = dataset.source();
        source.tokenizer = Some(Arc::clone(&tokenizer));
        let options = LoaderOptions { batch_size: 16, form: Form::Tokens, ..LoaderOptions::default() };
        let sampler = Sampler::cover(Pool::Range(0..N_CELLS), Shuffle::Full, 1);
        let loader = Loader::new(vec![source], sampler, options).unwrap();
        for batch in loader.epoch(&EpochPart::whole(0)).unwrap() {
            let batch = batch.unwrap();
            let cells = Selection::Ids(batch.cells.clone());
            let expected = dataset.tokenize(&tokenizer, &cells, &mut Random::new(0, 0)).unwrap();
            let BatchData::Tokens { input_ids, attention_mask, values, .. } = batch.data else { panic!("no tokens") };
            assert_eq!((input_ids, attention_mask), (expected.input_ids, expected.attention_mask));
            assert_eq!(values, expected.values);
        }
    }
}

#[test]
fn consumers_share_an_epoch_and_go_on_in_it() {
    let fixture = Fixture::new(3, N_CELLS as usize, 10);
    let options = LoaderOptions { batch_size: 4, remainder: Remainder::Uneven, ..LoaderOptions::default() };
    let loader = loader(&fixture, options, Shuffle::Full);
    let mut seen = Vec::new();
    for rank in 0..2 {
        for worker in 0..3 {
            let part = EpochPart { shard: Shard { rank, world: 2, worker, workers: 3 }, ..EpochPart::whole(1) };
            let first: Vec<_> = loader.epoch(&part).unwrap().take(2).map(Result::unwrap).collect();
            let rest = EpochPart { skip: 2, ..part };
            assert_eq!(loader.n_batches(&rest) + 2, loader.n_batches(&part));
            let rest = loader.epoch(&rest).unwrap().map(Result::unwrap);
            first.into_iter().chain(rest).for_each(|b| seen.extend(b.cells));
        }
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..N_CELLS));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let fixture = Fixture::new(4, 30, 10);
    let new = |options: LoaderOptions, cells: u64| {
        let sampler = Sampler::cover(Pool::Range(0..cells), Shuffle::Full, 1);
        Loader::new(vec![fixture.dataset().source()], sampler, options)
    };
    let kind = |options: LoaderOptions| new(options, 30).err().map(|e| e.kind());
    let options = LoaderOptions::default;
    assert_eq!(kind(LoaderOptions { batch_size: 0, ..options() }), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(LoaderOptions { form: Form::Tokens, ..options() }), Some(ErrorKind::InvalidArgument));
    assert_eq!(kind(LoaderOptions { target_sum: Some(0.0), ..options() }), Some(ErrorKind::InvalidArgument));
    let layer = MatrixKey::Layer("counts".into());
    assert_eq!(kind(LoaderOptions { matrix: layer, ..options() }), Some(ErrorKind::UnknownTable));
    let beyond = new(options(), 31).unwrap();
    let error = beyond.epoch(&EpochPart::whole(0)).unwrap().find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
}
