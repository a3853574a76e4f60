//! Safe reading of HDF5 files: `hdf5-pure` parses the structure; raw data is read here, after
//! every size has been checked against the file.

mod chunks;
mod data;
mod elem;
mod links;
mod same;
mod strings;

pub(crate) use data::{Dataset, Reader};
pub(crate) use elem::{Elem, decode_u32};
pub(crate) use same::same;

use hdf5_pure::AttrValue;
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Groups within each other. Readers of nested elements call themselves for each, anndata in about
/// eight frames of Python's thousand.
pub(crate) const MAX_DEPTH: usize = 100;

/// An HDF5 file, opened for reading.
pub(crate) struct H5File {
    inner: hdf5_pure::File,
    raw: std::fs::File,
    len: u64,
    path: PathBuf,
}

impl H5File {
    /// Opens the file and checks every link in it.
    pub(crate) fn open(path: &Path) -> Result<Arc<H5File>> {
        let raw = std::fs::File::open(path)?;
        let len = raw.metadata()?.len();
        links::check(path)?;
        let inner = guard("/", || hdf5_pure::File::open_streaming(path))?;
        let block = inner.superblock();
        if block.offset_size != 8 || block.length_size != 8 || block.base_address.get() != 0 {
            return Err(unsupported("an HDF5 file with a user block or with short offsets"));
        }
        let file = Arc::new(H5File { inner, raw, len, path: path.to_owned() });
        Ok(file)
    }

    pub(crate) fn root(self: &Arc<Self>) -> Group {
        Group { file: self.clone(), inner: self.inner.root(), path: String::new() }
    }

    /// Copies the elements at some paths into a new file, all but those at others.
    pub(crate) fn copy_to(self: &Arc<Self>, target: &Path, keep: &[String], drop: &[String]) -> Result<()> {
        std::fs::File::create_new(target)?;
        let mut options = hdf5_pure::RepackOptions::new();
        for path in drop {
            options = options.drop_path(path);
        }
        let inside = |path: &str| keep.iter().any(|k| k == path);
        for top in self.root().names()? {
            if inside(&top) {
                continue;
            }
            if !keep.iter().any(|k| k.split_once('/').is_some_and(|(t, _)| t == top)) {
                options = options.drop_path(&top);
            } else if let Some(g) = self.root().group(&top)? {
                let others = g.names()?.into_iter().map(|n| format!("{top}/{n}"));
                for path in others.filter(|p| !inside(p)) {
                    options = options.drop_path(&path);
                }
            }
        }
        guard("/", || hdf5_pure::repack(&self.path, target, &options))
    }

    /// Fills `buffer` from an absolute position of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(Error::malformed(format!("{} bytes at {offset} are past the end of the file", buffer.len())));
        }
        read_exact_at(&self.raw, buffer, offset).map_err(Error::from)
    }

    /// As [`H5File::read_at`]; the check comes before the allocation.
    fn read_vec(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::malformed(format!("{len} bytes at {offset} are past the end of the file")));
        }
        let mut buffer = vec![0; to_usize(len)?];
        self.read_at(offset, &mut buffer)?;
        Ok(buffer)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &std::fs::File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// A member of a group.
pub(crate) enum Node {
    Group(Group),
    Dataset(Dataset),
}

impl Node {
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

/// A group of the file.
#[derive(Clone)]
pub(crate) struct Group {
    file: Arc<H5File>,
    inner: hdf5_pure::Group,
    path: String,
}

impl Group {
    /// The path inside of the file, with a leading slash.
    pub(crate) fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    fn child_path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The names of groups and datasets, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = guard(self.path(), || {
            let mut names = self.inner.datasets()?;
            names.extend(self.inner.groups()?);
            Ok(names)
        })?;
        names.sort_unstable();
        Ok(names)
    }

    /// All members, sorted by name.
    pub(crate) fn members(&self) -> Result<Vec<(String, Node)>> {
        let mut members = Vec::new();
        for name in self.names()? {
            if let Some(node) = self.get(&name)? {
                members.push((name, node));
            }
        }
        Ok(members)
    }

    /// The member of that name, or `None`.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Node>> {
        use hdf5_pure::{Error as H5, FormatError};
        let path = self.child_path(name);
        let absent = |e: &H5| matches!(e, H5::Format(FormatError::PathNotFound(_)) | H5::NotAGroup(_));
        let dataset = guard(&path, || match self.inner.dataset(name) {
            Ok(d) => Ok(Some(Some(d))),
            Err(H5::NotADataset(_)) => Ok(Some(None)),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(e),
        })?;
        match dataset {
            None => Ok(None),
            Some(Some(d)) => Ok(Some(Node::Dataset(Dataset::new(self.file.clone(), d, path)?))),
            Some(None) => {
                let inner = guard(&path, || self.inner.group(name))?;
                Ok(Some(Node::Group(Group { file: self.file.clone(), inner, path })))
            }
        }
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
        let (values, types) = guard(self.path(), || Ok((self.inner.attrs()?, self.inner.attr_datatypes()?)))?;
        Attrs::new(values, &types).at(self.path())
    }
}

/// The attributes of a group or dataset.
pub(crate) struct Attrs(HashMap<String, AttrValue>);

impl Attrs {
    /// The parser leaves out what it cannot decode; of text and numbers, that means damage.
    fn new(values: HashMap<String, AttrValue>, types: &HashMap<String, hdf5_pure::Datatype>) -> Result<Attrs> {
        use hdf5_pure::Datatype as T;
        let plain = |t: &T| match t {
            T::FixedPoint { .. } | T::FloatingPoint { .. } | T::String { .. } => true,
            T::VariableLength { is_string, .. } => *is_string,
            _ => false,
        };
        match types.iter().find(|(name, t)| plain(t) && !values.contains_key(*name)) {
            Some((name, _)) => Err(Error::malformed(format!("the attribute \"{name}\" is damaged"))),
            None => Ok(Attrs(values)),
        }
    }

    pub(crate) fn str(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The strings of an array; an empty array of any type has none.
    pub(crate) fn strings(&self, name: &str) -> Option<Vec<String>> {
        let value = self.0.get(name)?;
        match value.as_strings() {
            Some(s) => Some(s.to_vec()),
            None if value.to_f64s().is_some_and(|v| v.is_empty()) => Some(Vec::new()),
            None => None,
        }
    }

    pub(crate) fn u64s(&self, name: &str) -> Option<Vec<u64>> {
        self.0.get(name)?.to_u64s()
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    /// All of them, sorted by name.
    pub(crate) fn all(&self) -> Vec<(&str, &AttrValue)> {
        let mut all: Vec<_> = self.0.iter().map(|(name, value)| (name.as_str(), value)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Runs `f`, a call of the HDF5 parser: its errors get our kinds, and a panic over a damaged file
/// becomes an error, too.
fn guard<T>(path: &str, f: impl FnOnce() -> Result<T, hdf5_pure::Error>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(hdf5_pure::Error::Io(e))) => Err(Error::from(e).at(path)),
        Ok(Err(e)) => Err(Error::malformed(format!("HDF5: {e}")).with_source(e).at(path)),
        Err(_) => Err(Error::malformed("HDF5: the structure of the file is damaged").at(path)),
    }
}

/// An element that is recognised and not supported.
pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedInput, message)
}

pub(crate) fn to_usize(n: u64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::malformed(format!("{n} is more than memory can hold")))
}
