//! Rows of a column of byte strings, as they lie in a data file.
//!
//! In Lance's file versions 2.1 and 2.2 a byte string that is neither null nor compressed has a
//! place of its own in a page ("full zip" layout): page buffer 0 holds for each row its length, a
//! `u32`, and its bytes; page buffer 1 holds where each row begins in buffer 0, and where the last
//! one ends, as little-endian integers of 1, 2, 4 or 8 bytes. Where a page is of another layout, the
//! whole column is left to Lance.
//!
//! Layout: `lance-encoding` 14, `encodings/logical/primitive/fullzip_decode.rs`.

use lance_encoding::decoder::{ColumnInfo, PageEncoding, PageInfo};
use lance_encoding::format::metadata::compressive_encoding::Compression;
use lance_encoding::format::metadata::full_zip_layout::Details;
use lance_encoding::format::metadata::page_layout::Layout;
use slaf_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a row's length, before its bytes.
const LENGTH: usize = 4;

/// Some rows, in order.
#[derive(Debug, Default)]
pub struct ByteRows {
    pub(crate) data: Vec<u8>,
    rows: Vec<Range<usize>>,
}

impl ByteRows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The bytes of a row.
    ///
    /// # Panics
    /// Beyond the last row.
    pub fn value(&self, i: usize) -> &[u8] {
        &self.data[self.rows[i].clone()]
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> u64 {
        (self.data.len() - LENGTH * self.rows.len()) as u64
    }

    /// Takes the rows that were put at the end of the data, from `base` on, for `places` of a page.
    ///
    /// # Errors
    /// `corrupt` for rows that do not lie side by side, or are not as long as they say.
    pub(crate) fn take(&mut self, base: usize, places: &Places<'_>) -> Result<()> {
        let span = places.span();
        self.rows.reserve(places.n_rows());
        for i in 0..places.n_rows() {
            let (from, to) = (places.get(i), places.get(i + 1));
            let bytes = (from >= span.start && to >= from && to <= span.end)
                .then(|| base + (from - span.start) as usize..base + (to - span.start) as usize)
                .filter(|bytes| bytes.len() >= LENGTH && bytes.end <= self.data.len())
                .ok_or_else(|| damaged(format!("a row from {from} to {to} of a page")))?;
            let (length, row) = self.data[bytes.clone()].split_at(LENGTH);
            if length != (row.len() as u32).to_le_bytes() {
                return Err(damaged(format!("a row of {} bytes has another length", row.len())));
            }
            self.rows.push(bytes.start + LENGTH..bytes.end);
        }
        Ok(())
    }
}

/// Where some rows of a page next to each other begin, and where the last one ends.
pub(crate) struct Places<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl<'a> Places<'a> {
    pub(crate) fn new(bytes: &'a [u8], page: &Page) -> Places<'a> {
        Places { bytes, width: page.width as usize }
    }

    fn n_rows(&self) -> usize {
        (self.bytes.len() / self.width).saturating_sub(1)
    }

    fn get(&self, i: usize) -> u64 {
        let mut word = [0; 8];
        word[..self.width].copy_from_slice(&self.bytes[i * self.width..(i + 1) * self.width]);
        u64::from_le_bytes(word)
    }

    fn span(&self) -> Range<u64> {
        self.get(0)..self.get(self.n_rows())
    }

    /// Where the rows are in the file.
    ///
    /// # Errors
    /// `corrupt` if they are not within their page.
    pub(crate) fn in_file(&self, page: &Page) -> Result<Range<u64>> {
        let Range { start, end } = self.span();
        if start > end || end > page.data.end - page.data.start {
            return Err(damaged(format!("rows from {start} to {end} of a page")));
        }
        Ok(page.data.start + start..page.data.start + end)
    }
}

/// Rows of a page, and where they are in the file.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) first: u64,
    pub(crate) rows: u64,
    pub(crate) data: Range<u64>,
    /// Where the places of the rows begin in the file.
    places: u64,
    /// Bytes of a place.
    width: u64,
}

impl Page {
    /// Where the places of rows are in the file, with that of the end of the last.
    pub(crate) fn places(&self, rows: Range<u64>) -> Range<u64> {
        self.places + rows.start * self.width..self.places + (rows.end + 1) * self.width
    }

    /// Bytes of the places of this many rows, without that of an end.
    pub(crate) fn bytes_of_places(&self, rows: u64) -> u64 {
        rows * self.width
    }

    /// Where it ends in the file.
    pub(crate) fn end(&self) -> u64 {
        self.data.end.max(self.places(0..self.rows).end)
    }
}

pub(crate) fn damaged(what: String) -> Error {
    Error::corrupt(format!("{what}: the data file is damaged (`slaf verify` checks the whole store)"))
}

/// The pages of a column, if all have the layout that is read here.
pub(crate) fn pages(info: &Arc<ColumnInfo>) -> Option<Vec<Page>> {
    let mut first = 0;
    let pages = info.page_infos.iter().map(|info| {
        let page = page(info, first)?;
        first += page.rows;
        Some(page)
    });
    pages.collect()
}

fn page(info: &PageInfo, first: u64) -> Option<Page> {
    let PageEncoding::Structural(layout) = &info.encoding else { return None };
    let Some(Layout::FullZipLayout(zip)) = &layout.layout else { return None };
    let has_no_levels = zip.bits_rep == 0 && zip.bits_def == 0 && u64::from(zip.num_visible_items) == info.num_rows;
    let is_plain = match zip.value_compression.as_ref().and_then(|c| c.compression.as_ref()) {
        Some(Compression::Variable(variable)) => variable.values.is_none(),
        _ => false,
    };
    let &[(data, size), (places, places_size)] = info.buffer_offsets_and_sizes.as_ref() else { return None };
    let width = places_size / (info.num_rows + 1);
    let is_whole = matches!(width, 1 | 2 | 4 | 8) && width * (info.num_rows + 1) == places_size;
    if !(has_no_levels && is_plain && zip.details == Some(Details::BitsPerOffset(32)) && is_whole && info.num_rows > 0)
    {
        return None;
    }
    Some(Page { first, rows: info.num_rows, data: data..data.checked_add(size)?, places, width })
}
