use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::{Verify, grow};

/// Make a next version that is as an older one was
///
/// Nothing is removed: the versions between stay, and can be rolled back to. It also mends a store
/// whose newest root manifest is damaged: give it the number of an older version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf rollback atlas.slaf 2")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The version to go back to: its number or its tag
    version: String,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, version, storage } = args;
    say(interrupt.change(move |_| {
        // What mends a store whose newest version is damaged does not open that one.
        let to = match version.parse() {
            Ok(number) => number,
            Err(_) => storage.open(&store, Some(&version), Verify::OnRequest)?.version(),
        };
        Ok(grow::rollback(&store, to, &storage.grow())?)
    })?)
}
