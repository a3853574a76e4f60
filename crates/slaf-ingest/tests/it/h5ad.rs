use crate::made::{GOOD, Parts, frame, group, h5ad, open, text, totals, whole, with_x};
use crate::support::shared;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use hdf5_pure::{AttrValue, EnumTypeBuilder};
use slaf_core::{Dtype, Values};
use slaf_ingest::{Axis, ColumnKind, MatrixEncoding, MatrixKey, StreamOptions};

/// Sums as AnnData 0.12 reads them. -0.0 counts as a value here.
#[test]
fn real_files_have_the_sums_of_anndata() {
    let layer = |n: &str| MatrixKey::Layer(n.into());
    let obsp = |n: &str| MatrixKey::Obsp(n.into());
    let cases: [(&str, MatrixKey, u64, usize, f64); 16] = [
        ("pbmc3k_raw.h5ad", MatrixKey::X, 2700, 2_286_884, 6_390_631.0),
        ("pbmc1k_v3_filt.h5ad", MatrixKey::X, 906, 1_604_642, 5_451_564.0),
        ("pbmc68k_reduced.h5ad", MatrixKey::X, 700, 535_462, -243.681057988666),
        ("pbmc68k_reduced.h5ad", MatrixKey::RawX, 700, 174_400, 319_044.23824107647),
        ("pbmc68k_reduced.h5ad", obsp("connectivities"), 700, 9_992, 3_999.3202025676114),
        ("reference_small.h5ad", MatrixKey::X, 2000, 159_430, 530_534.0),
        ("reference_small.h5ad", layer("lognorm"), 2000, 159_430, 207_943.6900856495),
        ("reference_small.h5ad", obsp("distances"), 2000, 10_000, 5_013.42278426076),
        ("reference_small.h5ad", MatrixKey::Varp("corr".into()), 1000, 3_000, 1_494.9093706733547),
        ("format_zoo/anndata_v0.7.0_adata.h5ad", MatrixKey::X, 30, 228, 285.0),
        ("format_zoo/anndata_v0.7.0_adata.h5ad", layer("array"), 30, 600, 302.83045121571445),
        ("format_zoo/anndata_v0.7.0_adata.h5ad", MatrixKey::RawX, 30, 480, 627.0),
        ("format_zoo/anndata_v0.7.8_adata.h5ad", layer("sparse"), 30, 6, 2.515832756134344),
        ("format_zoo/anndata_v0.7.8_adata.h5ad", obsp("array"), 30, 900, 449.6183022356219),
        ("format_zoo/bpcells_mini_mat.anndata-v0.10.9.h5ad", layer("transpose"), 3, 8, 15.0),
        ("format_zoo/bpcells_mini_mat.anndata-v0.10.9.h5ad", layer("dense"), 3, 8, 15.0),
    ];
    for (file, key, rows, nnz, sum) in cases {
        let Some(path) = shared(file) else { continue };
        let input = open(&path).unwrap();
        for options in [StreamOptions::default(), StreamOptions { max_rows: 97, max_nnz: 5_000 }] {
            let (r, n, s) = totals(input.as_ref(), &key, options).unwrap();
            assert_eq!((r, n), (rows, nnz), "{file} {key}");
            assert!((s - sum).abs() <= 1e-9 * sum.abs(), "{file} {key}: {s}");
        }
    }
}

#[test]
fn frames_of_anndata_0_7_have_their_categoricals() {
    let Some(path) = shared("format_zoo/anndata_v0.7.8_adata.h5ad") else { return };
    let input = open(&path).unwrap();
    let d = input.description();
    assert_eq!(d.format, "h5ad (AnnData 0.7)");
    let kinds: Vec<_> = d.obs.columns.iter().map(|c| (c.name.as_str(), c.kind.clone())).collect();
    assert_eq!(
        kinds,
        [
            ("obs_cat", ColumnKind::Categorical { ordered: false }),
            ("cat_ordered", ColumnKind::Categorical { ordered: true }),
            ("int64", ColumnKind::Plain),
            ("float64", ColumnKind::Plain),
            ("uint8", ColumnKind::Plain),
        ]
    );
    let frame = input.obs(5..9).unwrap();
    assert_eq!(frame.index.len(), 4);
    assert_eq!(frame.columns[1].array.as_dictionary::<Int32Type>().values().len(), 24);
    // The categoricals of frames elsewhere become those of today.
    assert!(d.losses.is_empty(), "{:?}", d.losses);
    assert_eq!(d.extras, ["obsm/df", "obsm/sparse", "varm/df", "varm/sparse", "raw/varm", "uns"]);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("extras.h5");
    input.write_extras(&target).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    assert_eq!(input.write_extras(&target).unwrap_err().kind().as_str(), "already-exists");
    let copy = hdf5_pure::File::open(&target).unwrap();
    for frame in ["obsm/df", "varm/df", "raw/varm/df"] {
        let column = copy.group(&format!("{frame}/cat")).unwrap();
        assert_eq!(column.datasets().unwrap().len(), 2, "{frame}");
        assert!(column.dataset("codes").is_ok() && column.dataset("categories").is_ok(), "{frame}");
    }
    assert!(copy.group("obsm/sparse").is_ok() && copy.group("uns").is_ok());
}

#[test]
fn tables_from_before_0_7_are_read_as_anndata_reads_them() {
    let Some(path) = shared("pbmc68k_reduced.h5ad") else { return };
    let input = open(&path).unwrap();
    let d = input.description();
    assert_eq!(d.format, "h5ad (AnnData before 0.7)");
    let names: Vec<_> = d.obs.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["bulk_labels", "n_genes", "percent_mito", "n_counts", "S_score", "G2M_score", "phase", "louvain",]
    );
    let labels = &input.obs(0..2).unwrap().columns[0];
    let dictionary = labels.array.as_dictionary::<Int32Type>();
    assert_eq!(dictionary.keys().values(), &[5, 9]);
    assert_eq!(dictionary.values().as_string::<i32>().value(5), "CD14+ Monocyte");
    let shapes: Vec<_> = d.arrays.iter().map(|a| (a.key.name.as_str(), a.n_rows, a.n_cols)).collect();
    assert_eq!(shapes, [("X_pca", 700, 50), ("X_umap", 700, 2), ("PCs", 765, 50)]);
    let Values::F32(pca) = input.array(&d.arrays[0].key, 1..3).unwrap() else { panic!() };
    assert_eq!(pca.len(), 100);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("extras.h5");
    input.write_extras(&target).unwrap();
    let copy = hdf5_pure::File::open(&target).unwrap();
    assert!(copy.dataset("uns/louvain_colors").is_ok());
    assert!(copy.dataset("uns/louvain_categories").is_err(), "these are in obs now");
    assert!(copy.group("uns/neighbors/connectivities").is_err(), "this is in obsp now");
}

#[test]
fn columns_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let boolean = || {
        EnumTypeBuilder::with_base(hdf5_pure::make_i8_type()).u8_value("FALSE", 0).u8_value("TRUE", 1).build().unwrap()
    };
    let columns = ["b", "i", "cat", "nullable", "text"];
    let path = h5ad(folder.path(), |f| {
        f.add_group(frame("obs", "c", 3, &columns, |g| {
            g.create_dataset("b").with_enum_u8_data(boolean(), &[1, 0, 1]);
            g.create_dataset("i").with_i16_data(&[-5, 0, 7]);
            g.create_dataset("text").with_vlen_strings(&["", "é", "x y"]);
            let mut cat = group("cat", "categorical");
            cat.set_attr("ordered", AttrValue::I8(1));
            cat.create_dataset("codes").with_i8_data(&[2, -1, 0]);
            cat.create_dataset("categories").with_f64_data(&[1.5, 9.0, 2.5]);
            g.add_group(cat.finish());
            let mut n = group("nullable", "nullable-integer");
            n.create_dataset("values").with_i64_data(&[1, 2, 3]);
            n.create_dataset("mask").with_enum_u8_data(boolean(), &[0, 1, 0]);
            g.add_group(n.finish());
        }));
        f.add_group(frame("var", "g", 4, &[], |_| {}));
    });
    let input = open(&path).unwrap();
    assert!(input.description().matrices.is_empty());
    let frame = input.obs(0..3).unwrap();
    assert_eq!(frame.index, ["c0", "c1", "c2"]);
    let column = |name: &str| frame.columns.iter().find(|c| c.info.name == name).unwrap();
    assert_eq!(column("b").array.as_boolean().values().iter().collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(column("i").info.data_type, DataType::Int16);
    assert_eq!(column("text").array.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["", "é", "x y"]);
    let cat = column("cat");
    assert_eq!(cat.info.kind, ColumnKind::Categorical { ordered: true });
    let dictionary = cat.array.as_dictionary::<Int32Type>();
    assert_eq!(dictionary.keys().iter().collect::<Vec<_>>(), [Some(2), None, Some(0)]);
    assert_eq!(dictionary.values().as_primitive::<Float64Type>().values(), &[1.5, 9.0, 2.5]);
    let nullable = column("nullable");
    assert_eq!(nullable.info.kind, ColumnKind::Nullable);
    let values: Vec<_> = nullable.array.as_primitive::<Int64Type>().iter().collect();
    assert_eq!(values, [Some(1), None, Some(3)]);
    assert_eq!(input.obs(1..2).unwrap().columns[0].array.len(), 1);
}

#[test]
fn an_index_of_numbers_reads_as_python_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = h5ad(folder.path(), |f| {
        let mut obs = group("obs", "dataframe");
        obs.set_attr("_index", text("barcode"));
        obs.create_dataset("barcode").with_f64_data(&[1.0, 0.5, 1e20]);
        f.add_group(obs.finish());
        f.add_group(frame("var", "g", 4, &[], |_| {}));
    });
    let input = open(&path).unwrap();
    assert_eq!(input.description().obs.index_name.as_deref(), Some("barcode"));
    assert_eq!(input.obs(0..3).unwrap().index, ["1.0", "0.5", "1e+20"]);
}

#[test]
fn unsorted_rows_are_sorted_duplicates_added_and_zeros_kept() {
    let folder = tempfile::tempdir().unwrap();
    let x = Parts { indptr: &[0, 4, 4, 5], indices: &[3, 1, 3, 0, 2], data: &[1.0, 0.0, 2.5, -0.0, 7.0], ..GOOD };
    let input = open(&with_x(folder.path(), &x)).unwrap();
    let mut stream = input.matrix(&MatrixKey::X, StreamOptions::default()).unwrap();
    let chunk = stream.next().unwrap().unwrap();
    assert_eq!((chunk.indptr, chunk.indices), (vec![0, 3, 3, 4], vec![0, 1, 3, 2]));
    assert_eq!(chunk.values, Values::F32(vec![-0.0, 0.0, 3.5, 7.0]));
    assert!(stream.next().is_none());
    assert_eq!(stream.duplicates(), 1);
}

#[test]
fn all_encodings_of_one_matrix_agree() {
    let folder = tempfile::tempdir().unwrap();
    let dense: [f64; 12] = [1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0, 0.0];
    let csc = Parts {
        encoding: "csc_matrix",
        indptr: &[0, 2, 3, 4, 5],
        indices: &[0, 2, 2, 2, 0],
        data: &[1.0, 3.0, 4.0, 5.0, 2.0],
        ..GOOD
    };
    let path = h5ad(folder.path(), |f| {
        f.add_group(frame("obs", "c", 3, &[], |_| {}));
        f.add_group(frame("var", "g", 4, &[], |_| {}));
        f.add_group(GOOD.group("X"));
        let mut layers = group("layers", "dict");
        layers.add_group(csc.group("csc"));
        layers.create_dataset("dense").with_f64_data(&dense).with_shape(&[3, 4]);
        layers
            .create_dataset("chunked")
            .with_f64_data(&dense)
            .with_shape(&[3, 4])
            .with_chunks(&[2, 3])
            .with_shuffle()
            .with_deflate(4);
        layers.create_dataset("lzf").with_f64_data(&dense).with_shape(&[3, 4]).with_chunks(&[1, 4]).with_lzf();
        let mut wide = group("wide", "csr_matrix");
        wide.set_attr("shape", AttrValue::I64Array(vec![3, 4]));
        wide.create_dataset("indptr").with_u16_data(&[0, 2, 2, 5]);
        wide.create_dataset("indices")
            .with_u64_data(&[0, 3, 0, 1, 2])
            .with_chunks(&[2])
            .with_deflate(1)
            .with_fletcher32();
        wide.create_dataset("data").with_u8_data(&[1, 2, 3, 4, 5]);
        layers.add_group(wide.finish());
        f.add_group(layers.finish());
    });
    let input = open(&path).unwrap();
    let x = whole(input.as_ref(), &MatrixKey::X).unwrap();
    for (name, encoding, dtype) in [
        ("csc", MatrixEncoding::Csc, Dtype::F32),
        ("dense", MatrixEncoding::Dense, Dtype::F64),
        ("chunked", MatrixEncoding::Dense, Dtype::F64),
        ("lzf", MatrixEncoding::Dense, Dtype::F64),
        ("wide", MatrixEncoding::Csr, Dtype::U8),
    ] {
        let key = MatrixKey::Layer(name.into());
        let info = input.description().matrices.iter().find(|m| m.key == key).unwrap();
        assert_eq!((info.encoding, info.dtype), (encoding, dtype), "{name}");
        let chunk = whole(input.as_ref(), &key).unwrap();
        assert_eq!((&chunk.indptr, &chunk.indices), (&x.indptr, &x.indices), "{name}");
        assert_eq!(chunk.values.cast(Dtype::F32), x.values, "{name}");
        assert_eq!(input.column_counts(&key).unwrap(), [2, 1, 1, 1], "{name}");
        assert_eq!(totals(input.as_ref(), &key, StreamOptions { max_rows: 1, max_nnz: 1 }).unwrap().0, 3);
    }
}

#[test]
fn extras_are_copied_into_a_file_that_can_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = h5ad(folder.path(), |f| {
        f.add_group(frame("obs", "c", 3, &[], |_| {}));
        f.add_group(frame("var", "g", 4, &[], |_| {}));
        let mut obsm = group("obsm", "dict");
        obsm.create_dataset("X_pca").with_f32_data(&[1.0; 6]).with_shape(&[3, 2]);
        obsm.create_dataset("cube").with_f32_data(&[1.0; 12]).with_shape(&[3, 2, 2]);
        f.add_group(obsm.finish());
        let mut uns = group("uns", "dict");
        uns.create_dataset("title").with_vlen_strings(&["é"]);
        f.add_group(uns.finish());
        f.create_dataset("mystery").with_i32_data(&[1]);
    });
    let input = open(&path).unwrap();
    let d = input.description();
    assert_eq!(d.extras, ["obsm/cube", "uns"]);
    assert_eq!(d.losses.iter().map(|l| l.path.as_str()).collect::<Vec<_>>(), ["mystery"]);
    assert_eq!((d.arrays[0].key.axis, d.arrays[0].n_cols), (Axis::Cells, 2));
    let target = folder.path().join("extras.h5");
    input.write_extras(&target).unwrap();
    assert_eq!(input.write_extras(&target).unwrap_err().kind().as_str(), "already-exists");
    let file = hdf5_pure::File::open_rw(&target).unwrap();
    file.group("obsm")
        .unwrap()
        .create_dataset("new", |d| {
            d.with_i32_data(&[1, 2]);
        })
        .unwrap();
    file.commit().unwrap();
    file.close().unwrap();
    let file = hdf5_pure::File::open(&target).unwrap();
    assert_eq!(file.group("obsm").unwrap().datasets().unwrap().len(), 2);
    assert_eq!(file.dataset("uns/title").unwrap().read_string().unwrap(), ["é"]);
    assert_eq!(file.root().groups().unwrap().len(), 2);
}
