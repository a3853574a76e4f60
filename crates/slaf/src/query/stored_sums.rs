//! Counts, sums and means per cell or per gene, answered from what the store knows of each.

use super::grouped_exec::{GroupedExec, Groups, Prepared, unexpected};
use super::side_groups::GroupOf;
use super::view::Side;
use crate::selection::Selection;
use crate::store::schema;
use crate::store::values::primitive;
use crate::store::{Snapshot, TableName};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Float64Type, UInt32Type, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::PhysicalExpr;
use slaf_core::{Dtype, Result};
use slaf_ingest::MatrixKey;
use slaf_lance::error::from_arrow;
use slaf_sql::error::from_datafusion;
use std::sync::Arc;

/// Integers beyond are not exact in a float64.
const EXACT: f64 = 9_007_199_254_740_992.0;

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
    pub(super) async fn read(exec: &GroupedExec, prepared: &Prepared) -> Result<Option<StoredSums>> {
        let (view, chosen) = (&exec.leaf.view, &prepared.chosen);
        if view.keys[..] != [MatrixKey::X] || !exec.is_unfiltered() || !aggregates_are_sums(exec) {
            return Ok(None);
        }
        let all = |s: &Selection| *s == Selection::All;
        let one = |g: &GroupOf| matches!(g, GroupOf::One);
        let side = match (one(&prepared.rows.group_of), one(&prepared.cols.group_of)) {
            (_, true) if all(&chosen.cols) => Side::Rows,
            (true, _) if all(&chosen.rows) => Side::Cols,
            _ => return Ok(None),
        };
        let (n_rows, n_cols) = view.shape();
        let (ids, count, sum): (Vec<u64>, Vec<i64>, Vec<f64>) = match side {
            Side::Rows => {
                let ids = chosen.rows.iter(n_rows).collect();
                let nnz = view.inner.column_of(TableName::Cells, schema::NNZ, &chosen.rows).await?;
                let total = view.inner.column_of(TableName::Cells, schema::TOTAL, &chosen.rows).await?;
                let count = primitive::<UInt32Type>(&nnz, schema::NNZ)?.iter().map(|&n| i64::from(n)).collect();
                (ids, count, primitive::<Float64Type>(&total, schema::TOTAL)?.to_vec())
            }
            Side::Cols => {
                let ids: Vec<u64> = chosen.cols.iter(n_cols).collect();
                let Some((count, sum)) = gene_sums(&view.inner, &ids).await? else { return Ok(None) };
                (ids, count, sum)
            }
        };
        let integers = view.matrices.iter().all(|m| !m.dtype.is_float());
        if integers && sum.iter().any(|s| s.abs() >= EXACT) {
            return Ok(None);
        }
        Ok(Some(StoredSums { side, ids, count: count.into(), sum: sum.into() }))
    }

    /// Adds them to their groups and returns the ids of the groups of cells of their own.
    pub(super) fn merge(&self, exec: &GroupedExec, prepared: &Prepared, groups: &mut Groups<'_>) -> Result<Vec<u64>> {
        let of_side = if self.side == Side::Rows { &prepared.rows } else { &prepared.cols };
        let own_rows = matches!(prepared.rows.group_of, GroupOf::Own);
        let ids = if own_rows { self.ids.clone() } else { Vec::new() };
        groups.reserve(prepared.rows.len(ids.len()));
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

/// The number and the sum of the stored values of genes, from the statistics of the gene-major
/// rows; `None` for a store without these.
async fn gene_sums(inner: &Snapshot, genes: &[u64]) -> Result<Option<(Vec<i64>, Vec<f64>)>> {
    if inner.manifest.tables.by_gene.is_none() {
        return Ok(None);
    }
    let order = inner.order().await?;
    let (mut count, mut sum) = (vec![0i64; genes.len()], vec![0f64; genes.len()]);
    for stripe in &inner.manifest.stripes {
        let rows = Selection::Range(stripe.first_row..stripe.first_row + stripe.n_genes);
        let nnz = inner.column_of(TableName::ByGene, schema::NNZ, &rows).await?;
        let sums = inner.column_of(TableName::ByGene, schema::SUM, &rows).await?;
        let nnz = primitive::<UInt64Type>(&nnz, schema::NNZ)?;
        let sums = primitive::<Float64Type>(&sums, schema::SUM)?;
        for (i, &gene) in genes.iter().enumerate() {
            let rank = order.rank_of[gene as usize] as usize;
            if rank < nnz.len() {
                count[i] += nnz[rank] as i64;
                sum[i] += sums[rank];
            }
        }
    }
    Ok(Some((count, sum)))
}
