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

    /// Whether the newest version is of a writer that took nothing over from this one.
    async fn is_overwritten(&self) -> bool {
        let newest = versions::load(&self.storage, None).await;
        newest.is_ok_and(|n| {
            n.write_id != self.write_id && (n.version <= self.version || n.tables.cells.path != self.cells)
        })
    }
}

impl Explain for Pinned {
    fn explain(&self, error: Error) -> BoxFuture<'_, Error> {
        let explain = async move {
            if error.kind() != ErrorKind::Corrupt || !self.is_overwritten().await {
                return error;
            }
            let place = error.location().unwrap_or(self.storage.uri()).to_string();
            overwritten().at(place).with_source(error)
        };
        explain.boxed()
    }
}

fn overwritten() -> Error {
    Error::new(ErrorKind::Conflict, "the store was overwritten since it was opened: open it again")
}
