use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow;

/// Give a version of a store a name, which opens it and keeps it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    store: String,
    /// The name
    name: String,
    /// The version that gets the name, instead of the newest
    #[arg(long, value_name = "N", conflicts_with = "delete")]
    version: Option<u64>,
    /// Take the name away
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, name, version, delete, storage } = args;
    let shown = name.clone();
    let version = interrupt.abandonable(move || {
        Ok(match delete {
            true => grow::untag(&store, &name, &storage.grow())?,
            false => grow::tag(&store, &name, version, &storage.grow())?,
        })
    })?;
    let verb = if delete { "was" } else { "is" };
    say(format_args!("{shown} {verb} version {version}"))
}
