//! 10x folders in Matrix Market form: reading and writing.

use crate::support::{gzip, put, read, shared};
use arrow::array::AsArray;
use arrow::util::display::array_value_to_string;
use slaf_core::{CsrChunk, Dtype, ErrorKind, Values};
use slaf_ingest::{Column, Feature, Frame, Input, MatrixKey, OpenOptions, open, write_10x_mtx};
use std::path::Path;

const HEAD: &str = "%%MatrixMarket matrix coordinate integer general\n";
const GENES: &str = "E1\tA\nE2\tB\nE3\tC\n";
const CELLS: &str = "c1\nc2\n";

fn folder(matrix: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "genes.tsv", GENES);
    put(dir.path(), "barcodes.tsv", CELLS);
    put(dir.path(), "matrix.mtx", matrix);
    dir
}

fn open_default(path: &Path) -> slaf_core::Result<Box<dyn Input>> {
    open(path, &OpenOptions::default())
}

fn text(input: &dyn Input, column: usize) -> Vec<String> {
    let frame = input.var().unwrap();
    frame.columns[column].array.as_string::<i32>().iter().map(|s| s.unwrap().to_owned()).collect()
}

/// Shapes and sums as SciPy reads them.
#[test]
fn real_folders() {
    for (name, format, cells, genes, nnz, sum) in [
        ("visium_ffpe_10x_mtx", "10x mtx v3", 2898, 19465, 1_069_459, 3_085_005.0),
        ("format_zoo/scanpy_10x_data/1.2.0/filtered_gene_bc_matrices", "10x mtx v2", 12, 343, 12, 12.0),
        ("format_zoo/scanpy_10x_data/3.0.0/filtered_feature_bc_matrix", "10x mtx v3", 1107, 507, 23_866, 41_549.0),
        ("format_zoo/scanpy_10x_data/int-ids", "10x mtx v3", 5, 6, 3, 8.0),
    ] {
        let Some(path) = shared(name) else { continue };
        let input = open_default(&path).unwrap();
        let d = input.description();
        assert_eq!((d.format.as_str(), d.n_cells, d.n_genes), (format, cells, genes));
        assert_eq!(d.matrices[0].dtype, Dtype::F32);
        let x = read(&*input, &MatrixKey::X).unwrap();
        assert_eq!((x.values.len(), x.sum(), x.duplicates), (nnz, sum, 0), "{name}");
        let counts = input.column_counts(&MatrixKey::X).unwrap();
        assert_eq!((counts.len() as u64, counts.iter().sum::<u64>()), (genes, nnz as u64));
    }
    let Some(path) = shared("visium_ffpe_10x_mtx") else { return };
    let input = open_default(&path).unwrap();
    assert_eq!(input.column_counts(&MatrixKey::X).unwrap().into_iter().max(), Some(2686));
    let x = read(&*input, &MatrixKey::X).unwrap();
    let second: Vec<_> = x.values.range((1, 0)..(2, 0)).take(3).map(|((_, g), v)| (*g, *v)).collect();
    assert_eq!(second, [(92, 1.0), (116, 1.0), (126, 1.0)]);
    let var = input.var().unwrap();
    assert_eq!(&var.index[..2], ["Xkr4", "Rp1"]);
    assert_eq!(&text(&*input, 0)[..2], ["ENSMUSG00000051951", "ENSMUSG00000025900"]);
    assert_eq!(text(&*input, 1)[0], "Gene Expression");
}

#[test]
fn versions_prefixes_and_packing() {
    let body = format!("{HEAD}3 2 3\n1 1 5\n3 1 1\n2 2 7\n");
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("out/GRCh38");
    let types = "E1\tA\tGene Expression\nE2\tB\tAntibody Capture\nE3\tC\tGene Expression\n";
    put(&sub, "features.tsv.gz", gzip(types));
    put(&sub, "barcodes.tsv.gz", gzip(CELLS));
    // Packed, whatever the name says.
    put(&sub, "matrix.mtx", gzip(&body));
    let input = open_default(dir.path()).unwrap();
    assert_eq!(input.obs(1..2).unwrap().index, ["c2"]);
    assert_eq!(input.obs(1..3).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(read(&*input, &MatrixKey::X).unwrap().sum(), 13.0);

    let options = OpenOptions { feature_type: Some("Gene Expression".into()), ..OpenOptions::default() };
    let genes = open(dir.path(), &options).unwrap();
    assert_eq!(genes.var().unwrap().index, ["A", "C"]);
    let x = read(&*genes, &MatrixKey::X).unwrap();
    assert_eq!(x.values.into_iter().collect::<Vec<_>>(), [((0, 0), 5.0), ((0, 1), 1.0)]);
    let options = OpenOptions { feature_type: Some("CRISPR".into()), ..OpenOptions::default() };
    let e = open(dir.path(), &options).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("Antibody Capture, Gene Expression"), "{e}");

    // GEO's way: a prefix; the path may be that of the matrix.
    let geo = tempfile::tempdir().unwrap();
    put(geo.path(), "GSM1_genes.tsv", GENES);
    put(geo.path(), "GSM1_barcodes.tsv", CELLS);
    let matrix = put(geo.path(), "GSM1_matrix.mtx", &body);
    for path in [geo.path(), &matrix] {
        assert_eq!(read(&*open_default(path).unwrap(), &MatrixKey::X).unwrap().sum(), 13.0);
    }
    put(geo.path(), "GSM2_matrix.mtx", &body);
    assert_eq!(open_default(geo.path()).err().unwrap().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn several_genomes_need_a_choice() {
    let dir = tempfile::tempdir().unwrap();
    for genome in ["hg19", "mm10"] {
        let sub = dir.path().join(genome);
        put(&sub, "genes.tsv", GENES);
        put(&sub, "barcodes.tsv", CELLS);
        put(&sub, "matrix.mtx", format!("{HEAD}3 2 1\n1 1 5\n"));
    }
    let e = open_default(dir.path()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("hg19, mm10"), "{e}");
    assert!(e.to_string().contains("--genome NAME"), "{e}");
    let of = |genome: &str| OpenOptions { genome: Some(genome.into()), ..OpenOptions::default() };
    assert!(open(dir.path(), &of("mm10")).is_ok());
    assert!(open(dir.path(), &of("GRCm38")).err().unwrap().to_string().contains("hg19, mm10"));
    // One folder alone is not that of another genome.
    std::fs::remove_dir_all(dir.path().join("mm10")).unwrap();
    let e = open(dir.path(), &of("mm10")).err().unwrap();
    assert!(e.to_string().contains("no folder \"mm10\"; the matrix is in \"hg19\""), "{e}");
    let input = open(&dir.path().join("hg19"), &of("x")).unwrap();
    assert_eq!(input.description().notes, ["genome \"x\" is not used: the folder has one set of genes"]);
}

#[test]
fn any_order_and_duplicates() {
    let expected = [((0, 0), 9.0), ((0, 2), 1.0), ((1, 1), 7.0)];
    for body in ["3 2 4\n3 1 1\n1 1 5\n1 1 4\n2 2 7\n", "3 2 4\n2 2 7\n1 1 5\n3 1 1\n1 1 4\n"] {
        let dir = folder(&format!("{HEAD}{body}"));
        let input = open_default(dir.path()).unwrap();
        assert_eq!(input.description().matrices[0].nnz, None);
        let x = read(&*input, &MatrixKey::X).unwrap();
        assert_eq!(x.values.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(x.duplicates, 1);
    }
}

#[test]
fn value_types() {
    let real = HEAD.replace("integer", "real");
    for (matrix, dtype, value) in [
        (format!("{HEAD}3 2 1\n1 1 16777216\n"), Dtype::F32, 16_777_216.0),
        (format!("{HEAD}3 2 1\n1 1 16777217\n"), Dtype::F64, 16_777_217.0),
        (format!("{real}3 2 1\n1 1 0.5\n"), Dtype::F32, 0.5),
        (format!("{real}3 2 1\n1 1 0.1\n"), Dtype::F64, 0.1),
        (format!("{}3 2 1\n1 1\n", HEAD.replace("integer", "pattern")), Dtype::F32, 1.0),
    ] {
        let dir = folder(&matrix);
        let input = open_default(dir.path()).unwrap();
        assert_eq!(input.description().matrices[0].dtype, dtype, "{matrix}");
        assert_eq!(input.description().notes.len(), usize::from(dtype == Dtype::F64));
        assert_eq!(read(&*input, &MatrixKey::X).unwrap().values[&(0, 0)], value);
    }
}

#[test]
fn sums_of_counts_are_exact() {
    let body = format!("{HEAD}3 2 4\n1 1 16777216\n1 1 1\n3 2 1\n1 1 2\n");
    let chunks = open_default(folder(&body).path()).unwrap().matrix(&MatrixKey::X, Default::default());
    let chunk = chunks.unwrap().next().unwrap().unwrap();
    assert_eq!(chunk.values, Values::F64(vec![16_777_219.0, 1.0]));
}

/// As `scipy.io.mmread` reads a file of integers.
#[test]
fn integers_are_exact_or_refused() {
    let big = 9_007_199_254_740_993_u64;
    for (value, dtype) in [(big, Dtype::I64), (u64::MAX, Dtype::U64)] {
        for body in [format!("1 1 {value}\n2 2 3\n"), format!("2 2 3\n1 1 {value}\n")] {
            let dir = folder(&format!("{HEAD}3 2 2\n{body}"));
            let input = open_default(dir.path()).unwrap();
            let d = input.description();
            assert_eq!((d.matrices[0].dtype, d.losses.len()), (dtype, 0));
            let chunk = input.matrix(&MatrixKey::X, Default::default()).unwrap().next().unwrap().unwrap();
            let expected =
                if dtype == Dtype::I64 { Values::I64(vec![big as i64, 3]) } else { Values::U64(vec![value, 3]) };
            assert_eq!(chunk.values, expected);
        }
    }
    for (other, place) in [("0.1", "the entry at 2, 2"), ("99999999999999999999999", "the entry at 1, 1")] {
        let dir = folder(&format!("{HEAD}3 2 2\n1 1 {other}\n2 2 {big}\n"));
        let input = open_default(dir.path()).unwrap();
        assert_eq!(input.description().losses[0].path, format!("matrix.mtx: {place}"));
    }
}

/// As pandas reads the fields.
#[test]
fn side_files_are_read_as_tables() {
    let body = format!("{HEAD}3 2 1\n1 1 5\n");
    for (genes, cells) in [
        ("\u{feff}E1\tA\r\nE2\tB 5\" x\r\nE3\tC 3' UTR\r\n", "\u{feff}c1\r\nc2\r\n"),
        ("\"E1\"\t\"A\"\n\"E2\"\tB 5\" x\nE3\tC 3' UTR\n\n", "\"c1\"\n\"c2\""),
        ("\"E1\tA\"\n\"E2\tB 5\"\" x\"\n\"E3\tC 3' UTR\"\n", "c1\n\nc2\n"),
    ] {
        let dir = folder(&format!("\u{feff}{body}"));
        put(dir.path(), "genes.tsv", genes);
        put(dir.path(), "barcodes.tsv", gzip(cells));
        let input = open_default(dir.path()).unwrap();
        assert_eq!(input.obs(0..2).unwrap().index, ["c1", "c2"], "{cells:?}");
        assert_eq!(input.var().unwrap().index, ["A", "B 5\" x", "C 3' UTR"], "{genes:?}");
        assert_eq!(text(&*input, 0), ["E1", "E2", "E3"]);
        assert!(open_default(&dir.path().join("matrix.mtx")).is_ok());
    }
    let dir = folder(&body);
    put(dir.path(), "genes.tsv", "E1\tA\nE2\t\"B\nE3\tC\n");
    let e = open_default(dir.path()).err().unwrap();
    assert!(e.to_string().contains("genes.tsv: line 2: a quoted field goes over the end of the line"), "{e}");
}

#[test]
fn every_column_of_side_files_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (peak, none) = ("chr1:5-9\tchr1:5-9\tPeaks\tchr1\t5\t9\n", "E3\tC\tGene Expression\t\t\t\n");
    put(dir.path(), "features.tsv", format!("E1\tA\tGene Expression\t1\t9007199254740993\t20\n{peak}{none}"));
    put(dir.path(), "barcodes.tsv", "c1\tlane 1\t7\nc2\t\t8\n");
    put(dir.path(), "matrix.mtx", format!("{HEAD}3 2 1\n1 1 5\n"));
    let input = open_default(dir.path()).unwrap();
    let d = input.description();
    assert!(d.losses.is_empty());
    assert_eq!(d.notes, ["barcodes.tsv: columns without a name are kept as obs[\"column_2\"], obs[\"column_3\"]"]);
    let shown = |frame: &Frame| -> Vec<String> {
        let column = |c: &Column| {
            let values: Vec<_> = (0..c.array.len()).map(|i| array_value_to_string(&c.array, i).unwrap()).collect();
            format!("{} {}: {}", c.info.name, c.info.data_type, values.join("|"))
        };
        frame.columns.iter().map(column).collect()
    };
    let var = shown(&input.var().unwrap());
    let expected = ["chromosome Utf8: 1|chr1|", "start Int64: 9007199254740993|5|", "end Int64: 20|9|"];
    assert_eq!(var[2..], expected);
    assert_eq!(shown(&input.obs(1..2).unwrap()), ["column_2 Utf8: ", "column_3 Int64: 8"]);
    let options = OpenOptions { feature_type: Some("Peaks".into()), ..OpenOptions::default() };
    let peaks = open(dir.path(), &options).unwrap().var().unwrap();
    assert_eq!((peaks.index.len(), &shown(&peaks)[3][..]), (1, "start Int64: 5"));

    put(dir.path(), "features.tsv", "E1\tA\tx\ty\nE2\tB\tx\t\nE3\tC\tx\tz\n");
    let var = shown(&open_default(dir.path()).unwrap().var().unwrap());
    assert_eq!(var[2..], ["column_4 Utf8: y||z"]);
}

#[test]
fn cells_in_rows_and_empty_axes() {
    let dir = folder(&format!("{HEAD}2 3 2\n1 3 4\n2 1 6\n"));
    let input = open_default(dir.path()).unwrap();
    assert!(input.description().notes[0].starts_with("cells in rows"));
    let x = read(&*input, &MatrixKey::X).unwrap();
    assert_eq!(x.values.into_iter().collect::<Vec<_>>(), [((0, 2), 4.0), ((1, 0), 6.0)]);

    let dir = folder(&format!("{HEAD}3 0 0\n"));
    put(dir.path(), "barcodes.tsv", "");
    let input = open_default(dir.path()).unwrap();
    assert_eq!((input.description().n_cells, read(&*input, &MatrixKey::X).unwrap().n_rows), (0, 0));
}

#[test]
fn malformed_folders() {
    let good = format!("{HEAD}3 2 1\n1 1 5\n");
    let kind = |dir: &tempfile::TempDir| {
        let e = open_default(dir.path()).err().unwrap();
        (e.kind(), e.to_string())
    };
    let (k, message) = kind(&folder(&format!("{HEAD}3 2 2\n1 1 5\n1 4 2\n")));
    assert_eq!(k, ErrorKind::MalformedInput);
    assert!(message.contains("matrix.mtx: line 4: an entry at 1, 4"), "{message}");

    let (k, message) = kind(&folder(&format!("{HEAD}1099511627776 1099511627776 1\n1 1 5\n")));
    assert_eq!(k, ErrorKind::MalformedInput);
    assert!(message.contains("3 features in genes.tsv"), "{message}");

    let dir = folder(&good);
    let packed = gzip(&format!("{HEAD}3 2 1\n{}", "% a comment\n".repeat(100)));
    put(dir.path(), "matrix.mtx", &packed[..packed.len() - 12]);
    assert_eq!(kind(&dir).0, ErrorKind::MalformedInput);

    let dir = folder(&good);
    put(dir.path(), "genes.tsv", "E1\tA\nE2\nE3\tC\n");
    let (k, message) = kind(&dir);
    assert_eq!(k, ErrorKind::MalformedInput);
    assert!(message.contains("genes.tsv: line 2"), "{message}");

    let dir = folder(&good);
    put(dir.path(), "barcodes.tsv", b"\xff\xfe\n");
    assert_eq!(kind(&dir).0, ErrorKind::MalformedInput);

    let dir = folder(&good);
    std::fs::remove_file(dir.path().join("barcodes.tsv")).unwrap();
    let (k, message) = kind(&dir);
    assert_eq!(k, ErrorKind::NotFound);
    assert!(message.contains("barcodes.tsv[.gz]"), "{message}");

    assert_eq!(kind(&tempfile::tempdir().unwrap()).0, ErrorKind::UnknownFormat);
    let dir = folder(&format!("{HEAD}3 2 1\n1 1 {}\n", "9".repeat(300_000)));
    assert_eq!(kind(&dir).0, ErrorKind::MalformedInput);
}

fn features() -> Vec<slaf_core::Result<Feature>> {
    ["x", "y", "z"]
        .map(|n| Ok(Feature { id: format!("id_{n}"), symbol: n.into(), feature_type: "Gene Expression".into() }))
        .into()
}

fn chunk(values: Values) -> slaf_core::Result<CsrChunk> {
    Ok(CsrChunk { indptr: vec![0, 2, 2], indices: vec![0, 2], values })
}

#[test]
fn writes_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    for (values, integer, sum) in [
        (Values::F32(vec![3.0, 4.0]), true, 7.0),
        (Values::U8(vec![3, 200]), true, 203.0),
        (Values::F64(vec![0.1, 1e-300]), false, 0.1),
    ] {
        let chunks = [chunk(values.clone()), chunk(values)];
        let cells = ["a", "b", "c", "d"].map(Ok);
        write_10x_mtx(&path, cells, features(), (4, 3), 4, integer, chunks).unwrap();
        let input = open_default(&path).unwrap();
        assert_eq!(input.description().format, "10x mtx v3");
        assert_eq!(input.obs(0..4).unwrap().index, ["a", "b", "c", "d"]);
        assert_eq!(input.var().unwrap().index, ["x", "y", "z"]);
        assert_eq!(text(&*input, 0), ["id_x", "id_y", "id_z"]);
        assert_eq!(read(&*input, &MatrixKey::X).unwrap().sum(), 2.0 * sum);
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn failed_writes_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let cells = || ["a", "b"].map(Ok);
    let write = |cells: [slaf_core::Result<&str>; 2], nnz, chunk| {
        let e = write_10x_mtx(&path, cells, features(), (2, 3), nnz, true, [chunk]).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{e}");
        e.kind()
    };
    assert_eq!(write(cells(), 3, chunk(Values::U8(vec![1, 2]))), ErrorKind::MalformedInput);
    assert_eq!(write(cells(), 2, chunk(Values::F32(vec![1.0, 0.5]))), ErrorKind::MalformedInput);
    assert_eq!(write([Ok("a\tb"), Ok("c")], 2, chunk(Values::U8(vec![1, 2]))), ErrorKind::InvalidArgument);
    let broken = Err(slaf_core::Error::corrupt("x"));
    assert_eq!(write(cells(), 2, broken), ErrorKind::Corrupt);
    std::fs::create_dir(&path).unwrap();
    let e = write_10x_mtx(&path, cells(), features(), (2, 3), 2, true, [chunk(Values::U8(vec![1, 2]))]);
    assert_eq!(e.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

/// Ten million entries: prints the speed.
#[test]
#[ignore = "a measurement"]
fn speed() {
    use std::fmt::Write;
    let (genes, cells) = (30_000, 10_000);
    let mut text = format!("{HEAD}{genes} {cells} {}\n", cells * 1000);
    for cell in 1..=cells {
        for i in 0..1000 {
            writeln!(text, "{} {cell} {}", i * 30 + 1, i % 7 + 1).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "genes.tsv", (0..genes).map(|i| format!("E{i}\tG{i}\n")).collect::<String>());
    put(dir.path(), "barcodes.tsv", (0..cells).map(|i| format!("c{i}\n")).collect::<String>());
    for (what, content) in [("plain", text.clone().into_bytes()), ("gz", gzip(&text))] {
        put(dir.path(), "matrix.mtx", content);
        let start = std::time::Instant::now();
        let input = open_default(dir.path()).unwrap();
        println!("{what}: open {:.1} M entries/s", 10.0 / start.elapsed().as_secs_f64());
        let start = std::time::Instant::now();
        let n: usize = input.matrix(&MatrixKey::X, Default::default()).unwrap().map(|c| c.unwrap().nnz()).sum();
        assert_eq!(n, 10_000_000);
        println!("{what}: stream {:.1} M entries/s", 10.0 / start.elapsed().as_secs_f64());
    }
}
