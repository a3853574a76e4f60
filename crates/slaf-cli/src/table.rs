use crate::failure::{Outcome, from_arrow};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchReader, StringArray};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use std::io::Write;
use std::sync::Arc;

/// Characters of a line, where the standard output is no terminal.
const WIDTH: usize = 160;
/// Characters of a text that a table shows.
const MAX_TEXT: usize = 32;
/// Where counting the rows that are not shown ends.
const MAX_COUNTED: u64 = 10_000_000;

/// Prints the first `shown` rows of a result, and how many there are; returns that number.
/// Columns beyond the width of the terminal are named only.
pub(crate) fn write(result: Box<dyn RecordBatchReader + Send>, shown: usize, out: &mut dyn Write) -> Outcome<u64> {
    let width = console::Term::stdout().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns));
    write_within(width, result, shown, out)
}

/// Prints what EXPLAIN says: trees of many lines, which are no table.
fn write_plans(result: Box<dyn RecordBatchReader + Send>, out: &mut dyn Write) -> Outcome<u64> {
    let mut n = 0;
    for batch in result {
        let batch = batch.map_err(from_arrow)?;
        let options = FormatOptions::default();
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options));
        let columns = columns.collect::<Result<Vec<_>, ArrowError>>().map_err(from_arrow)?;
        for row in 0..batch.num_rows() {
            for column in &columns {
                writeln!(out, "{}", column.value(row))?;
            }
        }
        n += batch.num_rows() as u64;
    }
    Ok(n)
}

fn write_within(
    width: usize,
    result: Box<dyn RecordBatchReader + Send>,
    shown: usize,
    out: &mut dyn Write,
) -> Outcome<u64> {
    let schema = result.schema();
    if schema.fields().iter().map(|f| f.name().as_str()).eq(["plan_type", "plan"]) {
        return write_plans(result, out);
    }
    let mut columns = vec![Vec::new(); schema.fields().len()];
    let (mut n, mut left, mut more) = (0, shown, false);
    for batch in result {
        let batch = batch.map_err(from_arrow)?;
        n += batch.num_rows() as u64;
        let rows = left.min(batch.num_rows());
        left -= rows;
        for (texts, column) in columns.iter_mut().zip(batch.columns()) {
            add_texts(texts, &column.slice(0, rows)).map_err(from_arrow)?;
        }
        if left == 0 && n > MAX_COUNTED {
            more = true;
            break;
        }
    }
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let fitting = how_many_fit(&names, &columns, width);
    let (names, hidden) = names.split_at(fitting);
    let columns = names.iter().zip(columns).map(|(name, texts)| {
        let column: ArrayRef = Arc::new(texts.into_iter().map(Some).collect::<StringArray>());
        (*name, column, true)
    });
    let table = RecordBatch::try_from_iter_with_nullable(columns).map_err(from_arrow)?;
    writeln!(out, "{}", pretty_format_batches(&[table]).map_err(from_arrow)?)?;
    if !hidden.is_empty() {
        writeln!(out, "more columns: {}", hidden.join(", "))?;
    }
    let all = if more { format!("more than {}", with_commas(MAX_COUNTED)) } else { with_commas(n) };
    let rows = if n == 1 { "row" } else { "rows" };
    if n > shown as u64 {
        writeln!(out, "{} of {all} {rows}", with_commas(shown as u64))?;
    } else {
        writeln!(out, "{all} {rows}")?;
    }
    Ok(n)
}

/// How many of the columns, at least one, fit into a line.
fn how_many_fit(names: &[&str], columns: &[Vec<String>], width: usize) -> usize {
    let length = |text: &str| text.chars().count();
    let mut end = 1;
    let fitting = names.iter().zip(columns).take_while(|(name, texts)| {
        let longest = texts.iter().map(|t| length(t)).max().unwrap_or(0);
        // A bar and a space on both sides.
        end += longest.max(length(name)) + 3;
        end <= width
    });
    fitting.count().max(1).min(names.len())
}

fn add_texts(texts: &mut Vec<String>, column: &ArrayRef) -> Result<(), ArrowError> {
    let options = FormatOptions::default().with_null("null");
    let values = ArrayFormatter::try_new(column, &options)?;
    texts.extend((0..column.len()).map(|i| shorten(&values.value(i).to_string())));
    Ok(())
}

/// Cuts a text, and escapes what would move the cursor of a terminal.
fn shorten(text: &str) -> String {
    match text.chars().nth(MAX_TEXT) {
        Some(_) => {
            let short: String = text.chars().take(MAX_TEXT - 1).collect();
            escaped(&short) + "…"
        }
        None => escaped(text),
    }
}

/// A text without what would move the cursor of a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// `1234567` as `1,234,567`.
pub(crate) fn with_commas(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, RecordBatchIterator};

    fn table(n_rows: i32, n_columns: usize, shown: usize) -> String {
        let columns =
            (0..n_columns).map(|i| (format!("c{i}"), Arc::new((0..n_rows).collect::<Int32Array>()) as ArrayRef));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let batches = [batch.slice(0, 1), batch.slice(1, batch.num_rows() - 1)];
        let mut out = Vec::new();
        let result = Box::new(RecordBatchIterator::new(batches.map(Ok), batch.schema()));
        assert_eq!(write_within(30, result, shown, &mut out).unwrap(), n_rows as u64);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_shows_the_first_rows_and_counts_all() {
        assert_eq!(table(1, 2, 20), "+----+----+\n| c0 | c1 |\n+----+----+\n| 0  | 0  |\n+----+----+\n1 row\n");
        assert!(table(3000, 1, 2).ends_with("| 0  |\n| 1  |\n+----+\n2 of 3,000 rows\n"));
        assert!(table(5, 8, 20).ends_with("more columns: c5, c6, c7\n5 rows\n"));
    }

    #[test]
    fn texts_are_bounded_and_harmless() {
        assert_eq!(shorten("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(shorten(&"é".repeat(33)), "é".repeat(31) + "…");
        assert_eq!(
            (with_commas(0), with_commas(999), with_commas(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
    }
}
