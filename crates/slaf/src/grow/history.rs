//! The versions of a store: names for them, going back to one, what differs between two, and
//! removing those that nobody needs.

use super::options::{Base, GrowOptions, GrowReport};
use super::slots::fingerprints;
use super::writer::{Head, commit_over, commit_over_any, refuse_replaced};
use crate::convert::now;
use crate::convert::survey::Survey;
use crate::convert::target::remove_empty_folders;
use crate::dataset::Dataset;
use crate::store::manifest::Manifest;
use crate::store::versions;
use serde::Serialize;
use slaf_core::{Error, ErrorKind, Result, check_printable, near};
use slaf_lance::Storage;
use slaf_lance::runtime::block_on;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

/// Gives a version a name, the newest one by default; `gc` keeps versions that have one.
///
/// # Errors
/// `already-exists` if another version has the name; `not-found` for a version that there is not;
/// `invalid-argument` for an empty name, a number, and control characters; those of writing.
pub fn tag(uri: &str, name: &str, version: Option<u64>, options: &GrowOptions) -> Result<u64> {
    if name.is_empty() || name.parse::<i128>().is_ok() {
        let what = format!("{name:?} is no name for a version: choose one that is neither empty nor a number");
        return Err(Error::invalid(what));
    }
    check_printable("the tag", name)?;
    let change = |head: &Head<'_>| {
        let version = match version {
            Some(version) => existing(head, version)?.version,
            None => head.manifest().version,
        };
        match head.manifest().tags.get(name) {
            Some(there) if *there == version => return Ok((None, version)),
            Some(there) => {
                let what =
                    format!("\"{name}\" is version {there}: untag it first (slaf untag), or choose another name");
                return Err(Error::new(ErrorKind::AlreadyExists, what));
            }
            None => {}
        }
        let mut next = head.next();
        next.manifest().tags.insert(name.to_string(), version);
        Ok((Some(next), version))
    };
    commit_over(uri, options, &format!("tag {name}"), change).map(|(_, version)| version)
}

/// Takes a name away; gives the version that had it.
///
/// # Errors
/// `not-found` with near names; those of writing.
pub fn untag(uri: &str, name: &str, options: &GrowOptions) -> Result<u64> {
    let change = |head: &Head<'_>| {
        let mut next = head.next();
        match next.manifest().tags.remove(name) {
            Some(version) => Ok((Some(next), version)),
            None => {
                let near = near(name, head.manifest().tags.keys().map(String::as_str));
                let hint = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
                Err(Error::new(ErrorKind::NotFound, format!("no tag \"{name}\"{hint}")))
            }
        }
    };
    commit_over(uri, options, &format!("untag {name}"), change).map(|(_, version)| version)
}

/// Makes a next version that is as an older one was. It mends a store whose newest root manifest is
/// damaged.
///
/// # Errors
/// `not-found` for a version that there is not; those of writing.
pub fn rollback(uri: &str, to: u64, options: &GrowOptions) -> Result<GrowReport> {
    let started = Instant::now();
    let change = |head: &Head<'_>| Ok((Some(head.like(&existing(head, to)?)), ()));
    let (manifest, ()) = commit_over_any(uri, options, &format!("rollback to {to}"), to, change)?;
    let report = GrowReport::new(&manifest, Vec::new(), Vec::new());
    Ok(GrowReport { seconds: started.elapsed().as_secs_f64(), ..report })
}

/// The number of the newest version of the store that `base` is a version of.
///
/// # Errors
/// `conflict` if the store was replaced by another one since; those of opening it.
pub fn newest(uri: &str, base: &Base, storage_options: &HashMap<String, String>) -> Result<u64> {
    let storage = block_on(Storage::new(uri, storage_options))?;
    let newest = block_on(versions::load(&storage, None))?;
    refuse_replaced(&storage, &newest, base)?;
    Ok(newest.version)
}

/// A version that is there, and is about to stay.
fn existing(head: &Head<'_>, version: u64) -> Result<Manifest> {
    if version == head.manifest().version {
        return Ok(head.manifest().clone());
    }
    let gone = |what: &str| {
        let what = format!("version {version} {what}; there are versions up to {}", head.manifest().version);
        Error::new(ErrorKind::NotFound, what).at(head.storage().uri())
    };
    if head.manifest().expired.contains(&version) {
        return Err(gone("was removed by gc"));
    }
    block_on(versions::read(head.storage(), version)).map_err(|e| match e.kind() {
        ErrorKind::NotFound => gone("does not exist"),
        _ => e,
    })
}

/// What differs between two versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The two versions.
    pub versions: [u64; 2],
    /// Their numbers of cells.
    pub n_cells: [u64; 2],
    /// Their numbers of genes.
    pub n_genes: [u64; 2],
    /// What the second one has and the first one does not, `obs/cell_type` for example.
    pub added: Vec<String>,
    /// What the first one has and the second one does not.
    pub removed: Vec<String>,
    /// What both have, with other content or of another type, or written anew.
    pub changed: Vec<String>,
    /// Rows of the cells that the second one has after those of the first, if it grew from it.
    pub cells_added: Option<[u64; 2]>,
}

/// Compares two versions of a store by what their root manifests say.
pub fn diff(first: &Dataset, second: &Dataset) -> Difference {
    let (a, b) = (first.manifest(), second.manifest());
    let (in_a, in_b) = (fingerprints(a), fingerprints(b));
    let only = |x: &BTreeMap<String, String>, y: &BTreeMap<String, String>| {
        x.keys().filter(|name| !y.contains_key(*name)).cloned().collect::<Vec<_>>()
    };
    let changed = in_a.iter().filter(|(name, content)| in_b.get(*name).is_some_and(|other| other != *content));
    // What a version grows from keeps its data files; after a rollback others take their places.
    let folder = format!("{}/data/", a.tables.cells.path);
    let there: BTreeSet<&str> = b.files.iter().map(|f| f.path.as_str()).collect();
    let mut data = a.files.iter().map(|f| f.path.as_str()).filter(|path| path.starts_with(&folder));
    let grew = b.n_cells > a.n_cells && data.all(|path| there.contains(path));
    Difference {
        versions: [a.version, b.version],
        n_cells: [a.n_cells, b.n_cells],
        n_genes: [a.n_genes, b.n_genes],
        added: only(&in_b, &in_a),
        removed: only(&in_a, &in_b),
        changed: changed.map(|(name, _)| name.clone()).collect(),
        cells_added: grew.then_some([a.n_cells, b.n_cells]),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.versions;
        write!(f, "versions     {a} and {b}")?;
        for (what, [before, after]) in [("cells", self.n_cells), ("genes", self.n_genes)] {
            match before == after {
                true => write!(f, "\n{what:<12} {before} in both")?,
                false => write!(f, "\n{what:<12} {before} and {after}")?,
            }
        }
        for (what, names) in [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)] {
            if !names.is_empty() {
                write!(f, "\n{what:<12} {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

/// What to remove.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Versions that are the newest no longer since this time.
    pub older_than: Duration,
    /// Only tell what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Collected {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// The versions that go.
    pub versions: Vec<u64>,
    /// Old versions that stay, and why.
    pub kept: BTreeMap<u64, String>,
    /// The number of files that go.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl fmt::Display for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let versions: Vec<String> = self.versions.iter().map(ToString::to_string).collect();
        let versions = if versions.is_empty() { "no version".to_string() } else { versions.join(", ") };
        write!(f, "{verb:<12} {versions}: {} files, {}", self.files, crate::size::human_bytes(self.bytes))?;
        for (version, why) in &self.kept {
            write!(f, "\nkept         {version}: {why}")?;
        }
        Ok(())
    }
}

/// Removes versions, and the files that no other version needs. The newest version stays, and so do
/// versions with tags, those that were the newest less than `older_than` ago, and on a local disk
/// those that a handle of this machine has open. What writers that died have left goes as well.
///
/// # Errors
/// Those of writing. What could not be removed is removed the next time.
pub fn gc(uri: &str, options: &GcOptions, grow: &GrowOptions) -> Result<Collected> {
    let change = |head: &Head<'_>| {
        let judged = block_on(Judged::take(head, options))?;
        let mut next = head.next();
        let expired: BTreeSet<u64> = judged.condemned.keys().copied().collect();
        let is_known = expired.iter().all(|v| head.manifest().expired.contains(v));
        next.manifest().expired = expired.into_iter().collect();
        Ok(((!options.dry_run && !is_known).then_some(next), judged))
    };
    let (_, judged) = commit_over(uri, grow, "gc", change)?;
    let mut collected = Collected {
        dry_run: options.dry_run,
        versions: judged.condemned.keys().copied().collect(),
        kept: judged.kept,
        ..Collected::default()
    };
    let storage = block_on(Storage::new(uri, &grow.storage_options))?;
    block_on(async {
        // As of now: others may have gone on from any version that stays.
        let mut needed = BTreeSet::new();
        for version in versions::versions(&storage).await? {
            if !judged.condemned.contains_key(&version) {
                match versions::read(&storage, version).await {
                    Ok(manifest) => needed.extend(manifest.files.into_iter().map(|f| f.path)),
                    // Nothing can be read with it.
                    Err(e) if e.kind() == ErrorKind::Corrupt => {}
                    Err(e) => return Err(e),
                }
            }
        }
        let files: BTreeMap<String, u64> = judged
            .condemned
            .values()
            .flat_map(|m| &m.files)
            .filter(|f| !needed.contains(&f.path))
            .map(|f| (f.path.clone(), f.length))
            .collect();
        collected.files = files.len() as u64;
        collected.bytes = files.values().sum();
        if options.dry_run {
            return Ok(());
        }
        for file in files.keys() {
            storage.delete(file).await?;
        }
        // The root manifests go last: they tell what is still to be removed.
        for version in judged.condemned.keys() {
            storage.delete(&versions::path(*version)).await?;
        }
        Survey::take(&storage).await?.sweep(&storage).await?;
        if let Some(root) = storage.local() {
            remove_empty_folders(root, files.keys());
        }
        Ok(())
    })?;
    Ok(collected)
}

/// The versions that go and those that stay.
struct Judged {
    condemned: BTreeMap<u64, Manifest>,
    kept: BTreeMap<u64, String>,
}

impl Judged {
    async fn take(head: &Head<'_>, options: &GcOptions) -> Result<Judged> {
        let newest = head.manifest();
        let mut judged = Judged { condemned: BTreeMap::new(), kept: BTreeMap::new() };
        // Since when the version at hand is not the newest.
        let mut succeeded = newest.created;
        for version in versions::versions(head.storage()).await?.into_iter().rev().filter(|v| *v < newest.version) {
            let manifest = match versions::read(head.storage(), version).await {
                Ok(manifest) => manifest,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    judged.kept.insert(version, format!("its root manifest is damaged: {}", e.message()));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let age = now().saturating_sub(succeeded);
            succeeded = manifest.created;
            let tags: Vec<&str> =
                newest.tags.iter().filter(|(_, v)| **v == version).map(|(tag, _)| tag.as_str()).collect();
            if newest.expired.contains(&version) {
                judged.condemned.insert(version, manifest);
            } else if !tags.is_empty() {
                judged.kept.insert(version, format!("tagged {}", tags.join(", ")));
            } else if age < options.older_than.as_secs() {
                judged.kept.insert(version, format!("the newest until {age} s ago"));
            } else if versions::is_in_use(head.storage(), version) {
                judged.kept.insert(version, "in use".to_string());
            } else {
                judged.condemned.insert(version, manifest);
            }
        }
        Ok(judged)
    }
}
