//! What a store holds, by the names that users see: `obs/cell_type`, `layers/counts`, `uns`.

use crate::store::manifest::{ArrayEntry, ColumnSchema, FrameSchema, Kind, Manifest, MatrixEntry, Slot as MatrixSlot};
use crate::store::schema;
use slaf_core::{Error, ErrorKind, Result, near};
use slaf_ingest::{Axis, Description, MatrixKey, check_name};
use std::collections::{BTreeMap, HashSet};

/// The column of an h5ad that holds the names of cells or genes.
const INDEX: &str = "_index";

/// What has a name in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Column(Axis, String),
    Array(Axis, String),
    Matrix(MatrixKey),
    /// An element as it came: its path.
    Extra(String),
}

impl Slot {
    /// Its name.
    pub(super) fn shown(&self) -> String {
        match self {
            Slot::Column(axis, name) => format!("{axis}/{name}"),
            Slot::Array(axis, name) => format!("{}/{name}", array_slot(*axis)),
            Slot::Matrix(key) => key.to_string(),
            Slot::Extra(path) => path.clone(),
        }
    }

    /// All slots of a version but X and those of raw.
    pub(super) fn all(manifest: &Manifest) -> Vec<Slot> {
        let column = |axis| move |c: &ColumnSchema| Slot::Column(axis, c.name.clone());
        let mut all: Vec<Slot> = manifest.obs.columns.iter().map(column(Axis::Cells)).collect();
        all.extend(manifest.var.columns.iter().map(column(Axis::Genes)));
        all.extend(manifest.arrays.iter().map(|a| Slot::Array(a.axis, a.name.clone())));
        let named = manifest.matrices.iter().filter(|m| !matches!(m.slot, MatrixSlot::X | MatrixSlot::Raw));
        all.extend(named.map(|m| Slot::Matrix(m.key())));
        all.extend(manifest.extras.iter().flat_map(|e| &e.elements).cloned().map(Slot::Extra));
        all
    }

    /// All slots of an input.
    pub(super) fn of_input(description: &Description) -> Vec<Slot> {
        let mut all = Vec::new();
        for (axis, frame) in [(Axis::Cells, &description.obs), (Axis::Genes, &description.var)] {
            all.extend(frame.columns.iter().map(|c| Slot::Column(axis, c.name.clone())));
        }
        all.extend(description.arrays.iter().map(|a| Slot::Array(a.key.axis, a.key.name.clone())));
        all.extend(description.matrices.iter().map(|m| Slot::Matrix(m.key.clone())));
        all.extend(description.extras.iter().cloned().map(Slot::Extra));
        all
    }

    /// The slot that a user names.
    ///
    /// # Errors
    /// `unknown-column` or `unknown-table`, with near names.
    pub(super) fn find(manifest: &Manifest, name: &str) -> Result<Slot> {
        let all = Slot::all(manifest);
        if let Some(slot) = all.iter().find(|s| s.shown() == name) {
            return Ok(slot.clone());
        }
        if matches!(name, "X" | "raw" | "raw/X" | "obs" | "var") || name.starts_with("raw/") {
            return Err(Error::invalid(format!("\"{name}\" cannot be dropped or renamed")));
        }
        let shown: Vec<String> = all.iter().map(Slot::shown).collect();
        let near = near(name, shown.iter().map(String::as_str));
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
        let kind = match name.split('/').next() {
            Some("obs" | "var") => ErrorKind::UnknownColumn,
            _ => ErrorKind::UnknownTable,
        };
        Err(Error::new(kind, format!("the store has no \"{name}\"{hint}")))
    }

    /// The same slot under another name.
    ///
    /// # Errors
    /// `invalid-argument` for a name that nothing can be added under.
    pub(super) fn renamed(&self, new: &str) -> Result<Slot> {
        match self {
            Slot::Column(..) => check_column_name(new)?,
            _ => check_name(new)?,
        }
        let new = new.to_string();
        Ok(match self {
            Slot::Column(axis, _) => Slot::Column(*axis, new),
            Slot::Array(axis, _) => Slot::Array(*axis, new),
            Slot::Matrix(MatrixKey::Layer(_)) => Slot::Matrix(MatrixKey::Layer(new)),
            Slot::Matrix(MatrixKey::Obsp(_)) => Slot::Matrix(MatrixKey::Obsp(new)),
            Slot::Matrix(MatrixKey::Varp(_)) => Slot::Matrix(MatrixKey::Varp(new)),
            Slot::Matrix(_) | Slot::Extra(_) => {
                return Err(Error::invalid(format!("{} cannot be renamed; write it again", self.shown())));
            }
        })
    }

    /// Takes the slot out of a version; its bytes stay where they are. An extra is left to
    /// whoever writes the file of extras.
    pub(super) fn remove_from(&self, manifest: &mut Manifest) {
        match self {
            Slot::Column(axis, name) => frame_mut(manifest, *axis).columns.retain(|c| c.name != *name),
            Slot::Array(axis, name) => manifest.arrays.retain(|a| a.axis != *axis || a.name != *name),
            Slot::Matrix(key) => manifest.matrices.retain(|m| m.key() != *key),
            Slot::Extra(_) => {}
        }
    }

    /// Gives the slot another name.
    pub(super) fn rename_in(&self, manifest: &mut Manifest, new: &str) {
        let new = new.to_string();
        match self {
            Slot::Column(axis, name) => {
                let columns = frame_mut(manifest, *axis).columns.iter_mut();
                columns.filter(|c| c.name == *name).for_each(|c| c.name.clone_from(&new));
            }
            Slot::Array(axis, name) => {
                let arrays = manifest.arrays.iter_mut();
                arrays.filter(|a| a.axis == *axis && a.name == *name).for_each(|a| a.name.clone_from(&new));
            }
            Slot::Matrix(key) => {
                manifest.matrices.iter_mut().filter(|m| m.key() == *key).for_each(|m| m.name.clone_from(&new));
            }
            Slot::Extra(_) => {}
        }
    }
}

/// Refuses names that a column of obs or var cannot have in an h5ad.
pub(super) fn check_column_name(name: &str) -> Result<()> {
    if name == INDEX {
        return Err(Error::invalid(format!("{name:?} is the name of the index in an h5ad; choose another name")));
    }
    check_name(name)
}

fn array_slot(axis: Axis) -> &'static str {
    if axis == Axis::Cells { "obsm" } else { "varm" }
}

/// What each slot is, so that another content is another text.
pub(super) fn fingerprints(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let (cells, genes) = (&manifest.tables.cells.path, &manifest.tables.genes.path);
    for (axis, frame, table) in [("obs", &manifest.obs, cells), ("var", &manifest.var, genes)] {
        for c in &frame.columns {
            all.insert(format!("{axis}/{}", c.name), format!("{table} {} {:?} {:?}", c.id, c.data_type, c.kind));
        }
    }
    for a in &manifest.arrays {
        let table = if a.axis == Axis::Cells { cells } else { genes };
        all.insert(a.shown(), format!("{table} {:?} {} {}", a.column, a.dtype, a.width));
    }
    for m in &manifest.matrices {
        let table = if m.slot == MatrixSlot::Varp { genes } else { cells };
        all.insert(m.shown(), format!("{table} {} {} {}", m.column, m.dtype, m.nnz));
    }
    for e in manifest.extras.iter() {
        all.extend(e.elements.iter().map(|element| (Slot::Extra(element.clone()).shown(), e.path.clone())));
    }
    all
}

/// obs or var.
pub(super) fn frame_mut(manifest: &mut Manifest, axis: Axis) -> &mut FrameSchema {
    match axis {
        Axis::Cells => &mut manifest.obs,
        Axis::Genes => &mut manifest.var,
    }
}

/// The Lance columns of the table of cells that a version uses.
pub(super) fn columns_of_cells(manifest: &Manifest) -> HashSet<String> {
    let mut columns: HashSet<String> = schema::cell_fields().iter().map(|f| f.name().clone()).collect();
    columns.extend(manifest.obs.columns.iter().map(|c| c.id.clone()));
    columns.extend(manifest.arrays.iter().filter(|a| a.axis == Axis::Cells).filter_map(|a| a.column.clone()));
    columns.extend(manifest.matrices.iter().filter(|m| m.slot != MatrixSlot::Varp).map(|m| m.column.clone()));
    columns
}

/// The Lance columns of a version whose categories are in its file of categories.
pub(super) fn categoricals(manifest: &Manifest) -> Vec<&str> {
    let frames = [Some(&manifest.obs), Some(&manifest.var), manifest.raw_var.as_ref()];
    let columns = frames.into_iter().flatten().flat_map(|f| &f.columns);
    columns.filter(|c| c.kind == Kind::Categorical).map(|c| c.id.as_str()).collect()
}

/// Puts a column where the one of its name is, or at the end.
pub(super) fn put_column(frame: &mut FrameSchema, column: ColumnSchema) {
    match frame.columns.iter_mut().find(|c| c.name == column.name) {
        Some(old) => *old = column,
        None => frame.columns.push(column),
    }
}

/// Puts an array where the one of its name is, or at the end.
pub(super) fn put_array(arrays: &mut Vec<ArrayEntry>, array: ArrayEntry) {
    match arrays.iter_mut().find(|a| a.axis == array.axis && a.name == array.name) {
        Some(old) => *old = array,
        None => arrays.push(array),
    }
}

/// Puts a matrix where the one of its name is, or at the end.
pub(super) fn put_matrix(matrices: &mut Vec<MatrixEntry>, matrix: MatrixEntry) {
    match matrices.iter_mut().find(|m| m.slot == matrix.slot && m.name == matrix.name) {
        Some(old) => *old = matrix,
        None => matrices.push(matrix),
    }
}
