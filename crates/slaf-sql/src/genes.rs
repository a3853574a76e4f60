//! Genes as columns of `cells`.
//!
//! Whoever resolves tables gives `cells` the columns; here `*` is kept from showing them.

use crate::names::plain_name;
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Statement, TableFactor, TableWithJoins, VisitorMut, WildcardAdditionalOptions,
};
use std::ops::ControlFlow;

/// The table whose columns genes are.
pub const CELLS: &str = "cells";

/// Hides the columns of genes from `*`.
pub(crate) fn hide(statement: &mut Statement, genes: &[&str]) {
    let _ = walk_mut(statement, &mut Hide { genes });
}

struct Hide<'a> {
    genes: &'a [&'a str],
}

impl VisitorMut for Hide<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.body(&mut query.body);
        ControlFlow::Continue(())
    }
}

impl Hide<'_> {
    fn body(&self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.hide_from_wildcards(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn hide_from_wildcards(&self, select: &mut Select) {
        let names: Vec<String> = select.from.iter().flat_map(names_of_cells).collect();
        if names.is_empty() {
            return;
        }
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => self.exclude(options),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), options)
                    if plain_name(table).is_some_and(|t| names.contains(&t.value)) =>
                {
                    self.exclude(options);
                }
                _ => {}
            }
        }
    }

    fn exclude(&self, options: &mut WildcardAdditionalOptions) {
        let column = |gene: &&str| ObjectName::from(vec![Ident::with_quote('"', *gene)]);
        let mut hidden: Vec<ObjectName> = self.genes.iter().map(column).collect();
        match options.opt_exclude.take() {
            Some(ExcludeSelectItem::Single(one)) => hidden.push(one),
            Some(ExcludeSelectItem::Multiple(more)) => hidden.extend(more),
            None => {}
        }
        options.opt_exclude = Some(ExcludeSelectItem::Multiple(hidden));
    }
}

/// The names under which a FROM clause reads `cells`.
fn names_of_cells(from: &TableWithJoins) -> Vec<String> {
    let tables = std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation));
    tables
        .filter_map(|factor| match factor {
            TableFactor::Table { name, alias, .. } if plain_name(name).is_some_and(|n| n.value == CELLS) => {
                Some(alias.as_ref().map_or(CELLS.to_string(), |a| a.name.value.clone()))
            }
            _ => None,
        })
        .collect()
}
