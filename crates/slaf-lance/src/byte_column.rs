//! A column of byte strings in a data file, read below Lance, which starts tasks for each read: that
//! costs more than the read of a row.
//!
//! Rows next to each other are two reads, of their places and of their bytes. In a local file both
//! are made in the calling thread, the places of close rows in one read, and nothing is kept. In an object
//! store a request is what costs: places are read in blocks and kept, up to a limit, and the rows of a call
//! are asked for together, close ones in one request, by Lance's scheduler of requests.

use crate::byte_rows::{ByteRows, Page, Places, damaged, pages};
use crate::error::from_lance_reading;
use crate::meter::Meter;
use bytes::Bytes;
use lance::dataset::fragment::FileFragment;
use lance::table::format::DataFile;
use lance_file::reader::CachedFileMetadata;
use lance_io::scheduler::{FileScheduler, ScanScheduler, SchedulerConfig};
use object_store::path::Path;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are reserved before anything is read, at most.
const RESERVED: u64 = 64 << 20;
/// Bytes of places that are read along in a local file rather than begin a new read.
const PLACES_GAP: u64 = 2 << 10;
/// Bytes of places that are read from a local file at once.
const PLACES_AT_ONCE: u64 = 1 << 20;
/// Rows whose places are read and kept together.
const BLOCK: u64 = 1 << 14;
/// Bytes of places that a table keeps.
const KEPT_PLACES: u64 = 32 << 20;
/// Blocks of places that a table expects to keep.
const EXPECTED: usize = 512;

/// A block of places: a column of a fragment, a page of it, and a block of that.
type Key = ((usize, i32), usize, u64);

#[derive(Clone, Debug)]
struct Length;

impl Weighter<Key, Bytes> for Length {
    fn weight(&self, _: &Key, places: &Bytes) -> u64 {
        places.len() as u64 + 1
    }
}

/// The places of rows in object stores that a table keeps.
#[derive(Clone, Debug)]
pub(crate) struct KeptPlaces {
    blocks: Arc<Cache<Key, Bytes, Length>>,
    meter: Arc<Meter>,
}

impl KeptPlaces {
    pub(crate) fn new(meter: &Arc<Meter>) -> KeptPlaces {
        let blocks = Arc::new(Cache::with_weighter(EXPECTED, KEPT_PLACES, Length));
        KeptPlaces { blocks, meter: meter.clone() }
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        let found = self.blocks.get(key);
        self.meter.hit(usize::from(found.is_some()));
        found
    }
}

/// Rows of a page that are wanted, counted from its first.
struct Segment<'a> {
    at: usize,
    page: &'a Page,
    rows: Range<u64>,
}

/// A column of a data file.
#[derive(Debug)]
pub(crate) struct ByteColumn {
    source: Source,
    /// For messages.
    path: String,
    pages: Vec<Page>,
    rows: u64,
}

#[derive(Debug)]
enum Source {
    Local(File),
    Remote(Remote),
}

/// Where the data files of a table are.
#[derive(Debug)]
pub(crate) enum DataFolder {
    Local(PathBuf),
    Remote(KeptPlaces),
}

/// Where a column is.
pub(crate) struct Found<'a> {
    file: &'a DataFile,
    /// The number of the field.
    id: i32,
    /// Which column of the file it is.
    pub(crate) index: usize,
    pub(crate) in_store: Path,
    scheduler: FileScheduler,
    pub(crate) metadata: Arc<CachedFileMetadata>,
}

/// Finds a column of a fragment in the store; `None` where it is not in a file of its own or of the table.
pub(crate) async fn find<'a>(fragment: &'a FileFragment, column: &str) -> Result<Option<Found<'a>>> {
    let Some(field) = fragment.schema().field(column) else { return Ok(None) };
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
    Ok(Some(Found { file, id: field.id, index, in_store, scheduler, metadata }))
}

impl ByteColumn {
    /// Opens a column of a fragment, the `number`th of a table; `None` if it is for Lance to read.
    pub(crate) async fn open(
        fragment: &FileFragment,
        number: usize,
        column: &str,
        data: &DataFolder,
    ) -> Result<Option<ByteColumn>> {
        if fragment.metadata().deletion_file.is_some() {
            return Ok(None);
        }
        let Some(Found { file, id, index, in_store, scheduler, metadata }) = find(fragment, column).await? else {
            return Ok(None);
        };
        let Some(pages) = metadata.column_infos.get(index).and_then(pages) else { return Ok(None) };
        let rows = pages.last().map_or(0, |p| p.first + p.rows);
        if rows != metadata.num_rows {
            return Ok(None);
        }
        let (source, path) = match data {
            DataFolder::Local(folder) => {
                let path = folder.join(&file.path);
                let path_text = path.display().to_string();
                (Source::Local(File::open(&path).at(&path_text)?), path_text)
            }
            DataFolder::Remote(kept) => {
                let size = file.file_size_bytes.get().map_or(u64::MAX, |size| size.get());
                if pages.iter().any(|page| page.end() > size) {
                    return Err(damaged("a page ends behind its file".to_string())).at(&in_store);
                }
                let remote = Remote { file: scheduler, column: (number, id), kept: kept.clone() };
                (Source::Remote(remote), in_store.to_string())
            }
        };
        Ok(Some(ByteColumn { source, path, pages, rows }))
    }

    /// Adds ranges of rows, which rise.
    pub(crate) async fn read(&self, ranges: &[Range<u64>], out: &mut ByteRows) -> Result<()> {
        let read = async {
            let segments = self.segments(ranges)?;
            match &self.source {
                Source::Local(file) => read_local(file, &segments, out),
                Source::Remote(remote) => remote.read(&segments, out).await,
            }
        };
        read.await.at(&self.path)
    }

    fn segments(&self, ranges: &[Range<u64>]) -> Result<Vec<Segment<'_>>> {
        let mut segments = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.end > self.rows {
                return Err(damaged(format!("row {} of {}", range.end, self.rows)));
            }
            let mut start = range.start;
            while start < range.end {
                let at = self.pages.partition_point(|p| p.first + p.rows <= start);
                let page = &self.pages[at];
                let end = range.end.min(page.first + page.rows);
                segments.push(Segment { at, page, rows: start - page.first..end - page.first });
                start = end;
            }
        }
        Ok(segments)
    }
}

fn read_local(file: &File, segments: &[Segment<'_>], out: &mut ByteRows) -> Result<()> {
    let (mut bytes, mut rest) = (Vec::new(), segments);
    while let Some(Segment { at, page, rows: first }) = rest.first() {
        // The places of close rows come with one read: a call costs more than some places too many.
        let mut end = first.end;
        let mut n = 1;
        for Segment { rows, .. } in rest[1..].iter().take_while(|s| s.at == *at && s.rows.start >= first.start) {
            let gap = page.bytes_of_places(rows.start.saturating_sub(end));
            if gap > PLACES_GAP || page.bytes_of_places(rows.end - first.start) > PLACES_AT_ONCE {
                break;
            }
            (n, end) = (n + 1, end.max(rows.end));
        }
        let (close, later) = rest.split_at(n);
        rest = later;
        bytes.clear();
        append(file, page.places(first.start..end), &mut bytes)?;
        let places: Vec<Places<'_>> = close
            .iter()
            .map(|Segment { rows, .. }| {
                let from = page.bytes_of_places(rows.start - first.start) as usize;
                let to = page.bytes_of_places(rows.end - first.start + 1) as usize;
                Places::new(&bytes[from..to], page)
            })
            .collect();
        let ranges = places.iter().map(|places| places.in_file(page)).collect::<Result<Vec<_>>>()?;
        let all = ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
        reserve(&mut out.data, all)?;
        for (range, places) in ranges.into_iter().zip(&places) {
            let base = out.data.len();
            append(file, range, &mut out.data)?;
            out.take(base, places)?;
        }
    }
    Ok(())
}

/// Makes room, as far as a file is believed before it is read.
fn reserve(to: &mut Vec<u8>, bytes: u64) -> Result<()> {
    to.try_reserve(bytes.min(RESERVED) as usize).map_err(|_| too_large(bytes))
}

/// Reads bytes of a file and adds them.
fn append(file: &File, range: Range<u64>, to: &mut Vec<u8>) -> Result<()> {
    let mut left = range.end - range.start;
    reserve(to, left)?;
    let from = to.len();
    while left > 0 {
        let part = left.min(RESERVED) as usize;
        let filled = to.len();
        to.resize(filled + part, 0);
        read_exact_at(file, &mut to[filled..], range.start + (filled - from) as u64)?;
        left -= part as u64;
    }
    Ok(())
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

/// A column of a file in an object store.
#[derive(Debug)]
struct Remote {
    file: FileScheduler,
    /// The fragment of the table, and the field.
    column: (usize, i32),
    kept: KeptPlaces,
}

impl Remote {
    async fn read(&self, segments: &[Segment<'_>], out: &mut ByteRows) -> Result<()> {
        let blocks = self.blocks(segments).await?;
        let mut wanted = Vec::with_capacity(segments.len());
        let places = segments.iter().map(|segment| joined(segment, &blocks)).collect::<Result<Vec<_>>>()?;
        for (segment, places) in segments.iter().zip(&places) {
            wanted.push(Places::new(places, segment.page).in_file(segment.page)?);
        }
        let data = self.request(&wanted).await?;
        out.data.reserve(data.iter().map(Bytes::len).sum());
        for ((segment, places), bytes) in segments.iter().zip(&places).zip(data) {
            let base = out.data.len();
            out.data.extend_from_slice(&bytes);
            out.take(base, &Places::new(places, segment.page))?;
        }
        Ok(())
    }

    /// The blocks of places that segments need: those that are kept, and the others read together.
    async fn blocks(&self, segments: &[Segment<'_>]) -> Result<HashMap<(usize, u64), Bytes>> {
        let (mut blocks, mut missing, mut wanted) = (HashMap::new(), Vec::new(), Vec::new());
        for Segment { at, page, rows } in segments {
            for block in rows.start / BLOCK..=rows.end / BLOCK {
                if blocks.contains_key(&(*at, block)) {
                    continue;
                }
                let kept = self.kept.get(&(self.column, *at, block));
                if kept.is_none() {
                    missing.push((*at, block));
                    let last = ((block + 1) * BLOCK - 1).min(page.rows);
                    wanted.push(page.places(block * BLOCK..last));
                }
                blocks.insert((*at, block), kept.unwrap_or_default());
            }
        }
        for ((at, block), places) in missing.into_iter().zip(self.request(&wanted).await?) {
            // Not a part of what was read along with others.
            let places = Bytes::copy_from_slice(&places);
            self.kept.blocks.insert((self.column, at, block), places.clone());
            blocks.insert((at, block), places);
        }
        Ok(blocks)
    }

    /// Bytes of the file, in the order of the ranges; close ones are one request.
    async fn request(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|&i| ranges[i].start);
        let rising = order.iter().map(|&i| ranges[i].clone()).collect();
        let read = self.file.submit_request(rising, 0).await.map_err(from_lance_reading)?;
        let mut out = vec![Bytes::new(); ranges.len()];
        for (i, bytes) in order.into_iter().zip(read) {
            if bytes.len() as u64 != ranges[i].end - ranges[i].start {
                return Err(damaged("it ends too early".to_string()));
            }
            out[i] = bytes;
        }
        Ok(out)
    }
}

/// The places of the rows of a segment and of the end of the last, from the blocks that have them.
fn joined(segment: &Segment<'_>, blocks: &HashMap<(usize, u64), Bytes>) -> Result<Vec<u8>> {
    let Segment { at, page, rows } = segment;
    let wanted = page.bytes_of_places(rows.start)..page.bytes_of_places(rows.end + 1);
    let mut places = Vec::with_capacity((wanted.end - wanted.start) as usize);
    for block in rows.start / BLOCK..=rows.end / BLOCK {
        let first = page.bytes_of_places(block * BLOCK);
        let bytes = blocks.get(&(*at, block)).map_or(&[][..], |bytes| bytes);
        let from = wanted.start.saturating_sub(first) as usize;
        let to = ((wanted.end - first) as usize).min(bytes.len());
        places.extend_from_slice(bytes.get(from..to).unwrap_or_default());
    }
    match places.len() as u64 == wanted.end - wanted.start {
        true => Ok(places),
        false => Err(Error::new(ErrorKind::Internal, "places of rows that were not read")),
    }
}
