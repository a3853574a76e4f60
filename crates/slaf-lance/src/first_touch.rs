//! Files compared with their committed hashes before they are first used.

use crate::identity::Identity;
use crate::storage::Storage;
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;

/// Files that are hashed at once.
const FILES_AT_ONCE: usize = 8;

/// A file that changed a moment ago may change again within the same tick of its clock: only older
/// ones are known by their time.
const SETTLED: Duration = Duration::from_secs(2);

/// Files of this process that had the hash that they should have.
static KNOWN: Mutex<Option<HashSet<(Identity, String)>>> = Mutex::new(None);

fn known<T>(look: impl FnOnce(&mut HashSet<(Identity, String)>) -> T) -> T {
    look(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// The files of one version of a store, each compared once: on its first use.
///
/// Handles of one process share what they know of a file that has the same identity (address,
/// length, time, entity tag).
#[derive(Debug)]
pub struct FirstTouch {
    storage: Storage,
    /// Length and BLAKE3 of each file.
    files: HashMap<String, (u64, String)>,
    done: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
}

impl FirstTouch {
    /// `files`: path below the root, length and BLAKE3 in hexadecimal.
    pub fn new(storage: Storage, files: impl IntoIterator<Item = (String, u64, String)>) -> FirstTouch {
        let files = files.into_iter().map(|(path, length, hash)| (path, (length, hash))).collect();
        FirstTouch { storage, files, done: Mutex::default() }
    }

    /// Compares files that were not compared before, some at once.
    ///
    /// # Errors
    /// `corrupt` that names a file that differs, is missing or is not of this version; those of the
    /// storage.
    pub async fn check(&self, paths: Vec<String>) -> Result<()> {
        let checks = stream::iter(paths.into_iter().map(|path| self.once(path)));
        checks.buffer_unordered(FILES_AT_ONCE).try_collect().await
    }

    async fn once(&self, path: String) -> Result<()> {
        let cell = {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(done.entry(path.clone()).or_default())
        };
        cell.get_or_try_init(|| self.compare(&path)).await.copied()
    }

    async fn compare(&self, path: &str) -> Result<()> {
        let differs = |what: String| {
            Error::corrupt(format!("{what} (`slaf verify` checks the whole store)")).at(self.storage.full(path))
        };
        let Some((length, hash)) = self.files.get(path) else {
            return Err(differs("is no file of this version".into()));
        };
        let identity = self.storage.identity(path).await.map_err(crate::error::while_reading)?;
        if identity.length != *length {
            return Err(differs(format!("{} bytes, not {length}", identity.length)));
        }
        let entry = (identity, hash.clone());
        if known(|k| k.contains(&entry)) {
            return Ok(());
        }
        let begin = SystemTime::now();
        if self.storage.hash(path).await.map_err(crate::error::while_reading)? != *hash {
            return Err(differs("its content has changed".into()));
        }
        if begin.duration_since(entry.0.modified).is_ok_and(|age| age > SETTLED) {
            known(|k| k.insert(entry));
        }
        Ok(())
    }
}
