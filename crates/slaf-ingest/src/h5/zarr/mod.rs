//! Zarr stores of AnnData, versions 2 and 3: groups and arrays as those of an HDF5 file.

mod array;
mod files;
mod types;

pub(super) use array::ZarrArray;
pub(crate) use types::string_type;

use super::attrs::Attrs;
use files::Files;
use serde_json::Value;
use slaf_core::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// A group of the store.
pub(super) struct Folder {
    files: Arc<Files>,
    key: String,
    meta: Meta,
}

/// What is in a group.
pub(super) enum Member {
    Array(Arc<ZarrArray>),
    Folder(Folder),
}

/// What a node of the store says of itself.
struct Meta {
    version: u64,
    attrs: Value,
    /// The description of an array; `None` of a group.
    array: Option<Value>,
}

impl Meta {
    fn read(files: &Files, key: &str) -> Result<Option<Meta>> {
        let file = |name: &str| -> Result<Option<Value>> {
            let name = if key.is_empty() { name.to_owned() } else { format!("{key}/{name}") };
            let Some(bytes) = files.read(&name)? else { return Ok(None) };
            serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::malformed(format!("not JSON: {e}")).at(name))
        };
        if let Some(mut node) = file("zarr.json")? {
            let attrs = node.get_mut("attributes").map(Value::take).unwrap_or(Value::Null);
            return match node.get("node_type").and_then(Value::as_str) {
                Some("group") => Ok(Some(Meta { version: 3, attrs, array: None })),
                Some("array") => Ok(Some(Meta { version: 3, attrs, array: Some(node) })),
                _ => Err(Error::malformed("neither a group nor an array").at(format!("{key}/zarr.json"))),
            };
        }
        let array = file(".zarray")?;
        if array.is_none() && file(".zgroup")?.is_none() {
            return Ok(None);
        }
        Ok(Some(Meta { version: 2, attrs: file(".zattrs")?.unwrap_or(Value::Null), array }))
    }
}

impl Folder {
    /// The root of the store at a path, a folder or a zip archive; `None` if there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Folder>> {
        let files = Arc::new(Files::open(path)?);
        Ok(match Meta::read(&files, "")? {
            Some(meta) if meta.array.is_none() => Some(Folder { files, key: String::new(), meta }),
            _ => None,
        })
    }

    fn child(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) }
    }

    /// The names of groups and arrays.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in self.files.list(&self.key)? {
            if !name.starts_with('.') && name != "zarr.json" && Meta::read(&self.files, &self.child(&name))?.is_some() {
                names.push(name);
            }
        }
        Ok(names)
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Member>> {
        if name.is_empty() || name == "." || name == ".." {
            return Ok(None);
        }
        let key = self.child(name);
        let Some(mut meta) = Meta::read(&self.files, &key)? else { return Ok(None) };
        Ok(Some(match meta.array.take() {
            Some(array) => {
                Member::Array(Arc::new(ZarrArray::open(self.files.clone(), key, meta.version, &array, meta.attrs)?))
            }
            None => Member::Folder(Folder { files: self.files.clone(), key, meta }),
        }))
    }

    pub(super) fn attrs(&self) -> Result<Attrs> {
        types::attrs(&self.meta.attrs)
    }
}
