//! `uns.json` as the elements that AnnData would have written to an h5ad.

use serde_json::{Map, Number, Value};
use slaf_core::{Error, Result, Values};
use slaf_ingest::{Element, Loss};
use std::borrow::Cow;

/// Begins the strings that stand for the numbers that JSON lacks.
const NOT_JSON: &str = "\u{1}slafdb:";
const NUMBERS: [(&str, f64); 3] = [("-Infinity", f64::NEG_INFINITY), ("Infinity", f64::INFINITY), ("NaN", f64::NAN)];

/// Parses `uns.json`; what has no form in an h5ad is told as a loss.
pub(super) fn parse(text: &[u8], losses: &mut Vec<Loss>) -> Result<Element> {
    let text = std::str::from_utf8(text).map_err(|e| Error::malformed(e.to_string()))?;
    let json: Value = serde_json::from_str(&quoted(text)).map_err(|e| Error::malformed(e.to_string()))?;
    match json {
        Value::Object(map) => Ok(dict(map, "uns", losses)),
        _ => Err(Error::malformed("not a mapping")),
    }
}

/// Puts NaN and infinity, which Python writes as bare words, into quotes.
fn quoted(text: &str) -> Cow<'_, str> {
    if !NUMBERS.iter().any(|(word, _)| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    let (mut rest, mut in_string) = (text, false);
    while let Some(c) = rest.chars().next() {
        if !in_string && let Some((word, _)) = NUMBERS.iter().find(|(word, _)| rest.starts_with(word)) {
            out.push_str(&format!("\"\\u0001{}{word}\"", &NOT_JSON[1..]));
            rest = &rest[word.len()..];
            continue;
        }
        let escaped = in_string && c == '\\';
        in_string ^= c == '"';
        // An escape takes the next character with it.
        let len = c.len_utf8() + if escaped { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    Cow::Owned(out)
}

fn dict(map: Map<String, Value>, path: &str, losses: &mut Vec<Loss>) -> Element {
    let mut items = Vec::new();
    for (key, value) in map {
        let path = format!("{path}/{key}");
        let mut lose = |reason: &str| losses.push(Loss { path: path.clone(), reason: reason.to_owned() });
        if key.is_empty() || key == "." || key.contains(['/', '\0']) {
            lose("a name that HDF5 cannot hold");
            continue;
        }
        let element = match value {
            Value::Object(map) => Some(dict(map, &path, losses)),
            Value::Array(list) => array(&list).or_else(|| {
                lose("a list that is not of one shape and type");
                None
            }),
            Value::Null => Some(Element::Null),
            Value::String(s) => Some(match not_json(&s) {
                Some(v) => Element::Scalar(Values::F64(vec![v])),
                None => Element::String(s),
            }),
            scalar => numbers(&[&scalar]).map(Element::Scalar),
        };
        items.extend(element.map(|e| (key, e)));
    }
    Element::Dict(items)
}

fn not_json(text: &str) -> Option<f64> {
    let word = text.strip_prefix(NOT_JSON)?;
    NUMBERS.iter().find(|(w, _)| *w == word).map(|n| n.1)
}

/// A list of numbers, strings, or equally long lists of these.
fn array(list: &[Value]) -> Option<Element> {
    let mut shape = Vec::new();
    let mut level: Vec<&Value> = list.iter().collect();
    shape.push(level.len() as u64);
    while let Some(Value::Array(first)) = level.first() {
        shape.push(first.len() as u64);
        let mut next = Vec::new();
        for value in &level {
            next.extend(value.as_array().filter(|a| a.len() == first.len())?);
        }
        level = next;
    }
    let text = |v: &&Value| v.as_str().filter(|s| not_json(s).is_none()).map(str::to_owned);
    if !level.is_empty()
        && let Some(strings) = level.iter().map(text).collect()
    {
        return Some(Element::Strings { shape, strings });
    }
    Some(Element::Array { shape, values: numbers(&level)? })
}

/// Numbers in the type that numpy would give them.
fn numbers(values: &[&Value]) -> Option<Values> {
    if values.is_empty() {
        return Some(Values::F64(Vec::new()));
    }
    if let Some(v) = values.iter().map(|v| v.as_bool()).collect() {
        return Some(Values::Bool(v));
    }
    if let Some(v) = values.iter().map(|v| v.as_i64()).collect() {
        return Some(Values::I64(v));
    }
    if let Some(v) = values.iter().map(|v| v.as_u64()).collect() {
        return Some(Values::U64(v));
    }
    let float = |v: &&Value| match v {
        Value::String(s) => not_json(s),
        v => v.as_number().and_then(Number::as_f64),
    };
    values.iter().map(float).collect::<Option<Vec<_>>>().map(Values::F64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_numbers_and_strings_keep_apart() {
        let text = r#"{"a": [NaN, 1, -Infinity], "b": "NaN \" NaN", "c": ["x", 1], "d": [[1, 2], [3, 4]], "e/f": 1}"#;
        let mut losses = Vec::new();
        let Element::Dict(items) = parse(text.as_bytes(), &mut losses).unwrap() else { panic!() };
        let Element::Array { shape, values: Values::F64(a) } = &items[0].1 else { panic!("{:?}", items[0]) };
        assert_eq!((shape.as_slice(), a[1], a[2]), (&[3][..], 1.0, f64::NEG_INFINITY));
        assert!(a[0].is_nan());
        assert_eq!(items[1].1, Element::String("NaN \" NaN".into()));
        let d = Element::Array { shape: vec![2, 2], values: Values::I64(vec![1, 2, 3, 4]) };
        assert_eq!(items[2], ("d".to_owned(), d));
        let paths: Vec<_> = losses.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(paths, ["uns/c", "uns/e/f"]);
    }
}
