//! What every format is read into.

use crate::measured::Measured;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use slaf_core::{CsrChunk, Dtype, Error, ErrorKind, Result, Values};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The cell axis (obs) or the gene axis (var).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// The rows of X.
    Cells,
    /// The columns of X.
    Genes,
}

slaf_core::names!(Axis, "axis", { Cells => "obs", Genes => "var" });

/// How pandas held a column: what a writer needs to give the same column back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A numpy array: no nulls. Strings are AnnData's `string-array`.
    Plain,
    /// A categorical: a `Dictionary(Int32, _)` array whose values are all categories, used or
    /// not, in order; a missing value is a null key.
    Categorical {
        /// Whether the categories have an order, as pandas says.
        ordered: bool,
    },
    /// A pandas nullable array (`Int64`, `boolean`, `string`): nulls are in the validity bitmap.
    Nullable,
    /// Text of pandas' type `str`, which is as `string` but that missing values are NaN, not NA.
    NullableNan,
}

impl ColumnKind {
    /// Whether a file keeps a mask beside the values.
    pub fn is_nullable(&self) -> bool {
        matches!(self, ColumnKind::Nullable | ColumnKind::NullableNan)
    }
}

/// Name and type of a column of obs or var.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnInfo {
    /// The user's name: any string.
    pub name: String,
    /// Boolean, Int8..UInt64, Float16..Float64, `Utf8`, or `Dictionary(Int32, one of these)`.
    pub data_type: DataType,
    /// How pandas held it.
    pub kind: ColumnKind,
}

/// The columns of obs or var, without their values.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FrameInfo {
    /// The name of the index, where it has one (AnnData's `_index` attribute names the column).
    pub index_name: Option<String>,
    /// The columns in the file's `column-order`, without the index.
    pub columns: Vec<ColumnInfo>,
}

/// A column with values.
#[derive(Clone, Debug)]
pub struct Column {
    /// What it is called, and its type.
    pub info: ColumnInfo,
    /// As many values as the frame has rows, of the type in `info`.
    pub array: ArrayRef,
}

/// Some rows of obs or var.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The index, as strings (AnnData turns other indexes into strings, too).
    pub index: Vec<String>,
    /// As many as were asked for, in that order.
    pub columns: Vec<Column>,
}

/// A matrix with the cell axis or the gene axis on its rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatrixKey {
    /// cells x genes
    X,
    /// cells x genes
    Layer(String),
    /// cells x cells
    Obsp(String),
    /// genes x genes
    Varp(String),
    /// cells x genes of raw
    RawX,
}

impl MatrixKey {
    /// The matrix of a slot of AnnData and, where the slot has several, a name.
    ///
    /// # Errors
    /// `invalid-argument` for a slot without matrices, and a name where there is one matrix only.
    pub fn of_slot(slot: &str, name: &str) -> Result<MatrixKey> {
        Ok(match (slot, name) {
            ("X", "") => MatrixKey::X,
            ("raw", "") => MatrixKey::RawX,
            ("layers", _) => MatrixKey::Layer(name.into()),
            ("obsp", _) => MatrixKey::Obsp(name.into()),
            ("varp", _) => MatrixKey::Varp(name.into()),
            _ => return Err(Error::invalid(format!("no matrix \"{name}\" in a slot \"{slot}\""))),
        })
    }
}

impl fmt::Display for MatrixKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MatrixKey::X => f.write_str("X"),
            MatrixKey::Layer(n) => write!(f, "layers/{n}"),
            MatrixKey::Obsp(n) => write!(f, "obsp/{n}"),
            MatrixKey::Varp(n) => write!(f, "varp/{n}"),
            MatrixKey::RawX => f.write_str("raw/X"),
        }
    }
}

/// How the input held a matrix; an export writes it the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatrixEncoding {
    /// Compressed rows.
    Csr,
    /// Compressed columns.
    Csc,
    /// Every value is stored.
    Dense,
}

slaf_core::names!(MatrixEncoding, "encoding", { Csr => "csr", Csc => "csc", Dense => "dense" });

/// A matrix of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixInfo {
    /// Its slot.
    pub key: MatrixKey,
    /// How the input holds it.
    pub encoding: MatrixEncoding,
    /// The type of the values as stored. Text formats give the type that holds all values of
    /// the file exactly: an integer that none holds is a loss.
    pub dtype: Dtype,
    /// Cells, or genes for varp.
    pub n_rows: u64,
    /// Genes, or cells for obsp.
    pub n_cols: u64,
    /// Stored values, where the file says so without being read.
    pub nnz: Option<u64>,
}

/// A dense two-dimensional numeric array beside an axis: an entry of obsm or varm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArrayKey {
    /// The axis of its rows.
    pub axis: Axis,
    /// The user's name: any string.
    pub name: String,
}

/// Shape and type of an [`ArrayKey`]'s array.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayInfo {
    /// Its place.
    pub key: ArrayKey,
    /// The type of its values.
    pub dtype: Dtype,
    /// As many as the axis is long.
    pub n_rows: u64,
    /// May be 0.
    pub n_cols: u64,
}

/// Something in the input that no slot can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The element, as a path inside of the file.
    pub path: String,
    /// Why no slot holds it.
    pub reason: String,
}

/// All that is known of an input without reading its values.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// For people: `h5ad (AnnData 0.8)`, `10x h5 v3`, `10x mtx v2`, `loom`, `csv`.
    pub format: String,
    /// The length of the cell axis.
    pub n_cells: u64,
    /// The length of the gene axis.
    pub n_genes: u64,
    /// The columns of obs.
    pub obs: FrameInfo,
    /// The columns of var.
    pub var: FrameInfo,
    /// The var frame of raw, if there is a raw.
    pub raw_var: Option<FrameInfo>,
    /// X first, if there is an X.
    pub matrices: Vec<MatrixInfo>,
    /// The numeric arrays of obsm and varm.
    pub arrays: Vec<ArrayInfo>,
    /// Elements that are kept as they are: the paths (without a leading slash) of HDF5 objects
    /// that [`Input::write_extras`] copies, such as `uns`, `obsm/frame`, `raw/varm`.
    pub extras: Vec<String>,
    /// Which genes were measured in which cells, where the input tells it and it is not all in all.
    pub measured: Option<Measured>,
    /// What an import would leave out.
    pub losses: Vec<Loss>,
    /// What the reader decided, for the conversion report: `genes in rows (detected)`.
    pub notes: Vec<String>,
}

/// How to open an input.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// 10x h5 of v2 and folders with several genomes: read this one only; 10x h5 of v3: read the
    /// features of this genome only.
    pub genome: Option<String>,
    /// 10x v3: read the features of this type only, for example `Gene Expression`.
    pub feature_type: Option<String>,
    /// MuData: read this modality.
    pub modality: Option<String>,
    /// csv and tsv: whether genes are rows. `None` detects, and says so in the notes.
    pub genes_in_rows: Option<bool>,
    /// Where temporary files go. `None` is the system's folder.
    pub temp_dir: Option<PathBuf>,
    /// Bytes that the reader may hold for sorting and buffering; 0 means 256 MiB.
    pub memory: usize,
    /// Which genes were measured in the cells, where the file does not tell.
    pub measured: Option<Measured>,
}

/// How to cut a matrix into chunks. A chunk ends at whichever limit comes first, and has at
/// least one row.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Rows of a chunk.
    pub max_rows: usize,
    /// Stored values of a chunk.
    pub max_nnz: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions { max_rows: 65_536, max_nnz: 4 << 20 }
    }
}

/// The rows of a matrix from the first to the last, in chunks.
///
/// Every chunk satisfies [`CsrChunk::validate`]: columns rise strictly within a row. Unsorted
/// rows are sorted; values at duplicate positions are added (as SciPy reads them; the stream
/// counts them, and the value type widens rather than overflow or round whole numbers). Explicit
/// zeros of sparse inputs are kept; zeros of dense inputs are left out, but -0.0 is kept.
pub trait RowStream: Iterator<Item = Result<CsrChunk>> + Send {
    /// How many duplicate positions were added up so far.
    fn duplicates(&self) -> u64 {
        0
    }
}

/// An opened single-cell data set.
///
/// Errors are `malformed-input` (or `unsupported-input`), and name the element inside of the
/// file; the caller adds the file's path. No content may cause a panic or an allocation that is
/// not bounded by the file's own size and the memory option.
pub trait Input: Send + Sync {
    /// What the input holds.
    fn description(&self) -> &Description;

    /// Rows of obs.
    ///
    /// # Errors
    /// See the trait.
    fn obs(&self, rows: Range<u64>) -> Result<Frame>;

    /// All of var.
    ///
    /// # Errors
    /// See the trait.
    fn var(&self) -> Result<Frame>;

    /// All of raw's var, if there is a raw.
    ///
    /// # Errors
    /// See the trait.
    fn raw_var(&self) -> Result<Option<Frame>>;

    /// A new pass over a matrix of the description. Streams are independent of each other and
    /// may be read in different threads.
    ///
    /// # Errors
    /// See the trait.
    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>>;

    /// A new pass over some rows of a matrix that has the cell axis.
    ///
    /// # Errors
    /// See the trait; `internal` where [`Input::has_cheap_rows`] says that there are none.
    fn matrix_rows(&self, key: &MatrixKey, rows: Range<u64>, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        match rows == (0..self.description().n_cells) {
            true => self.matrix(key, options),
            false => Err(not_from_within(key)),
        }
    }

    /// Whether some rows of the matrices cost their share of a pass, so that several readers may each
    /// read a part of the input. Otherwise it is read whole.
    fn has_cheap_rows(&self) -> bool {
        false
    }

    /// For each column of a matrix, how many rows have a value there, from a sample spread over
    /// the whole file when counting all would cost a pass.
    ///
    /// # Errors
    /// See the trait.
    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>>;

    /// Rows of an array of the description, row-major.
    ///
    /// # Errors
    /// See the trait.
    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values>;

    /// Writes a new HDF5 file that holds the elements of [`Description::extras`] at their own
    /// paths, exactly, with the groups above them, and nothing else. A writer of h5ad files adds
    /// the rest to it. Without extras, the file has an empty root.
    ///
    /// # Errors
    /// See the trait; `already-exists` if there is something at `target`.
    fn write_extras(&self, target: &Path) -> Result<()> {
        create_empty_hdf5(target)
    }
}

/// Who asks for some rows of a matrix that is read whole.
pub(crate) fn not_from_within(key: &MatrixKey) -> Error {
    Error::new(ErrorKind::Internal, "its rows are read all or not at all").at(key)
}

/// Writes an HDF5 file with an empty root.
pub(crate) fn create_empty_hdf5(target: &Path) -> Result<()> {
    std::fs::File::create_new(target)?;
    hdf5_pure::FileBuilder::new()
        .write(target)
        .map_err(|e| Error::new(ErrorKind::Io, format!("HDF5: {e}")).with_source(e))
}
