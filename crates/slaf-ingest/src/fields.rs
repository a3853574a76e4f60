//! Delimited text: records of fields, quoted as in CSV, in bounded memory.
//!
//! A quote matters at the beginning of a field only, as for pandas: in `5" x` it is a character.
//! Empty lines are passed over; lines end with `\n`, `\r\n` or `\r`.

use crate::plain::{name_of, open_text, read_error};
use csv_core::ReadRecordResult;
use slaf_core::{Context, Error, Result};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A field longer than this is no name and no number, but a quote that is not closed.
const MAX_FIELD: usize = 1 << 20;
const BUFFER: usize = 64 << 10;

/// Reads one record after the other.
pub(crate) struct Records {
    reader: csv_core::Reader,
    input: BufReader<Box<dyn Read + Send>>,
    /// The fields of the record, one after the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    n_fields: usize,
    /// Where the record begins.
    line: u64,
    /// Ends of lines that the parser did not see.
    passed: u64,
}

impl Records {
    pub(crate) fn open(path: &Path, delimiter: u8) -> Result<Records> {
        Ok(Records {
            reader: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            input: BufReader::with_capacity(BUFFER, open_text(path)?),
            text: vec![0; BUFFER],
            ends: vec![0; 64],
            n_fields: 0,
            line: 0,
            passed: 0,
        })
    }

    /// Goes to the next record; false at the end.
    pub(crate) fn read(&mut self) -> Result<bool> {
        self.pass_line_ends()?;
        self.line = self.reader.line() + self.passed;
        let (mut length, mut fields) = (0, 0);
        loop {
            let input = self.input.fill_buf().map_err(read_error)?;
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.text[length..], &mut self.ends[fields..]);
            self.input.consume(read);
            length += wrote;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    let begin = fields.checked_sub(1).map_or(0, |i| self.ends[i]);
                    if length - begin > MAX_FIELD {
                        return Err(Error::malformed(format!(
                            "line {}: field {} has more than {MAX_FIELD} bytes; is a quote not closed?",
                            self.line,
                            fields + 1
                        )));
                    }
                    self.text.resize(2 * self.text.len(), 0);
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => {
                    self.n_fields = fields;
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    /// The parser ends a record at `\r`: the `\n` behind it counts as a line only here.
    fn pass_line_ends(&mut self) -> Result<()> {
        loop {
            match self.input.fill_buf().map_err(read_error)?.first() {
                Some(b'\n') => self.passed += 1,
                Some(b'\r') => {}
                _ => return Ok(()),
            }
            self.input.consume(1);
        }
    }

    /// How many fields the record has.
    pub(crate) fn len(&self) -> usize {
        self.n_fields
    }

    /// The line in which the record begins.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The bytes of a field; none if the record has fewer.
    pub(crate) fn bytes(&self, i: usize) -> &[u8] {
        let begin = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        if i < self.n_fields { &self.text[begin..self.ends[i]] } else { &[] }
    }

    /// A field as text.
    pub(crate) fn text(&self, i: usize) -> Result<&str> {
        std::str::from_utf8(self.bytes(i)).map_err(|_| Error::malformed(format!("line {}: not UTF-8", self.line)))
    }

    /// All fields, of which none goes over the end of its line.
    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        let mut texts = Vec::with_capacity(self.n_fields);
        for i in 0..self.n_fields {
            let text = self.text(i)?;
            if text.contains(['\n', '\r']) {
                let message = format!("line {}: a quoted field goes over the end of the line", self.line);
                return Err(Error::malformed(message));
            }
            texts.push(text.to_owned());
        }
        Ok(texts)
    }
}

/// The rows of a small file, of which all have the width of the first.
///
/// A line that is quoted as a whole, as R writes lines that were pasted together, is taken apart.
pub(crate) fn read_rows(path: &Path, delimiter: u8) -> Result<Vec<Vec<String>>> {
    let read = || -> Result<Vec<Vec<String>>> {
        let mut records = Records::open(path, delimiter)?;
        let mut rows: Vec<Vec<String>> = Vec::new();
        while records.read()? {
            let mut row = records.texts()?;
            if let [whole] = &row[..]
                && whole.contains(char::from(delimiter))
            {
                row = whole.split(char::from(delimiter)).map(str::to_owned).collect();
            }
            if let Some(first) = rows.first()
                && first.len() != row.len()
            {
                return Err(Error::malformed(format!(
                    "line {}: {} columns, but the first line has {}",
                    records.line(),
                    row.len(),
                    first.len()
                )));
            }
            rows.push(row);
        }
        Ok(rows)
    };
    read().at(name_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<(u64, Vec<String>)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut records = Records::open(file.path(), b',')?;
        let mut rows = Vec::new();
        while records.read()? {
            rows.push((records.line(), records.texts()?));
        }
        Ok(rows)
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        let words = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        for text in ["a,b\n\n\nc,\"d\"\"\"\n,\n", "a,b\r\n\r\n\r\nc,\"d\"\"\"\r\n,\r\n", "\u{feff}a,b\n\n\nc,d\"\n,"] {
            let expected = [(1, words(&["a", "b"])), (4, words(&["c", "d\""])), (5, words(&["", ""]))];
            assert_eq!(rows(text).unwrap(), expected, "{text:?}");
        }
        let wide: String = (0..200).map(|i| format!("{i},")).collect();
        assert_eq!(rows(&wide).unwrap()[0].1.len(), 201);
    }

    #[test]
    fn fields_have_a_limit() {
        let e = rows(&format!("a,b\nc,\"{}", "1,\n".repeat(1 << 20))).unwrap_err();
        assert!(e.to_string().starts_with("line 2: field 2 has more than 1048576 bytes"), "{e}");
        assert_eq!(rows(&format!("{},b\n", "x".repeat(1 << 20))).unwrap()[0].1[0].len(), 1 << 20);
        let e = rows("a,b\n\"c\nd\",1\n").unwrap_err();
        assert_eq!(e.to_string(), "line 2: a quoted field goes over the end of the line");
    }
}
