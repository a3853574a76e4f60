//! Columns of obs or var of several inputs, united by name.

use crate::arrow_types::{arrow_type, dtype_of};
use crate::model::{ColumnInfo, ColumnKind, FrameInfo, Loss};
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, new_null_array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type, UInt64Type};
use slaf_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// A dictionary of strings.
pub(crate) fn string_dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A column of the union.
pub(crate) struct United {
    pub(crate) info: ColumnInfo,
    /// Where each input has it.
    pub(crate) places: Vec<Option<usize>>,
    /// For a categorical: the categories of all, and for each input the new code of each code.
    pub(crate) categories: Option<(ArrayRef, Vec<Vec<i32>>)>,
}

fn internal(e: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, e.to_string()).with_source(e)
}

/// The columns of the inputs.
pub(crate) trait Columns {
    /// Column `c` of input `i`; without rows, its categories are enough.
    fn column(&self, i: usize, c: usize) -> Result<ArrayRef>;

    /// Whether column `c` of input `i` has no value at all.
    fn is_empty(&self, i: usize, c: usize) -> Result<bool>;
}

/// Whether no value is there: NaN is none.
pub(crate) fn all_missing(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().all(|v| v.is_none_or(f32::is_nan)),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().all(|v| v.is_none_or(f64::is_nan)),
        _ => array.logical_null_count() == array.len(),
    }
}

/// Unites columns. One that has no value says nothing about the type: beside another type it
/// counts as missing, as the columns of NaN do that `concat` makes. `notes` gets the orders of
/// categories that are not kept.
pub(crate) fn unite_columns(
    infos: &[&FrameInfo],
    inputs: &[String],
    slot: &str,
    columns: &impl Columns,
    losses: &mut Vec<Loss>,
    notes: &mut Vec<String>,
) -> Result<Vec<United>> {
    let mut order: Vec<&str> = Vec::new();
    for info in infos {
        for c in &info.columns {
            if !order.contains(&c.name.as_str()) {
                order.push(&c.name);
            }
        }
    }
    let mut out = Vec::new();
    for name in order {
        let mut places: Vec<Option<usize>> =
            infos.iter().map(|f| f.columns.iter().position(|c| c.name == name)).collect();
        let all: Vec<(usize, usize, &ColumnInfo)> =
            places.iter().enumerate().filter_map(|(i, p)| p.map(|p| (i, p, &infos[i].columns[p]))).collect();
        let mut here = all.clone();
        if all.windows(2).any(|w| value_type(w[0].2) != value_type(w[1].2)) {
            here.clear();
            for &(i, c, info) in &all {
                if !columns.is_empty(i, c)? {
                    here.push((i, c, info));
                }
            }
            here.extend(all.first().filter(|_| here.is_empty()));
            all.iter().filter(|a| !here.contains(a)).for_each(|a| places[a.0] = None);
        }
        let missing = here.len() < infos.len();
        match unite(name, &here, missing, infos.len(), columns)? {
            Some((info, categories)) => {
                let is_ordered = |kind: &ColumnKind| *kind == ColumnKind::Categorical { ordered: true };
                let ordered = here.iter().filter(|h| is_ordered(&h.2.kind)).map(|h| inputs[h.0].as_str());
                let ordered: Vec<&str> = ordered.collect();
                if !ordered.is_empty() && !is_ordered(&info.kind) {
                    notes.push(format!(
                        "{slot}/{name}: not ordered, as in {}: not every input has the same categories in this order",
                        ordered.join(", ")
                    ));
                }
                out.push(United { info, places, categories });
            }
            None => {
                let kinds: Vec<_> = here.iter().map(|(i, _, c)| format!("{} in {}", c.data_type, inputs[*i])).collect();
                losses.push(Loss {
                    path: format!("{slot}/{name}"),
                    reason: format!("of different types: {}", kinds.join(", ")),
                });
            }
        }
    }
    Ok(out)
}

type Merged = (ColumnInfo, Option<(ArrayRef, Vec<Vec<i32>>)>);

fn unite(
    name: &str,
    here: &[(usize, usize, &ColumnInfo)],
    missing: bool,
    n_inputs: usize,
    columns: &impl Columns,
) -> Result<Option<Merged>> {
    let Some(data_type) = here.iter().map(|h| Some(value_type(h.2).clone())).reduce(|a, b| common(&a?, &b?)).flatten()
    else {
        return Ok(None);
    };
    let categorical = |c: &ColumnInfo| matches!(c.kind, ColumnKind::Categorical { .. });
    let info = |data_type, kind| ColumnInfo { name: name.to_string(), data_type, kind };
    if here.iter().all(|h| categorical(h.2)) {
        let mut values = Vec::new();
        for (i, c, _) in here {
            let array = columns.column(*i, *c)?;
            let dictionary = array
                .as_dictionary_opt::<Int32Type>()
                .ok_or_else(|| Error::new(ErrorKind::Internal, "a categorical without a dictionary"))?;
            values.push((*i, exact_cast(dictionary.values(), &data_type, name)?));
        }
        let same = values.windows(2).all(|w| w[0].1.to_data() == w[1].1.to_data());
        let ordered = same && here.iter().all(|h| h.2.kind == ColumnKind::Categorical { ordered: true });
        let merged = merge_categories(&values, n_inputs)?;
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(data_type));
        return Ok(Some((info(dictionary, ColumnKind::Categorical { ordered }), Some(merged))));
    }
    // Where an input has no such column, only nullable columns and floats can say so.
    let nullable = here.iter().any(|h| h.2.kind.is_nullable()) || here.iter().any(|h| categorical(h.2));
    let kind = match nullable || (missing && !data_type.is_floating()) {
        true if here.iter().all(|h| h.2.kind == ColumnKind::NullableNan) => ColumnKind::NullableNan,
        true => ColumnKind::Nullable,
        false => ColumnKind::Plain,
    };
    let kind = if data_type.is_floating() && !nullable { ColumnKind::Plain } else { kind };
    Ok(Some((info(data_type, kind), None)))
}

/// The type of the values, or of the categories.
fn value_type(column: &ColumnInfo) -> &DataType {
    match &column.data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// The values in a type that their own promotes to.
///
/// # Errors
/// `would-lose-data` for an integer that a float would round.
fn exact_cast(array: &ArrayRef, to: &DataType, name: &str) -> Result<ArrayRef> {
    let rounded = match array.data_type() {
        _ if !to.is_floating() => None,
        DataType::Int64 => first_rounded(array.as_primitive::<Int64Type>().iter().flatten().map(i128::from)),
        DataType::UInt64 => first_rounded(array.as_primitive::<UInt64Type>().iter().flatten().map(i128::from)),
        DataType::Dictionary(..) => {
            let values = array.as_any_dictionary().values();
            return exact_cast(values, to, name).and_then(|_| cast(array, to).map_err(internal));
        }
        _ => None,
    };
    match rounded {
        Some(value) => Err(Error::new(
            ErrorKind::WouldLoseData,
            format!("the integer {value} would be rounded: other inputs need {to}; give all inputs one type"),
        )
        .at(name)),
        None => cast(array, to).map_err(internal),
    }
}

fn first_rounded(mut integers: impl Iterator<Item = i128>) -> Option<i128> {
    integers.find(|&i| (i as f64) as i128 != i)
}

/// The type that holds the values of both; `None` for text beside numbers.
fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    if a == b {
        return Some(a.clone());
    }
    Some(arrow_type(dtype_of(a)?.promote(dtype_of(b)?)))
}

/// All categories in order of first appearance, and the new code of each old one.
fn merge_categories(values: &[(usize, ArrayRef)], n_inputs: usize) -> Result<(ArrayRef, Vec<Vec<i32>>)> {
    let parts: Vec<&dyn Array> = values.iter().map(|v| v.1.as_ref()).collect();
    let all = concat(&parts).map_err(internal)?;
    let shown = arrow::util::display::ArrayFormatter::try_new(&all, &arrow::util::display::FormatOptions::default())
        .map_err(internal)?;
    let mut codes: HashMap<String, i32> = HashMap::new();
    let (mut kept, mut maps, mut at) = (Vec::<u32>::new(), vec![Vec::new(); n_inputs], 0);
    for (i, array) in values {
        for _ in 0..array.len() {
            let next = kept.len() as i32;
            let code = *codes.entry(shown.value(at).to_string()).or_insert(next);
            if code == next {
                kept.push(at as u32);
            }
            maps[*i].push(code);
            at += 1;
        }
    }
    Ok((take(&all, &arrow::array::UInt32Array::from(kept), None).map_err(internal)?, maps))
}

impl United {
    /// The values of input `i` in the united type.
    pub(crate) fn convert(&self, i: usize, array: &ArrayRef) -> Result<ArrayRef> {
        let Some((categories, maps)) = &self.categories else {
            return exact_cast(array, &self.info.data_type, &self.info.name);
        };
        let dictionary = array
            .as_dictionary_opt::<Int32Type>()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a categorical without a dictionary"))?;
        let keys: Int32Array = dictionary.keys().iter().map(|k| k.map(|k| maps[i][k as usize])).collect();
        Ok(Arc::new(DictionaryArray::try_new(keys, categories.clone()).map_err(internal)?))
    }

    /// `n` missing values.
    pub(crate) fn missing(&self, n: usize) -> ArrayRef {
        match (&self.categories, &self.info.data_type, &self.info.kind) {
            (Some((categories, _)), ..) => {
                let keys = Int32Array::from(vec![None; n]);
                DictionaryArray::try_new(keys, categories.clone())
                    .map_or_else(|_| new_null_array(&self.info.data_type, n), |d| Arc::new(d) as ArrayRef)
            }
            (None, DataType::Float32, ColumnKind::Plain) => {
                Arc::new(arrow::array::Float32Array::from(vec![f32::NAN; n]))
            }
            (None, DataType::Float64, ColumnKind::Plain) => {
                Arc::new(arrow::array::Float64Array::from(vec![f64::NAN; n]))
            }
            (None, data_type, _) => new_null_array(data_type, n),
        }
    }

    /// Parts made by [`United::convert`] and [`United::missing`], one after the other.
    pub(crate) fn concat(&self, parts: &[&dyn Array]) -> Result<ArrayRef> {
        let Some((categories, _)) = &self.categories else { return concat(parts).map_err(internal) };
        // Arrow would merge the dictionaries, which are all the same, into another order.
        let keys: Vec<&dyn Array> =
            parts.iter().filter_map(|p| p.as_dictionary_opt::<Int32Type>()).map(|d| d.keys() as &dyn Array).collect();
        let keys = concat(&keys).map_err(internal)?;
        let keys = keys.as_primitive::<Int32Type>().clone();
        Ok(Arc::new(DictionaryArray::try_new(keys, categories.clone()).map_err(internal)?))
    }

    /// The column's description when its values turn out to be `array`.
    pub(crate) fn info_for(&self, array: &ArrayRef) -> ColumnInfo {
        let mut info = self.info.clone();
        let gaps = array.null_count() > 0;
        if info.kind == ColumnKind::Plain && gaps {
            info.kind = ColumnKind::Nullable;
        }
        info
    }
}
