//! Casts of a column beside the column, which have the same name for DataFusion: names do not show casts.

use crate::aliases::expression;
use crate::walk::{walk, walk_mut};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, SelectItem, Statement, Visitor, VisitorMut};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Gives all that has casts in it a name that shows them, and columns without a name of their own the
/// query's text for it.
pub(crate) fn show(statement: &mut Statement) {
    let _ = walk_mut(statement, &mut ShownCasts);
}

/// Whether a plan groups by expressions that have one name, which the optimizer finds out.
pub(crate) fn are_groups_of_one_name(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            let mut names = HashSet::new();
            found = !aggregate.group_expr.iter().all(|group| names.insert(group.schema_name().to_string()));
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.is_ok() && found
}

struct ShownCasts;

impl VisitorMut for ShownCasts {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && walk(expr, &mut FindCast).is_break()
            {
                let alias = Ident::with_quote('"', expr.to_string());
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { kind, expr: of, data_type, .. } = &*expr
            && !matches!(**of, Expr::Value(_))
        {
            // The optimizer takes the condition away, and keeps the name that has it.
            let condition = format!("{kind:?} {data_type}").replace('\'', "''");
            let shown = format!("CASE WHEN '{condition}' IS NOT NULL THEN $1 END");
            if let Some(shown) = expression(&shown, std::slice::from_ref(expr)) {
                *expr = shown;
            }
        }
        ControlFlow::Continue(())
    }
}

struct FindCast;

impl Visitor for FindCast {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Columns, Dialect, Parameters, Query};
    use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch};
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
    async fn casts_are_groups_and_columns_beside_what_they_are_of() {
        for sql in [
            "SELECT n, CAST(n AS TEXT) FROM cells ORDER BY n LIMIT 1",
            "SELECT DISTINCT n, CAST(n AS TEXT) FROM cells ORDER BY n LIMIT 1",
            "SELECT n, CAST(n AS TEXT) FROM cells GROUP BY n, CAST(n AS TEXT) ORDER BY n LIMIT 1",
            "SELECT n, TRY_CAST(n AS TEXT) AS t FROM cells GROUP BY 1, 2 HAVING COUNT(*) = 1 ORDER BY 1 LIMIT 1",
            "SELECT n, CAST(n AS TEXT) AS t FROM cells GROUP BY n, t ORDER BY t LIMIT 1",
            "SELECT * FROM (SELECT n + 1, CAST(CAST(n + 1 AS INT) - 1 AS TEXT) FROM cells) ORDER BY 2 LIMIT 1",
            "SELECT n, CAST(n AS TEXT) FROM cells GROUP BY ROLLUP(n, CAST(n AS TEXT)) ORDER BY 1 LIMIT 1",
        ] {
            let batch = run(sql).await;
            let text = arrow::compute::cast(batch.column(1), &DataType::Utf8).unwrap();
            assert_eq!((batch.num_rows(), text.as_string::<i32>().value(0)), (1, "1"), "{sql}");
        }
        assert_eq!(run("SELECT n, CAST(n AS TEXT) FROM cells").await.schema().field(1).name(), "CAST(n AS TEXT)");
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
