use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow;

/// Take a name away from a version of a store
///
/// The version stays, and slaf gc may remove it from then on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf untag atlas.slaf submitted")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The name
    name: String,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, name, storage } = args;
    let shown = name.clone();
    let version = interrupt.change(move |_| Ok(grow::untag(&store, &name, &storage.grow())?))?;
    say(format_args!("{shown} was version {version}"))
}
