//! Conversion into a store.

use crate::dataset::to_json;
use crate::error::invalid;
use crate::work;
use pyo3::prelude::*;
use slaf::{ConvertOptions, Durability, Join};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Converts one input, or several into one store; gives the report as text and as JSON.
#[pyfunction]
#[pyo3(signature = (inputs, output, *, overwrite, allow_loss, by_gene, memory, join, source_column,
    fill_layers, genome, feature_type, modality, genes_in_rows, durability, storage_options, progress))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn convert(
    py: Python<'_>,
    inputs: Vec<PathBuf>,
    output: String,
    overwrite: bool,
    allow_loss: bool,
    by_gene: bool,
    memory: Option<usize>,
    join: &str,
    source_column: Option<String>,
    fill_layers: bool,
    genome: Option<String>,
    feature_type: Option<String>,
    modality: Option<String>,
    genes_in_rows: Option<bool>,
    durability: &str,
    storage_options: HashMap<String, String>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    let mut options = ConvertOptions {
        overwrite,
        allow_loss,
        by_gene,
        source_column,
        fill_layers,
        storage_options,
        join: match join {
            "outer" => Join::Outer,
            "inner" => Join::Inner,
            _ => return Err(invalid(py, format!("join is \"outer\" or \"inner\", not \"{join}\""))),
        },
        durability: match durability {
            "full" => Durability::Full,
            "os" => Durability::Os,
            _ => return Err(invalid(py, format!("durability is \"full\" or \"os\", not \"{durability}\""))),
        },
        ..ConvertOptions::default()
    };
    if let Some(memory) = memory {
        options.memory = memory;
    }
    options.input.genome = genome;
    options.input.feature_type = feature_type;
    options.input.modality = modality;
    options.input.genes_in_rows = genes_in_rows;
    let report = work::run_with_progress(py, progress, move |progress| {
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        slaf::convert(&inputs, &output, &options, progress)
    })?;
    Ok((report.to_string(), to_json(py, &report)?))
}
