//! Tables with a row for each value of a matrix, or of several matrices.

use super::axis::AxisTable;
use super::columns::{column, dtype_of, strings};
use crate::store::schema::arrow_type;
use crate::store::values::from_arrow_array;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, UInt64Type};
use slaf_core::{Context, Dtype, Error, Result, Values};
use slaf_lance::ForeignTable;
use slaf_lance::error::from_arrow;
use std::collections::HashMap;
use std::path::Path;

/// The columns that say where a value is, by axis: its number, and its name.
const CELL_KEYS: [&str; 2] = ["cell_integer_id", "cell_id"];
const GENE_KEYS: [&str; 2] = ["gene_integer_id", "gene_id"];

/// How the rows of a table name an axis.
enum Key {
    Number(String),
    Name(String),
}

impl Key {
    fn column(&self) -> &str {
        match self {
            Key::Number(column) | Key::Name(column) => column,
        }
    }
}

pub(super) struct Coo {
    table: ForeignTable,
    fields: Vec<Field>,
    keys: [Key; 2],
    /// Whether both axes are the same: then 0 fills what one of several matrices lacks. In
    /// tables of cells x genes it is null that does.
    pairs: bool,
}

/// How many rows or columns an integer type can number.
fn capacity(data_type: &DataType) -> Option<u64> {
    Some(match data_type {
        DataType::UInt8 => 1 << 8,
        DataType::Int8 => 1 << 7,
        DataType::UInt16 => 1 << 16,
        DataType::Int16 => 1 << 15,
        DataType::UInt32 => 1 << 32,
        DataType::Int32 => 1 << 31,
        DataType::UInt64 | DataType::Int64 => u64::MAX,
        _ => return None,
    })
}

fn is_string(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_string(values),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

/// Numbers are taken before names, which need not be unique.
fn key(fields: &[Field], [number, name]: [String; 2], n: u64) -> Result<Key> {
    let of = |column: &str| fields.iter().find(|f| f.name() == column).map(Field::data_type);
    let room = of(&number).and_then(capacity);
    if room.is_some_and(|room| room >= n) {
        return Ok(Key::Number(number));
    }
    if of(&name).is_some_and(is_string) {
        return Ok(Key::Name(name));
    }
    Err(Error::malformed(match room {
        Some(room) => format!("{number} can number {room} only, but the axis has {n}"),
        None => format!("neither integers in a column {number} nor strings in {name}"),
    }))
}

impl Coo {
    pub(super) fn open(folder: &Path, name: &str, axes: [&AxisTable; 2]) -> Result<Coo> {
        let table = ForeignTable::open(folder, name)?;
        let fields = table.fields();
        let pairs = std::ptr::eq(axes[0], axes[1]);
        let key_of = |axis: &AxisTable, suffix: &str| {
            let names = if axis.is_cells() { CELL_KEYS } else { GENE_KEYS };
            key(&fields, names.map(|n| format!("{n}{suffix}")), axis.len()).at(name)
        };
        let suffixes = if pairs { ["_i", "_j"] } else { ["", ""] };
        let keys = [key_of(axes[0], suffixes[0])?, key_of(axes[1], suffixes[1])?];
        Ok(Coo { table, fields, keys, pairs })
    }

    /// The columns that are not keys.
    pub(super) fn value_columns(&self) -> Vec<String> {
        let is_key = |name: &str| {
            let name =
                name.strip_suffix("_i").or_else(|| name.strip_suffix("_j")).filter(|_| self.pairs).unwrap_or(name);
            CELL_KEYS.contains(&name) || GENE_KEYS.contains(&name)
        };
        self.fields.iter().map(|f| f.name().clone()).filter(|n| !is_key(n)).collect()
    }

    pub(super) fn zeros_are_absent(&self) -> bool {
        self.pairs && self.value_columns().len() > 1
    }

    pub(super) fn stored_as(&self, column: &str) -> String {
        let found = self.fields.iter().find(|f| f.name() == column);
        found.map_or_else(|| "none".to_owned(), |f| f.data_type().to_string())
    }

    pub(super) fn dtype(&self, column: &str) -> Result<Dtype> {
        let found = self.fields.iter().find(|f| f.name() == column);
        let field = found.ok_or_else(|| Error::malformed(format!("no column {column}")).at(self.table.name()))?;
        dtype_of(field.data_type()).ok_or_else(|| {
            Error::malformed(format!("values of type {} in a matrix", field.data_type())).at(self.table.name())
        })
    }

    /// Hands over the values of a column, and where they are, as they come: all rows and columns
    /// are inside of the axes.
    pub(super) fn each(
        &self,
        value: &str,
        dtype: Dtype,
        axes: [&AxisTable; 2],
        mut take: impl FnMut(&[u64], &[u32], &Values) -> Result<()>,
    ) -> Result<()> {
        let ids = [Ids::new(&self.keys[0], axes[0])?, Ids::new(&self.keys[1], axes[1])?];
        let columns = [self.keys[0].column(), self.keys[1].column(), value];
        // Values may be absent where matrices share the table.
        let optional = value != "value" || self.pairs;
        self.table.scan(&columns, None, |batch| {
            let kept;
            let mut batch = batch;
            if optional && let Some(mask) = self.present(column(batch, value)?)? {
                kept = filter_record_batch(batch, &mask).map_err(from_arrow)?;
                batch = &kept;
            }
            let values = column(batch, value)?;
            if values.null_count() > 0 {
                return Err(Error::malformed("missing values").at(value));
            }
            let values = cast(values, &arrow_type(dtype)).map_err(from_arrow)?;
            let values = from_arrow_array(&values, dtype)?;
            let rows = ids[0].of(batch)?;
            let cols: Vec<u32> = ids[1].of(batch)?.into_iter().map(|c| c as u32).collect();
            take(&rows, &cols, &values)
        })
    }

    /// Which rows of a batch have a value; `None` when all do.
    fn present(&self, values: &ArrayRef) -> Result<Option<BooleanArray>> {
        if self.zeros_are_absent() {
            let values = cast(values, &DataType::Float64).map_err(from_arrow)?;
            let numbers = values.as_primitive::<Float64Type>();
            return Ok(Some(numbers.iter().map(|v| Some(v.is_some_and(|v| v.to_bits() != 0))).collect()));
        }
        Ok((values.null_count() > 0).then(|| (0..values.len()).map(|i| Some(values.is_valid(i))).collect()))
    }
}

/// Turns keys into positions.
struct Ids<'a> {
    column: &'a str,
    n: u64,
    names: Option<HashMap<String, u64>>,
}

impl<'a> Ids<'a> {
    fn new(key: &'a Key, axis: &AxisTable) -> Result<Ids<'a>> {
        let n = axis.len();
        let Key::Name(column) = key else { return Ok(Ids { column: key.column(), n, names: None }) };
        let mut names = HashMap::new();
        for (i, name) in axis.names()?.into_iter().enumerate() {
            if let Some(first) = names.insert(name.clone(), i as u64) {
                let message = format!("values are found by name, but {name:?} names rows {first} and {i}");
                return Err(Error::malformed(message).at(axis.name()));
            }
        }
        Ok(Ids { column, n, names: Some(names) })
    }

    fn of(&self, batch: &RecordBatch) -> Result<Vec<u64>> {
        let array = column(batch, self.column)?;
        if array.null_count() > 0 {
            return Err(Error::malformed("missing ids").at(self.column));
        }
        match &self.names {
            Some(names) => {
                let given = strings(array)?;
                let found = given.iter().flatten().map(|name| {
                    names.get(name).copied().ok_or_else(|| {
                        Error::malformed(format!("a value of {name:?}, which is no name of the axis")).at(self.column)
                    })
                });
                found.collect()
            }
            None => {
                let exact = CastOptions { safe: false, ..CastOptions::default() };
                let ids = cast_with_options(array, &DataType::UInt64, &exact)
                    .map_err(|e| Error::malformed(format!("a negative id ({e})")).at(self.column))?;
                let ids = ids.as_primitive::<UInt64Type>().values().to_vec();
                match ids.iter().find(|&&id| id >= self.n) {
                    Some(id) => Err(Error::malformed(format!("id {id}, but the axis has {}", self.n)).at(self.column)),
                    None => Ok(ids),
                }
            }
        }
    }
}
