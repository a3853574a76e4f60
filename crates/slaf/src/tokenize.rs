//! Tokens of the cells of a store.

use crate::selection::Selection;
use crate::store::{Snapshot, TableName};
use crate::{config, reader};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::{Axis, MatrixKey};
use slaf_kernels::tokenizers::{Batch, GeneColumn, GeneTable, MedianBuilder, Random, Rows, Tokenizer};
use slaf_lance::error::from_arrow;
use slaf_lance::runtime::{block_on, in_pool};
use std::sync::Arc;

/// Rows of tokens, of shape cells x `length`.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// Row by row, padded at the end.
    pub input_ids: Vec<i64>,
    /// True for everything but padding.
    pub attention_mask: Vec<bool>,
    /// Beside `input_ids`; empty for a tokenizer without values.
    pub values: Vec<f32>,
    /// The cell of each row.
    pub cells: Vec<u64>,
    /// Tokens of each row, padding included.
    pub length: usize,
}

/// The columns of var that may hold ids of a vocabulary: the names of the genes as `gene_id`,
/// and the text columns; or `only` one of these.
pub(crate) fn gene_columns(snapshot: &Snapshot, only: Option<&str>) -> Result<Vec<GeneColumn>> {
    let var = block_on(snapshot.frame(TableName::Genes, &snapshot.manifest.var, None, &Selection::All))?;
    let schema = var.schema();
    let mut columns = Vec::new();
    for (i, (field, array)) in schema.fields().iter().zip(var.columns()).enumerate() {
        let name = if i == 0 { "gene_id" } else { field.name().as_str() };
        let text = match field.data_type() {
            DataType::Utf8 => true,
            DataType::Dictionary(_, value) => **value == DataType::Utf8,
            _ => false,
        };
        if !text || only.is_some_and(|o| o != name) {
            continue;
        }
        let array = cast(array, &DataType::Utf8).map_err(from_arrow)?;
        let ids = array.as_string::<i32>().iter().map(|id| id.unwrap_or_default().to_string()).collect();
        columns.push(GeneColumn { name: name.to_string(), ids });
    }
    match (only, columns.is_empty()) {
        (Some(only), true) => Err(Error::new(ErrorKind::UnknownColumn, format!("no text column \"{only}\"")).at("var")),
        _ => Ok(columns),
    }
}

/// Tokenizes cells in the order given, over X.
pub(crate) fn tokenize(
    snapshot: &Arc<Snapshot>,
    tokenizer: &Tokenizer,
    cells: &Selection,
    random: &mut Random,
) -> Result<Tokens> {
    let n_cells = snapshot.manifest.n_cells;
    let length = tokenizer.length();
    let (mut rows, mut done) = (Rows::default(), Vec::new());
    let mut chunks = reader::stream(snapshot, &MatrixKey::X, cells, &Selection::All, config::batch_rows())?;
    let mut ids = cells.iter(n_cells);
    while let Some(chunk) = chunks.next().transpose()? {
        let numbers: Vec<u64> = ids.by_ref().take(chunk.n_rows()).collect();
        let batch = Batch { chunk: &chunk, cells: &numbers, totals: None };
        done.extend(in_pool(|| tokenizer.append(&batch, random, &mut rows))?.kept(&numbers));
    }
    let Rows { input_ids, attention_mask, values } = rows;
    Ok(Tokens { input_ids, attention_mask, values, cells: done, length })
}

/// The median of each gene over the cells that have it, of X with `target_sum` counts in each
/// cell: what Geneformer's tokenizer scales by.
pub(crate) fn gene_medians(snapshot: &Arc<Snapshot>, target_sum: f64) -> Result<GeneTable> {
    let mut medians = MedianBuilder::new(snapshot.manifest.n_genes as usize, target_sum);
    for chunk in reader::stream(snapshot, &MatrixKey::X, &Selection::All, &Selection::All, config::batch_rows())? {
        medians.push(&chunk?, None)?;
    }
    let names = block_on(snapshot.ids(Axis::Genes))?;
    let names: Vec<&str> = names.iter().flatten().collect();
    medians.into_table(&names)
}
