//! Aggregates of a column and of a cast of it, which have the same name for DataFusion: names do not
//! show casts.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};

/// Gives arguments of aggregates and windows with casts in them a name that shows these.
#[derive(Debug)]
pub(crate) struct ShownCasts;

impl ExprPlanner for ShownCasts {
    fn plan_aggregate(&self, mut raw: RawAggregateExpr) -> DfResult<PlannerResult<RawAggregateExpr>> {
        raw.args = shown(raw.args)?;
        Ok(PlannerResult::Original(raw))
    }

    fn plan_window(&self, mut raw: RawWindowExpr) -> DfResult<PlannerResult<RawWindowExpr>> {
        raw.args = shown(raw.args)?;
        Ok(PlannerResult::Original(raw))
    }
}

fn shown(arguments: Vec<Expr>) -> DfResult<Vec<Expr>> {
    let one = |argument: Expr| {
        let has_cast = argument.exists(|e| Ok(matches!(e, Expr::Cast(_) | Expr::TryCast(_))))?;
        let name = argument.to_string();
        Ok(if has_cast { argument.alias(name) } else { argument })
    };
    arguments.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use crate::{Columns, Dialect, Parameters, Query};
    use arrow::array::{Float64Array, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::SessionContext;
    use std::sync::Arc;

    async fn run(sql: &str) -> RecordBatch {
        let context = SessionContext::new();
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2, 2, 4]))]).unwrap();
        context.register_batch("cells", rows).unwrap();
        let query = Query::parse(sql, 0, Columns::default(), Dialect::Slaf).unwrap();
        let tables = ["cells".to_string()];
        let parameters = Parameters::default();
        let plan = query.plan(context.state(), &tables, &parameters, &|_| Vec::new()).await.unwrap();
        let batches = context.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        batches.into_iter().next().unwrap()
    }

    #[tokio::test]
    async fn aggregates_of_casts_are_told_from_those_of_columns() {
        let batch = run("SELECT SUM(n) a, SUM(CAST(n AS DOUBLE)) b, AVG(n * 2) c, AVG(CAST(n AS DOUBLE) * 2) d \
                         FROM cells HAVING MIN(TRY_CAST(n AS DOUBLE)) = MIN(n)")
        .await;
        assert_eq!(batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0), 9);
        for (column, expected) in [(1, 9.0), (2, 4.5), (3, 4.5)] {
            let found = batch.column(column).as_any().downcast_ref::<Float64Array>().unwrap();
            assert_eq!(found.value(0), expected);
        }
    }

    #[tokio::test]
    async fn windows_of_casts_are_told_from_those_of_columns() {
        let batch = run("SELECT SUM(n) OVER () + SUM(CAST(n AS DOUBLE)) OVER () AS both FROM cells LIMIT 1").await;
        assert_eq!(batch.column(0).as_any().downcast_ref::<Float64Array>().unwrap().value(0), 18.0);
    }

    #[tokio::test]
    async fn names_are_those_of_datafusion_where_they_suffice() {
        let batch = run("SELECT SUM(CAST(n AS DOUBLE)) FROM cells").await;
        assert_eq!(batch.schema().field(0).name(), "sum(cells.n)");
    }
}
