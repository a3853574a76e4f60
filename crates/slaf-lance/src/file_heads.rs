//! The parts of a data file that tell where everything in it is: what Lance and
//! [`ByteColumn`](crate::byte_column::ByteColumn) ask for before they read a row.
//!
//! These are the end of the file, with the pages of all columns, and of a page in chunks the places of its chunks
//! and its dictionary. Places of rows that have one each are as many as the rows: they are not among them.
//!
//! Layout: `lance-encoding` 14, `encodings/logical/primitive/{miniblock_decode,constant}.rs`.

use crate::blocks::{BLOCK, Head};
use crate::error::from_lance_reading;
use crate::storage::Storage;
use futures::FutureExt;
use lance_encoding::decoder::{PageEncoding, PageInfo};
use lance_encoding::format::metadata::page_layout::Layout;
use lance_file::reader::{CachedFileMetadata, FileReader};
use lance_io::scheduler::{ScanScheduler, SchedulerConfig};
use lance_io::utils::CachedFileSize;
use slaf_core::{Context, Error, Result};
use std::ops::Range;
use std::panic::AssertUnwindSafe;

/// Bytes of a buffer of a page that is worth it.
const LONGEST: u64 = 2 * BLOCK;

/// The head of a data file, by its path below the root and its length.
///
/// # Errors
/// `corrupt` for no data file; those of the storage.
pub async fn head_of_data_file(storage: &Storage, path: &str, length: u64) -> Result<Head> {
    let read = async {
        let store = storage.object_store();
        let scheduler = ScanScheduler::new(store.clone(), SchedulerConfig::max_bandwidth(store));
        let file = scheduler.open_file(&storage.path(path), &CachedFileSize::new(length)).await;
        let file = file.map_err(from_lance_reading)?;
        let metadata = FileReader::read_all_metadata(&file).await.map_err(from_lance_reading)?;
        let ranges = parts(&metadata, length);
        let bytes = file.submit_request(ranges.clone(), 0).await.map_err(from_lance_reading)?;
        if bytes.iter().zip(&ranges).any(|(bytes, range)| bytes.len() as u64 != range.end - range.start) {
            return Err(Error::corrupt("it ends too early"));
        }
        Ok::<Head, Error>(ranges.iter().map(|range| range.start).zip(bytes).collect())
    };
    // Lance's arithmetic may panic over a damaged file.
    let read = AssertUnwindSafe(read.boxed()).catch_unwind();
    let damaged = |_| Err(Error::corrupt("the structure of a data file is damaged"));
    storage.guard(async { read.await.unwrap_or_else(damaged) }).await.at(storage.full(path))
}

/// The parts, rising and apart from each other.
fn parts(metadata: &CachedFileMetadata, length: u64) -> Vec<Range<u64>> {
    let end = BLOCK.max(metadata.num_footer_bytes).min(length);
    let pages = metadata.column_infos.iter().flat_map(|column| column.page_infos.iter());
    let buffers = pages.flat_map(structure).filter(|(_, size)| (1..=LONGEST).contains(size));
    let buffers = buffers.filter_map(|(start, size)| Some(start..start.checked_add(size)?));
    let mut all: Vec<Range<u64>> = buffers.filter(|r| r.end <= length).collect();
    all.push(length - end..length);
    all.sort_unstable_by_key(|part| part.start);
    let mut parts: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for part in all {
        match parts.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => parts.push(part),
        }
    }
    parts
}

/// Where the buffers of a page are that are read before a value of it is, and their sizes.
fn structure(page: &PageInfo) -> Vec<(u64, u64)> {
    let PageEncoding::Structural(layout) = &page.encoding else { return Vec::new() };
    let buffers = &page.buffer_offsets_and_sizes;
    match &layout.layout {
        Some(Layout::MiniBlockLayout(chunks)) => {
            let dictionary = chunks.dictionary.as_ref().and_then(|_| buffers.get(2));
            let repetitions = (chunks.repetition_index_depth > 0).then(|| buffers.last()).flatten();
            buffers.first().into_iter().chain(dictionary).chain(repetitions).copied().collect()
        }
        Some(Layout::ConstantLayout(_)) => buffers.to_vec(),
        _ => Vec::new(),
    }
}
