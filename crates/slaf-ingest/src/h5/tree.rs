//! Groups and datasets, whatever file or folder they are in.

use super::attrs::Attrs;
use super::data::Dataset;
use super::file::H5File;
use super::limits::guard;
use super::raw::Link;
use super::zarr::{self, Folder};
use slaf_core::{Context, Error, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

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
    Zarr(Arc<Folder>),
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
    /// The root of a file.
    pub(crate) fn root(file: &Arc<H5File>) -> Group {
        Group::hdf5(file.clone(), file.inner.root(), file.root, String::new())
    }

    /// The root of the Zarr store at a path, a folder or a zip archive; `None` if there is none.
    pub(crate) fn open_zarr(path: &Path) -> Result<Option<Group>> {
        Ok(Folder::open(path)?.map(|folder| Group::zarr(folder, String::new())))
    }

    fn zarr(folder: Folder, path: String) -> Group {
        Group { source: GroupSource::Zarr(Arc::new(folder)), path }
    }

    fn hdf5(file: Arc<H5File>, inner: hdf5_pure::Group, address: u64, path: String) -> Group {
        let group = H5Group { file, inner, address, members: OnceLock::new() };
        Group { source: GroupSource::Hdf5(Arc::new(group)), path }
    }

    /// The path inside of the file, with a leading slash.
    pub(crate) fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// The group as the root of paths: of an AnnData that lies inside of a file.
    pub(crate) fn into_root(self) -> Group {
        Group { path: String::new(), ..self }
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
            GroupSource::Zarr(f) => {
                return Ok(f.get(name).at(&path)?.map(|member| match member {
                    zarr::Member::Array(array) => Node::Dataset(Dataset::zarr(array, path)),
                    zarr::Member::Folder(folder) => Node::Group(Group::zarr(folder, path)),
                }));
            }
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
                let from = if target.starts_with('/') { Group::root(&g.file) } else { self.clone() };
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
