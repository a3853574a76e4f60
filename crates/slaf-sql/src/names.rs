//! The names that a query uses and those that it defines.

use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, TableAlias, TableFactor, Visitor,
};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// The identifier of a table without a schema.
pub(crate) fn plain_name(name: &ObjectName) -> Option<&Ident> {
    match &name.0[..] {
        [ObjectNamePart::Identifier(ident)] => Some(ident),
        _ => None,
    }
}

/// The names that a statement defines itself, aliases and common table expressions, and what the
/// aliases stand for.
pub(crate) fn defined(statement: &Statement) -> HashMap<String, Vec<Expr>> {
    let mut names = Defined(HashMap::new());
    let _ = walk(statement, &mut names);
    names.0
}

struct Defined(HashMap<String, Vec<Expr>>);

impl Defined {
    fn add(&mut self, ident: &Ident) {
        self.0.entry(ident.value.clone()).or_default();
    }

    fn add_alias(&mut self, alias: &TableAlias) {
        self.add(&alias.name);
        alias.columns.iter().for_each(|c| self.add(&c.name));
    }

    fn add_select(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(select) => {
                for item in &select.projection {
                    match item {
                        // `CD3D AS CD3D` does not make CD3D known.
                        SelectItem::ExprWithAlias { alias, expr } if !mentions(expr, &alias.value) => {
                            self.0.entry(alias.value.clone()).or_default().push(expr.clone());
                        }
                        _ => {}
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

fn mentions(expr: &Expr, name: &str) -> bool {
    let mut found = false;
    let mut idents = Idents(|ident: &Ident, _: Option<&Ident>| found |= ident.value == name);
    let _ = walk(expr, &mut idents);
    found
}

impl Visitor for Defined {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.add_select(&query.body);
        for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
            self.add_alias(&cte.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { alias, name, .. } => {
                alias.iter().for_each(|a| self.add_alias(a));
                name.0.iter().filter_map(ObjectNamePart::as_ident).for_each(|i| self.add(i));
            }
            TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::TableFunction { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => self.add_alias(alias),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Calls a function with each identifier that stands for a value; of `table.column` with the
/// column, and the table.
struct Idents<F>(F);

impl<F: FnMut(&Ident, Option<&Ident>)> Visitor for Idents<F> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => (self.0)(ident, None),
            Expr::CompoundIdentifier(parts) => {
                if let [rest @ .., column] = &parts[..] {
                    (self.0)(column, rest.last());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Calls `each` with the identifiers of a statement.
pub(crate) fn for_each_ident(statement: &Statement, each: impl FnMut(&Ident, Option<&Ident>)) {
    let _ = walk(statement, &mut Idents(each));
}

/// The tables that a statement reads, with the names that it has for each: an alias, or the table's.
pub(crate) fn tables(statement: &Statement) -> HashMap<String, HashSet<String>> {
    #[derive(Default)]
    struct Tables(HashMap<String, HashSet<String>>);
    impl Visitor for Tables {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, alias, .. } = factor
                && let Some(table) = name.0.last().and_then(ObjectNamePart::as_ident)
            {
                let shown = alias.as_ref().map_or(table, |alias| &alias.name);
                self.0.entry(table.value.clone()).or_default().insert(shown.value.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut tables = Tables::default();
    let _ = walk(statement, &mut tables);
    tables.0
}
