use crate::columns::Columns;
use crate::division::Division;
use crate::error::{from_datafusion, is_repeated_name, unknown_field};
use crate::kinds::Scope;
use crate::names::{defined, for_each_ident, plain_name, tables};
use crate::parameters::Parameters;
use crate::unknown::{Hints, NearGenes};
use crate::walk::walk;
use crate::words::words_to_strings;
use crate::{aliases, casts, clauses, depth, from_first, genes, integers, lists, parameters, string_agg};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Statement as Ast, TableFactor, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use futures::FutureExt;
use futures::future::BoxFuture;
use slaf_core::{Error, ErrorKind, Result, near};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Which rules hold where SLAF's differ from those of the standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// A word in double quotes that names no column is a string where it is compared with text;
    /// `/` of whole numbers gives a fraction.
    #[default]
    Slaf,
    /// A word in double quotes is a name; `/` of whole numbers gives a whole number.
    Standard,
}

slaf_core::names!(Dialect, "dialect", { Slaf => "slaf", Standard => "standard" });

/// A query on its way from text to plan. The steps, in order: [`Query::parse`],
/// [`Query::unknown_names`], [`Query::add_genes`] with those of them that are genes,
/// [`Query::plan`].
#[derive(Debug)]
pub struct Query {
    /// What is explained, for an EXPLAIN.
    statement: Statement,
    columns: Columns,
    dialect: Dialect,
}

impl Query {
    /// Parses one statement, for tables with these columns. Places in errors are counted from behind its
    /// first `lines_before` lines, which are not the user's. This and what follows until there is
    /// a plan must run with a stack of [`PLANNING_STACK`](crate::PLANNING_STACK).
    ///
    /// # Errors
    /// `invalid-query`, also for a query that is too deep or too large to be planned.
    pub fn parse(sql: &str, lines_before: u64, columns: Columns, dialect: Dialect) -> Result<Query> {
        depth::check_text(sql)?;
        let parser = GenericDialect {};
        let tokens = lists::tokens(sql, lines_before, &parser)
            .map_err(|e| from_datafusion(DataFusionError::SQL(Box::new(e.into()), None)))?;
        from_first::check_numbers(&tokens)?;
        let tokens = from_first::select_all(tokens);
        let mut statements = DFParserBuilder::new(tokens)
            .with_dialect(&parser)
            .build()
            .and_then(|mut p| p.parse_statements())
            .map_err(depth::from_parser)?;
        let invalid = |what| Err(Error::new(ErrorKind::InvalidQuery, what));
        let statement = match (statements.pop_front(), statements.is_empty()) {
            (Some(Statement::Explain(outer)), true) if matches!(*outer.statement, Statement::Explain(_)) => {
                return invalid("EXPLAIN explains a query, not an EXPLAIN");
            }
            (Some(statement), true) => statement,
            (Some(_), false) => return invalid("more than one statement: pass one query at a time"),
            (None, _) => return invalid("no statement"),
        };
        let mut query = Query { statement, columns, dialect };
        if let Some(ast) = ast(&mut query.statement) {
            depth::balance(ast);
            depth::check(ast)?;
            aliases::check(ast)?;
            clauses::check(ast)?;
            aliases::resolve(ast);
            string_agg::cast_arguments(ast);
        }
        Ok(query)
    }

    /// The names that may be genes: those that neither the tables nor the query define, if the
    /// query reads `cells`. A double-quoted word that is compared with text is a string before it
    /// is a gene.
    pub fn unknown_names(&mut self) -> Vec<String> {
        let Some(ast) = ast(&mut self.statement) else { return Vec::new() };
        let read = tables(ast);
        let columns = self.columns.of(|table| read.contains_key(table));
        let scope = Scope { columns: &columns, defined: defined(ast) };
        if self.dialect == Dialect::Slaf {
            words_to_strings(ast, &scope);
        }
        let Some(cells) = read.get(genes::CELLS) else { return Vec::new() };
        let (mut unknown, mut seen) = (Vec::new(), HashSet::new());
        for_each_ident(ast, |ident, table| {
            let known = match table {
                Some(table) if cells.contains(&table.value) => columns.cells_have(&ident.value),
                _ => scope.contains(&ident.value),
            };
            if !known && seen.insert(ident.value.clone()) {
                unknown.push(ident.value.clone());
            }
        });
        unknown
    }

    /// Takes these genes for columns of `cells`. The session's table of that name has them behind
    /// the others; `*` does not show them.
    pub fn add_genes<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let names: Vec<&str> = names.collect();
        if let Some(ast) = ast(&mut self.statement) {
            genes::hide(ast, &names);
        }
        names.iter().for_each(|name| self.columns.add(genes::CELLS, name, &DataType::Float64));
    }

    /// Makes a logical plan over the tables of a session, in which parameters stand for their
    /// values: [`Template`](crate::Template) has those put in. `near_genes` has the genes that a
    /// query which names no column may mean.
    ///
    /// # Errors
    /// `unknown-table` and `unknown-column` with near names, `invalid-query`, `read-only` for
    /// anything but a query, `invalid-argument` for parameters without a value and values without
    /// a parameter.
    pub fn plan<'a>(
        mut self,
        mut state: SessionState,
        tables: &'a [String],
        parameters: &'a Parameters,
        near_genes: &'a NearGenes<'a>,
    ) -> BoxFuture<'a, Result<LogicalPlan>> {
        let prepared = match ast(&mut self.statement) {
            Some(ast) => prepare(ast, tables, parameters).map(|()| Hints::of(ast)),
            None => Ok(Hints::default()),
        };
        let division = Division { fractions: self.dialect == Dialect::Slaf };
        let registered = state
            .register_expr_planner(Arc::new(integers::Widening))
            .and_then(|()| state.register_expr_planner(Arc::new(division)));
        async move {
            let hints = prepared?;
            registered.map_err(from_datafusion)?;
            let mut plan = state.statement_to_plan(self.statement.clone()).await;
            // Names show casts where DataFusion has to tell by them what is what, and nowhere else.
            if plan.as_ref().map_or_else(is_repeated_name, casts::are_groups_of_one_name) {
                ast(&mut self.statement).into_iter().for_each(casts::show);
                plan = state.statement_to_plan(self.statement).await;
            }
            let plan = plan.map_err(|e| match unknown_field(&e) {
                Some((name, columns)) => hints.unknown_column(name, columns.into_iter(), near_genes),
                None => from_datafusion(e),
            })?;
            let only_queries =
                SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            only_queries.verify_plan(&plan).map_err(|_| {
                Error::new(ErrorKind::ReadOnly, "only queries are allowed: a store is not changed by SQL")
            })?;
            Ok(plan)
        }
        .boxed()
    }
}

fn ast(mut statement: &mut Statement) -> Option<&mut Ast> {
    loop {
        match statement {
            Statement::Statement(ast) => return Some(ast),
            Statement::Explain(explain) => statement = &mut explain.statement,
            _ => return None,
        }
    }
}

fn prepare(ast: &mut Ast, tables: &[String], parameters: &Parameters) -> Result<()> {
    depth::equalities_to_lists(ast);
    aliases::minus_to_calls(ast);
    clauses::name_compared(ast);
    parameters::number(ast);
    check_tables(ast, tables)?;
    lists::bind(parameters, ast)
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
    let _ = walk(statement, &mut visitor);
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

    fn columns() -> Columns {
        let mut columns = Columns::default();
        let category = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for (name, data_type) in [
            ("batch", category),
            ("odd name", DataType::Utf8),
            ("cell_id", DataType::Utf8),
            ("n", DataType::Int64),
            ("t", DataType::Utf8),
        ] {
            columns.add("cells", name, &data_type);
        }
        columns
    }

    fn query(sql: &str) -> Query {
        Query::parse(sql, 0, columns(), Dialect::Slaf).unwrap()
    }

    fn with_strings(sql: &str) -> String {
        let mut query = query(sql);
        query.unknown_names();
        ast(&mut query.statement).unwrap().to_string()
    }

    fn unknown(sql: &str) -> Vec<String> {
        query(sql).unknown_names()
    }

    #[test]
    fn words_beside_a_comparison_with_text_are_strings() {
        for (sql, expected) in [
            (
                r#"SELECT "odd name" FROM cells WHERE batch = "b1" AND t IN ("T cells", 'x')"#,
                r#"SELECT "odd name" FROM cells WHERE batch = 'b1' AND t IN ('T cells', 'x')"#,
            ),
            (r#"SELECT 1 WHERE "b1" <> c.batch"#, "SELECT 1 WHERE 'b1' <> c.batch"),
            (r#"SELECT 1 WHERE t LIKE "T%" OR t NOT ILIKE ("x")"#, "SELECT 1 WHERE t LIKE 'T%' OR t NOT ILIKE ('x')"),
            (r#"SELECT 1 WHERE t BETWEEN "a" AND "c""#, "SELECT 1 WHERE t BETWEEN 'a' AND 'c'"),
            (r#"SELECT 1 WHERE lower(t) = "a""#, "SELECT 1 WHERE lower(t) = 'a'"),
            (r#"SELECT 1 WHERE t || 'x' = "ax""#, "SELECT 1 WHERE t || 'x' = 'ax'"),
            (r#"SELECT 1 WHERE CAST(n AS VARCHAR) = "1""#, "SELECT 1 WHERE CAST(n AS VARCHAR) = '1'"),
            (r#"SELECT 1 WHERE t IS DISTINCT FROM "a""#, "SELECT 1 WHERE t IS DISTINCT FROM 'a'"),
            (r#"SELECT CASE t WHEN "a" THEN 1 END"#, "SELECT CASE t WHEN 'a' THEN 1 END"),
            (r#"SELECT batch AS b FROM cells HAVING b = "b1""#, "SELECT batch AS b FROM cells HAVING b = 'b1'"),
            (r#"SELECT 1 WHERE MAX(batch) = "b1""#, "SELECT 1 WHERE MAX(batch) = 'b1'"),
            (r#"SELECT 1 WHERE t = ANY(["a", "b"])"#, "SELECT 1 WHERE t = ANY(['a', 'b'])"),
        ] {
            assert_eq!(with_strings(&of_cells(sql)), of_cells(expected));
        }
        // A WHERE does not see what its own SELECT calls so.
        let sql = r#"SELECT batch AS "b1" FROM cells WHERE batch = "b1" ORDER BY "b1""#;
        assert_eq!(with_strings(sql), sql.replace(r#"= "b1""#, "= 'b1'"));
    }

    fn of_cells(sql: &str) -> String {
        match (sql.contains(" FROM cells"), sql.split_once(" WHERE ")) {
            (true, _) => sql.to_string(),
            (false, Some((select, condition))) => format!("{select} FROM cells WHERE {condition}"),
            (false, None) => format!("{sql} FROM cells"),
        }
    }

    #[test]
    fn other_words_stay_names() {
        for sql in [
            r#"SELECT "CD99999" FROM cells"#,
            r#"SELECT AVG("HLA-DRX") FROM cells"#,
            r#"SELECT 1 WHERE "CD3Z" > 0"#,
            r#"SELECT 1 WHERE n > "CD3Z""#,
            r#"SELECT 1 WHERE CD3D > "CD3Z""#,
            r#"SELECT 1 WHERE "CD3Z" BETWEEN 1 AND 2"#,
            r#"SELECT 1 WHERE "cell_typ" = 'T'"#,
            r#"SELECT 1 WHERE "cell_typ" IN ('T', 'B')"#,
            r#"SELECT 1 WHERE "a" = "b""#,
            r#"SELECT 1 WHERE COUNT(*) = "b""#,
            r#"SELECT n + 1 AS m FROM cells HAVING m = "b""#,
        ] {
            assert_eq!(with_strings(sql), sql);
        }
        let standard = r#"SELECT 1 WHERE batch = "b1""#;
        let mut query = Query::parse(standard, 0, columns(), Dialect::Standard).unwrap();
        query.unknown_names();
        assert_eq!(ast(&mut query.statement).unwrap().to_string(), standard);
    }

    #[test]
    fn names_of_the_query_stay_names() {
        let sql = r#"WITH "a b" AS (SELECT n AS "my n" FROM cells) SELECT "my n" FROM "a b" ORDER BY "my n""#;
        assert_eq!(with_strings(sql), sql);
    }

    #[test]
    fn genes_are_unknown_names() {
        assert_eq!(unknown("SELECT batch, CD3D AS x, x FROM cells WHERE c.MS4A1 > 1"), ["CD3D", "MS4A1"]);
        assert_eq!(unknown(r#"SELECT "HLA-A" FROM cells WHERE "HLA-B" > 1 AND batch = "CD3D""#), ["HLA-A", "HLA-B"]);
        assert_eq!(unknown("SELECT CD3D AS CD3D FROM cells"), ["CD3D"]);
        assert!(unknown("SELECT CD3D FROM genes").is_empty());
    }

    #[test]
    fn genes_are_hidden_from_the_star() {
        let mut query = query("SELECT *, CD3D FROM cells JOIN (SELECT * FROM genes) g ON true");
        query.add_genes(["CD3D"].into_iter());
        assert_eq!(
            ast(&mut query.statement).unwrap().to_string(),
            r#"SELECT * EXCLUDE ("CD3D"), CD3D FROM cells JOIN (SELECT * FROM genes) g ON true"#
        );
    }

    #[test]
    fn a_from_alone_selects_all() {
        let of = |sql| ast(&mut query(sql).statement).unwrap().to_string();
        assert_eq!(of("FROM cells"), "SELECT * FROM cells");
        assert_eq!(of("SELECT * FROM (FROM genes) g"), "SELECT * FROM (SELECT * FROM genes) g");
        assert_eq!(of("FROM cells SELECT n"), "FROM cells SELECT n");
        assert_eq!(of("FROM cells WHERE n > 3 ORDER BY n"), "SELECT * FROM cells WHERE n > 3 ORDER BY n");
        assert_eq!(
            of("WITH a (x) AS (FROM cells WHERE n = 1), b AS (SELECT EXTRACT(year FROM d)) FROM a UNION ALL FROM b"),
            "WITH a (x) AS (SELECT * FROM cells WHERE n = 1), b AS (SELECT EXTRACT(YEAR FROM d)) SELECT * FROM a \
             UNION ALL SELECT * FROM b"
        );
        assert_eq!(of("EXPLAIN FROM cells WHERE n = 1"), "SELECT * FROM cells WHERE n = 1");
    }

    #[test]
    fn string_agg_orders_by_what_it_joins() {
        let of = |sql| ast(&mut query(sql).statement).unwrap().to_string();
        assert_eq!(
            of("SELECT STRING_AGG(DISTINCT batch, ',' ORDER BY n, batch DESC) FROM cells"),
            "SELECT STRING_AGG(DISTINCT CAST(batch AS VARCHAR), ',' ORDER BY n, CAST(batch AS VARCHAR) DESC) FROM cells"
        );
    }

    #[test]
    fn question_marks_are_numbered() {
        let mut query = query("SELECT CASE WHEN a > ? THEN ? END FROM cells WHERE b = ? LIMIT 3");
        parameters::number(ast(&mut query.statement).unwrap());
        let expected = "SELECT CASE WHEN a > $1 THEN $2 END FROM cells WHERE b = $3 LIMIT 3";
        assert_eq!(ast(&mut query.statement).unwrap().to_string(), expected);
    }

    #[test]
    fn lists_stand_where_their_parameters_stood() {
        use crate::parameters::Parameter::{Float, Int, List, Null, Text};
        let put = |sql: &str, values: Vec<crate::Parameter>| {
            let mut query = query(sql);
            let ast = ast(&mut query.statement).unwrap();
            parameters::number(ast);
            lists::bind(&Parameters::Positional(values), ast).map(|_| ast.to_string())
        };
        let texts = || List(vec![Text("it's".into()), Null]);
        assert_eq!(put("SELECT 1 WHERE t IN ?", vec![texts()]).unwrap(), "SELECT 1 WHERE t IN ('it''s', NULL)");
        assert_eq!(
            put("SELECT 1 WHERE t NOT IN /* here */ $2 AND n > $1", vec![Int(3), texts()]).unwrap(),
            "SELECT 1 WHERE t NOT IN ('it''s', NULL) AND n > $1"
        );
        let numbers = List(vec![Int(i64::MIN.into()), Float(-2.0)]);
        assert_eq!(
            put("SELECT 1 WHERE n IN (1, ?)", vec![numbers]).unwrap(),
            "SELECT 1 WHERE n IN (1, -9223372036854775808, -2.0)"
        );
        assert_eq!(put("SELECT 1 WHERE n = ANY(?)", vec![List(vec![])]).unwrap(), "SELECT 1 WHERE n IN ()");
        assert_eq!(
            put("SELECT 1 WHERE n <> ALL(?)", vec![texts()]).unwrap(),
            "SELECT 1 WHERE n NOT IN ('it''s', NULL)"
        );
        assert_eq!(put("SELECT unnest(?)", vec![List(vec![Int(1)])]).unwrap(), "SELECT unnest(ARRAY[1])");
        assert_eq!(put("SELECT 1 WHERE n IN ?", vec![]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn what_may_be_meant_is_said() {
        let genes = ["CD3D", "CD3E", "HLA-DRA"];
        let near_genes = move |name: &str| near(name, genes.into_iter());
        let say = |sql: &str, name: &str| {
            let hints = Hints::of(ast(&mut query(sql).statement).unwrap());
            hints.unknown_column(name, ["batch"].into_iter(), &near_genes).message().to_string()
        };
        assert_eq!(say("SELECT cd3d FROM cells", "cd3d"), "no column or gene \"cd3d\"; did you mean CD3D, CD3E?");
        assert_eq!(say("SELECT cd3d FROM genes", "cd3d"), "no column \"cd3d\"");
        assert_eq!(say("SELECT batsh FROM cells", "batsh"), "no column or gene \"batsh\"; did you mean batch?");
        assert_eq!(say("SELECT \"T\" FROM genes", "T"), "no column \"T\"; a text stands in single quotes");
        let quoted = "; a gene with \"-\" in its name stands in double quotes: \"HLA-DRA\"";
        for what in ["HLA-DRA", "AVG(n - HLA-DRA)", "HLA-DRA - CD3D - 1", "HLA-DRX"] {
            let said = say(&format!("SELECT {what} FROM cells"), "HLA");
            assert_eq!(said, format!("no column or gene \"HLA\"{quoted}"), "{what}");
        }
    }

    #[test]
    fn tables_have_near_names() {
        let check = |sql: &str| {
            let mut query = query(sql);
            check_tables(ast(&mut query.statement).unwrap(), &["cells".to_string(), "genes".to_string()])
        };
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
            let error = Query::parse(sql, 0, Columns::default(), Dialect::Slaf).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidQuery);
        }
    }
}
