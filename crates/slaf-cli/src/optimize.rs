use crate::convert::memory;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow::{self, RewriteOptions};

/// Write a store anew where that makes it smaller or quicker to read
///
/// That is: many appends made small pieces, dropped columns take space, or other genes are popular than
/// when they were ranked. Values and order stay as they are. Older versions stay until slaf gc removes them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf optimize atlas.slaf")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// Write also where there is little to gain
    #[arg(long)]
    force: bool,
    /// How much memory to use, for example 800M or 4G (1G by default, at least 1M)
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory: Option<usize>,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let defaults = RewriteOptions::default();
    let options = RewriteOptions { memory: args.memory.unwrap_or(defaults.memory), ..defaults };
    say(interrupt.change(move |progress| {
        Ok(grow::optimize(&args.store, args.force, &options, &args.storage.grow(), progress)?)
    })?)
}
