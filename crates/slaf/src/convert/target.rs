//! Where a conversion writes: a new store, or the next version of one that it replaces.

use super::job::Place;
use super::options::{ConvertOptions, Durability};
use super::survey::{self, Survey};
use crate::store::manifest::{FileEntry, Manifest};
use crate::store::manifest_check::next_version;
use crate::store::{heads, versions};
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::{Context, Error, ErrorKind, Result, check_printable};
use slaf_ingest::temporary::folder_of;
use slaf_lance::Storage;
use slaf_lance::runtime::block_on;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Files that are asked for, or hashed, at once.
pub(crate) const FILES_AT_ONCE: usize = 8;

/// A place for the tables of one write.
pub(super) struct Target {
    pub(super) storage: Storage,
    pub(super) version: u64,
    pub(super) write_id: String,
    durability: Durability,
    overwrite: bool,
    /// What was there before. What it names goes when the new version is committed.
    before: Survey,
    /// Whether an empty folder was there: the user's.
    keep_root: bool,
    held: Held,
}

impl Target {
    /// Checks that the target may be written. Nothing is created.
    pub(super) async fn prepare(inputs: &[&Path], output: &str, options: &ConvertOptions) -> Result<Target> {
        if let Some(column) = &options.source_column {
            check_printable("the source column (--source-column, source_column=)", column)?;
        }
        let storage = Storage::new(output, &options.storage_options).await?;
        let error = |what: &str| Error::new(ErrorKind::AlreadyExists, what).at(storage.uri());
        if let Some(root) = storage.local() {
            if root.exists() && !root.is_dir() {
                return Err(error("is a file: it is not overwritten; choose another name, or remove it yourself"));
            }
            refuse_inside(inputs, root)?;
        }
        refuse_in_store(&storage).await?;
        let mut before = Survey::take(&storage).await?;
        for _ in 0..2 {
            if !before.foreign.is_empty() || !before.unmarked.is_empty() {
                // They may be of a version that somebody is removing.
                tokio::time::sleep(Duration::from_millis(50)).await;
                before = Survey::take(&storage).await?;
            }
        }
        if !options.overwrite && !before.versions.is_empty() {
            return Err(error("exists already; choose another name or pass --overwrite (overwrite=True)"));
        }
        if !before.foreign.is_empty() {
            return Err(error(&format!(
                "holds {}, which no SLAF store names: nothing is overwritten; move it away, or choose another target",
                some_of(&before.foreign)
            )));
        }
        if !options.overwrite && !before.unmarked.is_empty() {
            return Err(error(&format!(
                "holds {} and no root manifest that names it: perhaps a store that is being copied here, or one that \
                 lost its root manifest; nothing is overwritten: wait for the copy, choose another target, or pass \
                 --overwrite (overwrite=True)",
                some_of(&before.unmarked)
            )));
        }
        let begun = |root: &std::path::PathBuf| root.join("_slaf").exists();
        Ok(Target {
            held: Held::reserve(),
            version: next_version(&before.versions).at(storage.uri())?,
            write_id: uuid::Uuid::new_v4().simple().to_string(),
            durability: options.durability,
            overwrite: options.overwrite,
            keep_root: storage.local().is_some_and(|root| root.exists() && !begun(root)),
            before,
            storage,
        })
    }

    /// Marks the target as one where a writer is at work, and removes what dead ones left there.
    pub(super) async fn begin(&self) -> Result<()> {
        let mark = survey::begin(&self.storage, &self.write_id).await?;
        self.held.keep(mark);
        // What cannot be removed is only left over.
        let _ = self.before.sweep(&self.storage).await;
        Ok(())
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { storage: &self.storage, write_id: &self.write_id }
    }

    /// Lists and hashes the files of this write, makes them durable and commits the manifest, which has the
    /// files of parts already.
    ///
    /// # Errors
    /// `already-exists`, or `conflict` with `overwrite`, if another writer was first. After
    /// `commit-outcome-unknown` the files must stay: a version may name them.
    pub(super) async fn commit(&self, manifest: &mut Manifest) -> Result<()> {
        if versions::newest(&self.storage).await? != self.before.versions.last().copied() {
            return Err(self.lost());
        }
        let mut written = files_of(&self.storage, manifest).await?;
        // Data files of parts are named already: others beside them are of attempts that lost, which may still
        // write, or somebody else's.
        let of_parts: HashSet<&str> = manifest.files.iter().map(|f| folder(&f.path)).collect();
        written.retain(|(path, _)| {
            !survey::is_of_part(path) && !survey::is_nameless(path) && !of_parts.contains(folder(path))
        });
        let commit = Commit { storage: &self.storage, write_id: &self.write_id, durability: self.durability };
        commit.seal(manifest, written, || self.lost()).await
    }

    /// Another writer was first.
    fn lost(&self) -> Error {
        let (kind, what) = if self.overwrite {
            (ErrorKind::Conflict, "another writer replaced the store meanwhile, and its version stays: convert again")
        } else {
            let what = "another conversion made a store here meanwhile, and it stays: choose another name or pass \
                        --overwrite (overwrite=True)";
            (ErrorKind::AlreadyExists, what)
        };
        Error::new(kind, what).at(self.storage.uri())
    }

    /// Removes what the committed version replaces. What cannot be removed is only left over.
    pub(super) fn committed(&self) {
        self.held.release_files();
        let _ = block_on(async {
            for file in &self.before.named {
                self.storage.delete(file).await?;
            }
            for version in &self.before.versions {
                self.storage.delete(&versions::path(*version)).await?;
            }
            self.before.remove_unmarked(&self.storage).await?;
            survey::end(&self.storage, &self.write_id).await
        });
        self.remove_empty_folders();
        self.held.release();
    }

    /// Removes what a failed write left behind.
    pub(super) fn abandon(&self) {
        self.held.release_files();
        let _ = block_on(survey::remove_write(&self.storage, &self.write_id));
        self.remove_empty_folders();
        self.held.release();
    }

    fn remove_empty_folders(&self) {
        let Some(root) = self.storage.local() else { return };
        remove_empty_folders(root, self.before.named.iter().chain(&self.before.unmarked));
        if !self.keep_root {
            // Fails, as it should, for a folder that is not empty.
            let _ = std::fs::remove_dir(root);
        }
    }
}

/// Removes the folders of a local store that are empty now: of the tables that these files were in, and
/// those below `_slaf`. Others may be at work: theirs are not.
pub(crate) fn remove_empty_folders<'a>(root: &Path, files: impl Iterator<Item = &'a String>) {
    let tables = files.filter_map(|f| Some(f.split_once('/')?.0));
    for table in tables.filter(|t| *t != "_slaf").collect::<BTreeSet<_>>() {
        remove_empty(&root.join(table));
    }
    let slaf = root.join("_slaf");
    for folder in ["categories", "extras", "heads", "indexes", "measured", "names", "versions", "writing", ""] {
        // Fails, as it should, for a folder that is not empty.
        let _ = std::fs::remove_dir(slaf.join(folder));
    }
}

/// The folder that a file is in.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The files of the tables of a version, and its single ones beside them, with their lengths.
pub(crate) async fn files_of(storage: &Storage, manifest: &Manifest) -> Result<Vec<(String, u64)>> {
    let tables = &manifest.tables;
    let tables = [Some(&tables.cells), Some(&tables.genes), tables.by_gene.as_ref(), tables.raw_genes.as_ref()];
    let mut files = Vec::new();
    for table in tables.into_iter().flatten() {
        files.extend(storage.list(&table.path).await?);
    }
    let single = [
        manifest.categories.as_ref(),
        manifest.extras.as_ref().map(|e| &e.path),
        manifest.measured.as_ref().map(|e| &e.path),
    ];
    for file in single.into_iter().flatten() {
        let beside = storage.list(folder(file)).await?;
        files.extend(beside.into_iter().filter(|(f, _)| f == file));
    }
    if !manifest.cell_names.is_empty() {
        let beside = storage.list(survey::NAMES).await?;
        files.extend(beside.into_iter().filter(|(f, _)| manifest.cell_names.iter().any(|s| s.path == *f)));
    }
    Ok(files)
}

/// The last step of a write.
pub(crate) struct Commit<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) write_id: &'a str,
    pub(crate) durability: Durability,
}

impl Commit<'_> {
    /// Hashes files that were written, with their lengths, makes them durable, adds them to the
    /// manifest and commits it. `lost` is the error if another writer was first.
    ///
    /// # Errors
    /// `lost`. After `commit-outcome-unknown` the files must stay: a version may name them.
    pub(crate) async fn seal(
        &self,
        manifest: &mut Manifest,
        mut written: Vec<(String, u64)>,
        lost: impl Fn() -> Error,
    ) -> Result<()> {
        written.sort();
        let hash = async |(path, length): &(String, u64)| {
            let blake3 = self.storage.hash(path).await?;
            Ok::<_, Error>(FileEntry { path: path.clone(), length: *length, blake3 })
        };
        let hashed = stream::iter(written.iter().map(hash)).buffered(FILES_AT_ONCE);
        manifest.files.extend(hashed.try_collect::<Vec<_>>().await?);
        if !written.is_empty() {
            written.extend(self.write_heads(manifest, &written).await?);
        }
        let durable = self.durability == Durability::Full;
        if durable {
            self.storage.sync(&written.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>())?;
        }
        let staging = survey::staging(self.write_id);
        versions::commit(self.storage, manifest, &staging, durable, lost).await?;
        if durable {
            self.storage.sync(&[&versions::path(manifest.version)]).map_err(|e| {
                let what = format!("version {} is there, but may not survive a power loss: {e}", manifest.version);
                Error::new(ErrorKind::CommitOutcomeUnknown, what).with_source(e)
            })?;
        }
        Ok(())
    }
}

impl Commit<'_> {
    /// Writes the heads of the files of a version, of which `written` are new, and names them in place of those
    /// before.
    async fn write_heads(&self, manifest: &mut Manifest, written: &[(String, u64)]) -> Result<Option<(String, u64)>> {
        let before = heads::of_version(self.storage, manifest).await?;
        manifest.heads = None;
        // Also those that a writer has left here which does not know them.
        manifest.files.retain(|file| !file.path.starts_with(survey::HEADS));
        let new: HashSet<&str> = written.iter().map(|(path, _)| path.as_str()).collect();
        // Others may have written for a conversion, which has no version before it.
        let is_new = |path: &str| manifest.lineage.is_empty() || new.contains(path);
        let Some(content) = heads::collect(self.storage, manifest, is_new, &before).await? else { return Ok(None) };
        let (path, length) = (survey::heads(self.write_id), content.len() as u64);
        let blake3 = blake3::hash(&content).to_hex().to_string();
        self.storage.write(&path, content).await?;
        manifest.files.push(FileEntry { path: path.clone(), length, blake3 });
        manifest.heads = Some(path.clone());
        Ok(Some((path, length)))
    }
}

/// The first files of a list, for a message.
fn some_of(files: &[String]) -> String {
    let more = if files.len() > 3 { ", ..." } else { "" };
    files.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ") + more
}

/// Refuses inputs that lie inside of the target, or are the target.
fn refuse_inside(inputs: &[&Path], root: &Path) -> Result<()> {
    let Ok(target) = root.canonicalize() else { return Ok(()) };
    for input in inputs {
        if input.canonicalize().is_ok_and(|i| i.starts_with(&target)) {
            let what = format!("lies inside of the target {}: choose another target", root.display());
            return Err(Error::invalid(what).at(input.display()));
        }
    }
    Ok(())
}

/// Refuses a target inside of a store: whoever replaces or checks that one would find it foreign.
async fn refuse_in_store(storage: &Storage) -> Result<()> {
    let store = match storage.local() {
        Some(root) => slaf_ingest::store_around(folder_of(root)).map(|s| s.display().to_string()),
        None => storage.store_around().await?,
    };
    match store {
        Some(store) => {
            let what = format!("lies inside of the store {store}: choose another target");
            Err(Error::invalid(what).at(storage.uri()))
        }
        None => Ok(()),
    }
}

/// Files that are open during a write: its mark, whose lock tells others that the writer lives, and
/// spare ones that are closed before a failed write is cleaned up. Removing a folder opens it, and
/// the limit of open files may be why the write failed.
pub(crate) struct Held {
    mark: Mutex<Option<File>>,
    spare: Mutex<Vec<File>>,
}

impl Held {
    /// Opens some, or as many as the limit lets.
    pub(crate) fn reserve() -> Held {
        const ENOUGH: usize = 4;
        let spare = (0..ENOUGH).map_while(|_| File::open("/dev/null").ok()).collect();
        Held { mark: Mutex::default(), spare: Mutex::new(spare) }
    }

    pub(crate) fn keep(&self, mark: Option<File>) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    pub(crate) fn release_files(&self) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn release(&self) {
        self.keep(None);
    }
}

/// Removes a folder and those in it, as far as they are empty.
pub(crate) fn remove_empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}
