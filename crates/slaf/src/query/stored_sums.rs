//! Counts, sums and means per cell or per gene, answered from what the store knows of each.

use super::grouped_exec::{GroupedExec, Groups, unexpected};
use super::side_groups::GroupOf;
use super::sides::Sides;
use super::view::Side;
use crate::selection::Selection;
use crate::store::sums::is_exact;
use crate::store::values::primitive;
use crate::store::{TableName, schema};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, UInt32Type};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::PhysicalExpr;
use slaf_core::{Dtype, Result};
use slaf_ingest::MatrixKey;
use slaf_lance::error::from_arrow;
use slaf_sql::error::from_datafusion;
use std::sync::Arc;

/// Sums of whole numbers of more than this are added one by one, to find those that overflow.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Cells whose values are read in less time than three columns of what is stored of them.
const FEW_CELLS: usize = 16;

/// The number and the sum of the stored values of each chosen cell, or gene.
#[derive(Debug)]
pub(super) struct StoredSums {
    side: Side,
    ids: Vec<u64>,
    count: Int64Array,
    sum: Float64Array,
}

impl StoredSums {
    /// Reads them, if they answer all aggregates.
    pub(super) async fn read(exec: &GroupedExec, sides: &Sides) -> Result<Option<StoredSums>> {
        let (view, chosen) = (&exec.leaf.view, &sides.chosen);
        if view.keys[..] != [MatrixKey::X] || !exec.is_unfiltered() || !aggregates_are_sums(exec) {
            return Ok(None);
        }
        let all = |s: &Selection| *s == Selection::All;
        let one = |g: &GroupOf| matches!(g, GroupOf::One);
        let are_few = matches!(&chosen.rows, Selection::Ids(cells) if cells.len() <= FEW_CELLS);
        let side = match (one(&sides.rows.group_of), one(&sides.cols.group_of)) {
            (_, true) if are_few && all(&chosen.cols) => return Ok(None),
            (_, true) if all(&chosen.cols) => Side::Rows,
            (true, _) if all(&chosen.rows) => Side::Cols,
            _ => return Ok(None),
        };
        let (n_rows, n_cols) = view.shape();
        let (ids, count, sum): (Vec<u64>, Vec<i64>, Vec<f64>) = match side {
            Side::Rows => {
                let Some(sums) = view.inner.cell_sums(&chosen.rows).await? else { return Ok(None) };
                let stored = view.inner.column_of(TableName::Cells, schema::NNZ, &chosen.rows).await?;
                let stored = primitive::<UInt32Type>(&stored, schema::NNZ)?;
                (chosen.rows.iter(n_rows).collect(), stored.iter().map(|&n| n.into()).collect(), sums.sum)
            }
            Side::Cols => {
                let Some(moments) = view.inner.gene_moments().await? else { return Ok(None) };
                let (dtype, order) = (view.matrices[0].dtype, view.inner.order().await?);
                let ids: Vec<u64> = chosen.cols.iter(n_cols).collect();
                let ranks = || ids.iter().map(|&gene| order.rank_of[gene as usize] as usize);
                let exact = |r: usize| is_exact(dtype, moments.stored[r], moments.sum[r], Some(moments.squares[r]));
                if !ranks().all(exact) {
                    return Ok(None);
                }
                let count = ranks().map(|r| moments.stored[r] as i64).collect();
                let sum = ranks().map(|r| moments.sum[r]).collect();
                (ids, count, sum)
            }
        };
        // Groups are of several cells or genes.
        let total: f64 = sum.iter().map(|s| s.abs()).sum();
        if view.matrices.iter().all(|m| !m.dtype.is_float()) && total >= LARGEST {
            return Ok(None);
        }
        Ok(Some(StoredSums { side, ids, count: count.into(), sum: sum.into() }))
    }

    /// Adds them to their groups and returns the ids of the groups of cells of their own.
    pub(super) fn merge(&self, exec: &GroupedExec, sides: &Sides, groups: &mut Groups<'_>) -> Result<Vec<u64>> {
        let of_side = if self.side == Side::Rows { &sides.rows } else { &sides.cols };
        let own_rows = matches!(sides.rows.group_of, GroupOf::Own);
        let ids = if own_rows { self.ids.clone() } else { Vec::new() };
        groups.reserve(sides.rows.len(ids.len()));
        // What has no values makes no group.
        let some = arrow::compute::kernels::cmp::gt(&self.count, &Int64Array::new_scalar(0)).map_err(from_arrow)?;
        let (count, sum) =
            (filter(&self.count, &some).map_err(from_arrow)?, filter(&self.sum, &some).map_err(from_arrow)?);
        let of = of_side.of(self.ids.iter().copied()).into_iter().zip(some.values().iter());
        let mut of: Vec<usize> = of.filter(|(_, some)| *some).map(|(g, _)| g as usize).collect();
        let total = groups.number(&mut of);
        if of.is_empty() {
            return Ok(ids);
        }
        for (accumulator, aggregate) in groups.accumulators.iter_mut().zip(exec.aggregate.aggr_expr()) {
            let fields = aggregate.state_fields().map_err(from_datafusion)?;
            let state = |i: usize, array: &dyn Array| -> Result<ArrayRef> {
                let field = fields.get(i).ok_or_else(|| unexpected("an aggregate with another state"))?;
                cast(array, field.data_type()).map_err(from_arrow)
            };
            let states = match aggregate.fun().name() {
                "count" => vec![state(0, &count)?],
                "sum" => vec![state(0, &sum)?],
                _ => vec![state(0, &count)?, state(1, &sum)?],
            };
            accumulator.merge_batch(&states, &of, None, total).map_err(from_datafusion)?;
        }
        Ok(ids)
    }
}

/// COUNT, SUM and AVG of the value.
fn aggregates_are_sums(exec: &GroupedExec) -> bool {
    let [matrix] = &exec.leaf.view.matrices[..] else { return false };
    let dtype = matrix.dtype;
    let mut aggregates = exec.aggregate.aggr_expr().iter().zip(exec.arguments());
    aggregates.all(|(aggregate, arguments)| {
        let [argument] = &arguments[..] else { return false };
        !aggregate.is_distinct()
            && match aggregate.fun().name() {
                "count" => is_value(argument, dtype) || is_not_null(argument),
                "sum" | "avg" => is_value(argument, dtype),
                _ => false,
            }
    })
}

/// The column of values, perhaps widened to a type that holds all of them.
fn is_value(expr: &Arc<dyn PhysicalExpr>, dtype: Dtype) -> bool {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) => {
            let widens = match cast.cast_type() {
                DataType::Float64 => true,
                DataType::Int64 => {
                    matches!(dtype, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64)
                        || matches!(dtype, Dtype::U8 | Dtype::U16 | Dtype::U32)
                }
                DataType::UInt64 => matches!(dtype, Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64),
                _ => false,
            };
            widens && is_value(cast.expr(), dtype)
        }
        None => expr.downcast_ref::<Column>().is_some_and(|c| c.name() == "value"),
    }
}

fn is_not_null(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>().is_some_and(|l| !matches!(l.value(), ScalarValue::Null) && !l.value().is_null())
}
