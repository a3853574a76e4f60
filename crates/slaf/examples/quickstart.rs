//! Convert, ask, slice:
//!
//! ```text
//! cargo run --release -p slaf --example quickstart -- input.h5ad output.slaf
//! ```

use slaf::{ConvertOptions, Dataset, MatrixKey, Selection, convert};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &arguments[..] else { return Err("usage: quickstart INPUT OUTPUT".into()) };

    let report = convert(&[Path::new(input)], output, &ConvertOptions::default(), &|_| true)?;
    println!("{report}\n");

    let dataset = Dataset::open(output)?;
    let result = dataset.query("SELECT * FROM cells LIMIT 3")?;
    println!("{}\n", arrow::util::pretty::pretty_format_batches(&result.batches)?);

    // The first hundred cells, every tenth gene: nothing else is decoded.
    let genes = Selection::Ids((0..dataset.n_genes()).step_by(10).collect());
    let block = dataset.read(&MatrixKey::X, &Selection::Range(0..dataset.n_cells().min(100)), &genes)?;
    println!("{} cells, {} stored values of {}", block.n_rows(), block.nnz(), block.values.dtype());

    // All of X in bounded memory.
    let mut stored = 0;
    for chunk in dataset.stream(&MatrixKey::X, &Selection::All, &Selection::All, 4096)? {
        stored += chunk?.nnz();
    }
    println!("{stored} stored values in all");
    Ok(())
}
