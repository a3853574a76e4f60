//! Rows of a column of byte strings, read where they lie in a local data file.
//!
//! Lance starts tasks for each read, which costs more than the read of a row. In its file versions
//! 2.1 and 2.2 a byte string that is neither null nor compressed has a place of its own in a page
//! ("full zip" layout): page buffer 0 holds for each row its length, a `u32`, and its bytes; page
//! buffer 1 holds where each row begins in buffer 0, and where the last one ends, as little-endian
//! integers of 1, 2, 4 or 8 bytes. So rows next to each other are two reads. Where a page is of
//! another layout, the whole column is left to Lance.
//!
//! Layout: `lance-encoding` 14, `encodings/logical/primitive/fullzip_decode.rs`.

use crate::error::from_lance_reading;
use lance::dataset::fragment::FileFragment;
use lance_encoding::decoder::{ColumnInfo, PageEncoding, PageInfo};
use lance_encoding::format::metadata::compressive_encoding::Compression;
use lance_encoding::format::metadata::full_zip_layout::Details;
use lance_encoding::format::metadata::page_layout::Layout;
use lance_io::scheduler::{ScanScheduler, SchedulerConfig};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a row's length, before its bytes.
const LENGTH: usize = 4;
/// Bytes that are reserved before anything is read, at most.
const RESERVED: u64 = 64 << 20;

/// Some rows, in order.
#[derive(Debug, Default)]
pub struct ByteRows {
    data: Vec<u8>,
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
}

/// Rows of a page, and where they are in the file.
#[derive(Debug)]
struct Page {
    first: u64,
    rows: u64,
    data: Range<u64>,
    places: u64,
    /// Bytes of a place.
    width: u64,
}

/// A column of a data file.
#[derive(Debug)]
pub(crate) struct ByteColumn {
    file: File,
    path: PathBuf,
    pages: Vec<Page>,
    rows: u64,
}

impl ByteColumn {
    /// Opens a column of a fragment whose data files are in the folder `data`; `None` if it is for
    /// Lance to read.
    pub(crate) async fn open(fragment: &FileFragment, column: &str, data: &Path) -> Result<Option<ByteColumn>> {
        let Some(field) = fragment.schema().field(column) else { return Ok(None) };
        if fragment.metadata().deletion_file.is_some() {
            return Ok(None);
        }
        let Some(file) = fragment.data_file_for_field(field.id as u32).filter(|f| f.base_id.is_none()) else {
            return Ok(None);
        };
        let index = file.fields.iter().position(|&id| id == field.id).and_then(|i| file.column_indices.get(i));
        let Some(index) = index.and_then(|&i| usize::try_from(i).ok()) else { return Ok(None) };
        let store = fragment.dataset().object_store(None).await.map_err(from_lance_reading)?;
        let scheduler = ScanScheduler::new(store.clone(), SchedulerConfig::max_bandwidth(&store));
        let in_store = fragment.dataset().data_dir().join(file.path.as_str());
        let scheduler = scheduler.open_file(&in_store, &file.file_size_bytes).await.map_err(from_lance_reading)?;
        let metadata = fragment.get_file_metadata(&scheduler).await.map_err(from_lance_reading)?;
        let Some(pages) = metadata.column_infos.get(index).and_then(|info| pages(info)) else { return Ok(None) };
        let path = data.join(&file.path);
        let file = File::open(&path).at(path.display())?;
        let rows = pages.last().map_or(0, |p| p.first + p.rows);
        Ok((rows == metadata.num_rows).then_some(ByteColumn { file, path, pages, rows }))
    }

    /// Adds ranges of rows, which rise.
    pub(crate) fn read(&self, ranges: &[Range<u64>], out: &mut ByteRows) -> Result<()> {
        self.read_into(ranges, out).at(self.path.display())
    }

    fn read_into(&self, ranges: &[Range<u64>], out: &mut ByteRows) -> Result<()> {
        let mut places = Vec::new();
        for range in ranges {
            if range.end > self.rows {
                return Err(damaged(format!("row {} of {}", range.end, self.rows)));
            }
            let mut start = range.start;
            while start < range.end {
                let page = &self.pages[self.pages.partition_point(|p| p.first + p.rows <= start)];
                let end = range.end.min(page.first + page.rows);
                self.read_page(page, start - page.first..end - page.first, &mut places, out)?;
                start = end;
            }
        }
        Ok(())
    }

    fn read_page(&self, page: &Page, rows: Range<u64>, places: &mut Vec<u8>, out: &mut ByteRows) -> Result<()> {
        let n = (rows.end - rows.start) as usize;
        let width = page.width as usize;
        places.clear();
        self.append(page.places + rows.start * page.width, (n as u64 + 1) * page.width, places)?;
        let place = |i: usize| {
            let mut word = [0; 8];
            word[..width].copy_from_slice(&places[i * width..(i + 1) * width]);
            u64::from_le_bytes(word)
        };
        let (start, end) = (place(0), place(n));
        if start > end || end > page.data.end - page.data.start {
            return Err(damaged(format!("rows from {start} to {end} of a page")));
        }
        let base = out.data.len();
        self.append(page.data.start + start, end - start, &mut out.data)?;
        out.rows.reserve(n);
        for i in 0..n {
            let (from, to) = (place(i), place(i + 1));
            let bytes = (from >= start && to >= from && to <= end)
                .then(|| base + (from - start) as usize..base + (to - start) as usize)
                .filter(|bytes| bytes.len() >= LENGTH)
                .ok_or_else(|| damaged(format!("a row from {from} to {to} of a page")))?;
            let (length, row) = out.data[bytes.clone()].split_at(LENGTH);
            if length != (row.len() as u32).to_le_bytes() {
                return Err(damaged(format!("a row of {} bytes has another length", row.len())));
            }
            out.rows.push(bytes.start + LENGTH..bytes.end);
        }
        Ok(())
    }

    /// Reads bytes of the file and adds them.
    fn append(&self, at: u64, n: u64, to: &mut Vec<u8>) -> Result<()> {
        // What the file says of itself is believed when it is read.
        to.try_reserve(n.min(RESERVED) as usize).map_err(|_| too_large(n))?;
        let from = to.len();
        let mut left = n;
        while left > 0 {
            let part = left.min(RESERVED) as usize;
            let filled = to.len();
            to.resize(filled + part, 0);
            read_exact_at(&self.file, &mut to[filled..], at + (filled - from) as u64)?;
            left -= part as u64;
        }
        Ok(())
    }
}

fn damaged(what: String) -> Error {
    Error::corrupt(format!("{what}: the data file is damaged (`slaf verify` checks the whole store)"))
}

fn too_large(n: u64) -> Error {
    Error::new(ErrorKind::MemoryLimit, format!("no memory for {n} bytes of rows"))
}

/// Fills the buffer with what stands in the file at `at`; an end before that is damage.
fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> Result<()> {
    #[cfg(unix)]
    let read = std::os::unix::fs::FileExt::read_exact_at(file, buffer, at);
    #[cfg(windows)]
    let read = {
        let mut done = 0;
        loop {
            if done == buffer.len() {
                break Ok(());
            }
            match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[done..], at + done as u64) {
                Ok(0) => break Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        }
    };
    read.map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it ends too early".to_string()),
        _ => e.into(),
    })
}

/// The pages of a column, if all have the layout that is read here.
fn pages(info: &Arc<ColumnInfo>) -> Option<Vec<Page>> {
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
