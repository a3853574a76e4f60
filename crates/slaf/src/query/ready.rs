//! What planning gives and running takes.

use arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// A query that can be run.
pub(super) struct Ready {
    pub(super) schema: SchemaRef,
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) context: Arc<TaskContext>,
}

/// The first name among these fields and those inside of them that no C string can hold, as
/// Arrow's interface between languages has them.
pub fn name_with_nul(fields: &Fields) -> Option<String> {
    fields.iter().find_map(|field| {
        if field.name().contains('\0') {
            return Some(field.name().clone());
        }
        match field.data_type() {
            DataType::Struct(inner) => name_with_nul(inner),
            DataType::List(inner)
            | DataType::LargeList(inner)
            | DataType::ListView(inner)
            | DataType::LargeListView(inner)
            | DataType::FixedSizeList(inner, _)
            | DataType::Map(inner, _) => name_with_nul(&Fields::from(vec![inner.clone()])),
            _ => None,
        }
    })
}
