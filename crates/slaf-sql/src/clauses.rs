//! Clauses that DataFusion reads and does not heed, and comparisons with a subquery that it gets
//! wrong. The first are refused, the second written so that it gets them right.

use crate::error::OF_DUCKDB;
use crate::walk::{walk, walk_mut};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, GroupByWithModifier, Ident, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, Visitor, VisitorMut,
};
use slaf_core::{Error, ErrorKind, Result};
use std::ops::ControlFlow;

/// Refuses clauses that would be left out without a word.
///
/// # Errors
/// `invalid-query`.
pub(crate) fn check(statement: &Statement) -> Result<()> {
    let mut unheeded = Unheeded::default();
    let _ = walk(statement, &mut unheeded);
    unheeded.0.map_or(Ok(()), |message| Err(Error::new(ErrorKind::InvalidQuery, message)))
}

/// Looks for them, and has the message about the first.
#[derive(Default)]
struct Unheeded(Option<String>);

impl Unheeded {
    fn refuse(&mut self, message: String) -> ControlFlow<()> {
        self.0 = Some(message);
        ControlFlow::Break(())
    }

    fn refuse_if(&mut self, is_there: bool, what: &str) -> ControlFlow<()> {
        match is_there {
            true => self.refuse(format!("there is no {what} here{OF_DUCKDB}")),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Unheeded {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.refuse_if(!query.locks.is_empty() || query.for_clause.is_some(), "FOR")?;
        self.refuse_if(query.settings.is_some(), "SETTINGS")?;
        self.refuse_if(query.format_clause.is_some(), "FORMAT")
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        // The parser takes all that follows as the right side.
        let (Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)) = expr else {
            return ControlFlow::Continue(());
        };
        match &**right {
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor), .. } => self
                .refuse(format!(
                    "{op} after IS DISTINCT FROM: put the comparison into parentheses, (a IS DISTINCT FROM b) {op} ..."
                )),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.refuse_if(select.prewhere.is_some(), "PREWHERE")?;
        self.refuse_if(!select.connect_by.is_empty(), "CONNECT BY")?;
        self.refuse_if(select.value_table_mode.is_some(), "AS STRUCT or AS VALUE")?;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        if let Some(modifier) = modifiers.first() {
            let what = match modifier {
                GroupByWithModifier::Rollup => "WITH ROLLUP: write GROUP BY ROLLUP (a, b)",
                GroupByWithModifier::Cube => "WITH CUBE: write GROUP BY CUBE (a, b)",
                _ => "modifier of GROUP BY: write GROUP BY GROUPING SETS ((a), ())",
            };
            return self.refuse(format!("there is no {what}"));
        }
        select.projection.iter().try_for_each(|item| match item {
            SelectItem::Wildcard(options)
            | SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), options) => {
                self.refuse_if(options.opt_ilike.is_some(), "* ILIKE")
            }
            _ => ControlFlow::Continue(()),
        })
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                sample,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                index_hints,
                ..
            } => {
                self.refuse_if(sample.is_some(), "TABLESAMPLE: write WHERE random() < 0.1")?;
                self.refuse_if(version.is_some(), "version of a table")?;
                self.refuse_if(*with_ordinality, "WITH ORDINALITY")?;
                self.refuse_if(!partitions.is_empty() || json_path.is_some(), "part of a table")?;
                self.refuse_if(!with_hints.is_empty() || !index_hints.is_empty(), "hint for a table")
            }
            TableFactor::Derived { sample, .. } => {
                self.refuse_if(sample.is_some(), "TABLESAMPLE: write WHERE random() < 0.1")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The name of a column that ANY or ALL compare with.
const COMPARED: &str = "compared with";

/// Gives names to what ANY and ALL compare with: DataFusion takes a column of the subquery for the
/// one outside, if its table has the same name there.
pub(crate) fn name_compared(statement: &mut Statement) {
    struct Name;
    impl VisitorMut for Name {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } = expr
                && let Expr::Subquery(query) = &mut **right
                && let SetExpr::Select(select) = &mut *query.body
                && let [item] = &mut select.projection[..]
                && let SelectItem::UnnamedExpr(of) = item
            {
                let alias = Ident::with_quote('"', COMPARED);
                *item = SelectItem::ExprWithAlias { expr: of.clone(), alias };
            }
            ControlFlow::Continue(())
        }
    }
    let _ = walk_mut(statement, &mut Name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn parsed(sql: &str) -> Statement {
        Parser::parse_sql(&GenericDialect {}, sql).unwrap().swap_remove(0)
    }

    #[test]
    fn clauses_without_effect_are_refused() {
        for sql in [
            "SELECT a FROM cells FOR UPDATE",
            "SELECT a FROM cells PREWHERE a > 0",
            "SELECT a FROM cells TABLESAMPLE (10 PERCENT)",
            "SELECT a FROM (SELECT a FROM cells) t TABLESAMPLE (10 PERCENT)",
            "SELECT a FROM cells SETTINGS a = 1",
            "SELECT a FROM cells FORMAT JSON",
            "SELECT a, COUNT(*) FROM cells GROUP BY a WITH TOTALS",
            "SELECT a, COUNT(*) FROM cells GROUP BY a WITH ROLLUP",
            "SELECT * ILIKE 'b%' FROM cells",
            "SELECT a FROM cells WITH (NOLOCK)",
            "SELECT a FROM cells PARTITION (p)",
            "SELECT 1 WHERE EXISTS (SELECT a FROM cells PREWHERE a > 0)",
        ] {
            assert_eq!(check(&parsed(sql)).unwrap_err().kind(), ErrorKind::InvalidQuery, "{sql}");
        }
        for sql in ["SELECT * EXCLUDE (a) FROM cells GROUP BY ROLLUP (a)", "SELECT a FROM cells c, (SELECT 1) t"] {
            assert!(check(&parsed(sql)).is_ok(), "{sql}");
        }
    }

    #[test]
    fn what_is_compared_has_a_name() {
        let mut statement = parsed("SELECT 1 FROM t WHERE n > ALL(SELECT n FROM t) AND n < ANY(SELECT n AS m FROM t)");
        name_compared(&mut statement);
        assert_eq!(
            statement.to_string(),
            r#"SELECT 1 FROM t WHERE n > ALL(SELECT n AS "compared with" FROM t) AND n < ANY(SELECT n AS m FROM t)"#
        );
    }
}
