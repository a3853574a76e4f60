//! Tables of stored values for DataFusion: rows are unpacked on the fly.

use super::choice::{Choice, choice, is_plain};
use super::expression_exec::ExpressionExec;
use super::ids;
use super::view::{Side, View, ViewColumn};
use crate::selection::Selection;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue, Statistics, stats::Precision};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use slaf_core::{Error, ErrorKind, Result};
use slaf_sql::error::{from_datafusion, to_datafusion};
use std::sync::Arc;

impl View {
    /// The side that a filter is about, if it is about one only.
    fn side_of_filter(&self, filter: &Expr) -> Option<Side> {
        if !is_plain(filter) {
            return None;
        }
        self.side_of_columns(filter.column_refs().into_iter().map(|c| c.name.as_str()))
    }

    /// The rows or columns that filters leave.
    async fn choose(&self, state: &dyn Session, filters: &[&Expr], side: Side) -> Result<Selection> {
        let ids = self.ids(side);
        let n = self.len(side);
        let (mut choices, mut rest) = (Vec::new(), Vec::<Arc<dyn PhysicalExpr>>::new());
        for filter in filters {
            match choice(filter) {
                // What can be looked up is not tried on every row.
                Some((column, c)) if (column == ids.id) == matches!(c, Choice::Names(_)) => choices.push(c),
                _ => {
                    let schema = DFSchema::try_from(self.schema.as_ref().clone()).map_err(from_datafusion)?;
                    rest.push(state.create_physical_expr((*filter).clone(), &schema).map_err(from_datafusion)?);
                }
            }
        }
        let chosen = ids::chosen(&self.inner, ids.axis, &choices, n).await?;
        ids::that_pass(&self.inner, ids, n, &rest, chosen).await
    }
}

/// A [`View`] for DataFusion.
#[derive(Debug)]
pub(super) struct ViewTable {
    pub(super) view: Arc<View>,
    pub(super) pushdown: bool,
}

impl ViewTable {
    /// A scan of these columns of the view, in one partition, so that the rows come in order.
    pub(super) fn scan_of(
        &self,
        columns: &[usize],
        rows: Selection,
        cols: Selection,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (n_rows, n_cols) = self.view.shape();
        rows.check(n_rows, "row")?;
        cols.check(n_cols, "column")?;
        let columns = columns.iter().map(|&at| self.view.column(at)).collect();
        Ok(Arc::new(ExpressionExec::new(self.view.clone(), columns, rows, cols, 1, None)))
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        self.view.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.view.schema);
        if let [matrix] = &self.view.matrices[..] {
            statistics.num_rows = Precision::Exact(matrix.nnz as usize);
        }
        Some(statistics)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let kind = |filter: &&Expr| match self.view.side_of_filter(filter) {
            Some(_) if self.pushdown => TableProviderFilterPushDown::Exact,
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(kind).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        // A filter that was accepted may have become a constant since.
        let constant =
            |f: &Expr| matches!(f, Expr::Literal(v, _) if v.is_null() || *v == ScalarValue::Boolean(Some(false)));
        if filters.iter().any(constant) {
            let schema = match projection {
                Some(columns) => Arc::new(self.view.schema.project(columns)?),
                None => self.view.schema.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let of = |side| filters.iter().filter(|f| self.view.side_of_filter(f) == Some(side)).collect::<Vec<_>>();
        let (on_rows, on_cols) = (of(Side::Rows), of(Side::Cols));
        if on_rows.len() + on_cols.len() != filters.len() {
            return Err(to_datafusion(Error::new(ErrorKind::Internal, "a filter that was not accepted")));
        }
        let rows = self.view.choose(state, &on_rows, Side::Rows).await.map_err(to_datafusion)?;
        let cols = self.view.choose(state, &on_cols, Side::Cols).await.map_err(to_datafusion)?;
        let all: Vec<usize> = (0..self.view.schema.fields().len()).collect();
        let columns: Vec<ViewColumn> = projection.unwrap_or(&all).iter().map(|&at| self.view.column(at)).collect();
        let partitions = state.config().target_partitions();
        Ok(Arc::new(ExpressionExec::new(self.view.clone(), columns, rows, cols, partitions, limit)))
    }
}
