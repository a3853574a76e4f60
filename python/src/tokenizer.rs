//! Tokenizers over a store.

use crate::arguments::{Chosen, Named};
use crate::batch::{PyBatch, PyTokens};
use crate::dataset::Dataset;
use crate::error::{IntoPyResult, invalid};
use crate::output::{array, to_json};
use crate::work;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use slaf::tokenizers::{
    Binning, Description, GeneTable, Geneformer, Random, Recipe, Special, Tokenizer as Prepared, Vocabulary,
};
use std::path::PathBuf;
use std::sync::Arc;

/// A tokenizer that is ready for the genes of a store.
#[pyclass(module = "slaf._slaf", frozen)]
pub(crate) struct Tokenizer {
    recipe: Recipe,
    prepared: Arc<Prepared>,
}

/// A vocabulary: a path, a dict, or a size for that of the data set.
fn vocabulary(dataset: &slaf::Dataset, source: &Bound<'_, PyAny>, size: usize) -> PyResult<Vocabulary> {
    let py = source.py();
    if source.is_none() {
        let names = dataset.gene_ids().into_py(py)?;
        let names: Vec<&str> = names.iter().flatten().collect();
        return Vocabulary::from_data_set(&names, size).into_py(py);
    }
    if let Ok(entries) = source.cast::<PyDict>() {
        let entries: Vec<(String, i64)> =
            entries.iter().map(|(k, v)| Ok((k.extract()?, v.extract()?))).collect::<PyResult<_>>()?;
        return Vocabulary::new(entries).into_py(py);
    }
    Vocabulary::from_file(source.extract::<PathBuf>()?).into_py(py)
}

/// Medians: a path, a dict, or `"dataset"` to compute them.
fn scales(dataset: &slaf::Dataset, source: &Bound<'_, PyAny>) -> PyResult<GeneTable> {
    let py = source.py();
    if let Ok(entries) = source.cast::<PyDict>() {
        let entries: Vec<(String, f64)> =
            entries.iter().map(|(k, v)| Ok((k.extract()?, v.extract()?))).collect::<PyResult<_>>()?;
        return GeneTable::new(entries).into_py(py);
    }
    if source.cast::<PyString>().is_ok_and(|s| s == "dataset") {
        const TARGET: f64 = 10_000.0;
        let dataset = dataset.clone();
        return work::run(py, move || dataset.gene_medians(TARGET));
    }
    GeneTable::from_file(source.extract::<PathBuf>()?).into_py(py)
}

impl Tokenizer {
    pub(crate) fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.prepared)
    }

    fn prepare(py: Python<'_>, dataset: slaf::Dataset, recipe: Recipe, column: Option<String>) -> PyResult<Self> {
        work::run(py, move || {
            let prepared = Arc::new(recipe.prepare(&dataset.gene_columns(column.as_deref())?)?);
            Ok(Tokenizer { recipe, prepared })
        })
    }
}

#[pymethods]
impl Tokenizer {
    #[staticmethod]
    #[allow(clippy::too_many_arguments)]
    fn geneformer(
        py: Python<'_>,
        dataset: &Dataset,
        version: Named<Geneformer>,
        length: usize,
        tokens: &Bound<'_, PyAny>,
        medians: &Bound<'_, PyAny>,
        vocab_size: usize,
        column: Option<String>,
    ) -> PyResult<Self> {
        let dataset = dataset.dataset(py)?;
        let mut recipe =
            Recipe::new(Description::geneformer(version.0, length), vocabulary(&dataset, tokens, vocab_size)?);
        if medians.is_none() {
            recipe.description.scale = false;
        } else {
            recipe = recipe.with_scales(scales(&dataset, medians)?);
        }
        Self::prepare(py, dataset, recipe, column)
    }

    #[staticmethod]
    #[allow(clippy::too_many_arguments)]
    fn scgpt(
        py: Python<'_>,
        dataset: &Dataset,
        length: usize,
        vocab: &Bound<'_, PyAny>,
        vocab_size: usize,
        n_bins: u32,
        binning: Named<Binning>,
        pad_value: f32,
        cls_value: f32,
        sampling: bool,
        column: Option<String>,
    ) -> PyResult<Self> {
        let dataset = dataset.dataset(py)?;
        let mut description = Description::scgpt(length, n_bins, binning.0, pad_value);
        description.first = vec![Special::new("<cls>", cls_value)];
        if !sampling {
            description.select = slaf::tokenizers::Select::Head;
        }
        let recipe = Recipe::new(description, vocabulary(&dataset, vocab, vocab_size)?);
        Self::prepare(py, dataset, recipe, column)
    }

    /// A tokenizer of the user's own parts.
    #[staticmethod]
    fn composed(
        py: Python<'_>,
        dataset: &Dataset,
        description: &str,
        vocab: &Bound<'_, PyAny>,
        vocab_size: usize,
        medians: &Bound<'_, PyAny>,
        column: Option<String>,
    ) -> PyResult<Self> {
        let dataset = dataset.dataset(py)?;
        let description = Description::from_json(description).into_py(py)?;
        let mut recipe = Recipe::new(description, vocabulary(&dataset, vocab, vocab_size)?);
        if !medians.is_none() {
            recipe = recipe.with_scales(scales(&dataset, medians)?);
        }
        Self::prepare(py, dataset, recipe, column)
    }

    #[staticmethod]
    fn load(py: Python<'_>, dataset: &Dataset, path: PathBuf, column: Option<String>) -> PyResult<Self> {
        let dataset = dataset.dataset(py)?;
        let recipe = Recipe::load(path).into_py(py)?;
        Self::prepare(py, dataset, recipe, column)
    }

    /// What [`Tokenizer::to_json`] gave.
    #[staticmethod]
    fn from_json(py: Python<'_>, dataset: &Dataset, json: &str, column: Option<String>) -> PyResult<Self> {
        let recipe = serde_json::from_str(json).map_err(|e| invalid(py, format!("not a tokenizer: {e}")))?;
        Self::prepare(py, dataset.dataset(py)?, recipe, column)
    }

    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        to_json(py, &self.recipe)
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.recipe.save(path).into_py(py)
    }

    #[getter]
    fn length(&self) -> usize {
        self.prepared.length()
    }

    /// The description as JSON.
    fn description(&self, py: Python<'_>) -> PyResult<String> {
        to_json(py, self.prepared.description())
    }

    /// The numbers of the vocabulary as JSON.
    fn vocab_info(&self, py: Python<'_>) -> PyResult<String> {
        to_json(py, &self.prepared.vocab_info())
    }

    fn decode(&self, py: Python<'_>, tokens: Vec<i64>) -> PyResult<Vec<String>> {
        let names = self.prepared.vocabulary().decode(&tokens).into_py(py)?;
        Ok(names.into_iter().map(String::from).collect())
    }

    /// A batch of [`PyTokens`], without columns.
    fn tokenize(&self, py: Python<'_>, dataset: &Dataset, cells: Chosen, seed: u64, epoch: u64) -> PyResult<PyBatch> {
        let (dataset, prepared, cells) = (dataset.dataset(py)?, Arc::clone(&self.prepared), cells.0);
        let done = work::run(py, move || dataset.tokenize(&prepared, &cells, &mut Random::new(seed, epoch)))?;
        let tokens = PyTokens {
            input_ids: array(py, done.input_ids),
            attention_mask: array(py, done.attention_mask),
            values: self.prepared.has_values().then(|| array(py, done.values)),
            length: done.length,
        };
        Ok(PyBatch {
            cells: array(py, done.cells.into_iter().map(|c| c as i64).collect()),
            sources: None,
            data: Py::new(py, tokens)?.into_any(),
            measured: None,
            columns: Vec::new(),
        })
    }
}
