use crate::convert::memory;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::grow::{self, RewriteOptions};

/// Take cells out of the next version of a store
///
/// All that stays is written anew, in one commit. Older versions have the cells until slaf gc removes
/// these.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf delete-cells atlas.slaf --where \"n_genes < 200\"")]
pub(crate) struct Args {
    /// The store
    store: String,
    /// A condition in SQL over the columns of cells, for example "n_genes < 200"
    #[arg(long = "where", value_name = "CONDITION")]
    condition: String,
    /// Leave out what cannot be kept for some cells only
    #[arg(long)]
    allow_loss: bool,
    /// How much memory to use, for example 800M or 4G (1G by default, at least 1M)
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory: Option<usize>,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let memory = args.memory.unwrap_or(RewriteOptions::default().memory);
    let options = RewriteOptions { allow_loss: args.allow_loss, memory };
    say(interrupt.change(move |progress| {
        Ok(grow::delete_cells(&args.store, &args.condition, &options, &args.storage.grow(), progress)?)
    })?)
}
