//! Lists as values of parameters: `IN $list`, `= ANY($list)`, `unnest($list)`.

use crate::parameters::{Parameter, ParameterType, Parameters};
use crate::walk::walk_mut;
use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Statement, TimezoneInfo, UnaryOperator, Value,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};
use slaf_core::Error;
use std::ops::ControlFlow;

/// The tokens of a text, with parentheses around a parameter that follows IN. Their lines are counted from
/// behind the first `lines_before`.
pub(crate) fn tokens(
    sql: &str,
    lines_before: u64,
    dialect: &dyn Dialect,
) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let (mut tokens, mut after_in) = (Vec::new(), false);
    for mut token in Tokenizer::new(dialect, sql).tokenize_with_location()? {
        for place in [&mut token.span.start, &mut token.span.end] {
            place.line = place.line.saturating_sub(lines_before);
        }
        let span = token.span;
        match &token.token {
            Token::Placeholder(_) if after_in => {
                tokens.extend([Token::LParen, token.token.clone(), Token::RParen].map(|t| TokenWithSpan::new(t, span)));
                after_in = false;
                continue;
            }
            Token::Whitespace(_) => {}
            other => after_in = matches!(other, Token::Word(word) if word.keyword == Keyword::IN),
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Puts lists and typed values in the places of their parameters.
///
/// # Errors
/// `invalid-argument` for a parameter without a value, and for a value that is not used.
pub(crate) fn bind(parameters: &Parameters, statement: &mut Statement) -> Result<(), Error> {
    parameters.check(statement)?;
    put(statement, &|name| parameters.in_place(name));
    Ok(())
}

/// Puts lists and typed values where their parameters stand. `value_of` gives the value of a
/// parameter that has such a one.
fn put<'a>(statement: &mut Statement, value_of: &dyn Fn(&str) -> Option<&'a Parameter>) {
    let _ = walk_mut(statement, &mut Put(value_of));
}

struct Put<'f, 'a>(&'f dyn Fn(&str) -> Option<&'a Parameter>);

impl Put<'_, '_> {
    fn values(&self, expr: &Expr) -> Option<Vec<Expr>> {
        match expr {
            Expr::Nested(inner) => self.values(inner),
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => match (self.0)(name)? {
                    Parameter::List(values) => Some(values.iter().map(literal).collect()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    fn typed(&self, value: &Value) -> Option<Expr> {
        let Value::Placeholder(name) = value else { return None };
        (self.0)(name).filter(|value| matches!(value, Parameter::Typed(..))).map(literal)
    }
}

impl VisitorMut for Put<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let in_list = |left: &Expr, list, negated| Expr::InList { expr: Box::new(left.clone()), list, negated };
        let replaced = match expr {
            Expr::InList { list, .. } => {
                if list.iter().any(|e| self.values(e).is_some()) {
                    *list = list.drain(..).flat_map(|e| self.values(&e).unwrap_or_else(|| vec![e])).collect();
                }
                None
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                self.values(right).map(|values| in_list(left, values, false))
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                self.values(right).map(|values| in_list(left, values, true))
            }
            Expr::Value(value) => match self.typed(&value.value) {
                Some(typed) => Some(typed),
                None => self.values(expr).map(|elem| Expr::Array(Array { elem, named: true })),
            },
            _ => None,
        };
        if let Some(replaced) = replaced {
            *expr = replaced;
        }
        ControlFlow::Continue(())
    }
}

fn cast(text: &str, data_type: DataType) -> Expr {
    let expr = Box::new(Expr::Value(Value::SingleQuotedString(text.to_string()).into()));
    Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None }
}

fn literal(value: &Parameter) -> Expr {
    let negative = |number: Expr| Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) };
    let value = match value {
        Parameter::Null => Value::Null,
        Parameter::Bool(value) => Value::Boolean(*value),
        Parameter::Int(value) => {
            let number = Expr::Value(Value::Number(value.unsigned_abs().to_string(), false).into());
            return if *value < 0 { negative(number) } else { number };
        }
        Parameter::Float(value) if value.is_finite() => {
            let number = Expr::Value(Value::Number(format!("{:?}", value.abs()), false).into());
            return if value.is_sign_negative() { negative(number) } else { number };
        }
        Parameter::Float(value) => return cast(&value.to_string(), DataType::Double(ExactNumberInfo::None)),
        Parameter::Typed(of, text) => {
            let data_type = match of {
                ParameterType::Date => DataType::Date,
                ParameterType::Time => DataType::Time(None, TimezoneInfo::None),
                ParameterType::Timestamp => DataType::Timestamp(None, TimezoneInfo::None),
                ParameterType::TimestampTz => DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
                ParameterType::Interval => DataType::Interval { fields: None, precision: None },
                ParameterType::Decimal => {
                    let digits = text.bytes().filter(u8::is_ascii_digit).count() as u64;
                    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                    DataType::Decimal(ExactNumberInfo::PrecisionAndScale(digits.min(38), scale as i64))
                }
            };
            return cast(text, data_type);
        }
        Parameter::Text(value) => Value::SingleQuotedString(value.clone()),
        Parameter::List(values) => {
            return Expr::Array(Array { elem: values.iter().map(literal).collect(), named: true });
        }
    };
    Expr::Value(value.into())
}
