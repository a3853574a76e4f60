//! What to say of a name that is neither a column nor a gene.

use crate::genes::CELLS;
use crate::names::{for_each_ident, tables};
use crate::walk::walk;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Statement, Value, Visitor};
use slaf_core::{Error, ErrorKind, near};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Genes that are near a name, and the gene itself.
pub type NearGenes<'a> = dyn Fn(&str) -> Vec<String> + Send + Sync + 'a;

/// What a statement tells of the names that it uses.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// The parts of what it subtracts from each other and could be one name: `HLA-DRA`.
    differences: Vec<Vec<String>>,
    /// The words in double quotes.
    quoted: HashSet<String>,
    /// A name of `cells`, where genes are columns, if it reads that.
    cells: Option<String>,
}

impl Hints {
    pub(crate) fn of(statement: &Statement) -> Hints {
        let mut quoted = HashSet::new();
        for_each_ident(statement, |ident, _| {
            if ident.quote_style.is_some() {
                quoted.insert(ident.value.clone());
            }
        });
        let cells = tables(statement).remove(CELLS).and_then(|names| names.into_iter().min());
        Hints { differences: differences(statement), quoted, cells }
    }

    /// The error of a query that names a column which none of the `columns` is that stand there.
    pub(crate) fn unknown_column<'a>(
        &self,
        name: &str,
        columns: impl Iterator<Item = &'a str>,
        genes: &NearGenes<'_>,
    ) -> Error {
        let mut near = near(name, columns);
        let what = if self.cells.is_some() { "column or gene" } else { "column" };
        let meant = self.cells.as_ref().and_then(|_| meant(name, &self.differences, genes));
        if let Some(cells) = &self.cells {
            let of_name = genes(name);
            if of_name.iter().any(|gene| gene == name) {
                // Another table has a column of that name, or is asked for one.
                let message = format!("no column \"{name}\" there; the gene is {cells}.\"{name}\"");
                return Error::new(ErrorKind::UnknownColumn, message);
            }
            near.extend(of_name.into_iter().filter(|g| !near.contains(g)).collect::<Vec<_>>());
        }
        let mut hint = match meant {
            Some(gene) => format!("; a gene with \"-\" in its name stands in double quotes: \"{gene}\""),
            None => did_you_mean(&near),
        };
        if self.quoted.contains(name) {
            hint += "; a text stands in single quotes";
        }
        Error::new(ErrorKind::UnknownColumn, format!("no {what} \"{name}\"{hint}"))
    }
}

pub(crate) fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}

fn differences(statement: &Statement) -> Vec<Vec<String>> {
    struct Find(Vec<Vec<String>>);
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.0.extend(parts(expr));
            ControlFlow::Continue(())
        }
    }
    let mut find = Find(Vec::new());
    let _ = walk(statement, &mut find);
    find.0
}

/// The most parts that are taken for those of a name.
const PARTS: usize = 6;

fn parts(mut expr: &Expr) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    // A chain of differences hangs on its left side.
    while let Expr::BinaryOp { left, op: BinaryOperator::Minus, right } = expr {
        if parts.len() == PARTS {
            return None;
        }
        parts.push(part(right)?);
        expr = left;
    }
    parts.push(part(expr)?);
    parts.reverse();
    (parts.len() > 1).then_some(parts)
}

fn part(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) if ident.quote_style.is_none() => Some(ident.value.clone()),
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Some(number.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The gene that a difference with this name in it was meant to be.
fn meant(name: &str, differences: &[Vec<String>], genes: &NearGenes<'_>) -> Option<String> {
    let windows = differences.iter().flat_map(|parts| {
        (2..=parts.len()).rev().flat_map(|n| parts.windows(n)).filter(|w| w.iter().any(|p| p == name))
    });
    let texts: Vec<String> = windows.map(|w| w.join("-")).collect();
    let near: Vec<(String, String)> =
        texts.into_iter().flat_map(|text| genes(&text).into_iter().map(move |g| (text.clone(), g))).collect();
    let exact = near.iter().find(|(text, gene)| text == gene);
    exact.or(near.first()).map(|(_, gene)| gene.clone())
}
