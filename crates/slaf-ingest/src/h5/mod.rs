//! The tree of groups and arrays that an AnnData file is: HDF5 files, and Zarr stores.
//!
//! Of HDF5, `hdf5-pure` parses the structure; raw data is read here, after every size has been
//! checked against the file.

mod chunks;
mod codec;
mod data;
mod elem;
mod links;
mod raw;
mod same;
mod strings;
mod zarr;

pub(crate) use data::{Dataset, Reader};
pub(crate) use elem::{Elem, decode_halves, decode_u32};
pub(crate) use same::same;
pub(crate) use strings::{Heap, fixed_string};
pub(crate) use zarr::{open_zarr, string_type};

use hdf5_pure::{AttrValue, Datatype};
use links::Tree;
use raw::{Link, Patched, Patches, Raw};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

/// Groups within each other. Readers of nested elements call themselves for each, anndata in about
/// eight frames of Python's thousand.
pub(crate) const MAX_DEPTH: usize = 100;

/// An HDF5 file, opened for reading.
pub(crate) struct H5File {
    inner: hdf5_pure::File,
    raw: Arc<Raw>,
    /// Where the addresses of the file begin to count: behind a user block.
    base: u64,
    tree: Tree,
    root: u64,
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

    pub(crate) fn root(self: &Arc<Self>) -> Group {
        Group::hdf5(self.clone(), self.inner.root(), self.root, String::new())
    }
}

/// A member of a group.
pub(crate) enum Node {
    Group(Group),
    Dataset(Dataset),
}

impl Node {
    /// The same, under the path of a link to it.
    fn at(self, path: String) -> Node {
        match self {
            Node::Group(g) => Node::Group(Group { path, ..g }),
            Node::Dataset(d) => Node::Dataset(d.at(path)),
        }
    }

    /// The path inside of the file, with a leading slash.
    pub(crate) fn path(&self) -> &str {
        match self {
            Node::Group(g) => g.path(),
            Node::Dataset(d) => d.path(),
        }
    }

    pub(crate) fn attrs(&self) -> Result<Attrs> {
        match self {
            Node::Group(g) => g.attrs(),
            Node::Dataset(d) => d.attrs(),
        }
    }
}

/// A group.
#[derive(Clone)]
pub(crate) struct Group {
    source: GroupSource,
    path: String,
}

#[derive(Clone)]
enum GroupSource {
    Hdf5(Arc<H5Group>),
    Zarr(Arc<zarr::Folder>),
}

struct H5Group {
    file: Arc<H5File>,
    inner: hdf5_pure::Group,
    address: u64,
    /// The members, read once: reading one of them is reading all.
    members: OnceLock<HashMap<String, Member>>,
}

/// What a link of an HDF5 group leads to.
enum Member {
    Dataset(hdf5_pure::Dataset, u64),
    Group(hdf5_pure::Group, u64),
    Soft(String),
}

impl H5Group {
    fn members(&self, path: &str) -> Result<&HashMap<String, Member>> {
        if let Some(members) = self.members.get() {
            return Ok(members);
        }
        let mut members = HashMap::new();
        if let Some(links) = self.file.tree.links(self.address) {
            let hard = |name: &str| match links.get(name) {
                Some(Link::Hard(address)) => Some(*address),
                _ => None,
            };
            for (name, link) in links {
                if let Link::Soft(target) = link {
                    members.insert(name.clone(), Member::Soft(target.clone()));
                }
            }
            for (name, d) in guard(path, || Ok(self.inner.iter_datasets()?.collect::<Vec<_>>()))? {
                if let Some(address) = hard(&name) {
                    members.insert(name, Member::Dataset(d, address));
                }
            }
            for (name, g) in guard(path, || Ok(self.inner.iter_groups()?.collect::<Vec<_>>()))? {
                if let Some(address) = hard(&name) {
                    members.insert(name, Member::Group(g, address));
                }
            }
        }
        Ok(self.members.get_or_init(|| members))
    }
}

impl Group {
    fn hdf5(file: Arc<H5File>, inner: hdf5_pure::Group, address: u64, path: String) -> Group {
        let group = H5Group { file, inner, address, members: OnceLock::new() };
        Group { source: GroupSource::Hdf5(Arc::new(group)), path }
    }

    /// The path inside of the file, with a leading slash.
    pub(crate) fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// The group as the root of paths: of an AnnData that lies inside of a file.
    pub(crate) fn as_root(mut self) -> Group {
        self.path = String::new();
        self
    }

    fn child_path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The names of groups and datasets, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = match &self.source {
            GroupSource::Hdf5(g) => g.members(self.path())?.keys().cloned().collect(),
            GroupSource::Zarr(f) => f.names().at(self.path())?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// All members, sorted by name.
    pub(crate) fn members(&self) -> Result<Vec<(String, Node)>> {
        let mut members = Vec::new();
        for name in self.names()? {
            if let Some(node) = self.member(&name)? {
                members.push((name, node));
            }
        }
        Ok(members)
    }

    /// The member of that name (or path of names), or `None`.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Node>> {
        match name.split_once('/') {
            None => self.member(name),
            Some((first, rest)) => match self.member(first)? {
                Some(Node::Group(g)) => g.get(rest),
                _ => Ok(None),
            },
        }
    }

    fn member(&self, name: &str) -> Result<Option<Node>> {
        let path = self.child_path(name);
        let g = match &self.source {
            GroupSource::Zarr(f) => return f.get(name, &path).at(&path),
            GroupSource::Hdf5(g) => g,
        };
        Ok(match g.members(self.path())?.get(name) {
            None => None,
            Some(Member::Dataset(d, address)) => {
                Some(Node::Dataset(Dataset::new(g.file.clone(), d.clone(), *address, path)?))
            }
            Some(Member::Group(inner, address)) => {
                Some(Node::Group(Group::hdf5(g.file.clone(), inner.clone(), *address, path)))
            }
            // Where it leads was checked when the file was opened.
            Some(Member::Soft(target)) => {
                let from = if target.starts_with('/') { g.file.root() } else { self.clone() };
                let parts: Vec<_> = target.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
                match parts.is_empty() {
                    true => Some(Node::Group(from)),
                    false => from.get(&parts.join("/"))?,
                }
                .map(|node| node.at(path))
            }
        })
    }

    /// The group of that name; `None` if there is nothing of that name.
    pub(crate) fn group(&self, name: &str) -> Result<Option<Group>> {
        match self.get(name)? {
            None => Ok(None),
            Some(Node::Group(g)) => Ok(Some(g)),
            Some(Node::Dataset(d)) => Err(Error::malformed("a dataset, not a group").at(d.path())),
        }
    }

    /// The dataset of that name, which must exist.
    pub(crate) fn dataset(&self, name: &str) -> Result<Dataset> {
        match self.get(name)? {
            None => Err(Error::malformed("missing").at(self.child_path(name))),
            Some(Node::Dataset(d)) => Ok(d),
            Some(Node::Group(g)) => Err(Error::malformed("a group, not a dataset").at(g.path())),
        }
    }

    pub(crate) fn attrs(&self) -> Result<Attrs> {
        match &self.source {
            GroupSource::Hdf5(g) => {
                let (values, types) = guard(self.path(), || Ok((g.inner.attrs()?, g.inner.attr_datatypes()?)))?;
                Attrs::new(values, types).at(self.path())
            }
            GroupSource::Zarr(f) => f.attrs().at(self.path()),
        }
    }
}

/// The attributes of a group or dataset.
pub(crate) struct Attrs {
    pub(crate) values: HashMap<String, AttrValue>,
    /// Their types, as far as they are those of an HDF5 file.
    pub(crate) types: HashMap<String, Datatype>,
}

impl Attrs {
    /// The parser leaves out what it cannot decode; of text and numbers, that means damage.
    fn new(values: HashMap<String, AttrValue>, types: HashMap<String, Datatype>) -> Result<Attrs> {
        use hdf5_pure::Datatype as T;
        let plain = |t: &T| match t {
            T::FixedPoint { size, .. } => matches!(size, 1 | 2 | 4 | 8),
            T::FloatingPoint { size, .. } => matches!(size, 4 | 8),
            T::String { .. } => true,
            T::VariableLength { is_string, .. } => *is_string,
            _ => false,
        };
        match types.iter().find(|(name, t)| plain(t) && !values.contains_key(*name)) {
            Some((name, _)) => Err(Error::malformed(format!("the attribute \"{name}\" is damaged"))),
            None => Ok(Attrs { values, types }),
        }
    }

    pub(crate) fn str(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str()
    }

    /// The strings of an array; an empty array of any type has none.
    pub(crate) fn strings(&self, name: &str) -> Option<Vec<String>> {
        let value = self.values.get(name)?;
        match value.as_strings() {
            Some(s) => Some(s.to_vec()),
            None if value.to_f64s().is_some_and(|v| v.is_empty()) => Some(Vec::new()),
            None => None,
        }
    }

    pub(crate) fn u64s(&self, name: &str) -> Option<Vec<u64>> {
        self.values.get(name)?.to_u64s()
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.as_i64()
    }

    /// All of them, sorted by name.
    pub(crate) fn all(&self) -> Vec<(&str, &AttrValue)> {
        let mut all: Vec<_> = self.values.iter().map(|(name, value)| (name.as_str(), value)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Those of types that are not read, sorted by name.
    pub(crate) fn unread(&self) -> Vec<&str> {
        let mut unread: Vec<_> =
            self.types.keys().filter(|n| !self.values.contains_key(*n)).map(String::as_str).collect();
        unread.sort_unstable();
        unread
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// Runs `f`, a call of the HDF5 parser: its errors get our kinds, and a panic over a damaged file
/// becomes an error, too.
fn guard<T>(path: &str, f: impl FnOnce() -> Result<T, hdf5_pure::Error>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(hdf5_pure::Error::Io(e))) => Err(Error::from(e).at(path)),
        Ok(Err(e)) => {
            let error = match is_foreign(&e) {
                true => unsupported(format!("HDF5: {e}: not read by this version; rewrite the file with h5repack")),
                false => Error::malformed(format!("HDF5: {e}")),
            };
            Err(error.with_source(e).at(path))
        }
        Err(_) => Err(Error::malformed("HDF5: the structure of the file is damaged").at(path)),
    }
}

/// Whether the parser met a form of storage that it does not know, such as those that HDF5 2.0
/// added, and not damage.
fn is_foreign(e: &hdf5_pure::Error) -> bool {
    use hdf5_pure::{Error as H5, FormatError as F};
    let H5::Format(e) = e else { return false };
    match e {
        F::UnsupportedMessage(_)
        | F::UnsupportedFileSpaceInfoVersion(_)
        | F::UnsupportedFilteredHeapObject
        | F::UnsupportedVirtualLayout
        | F::UnsupportedExternalStorage
        | F::UnsupportedSohmReference
        | F::UnsupportedFilter(_)
        | F::UnsupportedZfp(_)
        | F::UnsupportedFillValueVersion(_) => true,
        // Versions that are not out yet when this is written; others are damage.
        F::UnsupportedVersion(v) => (4..=8).contains(v),
        F::InvalidDatatypeClass(v) => (11..=13).contains(v),
        F::InvalidLayoutVersion(v) => (5..=9).contains(v),
        F::InvalidChunkIndexType(v) => (6..=12).contains(v),
        _ => false,
    }
}

/// An element that is recognised and not supported.
pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedInput, message)
}

pub(crate) fn to_usize(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::malformed(format!("{n} is more than memory can hold")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdf5_pure::FormatError;

    #[test]
    fn newer_forms_are_not_called_damaged() {
        let kind = |e| guard("/x", || Err::<(), _>(hdf5_pure::Error::Format(e))).unwrap_err().kind();
        assert_eq!(kind(FormatError::InvalidLayoutVersion(6)), ErrorKind::UnsupportedInput);
        assert_eq!(kind(FormatError::InvalidDatatypeClass(11)), ErrorKind::UnsupportedInput);
        assert_eq!(kind(FormatError::InvalidLayoutVersion(99)), ErrorKind::MalformedInput);
    }
}
