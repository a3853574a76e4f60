//! Files of a store, on a local disk or in an object store, by paths relative to its root.

use crate::error::from_object_store;
use crate::first_touch::Identity;
use crate::options;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lance::io::{ObjectStore, ObjectStoreParams, ObjectStoreRegistry, StorageOptionsAccessor};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use slaf_core::uri::local_path;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// The root of a store.
#[derive(Clone, Debug)]
pub struct Storage {
    uri: String,
    store: Arc<ObjectStore>,
    base: Path,
    options: HashMap<String, String>,
    /// The folder, where the store is on a local disk.
    local: Option<PathBuf>,
}

impl Storage {
    /// Does not touch the store.
    pub async fn new(uri: &str, options: &HashMap<String, String>) -> Result<Storage> {
        let uri = uri.trim_end_matches('/');
        if uri.is_empty() {
            return Err(Error::invalid("an empty path"));
        }
        if uri.starts_with("hf://") {
            return Err(Error::new(
                ErrorKind::UnsupportedFeature,
                "hf:// paths are not supported by this build: download the store, or use s3://, gs:// or az://",
            ));
        }
        let local = local_path(uri)?.map(std::path::absolute).transpose()?;
        let absolute = match &local {
            Some(path) => path
                .to_str()
                .ok_or_else(|| Error::invalid(format!("{}: the path is not valid UTF-8", path.display())))?
                .to_string(),
            None => uri.to_string(),
        };
        let options = options::checked(&absolute, local.is_some(), options)?;
        let params = Self::params(&options);
        let connect = ObjectStore::from_uri_and_params(Arc::new(ObjectStoreRegistry::default()), &absolute, &params);
        let (store, base) = connect.boxed().await.map_err(crate::error::from_lance).at(uri)?;
        Ok(Storage { uri: absolute, store, base, options, local })
    }

    fn params(options: &HashMap<String, String>) -> ObjectStoreParams {
        ObjectStoreParams {
            storage_options_accessor: (!options.is_empty())
                .then(|| Arc::new(StorageOptionsAccessor::with_static_options(options.clone()))),
            ..Default::default()
        }
    }

    pub fn object_store_params(&self) -> ObjectStoreParams {
        Self::params(&self.options)
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    pub fn options(&self) -> &HashMap<String, String> {
        &self.options
    }

    pub fn local(&self) -> Option<&PathBuf> {
        self.local.as_ref()
    }

    /// The address of a file or table for messages and for Lance.
    pub fn full(&self, relative: &str) -> String {
        format!("{}/{relative}", self.uri)
    }

    fn path(&self, relative: &str) -> Path {
        relative.split('/').filter(|s| !s.is_empty()).fold(self.base.clone(), |p, s| p.join(s))
    }

    pub async fn read(&self, relative: &str) -> Result<Bytes> {
        let get = async { self.store.inner.get(&self.path(relative)).await?.bytes().await };
        get.await.map_err(from_object_store).at(self.full(relative))
    }

    /// Whether the root is a single file.
    pub async fn is_file(&self) -> Result<bool> {
        if let Some(path) = self.local() {
            return Ok(path.is_file());
        }
        match self.store.inner.head(&self.base).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(from_object_store(e)).at(&self.uri),
        }
    }

    /// The address of a store in an object store that the root lies in.
    pub async fn store_around(&self) -> Result<Option<String>> {
        let parts: Vec<_> = self.base.parts().collect();
        for n in 0..parts.len() {
            let around = parts[..n].iter().cloned().collect::<Path>();
            let versions = around.clone().join("_slaf").join("versions");
            match self.store.inner.list(Some(&versions)).next().await {
                None => {}
                Some(Ok(_)) => {
                    let root = self.uri.strip_suffix(self.base.as_ref()).unwrap_or(&self.uri);
                    return Ok(Some(format!("{root}{around}")));
                }
                Some(Err(e)) => match from_object_store(e) {
                    // Who may not look there has no store there.
                    e if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
                    e => return Err(e.at(&self.uri)),
                },
            }
        }
        Ok(None)
    }

    pub async fn write(&self, relative: &str, content: Bytes) -> Result<()> {
        self.store
            .inner
            .put(&self.path(relative), PutPayload::from_bytes(content))
            .await
            .map_err(from_object_store)
            .at(self.full(relative))?;
        Ok(())
    }

    /// Creates a file, whole or not at all; `already-exists` if there is one. On a local disk it
    /// grows under the name `staging`, and is synced before it appears if it is to be `durable`.
    pub async fn create(&self, relative: &str, content: Bytes, staging: &str, durable: bool) -> Result<()> {
        let Some(root) = self.local() else {
            let path = self.path(relative);
            let created = self.store.put_if_absent(&path, PutPayload::from_bytes(content)).boxed().await;
            return created.map_err(from_object_store).at(self.full(relative));
        };
        let (path, staged) = (root.join(relative), root.join(staging));
        let create = || {
            let mut file = create_with_folders(&staged)?;
            file.write_all(&content)?;
            if durable {
                file.sync_all()?;
            }
            drop(file);
            with_folders(&path, || std::fs::hard_link(&staged, &path))
        };
        let created = create().at(self.full(relative));
        // What stays of it is known by its name.
        let _ = std::fs::remove_file(&staged);
        created
    }

    /// All files below a folder, with their lengths, by paths relative to the root; none if there
    /// is no such folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let prefix = self.path(folder);
        let listed: std::result::Result<Vec<_>, _> = self.store.inner.list(Some(&prefix)).try_collect().await;
        let mut files = match listed {
            Ok(files) => files,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(e) => return Err(from_object_store(e)).at(self.full(folder)),
        }
        .into_iter()
        .filter_map(|f| Some((self.relative(&f.location)?, f.size)))
        .collect::<Vec<_>>();
        files.sort();
        Ok(files)
    }

    /// The paths of at most `limit` files below the root. Unlike [`Storage::list`], on a local disk
    /// this gives links, which are not followed, and files that are not whole yet, `name#1`.
    pub async fn everything(&self, limit: usize) -> Result<Vec<String>> {
        let Some(root) = self.local() else {
            let found = self.store.inner.list(Some(&self.base)).take(limit).try_collect::<Vec<_>>();
            let found = found.await.map_err(from_object_store).at(&self.uri)?;
            return Ok(found.iter().filter_map(|f| self.relative(&f.location)).collect());
        };
        let mut files = Vec::new();
        let mut folders: Vec<String> = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(root.join(&folder)) {
                // Nothing there, or somebody has just removed it.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.at(self.full(&folder))?,
            };
            for entry in entries {
                let entry = entry.at(self.full(&folder))?;
                let name = entry.file_name();
                let path = match folder.as_str() {
                    "" => name.to_string_lossy().into_owned(),
                    folder => format!("{folder}/{}", name.to_string_lossy()),
                };
                if entry.file_type().at(self.full(&path))?.is_dir() {
                    folders.push(path);
                } else if files.len() < limit {
                    files.push(path);
                } else {
                    return Ok(files);
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// The path of a file below the root.
    fn relative(&self, location: &Path) -> Option<String> {
        let parts: Vec<_> = location.prefix_match(&self.base)?.map(|p| p.as_ref().to_string()).collect();
        Some(parts.join("/"))
    }

    /// The BLAKE3 hash of a file's content, in hex.
    pub async fn hash(&self, relative: &str) -> Result<String> {
        if let Some(root) = self.local() {
            let path = root.join(relative);
            let hash = tokio::task::spawn_blocking(move || hash_local(&path)).await;
            let hash = hash.map_err(|e| Error::new(ErrorKind::Internal, format!("a reader stopped: {e}")))?;
            return Ok(hash.at(self.full(relative))?.to_hex().to_string());
        }
        let mut hasher = blake3::Hasher::new();
        let read = async {
            let mut stream = self.store.inner.get(&self.path(relative)).await?.into_stream();
            while let Some(part) = stream.try_next().await? {
                hasher.update(&part);
            }
            Ok(())
        };
        read.await.map_err(from_object_store).at(self.full(relative))?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// What tells the file from another one in its place.
    pub async fn identity(&self, relative: &str) -> Result<Identity> {
        let head = self.store.inner.head(&self.path(relative)).await;
        let meta = head.map_err(from_object_store).at(self.full(relative))?;
        let file = self.full(relative);
        Ok(Identity { file, length: meta.size, modified: meta.last_modified.into(), tag: meta.e_tag })
    }

    /// Removes all that is below a folder, and the folder itself on a local disk.
    pub async fn remove(&self, folder: &str) -> Result<()> {
        match self.local() {
            Some(root) => match std::fs::remove_dir_all(root.join(folder)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at(self.full(folder)),
                _ => Ok(()),
            },
            None => {
                for (file, _) in self.list(folder).await? {
                    self.delete(&file).await?;
                }
                Ok(())
            }
        }
    }

    /// Removes a file, if it is there.
    pub async fn delete(&self, relative: &str) -> Result<()> {
        // The object store does not take the name of a file that is not whole.
        if let Some(root) = self.local() {
            return match std::fs::remove_file(root.join(relative)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at(self.full(relative)),
                _ => Ok(()),
            };
        }
        match self.store.inner.delete(&self.path(relative)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(from_object_store(e)).at(self.full(relative)),
        }
    }

    /// Makes the files, and the folders that hold them, survive a power loss. Object stores
    /// acknowledge durable writes, so that only a local disk has work here.
    pub fn sync(&self, files: &[&str]) -> Result<()> {
        let Some(root) = self.local() else { return Ok(()) };
        let mut folders = std::collections::BTreeSet::new();
        for file in files {
            let path = root.join(file);
            File::open(&path).and_then(|f| f.sync_all()).at(path.display())?;
            folders.extend(path.ancestors().skip(1).take_while(|a| a.starts_with(root)).map(PathBuf::from));
        }
        folders.extend(root.parent().map(PathBuf::from));
        for folder in folders.iter().rev() {
            File::open(folder).and_then(|f| f.sync_all()).at(folder.display())?;
        }
        Ok(())
    }
}

/// A new file, and its folders.
pub fn create_with_folders(path: &std::path::Path) -> std::io::Result<File> {
    with_folders(path, || OpenOptions::new().write(true).create_new(true).open(path))
}

/// Makes the folders of a path as often as it takes: somebody may remove them while they are empty.
fn with_folders<T>(path: &std::path::Path, make: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut left = 100;
    loop {
        match make() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && left > 0 => left -= 1,
            done => return done,
        }
        match path.parent().map_or(Ok(()), std::fs::create_dir_all) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
}

/// Reads in large parts: the object store's stream of a local file has small ones, each a task.
fn hash_local(path: &std::path::Path) -> std::io::Result<blake3::Hash> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(n) => {
                hasher.update(&part[..n]);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
