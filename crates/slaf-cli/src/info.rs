use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StoreArgs;
use slaf::{Error, ErrorKind};

/// Say what a store holds and how large it is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf info pbmc.slaf --json")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let Args { store, json } = args;
    let info = interrupt.abandonable(move || Ok(store.open()?.info()))?;
    if json {
        let text = serde_json::to_string_pretty(&info)
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()).with_source(e))?;
        say(text)
    } else {
        say(info)
    }
}
