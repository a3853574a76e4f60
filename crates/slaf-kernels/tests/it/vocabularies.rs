use crate::{column, kind};
use slaf_core::ErrorKind;
use slaf_kernels::tokenizers::{Description, GeneTable, Geneformer, Recipe, Vocabulary};

fn vocabulary(genes: &[&str]) -> Vocabulary {
    let names = ["<pad>", "<mask>"].into_iter().chain(genes.iter().copied());
    Vocabulary::new(names.map(String::from).zip(0..)).unwrap()
}

fn unscaled() -> Description {
    Description { scale: false, ..Description::geneformer(Geneformer::V1, 8) }
}

#[test]
fn the_column_that_fits_best_is_taken_and_named() {
    let recipe = Recipe::new(unscaled(), vocabulary(&["ENSG01", "ENSG02", "ENSG03"]));
    let columns = [
        column("gene_id", &["A", "B", "C", "ENSG01"]),
        column("ensembl_id", &["ensg01.1", "ENSG02.2", "", "ENSG09"]),
        column("other", &["ENSG03", "", "ENSG02", ""]),
    ];
    let found = recipe.prepare(&columns).unwrap().gene_match().clone();
    assert_eq!(found.column, "ensembl_id");
    let tried = [("gene_id", 1), ("ensembl_id", 2), ("other", 2)].map(|(n, k)| (n.to_string(), k));
    assert_eq!(found.tried, tried);
    assert_eq!((found.n_genes, found.n_matched, found.n_vocabulary), (4, 2, 3));
    assert!((found.share - 2.0 / 3.0).abs() < 1e-12 && found.warning.is_none());
}

#[test]
fn a_wrong_vocabulary_fails_loudly() {
    let recipe = Recipe::new(unscaled(), vocabulary(&["ENSG01", "ENSG02"]));
    let Err(e) = recipe.prepare(&[column("gene_id", &["Actb", "Gapdh"]), column("symbol", &["x", "y"])]) else {
        panic!("no error")
    };
    assert_eq!(e.kind(), ErrorKind::UnknownGene);
    for part in ["gene_id", "Actb", "symbol", "ENSG01"] {
        assert!(e.to_string().contains(part), "{part} in {e}");
    }
    assert_eq!(kind(recipe.prepare(&[])), ErrorKind::InvalidArgument);
    assert_eq!(kind(recipe.prepare(&[column("a", &["ENSG01"]), column("b", &["x", "y"])])), ErrorKind::InvalidArgument);
}

#[test]
fn a_poor_vocabulary_warns_with_the_share() {
    let recipe = Recipe::new(unscaled(), vocabulary(&["ENSG01", "ENSG02", "ENSG03", "ENSG04", "ENSG05"]));
    let found = recipe.prepare(&[column("gene_id", &["ENSG01", "a", "b", "c"])]).unwrap().gene_match().clone();
    assert!((found.share - 0.25).abs() < 1e-12);
    assert!(found.warning.is_some_and(|w| w.contains("1 of 4") && w.contains("25 %")));
    // Many genes that no vocabulary has are no sign of a wrong one.
    let mut ids: Vec<String> = (0..90).map(|i| format!("ENSG1{i}")).collect();
    ids.extend(["ENSG01", "ENSG02", "ENSG03"].map(String::from));
    assert_eq!(recipe.prepare(&[column("gene_id", &ids)]).unwrap().gene_match().warning, None);
}

#[test]
fn missing_tables_and_tokens_are_named() {
    let genes = ["ENSG01", "ENSG02"];
    let prepare = |r: Recipe| r.prepare(&[column("gene_id", &genes)]).map(|t| t.gene_match().clone());
    let table = |e: &[(&str, f64)]| GeneTable::new(e.iter().map(|&(n, x)| (n.to_string(), x))).unwrap();
    let v1 = || Recipe::new(Description::geneformer(Geneformer::V1, 8), vocabulary(&genes));
    assert_eq!(kind(prepare(v1())), ErrorKind::InvalidArgument);
    assert_eq!(kind(prepare(v1().with_scales(table(&[("ENSG09", 1.0)])))), ErrorKind::UnknownGene);
    assert_eq!(kind(prepare(v1().with_scales(table(&[("ENSG01", 0.0)])))), ErrorKind::InvalidArgument);
    assert_eq!(kind(prepare(v1().with_scales(table(&[("ENSG01", 1.0), ("ENSG01.2", 2.0)])))), ErrorKind::AmbiguousName);
    assert_eq!(prepare(v1().with_scales(table(&[("ensg01.7", 1.0)]))).unwrap().n_without_scale, 1);
    // V2 needs <cls> and <eos>.
    let v2 =
        Recipe::new(Description { scale: false, ..Description::geneformer(Geneformer::V2, 8) }, vocabulary(&genes));
    let e = prepare(v2).unwrap_err();
    assert!(e.to_string().contains("<cls>") && e.to_string().contains("<pad>, <mask>"), "{e}");
    assert!(GeneTable::new([("a".to_string(), f64::NAN)]).is_err());
    assert_eq!(kind(GeneTable::new(["a", "a"].map(|n| (n.to_string(), 1.0)))), ErrorKind::AmbiguousName);
}

#[test]
fn names_of_a_data_set_may_repeat() {
    let names = ["x", "y", "x", "X"];
    let recipe = Recipe::new(unscaled(), Vocabulary::from_data_set(&names, 100).unwrap());
    let found = recipe.prepare(&[column("gene_id", &names)]).unwrap().gene_match().clone();
    assert_eq!((found.n_matched, found.n_merged), (4, 0));
    // Other genes are found by name, which then has to be unique.
    assert_eq!(kind(recipe.prepare(&[column("gene_id", &["y", "x"])])), ErrorKind::AmbiguousName);
}

#[test]
fn files_that_are_no_tables_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.json");
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Vocabulary::from_file(&path)
    };
    assert_eq!(with(r#"{"<pad>": 0, "TP53": 7}"#).unwrap().name(7), Some("TP53"));
    for text in ["", "[]", r#"{"a": "b"}"#, r#"{"a": 1.5}"#, r#"{"a": [1]}"#] {
        assert_eq!(kind(with(text)), ErrorKind::MalformedInput, "{text}");
    }
    assert_eq!(kind(with(r#"{"a": -1}"#)), ErrorKind::InvalidArgument);
    let e = Vocabulary::from_file(folder.path().join("none.json")).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("none.json"), "{e}");
}
