//! `expression`, `layers` and the graphs as tables: a row for each stored value, unpacked on the
//! fly.

use super::choice::{Choice, choice, intersect};
use super::expression_exec::ExpressionExec;
use super::ids::{self, Side};
use crate::selection::Selection;
use crate::store::Snapshot;
use crate::store::manifest::MatrixEntry;
use crate::store::schema::id_type;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, Statistics, stats::Precision};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Axis, MatrixKey, arrow_type};
use slaf_sql::error::{from_datafusion, to_datafusion};
use std::sync::Arc;

/// The columns that number and name the cells or genes of one side of a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdColumns {
    pub(super) axis: Axis,
    pub(super) number: &'static str,
    pub(super) id: &'static str,
}

const CELLS: IdColumns = IdColumns { axis: Axis::Cells, number: "cell_integer_id", id: "cell_id" };
const GENES: IdColumns = IdColumns { axis: Axis::Genes, number: "gene_integer_id", id: "gene_id" };
const OTHER_CELLS: IdColumns = IdColumns { axis: Axis::Cells, number: "other_cell_integer_id", id: "other_cell_id" };
const OTHER_GENES: IdColumns = IdColumns { axis: Axis::Genes, number: "other_gene_integer_id", id: "other_gene_id" };

/// Matrices of one shape as a table. Its columns: the numbers of row and column, the values of
/// each matrix, the names of row and column.
#[derive(Debug)]
pub(super) struct View {
    pub(super) inner: Arc<Snapshot>,
    pub(super) matrices: Vec<MatrixEntry>,
    pub(super) keys: Vec<MatrixKey>,
    pub(super) schema: SchemaRef,
    pub(super) rows: IdColumns,
    pub(super) cols: IdColumns,
}

impl View {
    /// One matrix: its values are the column `value`.
    pub(super) fn of_matrix(inner: Arc<Snapshot>, matrix: MatrixEntry) -> Result<View> {
        let (rows, cols) = match matrix.key() {
            MatrixKey::Obsp(_) => (CELLS, OTHER_CELLS),
            MatrixKey::Varp(_) => (GENES, OTHER_GENES),
            _ => (CELLS, GENES),
        };
        View::new(inner, vec![("value".to_string(), matrix)], rows, cols)
    }

    /// Layers side by side: a row for each position at which one of them has a stored value.
    pub(super) fn of_layers(inner: Arc<Snapshot>, layers: Vec<MatrixEntry>) -> Result<View> {
        let taken = [CELLS.number, CELLS.id, GENES.number, GENES.id];
        let shown = |m: &MatrixEntry| match taken.contains(&m.name.as_str()) {
            true => format!("layers:{}", m.name),
            false => m.name.clone(),
        };
        View::new(inner, layers.into_iter().map(|m| (shown(&m), m)).collect(), CELLS, GENES)
    }

    fn new(
        inner: Arc<Snapshot>,
        matrices: Vec<(String, MatrixEntry)>,
        rows: IdColumns,
        cols: IdColumns,
    ) -> Result<View> {
        let number = |ids: IdColumns| Field::new(ids.number, DataType::Int64, false);
        let id = |ids: IdColumns| Field::new(ids.id, id_type(), false);
        let mut fields = vec![number(rows), number(cols)];
        for (shown, matrix) in &matrices {
            fields.push(Field::new(shown, arrow_type(matrix.dtype), false));
        }
        fields.extend([id(rows), id(cols)]);
        let matrices: Vec<MatrixEntry> = matrices.into_iter().map(|(_, m)| m).collect();
        let keys = matrices.iter().map(MatrixEntry::key).collect();
        Ok(View { inner, matrices, keys, schema: Arc::new(Schema::new(fields)), rows, cols })
    }

    /// The number of rows and columns of the matrices.
    pub(super) fn shape(&self) -> (u64, u64) {
        self.matrices.first().map_or((0, 0), |m| (m.n_rows, m.n_cols))
    }

    /// The side whose columns a name is one of.
    fn side_of_column(&self, name: &str) -> Option<Side> {
        match name {
            _ if name == self.rows.number || name == self.rows.id => Some(Side::Rows),
            _ if name == self.cols.number || name == self.cols.id => Some(Side::Cols),
            _ => None,
        }
    }

    /// The side that all of these columns are about, if it is one.
    pub(super) fn side_of_columns<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<Side> {
        let mut sides = names.map(|name| self.side_of_column(name));
        let first = sides.next()??;
        sides.all(|s| s == Some(first)).then_some(first)
    }

    pub(super) fn ids(&self, side: Side) -> IdColumns {
        match side {
            Side::Rows => self.rows,
            Side::Cols => self.cols,
        }
    }

    /// The side that a filter is about, if it is about one only.
    fn side_of_filter(&self, filter: &Expr) -> Option<Side> {
        // A subquery has columns of its own; a volatile function is not the same for all rows.
        let plain = filter.apply(|e| {
            Ok(match e {
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..) => {
                    TreeNodeRecursion::Stop
                }
                _ => TreeNodeRecursion::Continue,
            })
        });
        if filter.is_volatile() || !matches!(plain, Ok(TreeNodeRecursion::Continue)) {
            return None;
        }
        self.side_of_columns(filter.column_refs().into_iter().map(|c| c.name.as_str()))
    }

    /// The rows or columns that filters leave.
    async fn choose(&self, state: &dyn Session, filters: &[&Expr], side: Side) -> Result<Selection> {
        let ids = self.ids(side);
        let n = match side {
            Side::Rows => self.shape().0,
            Side::Cols => self.shape().1,
        };
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
        let named = choices.iter().any(|c| matches!(c, Choice::Names(_)));
        let names = if named { Some(self.inner.names(ids.axis).await?) } else { None };
        let chosen = intersect(&choices, n, |name| names.as_ref().map_or(vec![], |names| names.find(name)));
        let chosen = chosen.map_or(Selection::All, Selection::Ids);
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
        columns: Vec<usize>,
        rows: Selection,
        cols: Selection,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (n_rows, n_cols) = self.view.shape();
        rows.check(n_rows, "row")?;
        cols.check(n_cols, "column")?;
        let exec = ExpressionExec::new(self.view.clone(), columns, rows, cols, 1, None);
        Ok(Arc::new(exec.map_err(from_datafusion)?))
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
        let of = |side| filters.iter().filter(|f| self.view.side_of_filter(f) == Some(side)).collect::<Vec<_>>();
        let (on_rows, on_cols) = (of(Side::Rows), of(Side::Cols));
        if on_rows.len() + on_cols.len() != filters.len() {
            return Err(to_datafusion(Error::new(ErrorKind::Internal, "a filter that was not accepted")));
        }
        let rows = self.view.choose(state, &on_rows, Side::Rows).await.map_err(to_datafusion)?;
        let cols = self.view.choose(state, &on_cols, Side::Cols).await.map_err(to_datafusion)?;
        let all: Vec<usize> = (0..self.view.schema.fields().len()).collect();
        let columns = projection.cloned().unwrap_or(all);
        let partitions = state.config().target_partitions();
        Ok(Arc::new(ExpressionExec::new(self.view.clone(), columns, rows, cols, partitions, limit)?))
    }
}
