//! Filters of a query that choose cells or genes before anything is decoded.
//!
//! The choice may keep too much: the query engine filters the rows again.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

/// What a filter says of one column of the expression table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Choice {
    /// These numbers, rising.
    Numbers(Vec<u64>),
    /// These names.
    Names(Vec<String>),
    /// Numbers from the first to the second, both included.
    Between(i64, i64),
}

/// Whether a filter can be looked at without the query around it.
pub(super) fn is_plain(filter: &Expr) -> bool {
    // A subquery has columns of its own; a volatile function is not the same for all rows.
    let plain = filter.apply(|e| {
        Ok(match e {
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..) => {
                TreeNodeRecursion::Stop
            }
            _ => TreeNodeRecursion::Continue,
        })
    });
    !filter.is_volatile() && matches!(plain, Ok(TreeNodeRecursion::Continue))
}

/// The column and the choice of a filter, if it is one that can choose.
pub(super) fn choice(filter: &Expr) -> Option<(String, Choice)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => any_of(&alternatives(filter)),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (&**left, &**right) {
                (Expr::Column(c), Expr::Literal(v, _)) => (c, *op, v),
                (Expr::Literal(v, _), Expr::Column(c)) => (c, op.swap()?, v),
                _ => return None,
            };
            let choice = match (op, number(value)) {
                (Operator::Eq, _) => equal_to(value)?,
                (Operator::Lt, Some(n)) => Choice::Between(i64::MIN, n.saturating_sub(1)),
                (Operator::LtEq, Some(n)) => Choice::Between(i64::MIN, n),
                (Operator::Gt, Some(n)) => Choice::Between(n.saturating_add(1), i64::MAX),
                (Operator::GtEq, Some(n)) => Choice::Between(n, i64::MAX),
                _ => return None,
            };
            Some((column.name.clone(), choice))
        }
        Expr::Between(Between { expr, negated: false, low, high }) => match (&**expr, &**low, &**high) {
            (Expr::Column(c), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                Some((c.name.clone(), Choice::Between(number(low)?, number(high)?)))
            }
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = &**expr else { return None };
            let literal = |e: &Expr| if let Expr::Literal(v, _) = e { Some(v.clone()) } else { None };
            let values: Vec<ScalarValue> = list.iter().map(literal).collect::<Option<_>>()?;
            Some((column.name.clone(), of_values(&values)?))
        }
        _ => None,
    }
}

/// What a condition joins by OR.
fn alternatives(filter: &Expr) -> Vec<&Expr> {
    let (mut found, mut left_over) = (Vec::new(), vec![filter]);
    while let Some(expr) = left_over.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => left_over.extend([&**right, &**left]),
            other => found.push(other),
        }
    }
    found
}

/// The choice of conditions of one column of which any holds, as the query engine writes short lists.
fn any_of(filters: &[&Expr]) -> Option<(String, Choice)> {
    let choices: Vec<_> = filters.iter().map(|filter| choice(filter)).collect::<Option<_>>()?;
    let column = choices.first()?.0.clone();
    let (mut numbers, mut names) = (Vec::new(), Vec::new());
    for (of, choice) in choices {
        match choice {
            Choice::Numbers(more) if of == column => numbers.extend(more),
            Choice::Names(more) if of == column => names.extend(more),
            _ => return None,
        }
    }
    match (numbers.is_empty(), names.is_empty()) {
        (_, true) => {
            numbers.sort_unstable();
            numbers.dedup();
            Some((column, Choice::Numbers(numbers)))
        }
        (true, false) => Some((column, Choice::Names(names))),
        (false, false) => None,
    }
}

fn number(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(n) => *n,
        _ => None,
    }
}

/// The choice of what is equal to a value.
pub(super) fn equal_to(value: &ScalarValue) -> Option<Choice> {
    of_values(std::slice::from_ref(value))
}

fn of_values(values: &[ScalarValue]) -> Option<Choice> {
    let text = |v: &ScalarValue| match v {
        ScalarValue::Dictionary(_, inner) => inner.try_as_str().flatten().map(str::to_owned),
        other => other.try_as_str().flatten().map(str::to_owned),
    };
    if let Some(numbers) = values.iter().map(number).collect::<Option<Vec<_>>>() {
        let mut numbers: Vec<u64> = numbers.into_iter().filter_map(|n| u64::try_from(n).ok()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        return Some(Choice::Numbers(numbers));
    }
    values.iter().map(text).collect::<Option<Vec<_>>>().map(Choice::Names)
}

/// The numbers that all choices of one axis leave, rising; `None` for all of the axis.
pub(super) fn intersect(choices: &[Choice], n: u64, find: impl Fn(&str) -> Vec<u64>) -> Option<Vec<u64>> {
    let mut kept: Option<Vec<u64>> = None;
    for choice in choices {
        let these: Vec<u64> = match choice {
            Choice::Numbers(numbers) => numbers.iter().copied().filter(|&i| i < n).collect(),
            Choice::Names(names) => {
                let mut rows: Vec<u64> = names.iter().flat_map(|name| find(name)).collect();
                rows.sort_unstable();
                rows.dedup();
                rows
            }
            Choice::Between(low, high) => {
                let low = u64::try_from(*low).unwrap_or(0);
                let high = u64::try_from(high.saturating_add(1)).unwrap_or(0).min(n);
                (low..high.max(low)).collect()
            }
        };
        kept = Some(match kept {
            Some(before) => before.into_iter().filter(|i| these.binary_search(i).is_ok()).collect(),
            None => these,
        });
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    #[test]
    fn filters_choose() {
        assert_eq!(choice(&col("g").eq(lit(3i64))), Some(("g".into(), Choice::Numbers(vec![3]))));
        assert_eq!(choice(&lit(3i64).lt(col("g"))), Some(("g".into(), Choice::Between(4, i64::MAX))));
        assert_eq!(
            choice(&col("g").in_list(vec![lit("B"), lit("A")], false)),
            Some(("g".into(), Choice::Names(vec!["B".into(), "A".into()])))
        );
        let either = col("g").eq(lit("B")).or(col("g").eq(lit("A"))).or(col("g").eq(lit("C")));
        assert_eq!(choice(&either), Some(("g".into(), Choice::Names(vec!["B".into(), "A".into(), "C".into()]))));
        let either = col("g").eq(lit(7i64)).or(col("g").in_list(vec![lit(3i64), lit(7i64)], false));
        assert_eq!(choice(&either), Some(("g".into(), Choice::Numbers(vec![3, 7]))));
        assert_eq!(choice(&col("g").eq(lit(7i64)).or(col("h").eq(lit(7i64)))), None);
        assert_eq!(choice(&col("g").eq(lit(7i64)).or(col("g").gt(lit(7i64)))), None);
        assert_eq!(choice(&col("g").not_eq(lit(3i64))), None);
        assert_eq!(choice(&col("g").in_list(vec![lit(1i64)], true)), None);
    }

    #[test]
    fn choices_intersect() {
        let choices = [Choice::Between(-5, 6), Choice::Numbers(vec![2, 6, 7, 99])];
        assert_eq!(intersect(&choices, 10, |_| vec![]), Some(vec![2, 6]));
        assert_eq!(intersect(&[], 10, |_| vec![]), None);
        assert_eq!(intersect(&[Choice::Between(8, 3)], 10, |_| vec![]), Some(vec![]));
    }
}
