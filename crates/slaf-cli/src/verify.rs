use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::say;
use crate::store::StoreArgs;
use slaf::{Error, ErrorKind};

/// Read every file of a store and compare it with the hash that was committed
///
/// It names the files that differ or are missing, and fails if there are any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slaf verify pbmc.slaf")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Compare lengths alone, and open all tables; finds what is missing or was cut
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: Args, interrupt: &Interrupt) -> Outcome {
    let (files, damaged, uri) = interrupt.abandonable(move || {
        let dataset = args.store.open()?;
        let damaged = if args.quick { dataset.verify_quick()? } else { dataset.verify()? };
        Ok((dataset.manifest().files.len(), damaged, dataset.uri().to_string()))
    })?;
    if damaged.is_empty() {
        let how = if args.quick { "have the lengths that" } else { "are as they" };
        return say(format!("{files} files {how} were committed"));
    }
    let list: Vec<_> = damaged.iter().map(|d| format!("{}: {}", d.file, d.reason)).collect();
    let what = format!("{} of {files} files are damaged: {}", damaged.len(), list.join("; "));
    Err(Error::new(ErrorKind::Corrupt, what).at(uri).into())
}
