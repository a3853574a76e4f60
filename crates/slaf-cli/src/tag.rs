use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow;

/// Give a version of a store a name, which opens it and keeps it
///
/// All commands that read take the name as --version, and slaf gc removes no version that has one; slaf
/// untag takes the name away.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf tag atlas.slaf submitted\n\
        \x20 slaf info atlas.slaf --version submitted")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The name
    name: String,
    /// The number of the version that gets the name, instead of the newest
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, name, version, storage } = args;
    let shown = name.clone();
    let version = interrupt.change(move |_| Ok(grow::tag(&store, &name, version, &storage.grow())?))?;
    say(format_args!("{shown} is version {version}"))
}
