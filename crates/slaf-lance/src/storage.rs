//! Files of a store, on a local disk or in an object store, by paths relative to its root.

use crate::error::from_object_store;
use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use lance::io::{ObjectStore, ObjectStoreParams, ObjectStoreRegistry, StorageOptionsAccessor};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
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
        let local = match uri.strip_prefix("file://") {
            Some(path) => Some(PathBuf::from(path)),
            None if uri.contains("://") => None,
            None => Some(std::path::absolute(uri)?),
        };
        let absolute = match &local {
            Some(path) => path
                .to_str()
                .ok_or_else(|| Error::invalid(format!("{}: the path is not valid UTF-8", path.display())))?
                .to_string(),
            None => uri.to_string(),
        };
        let params = Self::params(options);
        let connect = ObjectStore::from_uri_and_params(Arc::new(ObjectStoreRegistry::default()), &absolute, &params);
        let (store, base) = connect.boxed().await.map_err(crate::error::from_lance).at(uri)?;
        Ok(Storage { uri: absolute, store, base, options: options.clone(), local })
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

    pub async fn write(&self, relative: &str, content: Bytes) -> Result<()> {
        self.store
            .inner
            .put(&self.path(relative), PutPayload::from_bytes(content))
            .await
            .map_err(from_object_store)
            .at(self.full(relative))?;
        Ok(())
    }

    /// Creates a file; `already-exists` if there is one.
    pub async fn put_if_absent(&self, relative: &str, content: Bytes) -> Result<()> {
        self.store
            .put_if_absent(&self.path(relative), PutPayload::from_bytes(content))
            .boxed()
            .await
            .map_err(from_object_store)
            .at(self.full(relative))
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
        .filter_map(|f| {
            let parts: Vec<_> = f.location.prefix_match(&self.base)?.map(|p| p.as_ref().to_string()).collect();
            Some((parts.join("/"), f.size))
        })
        .collect::<Vec<_>>();
        files.sort();
        Ok(files)
    }

    /// Files of interrupted writes on a local disk, by their paths there. [`Storage::list`] does not
    /// give them: the object store hides the name that a file has until it is whole, `name#1`.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders: Vec<PathBuf> = self.local().filter(|root| root.is_dir()).cloned().into_iter().collect();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).at(folder.display())? {
                let entry = entry.at(folder.display())?;
                if entry.file_type().at(folder.display())?.is_dir() {
                    folders.push(entry.path());
                } else if is_unfinished(&entry.file_name().to_string_lossy()) {
                    files.push(entry.path());
                }
            }
        }
        Ok(files)
    }

    /// The BLAKE3 hash of a file's content, in hex.
    pub async fn hash(&self, relative: &str) -> Result<String> {
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

    pub async fn delete(&self, relative: &str) -> Result<()> {
        self.store.inner.delete(&self.path(relative)).await.map_err(from_object_store).at(self.full(relative))
    }

    /// Makes the files, and the folders that hold them, survive a power loss. Object stores
    /// acknowledge durable writes, so that only a local disk has work here.
    pub fn sync(&self, files: &[&str]) -> Result<()> {
        let Some(root) = self.local() else { return Ok(()) };
        let mut folders = std::collections::BTreeSet::new();
        for file in files {
            let path = root.join(file);
            std::fs::File::open(&path).and_then(|f| f.sync_all()).at(path.display())?;
            folders.extend(path.ancestors().skip(1).take_while(|a| a.starts_with(root)).map(PathBuf::from));
        }
        folders.extend(root.parent().map(PathBuf::from));
        for folder in folders.iter().rev() {
            std::fs::File::open(folder).and_then(|f| f.sync_all()).at(folder.display())?;
        }
        Ok(())
    }
}

fn is_unfinished(name: &str) -> bool {
    let number = name.split_once('#').map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}
