//! Text files, plain or gzip: which of the two is seen from the content.

use crate::model::{Column, Frame, MatrixKey};
use arrow::array::BooleanArray;
use flate2::read::MultiGzDecoder;
use slaf_core::ErrorKind::{NotFound, OutOfRange};
use slaf_core::{Context, Error, Result};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::ops::Range;
use std::path::Path;

const BUFFER: usize = 256 << 10;
/// The byte-order mark that Windows programs put before UTF-8.
pub(crate) const MARK: &[u8] = "\u{feff}".as_bytes();

/// Opens a file, and unpacks it as it is read if it is gzip. A byte-order mark is passed over.
///
/// # Errors
/// Those of the operating system; `malformed-input` for damaged gzip data.
pub fn open_text(path: &Path) -> Result<Box<dyn Read + Send>> {
    let mut file = File::open(path).at(name_of(path))?;
    let mut magic = [0; 2];
    let n = file.read(&mut magic).at(name_of(path))?;
    file.rewind().at(name_of(path))?;
    let file = BufReader::with_capacity(BUFFER, file);
    let mut text: Box<dyn Read + Send> =
        if n == 2 && magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut begin = Vec::new();
    (&mut text).take(MARK.len() as u64).read_to_end(&mut begin).map_err(read_error).at(name_of(path))?;
    if begin == MARK {
        begin.clear();
    }
    Ok(Box::new(std::io::Cursor::new(begin).chain(text)))
}

/// An error of reading text: what gzip finds wrong is the file's fault.
pub(crate) fn read_error(e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::malformed("the gzip data ends too early").with_source(e),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            Error::malformed(format!("damaged gzip data ({e})")).with_source(e)
        }
        _ => e.into(),
    }
}

/// The file's own name, for messages.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads whole lines, many at a time.
pub(crate) struct Lines {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Where the lines not yet given begin, and where the data ends.
    begin: usize,
    end: usize,
    at_end: bool,
}

impl Lines {
    pub(crate) fn new(reader: Box<dyn Read + Send>) -> Lines {
        Lines { reader, buffer: vec![0; BUFFER], begin: 0, end: 0, at_end: false }
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let data = &self.buffer[self.begin..self.end];
            let newline = data.iter().position(|&b| b == b'\n');
            match newline {
                None if !self.at_end => self.fill()?,
                None if data.is_empty() => return Ok(None),
                _ => {
                    let begin = self.begin;
                    let len = newline.unwrap_or(data.len());
                    self.begin += newline.map_or(len, |n| n + 1);
                    let line = &self.buffer[begin..begin + len];
                    return Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)));
                }
            }
        }
    }

    /// The next lines: at least one, with their ends (which the last of the file may lack).
    pub(crate) fn block(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let data = &self.buffer[self.begin..self.end];
            let newline = data.iter().rposition(|&b| b == b'\n');
            match newline {
                None if !self.at_end => self.fill()?,
                None if data.is_empty() => return Ok(None),
                _ => {
                    let begin = self.begin;
                    self.begin += newline.map_or(data.len(), |n| n + 1);
                    return Ok(Some(&self.buffer[begin..self.begin]));
                }
            }
        }
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        if self.end == self.buffer.len() {
            return Err(Error::malformed(format!("a line of more than {BUFFER} bytes")));
        }
        while self.end < self.buffer.len() {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(e)),
            }
        }
        Ok(())
    }
}

/// A frame that has names only.
pub(crate) fn name_frame(names: &[String], rows: Range<u64>) -> Result<Frame> {
    let range = usize::try_from(rows.start).ok().zip(usize::try_from(rows.end).ok());
    let index = range
        .and_then(|(begin, end)| names.get(begin..end))
        .ok_or_else(|| Error::new(OutOfRange, format!("rows {}..{} of {}", rows.start, rows.end, names.len())))?;
    Ok(Frame { index: index.to_vec(), columns: Vec::new() })
}

/// Some rows of a frame.
///
/// # Errors
/// `out-of-range` for rows that it does not have.
pub fn frame_rows(frame: &Frame, rows: Range<u64>) -> Result<Frame> {
    let names = name_frame(&frame.index, rows.clone())?;
    let columns = frame
        .columns
        .iter()
        .map(|c| Column { info: c.info.clone(), array: c.array.slice(rows.start as usize, names.index.len()) });
    Ok(Frame { columns: columns.collect(), ..names })
}

/// The rows of a frame that are kept.
pub(crate) fn filter_frame(frame: Frame, keep: &[bool]) -> Result<Frame> {
    let mask = BooleanArray::from(keep.to_vec());
    let index = frame.index.into_iter().zip(keep).filter(|(_, k)| **k).map(|(name, _)| name).collect();
    let filter = |c: Column| {
        let array =
            arrow::compute::filter(&c.array, &mask).map_err(|e| Error::malformed(e.to_string()).at(&c.info.name))?;
        Ok(Column { info: c.info, array })
    };
    Ok(Frame { index, columns: frame.columns.into_iter().map(filter).collect::<Result<_>>()? })
}

/// An element that the input does not have.
pub(crate) fn absent(element: impl std::fmt::Display) -> Error {
    Error::new(NotFound, format!("no {element} in the input"))
}

/// A file whose second reading is not as the first.
pub(crate) fn changed() -> Error {
    Error::malformed("the file changed while it was read")
}

/// Refuses every matrix but X.
pub(crate) fn only_x(key: &MatrixKey) -> Result<()> {
    if *key == MatrixKey::X { Ok(()) } else { Err(absent(key)) }
}
