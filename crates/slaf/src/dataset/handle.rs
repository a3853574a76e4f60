//! Opening a store, and what is known of a version as such.

use crate::config;
use crate::convert::elsewhere;
use crate::info::Info;
use crate::loader::Source;
use crate::query::Session;
use crate::store::manifest::Manifest;
use crate::store::{Snapshot, versions};
use crate::trace::Address;
use crate::verify::{Damage, Depth};
use slaf_core::{ErrorKind, Result};
use slaf_lance::runtime::block_on;
use slaf_lance::{IoStats, Storage};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct DatasetOptions {
    /// The version to open; the newest one by default.
    pub version: Option<u64>,
    /// In place of a version: the one that has this tag.
    pub tag: Option<String>,
    /// In place of a version: the one that was the newest at this time, in seconds since 1970-01-01
    /// UTC.
    pub time: Option<u64>,
    /// Credentials and settings of an object store.
    pub storage_options: HashMap<String, String>,
    /// When files are compared with their hashes.
    pub verify: Verify,
}

/// When the files of a store are compared with the hashes that were committed.
///
/// Packed rows carry checksums of their own, and are compared with them whenever they are decoded;
/// so is each small file that is read as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Where [`Dataset::verify`](crate::Dataset::verify) is called.
    #[default]
    OnRequest,
    /// Also each file of a table, before something of it is read for the first time: it is read
    /// whole, once for each handle, or not at all if the process has found it right before.
    FirstTouch,
}

/// A committed version.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// Its number; the first one is 1.
    pub version: u64,
    /// Seconds since 1970-01-01, UTC.
    pub created: u64,
    /// What made it, `convert` for example.
    pub operation: String,
    /// Cells at this version.
    pub n_cells: u64,
    /// Genes at this version.
    pub n_genes: u64,
    /// The tags that name it.
    pub tags: Vec<String>,
}

/// A store at one version.
///
/// Opening reads the root manifest only; tables, names and annotations are read when first
/// needed and kept. A handle never changes: to see a later version, open again. Clones share
/// everything and may be used from many threads.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) session: Arc<OnceLock<Arc<Session>>>,
}

impl Dataset {
    /// Opens the newest version of the store at a path or `file://`, `s3://`, `gs://` or `az://`
    /// address.
    ///
    /// # Errors
    /// `not-found`, `not-a-store`, `corrupt` (naming the newest intact version), or
    /// `unsupported-feature`.
    pub fn open(uri: &str) -> Result<Dataset> {
        Self::open_with(uri, &DatasetOptions::default())
    }

    /// Opens a store with options.
    ///
    /// # Errors
    /// As [`Dataset::open`]; `not-found` also for a version, tag or time that there is not;
    /// `invalid-argument` for a budget of the environment that is no number of bytes.
    pub fn open_with(uri: &str, options: &DatasetOptions) -> Result<Dataset> {
        let _span = tracing::debug_span!("open", store = %Address(uri)).entered();
        elsewhere::refuse_web(uri)?;
        config::check_budgets()?;
        let storage = block_on(Storage::new(uri, &options.storage_options))?;
        let first_touch = options.verify == Verify::FirstTouch;
        let snapshot = block_on(async {
            let found = versions::find(&storage, options.tag.as_deref(), options.time).await?;
            Snapshot::open(storage.clone(), options.version.or(found), first_touch).await
        });
        let snapshot = snapshot.map_err(|e| match e.kind() {
            ErrorKind::NotAStore => elsewhere::explain(e, &storage),
            _ => e,
        })?;
        Ok(Dataset::of(Arc::new(snapshot)))
    }

    /// A handle of a version that is open.
    pub(crate) fn of(snapshot: Arc<Snapshot>) -> Dataset {
        Dataset { snapshot, session: Arc::default() }
    }

    /// Where the store is.
    pub fn uri(&self) -> &str {
        self.snapshot.storage.uri()
    }

    /// The version of this handle.
    pub fn version(&self) -> u64 {
        self.snapshot.manifest.version
    }

    /// The committed versions, oldest first.
    ///
    /// # Errors
    /// Those of reading the root manifests.
    pub fn versions(&self) -> Result<Vec<VersionInfo>> {
        block_on(async {
            let mut out = Vec::new();
            let tags = versions::load(&self.snapshot.storage, None).await?.tags;
            for version in versions::kept(&self.snapshot.storage).await? {
                let m = match versions::read(&self.snapshot.storage, version).await {
                    // Replaced since it was listed.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    m => m?,
                };
                out.push(VersionInfo {
                    version,
                    created: m.created,
                    operation: m.operation,
                    n_cells: m.n_cells,
                    n_genes: m.n_genes,
                    tags: tags.iter().filter(|(_, v)| **v == version).map(|(tag, _)| tag.clone()).collect(),
                });
            }
            Ok(out)
        })
    }

    /// The number of cells.
    pub fn n_cells(&self) -> u64 {
        self.snapshot.manifest.n_cells
    }

    /// The number of genes.
    pub fn n_genes(&self) -> u64 {
        self.snapshot.manifest.n_genes
    }

    /// The root manifest of this version.
    pub fn manifest(&self) -> &Manifest {
        &self.snapshot.manifest
    }

    /// What this handle and its clones have asked of the object store since it was opened, by SLAF
    /// and by Lance; the difference of two is what happened in between. A store on a local disk is
    /// not reached by requests: only cache hits are counted there.
    ///
    /// ```no_run
    /// # let pbmc = slaf::Dataset::open("s3://bucket/pbmc.slaf")?;
    /// let before = pbmc.io_stats();
    /// pbmc.query("SELECT COUNT(*) FROM cells")?;
    /// let io = pbmc.io_stats() - before;
    /// println!("{} requests, {} bytes", io.requests(), io.bytes_read);
    /// # Ok::<(), slaf::Error>(())
    /// ```
    pub fn io_stats(&self) -> IoStats {
        let mut stats = self.snapshot.storage.io_stats();
        stats.cache_hits += self.snapshot.kept.hits();
        stats
    }

    /// A summary for people.
    pub fn info(&self) -> Info {
        Info::new(self.uri(), &self.snapshot.manifest)
    }

    /// Reads every file of this version and compares length and hash with the root manifest.
    /// Where all are right, compares what the root manifest says with what the tables hold.
    /// Returns the files that differ.
    ///
    /// # Errors
    /// Those of reading, other than a missing file.
    pub fn verify(&self) -> Result<Vec<Damage>> {
        let _span = tracing::debug_span!("verify", store = %Address(self.uri())).entered();
        block_on(self.snapshot.verify(Depth::Content))
    }

    /// Compares the lengths of all files with the root manifest and opens all tables, but reads none
    /// of their rows: finds what is missing or was cut, in the time of one listing.
    /// Returns the files that differ.
    ///
    /// # Errors
    /// Those of reading, other than a missing file.
    pub fn verify_quick(&self) -> Result<Vec<Damage>> {
        let _span = tracing::debug_span!("verify_quick", store = %Address(self.uri())).entered();
        block_on(self.snapshot.verify(Depth::Lengths))
    }

    /// The store as a loader reads it: all genes, and nothing else.
    pub fn source(&self) -> Source {
        Source::new(self.snapshot.clone())
    }
}
