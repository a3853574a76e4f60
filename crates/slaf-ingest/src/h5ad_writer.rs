//! Streaming writing of h5ad files, in AnnData's on-disk format.

mod element;
mod encoding;
mod frame;
mod matrix;

pub(crate) use element::write as write_into;
pub use element::{Element, write_element};
pub use encoding::check_name;

use crate::h5::{Group, H5File};
use crate::h5_out::{DatasetWriter, Filter, H5Out, copy_tree, dtype_type};
use crate::model::{Frame, FrameInfo, MatrixEncoding, OpenOptions};
use crate::output::exists;
use crate::temporary::{file_beside, folder_of, persist};
use encoding::{CHUNK, bytes_of, encoding_attrs, set_encoding, widened};
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Values};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// gzip level of h5py and AnnData.
const LEVEL: u32 = 4;
/// The mappings that every AnnData file has.
const MAPPINGS: [&str; 6] = ["layers", "obsm", "obsp", "uns", "varm", "varp"];

/// How the values of an h5ad are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip, as `AnnData.write_h5ad(compression="gzip")` does.
    Gzip,
}

/// How to write an h5ad.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// How matrices and columns are compressed.
    pub compression: Compression,
    /// Where temporary files for sorting go. `None` is the system's folder.
    pub temp_dir: Option<PathBuf>,
    /// Bytes that the writer may hold for sorting; 0 means 256 MiB.
    pub memory: usize,
    /// Fail with `already-exists` where something is at the path, in place of replacing it.
    pub keep_existing: bool,
}

/// Writes an h5ad part by part, in bounded memory.
///
/// The file grows under a temporary name in the target's folder and is renamed by
/// [`H5adWriter::finish`]; dropped before, it leaves nothing. An error of any other method leaves
/// the writer unusable: drop it.
///
/// ```
/// use slaf_ingest::{FrameInfo, H5adWriter, Frame, MatrixEncoding, WriteOptions};
/// use slaf_core::{CsrChunk, Dtype, Values};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.h5ad");
/// let mut writer = H5adWriter::create(&path, WriteOptions::default())?;
/// let names = |n: &[&str]| Ok(Frame { index: n.iter().map(|s| s.to_string()).collect(), columns: vec![] });
/// writer.write_frame("obs", None, &FrameInfo::default(), [names(&["cell"])])?;
/// writer.write_frame("var", None, &FrameInfo::default(), [names(&["gene1", "gene2"])])?;
/// let x = CsrChunk { indptr: vec![0, 1], indices: vec![1], values: Values::F32(vec![3.0]) };
/// writer.write_matrix("X", MatrixEncoding::Csr, Dtype::F32, 1, 2, None, [Ok(x)])?;
/// writer.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct H5adWriter {
    out: H5Out,
    temporary: NamedTempFile,
    target: PathBuf,
    keep_existing: bool,
    filter: Filter,
    sorting: OpenOptions,
}

impl H5adWriter {
    /// Begins a file. What is at `path` stays until [`H5adWriter::finish`] replaces it.
    ///
    /// # Errors
    /// `already-exists` with `keep_existing`; those of creating a file in the folder of `path`.
    pub fn create(path: &Path, options: WriteOptions) -> Result<H5adWriter> {
        if options.keep_existing && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let temporary = file_beside(path)?;
        let out = H5Out::new(temporary.as_file().try_clone().at(path.display())?);
        let filter = match options.compression {
            Compression::None => Filter::None,
            Compression::Gzip => Filter::Deflate(LEVEL),
        };
        let sorting = OpenOptions { temp_dir: options.temp_dir, memory: options.memory, ..OpenOptions::default() };
        let (target, keep_existing) = (path.to_owned(), options.keep_existing);
        Ok(H5adWriter { out, temporary, target, keep_existing, filter, sorting })
    }

    /// Writes `obs`, `var` or `raw/var` (or a frame of obsm) from blocks of rows. A name of the
    /// index in `index_name` goes before that of `info`.
    ///
    /// The categories of categoricals are taken from the first block, so that even an axis
    /// without rows needs one; later blocks must have the same.
    ///
    /// # Errors
    /// `invalid-argument` for names that HDF5 cannot hold; `unsupported-feature` for a type that
    /// AnnData has no form for; those of the blocks and of writing.
    pub fn write_frame(
        &mut self,
        group: &str,
        index_name: Option<&str>,
        info: &FrameInfo,
        frames: impl IntoIterator<Item = Result<Frame>>,
    ) -> Result<()> {
        self.prepare(group)?;
        let index_name = index_name.or(info.index_name.as_deref());
        frame::write(&mut self.out, group, index_name, info, self.filter, frames).at(group)
    }

    /// Writes a frame anywhere inside of an element, as [`H5adWriter::write_frame`] does.
    pub(crate) fn write_inner_frame(
        &mut self,
        path: &str,
        info: &FrameInfo,
        frames: impl IntoIterator<Item = Result<Frame>>,
    ) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            make_group(&mut self.out, parent)?;
        }
        frame::write(&mut self.out, path, info.index_name.as_deref(), info, self.filter, frames).at(path)
    }

    /// Writes a matrix from chunks of its rows to a path such as `X`, `layers/a` or `raw/X`.
    ///
    /// `nnz`, where it is known, must be right; without it, a matrix that might have 2^31 or more
    /// values gets 64-bit indices. Values of a narrower type than `dtype` are widened.
    ///
    /// # Errors
    /// `invalid-argument` for a key that HDF5 cannot hold; `malformed-input` when the chunks do
    /// not fit the shape, `nnz` or type; those of the chunks and of writing.
    #[allow(clippy::too_many_arguments)]
    pub fn write_matrix(
        &mut self,
        path: &str,
        encoding: MatrixEncoding,
        dtype: Dtype,
        n_rows: u64,
        n_cols: u64,
        nnz: Option<u64>,
        chunks: impl IntoIterator<Item = Result<CsrChunk>>,
    ) -> Result<()> {
        self.prepare(path)?;
        let shape = matrix::Shape { dtype, n_rows, n_cols, nnz };
        let mut to = matrix::Target { out: &mut self.out, filter: self.filter, sorting: &self.sorting };
        matrix::write(&mut to, path, encoding, shape, chunks).at(path)
    }

    /// Writes a dense array, such as `obsm/X_pca`, from row-major blocks of any length.
    ///
    /// # Errors
    /// As [`H5adWriter::write_matrix`].
    pub fn write_array(
        &mut self,
        path: &str,
        dtype: Dtype,
        n_rows: u64,
        n_cols: u64,
        blocks: impl IntoIterator<Item = Result<Values>>,
    ) -> Result<()> {
        self.prepare(path)?;
        let write = || {
            let mut writer = DatasetWriter::new(dtype_type(dtype), vec![n_cols], self.filter, CHUNK)?;
            let (mut bytes, mut n) = (Vec::new(), 0_u64);
            for block in blocks {
                let block = widened(block?, dtype)?;
                n += block.len() as u64;
                let raw = bytes_of(&block, &mut bytes);
                writer.push(&mut self.out, raw)?;
            }
            if n_rows.checked_mul(n_cols) != Some(n) {
                return Err(Error::malformed(format!("{n} values for an array of {n_rows} x {n_cols}")));
            }
            writer.finish(&mut self.out, path, n_rows, &encoding_attrs("array", "0.2.0"))
        };
        write().at(path)
    }

    /// Copies elements, with everything in them, from an HDF5 file that is held as bytes, to the
    /// same paths.
    ///
    /// # Errors
    /// `corrupt` if the bytes are no HDF5 file; `not-found`; `unsupported-input` for references,
    /// opaque values and other types that hold no data of their own; those of reading and writing.
    pub fn copy_extras(&mut self, image: Vec<u8>, paths: &[String]) -> Result<()> {
        let file = H5File::of_bytes(image).map_err(|e| Error::corrupt(e.to_string()).with_source(e))?;
        let source = Group::root(&file);
        paths.iter().try_for_each(|path| self.copy_element(&source, path, &[]))
    }

    /// Copies an element to the same path, but for the paths in `skip`.
    pub(crate) fn copy_element(&mut self, source: &Group, path: &str, skip: &[String]) -> Result<()> {
        make_parents(&mut self.out, path)?;
        copy_tree(&mut self.out, source, path, path, self.filter, skip)
    }

    /// Writes what every AnnData file has, syncs the file and gives it its name.
    ///
    /// # Errors
    /// `already-exists` with `keep_existing`, if something came to the path meanwhile; those of
    /// writing. Nothing is left in that case.
    pub fn finish(mut self) -> Result<()> {
        for mapping in MAPPINGS {
            if !self.out.contains(mapping) {
                set_encoding(&mut self.out, mapping, "dict", "0.1.0")?;
            }
        }
        for frame in ["obs", "var"] {
            if !self.out.contains(frame) {
                return Err(Error::new(ErrorKind::Internal, format!("{frame} was not written")));
            }
        }
        set_encoding(&mut self.out, "", "anndata", "0.1.0")?;
        self.finish_part()
    }

    /// Ends a file that holds some elements only; syncs it and gives it its name.
    pub(crate) fn finish_part(self) -> Result<()> {
        let file = self.out.finish().at(self.target.display())?;
        file.sync_all().at(self.target.display())?;
        persist(self.temporary, &self.target, !self.keep_existing).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => exists(&self.target),
            _ => e,
        })?;
        sync_folder(folder_of(&self.target))
    }

    /// Checks a path and makes its parent group.
    fn prepare(&mut self, path: &str) -> Result<()> {
        let (parent, key) = match path.strip_prefix("raw/") {
            Some(rest) => match rest.split_once('/') {
                Some((_, key)) => ("raw/varm", key),
                None => ("raw", rest),
            },
            None => path.split_once('/').unwrap_or(("", path)),
        };
        check_name(key)?;
        make_group(&mut self.out, parent)?;
        if self.out.contains(path) {
            return Err(Error::new(ErrorKind::AlreadyExists, "written already").at(path));
        }
        Ok(())
    }
}

/// Writes a new HDF5 file with elements of several, each at its own path: pairs of a file's bytes
/// and the paths in it.
///
/// # Errors
/// Those of [`H5adWriter::copy_extras`]; `already-exists` if there is something at `target`.
pub fn join_extras(parts: Vec<(Vec<u8>, Vec<String>)>, target: &Path) -> Result<()> {
    let mut out = H5Out::new(std::fs::File::create_new(target).at(target.display())?);
    for (image, paths) in parts {
        let file = H5File::of_bytes(image).map_err(|e| Error::corrupt(e.to_string()).with_source(e))?;
        let source = Group::root(&file);
        for path in paths {
            make_parents(&mut out, &path)?;
            copy_tree(&mut out, &source, &path, &path, Filter::None, &[])?;
        }
    }
    out.finish()?;
    Ok(())
}

/// Makes the mapping that an element is in.
fn make_parents(out: &mut H5Out, path: &str) -> Result<()> {
    path.rsplit_once('/').map_or(Ok(()), |(parent, _)| make_group(out, parent))
}

/// Makes a mapping, if it is not there.
fn make_group(out: &mut H5Out, path: &str) -> Result<()> {
    if (path == "raw" || path.starts_with("raw/")) && !out.contains("raw") {
        set_encoding(out, "raw", "raw", "0.1.0")?;
    }
    if out.contains(path) { Ok(()) } else { set_encoding(out, path, "dict", "0.1.0") }
}

/// Makes a rename durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    // Folders can be opened for syncing on unix only.
    if cfg!(unix) {
        std::fs::File::open(folder).and_then(|f| f.sync_all()).at(folder.display())?;
    }
    Ok(())
}
