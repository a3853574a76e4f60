//! Conversion: an [`Input`] becomes the tables of a new store and one root manifest.
//!
//! Cells stream through once. Each chunk of a matrix is packed in parallel; packed rows go to
//! `cells` beside the annotations of the same cells, and grow the rows of the current stripe of
//! `by_gene`. Memory holds some chunks and one stripe.

pub(crate) mod cell_names;
pub(crate) mod cells;
pub(crate) mod elsewhere;
mod exact;
mod genes;
pub(crate) mod inputs;
pub(crate) mod job;
mod options;
mod pack;
mod report;
mod slafdb;
mod stripe;
pub(crate) mod survey;
pub(crate) mod target;

pub use options::{ConvertOptions, Durability};
pub use report::ConvertReport;

use crate::progress::Progress;
use crate::store::frames::Categories;
use crate::store::manifest::{
    ArrayEntry, Extras, FORMAT_VERSION, FrameSchema, Manifest, MatrixEntry, MeasuredEntry, NameSegment, Stripe, Tables,
};
use crate::trace::Address;
use cell_names::NamesWriter;
use cells::RowSink;
use job::{Job, tick};
use slaf_core::uri::plain_path;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Description, Input, MatrixKey, OpenOptions, UnionOptions};
use slaf_lance::runtime::block_on;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use target::Target;
use tracing::Instrument;

/// Converts one input, or several into one store; a folder of h5ad files stands for these.
///
/// # Errors
/// Those of reading an input (the location names its file), `already-exists` for a target that
/// exists without `overwrite` (also when another writer makes it meanwhile, or when it holds tables
/// and no root manifest, as a store that is being copied) or holds files that no store names, `conflict` when another writer replaces the store meanwhile, `invalid-argument` for
/// an input inside of the target or a target inside of another store, `would-lose-data` for content that the store cannot hold without
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
    let input_options = OpenOptions { memory: options.memory / 4, ..options.input.clone() };
    let mut opened = Vec::new();
    let mut notes = Vec::new();
    for path in expand(inputs, &mut notes)? {
        tick(progress, "opening", 0, 0)?;
        opened.push((path.display().to_string(), inputs::open_any(&path, &input_options)?));
    }
    let several = opened.len() > 1;
    let (place, input) = match opened.len() {
        0 => return Err(Error::invalid("no input")),
        1 => opened.swap_remove(0),
        _ => {
            let union = UnionOptions {
                join: options.join,
                source_column: options.source_column.clone(),
                fill_layers: options.fill_layers,
            };
            (String::new(), slaf_ingest::union(opened, &union)?)
        }
    };
    refuse_losses(input.description(), options.allow_loss).map_err(|e| if several { e } else { e.at(&place) })?;
    let mut report = write_store(&target, &*input, options, progress, started).map_err(|e| {
        // Errors of reading name elements of the input; those of writing name the store.
        let of_target = e.location().is_some_and(|l| l.starts_with(target.storage.uri()));
        if of_target || several || e.kind() == ErrorKind::Interrupted { e } else { e.at(place) }
    })?;
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

/// The inputs, with the h5ad files of a folder in its place.
pub(crate) fn expand(inputs: &[&Path], notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for &path in inputs {
        match slaf_ingest::h5ads_in(path)? {
            Some((files, others)) => {
                let beside =
                    if others > 0 { format!("; {others} other things in it are no inputs") } else { String::new() };
                notes.push(format!("{}: a folder of {} h5ad files{beside}", path.display(), files.len()));
                all.extend(files);
            }
            None => all.push(path.to_owned()),
        }
    }
    Ok(all)
}

/// Refuses content that the store cannot hold.
pub(crate) fn refuse_losses(description: &Description, allow_loss: bool) -> Result<()> {
    let losses = &description.losses;
    if losses.is_empty() || allow_loss {
        return Ok(());
    }
    let list: Vec<_> = losses.iter().take(5).map(|l| format!("{} ({})", l.path, l.reason)).collect();
    let more = if losses.len() > 5 { format!(" and {} more", losses.len() - 5) } else { String::new() };
    Err(Error::new(
        ErrorKind::WouldLoseData,
        format!("the store cannot hold {}{more}; leave it out with --allow-loss (allow_loss=True)", list.join(", ")),
    ))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What root manifests say wrote them.
pub(crate) fn software() -> String {
    format!("slaf {}", env!("CARGO_PKG_VERSION"))
}

/// The tables and files of a version that is written as a whole.
pub(crate) struct Written {
    pub(crate) tables: Tables,
    pub(crate) obs: FrameSchema,
    pub(crate) var: FrameSchema,
    pub(crate) raw_var: Option<FrameSchema>,
    pub(crate) matrices: Vec<MatrixEntry>,
    pub(crate) arrays: Vec<ArrayEntry>,
    pub(crate) stripes: Vec<Stripe>,
    pub(crate) categories: Option<String>,
    pub(crate) cell_names: Vec<NameSegment>,
    pub(crate) measured: Option<MeasuredEntry>,
    pub(crate) extras: Option<Extras>,
    by_gene_bytes: u64,
    duplicates: u64,
}

impl Job<'_> {
    /// Writes all that the input holds, in one pass over the cells.
    pub(crate) fn write_all(&self) -> Result<Written> {
        let description = self.input.description();
        let mut categories = Categories::new();
        let (order, counts_by_rank) = self.gene_order(&[MatrixKey::X])?;
        let raw_order = match &description.raw_var {
            Some(_) => Some(self.gene_order(&[MatrixKey::RawX])?.0),
            None => None,
        };
        let mut plan = self.new_cells(order, counts_by_rank, raw_order.clone())?;
        plan.names = (description.n_cells > self.options.few_names).then(|| NamesWriter::new(self.place, 0));
        let cells = self.write_cells(plan, &mut categories)?;
        let (cells_table, _) = cells.cells.finish()?;
        let by_gene = cells.by_gene.map(RowSink::finish).transpose()?.map(|(table, _)| table);
        self.tick("genes", description.n_cells)?;
        let genes = self.write_genes(&cells.order, &cells.sums, &mut categories)?;
        let raw_genes = match &raw_order {
            Some(order) => Some(self.write_raw_genes(order, &mut categories)?),
            None => None,
        };
        let categories = self.place.write_categories(&categories)?;
        let measured = self.place.write_measured(description.measured.as_ref())?;
        let extras = self.write_extras()?;
        let mut matrices = cells.matrices;
        matrices.extend(genes.matrices);
        let mut arrays = cells.arrays;
        arrays.extend(genes.arrays);
        let (raw_table, raw_var) = raw_genes.unzip();
        Ok(Written {
            tables: Tables { cells: cells_table, genes: genes.table, by_gene, raw_genes: raw_table },
            obs: cells.obs,
            var: genes.var,
            raw_var,
            matrices,
            arrays,
            stripes: cells.stripes,
            categories,
            cell_names: cells.names,
            measured,
            extras,
            by_gene_bytes: cells.by_gene_bytes,
            duplicates: cells.duplicates,
        })
    }

    fn run(&self, target: &Target, started: Instant) -> Result<ConvertReport> {
        let description = self.input.description();
        let written = self.write_all()?;
        self.tick("committing", description.n_cells)?;
        let mut manifest = Manifest {
            checksum: String::new(),
            format: "slaf".to_string(),
            format_version: FORMAT_VERSION,
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            version: target.version,
            write_id: target.write_id.clone(),
            created: now(),
            created_by: software(),
            operation: "convert".to_string(),
            lineage: Vec::new(),
            tags: BTreeMap::new(),
            expired: Vec::new(),
            n_cells: description.n_cells,
            n_genes: description.n_genes,
            tables: written.tables,
            obs: written.obs,
            var: written.var,
            raw_var: written.raw_var,
            matrices: written.matrices,
            arrays: written.arrays,
            stripes: written.stripes,
            categories: written.categories,
            cell_names: written.cell_names,
            measured: None,
            extras: written.extras,
            files: Vec::new(),
        };
        manifest.set_measured(written.measured);
        let span = tracing::debug_span!("commit", version = manifest.version, cells = manifest.n_cells);
        block_on(target.commit(&mut manifest).instrument(span))?;
        let (by_gene_bytes, duplicates) = (written.by_gene_bytes, written.duplicates);
        Ok(ConvertReport::new(&manifest, description, by_gene_bytes, duplicates, started.elapsed()))
    }
}
