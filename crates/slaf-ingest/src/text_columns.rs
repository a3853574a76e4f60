//! Columns of text files, typed by their values as pandas does, but for what that would change:
//! integers stay integers beside missing values, and numbers that a float rounds, or that begin
//! with a zero, stay text.

use crate::arrow_types::arrow_type;
use crate::model::{Column, ColumnInfo, ColumnKind};
use crate::number::{Extent, TextNumber, is_missing};
use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::DataType;
use slaf_core::Dtype;
use std::sync::Arc;

/// A column of texts as they are.
pub(crate) fn text_column(name: &str, texts: &[String]) -> Column {
    column(name, DataType::Utf8, Arc::new(StringArray::from_iter_values(texts)))
}

/// A column of the type that all of the texts have.
pub(crate) fn typed_column(name: &str, texts: &[String]) -> Column {
    let present = || texts.iter().map(String::as_str).filter(|t| !is_missing(t));
    let value = |text: &String| (!is_missing(text)).then(|| text.clone());
    if present().next().is_some() && present().all(|t| boolean(t).is_some()) {
        let array: BooleanArray = texts.iter().map(|t| boolean(t)).collect();
        return column(name, DataType::Boolean, Arc::new(array));
    }
    let numbers: Option<Vec<TextNumber>> = texts.iter().map(|t| number(t)).collect();
    let Some(numbers) = numbers else {
        return column(name, DataType::Utf8, Arc::new(texts.iter().map(value).collect::<StringArray>()));
    };
    let mut extent = Extent::default();
    texts.iter().zip(&numbers).filter(|(t, _)| !is_missing(t)).for_each(|(_, &n)| extent.add(n, String::new));
    let dtype = if present().next().is_some() { extent.integer_or_float() } else { Dtype::F64 };
    if extent.rounded_by(dtype).is_some() {
        return column(name, DataType::Utf8, Arc::new(texts.iter().map(value).collect::<StringArray>()));
    }
    let array: ArrayRef = match dtype {
        Dtype::I64 => Arc::new(integers(texts, &numbers).collect::<Int64Array>()),
        Dtype::U64 => Arc::new(integers(texts, &numbers).collect::<UInt64Array>()),
        _ => Arc::new(numbers.iter().map(|n| Some(n.to_f64())).collect::<Float64Array>()),
    };
    column(name, arrow_type(dtype), array)
}

fn column(name: &str, data_type: DataType, array: ArrayRef) -> Column {
    let kind = if array.null_count() > 0 { ColumnKind::Nullable } else { ColumnKind::Plain };
    Column { info: ColumnInfo { name: name.to_owned(), data_type, kind }, array }
}

fn integers<'a, T: crate::number::Number>(
    texts: &'a [String],
    numbers: &'a [TextNumber],
) -> impl Iterator<Item = Option<T>> + 'a {
    texts.iter().zip(numbers).map(|(text, &n)| if is_missing(text) { None } else { T::of(n) })
}

/// A number whose text a number gives back but for its form: `007` is a name.
fn number(text: &str) -> Option<TextNumber> {
    let digits = text.trim_start_matches('-');
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    TextNumber::parse_or_missing(text)
}

/// A logical value of Python or R.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::array_value_to_string;

    #[test]
    fn types_come_from_all_values() {
        let big = "9007199254740993";
        for (texts, data_type, shown) in [
            (&["1", "-2"][..], DataType::Int64, &["1", "-2"][..]),
            (&["1", ""], DataType::Int64, &["1", ""]),
            (&[big, "NA"], DataType::Int64, &[big, ""]),
            (&["18446744073709551615"], DataType::UInt64, &["18446744073709551615"]),
            (&["1", "0.5"], DataType::Float64, &["1.0", "0.5"]),
            (&["0.5", ""], DataType::Float64, &["0.5", "NaN"]),
            (&["", "NA"], DataType::Float64, &["NaN", "NaN"]),
            (&[big, "0.5"], DataType::Utf8, &[big, "0.5"]),
            (&["99999999999999999999999"], DataType::Utf8, &["99999999999999999999999"]),
            (&["007", "12"], DataType::Utf8, &["007", "12"]),
            (&["TRUE", "False", "NA"], DataType::Boolean, &["true", "false", ""]),
            (&["a", "", "NA"], DataType::Utf8, &["a", "", ""]),
        ] {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            let c = typed_column("c", &texts);
            assert_eq!((&c.info.data_type, c.array.data_type()), (&data_type, &data_type), "{texts:?}");
            let values: Vec<_> = (0..c.array.len()).map(|i| array_value_to_string(&c.array, i).unwrap()).collect();
            assert_eq!(values, shown, "{texts:?}");
            assert_eq!(c.info.kind == ColumnKind::Nullable, c.array.null_count() > 0);
        }
    }
}
