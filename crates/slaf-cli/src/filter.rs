use crate::convert::memory;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StoreArgs;
use slaf::{ConvertOptions, grow};

/// Make a new store of some cells of a store
///
/// The new store has all genes, layers, arrays and graphs of the cells, and uns. The old one does not
/// change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n\
        \x20 slaf filter atlas.slaf rich.slaf --where \"n_genes > 500 AND batch = 'b1'\"")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The new store
    target: String,
    /// A condition in SQL over the columns of cells, for example "n_genes > 500 AND batch = 'b1'"
    #[arg(long = "where", value_name = "CONDITION")]
    condition: String,
    /// Replace a store that is there
    #[arg(long)]
    overwrite: bool,
    /// Leave out what cannot be kept for some cells only; the report names it
    #[arg(long)]
    allow_loss: bool,
    /// How much memory to use, for example 800M or 4G (1G by default, at least 1M)
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory: Option<usize>,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let defaults = ConvertOptions::default();
    let options = ConvertOptions {
        overwrite: args.overwrite,
        allow_loss: args.allow_loss,
        memory: args.memory.unwrap_or(defaults.memory),
        storage_options: args.store.storage_options(),
        ..defaults
    };
    say(interrupt.change(move |progress| {
        Ok(grow::filter(&args.store.open()?, &args.condition, &args.target, &options, progress)?)
    })?)
}
