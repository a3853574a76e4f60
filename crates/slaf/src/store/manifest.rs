//! The root manifest: one JSON file for each version, which pins the version of every table and
//! the hash of every file. `SPEC.md` describes it.

use super::kinds::{self, Named};
pub use super::kinds::{Kind, Slot, ValueType};
use super::table_name::TableName;
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slaf_core::{Dtype, Error, ErrorKind, Result};
use slaf_ingest::{ArrayKey, Axis, ColumnInfo, ColumnKind, FrameInfo, MatrixEncoding, MatrixKey};
pub use slaf_lance::TableEntry;
use std::collections::BTreeMap;

/// The version of the store's layout that this library writes.
pub const FORMAT_VERSION: u32 = 1;

/// How many write ids a version remembers of those before it.
pub const LINEAGE: usize = 64;

/// A reader feature: stripes of `by_gene` may have fewer genes than the store, which has got more
/// since.
pub(crate) const SHORT_STRIPES: &str = "short-stripes";

/// The reader features that are known here.
const READER_FEATURES: [&str; 1] = [SHORT_STRIPES];

/// A writer feature: genes that were not measured in some cells. A reader that does not know it takes
/// them as zeros, as one that does is asked to by default; a writer would lose what is known of them.
pub(crate) const MEASURED: &str = "measured";

/// The writer features that are known here.
pub(crate) const WRITER_FEATURES: [&str; 1] = [MEASURED];

/// A committed version of a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// BLAKE3 of the file, taken with 64 zeros in this place.
    pub checksum: String,
    /// Always `slaf`.
    pub format: String,
    /// The version of the layout; see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What a reader must know to read this version.
    pub reader_features: Vec<String>,
    /// What a writer must know to write a next version.
    pub writer_features: Vec<String>,
    /// The number of this version, and of its file.
    pub version: u64,
    /// Made anew for each write: tells one's own commit from another's.
    pub write_id: String,
    /// Seconds since 1970-01-01, UTC.
    pub created: u64,
    /// The program that wrote it, `slaf 0.1.0` for example.
    pub created_by: String,
    /// What made it, `convert` for example.
    pub operation: String,
    /// The write ids of the versions that this one was made over, the newest first, as far back as
    /// [`LINEAGE`]; none for a store that was made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<String>,
    /// Versions by the names that users gave them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, u64>,
    /// Versions that are removed, or about to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<u64>,
    /// Rows of the table `cells`.
    pub n_cells: u64,
    /// Rows of the table `genes`.
    pub n_genes: u64,
    /// The tables and their pinned versions.
    pub tables: Tables,
    /// The columns of obs, which lie in `cells`.
    pub obs: FrameSchema,
    /// The columns of var, which lie in `genes`.
    pub var: FrameSchema,
    /// The columns of `raw.var`, which lie in `raw_genes`.
    pub raw_var: Option<FrameSchema>,
    /// X, layers, raw, obsp and varp.
    pub matrices: Vec<MatrixEntry>,
    /// The entries of obsm and varm.
    pub arrays: Vec<ArrayEntry>,
    /// The stripes of `by_gene`, in order of their cells.
    pub stripes: Vec<Stripe>,
    /// An Arrow IPC file with the categories of every categorical column.
    pub categories: Option<String>,
    /// The segments of the index of the names of cells, in order of their cells; none without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cell_names: Vec<NameSegment>,
    /// Which genes were measured in which cells; none where all were in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<MeasuredEntry>,
    /// Indexes of arrays for the search by similarity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexEntry>,
    /// A file with the parts of the others that tell where everything in them is; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<String>,
    /// What no table holds.
    pub extras: Option<Extras>,
    /// Every file of this version.
    pub files: Vec<FileEntry>,
}

/// The tables and their pinned versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tables {
    /// One row for each cell: obs, obsm, X, layers, raw and obsp.
    pub cells: TableEntry,
    /// One row for each gene: var, varm and varp.
    pub genes: TableEntry,
    /// The gene-major copy of X.
    pub by_gene: Option<TableEntry>,
    /// One row for each gene of `raw`.
    pub raw_genes: Option<TableEntry>,
}

/// The columns of obs or var.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrameSchema {
    /// The name of the index in AnnData; none if it has none.
    pub index_name: Option<String>,
    /// The columns, in the user's order.
    pub columns: Vec<ColumnSchema>,
}

/// A column of obs or var.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnSchema {
    /// The name of the Lance column.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// The type of the values (of the categories, for a categorical): `bool`, `int8`..`uint64`,
    /// `float16`..`float64`, `string`.
    #[serde(with = "kinds")]
    pub data_type: ValueType,
    /// What the values stand for.
    #[serde(with = "kinds")]
    pub kind: Kind,
    /// Whether the categories have an order.
    #[serde(default)]
    pub ordered: bool,
}

/// A matrix that is held in packed rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MatrixEntry {
    /// Which place of AnnData it has.
    #[serde(with = "kinds")]
    pub slot: Slot,
    /// The user's name of a layer, obsp or varp.
    pub name: String,
    /// The name of the Lance column.
    pub column: String,
    /// What the input was.
    #[serde(with = "kinds")]
    pub encoding: MatrixEncoding,
    /// The value type, by numpy's name.
    #[serde(with = "kinds")]
    pub dtype: Dtype,
    /// Cells, or genes of a varp.
    pub n_rows: u64,
    /// Genes, or cells of an obsp.
    pub n_cols: u64,
    /// Stored values, explicit zeros included.
    pub nnz: u64,
    /// Bytes of its packed rows.
    pub bytes: u64,
}

/// A dense array beside an axis: an entry of obsm or varm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArrayEntry {
    /// Cells for obsm, genes for varm.
    #[serde(with = "kinds")]
    pub axis: Axis,
    /// The user's name, `X_pca` for example.
    pub name: String,
    /// The name of the Lance column; none for an array without columns.
    pub column: Option<String>,
    /// The value type, by numpy's name.
    #[serde(with = "kinds")]
    pub dtype: Dtype,
    /// Values of each row.
    pub width: u64,
}

/// Consecutive cells whose counts `by_gene` holds together: row `first_row + rank` of the table
/// is the gene of that rank.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stripe {
    /// The number of its first cell.
    pub first_cell: u64,
    /// How many cells it holds.
    pub n_cells: u64,
    /// The row of `by_gene` of its gene of rank 0.
    pub first_row: u64,
    /// How many genes, and so rows, it has.
    pub n_genes: u64,
}

/// A part of the index of names: a file about consecutive cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NameSegment {
    /// The file below the root.
    pub path: String,
    /// The number of its first cell.
    pub first_row: u64,
    /// How many cells it is about.
    pub n_rows: u64,
}

/// Which genes were measured in which cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MeasuredEntry {
    /// An Arrow IPC file below the root: a row for each gene, a column for each set of genes.
    pub path: String,
    /// The number of sets.
    pub n_sets: u64,
    /// The sources of the cells, in the order of their cells, which they cover without gaps.
    pub sources: Vec<SourceEntry>,
}

/// Consecutive cells in which the same genes were measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceEntry {
    /// Where the cells come from; none where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number of its first cell.
    pub first_cell: u64,
    /// How many cells it has.
    pub n_cells: u64,
    /// The number of the set of its genes.
    pub set: u64,
}

/// An index of an array, which finds what comparing all of its rows finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IndexEntry {
    /// How it is made: `ivf`. Readers leave out what they do not know.
    pub kind: String,
    /// Cells for obsm, genes for varm.
    #[serde(with = "kinds")]
    pub axis: Axis,
    /// The path of the table that the array is in.
    pub table: String,
    /// The Lance column of the array.
    pub column: String,
    /// How far apart its rows are: `l2`, `cosine` or `ip`.
    pub metric: String,
    /// It is about so many rows, from the first one on.
    pub n_rows: u64,
    /// Into so many lists they are put.
    pub n_lists: u64,
    /// The file that tells of the lists.
    pub head: String,
    /// The files of the lists, in their order.
    pub parts: Vec<String>,
}

/// Elements that are kept as they came, in one HDF5 file in AnnData's on-disk format.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Extras {
    /// The file below the root.
    pub path: String,
    /// For example `uns`, `obsm/frame`.
    pub elements: Vec<String>,
}

/// A file of this version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileEntry {
    /// Below the root.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub blake3: String,
}

impl MatrixEntry {
    /// Which matrix this is.
    pub fn key(&self) -> MatrixKey {
        let name = self.name.clone();
        match self.slot {
            Slot::X => MatrixKey::X,
            Slot::Layers => MatrixKey::Layer(name),
            Slot::Obsp => MatrixKey::Obsp(name),
            Slot::Varp => MatrixKey::Varp(name),
            Slot::Raw => MatrixKey::RawX,
        }
    }

    /// `X`, `layers/counts`, `raw`.
    pub(crate) fn shown(&self) -> String {
        match self.name.as_str() {
            "" => self.slot.name().to_string(),
            name => format!("{}/{name}", self.slot.name()),
        }
    }
}

impl ArrayEntry {
    /// Which array this is.
    pub fn key(&self) -> ArrayKey {
        ArrayKey { axis: self.axis, name: self.name.clone() }
    }

    /// `obsm/X_pca`.
    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", if self.axis == Axis::Cells { "obsm" } else { "varm" }, self.name)
    }
}

impl Tables {
    /// A table, if the store has it.
    pub(crate) fn get(&self, name: TableName) -> Option<&TableEntry> {
        match name {
            TableName::Cells => Some(&self.cells),
            TableName::Genes => Some(&self.genes),
            TableName::ByGene => self.by_gene.as_ref(),
            TableName::RawGenes => self.raw_genes.as_ref(),
        }
    }

    /// The table whose rows are the cells or genes.
    pub(crate) fn of_axis(&self, axis: Axis) -> &TableEntry {
        if TableName::of_axis(axis) == TableName::Cells { &self.cells } else { &self.genes }
    }
}

impl IndexEntry {
    /// Its files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        [&self.head].into_iter().chain(&self.parts)
    }

    /// The array of a version that it is of.
    pub(crate) fn array<'a>(&self, manifest: &'a Manifest) -> Option<&'a ArrayEntry> {
        let table = manifest.tables.of_axis(self.axis);
        let is_its = |a: &&ArrayEntry| a.axis == self.axis && a.column.as_ref() == Some(&self.column);
        manifest.arrays.iter().find(is_its).filter(|_| table.path == self.table && table.rows >= self.n_rows)
    }
}

impl FrameSchema {
    /// A schema whose Lance columns are named `prefix` and a number.
    pub(crate) fn new(info: &FrameInfo, prefix: &str) -> FrameSchema {
        let columns = info.columns.iter().enumerate().map(|(i, c)| {
            let (kind, ordered) = match c.kind {
                ColumnKind::Plain => (Kind::Plain, false),
                ColumnKind::Categorical { ordered } => (Kind::Categorical, ordered),
                ColumnKind::Nullable => (Kind::Nullable, false),
                ColumnKind::NullableNan => (Kind::NullableNan, false),
            };
            let data_type = ValueType::of(&c.data_type);
            ColumnSchema { id: format!("{prefix}{i}"), name: c.name.clone(), data_type, kind, ordered }
        });
        FrameSchema { index_name: info.index_name.clone(), columns: columns.collect() }
    }

    /// Names and types as the readers of files give them.
    pub fn info(&self) -> FrameInfo {
        let columns = self.columns.iter().map(|c| {
            let value = c.data_type.arrow();
            let (kind, data_type) = match c.kind {
                Kind::Plain => (ColumnKind::Plain, value),
                Kind::Nullable => (ColumnKind::Nullable, value),
                Kind::NullableNan => (ColumnKind::NullableNan, value),
                Kind::Categorical => (ColumnKind::Categorical { ordered: c.ordered }, dictionary_of(value)),
            };
            ColumnInfo { name: c.name.clone(), data_type, kind }
        });
        FrameInfo { index_name: self.index_name.clone(), columns: columns.collect() }
    }
}

/// The type of a categorical with categories of this type.
pub(crate) fn dictionary_of(value: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(value))
}

const CHECKSUM_KEY: &str = "\"checksum\": \"";
const NO_CHECKSUM: [u8; 64] = [b'0'; 64];

impl Manifest {
    /// Says which genes were measured, and names the feature where there is something to say.
    pub(crate) fn set_measured(&mut self, measured: Option<MeasuredEntry>) {
        self.writer_features.retain(|f| f != MEASURED);
        if measured.is_some() {
            self.writer_features.push(MEASURED.to_string());
        }
        self.measured = measured;
    }

    /// A file of this version, by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.iter().find(|f| f.path == path)
    }

    /// The bytes of a file of this version; 0 if it is none.
    pub(crate) fn length_of(&self, path: &str) -> u64 {
        self.file(path).map_or(0, |f| f.length)
    }

    /// Leaves out the indexes of arrays that are other ones by now, or gone.
    pub(crate) fn retain_indexes(&mut self) {
        self.take_indexes(|manifest, index| index.array(manifest).is_none());
    }

    /// Takes out some indexes, with their files.
    pub(crate) fn take_indexes(&mut self, is_gone: impl Fn(&Manifest, &IndexEntry) -> bool) -> Vec<IndexEntry> {
        let all = std::mem::take(&mut self.indexes);
        let (gone, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|index| is_gone(self, index));
        self.files.retain(|f| !gone.iter().flat_map(IndexEntry::files).any(|path| *path == f.path));
        self.indexes = kept;
        gone
    }

    /// The file's content, with its checksum.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let blank = Manifest { checksum: String::from_utf8_lossy(&NO_CHECKSUM).into_owned(), ..self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&blank)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("root manifest: {e}")))?;
        let hash = blake3::hash(&bytes).to_hex();
        let at =
            checksum_at(&bytes).ok_or_else(|| Error::new(ErrorKind::Internal, "root manifest without a checksum"))?;
        bytes[at..at + 64].copy_from_slice(hash.as_bytes());
        Ok(bytes)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Manifest> {
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
        if let Some(feature) = head.reader_features.iter().find(|f| !READER_FEATURES.contains(&f.as_str())) {
            return Err(kinds::unknown("reader feature", feature));
        }
        serde_json::from_slice(bytes).map_err(|e| of_later_version(bytes).unwrap_or_else(|| senseless(e)))
    }

    /// The entry of a matrix.
    pub fn matrix(&self, key: &MatrixKey) -> Option<&MatrixEntry> {
        let (slot, name) = Slot::of(key);
        self.matrices.iter().find(|m| m.slot == slot && m.name == name)
    }
}

/// The first name in a root manifest that only a later version knows, as an error.
fn of_later_version(bytes: &[u8]) -> Option<Error> {
    fn unknown<T: Named>(entries: &Value, field: &str) -> Option<Error> {
        entries.as_array()?.iter().find_map(|entry| {
            let name = entry.get(field)?.as_str()?;
            T::of_word(name).is_none().then(|| kinds::unknown(T::WHAT, name))
        })
    }
    let json: Value = serde_json::from_slice(bytes).ok()?;
    let of_frame = |frame: &str| {
        let columns = &json[frame]["columns"];
        unknown::<Kind>(columns, "kind").or_else(|| unknown::<ValueType>(columns, "data_type"))
    };
    let (matrices, arrays) = (&json["matrices"], &json["arrays"]);
    unknown::<Slot>(matrices, "slot")
        .or_else(|| unknown::<MatrixEncoding>(matrices, "encoding"))
        .or_else(|| unknown::<Dtype>(matrices, "dtype"))
        .or_else(|| unknown::<Axis>(arrays, "axis"))
        .or_else(|| unknown::<Dtype>(arrays, "dtype"))
        .or_else(|| ["obs", "var", "raw_var"].into_iter().find_map(of_frame))
}

/// Where the 64 digits of the checksum stand.
fn checksum_at(bytes: &[u8]) -> Option<usize> {
    let key = CHECKSUM_KEY.as_bytes();
    let head = &bytes[..bytes.len().min(256)];
    let at = head.windows(key.len()).position(|w| w == key)? + key.len();
    (bytes.len() >= at + 64).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_versions_wrote_is_written_alike() {
        let folder = std::path::Path::new("../../compat/stores/layout-1.slaf/_slaf/versions");
        let bytes = std::fs::read(folder.join("00000000000000000001.json")).unwrap();
        let manifest = Manifest::from_bytes(&bytes).unwrap();
        assert_eq!(manifest.obs.columns[1].kind, Kind::Categorical);
        assert!(manifest.obs.columns[1].ordered);
        assert_eq!(String::from_utf8(manifest.to_bytes().unwrap()), String::from_utf8(bytes));
    }

    #[test]
    fn names_of_later_versions_are_not_damage() {
        let folder = std::path::Path::new("../../compat/stores/layout-1.slaf/_slaf/versions");
        let text = std::fs::read_to_string(folder.join("00000000000000000001.json")).unwrap();
        let fields = [
            ("slot", "layers", "slot"),
            ("encoding", "csr", "encoding"),
            ("dtype", "int32", "value type"),
            ("axis", "cells", "axis"),
            ("kind", "categorical", "kind of column"),
            ("data_type", "int64", "type of column"),
        ];
        for (field, name, what) in fields {
            let (old, new) = (format!("\"{field}\": \"{name}\""), format!("\"{field}\": \"later\""));
            assert!(text.contains(&old), "{old}");
            let mut bytes = text.replacen(&old, &new, 1).into_bytes();
            let at = checksum_at(&bytes).unwrap();
            bytes[at..at + 64].copy_from_slice(&NO_CHECKSUM);
            let hash = blake3::hash(&bytes).to_hex();
            bytes[at..at + 64].copy_from_slice(hash.as_bytes());
            let error = Manifest::from_bytes(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{error}");
            assert!(error.message().contains(&format!("unknown {what} \"later\"")), "{error}");
        }
    }
}
