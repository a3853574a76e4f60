//! Columns of obs and var, as Arrow arrays.

use crate::arrow_types::arrow_type as dtype_type;
use crate::h5::{Dataset, Elem, Group, Node, decode_halves, unsupported};
use crate::model::ColumnKind;
use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float16Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, PrimitiveArray, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Int32Type};
use slaf_core::{Context, Dtype, Error, Result, Values};
use std::ops::Range;
use std::sync::Arc;

/// Where the values of a column are.
pub(crate) enum ColumnSource {
    Plain(Dataset),
    Categorical {
        codes: Dataset,
        categories: Dataset,
        ordered: bool,
    },
    /// `nan`: pandas calls missing values NaN.
    Nullable {
        values: Dataset,
        mask: Dataset,
        nan: bool,
    },
    /// Found by the reader of the file, not stored in it.
    Made(BooleanArray),
}

/// Why a column cannot be read: told as a loss, when the rest of the file is fine.
pub(crate) enum Refusal {
    Loss(String),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Refusal::Error(e)
    }
}

impl ColumnSource {
    /// Finds the column behind a member of a frame's group; it must have `n_rows` rows.
    pub(crate) fn open(frame: &Group, node: Node, n_rows: u64) -> Result<ColumnSource, Refusal> {
        let source = match node {
            Node::Dataset(d) => {
                if let Some(categories) = legacy_categories(frame, &d)? {
                    let ordered = categories.attrs()?.int("ordered") == Some(1);
                    ColumnSource::Categorical { codes: d, categories, ordered }
                } else {
                    ColumnSource::Plain(d)
                }
            }
            Node::Group(g) => {
                let attrs = g.attrs()?;
                match attrs.str("encoding-type").unwrap_or("") {
                    "categorical" => ColumnSource::Categorical {
                        codes: g.dataset("codes")?,
                        categories: plain_categories(&g)?,
                        ordered: attrs.int("ordered") == Some(1),
                    },
                    "nullable-integer" | "nullable-boolean" | "nullable-string-array" => {
                        let nan = attrs.str("na-value") == Some("NaN");
                        ColumnSource::Nullable { values: g.dataset("values")?, mask: g.dataset("mask")?, nan }
                    }
                    other => return Err(Refusal::Loss(format!("a column of encoding \"{other}\""))),
                }
            }
        };
        source.check(n_rows)?;
        Ok(source)
    }

    /// The column as a categorical, if its values are codes of these categories: AnnData before
    /// 0.7 finds that out in the same way.
    pub(crate) fn with_categories(self, categories: Dataset, used: &mut Vec<String>) -> Result<Self> {
        let ColumnSource::Plain(codes) = self else { return Ok(self) };
        if codes.integer().is_err() || code_keys(&codes.read_values()?, categories.len()?).is_err() {
            return Ok(ColumnSource::Plain(codes));
        }
        used.push(categories.path().trim_start_matches('/').to_owned());
        Ok(ColumnSource::Categorical { codes, categories, ordered: false })
    }

    pub(crate) fn check(&self, n_rows: u64) -> Result<(), Refusal> {
        match self {
            ColumnSource::Plain(d) => {
                d.expect_len(n_rows)?;
                check_type(d)
            }
            ColumnSource::Categorical { codes, categories, .. } => {
                codes.expect_len(n_rows)?;
                codes.integer()?;
                if categories.len()? > i32::MAX as u64 {
                    return Err(Refusal::Loss("more than 2^31 categories".into()));
                }
                if matches!(categories.elem(), Elem::Logical { .. }) {
                    return Err(Refusal::Loss("categories of R's logicals".into()));
                }
                check_type(categories)
            }
            ColumnSource::Nullable { values, mask, .. } => {
                values.expect_len(n_rows)?;
                mask.expect_len(n_rows)?;
                if mask.number()?.0 != Dtype::Bool {
                    return Err(Error::malformed("the mask is not boolean").at(mask.path()).into());
                }
                check_type(values)
            }
            ColumnSource::Made(values) if values.len() as u64 == n_rows => Ok(()),
            ColumnSource::Made(values) => {
                Err(Error::malformed(format!("{} values instead of {n_rows}", values.len())).into())
            }
        }
    }

    pub(crate) fn kind(&self) -> ColumnKind {
        match self {
            ColumnSource::Plain(d) if d.elem().has_na() => ColumnKind::Nullable,
            ColumnSource::Plain(_) | ColumnSource::Made(_) => ColumnKind::Plain,
            ColumnSource::Categorical { ordered, .. } => ColumnKind::Categorical { ordered: *ordered },
            ColumnSource::Nullable { nan: true, .. } => ColumnKind::NullableNan,
            ColumnSource::Nullable { .. } => ColumnKind::Nullable,
        }
    }

    pub(crate) fn data_type(&self) -> DataType {
        match self {
            ColumnSource::Plain(d) | ColumnSource::Nullable { values: d, .. } => arrow_type(d.elem()),
            ColumnSource::Categorical { categories, .. } => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(arrow_type(categories.elem())))
            }
            ColumnSource::Made(_) => DataType::Boolean,
        }
    }

    /// Some rows.
    pub(crate) fn read(&self, rows: Range<u64>) -> Result<ArrayRef> {
        match self {
            ColumnSource::Plain(d) => read_plain(d, rows, None),
            ColumnSource::Nullable { values, mask, .. } => {
                let Values::Bool(missing) = mask.reader()?.values(rows.clone())? else {
                    return Err(Error::malformed("the mask is not boolean").at(mask.path()));
                };
                let valid = BooleanBuffer::from_iter(missing.iter().map(|m| !m));
                read_plain(values, rows, Some(NullBuffer::new(valid)))
            }
            ColumnSource::Categorical { codes, categories, .. } => {
                let keys = read_codes(codes, rows, categories.len()?)?;
                let values = read_plain(categories, 0..categories.len()?, None)?;
                let array = DictionaryArray::<Int32Type>::try_new(keys, values)
                    .map_err(|e| Error::malformed(e.to_string()).at(codes.path()))?;
                Ok(Arc::new(array))
            }
            ColumnSource::Made(values) => {
                Ok(Arc::new(values.slice(rows.start as usize, (rows.end - rows.start) as usize)))
            }
        }
    }
}

/// AnnData 0.7 keeps the categories in a sibling group, and points to them by an object
/// reference, which always names the dataset of the column's own name.
fn legacy_categories(frame: &Group, column: &Dataset) -> Result<Option<Dataset>> {
    if !column.refers_by_attribute()? {
        return Ok(None);
    }
    let name = column.path().strip_prefix(frame.path()).unwrap_or("").trim_start_matches('/');
    match frame.group("__categories")? {
        Some(g) => g.dataset(name).map(Some),
        None => Err(Error::malformed("refers to categories that are missing").at(column.path())),
    }
}

fn plain_categories(g: &Group) -> Result<Dataset, Refusal> {
    match g.get("categories")? {
        Some(Node::Dataset(d)) => Ok(d),
        Some(Node::Group(_)) => Err(Refusal::Loss("categories of a nullable type".into())),
        None => Err(Error::malformed("missing").at(format!("{}/categories", g.path())).into()),
    }
}

/// Refuses types without an Arrow counterpart.
fn check_type(d: &Dataset) -> Result<(), Refusal> {
    match d.elem() {
        Elem::Number { .. } | Elem::Float16 { .. } | Elem::Logical { .. } => Ok(()),
        elem if elem.is_string() => Ok(()),
        other => Err(Refusal::Loss(format!("a column of {} values", other.name()))),
    }
}

pub(crate) fn arrow_type(elem: &Elem) -> DataType {
    match elem {
        Elem::Number { dtype, .. } => dtype_type(*dtype),
        Elem::Float16 { .. } => DataType::Float16,
        Elem::Logical { .. } => DataType::Boolean,
        _ => DataType::Utf8,
    }
}

fn read_plain(d: &Dataset, rows: Range<u64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let mut reader = d.reader()?;
    match d.elem() {
        Elem::Float16 { big_endian } => {
            let halves = decode_halves(&reader.bytes(rows)?, *big_endian).collect();
            Ok(Arc::new(Float16Array::new(halves, nulls)))
        }
        Elem::Logical { .. } => {
            let (values, na) = BooleanArray::from(reader.logicals(rows)?).into_parts();
            Ok(Arc::new(BooleanArray::new(values, NullBuffer::union(na.as_ref(), nulls.as_ref()))))
        }
        e if e.is_string() => string_array(&reader.strings(rows)?, nulls).at(d.path()),
        _ => Ok(number_array(reader.values(rows)?, nulls)),
    }
}

/// Strings as an Arrow array.
///
/// # Errors
/// `unsupported-input` if the text is longer than an array of 32-bit offsets can hold.
pub(crate) fn string_array(strings: &[String], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    if strings.iter().map(String::len).sum::<usize>() > i32::MAX as usize {
        return Err(unsupported("more than 2 GiB of text in one column"));
    }
    let array = StringArray::from_iter_values(strings);
    let (offsets, values, _) = array.into_parts();
    Ok(Arc::new(StringArray::new(offsets, values, nulls)))
}

/// Numbers as an Arrow array.
pub(crate) fn number_array(values: Values, nulls: Option<NullBuffer>) -> ArrayRef {
    match values {
        Values::Bool(v) => Arc::new(BooleanArray::new(v.into(), nulls)),
        Values::U8(v) => Arc::new(UInt8Array::new(v.into(), nulls)),
        Values::U16(v) => Arc::new(UInt16Array::new(v.into(), nulls)),
        Values::U32(v) => Arc::new(UInt32Array::new(v.into(), nulls)),
        Values::U64(v) => Arc::new(UInt64Array::new(v.into(), nulls)),
        Values::I8(v) => Arc::new(Int8Array::new(v.into(), nulls)),
        Values::I16(v) => Arc::new(Int16Array::new(v.into(), nulls)),
        Values::I32(v) => Arc::new(Int32Array::new(v.into(), nulls)),
        Values::I64(v) => Arc::new(Int64Array::new(v.into(), nulls)),
        Values::F32(v) => Arc::new(Float32Array::new(v.into(), nulls)),
        Values::F64(v) => Arc::new(Float64Array::new(v.into(), nulls)),
    }
}

/// The keys of a categorical; -1 is a missing value.
fn read_codes(codes: &Dataset, rows: Range<u64>, n: u64) -> Result<PrimitiveArray<Int32Type>> {
    let first = rows.start;
    let keys = code_keys(&codes.reader()?.values(rows)?, n);
    keys.map_err(|(i, code)| {
        Error::malformed(format!("code {code} at row {}, but there are {n} categories", first + i as u64))
            .at(codes.path())
    })
}

/// Keys from codes; if one is out of range, its position and value.
pub(crate) fn code_keys(codes: &Values, n: u64) -> Result<Int32Array, (usize, i128)> {
    let mut keys = Vec::with_capacity(codes.len());
    macro_rules! convert {
        ($v:expr) => {
            for (i, &code) in $v.iter().enumerate() {
                match i128::from(code) {
                    -1 => keys.push(None),
                    c if (0..i128::from(n)).contains(&c) => keys.push(Some(c as i32)),
                    c => return Err((i, c)),
                }
            }
        };
    }
    match codes {
        Values::I8(v) => convert!(v),
        Values::I16(v) => convert!(v),
        Values::I32(v) => convert!(v),
        Values::I64(v) => convert!(v),
        Values::U8(v) => convert!(v),
        Values::U16(v) => convert!(v),
        Values::U32(v) => convert!(v),
        Values::U64(v) => convert!(v),
        Values::Bool(_) | Values::F32(_) | Values::F64(_) => return Err((0, -1)),
    }
    Ok(Int32Array::from(keys))
}

/// The values of an index as strings, as Python's `str` writes them.
pub(crate) fn index_strings(array: &dyn Array) -> Result<Vec<String>> {
    use arrow::array::AsArray;
    use arrow::datatypes as t;
    /// As Python writes the missing value of a nullable type.
    const NA: &str = "<NA>";
    macro_rules! display {
        ($t:ty) => {
            array.as_primitive::<$t>().iter().map(|x| x.map_or_else(|| NA.to_owned(), |x| x.to_string())).collect()
        };
    }
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(|s| s.unwrap_or("nan").to_owned()).collect(),
        DataType::Int8 => display!(t::Int8Type),
        DataType::Int16 => display!(t::Int16Type),
        DataType::Int32 => display!(t::Int32Type),
        DataType::Int64 => display!(t::Int64Type),
        DataType::UInt8 => display!(t::UInt8Type),
        DataType::UInt16 => display!(t::UInt16Type),
        DataType::UInt32 => display!(t::UInt32Type),
        DataType::UInt64 => display!(t::UInt64Type),
        DataType::Float32 => {
            array.as_primitive::<t::Float32Type>().values().iter().map(|x| python_float(&format!("{x:e}"))).collect()
        }
        DataType::Float64 => {
            array.as_primitive::<t::Float64Type>().values().iter().map(|x| python_float(&format!("{x:e}"))).collect()
        }
        DataType::Boolean => {
            let text = |b: Option<bool>| b.map_or(NA, |b| if b { "True" } else { "False" });
            array.as_boolean().iter().map(|b| text(b).to_owned()).collect()
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            let values = index_strings(dictionary.values().as_ref())?;
            let one = |k: Option<i32>| k.map_or_else(|| "nan".to_owned(), |k| values[k as usize].clone());
            dictionary.keys().iter().map(one).collect()
        }
        other => return Err(unsupported(format!("an index of type {other}"))),
    })
}

/// Python's `repr` of a float from its shortest digits in scientific notation.
fn python_float(scientific: &str) -> String {
    let (digits, exponent) = match scientific.split_once('e') {
        Some((d, e)) => (d, e.parse::<i32>().unwrap_or(0)),
        None => return scientific.to_lowercase(),
    };
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(d) => ("-", d),
        None => ("", digits),
    };
    if !(-4..16).contains(&exponent) {
        let e_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{e_sign}{:02}", exponent.abs());
    }
    let digits: String = digits.chars().filter(|&c| c != '.').collect();
    let point = exponent + 1;
    if point <= 0 {
        let zeros = "0".repeat(point.unsigned_abs() as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let point = point as usize;
    if digits.len() <= point {
        return format!("{sign}{digits}{}.0", "0".repeat(point - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..point], &digits[point..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (123.25, "123.25"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-2.5e300, "-2.5e+300"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(python_float(&format!("{x:e}")), text);
        }
    }

    #[test]
    fn codes_out_of_range_are_named() {
        let keys = code_keys(&Values::I8(vec![0, -1, 1]), 2).unwrap();
        assert_eq!(keys.iter().collect::<Vec<_>>(), [Some(0), None, Some(1)]);
        assert_eq!(code_keys(&Values::I8(vec![0, 2]), 2).unwrap_err(), (1, 2));
        assert_eq!(code_keys(&Values::I16(vec![-2]), 2).unwrap_err(), (0, -2));
    }
}
