//! Whose the files at a target are: of the versions that are there, of writers at work, of writers
//! that died, or of somebody else.
//!
//! Every writer has an id, which is part of the names of all that it writes. Its mark,
//! `_slaf/writing/<id>`, is there before its first file and until it has committed, or has removed
//! what it wrote. On a local disk a writer holds a lock on its mark as long as it lives. So tables
//! without a mark and without a version were once committed: they are a store that is being copied
//! here, its root manifest last, or one whose root manifest was lost.

use crate::store::manifest::Manifest;
use crate::store::versions;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use slaf_ingest::temporary::{claim, host};
use slaf_lance::{Storage, WriteNames, create_with_folders};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Component, Path};
use std::time::Duration;

const WRITING: &str = "_slaf/writing";
pub(crate) const TABLES: [&str; 4] = ["by_gene", "cells", "genes", "raw_genes"];
/// What Lance keeps in the folder of a table.
const PARTS_OF_A_TABLE: [&str; 5] = ["_deletions", "_indices", "_transactions", "_versions", "data"];

/// The paths that a writer uses.
pub(crate) fn table(id: &str, name: &str) -> String {
    format!("{name}-{id}.lance")
}

pub(crate) fn categories(id: &str) -> String {
    format!("_slaf/categories/{id}.arrow")
}

pub(crate) fn extras(id: &str) -> String {
    format!("_slaf/extras/{id}.h5")
}

pub(crate) fn measured(id: &str) -> String {
    format!("_slaf/measured/{id}.arrow")
}

/// The folder of the heads of files.
pub(crate) const HEADS: &str = "_slaf/heads/";

/// The heads of the files of a version.
pub(crate) fn heads(id: &str) -> String {
    format!("{HEADS}{id}.bin")
}

/// The folder of the indexes of names.
pub(crate) const NAMES: &str = "_slaf/names";

/// The `number`th segment of an index of names.
pub(crate) fn names(id: &str, number: usize) -> String {
    format!("{NAMES}/{id}-{number}.bin")
}

/// The folder of the indexes of arrays.
pub(crate) const INDEXES: &str = "_slaf/indexes";

/// The `number`th file of the indexes of arrays.
pub(crate) fn index(id: &str, number: usize) -> String {
    format!("{INDEXES}/{id}-{number}.bin")
}

/// The name of its root manifest until that is whole.
pub(crate) fn staging(id: &str) -> String {
    format!("{WRITING}/{id}.json")
}

fn mark(id: &str) -> String {
    format!("{WRITING}/{id}")
}

/// What names of the data files begin with that an attempt at a part of a distributed conversion writes.
/// They belong to the writer whose table they are in, and count if its version names them.
pub(crate) fn part(part: usize, attempt: &str) -> String {
    format!("part-{part}-{attempt}")
}

/// Whether a file is a data file of such an attempt.
pub(crate) fn is_of_part(path: &str) -> bool {
    let mut parts = path.split('/');
    let (table, folder, name) = (parts.next(), parts.next(), parts.next());
    table.is_some_and(|t| t.ends_with(".lance"))
        && folder == Some("data")
        && name.is_some_and(|n| n.starts_with("part-") && n.ends_with(".lance"))
}

/// The writer that a file tells by its name.
fn writer_of(path: &str) -> Option<&str> {
    let path = whole_name(path).unwrap_or(path);
    let is_id = |id: &&str| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = match path.strip_prefix("_slaf/")?.split_once('/') {
        Some(("writing", name)) => name.strip_suffix(".json").unwrap_or(name),
        Some(("categories" | "measured", name)) => name.strip_suffix(".arrow")?,
        Some(("extras", name)) => name.strip_suffix(".h5")?,
        Some(("heads", name)) => name.strip_suffix(".bin")?,
        Some(("names" | "indexes", name)) => {
            name.strip_suffix(".bin")?.split_once('-').filter(|(_, n)| is_number(n))?.0
        }
        _ => return None,
    };
    Some(id).filter(is_id)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The writer of a table that a file is in.
fn writer_of_table(path: &str) -> Option<&str> {
    let (folder, inner) = path.split_once('/')?;
    let (name, id) = folder.strip_suffix(".lance")?.split_once('-')?;
    let (part, _) = inner.split_once('/')?;
    let is_id = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (TABLES.contains(&name) && PARTS_OF_A_TABLE.contains(&part) && is_id).then_some(id)
}

/// The writer of a file that a table got when it grew: such a file is in the folder of another
/// writer. `ids` are those that are known.
fn grower_of<'a>(path: &'a str, ids: impl IntoIterator<Item = &'a str>) -> Option<Cow<'a, str>> {
    let path = whole_name(path).unwrap_or(path);
    let mut parts = path.split('/');
    let (folder, part, name) = (parts.next()?.strip_suffix(".lance")?, parts.next()?, parts.next()?);
    // Earlier versions put no id into the names of tables.
    if parts.next().is_some() || !TABLES.contains(&folder.split_once('-').map_or(folder, |(table, _)| table)) {
        return None;
    }
    let is_id = |id: &&str| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match part {
        "data" => name.strip_suffix(".lance")?.split_once('-').map(|(id, _)| id).filter(is_id).map(Cow::from),
        "_transactions" => name.strip_suffix(".txn")?.split_once('-').map(|(_, id)| id).filter(is_id).map(Cow::from),
        "_versions" => {
            let digits = WriteNames::writer_of_version(name)?;
            let known = ids.into_iter().find(|id| id.starts_with(&digits));
            Some(known.map_or(Cow::from(digits), Cow::from))
        }
        _ => None,
    }
}

/// A data file of a table that Lance is writing, or was: its name does not tell by whom.
pub(crate) fn is_nameless(path: &str) -> bool {
    writer_of_table(path).is_some() && path.split('/').nth(2).is_some_and(|name| name.starts_with(".tmp"))
}

/// The name of a file that is not whole, `name#1`, without its number.
fn whole_name(path: &str) -> Option<&str> {
    let (name, number) = path.rsplit_once('#')?;
    is_number(number).then_some(name)
}

/// A root manifest under the name that earlier versions gave it until it was whole.
fn is_old_staging(path: &str) -> bool {
    let name = path.strip_prefix("_slaf/versions/").and_then(|n| n.split_once(".json.tmp."));
    name.is_some_and(|(version, random)| {
        let hex = |b: u8| b.is_ascii_hexdigit();
        version.len() == 20 && version.bytes().all(|b| b.is_ascii_digit()) && random.bytes().all(hex)
    })
}

fn is_version(path: &str) -> bool {
    let version = path.strip_prefix("_slaf/versions/").and_then(|n| n.strip_suffix(".json"));
    version.is_some_and(|v| v.len() == 20 && v.bytes().all(|b| b.is_ascii_digit()))
}

/// Folders that have the names of versions: no root manifest could get such a name.
fn folders_among_versions(storage: &Storage) -> Result<Vec<String>> {
    let Some(root) = storage.local() else { return Ok(Vec::new()) };
    let folder = "_slaf/versions";
    let entries = match std::fs::read_dir(root.join(folder)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at(storage.full(folder))?,
    };
    let folders = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    let paths = folders.map(|e| format!("{folder}/{}", e.file_name().to_string_lossy()));
    Ok(paths.filter(|p| is_version(p)).collect())
}

/// Whether a path of a root manifest stays below the root.
fn is_below(path: &str) -> bool {
    Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// What the mark of a writer on a local disk says.
#[derive(Serialize, Deserialize)]
struct Owner {
    host: Option<String>,
    process: u32,
}

/// Marks the target as one where a writer is at work. The lock tells others that it lives.
pub(crate) async fn begin(storage: &Storage, id: &str) -> Result<Option<File>> {
    let path = mark(id);
    let owner = |host| -> Result<Vec<u8>> {
        serde_json::to_vec(&Owner { host, process: std::process::id() })
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
    };
    let Some(root) = storage.local() else {
        storage.write(&path, Bytes::from(owner(host())?)).await?;
        return Ok(None);
    };
    let begin = || -> Result<File> {
        let place = root.join(&path);
        for _ in 0..1000 {
            let mut file = match create_with_folders(&place) {
                // Somebody is sweeping the mark, which had no lock for a moment.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                file => file?,
            };
            let locked = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => continue,
                // Without a lock nobody could tell whether the writer lives: then it names no host,
                // and is left alone.
                Err(TryLockError::Error(_)) => false,
            };
            file.write_all(&owner(host().filter(|_| locked))?)?;
            if claim(&file, &place) {
                return Ok(file);
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
    };
    begin().map(Some).at(storage.full(&path))
}

/// Whether the writer of a mark on a local disk is certainly dead: it was of this machine, and its
/// lock is free.
fn is_dead(root: &Path, id: &str) -> bool {
    let path = root.join(mark(id));
    let Ok(mut file) = OpenOptions::new().read(true).write(true).open(&path) else { return false };
    let mut text = String::new();
    if file.try_lock().is_err() || file.read_to_string(&mut text).is_err() {
        return false;
    }
    // A writer that was killed before it could say a word, or is about to: it has written nothing else.
    // One that lives sees that its mark is gone, and makes another: it must not count as dead.
    if text.is_empty() {
        let _ = std::fs::remove_file(&path);
        return false;
    }
    let owner: Option<Owner> = serde_json::from_str(&text).ok();
    owner.and_then(|o| o.host).is_some_and(|h| Some(h) == host())
}

/// Removes what a writer wrote, its mark last.
pub(crate) async fn remove_write(storage: &Storage, id: &str) -> Result<()> {
    for name in TABLES {
        storage.remove(&table(id, name)).await?;
    }
    remove_indexes(storage, id, |_| true).await?;
    for file in [categories(id), extras(id), heads(id), measured(id), staging(id), mark(id)] {
        storage.delete(&file).await?;
    }
    Ok(())
}

/// Removes the numbered files of indexes that a writer wrote, as far as they are unwanted.
pub(crate) async fn remove_indexes(storage: &Storage, id: &str, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    for folder in [NAMES, INDEXES] {
        for (file, _) in storage.list(folder).await? {
            if writer_of(&file) == Some(id) && unwanted(&file) {
                storage.delete(&file).await?;
            }
        }
    }
    Ok(())
}

/// Removes the data files of parts that lost: those that nobody names. What is not named as ours are
/// is somebody else's, although the folder has the id of the write.
pub(crate) async fn remove_parts(storage: &Storage, id: &str, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    for name in ["cells", "by_gene"] {
        for (file, _) in storage.list(&format!("{}/data", table(id, name))).await? {
            // Also one that was not whole when its writer died.
            let is_ours = is_of_part(whole_name(&file).unwrap_or(&file)) || is_nameless(&file);
            if is_ours && unwanted(&file) {
                storage.delete(&file).await?;
            }
        }
    }
    Ok(())
}

/// Whether a writer is at work, or was when it died: it has neither committed nor given up.
pub(crate) async fn is_marked(storage: &Storage, id: &str) -> Result<bool> {
    storage.exists(&mark(id)).await
}

/// Removes the mark of a writer that has committed.
pub(crate) async fn end(storage: &Storage, id: &str) -> Result<()> {
    storage.delete(&mark(id)).await
}

/// What is known of a writer that has not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AtWork,
    Dead,
    Unmarked,
}

/// A file at a target, and whose it is.
struct Found {
    path: String,
    writer: Option<(String, State)>,
    /// Whether it is in a table of another writer.
    is_grown: bool,
}

/// The files at a target, by whose they are. Those of writers at work are not among them.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The committed versions, oldest first.
    pub(crate) versions: Vec<u64>,
    /// The files that these name.
    pub(crate) named: BTreeSet<String>,
    /// Writers that died.
    pub(crate) dead: BTreeSet<String>,
    /// Other files that dead writers left.
    pub(crate) debris: Vec<String>,
    /// Files of writers that have no mark, and that no version names.
    pub(crate) unmarked: Vec<String>,
    /// What is none of these.
    pub(crate) foreign: Vec<String>,
}

impl Survey {
    pub(crate) async fn take(storage: &Storage) -> Result<Survey> {
        // A folder that was never a target may hold anything, and any number of it.
        if storage.list("_slaf").await?.is_empty() {
            let mut foreign = storage.everything(4).await?;
            // Another writer may be about to begin.
            foreign.retain(|f| !f.starts_with("_slaf/") && writer_of_table(f).is_none());
            if !foreign.is_empty() {
                return Ok(Survey { foreign, ..Survey::default() });
            }
        }
        // In this order: a writer whose mark is gone by the time it is looked for has committed by
        // the time that the versions are read, or has removed its files.
        let files = storage.everything(usize::MAX).await?;
        let marks: HashSet<String> = storage.list(WRITING).await?.into_iter().map(|(f, _)| f).collect();
        let mut survey = Survey::default();
        let mut judged = HashMap::new();
        let mut state_of = |id: &str| {
            *judged.entry(id.to_string()).or_insert_with(|| match storage.local() {
                _ if !marks.contains(&mark(id)) => State::Unmarked,
                Some(root) if is_dead(root, id) => State::Dead,
                // An object store does not tell who lives.
                _ => State::AtWork,
            })
        };
        let ids: Vec<&str> = marks.iter().filter_map(|m| writer_of(m)).collect();
        let somebody_writes = ids.iter().any(|id| state_of(id) == State::AtWork);
        let judge = |file: String| {
            let grower = grower_of(&file, ids.iter().copied()).map(Cow::into_owned);
            let writer = grower.as_deref().or_else(|| writer_of(&file)).or_else(|| writer_of_table(&file));
            let mut found = writer.map(|id| (id.to_string(), state_of(id)));
            if let Some((_, state)) = found.as_mut().filter(|_| somebody_writes && is_nameless(&file)) {
                *state = State::AtWork;
            }
            Found { is_grown: grower.is_some(), writer: found, path: file }
        };
        let files: Vec<_> = files.into_iter().map(judge).collect();
        for version in versions::versions(storage).await? {
            match versions::read(storage, version).await {
                Ok(manifest) => survey.add(&manifest),
                // Replaced in this moment.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                // It names nothing: itself and its files are not known to be ours.
                Err(e) if e.kind() == ErrorKind::Corrupt => survey.foreign.push(versions::path(version)),
                Err(e) => return Err(e),
            }
        }
        survey.foreign.extend(folders_among_versions(storage)?);
        survey.sort(files);
        Ok(survey)
    }

    /// Sorts the files.
    fn sort(&mut self, files: Vec<Found>) {
        let writers = self.named.iter().filter_map(|f| writer_of(f).or_else(|| writer_of_table(f)));
        let committed: HashSet<String> = writers.map(str::to_string).collect();
        let grown: HashSet<String> = self.named.iter().filter_map(|f| grower_of(f, []).map(Cow::into_owned)).collect();
        let folder = |f: &str| f.rsplit_once('/').map(|(folder, _)| folder.to_string());
        let folders: HashSet<String> = self.named.iter().filter_map(|f| folder(f)).collect();
        for Found { path: file, writer, is_grown } in files {
            // Versions are known: one that is not there any more was replaced meanwhile.
            if self.named.contains(&file) || is_version(&file) || file == versions::HINT {
                continue;
            }
            let not_whole = whole_name(&file).is_some() || is_nameless(&file);
            match writer {
                Some((_, State::AtWork)) => {}
                // Of a writer that is dead or has committed: what it wrote for an earlier try.
                Some((_, State::Dead)) if is_grown => self.debris.push(file),
                Some((id, State::Unmarked)) if is_grown && grown.contains(&id) => self.debris.push(file),
                // A version has its files: what else has its name is its mark, was not whole, or was of an earlier try.
                Some((id, _))
                    if committed.contains(&id)
                        && (not_whole
                            || is_of_part(&file)
                            || [WRITING, NAMES, INDEXES].iter().any(|f| file.starts_with(f))) =>
                {
                    self.debris.push(file);
                }
                Some((id, _)) if committed.contains(&id) => self.foreign.push(file),
                // What is below `writing` was never committed: marks of which others were quicker.
                Some((_, State::Unmarked)) if file.starts_with(WRITING) => self.debris.push(file),
                Some((_, State::Unmarked)) => self.unmarked.push(file),
                Some((id, State::Dead)) => {
                    if not_whole {
                        self.debris.push(file);
                    }
                    self.dead.insert(id);
                }
                None if is_old_staging(&file) => self.debris.push(file),
                // Earlier versions put no id into the names of tables.
                None if not_whole && folder(&file).is_some_and(|f| folders.contains(&f)) => self.debris.push(file),
                None => self.foreign.push(file),
            }
        }
    }

    fn add(&mut self, manifest: &Manifest) {
        self.versions.push(manifest.version);
        self.named.extend(manifest.files.iter().map(|f| f.path.clone()).filter(|f| is_below(f)));
    }

    /// Removes the files of writers without a mark, unless a version names them by this time: a copy
    /// may have ended meanwhile.
    pub(crate) async fn remove_unmarked(&self, storage: &Storage) -> Result<()> {
        let mut named = BTreeSet::new();
        for version in versions::versions(storage).await? {
            named.extend(versions::read(storage, version).await?.files.into_iter().map(|f| f.path));
        }
        for file in self.unmarked.iter().filter(|f| !named.contains(*f)) {
            storage.delete(file).await?;
        }
        Ok(())
    }

    /// Removes what dead writers left. What cannot be removed is only left over.
    pub(crate) async fn sweep(&self, storage: &Storage) -> Result<()> {
        for file in &self.debris {
            storage.delete(file).await?;
        }
        for id in &self.dead {
            remove_write(storage, id).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_writer_that_is_about_to_say_who_it_is_is_not_dead() {
        let folder = tempfile::tempdir().unwrap();
        let storage = slaf_lance::runtime::block_on(Storage::new(folder.path().to_str().unwrap(), &HashMap::new()));
        let storage = storage.unwrap();
        create_with_folders(&folder.path().join(mark(ID))).unwrap();
        let survey = slaf_lance::runtime::block_on(Survey::take(&storage)).unwrap();
        assert!(!folder.path().join(mark(ID)).exists(), "an empty mark goes");
        // The writer has made another mark, and writes.
        let file = folder.path().join(table(ID, "cells")).join("data/a.lance");
        create_with_folders(&file).unwrap();
        slaf_lance::runtime::block_on(survey.sweep(&storage)).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn names_tell_their_writer() {
        for ours in [
            "_slaf/writing/ID",
            "_slaf/writing/ID.json",
            "_slaf/writing/ID.json#1",
            "_slaf/categories/ID.arrow",
            "_slaf/categories/ID.arrow#2",
            "_slaf/extras/ID.h5",
            "_slaf/heads/ID.bin",
            "_slaf/measured/ID.arrow",
            "_slaf/names/ID-0.bin",
            "_slaf/names/ID-12.bin#1",
            "_slaf/indexes/ID-3.bin",
            "cells-ID.lance/data/.tmpX1",
            "raw_genes-ID.lance/_versions/1.manifest",
        ] {
            let path = ours.replace("ID", ID);
            assert_eq!(writer_of(&path).or_else(|| writer_of_table(&path)), Some(ID), "{path}");
        }
        for foreign in [
            "README.md",
            "_slaf/notes",
            "_slaf/writing/notes",
            "_slaf/writing/ID.txt",
            "_slaf/categories/ID",
            "_slaf/names/ID.bin",
            "_slaf/names/ID-x.bin",
            "_slaf/indexes/ID.bin",
            "_slaf/names/ID-.bin",
            "cells-ID.lance/notes.txt",
            "cells-ID.lance/mine/notes.txt",
            "cells-ID/data/x",
            "mine-ID.lance/data/x",
            "cells.lance/data/x",
            "cells-0123abcd.lance/data/x",
            "_slaf/writing/ID#x",
        ] {
            let path = foreign.replace("ID", ID);
            assert_eq!(writer_of(&path).or_else(|| writer_of_table(&path)), None, "{path}");
        }
        for (grown, by) in [
            (format!("cells-X.lance/data/{ID}-3.lance"), ID),
            (format!("cells-X.lance/_transactions/1-{ID}.txn"), ID),
            (format!("cells-X.lance/_versions/d{}.manifest", 1u64 << 63 | 0x0123_4567_89ab << 15 | 7), ID),
            (format!("cells-X.lance/_versions/d{}.manifest", 1u64 << 63 | 0x1123_4567_89ab << 15), "1123456789ab"),
        ] {
            let path = grown.replace('X', &ID.replace('0', "f"));
            assert_eq!(grower_of(&path, [ID]).as_deref(), Some(by), "{path}");
        }
        assert_eq!(grower_of(&format!("cells.lance/data/{ID}-0.lance"), []).as_deref(), Some(ID));
        for other in [
            format!("cells-{ID}.lance/data/0123.lance"),
            format!("mine.lance/data/{ID}-0.lance"),
            format!("cells.lance/data/mine/{ID}-0.lance"),
            format!("cells.lance/{ID}-0.lance"),
        ] {
            assert_eq!(grower_of(&other, [ID]), None, "{other}");
        }
        assert!(is_old_staging("_slaf/versions/00000000000000000002.json.tmp.0123456789abcdef"));
        assert!(!is_old_staging("_slaf/versions/00000000000000000002.json.bak"));
        assert!(is_below("cells.lance/data/x") && !is_below("../x") && !is_below("/x") && !is_below("a/../../x"));
    }
}
