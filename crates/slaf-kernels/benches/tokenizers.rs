//! Cells per second of one core, on rows like those of a 10x experiment: 1,500 to 2,500 genes of
//! 30,000 in a cell, of which nine in ten have a token. The rows of `stored` have the genes by
//! popularity, as a loader tokenizes them.

mod numbers;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use numbers::Numbers;
use slaf_core::order::{GeneOrder, Renumber};
use slaf_core::{CsrChunk, Dtype, Result, Values};
use slaf_kernels::tokenizers::{
    Batch, Binning, Description, GeneColumn, GeneTable, Geneformer, Output, Random, Recipe, Tokenizer, Vocabulary,
};
use std::hint::black_box;

const GENES: usize = 30_000;
const CELLS: usize = 256;

/// Few genes are found in nearly every cell and have high counts, most have a count of 1.
fn counts() -> CsrChunk {
    let mut r = Numbers(1);
    let means: Vec<f64> = (0..GENES).map(|_| (1.0 / (0.004 + r.next()) - 1.0) / 40.0).collect();
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..CELLS {
        let depth = 0.72 + 0.5 * r.next();
        for (gene, mean) in means.iter().enumerate() {
            let p = 1.0 / (1.0 + depth * mean);
            let count = ((1.0 - r.next()).ln() / (1.0 - p).ln()) as u16;
            if count > 0 {
                indices.push(gene as u32);
                values.push(count);
            }
        }
        indptr.push(indices.len() as u64);
    }
    CsrChunk { indptr, indices, values: Values::U16(values) }
}

/// The genes by how many cells have them, and the chunk with its columns in this order.
fn stored(chunk: &CsrChunk) -> (Vec<u32>, CsrChunk) {
    let mut seen = vec![0; GENES];
    chunk.indices.iter().for_each(|&gene| seen[gene as usize] += 1);
    let GeneOrder { rank_of, gene_of } = GeneOrder::by_popularity(&seen);
    let mut renumber = Renumber::new(GENES);
    let (mut indices, mut values) = (chunk.indices.clone(), chunk.values.clone());
    if let (Values::F32(from), Values::F32(to)) = (&chunk.values, &mut values) {
        for row in (0..chunk.n_rows()).map(|i| chunk.row(i)) {
            let (columns_out, values_out) = (&mut indices[row.clone()], &mut to[row.clone()]);
            renumber.row(&rank_of, &chunk.indices[row.clone()], &from[row], columns_out, values_out);
        }
    }
    (gene_of, CsrChunk { indptr: chunk.indptr.clone(), indices, values })
}

/// As `normalize_total` and `log1p` leave it.
fn log1p(chunk: &CsrChunk) -> CsrChunk {
    let Values::F64(counts) = chunk.values.cast(Dtype::F64) else { return chunk.clone() };
    let mut values = Vec::new();
    for i in 0..chunk.n_rows() {
        let row = &counts[chunk.row(i)];
        let total: f64 = row.iter().sum();
        values.extend(row.iter().map(|x| (x / total * 10_000.0).ln_1p() as f32));
    }
    CsrChunk { values: Values::F32(values), ..chunk.clone() }
}

fn prepare(description: Description) -> Result<Tokenizer> {
    let mut r = Numbers(2);
    let ids: Vec<String> = (0..GENES).map(|i| format!("ENSG{i:011}")).collect();
    let known = ids.iter().enumerate().filter(|(i, _)| i % 10 != 3);
    let medians = GeneTable::new(known.clone().map(|(_, id)| (id.clone(), 1.0 + 4.0 * r.next())))?;
    let specials = ["<pad>", "<mask>", "<cls>", "<eos>"].map(String::from);
    let names = specials.into_iter().chain(known.map(|(_, id)| id.clone()));
    let vocabulary = Vocabulary::new(names.zip(0..))?;
    Recipe::new(description, vocabulary).with_scales(medians).prepare(&[GeneColumn { name: "gene_id".into(), ids }])
}

fn tokenizers(c: &mut Criterion) {
    let counts = counts();
    eprintln!("{} genes in a cell", counts.nnz() / CELLS);
    let floats = CsrChunk { values: counts.values.cast(Dtype::F32), ..counts.clone() };
    let log1p = log1p(&counts);
    let (gene_of, by_popularity) = stored(&floats);
    let chunks = [("uint16", &counts), ("float32", &floats), ("log1p", &log1p), ("stored", &by_popularity)];
    let unscaled = Description { scale: false, ..Description::geneformer(Geneformer::V1, 2_048) };
    let models = [
        ("geneformer-v1-2048", Description::geneformer(Geneformer::V1, 2_048)),
        ("geneformer-v2-4096", Description::geneformer(Geneformer::V2, 4_096)),
        ("geneformer-v1-512", Description::geneformer(Geneformer::V1, 512)),
        ("geneformer-v1-2048-no-medians", unscaled),
        ("scgpt-1200", Description::scgpt(1_200, 51, Binning::ScGpt, -2.0)),
        ("scgpt-1200-deterministic", Description::scgpt(1_200, 51, Binning::Deterministic, -2.0)),
        ("scgpt-1200-strict", Description::scgpt(1_200, 51, Binning::Strict, -2.0)),
    ];
    let cells: Vec<u64> = (0..CELLS as u64).collect();
    let totals = vec![10_000.0; CELLS];
    let one_core = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let Ok(one_core) = one_core else { return eprintln!("no threads") };
    let mut group = c.benchmark_group("tokenize");
    group.throughput(Throughput::Elements(CELLS as u64)).sample_size(20);
    for (model, description) in models {
        let Ok(tokenizer) = prepare(description) else { return eprintln!("{model} cannot be prepared") };
        let n = CELLS * tokenizer.length();
        let (mut ids, mut mask) = (vec![0; n], vec![false; n]);
        let mut values = vec![0.0; if tokenizer.has_values() { n } else { 0 }];
        let Ok(in_order) = tokenizer.with_columns(&gene_of) else { return eprintln!("not all genes") };
        for (name, chunk) in chunks {
            let tokenizer = if name == "stored" { &in_order } else { &tokenizer };
            group.bench_function(format!("{model}/{name}"), |b| {
                b.iter(|| {
                    let batch = Batch { chunk, cells: &cells, totals: Some(&totals) };
                    let out = Output { input_ids: &mut ids, attention_mask: &mut mask, values: &mut values };
                    let done = one_core.install(|| tokenizer.tokenize(&batch, &mut Random::new(1, 0), out));
                    assert!(black_box(done).is_ok_and(|d| d.rows == CELLS));
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, tokenizers);
criterion_main!(benches);
