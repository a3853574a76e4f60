//! All of a version written anew, into new tables, by the pass of a conversion: without some cells
//! (`delete_cells`, `filter`), or without what many small changes left behind (`optimize`).

use super::index::indexed;
use super::options::{GrowOptions, GrowReport};
use super::store_input::StoreInput;
use super::writer::{Head, Next, commit_over};
use crate::convert::job::{Job, tick};
use crate::convert::{ConvertOptions, ConvertReport, convert_input, refuse_losses, survey};
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::query::Cancel;
use crate::selection::Selection;
use crate::store::manifest::Manifest;
use slaf_core::Result;
use slaf_ingest::{Axis, Input};
use slaf_lance::runtime::block_on;
use std::path::Path;
use std::time::Instant;

/// How to write a version anew.
#[derive(Clone, Debug)]
pub struct RewriteOptions {
    /// Leave out what cannot be written for some cells only, instead of failing.
    pub allow_loss: bool,
    /// Bytes that may be held, about.
    pub memory: usize,
}

impl Default for RewriteOptions {
    fn default() -> Self {
        RewriteOptions { allow_loss: false, memory: 1 << 30 }
    }
}

/// Takes the cells for which a condition in SQL holds out of the next version. The others are written
/// anew, in one commit; older versions have all, until [`gc`](super::gc) removes these.
///
/// The condition is asked of the newest version. A cell for which it is null stays. Where it holds for
/// no cell, there is no next version.
///
/// # Errors
/// Those of the query; `would-lose-data` for frames of obsm, which are kept as they came, without
/// `allow_loss`; those of writing. After an error nothing is left, unless it is
/// `commit-outcome-unknown`.
pub fn delete_cells(
    uri: &str,
    condition: &str,
    options: &RewriteOptions,
    grow: &GrowOptions,
    progress: Progress<'_>,
) -> Result<GrowReport> {
    let started = Instant::now();
    let change = |head: &Head<'_>| {
        let dataset = Dataset::of(head.snapshot.clone());
        let gone = dataset.rows_where(Axis::Cells, condition, &Cancel::default())?;
        if gone.is_empty() {
            return Ok((None, (0, Vec::new())));
        }
        let kept = (0..dataset.n_cells()).filter(|cell| gone.binary_search(cell).is_err()).collect();
        let input = StoreInput::of_cells(dataset, Selection::Ids(kept))?;
        Ok((Some(rewrite(head, &input, options, progress)?), (gone.len(), indexed(head.manifest()))))
    };
    let (manifest, (gone, indexed)) = commit_over(uri, grow, &format!("delete cells where {condition}"), change)?;
    let (written, removed) = match gone {
        0 => (Vec::new(), Vec::new()),
        n => (vec![format!("{} cells", manifest.n_cells)], vec![format!("{n} cells")]),
    };
    let mut notes = Vec::new();
    if gone == 0 {
        notes.push("no cell fulfils the condition: nothing was written".to_string());
    }
    if !indexed.is_empty() {
        notes.push(format!("the index of {} went with the numbers of the cells: make it again", indexed.join(", ")));
    }
    let report = GrowReport::new(&manifest, written, removed);
    Ok(GrowReport { notes, seconds: started.elapsed().as_secs_f64(), ..report })
}

/// Makes a new store of the cells for which a condition in SQL holds.
///
/// # Errors
/// Those of the query; `would-lose-data` for frames of obsm, which are kept as they came, without
/// `allow_loss`; those of [`convert`](crate::convert()) for the target.
pub fn filter(
    dataset: &Dataset,
    condition: &str,
    target: &str,
    options: &ConvertOptions,
    progress: Progress<'_>,
) -> Result<ConvertReport> {
    let cells = dataset.rows_where(Axis::Cells, condition, &Cancel::default())?;
    let is_all = cells.len() as u64 == dataset.n_cells();
    let has_by_gene = dataset.manifest().tables.by_gene.is_some();
    let options = ConvertOptions { by_gene: options.by_gene && has_by_gene, ..options.clone() };
    let input = StoreInput::of_cells(dataset.clone(), if is_all { Selection::All } else { Selection::Ids(cells) })?;
    let is_local = !dataset.uri().contains("://");
    let files: Vec<&Path> = is_local.then(|| Path::new(dataset.uri())).into_iter().collect();
    convert_input(&input, &files, target, &options, progress)
}

/// Writes all of the next version.
pub(super) fn rewrite(
    head: &Head<'_>,
    input: &dyn Input,
    options: &RewriteOptions,
    progress: Progress<'_>,
) -> Result<Next> {
    refuse_losses(input.description(), options.allow_loss)?;
    // An earlier try may have left some.
    for table in survey::TABLES {
        block_on(head.storage().remove(&head.place().table(table)))?;
    }
    let options = ConvertOptions {
        by_gene: head.manifest().tables.by_gene.is_some(),
        allow_loss: options.allow_loss,
        memory: options.memory,
        few_names: if head.manifest().cell_names.is_empty() { ConvertOptions::default().few_names } else { 0 },
        ..ConvertOptions::default()
    };
    let job = Job { input, options: &options, place: head.place(), progress };
    let written = job.write_all()?;
    let (n_cells, n_genes) = (input.description().n_cells, input.description().n_genes);
    tick(progress, "committing", n_cells, n_cells)?;
    let mut next = head.next();
    let manifest = next.manifest();
    *manifest = Manifest {
        // What only grown tables need.
        reader_features: Vec::new(),
        n_cells,
        n_genes,
        tables: written.tables,
        obs: written.obs,
        var: written.var,
        raw_var: written.raw_var,
        matrices: written.matrices,
        arrays: written.arrays,
        stripes: written.stripes,
        categories: written.categories,
        cell_names: written.cell_names,
        indexes: Vec::new(),
        extras: written.extras,
        ..manifest.clone()
    };
    manifest.set_measured(written.measured);
    next.replace_all(head.storage())?;
    Ok(next)
}
