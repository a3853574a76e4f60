//! Files of a store, on a local disk or in an object store, by paths relative to its root.
//!
//! What is behind is an `object_store::ObjectStore`, the same for SLAF and for Lance, under layers:
//! one that watches it, one that counts, and those that tests add. On a local disk files are reached directly where
//! that gives more than the trait does: links, locks, syncing.

use crate::blocks::{Blocks, Doubt, Head};
use crate::durable;
use crate::error::from_object_store;
use crate::identity::Identity;
use crate::layer::Layer;
use crate::layers::Layers;
use crate::meter::{IoStats, Meter};

use crate::options;
use crate::watch::Watch;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lance::io::{ObjectStore, ObjectStoreParams, ObjectStoreRegistry, StorageOptionsAccessor, WrappingObjectStore};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use slaf_core::uri::local_path;
use slaf_core::{Context, Error, ErrorKind, Result, cause};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Layers that tests put over all stores whose address begins so, the innermost first.
static LAYERS: Mutex<Vec<(String, Arc<dyn Layer>)>> = Mutex::new(Vec::new());

/// Takes its layer away when it is dropped.
#[derive(Debug)]
pub struct LayerGuard(Arc<dyn Layer>);

/// Puts a layer over the stores that are opened from this moment on, in this process, and whose
/// address begins with `prefix`; not over a local disk, which is not reached through one.
pub fn add_layer(prefix: &str, layer: Arc<dyn Layer>) -> LayerGuard {
    LAYERS.lock().unwrap_or_else(PoisonError::into_inner).push((prefix.to_string(), layer.clone()));
    LayerGuard(layer)
}

impl Drop for LayerGuard {
    fn drop(&mut self) {
        LAYERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, layer)| !Arc::ptr_eq(layer, &self.0));
    }
}

/// The root of a store.
#[derive(Clone, Debug)]
pub struct Storage {
    uri: String,
    store: Arc<ObjectStore>,
    base: Path,
    options: HashMap<String, String>,
    /// The address with the server that answers: by it blocks are known.
    place: String,
    /// The folder, where the store is on a local disk.
    local: Option<PathBuf>,
    /// Where it is not.
    watch: Option<Arc<Watch>>,
    meter: Arc<Meter>,
    /// What lies over the store where Lance reads it.
    cached: Option<Arc<Layers>>,
    /// What is kept of it.
    blocks: Option<Arc<Blocks>>,
}

impl Storage {
    /// Does not touch the store.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn new(uri: &str, options: &HashMap<String, String>) -> Result<Storage> {
        let uri = uri.trim_end_matches('/');
        if uri.is_empty() {
            return Err(Error::invalid("an empty path"));
        }
        if uri.starts_with("hf://") {
            return Err(Error::new(
                ErrorKind::UnsupportedFeature,
                "hf:// addresses are not supported: download the store, or use s3://, gs:// or az://",
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
        let watch = match local {
            Some(_) => None,
            None => Some(Arc::new(Watch::new(&absolute, &options)?)),
        };
        let meter = Arc::new(Meter::default());
        let layers = watch.clone().map(|watch| {
            let added = LAYERS.lock().unwrap_or_else(PoisonError::into_inner);
            let added = added.iter().filter(|(prefix, _)| absolute.starts_with(prefix)).map(|(_, layer)| layer.clone());
            let layers = added.chain([meter.clone() as Arc<dyn Layer>, watch]).collect();
            Arc::new(Layers { layers, blocks: None })
        });
        let blocks = layers.as_ref().map(|_| Blocks::from_env(&meter)).transpose()?.flatten().map(Arc::new);
        let cached = layers.as_ref().map(|l| Arc::new(Layers { layers: l.layers.clone(), blocks: blocks.clone() }));
        let params = Self::params(&options, &layers);
        let connect = ObjectStore::from_uri_and_params(Arc::new(ObjectStoreRegistry::default()), &absolute, &params);
        let (store, base) = connect.boxed().await.map_err(crate::error::from_lance).at(uri)?;
        let place = options::place(&absolute, &options);
        Ok(Storage { uri: absolute, store, base, options, place, local, watch, meter, cached, blocks })
    }

    fn params(options: &HashMap<String, String>, layers: &Option<Arc<Layers>>) -> ObjectStoreParams {
        ObjectStoreParams {
            object_store_wrapper: layers.clone().map(|l| l as Arc<dyn WrappingObjectStore>),
            storage_options_accessor: (!options.is_empty())
                .then(|| Arc::new(StorageOptionsAccessor::with_static_options(options.clone()))),
            ..Default::default()
        }
    }

    /// Takes files of the store, by path, length and BLAKE3 in hexadecimal, for ones that never change:
    /// what is read of them is kept.
    pub fn know_files<'a>(&self, files: impl Iterator<Item = (&'a str, u64, &'a str)>) {
        if let Some(blocks) = &self.blocks {
            blocks.know(&self.place, files.map(|(path, length, hash)| (self.path(path), length, hash)));
        }
    }

    /// Whether heads of so many bytes are of use here: where nothing is kept, and on a local disk, they are not.
    pub fn takes_heads(&self, bytes: u64) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| bytes <= blocks.longest_heads())
    }

    /// Takes the heads of files, by BLAKE3 of each: what is in them is not asked for.
    pub fn put_heads(&self, heads: impl Iterator<Item = ([u8; 32], Head)>) {
        if let Some(blocks) = &self.blocks {
            blocks.put_heads(&self.place, heads);
        }
    }

    /// Reads parts of a file that will be asked for one after another, close ones in one request.
    pub(crate) async fn read_ahead(&self, path: &Path, ranges: &[Range<u64>]) -> Result<()> {
        let Some(blocks) = &self.blocks else { return Ok(()) };
        blocks.read_ahead(&*self.store.inner, path, ranges).await.map_err(from_object_store)
    }

    /// The files below a folder of which something may be damaged; `None` if nothing of them is kept.
    pub fn doubt(&self, folder: &str) -> Option<Doubt> {
        self.blocks.clone().map(|blocks| Doubt { blocks, folder: self.path(folder) })
    }

    /// What Lance opens the same store with: its options, layers and blocks.
    pub fn object_store_params(&self) -> ObjectStoreParams {
        Self::params(&self.options, &self.cached)
    }

    /// What was asked of the object store through this and its clones; nothing for a local disk,
    /// whose files are not reached by requests.
    pub fn io_stats(&self) -> IoStats {
        self.meter.stats()
    }

    /// What tables are written through.
    pub(crate) fn object_store(&self) -> &Arc<ObjectStore> {
        &self.store
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Runs something that needs the store, also by waiting for others that do.
    ///
    /// # Errors
    /// `io` if the store does not answer; those of `work`.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(watch) = &self.watch else { return work.await };
        let started = Instant::now();
        match watch.guard(work).await {
            Err(e) if watch.is_unexplained(started) => {
                // A listing says what the answer to another request has no place for.
                let why = async {
                    let mut list = self.store.inner.list(Some(&self.base));
                    list.next().await.transpose().map_err(from_object_store)
                };
                match watch.guard(why).await {
                    Err(why) if why.kind() == ErrorKind::PermissionDenied => Err(why.with_source(e)),
                    _ => Err(e),
                }
            }
            done => done,
        }
    }

    /// Asks the object store.
    async fn ask<T>(&self, place: &str, work: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        self.guard(async { work.await.map_err(from_object_store) }).await.at(place)
    }

    /// The address of the root, without a slash at its end.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The folder of a root on a local disk.
    pub fn local(&self) -> Option<&PathBuf> {
        self.local.as_ref()
    }

    /// The address of a file or table for messages and for Lance.
    pub fn full(&self, relative: &str) -> String {
        format!("{}/{relative}", self.uri)
    }

    pub(crate) fn path(&self, relative: &str) -> Path {
        relative.split('/').filter(|s| !s.is_empty()).fold(self.base.clone(), |p, s| p.join(s))
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// `not-found`, `permission-denied` or `io`, naming the file.
    pub async fn read(&self, relative: &str) -> Result<Bytes> {
        let get = async { self.store.inner.get(&self.path(relative)).await?.bytes().await };
        self.ask(&self.full(relative), get).await
    }

    /// Some bytes of a file.
    ///
    /// # Errors
    /// As [`Storage::read`]; `corrupt` for bytes behind its end.
    pub async fn read_range(&self, relative: &str, range: Range<u64>) -> Result<Bytes> {
        self.read_part(relative, range, self.blocks.as_deref()).await
    }

    /// Some bytes of a file as they are now, whatever is kept of it.
    ///
    /// # Errors
    /// As [`Storage::read_range`].
    pub async fn read_anew(&self, relative: &str, range: Range<u64>) -> Result<Bytes> {
        self.read_part(relative, range, None).await
    }

    async fn read_part(&self, relative: &str, range: Range<u64>, blocks: Option<&Blocks>) -> Result<Bytes> {
        let path = self.path(relative);
        let length = range.end - range.start;
        let read = async {
            if let Some(blocks) = blocks
                && let Some(bytes) = blocks.read(&*self.store.inner, &path, range.clone()).boxed().await?
            {
                return Ok(bytes);
            }
            self.store.inner.get_range(&path, range).await
        };
        let bytes = self.ask(&self.full(relative), read).await?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(Error::corrupt("it ends too early").at(self.full(relative))),
        }
    }

    /// Whether the root is a single file.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_file(&self) -> Result<bool> {
        if let Some(path) = self.local() {
            return Ok(path.is_file());
        }
        match self.ask(&self.uri, self.store.inner.head(&self.base)).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether there is a file.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn exists(&self, relative: &str) -> Result<bool> {
        match self.ask(&self.full(relative), self.store.inner.head(&self.path(relative))).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The address of a store in an object store that the root lies in.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn store_around(&self) -> Result<Option<String>> {
        let parts: Vec<_> = self.base.parts().collect();
        for n in 0..parts.len() {
            let around = parts[..n].iter().cloned().collect::<Path>();
            let versions = around.clone().join("_slaf").join("versions");
            let mut first = self.store.inner.list(Some(&versions));
            match self.ask(&self.uri, async { first.next().await.transpose() }).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    let root = self.uri.strip_suffix(self.base.as_ref()).unwrap_or(&self.uri);
                    return Ok(Some(format!("{root}{around}")));
                }
                // Who may not look there has no store there.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Writes a file, in place of one that is there.
    ///
    /// # Errors
    /// `permission-denied` or `io`, naming the file.
    pub async fn write(&self, relative: &str, content: Bytes) -> Result<()> {
        let path = self.path(relative);
        let put = self.store.inner.put(&path, PutPayload::from_bytes(content));
        self.ask(&self.full(relative), put).await?;
        Ok(())
    }

    /// Creates a file, whole or not at all; `already-exists` if there is one. On a local disk it
    /// grows under the name `staging`, and is synced before it appears if it is to be `durable`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn create(&self, relative: &str, content: Bytes, staging: &str, durable: bool) -> Result<()> {
        let Some(root) = self.local() else {
            let path = self.path(relative);
            let create = self.store.put_if_absent(&path, PutPayload::from_bytes(content)).boxed();
            return self.ask(&self.full(relative), create).await;
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
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let prefix = self.path(folder);
        let listed = self.store.inner.list(Some(&prefix)).try_collect::<Vec<_>>();
        let mut files = match self.ask(&self.full(folder), listed).await {
            Err(e) if e.kind() == ErrorKind::NotFound && !is_no_bucket(&e) => Vec::new(),
            listed => listed?,
        }
        .into_iter()
        .filter_map(|f| Some((self.relative(&f.location)?, f.size)))
        .collect::<Vec<_>>();
        files.sort();
        Ok(files)
    }

    /// At most `limit` files below a folder, the first ones by their paths, of those behind `after`; as
    /// [`Storage::list`] in an object store, which answers it in pages.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_some(&self, folder: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let prefix = self.path(folder);
        let listed = match after {
            Some(after) => self.store.inner.list_with_offset(Some(&prefix), &self.path(after)),
            None => self.store.inner.list(Some(&prefix)),
        };
        let mut files = match self.ask(&self.full(folder), listed.take(limit).try_collect::<Vec<_>>()).await {
            Err(e) if e.kind() == ErrorKind::NotFound && !is_no_bucket(&e) => Vec::new(),
            listed => listed?,
        }
        .into_iter()
        .filter_map(|f| self.relative(&f.location))
        .collect::<Vec<_>>();
        files.sort();
        Ok(files)
    }

    /// The paths of at most `limit` files below the root. Unlike [`Storage::list`], on a local disk
    /// this gives links, which are not followed, and files that are not whole yet, `name#1`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn everything(&self, limit: usize) -> Result<Vec<String>> {
        let Some(root) = self.local() else {
            let found = self.store.inner.list(Some(&self.base)).take(limit).try_collect::<Vec<_>>();
            let found = self.ask(&self.uri, found).await?;
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

    /// The BLAKE3 hash of a file's content, in hex. What was kept of the file is forgotten: nobody knows
    /// whether it is of this content.
    ///
    /// # Errors
    /// Those of the store.
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
        self.ask(&self.full(relative), read).await?;
        self.doubt(relative).iter().for_each(Doubt::forget);
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// What tells the file from another one in its place.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn identity(&self, relative: &str) -> Result<Identity> {
        let (file, path) = (self.full(relative), self.path(relative));
        let meta = self.ask(&file, self.store.inner.head(&path)).await?;
        Ok(Identity { file, length: meta.size, modified: meta.last_modified.into(), tag: meta.e_tag })
    }

    /// Removes all that is below a folder, and the folder itself on a local disk.
    ///
    /// # Errors
    /// Those of the store.
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
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, relative: &str) -> Result<()> {
        // The object store does not take the name of a file that is not whole.
        if let Some(root) = self.local() {
            return match std::fs::remove_file(root.join(relative)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at(self.full(relative)),
                _ => Ok(()),
            };
        }
        let path = self.path(relative);
        match self.ask(&self.full(relative), self.store.inner.delete(&path)).await {
            Err(e) if e.kind() == ErrorKind::NotFound && !is_no_bucket(&e) => Ok(()),
            done => done,
        }
    }

    /// Makes the files, and the folders that hold them, survive a power loss. Object stores
    /// acknowledge durable writes, so that only a local disk has work here.
    ///
    /// # Errors
    /// Those of the store.
    pub fn sync(&self, files: &[&str]) -> Result<()> {
        self.local().map_or(Ok(()), |root| durable::sync(root, files))
    }
}

/// Whether an error names a missing bucket, and not a missing file.
fn is_no_bucket(error: &Error) -> bool {
    matches!(cause::<object_store::Error>(error), Some(object_store::Error::Generic { .. }))
}

/// A new file, and its folders.
///
/// # Errors
/// Those of the store.
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
