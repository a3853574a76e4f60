//! Filters on the numbers and names of cells or genes: they are evaluated on these alone, and
//! what passes is a selection of rows to read.

use super::choice::{Choice, intersect};
use super::view::{IdColumns, Side, View};
use crate::selection::Selection;
use crate::store::Snapshot;
use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::PhysicalExpr;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::Axis;
use slaf_lance::error::from_arrow;
use slaf_sql::error::from_datafusion;
use std::collections::HashMap;
use std::sync::Arc;

/// Numbers that are tried at once.
const STEP: usize = 1 << 16;

/// The side that an expression is about, if it is about one only.
pub(super) fn side(view: &View, expr: &Arc<dyn PhysicalExpr>) -> Option<Side> {
    view.side_of_columns(collect_columns(expr).iter().map(|c| c.name()))
}

/// The names of numbered cells or genes, as a dictionary over all of them.
pub(super) fn dictionary(names: &Arc<StringArray>, numbers: impl Iterator<Item = u64>) -> Result<ArrayRef> {
    let keys: Option<Vec<i32>> = numbers.map(|n| i32::try_from(n).ok()).collect();
    let keys = Int32Array::from(
        keys.ok_or_else(|| Error::new(ErrorKind::UnsupportedFeature, "names of more than 2^31 cells or genes"))?,
    );
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, names.clone()).map_err(from_arrow)?))
}

/// The cells or genes that choices leave of `n`, rising.
pub(super) async fn chosen(inner: &Snapshot, axis: Axis, choices: &[Choice], n: u64) -> Result<Selection> {
    let wanted = choices.iter().flat_map(|c| if let Choice::Names(names) = c { &names[..] } else { &[] });
    let wanted: Vec<&str> = wanted.map(String::as_str).collect();
    let found: HashMap<&str, Vec<u64>> = match wanted.is_empty() {
        true => HashMap::new(),
        false => wanted.iter().copied().zip(inner.find(axis, &wanted).await?).collect(),
    };
    let chosen = intersect(choices, n, |name| found.get(name).cloned().unwrap_or_default());
    Ok(chosen.map_or(Selection::All, Selection::Ids))
}

/// Those of a selection, rising, for which all filters are true. The filters use no other columns
/// than `ids`.
pub(super) async fn that_pass(
    inner: &Snapshot,
    ids: IdColumns,
    n: u64,
    filters: &[Arc<dyn PhysicalExpr>],
    selection: Selection,
) -> Result<Selection> {
    if filters.is_empty() || selection.is_empty(n) {
        return Ok(selection);
    }
    let uses = |name: &str| filters.iter().any(|f| collect_columns(f).iter().any(|c| c.name() == name));
    let names = if uses(ids.id) { Some(inner.ids(ids.axis).await?) } else { None };
    let mut fields = vec![Field::new(ids.number, DataType::Int64, false)];
    if names.is_some() {
        fields.push(Field::new(ids.id, crate::store::schema::id_type(), false));
    }
    let schema = Arc::new(Schema::new(fields));
    let filters: Vec<_> = filters
        .iter()
        .map(|f| reassign_expr_columns(f.clone(), &schema).map_err(from_datafusion))
        .collect::<Result<_>>()?;
    let mut passed = Vec::new();
    let mut left = selection.iter(n).peekable();
    while left.peek().is_some() {
        let mut numbers: Vec<u64> = left.by_ref().take(STEP).collect();
        for filter in &filters {
            let mut columns: Vec<ArrayRef> =
                vec![Arc::new(Int64Array::from_iter_values(numbers.iter().map(|&i| i as i64)))];
            if let Some(names) = &names {
                columns.push(dictionary(names, numbers.iter().copied())?);
            }
            let batch = RecordBatch::try_new(schema.clone(), columns).map_err(from_arrow)?;
            let value = filter.evaluate(&batch).and_then(|v| v.into_array(numbers.len())).map_err(from_datafusion)?;
            let passes = value
                .as_boolean_opt()
                .ok_or_else(|| Error::new(ErrorKind::InvalidQuery, format!("the filter {filter} is no condition")))?;
            let mut at = 0;
            numbers.retain(|_| {
                at += 1;
                passes.is_valid(at - 1) && passes.value(at - 1)
            });
        }
        passed.extend(numbers);
    }
    Ok(if passed.len() as u64 == n { Selection::All } else { Selection::Ids(passed) })
}
