//! Which version a handle has pinned.

use crate::store::manifest::Manifest;
use crate::store::versions;
use futures::FutureExt;
use futures::future::BoxFuture;
use slaf_core::{Error, ErrorKind};
use slaf_lance::{Explain, Storage};

/// The version of a handle, to tell damage from a store that was overwritten.
#[derive(Debug)]
pub(crate) struct Pinned {
    storage: Storage,
    version: u64,
    write_id: String,
    cells: String,
}

impl Pinned {
    pub(crate) fn new(storage: &Storage, manifest: &Manifest) -> Pinned {
        Pinned {
            storage: storage.clone(),
            version: manifest.version,
            write_id: manifest.write_id.clone(),
            cells: manifest.tables.cells.path.clone(),
        }
    }

    /// What happened to the store since it was opened, if that explains missing or foreign files.
    async fn change(&self) -> Option<Error> {
        match versions::load(&self.storage, None).await {
            Ok(newest) if newest.expired.contains(&self.version) => {
                let what = "gc removed this version since it was opened: open a later one";
                Some(Error::new(ErrorKind::Conflict, what))
            }
            Ok(newest) => self.is_replaced_by(&newest).then(|| {
                Error::new(ErrorKind::Conflict, "the store was overwritten since it was opened: open it again")
            }),
            // A store without a version is none.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotAStore) => {
                let what = "the store was removed or moved since it was opened: open it where it is";
                Some(Error::new(ErrorKind::NotFound, what))
            }
            Err(_) => None,
        }
    }

    /// Whether a version is of a writer that took nothing over from this one.
    fn is_replaced_by(&self, newest: &Manifest) -> bool {
        newest.write_id != self.write_id && (newest.version <= self.version || newest.tables.cells.path != self.cells)
    }
}

impl Explain for Pinned {
    fn explain(&self, error: Error) -> BoxFuture<'_, Error> {
        let explain = async move {
            if error.kind() != ErrorKind::Corrupt {
                return error;
            }
            let Some(change) = self.change().await else { return error };
            let place = error.location().unwrap_or(self.storage.uri()).to_string();
            change.at(place).with_source(error)
        };
        explain.boxed()
    }
}
