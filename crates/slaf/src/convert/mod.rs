//! Conversion: an [`Input`] becomes the tables of a new store and one root manifest.
//!
//! Cells stream through once. Each chunk of a matrix is packed in parallel; packed rows go to
//! `cells` beside the annotations of the same cells, and grow the rows of the current stripe of
//! `by_gene`. Memory holds some chunks and one stripe.

pub(crate) mod cell_names;
pub(crate) mod cells;
mod distributed;
pub(crate) mod elsewhere;
mod exact;
mod genes;
pub(crate) mod inputs;
pub(crate) mod job;
mod options;
pub(crate) mod pack;
mod report;
mod slafdb;
mod sources;
mod stripe;
pub(crate) mod survey;
pub(crate) mod target;
mod write;

pub use distributed::{Distributed, Workers, convert_part, convert_with_workers, serve};
pub use options::{ConvertOptions, Durability, LEAST_MEMORY};
pub use report::ConvertReport;

pub(crate) use sources::{expand, refuse_losses, refuse_losses_of};
pub(crate) use write::{now, software};

use crate::progress::Progress;
use crate::trace::Address;
use job::Job;
use slaf_core::uri::plain_path;
use slaf_core::{ErrorKind, Result};
use slaf_ingest::Input;
use slaf_lance::runtime::block_on;
use sources::Sources;
use std::path::Path;
use std::time::Instant;
use target::Target;

/// Converts one input, or several into one store; a folder of h5ad files stands for these.
///
/// # Errors
/// Those of reading an input (the location names its file), `already-exists` for a target that
/// exists without `overwrite` (also when another writer makes it meanwhile, or when it holds tables
/// and no root manifest, as a store that is being copied) or holds files that no store names, `conflict` when another writer replaces the store meanwhile, `invalid-argument` for
/// a source column with control characters, an input inside of the target or a target inside of another store, `would-lose-data` for content that the store cannot hold without
/// `allow_loss`, `interrupted` when `progress` returns `false`, and those of writing. After an
/// error nothing is left of the new store, unless it is `commit-outcome-unknown`.
pub fn convert(
    inputs: &[&Path],
    output: &str,
    options: &ConvertOptions,
    progress: Progress<'_>,
) -> Result<ConvertReport> {
    let _span = tracing::debug_span!("convert", inputs = inputs.len(), store = %Address(output)).entered();
    let started = Instant::now();
    let inputs = inputs.iter().map(|i| plain_path(i)).collect::<Result<Vec<_>>>()?;
    let inputs: &[&Path] = &inputs.iter().map(|i| &**i).collect::<Vec<_>>();
    let target = block_on(Target::prepare(inputs, output, options))?;
    let mut notes = Vec::new();
    let sources = Sources::open(inputs, options, progress, &mut notes)?;
    sources.refuse_losses(options.allow_loss)?;
    let report = write_store(&target, sources.input(), options, progress, started);
    let mut report = report.map_err(|e| sources.name(e, target.storage.uri()))?;
    report.notes.extend(notes);
    Ok(report)
}

/// Makes a new store of an input, which is read from these files.
///
/// # Errors
/// As [`convert`].
pub(crate) fn convert_input(
    input: &dyn Input,
    files: &[&Path],
    output: &str,
    options: &ConvertOptions,
    progress: Progress<'_>,
) -> Result<ConvertReport> {
    let started = Instant::now();
    let target = block_on(Target::prepare(files, output, options))?;
    refuse_losses(input.description(), options.allow_loss)?;
    write_store(&target, input, options, progress, started)
}

/// Writes an input into a target. After an error nothing is left, unless it is `commit-outcome-unknown`.
fn write_store(
    target: &Target,
    input: &dyn Input,
    options: &ConvertOptions,
    progress: Progress<'_>,
    started: Instant,
) -> Result<ConvertReport> {
    let job = Job { input, options, place: target.place(), progress };
    let result = block_on(target.begin()).and_then(|()| job.run(target, started));
    match &result {
        Ok(_) => target.committed(),
        // A version may name what was written.
        Err(e) if e.kind() == ErrorKind::CommitOutcomeUnknown => {}
        Err(_) => target.abandon(),
    }
    result
}
