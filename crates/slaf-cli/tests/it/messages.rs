//! What the command says: help as a new user reads it, and errors that tell what to do.

use super::{BARCODES, MATRIX, Place};
use std::fs;

/// The commands that the help lists, but `help` itself.
fn commands(place: &Place) -> Vec<String> {
    let help = place.ok(&["--help"]);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    let names = list.filter_map(|line| line.split_whitespace().next()).map(String::from);
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_command_has_an_example() {
    let place = Place::new();
    let commands = commands(&place);
    assert!(commands.len() > 18 && commands.contains(&"untag".to_string()), "{commands:?}");
    // Of Python, and without arguments.
    for command in commands.iter().filter(|c| !["analyze", "version"].contains(&c.as_str())) {
        let help = place.ok(&[command, "--help"]);
        let example = help.lines().rev().find(|line| line.starts_with("  slaf ")).unwrap_or_default();
        assert!(help.contains("\nExample") && example.contains(command.as_str()) || command == "tag", "{help}");
        assert!(help.lines().all(|line| !line.contains('`')), "{help}");
    }
    let help = place.ok(&["--help"]);
    for status in ["0 done", "1 failed", "2 wrong command", "130 stopped"] {
        assert!(help.contains(status), "{help}");
    }
}

#[test]
fn a_name_is_given_and_taken_away() {
    let place = Place::with_store();
    assert_eq!(place.ok(&["tag", "a.slaf", "first"]), "first is version 1\n");
    assert!(place.fails(&["tag", "a.slaf", "first", "--version", "2"], "already-exists").contains("slaf untag"));
    assert!(place.ok(&["rollback", "a.slaf", "first"]).contains('3'));
    assert_eq!(place.ok(&["untag", "a.slaf", "first"]), "first was version 1\n");
    place.fails(&["untag", "a.slaf", "first"], "not-found");
    place.fails(&["rollback", "a.slaf", "first"], "not-found");
}

#[test]
fn a_place_is_named_once() {
    let place = Place::with_store();
    for args in [
        &["append", "a.slaf", "missing.h5ad"][..],
        &["append", "a.slaf", "missing/"],
        &["convert", "missing.h5ad", "b.slaf"],
        &["convert", "missing.h5ad", "tenx", "b.slaf", "--workers", "2"],
        &["annotate", "a.slaf", "missing.csv"],
        &["append", "missing.slaf", "tenx"],
        &["info", "missing.slaf"],
        &["filter", "missing.slaf", "b.slaf", "--where", "true"],
    ] {
        let error = place.fails(args, "not-found");
        assert_eq!(error.matches("missing").count(), 1, "{error}");
    }
    fs::write(place.path("cut.h5ad"), b"\x89HDF\r\n\x1a\n").unwrap();
    for args in [&["append", "a.slaf", "cut.h5ad"][..], &["convert", "cut.h5ad", "b.slaf"]] {
        let error = place.fails(args, "malformed-input");
        assert_eq!(error.matches("cut.h5ad").count(), 1, "{error}");
    }
}

#[test]
fn an_input_in_a_bucket_is_copied_first() {
    let place = Place::new();
    for more in [&[][..], &["--workers", "2"]] {
        let args = [&["convert", "s3://bucket/a.h5ad", "b.slaf"], more].concat();
        let error = place.fails(&args, "invalid-argument");
        assert!(error.contains("s3://bucket/a.h5ad") && error.contains("copy"), "{error}");
    }
}

#[test]
fn budgets_have_a_least_one() {
    let place = Place::with_store();
    let condition = ["--where", "cell_integer_id < 1"];
    for args in [
        &["convert", "tenx", "b.slaf"][..],
        &["append", "a.slaf", "tenx"],
        &["optimize", "a.slaf"],
        &[&["filter", "a.slaf", "b.slaf"], &condition[..]].concat(),
        &[&["delete-cells", "a.slaf"], &condition[..]].concat(),
    ] {
        for wrong in ["0", "1K", "1000000", "1023K"] {
            let done = place.run(&[args, &["--memory", wrong]].concat());
            assert_eq!(done.status, 2, "{args:?} {wrong}\n{}{}", done.out, done.err);
            assert!(done.err.contains("--memory") && done.err.contains("1M"), "{}", done.err);
        }
    }
    assert_eq!(place.names(), ["a.slaf", "tenx"]);
    place.ok(&["convert", "tenx", "b.slaf", "--memory", "1M"]);
    place.ok(&["verify", "b.slaf"]);
}

#[test]
fn advice_about_sql_is_of_the_command_line() {
    let place = Place::with_store();
    for sql in ["SELECT median_of(1) FROM cells", "SELECT * FROM cells FOR UPDATE", "PIVOT cells ON n"] {
        let error = place.fails(&["query", "a.slaf", sql], "invalid-query");
        assert!(error.contains("slaf query -o") && error.contains("in Python"), "{error}");
    }
    let error = place.fails(&["query", "a.slaf", "SELECT * FROM cells WHERE cell_id = ?"], "invalid-argument");
    assert!(error.contains("write them into the text"), "{error}");
}

#[test]
fn a_folder_of_tables_is_given_one_by_one() {
    let place = Place::new();
    let folder = place.path("tables");
    fs::create_dir(&folder).unwrap();
    for name in ["b.csv", "a.csv"] {
        fs::write(folder.join(name), "cell,g1,g2\nc1,1,0\nc2,0,3\n").unwrap();
    }
    let error = place.fails(&["convert", "tables", "all.slaf"], "invalid-argument");
    assert!(error.contains("slaf convert \"tables/a.csv\" \"tables/b.csv\" OUTPUT.slaf"), "{error}");
    place.ok(&["convert", "tables/a.csv", "tables/b.csv", "all.slaf"]);
    fs::remove_file(folder.join("b.csv")).unwrap();
    let error = place.fails(&["append", "all.slaf", "tables"], "invalid-argument");
    assert!(error.contains("\"tables/a.csv\"") && error.contains("h5ad"), "{error}");
    // A data set whose matrix is missing is none of these.
    fs::write(folder.join("barcodes.tsv"), BARCODES).unwrap();
    place.fails(&["convert", "tables", "b.slaf"], "unknown-format");
    fs::write(folder.join("matrix.mtx"), MATRIX).unwrap();
    place.fails(&["convert", "tables", "b.slaf"], "not-found");
}

#[test]
fn control_characters_in_names_are_refused() {
    let place = Place::with_store();
    let name = "night\u{1b}[2J\n2";
    let escaped = r#""night\u{1b}[2J\n2""#;
    for args in [
        &["append", "a.slaf", "tenx", "--source-name", name][..],
        &["convert", "tenx", "tenx", "b.slaf", "--source-column", name],
        &["tag", "a.slaf", name],
    ] {
        let error = place.fails(args, "invalid-argument");
        assert!(error.contains(escaped) && !error.contains(name), "{error}");
    }
    assert_eq!(place.names(), ["a.slaf", "tenx"]);
}
