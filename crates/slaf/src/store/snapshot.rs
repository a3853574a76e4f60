//! A version of a store: its root manifest, and the tables that it pins.

use crate::store::frames::{Categories, categories_from_ipc};
use crate::store::kept::Kept;
use crate::store::manifest::{Manifest, MatrixEntry, TableEntry};
use crate::store::pinned::Pinned;
use crate::store::table_name::TableName;
use crate::store::{table_check, versions};
use bytes::Bytes;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::{MatrixKey, Measured};
use slaf_lance::error::while_reading;
use slaf_lance::{Doubt, Explain, FirstTouch, Storage, Table};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::OnceCell;

/// A store at one version. It never changes, and what it has read is shared by all that use it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) storage: Storage,
    pub(crate) manifest: Manifest,
    pinned: Arc<Pinned>,
    first_touch: Option<Arc<FirstTouch>>,
    /// The root manifest on a local disk, with a lock that tells that its version is in use.
    _in_use: Option<File>,
    cells: OnceCell<Table>,
    genes: OnceCell<Table>,
    by_gene: OnceCell<Table>,
    raw_genes: OnceCell<Table>,
    pub(super) heads: OnceCell<()>,
    categories: OnceCell<Categories>,
    pub(super) measured: OnceCell<Measured>,
    pub(crate) kept: Kept,
    /// How many cells were looked for by their names.
    pub(super) found: AtomicU64,
}

impl Snapshot {
    /// Reads the root manifest of a version, of the newest one by default. With `first_touch` each
    /// file is compared with its hash before something of it is read.
    pub(crate) async fn open(storage: Storage, version: Option<u64>, first_touch: bool) -> Result<Snapshot> {
        let manifest = versions::load(&storage, version).await?;
        storage.know_files(manifest.files.iter().map(|f| (f.path.as_str(), f.length, f.blake3.as_str())));
        let first_touch = first_touch.then(|| {
            let files = manifest.files.iter().map(|f| (f.path.clone(), f.length, f.blake3.clone()));
            Arc::new(FirstTouch::new(storage.clone(), files))
        });
        Ok(Snapshot {
            pinned: Arc::new(Pinned::new(&storage, &manifest)),
            _in_use: versions::use_version(&storage, manifest.version),
            storage,
            manifest,
            first_touch,
            cells: OnceCell::new(),
            genes: OnceCell::new(),
            by_gene: OnceCell::new(),
            raw_genes: OnceCell::new(),
            heads: OnceCell::new(),
            categories: OnceCell::new(),
            measured: OnceCell::new(),
            kept: Kept::new()?,
            found: AtomicU64::new(0),
        })
    }

    /// Opens a table on first use.
    pub(crate) async fn table(&self, name: TableName) -> Result<&Table> {
        let cell = match name {
            TableName::Cells => &self.cells,
            TableName::Genes => &self.genes,
            TableName::ByGene => &self.by_gene,
            TableName::RawGenes => &self.raw_genes,
        };
        let entry = self.manifest.tables.get(name);
        let entry = entry.ok_or_else(|| Error::new(ErrorKind::Internal, format!("the store has no table {name:?}")))?;
        let open = async || {
            let opened = async {
                self.heads().await?;
                let table = Table::open(&self.storage, entry, self.pinned.clone()).await?;
                self.check_is_ours(&table, entry).await?;
                Ok::<_, Error>(table)
            };
            let opened = opened.await;
            let is_corrupt = opened.as_ref().is_err_and(|e| e.kind() == ErrorKind::Corrupt);
            if let (Some(first_touch), true) = (&self.first_touch, is_corrupt) {
                // What differs is a better name of the fault than what came of it.
                let folder = format!("{}/_versions/", entry.path);
                let files = self.manifest.files.iter().filter(|f| f.path.starts_with(&folder));
                first_touch.check(files.map(|f| f.path.clone()).collect()).await?;
            }
            let mut table = opened?;
            if let Some(first_touch) = &self.first_touch {
                table.compare_on_first_touch(first_touch.clone()).await?;
            }
            table_check::check(&self.manifest, name, &table).at(self.storage.full(&entry.path))?;
            Ok(table)
        };
        self.storage.guard(cell.get_or_try_init(open)).await
    }

    /// Whether it is on a local disk, and its cells and genes are open.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.storage.local().is_some() && self.cells.initialized() && self.genes.initialized()
    }

    /// Tables of a store that was removed and made again have the same names.
    async fn check_is_ours(&self, table: &Table, entry: &TableEntry) -> Result<()> {
        let Some(name) = table.transaction() else { return Ok(()) };
        let path = format!("{}/_transactions/{name}", entry.path);
        if self.manifest.file(&path).is_some() {
            return Ok(());
        }
        let message = "another table than the one that was committed (`slaf verify` checks the whole store)";
        let error = Error::corrupt(message).at(self.storage.full(&entry.path));
        Err(self.pinned.explain(error).await)
    }

    /// A file of this version, whole, compared with its hash.
    pub(crate) async fn read_file(&self, path: &str) -> Result<Bytes> {
        let file = self.manifest.file(path);
        let read = async {
            match file.filter(|f| f.length > 0) {
                Some(file) => self.storage.read_range(path, 0..file.length).await,
                None => self.storage.read(path).await,
            }
        };
        let bytes = match read.await.map_err(while_reading) {
            Err(e) => return Err(self.pinned.explain(e).await),
            Ok(bytes) => bytes,
        };
        if file.map(|f| f.blake3.as_str()) != Some(blake3::hash(&bytes).to_hex().as_str()) {
            self.storage.doubt(path).iter().for_each(Doubt::forget);
            return Err(while_reading(Error::corrupt("its content has changed")).at(self.storage.full(path)));
        }
        Ok(bytes)
    }

    /// Some bytes of a file of this version, which have a checksum of their own.
    pub(crate) async fn read_part(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        if let Some(first_touch) = &self.first_touch {
            first_touch.check(vec![path.to_string()]).await?;
        }
        match self.storage.read_range(path, range).await.map_err(while_reading) {
            Err(e) => Err(self.pinned.explain(e).await),
            bytes => bytes,
        }
    }

    pub(crate) async fn categories(&self) -> Result<&Categories> {
        let load = || async {
            match &self.manifest.categories {
                Some(path) => {
                    self.heads().await?;
                    let bytes = self.read_file(path).await?;
                    categories_from_ipc(bytes).at(self.storage.full(path))
                }
                None => Ok(Categories::new()),
            }
        };
        // Others wait for whoever loads them, and so for the store.
        self.storage.guard(self.categories.get_or_try_init(load)).await
    }

    /// The entry of a matrix.
    ///
    /// # Errors
    /// `unknown-table` with the matrices that there are.
    pub(crate) fn matrix(&self, key: &MatrixKey) -> Result<&MatrixEntry> {
        self.manifest.matrix(key).ok_or_else(|| {
            let all: Vec<_> = self.manifest.matrices.iter().map(|m| m.key().to_string()).collect();
            let list =
                if all.is_empty() { "it has no matrices".to_string() } else { format!("it has {}", all.join(", ")) };
            Error::new(ErrorKind::UnknownTable, format!("the store has no {key}; {list}"))
        })
    }
}
