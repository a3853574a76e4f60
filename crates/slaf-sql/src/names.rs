//! The names that a query uses and those that it defines.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, TableAlias, TableFactor, Visit,
    Visitor,
};
use std::collections::HashMap;
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
    let _ = Visit::visit(statement, &mut names);
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
    let mut idents = Idents(|ident: &Ident| found |= ident.value == name);
    let _ = Visit::visit(expr, &mut idents);
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
/// column.
struct Idents<F>(F);

impl<F: FnMut(&Ident)> Visitor for Idents<F> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => (self.0)(ident),
            Expr::CompoundIdentifier(parts) => parts.last().into_iter().for_each(&mut self.0),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Calls `each` with the identifiers of a statement.
pub(crate) fn for_each_ident(statement: &Statement, each: impl FnMut(&Ident)) {
    let _ = Visit::visit(statement, &mut Idents(each));
}

/// Whether a statement reads a table with a name that `is` one.
pub(crate) fn reads(statement: &Statement, is: impl Fn(&str) -> bool) -> bool {
    struct Tables<F>(F);
    impl<F: Fn(&str) -> bool> Visitor for Tables<F> {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, .. } if plain_name(name).is_some_and(|n| (self.0)(&n.value)) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(statement, &mut Tables(is)).is_break()
}
