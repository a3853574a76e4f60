//! Columns of the cells that are there, as the cells that are appended need them.

use super::add::Ids;
use super::writer::Head;
use crate::config;
use crate::convert::cells::{array_entries, frame_columns};
use crate::convert::job::tick;
use crate::convert::pack::empty_rows;
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::selection::Selection;
use crate::store::fields::{array_fields, frame_fields};
use crate::store::frames::Categories;
use crate::store::manifest::{ArrayEntry, ColumnSchema, FrameSchema, Kind, Manifest, Slot};
use crate::store::schema::{self, packed_field};
use crate::store::values::to_lists;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Schema};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{Appended, ArrayKey, Axis, ColumnKind, Input, MatrixInfo};
use slaf_lance::Growth;
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::block_on;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// What the table of cells has, and gets.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) obs: FrameSchema,
    pub(super) arrays: Vec<ArrayEntry>,
    pub(super) matrices: Vec<(MatrixInfo, String)>,
    /// Columns without values in the cells that are there.
    absent: Vec<ColumnSchema>,
    /// Columns that are written anew.
    rewritten: Vec<ColumnSchema>,
    rewritten_arrays: Vec<ArrayEntry>,
    /// Layers that only sources have, of which the cells that are there get rows without values.
    filled: Vec<Filled>,
}

struct Filled {
    info: MatrixInfo,
    column: String,
    /// How many were written.
    bytes: u64,
}

impl Columns {
    /// Finds the column of the table for each of the union's. `taken` are names of columns that are not given
    /// again.
    pub(super) fn find(head: &Head<'_>, union: &Appended, taken: &[String]) -> Result<Columns> {
        let categories = block_on(head.snapshot.categories())?;
        let (before, description) = (head.manifest(), union.description());
        let mut ids = Ids::new(taken.to_vec(), head.manifest());
        let empty = union.obs(0..0)?;
        let mut obs = FrameSchema::new(&description.obs, "o");
        let mut columns = Columns::default();
        for (column, given) in obs.columns.iter_mut().zip(&empty.columns) {
            let old = before.obs.columns.iter().find(|c| c.name == column.name);
            match old {
                Some(old) if is_held_alike(old, column, categories.get(&old.id), &given.array) => {
                    column.id.clone_from(&old.id);
                }
                // A missing value of a float is a value.
                None if !(given.info.kind == ColumnKind::Plain && column.data_type.arrow().is_floating()) => {
                    column.id = ids.next("o");
                    columns.absent.push(column.clone());
                }
                _ => {
                    column.id = ids.next("o");
                    columns.rewritten.push(column.clone());
                }
            }
        }
        columns.arrays = array_entries(description, Axis::Cells, "m");
        for array in &mut columns.arrays {
            let old = before.arrays.iter().find(|a| a.axis == Axis::Cells && a.name == array.name);
            match old {
                Some(old) if old.dtype == array.dtype => array.column.clone_from(&old.column),
                _ => {
                    array.column = array.column.as_ref().map(|_| ids.next("m"));
                    columns.rewritten_arrays.push(array.clone());
                }
            }
        }
        for info in &description.matrices {
            let column = match before.matrix(&info.key) {
                Some(entry) => entry.column.clone(),
                None => {
                    let column = ids.next("l");
                    columns.filled.push(Filled { info: info.clone(), column: column.clone(), bytes: 0 });
                    column
                }
            };
            columns.matrices.push((info.clone(), column));
        }
        columns.obs = obs;
        Ok(columns)
    }

    /// The columns of the table that the next version has, too.
    pub(super) fn kept(&self, before: &Manifest) -> HashSet<String> {
        let mut kept: HashSet<String> = schema::cell_fields().iter().map(|f| f.name().clone()).collect();
        kept.extend(self.obs.columns.iter().map(|c| c.id.clone()));
        kept.extend(self.arrays.iter().filter_map(|a| a.column.clone()));
        let cells = before.matrices.iter().filter(|m| !matches!(m.slot, Slot::Varp));
        let names: HashSet<&String> = self.matrices.iter().map(|(_, column)| column).collect();
        kept.extend(cells.map(|m| m.column.clone()).filter(|c| names.contains(c)));
        kept
    }

    /// Adds the columns that the cells that are there lack, and writes those anew whose type changes.
    pub(super) fn write(
        &mut self,
        head: &Head<'_>,
        union: &Appended,
        growth: &mut Growth,
        categories: &mut Categories,
        progress: Progress<'_>,
    ) -> Result<()> {
        growth.add_fields(&frame_fields(&FrameSchema { index_name: None, columns: self.absent.clone() }))?;
        let frame = FrameSchema { index_name: None, columns: self.rewritten.clone() };
        let mut fields = frame_fields(&frame);
        fields.extend(array_fields(&self.rewritten_arrays));
        fields.extend(self.filled.iter().map(|layer| packed_field(&layer.column)));
        if fields.is_empty() {
            return Ok(());
        }
        let schema = Arc::new(Schema::new(fields.clone()));
        let n = head.manifest().n_cells;
        let old = Dataset::of(head.snapshot.clone());
        growth.add_columns(&fields, config::batch_rows(), |rows| {
            tick(progress, "columns", rows.start, n)?;
            let mut given = union.obs_of_first(rows.clone())?;
            given.columns.retain(|c| frame.columns.iter().any(|wanted| wanted.name == c.info.name));
            let mut arrays = frame_columns(&frame, &given, categories, rows.clone()).at("obs")?;
            for array in self.rewritten_arrays.iter().filter(|a| a.column.is_some()) {
                arrays.push(promoted(&old, array, rows.clone())?);
            }
            for layer in &mut self.filled {
                let column = empty_rows((rows.end - rows.start) as usize, layer.info.dtype)?;
                layer.bytes += column.value_data().len() as u64;
                arrays.push(Arc::new(column));
            }
            RecordBatch::try_new(schema.clone(), arrays).map_err(from_arrow)
        })
    }

    /// The bytes that a column of packed rows got in the cells that were there.
    pub(super) fn filled_bytes(&self, column: &str) -> u64 {
        self.filled.iter().find(|layer| layer.column == column).map_or(0, |layer| layer.bytes)
    }
}

/// Rows of an array in the type that it has in the next version.
fn promoted(old: &Dataset, array: &ArrayEntry, rows: Range<u64>) -> Result<ArrayRef> {
    let key = ArrayKey { axis: Axis::Cells, name: array.name.clone() };
    let (values, _) = old.array(&key, &Selection::Range(rows))?;
    if values.first_rounded(array.dtype).is_some() {
        let what = format!("integers would be rounded: the new cells need {}", array.dtype);
        return Err(Error::new(ErrorKind::WouldLoseData, what).at(&array.name));
    }
    to_lists(values.cast(array.dtype), array.width)
}

/// Whether what is held of a column is held alike in the union.
fn is_held_alike(old: &ColumnSchema, new: &ColumnSchema, categories: Option<&ArrayRef>, given: &ArrayRef) -> bool {
    let categorical = |c: &ColumnSchema| c.kind == Kind::Categorical;
    if old.data_type != new.data_type || categorical(old) != categorical(new) {
        return false;
    }
    if !categorical(old) {
        return true;
    }
    let given = given.as_dictionary_opt::<Int32Type>().map(|d| d.values());
    match (categories, given) {
        (Some(old), Some(new)) if old.len() <= new.len() => old.to_data() == new.slice(0, old.len()).to_data(),
        _ => false,
    }
}
