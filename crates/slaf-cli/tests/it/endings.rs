//! How commands end: by signals, and where nobody reads what they print.
#![cfg(unix)]

use super::{Place, finish};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};
use std::time::Duration;

/// Makes more cells than a pipe or a conversion swallows at once.
fn with_many_cells(place: &Place, n: usize) {
    let tenx = place.path("tenx");
    let entries: String = (1..=n).map(|i| format!("1 {i} {}\n2 {i} 1\n3 {i} 2\n", i % 9 + 1)).collect();
    let matrix = format!("%%MatrixMarket matrix coordinate integer general\n3 {n} {}\n{entries}", 3 * n);
    let barcodes: String = (0..n).map(|i| format!("CELL{i}\n")).collect();
    fs::write(tenx.join("matrix.mtx"), matrix).unwrap();
    fs::write(tenx.join("barcodes.tsv"), barcodes).unwrap();
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let place = Place::new();
    with_many_cells(&place, 20_000);
    place.ok(&["convert", "tenx", "a.slaf"]);
    let mut command = place.command(&["query", "a.slaf", "SELECT * FROM expression", "--output", "csv"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("value"), "{line}");
    let done = finish(child);
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
}

/// Starts a conversion in which a signal has this action, whatever it is here, and sends it.
fn interrupted(place: &Place, signal: libc::c_int, action: libc::sighandler_t) -> Output {
    with_many_cells(place, 300_000);
    let mut command = place.command(&["convert", "tenx", "a.slaf"]);
    // SAFETY: the call is one that may be made between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::signal(signal, action) {
            libc::SIG_ERR => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // When it has begun to write, it is not soon done.
    let has_ended = loop {
        match child.try_wait().unwrap() {
            None if !place.path("a.slaf").exists() => std::thread::sleep(Duration::from_millis(5)),
            status => break status.is_some(),
        }
    };
    if !has_ended {
        // SAFETY: the child was not waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
    }
    finish(child)
}

const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

#[test]
fn a_signal_that_is_ignored_stays_so() {
    for signal in SIGNALS {
        let place = Place::new();
        let done = interrupted(&place, signal, libc::SIG_IGN);
        assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
        place.ok(&["verify", "a.slaf"]);
    }
}

#[test]
fn a_signal_leaves_nothing_behind() {
    for (signal, told) in SIGNALS.into_iter().zip(["", " by SIGTERM", " by SIGHUP"]) {
        let place = Place::new();
        let done = interrupted(&place, signal, libc::SIG_DFL);
        // A fast machine may be done before the signal comes.
        if done.status.code() != Some(0) {
            let err = String::from_utf8_lossy(&done.stderr);
            let expected = format!("slaf: interrupted{told}\n");
            assert_eq!((done.status.code(), err.as_ref()), (Some(128 + signal), expected.as_str()));
            assert_eq!(place.names(), ["tenx"]);
        }
    }
}

/// Every command, as it succeeds one after the other.
const SUCCEED: [&[&str]; 28] = [
    &["convert", "tenx", "b.slaf"],
    &["annotate", "a.slaf", "labels.csv", "--on", "cell_id"],
    &["append", "a.slaf", "tenx"],
    &["info", "a.slaf"],
    &["info", "a.slaf", "--json"],
    &["query", "a.slaf", "SELECT * FROM cells"],
    &["query", "a.slaf", "SELECT * FROM cells", "--output", "csv"],
    &["query", "a.slaf", "SELECT * FROM cells", "--output", "json"],
    &["query", "a.slaf", "SELECT cell_id FROM cells", "--output", "parquet"],
    &["query", "a.slaf", "SELECT cell_id FROM cells", "--output", "arrow"],
    &["query", "a.slaf", "SELECT * FROM cells", "-o", "r.csv"],
    &["export", "a.slaf", "b.h5ad"],
    &["verify", "a.slaf"],
    &["versions", "a.slaf"],
    &["filter", "a.slaf", "c.slaf", "--where", "true"],
    &["delete-cells", "a.slaf", "--where", "cell_integer_id = 0"],
    &["tag", "a.slaf", "first", "--version", "1"],
    &["untag", "a.slaf", "first"],
    &["rollback", "a.slaf", "1"],
    &["diff", "a.slaf", "1"],
    &["diff", "a.slaf", "1", "--json"],
    &["optimize", "a.slaf"],
    &["gc", "a.slaf"],
    &["version"],
    &["--version"],
    &["--help"],
    &["help", "gc"],
    &["search", "--help"],
];

fn with_labels() -> Place {
    let place = Place::with_store();
    fs::write(place.path("labels.csv"), "cell_id,label\nAAAC-1,x\nAACA-1,y\n").unwrap();
    place
}

#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_printed_is_an_error() {
    let place = with_labels();
    for args in SUCCEED {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let done = finish(place.command(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap());
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{args:?}: {err}");
        let told = "slaf: the standard output: ";
        assert!(err.starts_with(told) && err.ends_with(" [disk-full]\n"), "{args:?}: {err}");
    }
    // What was done stays done.
    for store in ["a.slaf", "b.slaf", "c.slaf"] {
        place.ok(&["verify", store]);
    }
}

#[test]
fn nobody_who_reads_is_no_failure() {
    let place = with_labels();
    for args in SUCCEED {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = finish(place.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap());
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), err.as_ref()), (Some(0), ""), "{args:?}");
    }
}
