//! The Lance tables of a store: writing one in a stream, and reading rows of a pinned version.

use crate::blocks::Doubt;
use crate::byte_column::{ByteColumn, DataFolder, KeptPlaces, find};
use crate::byte_rows::ByteRows;
use crate::error::{from_lance, from_lance_reading, while_reading};
use crate::first_touch::FirstTouch;
use crate::runtime;
use crate::storage::Storage;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use lance::dataset::builder::DatasetBuilder;
use lance::dataset::fragment::{FileFragment, FragReadConfig, FragmentReader};
use lance::dataset::{InsertBuilder, WriteMode, WriteParams};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The version of the Lance file format that tables are written in.
const FILE_VERSION: &str = "2.2";
/// Batches that are decoded at once.
const READ_AHEAD: usize = 4;
/// Batches that wait for the writer.
const QUEUE: usize = 4;

/// A Lance table at a version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its folder below the root.
    pub path: String,
    /// The version of Lance's that is meant.
    pub version: u64,
    /// Its rows at that version.
    pub rows: u64,
}

/// Writes a new table while its batches are made.
pub struct TableWriter {
    path: String,
    uri: String,
    sender: Option<mpsc::Sender<Result<RecordBatch, DataFusionError>>>,
    task: JoinHandle<Result<lance::Dataset, lance::Error>>,
    given_up: Arc<AtomicBool>,
    rows: u64,
    storage: Storage,
}

impl TableWriter {
    /// Starts a table of the given schema in the folder `path` below the root, with at most
    /// `fragment_rows` rows in a data file.
    ///
    /// # Errors
    /// `io` if threads cannot be started.
    pub fn create(storage: &Storage, path: &str, schema: &SchemaRef, fragment_rows: usize) -> Result<TableWriter> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let given_up = Arc::new(AtomicBool::new(false));
        let batches = futures::stream::unfold((receiver, given_up.clone()), |(mut receiver, given_up)| async {
            let received = receiver.recv().await;
            let next = match given_up.load(Ordering::Acquire) {
                true => Err(DataFusionError::Execution("the writer has given up".into())),
                false => received?,
            };
            Some((next, (receiver, given_up)))
        });
        let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), batches));
        let uri = storage.full(path);
        let params = WriteParams {
            max_rows_per_file: fragment_rows,
            mode: WriteMode::Create,
            store_params: Some(storage.object_store_params()),
            data_storage_version: FILE_VERSION.parse().ok(),
            ..WriteParams::default()
        };
        let target = uri.clone();
        let task = runtime::runtime()?.spawn(async move {
            InsertBuilder::new(target.as_str()).with_params(&params).execute_stream(stream).await
        });
        let (path, sender, storage) = (path.to_string(), Some(sender), storage.clone());
        Ok(TableWriter { path, uri, sender, task, given_up, rows: 0, storage })
    }

    /// Hands over a batch; waits while the writer is behind.
    ///
    /// # Errors
    /// Those of the store.
    pub fn send(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        let gone = || Error::new(ErrorKind::Internal, "a table was closed early");
        let sent = match &self.sender {
            Some(sender) => {
                let send = async { Ok(sender.send(Ok(batch)).await.is_ok()) };
                runtime::block_on(self.storage.guard(send)).at(&self.uri)?
            }
            None => false,
        };
        match sent {
            true => Ok(()),
            // The receiver is gone: the task has failed, and says why.
            false => Err(self.join().err().unwrap_or_else(gone)).at(&self.uri),
        }
    }

    fn join(&mut self) -> Result<lance::Dataset> {
        self.sender = None;
        let TableWriter { storage, task, .. } = self;
        let written = async {
            task.await
                .map_err(|e| Error::new(ErrorKind::Internal, format!("a writer stopped: {e}")))?
                .map_err(from_lance)
        };
        runtime::block_on(storage.guard(written))
    }

    /// Ends the table and commits it as a Lance version.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(mut self) -> Result<TableEntry> {
        let dataset = self.join().at(&self.uri)?;
        Ok(TableEntry { path: self.path.clone(), version: dataset.version().version, rows: self.rows })
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        // It may be about to make a folder or a file; whoever cleans up comes after that. A task that is aborted
        // does not wait for what it has asked of the disk, so that one for a local table ends by an error.
        self.given_up.store(true, Ordering::Release);
        self.sender = None;
        if self.storage.local().is_none() {
            self.task.abort();
        }
        if !self.task.is_finished()
            && tokio::runtime::Handle::try_current().is_err()
            && let Ok(runtime) = runtime::runtime()
        {
            let _ = runtime.block_on(&mut self.task);
        }
    }
}

/// Opened columns of byte strings, by fragment and name; `None` for those that Lance reads.
type ByteColumns = HashMap<(usize, String), Option<Arc<ByteColumn>>>;
type Readers = HashMap<(usize, Vec<String>), Arc<FragmentReader>>;

/// Looks again at an error of reading: it may have another cause than damage.
pub trait Explain: std::fmt::Debug + Send + Sync {
    /// The error to give in place of this one.
    fn explain(&self, error: Error) -> BoxFuture<'_, Error>;
}

/// A table at its pinned version.
#[derive(Debug)]
pub struct Table {
    uri: String,
    storage: Storage,
    explain: Arc<dyn Explain>,
    dataset: Arc<lance::Dataset>,
    /// Each fragment with its first row.
    fragments: Vec<(u64, FileFragment)>,
    rows: u64,
    /// Its folder below the root of the store.
    path: String,
    /// Compares files before they are read, if that is wanted.
    first_touch: Option<Arc<FirstTouch>>,
    /// Opened files, by fragment and columns.
    readers: Mutex<Readers>,
    data: DataFolder,
    byte_columns: Mutex<ByteColumns>,
}

impl Table {
    /// Opens a table at the version of its entry.
    ///
    /// # Errors
    /// `corrupt` if the table is not as the entry says; those of the storage.
    pub fn open<'a>(
        storage: &'a Storage,
        entry: &'a TableEntry,
        explain: Arc<dyn Explain>,
    ) -> BoxFuture<'a, Result<Table>> {
        let uri = storage.full(&entry.path);
        let why = explain.clone();
        let open = async move {
            let dataset = DatasetBuilder::from_uri(&uri)
                .with_version(entry.version)
                .with_store_params(storage.object_store_params())
                .load()
                .await
                .map_err(from_lance_reading)?;
            let dataset = Arc::new(dataset);
            let mut fragments = Vec::new();
            let mut rows = 0;
            for fragment in dataset.get_fragments() {
                let n = fragment.physical_rows().await.map_err(from_lance_reading)? as u64;
                fragments.push((rows, fragment));
                rows += n;
            }
            if rows != entry.rows {
                return Err(Error::corrupt(format!("{rows} rows, but the root manifest says {}", entry.rows)));
            }
            let (path, first_touch) = (entry.path.clone(), None);
            let data = match storage.local() {
                Some(root) => DataFolder::Local(root.join(&path).join("data")),
                None => DataFolder::Remote(KeptPlaces::new(storage.meter())),
            };
            let (storage, readers, byte_columns) = (storage.clone(), Mutex::default(), Mutex::default());
            Ok(Table {
                uri,
                storage,
                explain,
                dataset,
                fragments,
                rows,
                path,
                first_touch,
                readers,
                data,
                byte_columns,
            })
        };
        // Lance's arithmetic may panic over a damaged file.
        let open = AssertUnwindSafe(open).catch_unwind();
        let damaged = |_| Err(Error::corrupt("the structure of the table is damaged"));
        async move {
            let open = async { open.await.unwrap_or_else(damaged).map_err(while_reading) };
            match storage.guard(open).await.at(storage.full(&entry.path)) {
                Err(e) => {
                    if let Some(doubt) = storage.doubt(&entry.path).filter(|_| e.kind() == ErrorKind::Corrupt) {
                        doubt.forget();
                    }
                    Err(why.explain(e).await)
                }
                opened => opened,
            }
        }
        .boxed()
    }

    /// How many rows the table has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The file of the transaction that made this version, below `_transactions`; its name is
    /// unique.
    pub fn transaction(&self) -> Option<&str> {
        self.dataset.manifest().transaction_file.as_deref()
    }

    /// Lets each file be compared before something of it is read; compares what opening has read.
    ///
    /// # Errors
    /// Those of [`FirstTouch::check`].
    pub async fn compare_on_first_touch(&mut self, first_touch: Arc<FirstTouch>) -> Result<()> {
        let name = self.dataset.manifest_location().path.filename().unwrap_or_default();
        first_touch.check(vec![format!("{}/_versions/{name}", self.path)]).await?;
        self.first_touch = Some(first_touch);
        Ok(())
    }

    /// The data files, by their paths below the root.
    ///
    /// # Errors
    /// `corrupt` for a file outside of the store.
    pub fn data_files(&self) -> Result<Vec<String>> {
        let files = self.fragments.iter().map(|(_, fragment)| self.files_of(fragment));
        Ok(files.collect::<Result<Vec<_>>>()?.concat())
    }

    fn files_of(&self, fragment: &FileFragment) -> Result<Vec<String>> {
        let files = fragment.metadata().files.iter().map(|file| match file.base_id {
            None => Ok(format!("{}/data/{}", self.path, file.path)),
            Some(_) => Err(Error::corrupt(format!("data file {} is outside of the store", file.path))),
        });
        files.collect()
    }

    async fn reader(&self, fragment: usize, columns: &[&str]) -> Result<Arc<FragmentReader>> {
        let key = (fragment, columns.iter().map(ToString::to_string).collect());
        if let Some(reader) = lock(&self.readers).get(&key) {
            return Ok(reader.clone());
        }
        let projection = self.dataset.schema().project(columns).map_err(from_lance_reading)?;
        let reader = self.fragments[fragment].1.open(&projection, FragReadConfig::default()).await;
        let reader = Arc::new(reader.map_err(from_lance_reading)?);
        lock(&self.readers).insert(key, reader.clone());
        Ok(reader)
    }

    /// Reads ranges of rows that rise and do not overlap, in order, in batches of at most
    /// `batch_rows`. Decoding runs in parallel.
    ///
    /// # Errors
    /// `out-of-range`, `corrupt`, those of the storage.
    pub fn read<'a>(
        &'a self,
        columns: &'a [&'a str],
        ranges: &'a [Range<u64>],
        batch_rows: usize,
    ) -> BoxFuture<'a, Result<Vec<RecordBatch>>> {
        let read = async move {
            let parts = self.checked_parts(ranges).await?;
            let mut batches = Vec::new();
            for (i, local) in parts {
                self.read_pages(i, columns, &local).await?;
                let reader = self.reader(i, columns).await?;
                let stream = reader.read_ranges(local.into(), batch_rows as u32).await;
                let stream = stream.map_err(from_lance_reading)?;
                batches.extend(decode_in_parallel(stream).try_collect::<Vec<_>>().await?);
            }
            Ok(batches)
        };
        self.explained(read).boxed()
    }

    /// Its files, of which something may be damaged; `None` if nothing of them is kept.
    pub fn doubt(&self) -> Option<Doubt> {
        self.storage.doubt(&self.path)
    }

    /// Whether its files are on a local disk, where a small read is not worth a task.
    pub fn is_local(&self) -> bool {
        matches!(self.data, DataFolder::Local(_))
    }

    /// Reads ranges of rows of a column of byte strings, which rise and do not overlap, straight
    /// from their files, in order; `None` where only [`Table::read`] can. Local files are read in the
    /// calling thread, ranges in an object store together.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn read_bytes<'a>(
        &'a self,
        column: &'a str,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, Result<Option<Vec<ByteRows>>>> {
        let read = async move {
            let parts = self.checked_parts(ranges).await?;
            let mut columns = Vec::with_capacity(parts.len());
            for (i, _) in &parts {
                match self.byte_column(*i, column).await? {
                    Some(column) => columns.push(column),
                    None => return Ok(None),
                }
            }
            let read = |local: Vec<Range<u64>>, column: Arc<ByteColumn>| async move {
                let mut rows = ByteRows::default();
                column.read(&local, &mut rows).await?;
                Ok::<_, Error>(rows)
            };
            let reads: Vec<_> = parts.into_iter().zip(columns).map(|((_, local), c)| read(local, c)).collect();
            futures::stream::iter(reads).buffered(READ_AHEAD).try_collect().await.map(Some)
        };
        self.explained(read).boxed()
    }

    /// Asks an object store for what will be read of columns in all of `later`, as far as it is in the files of
    /// the rows that come next.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn read_ahead<'a>(
        &'a self,
        columns: &'a [&'a str],
        next: &'a [Range<u64>],
        later: &'a [Range<u64>],
    ) -> BoxFuture<'a, Result<()>> {
        let read = async move {
            let touched: Vec<usize> = self.checked_parts(next).await?.into_iter().map(|(i, _)| i).collect();
            for (i, local) in self.split(later).into_iter().filter(|(i, _)| touched.contains(i)) {
                self.read_pages(i, columns, &local).await?;
            }
            Ok(())
        };
        self.explained(read).boxed()
    }

    /// Asks an object store for the pages of columns of a fragment of which all rows are wanted, those of a
    /// file together: Lance asks for each.
    async fn read_pages(&self, fragment: usize, columns: &[&str], ranges: &[Range<u64>]) -> Result<()> {
        if self.is_local() {
            return Ok(());
        }
        let ahead = async {
            let mut files: HashMap<Path, Vec<Range<u64>>> = HashMap::new();
            for column in columns {
                let Some(found) = find(&self.fragments[fragment].1, column).await? else { continue };
                let Some(info) = found.metadata.column_infos.get(found.index) else { continue };
                let mut first = 0;
                for page in info.page_infos.iter() {
                    let rows = first..first + page.num_rows;
                    first = rows.end;
                    if ranges.iter().any(|range| range.start <= rows.start && rows.end <= range.end) {
                        let buffers = page.buffer_offsets_and_sizes.iter();
                        let buffers = buffers.map(|(start, size)| *start..start.saturating_add(*size));
                        files.entry(found.in_store.clone()).or_default().extend(buffers);
                    }
                }
            }
            let reads = files.iter().map(|(path, ranges)| self.storage.read_ahead(path, ranges));
            futures::future::try_join_all(reads).await.map(|_| ())
        };
        // Lance's arithmetic may panic over a damaged file.
        let ahead = AssertUnwindSafe(ahead.boxed()).catch_unwind().await;
        ahead.unwrap_or_else(|_| Err(Error::corrupt("the structure of a data file is damaged")))
    }

    async fn byte_column(&self, fragment: usize, column: &str) -> Result<Option<Arc<ByteColumn>>> {
        let key = (fragment, column.to_string());
        if let Some(opened) = lock(&self.byte_columns).get(&key) {
            return Ok(opened.clone());
        }
        // Lance's arithmetic may panic over a damaged file.
        let open = AssertUnwindSafe(ByteColumn::open(&self.fragments[fragment].1, fragment, column, &self.data))
            .catch_unwind();
        let damaged = |_| Err(Error::corrupt("the structure of a data file is damaged"));
        let opened = open.await.unwrap_or_else(damaged)?.map(Arc::new);
        lock(&self.byte_columns).insert(key, opened.clone());
        Ok(opened)
    }

    /// The ranges by fragment, their files compared first if that is wanted.
    async fn checked_parts(&self, ranges: &[Range<u64>]) -> Result<Vec<(usize, Vec<Range<u64>>)>> {
        if let Some(r) = ranges.iter().find(|r| r.end > self.rows) {
            return Err(Error::new(ErrorKind::OutOfRange, format!("row {} of {}", r.end - 1, self.rows)));
        }
        let parts = self.split(ranges);
        if let Some(first_touch) = &self.first_touch {
            let files = parts.iter().map(|(i, _)| self.files_of(&self.fragments[*i].1));
            first_touch.check(files.collect::<Result<Vec<_>>>()?.concat()).await?;
        }
        Ok(parts)
    }

    /// What a read gives, with errors that name the table and their cause.
    async fn explained<T>(&self, read: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.storage.guard(async { read.await.map_err(while_reading) }).await.at(&self.uri) {
            Err(e) => {
                // What failed is kept in them, and would be told again.
                lock(&self.readers).clear();
                lock(&self.byte_columns).clear();
                if let Some(doubt) = self.doubt().filter(|_| e.kind() == ErrorKind::Corrupt) {
                    doubt.forget();
                }
                Err(self.explain.explain(e).await)
            }
            done => done,
        }
    }

    /// The ranges by fragment, counted from each fragment's first row.
    fn split(&self, ranges: &[Range<u64>]) -> Vec<(usize, Vec<Range<u64>>)> {
        let mut out: Vec<(usize, Vec<Range<u64>>)> = Vec::new();
        for range in ranges.iter().filter(|r| !r.is_empty()) {
            let mut start = range.start;
            let mut i = self.fragments.partition_point(|f| f.0 <= start) - 1;
            while start < range.end {
                let first = self.fragments[i].0;
                let end = self.fragments.get(i + 1).map_or(self.rows, |f| f.0).min(range.end);
                if end > start {
                    match out.last_mut() {
                        Some((j, local)) if *j == i => local.push(start - first..end - first),
                        _ => out.push((i, vec![start - first..end - first])),
                    }
                }
                start = end.max(start);
                i += 1;
            }
        }
        out
    }
}

/// What a thread that panicked left is as good as before: entries are put in whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Decodes batches in tasks of their own, some at once, and gives them in order.
fn decode_in_parallel(
    stream: impl Stream<Item = BoxFuture<'static, Result<RecordBatch, lance::Error>>> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch>> {
    stream
        .map(|task| async move {
            match tokio::spawn(task).await {
                Ok(batch) => batch.map_err(from_lance_reading),
                Err(e) => Err(Error::new(ErrorKind::Internal, format!("a reader stopped: {e}"))),
            }
        })
        .buffered(READ_AHEAD)
        .boxed()
}

/// Rising rows as ranges of neighbours.
pub fn ranges_of(rows: &[u64]) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for &row in rows {
        match out.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => out.push(row..row + 1),
        }
    }
    out
}

impl Table {
    /// Name and type of a column.
    ///
    /// # Errors
    /// Those of the store.
    pub fn arrow_field(&self, column: &str) -> Result<arrow::datatypes::Field> {
        self.dataset
            .schema()
            .field(column)
            .map(arrow::datatypes::Field::from)
            .ok_or_else(|| Error::corrupt(format!("column {column} is missing")).at(&self.uri))
    }
}
