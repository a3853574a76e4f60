//! What the tables of stored values have: `expression`, `layers` and the graphs, a row for each
//! stored value.

use crate::store::Snapshot;
use crate::store::manifest::MatrixEntry;
use crate::store::schema::id_type;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use slaf_core::Result;
use slaf_ingest::{Axis, MatrixKey, arrow_type};
use std::sync::Arc;

/// Rows or columns of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Rows,
    Cols,
}

/// A column of a [`View`]. They stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ViewColumn {
    /// The number of the row or column of each value.
    Number(Side),
    /// The values of one of the matrices.
    Value(usize),
    /// The name of the row or column of each value.
    Name(Side),
}

/// The columns that number and name the cells or genes of one side of a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdColumns {
    pub(super) axis: Axis,
    pub(super) number: &'static str,
    pub(super) id: &'static str,
}

const CELLS: IdColumns = IdColumns { axis: Axis::Cells, number: "cell_integer_id", id: "cell_id" };
const GENES: IdColumns = IdColumns { axis: Axis::Genes, number: "gene_integer_id", id: "gene_id" };
const OTHER_CELLS: IdColumns = IdColumns { axis: Axis::Cells, number: "other_cell_integer_id", id: "other_cell_id" };
const OTHER_GENES: IdColumns = IdColumns { axis: Axis::Genes, number: "other_gene_integer_id", id: "other_gene_id" };

/// Matrices of one shape as a table. Its columns: the numbers of row and column, the values of
/// each matrix, the names of row and column.
#[derive(Debug)]
pub(super) struct View {
    pub(super) inner: Arc<Snapshot>,
    pub(super) matrices: Vec<MatrixEntry>,
    pub(super) keys: Vec<MatrixKey>,
    pub(super) schema: SchemaRef,
    pub(super) rows: IdColumns,
    pub(super) cols: IdColumns,
}

impl View {
    /// One matrix: its values are the column `value`.
    pub(super) fn of_matrix(inner: Arc<Snapshot>, matrix: MatrixEntry) -> Result<View> {
        let (rows, cols) = match matrix.key() {
            MatrixKey::Obsp(_) => (CELLS, OTHER_CELLS),
            MatrixKey::Varp(_) => (GENES, OTHER_GENES),
            _ => (CELLS, GENES),
        };
        View::new(inner, vec![("value".to_string(), matrix)], rows, cols)
    }

    /// Layers side by side: a row for each position at which one of them has a stored value.
    pub(super) fn of_layers(inner: Arc<Snapshot>, layers: Vec<MatrixEntry>) -> Result<View> {
        let taken = [CELLS.number, CELLS.id, GENES.number, GENES.id];
        let shown = |m: &MatrixEntry| match taken.contains(&m.name.as_str()) {
            true => format!("layers:{}", m.name),
            false => m.name.clone(),
        };
        View::new(inner, layers.into_iter().map(|m| (shown(&m), m)).collect(), CELLS, GENES)
    }

    fn new(
        inner: Arc<Snapshot>,
        matrices: Vec<(String, MatrixEntry)>,
        rows: IdColumns,
        cols: IdColumns,
    ) -> Result<View> {
        let number = |ids: IdColumns| Field::new(ids.number, DataType::Int64, false);
        let id = |ids: IdColumns| Field::new(ids.id, id_type(), false);
        let mut fields = vec![number(rows), number(cols)];
        for (shown, matrix) in &matrices {
            fields.push(Field::new(shown, arrow_type(matrix.dtype), false));
        }
        fields.extend([id(rows), id(cols)]);
        let matrices: Vec<MatrixEntry> = matrices.into_iter().map(|(_, m)| m).collect();
        let keys = matrices.iter().map(MatrixEntry::key).collect();
        Ok(View { inner, matrices, keys, schema: Arc::new(Schema::new(fields)), rows, cols })
    }

    /// The number of rows and columns of the matrices.
    pub(super) fn shape(&self) -> (u64, u64) {
        self.matrices.first().map_or((0, 0), |m| (m.n_rows, m.n_cols))
    }

    /// The column at a place of the schema.
    pub(super) fn column(&self, at: usize) -> ViewColumn {
        let n_values = self.matrices.len();
        match at {
            0 => ViewColumn::Number(Side::Rows),
            1 => ViewColumn::Number(Side::Cols),
            at if at < 2 + n_values => ViewColumn::Value(at - 2),
            at if at == 2 + n_values => ViewColumn::Name(Side::Rows),
            _ => ViewColumn::Name(Side::Cols),
        }
    }

    /// The schema of some columns.
    pub(super) fn project(&self, columns: &[ViewColumn]) -> SchemaRef {
        let n_values = self.matrices.len();
        let field = |column: &ViewColumn| match column {
            ViewColumn::Number(Side::Rows) => self.schema.field(0).clone(),
            ViewColumn::Number(Side::Cols) => self.schema.field(1).clone(),
            ViewColumn::Value(matrix) => self.schema.field(2 + matrix).clone(),
            ViewColumn::Name(Side::Rows) => self.schema.field(2 + n_values).clone(),
            ViewColumn::Name(Side::Cols) => self.schema.field(3 + n_values).clone(),
        };
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The number of rows, or of columns, of the matrices.
    pub(super) fn len(&self, side: Side) -> u64 {
        match side {
            Side::Rows => self.shape().0,
            Side::Cols => self.shape().1,
        }
    }

    /// The side whose columns a name is one of.
    fn side_of_column(&self, name: &str) -> Option<Side> {
        match name {
            _ if name == self.rows.number || name == self.rows.id => Some(Side::Rows),
            _ if name == self.cols.number || name == self.cols.id => Some(Side::Cols),
            _ => None,
        }
    }

    /// The side that all of these columns are about, if it is one.
    pub(super) fn side_of_columns<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<Side> {
        let mut sides = names.map(|name| self.side_of_column(name));
        let first = sides.next()??;
        sides.all(|s| s == Some(first)).then_some(first)
    }

    pub(super) fn ids(&self, side: Side) -> IdColumns {
        match side {
            Side::Rows => self.rows,
            Side::Cols => self.cols,
        }
    }
}
