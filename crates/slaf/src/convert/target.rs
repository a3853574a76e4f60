//! Where a conversion writes: a new store, or the next version of one that it replaces.

use super::ConvertOptions;
use crate::Durability;
use crate::manifest::{self, FileEntry, Manifest};
use crate::manifest_check::next_version;
use bytes::Bytes;
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_lance::Storage;
use slaf_lance::runtime::block_on;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A place for the tables of one write.
pub(super) struct Target {
    pub(super) storage: Storage,
    pub(super) version: u64,
    pub(super) write_id: String,
    durability: Durability,
    /// Files that were there before; they go when the new version is committed.
    replaced: Vec<String>,
    /// Files of interrupted writes; they go with what is replaced.
    unfinished: Vec<PathBuf>,
    /// The versions that the new one replaces.
    old_versions: Vec<u64>,
    /// Whether the folder itself is ours.
    fresh: bool,
    spare: SpareFiles,
}

impl Target {
    /// Checks that the target may be written. Nothing is created.
    pub(super) async fn prepare(output: &str, options: &ConvertOptions) -> Result<Target> {
        let storage = Storage::new(output, &options.storage_options).await?;
        let there = storage.list("").await?;
        let exists = !there.is_empty() || storage.local().is_some_and(|p| p.exists());
        let old_versions = manifest::versions(&storage).await?;
        if exists {
            let ours = there.iter().any(|(f, _)| f.starts_with("_slaf/"))
                || storage.local().is_some_and(|p| p.join("_slaf").is_dir())
                || (there.is_empty() && storage.local().is_none_or(|p| p.is_dir()));
            let error = |what: &str| Error::new(ErrorKind::AlreadyExists, what).at(storage.uri());
            if !options.overwrite {
                return Err(error("exists already; choose another name or pass --overwrite (overwrite=True)"));
            }
            if !ours {
                return Err(error("exists and is not a SLAF store: it is not overwritten; remove it yourself"));
            }
        }
        let is_version = |f: &String| old_versions.iter().any(|v| *f == manifest::path(*v));
        Ok(Target {
            spare: SpareFiles::reserve(),
            version: next_version(&old_versions).at(storage.uri())?,
            write_id: uuid::Uuid::new_v4().simple().to_string(),
            durability: options.durability,
            replaced: there.into_iter().map(|(f, _)| f).filter(|f| !is_version(f)).collect(),
            unfinished: storage.unfinished()?,
            old_versions,
            fresh: !exists,
            storage,
        })
    }

    /// Marks the folder as a store that is being written: what an interrupted conversion leaves
    /// is known for what it is, and may be overwritten.
    pub(super) async fn begin(&self) -> Result<()> {
        self.storage.write(&self.mark(), Bytes::from_static(b"a conversion is under way, or was interrupted\n")).await
    }

    fn mark(&self) -> String {
        format!("_slaf/writing/{}", self.write_id)
    }

    /// The folder of a table of this write.
    pub(super) fn table(&self, name: &str) -> String {
        if self.replaced.is_empty() { format!("{name}.lance") } else { format!("{name}-{}.lance", &self.write_id[..8]) }
    }

    fn is_new(&self, file: &str) -> bool {
        !file.starts_with("_slaf/versions/") && self.replaced.binary_search_by(|r| r.as_str().cmp(file)).is_err()
    }

    /// Lists and hashes the new files, makes them durable and commits the manifest.
    pub(super) async fn commit(&self, manifest: &mut Manifest) -> Result<()> {
        let files: Vec<_> =
            self.storage.list("").await?.into_iter().filter(|(f, _)| self.is_new(f) && *f != self.mark()).collect();
        for (path, length) in &files {
            let blake3 = self.storage.hash(path).await?;
            manifest.files.push(FileEntry { path: path.clone(), length: *length, blake3 });
        }
        if self.durability == Durability::Full {
            self.storage.sync(&files.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>())?;
        }
        manifest::commit(&self.storage, manifest).await?;
        if self.durability == Durability::Full {
            self.storage.sync(&[&manifest::path(manifest.version)])?;
        }
        Ok(())
    }

    /// Removes what the committed version replaces. What cannot be removed is only left over.
    pub(super) fn committed(&self) {
        self.spare.release();
        let _ = block_on(async {
            self.storage.delete(&self.mark()).await?;
            for version in &self.old_versions {
                self.storage.delete(&manifest::path(*version)).await?;
            }
            for file in &self.replaced {
                self.storage.delete(file).await?;
            }
            for file in &self.unfinished {
                std::fs::remove_file(file)?;
            }
            Ok(())
        });
        if let Some(root) = self.storage.local() {
            remove_empty_folders(root);
        }
    }

    /// Removes what a failed write left behind.
    pub(super) fn abandon(&self) {
        self.spare.release();
        let _ = block_on(async {
            if self.fresh {
                return self.storage.remove("").await;
            }
            for (file, _) in self.storage.list("").await? {
                if self.is_new(&file) {
                    self.storage.delete(&file).await?;
                }
            }
            Ok(())
        });
        if let Some(root) = self.storage.local().filter(|_| !self.fresh) {
            remove_empty_folders(root);
        }
    }
}

/// Open files that are closed before a failed write is cleaned up: removing a folder opens it, and
/// the limit of open files may be why the write failed.
struct SpareFiles(Mutex<Vec<File>>);

impl SpareFiles {
    /// Opens some, or as many as the limit lets.
    fn reserve() -> SpareFiles {
        const ENOUGH: usize = 4;
        SpareFiles(Mutex::new((0..ENOUGH).map_while(|_| File::open("/dev/null").ok()).collect()))
    }

    fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Removes the empty folders below a folder.
fn remove_empty_folders(root: &std::path::Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_empty_folders(&entry.path());
            // Fails, as it should, for a folder that is not empty.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
