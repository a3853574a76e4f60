//! The tables `cells` and `genes`: names, columns and arrays.

use super::columns::{column, dtype_of, strings};
use crate::store::manifest::dictionary_of;
use crate::store::schema::arrow_type;
use crate::store::values::from_arrow_array;
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float32Array, Float64Array, Int32Array, PrimitiveArray, RecordBatch,
    StringArray, UInt64Array, new_empty_array,
};
use arrow::compute::{cast, concat};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int32Type, UInt64Type};
use slaf_core::{Context, Dtype, Error, ErrorKind, Result, Values};
use slaf_ingest::{ArrayInfo, ArrayKey, Axis, Column, ColumnInfo, ColumnKind, Description, Frame, Loss};
use slaf_lance::ForeignTable;
use slaf_lance::error::from_arrow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Columns that are the reference implementation's own.
const OWN: [&str; 5] = ["cell_id", "gene_id", "cell_integer_id", "gene_integer_id", "cell_start_index"];

struct ColumnSource {
    info: ColumnInfo,
    /// The categories of a categorical.
    categories: Vec<String>,
}

pub(super) struct AxisTable {
    table: ForeignTable,
    axis: Axis,
    n: u64,
    columns: Vec<ColumnSource>,
    /// The row of the table that holds each position, unless they are the same.
    order: Option<Vec<u64>>,
}

/// The type that a column of obs or var has for us.
fn column_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Boolean | DataType::Float16 | DataType::Float32 | DataType::Float64 => data_type.clone(),
        t if t.is_integer() => t.clone(),
        DataType::Dictionary(_, values) => match column_type(values)? {
            DataType::Utf8 => dictionary_of(DataType::Utf8),
            other => other,
        },
        _ => return None,
    })
}

impl AxisTable {
    /// Opens the table of an axis and tells its columns and arrays to the description.
    pub(super) fn open(
        folder: &Path,
        name: &str,
        axis: Axis,
        n: u64,
        description: &mut Description,
    ) -> Result<AxisTable> {
        let table = ForeignTable::open(folder, name)?;
        let rows = table.rows()?;
        if rows != n {
            return Err(Error::malformed(format!("{rows} rows, but config.json says {n}")).at(name));
        }
        let mut this = AxisTable { table, axis, n, columns: Vec::new(), order: None };
        let (frame, array) = if axis == Axis::Cells { ("obs", "obsm") } else { ("var", "varm") };
        let (mut named, mut numbered) = (false, false);
        for field in this.table.fields() {
            let own = OWN.contains(&field.name().as_str());
            named |= field.name() == this.id_column();
            numbered |= field.name() == this.number_column();
            if own {
                continue;
            }
            let mut lose = |place: &str| {
                let reason = format!("a column of type {}", field.data_type());
                description.losses.push(Loss { path: format!("{place}/{}", field.name()), reason });
            };
            match (field.data_type(), column_type(field.data_type())) {
                (DataType::FixedSizeList(item, width), _) => match list_dtype(item.data_type()) {
                    Some(dtype) if *width > 0 => description.arrays.push(ArrayInfo {
                        key: ArrayKey { axis, name: field.name().clone() },
                        dtype,
                        n_rows: n,
                        n_cols: *width as u64,
                    }),
                    _ => lose(array),
                },
                (_, Some(data_type)) => {
                    let kind = match data_type {
                        DataType::Dictionary(..) => ColumnKind::Categorical { ordered: false },
                        _ => ColumnKind::Plain,
                    };
                    let info = ColumnInfo { name: field.name().clone(), data_type, kind };
                    this.columns.push(ColumnSource { info, categories: Vec::new() });
                }
                _ => lose(frame),
            }
        }
        if !named {
            return Err(Error::malformed(format!("no column {}", this.id_column())).at(name));
        }
        this.survey()?;
        if numbered {
            this.find_order()?;
        }
        let info = if axis == Axis::Cells { &mut description.obs } else { &mut description.var };
        info.columns = this.columns.iter().map(|c| c.info.clone()).collect();
        Ok(this)
    }

    pub(super) fn len(&self) -> u64 {
        self.n
    }

    pub(super) fn name(&self) -> &str {
        self.table.name()
    }

    pub(super) fn is_cells(&self) -> bool {
        self.axis == Axis::Cells
    }

    fn id_column(&self) -> &'static str {
        if self.is_cells() { "cell_id" } else { "gene_id" }
    }

    fn number_column(&self) -> &'static str {
        if self.is_cells() { "cell_integer_id" } else { "gene_integer_id" }
    }

    /// Finds the columns with missing values, and the categories: both are needed before the
    /// first row is asked for.
    fn survey(&mut self) -> Result<()> {
        let is_asked = |c: &ColumnSource| !c.info.data_type.is_floating();
        let asked: Vec<String> = self.columns.iter().filter(|c| is_asked(c)).map(|c| c.info.name.clone()).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let columns: Vec<&str> = asked.iter().map(String::as_str).collect();
        let mut seen: HashMap<String, HashSet<String>> = HashMap::new();
        let sources = &mut self.columns;
        self.table.scan(&columns, None, |batch| {
            for source in sources.iter_mut().filter(|c| is_asked(c)) {
                let array = column(batch, &source.info.name)?;
                if let ColumnKind::Categorical { .. } = source.info.kind {
                    let Some(dictionary) = array.as_any_dictionary_opt() else { continue };
                    let seen = seen.entry(source.info.name.clone()).or_default();
                    for category in strings(dictionary.values())?.iter().flatten() {
                        if seen.insert(category.to_owned()) {
                            source.categories.push(category.to_owned());
                        }
                    }
                } else if array.null_count() > 0 {
                    source.info.kind = ColumnKind::Nullable;
                }
            }
            Ok(())
        })
    }

    /// Reads the numbers of the rows; they must be all of 0..n.
    fn find_order(&mut self) -> Result<()> {
        let number = self.number_column();
        let wrong = |what: String| Error::malformed(what).at(number).at(self.table.name());
        let mut order = vec![u64::MAX; self.n as usize];
        let (mut row, mut in_order) = (0, true);
        self.table.scan(&[number], None, |batch| {
            let numbers = cast(column(batch, number)?, &DataType::UInt64).map_err(from_arrow)?;
            // A negative number is null after the cast.
            let numbers: &UInt64Array = numbers.as_primitive::<UInt64Type>();
            for id in numbers {
                let slot = match id {
                    Some(id) => order.get_mut(id as usize),
                    None => None,
                };
                match slot {
                    Some(slot) if *slot == u64::MAX => *slot = row,
                    Some(_) => return Err(Error::malformed(format!("twice the same id, in row {row}")).at(number)),
                    None => return Err(Error::malformed(format!("no id of the axis in row {row}")).at(number)),
                }
                in_order &= id == Some(row);
                row += 1;
            }
            Ok(())
        })?;
        if row != self.n {
            return Err(wrong(format!("{row} rows of {}", self.n)));
        }
        if !in_order {
            self.order = Some(order);
        }
        Ok(())
    }

    /// Columns of some positions.
    fn read(&self, columns: &[&str], rows: Range<u64>) -> Result<Vec<RecordBatch>> {
        if rows.start > rows.end || rows.end > self.n {
            let message = format!("rows {}..{} of {}", rows.start, rows.end, self.n);
            return Err(Error::new(ErrorKind::OutOfRange, message).at(self.table.name()));
        }
        let mut batches = Vec::new();
        if rows.is_empty() {
            return Ok(batches);
        }
        let n = rows.end - rows.start;
        match &self.order {
            Some(order) => batches.push(self.table.take(columns, &order[rows.start as usize..rows.end as usize])?),
            None => self.table.scan(columns, Some(rows), |batch| {
                batches.push(batch.clone());
                Ok(())
            })?,
        }
        if batches.iter().map(|b| b.num_rows() as u64).sum::<u64>() != n {
            return Err(Error::malformed("fewer rows than the table says").at(self.table.name()));
        }
        Ok(batches)
    }

    pub(super) fn names(&self) -> Result<Vec<String>> {
        self.index_of(&self.read(&[self.id_column()], 0..self.n)?)
    }

    fn index_of(&self, batches: &[RecordBatch]) -> Result<Vec<String>> {
        let mut index = Vec::new();
        for batch in batches {
            let names = strings(column(batch, self.id_column())?)?;
            if names.null_count() > 0 {
                return Err(Error::malformed("a missing name").at(self.id_column()).at(self.table.name()));
            }
            index.extend(names.iter().flatten().map(str::to_owned));
        }
        Ok(index)
    }

    pub(super) fn frame(&self, rows: Range<u64>) -> Result<Frame> {
        let mut names = vec![self.id_column()];
        names.extend(self.columns.iter().map(|c| c.info.name.as_str()));
        let batches = self.read(&names, rows)?;
        let columns = self.columns.iter().map(|source| {
            let parts = batches
                .iter()
                .map(|b| source.finish(column(b, &source.info.name)?))
                .collect::<Result<Vec<_>>>()
                .at(&source.info.name)
                .at(self.table.name())?;
            let parts: Vec<&dyn Array> = parts.iter().map(|p| &**p).collect();
            let array = if parts.is_empty() { source.empty()? } else { concat(&parts).map_err(from_arrow)? };
            Ok(Column { info: source.info.clone(), array })
        });
        Ok(Frame { index: self.index_of(&batches)?, columns: columns.collect::<Result<_>>()? })
    }

    pub(super) fn array(&self, info: &ArrayInfo, rows: Range<u64>) -> Result<Values> {
        let name = info.key.name.as_str();
        let mut values = Values::empty(info.dtype);
        for batch in self.read(&[name], rows)? {
            let part = list_values(column(&batch, name)?, info).at(name).at(self.table.name())?;
            values = values.concat(&part);
        }
        Ok(values)
    }
}

impl ColumnSource {
    /// The values as the column's type; pandas has NaN for missing floats.
    fn finish(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if let ColumnKind::Categorical { .. } = self.info.kind {
            return self.categorical(&strings(array)?);
        }
        let array = cast(array, &self.info.data_type).map_err(from_arrow)?;
        if array.null_count() == 0 {
            return Ok(array);
        }
        Ok(match self.info.data_type {
            DataType::Float16 => Arc::new(with_nan::<Float16Type>(&array, half::f16::NAN)),
            DataType::Float32 => Arc::new(with_nan::<Float32Type>(&array, f32::NAN)),
            DataType::Float64 => Arc::new(with_nan::<Float64Type>(&array, f64::NAN)),
            _ => array,
        })
    }

    fn categorical(&self, values: &StringArray) -> Result<ArrayRef> {
        let codes: HashMap<&str, i32> = self.categories.iter().zip(0..).map(|(c, i)| (c.as_str(), i)).collect();
        let keys: Int32Array = values.iter().map(|v| codes.get(v?).copied()).collect();
        let categories = Arc::new(StringArray::from_iter_values(&self.categories));
        let array = DictionaryArray::<Int32Type>::try_new(keys, categories).map_err(from_arrow)?;
        Ok(Arc::new(array))
    }

    fn empty(&self) -> Result<ArrayRef> {
        match self.info.kind {
            ColumnKind::Categorical { .. } => self.categorical(&StringArray::new_null(0)),
            _ => Ok(new_empty_array(&self.info.data_type)),
        }
    }
}

fn with_nan<T: ArrowPrimitiveType>(array: &ArrayRef, nan: T::Native) -> PrimitiveArray<T> {
    PrimitiveArray::from_iter_values(array.as_primitive::<T>().iter().map(|v| v.unwrap_or(nan)))
}

/// The value type of an array. Unlike counts, they keep their own.
fn list_dtype(data_type: &DataType) -> Option<Dtype> {
    Some(match data_type {
        DataType::Int8 => Dtype::I8,
        DataType::Int16 => Dtype::I16,
        DataType::UInt8 => Dtype::U8,
        DataType::UInt16 => Dtype::U16,
        other => return dtype_of(other),
    })
}

/// The values of lists, row-major; a missing list is a row of NaN.
fn list_values(array: &ArrayRef, info: &ArrayInfo) -> Result<Values> {
    let width = info.n_cols as usize;
    let lists = array
        .as_fixed_size_list_opt()
        .filter(|l| l.value_length() as usize == width)
        .ok_or_else(|| Error::malformed("rows of another length"))?;
    // `values()` ignores the slice of the array.
    let items = lists.values().slice(lists.value_offset(0) as usize, lists.len() * width);
    let items = cast(&items, &arrow_type(info.dtype)).map_err(from_arrow)?;
    if items.null_count() == 0 && lists.null_count() == 0 {
        return from_arrow_array(&items, info.dtype);
    }
    let present = |i: usize| lists.is_valid(i / width) && items.is_valid(i);
    match info.dtype {
        Dtype::F32 => {
            let items: &Float32Array = items.as_primitive::<Float32Type>();
            Ok(Values::F32((0..items.len()).map(|i| if present(i) { items.value(i) } else { f32::NAN }).collect()))
        }
        Dtype::F64 => {
            let items: &Float64Array = items.as_primitive::<Float64Type>();
            Ok(Values::F64((0..items.len()).map(|i| if present(i) { items.value(i) } else { f64::NAN }).collect()))
        }
        _ => Err(Error::malformed("missing values in an array of integers")),
    }
}
