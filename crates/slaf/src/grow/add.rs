//! New columns, layers, embeddings, graphs and `uns`, of an input that has the cells and genes of
//! the store.

use super::options::{Base, GrowOptions, GrowReport};
use super::slots::{Slot, categoricals, check_column_name, fingerprints, frame_mut, put_array, put_column, put_matrix};
use super::table::AnnotationTable;
use super::writer::{Head, Next, commit_over};
use crate::config;
use crate::convert::cells::{Packing, array_columns, frame_columns};
use crate::convert::job::tick;
use crate::convert::refuse_losses;
use crate::progress::Progress;
use crate::store::fields::{array_fields, frame_fields};
use crate::store::frames::Categories;
use crate::store::kinds::Named;
use crate::store::manifest::{ArrayEntry, FrameSchema, Manifest, TableEntry};
use crate::store::{Snapshot, versions};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::temporary::TemporaryFolder;
use slaf_ingest::{
    Axis, Description, Frame, FrameInfo, Input, MatrixInfo, MatrixKey, OpenOptions, frame_rows, join_extras,
};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::block_on;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What is added.
#[derive(Clone, Debug)]
pub enum Additions<'a> {
    /// All that a file of any format holds but X and raw; its cells and genes are those of the store,
    /// in the same order.
    File(&'a Path),
    /// Columns of obs or var.
    Table(&'a AnnotationTable),
}

/// How to add.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// Replace what has the same name.
    pub overwrite: bool,
    /// Take cells and genes by their places, whatever their names are.
    pub by_position: bool,
    /// Leave out what the store cannot hold instead of failing.
    pub allow_loss: bool,
    /// Slots that the next version does not have, `obs/cell_type` for example.
    pub drop: Vec<String>,
    /// Refuse to replace, or to drop, what others have changed since `base` of the options of growth.
    pub keep_changes: bool,
    /// Bytes that may be held, about.
    pub memory: usize,
}

impl Default for AddOptions {
    fn default() -> Self {
        AddOptions {
            overwrite: false,
            by_position: false,
            allow_loss: false,
            drop: Vec::new(),
            keep_changes: false,
            memory: 1 << 30,
        }
    }
}

/// Adds to a store, in one commit. Nothing that is there is read or rewritten but the small files
/// of categories and of `uns`.
///
/// # Errors
/// `already-exists` for names that are taken, without `overwrite`; `invalid-argument` where cells or
/// genes are others than those of the store; `would-lose-data` for content that the store cannot
/// hold without `allow_loss`; `conflict` if rows by position, `uns`, or with `keep_changes` what is replaced or dropped, are others
/// than in `grow.base`; those of reading the input and of writing. After an error nothing is left, unless it is `commit-outcome-unknown`.
pub fn add(
    uri: &str,
    additions: &Additions<'_>,
    options: &AddOptions,
    grow: &GrowOptions,
    progress: Progress<'_>,
) -> Result<GrowReport> {
    let started = Instant::now();
    let file: Option<Box<dyn Input>> = match additions {
        Additions::File(path) => {
            let open = OpenOptions { memory: options.memory / 4, ..OpenOptions::default() };
            Some(slaf_ingest::open(path, &open)?)
        }
        Additions::Table(_) => None,
    };
    let operation = match (&file, additions) {
        (Some(input), _) => described(&Slot::of_input(input.description())),
        (None, Additions::Table(table)) => described(&table.slots()),
        (None, Additions::File(_)) => String::new(),
    };
    let change = |head: &Head<'_>| {
        let aligned;
        let (input, by_position): (&dyn Input, bool) = match (&file, additions) {
            (None, Additions::Table(table)) => {
                aligned = table.align(&head.snapshot)?;
                (&aligned, true)
            }
            (Some(input), _) => (&**input, options.by_position),
            (None, Additions::File(_)) => return Err(Error::new(ErrorKind::Internal, "a file that was not opened")),
        };
        let adding = Adding { input, by_position, options, base: grow.base.as_ref(), progress };
        adding.next(head).map(|(next, told)| (Some(next), told))
    };
    let (manifest, (written, removed)) = commit_over(uri, grow, &operation, change)?;
    Ok(GrowReport { seconds: started.elapsed().as_secs_f64(), ..GrowReport::new(&manifest, written, removed) })
}

/// Refuses rows by position if they are others than they were.
fn check_unmoved(head: &Head<'_>, axes: &[Axis], base: &Base) -> Result<()> {
    let (storage, number) = (head.storage(), base.version);
    let moved = || {
        let what = format!("cells or genes are others than in version {number}: nothing was written; open it again");
        Error::new(ErrorKind::Conflict, what).at(storage.uri())
    };
    let before = match block_on(Snapshot::open(storage.clone(), Some(number), false)) {
        Ok(before) if before.manifest.write_id == base.write_id => before,
        Ok(_) => return Err(moved()),
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(moved()),
        Err(e) => return Err(e),
    };
    for &axis in axes {
        let there = block_on(head.snapshot.ids(axis))?;
        if !block_on(before.ids(axis))?.iter().eq(there.iter()) {
            return Err(moved());
        }
    }
    Ok(())
}

/// Refuses to replace or drop slots that are others than they were.
fn refuse_changed(head: &Head<'_>, names: impl Iterator<Item = String>, base: &Base) -> Result<()> {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    let number = base.version;
    let changed = |what: &str| {
        let what = format!(
            "{what} since version {number}: nothing was written; open the store again, and repeat the change on what \
             is there now"
        );
        Error::new(ErrorKind::Conflict, what).at(head.storage().uri())
    };
    let before = match block_on(versions::read(head.storage(), number)) {
        Ok(before) if before.write_id == base.write_id => before,
        Ok(_) => return Err(changed("the store was replaced")),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(changed("gc removed the version that the change was made for, and others changed the store"));
        }
        Err(e) => return Err(e),
    };
    let (then, now) = (fingerprints(&before), fingerprints(head.manifest()));
    match names.iter().find(|name| then.get(*name) != now.get(*name)) {
        Some(name) => Err(changed(&format!("others changed {name}"))),
        None => Ok(()),
    }
}

/// What a version tells of the change that made it.
fn described(slots: &[Slot]) -> String {
    let names: Vec<String> = slots.iter().take(5).map(Slot::shown).collect();
    let more = if slots.len() > 5 { format!(" and {} more", slots.len() - 5) } else { String::new() };
    format!("add {}{more}", names.join(", "))
}

struct Adding<'a> {
    input: &'a dyn Input,
    by_position: bool,
    options: &'a AddOptions,
    base: Option<&'a Base>,
    progress: Progress<'a>,
}

/// What a version has, and what of it replaces something.
type Told = (Vec<String>, Vec<String>);

impl Adding<'_> {
    /// The next version, what it has, and what it replaces.
    fn next(&self, head: &Head<'_>) -> Result<(Next, Told)> {
        let description = self.input.description();
        let slots = Slot::of_input(description);
        self.check(head, &slots)?;
        tick(self.progress, "adding", 0, head.manifest().n_cells)?;
        let unwanted = self.options.drop.iter().map(|name| Slot::find(head.manifest(), name));
        let unwanted = unwanted.collect::<Result<Vec<_>>>()?;
        let taken = Slot::all(head.manifest()).into_iter().filter(|t| !unwanted.contains(t));
        let replaced: Vec<Slot> = taken.filter(|t| slots.iter().any(|s| s.shown() == t.shown())).collect();
        if let Some(slot) = replaced.first().filter(|_| !self.options.overwrite) {
            let what = format!(
                "the store has {} already; choose another name, or replace it with --overwrite (overwrite=True)",
                slot.shown()
            );
            return Err(Error::new(ErrorKind::AlreadyExists, what));
        }
        let mut next = head.next();
        let mut categories = block_on(head.snapshot.categories())?.clone();
        // What is replaced by another kind goes; one of the same kind keeps its place.
        for slot in replaced.iter().filter(|s| !slots.contains(s)).chain(&unwanted) {
            slot.remove_from(next.manifest());
        }
        for axis in [Axis::Cells, Axis::Genes] {
            self.grow(head, axis, &mut next, &mut categories)?;
        }
        write_categories(head, &mut next, categories)?;
        let gone: Vec<Slot> = replaced.into_iter().chain(unwanted).collect();
        let dropped: Vec<String> = gone.iter().filter(|s| matches!(s, Slot::Extra(_))).map(Slot::shown).collect();
        if !description.extras.is_empty() || !dropped.is_empty() {
            self.write_extras(head, &mut next, &dropped)?;
        }
        tick(self.progress, "committing", head.manifest().n_cells, head.manifest().n_cells)?;
        let shown = |slots: &[Slot]| slots.iter().map(Slot::shown).collect();
        Ok((next, (shown(&slots), shown(&gone))))
    }

    fn check(&self, head: &Head<'_>, slots: &[Slot]) -> Result<()> {
        let (description, manifest) = (self.input.description(), head.manifest());
        if description.raw_var.is_some()
            || description.matrices.iter().any(|m| matches!(m.key, MatrixKey::X | MatrixKey::RawX))
        {
            return Err(Error::invalid("X and raw of a store stay as they are: add X as a layer, or convert again"));
        }
        refuse_losses(description, self.options.allow_loss)?;
        if slots.is_empty() && self.options.drop.is_empty() {
            return Err(Error::invalid("there is nothing to add"));
        }
        for slot in slots {
            if let Slot::Column(_, name) = slot {
                check_column_name(name)?;
            }
        }
        let mut by_position = Vec::new();
        for (axis, n, there) in
            [(Axis::Cells, description.n_cells, manifest.n_cells), (Axis::Genes, description.n_genes, manifest.n_genes)]
        {
            if !uses(description, axis) {
                continue;
            }
            if n != there {
                return Err(Error::invalid(format!("{n} {}, but the store has {there}", axis.word())));
            }
            match self.by_position {
                true => by_position.push(axis),
                false => self.check_names(head, axis).at(axis)?,
            }
        }
        let Some(base) = self.base.filter(|b| b.write_id != manifest.write_id) else { return Ok(()) };
        if !by_position.is_empty() {
            check_unmoved(head, &by_position, base)?;
        }
        let names = slots.iter().map(Slot::shown).chain(self.options.drop.iter().cloned());
        // `uns` is replaced as a whole.
        let names = names.filter(|name| self.options.keep_changes || name == "uns");
        refuse_changed(head, names, base)
    }

    /// Refuses other cells or genes than those of the store, or the same in another order.
    fn check_names(&self, head: &Head<'_>, axis: Axis) -> Result<()> {
        let there = block_on(head.snapshot.ids(axis))?;
        let here = match axis {
            Axis::Cells => self.input.obs(0..there.len() as u64)?,
            Axis::Genes => self.input.var()?,
        };
        let differs = here.index.iter().zip(there.iter()).position(|(a, b)| Some(a.as_str()) != b);
        if let Some(row) = differs {
            let what = format!(
                "row {row} is \"{}\", but \"{}\" in the store: bring the rows into the order of the store",
                here.index[row],
                there.value(row)
            );
            return Err(Error::invalid(what));
        }
        Ok(())
    }

    /// Adds what the input has along an axis.
    fn grow(&self, head: &Head<'_>, axis: Axis, next: &mut Next, categories: &mut Categories) -> Result<()> {
        let description = self.input.description();
        let (info, entry, prefixes) = match axis {
            Axis::Cells => (&description.obs, &head.manifest().tables.cells, ["o", "m"]),
            Axis::Genes => (&description.var, &head.manifest().tables.genes, ["v", "w"]),
        };
        if !has_values(description, axis) {
            self.put_empty_arrays(axis, next);
            return Ok(());
        }
        let mut growth = head.grow(entry)?;
        let mut ids = Ids::new(growth.columns(), head.manifest());
        let mut frame = FrameSchema::new(info, prefixes[0]);
        frame.columns.iter_mut().for_each(|c| c.id = ids.next(prefixes[0]));
        let of_axis = description.arrays.iter().filter(|a| a.key.axis == axis);
        let arrays: Vec<ArrayEntry> = of_axis
            .map(|a| ArrayEntry {
                axis,
                name: a.key.name.clone(),
                column: (a.n_cols > 0).then(|| ids.next(prefixes[1])),
                dtype: a.dtype,
                width: a.n_cols,
            })
            .collect();
        let mut packings = Vec::new();
        for info in matrices_of(description, axis) {
            let column = ids.next(match info.key {
                MatrixKey::Obsp(_) => "p",
                MatrixKey::Varp(_) => "q",
                _ => "l",
            });
            let (memory, allow_loss) = (self.options.memory, self.options.allow_loss);
            packings.push((info.key.clone(), Packing::new(self.input, info, column, memory, allow_loss)?));
        }
        let mut fields = frame_fields(&frame);
        fields.extend(array_fields(&arrays));
        fields.extend(packings.iter().map(|(_, p)| p.field()));
        let schema = Arc::new(Schema::new(fields.clone()));
        let var = if axis == Axis::Genes { Some(self.input.var()?) } else { None };
        // Names the categories also where there are no rows.
        frame_columns(&frame, &self.rows(var.as_ref(), 0..0)?, categories, 0..0).at(axis)?;
        let order = block_on(head.snapshot.order())?;
        growth.add_columns(&fields, config::batch_rows(), |rows| {
            tick(self.progress, "adding", rows.start, entry.rows)?;
            let given = self.rows(var.as_ref(), rows.clone())?;
            let mut columns = frame_columns(&frame, &given, categories, rows.clone()).at(axis)?;
            columns.extend(array_columns(self.input, &arrays, rows.clone())?);
            for (key, packing) in &mut packings {
                let order = matches!(key, MatrixKey::Layer(_)).then_some(&order.rank_of[..]);
                columns.push(packing.next_column((rows.end - rows.start) as usize, order)?);
            }
            RecordBatch::try_new(schema.clone(), columns).map_err(from_arrow)
        })?;
        let grown: TableEntry = next.grown(growth.commit()?);
        let manifest = next.manifest();
        match axis {
            Axis::Cells => manifest.tables.cells = grown,
            Axis::Genes => manifest.tables.genes = grown,
        }
        frame.columns.into_iter().for_each(|c| put_column(frame_mut(manifest, axis), c));
        arrays.into_iter().for_each(|a| put_array(&mut manifest.arrays, a));
        packings.iter().for_each(|(_, p)| put_matrix(&mut manifest.matrices, p.entry()));
        Ok(())
    }

    /// Arrays without columns are in no table.
    fn put_empty_arrays(&self, axis: Axis, next: &mut Next) {
        for a in self.input.description().arrays.iter().filter(|a| a.key.axis == axis) {
            let entry = ArrayEntry { axis, name: a.key.name.clone(), column: None, dtype: a.dtype, width: 0 };
            put_array(&mut next.manifest().arrays, entry);
        }
    }

    /// Rows of the frame of an axis: those of `var` if it is that one.
    fn rows(&self, var: Option<&Frame>, rows: Range<u64>) -> Result<Frame> {
        match var {
            Some(var) => frame_rows(var, rows),
            None => self.input.obs(rows),
        }
    }

    /// Writes the elements that no table holds: those that stay, and those of the input.
    fn write_extras(&self, head: &Head<'_>, next: &mut Next, dropped: &[String]) -> Result<()> {
        let folder = TemporaryFolder::new_in(&std::env::temp_dir())?;
        let added = folder.path().join("added.h5");
        self.input.write_extras(&added)?;
        let added = std::fs::read(&added).at(added.display())?;
        replace_extras(head, next, dropped, Some((added, &self.input.description().extras)))
    }
}

/// Writes the file of extras anew: without some elements, and with others.
pub(super) fn replace_extras(
    head: &Head<'_>,
    next: &mut Next,
    dropped: &[String],
    added: Option<(Vec<u8>, &[String])>,
) -> Result<()> {
    let mut parts = Vec::new();
    let old = head.manifest().extras.clone();
    if let Some(old) = &old {
        let kept: Vec<String> = old.elements.iter().filter(|e| !dropped.contains(e)).cloned().collect();
        if !kept.is_empty() {
            parts.push((block_on(head.snapshot.read_file(&old.path))?.to_vec(), kept));
        }
    }
    parts.extend(added.map(|(bytes, elements)| (bytes, elements.to_vec())).filter(|(_, e)| !e.is_empty()));
    let elements: Vec<String> = parts.iter().flat_map(|(_, elements)| elements.clone()).collect();
    let new = match parts.is_empty() {
        true => None,
        false => {
            let folder = TemporaryFolder::new_in(&std::env::temp_dir())?;
            let file = folder.path().join("extras.h5");
            join_extras(parts, &file)?;
            Some(head.place().write_extras(elements, &file)?)
        }
    };
    next.replace_file(old.as_ref().map(|e| e.path.as_str()), new.as_ref().map(|e| e.path.as_str()));
    next.manifest().extras = new;
    Ok(())
}

/// Writes the categories anew, if they are others than before.
pub(super) fn write_categories(head: &Head<'_>, next: &mut Next, mut categories: Categories) -> Result<()> {
    let wanted = categoricals(next.manifest());
    categories.retain(|id, _| wanted.contains(&id.as_str()));
    let before = block_on(head.snapshot.categories())?;
    if *before == categories {
        return Ok(());
    }
    let path = head.place().write_categories(&categories)?;
    next.replace_file(head.manifest().categories.as_deref(), path.as_deref());
    next.manifest().categories = path;
    Ok(())
}

/// Whether an input has anything beside an axis.
fn uses(description: &Description, axis: Axis) -> bool {
    let layers = description.matrices.iter().any(|m| matches!(m.key, MatrixKey::Layer(_)));
    let slots = if axis == Axis::Cells { ["obsm/", "obsp/"] } else { ["varm/", "varp/"] };
    let extras = description.extras.iter().any(|e| slots.iter().any(|slot| e.starts_with(slot)));
    layers || extras || has_values(description, axis) || description.arrays.iter().any(|a| a.key.axis == axis)
}

/// Whether an input has columns for the table of an axis.
fn has_values(description: &Description, axis: Axis) -> bool {
    let frame: &FrameInfo = if axis == Axis::Cells { &description.obs } else { &description.var };
    !frame.columns.is_empty()
        || description.arrays.iter().any(|a| a.key.axis == axis && a.n_cols > 0)
        || matrices_of(description, axis).next().is_some()
}

fn matrices_of(description: &Description, axis: Axis) -> impl Iterator<Item = &MatrixInfo> {
    let of_genes = move |m: &&MatrixInfo| matches!(m.key, MatrixKey::Varp(_)) == (axis == Axis::Genes);
    description.matrices.iter().filter(of_genes)
}

/// Columns of a Lance table that one version adds, at the most.
const MOST_COLUMNS: u64 = 1_000_000;

/// The names of the columns of a Lance table.
pub(super) struct Ids {
    taken: Vec<String>,
    first: u64,
}

impl Ids {
    /// For the version after `head`, whose table has these columns.
    pub(super) fn new(taken: Vec<String>, head: &Manifest) -> Ids {
        Ids { taken, first: head.version.saturating_mul(MOST_COLUMNS) }
    }

    /// A name that no column has or had. After a rollback the table does not tell which ones it had later, so
    /// each version has numbers of its own.
    pub(super) fn next(&mut self, prefix: &str) -> String {
        let number = |name: &String| name.strip_prefix(prefix)?.parse::<u64>().ok();
        let after = self.taken.iter().filter_map(number).max().map_or(0, |n| n.saturating_add(1));
        let id = format!("{prefix}{}", after.max(self.first));
        self.taken.push(id.clone());
        id
    }
}
