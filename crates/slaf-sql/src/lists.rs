//! Lists as values of parameters: `IN $list`, `= ANY($list)`, `unnest($list)`.

use crate::Parameter;
use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Statement, UnaryOperator, Value, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};
use std::ops::ControlFlow;

/// The tokens of a text, with parentheses around a parameter that follows IN.
pub(crate) fn tokens(sql: &str, dialect: &dyn Dialect) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let mut tokens = Vec::new();
    let mut after_in = false;
    for token in Tokenizer::new(dialect, sql).tokenize_with_location()? {
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

/// Puts lists where their parameters stand. `list_of` gives the list of a parameter that has one.
pub(crate) fn put<'a>(statement: &mut Statement, list_of: &dyn Fn(&str) -> Option<&'a [Parameter]>) {
    let _ = VisitMut::visit(statement, &mut Put(list_of));
}

struct Put<'f, 'a>(&'f dyn Fn(&str) -> Option<&'a [Parameter]>);

impl Put<'_, '_> {
    fn values(&self, expr: &Expr) -> Option<Vec<Expr>> {
        match expr {
            Expr::Nested(inner) => self.values(inner),
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => Some((self.0)(name)?.iter().map(literal).collect()),
                _ => None,
            },
            _ => None,
        }
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
            Expr::Value(_) => self.values(expr).map(|elem| Expr::Array(Array { elem, named: true })),
            _ => None,
        };
        if let Some(replaced) = replaced {
            *expr = replaced;
        }
        ControlFlow::Continue(())
    }
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
        Parameter::Float(value) => {
            return Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Value(Value::SingleQuotedString(value.to_string()).into())),
                data_type: DataType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
        Parameter::Text(value) => Value::SingleQuotedString(value.clone()),
        Parameter::List(values) => {
            return Expr::Array(Array { elem: values.iter().map(literal).collect(), named: true });
        }
    };
    Expr::Value(value.into())
}
