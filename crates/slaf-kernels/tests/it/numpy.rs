//! What numpy and pickle say, written by `tests/fixtures/make.py`.

use crate::{chunk, column, kind, tokenize_with};
use serde_json::Value;
use slaf_core::{Dtype, ErrorKind};
use slaf_kernels::tokenizers::{Batch, Binning, Description, GeneTable, Random, Recipe, Select, Tokenizer, Vocabulary};
use std::path::PathBuf;

fn oracle() -> Value {
    serde_json::from_str(include_str!("../fixtures/oracle.json")).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn strict(n_bins: u32, n_genes: usize) -> Tokenizer {
    let names: Vec<String> = (0..n_genes).map(|i| i.to_string()).collect();
    let description =
        Description { select: Select::Head, ..Description::scgpt(n_genes + 1, n_bins, Binning::Strict, -2.0) };
    let recipe = Recipe::new(description, Vocabulary::from_data_set(&names, 5_000).unwrap());
    recipe.prepare(&[column("gene_id", &names)]).unwrap()
}

#[test]
fn strict_bins_are_numpys_bit_for_bit() {
    for case in oracle()["strict"].as_array().unwrap() {
        let tokenizer = strict(case["n_bins"].as_u64().unwrap() as u32, 1_100);
        // One stream over all cells and chunks.
        let mut random = Random::new(case["seed"].as_u64().unwrap(), 77);
        for cell in case["cells"].as_array().unwrap() {
            let values = numbers(&cell["values"]);
            let dtype = Dtype::from_name(cell["dtype"].as_str().unwrap()).unwrap();
            let chunk = chunk(&[(0..).zip(values.iter().copied()).collect()], dtype);
            let batch = Batch { chunk: &chunk, cells: &[5], totals: None };
            let rows = tokenize_with(&tokenizer, &batch, &mut random).unwrap();
            let bins: Vec<f64> = rows.values[0][1..=values.len()].iter().map(|&x| f64::from(x)).collect();
            assert_eq!(bins, numbers(&cell["bins"]), "{dtype}");
        }
    }
}

#[test]
fn strict_bins_do_not_depend_on_chunks() {
    let case = &oracle()["strict"][0];
    let cells: Vec<_> =
        case["cells"].as_array().unwrap().iter().map(|c| (0..).zip(numbers(&c["values"])).collect()).collect();
    let (tokenizer, chunk) = (strict(51, 1_100), chunk(&cells, Dtype::F64));
    let numbers: Vec<u64> = (0..cells.len() as u64).collect();
    let whole = Batch { chunk: &chunk, cells: &numbers, totals: None };
    let whole = tokenize_with(&tokenizer, &whole, &mut Random::new(8, 0)).unwrap();
    let mut random = Random::new(8, 0);
    for i in 0..cells.len() {
        let one = Batch { chunk: &chunk.slice(i..i + 1), cells: &[0], totals: None };
        assert_eq!(tokenize_with(&tokenizer, &one, &mut random).unwrap().values[0], whole.values[i]);
    }
    let batch = Batch { chunk: &chunk, cells: &numbers, totals: None };
    assert_eq!(kind(tokenize_with(&tokenizer, &batch, &mut Random::new(1 << 32, 0))), ErrorKind::InvalidArgument);
}

/// A file with the bytes of a fixture.
fn file(folder: &tempfile::TempDir, hex: &Value) -> PathBuf {
    let hex = hex.as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let path = folder.path().join("table.pkl");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn pickled_dictionaries_are_read() {
    let (oracle, folder) = (oracle(), tempfile::tempdir().unwrap());
    for (protocol, hex) in oracle["pickles"].as_object().unwrap() {
        let table = GeneTable::from_file(file(&folder, hex)).unwrap();
        let expected = oracle["numbers"].as_object().unwrap();
        assert_eq!(table.len(), expected.len(), "protocol {protocol}");
        for (id, x) in expected {
            assert_eq!(table.get(id), x.as_f64(), "{id} in protocol {protocol}");
        }
    }
}

#[test]
fn other_pickles_are_refused() {
    let (oracle, folder) = (oracle(), tempfile::tempdir().unwrap());
    for (what, hex) in oracle["refused"].as_object().unwrap() {
        assert_eq!(kind(GeneTable::from_file(file(&folder, hex))), ErrorKind::UnsupportedInput, "{what}");
    }
    assert_eq!(kind(GeneTable::from_file(file(&folder, &oracle["protocol 0"]))), ErrorKind::MalformedInput);
    // Floats, negative numbers and large ones are no tokens.
    assert!(Vocabulary::from_file(file(&folder, &oracle["pickles"]["4"])).is_err());
}

#[test]
fn damaged_pickles_are_refused() {
    let (oracle, folder) = (oracle(), tempfile::tempdir().unwrap());
    let whole = std::fs::read(file(&folder, &oracle["pickles"]["4"])).unwrap();
    let path = folder.path().join("cut.pkl");
    for n in 1..whole.len() {
        std::fs::write(&path, &whole[..n]).unwrap();
        assert!(GeneTable::from_file(&path).is_err(), "{n} bytes");
    }
}
