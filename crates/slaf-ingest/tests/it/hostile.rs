//! Files that are wrong: an exact error for each, and never a panic.

use crate::made::{GOOD, Parts, frame, group, h5ad, open, read_all, with_x};
use hdf5_pure::{AttrValue, FileBuilder};
use std::path::Path;

type Damage = fn(&mut FileBuilder);

fn failure(path: &Path) -> (String, String) {
    let e = read_all(path).unwrap_err();
    let place = e.to_string();
    let place = place.rsplit_once("test.h5ad: ").map_or(place.as_str(), |(_, rest)| rest);
    (e.kind().as_str().to_owned(), place.to_owned())
}

#[test]
fn broken_sparse_matrices_name_the_place() {
    let cases: Vec<(Parts, &str)> = vec![
        (Parts { indptr: &[0, 4, 3, 5], ..GOOD }, "/X/indptr: not monotone at row 1 (4 > 3)"),
        (Parts { indptr: &[0, 9, 9, 5], ..GOOD }, "/X/indptr: 9 at row 0, but there are 5 values"),
        (Parts { indptr: &[1, 2, 2, 5], ..GOOD }, "/X/indptr: begins with 1, not 0"),
        (Parts { indptr: &[0, 2, 2, 4], ..GOOD }, "/X/indptr: ends with 4, but there are 5 values"),
        (Parts { indptr: &[0, 2, 5], ..GOOD }, "/X/indptr: 3 values instead of 4"),
        (Parts { indptr: &[0, -2, 2, 5], ..GOOD }, "/X/indptr: -2 at position 1 is negative"),
        (Parts { indices: &[0, 3, 0, 1, 4], ..GOOD }, "/X/indices, row 2: index 4, but there are 4 columns"),
        (Parts { indices: &[0, -1, 0, 1, 2], ..GOOD }, "/X/indices, row 0: index -1, but there are 4 columns"),
        (Parts { indices: &[0, 3, 0, 1], ..GOOD }, "/X/indices: 4 values instead of 5"),
        (Parts { shape: [1 << 40, 4], ..GOOD }, "/X: shape 1099511627776 x 4 instead of 3 x 4"),
        (Parts { shape: [3, -1], ..GOOD }, "/X: no attribute \"shape\""),
        (Parts { encoding: "csc_matrix", ..GOOD }, "/X/indptr: 4 values instead of 5"),
    ];
    for (x, message) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (kind, text) = failure(&with_x(folder.path(), &x));
        let sampled = message.replace(", row 2", ", position 4").replace(", row 0", ", position 1");
        assert_eq!(kind, "malformed-input", "{text}");
        assert!(text == message || text == sampled, "{text}\n{message}");
    }
}

#[test]
fn a_bad_index_names_its_row_in_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let x = Parts { indices: &[0, 3, 0, 1, 4], ..GOOD };
    let input = open(&with_x(folder.path(), &x)).unwrap();
    let key = slaf_ingest::MatrixKey::X;
    let e = input.matrix(&key, Default::default()).unwrap().find_map(Result::err).unwrap();
    assert_eq!(e.to_string(), "/X/indices, row 2: index 4, but there are 4 columns");
}

#[test]
fn broken_frames_name_the_column() {
    type Fill = fn(&mut hdf5_pure::GroupBuilder);
    let cases: [(Fill, &str); 6] = [
        (|_| {}, "/obs/a: missing"),
        (
            |g| {
                g.create_dataset("a").with_i32_data(&[1, 2]);
            },
            "/obs/a: 2 values instead of 3",
        ),
        (
            |g| {
                g.create_dataset("a").with_i32_data(&[1; 6]).with_shape(&[3, 2]);
            },
            "/obs/a: 2 dimensions instead of one",
        ),
        (
            |g| {
                let mut c = group("a", "categorical");
                c.create_dataset("codes").with_i8_data(&[0, 1, 2]);
                c.create_dataset("categories").with_vlen_strings(&["x", "y"]);
                g.add_group(c.finish());
            },
            "/obs/a/codes: code 2 at row 2, but there are 2 categories",
        ),
        (
            |g| {
                let mut c = group("a", "categorical");
                c.create_dataset("codes").with_f32_data(&[0.0; 3]);
                c.create_dataset("categories").with_vlen_strings(&["x"]);
                g.add_group(c.finish());
            },
            "/obs/a/codes: float32 values, not integers",
        ),
        (
            |g| {
                let mut c = group("a", "nullable-integer");
                c.create_dataset("values").with_i32_data(&[0; 3]);
                c.create_dataset("mask").with_i32_data(&[0; 3]);
                g.add_group(c.finish());
            },
            "/obs/a/mask: the mask is not boolean",
        ),
    ];
    for (fill, message) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = h5ad(folder.path(), |f| {
            f.add_group(frame("obs", "c", 3, &["a"], fill));
            f.add_group(frame("var", "g", 4, &[], |_| {}));
        });
        assert_eq!(failure(&path), ("malformed-input".into(), message.into()));
    }
}

#[test]
fn missing_and_mistyped_parts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Damage); 3] = [
        ("malformed-input: /X/indices: missing", |f| {
            let mut x = group("X", "csr_matrix");
            x.set_attr("shape", AttrValue::I64Array(vec![3, 4]));
            x.create_dataset("indptr").with_i64_data(&[0, 0, 0, 0]);
            x.create_dataset("data").with_f32_data(&[1.0]);
            f.add_group(x.finish());
        }),
        ("malformed-input: /X: shape 4 x 3 instead of 3 x 4", |f| {
            f.create_dataset("X").with_f32_data(&[0.0; 12]).with_shape(&[4, 3]);
        }),
        ("unsupported-input: /X: a matrix of string values", |f| {
            f.create_dataset("X").with_vlen_strings(&["a"; 12]).with_shape(&[3, 4]);
        }),
    ];
    for (message, fill) in cases {
        let path = h5ad(folder.path(), |f| {
            f.add_group(frame("obs", "c", 3, &[], |_| {}));
            f.add_group(frame("var", "g", 4, &[], |_| {}));
            fill(f);
        });
        let (kind, text) = failure(&path);
        assert_eq!(format!("{kind}: {text}"), message);
    }
}

/// Files that h5py made: the writer here makes hard links only.
#[test]
fn links_that_leave_the_tree_are_refused() {
    let folder = Path::new("tests/it/data");
    for (file, message) in [
        ("soft.h5", "/: \"X\" is a soft link to \"/nothing\", which is not in the file"),
        ("external.h5", "/: \"X\" is a link to another file; copy the element into this file"),
        ("dense_soft.h5", "/: \"s0\" is a soft link to \"/n\", which is not in the file"),
        ("cycle.h5", "/uns/loop: a cycle of links"),
    ] {
        let e = open(&folder.join(file)).map(|_| ()).unwrap_err();
        assert_eq!(e.kind().as_str(), "unsupported-input", "{e}");
        assert!(e.to_string().ends_with(&format!("{file}: {message}")), "{e}");
    }
}

#[test]
fn truncated_and_damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(with_x(folder.path(), &GOOD)).unwrap();
    let path = folder.path().join("bad.h5ad");
    for n in (0..20).map(|i| good.len() * i / 20).chain([good.len() - 1]) {
        std::fs::write(&path, &good[..n]).unwrap();
        let e = read_all(&path).unwrap_err();
        assert!(["malformed-input", "unknown-format"].contains(&e.kind().as_str()), "{n}: {e}");
    }
    // A flipped bit may also hit nothing, or a value.
    let mut state = 1_u64;
    for _ in 0..400 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bad = good.clone();
        bad[(state >> 33) as usize % good.len()] ^= 1 << ((state >> 20) & 7);
        std::fs::write(&path, &bad).unwrap();
        if let Err(e) = read_all(&path) {
            assert_ne!(e.kind().as_str(), "internal", "{e}");
        }
    }
}

#[test]
fn other_content_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let kind = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open(&path).map(|_| ()).unwrap_err().to_string().split("; expected").next().unwrap().to_owned()
    };
    assert!(kind(b"").ends_with("an empty file"));
    assert!(kind(b"PK\x03\x04....").ends_with("the directory of the zip archive is damaged"));
    assert!(kind(b"\0\0\0").ends_with("a binary file of unknown content"));
    let e = open(&folder.path().join("absent")).map(|_| ()).unwrap_err();
    assert_eq!(e.kind().as_str(), "not-found");
}
