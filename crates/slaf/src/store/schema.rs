//! The Lance schemas of the tables. Columns of the user are named by number (`o3`, `l0`): their
//! own names, which may be any string, are in the root manifest.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use slaf_core::Dtype;
use std::collections::HashMap;
use std::sync::Arc;

/// `cells`: the names of the cells.
pub(crate) const CELL_ID: &str = "cell_id";
/// `cells`: stored values of X in the row, explicit zeros included.
pub(crate) const NNZ: &str = "nnz";
/// `cells`: values of X that are not zero.
pub(crate) const N_GENES: &str = "n_genes";
/// `cells`, `genes`: the sum over X.
pub(crate) const TOTAL: &str = "total";
/// `genes`, `raw_genes`: the names of the genes.
pub(crate) const GENE_ID: &str = "gene_id";
/// `genes`, `raw_genes`: the column's number in packed rows.
pub(crate) const RANK: &str = "rank";
/// `genes`: cells in which the gene's value is not zero.
pub(crate) const N_CELLS: &str = "n_cells";
/// `by_gene`: the sum of the values of the row.
pub(crate) const SUM: &str = "sum";
/// `by_gene`: the sum of their squares.
pub(crate) const SUM_OF_SQUARES: &str = "sum_of_squares";
/// `by_gene`: packed values over the cells of a stripe.
pub(crate) const PACKED: &str = "packed";

/// `cells` before the user's columns.
pub(crate) fn cell_fields() -> Vec<Field> {
    vec![
        Field::new(CELL_ID, DataType::Utf8, false),
        Field::new(NNZ, DataType::UInt32, false),
        Field::new(N_GENES, DataType::UInt32, false),
        Field::new(TOTAL, DataType::Float64, false),
    ]
}

/// `raw_genes` before the user's columns.
pub(crate) fn raw_gene_fields() -> Vec<Field> {
    vec![Field::new(GENE_ID, DataType::Utf8, false), Field::new(RANK, DataType::UInt32, false)]
}

/// `genes` before the user's columns.
pub(crate) fn gene_fields() -> Vec<Field> {
    let mut fields = raw_gene_fields();
    fields.push(Field::new(N_CELLS, DataType::UInt64, false));
    fields.push(Field::new(TOTAL, DataType::Float64, false));
    fields
}

/// A column of packed rows.
pub(crate) fn packed_field(name: &str) -> Field {
    // Rows are already compressed; whole values apart from each other make random access cheap.
    let metadata = HashMap::from([
        ("lance-encoding:compression".to_string(), "none".to_string()),
        ("lance-encoding:structural-encoding".to_string(), "fullzip".to_string()),
    ]);
    Field::new(name, DataType::Binary, false).with_metadata(metadata)
}

pub(crate) fn by_gene_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(NNZ, DataType::UInt64, false),
        Field::new(SUM, DataType::Float64, false),
        Field::new(SUM_OF_SQUARES, DataType::Float64, false),
        packed_field(PACKED),
    ]))
}

/// The Arrow type of matrix values; booleans are held as bytes.
pub(crate) fn arrow_type(dtype: Dtype) -> DataType {
    slaf_ingest::arrow_type(if dtype == Dtype::Bool { Dtype::U8 } else { dtype })
}

/// The type of the names of cells and genes in SQL.
pub(crate) fn id_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The type of a row of an obsm or varm array.
pub(crate) fn array_field(name: &str, dtype: Dtype, width: u64) -> Field {
    let item = Arc::new(Field::new("item", arrow_type(dtype), true));
    Field::new(name, DataType::FixedSizeList(item, width as i32), false)
}
