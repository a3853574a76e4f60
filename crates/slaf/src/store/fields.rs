//! The fields of the Lance tables for what a root manifest says of obs, var, obsm and varm.

use crate::store::frames::type_of;
use crate::store::manifest::{ArrayEntry, FrameSchema};
use crate::store::schema::array_field;
use arrow::datatypes::{DataType, Field};
use slaf_core::{Dtype, Result};

pub(crate) fn frame_fields(schema: &FrameSchema) -> Result<Vec<Field>> {
    let fields = schema.columns.iter().map(|c| {
        let held = if c.kind == "categorical" { DataType::Int32 } else { type_of(&c.data_type)? };
        Ok(Field::new(&c.id, held, true))
    });
    fields.collect()
}

pub(crate) fn array_fields<'a>(arrays: impl IntoIterator<Item = &'a ArrayEntry>) -> Result<Vec<Field>> {
    let held = arrays.into_iter().filter_map(|a| Some((a.column.as_ref()?, a)));
    held.map(|(column, a)| Ok(array_field(column, Dtype::from_name(&a.dtype)?, a.width))).collect()
}
