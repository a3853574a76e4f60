//! Words in double quotes: names, and texts where they stand beside a comparison with text.

use crate::kinds::{Scope, is_comparison, is_match};
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{Expr, Select, SelectItem, Statement, Value, VisitorMut};
use std::ops::ControlFlow;

/// Makes strings of the double-quoted words that name nothing in `scope` and are compared with
/// something that may be text and is no constant: `batch = "b1"`, but neither `"HLA-A" > 1` nor
/// `"cel_type" = 'T'`, where the word can only be meant as a column.
pub(crate) fn words_to_strings(statement: &mut Statement, scope: &Scope<'_>) {
    let _ = walk_mut(statement, &mut Words(scope));
}

struct Words<'a>(&'a Scope<'a>);

impl Words<'_> {
    fn make_string(&self, expr: &mut Expr) {
        match expr {
            Expr::Nested(inner) => self.make_string(inner),
            Expr::Array(array) => array.elem.iter_mut().for_each(|e| self.make_string(e)),
            Expr::Identifier(ident) if ident.quote_style == Some('"') && !self.0.contains(&ident.value) => {
                *expr = Expr::Value(Value::SingleQuotedString(ident.value.clone()).into());
            }
            _ => {}
        }
    }

    fn compare(&self, left: &mut Expr, right: &mut Expr) {
        if self.0.may_be_text(left) {
            self.make_string(right);
        } else if self.0.may_be_text(right) {
            self.make_string(left);
        }
    }

    fn compare_all<'e>(&self, with: &Expr, exprs: impl Iterator<Item = &'e mut Expr>) {
        if self.0.may_be_text(with) {
            exprs.for_each(|e| self.make_string(e));
        }
    }
}

impl VisitorMut for Words<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        // A WHERE knows no names that its own SELECT gives.
        let own = select.projection.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.as_str()),
            _ => None,
        });
        let outside = self.0.without(own);
        if let (Some(outside), Some(condition)) = (outside, &mut select.selection) {
            let _ = walk_mut(condition, &mut Words(&outside));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { left, op, right } if is_comparison(op) => self.compare(left, right),
            Expr::BinaryOp { left, op, right } if is_match(op) => {
                self.compare_all(left, std::iter::once(&mut **right));
            }
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => self.compare(left, right),
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                self.compare_all(left, std::iter::once(&mut **right));
            }
            Expr::InList { expr, list, .. } => self.compare_all(expr, list.iter_mut()),
            Expr::Like { expr, pattern, .. }
            | Expr::ILike { expr, pattern, .. }
            | Expr::SimilarTo { expr, pattern, .. }
            | Expr::RLike { expr, pattern, .. } => self.compare_all(expr, std::iter::once(&mut **pattern)),
            Expr::Between { expr, low, high, .. } => self.compare_all(expr, [&mut **low, &mut **high].into_iter()),
            Expr::Case { operand: Some(operand), conditions, .. } => {
                self.compare_all(operand, conditions.iter_mut().map(|c| &mut c.condition));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
