use crate::error::from_datafusion;
use crate::names::{defined, for_each_ident, plain_name, reads, words_to_strings};
use crate::{Parameters, depth, genes, parameters};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Statement as Ast, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use futures::FutureExt;
use futures::future::BoxFuture;
use slaf_core::{Error, ErrorKind, Result, near};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// A query on its way from text to plan. The steps, in order: [`Query::parse`],
/// [`Query::unknown_names`], [`Query::add_genes`] with those of them that are genes,
/// [`Query::plan`].
#[derive(Debug)]
pub struct Query {
    /// What is explained, for an EXPLAIN.
    statement: Statement,
    columns: HashSet<String>,
}

/// A word that stands where a column may stand, and names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    pub name: String,
    /// It stands in double quotes, so that it is a string unless it is a gene.
    pub quoted: bool,
}

impl Query {
    /// Parses one statement, for tables with these columns. This and what follows until there is
    /// a plan must run with a stack of [`PLANNING_STACK`](crate::PLANNING_STACK).
    ///
    /// # Errors
    /// `invalid-query`, also for a query that is too deep or too large to be planned.
    pub fn parse(sql: &str, columns: HashSet<String>) -> Result<Query> {
        depth::check_text(sql)?;
        let mut statements = DFParserBuilder::new(sql)
            .with_dialect(&GenericDialect {})
            .build()
            .and_then(|mut p| p.parse_statements())
            .map_err(depth::from_parser)?;
        let invalid = |what| Err(Error::new(ErrorKind::InvalidQuery, what));
        match (statements.pop_front(), statements.is_empty()) {
            (Some(Statement::Explain(outer)), true) if matches!(*outer.statement, Statement::Explain(_)) => {
                invalid("EXPLAIN explains a query, not an EXPLAIN")
            }
            (Some(statement), true) => {
                let mut query = Query { statement, columns };
                if let Some(ast) = query.ast() {
                    depth::balance(ast);
                    depth::check(ast)?;
                }
                Ok(query)
            }
            (Some(_), false) => invalid("more than one statement: pass one query at a time"),
            (None, _) => invalid("no statement"),
        }
    }

    fn ast(&mut self) -> Option<&mut Ast> {
        let mut statement = &mut self.statement;
        loop {
            match statement {
                Statement::Statement(ast) => return Some(ast),
                Statement::Explain(explain) => statement = &mut explain.statement,
                _ => return None,
            }
        }
    }

    /// The names that may be genes: those that neither the tables nor the query define, if the
    /// query reads `cells`. A double-quoted word that is compared with a column is a string
    /// before it is a gene.
    pub fn unknown_names(&mut self) -> Vec<UnknownName> {
        let columns = self.columns.clone();
        let Some(ast) = self.ast() else { return Vec::new() };
        if !reads(ast, genes::CELLS) {
            return Vec::new();
        }
        let mut known = defined(ast);
        known.extend(columns);
        words_to_strings(ast, &known, true);
        let mut unknown: Vec<UnknownName> = Vec::new();
        for_each_ident(ast, |ident| {
            if !known.contains(&ident.value) && unknown.iter().all(|u| u.name != ident.value) {
                unknown.push(UnknownName { name: ident.value.clone(), quoted: ident.quote_style == Some('"') });
            }
        });
        unknown
    }

    /// Makes columns of these genes: `cells` becomes a table whose name lists them
    /// ([`gene_table`](crate::gene_table)).
    pub fn add_genes(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        if let Some(ast) = self.ast() {
            genes::add(ast, names);
        }
        self.columns.extend(names.iter().cloned());
    }

    /// Makes a logical plan over the tables of a session.
    ///
    /// # Errors
    /// `unknown-table` and `unknown-column` with near names, `invalid-query`, `read-only` for
    /// anything but a query, `invalid-argument` for parameters without a value and values without
    /// a parameter.
    pub fn plan<'a>(
        mut self,
        state: &'a SessionState,
        tables: &'a [String],
        parameters: &'a Parameters,
    ) -> BoxFuture<'a, Result<LogicalPlan>> {
        let prepare = |this: &mut Query| {
            let columns = this.columns.clone();
            let Some(ast) = this.ast() else { return Ok(None) };
            let mut known = defined(ast);
            known.extend(columns);
            words_to_strings(ast, &known, false);
            depth::equalities_to_lists(ast);
            parameters::number(ast);
            check_tables(ast, tables)?;
            parameters.bind(ast)
        };
        let prepared = prepare(&mut self);
        async move {
            let values = prepared?;
            let plan = state.statement_to_plan(self.statement).await.map_err(from_datafusion)?;
            let only_queries =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            only_queries.verify_plan(&plan).map_err(|_| {
                Error::new(ErrorKind::ReadOnly, "only queries are allowed: a store is not changed by SQL")
            })?;
            match values {
                Some(values) => plan.with_param_values(values).map_err(from_datafusion),
                None => Ok(plan),
            }
        }
        .boxed()
    }
}

/// Finds tables that neither the session nor the query has.
struct Tables<'a> {
    known: Vec<&'a str>,
    expressions: HashSet<String>,
    unknown: Option<String>,
}

impl Visitor for Tables<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &datafusion::sql::sqlparser::ast::Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|w| &w.cte_tables);
        self.expressions.extend(ctes.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor
            && let Some(name) = plain_name(name).map(|n| &n.value)
            && !self.known.contains(&name.as_str())
            && !self.expressions.contains(name)
            && genes::genes_of_table(name).is_none()
        {
            self.unknown = Some(name.clone());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Names the nearest table in place of one that is not there.
fn check_tables(statement: &Ast, tables: &[String]) -> Result<()> {
    let known: Vec<&str> = tables.iter().map(String::as_str).collect();
    let mut visitor = Tables { known, expressions: HashSet::new(), unknown: None };
    let _ = Visit::visit(statement, &mut visitor);
    let Some(name) = visitor.unknown else { return Ok(()) };
    let hint = match near(&name, visitor.known.into_iter()).first() {
        Some(table) => format!("did you mean {table}?"),
        None => format!("the store has {}", tables.join(", ")),
    };
    Err(Error::new(ErrorKind::UnknownTable, format!("no table \"{name}\"; {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> Query {
        Query::parse(sql, ["batch", "odd name", "cell_id"].map(String::from).into()).unwrap()
    }

    fn with_strings(sql: &str) -> String {
        let mut query = query(sql);
        let mut known = query.columns.clone();
        let ast = query.ast().unwrap();
        known.extend(defined(ast));
        words_to_strings(ast, &known, false);
        ast.to_string()
    }

    #[test]
    fn unknown_words_in_double_quotes_are_strings() {
        assert_eq!(
            with_strings(r#"SELECT "odd name" FROM cells WHERE batch = "b1" AND t IN ("T cells", 'x')"#),
            r#"SELECT "odd name" FROM cells WHERE batch = 'b1' AND t IN ('T cells', 'x')"#
        );
    }

    #[test]
    fn names_of_the_query_stay_names() {
        let sql = r#"WITH "a b" AS (SELECT n AS "my n" FROM cells) SELECT "my n" FROM "a b" ORDER BY "my n""#;
        assert_eq!(with_strings(sql), sql);
    }

    #[test]
    fn genes_are_unknown_names() {
        let unknown = |sql| query(sql).unknown_names().into_iter().map(|u| (u.name, u.quoted)).collect::<Vec<_>>();
        assert_eq!(
            unknown("SELECT batch, CD3D AS x, x FROM cells WHERE c.MS4A1 > 1"),
            [("CD3D".to_string(), false), ("MS4A1".to_string(), false)]
        );
        assert_eq!(
            unknown(r#"SELECT "HLA-A" FROM cells WHERE "HLA-B" > 1 AND batch = "CD3D""#),
            [("HLA-A".to_string(), true), ("HLA-B".to_string(), true)]
        );
        assert_eq!(unknown("SELECT CD3D AS CD3D FROM cells"), [("CD3D".to_string(), false)]);
        assert_eq!(unknown("SELECT CD3D FROM genes"), []);
    }

    #[test]
    fn genes_are_hidden_from_the_star() {
        let mut query = query("SELECT *, CD3D FROM cells JOIN (SELECT * FROM genes) g ON true");
        query.add_genes(&["CD3D".to_string()]);
        assert_eq!(
            query.ast().unwrap().to_string(),
            r#"SELECT * EXCLUDE ("CD3D"), CD3D FROM "cells+[""CD3D""]" AS cells JOIN (SELECT * FROM genes) g ON true"#
        );
        assert_eq!(genes::genes_of_table(r#"cells+["CD3D"]"#), Some(vec!["CD3D".to_string()]));
        assert_eq!(genes::genes_of_table("cells"), None);
    }

    #[test]
    fn question_marks_are_numbered() {
        let mut query = query("SELECT CASE WHEN a > ? THEN ? END FROM cells WHERE b = ? LIMIT 3");
        parameters::number(query.ast().unwrap());
        let expected = "SELECT CASE WHEN a > $1 THEN $2 END FROM cells WHERE b = $3 LIMIT 3";
        assert_eq!(query.ast().unwrap().to_string(), expected);
    }

    #[test]
    fn tables_have_near_names() {
        let check = |sql: &str| check_tables(query(sql).ast().unwrap(), &["cells".to_string(), "genes".to_string()]);
        assert!(check("WITH t AS (SELECT 1 FROM cells) SELECT * FROM t").is_ok());
        let error = check("SELECT * FROM cell").unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::UnknownTable, "no table \"cell\"; did you mean cells?")
        );
    }

    #[test]
    fn one_statement_at_a_time() {
        for sql in ["SELECT 1; SELECT 2", "", "SELEC 1"] {
            assert_eq!(Query::parse(sql, HashSet::new()).unwrap_err().kind(), ErrorKind::InvalidQuery);
        }
    }
}
