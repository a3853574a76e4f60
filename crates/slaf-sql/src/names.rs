//! The names that a query uses and those that it defines.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, TableAlias,
    TableFactor, UnaryOperator, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// The identifier of a table without a schema.
pub(crate) fn plain_name(name: &ObjectName) -> Option<&Ident> {
    match &name.0[..] {
        [ObjectNamePart::Identifier(ident)] => Some(ident),
        _ => None,
    }
}

/// The names that a statement defines itself: aliases and common table expressions.
pub(crate) fn defined(statement: &Statement) -> HashSet<String> {
    let mut names = Defined(HashSet::new());
    let _ = Visit::visit(statement, &mut names);
    names.0
}

struct Defined(HashSet<String>);

impl Defined {
    fn add(&mut self, ident: &Ident) {
        self.0.insert(ident.value.clone());
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
                        SelectItem::ExprWithAlias { alias, expr } if !mentions(expr, &alias.value) => self.add(alias),
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

/// Whether a statement reads a table of this name.
pub(crate) fn reads(statement: &Statement, table: &str) -> bool {
    struct Tables<'a>(&'a str, bool);
    impl Visitor for Tables<'_> {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, .. } = factor {
                self.1 |= plain_name(name).is_some_and(|n| n.value == self.0);
            }
            ControlFlow::Continue(())
        }
    }
    let mut tables = Tables(table, false);
    let _ = Visit::visit(statement, &mut tables);
    tables.1
}

/// Makes strings of the double-quoted words that are not `known`. With `compared_only`, of those
/// that are compared with something that is no number: `batch = "b1"`, but not `"HLA-A" > 1`.
pub(crate) fn words_to_strings(statement: &mut Statement, known: &HashSet<String>, compared_only: bool) {
    let _ = VisitMut::visit(statement, &mut Words { known, compared_only });
}

struct Words<'a> {
    known: &'a HashSet<String>,
    compared_only: bool,
}

impl Words<'_> {
    fn make_string(&self, expr: &mut Expr) {
        if let Expr::Identifier(ident) = expr
            && ident.quote_style == Some('"')
            && !self.known.contains(&ident.value)
        {
            *expr = Expr::Value(Value::SingleQuotedString(ident.value.clone()).into());
        }
    }
}

impl VisitorMut for Words<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if !self.compared_only {
            self.make_string(expr);
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::BinaryOp { left, op, right } if is_comparison(op) && !is_number(left) && !is_number(right) => {
                self.make_string(left);
                self.make_string(right);
            }
            Expr::InList { list, .. } => list.iter_mut().for_each(|e| self.make_string(e)),
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } | Expr::SimilarTo { pattern, .. } => {
                self.make_string(pattern);
            }
            Expr::Between { low, high, .. } => {
                self.make_string(low);
                self.make_string(high);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, Spaceship};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | Spaceship)
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Number(..) | Value::Placeholder(_)),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_number(expr),
        _ => false,
    }
}
