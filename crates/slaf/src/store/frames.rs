//! Columns of obs and var between Arrow, as users see them, and the Lance tables.
//!
//! A categorical is held as its codes; all its categories, used or not, are beside the tables in
//! one Arrow IPC file with a list column for each categorical.

use super::ipc::{from_ipc, to_ipc};
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, ListArray, RecordBatch, make_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Int32Type, Schema};
use bytes::Bytes;
use slaf_core::{Error, Result};
use slaf_lance::error::from_arrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Splits a categorical into codes and categories; `None` for any other array.
pub(crate) fn split_dictionary(array: &ArrayRef) -> Option<(ArrayRef, ArrayRef)> {
    let dictionary = array.as_dictionary_opt::<Int32Type>()?;
    Some((Arc::new(dictionary.keys().clone()), dictionary.values().clone()))
}

/// The categories of every categorical column by the column's id.
pub(crate) type Categories = BTreeMap<String, ArrayRef>;

/// Writes the categories as an Arrow IPC file.
pub(crate) fn categories_to_ipc(categories: &Categories) -> Result<Bytes> {
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (id, values) in categories {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths([values.len()]), values.clone(), None)
            .map_err(from_arrow)?;
        fields.push(Field::new(id, list.data_type().clone(), false));
        columns.push(Arc::new(list));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(from_arrow)?;
    to_ipc(&batch)
}

/// Reads what [`categories_to_ipc`] wrote.
pub(crate) fn categories_from_ipc(bytes: Bytes) -> Result<Categories> {
    let batch = from_ipc(bytes, "categories")?;
    let schema = batch.schema();
    let lists = schema.fields().iter().zip(batch.columns());
    lists
        .map(|(field, column)| {
            let list = column
                .as_list_opt::<i32>()
                .filter(|l| l.len() == 1)
                .ok_or_else(|| Error::corrupt(format!("categories: column {} is no list", field.name())))?;
            // A copy lets go of the file's buffer.
            Ok((field.name().clone(), make_array(list.value(0).to_data())))
        })
        .collect()
}

/// Joins codes with categories.
pub(crate) fn join_dictionary(codes: &ArrayRef, categories: &ArrayRef) -> Result<ArrayRef> {
    let codes: &Int32Array = codes
        .as_primitive_opt::<Int32Type>()
        .ok_or_else(|| Error::corrupt("codes of a categorical that are no int32"))?;
    let joined = DictionaryArray::<Int32Type>::try_new(codes.clone(), categories.clone())
        .map_err(|e| Error::corrupt(format!("codes of a categorical: {e}")))?;
    Ok(Arc::new(joined))
}
