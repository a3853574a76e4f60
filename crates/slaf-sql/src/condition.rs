//! Conditions that users give in place of a whole query.

use crate::error::from_datafusion;
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use slaf_core::{Error, ErrorKind, Result};

/// The query for the numbers of the cells (`what` is `cell`) or genes (`gene`) that fulfil a
/// condition.
///
/// # Errors
/// `invalid-query` for a text that holds no condition, or more than one.
pub fn rows_where(what: &str, condition: &str) -> Result<String> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidQuery, message));
    let tokens = Tokenizer::new(&GenericDialect {}, condition)
        .tokenize()
        .map_err(|e| from_datafusion(DataFusionError::SQL(Box::new(e.into()), None)))?;
    if tokens.iter().all(|token| matches!(token, Token::Whitespace(_))) {
        return invalid(format!("the condition is empty: name the {what}s that are wanted, or give none"));
    }
    // One that closes what it did not open would end ours.
    let mut open = 0_usize;
    for token in &tokens {
        match token {
            Token::LParen => open += 1,
            Token::RParen if open == 0 => return invalid(format!("a ) without ( in the condition {condition:?}")),
            Token::RParen => open -= 1,
            _ => {}
        }
    }
    if open > 0 {
        return invalid(format!("a ( without ) in the condition {condition:?}"));
    }
    // The line break ends a comment at the end of the text.
    Ok(format!("SELECT {what}_integer_id FROM {what}s WHERE ({condition}\n)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_stays_within_its_parentheses() {
        let query = rows_where("cell", "(n > 1) AND t IN (')', \"(\") -- )").unwrap();
        assert_eq!(query, "SELECT cell_integer_id FROM cells WHERE ((n > 1) AND t IN (')', \"(\") -- )\n)");
        for condition in ["", " \n", "-- nothing", "/* ( */", "1=1) OR (1=1", ")(", "(n > 1", "n > 1)", "n = 'a"] {
            assert_eq!(rows_where("gene", condition).unwrap_err().kind(), ErrorKind::InvalidQuery, "{condition}");
        }
    }
}
