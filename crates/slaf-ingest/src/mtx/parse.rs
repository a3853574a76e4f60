//! The Matrix Market coordinate format.

use crate::number::TextNumber;
use crate::plain::Lines;
use slaf_core::{Error, ErrorKind, Result};
use std::io::Read;

/// A value and its position, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) row: u64,
    pub(super) col: u64,
    pub(super) value: TextNumber,
}

/// The entries of a file, after its header was checked.
pub(super) struct Entries {
    lines: Lines,
    pub(super) n_rows: u64,
    pub(super) n_cols: u64,
    /// How many entries the header promises.
    pub(super) promised: u64,
    pattern: bool,
    /// How many there were.
    found: u64,
    /// The number of the last line read.
    line: u64,
}

fn at_line(line: u64, what: impl std::fmt::Display) -> Error {
    Error::malformed(format!("line {line}: {what}"))
}

impl Entries {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Result<Entries> {
        let mut lines = Lines::new(reader);
        let head = lines.line()?.map(String::from_utf8_lossy).unwrap_or_default().to_lowercase();
        let words: Vec<&str> = head.split_ascii_whitespace().collect();
        if words.first() != Some(&"%%matrixmarket") {
            return Err(at_line(1, "a Matrix Market file begins with %%MatrixMarket"));
        }
        let pattern = match words[1..] {
            ["matrix", "coordinate", "integer" | "real" | "double", "general"] => false,
            ["matrix", "coordinate", "pattern", "general"] => true,
            ["matrix", ..] if words.len() == 5 => {
                return Err(Error::new(
                    ErrorKind::UnsupportedInput,
                    format!(
                        "line 1: \"{}\"; supported is \"matrix coordinate integer|real|pattern general\"",
                        words[1..].join(" ")
                    ),
                ));
            }
            _ => return Err(at_line(1, format!("a wrong header: {head:?}"))),
        };
        let mut line = 1;
        loop {
            line += 1;
            let text = lines.line()?.ok_or_else(|| at_line(line, "the file ends before its sizes"))?;
            if text.first() == Some(&b'%') || text.trim_ascii().is_empty() {
                continue;
            }
            let sizes =
                numbers(text).ok_or_else(|| at_line(line, "expected three numbers: rows, columns and entries"))?;
            let [n_rows, n_cols, promised] = sizes;
            if u128::from(promised) > u128::from(n_rows) * u128::from(n_cols) {
                return Err(at_line(line, format!("{promised} entries for {n_rows} x {n_cols}")));
            }
            return Ok(Entries { lines, n_rows, n_cols, promised, pattern, found: 0, line });
        }
    }

    /// Replaces the content of `entries` by the next ones; false at the end.
    pub(super) fn read(&mut self, entries: &mut Vec<Entry>) -> Result<bool> {
        entries.clear();
        // Of a gzip file, what comes before damage is not worth keeping.
        let Some(block) = self.lines.block()? else {
            if self.found != self.promised {
                return Err(at_line(
                    self.line,
                    format!("the file ends after {} of {} entries", self.found, self.promised),
                ));
            }
            return Ok(false);
        };
        let mut cursor = Cursor { bytes: block, at: 0 };
        while cursor.at < block.len() {
            self.line += 1;
            let begin = cursor.at;
            match cursor.entry(self.pattern) {
                Some(Some((row, col, value))) => {
                    if row.wrapping_sub(1) >= self.n_rows || col.wrapping_sub(1) >= self.n_cols {
                        return Err(at_line(
                            self.line,
                            format!(
                                "an entry at {row}, {col} of a matrix of {} x {} (counted from 1)",
                                self.n_rows, self.n_cols
                            ),
                        ));
                    }
                    entries.push(Entry { row: row - 1, col: col - 1, value });
                }
                Some(None) => {}
                None => {
                    let line = block[begin..].split(|&b| b == b'\n').next().unwrap_or(&[]);
                    let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                    return Err(at_line(self.line, format!("not an entry: {shown:?}")));
                }
            }
        }
        self.found += entries.len() as u64;
        if self.found > self.promised {
            return Err(at_line(
                self.line,
                format!("more than the {} entries that the header promises", self.promised),
            ));
        }
        Ok(true)
    }
}

fn numbers(text: &[u8]) -> Option<[u64; 3]> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace().map(|w| w.parse().ok());
    let numbers = [words.next()??, words.next()??, words.next()??];
    words.next().is_none().then_some(numbers)
}

/// Reads the lines of a block.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// A line: `None` for a wrong one, `Some(None)` for an empty one or a comment.
    #[inline]
    fn entry(&mut self, pattern: bool) -> Option<Option<(u64, u64, TextNumber)>> {
        self.blanks();
        match self.peek() {
            None => return Some(None),
            Some(b'\n') => {
                self.at += 1;
                return Some(None);
            }
            Some(b'%') => {
                while self.peek().is_some_and(|b| b != b'\n') {
                    self.at += 1;
                }
                self.at += 1;
                return Some(None);
            }
            _ => {}
        }
        let row = self.integer()?;
        self.blanks();
        let col = self.integer()?;
        self.blanks();
        let value = if pattern { TextNumber::Int(1) } else { self.number()? };
        self.blanks();
        match self.peek() {
            None => {}
            Some(b'\n') => self.at += 1,
            Some(_) => return None,
        }
        Some(Some((row, col, value)))
    }

    /// Digits, and what ends them: a blank or the line's end.
    #[inline]
    fn integer(&mut self) -> Option<u64> {
        let begin = self.at;
        let mut n = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            n = n.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        // 19 digits always fit.
        let ended = matches!(self.peek(), None | Some(b' ' | b'\t' | b'\r' | b'\n'));
        (ended && (1..=19).contains(&(self.at - begin))).then_some(n)
    }

    #[inline]
    fn number(&mut self) -> Option<TextNumber> {
        let begin = self.at;
        match self.integer().map(i64::try_from) {
            Some(Ok(n)) => return Some(TextNumber::Int(n)),
            _ => self.at = begin,
        }
        while self.peek().is_some_and(|b| !b.is_ascii_whitespace()) {
            self.at += 1;
        }
        TextNumber::parse(std::str::from_utf8(&self.bytes[begin..self.at]).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Entry>> {
        let mut entries = Entries::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())))?;
        let (mut all, mut some) = (Vec::new(), Vec::new());
        while entries.read(&mut some)? {
            all.append(&mut some);
        }
        Ok(all)
    }

    const HEAD: &str = "%%MatrixMarket matrix coordinate real general\n";

    #[test]
    fn reads_blanks_comments_and_missing_ends() {
        let text = format!("{HEAD}% a comment\n\n 3 2 3\n1 1 4\r\n% x\n\n2\t2\t-1.5e1 \n3 2 +7");
        let values: Vec<_> = read(&text).unwrap().iter().map(|e| (e.row, e.col, e.value.to_f64())).collect();
        assert_eq!(values, [(0, 0, 4.0), (1, 1, -15.0), (2, 1, 7.0)]);
    }

    #[test]
    fn names_the_line() {
        for (body, what) in [
            ("3 2\n", "line 2: expected three numbers"),
            ("3 2 7\n", "line 2: 7 entries for 3 x 2"),
            ("3 2 1\n", "line 2: the file ends after 0 of 1"),
            ("3 2 1\n1 1 1\n1 2 1\n", "line 4: more than the 1 entries"),
            ("3 2 1\n0 1 1\n", "line 3: an entry at 0, 1"),
            ("3 2 1\n4 1 1\n", "line 3: an entry at 4, 1"),
            ("3 2 1\n1 3 1\n", "line 3: an entry at 1, 3"),
            ("3 2 1\n1 1 x\n", "line 3: not an entry: \"1 1 x\""),
            ("3 2 1\n1 1\n", "line 3: not an entry"),
            ("3 2 1\n1 1 1 1\n", "line 3: not an entry"),
            ("3 2 1\n1.0 1 1\n", "line 3: not an entry"),
            ("3 2 1\n-1 1 1\n", "line 3: not an entry"),
            ("3 2 1\n99999999999999999999 1 1\n", "line 3: not an entry"),
            ("", "line 2: the file ends before its sizes"),
        ] {
            let e = read(&format!("{HEAD}{body}")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::MalformedInput, "{body:?}");
            assert!(e.to_string().starts_with(what), "{body:?}: {e}");
        }
        for (head, kind) in [
            ("", ErrorKind::MalformedInput),
            ("%%MatrixMarket matrix\n", ErrorKind::MalformedInput),
            ("%%MatrixMarket matrix array real general\n", ErrorKind::UnsupportedInput),
            ("%%MatrixMarket matrix coordinate complex general\n", ErrorKind::UnsupportedInput),
            ("%%MatrixMarket matrix coordinate real symmetric\n", ErrorKind::UnsupportedInput),
        ] {
            assert_eq!(read(&format!("{head}1 1 1\n1 1 1\n")).unwrap_err().kind(), kind, "{head}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_entries_or_an_error(body in "[0-9 .\n\r%a-e+-]{0,80}") {
            let _ = read(&format!("{HEAD}9 9 4\n{body}"));
        }

        #[test]
        fn values_are_read_as_rust_reads_them(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let entries = read(&format!("{HEAD}1 1 1\n1 1 {value:e}\n")).unwrap();
            prop_assert_eq!(entries[0].value.to_f64().to_bits(), value.to_bits());
        }
    }
}
