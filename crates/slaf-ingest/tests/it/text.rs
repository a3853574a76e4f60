//! csv and tsv tables.

use crate::support::{gzip, put, read, shared};
use slaf_core::{Dtype, ErrorKind, with_values};
use slaf_ingest::{Input, MatrixKey, OpenOptions, StreamOptions, open};

fn open_text(content: impl AsRef<[u8]>, genes_in_rows: Option<bool>) -> slaf_core::Result<Box<dyn Input>> {
    let dir = tempfile::tempdir().unwrap();
    let path = put(dir.path(), "table.csv", content);
    let input = open(&path, &OpenOptions { genes_in_rows, ..OpenOptions::default() });
    // The file must stay as long as it is read.
    std::mem::forget(dir);
    input
}

/// Sums as pandas reads them.
#[test]
fn real_tables() {
    for (name, genes, cells, sum, nnz, second) in [
        ("sc_celseq2", 28_204, 274, 10_321_416.0, 1_954_979, 73_088.0),
        ("sc_celseq2_5cl_p1", 15_564, 297, 9_783_530.0, 1_810_635, 24_168.0),
    ] {
        let Some(path) = shared(&format!("sc_mixology_csv/{name}.count.csv.gz")) else { continue };
        let input = open(&path, &OpenOptions { memory: 4 << 20, ..OpenOptions::default() }).unwrap();
        let d = input.description();
        assert_eq!((d.format.as_str(), d.n_cells, d.n_genes), ("csv", cells, genes));
        assert_eq!(d.notes, ["genes in rows (detected: Ensembl ids in the rows)"]);
        assert_eq!((d.matrices[0].dtype, d.matrices[0].nnz), (Dtype::I64, Some(nnz)));
        let x = read(&*input, &MatrixKey::X).unwrap();
        assert_eq!(x.sum(), sum);
        assert_eq!(x.values.range((1, 0)..(2, 0)).map(|(_, v)| v).sum::<f64>(), second);
        let counts = input.column_counts(&MatrixKey::X).unwrap();
        assert_eq!((counts.len() as u64, counts.iter().sum::<u64>()), (genes, nnz));
    }
    let Some(path) = shared("sc_mixology_csv/sc_celseq2.metadata.csv.gz") else { return };
    let e = open(&path, &OpenOptions::default()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::MalformedInput);
    assert!(e.to_string().contains("line 2, column 14 (\"outliers\"): not a number: \"FALSE\""), "{e}");
}

#[test]
fn orientations_delimiters_and_headers() {
    let expected = [((0, 0), 1.0), ((1, 0), 2.0), ((1, 1), -4.0)];
    for (table, genes_in_rows) in [
        (",g1,g2\nc1,1,0\nc2,2,-4\n", false),
        ("g1\tg2\nc1\t1\t0\nc2\t2\t-4", false),
        ("\u{feff}name;g1;g2\r\n\"c1\";1;0\r\nc2; 2;-4\r\n", false),
        (",c1,c2\ng1,1,2\ng2,0,-4\n", true),
        ("\"c1\",\"c2\"\n\"g1\",1,2\n\"g2\",0,-4\n", true),
    ] {
        for content in [table.as_bytes().to_vec(), gzip(table)] {
            let input = open_text(content, Some(genes_in_rows)).unwrap();
            assert_eq!(input.description().matrices[0].dtype, Dtype::I64, "{table}");
            assert!(input.description().notes.is_empty());
            assert_eq!(input.obs(0..2).unwrap().index, ["c1", "c2"], "{table}");
            assert_eq!(input.var().unwrap().index, ["g1", "g2"], "{table}");
            let x = read(&*input, &MatrixKey::X).unwrap();
            assert_eq!(x.values.into_iter().collect::<Vec<_>>(), expected, "{table}");
            assert_eq!(input.column_counts(&MatrixKey::X).unwrap(), [2, 1]);
        }
    }
    let input = open_text(",a,b\nAAACCTGAGCGTGTCC-1,1,2\n", None).unwrap();
    assert_eq!(input.description().notes, ["cells in rows (detected: cell barcodes in the rows)"]);
}

#[test]
fn the_type_comes_from_all_values() {
    let ints = "c,1,2\n".repeat(5000);
    let input = open_text(format!(",a,b\n{ints}"), Some(false)).unwrap();
    assert_eq!(input.description().matrices[0].dtype, Dtype::I64);
    for last in ["0.5", "NA", "", "nan", "1e3", "-0.0", "-18446744073709551616"] {
        let input = open_text(format!(",a,b\n{ints}c,1,{last}\n"), Some(false)).unwrap();
        assert_eq!(input.description().matrices[0].dtype, Dtype::F64, "{last}");
        let x = read(&*input, &MatrixKey::X).unwrap();
        let value = x.values[&(5000, 1)];
        match last.parse::<f64>() {
            Ok(v) if !v.is_nan() => assert_eq!(value.to_bits(), v.to_bits()),
            _ => assert!(value.is_nan()),
        }
    }
}

/// As pandas reads them, where it is exact.
#[test]
fn integers_are_exact_or_refused() {
    let big = 9_007_199_254_740_993_u64;
    for (value, dtype) in [(big, Dtype::I64), (1 << 63, Dtype::U64), (u64::MAX, Dtype::U64)] {
        for genes_in_rows in [false, true] {
            let input = open_text(format!(",a,b\nc,3,{value}\nd,0,1\n"), Some(genes_in_rows)).unwrap();
            let d = input.description();
            assert_eq!((d.matrices[0].dtype, d.losses.len()), (dtype, 0), "{value}");
            let mut values = Vec::new();
            for chunk in input.matrix(&MatrixKey::X, StreamOptions::default()).unwrap() {
                with_values!(&chunk.unwrap().values, v => values.extend(v.iter().map(|x| format!("{x:?}"))));
            }
            assert_eq!(values, ["3", &value.to_string(), "1"]);
        }
    }
    for (other, place) in [
        ("0.5", "line 3, column 3 (\"b\")"),
        ("", "line 3, column 3 (\"b\")"),
        ("99999999999999999999999", "line 2, column 2 (\"a\")"),
    ] {
        let input = open_text(format!(",a,b\nc,{other},1\nd,2,{big}\n"), Some(false)).unwrap();
        let losses = &input.description().losses;
        assert_eq!((losses.len(), losses[0].path.as_str()), (1, place), "{other}");
        assert!(losses[0].reason.contains("would round it"), "{}", losses[0].reason);
    }
    // Beside a negative number no integer type holds 2^64 - 1, but what a float holds is kept.
    let input = open_text(",a\nc,-1\nd,18446744073709551615\n", Some(false)).unwrap();
    assert_eq!(input.description().losses[0].path, "line 3, column 2 (\"a\")");
    assert!(open_text(",a\nc,0.5\nd,18446744073709551616\n", Some(false)).unwrap().description().losses.is_empty());
}

/// `write.table` of R: separated by blanks, the corner left out, names quoted.
#[test]
fn tables_of_r() {
    let expected = [((0, 0), 1.0), ((1, 0), 100_000.0), ((1, 1), -4.0)];
    for table in
        ["\"g 1\" \"g2\"\n\"c1\" 1 0\n\"c2\" 1e+05 -4\n", "\"\" \"g 1\" \"g2\"\r\n\"c1\" 1 0\r\n\"c2\" 1e+05 -4\r\n"]
    {
        let input = open_text(table, Some(false)).unwrap();
        assert_eq!(input.description().format, "text table");
        assert_eq!(input.obs(0..2).unwrap().index, ["c1", "c2"], "{table}");
        assert_eq!(input.var().unwrap().index, ["g 1", "g2"], "{table}");
        assert_eq!(read(&*input, &MatrixKey::X).unwrap().values.into_iter().collect::<Vec<_>>(), expected);
    }
    for one in ["g1\nc1 3\n", "g1\nc1,3\n", "\"g1\"\n\"c1\"\t3\n"] {
        let input = open_text(one, Some(false)).unwrap();
        assert_eq!((&input.obs(0..1).unwrap().index[0], &input.var().unwrap().index[0]), (&"c1".into(), &"g1".into()));
    }
}

#[test]
fn a_field_has_a_limit() {
    let e = open_text(format!(",a\nc,1\nd,\"{}", "2,\n".repeat(1 << 20)), Some(false)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::MalformedInput);
    assert!(e.to_string().contains("line 3: field 2 has more than 1048576 bytes; is a quote not closed?"), "{e}");
}

#[test]
fn what_other_programs_unpack_is_named() {
    let tar = [vec![b'x'; 257], b"ustar\x0000".to_vec(), vec![0; 300]].concat();
    for (content, kind, what) in [
        (gzip("\u{58}\n\0\0\0\u{3}\0\u{4}"), ErrorKind::UnsupportedInput, "zellkonverter::writeH5AD"),
        (gzip("RDX3\nX\n"), ErrorKind::UnsupportedInput, "an object of R"),
        (tar, ErrorKind::UnsupportedInput, "tar -xf"),
        (b"BZh91AY&SY....".to_vec(), ErrorKind::UnsupportedInput, "bunzip2 -k"),
        (b"\xff\xfea\0,\0".to_vec(), ErrorKind::UnsupportedInput, "UTF-16"),
        (b"PK\x03\x04".to_vec(), ErrorKind::MalformedInput, "the directory of the zip archive is damaged"),
    ] {
        let e = open_text(content, None).err().unwrap();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(what), "{e}");
    }
}

#[test]
fn a_packed_h5ad_is_unpacked_for_as_long_as_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed) = (crate::made::with_x(folder.path(), &crate::made::GOOD), folder.path().join("x.h5ad.gz"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &std::fs::read(&plain).unwrap()).unwrap();
    let bytes = encoder.finish().unwrap();
    std::fs::write(&packed, &bytes).unwrap();
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let options = OpenOptions { temp_dir: Some(scratch.clone()), ..OpenOptions::default() };
    let (of_plain, of_packed) = (open(&plain, &options).unwrap(), open(&packed, &options).unwrap());
    assert_eq!(of_packed.description().matrices, of_plain.description().matrices);
    assert_eq!(of_packed.description().format, format!("{}, packed with gzip", of_plain.description().format));
    assert_eq!(of_packed.var().unwrap().index, of_plain.var().unwrap().index);
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 1);
    drop(of_packed);
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    std::fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    let e = open(&packed, &options).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::MalformedInput, "{e}");
    assert!(e.to_string().contains("x.h5ad.gz") && e.to_string().contains("damaged gzip data"), "{e}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}

#[test]
fn malformed_tables() {
    for (table, what) in [
        (",a,b\nc1,1,2\nc2,1\n", "line 3: 2 fields, where the lines before have 3"),
        (",a,b\nc1,1,2,3,4\n", "line 2: 5 fields, where the lines before have 3"),
        (",a,b\nc1,1,2\nc2,1,x\n", "line 3, column 3 (\"b\"): not a number: \"x\""),
        (",a,b\n\"c\n1\",1,2\nc2,0x10,1\n", "line 4, column 2 (\"a\"): not a number: \"0x10\""),
        ("abc\ndef\n", "line 1: no comma, tab, semicolon or blank"),
        ("a b\nc1 1  2\n", "line 2: 4 fields, where the lines before have 2"),
        ("a  b\nc1 1 2\n", "line 1: two blanks between names"),
        ("a b c\nc1 1  2\n", "line 2: two blanks in a row"),
    ] {
        let e = open_text(table, Some(false)).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::MalformedInput, "{table:?}");
        assert!(e.to_string().contains(what), "{table:?}: {e}");
    }
    let packed = gzip(&format!(",a,b\n{}", "c,1,2\n".repeat(20_000)));
    let e = open_text(&packed[..packed.len() / 2], None).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::MalformedInput, "{e}");
    let e = open_text(b",a\nc,1\n\xff\xfe,2\n", Some(false)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::MalformedInput, "{e}");
}
