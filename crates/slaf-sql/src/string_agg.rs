//! STRING_AGG of categoricals: what it joins, and what it orders by if that is the same, is cast
//! to text. DataFusion casts the first alone, and then misses it in ORDER BY.

use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Statement,
    VisitorMut,
};
use std::ops::ControlFlow;

pub(crate) fn cast_arguments(statement: &mut Statement) {
    let _ = walk_mut(statement, &mut CastArguments);
}

struct CastArguments;

impl VisitorMut for CastArguments {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("string_agg")
            && let FunctionArguments::List(list) = &mut function.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(joined))) = list.args.first_mut()
        {
            let plain = std::mem::replace(joined, text_of(joined.clone()));
            for clause in &mut list.clauses {
                if let FunctionArgumentClause::OrderBy(keys) = clause {
                    let same = keys.iter_mut().filter(|key| key.expr == plain);
                    same.for_each(|key| key.expr = joined.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn text_of(expr: Expr) -> Expr {
    let (kind, data_type) = (CastKind::Cast, DataType::Varchar(None));
    Expr::Cast { kind, expr: Box::new(expr), data_type, array: false, format: None }
}
