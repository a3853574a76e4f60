//! Folders of STARsolo, kb-python, Parse and alevin-fry.

use crate::support::{gzip, put, read};
use arrow::array::AsArray;
use slaf_core::{ErrorKind, Result};
use slaf_ingest::{Input, MatrixKey, OpenOptions, open};
use std::path::Path;

fn open_default(path: &Path) -> Result<Box<dyn Input>> {
    open(path, &OpenOptions::default())
}

/// A matrix of 3 x 2, or transposed.
fn matrix(transposed: bool, entries: &[(u64, u64, &str)]) -> String {
    let size = if transposed { "2 3" } else { "3 2" };
    let lines: String = entries
        .iter()
        .map(|&(row, col, value)| if transposed { (col, row, value) } else { (row, col, value) })
        .map(|(row, col, value)| format!("{row} {col} {value}\n"))
        .collect();
    format!("%%MatrixMarket matrix coordinate real general\n%\n{size} {}\n{lines}", entries.len())
}

fn values(input: &dyn Input, key: &MatrixKey) -> Vec<((u64, u32), f64)> {
    read(input, key).unwrap().values.into_iter().collect()
}

fn layer(name: &str) -> MatrixKey {
    MatrixKey::Layer(name.into())
}

fn keys(input: &dyn Input) -> Vec<String> {
    input.description().matrices.iter().map(|m| m.key.to_string()).collect()
}

#[test]
fn starsolo() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["Gene", "Velocyto"] {
        let raw = dir.path().join(kind).join("raw");
        put(&raw, "features.tsv", "E1\tA\tGene Expression\nE2\tB\tGene Expression\nE3\tC\tGene Expression\n");
        put(&raw, "barcodes.tsv", "c1\nc2\n");
    }
    let (gene, velocyto) = (dir.path().join("Gene/raw"), dir.path().join("Velocyto"));
    put(&gene, "matrix.mtx", matrix(false, &[(1, 1, "4")]));
    let em = put(&gene, "UniqueAndMult-EM.mtx", matrix(false, &[(1, 1, "4.5"), (3, 2, "0.25")]));
    let input = open_default(&gene).unwrap();
    assert_eq!(values(&*input, &MatrixKey::X), [((0, 0), 4.0)]);
    assert_eq!(input.description().notes, ["not read: UniqueAndMult-EM.mtx; give the path of one to read it"]);
    assert_eq!(values(&*open_default(&em).unwrap(), &MatrixKey::X), [((0, 0), 4.5), ((1, 2), 0.25)]);
    for (name, row) in [("spliced", 1), ("unspliced", 2), ("ambiguous", 3)] {
        put(&velocyto.join("raw"), &format!("{name}.mtx"), matrix(false, &[(row, 2, "7")]));
    }
    let input = open_default(&velocyto).unwrap();
    assert_eq!(input.description().format, "STARsolo Velocyto mtx");
    assert_eq!(keys(&*input), ["layers/ambiguous", "layers/spliced", "layers/unspliced"]);
    assert!(input.description().notes[0].starts_with("no X: "));
    assert_eq!(values(&*input, &layer("unspliced")), [((1, 1), 7.0)]);
    assert_eq!(values(&*input, &layer("ambiguous")), [((1, 2), 7.0)]);
    assert_eq!(input.column_counts(&layer("spliced")).unwrap(), [1, 0, 0]);
    let e = input.matrix(&MatrixKey::X, Default::default()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let e = open_default(dir.path()).err().unwrap();
    assert!(e.to_string().contains("several folders with a matrix: Gene, Velocyto"), "{e}");
}

#[test]
fn kb_python() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "cells_x_genes.barcodes.txt", "c1\nc2\n");
    put(dir.path(), "cells_x_genes.genes.txt", "E1.2\nE2.1\nE3.4\n");
    put(dir.path(), "cells_x_genes.mtx", matrix(true, &[(3, 1, "4")]));
    let input = open_default(dir.path()).unwrap();
    assert_eq!((keys(&*input), input.description().notes.len()), (vec!["X".to_owned()], 0));
    assert_eq!(values(&*input, &MatrixKey::X), [((0, 2), 4.0)]);
    put(dir.path(), "cells_x_genes.genes.names.txt", "A\nB\nC\n");
    std::fs::remove_file(dir.path().join("cells_x_genes.mtx")).unwrap();
    for (name, row) in [("mature", 1), ("nascent", 2), ("ambiguous", 3)] {
        put(dir.path(), &format!("cells_x_genes.{name}.mtx"), matrix(true, &[(row, 2, "7")]));
    }
    let input = open_default(dir.path()).unwrap();
    assert_eq!(input.description().format, "kb-python mtx");
    assert_eq!(keys(&*input), ["layers/ambiguous", "layers/mature", "layers/nascent"]);
    assert_eq!(values(&*input, &layer("nascent")), [((1, 1), 7.0)]);
    let var = input.var().unwrap();
    assert_eq!((&var.index[2], var.columns[0].array.as_string::<i32>().value(2)), (&"E3.4".to_owned(), "C"));
    let one = open_default(&dir.path().join("cells_x_genes.mature.mtx")).unwrap();
    assert_eq!(values(&*one, &MatrixKey::X), [((1, 0), 7.0)]);
    put(dir.path(), "cells_x_genes.genes.names.txt", "A\nB\n");
    let e = open_default(dir.path()).err().unwrap();
    assert!(e.to_string().contains("2 names for the 3 genes of cells_x_genes.genes.txt"), "{e}");
}

#[test]
fn parse() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "all_genes.csv", "gene_id,gene_name,genome\nE1,A,hg38\nE2,,hg38\nE3,\"C, D\",hg38\n");
    put(dir.path(), "cell_metadata.csv", gzip("bc_wells,sample,gene_count,score\n01_01_01,s1,5,\n01_01_02,s2,,0.5\n"));
    for name in ["DGE.mtx", "count_matrix.mtx"] {
        let path = put(dir.path(), name, matrix(true, &[(3, 1, "4"), (2, 2, "1")]));
        let input = open_default(dir.path()).unwrap();
        let d = input.description();
        assert_eq!((d.format.as_str(), d.notes.len()), ("Parse mtx", 1));
        assert_eq!((d.obs.index_name.as_deref(), d.var.index_name.as_deref()), (Some("bc_wells"), Some("gene_name")));
        assert_eq!(values(&*input, &MatrixKey::X), [((0, 2), 4.0), ((1, 1), 1.0)]);
        let (obs, var) = (input.obs(0..2).unwrap(), input.var().unwrap());
        assert_eq!(
            (&obs.index[1], &var.index[..]),
            (&"01_01_02".to_owned(), &["A", "E2", "C, D"].map(String::from)[..])
        );
        let types: Vec<_> = d.obs.columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
        assert_eq!(types, ["sample Utf8", "gene_count Int64", "score Float64"]);
        let names: Vec<_> = d.var.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["gene_id", "genome"]);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn alevin_fry() {
    let dir = tempfile::tempdir().unwrap();
    let alevin = dir.path().join("af_quant/alevin");
    put(&alevin, "quants_mat_rows.txt", "c1\nc2\n");
    put(&alevin, "quants_mat_cols.txt", "E1\nE2\nE3\n");
    put(&alevin, "quants_mat.mtx.gz", gzip(&matrix(true, &[(3, 1, "4")])));
    let input = open_default(dir.path()).unwrap();
    assert_eq!(input.description().format, "alevin-fry mtx");
    assert_eq!(values(&*input, &MatrixKey::X), [((0, 2), 4.0)]);

    // One gene with three columns: spliced, unspliced, ambiguous.
    put(&alevin, "quants_mat_cols.txt", "E1\nE1-U\nE1-A\n");
    let input = open_default(dir.path()).unwrap();
    assert_eq!(keys(&*input), ["layers/spliced", "layers/unspliced", "layers/ambiguous"]);
    assert_eq!((input.description().n_genes, &input.var().unwrap().index[..]), (1, &["E1".to_owned()][..]));
    assert_eq!(values(&*input, &layer("ambiguous")), [((0, 0), 4.0)]);
    assert_eq!(values(&*input, &layer("spliced")), []);

    std::fs::rename(alevin.join("quants_mat.mtx.gz"), alevin.join("quants_mat.gz")).unwrap();
    let e = open_default(&alevin).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::UnsupportedInput);
    assert!(e.to_string().contains("alevin-fry quant --use-mtx"), "{e}");
}

#[test]
fn files_that_are_inputs_are_given_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.csv", "a.tsv.gz", "c.h5", "d.loom", ".e.csv", "notes.txt"] {
        put(dir.path(), name, "x");
    }
    let error = open_default(dir.path()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let shown = |name: &str| format!("\"{}\"", dir.path().join(name).display());
    let files = ["a.tsv.gz", "b.csv", "c.h5"].map(shown).join(" ");
    assert!(error.message().contains("4 inputs, which are given one by one"), "{error}");
    assert!(error.message().contains(&format!("slaf convert {files} ... OUTPUT.slaf")), "{error}");
    // Of a data set whose matrix is missing.
    put(dir.path(), "sample_barcodes.tsv", "c1\n");
    assert_eq!(open_default(dir.path()).map(drop).unwrap_err().kind(), ErrorKind::UnknownFormat);
}
