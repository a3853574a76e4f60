use crate::failure::{Failure, Outcome};
use crate::format::Format;
use crate::interrupt::Interrupt;
use crate::output::{NewFile, Sink, write};
use crate::say;
use crate::store::StoreArgs;
use crate::table::with_commas;
use slaf::{Dialect, QueryOptions, Verify};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

/// Ask a store in SQL
///
/// The tables are cells, genes, expression, layers, obsp_KEY and varp_KEY. A double-quoted word
/// that names no column and is compared with text is a text: WHERE batch = "batch1". A gene is a
/// column of cells. A division gives a fraction, // and div(a, b) a whole number.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The SELECT statement
    sql: String,
    /// How to write the result; by default a table, or what the extension of FILE says
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Write the result to this file
    #[arg(short = 'o', long)]
    file: Option<PathBuf>,
    /// Replace FILE
    #[arg(long, requires = "file")]
    overwrite: bool,
    /// How many rows a table shows
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
    /// Compare each file with its hash before it is first read
    #[arg(long)]
    verify: bool,
    /// "standard" takes every word in double quotes for a name, and divides whole numbers into
    /// whole numbers
    #[arg(long, value_name = "DIALECT", default_value = "slaf", value_parser = dialect)]
    dialect: Dialect,
    /// Stop if the query takes longer
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

fn dialect(name: &str) -> Result<Dialect, String> {
    name.parse().map_err(|e: slaf::Error| e.message().to_string())
}

impl Args {
    fn format(&self) -> Outcome<Format> {
        match (self.output, &self.file) {
            (Some(format), None) if format.is_binary() && io::stdout().is_terminal() => {
                Err(Failure::Usage("this output is not for a terminal: give -o FILE".into()))
            }
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Table),
            (None, Some(file)) => Format::of(file).ok_or_else(|| {
                Failure::Usage(format!("the format of {} is not clear from its name: give --output", file.display()))
            }),
        }
    }
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let format = args.format()?;
    // Held here and not by the worker, so that Ctrl-C removes it.
    let file = args.file.map(|path| NewFile::create(path, args.overwrite)).transpose()?;
    let sink = match &file {
        Some(file) => Sink::file(file.writer()?, file.path()),
        None => Sink::stdout(),
    };
    let (store, sql, rows) = (args.store, args.sql, args.rows);
    let options = QueryOptions { time_limit: args.timeout, dialect: args.dialect, ..QueryOptions::default() };
    let verify = if args.verify { Verify::FirstTouch } else { Verify::OnRequest };
    let query = move || write(store.open_with(verify)?.query_stream(&sql, &options)?, format, rows, sink);
    let n = interrupt.abandonable(query)?;
    match file {
        Some(file) => say(format_args!("{}: {} rows", file.keep()?.display(), with_commas(n))),
        None => Ok(()),
    }
}
