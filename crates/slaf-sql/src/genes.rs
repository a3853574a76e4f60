//! Genes as columns of `cells`.
//!
//! A query that names genes reads another table in place of `cells`: one whose name lists them.
//! Whoever resolves tables adds the columns ([`genes_of_table`]).

use crate::names::plain_name;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Statement, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use std::ops::ControlFlow;

pub(crate) const CELLS: &str = "cells";

/// The name of the table `cells` with columns for these genes.
pub fn gene_table(genes: &[String]) -> String {
    format!("{CELLS}+{}", serde_json::Value::from(genes))
}

/// The genes that a table's name lists; `None` for any other name.
pub fn genes_of_table(table: &str) -> Option<Vec<String>> {
    serde_json::from_str(table.strip_prefix(CELLS)?.strip_prefix('+')?).ok()
}

/// Lets a statement read the table with these genes wherever it reads `cells`; `*` does not show
/// them.
pub(crate) fn add(statement: &mut Statement, genes: &[String]) {
    let _ = VisitMut::visit(statement, &mut AddGenes { genes, table: gene_table(genes) });
}

struct AddGenes<'a> {
    genes: &'a [String],
    table: String,
}

impl VisitorMut for AddGenes<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.body(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, .. } = factor
            && plain_name(name).is_some_and(|n| n.value == CELLS)
        {
            *name = ObjectName::from(vec![Ident::with_quote('"', &self.table)]);
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: Ident::new(CELLS),
                columns: Vec::new(),
                at: None,
            });
        }
        ControlFlow::Continue(())
    }
}

impl AddGenes<'_> {
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
        let column = |gene: &String| ObjectName::from(vec![Ident::with_quote('"', gene)]);
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
