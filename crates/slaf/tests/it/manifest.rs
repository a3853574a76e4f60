//! Root manifests whose checksum is right and whose content is not.

use crate::damage::{copy, read_all};
use crate::{Fixture, QUIET};
use serde_json::Value;
use slaf::{ConvertOptions, Dataset, DatasetOptions, Dtype, ErrorKind};
use slaf_ingest::{FrameInfo, H5adWriter, MatrixEncoding, WriteOptions};
use slaf_testing::{Sample, files_below};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The one root manifest of a store.
fn manifest_of(store: &Path) -> PathBuf {
    let mut files = files_below(&store.join("_slaf/versions")).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Changes a root manifest and makes its checksum right.
pub(crate) fn rewrite(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut content: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut content);
    content["checksum"] = "0".repeat(64).into();
    let blank = serde_json::to_string_pretty(&content).unwrap();
    content["checksum"] = blake3::hash(blank.as_bytes()).to_hex().as_str().into();
    std::fs::write(file, serde_json::to_string_pretty(&content).unwrap()).unwrap();
}

/// A store with every kind of matrix and array, two stripes and categories.
fn rich_store() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (path, store) = (folder.path().join("rich.h5ad"), folder.path().join("rich.slaf"));
    let (n_cells, n_genes) = (200, 60);
    let sample = Sample::new(5, n_cells, n_genes);
    let square = |n: usize| Sample::new(6, n, n as u64).x;
    let info = |f: &slaf_ingest::Frame| FrameInfo {
        index_name: None,
        columns: f.columns.iter().map(|c| c.info.clone()).collect(),
    };
    let mut writer = H5adWriter::create(&path, WriteOptions::default()).unwrap();
    writer.write_frame("obs", None, &info(&sample.obs), [Ok(sample.obs.clone())]).unwrap();
    writer.write_frame("var", None, &info(&sample.var), [Ok(sample.var.clone())]).unwrap();
    writer.write_frame("raw/var", None, &info(&sample.var), [Ok(sample.var.clone())]).unwrap();
    let matrices = [
        ("X", sample.x.clone(), n_genes),
        ("layers/a", sample.x.clone(), n_genes),
        ("raw/X", sample.x.clone(), n_genes),
        ("obsp/p", square(n_cells), n_cells as u64),
        ("varp/q", square(n_genes as usize), n_genes),
    ];
    for (name, x, n_cols) in matrices {
        let (rows, nnz) = (x.n_rows() as u64, x.nnz() as u64);
        writer.write_matrix(name, MatrixEncoding::Csr, Dtype::F32, rows, n_cols, Some(nnz), [Ok(x)]).unwrap();
    }
    for (name, rows) in [("obsm/m", n_cells as u64), ("varm/w", n_genes)] {
        let values = slaf::Values::F32((0..rows * 3).map(|i| i as f32).collect());
        writer.write_array(name, Dtype::F32, rows, 3, [Ok(values)]).unwrap();
    }
    writer.finish().unwrap();
    let options = ConvertOptions { memory: 1 << 10, few_names: 0, ..ConvertOptions::default() };
    slaf::convert(&[&path], store.to_str().unwrap(), &options, QUIET).unwrap();
    let dataset = Dataset::open(store.to_str().unwrap()).unwrap();
    assert!(dataset.manifest().stripes.len() > 1);
    assert_eq!(dataset.verify().unwrap(), []);
    (folder, store)
}

/// Where numbers or texts stand in a root manifest.
fn places(value: &Value, wanted: fn(&Value) -> bool, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| places(v, wanted, &format!("{at}/{k}"), out)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| places(v, wanted, &format!("{at}/{i}"), out)),
        _ if wanted(value) => out.push(at.to_string()),
        _ => {}
    }
}

fn places_of(file: &Path, wanted: fn(&Value) -> bool) -> (Value, Vec<String>) {
    let content: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut out = Vec::new();
    places(&content, wanted, "", &mut out);
    (content, out)
}

#[test]
fn every_wrong_number_is_named() {
    let (_folder, store) = rich_store();
    let file = manifest_of(&store);
    let (content, places) = places_of(&file, Value::is_u64);
    assert!(places.len() > 50, "{places:?}");
    for place in places {
        let n = content.pointer(&place).and_then(Value::as_u64).unwrap();
        let mut wrong = vec![0, 1, n.wrapping_sub(1), n + 1, 1 << 32, 1 << 60, u64::MAX];
        wrong.retain(|w| *w != n);
        wrong.dedup();
        for wrong in wrong {
            rewrite(&file, |m| *m.pointer_mut(&place).unwrap() = wrong.into());
            let opened = Dataset::open(store.to_str().unwrap());
            // Nothing else tells when it was made.
            let named = place == "/created" && wrong <= 1 << 32;
            let found = match &opened {
                Err(e) => Some(e.to_string()),
                Ok(dataset) => {
                    // Whatever this gives, it ends and says so.
                    if let Err(e) = read_all(dataset) {
                        assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Conflict), "{place} = {wrong}: {e}");
                    }
                    dataset.verify().map_or_else(|e| Some(e.to_string()), |d| Some(d.first()?.file.clone()))
                }
            };
            assert!(named || found.is_some(), "{place} = {wrong} instead of {n}");
            if let Err(e) = opened {
                let kinds = [ErrorKind::Corrupt, ErrorKind::UnsupportedFeature];
                assert!(kinds.contains(&e.kind()) && e.to_string().contains("rich.slaf"), "{place} = {wrong}: {e}");
            }
        }
        std::fs::write(&file, serde_json::to_string_pretty(&content).unwrap()).unwrap();
    }
    read_all(&Dataset::open(store.to_str().unwrap()).unwrap()).unwrap();
}

#[test]
fn no_path_leads_out_of_the_store() {
    let (_folder, store) = rich_store();
    copy(&store, &store.with_file_name("other.slaf"));
    let file = manifest_of(&store);
    let is_path = |v: &Value| v.as_str().is_some_and(|s| s.contains(".lance") || s.starts_with("_slaf/"));
    let (content, places) = places_of(&file, is_path);
    assert!(places.len() > 12, "{places:?}");
    for place in places {
        let path = content.pointer(&place).and_then(Value::as_str).unwrap();
        let absolute = store.join(path).display().to_string();
        for wrong in [
            format!("../other.slaf/{path}"),
            "..".into(),
            format!("{path}/../{path}"),
            format!("./{path}"),
            "".into(),
            format!("/{path}"),
            absolute.clone(),
            format!("file://{absolute}"),
            format!("s3://bucket/{path}"),
            format!("%2e%2e/other.slaf/{path}"),
            format!("..\\other.slaf\\{path}"),
            format!("{path}\0"),
            "/etc/passwd".into(),
        ] {
            rewrite(&file, |m| *m.pointer_mut(&place).unwrap() = wrong.clone().into());
            let error = Dataset::open(store.to_str().unwrap()).expect_err(&format!("{place} = {wrong:?}"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{place} = {wrong:?}: {error}");
            assert!(error.to_string().contains("path below the root"), "{error}");
        }
    }
}

#[test]
fn texts_that_mean_nothing_are_named() {
    let (_folder, store) = rich_store();
    let file = manifest_of(&store);
    for (place, wrong) in [
        ("/matrices/0/dtype", "float128"),
        ("/matrices/0/slot", "tables"),
        ("/matrices/0/encoding", "coo"),
        ("/arrays/0/axis", "cell"),
        ("/arrays/0/dtype", "text"),
        ("/obs/columns/0/kind", "wide"),
        ("/obs/columns/0/data_type", "int65"),
        ("/obs/columns/0/id", "o1"),
        ("/matrices/0/column", "l1"),
        ("/files/0/blake3", "12"),
        ("/tables/genes/path", "cells.lance"),
        ("/tables/genes/path", "nothing.lance"),
    ] {
        let (content, _) = places_of(&file, Value::is_string);
        assert!(content.pointer(place).is_some(), "{place}");
        rewrite(&file, |m| *m.pointer_mut(place).unwrap() = wrong.into());
        let error = Dataset::open(store.to_str().unwrap()).expect_err(place);
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFeature), "{place}: {error}");
        std::fs::write(&file, serde_json::to_string_pretty(&content).unwrap()).unwrap();
    }
    for field in ["raw_var", "categories"] {
        let (content, _) = places_of(&file, Value::is_string);
        rewrite(&file, |m| m[field] = Value::Null);
        assert_eq!(Dataset::open(store.to_str().unwrap()).unwrap_err().kind(), ErrorKind::Corrupt, "{field}");
        std::fs::write(&file, serde_json::to_string_pretty(&content).unwrap()).unwrap();
    }
}

#[test]
fn what_is_no_version_is_ignored() {
    let fixture = Fixture::new(1, 30, 10);
    let folder = fixture.store().join("_slaf/versions");
    for name in [
        "2.json",
        "+0000000000000000002.json",
        "00000000000000000002.json.tmp",
        "note.txt",
        "99999999999999999999.json",
    ] {
        std::fs::write(folder.join(name), "{}").unwrap();
    }
    assert_eq!(fixture.dataset().version(), 1);
    assert_eq!(fixture.dataset().versions().unwrap().len(), 1);
    read_all(&fixture.dataset()).unwrap();
}

#[test]
fn the_last_number_is_no_version() {
    let fixture = Fixture::new(1, 30, 10);
    let (first, last) =
        (manifest_of(&fixture.store()), fixture.store().join("_slaf/versions/18446744073709551615.json"));
    std::fs::copy(&first, &last).unwrap();
    rewrite(&last, |m| m["version"] = u64::MAX.into());
    let error = fixture.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("version=1"), "{error}");
    let old = DatasetOptions { version: Some(1), ..DatasetOptions::default() };
    read_all(&Dataset::open_with(fixture.store().to_str().unwrap(), &old).unwrap()).unwrap();
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    let error = slaf::convert(&[&fixture.h5ad()], fixture.store().to_str().unwrap(), &options, QUIET).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(error.to_string().contains("18446744073709551615.json"), "{error}");
    assert!(first.exists() && last.exists());
}
