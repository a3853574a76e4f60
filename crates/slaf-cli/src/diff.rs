use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::{Error, ErrorKind, Verify, grow};

/// Say what differs between two versions of a store
///
/// Shapes, and the names of what was added, removed, changed or written anew; no values are read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf diff atlas.slaf 1\n\
        \x20 slaf diff atlas.slaf submitted 4 --json")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// A version: its number or its tag
    first: String,
    /// Another one; the newest by default
    second: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, first, second, json, storage } = args;
    let difference = interrupt.abandonable(move || {
        let first = storage.open(&store, Some(&first), Verify::OnRequest)?;
        let second = storage.open(&store, second.as_deref(), Verify::OnRequest)?;
        Ok(grow::diff(&first, &second))
    })?;
    if json {
        let text = serde_json::to_string_pretty(&difference)
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()).with_source(e))?;
        say(text)
    } else {
        say(difference)
    }
}
