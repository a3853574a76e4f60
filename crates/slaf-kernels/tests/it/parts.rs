//! Tokenizers that users compose.

use crate::{Cell, Rows, chunk, column, kind, tokenize, tokenize_with};
use slaf_core::{CsrChunk, Dtype, ErrorKind, Values};
use slaf_kernels::tokenizers::{Batch, Description, GeneTable, Output, Random, Recipe, Tokenizer, Vocabulary};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The data set's own vocabulary: token = gene + 4.
fn compose(json: &str) -> Tokenizer {
    let positions = GeneTable::new([("a", 5.0), ("b", 1.0), ("c", 9.0), ("d", 1.0)].map(|(n, x)| (n.into(), x)));
    let recipe = Recipe::new(Description::from_json(json).unwrap(), Vocabulary::from_data_set(&NAMES, 100).unwrap());
    recipe.with_positions(positions.unwrap()).prepare(&[column("gene_id", &NAMES)]).unwrap()
}

fn rows(json: &str, cells: &[Cell]) -> Rows {
    tokenize(&compose(json), &chunk(cells, Dtype::F32))
}

fn ids(json: &str, cell: Cell) -> Vec<i64> {
    rows(json, &[cell]).ids.remove(0)
}

fn counts() -> Cell {
    vec![(0, 2.0), (1, 8.0), (2, 2.0), (3, 100.0), (5, 1.0)]
}

#[test]
fn genes_are_ordered_as_described() {
    let with =
        |order: &str| ids(&format!(r#"{{"length": 6, "order": "{order}", "pad": {{"token": "<pad>"}}}}"#), counts());
    assert_eq!(with("column"), [4, 5, 6, 7, 9, 0]);
    assert_eq!(with("key"), [7, 5, 4, 6, 9, 0]);
    // b and d share a position, f has none.
    assert_eq!(with("position"), [5, 7, 4, 6, 9, 0]);
    let mut random = with("random");
    random.sort_unstable();
    assert_eq!(random, [0, 4, 5, 6, 7, 9]);
}

#[test]
fn genes_are_selected_before_they_are_ordered() {
    let with = |select: &str, order: &str| {
        ids(
            &format!(r#"{{"length": 3, "select": {select}, "order": "{order}", "pad": {{"token": "<pad>"}}}}"#),
            counts(),
        )
    };
    assert_eq!(with(r#""head""#, "key"), [5, 4, 6]);
    assert_eq!(with(r#"{"top": {}}"#, "column"), [4, 5, 7]);
    let weighted = with(r#"{"sample": {"weight": "value"}}"#, "column");
    assert!(weighted.is_sorted_by(|a, b| a < b), "without replacement: {weighted:?}");
    let replaced = with(r#"{"sample": {"weight": "log1p", "replace": true}}"#, "column");
    assert!(replaced.is_sorted() && replaced.iter().all(|id| [4, 5, 6, 7, 9].contains(id)));
}

#[test]
fn random_ties_are_even() {
    let json = r#"{"length": 2, "select": {"top": {"ties": "random"}}, "order": "key", "pad": {"token": "<pad>"}}"#;
    let cells = vec![vec![(0, 1.0), (1, 1.0), (2, 1.0), (3, 5.0)]; 3_000];
    let mut seen = [0; 12];
    for ids in rows(json, &cells).ids {
        assert_eq!(ids[0], 7);
        seen[ids[1] as usize] += 1;
    }
    assert!(seen[4..7].iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
}

#[test]
fn weights_set_the_chances() {
    let cells = vec![vec![(0, 1.0), (1, 3.0)]; 4_000];
    for replace in [true, false] {
        let json = format!(
            r#"{{"length": 1, "select": {{"sample": {{"weight": "value", "replace": {replace}}}}}, "pad": {{"token": "<pad>"}}}}"#
        );
        let heavy = rows(&json, &cells).ids.iter().filter(|ids| ids[0] == 5).count();
        assert!((2_850..3_150).contains(&heavy), "{heavy} of 4,000, not 3,000");
    }
}

#[test]
fn silent_genes_fill_the_row() {
    let with = |fill: &str, order: &str| {
        let json = format!(
            r#"{{"length": 5, "fill": "{fill}", "order": "{order}", "values": {{}}, "pad": {{"token": "<pad>"}}}}"#
        );
        rows(&json, &[vec![(1, 2.0), (4, 3.0)], vec![]])
    };
    let column = with("column", "column");
    assert_eq!(column.ids, [[4, 5, 6, 7, 8], [0; 5]]);
    assert_eq!(column.values[0], [0.0, 2.0, 0.0, 0.0, 3.0]);
    let key = with("column", "key");
    assert_eq!((&key.ids[0], &key.values[0]), (&vec![8, 5, 4, 6, 7], &vec![3.0, 2.0, 0.0, 0.0, 0.0]));
    let random = with("random", "column");
    assert!(random.ids[0].is_sorted_by(|a, b| a < b) && random.ids[0].contains(&5) && random.ids[0].contains(&8));
    // All genes in column order, as scFoundation takes them.
    let all = rows(
        r#"{"length": 8, "fill": "column", "values": {"bins": {"n_bins": 4, "mode": "deterministic"}}, "pad": {"token": "<pad>"}}"#,
        &[vec![(1, 2.0), (4, 3.0)]],
    );
    assert_eq!(all.ids[0], [4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(all.values[0], [0.0, 1.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
}

#[test]
fn values_are_transformed_as_described() {
    let with = |map: &str| {
        let json = format!(
            r#"{{"length": 3, "target_sum": 100, "values": {map}, "last": [{{"token": "<sep>", "value": "log10-total"}}],
                "pad": {{"token": "<pad>", "value": -1}}}}"#
        );
        rows(&json, &[vec![(0, 90.0), (2, 10.0)]]).values.remove(0)
    };
    assert_eq!(with("{}"), [90.0, 10.0, 2.0]);
    assert_eq!(with(r#"{"clip": 30}"#), [30.0, 10.0, 2.0]);
    assert_eq!(with(r#"{"transform": "normalized"}"#), [90.0, 10.0, 2.0]);
    assert_eq!(with(r#"{"transform": "log1p"}"#), [91.0_f64.ln() as f32, 11.0_f64.ln() as f32, 2.0]);
    assert_eq!(with(r#"{"transform": "log1p", "bins": {"n_bins": 5, "mode": "deterministic"}}"#), [4.0, 1.0, 2.0]);
}

#[test]
fn totals_are_those_that_are_asked_for() {
    // Gene 3 has no token.
    let json = |total: &str| {
        format!(
            r#"{{"length": 2, "genes": "symbol", "total": "{total}", "target_sum": 10, "values": {{"transform": "normalized"}}, "pad": {{"token": "<pad>"}}}}"#
        )
    };
    let vocabulary = Vocabulary::new([("<pad>", 0), ("a", 1), ("b", 2)].map(|(n, t)| (n.into(), t))).unwrap();
    let chunk = chunk(&[vec![(0, 2.0), (1, 3.0), (3, 5.0)]], Dtype::U8);
    let values = |total: &str, totals: Option<&[f64]>| {
        let recipe = Recipe::new(Description::from_json(&json(total)).unwrap(), vocabulary.clone());
        let t = recipe.prepare(&[column("gene_id", &NAMES)]).unwrap();
        let batch = Batch { chunk: &chunk, cells: &[0], totals };
        tokenize_with(&t, &batch, &mut Random::new(0, 0)).unwrap().values.remove(0)
    };
    assert_eq!(values("all", None), [2.0, 3.0]);
    assert_eq!(values("all", Some(&[20.0])), [1.0, 1.5]);
    assert_eq!(values("vocabulary", Some(&[20.0])), [4.0, 6.0]);
}

#[test]
fn cells_without_tokens_are_kept_or_dropped() {
    let cells = vec![vec![], vec![(1, 2.0)], vec![(2, 0.0)], vec![(3, 1.0), (4, 1.0)], vec![]];
    let json = |empty: &str| {
        format!(
            r#"{{"length": 4, "first": [{{"token": "<cls>"}}], "values": {{}}, "pad": {{"token": "<pad>"}}, "empty": "{empty}"}}"#
        )
    };
    let kept = rows(&json("keep"), &cells);
    assert_eq!(kept.ids, [[0; 4], [1, 5, 0, 0], [0; 4], [1, 7, 8, 0], [0; 4]]);
    assert_eq!((kept.done.rows, &kept.done.empty), (5, &vec![0, 2, 4]));
    let dropped = rows(&json("drop"), &cells);
    assert_eq!(dropped.ids, [[1, 5, 0, 0], [1, 7, 8, 0]]);
    assert_eq!(dropped.mask[0], [true, true, false, false]);
    assert_eq!(dropped.values, [[0.0, 2.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]]);
    assert_eq!((dropped.done.rows, &dropped.done.empty), (2, &vec![0, 2, 4]));

    let chunk = chunk(&cells, Dtype::F32);
    let batch = Batch { chunk: &chunk, cells: &[0, 1, 2, 3, 4], totals: None };
    let packed = compose(&json("keep")).tokenize_packed(&batch, &mut Random::new(0, 0)).unwrap();
    assert_eq!((&packed.input_ids, &packed.offsets), (&vec![1, 5, 1, 7, 8], &vec![0, 0, 2, 2, 5, 5]));
    assert_eq!(packed.values, [0.0, 2.0, 0.0, 1.0, 1.0]);
    let packed = compose(&json("drop")).tokenize_packed(&batch, &mut Random::new(0, 0)).unwrap();
    assert_eq!((packed.input_ids.len(), packed.offsets), (5, vec![0, 2, 5]));
}

#[test]
fn every_value_type_is_taken() {
    let t = compose(r#"{"length": 3, "order": "key", "values": {}, "pad": {"token": "<pad>"}}"#);
    for dtype in Dtype::ALL {
        let rows = tokenize(&t, &chunk(&[vec![(0, 1.0), (3, 1.0)]], dtype));
        assert_eq!((&rows.ids[0], &rows.values[0]), (&vec![4, 7, 0], &vec![1.0, 1.0, 0.0]), "{dtype}");
    }
}

#[test]
fn wrong_input_is_refused() {
    let t = compose(r#"{"length": 2, "pad": {"token": "<pad>"}}"#);
    let with = |chunk: &CsrChunk, cells: &[u64]| {
        tokenize_with(&t, &Batch { chunk, cells, totals: None }, &mut Random::new(0, 0))
    };
    for x in [-0.5, f64::NAN, f64::INFINITY] {
        let chunk = chunk(&[vec![(1, 1.0)], vec![(1, 1.0), (6, x)]], Dtype::F64);
        let e = with(&chunk, &[10, 11]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.to_string().contains("gene 6 in cell 11"), "{e}");
    }
    let sound = chunk(&[vec![(1, 1.0)]], Dtype::U8);
    assert_eq!(kind(with(&sound, &[1, 2])), ErrorKind::InvalidArgument);
    let broken = [
        CsrChunk { indices: vec![8], ..sound.clone() },
        CsrChunk { indptr: vec![0, 2], ..sound.clone() },
        CsrChunk { indptr: vec![0, 5, 1], ..sound.clone() },
        CsrChunk { indptr: vec![0, 2], indices: vec![3, 3], values: Values::U8(vec![1, 1]) },
        CsrChunk { values: Values::U8(vec![]), ..sound.clone() },
    ];
    for chunk in broken {
        let cells = vec![0; chunk.n_rows()];
        assert_eq!(kind(with(&chunk, &cells)), ErrorKind::MalformedInput, "{chunk:?}");
    }
    let mut values = [0.0];
    let out = Output { input_ids: &mut [0, 0], attention_mask: &mut [false, false], values: &mut values };
    let batch = Batch { chunk: &sound, cells: &[0], totals: None };
    assert_eq!(kind(t.tokenize(&batch, &mut Random::new(0, 0), out)), ErrorKind::InvalidArgument);
}

#[test]
fn wrong_descriptions_are_refused() {
    for json in [
        "[]",
        r#"{"length": 5}"#,
        r#"{"length": 5, "pad": {"token": "<pad>"}, "ordre": "key"}"#,
        r#"{"length": 5, "pad": {"token": "<pad>"}, "order": "keys"}"#,
        r#"{"length": 1, "pad": {"token": "<pad>"}, "first": [{"token": "<cls>"}]}"#,
        r#"{"length": 5, "pad": {"token": "<pad>"}, "target_sum": 0}"#,
        r#"{"length": 5, "pad": {"token": "<pad>"}, "values": {"transform": "normalized"}}"#,
        r#"{"length": 5, "pad": {"token": "<pad>"}, "values": {"bins": {"n_bins": 2}}}"#,
        r#"{"length": 5, "pad": {"token": "<pad>"}, "values": {"bins": {"n_bins": 51, "mode": "exact"}}}"#,
    ] {
        assert_eq!(kind(Description::from_json(json)), ErrorKind::InvalidArgument, "{json}");
    }
}

#[test]
fn a_description_survives_json() {
    let json = r#"{"length": 9, "genes": "symbol", "total": "vocabulary", "target_sum": 10000.0, "scale": true,
        "select": {"sample": {"weight": "log1p", "replace": true}}, "fill": "random", "order": "position",
        "values": {"transform": "log1p", "clip": 3.5, "bins": {"n_bins": 51, "mode": "strict"}},
        "first": [{"token": "<cls>", "value": -2.0}], "last": [{"token": "<eos>", "value": "log10-total"}],
        "pad": {"token": "<pad>", "value": -2.0}, "empty": "drop"}"#;
    let d = Description::from_json(json).unwrap();
    let text = serde_json::to_value(&d).unwrap();
    assert_eq!(text, serde_json::from_str::<serde_json::Value>(json).unwrap());
}
