//! Kernels against definitions that are plain enough to be read, and against numpy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod geneformer;
mod grouped;
mod linear;
mod lists;
mod matrix;
mod neighbors;
mod numpy;
mod parts;
mod pieces;
mod rank_sums;
mod sampling;
mod scgpt;
mod stored;
mod vocabularies;

use slaf_core::{CsrChunk, Dtype, ErrorKind, Result, Values};
use slaf_kernels::tokenizers::{self, Batch, GeneColumn, Output, Random, Tokenized, Tokenizer};
use std::path::{Path, PathBuf};

/// A cell: genes and values, by rising gene.
type Cell = Vec<(u32, f64)>;

fn chunk(cells: &[Cell], dtype: Dtype) -> CsrChunk {
    let mut indptr = vec![0];
    cells.iter().for_each(|c| indptr.push(indptr[indptr.len() - 1] + c.len() as u64));
    let all = || cells.iter().flatten();
    let values = Values::F64(all().map(|e| e.1).collect()).cast(dtype);
    CsrChunk { indptr, indices: all().map(|e| e.0).collect(), values }
}

fn column(name: &str, ids: &[impl AsRef<str>]) -> GeneColumn {
    GeneColumn { name: name.into(), ids: ids.iter().map(|id| id.as_ref().to_string()).collect() }
}

/// Rows of tokens and what is beside them.
#[derive(Clone, Debug, PartialEq)]
struct Rows {
    ids: Vec<Vec<i64>>,
    mask: Vec<Vec<bool>>,
    values: Vec<Vec<f32>>,
    done: Tokenized,
}

fn tokenize_with(t: &Tokenizer, batch: &Batch<'_>, random: &mut Random) -> Result<Rows> {
    let mut again = random.clone();
    let found = overwrite(t, batch, random);
    check_append(t, batch, &mut again, &found);
    found
}

/// Appended rows are those that [`Tokenizer::tokenize`] writes, behind what was there.
fn check_append(t: &Tokenizer, batch: &Batch<'_>, random: &mut Random, expected: &Result<Rows>) {
    let n = t.length();
    let values = if t.has_values() { vec![-7.0; n] } else { Vec::new() };
    let before = tokenizers::Rows { input_ids: vec![-7; n], attention_mask: vec![true; n], values };
    let mut appended = before.clone();
    match (t.append(batch, random, &mut appended), expected) {
        (Ok(done), Ok(expected)) => {
            assert_eq!(done, expected.done);
            let ids = before.input_ids.iter().chain(expected.ids.iter().flatten());
            let mask = before.attention_mask.iter().chain(expected.mask.iter().flatten());
            let values = before.values.iter().chain(expected.values.iter().flatten());
            assert!(appended.input_ids.iter().eq(ids) && appended.attention_mask.iter().eq(mask));
            assert!(appended.values.iter().eq(values));
        }
        (Err(found), Err(expected)) => {
            assert_eq!(found.to_string(), expected.to_string());
            assert_eq!(appended, before);
        }
        (found, expected) => panic!("{found:?} in place of {expected:?}"),
    }
}

fn overwrite(t: &Tokenizer, batch: &Batch<'_>, random: &mut Random) -> Result<Rows> {
    let n = batch.cells.len() * t.length();
    // What was in the buffers before must not show.
    let (mut ids, mut mask) = (vec![-9; n], vec![true; n]);
    let mut values = vec![-9.0; if t.has_values() { n } else { 0 }];
    let out = Output { input_ids: &mut ids, attention_mask: &mut mask, values: &mut values };
    let done = t.tokenize(batch, random, out)?;
    let rows = |n: usize| n * t.length();
    Ok(Rows {
        ids: ids[..rows(done.rows)].chunks(t.length()).map(<[_]>::to_vec).collect(),
        mask: mask[..rows(done.rows)].chunks(t.length()).map(<[_]>::to_vec).collect(),
        values: values[..rows(done.rows).min(values.len())].chunks(t.length()).map(<[_]>::to_vec).collect(),
        done,
    })
}

fn tokenize(t: &Tokenizer, chunk: &CsrChunk) -> Rows {
    let cells: Vec<u64> = (0..chunk.n_rows() as u64).collect();
    tokenize_with(t, &Batch { chunk, cells: &cells, totals: None }, &mut Random::new(3, 1)).unwrap()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("no error"),
        Err(e) => e.kind(),
    }
}

/// The folder with real data, or nothing and a word about it.
fn shared_data() -> Option<PathBuf> {
    let folder = match std::env::var_os("SLAF_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no real data at {}", folder.display());
    None
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Cells with small counts, a share of the genes each.
fn random_cells(n: usize, n_genes: u32, share: f64, seed: u64) -> Vec<Cell> {
    let mut r = Numbers(seed);
    let mut cell = || -> Cell {
        let genes: Vec<u32> = (0..n_genes).filter(|_| r.next() < share).collect();
        genes.into_iter().map(|g| (g, (1.0 - r.next().ln() * 2.0).floor())).collect()
    };
    (0..n).map(|_| cell()).collect()
}
