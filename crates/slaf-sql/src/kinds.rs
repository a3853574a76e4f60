//! What expressions hold, told from their text and the columns.

use crate::columns::{Columns, Kind};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, UnaryOperator,
    Value,
};
use std::collections::HashMap;

/// How far aliases of aliases, and expressions in expressions, are followed.
const DEPTH: usize = 16;

/// The names of a query: columns, and what it defines itself.
pub(crate) struct Scope<'a> {
    pub(crate) columns: &'a Columns,
    /// What each alias stands for; nothing for names of tables.
    pub(crate) defined: HashMap<String, Vec<Expr>>,
}

impl Scope<'_> {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.columns.contains(name) || self.defined.contains_key(name)
    }

    /// The names without aliases that are given once, if there are any.
    pub(crate) fn without<'n>(&self, aliases: impl Iterator<Item = &'n str>) -> Option<Self> {
        let once: Vec<&str> = aliases.filter(|a| self.defined.get(*a).is_some_and(|of| of.len() == 1)).collect();
        if once.is_empty() {
            return None;
        }
        let mut defined = self.defined.clone();
        once.into_iter().for_each(|alias| drop(defined.remove(alias)));
        Some(Scope { columns: self.columns, defined })
    }

    /// Whether an expression is no constant, and may be text.
    pub(crate) fn may_be_text(&self, expr: &Expr) -> bool {
        !is_constant(expr) && self.kind(expr, DEPTH) != Kind::Number
    }

    fn kind(&self, expr: &Expr, depth: usize) -> Kind {
        let Some(depth) = depth.checked_sub(1) else { return Kind::Unknown };
        match expr {
            Expr::Identifier(ident) => self.of_name(ident, depth),
            Expr::CompoundIdentifier(parts) => parts.last().map_or(Kind::Unknown, |i| self.of_name(i, depth)),
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => self.kind(inner, depth),
            Expr::Value(value) => match &value.value {
                Value::Number(..) | Value::Boolean(_) => Kind::Number,
                Value::Null | Value::Placeholder(_) => Kind::Unknown,
                _ => Kind::Text,
            },
            Expr::Cast { data_type, .. } => of_cast(data_type),
            Expr::BinaryOp { op, .. } => of_operator(op),
            Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus | UnaryOperator::Not, .. } => Kind::Number,
            Expr::Substring { .. } | Expr::Trim { .. } | Expr::Overlay { .. } => Kind::Text,
            Expr::Case { conditions, else_result, .. } => {
                let results = conditions.iter().map(|c| &c.result).chain(else_result.as_deref());
                self.common(results, depth)
            }
            Expr::Function(function) => self.of_function(function, depth),
            Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Exists { .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..) => Kind::Number,
            _ => Kind::Unknown,
        }
    }

    /// A word that names nothing is a gene, or nothing: neither is text.
    fn of_name(&self, ident: &Ident, depth: usize) -> Kind {
        let of_alias = self.defined.get(&ident.value).map(|exprs| self.common(exprs.iter(), depth));
        match (self.columns.kind(&ident.value), of_alias) {
            (Some(a), Some(b)) => {
                if a == b {
                    a
                } else {
                    Kind::Unknown
                }
            }
            (Some(kind), None) | (None, Some(kind)) => kind,
            (None, None) => Kind::Number,
        }
    }

    /// What all of these hold.
    fn common<'e>(&self, mut exprs: impl Iterator<Item = &'e Expr>, depth: usize) -> Kind {
        let Some(first) = exprs.next().map(|e| self.kind(e, depth)) else { return Kind::Unknown };
        if exprs.all(|e| self.kind(e, depth) == first) { first } else { Kind::Unknown }
    }

    fn of_function(&self, function: &Function, depth: usize) -> Kind {
        let name = function.name.0.last().and_then(|p| p.as_ident()).map(|i| i.value.to_ascii_lowercase());
        match name.as_deref().unwrap_or_default() {
            "lower" | "upper" | "concat" | "concat_ws" | "substr" | "substring" | "trim" | "btrim" | "ltrim"
            | "rtrim" | "replace" | "regexp_replace" | "split_part" | "left" | "right" | "lpad" | "rpad"
            | "reverse" | "repeat" | "initcap" | "string_agg" | "to_char" | "md5" | "translate" => Kind::Text,
            "count" | "sum" | "avg" | "mean" | "median" | "stddev" | "var" | "corr" | "abs" | "round" | "floor"
            | "ceil" | "trunc" | "sqrt" | "ln" | "log" | "log2" | "log10" | "log1p" | "exp" | "power" | "pow"
            | "normalize" | "div" | "length" | "char_length" | "octet_length" | "strpos" | "row_number" | "rank"
            | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" | "array_distance" | "cosine_distance"
            | "inner_product" | "starts_with" | "ends_with" | "contains" | "regexp_like" | "isnan" => Kind::Number,
            "min" | "max" | "first_value" | "last_value" | "nth_value" | "lag" | "lead" | "nullif" => {
                first_argument(function).map_or(Kind::Unknown, |e| self.kind(e, depth))
            }
            _ => Kind::Unknown,
        }
    }
}

fn first_argument(function: &Function) -> Option<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } | Expr::UnaryOp { expr: inner, .. } => is_constant(inner),
        _ => false,
    }
}

fn of_cast(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Character(_)
        | DataType::Char(_)
        | DataType::CharacterVarying(_)
        | DataType::CharVarying(_)
        | DataType::Varchar(_)
        | DataType::Nvarchar(_)
        | DataType::Text
        | DataType::String(_) => Kind::Text,
        DataType::Date | DataType::Time(..) | DataType::Timestamp(..) | DataType::Array(_) | DataType::Custom(..) => {
            Kind::Unknown
        }
        _ => Kind::Number,
    }
}

fn of_operator(op: &BinaryOperator) -> Kind {
    use BinaryOperator as Op;
    match op {
        Op::StringConcat => Kind::Text,
        Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::DuckIntegerDivide | Op::Modulo | Op::And | Op::Or => {
            Kind::Number
        }
        op if is_comparison(op) || is_match(op) => Kind::Number,
        _ => Kind::Unknown,
    }
}

/// Operators that compare two values of one kind.
pub(crate) fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq, Spaceship};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | Spaceship)
}

/// Operators that compare a value with a pattern at their right.
pub(crate) fn is_match(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        op,
        Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch
            | Op::PGLikeMatch
            | Op::PGILikeMatch
            | Op::PGNotLikeMatch
            | Op::PGNotILikeMatch
    )
}
