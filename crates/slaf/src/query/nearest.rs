//! `nearest` and `nearest_genes` as functions that give a table.

use super::made_table::{Make, Rows, made_table};
use crate::search::{self, SearchOptions, SearchQuery};
use crate::selection::Selection;
use crate::store::{Snapshot, TableName};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::Expr;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{ArrayKey, Axis};
use slaf_kernels::neighbors::Measure;
use slaf_lance::error::from_arrow;
use slaf_sql::error::{from_datafusion, to_datafusion};
use slaf_sql::limits::Limits;
use std::sync::Arc;

/// Neighbours where a query names no number.
const K: usize = 10;

/// `nearest(key, query, k, metric)`: the cells, or with `nearest_genes` the genes, that are nearest to
/// one of them, by its name or its number, a gene also by its symbol, or to a vector.
#[derive(Debug)]
pub(super) struct NearestFunction {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) axis: Axis,
}

impl NearestFunction {
    pub(super) fn name(&self) -> &'static str {
        if self.axis == Axis::Cells { "nearest" } else { "nearest_genes" }
    }
}

impl TableFunctionImpl for NearestFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DfResult<Arc<dyn TableProvider>> {
        let asked = Asked::new(self.name(), self.axis, args.exprs()).map_err(to_datafusion)?;
        // An unknown array is known to be so before anything is read; what is no array needs a look.
        if !search::is_extra(&self.snapshot, &asked.key) {
            self.snapshot.array_entry(&asked.key).map_err(to_datafusion)?;
        }
        let (id, number) = match self.axis {
            Axis::Cells => ("cell_id", "cell_integer_id"),
            Axis::Genes => ("gene_id", "gene_integer_id"),
        };
        let schema = Arc::new(Schema::new(vec![
            Field::new(id, DataType::Utf8, false),
            Field::new(number, DataType::Int64, false),
            Field::new("distance", DataType::Float64, false),
            Field::new("rank", DataType::Int64, false),
        ]));
        Ok(made_table(schema, Nearest { snapshot: self.snapshot.clone(), asked }))
    }
}

#[derive(Debug)]
enum Target {
    Name(String),
    Number(u64),
    Point(Vec<f64>),
}

/// The arguments.
#[derive(Debug)]
struct Asked {
    key: ArrayKey,
    target: Target,
    k: usize,
    measure: Measure,
}

impl Asked {
    fn new(function: &str, axis: Axis, exprs: &[Expr]) -> Result<Asked> {
        let what = TableName::of_axis(axis).row();
        let usage = || {
            let usage = format!(
                "{function} takes the name of an array, a {what} (its name or number) or a list of numbers, how many, \
                 and a metric: {function}('X', 'name', 10, 'l2')"
            );
            Error::new(ErrorKind::InvalidQuery, usage)
        };
        let values = exprs.iter().map(|expr| match expr {
            Expr::Literal(value, _) if !value.is_null() => Ok(value),
            Expr::Placeholder(_) => Err(Error::new(
                ErrorKind::InvalidQuery,
                format!("of the arguments of {function}, a list of numbers alone can be a parameter"),
            )),
            _ => Err(usage()),
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        let text = |value: &ScalarValue| Some(value.try_as_str()??.to_string());
        let (key, target, k, metric) = match values[..] {
            [key, target] => (key, target, None, None),
            [key, target, k] => (key, target, Some(k), None),
            [key, target, k, metric] => (key, target, Some(k), Some(metric)),
            _ => return Err(usage()),
        };
        let target = match (text(target), whole(target)) {
            (Some(name), _) => Target::Name(name),
            (None, Some(number)) => Target::Number(number),
            (None, None) => Target::Point(numbers(target)?.ok_or_else(usage)?),
        };
        Ok(Asked {
            key: ArrayKey { axis, name: text(key).ok_or_else(usage)? },
            target,
            k: k.map_or(Some(K as u64), whole).ok_or_else(usage)? as usize,
            measure: match metric {
                Some(metric) => text(metric).ok_or_else(usage)?.parse()?,
                None if axis == Axis::Cells => Measure::L2,
                None => Measure::Cosine,
            },
        })
    }
}

/// A whole number that is not below 0.
fn whole(value: &ScalarValue) -> Option<u64> {
    let number = value.data_type().is_integer().then(|| value.cast_to(&DataType::UInt64).ok());
    match number.flatten() {
        Some(ScalarValue::UInt64(number)) => number,
        _ => None,
    }
}

/// The numbers of a list.
fn numbers(value: &ScalarValue) -> Result<Option<Vec<f64>>> {
    let array = value.to_array().map_err(from_datafusion)?;
    let items: ArrayRef = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(0),
        DataType::LargeList(_) => array.as_list::<i64>().value(0),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(0),
        _ => return Ok(None),
    };
    if !items.data_type().is_numeric() || items.null_count() > 0 {
        return Ok(None);
    }
    let wide = cast(&items, &DataType::Float64).map_err(from_arrow)?;
    Ok(Some(wide.as_primitive::<Float64Type>().values().to_vec()))
}

/// What was asked, found when a query is about to run.
#[derive(Debug)]
struct Nearest {
    snapshot: Arc<Snapshot>,
    asked: Asked,
}

#[async_trait]
impl Make for Nearest {
    async fn make(&self, schema: &SchemaRef, limits: Option<&Limits>) -> Result<Arc<dyn Rows>> {
        let Asked { key, target, k, measure } = &self.asked;
        let rows = |number: u64| SearchQuery::Rows(Selection::Ids(vec![number]));
        let query = match target {
            Target::Name(name) => rows(self.snapshot.row_of_name(key.axis, name).await?),
            Target::Number(number) => rows(*number),
            Target::Point(values) => SearchQuery::Points { dims: values.len(), values: values.clone() },
        };
        let going = |_, _| limits.is_none_or(|limits| limits.check().is_ok());
        let options = SearchOptions { k: *k, measure: *measure, ..SearchOptions::default() };
        let hits = search::nearest(&self.snapshot, key, &query, &options, &going).await?;
        let names = self.snapshot.ids_of(key.axis, &search::rows(&hits)).await?;
        let numbers = Int64Array::from_iter_values(hits.rows.iter().map(|&row| i64::from(row)));
        let distances = Float64Array::from(hits.distances.clone());
        let columns = vec![names, Arc::new(numbers), Arc::new(distances), search::ranks(&hits)];
        Ok(Arc::new(RecordBatch::try_new(schema.clone(), columns).map_err(from_arrow)?))
    }
}
