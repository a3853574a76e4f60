//! A store, or some of its cells, as an input.

use crate::convert::inputs::open_any;
use crate::dataset::{Dataset, DatasetOptions};
use crate::export::frame_of;
use crate::selection::Selection;
use crate::store::manifest::Slot;
use slaf_core::{CsrChunk, Error, Result, Values};
use slaf_ingest::{
    ArrayInfo, ArrayKey, Axis, Description, Frame, Input, Loss, MatrixInfo, MatrixKey, OpenOptions, RowStream,
    StreamOptions,
};
use std::ops::Range;
use std::path::Path;

/// Opens what can be appended: a store, or what can be converted.
///
/// # Errors
/// Those of opening a store, and of opening an input.
pub(super) fn open_source(source: &str, options: &OpenOptions, store: &DatasetOptions) -> Result<Box<dyn Input>> {
    let path = Path::new(source);
    if source.contains("://") || path.join("_slaf").is_dir() {
        return Ok(Box::new(StoreInput::new(Dataset::open_with(source, store)?)?));
    }
    open_any(path, options)
}

/// The files of a store are named by their whole paths: its own, shorter one says nothing more.
pub(super) fn named_once<'a>(error: Error, mut sources: impl Iterator<Item = &'a str>) -> Error {
    let rest = sources.find_map(|source| {
        let rest = error.location()?.strip_prefix(source)?.strip_prefix(": ")?;
        let whole = std::path::absolute(source).ok()?;
        rest.contains(whole.to_str()?).then(|| rest.to_string())
    });
    match rest {
        Some(rest) => Error::new(error.kind(), error.message()).at(rest).with_source(error),
        None => error,
    }
}

/// A store as an input.
pub(super) struct StoreInput {
    dataset: Dataset,
    /// The cells that it has.
    cells: Selection,
    description: Description,
}

impl StoreInput {
    /// # Errors
    /// Those of reading what was measured.
    pub(super) fn new(dataset: Dataset) -> Result<StoreInput> {
        StoreInput::of_cells(dataset, Selection::All)
    }

    /// Some of the cells. What no table holds along these is a loss.
    ///
    /// # Errors
    /// As [`StoreInput::new`].
    pub(super) fn of_cells(dataset: Dataset, cells: Selection) -> Result<StoreInput> {
        let measured = dataset.measured()?;
        let m = dataset.manifest();
        let is_all = cells == Selection::All;
        let n_cells = cells.len(m.n_cells);
        let matrices = m.matrices.iter().map(|x| MatrixInfo {
            key: x.key(),
            encoding: x.encoding,
            dtype: x.dtype,
            n_rows: if x.slot == Slot::Varp { x.n_rows } else { n_cells },
            n_cols: if x.slot == Slot::Obsp { n_cells } else { x.n_cols },
            nnz: is_all.then_some(x.nnz),
        });
        let extras = m.extras.iter().flat_map(|e| e.elements.clone());
        let (left_out, extras): (Vec<String>, Vec<String>) =
            extras.partition(|e| !is_all && (e.starts_with("obsm/") || e.starts_with("obsp/")));
        let loss = |path| Loss { path, reason: "kept as it came, with all cells".to_string() };
        let arrays = m.arrays.iter().map(|a| ArrayInfo {
            key: a.key(),
            dtype: a.dtype,
            n_rows: if a.axis == Axis::Cells { n_cells } else { m.n_genes },
            n_cols: a.width,
        });
        let description = Description {
            format: "SLAF store".to_string(),
            n_cells,
            n_genes: m.n_genes,
            obs: m.obs.info(),
            var: m.var.info(),
            raw_var: m.raw_var.as_ref().map(|f| f.info()),
            matrices: matrices.collect(),
            arrays: arrays.collect(),
            extras,
            measured: measured.map(|measured| match &cells {
                Selection::All => measured.clone(),
                some => measured.of_cells(some.iter(m.n_cells)),
            }),
            losses: left_out.into_iter().map(loss).collect(),
            ..Description::default()
        };
        Ok(StoreInput { dataset, cells, description })
    }
}

impl Input for StoreInput {
    fn description(&self) -> &Description {
        &self.description
    }

    fn obs(&self, rows: Range<u64>) -> Result<Frame> {
        frame_of(&self.dataset.obs(None, &self.cells.part(rows))?, &self.description.obs)
    }

    fn var(&self) -> Result<Frame> {
        frame_of(&self.dataset.var(None, &Selection::All)?, &self.description.var)
    }

    fn raw_var(&self) -> Result<Option<Frame>> {
        match (&self.description.raw_var, self.dataset.raw_var()?) {
            (Some(info), Some(batch)) => frame_of(&batch, info).map(Some),
            _ => Ok(None),
        }
    }

    fn matrix(&self, key: &MatrixKey, options: StreamOptions) -> Result<Box<dyn RowStream>> {
        let rows = if matches!(key, MatrixKey::Varp(_)) { &Selection::All } else { &self.cells };
        let cols = if matches!(key, MatrixKey::Obsp(_)) { &self.cells } else { &Selection::All };
        let stream = self.dataset.stream(key, rows, cols, options.max_rows)?;
        Ok(Box::new(Rows(Box::new(stream))))
    }

    /// Those of all cells, for some of them, too: they order the genes.
    fn column_counts(&self, key: &MatrixKey) -> Result<Vec<u64>> {
        match key {
            MatrixKey::X | MatrixKey::Layer(_) => Ok(self.dataset.gene_stats()?.n_cells),
            _ => Ok(vec![0; self.dataset.matrix_info(key)?.n_cols as usize]),
        }
    }

    fn array(&self, key: &ArrayKey, rows: Range<u64>) -> Result<Values> {
        let rows = if key.axis == Axis::Cells { self.cells.part(rows) } else { Selection::Range(rows) };
        Ok(self.dataset.array(key, &rows)?.0)
    }

    fn write_extras(&self, target: &Path) -> Result<()> {
        match self.dataset.extras()? {
            Some(bytes) if !self.description.losses.is_empty() => {
                let extras = self.description.extras.clone();
                let parts = if extras.is_empty() { Vec::new() } else { vec![(bytes.to_vec(), extras)] };
                slaf_ingest::join_extras(parts, target)
            }
            Some(bytes) => {
                use std::io::Write;
                Ok(std::fs::File::create_new(target)?.write_all(&bytes)?)
            }
            None => slaf_ingest::join_extras(Vec::new(), target),
        }
    }
}

/// Rows as a store reads them.
struct Rows(Box<dyn Iterator<Item = Result<CsrChunk>> + Send>);

impl Iterator for Rows {
    type Item = Result<CsrChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl RowStream for Rows {}
