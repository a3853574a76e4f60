//! Conditions that users give in place of a whole query.

use crate::error::from_datafusion;
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use slaf_core::{Error, ErrorKind, Result};

/// The query for the numbers of the cells (`what` is `cell`) or genes (`gene`) that fulfil a
/// condition, and how many of its lines come before the condition: see [`Query::parse`].
///
/// [`Query::parse`]: crate::Query::parse
///
/// # Errors
/// `invalid-query` for a text that holds no condition, or more than one.
pub fn rows_where(what: &str, condition: &str) -> Result<(String, u64)> {
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
    Ok((format!("SELECT {what}_integer_id FROM {what}s WHERE (\n{condition}\n)"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Columns, Dialect, Query};

    #[test]
    fn errors_count_from_the_begin_of_the_condition() {
        for (condition, place) in [
            ("n > > 1", "Line: 1, Column: 5"),
            ("n > 1 AND\n  t = = 'a'", "Line: 2, Column: 7"),
            ("n IN (1, 2) 3", "Line: 1, Column: 13"),
        ] {
            let (query, lines_before) = rows_where("cell", condition).unwrap();
            let error = Query::parse(&query, lines_before, Columns::default(), Dialect::default()).unwrap_err();
            assert!(error.message().contains(place), "{condition}: {error}");
        }
    }

    #[test]
    fn a_query_of_the_same_words_counts_from_its_own_begin() {
        let (query, _) = rows_where("cell", "n > > 1").unwrap();
        let error = Query::parse(&query, 0, Columns::default(), Dialect::default()).unwrap_err();
        assert!(error.message().contains("Line: 2, Column: 5"), "{error}");
    }

    #[test]
    fn a_condition_stays_within_its_parentheses() {
        let (query, _) = rows_where("cell", "(n > 1) AND t IN (')', \"(\") -- )").unwrap();
        let expected = "SELECT cell_integer_id FROM cells WHERE (\n(n > 1) AND t IN (')', \"(\") -- )\n)";
        assert_eq!(query, expected);
        for condition in ["", " \n", "-- nothing", "/* ( */", "1=1) OR (1=1", ")(", "(n > 1", "n > 1)", "n = 'a"] {
            assert_eq!(rows_where("gene", condition).unwrap_err().kind(), ErrorKind::InvalidQuery, "{condition}");
        }
    }
}
