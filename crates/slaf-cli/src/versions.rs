use crate::failure::{Outcome, from_arrow};
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StoreArgs;
use crate::table::escaped;
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampSecondArray, UInt64Array};
use arrow::util::pretty::pretty_format_batches;
use slaf::VersionInfo;
use std::sync::Arc;

/// List the versions of a store, the oldest first
///
/// When each was made, its shape, its tags, and what made it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf versions pbmc.slaf")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let mut versions = interrupt.abandonable(move || Ok(args.store.open()?.versions()?))?;
    versions.sort_by_key(|v| v.version);
    let numbers =
        |of: fn(&VersionInfo) -> u64| -> ArrayRef { Arc::new(versions.iter().map(of).collect::<UInt64Array>()) };
    let created = versions.iter().map(|v| i64::try_from(v.created).ok());
    let created = created.collect::<TimestampSecondArray>().with_timezone("+00:00");
    let tags = versions.iter().map(|v| Some(v.tags.join(", "))).collect::<StringArray>();
    let operations = versions.iter().map(|v| Some(escaped(&v.operation))).collect::<StringArray>();
    let columns = [
        ("version", numbers(|v| v.version)),
        ("created", Arc::new(created)),
        ("cells", numbers(|v| v.n_cells)),
        ("genes", numbers(|v| v.n_genes)),
        ("tags", Arc::new(tags)),
        ("operation", Arc::new(operations)),
    ];
    let batch = RecordBatch::try_from_iter(columns).map_err(from_arrow)?;
    say(pretty_format_batches(&[batch]).map_err(from_arrow)?)
}
