//! HDF5 files.

use super::limits::{guard, unsupported};
use super::links::Tree;
use super::raw::{Patched, Patches, Raw};
use slaf_core::Result;
use std::path::Path;
use std::sync::{Arc, RwLock};

/// An HDF5 file, opened for reading.
pub(crate) struct H5File {
    pub(super) inner: hdf5_pure::File,
    pub(super) raw: Arc<Raw>,
    /// Where the addresses of the file begin to count: behind a user block.
    pub(super) base: u64,
    pub(super) tree: Tree,
    pub(super) root: u64,
}

impl H5File {
    /// Opens the file and checks every link in it.
    pub(crate) fn open(path: &Path) -> Result<Arc<H5File>> {
        H5File::of_raw(Raw::open(path)?)
    }

    /// As [`H5File::open`], of a file in memory.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Result<Arc<H5File>> {
        H5File::of_raw(Raw::of_bytes(bytes))
    }

    fn of_raw(raw: Raw) -> Result<Arc<H5File>> {
        let raw = Arc::new(raw);
        let patches = Arc::new(RwLock::new(Patches::new()));
        let source = Patched { raw: raw.clone(), patches: patches.clone() };
        let inner = guard("/", || hdf5_pure::File::from_source(source))?;
        let block = inner.superblock();
        if block.offset_size != 8 || block.length_size != 8 {
            return Err(unsupported("an HDF5 file with short offsets"));
        }
        let (base, root) = (block.base_address.get(), block.root_group_address);
        let tree = Tree::read(&raw, base, root, &patches)?;
        Ok(Arc::new(H5File { inner, raw, base, tree, root }))
    }
}
