//! A store, opened.

use crate::arguments::{Chosen, Key, Named, query_options};
use crate::batch::PyDense;
use crate::convert::ConvertOptions;
use crate::csr::Csr;
use crate::error::IntoPyResult;
use crate::output::{self, ArrowStream, Column, to_json};
use crate::work::{self, PyCancel};
use arrow::array::RecordBatch;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3_arrow::PyRecordBatchReader;
use slaf::{ArrayKey, Axis, Cancel, DatasetOptions, ExportFormat, ExportOptions, Selection, TripletOrder, Verify};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

/// obs or var, read at most once.
type Cached = Mutex<Option<RecordBatch>>;

#[derive(Clone)]
struct Handle {
    dataset: slaf::Dataset,
    obs: Arc<Cached>,
    var: Arc<Cached>,
}

impl Handle {
    fn cached(&self, axis: Axis) -> &Cached {
        match axis {
            Axis::Cells => &self.obs,
            Axis::Genes => &self.var,
        }
    }

    /// All of obs or var; whoever comes second waits for who came first.
    fn frame(&self, axis: Axis) -> slaf::Result<RecordBatch> {
        let mut cached = self.cached(axis).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batch) = &*cached {
            return Ok(batch.clone());
        }
        let batch = self.rows(axis, None, &Selection::All)?;
        *cached = Some(batch.clone());
        Ok(batch)
    }

    fn rows(&self, axis: Axis, columns: Option<&[String]>, rows: &Selection) -> slaf::Result<RecordBatch> {
        match axis {
            Axis::Cells => self.dataset.obs(columns, rows),
            Axis::Genes => self.dataset.var(columns, rows),
        }
    }

    fn is_loaded(&self, axis: Axis) -> bool {
        match self.cached(axis).try_lock() {
            Ok(cached) => cached.is_some(),
            Err(TryLockError::Poisoned(cached)) => cached.into_inner().is_some(),
            Err(TryLockError::WouldBlock) => false,
        }
    }
}

/// The columns of obs, var or `raw.var`, and the name of its index.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct FrameInfo {
    index_name: Option<String>,
    columns: Vec<Py<ColumnInfo>>,
}

#[pymethods]
impl FrameInfo {
    #[new]
    fn new(index_name: Option<String>, columns: Vec<Py<ColumnInfo>>) -> Self {
        FrameInfo { index_name, columns }
    }
}

/// A column of a frame; `ordered` tells of a categorical.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct ColumnInfo {
    name: String,
    kind: String,
    ordered: bool,
}

/// An entry of obsm (`of` is `obs`) or varm (`var`) that a table holds.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct ArrayInfo {
    of: String,
    name: String,
}

/// What a store tells of a matrix without reading it.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct MatrixInfo {
    slot: String,
    name: String,
    encoding: String,
    dtype: String,
    shape: (u64, u64),
    nnz: u64,
}

/// A version of a store; `created` in seconds since 1970.
#[pyclass(module = "slaf._slaf", frozen, get_all)]
pub(crate) struct VersionInfo {
    version: u64,
    created: u64,
    operation: String,
    n_cells: u64,
    n_genes: u64,
    tags: Vec<String>,
}

/// Which genes were measured in which cells.
#[pyclass(module = "slaf._slaf", name = "Measured", frozen, from_py_object)]
#[derive(Clone)]
pub(crate) struct PyMeasured(pub(crate) slaf::Measured);

#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct Dataset {
    uri: String,
    options: DatasetOptions,
    /// The handle, and the process that opened it.
    opened: Mutex<(u32, Handle)>,
}

impl Dataset {
    /// The handle. A forked child opens its own, of the same version: threads do not survive a
    /// fork, so that its parent's handle would wait for ever.
    fn handle(&self, py: Python<'_>) -> PyResult<Handle> {
        let here = std::process::id();
        if let (owner, handle) = &*self.opened.lock().unwrap_or_else(PoisonError::into_inner)
            && *owner == here
        {
            return Ok(handle.clone());
        }
        let handle = open(py, self.uri.clone(), self.options.clone())?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropped, the old handle might wait for threads that are not here.
        std::mem::forget(std::mem::replace(&mut *opened, (here, handle.clone())));
        Ok(handle)
    }

    pub(crate) fn dataset(&self, py: Python<'_>) -> PyResult<slaf::Dataset> {
        Ok(self.handle(py)?.dataset)
    }
}

fn open(py: Python<'_>, uri: String, options: DatasetOptions) -> PyResult<Handle> {
    let dataset = work::run(py, move || slaf::Dataset::open_with(&uri, &options))?;
    Ok(Handle { dataset, obs: Arc::default(), var: Arc::default() })
}

#[pymethods]
impl Dataset {
    #[new]
    fn new(
        py: Python<'_>,
        uri: String,
        version: Option<u64>,
        storage_options: HashMap<String, String>,
        first_touch: bool,
    ) -> PyResult<Self> {
        let verify = if first_touch { Verify::FirstTouch } else { Verify::OnRequest };
        let mut options = DatasetOptions { version, storage_options, verify, ..DatasetOptions::default() };
        let handle = open(py, uri.clone(), options.clone())?;
        options.version = Some(handle.dataset.version());
        Ok(Dataset { uri, options, opened: Mutex::new((std::process::id(), handle)) })
    }

    #[getter]
    fn uri(&self) -> &str {
        &self.uri
    }

    #[getter]
    fn version(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.dataset(py)?.version())
    }

    /// The id that the writer of this version gave it.
    #[getter]
    fn write_id(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.dataset(py)?.manifest().write_id.clone())
    }

    #[getter]
    fn shape(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let dataset = self.dataset(py)?;
        Ok((dataset.n_cells(), dataset.n_genes()))
    }

    fn verify(&self, py: Python<'_>, quick: bool) -> PyResult<Vec<(String, String)>> {
        let dataset = self.dataset(py)?;
        let damaged = work::run(py, move || if quick { dataset.verify_quick() } else { dataset.verify() })?;
        Ok(damaged.into_iter().map(|d| (d.file, d.reason)).collect())
    }

    /// Requests by kind, bytes read and written, cache hits, seconds.
    fn io_stats(&self, py: Python<'_>) -> PyResult<([u64; 5], u64, u64, u64, f64)> {
        let io = self.dataset(py)?.io_stats();
        let requests = [io.gets, io.heads, io.lists, io.puts, io.deletes];
        Ok((requests, io.bytes_read, io.bytes_written, io.cache_hits, io.seconds))
    }

    fn versions(&self, py: Python<'_>) -> PyResult<Vec<VersionInfo>> {
        let dataset = self.dataset(py)?;
        let versions = work::run(py, move || dataset.versions())?;
        let row = |v: slaf::VersionInfo| VersionInfo {
            version: v.version,
            created: v.created,
            operation: v.operation,
            n_cells: v.n_cells,
            n_genes: v.n_genes,
            tags: v.tags,
        };
        Ok(versions.into_iter().map(row).collect())
    }

    fn info(&self, py: Python<'_>) -> PyResult<(String, String)> {
        let dataset = self.dataset(py)?;
        let info = dataset.info();
        Ok((info.to_string(), to_json(py, &info)?))
    }

    fn load_frames(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle(py)?;
        // An error shows when the frame is asked for, which tries again.
        let load = move || [Axis::Genes, Axis::Cells].into_iter().for_each(|axis| drop(handle.frame(axis)));
        drop(std::thread::Builder::new().name("slaf-frames".into()).spawn(load));
        Ok(())
    }

    fn frames_loaded(&self, py: Python<'_>) -> PyResult<bool> {
        let handle = self.handle(py)?;
        Ok(handle.is_loaded(Axis::Cells) && handle.is_loaded(Axis::Genes))
    }

    fn frame(&self, py: Python<'_>, of: Named<Axis>) -> PyResult<ArrowStream> {
        let (handle, of) = (self.handle(py)?, of.0);
        let batch = work::run(py, move || slaf::with_nulls(&handle.frame(of)?))?;
        ArrowStream::numbered(py, &batch)
    }

    /// The names of rows, and columns of theirs: all by default.
    #[pyo3(signature = (of, rows, columns=None))]
    fn frame_rows(
        &self,
        py: Python<'_>,
        of: Named<Axis>,
        rows: Chosen,
        columns: Option<Vec<String>>,
    ) -> PyResult<ArrowStream> {
        let (handle, of, rows) = (self.handle(py)?, of.0, rows.0);
        let batch = work::run(py, move || slaf::with_nulls(&handle.rows(of, columns.as_deref(), &rows)?))?;
        ArrowStream::numbered(py, &batch)
    }

    /// The names of rows, as one column.
    fn names(&self, py: Python<'_>, of: Named<Axis>, rows: Chosen) -> PyResult<ArrowStream> {
        let (dataset, of, rows) = (self.dataset(py)?, of.0, rows.0);
        let names = work::run(py, move || dataset.names(of, &rows))?;
        ArrowStream::of_column(py, "name", names)
    }

    /// The names of the rows, unless they are not wanted, and columns.
    #[pyo3(signature = (of, columns, rows, names=true))]
    fn columns(
        &self,
        py: Python<'_>,
        of: Named<Axis>,
        columns: Option<Vec<String>>,
        rows: Chosen,
        names: bool,
    ) -> PyResult<Vec<Column>> {
        let (handle, of, rows) = (self.handle(py)?, of.0, rows.0);
        let mut batch = work::run(py, move || handle.rows(of, columns.as_deref(), &rows))?;
        if !names {
            batch.remove_column(0);
        }
        output::columns(py, &batch)
    }

    fn raw_columns(&self, py: Python<'_>) -> PyResult<Option<Vec<Column>>> {
        let dataset = self.dataset(py)?;
        let batch = work::run(py, move || dataset.raw_var())?;
        batch.map(|batch| output::columns(py, &batch)).transpose()
    }

    fn frame_info(&self, py: Python<'_>, of: &str) -> PyResult<Option<FrameInfo>> {
        let dataset = self.dataset(py)?;
        let manifest = dataset.manifest();
        let schema = match of {
            "raw" => match &manifest.raw_var {
                Some(schema) => schema,
                None => return Ok(None),
            },
            _ => match of.parse::<Axis>().into_py(py)? {
                Axis::Cells => &manifest.obs,
                Axis::Genes => &manifest.var,
            },
        };
        let column = |c: &slaf::manifest::ColumnSchema| {
            Py::new(py, ColumnInfo { name: c.name.clone(), kind: c.kind.to_string(), ordered: c.ordered })
        };
        let columns = schema.columns.iter().map(column).collect::<PyResult<_>>()?;
        Ok(Some(FrameInfo { index_name: schema.index_name.clone(), columns }))
    }

    fn resolve<'py>(
        &self,
        py: Python<'py>,
        of: Named<Axis>,
        names: Vec<String>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let (dataset, of) = (self.dataset(py)?, of.0);
        let is_small = names.len() <= FEW && dataset.cells_at_hand(true);
        let found = work::run_small(py, is_small, move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match of {
                Axis::Cells => dataset.resolve_cells(&names),
                Axis::Genes => dataset.resolve_genes(&names),
            }
        })?;
        Ok(PyArray1::from_iter(py, found.into_iter().map(|i| i as i64)))
    }

    /// The rows of all cells or genes with a name.
    fn rows_named<'py>(&self, py: Python<'py>, of: Named<Axis>, name: String) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let (dataset, of) = (self.dataset(py)?, of.0);
        let found = work::run(py, move || dataset.rows_named(of, &name))?;
        Ok(PyArray1::from_iter(py, found.into_iter().map(|i| i as i64)))
    }

    /// The genes in the order in which rows have them.
    fn stored_genes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let dataset = self.dataset(py)?;
        let genes = work::run(py, move || dataset.stored_genes())?;
        Ok(PyArray1::from_iter(py, genes.into_iter().map(|gene| gene as i64)))
    }

    fn matrices(&self, py: Python<'_>) -> PyResult<Vec<MatrixInfo>> {
        let dataset = self.dataset(py)?;
        let matrix = |m: &slaf::manifest::MatrixEntry| MatrixInfo {
            slot: m.slot.to_string(),
            name: m.name.to_string(),
            encoding: m.encoding.to_string(),
            dtype: m.dtype.to_string(),
            shape: (m.n_rows, m.n_cols),
            nnz: m.nnz,
        };
        Ok(dataset.manifest().matrices.iter().map(matrix).collect())
    }

    fn arrays(&self, py: Python<'_>) -> PyResult<Vec<ArrayInfo>> {
        let dataset = self.dataset(py)?;
        let of = |axis| if axis == Axis::Cells { "obs" } else { "var" };
        Ok(dataset
            .manifest()
            .arrays
            .iter()
            .map(|a| ArrayInfo { of: of(a.axis).into(), name: a.name.clone() })
            .collect())
    }

    fn extra_elements(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let dataset = self.dataset(py)?;
        Ok(dataset.manifest().extras.as_ref().map_or_else(Vec::new, |e| e.elements.clone()))
    }

    fn extras<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let dataset = self.dataset(py)?;
        let bytes = work::run(py, move || dataset.extras())?;
        Ok(bytes.map(|b| PyBytes::new(py, &b)))
    }

    fn read(&self, py: Python<'_>, key: Key, rows: Chosen, cols: Chosen) -> PyResult<Csr> {
        let dataset = self.dataset(py)?;
        let n_cols = width(&dataset);
        let is_small = is_small(&dataset, &rows.0);
        let chunk = work::run_small(py, is_small, move || dataset.read(&key.0, &rows.0, &cols.0))?;
        Ok(Csr::of(py, chunk, n_cols))
    }

    /// `cell_id`, `gene_id` and `value` of each stored value.
    fn triplets(&self, py: Python<'_>, key: Key, rows: Chosen, cols: Chosen, by_gene: bool) -> PyResult<ArrowStream> {
        let dataset = self.dataset(py)?;
        let order = if by_gene { TripletOrder::ByGene } else { TripletOrder::ByCell };
        let is_small = is_small(&dataset, &rows.0);
        let batch = work::run_small(py, is_small, move || dataset.triplets(&key.0, &rows.0, &cols.0, order))?;
        Ok(ArrowStream::of_batches(batch.schema(), vec![batch]))
    }

    /// As `triplets`, of the cell with this name.
    fn triplets_of_cell(&self, py: Python<'_>, key: Key, name: String, cols: Chosen) -> PyResult<ArrowStream> {
        let dataset = self.dataset(py)?;
        let is_small = dataset.cells_at_hand(true);
        let batch = work::run_small(py, is_small, move || dataset.triplets_of_cell(&key.0, &name, &cols.0))?;
        Ok(ArrowStream::of_batches(batch.schema(), vec![batch]))
    }

    /// The values of genes in the cells in which they were measured, zeros among them.
    fn values_where_measured(&self, py: Python<'_>, genes: Chosen) -> PyResult<ArrowStream> {
        let dataset = self.dataset(py)?;
        let batch = work::run(py, move || dataset.values_where_measured(&genes.0))?;
        Ok(ArrowStream::of_batches(batch.schema(), vec![batch]))
    }

    /// The sources of the cells.
    fn source_table(&self, py: Python<'_>) -> PyResult<ArrowStream> {
        let dataset = self.dataset(py)?;
        let batch = work::run(py, move || dataset.source_table())?;
        Ok(ArrowStream::of_batches(batch.schema(), vec![batch]))
    }

    /// Genes, with the number of cells and the sources that measured them.
    fn measured_table(&self, py: Python<'_>, genes: Chosen) -> PyResult<ArrowStream> {
        let dataset = self.dataset(py)?;
        let batch = work::run(py, move || dataset.measured_table(&genes.0))?;
        Ok(ArrowStream::of_batches(batch.schema(), vec![batch]))
    }

    /// What was measured of some cells and genes, for a store that is made of these; `None` where there is nothing to
    /// tell.
    fn measured_of(&self, py: Python<'_>, cells: Chosen, genes: Chosen) -> PyResult<Option<PyMeasured>> {
        let dataset = self.dataset(py)?;
        Ok(work::run(py, move || dataset.measured_of(&cells.0, &genes.0))?.map(PyMeasured))
    }

    /// Whether genes were measured in cells, flat and cell by cell.
    fn measured_mask<'py>(
        &self,
        py: Python<'py>,
        cells: Chosen,
        genes: Chosen,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let dataset = self.dataset(py)?;
        Ok(PyArray1::from_vec(py, work::run(py, move || dataset.measured_mask(&cells.0, &genes.0))?))
    }

    /// Statistics of genes over all cells, or those in which they were measured.
    fn gene_statistics(&self, py: Python<'_>, key: Key, genes: Chosen, measured: bool) -> PyResult<ArrowStream> {
        let dataset = self.dataset(py)?;
        let batch = work::run_with_progress(py, None, move |progress| {
            dataset.gene_statistics(&key.0, &genes.0, measured, progress)?.batch(&dataset, &genes.0)
        })?;
        Ok(ArrowStream::of_batches(batch.schema(), vec![batch]))
    }

    fn array(&self, py: Python<'_>, of: Named<Axis>, name: String, rows: Chosen) -> PyResult<PyDense> {
        let (dataset, rows) = (self.dataset(py)?, rows.0);
        let key = ArrayKey { axis: of.0, name };
        let (values, width) = work::run(py, move || dataset.array(&key, &rows))?;
        Ok(PyDense { values: output::values(py, values).unbind(), width })
    }

    fn nnz_per_cell<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let dataset = self.dataset(py)?;
        let stats = work::run(py, move || dataset.cell_stats())?;
        Ok(PyArray1::from_vec(py, stats.nnz))
    }

    fn nnz_per_gene<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray1<u64>>>> {
        let dataset = self.dataset(py)?;
        let stored = work::run(py, move || dataset.nnz_per_gene())?;
        Ok(stored.map(|stored| PyArray1::from_vec(py, stored)))
    }

    #[pyo3(signature = (sql, params, timeout, tables, dialect, measured, cancel=None))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of Python's method")]
    fn query(
        &self,
        py: Python<'_>,
        sql: String,
        params: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        tables: Vec<(String, PyRecordBatchReader)>,
        dialect: Named<slaf::Dialect>,
        measured: bool,
        cancel: Option<PyCancel>,
    ) -> PyResult<ArrowStream> {
        let (dataset, mut options) = (self.dataset(py)?, query_options(params, timeout, tables, dialect, measured)?);
        if let Some(cancel) = cancel {
            options.cancel = cancel.0;
        }
        let (is_point, cancel) = (dataset.is_point(&sql, &options), options.cancel.clone());
        let ask = move || dataset.query_with(&sql, &options)?.with_used_names();
        let result = match is_point {
            true => work::run_small(py, true, ask)?,
            false => work::run_or_cancel(py, &cancel, ask)?,
        };
        ArrowStream::for_polars(py, result.schema, result.batches)
    }

    fn rows_where(&self, py: Python<'_>, of: Named<Axis>, condition: String) -> PyResult<Py<PyArray1<u64>>> {
        let (dataset, cancel) = (self.dataset(py)?, Cancel::default());
        let stopped = cancel.clone();
        let rows = work::run_or_cancel(py, &cancel, move || dataset.rows_where(of.0, &condition, &stopped))?;
        Ok(PyArray1::from_vec(py, rows).unbind())
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of Python's function")]
    fn query_stream(
        &self,
        py: Python<'_>,
        sql: String,
        params: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        tables: Vec<(String, PyRecordBatchReader)>,
        dialect: Named<slaf::Dialect>,
        measured: bool,
    ) -> PyResult<ArrowStream> {
        let (dataset, options) = (self.dataset(py)?, query_options(params, timeout, tables, dialect, measured)?);
        let cancel = options.cancel.clone();
        Ok(ArrowStream::new(work::run_or_cancel(py, &cancel, move || dataset.query_stream(&sql, &options))?))
    }

    fn tables(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.dataset(py)?.tables().into_py(py)
    }

    fn scan(
        &self,
        py: Python<'_>,
        table: String,
        columns: Vec<String>,
        rows: Chosen,
        cols: Chosen,
    ) -> PyResult<ArrowStream> {
        let (dataset, rows, cols) = (self.dataset(py)?, rows.0, cols.0);
        let scan = move || {
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            dataset.scan(&table, &columns, &rows, &cols)
        };
        Ok(ArrowStream::new(work::run(py, scan)?))
    }

    fn export(
        &self,
        py: Python<'_>,
        path: PathBuf,
        format: Named<ExportFormat>,
        overwrite: bool,
        compression: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let dataset = self.dataset(py)?;
        let options = ExportOptions { overwrite, compression };
        work::run_with_progress(py, progress, move |progress| {
            slaf::export(&dataset, &path, format.0, &options, progress)
        })
    }

    /// Makes a store of the cells for which a condition in SQL holds; the report as text and as JSON.
    fn filter(
        &self,
        py: Python<'_>,
        condition: String,
        output: String,
        options: ConvertOptions,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(String, String)> {
        let (dataset, options) = (self.dataset(py)?, slaf::ConvertOptions::from(options));
        let report = work::run_with_progress(py, progress, move |progress| {
            slaf::grow::filter(&dataset, &condition, &output, &options, progress)
        })?;
        Ok((report.to_string(), to_json(py, &report)?))
    }
}

/// Cells whose values are soon read.
const FEW: usize = 64;

/// Whether the values of these cells are soon read.
fn is_small(dataset: &slaf::Dataset, rows: &Selection) -> bool {
    rows.len(dataset.n_cells()) <= FEW as u64 && dataset.cells_at_hand(false)
}

/// More columns than this has no matrix of a store.
pub(crate) fn width(dataset: &slaf::Dataset) -> u64 {
    dataset.manifest().matrices.iter().map(|m| m.n_cols).max().unwrap_or(0)
}
