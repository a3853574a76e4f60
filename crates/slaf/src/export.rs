//! Export: a store becomes a file of another format, in a stream.

use crate::config;
use crate::dataset::Dataset;
use crate::progress::{Progress, ProgressEvent};
use crate::selection::Selection;
use crate::store::manifest::FrameSchema;
use crate::trace::Address;
use arrow::array::{Array, AsArray, RecordBatch};
use slaf_core::{Context, CsrChunk, Dtype, Error, ErrorKind, Result, Value, cause, with_values};
use slaf_ingest::temporary::TemporaryFolder;
use slaf_ingest::{
    Axis, Column, Compression, Feature, Frame, FrameInfo, H5adWriter, MatrixKey, WriteOptions, output_path,
    write_10x_mtx,
};
use std::io;
use std::path::Path;

/// The formats that a store can be exported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// AnnData's HDF5 file, with every slot.
    H5ad,
    /// A 10x folder of X (`matrix.mtx.gz`, `barcodes.tsv.gz`, `features.tsv.gz`).
    Mtx10x,
}

slaf_core::names!(ExportFormat, "export format", { H5ad => "h5ad", Mtx10x => "10x-mtx" });

/// How to export.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Replace an existing target.
    pub overwrite: bool,
    /// Compress with gzip (a 10x folder always is).
    pub compression: bool,
}

/// Exports a store. The target appears whole at the end, or not at all.
///
/// # Errors
/// `already-exists` without `overwrite` (also if something comes to the path meanwhile), and for a
/// folder that holds other things than a 10x folder; `invalid-argument` for a target inside of a
/// store, `would-lose-data` where the format cannot hold X, `interrupted`, and those of reading and
/// writing.
pub fn export(
    dataset: &Dataset,
    output: &Path,
    format: ExportFormat,
    options: &ExportOptions,
    progress: Progress<'_>,
) -> Result<()> {
    let output = &output_path(output, options.overwrite)?;
    let span = tracing::debug_span!("export", store = %Address(dataset.uri()), format = ?format);
    let _span = span.entered();
    let job = Job { dataset, progress };
    let written = match format {
        ExportFormat::H5ad => job.h5ad(output, options),
        ExportFormat::Mtx10x => job.mtx(output, options.overwrite),
    };
    written.map_err(|e| at_output(e, &output.display().to_string()))
}

/// Names the target where the system takes no more bytes; errors of reading name the store.
fn at_output(e: Error, output: &str) -> Error {
    let too_large = cause::<io::Error>(&e).is_some_and(|e| e.kind() == io::ErrorKind::FileTooLarge);
    let is_named = e.location().is_some_and(|place| place.contains(output));
    if (e.kind() == ErrorKind::DiskFull || too_large) && !is_named { e.at(output) } else { e }
}

struct Job<'a> {
    dataset: &'a Dataset,
    progress: Progress<'a>,
}

impl Job<'_> {
    fn h5ad(&self, output: &Path, options: &ExportOptions) -> Result<()> {
        let manifest = self.dataset.manifest();
        let compression = if options.compression { Compression::Gzip } else { Compression::None };
        let keep_existing = !options.overwrite;
        let write_options = WriteOptions { compression, keep_existing, ..WriteOptions::default() };
        let mut writer = H5adWriter::create(output, write_options)?;
        let frames = self.frames(&manifest.obs, manifest.n_cells, |rows| self.dataset.obs(None, &rows))?;
        writer.write_frame("obs", manifest.obs.index_name.as_deref(), &manifest.obs.info(), frames)?;
        let var = self.dataset.var(None, &Selection::All)?;
        let frame = frame_of(&var, &manifest.var.info())?;
        writer.write_frame("var", manifest.var.index_name.as_deref(), &manifest.var.info(), [Ok(frame)])?;
        if let (Some(schema), Some(batch)) = (&manifest.raw_var, self.dataset.raw_var()?) {
            let frame = frame_of(&batch, &schema.info())?;
            writer.write_frame("raw/var", schema.index_name.as_deref(), &schema.info(), [Ok(frame)])?;
        }
        for entry in &manifest.matrices {
            let key = entry.key();
            let dtype = entry.dtype;
            let chunks = self.chunks(&key, dtype)?;
            writer.write_matrix(
                &key.to_string(),
                entry.encoding,
                dtype,
                entry.n_rows,
                entry.n_cols,
                Some(entry.nnz),
                chunks,
            )?;
        }
        for entry in &manifest.arrays {
            let key = entry.key();
            let cells = key.axis == Axis::Cells;
            let n = if cells { manifest.n_cells } else { manifest.n_genes };
            let path = format!("{}/{}", if cells { "obsm" } else { "varm" }, entry.name);
            let blocks = blocks(n).map(|rows| Ok(self.dataset.array(&key, &rows)?.0));
            writer.write_array(&path, entry.dtype, n, entry.width, blocks)?;
        }
        if let (Some(extras), Some(bytes)) = (&manifest.extras, self.dataset.extras()?) {
            writer.copy_extras(bytes.to_vec(), &extras.elements).at(&extras.path)?;
        }
        self.tick("committing", manifest.n_cells)?;
        writer.finish()
    }

    fn mtx(&self, output: &Path, overwrite: bool) -> Result<()> {
        let replaces = overwrite && output.symlink_metadata().is_ok();
        if replaces {
            refuse_other_than_10x(output)?;
        }
        let manifest = self.dataset.manifest();
        let entry = self.dataset.matrix_info(&MatrixKey::X)?;
        let cells = self.dataset.cell_ids()?;
        let genes = self.dataset.gene_ids()?;
        let var = self.dataset.var(None, &Selection::All)?;
        let text = |names: [&str; 2], gene: usize| -> Option<String> {
            let column = names.into_iter().find_map(|n| var.column_by_name(n))?;
            let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).ok()?;
            let column = column.as_string_opt::<i32>()?;
            column.is_valid(gene).then(|| column.value(gene).to_string())
        };
        let features = (0..genes.len()).map(|g| {
            Ok(Feature {
                id: text(["gene_ids", "ensembl_id"], g).unwrap_or_else(|| genes.value(g).to_string()),
                symbol: genes.value(g).to_string(),
                feature_type: text(["feature_types", "feature_type"], g)
                    .unwrap_or_else(|| "Gene Expression".to_string()),
            })
        });
        let barcodes = cells.iter().map(|c| Ok(c.unwrap_or_default()));
        let dtype = entry.dtype;
        let integer = !dtype.is_float() || self.all_integers(dtype)?;
        let chunks = self.chunks(&MatrixKey::X, dtype)?;
        let shape = (manifest.n_cells, manifest.n_genes);
        if !replaces {
            return write_10x_mtx(output, barcodes, features, shape, entry.nnz, integer, chunks);
        }
        let beside = TemporaryFolder::beside(output)?;
        let new = beside.path().join("new");
        write_10x_mtx(&new, barcodes, features, shape, entry.nnz, integer, chunks)?;
        // Something may have come meanwhile.
        if output.symlink_metadata().is_ok() {
            refuse_other_than_10x(output)?;
        }
        beside.put(&new, output, true).at(output.display())
    }

    /// Whether every value of X is an integer, which the head of the file must say.
    fn all_integers(&self, dtype: Dtype) -> Result<bool> {
        for chunk in self.chunks(&MatrixKey::X, dtype)? {
            if !with_values!(&chunk?.values, v => v.iter().all(|x| x.as_f64().fract() == 0.0)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A matrix in chunks of one value type.
    fn chunks(&self, key: &MatrixKey, dtype: Dtype) -> Result<impl Iterator<Item = Result<CsrChunk>>> {
        let stream = self.dataset.stream(key, &Selection::All, &Selection::All, config::batch_rows())?;
        let mut done = 0;
        Ok(stream.map(move |chunk| {
            let mut chunk = chunk?;
            done += chunk.n_rows() as u64;
            self.tick("cells", done.min(self.dataset.n_cells()))?;
            chunk.values = chunk.values.cast(dtype);
            Ok(chunk)
        }))
    }

    fn frames(
        &self,
        schema: &FrameSchema,
        n: u64,
        read: impl Fn(Selection) -> Result<RecordBatch>,
    ) -> Result<impl Iterator<Item = Result<Frame>>> {
        let info = schema.info();
        Ok(blocks(n).map(move |rows| frame_of(&read(rows)?, &info)))
    }

    fn tick(&self, phase: &'static str, cells_done: u64) -> Result<()> {
        let event = ProgressEvent { phase, cells_done, cells_total: self.dataset.n_cells() };
        if (self.progress)(event) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was written"))
        }
    }
}

/// Refuses to replace anything but a folder of 10x files, or an empty one.
fn refuse_other_than_10x(output: &Path) -> Result<()> {
    let known = ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"];
    let is_folder = output.symlink_metadata().is_ok_and(|m| m.is_dir());
    let of_10x =
        |file: std::io::Result<std::fs::DirEntry>| file.is_ok_and(|f| known.iter().any(|k| f.file_name() == *k));
    if is_folder && std::fs::read_dir(output).at(output.display())?.all(of_10x) {
        return Ok(());
    }
    let what = "exists and is not a 10x folder: it is not overwritten; remove it yourself";
    Err(Error::new(ErrorKind::AlreadyExists, what).at(output.display()))
}

/// An axis in blocks; at least one, so that types are known where there are no rows.
fn blocks(n: u64) -> impl Iterator<Item = Selection> {
    let step = (config::batch_rows() as u64) << 4;
    (0..n.max(1)).step_by(step as usize).map(move |start| Selection::Range(start..(start + step).min(n)))
}

/// A batch of obs or var as the writers take it.
pub(crate) fn frame_of(batch: &RecordBatch, info: &FrameInfo) -> Result<Frame> {
    let index = batch
        .column(0)
        .as_string_opt::<i32>()
        .ok_or_else(|| Error::corrupt("the names are no strings"))?
        .iter()
        .map(|n| n.unwrap_or_default().to_string())
        .collect();
    let columns = info.columns.iter().zip(&batch.columns()[1..]);
    let columns = columns.map(|(info, array)| Column { info: info.clone(), array: array.clone() });
    Ok(Frame { index, columns: columns.collect() })
}
