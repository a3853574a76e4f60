//! The `slaf` command line: [`run`] is called by the `slaf` binary and by the console script of
//! the Python wheel.
//!
//! One module for each subcommand; to add one, write its `Args` and its `run`, and add it to
//! `Command`.

#![warn(missing_docs, unreachable_pub)]

mod analyze;
mod annotate;
mod answer;
mod append;
mod convert;
mod delete_cells;
mod diff;
mod export;
mod failure;
mod filter;
mod format;
mod gc;
mod index;
mod info;
mod interrupt;
pub mod logging;
mod optimize;
mod output;
mod progress;
mod query;
mod rollback;
mod search;
pub mod standard_output;
mod store;
mod table;
mod tag;
mod untag;
mod verify;
mod versions;
mod worker;

pub use worker::command as worker_command;

use clap::{Parser, Subcommand};
use failure::Outcome;
use interrupt::Interrupt;
use std::ffi::OsString;
use std::io::{self, Write};

const AFTER_HELP: &str = "\
A store is a folder, or a path that begins with file://, s3://, gs:// or az://.

Examples:
  slaf convert pbmc.h5ad pbmc.slaf
  slaf query pbmc.slaf \"SELECT cell_type, COUNT(*) FROM cells GROUP BY cell_type\"
  slaf COMMAND --help

Exit status: 0 done, 1 failed (the message ends with the kind of the error in brackets), 2 wrong command
line, 130 stopped by Ctrl-C, 143 by SIGTERM. SLAF_LOG=debug shows what is done.";

/// Single-cell data in one store: convert, look, ask, export.
#[derive(Debug, Parser)]
#[command(name = "slaf", bin_name = "slaf", version, propagate_version = false, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::Args),
    Info(info::Args),
    Query(query::Args),
    Search(search::Args),
    Index(index::Args),
    Export(export::Args),
    Verify(verify::Args),
    Versions(versions::Args),
    Analyze(analyze::Args),
    Append(append::Args),
    Annotate(annotate::Args),
    Filter(filter::Args),
    DeleteCells(delete_cells::Args),
    Tag(tag::Args),
    Untag(untag::Args),
    Rollback(rollback::Args),
    Diff(diff::Args),
    Optimize(optimize::Args),
    Gc(gc::Args),
    /// Convert the parts that `convert --workers` sends
    #[command(name = worker::NAME, hide = true)]
    Worker,
    /// Print the version of this program
    Version,
}

/// Runs the command line `args` (the first is the program's name) and returns its exit status:
/// 0, 1 for a failure (named on the standard error), 2 for a wrong command line, and 128 and the number of
/// the signal after one: 130 after Ctrl-C.
///
/// While it runs, the first of SIGINT (Ctrl-C), SIGTERM and SIGHUP stops the command cleanly and a second one
/// ends the process; what was ignored before stays so. What a command cannot stop in a few seconds goes on in
/// the background, until the process ends.
///
/// `worker` is the command that starts a worker process of `convert --workers`: one that calls
/// [`slaf::serve`].
pub fn run(args: impl IntoIterator<Item = OsString>, worker: Vec<OsString>) -> i32 {
    if standard_output::is_closed() {
        return standard_output::refuse();
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => {
            // Nobody is left to be told when this fails.
            let _ = e.print();
            return e.exit_code();
        }
        Err(help) => {
            let printed = help.print().and_then(|()| io::stdout().flush()).map_err(standard_output::failed);
            return printed.map_or_else(|failure| failure.report(&mut io::stderr(), None), |()| help.exit_code());
        }
    };
    let interrupt = match Interrupt::new() {
        Ok(interrupt) => interrupt,
        Err(failure) => return failure.report(&mut io::stderr(), None),
    };
    match dispatch(cli.command, &interrupt, worker) {
        Ok(()) => 0,
        Err(failure) => failure.report(&mut io::stderr(), interrupt.signal()),
    }
}

fn dispatch(command: Command, interrupt: &Interrupt, worker: Vec<OsString>) -> Outcome {
    match command {
        Command::Convert(args) => convert::run(args, interrupt, worker),
        Command::Info(args) => info::run(args, interrupt),
        Command::Query(args) => query::run(args, interrupt),
        Command::Search(args) => search::run(args, interrupt),
        Command::Index(args) => index::run(args, interrupt),
        Command::Export(args) => export::run(args, interrupt),
        Command::Verify(args) => verify::run(args, interrupt),
        Command::Versions(args) => versions::run(args, interrupt),
        Command::Analyze(args) => analyze::run(args),
        Command::Append(args) => append::run(args, interrupt),
        Command::Annotate(args) => annotate::run(args, interrupt),
        Command::Filter(args) => filter::run(args, interrupt),
        Command::DeleteCells(args) => delete_cells::run(args, interrupt),
        Command::Tag(args) => tag::run(args, interrupt),
        Command::Untag(args) => untag::run(args, interrupt),
        Command::Rollback(args) => rollback::run(args, interrupt),
        Command::Diff(args) => diff::run(args, interrupt),
        Command::Optimize(args) => optimize::run(args, interrupt),
        Command::Gc(args) => gc::run(args, interrupt),
        Command::Worker => worker::run(),
        Command::Version => say(format_args!("slaf {}", env!("CARGO_PKG_VERSION"))),
    }
}

/// Prints a line on the standard output. `println!` would panic when the reader of a pipe is gone.
fn say(line: impl std::fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(standard_output::failed)
}
