//! The dialect of the users: see [the module above](super).

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, Query, SelectItem, SetExpr, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use slaf_core::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Parses one statement.
pub(super) fn parse(sql: &str) -> Result<Statement> {
    let invalid = |what: String| Error::new(ErrorKind::InvalidQuery, what);
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .build()
        .and_then(|mut p| p.parse_statements())
        .map_err(|e| invalid(format!("SQL: {}", e.strip_backtrace())))?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (Some(_), false) => Err(invalid("more than one statement: pass one query at a time".to_string())),
        (None, _) => Err(invalid("no statement".to_string())),
    }
}

/// Turns every double-quoted word that names nothing into a string.
pub(super) fn strings_in_double_quotes(statement: &mut Statement, columns: &[String]) {
    let statement = match statement {
        Statement::Statement(inner) => inner,
        Statement::Explain(explain) => return strings_in_double_quotes(&mut explain.statement, columns),
        _ => return,
    };
    let mut names = Names(columns.iter().cloned().collect());
    let _ = Visit::visit(&**statement, &mut names);
    let _ = VisitMut::visit(&mut **statement, &mut Rewrite(names.0));
}

/// Collects the names that a statement itself defines.
struct Names(HashSet<String>);

impl Names {
    fn add(&mut self, ident: &Ident) {
        self.0.insert(ident.value.clone());
    }

    fn add_select(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => {
                for item in &select.projection {
                    if let SelectItem::ExprWithAlias { alias, .. } = item {
                        self.add(alias);
                    }
                }
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.add_select(left);
                self.add_select(right);
            }
            _ => {}
        }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.add_select(&query.body);
        for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
            self.add(&cte.alias.name);
            cte.alias.columns.iter().for_each(|c| self.add(&c.name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { alias, name, .. } = factor {
            alias.iter().for_each(|a| self.add(&a.name));
            name.0.iter().filter_map(ObjectNamePart::as_ident).for_each(|i| self.add(i));
        }
        if let TableFactor::Derived { alias: Some(alias), .. } = factor {
            self.add(&alias.name);
            alias.columns.iter().for_each(|c| self.add(&c.name));
        }
        ControlFlow::Continue(())
    }
}

struct Rewrite(HashSet<String>);

impl VisitorMut for Rewrite {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr
            && ident.quote_style == Some('"')
            && !self.0.contains(&ident.value)
        {
            *expr = Expr::Value(Value::SingleQuotedString(ident.value.clone()).into());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statement = parse(sql).unwrap();
        strings_in_double_quotes(&mut statement, &["batch".to_string(), "odd name".to_string()]);
        statement.to_string()
    }

    #[test]
    fn unknown_words_in_double_quotes_are_strings() {
        assert_eq!(
            rewritten(r#"SELECT "odd name" FROM cells WHERE batch = "b1" AND t IN ("T cells", 'x')"#),
            r#"SELECT "odd name" FROM cells WHERE batch = 'b1' AND t IN ('T cells', 'x')"#
        );
    }

    #[test]
    fn names_of_the_query_stay_names() {
        let sql = r#"WITH "a b" AS (SELECT n AS "my n" FROM cells) SELECT "my n" FROM "a b" ORDER BY "my n""#;
        assert_eq!(rewritten(sql), sql);
    }

    #[test]
    fn one_statement_at_a_time() {
        assert_eq!(parse("SELECT 1; SELECT 2").unwrap_err().kind(), ErrorKind::InvalidQuery);
        assert_eq!(parse("").unwrap_err().kind(), ErrorKind::InvalidQuery);
    }
}
