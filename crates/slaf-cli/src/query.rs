use crate::answer::AnswerArgs;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::store::StoreArgs;
use slaf::{Dialect, QueryOptions, Verify};
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Ask a store in SQL
///
/// The tables are cells, genes, expression, layers, obsp_KEY and varp_KEY. A double-quoted word
/// that names no column and is compared with text is a text: WHERE batch = "batch1". A gene is a
/// column of cells. sources() and measured() tell which genes were measured in which cells. A division
/// gives a fraction; // and div(a, b) give a whole number.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf query pbmc.slaf \"SELECT cell_type, COUNT(*) FROM cells GROUP BY cell_type\"\n\
        \x20 slaf query pbmc.slaf \"SELECT * FROM expression WHERE gene_id = 'CD3D'\" -o cd3d.parquet")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The SELECT statement
    sql: String,
    #[command(flatten)]
    answer: AnswerArgs,
    /// Compare each file with its hash before it is first read
    #[arg(long)]
    verify: bool,
    /// A gene as a column of cells is null where it was not measured, and not 0
    #[arg(long)]
    measured: bool,
    /// "standard" takes every word in double quotes for a name, and divides whole numbers into
    /// whole numbers
    #[arg(long, value_name = "DIALECT", default_value = "slaf", value_parser = dialect)]
    dialect: Dialect,
    /// Tell on the standard error how many requests to the object store the query took
    #[arg(long)]
    stats: bool,
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

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let (store, sql) = (args.store, args.sql);
    let (time_limit, dialect, measured) = (args.timeout, args.dialect, args.measured);
    let options = QueryOptions { time_limit, dialect, measured, ..QueryOptions::default() };
    let verify = if args.verify { Verify::FirstTouch } else { Verify::OnRequest };
    // What was asked is known when the last row was written.
    let opened = Arc::new(OnceLock::new());
    let kept = opened.clone();
    args.answer.write(interrupt, move || {
        let dataset = store.open_with(verify)?;
        dataset.query_stream(&sql, &options).inspect(|_| drop(kept.set(dataset)))
    })?;
    if args.stats
        && let Some(dataset) = opened.get()
    {
        writeln!(io::stderr().lock(), "{}", dataset.io_stats())?;
    }
    Ok(())
}
