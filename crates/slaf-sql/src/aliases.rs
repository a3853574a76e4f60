//! Names of functions that other databases have for what DataFusion has, too, DuckDB's above all.
//! Where the meaning differs, there is no alias: the error names the engine that has the function.

use crate::walk::{walk, walk_mut};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Select, SelectItem, Statement, TableFactor, UnaryOperator, Value, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use slaf_core::{Error, ErrorKind, Result};
use std::ops::ControlFlow;

/// Functions by another name.
const NAMES: [(&str, &str); 25] = [
    ("list", "array_agg"),
    ("first", "first_value"),
    ("last", "last_value"),
    ("group_concat", "string_agg"),
    ("listagg", "string_agg"),
    ("approx_count_distinct", "approx_distinct"),
    ("approx_quantile", "approx_percentile_cont"),
    ("variance", "var_samp"),
    ("lcase", "lower"),
    ("ucase", "upper"),
    ("ceiling", "ceil"),
    ("sign", "signum"),
    ("unicode", "ascii"),
    ("ord", "ascii"),
    ("prefix", "starts_with"),
    ("suffix", "ends_with"),
    ("strlen", "octet_length"),
    ("split", "string_to_array"),
    ("str_split", "string_to_array"),
    ("string_split", "string_to_array"),
    ("strftime", "to_char"),
    ("list_min", "array_min"),
    ("list_value", "make_array"),
    ("list_inner_product", "inner_product"),
    ("l2_distance", "array_distance"),
];

/// Functions, with the number of their arguments, as expressions of these.
const EXPRESSIONS: [(&str, usize, &str); 36] = [
    ("mod", 2, "($1 % $2)"),
    ("fmod", 2, "($1 % $2)"),
    ("xor", 2, "($1 ^ $2)"),
    ("if", 3, "CASE WHEN $1 THEN $2 ELSE $3 END"),
    ("iif", 3, "CASE WHEN $1 THEN $2 ELSE $3 END"),
    ("count_if", 1, "count(CASE WHEN $1 THEN 1 END)"),
    ("countif", 1, "count(CASE WHEN $1 THEN 1 END)"),
    ("any_value", 1, "first_value($1) FILTER (WHERE $1 IS NOT NULL)"),
    ("arbitrary", 1, "first_value($1) FILTER (WHERE $1 IS NOT NULL)"),
    ("arg_max", 2, ARG_MAX),
    ("argmax", 2, ARG_MAX),
    ("max_by", 2, ARG_MAX),
    ("arg_min", 2, ARG_MIN),
    ("argmin", 2, ARG_MIN),
    ("min_by", 2, ARG_MIN),
    ("string_agg", 1, "string_agg($1, ',')"),
    ("regexp_matches", 2, "regexp_like($1, $2)"),
    ("regexp_full_match", 2, "regexp_like($1, '^(?:' || $2 || ')$')"),
    (
        "regexp_extract",
        2,
        "CASE WHEN $1 || $2 IS NOT NULL THEN coalesce(regexp_match($1, '(' || $2 || ')')[1], '') END",
    ),
    (
        "regexp_extract",
        3,
        "CASE WHEN $1 || $2 IS NOT NULL THEN coalesce(regexp_match($1, '(' || $2 || ')')[$3 + 1], '') END",
    ),
    ("today", 0, "current_date"),
    ("date_add", 2, "($1 + $2)"),
    ("year", 1, "date_part('year', $1)"),
    ("quarter", 1, "date_part('quarter', $1)"),
    ("month", 1, "date_part('month', $1)"),
    ("week", 1, "date_part('week', $1)"),
    ("weekofyear", 1, "date_part('week', $1)"),
    ("day", 1, "date_part('day', $1)"),
    ("dayofmonth", 1, "date_part('day', $1)"),
    ("dayofweek", 1, "date_part('dow', $1)"),
    ("weekday", 1, "date_part('dow', $1)"),
    ("dayofyear", 1, "date_part('doy', $1)"),
    ("hour", 1, "date_part('hour', $1)"),
    ("minute", 1, "date_part('minute', $1)"),
    ("second", 1, "date_part('second', $1)"),
    ("epoch", 1, "date_part('epoch', $1)"),
];

const ARG_MAX: &str = "first_value($1 ORDER BY $2 DESC) FILTER (WHERE $1 IS NOT NULL AND $2 IS NOT NULL)";
const ARG_MIN: &str = "first_value($1 ORDER BY $2) FILTER (WHERE $1 IS NOT NULL AND $2 IS NOT NULL)";

/// Calls functions by the names that DataFusion has for them.
pub(crate) fn resolve(statement: &mut Statement) {
    let _ = walk_mut(statement, &mut Resolve);
}

/// Refuses `^`: a power in DuckDB and PostgreSQL, exclusive or in others, with another precedence.
///
/// # Errors
/// `invalid-query`.
pub(crate) fn check(statement: &Statement) -> Result<()> {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::BinaryOp { op: BinaryOperator::BitwiseXor, .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(statement, &mut Find) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            let message = "^ is a power to some and exclusive or to others: write power(a, b), or xor(a, b)";
            Err(Error::new(ErrorKind::InvalidQuery, message))
        }
    }
}

struct Resolve;

impl VisitorMut for Resolve {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item {
                let text = expr.to_string();
                let _ = walk_mut(expr, self);
                if expr.to_string() != text {
                    // The column has the name that the user gave the function.
                    let alias = Ident::with_quote('"', text);
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        // Functions that give a table have a name in any case, as the others.
        if let TableFactor::Table { name, args: Some(_), .. } = factor
            && let [ObjectNamePart::Identifier(name)] = &mut name.0[..]
            && name.quote_style.is_none()
        {
            name.value.make_ascii_lowercase();
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let [name] = &function.name.0[..]
            && let Some(name) = name.as_ident().map(|name| name.value.to_ascii_lowercase())
        {
            if let Some((_, ours)) = NAMES.iter().find(|(theirs, _)| *theirs == name) {
                function.name = ObjectName::from(vec![Ident::new(*ours)]);
            }
            let name = NAMES.iter().find(|(theirs, _)| *theirs == name).map_or(name.as_str(), |(_, ours)| ours);
            if let Some(arguments) = arguments(function)
                && let Some((_, _, text)) =
                    EXPRESSIONS.iter().find(|(n, count, _)| *n == name && *count == arguments.len())
                && let Some(ours) = expression(text, &arguments)
            {
                *expr = with_clauses(ours, function);
            }
        }
        ControlFlow::Continue(())
    }
}

/// The plain arguments of a call; `None` where there is something else.
fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// An expression with these arguments in the places of `$1`, `$2` and `$3`.
pub(crate) fn expression(text: &str, arguments: &[Expr]) -> Option<Expr> {
    struct Put<'a>(&'a [Expr]);
    impl VisitorMut for Put<'_> {
        type Break = ();
        // What is put there is not looked at again: it may have parameters.
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(place) = &value.value
                && let Some(argument) = place[1..].parse::<usize>().ok().and_then(|place| self.0.get(place - 1))
            {
                *expr = argument.clone();
            }
            ControlFlow::Continue(())
        }
    }
    let dialect = GenericDialect {};
    let mut expr = Parser::new(&dialect).try_with_sql(text).and_then(|mut parser| parser.parse_expr()).ok()?;
    let _ = walk_mut(&mut expr, &mut Put(arguments));
    Some(expr)
}

/// A call with what stands behind the call that it replaces: FILTER, OVER and DISTINCT.
fn with_clauses(mut ours: Expr, theirs: &Function) -> Expr {
    if let Expr::Function(call) = &mut ours {
        call.over.clone_from(&theirs.over);
        call.filter = match (call.filter.take(), theirs.filter.clone()) {
            (Some(left), Some(right)) => {
                let right = Box::new(Expr::Nested(right));
                Some(Box::new(Expr::BinaryOp { left, op: BinaryOperator::And, right }))
            }
            (one, other) => one.or(other),
        };
        if let (FunctionArguments::List(of), FunctionArguments::List(from)) = (&mut call.args, &theirs.args) {
            of.duplicate_treatment = from.duplicate_treatment;
            of.clauses.extend(from.clauses.iter().cloned());
        }
    }
    ours
}

/// Makes calls of `negative` of what has a minus sign and is no literal.
pub(crate) fn minus_to_calls(statement: &mut Statement) {
    struct Minus;
    impl VisitorMut for Minus {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: of } = expr
                && !matches!(**of, Expr::Value(_) | Expr::Interval(_))
                && let Some(call) = expression(&format!("{}($1)", crate::integers::NEGATIVE), std::slice::from_ref(of))
            {
                *expr = call;
            }
            ControlFlow::Continue(())
        }
    }
    let _ = walk_mut(statement, &mut Minus);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(sql: &str) -> String {
        let mut parsed = Parser::parse_sql(&GenericDialect {}, &format!("SELECT 1 WHERE ({sql})")).unwrap();
        resolve(&mut parsed[0]);
        parsed[0].to_string()["SELECT 1 WHERE ".len()..].to_string()
    }

    #[test]
    fn functions_of_others_are_ours() {
        for (theirs, ours) in [
            ("mod(a + 1, $2)", "(a + 1 % $2)"),
            ("IF(a, mod(b, 2), $1)", "CASE WHEN a THEN (b % 2) ELSE $1 END"),
            ("group_concat(DISTINCT a ORDER BY a)", "string_agg(DISTINCT a, ',' ORDER BY a)"),
            ("count_if(a) FILTER (WHERE b)", "count(CASE WHEN a THEN 1 END) FILTER (WHERE b)"),
            (
                "arg_max(a, b) FILTER (WHERE c OR d)",
                "first_value(a ORDER BY b DESC) FILTER (WHERE a IS NOT NULL AND b IS NOT NULL AND (c OR d))",
            ),
            ("any_value(a) OVER (ORDER BY b)", "first_value(a) FILTER (WHERE a IS NOT NULL) OVER (ORDER BY b)"),
            ("f(year(d), YEAR(d, 1), year)", "f(date_part('year', d), YEAR(d, 1), year)"),
            ("list(a ORDER BY b)", "array_agg(a ORDER BY b)"),
        ] {
            assert_eq!(resolved(theirs), format!("({ours})"));
        }
    }

    #[test]
    fn functions_that_give_a_table_have_any_case() {
        let mut parsed =
            Parser::parse_sql(&GenericDialect {}, r#"SELECT 1 FROM NEAREST('X'), "F"(1), Cells, Nearest_Genes('Y')"#)
                .unwrap();
        resolve(&mut parsed[0]);
        assert_eq!(parsed[0].to_string(), r#"SELECT 1 FROM nearest('X'), "F"(1), Cells, nearest_genes('Y')"#);
    }

    #[test]
    fn columns_have_the_names_that_were_asked_for() {
        let mut parsed = Parser::parse_sql(&GenericDialect {}, "SELECT mod(a, 2), lower(a), year(d) AS y").unwrap();
        resolve(&mut parsed[0]);
        assert_eq!(parsed[0].to_string(), r#"SELECT (a % 2) AS "mod(a, 2)", lower(a), date_part('year', d) AS y"#);
    }

    #[test]
    fn all_expressions_are_sql() {
        for (name, count, _) in EXPRESSIONS {
            let arguments = vec!["a"; count].join(", ");
            let found = resolved(&format!("{name}({arguments})"));
            assert!(!["$1", "$2", "$3"].iter().any(|place| found.contains(place)), "{name}");
            assert_ne!(found, format!("({name}({arguments}))"));
        }
    }
}
