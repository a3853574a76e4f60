//! The root manifest: one JSON file for each version, which pins the version of every table and
//! the hash of every file. `SPEC.md` describes it.

use crate::manifest_check::{check, version_of};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Dtype, Error, ErrorKind, Result};
use slaf_ingest::{ArrayKey, Axis, ColumnInfo, ColumnKind, FrameInfo, MatrixEncoding, MatrixKey};
use slaf_lance::Storage;
pub use slaf_lance::TableEntry;

/// The version of the store's layout that this library writes.
pub const FORMAT_VERSION: u32 = 1;

const FOLDER: &str = "_slaf/versions";

/// A committed version of a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// BLAKE3 of the file, taken with 64 zeros in this place.
    pub checksum: String,
    /// Always `slaf`.
    pub format: String,
    pub format_version: u32,
    /// What a reader must know to read this version.
    pub reader_features: Vec<String>,
    /// What a writer must know to write a next version.
    pub writer_features: Vec<String>,
    pub version: u64,
    /// Made anew for each write: tells one's own commit from another's.
    pub write_id: String,
    /// Seconds since 1970-01-01, UTC.
    pub created: u64,
    pub created_by: String,
    pub operation: String,
    pub n_cells: u64,
    pub n_genes: u64,
    pub tables: Tables,
    pub obs: FrameSchema,
    pub var: FrameSchema,
    pub raw_var: Option<FrameSchema>,
    pub matrices: Vec<MatrixEntry>,
    pub arrays: Vec<ArrayEntry>,
    /// The stripes of `by_gene`, in order of their cells.
    pub stripes: Vec<Stripe>,
    /// An Arrow IPC file with the categories of every categorical column.
    pub categories: Option<String>,
    pub extras: Option<Extras>,
    pub files: Vec<FileEntry>,
}

/// The tables and their pinned versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tables {
    pub cells: TableEntry,
    pub genes: TableEntry,
    pub by_gene: Option<TableEntry>,
    pub raw_genes: Option<TableEntry>,
}

/// The columns of obs or var.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FrameSchema {
    pub index_name: Option<String>,
    pub columns: Vec<ColumnSchema>,
}

/// A column of obs or var.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// The name of the Lance column.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// The type of the values (of the categories, for a categorical): `bool`, `int8`..`uint64`,
    /// `float16`..`float64`, `string`.
    pub data_type: String,
    /// `plain`, `categorical` or `nullable`.
    pub kind: String,
    #[serde(default)]
    pub ordered: bool,
}

/// A matrix that is held in packed rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatrixEntry {
    /// `X`, `layers`, `obsp`, `varp` or `raw`.
    pub slot: String,
    /// The user's name of a layer, obsp or varp.
    pub name: String,
    /// The name of the Lance column.
    pub column: String,
    /// What the input was: `csr`, `csc` or `dense`.
    pub encoding: String,
    /// numpy's name of the value type.
    pub dtype: String,
    pub n_rows: u64,
    pub n_cols: u64,
    /// Stored values, explicit zeros included.
    pub nnz: u64,
    /// Bytes of its packed rows.
    pub bytes: u64,
}

/// A dense array beside an axis: an entry of obsm or varm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArrayEntry {
    /// `cells` or `genes`.
    pub axis: String,
    pub name: String,
    /// The name of the Lance column; none for an array without columns.
    pub column: Option<String>,
    pub dtype: String,
    pub width: u64,
}

/// Consecutive cells whose counts `by_gene` holds together: row `first_row + rank` of the table
/// is the gene of that rank.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stripe {
    pub first_cell: u64,
    pub n_cells: u64,
    pub first_row: u64,
    pub n_genes: u64,
}

/// Elements that are kept as they came, in one HDF5 file in AnnData's on-disk format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Extras {
    pub path: String,
    /// For example `uns`, `obsm/frame`.
    pub elements: Vec<String>,
}

/// A file of this version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    pub path: String,
    pub length: u64,
    pub blake3: String,
}

impl MatrixEntry {
    /// Which matrix this is.
    ///
    /// # Errors
    /// `unsupported-feature` for a slot of a later version.
    pub fn key(&self) -> Result<MatrixKey> {
        let name = self.name.clone();
        Ok(match self.slot.as_str() {
            "X" => MatrixKey::X,
            "layers" => MatrixKey::Layer(name),
            "obsp" => MatrixKey::Obsp(name),
            "varp" => MatrixKey::Varp(name),
            "raw" => MatrixKey::RawX,
            other => return Err(unknown("slot", other)),
        })
    }

    /// The slot and name of a key.
    pub(crate) fn slot_of(key: &MatrixKey) -> (&'static str, String) {
        match key {
            MatrixKey::X => ("X", String::new()),
            MatrixKey::Layer(n) => ("layers", n.clone()),
            MatrixKey::Obsp(n) => ("obsp", n.clone()),
            MatrixKey::Varp(n) => ("varp", n.clone()),
            MatrixKey::RawX => ("raw", String::new()),
        }
    }

    /// The value type.
    ///
    /// # Errors
    /// `unsupported-feature` for a type of a later version.
    pub fn dtype(&self) -> Result<Dtype> {
        Dtype::from_name(&self.dtype)
    }

    /// What the input was.
    ///
    /// # Errors
    /// `unsupported-feature` for an encoding of a later version.
    pub fn encoding(&self) -> Result<MatrixEncoding> {
        [MatrixEncoding::Csr, MatrixEncoding::Csc, MatrixEncoding::Dense]
            .into_iter()
            .find(|e| e.as_str() == self.encoding)
            .ok_or_else(|| unknown("encoding", &self.encoding))
    }
}

impl ArrayEntry {
    /// Which array this is.
    pub fn key(&self) -> ArrayKey {
        let axis = if self.axis == "cells" { Axis::Cells } else { Axis::Genes };
        ArrayKey { axis, name: self.name.clone() }
    }
}

impl FrameSchema {
    /// A schema whose Lance columns are named `prefix` and a number.
    pub(crate) fn new(info: &FrameInfo, prefix: &str) -> FrameSchema {
        let columns = info.columns.iter().enumerate().map(|(i, c)| {
            let (kind, ordered) = match c.kind {
                ColumnKind::Plain => ("plain", false),
                ColumnKind::Categorical { ordered } => ("categorical", ordered),
                ColumnKind::Nullable => ("nullable", false),
                ColumnKind::NullableNan => ("nullable-nan", false),
            };
            ColumnSchema {
                id: format!("{prefix}{i}"),
                name: c.name.clone(),
                data_type: crate::frames::type_name(&c.data_type).to_string(),
                kind: kind.to_string(),
                ordered,
            }
        });
        FrameSchema { index_name: info.index_name.clone(), columns: columns.collect() }
    }

    /// Names and types as the readers of files give them.
    ///
    /// # Errors
    /// `unsupported-feature` for a type or kind of a later version.
    pub fn info(&self) -> Result<FrameInfo> {
        let columns = self.columns.iter().map(|c| {
            let value = crate::frames::type_of(&c.data_type)?;
            let (kind, data_type) = match c.kind.as_str() {
                "plain" => (ColumnKind::Plain, value),
                "nullable" => (ColumnKind::Nullable, value),
                "nullable-nan" => (ColumnKind::NullableNan, value),
                "categorical" => (ColumnKind::Categorical { ordered: c.ordered }, crate::frames::dictionary_of(value)),
                other => return Err(unknown("kind of column", other)),
            };
            Ok(ColumnInfo { name: c.name.clone(), data_type, kind })
        });
        Ok(FrameInfo { index_name: self.index_name.clone(), columns: columns.collect::<Result<_>>()? })
    }
}

pub(crate) fn unknown(what: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::UnsupportedFeature,
        format!("unknown {what} \"{name}\": written by a later version of SLAF? please upgrade"),
    )
}

const CHECKSUM_KEY: &str = "\"checksum\": \"";
const NO_CHECKSUM: [u8; 64] = [b'0'; 64];

impl Manifest {
    /// The file's content, with its checksum.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let blank = Manifest { checksum: String::from_utf8_lossy(&NO_CHECKSUM).into_owned(), ..self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&blank)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("root manifest: {e}")))?;
        let hash = blake3::hash(&bytes).to_hex();
        let at =
            checksum_at(&bytes).ok_or_else(|| Error::new(ErrorKind::Internal, "root manifest without a checksum"))?;
        bytes[at..at + 64].copy_from_slice(hash.as_bytes());
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Manifest> {
        if bytes.is_empty() {
            return Err(Error::corrupt("the root manifest is empty"));
        }
        let at = checksum_at(bytes).ok_or_else(|| Error::corrupt("not a root manifest"))?;
        let mut blank = bytes.to_vec();
        blank[at..at + 64].copy_from_slice(&NO_CHECKSUM);
        if blake3::hash(&blank).to_hex().as_bytes() != &bytes[at..at + 64] {
            return Err(Error::corrupt("the root manifest does not match its checksum"));
        }
        // The features come first: what a later version means by the other fields is unknown.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            format_version: u32,
            reader_features: Vec<String>,
        }
        let senseless = |e: serde_json::Error| Error::corrupt(format!("root manifest: {e}"));
        let head: Head = serde_json::from_slice(bytes).map_err(senseless)?;
        if head.format != "slaf" || head.format_version > FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedFeature,
                format!(
                    "format \"{}\" version {}, but this SLAF reads versions up to {FORMAT_VERSION}: please upgrade",
                    head.format, head.format_version
                ),
            ));
        }
        if let Some(feature) = head.reader_features.first() {
            return Err(unknown("reader feature", feature));
        }
        serde_json::from_slice(bytes).map_err(senseless)
    }

    /// The entry of a matrix.
    pub fn matrix(&self, key: &MatrixKey) -> Option<&MatrixEntry> {
        let (slot, name) = MatrixEntry::slot_of(key);
        self.matrices.iter().find(|m| m.slot == slot && m.name == name)
    }
}

/// Where the 64 digits of the checksum stand.
fn checksum_at(bytes: &[u8]) -> Option<usize> {
    let key = CHECKSUM_KEY.as_bytes();
    let head = &bytes[..bytes.len().min(256)];
    let at = head.windows(key.len()).position(|w| w == key)? + key.len();
    (bytes.len() >= at + 64).then_some(at)
}

fn file_of(version: u64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

/// The committed versions, oldest first. A file that is no version is not one.
pub(crate) async fn versions(storage: &Storage) -> Result<Vec<u64>> {
    let files = storage.list(FOLDER).await?;
    let mut versions: Vec<u64> =
        files.iter().filter_map(|(f, _)| version_of(f.strip_prefix(FOLDER)?.strip_prefix('/')?)).collect();
    versions.sort_unstable();
    Ok(versions)
}

/// Loads a version, the newest one by default.
pub(crate) async fn load(storage: &Storage, version: Option<u64>) -> Result<Manifest> {
    if storage.local().is_some_and(|path| path.is_file()) {
        return Err(other_than_a_store(storage));
    }
    for _ in 0..10 {
        match load_once(storage, version).await {
            // Somebody has just replaced what was the newest version.
            Err(e) if e.kind() == ErrorKind::NotFound && version.is_none() && !versions(storage).await?.is_empty() => {}
            done => return done,
        }
    }
    load_once(storage, version).await
}

async fn load_once(storage: &Storage, version: Option<u64>) -> Result<Manifest> {
    let all = versions(storage).await?;
    let Some(&newest) = all.last() else { return Err(no_store(storage).await) };
    let wanted = version.unwrap_or(newest);
    if !all.contains(&wanted) {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no version {wanted}; there are versions {} to {newest}", all[0]),
        )
        .at(storage.uri()));
    }
    match read(storage, wanted).await {
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            for &older in all.iter().rev().filter(|&&v| v < wanted) {
                if read(storage, older).await.is_ok() {
                    let place = e.location().unwrap_or(storage.uri()).to_string();
                    return Err(Error::corrupt(format!(
                        "{}; version {older} is intact: open it with version={older}",
                        e.message()
                    ))
                    .at(place));
                }
            }
            Err(e)
        }
        other => other,
    }
}

pub(crate) async fn read(storage: &Storage, version: u64) -> Result<Manifest> {
    let file = file_of(version);
    let bytes = storage.read(&file).await?;
    let manifest = Manifest::from_bytes(&bytes).at(storage.full(&file))?;
    if manifest.version != version {
        return Err(Error::corrupt(format!("holds version {}", manifest.version)).at(storage.full(&file)));
    }
    check(&manifest).at(storage.full(&file))?;
    Ok(manifest)
}

/// Something is there that is no store; whoever opens it says what.
fn other_than_a_store(storage: &Storage) -> Error {
    Error::new(ErrorKind::NotAStore, "not a SLAF store (no _slaf/versions in it)").at(storage.uri())
}

/// Why a path without versions does not open.
async fn no_store(storage: &Storage) -> Error {
    let error = match storage.list("").await {
        Ok(files) if files.is_empty() && storage.local().is_none_or(|p| !p.exists()) => match storage.is_file().await {
            Ok(true) => return other_than_a_store(storage),
            Ok(false) => Error::new(ErrorKind::NotFound, "no such store"),
            Err(e) => return e,
        },
        Ok(files) if files.is_empty() => Error::new(
            ErrorKind::NotAStore,
            "an empty folder: perhaps of an interrupted conversion; convert again with --overwrite",
        ),
        Ok(files) if files.iter().any(|(f, _)| f.starts_with("_slaf/")) => Error::new(
            ErrorKind::NotAStore,
            "a store without a root manifest: it is being copied or converted, or that was interrupted; wait for it, \
             or convert again with --overwrite",
        ),
        Ok(_) => return other_than_a_store(storage),
        Err(e) => e,
    };
    error.at(storage.uri())
}

/// Commits a version: the one step that makes a write visible. `lost` is the error if another
/// writer was first. On a local disk the file has the name `staging` until it is whole.
///
/// A lost answer is looked up: if the version is there and carries our write id, it is ours.
pub(crate) async fn commit(
    storage: &Storage,
    manifest: &Manifest,
    staging: &str,
    durable: bool,
    lost: impl Fn() -> Error,
) -> Result<()> {
    let file = file_of(manifest.version);
    let unknown = |e: Error| {
        let what = format!(
            "the answer to the commit of version {} was lost ({}); open the store to see whether it is there",
            manifest.version,
            e.message()
        );
        Error::new(ErrorKind::CommitOutcomeUnknown, what).at(storage.uri()).with_source(e)
    };
    if let Err(e) = storage.create(&file, Bytes::from(manifest.to_bytes()?), staging, durable).await {
        match read(storage, manifest.version).await {
            Ok(there) if there.write_id == manifest.write_id => {}
            Ok(_) => return Err(lost()),
            Err(_) if e.kind() == ErrorKind::AlreadyExists => return Err(lost()),
            // An object store may still carry out a request whose answer did not come.
            Err(read)
                if read.kind() == ErrorKind::NotFound && (storage.local().is_some() || e.kind() != ErrorKind::Io) =>
            {
                return Err(e);
            }
            Err(_) => return Err(unknown(e)),
        }
    }
    // Others may have gone on to later versions and removed the one that was in our place.
    let newest = versions(storage).await.map_err(unknown)?.last().copied();
    if newest.is_some_and(|n| n > manifest.version) {
        storage.delete(&file).await?;
        return Err(lost());
    }
    Ok(())
}

/// The path of a version's file, for syncing.
pub(crate) fn path(version: u64) -> String {
    file_of(version)
}
#[cfg(test)]
mod tests {
    use super::*;
    use slaf_lance::runtime::block_on;

    #[test]
    fn a_commit_is_ours_lost_or_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let (input, store) = (folder.path().join("a.h5ad"), folder.path().join("a.slaf"));
        slaf_testing::Sample::new(1, 5, 4).write_h5ad(&input, MatrixEncoding::Csr).unwrap();
        let options = crate::ConvertOptions::default();
        crate::convert(&[&input], store.to_str().unwrap(), &options, &|_| true).unwrap();
        let storage = block_on(Storage::new(store.to_str().unwrap(), &Default::default())).unwrap();
        let first = block_on(load(&storage, None)).unwrap();
        let commit = |version, write_id: &str| {
            let manifest = Manifest { version, write_id: write_id.to_string(), ..first.clone() };
            let lost = || Error::new(ErrorKind::Conflict, "lost");
            let committed = block_on(commit(&storage, &manifest, "_slaf/writing/x.json", true, lost));
            committed.map_err(|e| e.kind())
        };
        let there = || block_on(versions(&storage)).unwrap();
        assert_eq!(commit(5, "five"), Ok(()));
        // The answer was lost, and the commit is tried again.
        assert_eq!(commit(5, "five"), Ok(()));
        assert_eq!(commit(5, "other"), Err(ErrorKind::Conflict));
        // Its place is free, because others have passed: nobody would ever see it.
        assert_eq!(commit(3, "three"), Err(ErrorKind::Conflict));
        assert_eq!(there(), [1, 5]);
        assert_eq!(block_on(load(&storage, None)).unwrap().write_id, "five");
        assert!(!store.join("_slaf/writing/x.json").exists());
    }
}
