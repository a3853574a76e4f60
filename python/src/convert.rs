//! Conversion into a store.

use crate::arguments::{Named, from_attributes};
use crate::dataset::PyMeasured;
use crate::output::to_json;
use crate::work;
use pyo3::prelude::*;
use slaf::{Durability, Join};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

from_attributes! {
    /// `slaf._boundary.ConvertOptions`.
    struct ConvertOptions {
        overwrite: bool,
        allow_loss: bool,
        by_gene: bool,
        memory: Option<usize>,
        join: Named<Join>,
        source_column: Option<String>,
        fill_layers: bool,
        genome: Option<String>,
        feature_type: Option<String>,
        modality: Option<String>,
        genes_in_rows: Option<bool>,
        measured: Option<PyMeasured>,
        durability: Named<Durability>,
        storage_options: HashMap<String, String>,
    }
}

impl From<ConvertOptions> for slaf::ConvertOptions {
    fn from(given: ConvertOptions) -> Self {
        let defaults = slaf::ConvertOptions::default();
        slaf::ConvertOptions {
            overwrite: given.overwrite,
            allow_loss: given.allow_loss,
            by_gene: given.by_gene,
            memory: given.memory.unwrap_or(defaults.memory),
            join: given.join.0,
            source_column: given.source_column,
            fill_layers: given.fill_layers,
            few_names: defaults.few_names,
            input: slaf::OpenOptions {
                genome: given.genome,
                feature_type: given.feature_type,
                modality: given.modality,
                genes_in_rows: given.genes_in_rows,
                measured: given.measured.map(|m| m.0),
                ..defaults.input
            },
            durability: given.durability.0,
            storage_options: given.storage_options,
        }
    }
}

/// Converts one input, or several into one store; gives the report as text and as JSON.
#[pyfunction]
pub(crate) fn convert(
    py: Python<'_>,
    inputs: Vec<PathBuf>,
    output: String,
    options: ConvertOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    let options = slaf::ConvertOptions::from(options);
    let report = work::run_with_progress(py, progress, move |progress| {
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        slaf::convert(&inputs, &output, &options, progress)
    })?;
    Ok((report.to_string(), to_json(py, &report)?))
}
