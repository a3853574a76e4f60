//! Queries that begin with FROM, and texts that are read other than they are meant.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use slaf_core::{Error, ErrorKind, Result};

/// A query, or whatever else stands between two parentheses.
#[derive(Default)]
struct Part {
    /// Where its FROM is, while there was nothing of a SELECT.
    from: Option<usize>,
    /// Whether it may begin here.
    begins: bool,
    selected: bool,
}

impl Part {
    fn new() -> Part {
        Part { begins: true, ..Part::default() }
    }

    /// Where `SELECT *` is missing, at its end.
    fn missing(&self) -> Option<usize> {
        if self.selected { None } else { self.from }
    }
}

/// Puts `SELECT *` before a FROM of a query that has no SELECT.
pub(crate) fn select_all(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let (mut parts, mut missing) = (vec![Part::new()], Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        let Some(part) = parts.last_mut() else { break };
        match &token.token {
            Token::Whitespace(_) => {}
            Token::LParen => parts.push(Part::new()),
            Token::RParen => {
                missing.extend(part.missing());
                parts.pop();
                if parts.is_empty() {
                    parts.push(Part::new());
                }
            }
            Token::SemiColon => {
                missing.extend(part.missing());
                *part = Part::new();
            }
            Token::Word(word) => match word.keyword {
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    missing.extend(part.missing());
                    *part = Part::new();
                }
                Keyword::SELECT => part.selected = true,
                Keyword::FROM if part.begins && !part.selected && part.from.is_none() => part.from = Some(at),
                // What may stand before the FROM of a query.
                Keyword::WITH
                | Keyword::RECURSIVE
                | Keyword::AS
                | Keyword::MATERIALIZED
                | Keyword::NOT
                | Keyword::EXPLAIN
                | Keyword::ANALYZE
                | Keyword::VERBOSE
                | Keyword::ALL
                | Keyword::DISTINCT
                | Keyword::BY
                | Keyword::NAME => {}
                // Names of common table expressions.
                _ if part.begins && part.from.is_none() && follows_with(&tokens[..at]) => {}
                _ => part.begins = false,
            },
            Token::Comma => {}
            _ => part.begins = false,
        }
    }
    missing.extend(parts.iter().filter_map(Part::missing));
    if missing.is_empty() {
        return tokens;
    }
    let mut all = Vec::with_capacity(tokens.len() + 4 * missing.len());
    for (at, token) in tokens.into_iter().enumerate() {
        if missing.contains(&at) {
            let select = Token::Word(Word { value: "SELECT".into(), quote_style: None, keyword: Keyword::SELECT });
            all.extend([select, Token::Mul].map(|t| TokenWithSpan::new(t, token.span)));
        }
        all.push(token);
    }
    all
}

/// Whether the last words are `WITH`, `RECURSIVE`, or a comma behind a parenthesis.
fn follows_with(before: &[TokenWithSpan]) -> bool {
    let mut words = before.iter().rev().map(|t| &t.token).filter(|t| !matches!(t, Token::Whitespace(_)));
    match words.next() {
        Some(Token::Word(word)) => matches!(word.keyword, Keyword::WITH | Keyword::RECURSIVE),
        Some(Token::Comma) => matches!(words.next(), Some(Token::RParen)),
        _ => false,
    }
}

/// Refuses a name that begins with a digit: it would be read as a number and a name for it.
///
/// # Errors
/// `invalid-query`.
pub(crate) fn check_numbers(tokens: &[TokenWithSpan]) -> Result<()> {
    for pair in tokens.windows(2) {
        if let (Token::Number(number, _), Token::Word(word)) = (&pair[0].token, &pair[1].token)
            && word.quote_style.is_none()
        {
            let name = format!("{number}{}", word.value);
            let message = format!("a name that begins with a digit stands in double quotes: \"{name}\"");
            return Err(Error::new(ErrorKind::InvalidQuery, message));
        }
    }
    Ok(())
}
