use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow;

/// Make a next version that is as an older one was
///
/// Nothing is removed: the versions between stay, and can be rolled back to. It also mends a store
/// whose newest root manifest is damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The version to go back to
    version: u64,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, version, storage } = args;
    say(interrupt.abandonable(move || Ok(grow::rollback(&store, version, &storage.grow())?))?)
}
