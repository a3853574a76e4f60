use crate::convert::{PartArgs, memory, named};
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StorageArgs;
use slaf::Join;
use slaf::grow::{self, AppendOptions};

/// Append the cells of files or stores to a store
///
/// All that slaf convert reads, and other stores. Genes are joined by var["gene_ids"] where all have it,
/// otherwise by name; columns of obs are united. Only the new cells are written, in one commit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n\
        \x20 slaf append atlas.slaf donor3.h5ad\n\
        \x20 slaf append atlas.slaf donor4/ other.slaf --join reference")]
pub(crate) struct Args {
    /// The store that grows
    store: String,
    /// The files, folders or stores to append
    #[arg(required = true, num_args = 1..)]
    inputs: Vec<String>,
    /// Genes: those of any (outer), or those of the store (reference); inner is refused where it would
    /// take genes from the store
    #[arg(long, value_parser = named(Join::ALL, Join::name), default_value = "outer")]
    join: Join,
    /// What the obs column "source" says of the new cells
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
    /// Go on where only one side has a layer, an array, raw or a graph; the report names it
    #[arg(long)]
    allow_loss: bool,
    /// Take a layer that an input or the store lacks as zeros in its cells
    #[arg(long)]
    fill_layers: bool,
    /// Append inputs that have no gene in common with the store
    #[arg(long)]
    allow_disjoint: bool,
    /// How much memory to use, for example 800M or 4G (1G by default, at least 1M)
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory: Option<usize>,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    storage: StorageArgs,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let defaults = AppendOptions::default();
    let options = AppendOptions {
        join: args.join,
        source_name: args.source_name,
        allow_loss: args.allow_loss,
        fill_layers: args.fill_layers,
        allow_disjoint: args.allow_disjoint,
        memory: args.memory.unwrap_or(defaults.memory),
        input: args.part.of(defaults.input.clone()),
        ..defaults
    };
    say(interrupt.change(move |progress| {
        let inputs: Vec<&str> = args.inputs.iter().map(String::as_str).collect();
        Ok(grow::append(&args.store, &inputs, &options, &args.storage.grow(), progress)?)
    })?)
}
