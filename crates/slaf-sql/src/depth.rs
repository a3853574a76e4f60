//! How long and how deep a query may be.
//!
//! Parsers, planners and the destructors of trees recurse, a stack frame or more for each level.
//! A chain `a OR b OR c ...` is a tree as deep as it is long: chains whose order does not matter
//! become balanced trees, and what is too deep all the same is refused before it is planned.

use crate::error::from_datafusion;
use crate::walk::{walk, walk_mut};
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Query, Select, SetExpr, SetOperator, SetQuantifier, Statement, TableFactor, Value, Visitor,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use slaf_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// The stack that parsing and planning need, for every query that [`Query::parse`] does not
/// refuse. Only what is touched takes memory.
///
/// [`Query::parse`]: crate::Query::parse
pub const PLANNING_STACK: usize = 512 << 20;

/// Operators and keywords of a text: its tree is not deeper than that. The stack has 8 KiB for
/// each.
const MAX_OPERATORS: usize = 1 << 16;
/// Expressions inside of each other.
const MAX_DEPTH: usize = 1000;
/// Joins after each other, and queries that read each other.
const MAX_RELATIONS_DEEP: usize = 200;
/// Tables and SELECTs, a common table expression counted wherever it is read.
const MAX_RELATIONS: usize = 5000;

fn too(what: &str, limit: usize, instead: &str) -> Error {
    Error::new(ErrorKind::InvalidQuery, format!("the query has {what} (the limit is {limit}): {instead}"))
}

/// Refuses a text whose tree may be too deep to be parsed and dropped.
pub(crate) fn check_text(sql: &str) -> Result<()> {
    // What cannot be cut into words, the parser refuses with the place.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let operators = tokens.iter().filter(|token| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Whitespace(_) | Token::Comma => false,
        Token::LParen | Token::RParen => false,
        _ => true,
    });
    if operators.count() > MAX_OPERATORS {
        return Err(too("too many operators", MAX_OPERATORS, "use IN with a list, or join a table"));
    }
    Ok(())
}

/// Makes balanced trees of chains of AND, OR and UNION.
pub(crate) fn balance(statement: &mut Statement) {
    struct Balance;
    impl VisitorMut for Balance {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            balance_sets(&mut query.body);
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(op) = chain(expr) {
                let terms = terms(take(expr), &op);
                *expr = tree(terms, &|left, right| Expr::BinaryOp {
                    left: Box::new(left),
                    op: op.clone(),
                    right: Box::new(right),
                });
            }
            ControlFlow::Continue(())
        }
    }
    let _ = walk_mut(statement, &mut Balance);
}

/// A placeholder for what is moved out of a tree.
fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

/// The operator of a chain of AND or OR that is a list and not a balanced tree.
fn chain(expr: &Expr) -> Option<BinaryOperator> {
    const SHORT: usize = 16;
    let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr else { return None };
    let (mut length, mut next) = (0, expr);
    while let Expr::BinaryOp { left, op: same, .. } = next
        && same == op
    {
        length += 1;
        next = left;
    }
    (length > SHORT).then(|| op.clone())
}

/// The terms of a chain, in order.
fn terms(expr: Expr, op: &BinaryOperator) -> Vec<Expr> {
    let (mut terms, mut open) = (Vec::new(), vec![expr]);
    while let Some(expr) = open.pop() {
        match expr {
            Expr::BinaryOp { left, op: same, right } if same == *op => open.extend([*left, *right]),
            term => terms.push(term),
        }
    }
    terms.reverse();
    terms
}

/// A tree of the least depth over these leaves, in their order.
fn tree<T>(leaves: Vec<T>, join: &impl Fn(T, T) -> T) -> T {
    let mut level = leaves;
    while level.len() > 1 {
        let mut next = Vec::with_capacity(level.len().div_ceil(2));
        let mut pairs = level.into_iter();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        level = next;
    }
    // A chain has a leaf.
    level.swap_remove(0)
}

fn balance_sets(body: &mut Box<SetExpr>) {
    let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, .. } = &**body else {
        if let SetExpr::SetOperation { left, right, .. } = &mut **body {
            balance_sets(left);
            balance_sets(right);
        }
        return;
    };
    let quantifier = *set_quantifier;
    // By name, a later query may have columns that the first has not.
    if !matches!(quantifier, SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None) {
        return;
    }
    let moved = std::mem::replace(&mut **body, SetExpr::Values(no_values()));
    let (mut leaves, mut open) = (Vec::new(), vec![Box::new(moved)]);
    while let Some(next) = open.pop() {
        match *next {
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right }
                if set_quantifier == quantifier =>
            {
                open.extend([left, right]);
            }
            mut leaf => {
                if matches!(leaf, SetExpr::SetOperation { .. }) {
                    let mut boxed = Box::new(leaf);
                    balance_sets(&mut boxed);
                    leaf = *boxed;
                }
                leaves.push(Box::new(leaf));
            }
        }
    }
    leaves.reverse();
    *body = tree(leaves, &|left, right| {
        Box::new(SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: quantifier, left, right })
    });
}

fn no_values() -> datafusion::sql::sqlparser::ast::Values {
    datafusion::sql::sqlparser::ast::Values { explicit_row: false, value_keyword: false, rows: Vec::new() }
}

/// Makes a list of equalities of one column with constants: `c = 'a' OR c = 'b'` is
/// `c IN ('a', 'b')`, and `c <> 'a' AND c <> 'b'` is `c NOT IN ('a', 'b')`.
pub(crate) fn equalities_to_lists(statement: &mut Statement) {
    struct Lists;
    impl VisitorMut for Lists {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let (op, equal) = match expr {
                Expr::BinaryOp { op: BinaryOperator::Or, .. } => (BinaryOperator::Or, BinaryOperator::Eq),
                Expr::BinaryOp { op: BinaryOperator::And, .. } => (BinaryOperator::And, BinaryOperator::NotEq),
                _ => return ControlFlow::Continue(()),
            };
            let terms = lists(terms(take(expr), &op), &equal);
            *expr = tree(terms, &|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: op.clone(),
                right: Box::new(right),
            });
            ControlFlow::Continue(())
        }
    }
    let _ = walk_mut(statement, &mut Lists);
}

/// Below that many comparisons of a column a list is no gain.
const LIST: usize = 16;

fn lists(terms: Vec<Expr>, equal: &BinaryOperator) -> Vec<Expr> {
    // What is compared and with what type of constant, and where its terms are.
    let mut groups: HashMap<(Vec<String>, bool), Vec<usize>> = HashMap::new();
    for (i, term) in terms.iter().enumerate() {
        if let Expr::BinaryOp { left, op, right } = term
            && op == equal
            && let Some(column) = column(left)
            && let Some(is_text) = constant(right)
        {
            groups.entry((column, is_text)).or_default().push(i);
        }
    }
    groups.retain(|_, at| at.len() >= LIST);
    if groups.is_empty() {
        return terms;
    }
    let lists: HashMap<usize, usize> =
        groups.into_values().flat_map(|at| at.clone().into_iter().map(move |i| (i, at[0]))).collect();
    let mut values: HashMap<usize, Vec<Expr>> = HashMap::new();
    let mut kept = Vec::new();
    for (i, term) in terms.into_iter().enumerate() {
        match (lists.get(&i), term) {
            (Some(&first), Expr::BinaryOp { left, right, .. }) => {
                values.entry(first).or_default().push(*right);
                if first == i {
                    kept.push((i, *left));
                }
            }
            (_, term) => kept.push((i, term)),
        }
    }
    let with_lists = kept.into_iter().map(|(i, expr)| match values.remove(&i) {
        Some(list) => Expr::InList { expr: Box::new(expr), list, negated: *equal == BinaryOperator::NotEq },
        None => expr,
    });
    with_lists.collect()
}

fn column(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Identifier(ident) => Some(vec![ident.value.clone()]),
        Expr::CompoundIdentifier(parts) => Some(parts.iter().map(|p| p.value.clone()).collect()),
        _ => None,
    }
}

/// Whether a constant is a text; `None` for what is neither a text nor a whole number. A list has
/// one type, so that a fraction would change how the others compare.
fn constant(expr: &Expr) -> Option<bool> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(_) => Some(true),
        Value::Number(digits, _) => digits.bytes().all(|b| b.is_ascii_digit()).then_some(false),
        _ => None,
    }
}

/// Refuses a query that is too deep or too large to be planned.
///
/// # Errors
/// `invalid-query`.
pub(crate) fn check(statement: &Statement) -> Result<()> {
    let mut measure = Measure::default();
    let _ = walk(statement, &mut measure);
    measure.refused.map_or(Ok(()), Err)
}

/// What a query costs wherever it is read.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    relations: usize,
    height: usize,
}

/// A query that is being visited.
#[derive(Debug, Default)]
struct Open {
    cost: Cost,
    /// The common table expressions that are complete.
    expressions: HashMap<String, Cost>,
    /// The depth of expressions outside of it.
    outside: usize,
}

#[derive(Debug, Default)]
struct Measure {
    open: Vec<Open>,
    /// The queries that define common table expressions, by their address.
    definitions: HashMap<*const Query, String>,
    depth: usize,
    refused: Option<Error>,
}

impl Measure {
    fn refuse(&mut self, what: &str, limit: usize, instead: &str) -> ControlFlow<()> {
        self.refused = Some(too(what, limit, instead));
        ControlFlow::Break(())
    }

    fn add(&mut self, cost: Cost) -> ControlFlow<()> {
        let Some(open) = self.open.last_mut() else { return ControlFlow::Continue(()) };
        open.cost.relations = open.cost.relations.saturating_add(cost.relations);
        open.cost.height = open.cost.height.max(cost.height);
        if open.cost.relations > MAX_RELATIONS {
            return self.refuse("too many tables and SELECTs", MAX_RELATIONS, "ask several queries");
        }
        if open.cost.height > MAX_RELATIONS_DEEP {
            let what = "too many joins or queries inside of each other";
            return self.refuse(what, MAX_RELATIONS_DEEP, "ask several queries");
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Measure {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.definitions.insert(&raw const *cte.query, cte.alias.name.value.clone());
        }
        self.open.push(Open { outside: std::mem::take(&mut self.depth), ..Open::default() });
        self.add(Cost { relations: 0, height: sets_deep(&query.body) })
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(done) = self.open.pop() else { return ControlFlow::Continue(()) };
        self.depth = done.outside;
        let cost = Cost { height: done.cost.height + 1, ..done.cost };
        match self.definitions.remove(&std::ptr::from_ref(query)) {
            Some(name) => {
                if let Some(outer) = self.open.last_mut() {
                    outer.expressions.insert(name, cost);
                }
                ControlFlow::Continue(())
            }
            None => self.add(cost),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let joins = select.from.iter().map(|from| from.joins.len() + 1).sum();
        self.add(Cost { relations: 1, height: joins })
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let mut cost = Cost { relations: 1, height: 0 };
        match factor {
            TableFactor::Table { name, .. } => {
                let name = crate::names::plain_name(name).map(|ident| &ident.value);
                let read = name.and_then(|name| self.open.iter().rev().find_map(|open| open.expressions.get(name)));
                cost = read.copied().unwrap_or(cost);
            }
            TableFactor::NestedJoin { table_with_joins, .. } => cost.height = table_with_joins.joins.len() + 1,
            _ => {}
        }
        self.add(cost)
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = "expressions that are nested too deeply";
            return self.refuse(what, MAX_DEPTH, "write it as parts in subqueries");
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// How deep the operations on sets of rows lie in each other.
fn sets_deep(body: &SetExpr) -> usize {
    let (mut deepest, mut open) = (0, vec![(body, 0)]);
    while let Some((body, depth)) = open.pop() {
        deepest = deepest.max(depth);
        if let SetExpr::SetOperation { left, right, .. } = body {
            open.extend([(&**left, depth + 1), (&**right, depth + 1)]);
        }
    }
    deepest
}

/// An error of the parser.
pub(crate) fn from_parser(error: DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::SQL(e, _) if matches!(**e, ParserError::RecursionLimitExceeded) => Error::new(
            ErrorKind::InvalidQuery,
            "the query is nested too deeply: about 50 parentheses, operators or queries inside of each other are the limit",
        ),
        _ => from_datafusion(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Columns, Dialect, Query};
    use arrow::datatypes::DataType;

    /// Does something where a deep tree has room.
    fn deep<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::Builder::new().stack_size(PLANNING_STACK).spawn(work).unwrap().join().unwrap()
    }

    fn parse(sql: &str) -> Result<Query> {
        let mut columns = Columns::default();
        ["a", "b"].iter().for_each(|name| columns.add("cells", name, &DataType::Utf8));
        Query::parse(sql, 0, columns, Dialect::Slaf)
    }

    fn kind(sql: String) -> Option<ErrorKind> {
        deep(move || parse(&sql).err().map(|e| e.kind()))
    }

    fn rewritten(sql: &str, how: fn(&mut Statement)) -> String {
        let mut parsed = datafusion::sql::sqlparser::parser::Parser::parse_sql(&GenericDialect {}, sql).unwrap();
        how(&mut parsed[0]);
        parsed[0].to_string()
    }

    #[test]
    fn long_chains_become_balanced_trees() {
        let or = |n: usize| (0..n).map(|i| format!("a > {i}")).collect::<Vec<_>>().join(" OR ");
        let sql = format!("SELECT 1 FROM cells WHERE ({}) AND b", or(20_000));
        assert_eq!(kind(sql), None);
        let unions = vec!["SELECT 1"; 1000];
        assert_eq!(kind(unions.join(" UNION ALL ")), None);
        assert_eq!(kind(unions.join(" UNION ")), None);
        // The order of the terms stays, and short ones are left alone.
        let short = format!("SELECT 1 FROM cells WHERE {}", or(40));
        assert_eq!(rewritten(&short, balance), short);
        let mixed = "SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3 UNION SELECT 4 UNION ALL SELECT 5";
        assert_eq!(rewritten(mixed, balance), mixed);
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        let invalid = Some(ErrorKind::InvalidQuery);
        assert_eq!(kind(format!("SELECT {}", vec!["1"; 900].join("+"))), None);
        assert_eq!(kind(format!("SELECT {}", vec!["1"; 3000].join("+"))), invalid);
        assert_eq!(kind(format!("SELECT {}", vec!["1"; 60_000].join("||"))), invalid);
        assert_eq!(kind(format!("SELECT {}", vec!["1"; 1_000_000].join("+"))), invalid);
        assert_eq!(kind(format!("SELECT 1{}", "::int".repeat(3000))), invalid);
        assert_eq!(kind(format!("SELECT {}1{}", "(".repeat(3000), ")".repeat(3000))), invalid);
        assert_eq!(kind(format!("SELECT {} 1", "NOT ".repeat(3000))), invalid);
        assert_eq!(kind(format!("{} SELECT 1", "EXPLAIN ".repeat(3000))), invalid);
        assert_eq!(kind(format!("SELECT 1 FROM a {}", "JOIN a USING (x) ".repeat(300))), invalid);
        assert_eq!(kind(vec!["SELECT 1"; 300].join(" INTERSECT ")), invalid);
        let list = (0..200_000).map(|i| format!("'c{i}'")).collect::<Vec<_>>().join(", ");
        assert_eq!(kind(format!("SELECT 1 FROM cells WHERE a IN ({list})")), None);
    }

    #[test]
    fn common_table_expressions_count_wherever_they_are_read() {
        let doubled = |n: usize| {
            let steps = (1..n).map(|i| format!(", t{i} AS (SELECT x.a FROM t{} x, t{} y)", i - 1, i - 1));
            format!("WITH t0 AS (SELECT 1 AS a){} SELECT * FROM t{}", steps.collect::<String>(), n - 1)
        };
        assert_eq!(kind(doubled(5)), None);
        assert_eq!(kind(doubled(40)), Some(ErrorKind::InvalidQuery));
        let recursive = "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t WHERE a < 9) SELECT a FROM t";
        assert_eq!(kind(recursive.to_string()), None);
    }

    #[test]
    fn equalities_become_lists() {
        let or = |n: usize| (0..n).map(|i| format!("a = 'c{i}'")).collect::<Vec<_>>().join(" OR ");
        let list = |n: usize| (0..n).map(|i| format!("'c{i}'")).collect::<Vec<_>>().join(", ");
        let of = |condition: &str| rewritten(&format!("SELECT 1 FROM t WHERE {condition}"), equalities_to_lists);
        let expected = |condition: &str| format!("SELECT 1 FROM t WHERE {condition}");
        assert_eq!(of(&or(20)), expected(&format!("a IN ({})", list(20))));
        assert_eq!(of(&or(20).replace('=', "<>").replace("OR", "AND")), expected(&format!("a NOT IN ({})", list(20))));
        assert_eq!(
            of(&format!("b = 1 OR {} OR b = 2.5", or(20))),
            expected(&format!("b = 1 OR a IN ({}) OR b = 2.5", list(20)))
        );
        assert_eq!(of(&or(3)), expected(&or(3)));
        // Neither the other operator nor what is no constant.
        let kept = or(20).replace("OR", "AND");
        assert_eq!(of(&kept), expected(&kept));
        let kept = (0..20).map(|i| format!("a = b + {i}")).collect::<Vec<_>>().join(" OR ");
        assert_eq!(of(&kept), expected(&kept));
    }
}
