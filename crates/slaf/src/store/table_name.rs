//! The tables of a store.

use crate::store::schema;
use slaf_ingest::{Axis, MatrixKey};

/// The tables of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TableName {
    Cells,
    Genes,
    ByGene,
    RawGenes,
}

impl TableName {
    /// The column with the names of the rows.
    pub(crate) fn index(self) -> &'static str {
        if self == TableName::Cells { schema::CELL_ID } else { schema::GENE_ID }
    }

    /// What a row is, for messages.
    pub(crate) fn row(self) -> &'static str {
        if self == TableName::Cells { "cell" } else { "gene" }
    }

    /// The table whose rows are the cells or genes.
    pub(crate) fn of_axis(axis: Axis) -> TableName {
        if axis == Axis::Cells { TableName::Cells } else { TableName::Genes }
    }

    /// The table that holds the rows of a matrix.
    pub(crate) fn of_matrix(key: &MatrixKey) -> TableName {
        if matches!(key, MatrixKey::Varp(_)) { TableName::Genes } else { TableName::Cells }
    }
}
