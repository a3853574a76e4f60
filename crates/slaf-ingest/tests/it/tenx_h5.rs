use crate::made::{open, totals};
use crate::support::shared;
use arrow::array::AsArray;
use slaf_ingest::{MatrixKey, OpenOptions, StreamOptions};

/// As scanpy 1.12 reads them, with `gex_only=False`.
#[test]
fn real_files_are_read_as_scanpy_reads_them() {
    let v2 = ["gene_ids"];
    let v3 = ["gene_ids", "feature_types", "genome"];
    let tags = ["gene_ids", "feature_types", "genome", "pattern", "read", "sequence"];
    for (file, format, shape, nnz, sum, columns, first) in [
        ("format_zoo/10x_v2.h5", "10x h5 v2", (12, 343), 12, 12.0, &v2[..], ["AACACGTGTACGCTGC-1", "DSCAM"]),
        (
            "format_zoo/10x_v3.h5",
            "10x h5 v3",
            (1107, 507),
            23_866,
            41_549.0,
            &v3,
            ["AAACCCAAGGAGAGTA-1", "CH507-9B2.2"],
        ),
        (
            "1K_pbmc_citeseq.h5",
            "10x h5 v3",
            (892, 36_611),
            2_017_078,
            8_671_085.0,
            &tags,
            ["AATCACGAGCAGCCCT-1", "MIR1302-2HG"],
        ),
    ] {
        let Some(path) = shared(file) else { continue };
        let input = open(&path).unwrap();
        let d = input.description();
        assert_eq!((d.format.as_str(), (d.n_cells, d.n_genes)), (format, shape));
        let names: Vec<_> = d.var.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, columns);
        assert_eq!([&input.obs(0..1).unwrap().index[0], &input.var().unwrap().index[0]], first);
        let (_, n, s) =
            totals(input.as_ref(), &MatrixKey::X, StreamOptions { max_rows: 50, max_nnz: 100_000 }).unwrap();
        assert_eq!((n, s), (nnz, sum), "{file}");
        assert_eq!(input.column_counts(&MatrixKey::X).unwrap().iter().sum::<u64>(), nnz as u64);
    }
}

/// As scanpy 1.12 reads it, with `gex_only=True`.
#[test]
fn a_feature_type_can_be_chosen() {
    let Some(path) = shared("1K_pbmc_citeseq.h5") else { return };
    let options = |feature: &str| OpenOptions { feature_type: Some(feature.into()), ..OpenOptions::default() };
    let input = slaf_ingest::open(&path, &options("Gene Expression")).unwrap();
    assert_eq!(input.description().n_genes, 36_601);
    let (_, n, s) = totals(input.as_ref(), &MatrixKey::X, StreamOptions::default()).unwrap();
    assert_eq!((n, s), (2_009_028, 6_954_542.0));
    let antibodies = slaf_ingest::open(&path, &options("Antibody Capture")).unwrap();
    let var = antibodies.var().unwrap();
    assert_eq!((var.index.len(), var.index[9].as_str()), (10, "IgG1_control_TotalSeqC"));
    assert_eq!(var.columns[1].array.as_string::<i32>().value(0), "Antibody Capture");
    let (_, n, s) = totals(antibodies.as_ref(), &MatrixKey::X, StreamOptions::default()).unwrap();
    assert_eq!((n, s), (2_017_078 - 2_009_028, 8_671_085.0 - 6_954_542.0));
    let e = slaf_ingest::open(&path, &options("Proteins")).map(|_| ()).unwrap_err();
    assert_eq!(e.kind().as_str(), "invalid-argument");
    assert!(e.message().contains("\"Antibody Capture\", \"Gene Expression\""), "{e}");
}

#[test]
fn several_genomes_need_a_choice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.h5");
    let mut f = hdf5_pure::FileBuilder::new();
    for genome in ["hg19", "mm10"] {
        let mut g = f.create_group(genome);
        g.create_dataset("barcodes").with_vlen_strings(&["AA", "CC"]);
        g.create_dataset("genes").with_vlen_strings(&["ENS1"]);
        g.create_dataset("gene_names").with_vlen_strings(&[genome]);
        g.create_dataset("data").with_i32_data(&[5]);
        g.create_dataset("indices").with_i64_data(&[0]);
        g.create_dataset("indptr").with_i64_data(&[0, 0, 1]);
        g.create_dataset("shape").with_i32_data(&[1, 2]);
        f.add_group(g.finish());
    }
    f.write(&path).unwrap();
    let e = open(&path).map(|_| ()).unwrap_err();
    assert_eq!(
        (e.kind().as_str(), e.message()),
        ("invalid-argument", "several genomes: choose one of \"hg19\", \"mm10\" with --genome NAME (genome=NAME)")
    );
    let options = OpenOptions { genome: Some("mm10".into()), ..OpenOptions::default() };
    let input = slaf_ingest::open(&path, &options).unwrap();
    assert_eq!(input.var().unwrap().index, ["mm10"]);
    assert_eq!(totals(input.as_ref(), &MatrixKey::X, StreamOptions::default()).unwrap(), (2, 1, 5.0));
}
