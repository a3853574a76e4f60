//! What a loader does for a cell, from its packed row to the memory of a batch: microseconds of one
//! core, for each step the least of many runs, so that a busy machine tells the same.
//!
//! Cells are like those of `benchmarks/generate.py` (2,470 genes of 30,000, two of three with a count
//! of 1); five of six genes have a token and a median, as in the published files.

mod numbers;

use numbers::Numbers;
use slaf_core::order::{GeneOrder, Renumber};
use slaf_core::packed::{Row, encode_row};
use slaf_core::{CsrChunk, Dtype, Error, Result, Values};
use slaf_kernels::tokenizers::{
    Batch, Binning, Description, GeneColumn, GeneTable, Geneformer, Random, Recipe, Rows, Tokenizer, Vocabulary,
};
use std::f64::consts::TAU;
use std::hint::black_box;
use std::time::{Duration, Instant};

const GENES: usize = 30_000;
const CELLS: usize = 512;
const BATCH: usize = 64;
/// Cells that are decoded, and then tokenized, in one go.
const AT_ONCE: usize = 8;

fn normal(r: &mut Numbers) -> f64 {
    (-2.0 * (1.0 - r.next()).ln()).sqrt() * (TAU * r.next()).cos()
}

/// Genes and negative binomial counts of each cell.
fn cells() -> Vec<Vec<(u32, f32)>> {
    let mut r = Numbers(1);
    let base: Vec<f64> = (0..GENES).map(|_| (2.05 * normal(&mut r)).exp()).collect();
    let types: Vec<Vec<f64>> = (0..12)
        .map(|_| {
            let mut share = |b: &f64| b * (0.35 * normal(&mut r)).exp() * if r.next() < 0.03 { 6.0 } else { 1.0 };
            let all: Vec<f64> = base.iter().map(&mut share).collect();
            let sum: f64 = all.iter().sum();
            all.iter().map(|x| x / sum).collect()
        })
        .collect();
    let expressed = |depth: f64| types[0].iter().map(|t| 1.0 - (1.0 + depth * t / 2.0).powi(-2)).sum::<f64>();
    let mut depth = 1.0;
    while expressed(depth) < 2_470.0 {
        depth *= 1.01;
    }
    let cell = |_| {
        let shares = &types[(r.next() * r.next() * 12.0) as usize];
        let depth = depth * (0.45 * normal(&mut r)).exp();
        let count = |(gene, share): (u32, &f64)| {
            let half = depth * share / 2.0;
            let mut geometric = || ((1.0 - r.next()).ln() / (half / (1.0 + half)).ln()) as u32;
            let count = geometric() + geometric();
            (count > 0).then_some((gene, count as f32))
        };
        (0..).zip(shares).filter_map(count).collect()
    };
    (0..CELLS).map(cell).collect()
}

/// Packed rows in order of popularity, and the gene of each of their columns.
fn pack(cells: &[Vec<(u32, f32)>]) -> Result<(Vec<Vec<u8>>, Vec<u32>)> {
    let mut seen = vec![0; GENES];
    cells.iter().flatten().for_each(|e| seen[e.0 as usize] += 1);
    let order = GeneOrder::by_popularity(&seen);
    let pack = |cell: &Vec<(u32, f32)>| {
        let mut row: Vec<(u32, f32)> = cell.iter().map(|&(g, x)| (order.rank_of[g as usize], x)).collect();
        row.sort_unstable_by_key(|e| e.0);
        let (columns, values): (Vec<u32>, Vec<f32>) = row.into_iter().unzip();
        encode_row(&columns, &values)
    };
    Ok((cells.iter().map(pack).collect::<Result<_>>()?, order.gene_of))
}

fn prepare(description: Description, gene_of: &[u32]) -> Result<Tokenizer> {
    let mut r = Numbers(2);
    let ids: Vec<String> = (0..GENES).map(|i| format!("ENSG{i:011}")).collect();
    let known: Vec<&String> = ids.iter().enumerate().filter(|(i, _)| i % 6 != 0).map(|e| e.1).collect();
    let medians = known.iter().map(|id| (id.to_string(), (1.09 + 0.51 * normal(&mut r)).exp()));
    let medians = GeneTable::new(medians)?;
    let specials = ["<pad>", "<mask>", "<cls>", "<eos>"];
    let names = specials.into_iter().chain(known.iter().map(|id| id.as_str())).map(String::from);
    let vocabulary = Vocabulary::new(names.zip(0..))?;
    let recipe = Recipe::new(description, vocabulary).with_scales(medians);
    recipe.prepare(&[GeneColumn { name: "gene_id".into(), ids }])?.with_columns(gene_of)
}

/// Memory for one row.
struct RowBuffer {
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl RowBuffer {
    fn new(n: usize) -> RowBuffer {
        RowBuffer { columns: vec![0; n], values: vec![0.0; n] }
    }

    fn decode(&mut self, row: &Row<'_>) -> Result<(&[u32], &[f32])> {
        let (columns, values) = (&mut self.columns[..row.nnz()], &mut self.values[..row.nnz()]);
        row.decode(GENES as u64, columns, values)?;
        Ok((columns, values))
    }
}

/// The memory of a batch of rows.
fn raw(rows: &[Row<'_>]) -> (Vec<u32>, Vec<f32>) {
    let n = rows.iter().map(Row::nnz).sum();
    (Vec::with_capacity(n), Vec::with_capacity(n))
}

/// Appends rows; with a map, in the order that it gives the columns. Returns their ends.
fn append(rows: &[Row<'_>], map: Option<&[u32]>, (indices, values): &mut (Vec<u32>, Vec<f32>)) -> Result<Vec<u64>> {
    let mut indptr = vec![indices.len() as u64];
    let longest = rows.iter().map(Row::nnz).max().unwrap_or(0);
    let (mut stored, mut moved) = (RowBuffer::new(longest), RowBuffer::new(longest));
    let mut renumber = Renumber::new(GENES);
    for row in rows {
        let (mut row_columns, mut row_values) = stored.decode(row)?;
        if let Some(map) = map {
            let n = renumber.row(map, row_columns, row_values, &mut moved.columns, &mut moved.values);
            (row_columns, row_values) = (&moved.columns[..n], &moved.values[..n]);
        }
        indices.extend_from_slice(row_columns);
        values.extend_from_slice(row_values);
        indptr.push(indices.len() as u64);
    }
    Ok(indptr)
}

/// Appends the rows of cells, as a loader makes them.
fn tokenize(
    tokenizer: &Tokenizer,
    rows: &[Row<'_>],
    cells: &[u64],
    memory: &mut CsrChunk,
    tokens: &mut Rows,
) -> Result<()> {
    memory.indptr.truncate(1);
    let n = rows.iter().map(Row::nnz).sum();
    memory.indices.resize(n, 0);
    let Values::F32(values) = &mut memory.values else { return Err(Error::invalid("values of another type")) };
    values.resize(n, 0.0);
    let mut end = 0;
    for row in rows {
        let at = end..end + row.nnz();
        row.decode(GENES as u64, &mut memory.indices[at.clone()], &mut values[at.clone()])?;
        end = at.end;
        memory.indptr.push(end as u64);
    }
    let batch = Batch { chunk: memory, cells, totals: None };
    tokenizer.append(&batch, &mut Random::new(1, 0), tokens).map(drop)
}

/// Prints how long a cell takes in batches whose memory is made by `new`: the mean of the least of many
/// runs of each step.
fn measure<B>(
    name: &str,
    rows: &[Row<'_>],
    new: impl Fn(&[Row<'_>]) -> B,
    mut step: impl FnMut(&mut B, &[Row<'_>], &[u64]) -> Result<()>,
) -> Result<()> {
    let cells: Vec<u64> = (0..CELLS as u64).collect();
    let mut least = [Duration::MAX; CELLS / AT_ONCE];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        for (i, rows) in rows.chunks(BATCH).enumerate() {
            let mut batch = new(rows);
            let cells = cells[i * BATCH..].chunks(AT_ONCE);
            let least = least[i * BATCH / AT_ONCE..].iter_mut();
            for (least, (rows, cells)) in least.zip(rows.chunks(AT_ONCE).zip(cells)) {
                let start = Instant::now();
                step(&mut batch, rows, cells)?;
                *least = start.elapsed().min(*least);
            }
            black_box(batch);
        }
    }
    println!("{name:40} {:6.2}", least.iter().sum::<Duration>().as_secs_f64() * 1e6 / CELLS as f64);
    Ok(())
}

fn run() -> Result<()> {
    let cells = cells();
    let (bytes, gene_of) = pack(&cells)?;
    let rows = bytes.iter().map(|b| Row::parse(b)).collect::<Result<Vec<_>>>()?;
    println!("{} values a cell", rows.iter().map(Row::nnz).sum::<usize>() / CELLS);
    let longest = rows.iter().map(Row::nnz).max().unwrap_or(0);
    let mut buffer = RowBuffer::new(longest);
    let decode = |_: &mut (), rows: &[Row<'_>], _: &[u64]| {
        rows.iter().try_for_each(|row| {
            black_box(buffer.decode(row)?);
            Ok(())
        })
    };
    measure("decode", &rows, |_| (), decode)?;
    for (name, map) in [("raw, stored order", None), ("raw, order of var", Some(gene_of.as_slice()))] {
        measure(name, &rows, raw, |batch, rows, _| append(rows, map, batch).map(|ends| drop(black_box(ends))))?;
    }
    let geneformer = Description::geneformer(Geneformer::V1, 2_048);
    let models = [
        ("Geneformer, 2,048, by count", Description { scale: false, ..geneformer.clone() }),
        ("Geneformer, 2,048, with medians", geneformer),
        ("scGPT, 1,200", Description::scgpt(1_200, 51, Binning::ScGpt, -2.0)),
    ];
    // A thread of a loader's pool has a batch for itself.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|e| slaf_core::Error::invalid(e.to_string()))?;
    for (name, description) in models {
        let tokenizer = prepare(description, &gene_of)?;
        let new = |rows: &[Row<'_>]| Rows::with_capacity(&tokenizer, rows.len());
        let mut memory = CsrChunk::empty(Dtype::F32);
        let step =
            |batch: &mut Rows, rows: &[Row<'_>], cells: &[u64]| tokenize(&tokenizer, rows, cells, &mut memory, batch);
        pool.install(|| measure(name, &rows, new, step))?;
    }
    Ok(())
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
    }
}
