//! Damaged stores give named errors, never a panic and never wrong data without a word.

use crate::Fixture;
use crate::manifest::rewrite;
use slaf::{Dataset, DatasetOptions, ErrorKind, MatrixKey, Selection, Values, Verify};
use slaf_testing::{files_below, truncate};
use std::path::{Path, PathBuf};

/// Everything that a reader can touch.
pub(crate) fn read_all(dataset: &Dataset) -> slaf::Result<()> {
    dataset.measured()?;
    dataset.obs(None, &Selection::All)?;
    dataset.var(None, &Selection::All)?;
    dataset.read(&MatrixKey::X, &Selection::All, &Selection::All)?;
    dataset.read(&MatrixKey::X, &Selection::All, &Selection::Ids(vec![0]))?;
    dataset.cell_stats()?;
    dataset.gene_stats()?;
    Ok(())
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_store_that_was_replaced_is_not_mixed_with_the_old_one() {
    let (old, new) = (Fixture::new(1, 60, 30), Fixture::new(2, 60, 30));
    let handle = Dataset::open(old.store().to_str().unwrap()).unwrap();
    std::fs::remove_dir_all(old.store()).unwrap();
    copy(&new.store(), &old.store());
    let gene = Selection::Ids(vec![0]);
    let results = [
        handle.obs(None, &Selection::All).map(drop),
        handle.var(None, &Selection::All).map(drop),
        handle.read(&MatrixKey::X, &Selection::All, &Selection::All).map(drop),
        handle.read(&MatrixKey::X, &Selection::All, &gene).map(drop),
    ];
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("open it again"), "{error}");
    }
    read_all(&Dataset::open(old.store().to_str().unwrap()).unwrap()).unwrap();
}

#[test]
fn any_cut_or_missing_file_is_named() {
    let fixture = Fixture::new(1, 60, 30);
    let files = files_below(&fixture.store()).unwrap();
    assert!(files.len() >= 8, "{files:?}");
    let damaged = fixture.folder.path().join("damaged.slaf");
    for file in &files {
        // Lance reads transaction files only to resolve conflicts of writers, and the hint only to
        // find its newest version, where we name one.
        // Heads are for object stores, and what is damaged of them is done without.
        let unused = ["_transactions", "latest_version_hint.json", "heads"];
        if file.components().any(|c| unused.iter().any(|u| c.as_os_str() == *u)) {
            continue;
        }
        let relative = file.strip_prefix(fixture.store()).unwrap();
        let length = std::fs::metadata(file).unwrap().len();
        for cut in [None, Some(0), Some(1), Some(length / 2), Some(length - 1)] {
            let _ = std::fs::remove_dir_all(&damaged);
            copy(&fixture.store(), &damaged);
            match cut {
                Some(n) => truncate(&damaged.join(relative), n).unwrap(),
                None => std::fs::remove_file(damaged.join(relative)).unwrap(),
            }
            let result = Dataset::open(damaged.to_str().unwrap()).and_then(|d| read_all(&d));
            let error = result.expect_err(&format!("{} cut to {cut:?}", relative.display()));
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotAStore),
                "{} cut to {cut:?}: {} {error}",
                relative.display(),
                error.kind().as_str()
            );
            assert!(error.to_string().contains("damaged.slaf"), "{error}");
        }
    }
}

#[test]
fn a_flipped_bit_of_the_manifest_is_found() {
    let fixture = Fixture::new(2, 20, 10);
    let manifest = files_below(&fixture.store().join("_slaf/versions")).unwrap().remove(0);
    let length = std::fs::metadata(&manifest).unwrap().len();
    for offset in (0..length).step_by(97) {
        slaf_testing::flip_bit(&manifest, offset, 2).unwrap();
        assert_eq!(fixture.open().unwrap_err().kind(), ErrorKind::Corrupt, "at {offset}");
        slaf_testing::flip_bit(&manifest, offset, 2).unwrap();
    }
    read_all(&fixture.dataset()).unwrap();
}

#[test]
fn what_is_no_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| Dataset::open(path.to_str().unwrap()).unwrap_err().kind();
    assert_eq!(open(&folder.path().join("absent.slaf")), ErrorKind::NotFound);
    std::fs::write(folder.path().join("text"), "x").unwrap();
    assert_eq!(open(folder.path()), ErrorKind::NotAStore);
}

#[test]
fn a_later_version_of_the_format_is_refused_by_feature() {
    let fixture = Fixture::new(3, 20, 10);
    let file = files_below(&fixture.store().join("_slaf/versions")).unwrap().remove(0);
    rewrite(&file, |m| m["reader_features"] = vec!["quantum"].into());
    let error = fixture.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    assert!(error.to_string().contains("quantum"), "{error}");
}

#[test]
fn verify_finds_every_flipped_bit() {
    let fixture = Fixture::new(4, 50, 20);
    let dataset = fixture.dataset();
    assert_eq!(dataset.verify().unwrap(), []);
    let files: Vec<_> = files_below(&fixture.store())
        .unwrap()
        .into_iter()
        .filter(|f| !f.to_str().unwrap().contains("_slaf/versions"))
        .collect();
    let mut random = slaf_testing::Random(3);
    for _ in 0..200 {
        let file = &files[random.below(files.len() as u64) as usize];
        let length = std::fs::metadata(file).unwrap().len();
        let (offset, bit) = (random.below(length), random.below(8) as u8);
        slaf_testing::flip_bit(file, offset, bit).unwrap();
        let found = dataset.verify().unwrap();
        assert_eq!(found.len(), 1, "{} at {offset}", file.display());
        assert!(file.ends_with(&found[0].file), "{found:?}");
        assert_eq!(dataset.verify_quick().unwrap(), []);
        slaf_testing::flip_bit(file, offset, bit).unwrap();
    }
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        let found = dataset.verify_quick().unwrap();
        assert!(found.len() == 1 && file.ends_with(&found[0].file), "{found:?}");
        std::fs::write(file, bytes).unwrap();
    }
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(dataset.verify().unwrap()[0].reason, "missing");
}

/// The files of a store of which reading uses something, in the order of their paths.
fn used_files(store: &Path) -> Vec<std::path::PathBuf> {
    let unused = ["_slaf/versions", "_slaf/heads", "_transactions", "latest_version_hint.json"];
    let mut files = files_below(store).unwrap();
    files.retain(|f| !unused.iter().any(|u| f.to_str().unwrap().contains(u)));
    files
}

fn first_touch(store: &Path) -> Dataset {
    let options = DatasetOptions { verify: Verify::FirstTouch, ..DatasetOptions::default() };
    Dataset::open_with(store.to_str().unwrap(), &options).unwrap()
}

/// Calls `check` after each of 200 flips, which it undoes.
fn flips_of(files: &[std::path::PathBuf], mut check: impl FnMut(&Path, String)) {
    let mut random = slaf_testing::Random(7);
    for _ in 0..200 {
        let file = &files[random.below(files.len() as u64) as usize];
        let length = std::fs::metadata(file).unwrap().len();
        let (offset, bit) = (random.below(length), random.below(8) as u8);
        slaf_testing::flip_bit(file, offset, bit).unwrap();
        check(file, format!("{} bit {bit} of byte {offset}", file.display()));
        slaf_testing::flip_bit(file, offset, bit).unwrap();
    }
}

#[test]
fn first_touch_names_every_flipped_bit() {
    let fixture = Fixture::new(4, 50, 20);
    let files = used_files(&fixture.store());
    read_all(&first_touch(&fixture.store())).unwrap();
    flips_of(&files, |file, what| {
        let error = read_all(&first_touch(&fixture.store())).expect_err(&what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{what}: {error}");
    });
    read_all(&first_touch(&fixture.store())).unwrap();
}

/// The data file of a table.
fn data_of(store: &Path, table: &str) -> PathBuf {
    let is_its = |f: &&PathBuf| {
        let inside = f.strip_prefix(store).unwrap().to_str().unwrap();
        inside.starts_with(&format!("{table}-")) && inside.contains("/data/")
    };
    files_below(store).unwrap().iter().find(is_its).unwrap().clone()
}

#[test]
fn first_touch_finds_swapped_files() {
    let fixture = Fixture::new(4, 50, 20);
    let other = Fixture::new(5, 50, 20);
    std::fs::copy(data_of(&other.store(), "cells"), data_of(&fixture.store(), "cells")).unwrap();
    let error = first_touch(&fixture.store()).cell_stats().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // What is not touched is not read.
    first_touch(&fixture.store()).gene_stats().unwrap();
}

#[test]
fn flipped_counts_are_never_read_as_others() {
    let fixture = Fixture::new(6, 120, 40);
    let x = |cols: Selection| {
        let read = fixture.dataset().read(&MatrixKey::X, &Selection::All, &cols)?;
        let Values::F32(values) = &read.values else { panic!("{:?}", read.values.dtype()) };
        Ok::<_, slaf::Error>((read.indptr.clone(), read.indices.clone(), values.clone()))
    };
    let selections = || [Selection::All, Selection::Ids(vec![3]), Selection::Ids((5..30).collect())];
    let right = selections().map(|s| x(s).unwrap());
    let data = ["cells", "by_gene"].map(|table| data_of(&fixture.store(), table));
    let mut named = 0;
    flips_of(&data, |_, what| {
        for (selection, right) in selections().into_iter().zip(&right) {
            match x(selection.clone()) {
                Ok(found) => assert_eq!(found, *right, "{what}, {selection:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                    named += 1;
                }
            }
        }
    });
    // Much of these files is packed rows.
    assert!(named > 50, "{named}");
}
