//! The `slaf` command as users call it, on a 10x folder of 4 cells and 3 genes.

// clippy.toml exempts tests, but not the functions that they share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod endings;
mod messages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

const MATRIX: &str =
    "%%MatrixMarket matrix coordinate integer general\n%\n3 4 6\n1 1 5\n2 1 1\n3 2 2\n1 3 7\n3 3 1\n2 4 3\n";
const BARCODES: &str = "AAAC-1\nAAAG-1\nAAAT-1\nAACA-1\n";
const GENES: &str = "ENSG1\tCD3D\nENSG2\tMS4A1\nENSG3\tNKG7\n";

/// Waits for a command. One that hangs is ended and fails.
fn finish(child: Child) -> Output {
    let id = child.id().to_string();
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    output.recv_timeout(Duration::from_secs(120)).map(Result::unwrap).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &id]).status();
        panic!("a command does not end")
    })
}

/// What a finished command left behind.
struct Finished {
    status: i32,
    out: String,
    err: String,
}

struct Place {
    folder: TempDir,
}

impl Place {
    /// A folder with an input `tenx`.
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let tenx = place.path("tenx");
        fs::create_dir(&tenx).unwrap();
        for (name, text) in [("matrix.mtx", MATRIX), ("barcodes.tsv", BARCODES), ("genes.tsv", GENES)] {
            fs::write(tenx.join(name), text).unwrap();
        }
        place
    }

    /// With a store `a.slaf`.
    fn with_store() -> Place {
        let place = Place::new();
        place.ok(&["convert", "tenx", "a.slaf"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slaf"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Finished {
        let mut command = self.command(args);
        let output = finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        Finished {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed and say nothing on the standard error.
    fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.status, done.err.as_str()), (0, ""), "slaf {args:?}\n{}", done.out);
        done.out
    }

    /// Runs a command that must fail with this kind.
    fn fails(&self, args: &[&str], kind: &str) -> String {
        let done = self.run(args);
        assert_eq!(done.status, 1, "slaf {args:?}\n{}{}", done.out, done.err);
        assert!(done.err.starts_with("slaf: ") && done.err.ends_with(&format!(" [{kind}]\n")), "{}", done.err);
        assert_eq!(done.out, "");
        done.err
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn convert_and_look() {
    let place = Place::new();
    let report = place.ok(&["convert", "tenx", "a.slaf"]);
    assert!(report.contains('4') && report.contains('3') && report.contains('6'), "{report}");
    let info = place.ok(&["info", "a.slaf"]);
    assert!(!info.trim().is_empty());
    let json: serde_json::Value = serde_json::from_str(&place.ok(&["info", "a.slaf", "--json"])).unwrap();
    assert_eq!((&json["n_cells"], &json["n_genes"]), (&4.into(), &3.into()));
    let versions = place.ok(&["versions", "a.slaf"]);
    assert_eq!(versions.lines().count(), 5, "{versions}");
    assert!(versions.lines().nth(3).unwrap().starts_with("| 1 "), "{versions}");
    assert_eq!(place.ok(&["version"]), format!("slaf {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn verify_names_a_damaged_file() {
    let place = Place::with_store();
    assert!(place.ok(&["verify", "a.slaf"]).contains("files are as they were committed"));
    let tables = fs::read_dir(place.path("a.slaf")).unwrap().map(|e| e.unwrap().path());
    let cells = tables.into_iter().find(|t| t.file_name().unwrap().to_str().unwrap().starts_with("cells-")).unwrap();
    let file = fs::read_dir(cells.join("data")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[10] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = place.fails(&["verify", "a.slaf"], "corrupt");
    assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn options_of_convert() {
    let place = Place::new();
    let options = ["--no-by-gene", "--memory", "200M", "--durability", "os", "--join", "inner"];
    place.ok(&[&["convert", "tenx", "tenx", "two.slaf", "--source-column", "input"], &options[..]].concat());
    let csv = place.ok(&[
        "query",
        "two.slaf",
        "SELECT COUNT(*) AS n, COUNT(DISTINCT input) AS inputs FROM cells",
        "--output",
        "csv",
    ]);
    assert!(csv.starts_with("n,inputs\n8,"), "{csv}");
}

#[test]
fn workers_make_the_store_that_one_process_makes() {
    let place = Place::new();
    let inputs = ["convert", "tenx", "tenx", "tenx"];
    place.ok(&[&inputs[..], &["one.slaf"]].concat());
    let convert = [&inputs[..], &["many.slaf", "--workers", "2"]].concat();
    let child =
        place.command(&convert).env("SLAF_PART_CELLS", "4").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = finish(child.unwrap());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("converted in 3 parts"), "{out}{err}");
    assert_eq!(err, "");
    for sql in ["SELECT * FROM cells", "SELECT * FROM genes", "SELECT * FROM expression ORDER BY 1, 2"] {
        let of = |store: &str| place.ok(&["query", store, sql, "--output", "csv"]);
        assert_eq!(of("one.slaf"), of("many.slaf"), "{sql}");
    }
    place.ok(&["verify", "many.slaf"]);
    place.fails(&convert, "already-exists");
    fs::write(place.path("tenx/matrix.mtx"), MATRIX.replace("3 4 6", "3 4 7")).unwrap();
    let error = place.fails(&["convert", "tenx", "broken.slaf", "--workers", "2"], "malformed-input");
    assert!(error.contains("tenx"), "{error}");
    assert!(!place.path("broken.slaf").exists());
    assert!(!place.ok(&["--help"]).contains("convert-parts"));
}

#[test]
fn an_existing_target_is_refused() {
    let place = Place::with_store();
    place.fails(&["convert", "tenx", "a.slaf"], "already-exists");
    place.ok(&["convert", "tenx", "a.slaf", "--overwrite"]);
    place.ok(&["export", "a.slaf", "b.h5ad"]);
    place.fails(&["export", "a.slaf", "b.h5ad"], "already-exists");
    place.ok(&["export", "a.slaf", "b.h5ad", "--overwrite", "--compress"]);
    let sql = ["query", "a.slaf", "SELECT 1 AS one", "-o", "one.csv"];
    place.ok(&sql);
    place.fails(&sql, "already-exists");
    place.ok(&[&sql[..], &["--overwrite"]].concat());
    assert_eq!(place.names(), ["a.slaf", "b.h5ad", "one.csv", "tenx"]);
}

#[test]
fn queries_in_every_format() {
    let place = Place::with_store();
    let sql = "SELECT gene_integer_id AS g, COUNT(*) AS n, SUM(value) AS total FROM expression GROUP BY 1 ORDER BY 1";
    let table = place.ok(&["query", "a.slaf", sql]);
    assert!(table.contains("| g | n | total |") && table.ends_with("3 rows\n"), "{table}");
    let first = place.ok(&["query", "a.slaf", sql, "--rows", "1"]);
    assert!(first.ends_with("1 of 3 rows\n"), "{first}");
    let csv = place.ok(&["query", "a.slaf", sql, "--output", "csv"]);
    assert_eq!(csv.replace(".0", ""), "g,n,total\n0,2,12\n1,2,4\n2,2,3\n");
    let json: serde_json::Value =
        serde_json::from_str(&place.ok(&["query", "a.slaf", sql, "--output", "json"])).unwrap();
    assert_eq!(json[2]["n"], 2);
    for (file, magic) in [("r.parquet", &b"PAR1"[..]), ("r.arrow", b"ARROW1"), ("r.csv", b"g,n,total")] {
        let said = place.ok(&["query", "a.slaf", sql, "-o", file]);
        assert_eq!(said, format!("{file}: 3 rows\n"));
        assert!(fs::read(place.path(file)).unwrap().starts_with(magic), "{file}");
    }
    assert!(place.ok(&["query", "a.slaf", "SELECT * FROM cells"]).contains("AAAT-1"));
    assert!(place.ok(&["query", "a.slaf", "SELECT * FROM cells WHERE cell_id = 'x'"]).ends_with("0 rows\n"));
}

#[test]
fn an_export_converts_to_the_same() {
    let place = Place::with_store();
    place.ok(&["export", "a.slaf", "b.h5ad"]);
    place.ok(&["export", "a.slaf", "mtx"]);
    let sql = "SELECT cell_id, gene_id, value FROM expression ORDER BY cell_integer_id, gene_integer_id";
    let first = place.ok(&["query", "a.slaf", sql, "--output", "csv"]);
    assert_eq!(first.lines().count(), 7, "{first}");
    for (source, store) in [("b.h5ad", "b.slaf"), ("mtx", "c.slaf")] {
        place.ok(&["convert", source, store]);
        assert_eq!(place.ok(&["query", store, sql, "--output", "csv"]), first, "{source}");
    }
}

#[test]
fn failures_have_kinds() {
    let place = Place::with_store();
    place.fails(&["info", "missing.slaf"], "not-found");
    place.fails(&["convert", "missing.h5ad", "b.slaf"], "not-found");
    place.fails(&["info", "tenx"], "not-a-store");
    let message = place.fails(&["query", "a.slaf", "SELECT cell_idd FROM cells"], "unknown-column");
    assert!(message.contains("cell_id"), "{message}");
    place.fails(&["query", "a.slaf", "SELECT * FROM cell"], "unknown-table");
    place.fails(&["query", "a.slaf", "SELEKT 1"], "invalid-query");
    place.fails(&["query", "a.slaf", "DROP TABLE cells"], "read-only");
    place.fails(&["query", "a.slaf", "SELECT nope FROM cells", "-o", "r.csv"], "unknown-column");
    assert_eq!(place.names(), ["a.slaf", "tenx"]);
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let place = Place::new();
    for args in [
        &[][..],
        &["frobnicate"],
        &["convert", "tenx"],
        &["convert", "tenx", "a.slaf", "--memory", "lots"],
        &["convert", "tenx", "a.slaf", "--genes-in-rows", "--cells-in-rows"],
        &["query", "a.slaf", "SELECT 1", "-o", "result.xyz"],
        &["query", "a.slaf", "SELECT 1", "--overwrite"],
        &["export", "a.slaf", "b.zarr"],
    ] {
        let done = place.run(args);
        assert_eq!((done.status, done.out.as_str()), (2, ""), "{args:?}\n{}", done.err);
        assert!(!done.err.is_empty());
    }
    assert_eq!(place.run(&["--help"]).status, 0);
    let secret = place.run(&["info", "a.slaf", "--storage-option", "hunter2"]);
    assert_eq!(secret.status, 2);
}

#[test]
fn run_is_callable_from_another_program() {
    let place = Place::with_store();
    let args = |args: &[&Path]| slaf_cli::run(args.iter().map(|a| a.as_os_str().to_owned()), Vec::new());
    let store = place.path("a.slaf");
    assert_eq!(args(&[Path::new("slaf"), Path::new("info"), &store]), 0);
    assert_eq!(args(&[Path::new("slaf"), Path::new("info"), &place.path("b.slaf")]), 1);
    assert_eq!(args(&[Path::new("slaf"), Path::new("inform"), &store]), 2);
}

#[test]
fn an_analysis_is_of_the_python_package() {
    let place = Place::with_store();
    for arguments in [&["analyze", "a.slaf", "--preset", "pbmc", "--no-umap"][..], &["analyze", "--help"], &["analyze"]]
    {
        let told = place.fails(arguments, "unsupported-feature");
        assert!(told.contains("pip install 'slaf[analysis]'"), "{told}");
    }
    assert!(place.ok(&["--help"]).contains("analyze"));
}
