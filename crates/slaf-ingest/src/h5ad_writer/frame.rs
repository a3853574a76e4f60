//! Data frames: each column a dataset or a small group.

use super::encoding::{check_name, encoding_attrs};
use crate::h5_out::{Attr, DatasetWriter, Filter, H5Out, Type, dtype_type};
use crate::model::{Column, ColumnInfo, ColumnKind, Frame, FrameInfo};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, ToByteSlice, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use slaf_core::{Context, Dtype, Error, ErrorKind, Result};
use std::sync::Arc;

/// Bytes of a chunk of a column: smaller than a matrix's, because all columns are open at once.
const CHUNK: usize = 128 << 10;

pub(super) fn write(
    out: &mut H5Out,
    group: &str,
    index_name: Option<&str>,
    info: &FrameInfo,
    filter: Filter,
    frames: impl IntoIterator<Item = Result<Frame>>,
) -> Result<()> {
    // A column of the index's name is the same object, which AnnData allows if values are the same.
    let namesake = info.columns.iter().position(|c| Some(c.name.as_str()) == index_name);
    let mut is_shared = namesake.is_some_and(|i| info.columns[i].data_type == DataType::Utf8);
    let own_name = index_name.filter(|_| namesake.is_none()).unwrap_or("_index");
    check_name(own_name)?;
    let mut names = vec![own_name];
    for column in &info.columns {
        check_name(&column.name)?;
        names.push(&column.name);
    }
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::invalid(format!("two columns have the name {:?}", twice[0])));
    }
    let mut index = DatasetWriter::new(Type::string(), Vec::new(), filter, CHUNK)?;
    let mut columns =
        info.columns.iter().map(|c| ColumnWriter::new(c, filter).at(&c.name)).collect::<Result<Vec<_>>>()?;
    let mut n_rows = 0;
    for frame in frames {
        let frame = frame?;
        let n = frame.index.len();
        n_rows += n as u64;
        index.push_strings(out, frame.index.iter().map(String::as_str))?;
        let same = frame.columns.len() == columns.len() && frame.columns.iter().all(|c| c.array.len() == n);
        if !same {
            return Err(internal("a block of rows has other columns than the frame"));
        }
        is_shared = is_shared && namesake.is_some_and(|i| holds(&frame.columns[i].array, &frame.index));
        for (writer, column) in columns.iter_mut().zip(&frame.columns) {
            writer.push(out, column).at(&column.info.name)?;
        }
    }
    let mut attrs = encoding_attrs("dataframe", "0.2.0");
    let index_name = index_name.filter(|_| is_shared).unwrap_or(own_name);
    attrs.push(Attr::string("_index", index_name));
    let order = info.columns.iter().map(|c| c.name.clone()).collect();
    attrs.push(Attr::strings("column-order", order));
    attrs.iter().try_for_each(|a| out.set_attr(group, a))?;
    if !is_shared {
        let strings = encoding_attrs("string-array", "0.2.0");
        index.finish(out, &format!("{group}/{index_name}"), n_rows, &strings)?;
    }
    for (writer, column) in columns.into_iter().zip(&info.columns) {
        writer.finish(out, &format!("{group}/{}", column.name), n_rows, filter).at(&column.name)?;
    }
    Ok(())
}

/// Whether a column of text has the names of the rows.
fn holds(column: &ArrayRef, names: &[String]) -> bool {
    let texts = column.as_string_opt::<i32>();
    texts.is_some_and(|texts| texts.iter().zip(names).all(|(text, name)| text == Some(name.as_str())))
}

fn internal(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}

/// The type of the array that holds a column's values.
fn value_type(data_type: &DataType) -> Result<Type> {
    Ok(match data_type {
        DataType::Boolean => dtype_type(Dtype::Bool),
        DataType::Int8 => dtype_type(Dtype::I8),
        DataType::Int16 => dtype_type(Dtype::I16),
        DataType::Int32 => dtype_type(Dtype::I32),
        DataType::Int64 => dtype_type(Dtype::I64),
        DataType::UInt8 => dtype_type(Dtype::U8),
        DataType::UInt16 => dtype_type(Dtype::U16),
        DataType::UInt32 => dtype_type(Dtype::U32),
        DataType::UInt64 => dtype_type(Dtype::U64),
        DataType::Float16 => Type::half(),
        DataType::Float32 => dtype_type(Dtype::F32),
        DataType::Float64 => dtype_type(Dtype::F64),
        DataType::Utf8 => Type::string(),
        other => {
            return Err(Error::new(
                ErrorKind::UnsupportedFeature,
                format!("a column of type {other} has no form in an h5ad; cast it or drop it first"),
            ));
        }
    })
}

struct ColumnWriter {
    kind: ColumnKind,
    data_type: DataType,
    values: DatasetWriter,
    mask: Option<DatasetWriter>,
    categories: Option<ArrayRef>,
    code_bytes: usize,
}

impl ColumnWriter {
    fn new(info: &ColumnInfo, filter: Filter) -> Result<ColumnWriter> {
        let new = |of| DatasetWriter::new(of, Vec::new(), filter, CHUNK);
        let (data_type, values) = match (&info.kind, &info.data_type) {
            // The width of the codes is known with the categories.
            (ColumnKind::Categorical { .. }, DataType::Dictionary(_, of)) => {
                value_type(of)?;
                (&**of, dtype_type(Dtype::I8))
            }
            (ColumnKind::Categorical { .. }, _) | (_, DataType::Dictionary(..)) => {
                return Err(internal("only categoricals are dictionaries"));
            }
            (_, of) => (of, value_type(of)?),
        };
        let mask =
            (info.kind.is_nullable() && !data_type.is_floating()).then(|| new(dtype_type(Dtype::Bool))).transpose()?;
        Ok(ColumnWriter {
            kind: info.kind.clone(),
            data_type: data_type.clone(),
            values: new(values)?,
            mask,
            categories: None,
            code_bytes: 1,
        })
    }

    fn push(&mut self, out: &mut H5Out, column: &Column) -> Result<()> {
        let array = &column.array;
        if matches!(self.kind, ColumnKind::Categorical { .. }) {
            return self.push_codes(out, array);
        }
        if *array.data_type() != self.data_type {
            return Err(internal("a block of rows has another type than its column"));
        }
        match &mut self.mask {
            Some(mask) => {
                let nulls: Vec<u8> = (0..array.len()).map(|i| u8::from(array.is_null(i))).collect();
                mask.push(out, &nulls)?;
            }
            None if array.null_count() > 0 && !self.data_type.is_floating() => {
                return Err(Error::malformed("missing values in a column that is not nullable"));
            }
            None => {}
        }
        push_values(&mut self.values, out, array)
    }

    fn push_codes(&mut self, out: &mut H5Out, array: &ArrayRef) -> Result<()> {
        let dictionary = array
            .as_dictionary_opt::<Int32Type>()
            .filter(|d| *d.values().data_type() == self.data_type)
            .ok_or_else(|| internal("a block of rows has another type than its column"))?;
        match &self.categories {
            None => {
                // The widths that pandas chooses.
                let (of, bytes) = match dictionary.values().len() {
                    0..127 => (Dtype::I8, 1),
                    127..32_767 => (Dtype::I16, 2),
                    _ => (Dtype::I32, 4),
                };
                self.values = self.values.with_type(dtype_type(of))?;
                self.code_bytes = bytes;
                self.categories = Some(dictionary.values().clone());
            }
            // Blocks of one column mostly share their categories.
            Some(known)
                if !Arc::ptr_eq(known, dictionary.values()) && known.to_data() != dictionary.values().to_data() =>
            {
                return Err(internal("a block of rows has other categories than the first"));
            }
            Some(_) => {}
        }
        let mut bytes = Vec::with_capacity(array.len() * self.code_bytes);
        for code in dictionary.keys() {
            bytes.extend_from_slice(&code.unwrap_or(-1).to_le_bytes()[..self.code_bytes]);
        }
        self.values.push(out, &bytes)
    }

    fn finish(self, out: &mut H5Out, path: &str, n_rows: u64, filter: Filter) -> Result<()> {
        let array = encoding_attrs("array", "0.2.0");
        let encoding =
            if self.data_type == DataType::Utf8 { encoding_attrs("string-array", "0.2.0") } else { array.clone() };
        if let ColumnKind::Categorical { ordered } = self.kind {
            let mut attrs = encoding_attrs("categorical", "0.2.0");
            attrs.push(Attr::bool("ordered", ordered));
            attrs.iter().try_for_each(|a| out.set_attr(path, a))?;
            self.values.finish(out, &format!("{path}/codes"), n_rows, &array)?;
            let mut values = DatasetWriter::new(value_type(&self.data_type)?, Vec::new(), filter, CHUNK)?;
            let n = match &self.categories {
                Some(categories) if categories.null_count() > 0 => {
                    return Err(Error::malformed("a category is missing (null)"));
                }
                Some(categories) => {
                    push_values(&mut values, out, categories)?;
                    categories.len() as u64
                }
                None => 0,
            };
            return values.finish(out, &format!("{path}/categories"), n, &encoding);
        }
        let Some(mask) = self.mask else {
            return self.values.finish(out, path, n_rows, &encoding);
        };
        let name = match self.data_type {
            DataType::Boolean => "nullable-boolean",
            DataType::Utf8 => "nullable-string-array",
            _ => "nullable-integer",
        };
        encoding_attrs(name, "0.1.0").iter().try_for_each(|a| out.set_attr(path, a))?;
        if self.kind == ColumnKind::NullableNan {
            out.set_attr(path, &Attr::string("na-value", "NaN"))?;
        }
        self.values.finish(out, &format!("{path}/values"), n_rows, &encoding)?;
        mask.finish(out, &format!("{path}/mask"), n_rows, &array)
    }
}

/// Appends values; a null is written as a zero, an empty string or, for floats, NaN.
fn push_values(writer: &mut DatasetWriter, out: &mut H5Out, array: &ArrayRef) -> Result<()> {
    macro_rules! numbers {
        ($($variant:ident => $t:ty, $null:expr);*) => {
            match array.data_type() {
                DataType::Boolean => {
                    let array = array.as_boolean();
                    let bytes: Vec<u8> = array.iter().map(|b| u8::from(b.unwrap_or(false))).collect();
                    writer.push(out, &bytes)
                }
                DataType::Utf8 => {
                    let strings = array.as_string::<i32>();
                    writer.push_strings(out, strings.iter().map(|s| s.unwrap_or("")))
                }
                $(DataType::$variant => {
                    let array = array.as_primitive::<$t>();
                    if array.null_count() == 0 {
                        return writer.push(out, array.values().to_byte_slice());
                    }
                    let values: Vec<_> = array.iter().map(|v| v.unwrap_or($null)).collect();
                    writer.push(out, values.to_byte_slice())
                })*
                _ => Err(internal("a type without a form")),
            }
        };
    }
    numbers!(
        Int8 => Int8Type, 0; Int16 => Int16Type, 0; Int32 => Int32Type, 0; Int64 => Int64Type, 0;
        UInt8 => UInt8Type, 0; UInt16 => UInt16Type, 0; UInt32 => UInt32Type, 0;
        UInt64 => UInt64Type, 0; Float16 => Float16Type, half_nan();
        Float32 => Float32Type, f32::NAN; Float64 => Float64Type, f64::NAN
    )
}

fn half_nan() -> <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native {
    arrow::datatypes::ArrowNativeTypeOp::div_wrapping(Default::default(), Default::default())
}
