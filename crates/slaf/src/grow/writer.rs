//! A writer of the next version: its mark, its files, and its tries.

use super::options::{Base, GrowOptions};
use super::turn::Turn;
use crate::convert::job::Place;
use crate::convert::survey;
use crate::convert::target::{Commit, FILES_AT_ONCE, Held, files_of, remove_empty};
use crate::convert::{Durability, now, software};
use crate::store::manifest::{LINEAGE, Manifest, TableEntry, WRITER_FEATURES};
use crate::store::manifest_check::next_version;
use crate::store::{Snapshot, versions};
use crate::trace::Address;
use futures::{StreamExt, TryStreamExt, stream};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_lance::runtime::block_on;
use slaf_lance::{Grown, Growth, Storage, WriteNames};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a writer tries while others commit before it.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The newest version, as a change sees it.
pub(super) struct Head<'a> {
    pub(super) snapshot: Arc<Snapshot>,
    writer: &'a Writer,
}

/// A next version, all of whose files are written.
pub(super) struct Next {
    manifest: Manifest,
    /// The files that are not of the version before.
    new: BTreeSet<String>,
}

/// Commits a change over the newest version, and tries again over a newer one as often as others
/// come first. `change` gives the next version and what it tells of it, or what there is to tell
/// where nothing has to change.
///
/// # Errors
/// Those of `change`; `conflict` if the store was overwritten meanwhile, or others commit all the
/// time; `commit-outcome-unknown` if the answer was lost. After any other error nothing is left.
pub(super) fn commit_over<T>(
    uri: &str,
    options: &GrowOptions,
    operation: &str,
    change: impl FnMut(&Head<'_>) -> Result<(Option<Next>, T)>,
) -> Result<(Manifest, T)> {
    run(uri, options, operation, None, options.base.as_ref(), change)
}

/// As [`commit_over`], but over the version `instead` where the newest one is damaged.
///
/// # Errors
/// As [`commit_over`].
pub(super) fn commit_over_any<T>(
    uri: &str,
    options: &GrowOptions,
    operation: &str,
    instead: u64,
    change: impl FnMut(&Head<'_>) -> Result<(Option<Next>, T)>,
) -> Result<(Manifest, T)> {
    run(uri, options, operation, Some(instead), None, change)
}

fn run<T>(
    uri: &str,
    options: &GrowOptions,
    operation: &str,
    instead: Option<u64>,
    base: Option<&Base>,
    mut change: impl FnMut(&Head<'_>) -> Result<(Option<Next>, T)>,
) -> Result<(Manifest, T)> {
    let _span = tracing::debug_span!("grow", store = %Address(uri), operation).entered();
    let storage = block_on(Storage::new(uri, &options.storage_options))?;
    // Nothing is created beside a path that is no store.
    let first = &head(&storage, instead)?.0.manifest;
    let first = Base { version: first.version, write_id: first.write_id.clone() };
    let writer = Writer::begin(storage, options.durability)?;
    match writer.try_often(operation, &first, instead, base, &mut change) {
        Ok((manifest, told)) => {
            writer.end(&manifest);
            Ok((manifest, told))
        }
        // A version may name what was written.
        Err(e) if e.kind() == ErrorKind::CommitOutcomeUnknown => Err(e),
        Err(e) => {
            writer.abandon();
            Err(e)
        }
    }
}

/// Refuses a version of another store than the one that `base` is of.
pub(super) fn refuse_replaced(storage: &Storage, newest: &Manifest, base: &Base) -> Result<()> {
    if block_on(versions::goes_on_from(storage, newest, base.version, &base.write_id))? {
        return Ok(());
    }
    let what = "the store was overwritten meanwhile: nothing was written; open it again";
    Err(Error::new(ErrorKind::Conflict, what).at(storage.uri()))
}

/// The version to go on from, and the number of the newest one.
fn head(storage: &Storage, instead: Option<u64>) -> Result<(Snapshot, u64)> {
    block_on(async {
        match (Snapshot::open(storage.clone(), None, false).await, instead) {
            (Err(e), Some(version)) if e.kind() == ErrorKind::Corrupt => {
                let newest = versions::versions(storage).await?.last().copied().unwrap_or(version);
                Ok((Snapshot::open(storage.clone(), Some(version), false).await?, newest))
            }
            (opened, _) => {
                let snapshot = opened?;
                let newest = snapshot.manifest.version;
                Ok((snapshot, newest))
            }
        }
    })
}

struct Writer {
    storage: Storage,
    names: Arc<WriteNames>,
    durability: Durability,
    held: Held,
}

impl Writer {
    fn begin(storage: Storage, durability: Durability) -> Result<Writer> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let writer = Writer { storage, names: Arc::new(WriteNames::new(&id)), durability, held: Held::reserve() };
        writer.held.keep(block_on(survey::begin(&writer.storage, &id))?);
        Ok(writer)
    }

    fn try_often<T>(
        &self,
        operation: &str,
        first: &Base,
        instead: Option<u64>,
        base: Option<&Base>,
        change: &mut impl FnMut(&Head<'_>) -> Result<(Option<Next>, T)>,
    ) -> Result<(Manifest, T)> {
        let started = Instant::now();
        let mut turn = Turn::wait(self.storage.uri());
        for tries in 0.. {
            let (snapshot, newest) = head(&self.storage, instead)?;
            let snapshot = Arc::new(snapshot);
            let before = &snapshot.manifest;
            for base in [Some(first), base].into_iter().flatten() {
                refuse_replaced(&self.storage, before, base)?;
            }
            if let Some(feature) = before.writer_features.iter().find(|f| !WRITER_FEATURES.contains(&f.as_str())) {
                let what = format!("unknown writer feature \"{feature}\": written by a later version of SLAF? upgrade");
                return Err(Error::new(ErrorKind::UnsupportedFeature, what).at(self.storage.uri()));
            }
            let (next, told) = match change(&Head { snapshot: snapshot.clone(), writer: self }) {
                // What it read may have been removed, since others have gone on.
                Err(_) if !block_on(versions::versions(&self.storage))?.contains(&before.version) => continue,
                changed => changed?,
            };
            let Some(Next { mut manifest, new }) = next else { return Ok((before.clone(), told)) };
            manifest.retain_indexes();
            manifest.version = next_version(&[newest]).at(self.storage.uri())?;
            manifest.write_id = self.names.id().to_string();
            manifest.created = now();
            manifest.created_by = software();
            manifest.operation = operation.to_string();
            manifest.lineage = [before.write_id.clone()].into_iter().chain(before.lineage.clone()).collect();
            manifest.lineage.truncate(LINEAGE);
            let lost = || Error::new(ErrorKind::Conflict, "another writer was first").at(self.storage.uri());
            let commit = Commit { storage: &self.storage, write_id: self.names.id(), durability: self.durability };
            let committed = async {
                let written = self.lengths(&new).await?;
                commit.seal(&mut manifest, written, lost).await
            };
            match block_on(committed) {
                Ok(()) => return Ok((manifest, told)),
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
            if started.elapsed() > PATIENCE {
                let what = format!("other writers came first {} times: nothing was written; try again", tries + 1);
                return Err(Error::new(ErrorKind::Conflict, what).at(self.storage.uri()));
            }
            match turn.is_held() {
                true => std::thread::sleep(pause(tries)),
                false => turn = Turn::wait(self.storage.uri()),
            }
        }
        Err(Error::new(ErrorKind::Internal, "a writer that stopped trying"))
    }

    /// The lengths of files that were written.
    async fn lengths(&self, files: &BTreeSet<String>) -> Result<Vec<(String, u64)>> {
        let length = async |file: &String| Ok::<_, Error>((file.clone(), self.storage.identity(file).await?.length));
        stream::iter(files.iter().map(length)).buffered(FILES_AT_ONCE).try_collect().await
    }

    /// Removes what earlier tries left, and the mark. What cannot be removed is only left over.
    fn end(&self, manifest: &Manifest) {
        let named: HashSet<&str> = manifest.files.iter().map(|f| f.path.as_str()).collect();
        self.remove(|file| !named.contains(file));
    }

    /// Removes all that was written.
    fn abandon(&self) {
        self.remove(|_| true);
        let Some(root) = self.storage.local() else { return };
        // A store that was overwritten meanwhile may have left its folders to us.
        for file in self.names.given() {
            if let Some((table, _)) = file.split_once('/').filter(|(table, _)| *table != "_slaf") {
                remove_empty(&root.join(table));
            }
        }
    }

    fn remove(&self, unwanted: impl Fn(&str) -> bool) {
        self.held.release_files();
        let id = self.names.id();
        let own = [survey::categories(id), survey::extras(id), survey::heads(id), survey::measured(id)];
        let tables = survey::TABLES.map(|name| survey::table(id, name));
        let _ = block_on(async {
            for file in self.names.given().iter().chain(&own).filter(|f| unwanted(f)) {
                self.storage.delete(file).await?;
            }
            for table in tables {
                let files = self.storage.list(&table).await?;
                for (file, _) in files.iter().filter(|(f, _)| unwanted(f)) {
                    self.storage.delete(file).await?;
                }
                if let Some(root) = self.storage.local().filter(|_| !files.is_empty()) {
                    remove_empty(&root.join(&table));
                }
            }
            survey::remove_indexes(&self.storage, id, &unwanted).await?;
            self.storage.delete(&survey::staging(id)).await?;
            survey::end(&self.storage, id).await
        });
        if let Some(root) = self.storage.local() {
            // Fails, as it should, while others write.
            let _ = std::fs::remove_dir(root.join("_slaf/writing"));
        }
        self.held.release();
    }
}

/// A pause before another try: twice as long each time, and by chance somewhere below that, so that
/// writers who met do not meet again.
fn pause(tries: u32) -> Duration {
    let longest = Duration::from_millis(10).saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
    let chance = uuid::Uuid::new_v4().as_u128() as u32;
    longest.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

impl Head<'_> {
    /// The root manifest of the version.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.snapshot.manifest
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.writer.storage
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { storage: &self.writer.storage, write_id: self.writer.names.id() }
    }

    /// A table of the version that is to grow.
    pub(super) fn grow(&self, entry: &TableEntry) -> Result<Growth> {
        Growth::open(&self.writer.storage, entry, &self.writer.names)
    }

    /// Begins with this version as the next one.
    pub(super) fn next(&self) -> Next {
        self.like(self.manifest())
    }

    /// Begins with a version as the next one; what is kept of versions is that of the newest one.
    pub(super) fn like(&self, version: &Manifest) -> Next {
        let newest = self.manifest();
        let manifest = Manifest { tags: newest.tags.clone(), expired: newest.expired.clone(), ..version.clone() };
        Next { manifest, new: BTreeSet::new() }
    }
}

impl Next {
    pub(super) fn manifest(&mut self) -> &mut Manifest {
        &mut self.manifest
    }

    /// Names a table that has grown, in place of the version of it that it grew from.
    pub(super) fn grown(&mut self, table: Grown) -> TableEntry {
        let mut known: HashMap<String, _> = HashMap::new();
        self.manifest.files.retain(|f| {
            let is_of_table = f.path.strip_prefix(&table.entry.path).is_some_and(|rest| rest.starts_with('/'));
            if is_of_table {
                known.insert(f.path.clone(), f.clone());
            }
            !is_of_table
        });
        for file in table.files {
            match known.remove(&file) {
                Some(entry) => self.manifest.files.push(entry),
                None => {
                    self.new.insert(file);
                }
            }
        }
        table.entry
    }

    /// Names a file in place of another one.
    pub(super) fn replace_file(&mut self, old: Option<&str>, new: Option<&str>) {
        self.manifest.files.retain(|f| Some(f.path.as_str()) != old);
        self.new.extend(new.map(str::to_string));
    }

    /// Names all files of a new table in place of those of another one.
    pub(super) fn replace_table(&mut self, storage: &Storage, old: &str, new: &str) -> Result<()> {
        self.forget_table(old);
        self.new.extend(block_on(storage.list(new))?.into_iter().map(|(file, _)| file));
        Ok(())
    }

    /// Names all files of a version that was written as a whole, and no others.
    pub(super) fn replace_all(&mut self, storage: &Storage) -> Result<()> {
        self.manifest.files.clear();
        self.new = block_on(files_of(storage, &self.manifest))?.into_iter().map(|(file, _)| file).collect();
        Ok(())
    }

    /// Names no file of a table.
    pub(super) fn forget_table(&mut self, path: &str) {
        self.manifest.files.retain(|f| !f.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')));
    }
}
