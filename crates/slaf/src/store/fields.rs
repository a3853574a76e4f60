//! The fields of the Lance tables for what a root manifest says of obs, var, obsm and varm.

use crate::store::manifest::{ArrayEntry, FrameSchema, Kind};
use crate::store::schema::array_field;
use arrow::datatypes::{DataType, Field};

pub(crate) fn frame_fields(schema: &FrameSchema) -> Vec<Field> {
    let fields = schema.columns.iter().map(|c| {
        let held = if c.kind == Kind::Categorical { DataType::Int32 } else { c.data_type.arrow() };
        Field::new(&c.id, held, true)
    });
    fields.collect()
}

pub(crate) fn array_fields<'a>(arrays: impl IntoIterator<Item = &'a ArrayEntry>) -> Vec<Field> {
    let held = arrays.into_iter().filter_map(|a| Some((a.column.as_ref()?, a)));
    held.map(|(column, a)| array_field(column, a.dtype, a.width)).collect()
}
