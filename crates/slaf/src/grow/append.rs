//! Cells that are appended: new fragments of `cells`, new stripes of `by_gene`, a new table of genes.
//!
//! What the store and the sources have in common is found by the union that a conversion of all of
//! them would make, so that the answer is that of such a conversion; only the new cells are written.

use super::append_columns::Columns;
use super::index;
use super::labelled::Labelled;
use super::options::{AppendOptions, AppendedSource, GrowOptions, GrowReport};
use super::store_input::{StoreInput, named_once, open_source};
use super::writer::{Head, Next, commit_over};
use crate::config;
use crate::convert::cell_names::NamesWriter;
use crate::convert::cells::{CellsPlan, RowSink};
use crate::convert::job::{Job, tick};
use crate::convert::{ConvertOptions, expand, refuse_losses_of};
use crate::dataset::{Dataset, DatasetOptions};
use crate::progress::Progress;
use crate::reader;
use crate::selection::Selection;
use crate::store::frames::Categories;
use crate::store::manifest::{FrameSchema, NameSegment, SHORT_STRIPES, Stripe};
use crate::store::measured::entry_of;
use crate::store::name_index::{Entries, LONGEST};
use crate::store::schema::by_gene_schema;
use slaf_core::order::GeneOrder;
use slaf_core::{Context, Error, ErrorKind, Result, check_printable};
use slaf_ingest::temporary::TemporaryFolder;
use slaf_ingest::{Appended, Axis, GeneMatch, Input, Join, MatrixKey, OpenOptions, UnionOptions};
use slaf_lance::runtime::block_on;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The obs column that names the input of a cell.
const SOURCE: &str = "source";

/// Appends the cells of files and stores, in one commit.
///
/// Genes are matched by id; new ones come after those that are there. Columns of obs are united: one
/// that a side lacks is missing there, categories are merged, numbers are promoted. A gene that a
/// source does not have is no zero in its cells: [`Dataset::measured`] tells. Arrays of varm are kept where no
/// genes come and no source has one of the name. The cost is that
/// of the new cells, but for columns of obs and obsm whose type changes, which are written anew.
///
/// # Errors
/// `would-lose-data` for what only one side has (layers, obsm) and what cannot be united (raw, graphs, other
/// varm), without `allow_loss`; `invalid-argument` for an inner join that would take genes from the store, for a
/// source that has no gene in common with it or none at all, without `allow_disjoint`, and for a
/// `source_name` with control characters; those of reading the inputs and of writing. After an error
/// nothing is left, unless it is `commit-outcome-unknown`.
pub fn append(
    uri: &str,
    sources: &[&str],
    options: &AppendOptions,
    grow: &GrowOptions,
    progress: Progress<'_>,
) -> Result<GrowReport> {
    let started = Instant::now();
    for name in [&options.source_name, &options.shown].into_iter().flatten() {
        check_printable("the source name (--source-name, source_name=)", name)?;
    }
    let mut notes = Vec::new();
    let own = DatasetOptions { storage_options: grow.storage_options.clone(), ..DatasetOptions::default() };
    let mut paths: Vec<(String, &DatasetOptions)> = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        match source.contains("://") || Path::new(source).join("_slaf").is_dir() {
            true => paths.push((source.to_string(), options.stores.get(&i).unwrap_or(&own))),
            false => {
                let files: Vec<PathBuf> = expand(&[Path::new(source)], &mut notes)?;
                paths.extend(files.iter().map(|f| (f.display().to_string(), &own)));
            }
        }
    }
    if paths.is_empty() {
        return Err(Error::invalid("no input"));
    }
    if options.shown.is_some() && paths.len() > 1 {
        return Err(Error::invalid("several sources cannot be called the same"));
    }
    let operation = match &paths[..] {
        [(one, _)] => format!("append {}", options.shown.as_ref().unwrap_or(one)),
        several => format!("append {} inputs", several.len()),
    };
    let change = |head: &Head<'_>| {
        let appending = Appending { paths: &paths, options, progress };
        appending.next(head).map(|(next, told)| (Some(next), told)).map_err(|e| {
            let names = paths.iter().map(|(path, _)| path.as_str());
            named_once(e, names)
        })
    };
    let (manifest, told) = commit_over(uri, grow, &operation, change)?;
    notes.extend(told.notes);
    let report = GrowReport::new(&manifest, told.written, Vec::new());
    Ok(GrowReport { sources: told.sources, notes, seconds: started.elapsed().as_secs_f64(), ..report })
}

/// What there is to tell of an append.
struct Told {
    written: Vec<String>,
    sources: Vec<AppendedSource>,
    notes: Vec<String>,
}

struct Appending<'a> {
    /// The sources, and how one that is a store is opened.
    paths: &'a [(String, &'a DatasetOptions)],
    options: &'a AppendOptions,
    progress: Progress<'a>,
}

impl Appending<'_> {
    fn next(&self, head: &Head<'_>) -> Result<(Next, Told)> {
        let union = self.union(head)?;
        let before = head.manifest();
        let description = union.description();
        if self.options.join == Join::Inner && description.n_genes < before.n_genes {
            let what = format!(
                "an inner join would take {} genes from the store: take --join reference (join=\"reference\"), or \
                 convert all into a new store",
                before.n_genes - description.n_genes
            );
            return Err(Error::invalid(what));
        }
        if !self.options.allow_disjoint {
            refuse_disjoint(&union)?;
        }
        let options = ConvertOptions {
            allow_loss: self.options.allow_loss,
            memory: self.options.memory,
            ..ConvertOptions::default()
        };
        let advice = "--allow-loss (allow_loss=True) appends without it, and the versions before keep it";
        refuse_losses_of("the version with the new cells", advice, description, self.options.allow_loss)?;
        let mut next = head.next();
        // An earlier try may have left one.
        block_on(head.storage().remove(&head.place().table("genes")))?;
        let mut growth = head.grow(&before.tables.cells)?;
        let mut columns = Columns::find(head, &union, &growth.columns())?;
        // Those of all categoricals are given by the union.
        let mut categories = Categories::new();
        growth.retain(&columns.kept(before));
        columns.write(head, &union, &mut growth, &mut categories, self.progress)?;
        let counts = match description.matrices.first() {
            Some(m) => union.column_counts(&m.key)?,
            None => vec![0; description.n_genes as usize],
        };
        let order = extended(&*block_on(head.snapshot.order())?, &counts)?;
        let counts_by_rank = order.gene_of.iter().map(|&g| counts[g as usize]).collect();
        let (names, segments) = self.index_names(head, description.n_cells, options.few_names)?.unzip();
        let segments = segments.unwrap_or_default();
        let mut plan = CellsPlan {
            obs: columns.obs.clone(),
            arrays: columns.arrays.clone(),
            matrices: columns.matrices.clone(),
            order,
            counts_by_rank,
            raw_order: None,
            cells: None,
            by_gene: None,
            names,
            first_row: before.tables.by_gene.as_ref().map_or(0, |t| t.rows),
            first_cell: 0,
        };
        growth.begin_rows(&plan.schema(), config::fragment_rows())?;
        plan.cells = Some(RowSink::More(Box::new(growth)));
        // Without X there is nothing to hold gene-major.
        let has_x = description.matrices.iter().any(|m| m.key == MatrixKey::X);
        if let Some(entry) = before.tables.by_gene.as_ref().filter(|_| has_x) {
            let mut growth = head.grow(entry)?;
            growth.begin_rows(&by_gene_schema(), config::fragment_rows())?;
            plan.by_gene = Some(RowSink::More(Box::new(growth)));
        }
        let job = Job { input: &union, options: &options, place: head.place(), progress: self.progress };
        let cells = job.write_cells(plan, &mut categories)?;
        put_names(head, &mut next, segments, &cells.names);
        self.put(head, &job, &columns, cells, &mut next, categories)?;
        self.put_measured(head, &union, &mut next)?;
        self.put_uns(head, &union, &mut next)?;
        tick(self.progress, "committing", description.n_cells, description.n_cells)?;
        let sources = union.sources().zip(union.matches());
        let told = Told {
            written: vec![format!("{} cells", description.n_cells)],
            sources: sources.map(|((name, input), genes)| source_of(name, input, genes)).collect(),
            notes: description.notes.clone(),
        };
        Ok((next, told))
    }

    /// The cells of the sources as they follow those of the store.
    fn union(&self, head: &Head<'_>) -> Result<Appended> {
        let store = StoreInput::new(Dataset::of(head.snapshot.clone()))?;
        let labelled = store.description().obs.columns.iter().any(|c| c.name == SOURCE);
        let open = OpenOptions { memory: self.options.memory / 4, ..self.options.input.clone() };
        let mut sources: Vec<(String, Box<dyn Input>)> = Vec::new();
        for (path, store) in self.paths {
            let input = open_source(path, &open, store)?;
            let shown = self.options.shown.as_ref().unwrap_or(path);
            let has_own = input.description().obs.columns.iter().any(|c| c.name == SOURCE);
            let input = match &self.options.source_name {
                Some(_) if has_own => {
                    let what = format!("obs has a column \"{SOURCE}\" already, and source_name would replace it");
                    return Err(Error::invalid(what).at(path));
                }
                Some(name) => Box::new(Labelled::new(input, SOURCE, name)),
                None if labelled && !has_own => Box::new(Labelled::new(input, SOURCE, shown)),
                None => input,
            };
            sources.push((shown.clone(), input));
        }
        let union =
            UnionOptions { join: self.options.join, source_column: None, fill_layers: self.options.fill_layers };
        slaf_ingest::append(("the store".to_string(), Box::new(store)), sources, &union)
    }

    /// Where the names of the new cells are indexed, and the segments before them, where the next
    /// version has an index. Short segments at the end are written anew with the new cells, so that
    /// there are never many.
    fn index_names<'a>(
        &self,
        head: &'a Head<'_>,
        n_new: u64,
        few: u64,
    ) -> Result<Option<(NamesWriter<'a>, Vec<NameSegment>)>> {
        let before = head.manifest();
        let mut segments = before.cell_names.clone();
        if segments.is_empty() {
            // Of a store without one, only few names are read.
            if before.n_cells > few || before.n_cells + n_new <= few {
                return Ok(None);
            }
            let mut writer = NamesWriter::new(head.place(), 0);
            let names = block_on(head.snapshot.ids(Axis::Cells))?;
            writer.push(names.iter().flatten())?;
            return Ok(Some((writer, segments)));
        }
        let (mut total, mut merged) = (n_new, Vec::new());
        while let Some(last) = segments.pop_if(|s| s.n_rows / 2 < total && s.n_rows + total <= LONGEST) {
            total += last.n_rows;
            merged.push(last);
        }
        let mut writer = NamesWriter::new(head.place(), before.n_cells + n_new - total);
        for segment in merged.iter().rev() {
            let bytes = block_on(head.snapshot.read_file(&segment.path))?;
            let entries = Entries::from_bytes(&bytes, segment);
            writer.extend(entries.at(head.storage().full(&segment.path))?);
        }
        Ok(Some((writer, segments)))
    }

    /// Puts what was written into the next version.
    fn put(
        &self,
        head: &Head<'_>,
        job: &Job<'_>,
        columns: &Columns,
        cells: crate::convert::cells::CellsWritten,
        next: &mut Next,
        mut categories: Categories,
    ) -> Result<()> {
        let before = head.manifest();
        let (n_old, description) = (before.n_cells, job.input.description());
        // Sums over the cells that were there.
        let mut sums = cells.sums;
        let stats = Dataset::of(head.snapshot.clone()).gene_stats()?;
        for gene in 0..before.n_genes as usize {
            let rank = cells.order.rank_of[gene] as usize;
            sums.n_cells[rank] += stats.n_cells[gene];
            sums.total[rank] += stats.total[gene];
        }
        let genes = job.write_genes(&cells.order, &sums, &mut categories)?;
        let (entry, files) = cells.cells.finish()?;
        let entry = next.grown(slaf_lance::Grown { entry, files: files.unwrap_or_default() });
        let by_gene = match cells.by_gene {
            Some(sink) => {
                let (entry, files) = sink.finish()?;
                Some(next.grown(slaf_lance::Grown { entry, files: files.unwrap_or_default() }))
            }
            None => None,
        };
        next.replace_table(head.storage(), &before.tables.genes.path, &genes.table.path)?;
        if let Some(raw) = &before.tables.raw_genes {
            next.forget_table(&raw.path);
        }
        let mut matrices = Vec::new();
        for mut entry in cells.matrices {
            let old = before.matrices.iter().find(|m| m.slot == entry.slot && m.name == entry.name);
            if let Some(old) = old {
                let dtype = old.dtype.promote(entry.dtype);
                if dtype.is_float() && !old.dtype.is_float() && !self.options.allow_loss {
                    refuse_rounding(head, &old.key())?;
                }
                entry.dtype = dtype;
                entry.encoding = old.encoding;
                entry.nnz += old.nnz;
                // Cells that were there have empty rows for genes that came.
                entry.bytes += old.bytes;
            }
            entry.bytes += columns.filled_bytes(&entry.column);
            entry.n_rows = n_old + description.n_cells;
            matrices.push(entry);
        }
        if by_gene.is_none() {
            before.tables.by_gene.iter().for_each(|table| next.forget_table(&table.path));
            next.manifest().stripes.clear();
        }
        let manifest = next.manifest();
        manifest.n_cells = n_old + description.n_cells;
        manifest.n_genes = description.n_genes;
        manifest.tables.cells = entry;
        manifest.tables.genes = genes.table;
        manifest.tables.by_gene = by_gene;
        manifest.tables.raw_genes = None;
        manifest.raw_var = None;
        manifest.obs = FrameSchema { index_name: before.obs.index_name.clone(), ..cells.obs };
        manifest.var = genes.var;
        manifest.matrices = matrices;
        manifest.matrices.extend(genes.matrices);
        manifest.arrays = cells.arrays;
        manifest.arrays.extend(genes.arrays);
        // An array of genes is there if no genes came.
        index::follow_genes(before, manifest);
        let stripes = cells.stripes.into_iter().map(|s| Stripe { first_cell: s.first_cell + n_old, ..s });
        manifest.stripes.extend(stripes.filter(|_| manifest.tables.by_gene.is_some()));
        let is_short = manifest.stripes.iter().any(|s| s.n_genes < description.n_genes);
        if is_short && !manifest.reader_features.iter().any(|f| f == SHORT_STRIPES) {
            manifest.reader_features.push(SHORT_STRIPES.to_string());
        }
        super::add::write_categories(head, next, categories)
    }

    /// Says which genes were measured in the cells that come, and in those that were there.
    fn put_measured(&self, head: &Head<'_>, union: &Appended, next: &mut Next) -> Result<()> {
        let before = head.manifest();
        let mut measured = union.measured().clone();
        if let Some(name) = &self.options.source_name {
            measured.rename_from(before.n_cells, name);
        }
        let old = block_on(head.snapshot.measured())?.zip(before.measured.as_ref());
        // Where no set came, the file goes on: its columns are the sets in their order.
        let same =
            old.filter(|(old, entry)| old.sets() == measured.sets() && **entry == entry_of(old, entry.path.clone()));
        let entry = match same {
            Some((_, entry)) => Some(entry_of(&measured, entry.path.clone())),
            None => {
                let entry = head.place().write_measured(Some(&measured))?;
                let old_path = old.map(|(_, entry)| entry.path.as_str());
                next.replace_file(old_path, entry.as_ref().map(|e| e.path.as_str()));
                entry
            }
        };
        next.manifest().set_measured(entry);
        Ok(())
    }

    /// Keeps what `uns` of the sources has and the store has not, and says where zeros stand for no values.
    fn put_uns(&self, head: &Head<'_>, union: &Appended, next: &mut Next) -> Result<()> {
        let old = head.manifest().extras.clone();
        let before = match &old {
            Some(old) => Some(block_on(head.snapshot.read_file(&old.path))?.to_vec()),
            None => None,
        };
        let folder = TemporaryFolder::new_in(&std::env::temp_dir())?;
        let appended = union.append_uns(before.clone(), folder.path())?;
        if appended.is_none() && old.as_ref().is_none_or(|old| old.elements.iter().all(|e| e == "uns")) {
            return Ok(());
        }
        // Elements that cannot be united are gone.
        let dropped: Vec<String> = old.iter().flat_map(|e| e.elements.clone()).collect();
        // The file may hold elements of other slots alone.
        let has_uns = appended.is_some() || dropped.iter().any(|e| e == "uns");
        let elements = ["uns".to_string()];
        let added = appended.or(before).filter(|_| has_uns).map(|bytes| (bytes, &elements[..]));
        super::add::replace_extras(head, next, &dropped, added)
    }
}

/// Refuses a source none of whose genes the store has: mostly they have other names.
fn refuse_disjoint(union: &Appended) -> Result<()> {
    for ((name, input), genes) in union.sources().zip(union.matches()) {
        let n_genes = genes.matched + genes.new + genes.left_out;
        if genes.matched > 0 || (n_genes == 0 && input.description().n_cells == 0) {
            continue;
        }
        let what = match (&genes.example, union.example()) {
            (None, None) => continue,
            (None, Some(_)) => {
                "it has no genes, and the store has: allow_disjoint=True (--allow-disjoint) appends its cells without \
                 values"
                    .to_string()
            }
            (Some(_), None) => format!(
                "it has {n_genes} genes, and the store has none: allow_disjoint=True (--allow-disjoint) appends them"
            ),
            (Some(own), Some(of_store)) => format!(
                "none of its {n_genes} genes is in the store, whose genes are called like \"{of_store}\", and its own \
                 like \"{own}\": give both the same names, or the same ids in var[\"gene_ids\"]; allow_disjoint=True \
                 (--allow-disjoint) appends them as other genes"
            ),
        };
        return Err(Error::invalid(what).at(name));
    }
    Ok(())
}

fn source_of(name: &str, input: &dyn Input, genes: &GeneMatch) -> AppendedSource {
    AppendedSource {
        name: name.to_string(),
        n_cells: input.description().n_cells,
        genes_matched: genes.matched,
        genes_new: genes.new,
        genes_left_out: genes.left_out,
        genes_lacking: genes.lacking,
    }
}

/// Names the segments of the index of names: those that stay, and new ones.
fn put_names(head: &Head<'_>, next: &mut Next, kept: Vec<NameSegment>, written: &[NameSegment]) {
    for old in head.manifest().cell_names.iter().filter(|s| !kept.contains(s)) {
        next.replace_file(Some(&old.path), None);
    }
    for new in written {
        next.replace_file(None, Some(&new.path));
    }
    next.manifest().cell_names = [kept, written.to_vec()].concat();
}

/// The order of the genes with those that come: the next ranks, by popularity.
fn extended(order: &GeneOrder, counts: &[u64]) -> Result<GeneOrder> {
    let n_old = order.rank_of.len();
    let of_new = GeneOrder::by_popularity(&counts[n_old.min(counts.len())..]);
    let ranks = order.rank_of.iter().copied().chain(of_new.rank_of.iter().map(|r| r + n_old as u32));
    GeneOrder::from_ranks(ranks.collect()).ok_or_else(|| Error::new(ErrorKind::Internal, "ranks of new genes"))
}

/// Refuses integers of the store that floats of the new cells would round.
fn refuse_rounding(head: &Head<'_>, key: &MatrixKey) -> Result<()> {
    for chunk in reader::stream(&head.snapshot, key, &Selection::All, &Selection::All, config::batch_rows())? {
        if chunk?.values.first_rounded(slaf_core::Dtype::F64).is_some() {
            let what = "the store has integers that would be rounded: the new cells have fractions; round with \
                        --allow-loss (allow_loss=True)";
            return Err(Error::new(ErrorKind::WouldLoseData, what).at(key));
        }
    }
    Ok(())
}
