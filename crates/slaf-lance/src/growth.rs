//! Tables that grow: columns and rows that are added make another version of a table, which only a
//! root manifest names.
//!
//! Such a version is a *detached* one of Lance: it is outside of the table's own history, so that
//! writers who grow the same table at once do not meet here, and what one of them has not committed
//! is in nobody else's version. Every file carries the id of its writer.

use crate::data_files::{DataFiles, OpenFile, RowFiles};
use crate::error::{from_lance, from_lance_reading};
use crate::runtime::block_on;
use crate::storage::Storage;
use crate::table::TableEntry;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema as ArrowSchema};
use async_trait::async_trait;
use futures::FutureExt;
use lance::dataset::CommitBuilder;
use lance::dataset::builder::DatasetBuilder;
use lance::dataset::transaction::{Operation, TransactionBuilder};
use lance::datatypes::Schema;
use lance::io::ObjectStore;
use lance::table::format::Fragment;
use lance_table::format::{DETACHED_VERSION_MASK, IndexMetadata, Manifest, Transaction};
use lance_table::io::commit::{CommitError, CommitHandler, ManifestLocation, ManifestNamingScheme, ManifestWriter};
use object_store::path::Path;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Hexadecimal digits of a writer's id that the number of a table version holds.
const DIGITS: usize = 12;
/// Bits below these digits, which tell the versions of a writer apart.
const TURN_BITS: u32 = 15;

/// The names of the files that a writer makes in tables of others.
#[derive(Debug)]
pub struct WriteNames {
    id: String,
    next: AtomicU64,
    given: Mutex<Vec<String>>,
}

impl WriteNames {
    /// Those of the writer with this id, 32 hexadecimal digits.
    pub fn new(id: &str) -> WriteNames {
        WriteNames { id: id.to_string(), next: AtomicU64::new(0), given: Mutex::default() }
    }

    /// The writer's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The paths below the root of all files that have got a name, whether they exist or not.
    pub fn given(&self) -> Vec<String> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a file that has its name from elsewhere.
    pub fn add(&self, path: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_string());
    }

    fn data_file(&self, table: &str) -> String {
        let name = format!("{}-{}.lance", self.id, self.next.fetch_add(1, Ordering::Relaxed));
        self.add(&format!("{table}/data/{name}"));
        name
    }

    fn transaction(&self, table: &str, read_version: u64) -> String {
        let path = format!("{table}/_transactions/{read_version}-{}.txn", self.id);
        self.add(&path);
        path
    }

    /// The number of a new version of a table, and its file.
    fn version(&self, table: &str) -> Result<(u64, String)> {
        let id = u64::from_str_radix(self.id.get(..DIGITS).unwrap_or_default(), 16);
        let id = id.map_err(|e| Error::new(ErrorKind::Internal, format!("the id of a writer: {e}")))?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if turn >> TURN_BITS != 0 {
            return Err(Error::new(ErrorKind::Conflict, "other writers commit all the time; try again later"));
        }
        let version = DETACHED_VERSION_MASK | (id << TURN_BITS) | turn;
        let path = format!("{table}/_versions/d{version}.manifest");
        self.add(&path);
        Ok((version, path))
    }

    /// The first digits of the id of the writer who made a version of a table, from the name of its
    /// file; `None` for versions that were not made by growing.
    pub fn writer_of_version(file: &str) -> Option<String> {
        let number: u64 = file.strip_prefix('d')?.strip_suffix(".manifest")?.parse().ok()?;
        let is_detached = number & DETACHED_VERSION_MASK != 0;
        let id = (number & !DETACHED_VERSION_MASK) >> TURN_BITS;
        is_detached.then(|| format!("{id:0width$x}", width = DIGITS))
    }
}

/// A new version of a table, ready to be named by a root manifest.
#[derive(Clone, Debug)]
pub struct Grown {
    /// What a root manifest says of it.
    pub entry: TableEntry,
    /// All files of the version, by their paths below the root.
    pub files: Vec<String>,
}

/// A table that is about to get another version.
pub struct Growth {
    path: String,
    names: Arc<WriteNames>,
    dataset: Arc<lance::Dataset>,
    files: DataFiles,
    schema: Schema,
    fragments: Vec<Fragment>,
    /// The rows that are being added.
    appending: Option<RowFiles>,
}

impl Growth {
    /// Opens the version of a table that is to grow.
    ///
    /// # Errors
    /// `corrupt` if the table is not as the entry says; those of the storage.
    pub fn open(storage: &Storage, entry: &TableEntry, names: &Arc<WriteNames>) -> Result<Growth> {
        let uri = storage.full(&entry.path);
        let open = async {
            let dataset = DatasetBuilder::from_uri(&uri)
                .with_version(entry.version)
                .with_store_params(storage.object_store_params())
                .load()
                .boxed()
                .await
                .map_err(from_lance_reading)?;
            let store = dataset.object_store(None).await.map_err(from_lance_reading)?;
            Ok((dataset, store))
        };
        let (dataset, store) = block_on(storage.guard(open)).at(&uri)?;
        let fragments = dataset.manifest().fragments.as_ref().clone();
        let rows: Option<u64> = fragments.iter().map(|f| f.physical_rows.map(|n| n as u64)).sum();
        if rows != Some(entry.rows) || fragments.iter().any(|f| f.deletion_file.is_some()) {
            let what = format!("its fragments have {rows:?} rows, but the root manifest says {}", entry.rows);
            return Err(Error::corrupt(what).at(uri));
        }
        Ok(Growth {
            schema: dataset.schema().clone(),
            path: entry.path.clone(),
            names: names.clone(),
            files: DataFiles { storage: storage.clone(), store, folder: dataset.data_dir(), uri },
            dataset: Arc::new(dataset),
            fragments,
            appending: None,
        })
    }

    /// The names of the columns.
    pub fn columns(&self) -> Vec<String> {
        self.schema.fields.iter().map(|f| f.name.clone()).collect()
    }

    /// The number of parts, each of some rows in files of its own.
    pub fn fragments(&self) -> usize {
        self.fragments.len()
    }

    /// Leaves out all columns but these; their bytes stay where they are.
    pub fn retain(&mut self, columns: &HashSet<String>) {
        self.schema.fields.retain(|f| columns.contains(&f.name));
    }

    /// Adds columns that have no values in the rows that are there.
    ///
    /// # Errors
    /// `internal` for a column that is there.
    pub fn add_fields(&mut self, fields: &[Field]) -> Result<()> {
        let mut add = || {
            self.schema.extend(fields)?;
            self.schema.set_field_id(Some(self.dataset.manifest().max_field_id()));
            Ok::<_, lance::Error>(())
        };
        add().map_err(from_lance).at(&self.files.uri)
    }

    /// Adds columns with values, which `make` gives for ranges of rows that follow each other.
    ///
    /// # Errors
    /// Those of `make` and of writing.
    pub fn add_columns(
        &mut self,
        fields: &[Field],
        batch_rows: usize,
        mut make: impl FnMut(Range<u64>) -> Result<RecordBatch>,
    ) -> Result<()> {
        self.add_fields(fields)?;
        let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
        let schema = self.schema.project(&names).map_err(from_lance).at(&self.files.uri)?;
        let mut first = 0;
        for i in 0..self.fragments.len() {
            let end = first + self.fragments[i].physical_rows.unwrap_or_default() as u64;
            if first == end {
                continue;
            }
            let mut file = self.create(schema.clone())?;
            for start in (first..end).step_by(batch_rows.max(1)) {
                let batch = make(start..(start + batch_rows.max(1) as u64).min(end))?;
                self.files.write(&mut file, &batch)?;
            }
            let (file, _) = self.files.close(file)?;
            self.fragments[i].files.push(file);
            first = end;
        }
        Ok(())
    }

    /// Begins to add rows of these columns, with at most `fragment_rows` rows in a data file.
    ///
    /// # Errors
    /// Those of columns that the table does not have.
    pub fn begin_rows(&mut self, columns: &ArrowSchema, fragment_rows: usize) -> Result<()> {
        let names: Vec<&str> = columns.fields().iter().map(|f| f.name().as_str()).collect();
        let schema = self.schema.project(&names).map_err(from_lance).at(&self.files.uri)?;
        self.appending = Some(RowFiles::new(schema, fragment_rows));
        Ok(())
    }

    /// Adds rows after those that are there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn send(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(appending) = &mut self.appending else {
            return Err(Error::new(ErrorKind::Internal, "rows for a table that does not grow by rows"));
        };
        appending.send(&self.files, batch, || self.names.data_file(&self.path), &mut self.fragments)
    }

    /// Writes the new version. Nobody sees it before a root manifest names it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn commit(mut self) -> Result<Grown> {
        if let Some(mut appending) = self.appending.take() {
            self.fragments.extend(appending.finish(&self.files)?);
        }
        let read_version = self.dataset.version().version;
        let rows = self.fragments.iter().map(|f| f.physical_rows.unwrap_or_default() as u64).sum();
        let data = self.fragments.iter().flat_map(|f| &f.files);
        let mut files: Vec<String> = data.map(|f| format!("{}/data/{}", self.path, f.path)).collect();
        files.push(self.names.transaction(&self.path, read_version));
        let (version, file) = self.names.version(&self.path)?;
        files.push(file);
        let operation =
            Operation::Merge { fragments: self.fragments, schema: self.schema, preserves_nullability: false };
        let transaction = TransactionBuilder::new(read_version, operation).uuid(self.names.id().to_string()).build();
        let commit = async {
            CommitBuilder::new(self.dataset.clone())
                .with_detached(true)
                .with_commit_handler(Arc::new(Numbered(version)))
                .execute(transaction)
                .boxed()
                .await
                .map_err(from_lance)
        };
        let committed = block_on(self.files.storage.guard(commit)).at(&self.files.uri)?;
        if committed.version().version != version {
            return Err(
                Error::new(ErrorKind::Internal, "a table has another version than it was given").at(self.files.uri)
            );
        }
        Ok(Grown { entry: TableEntry { path: self.path, version, rows }, files })
    }

    fn create(&self, schema: Schema) -> Result<OpenFile> {
        self.files.create(self.names.data_file(&self.path), schema)
    }
}

/// Gives a version of a table the number that its writer chose. It needs no condition: nobody else
/// chooses it.
#[derive(Debug)]
struct Numbered(u64);

#[async_trait]
impl CommitHandler for Numbered {
    fn is_version_not_found_definitive(&self) -> bool {
        true
    }

    fn propagate_commit_error_after_success(&self) -> bool {
        false
    }

    async fn commit(
        &self,
        manifest: &mut Manifest,
        indices: Option<Vec<IndexMetadata>>,
        base_path: &Path,
        object_store: &ObjectStore,
        manifest_writer: ManifestWriter,
        naming_scheme: ManifestNamingScheme,
        transaction: Option<Transaction>,
    ) -> Result<ManifestLocation, CommitError> {
        manifest.version = self.0;
        let path = naming_scheme.manifest_path(base_path, manifest.version);
        let written = manifest_writer(object_store, manifest, indices, &path, transaction).await?;
        Ok(ManifestLocation {
            version: manifest.version,
            size: Some(written.size as u64),
            naming_scheme,
            path,
            e_tag: written.e_tag,
            identity: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_tell_their_writer() {
        let names = WriteNames::new("0123456789abcdef0123456789abcdef");
        for _ in 0..3 {
            let (version, path) = names.version("cells-x.lance").unwrap();
            assert!(version & DETACHED_VERSION_MASK != 0);
            let file = path.strip_prefix("cells-x.lance/_versions/").unwrap();
            assert_eq!(WriteNames::writer_of_version(file).unwrap(), "0123456789ab");
        }
        assert_eq!(names.given().len(), 3);
        for other in ["1.manifest", "d1.manifest", "18446744073709551614.manifest", "dx.manifest"] {
            assert_eq!(WriteNames::writer_of_version(other), None, "{other}");
        }
    }
}
