//! Writing of h5ad files. With `SLAF_KEEP_COPIES=<folder>` the copies of the real files stay there,
//! to be compared with the originals by anndata's `assert_equal`.

use crate::support::{read, shared};
use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float16Array, Float64Array, Int8Array, Int32Array, StringArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Values};
use slaf_ingest::{
    Axis, Column, ColumnInfo, ColumnKind, Compression, Frame, FrameInfo, H5adWriter, Input, MatrixEncoding, MatrixKey,
    OpenOptions, StreamOptions, WriteOptions, open,
};
use std::path::Path;
use std::sync::Arc;

fn create(path: &Path, compression: Compression) -> H5adWriter {
    H5adWriter::create(path, WriteOptions { compression, ..WriteOptions::default() }).unwrap()
}

fn names(prefix: &str, n: usize) -> Frame {
    Frame { index: (0..n).map(|i| format!("{prefix}{i}")).collect(), columns: Vec::new() }
}

fn open_default(path: &Path) -> Box<dyn Input> {
    open(path, &OpenOptions::default()).unwrap()
}

/// Writes all that `input` has to a new file, in small parts.
fn copy(input: &dyn Input, path: &Path, compression: Compression) {
    let mut writer = create(path, compression);
    let d = input.description();
    let step = 137;
    let rows = (0..d.n_cells).step_by(step).map(|b| input.obs(b..(b + step as u64).min(d.n_cells)));
    writer.write_frame("obs", None, &d.obs, rows).unwrap();
    writer.write_frame("var", None, &d.var, [input.var()]).unwrap();
    if let (Some(info), Some(frame)) = (&d.raw_var, input.raw_var().unwrap()) {
        writer.write_frame("raw/var", None, info, [Ok(frame)]).unwrap();
    }
    let limits = StreamOptions { max_rows: 100, max_nnz: 50_000 };
    for m in &d.matrices {
        let stream = input.matrix(&m.key, limits).unwrap();
        let path = m.key.to_string();
        writer.write_matrix(&path, m.encoding, m.dtype, m.n_rows, m.n_cols, None, stream).unwrap();
    }
    for a in &d.arrays {
        let slot = if a.key.axis == Axis::Cells { "obsm" } else { "varm" };
        let blocks = (0..a.n_rows).step_by(step).map(|b| input.array(&a.key, b..(b + step as u64).min(a.n_rows)));
        writer.write_array(&format!("{slot}/{}", a.key.name), a.dtype, a.n_rows, a.n_cols, blocks).unwrap();
    }
    let extras = tempfile::tempdir().unwrap();
    let extras_path = extras.path().join("extras.h5");
    input.write_extras(&extras_path).unwrap();
    writer.copy_extras(std::fs::read(&extras_path).unwrap(), &d.extras).unwrap();
    writer.finish().unwrap();
}

fn same_frames(a: &Frame, b: &Frame, what: &str) {
    assert_eq!(a.index, b.index, "{what}");
    for (a, b) in a.columns.iter().zip(&b.columns) {
        assert_eq!(a.info, b.info, "{what}");
        assert_eq!(a.array.to_data(), b.array.to_data(), "{what} {}", a.info.name);
    }
}

#[test]
fn real_files_come_back_equal() {
    let files = [
        "pbmc68k_reduced.h5ad",
        "reference_small.h5ad",
        "pbmc3k_raw.h5ad",
        "format_zoo/anndata_v0.7.0_adata.h5ad",
        "format_zoo/anndata_v0.7.8_adata.h5ad",
        "format_zoo/bpcells_mini_mat.anndata-v0.10.9.h5ad",
    ];
    let kept = std::env::var_os("SLAF_KEEP_COPIES").map(std::path::PathBuf::from);
    for file in files {
        let Some(source) = shared(file) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let target = kept.as_deref().unwrap_or(folder.path()).join(source.file_name().unwrap());
        for compression in [Compression::Gzip, Compression::None] {
            let a = open_default(&source);
            copy(&*a, &target, compression);
            let b = open_default(&target);
            let (x, y) = (a.description(), b.description());
            assert_eq!((&x.obs, &x.var, &x.raw_var), (&y.obs, &y.var, &y.raw_var), "{file}");
            assert_eq!(x.arrays, y.arrays, "{file}");
            assert_eq!(x.extras, y.extras, "{file}");
            same_frames(&a.obs(0..x.n_cells).unwrap(), &b.obs(0..x.n_cells).unwrap(), file);
            same_frames(&a.var().unwrap(), &b.var().unwrap(), file);
            for (m, n) in x.matrices.iter().zip(&y.matrices) {
                assert_eq!((&m.key, m.encoding, m.dtype), (&n.key, n.encoding, n.dtype), "{file}");
                let (m, n) = (read(&*a, &m.key).unwrap(), read(&*b, &n.key).unwrap());
                assert!(
                    m.values.iter().map(|(p, v)| (p, v.to_bits())).eq(n.values.iter().map(|(p, v)| (p, v.to_bits())))
                );
            }
            for array in &x.arrays {
                let all = 0..array.n_rows;
                let (m, n) = (a.array(&array.key, all.clone()).unwrap(), b.array(&array.key, all).unwrap());
                assert_eq!(format!("{m:?}"), format!("{n:?}"), "{file} {:?}", array.key);
            }
        }
    }
}

fn column(name: &str, array: ArrayRef, kind: ColumnKind) -> Column {
    Column { info: ColumnInfo { name: name.into(), data_type: array.data_type().clone(), kind }, array }
}

/// Rows of every kind of column.
fn rows(range: std::ops::Range<usize>) -> Frame {
    let codes = |n: i32| Int32Array::from_iter(range.clone().map(|i| (i % 7 != 0).then_some(i as i32 % n)));
    let words = Arc::new(StringArray::from(vec!["α", "", "c"]));
    let numbers = Arc::new(Float64Array::from_iter_values((0..400).map(f64::from)));
    let present = |i: &usize| !i.is_multiple_of(4);
    let plain = ColumnKind::Plain;
    let category = |ordered| ColumnKind::Categorical { ordered };
    Frame {
        index: range.clone().map(|i| format!("cell{i}")).collect(),
        columns: vec![
            column("i8", Arc::new(Int8Array::from_iter_values(range.clone().map(|i| i as i8))), plain.clone()),
            column(
                "u64",
                Arc::new(UInt64Array::from_iter_values(range.clone().map(|i| u64::MAX - i as u64))),
                plain.clone(),
            ),
            column(
                "f16",
                Arc::new(Float16Array::from_iter_values(range.clone().map(|_| Default::default()))),
                plain.clone(),
            ),
            column("b", Arc::new(BooleanArray::from_iter(range.clone().map(|i| Some(i % 2 == 0)))), plain.clone()),
            column("s", Arc::new(StringArray::from_iter_values(range.clone().map(|i| "é".repeat(i % 5)))), plain),
            column("words", Arc::new(DictionaryArray::<Int32Type>::new(codes(3), words)), category(true)),
            column("numbers", Arc::new(DictionaryArray::<Int32Type>::new(codes(300), numbers)), category(false)),
            column(
                "ni",
                Arc::new(Int32Array::from_iter(range.clone().map(|i| present(&i).then_some(i as i32)))),
                ColumnKind::Nullable,
            ),
            column(
                "ns",
                Arc::new(StringArray::from_iter(range.clone().map(|i| present(&i).then_some("x")))),
                ColumnKind::Nullable,
            ),
            column(
                "nan",
                Arc::new(StringArray::from_iter(range.clone().map(|i| present(&i).then_some("y")))),
                ColumnKind::NullableNan,
            ),
            column(
                "nb",
                Arc::new(BooleanArray::from_iter(range.map(|i| present(&i).then_some(true)))),
                ColumnKind::Nullable,
            ),
        ],
    }
}

#[test]
fn every_kind_of_column_in_blocks() {
    for compression in [Compression::None, Compression::Gzip] {
        // Enough for several chunks and several heaps of strings.
        let n = 50_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5ad");
        let mut writer = create(&path, compression);
        let info = FrameInfo { index_name: None, columns: rows(0..1).columns.into_iter().map(|c| c.info).collect() };
        let blocks = (0..n).step_by(999).map(|b| Ok(rows(b..(b + 999).min(n))));
        writer.write_frame("obs", Some("barcode"), &info, blocks).unwrap();
        writer.write_frame("var", None, &FrameInfo::default(), [Ok(names("g", 2))]).unwrap();
        writer.finish().unwrap();
        let input = open_default(&path);
        let d = input.description();
        assert_eq!(d.obs, FrameInfo { index_name: Some("barcode".into()), ..info });
        assert_eq!((d.losses.len(), d.extras.len()), (0, 0));
        for part in [0..10, 49_000..n] {
            same_frames(&input.obs(part.start as u64..part.end as u64).unwrap(), &rows(part), "obs");
        }
        let permissions = std::fs::metadata(&path).unwrap().permissions();
        let usual = std::fs::File::create(folder.path().join("b")).unwrap().metadata().unwrap().permissions();
        assert_eq!(permissions, usual);
    }
}

fn chunk() -> CsrChunk {
    CsrChunk { indptr: vec![0, 2, 2], indices: vec![0, 2], values: Values::I8(vec![-1, 0]) }
}

fn begun(path: &Path) -> H5adWriter {
    let mut writer = create(path, Compression::None);
    writer.write_frame("obs", None, &FrameInfo::default(), [Ok(names("c", 4))]).unwrap();
    writer.write_frame("var", None, &FrameInfo::default(), [Ok(names("g", 3))]).unwrap();
    writer
}

#[test]
fn matrices_of_every_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5ad");
    let mut writer = begun(&path);
    let two = || [Ok(chunk()), Ok(chunk())];
    for (name, encoding, dtype, nnz) in [
        ("X", MatrixEncoding::Csr, Dtype::I8, Some(4)),
        ("layers/csc", MatrixEncoding::Csc, Dtype::I64, None),
        ("layers/dense", MatrixEncoding::Dense, Dtype::F32, Some(4)),
    ] {
        writer.write_matrix(name, encoding, dtype, 4, 3, nnz, two()).unwrap();
    }
    writer
        .write_matrix(
            "obsp/none",
            MatrixEncoding::Csr,
            Dtype::Bool,
            4,
            4,
            Some(0),
            [Ok(CsrChunk { indptr: vec![0; 5], indices: Vec::new(), values: Values::Bool(Vec::new()) })],
        )
        .unwrap();
    writer.finish().unwrap();
    let input = open_default(&path);
    let sparse = [((0, 0), -1.0), ((0, 2), 0.0), ((2, 0), -1.0), ((2, 2), 0.0)];
    for (key, n) in [(MatrixKey::X, 4), (MatrixKey::Layer("csc".into()), 4)] {
        let x = read(&*input, &key).unwrap();
        assert_eq!(x.values.into_iter().collect::<Vec<_>>(), sparse[..n], "{key}");
    }
    let dense = read(&*input, &MatrixKey::Layer("dense".into())).unwrap();
    assert_eq!(dense.values.into_iter().collect::<Vec<_>>(), [sparse[0], sparse[2]]);
    let types: Vec<_> = input.description().matrices.iter().map(|m| (m.encoding, m.dtype)).collect();
    assert!(types.contains(&(MatrixEncoding::Csc, Dtype::I64)) && types.contains(&(MatrixEncoding::Dense, Dtype::F32)));
    assert_eq!(read(&*input, &MatrixKey::Obsp("none".into())).unwrap().values.len(), 0);
}

#[test]
fn wrong_parts_are_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5ad");
    let kind = |f: &dyn Fn(&mut H5adWriter) -> Result<()>| {
        let mut writer = begun(&path);
        let e = f(&mut writer).unwrap_err();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{e}");
        (e.kind(), e.to_string())
    };
    let matrix = |path: &'static str, dtype, n_rows, n_cols, nnz| {
        move |w: &mut H5adWriter| w.write_matrix(path, MatrixEncoding::Csr, dtype, n_rows, n_cols, nnz, [Ok(chunk())])
    };
    let (k, message) = kind(&matrix("layers/a/b", Dtype::I8, 2, 3, None));
    assert_eq!(k, ErrorKind::InvalidArgument);
    assert!(message.contains("\"a/b\"") && message.contains("slash"), "{message}");
    for (name, expected) in [
        ("layers/.", ErrorKind::InvalidArgument),
        ("layers/", ErrorKind::InvalidArgument),
        ("obs", ErrorKind::AlreadyExists),
    ] {
        assert_eq!(kind(&matrix(name, Dtype::I8, 2, 3, None)).0, expected, "{name}");
    }
    for wrong in [
        matrix("X", Dtype::I8, 3, 3, None),
        matrix("X", Dtype::I8, 2, 2, None),
        matrix("X", Dtype::I8, 2, 3, Some(3)),
        matrix("X", Dtype::U8, 2, 3, None),
    ] {
        assert_eq!(kind(&wrong).0, ErrorKind::MalformedInput);
    }
    let broken = |w: &mut H5adWriter| {
        w.write_matrix("X", MatrixEncoding::Csc, Dtype::I8, 2, 3, None, [Err(Error::corrupt("x"))])
    };
    assert_eq!(kind(&broken).0, ErrorKind::Corrupt);
    let short = |w: &mut H5adWriter| w.write_array("obsm/a", Dtype::U8, 4, 2, [Ok(Values::U8(vec![0; 7]))]);
    assert_eq!(kind(&short).0, ErrorKind::MalformedInput);

    let frame = |name: &'static str, array: ArrayRef, kind: ColumnKind| {
        move |w: &mut H5adWriter| {
            let column = column(name, array.clone(), kind.clone());
            let info = FrameInfo { index_name: None, columns: vec![column.info.clone()] };
            let index = (0..array.len()).map(|i| i.to_string()).collect();
            w.write_frame("raw/var", None, &info, [Ok(Frame { index, columns: vec![column] })])
        }
    };
    let ints: ArrayRef = Arc::new(Int8Array::from(vec![1]));
    let (k, message) = kind(&frame("a/b", ints.clone(), ColumnKind::Plain));
    assert_eq!(k, ErrorKind::InvalidArgument);
    assert!(message.contains("\"a/b\""), "{message}");
    let time: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1]));
    assert_eq!(kind(&frame("t", time, ColumnKind::Plain)).0, ErrorKind::UnsupportedFeature);
    let missing: ArrayRef = Arc::new(Int8Array::from(vec![None]));
    assert_eq!(kind(&frame("m", missing, ColumnKind::Plain)).0, ErrorKind::MalformedInput);
    let absent = |w: &mut H5adWriter| w.copy_extras(hdf5_pure::FileBuilder::new().finish().unwrap(), &["uns".into()]);
    assert_eq!(kind(&absent).0, ErrorKind::NotFound);
    begun(&path).finish().unwrap();
    assert!(path.exists());
}

/// 800 MB through the writer: prints the speed.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = create(&folder.path().join("a.h5ad"), Compression::None);
    writer.write_frame("obs", None, &FrameInfo::default(), [Ok(names("c", 100_000))]).unwrap();
    writer.write_frame("var", None, &FrameInfo::default(), [Ok(names("g", 30_000))]).unwrap();
    let chunk = CsrChunk {
        indptr: (0..=1000).map(|i| i * 1000).collect(),
        indices: (0..1_000_000).map(|i| i % 1000 * 30).collect(),
        values: Values::F32(vec![1.0; 1_000_000]),
    };
    let start = std::time::Instant::now();
    let chunks = (0..100).map(|_| Ok(chunk.clone()));
    writer.write_matrix("X", MatrixEncoding::Csr, Dtype::F32, 100_000, 30_000, Some(100_000_000), chunks).unwrap();
    println!("csr: {:.0} MB/s", 800.0 / start.elapsed().as_secs_f64());
    let start = std::time::Instant::now();
    let chunks = (0..20).map(|_| Ok(chunk.clone()));
    writer.write_matrix("layers/a", MatrixEncoding::Csc, Dtype::F32, 20_000, 30_000, Some(20_000_000), chunks).unwrap();
    println!("csc: {:.0} MB/s", 160.0 / start.elapsed().as_secs_f64());
    writer.finish().unwrap();
}
