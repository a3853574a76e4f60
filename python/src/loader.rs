//! Samplers and loaders.

use crate::arguments::{Chosen, Key, Named, NamedDtype, from_attributes, selection};
use crate::batch::{PyBatch, to_numpy};
use crate::dataset::Dataset;
use crate::ending::detached;
use crate::error::{IntoPyResult, invalid};
use crate::output::to_json;
use crate::tokenizer::Tokenizer;
use crate::work;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use slaf::sampling::{Group, Part, Pool, Remainder, Sampler as Cells, Sets, Shard, Shuffle, split_point};
use slaf::{EpochPart, Error, ErrorKind, Form, LoadedBatches, LoaderOptions, Selection, Values};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a wait looks for signals.
const POLL: Duration = Duration::from_millis(100);

/// `(start, stop)` or an int64 array.
fn pool(value: &Bound<'_, PyAny>) -> PyResult<Pool> {
    match selection(value)? {
        Selection::Range(range) => Ok(Pool::Range(range)),
        Selection::Ids(ids) => Ok(Pool::Ids(ids.into())),
        Selection::All => Err(invalid(value.py(), "a pool is a range or an array of cells")),
    }
}

/// Which cells come in an epoch, and in which order.
#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct Sampler(Cells);

#[pymethods]
impl Sampler {
    /// `block` and `window` of 0 mean the full shuffle.
    #[staticmethod]
    fn cover(cells: &Bound<'_, PyAny>, shuffle: bool, block: u64, window: u64, seed: u64) -> PyResult<Self> {
        let shuffle = match (shuffle, block) {
            (false, _) => Shuffle::Sequential,
            (true, 0) => Shuffle::Full,
            (true, block) => Shuffle::Block { block, window },
        };
        Ok(Sampler(Cells::cover(pool(cells)?, shuffle, seed)))
    }

    #[staticmethod]
    fn weighted(
        cells: &Bound<'_, PyAny>,
        weights: PyReadonlyArray1<'_, f64>,
        n: u64,
        replacement: bool,
        seed: u64,
    ) -> PyResult<Self> {
        let (py, cells, weights) = (cells.py(), pool(cells)?, weights.as_slice()?);
        let sampler = match replacement {
            true => Cells::with_replacement(cells, weights, n, seed),
            false => Cells::without_replacement(cells, weights.to_vec(), n, seed),
        };
        Ok(Sampler(sampler.into_py(py)?))
    }

    #[staticmethod]
    fn mixture(py: Python<'_>, parts: Vec<(PyRef<'_, Sampler>, f64)>, n: u64, seed: u64) -> PyResult<Self> {
        let part = |(sampler, proportion): (PyRef<'_, Sampler>, f64)| Part { sampler: sampler.0.clone(), proportion };
        Ok(Sampler(Cells::mixture(parts.into_iter().map(part).collect(), n, seed).into_py(py)?))
    }

    /// Groups of cells with the number of the pool that has their controls.
    #[staticmethod]
    fn sets(
        py: Python<'_>,
        groups: Vec<(Bound<'_, PyAny>, usize)>,
        controls: Vec<Bound<'_, PyAny>>,
        set_size: u64,
        n_controls: u64,
        seed: u64,
    ) -> PyResult<Self> {
        let groups = groups
            .iter()
            .map(|(cells, controls)| Ok(Group { cells: pool(cells)?, controls: *controls }))
            .collect::<PyResult<_>>()?;
        let controls = controls.iter().map(pool).collect::<PyResult<_>>()?;
        Ok(Sampler(Cells::sets(Sets::new(groups, controls, set_size, n_controls).into_py(py)?, seed)))
    }

    fn __len__(&self) -> usize {
        self.0.len() as usize
    }

    /// The cells at positions of an epoch.
    fn cells<'py>(&self, py: Python<'py>, epoch: u64, start: u64, stop: u64) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let sampler = self.0.clone();
        let cells = work::run(py, move || {
            let mut cells = Vec::new();
            sampler.epoch(epoch)?.cells(start..stop.min(sampler.len()), &mut cells);
            Ok(cells)
        })?;
        Ok(PyArray1::from_iter(py, cells.into_iter().map(|c| c as i64)))
    }
}

/// Where keys lie in 0..1, for splits.
#[pyfunction]
pub(crate) fn split_points<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray1<'py, u64>,
    seed: u64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    Ok(PyArray1::from_iter(py, keys.as_slice()?.iter().map(|&key| split_point(key, seed))))
}

/// What of a source does not depend on the process.
struct Stored {
    tokenizer: Option<Arc<slaf::tokenizers::Tokenizer>>,
    genes: Selection,
    columns: Arc<Vec<Values>>,
}

from_attributes! {
    /// `slaf._boundary.LoaderSource`: the arrays of obs have one value for each cell.
    struct SourceArguments<'py> {
        tokenizer: Option<PyRef<'py, Tokenizer>>,
        genes: Chosen,
        columns: Vec<Bound<'py, PyAny>>,
    }
}

from_attributes! {
    /// `slaf._boundary.LoaderOptions`.
    struct OptionArguments {
        matrix: Key,
        form: Named<Form>,
        batch_size: usize,
        remainder: Named<Remainder>,
        dtype: Option<NamedDtype>,
        target_sum: Option<f64>,
        log1p: bool,
        measured: bool,
        seed: u64,
        memory: usize,
    }
}

impl From<OptionArguments> for LoaderOptions {
    fn from(given: OptionArguments) -> Self {
        LoaderOptions {
            matrix: given.matrix.0,
            form: given.form.0,
            batch_size: given.batch_size,
            remainder: given.remainder.0,
            dtype: given.dtype.map(|dtype| dtype.0),
            target_sum: given.target_sum,
            log1p: given.log1p,
            measured: given.measured,
            seed: given.seed,
            memory: given.memory,
        }
    }
}

from_attributes! {
    /// `slaf._boundary.Shard`.
    struct ShardArguments {
        rank: u64,
        world: u64,
        worker: u64,
        workers: u64,
    }
}

/// How batches are made; the stores come with each epoch, since a forked child opens its own.
#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct Loader {
    parts: Vec<Stored>,
    sampler: Cells,
    options: LoaderOptions,
}

/// Arrays of int64, float64, float32 or bool, one value for each cell.
fn columns(arrays: &[Bound<'_, PyAny>]) -> PyResult<Arc<Vec<Values>>> {
    let values = |array: &Bound<'_, PyAny>| {
        macro_rules! take {
            ($($t:ty => $variant:ident),*) => {
                $(if let Ok(values) = array.extract::<PyReadonlyArray1<'_, $t>>() {
                    return Ok(Values::$variant(values.as_slice()?.to_vec()));
                })*
            };
        }
        take!(i64 => I64, f32 => F32, f64 => F64, bool => Bool);
        Err(invalid(array.py(), "a column of a loader is of int64, float32, float64 or bool"))
    };
    Ok(Arc::new(arrays.iter().map(values).collect::<PyResult<_>>()?))
}

#[pymethods]
impl Loader {
    #[new]
    fn new(sources: Vec<SourceArguments<'_>>, sampler: &Sampler, options: OptionArguments) -> PyResult<Self> {
        let part = |source: SourceArguments<'_>| {
            let tokenizer = source.tokenizer.map(|t| t.prepared());
            Ok(Stored { tokenizer, genes: source.genes.0, columns: columns(&source.columns)? })
        };
        Ok(Loader {
            parts: sources.into_iter().map(part).collect::<PyResult<_>>()?,
            sampler: sampler.0.clone(),
            options: options.into(),
        })
    }

    fn epoch(
        &self,
        py: Python<'_>,
        datasets: Vec<PyRef<'_, Dataset>>,
        epoch: u64,
        start: u64,
        skip: u64,
        shard: ShardArguments,
    ) -> PyResult<Batches> {
        let loader = self.loader(py, &datasets)?;
        let part = part(epoch, start, skip, shard);
        let batches = work::run(py, move || loader.epoch(&part))?;
        Ok(Batches { process: std::process::id(), batches: ManuallyDrop::new(Mutex::new(batches)) })
    }

    fn n_batches(
        &self,
        py: Python<'_>,
        datasets: Vec<PyRef<'_, Dataset>>,
        start: u64,
        skip: u64,
        shard: ShardArguments,
    ) -> PyResult<u64> {
        Ok(self.loader(py, &datasets)?.n_batches(&part(0, start, skip, shard)))
    }

    /// Positions that all ranks together have consumed after some batches each.
    fn consumed(
        &self,
        py: Python<'_>,
        datasets: Vec<PyRef<'_, Dataset>>,
        start: u64,
        world: u64,
        batches: u64,
    ) -> PyResult<u64> {
        Ok(self.loader(py, &datasets)?.consumed(start, world, batches))
    }
}

fn part(epoch: u64, start: u64, skip: u64, shard: ShardArguments) -> EpochPart {
    let ShardArguments { rank, world, worker, workers } = shard;
    EpochPart { epoch, start, skip, shard: Shard { rank, world, worker, workers } }
}

impl Loader {
    fn loader(&self, py: Python<'_>, datasets: &[PyRef<'_, Dataset>]) -> PyResult<slaf::Loader> {
        let source = |(part, dataset): (&Stored, &PyRef<'_, Dataset>)| {
            let mut source = dataset.dataset(py)?.source();
            source.tokenizer = part.tokenizer.clone();
            source.genes = part.genes.clone();
            source.columns = Arc::clone(&part.columns);
            Ok(source)
        };
        let sources = self.parts.iter().zip(datasets).map(source).collect::<PyResult<_>>()?;
        slaf::Loader::new(sources, self.sampler.clone(), self.options.clone()).into_py(py)
    }
}

/// The batches of a part of an epoch.
#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct Batches {
    process: u32,
    batches: ManuallyDrop<Mutex<LoadedBatches>>,
}

impl Drop for Batches {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // SAFETY: dropped once, and not used afterwards. A forked child leaves it alone: its
            // threads are not there, and might hold locks.
            unsafe { ManuallyDrop::drop(&mut self.batches) }
        }
    }
}

#[pymethods]
impl Batches {
    /// The next batch, or `None` at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<PyBatch>> {
        if self.process != std::process::id() {
            let message = "these batches belong to the process that this one was forked from: iterate anew";
            return Err(invalid(py, message));
        }
        loop {
            let next = detached(py, || self.batches.lock().unwrap_or_else(PoisonError::into_inner).next_within(POLL));
            match next {
                Some(batch) => return batch.transpose().into_py(py)?.map(|b| to_numpy(py, b)).transpose(),
                None => py.check_signals()?,
            }
        }
    }

    /// Numbers of the run, as JSON.
    fn stats(&self, py: Python<'_>) -> PyResult<String> {
        match self.batches.try_lock() {
            Ok(batches) => to_json(py, &batches.stats()),
            Err(_) => Err(crate::error::to_py(py, &Error::new(ErrorKind::Io, "another thread waits for a batch"))),
        }
    }
}
