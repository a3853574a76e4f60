//! A table of annotations as an input: its rows are brought into the order of the store's.

use super::slots::Slot;
use crate::selection::Selection;
use crate::store::kinds::Named;
use crate::store::{Snapshot, TableName};
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use slaf_core::{Context, Error, ErrorKind, Result, Values, near};
use slaf_ingest::{
    ArrayKey, Axis, Column, ColumnInfo, ColumnKind, Description, Frame, FrameInfo, Input, MatrixKey, RowStream,
    StreamOptions,
};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::block_on;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Columns for obs or var.
#[derive(Clone, Debug)]
pub struct AnnotationTable {
    axis: Axis,
    /// What the rows are matched by, and its values; without it rows are in the order of the store's.
    on: Option<(String, Vec<String>)>,
    columns: Vec<Column>,
    rows: usize,
}

impl AnnotationTable {
    /// Takes the columns of a batch: booleans, numbers, texts and dictionaries of texts.
    ///
    /// `on` is a column whose values say where each row belongs: `cell_id` (`gene_id`) or the name of
    /// a column of obs (var). Cells of which the table says nothing have missing values.
    ///
    /// # Errors
    /// `unknown-column` for `on`; `invalid-argument` for a key that is missing or comes twice, for no
    /// columns, and for columns of other types.
    pub fn new(axis: Axis, batch: &RecordBatch, on: Option<&str>) -> Result<AnnotationTable> {
        let schema = batch.schema();
        let place = |name: &str| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let near = near(name, names.iter().copied());
                let there = if near.is_empty() { names } else { near.iter().map(String::as_str).collect() };
                let what = format!("the table has no column \"{name}\"; it has {}", there.join(", "));
                Error::new(ErrorKind::UnknownColumn, what)
            })
        };
        let key = on.map(place).transpose()?;
        let mut columns = Vec::new();
        for (i, field) in schema.fields().iter().enumerate().filter(|(i, _)| Some(*i) != key) {
            columns.push(column(field.name(), batch.column(i)).at(field.name())?);
        }
        if columns.is_empty() {
            return Err(Error::invalid("the table has no columns to add"));
        }
        let on = match (on, key) {
            (Some(name), Some(at)) => Some((name.to_string(), keys(batch.column(at)).at(name)?)),
            _ => None,
        };
        Ok(AnnotationTable { axis, on, columns, rows: batch.num_rows() })
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        self.columns.iter().map(|c| Slot::Column(self.axis, c.info.name.clone())).collect()
    }

    /// The columns in the order of the store's rows.
    ///
    /// # Errors
    /// `invalid-argument` for another number of rows, and for rows without `on` that are named in another order;
    /// `unknown-cell` and `unknown-gene` for keys that the store does not have; `ambiguous-name` for a name of
    /// several rows of the store.
    pub(super) fn align(&self, snapshot: &Snapshot) -> Result<Aligned> {
        let manifest = &snapshot.manifest;
        let (n, frame) = match self.axis {
            Axis::Cells => (manifest.n_cells, &manifest.obs),
            Axis::Genes => (manifest.n_genes, &manifest.var),
        };
        let columns = match &self.on {
            None if self.rows as u64 != n => {
                let what = self.axis.word();
                let hint = "say by which column the rows are matched (on=, --on)";
                return Err(Error::invalid(format!("{} rows for {n} {what}; {hint}", self.rows)));
            }
            None => {
                self.check_order(snapshot)?;
                self.columns.clone()
            }
            Some((on, keys)) => {
                let table = TableName::of_axis(self.axis);
                let there = match on == table.index() {
                    true => block_on(snapshot.column(table, table.index()))?,
                    false => {
                        let names = [on.clone()];
                        let read = snapshot.frame_columns(table, frame, &names, false, &Selection::All);
                        cast(&block_on(read)?.swap_remove(0), &DataType::Utf8).map_err(from_arrow)?
                    }
                };
                let rows = self.places(on, keys, &there)?;
                self.columns.iter().map(|c| taken(c, &rows)).collect::<Result<_>>()?
            }
        };
        let info = FrameInfo { index_name: None, columns: columns.iter().map(|c| c.info.clone()).collect() };
        let none = FrameInfo::default();
        let (obs, var) = if self.axis == Axis::Cells { (info, none) } else { (none, info) };
        let description = Description {
            format: "table".to_string(),
            n_cells: manifest.n_cells,
            n_genes: manifest.n_genes,
            obs,
            var,
            ..Description::default()
        };
        Ok(Aligned { axis: self.axis, columns, description })
    }

    /// Refuses rows that say by names of the store that they belong elsewhere.
    fn check_order(&self, snapshot: &Snapshot) -> Result<()> {
        let index = TableName::of_axis(self.axis).index();
        let Some(given) = self.columns.iter().find(|c| c.info.name == index) else { return Ok(()) };
        let Ok(given) = cast(&given.array, &DataType::Utf8) else { return Ok(()) };
        let there = block_on(snapshot.ids(self.axis))?;
        let differs = given.as_string::<i32>().iter().zip(there.iter()).position(|(a, b)| a != b);
        let Some(row) = differs else { return Ok(()) };
        let known: HashSet<&str> = there.iter().flatten().collect();
        if !given.as_string::<i32>().iter().flatten().any(|name| known.contains(name)) {
            return Ok(());
        }
        let what = format!(
            "row {row} of the table is of {:?}, and of the store of {:?}: match rows by that column (on=\"{index}\", \
             --on {index}), or leave the column out",
            given.as_string::<i32>().value(row),
            there.value(row)
        );
        Err(Error::invalid(what))
    }

    /// For each row of the store, the row of the table.
    fn places(&self, on: &str, keys: &[String], there: &ArrayRef) -> Result<UInt64Array> {
        let mut rows: HashMap<&str, (u64, bool)> = HashMap::with_capacity(keys.len());
        for (row, key) in keys.iter().enumerate() {
            if rows.insert(key, (row as u64, false)).is_some() {
                return Err(Error::invalid(format!("\"{key}\" comes twice in the table")).at(on));
            }
        }
        let there = there.as_string::<i32>();
        let (is_name, mut several) = (on == TableName::of_axis(self.axis).index(), None);
        let found = there.iter().map(|name| {
            let (row, is_used) = rows.get_mut(name?)?;
            // Another column may have a value in many rows; a name is one row's, or nobody knows whose.
            if is_name && *is_used {
                several = name;
            }
            *is_used = true;
            Some(*row)
        });
        let found: UInt64Array = found.collect();
        if let Some(name) = several {
            let what = format!(
                "several {} of the store are called \"{name}\": match rows by another column, or give a row for each, \
                 in the order of the store",
                self.axis.word()
            );
            return Err(Error::new(ErrorKind::AmbiguousName, what));
        }
        let unknown: Vec<&String> = keys.iter().filter(|k| !rows[k.as_str()].1).collect();
        if let Some(first) = unknown.first() {
            let names: Vec<String> = unknown.iter().take(5).map(|k| format!("{k:?}")).collect();
            let more = if unknown.len() > 5 { format!(" and {} more", unknown.len() - 5) } else { String::new() };
            let near = near(first, there.iter().flatten());
            let hint = if near.is_empty() { String::new() } else { format!("; near {first:?}: {}", near.join(", ")) };
            let kind = if self.axis == Axis::Cells { ErrorKind::UnknownCell } else { ErrorKind::UnknownGene };
            return Err(Error::new(kind, format!("the store has no {on} {}{more}{hint}", names.join(", "))));
        }
        Ok(found)
    }
}

/// The keys of rows, as texts.
fn keys(array: &ArrayRef) -> Result<Vec<String>> {
    let text = cast(array, &DataType::Utf8).map_err(from_arrow)?;
    let keys = text.as_string::<i32>().iter().map(|k| k.map(str::to_string)).collect::<Option<Vec<_>>>();
    keys.ok_or_else(|| Error::invalid("a row without a key"))
}

/// A column as obs and var have it.
fn column(name: &str, array: &ArrayRef) -> Result<Column> {
    let of = |data_type: DataType, kind: ColumnKind, array: ArrayRef| Column {
        info: ColumnInfo { name: name.to_string(), data_type, kind },
        array,
    };
    let plain = if array.null_count() > 0 { ColumnKind::Nullable } else { ColumnKind::Plain };
    Ok(match array.data_type() {
        DataType::Float32 | DataType::Float64 | DataType::Float16 => {
            of(array.data_type().clone(), ColumnKind::Plain, with_nan(array)?)
        }
        DataType::Boolean => of(DataType::Boolean, plain, array.clone()),
        t if t.is_integer() => of(t.clone(), plain, array.clone()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            of(DataType::Utf8, plain, cast(array, &DataType::Utf8).map_err(from_arrow)?)
        }
        DataType::Dictionary(_, values)
            if matches!(**values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) =>
        {
            let of_text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            of(of_text.clone(), ColumnKind::Categorical { ordered: false }, cast(array, &of_text).map_err(from_arrow)?)
        }
        other => {
            let what = format!("a column of type {other} fits neither obs nor var: make it a text or a number");
            return Err(Error::invalid(what));
        }
    })
}

/// Floats whose missing values are NaN.
fn with_nan(array: &ArrayRef) -> Result<ArrayRef> {
    if array.null_count() == 0 {
        return Ok(array.clone());
    }
    Ok(match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().iter().map(|v| v.unwrap_or(f32::NAN));
            Arc::new(Float32Array::from_iter_values(values))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().iter().map(|v| v.unwrap_or(f64::NAN));
            Arc::new(Float64Array::from_iter_values(values))
        }
        _ => return Err(Error::invalid("missing values of float16: take float32")),
    })
}

/// The rows of a column by their places; a row without a place is missing.
fn taken(column: &Column, places: &UInt64Array) -> Result<Column> {
    let array = take(&column.array, places, None).map_err(from_arrow)?;
    let array = if array.data_type().is_floating() { with_nan(&array)? } else { array };
    let mut info = column.info.clone();
    if info.kind == ColumnKind::Plain && array.null_count() > 0 {
        info.kind = ColumnKind::Nullable;
    }
    Ok(Column { info, array })
}

/// A table in the order of the store.
pub(super) struct Aligned {
    axis: Axis,
    columns: Vec<Column>,
    description: Description,
}

impl Aligned {
    fn frame(&self, axis: Axis, rows: Range<u64>) -> Frame {
        let (start, n) = (rows.start as usize, (rows.end - rows.start) as usize);
        let columns = match axis == self.axis {
            true => {
                let part = |c: &Column| Column { info: c.info.clone(), array: c.array.slice(start, n) };
                self.columns.iter().map(part).collect()
            }
            false => Vec::new(),
        };
        Frame { index: vec![String::new(); n], columns }
    }
}

fn no_such() -> Error {
    Error::new(ErrorKind::Internal, "a table of annotations has columns alone")
}

impl Input for Aligned {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        Ok(self.frame(Axis::Cells, rows))
    }

    fn var(&self) -> Result<Frame> {
        Ok(self.frame(Axis::Genes, 0..self.description.n_genes))
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        Ok(None)
    }

    fn matrix(&self, _: &MatrixKey, _: StreamOptions) -> Result<Box<dyn RowStream>> {
        Err(no_such())
    }

    fn column_counts(&self, _: &MatrixKey) -> Result<Vec<u64>> {
        Err(no_such())
    }

    fn array(&self, _: &ArrayKey, _: Range<u64>) -> Result<Values> {
        Err(no_such())
    }
}
