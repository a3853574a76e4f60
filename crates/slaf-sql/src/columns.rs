use crate::genes::CELLS;
use arrow::datatypes::DataType;
use std::collections::HashMap;

/// What an expression holds, as far as the dialect asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Numbers and truth values.
    Number,
    /// What the text alone does not tell, and what can be compared with a text.
    Unknown,
}

/// The columns that a query may name: those of each table.
#[derive(Clone, Debug, Default)]
pub struct Columns(HashMap<String, HashMap<String, Kind>>);

impl Columns {
    /// Adds a column of a table.
    pub fn add(&mut self, table: &str, name: &str, data_type: &DataType) {
        self.0.entry(table.to_string()).or_default().insert(name.to_string(), kind_of(data_type));
    }

    /// Those of the tables that a query `reads`.
    pub(crate) fn of(&self, reads: impl Fn(&str) -> bool) -> Columns {
        Columns(self.0.iter().filter(|(table, _)| reads(table)).map(|(t, c)| (t.clone(), c.clone())).collect())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.values().any(|columns| columns.contains_key(name))
    }

    /// Whether `cells` has the column.
    pub(crate) fn cells_have(&self, name: &str) -> bool {
        self.0.get(CELLS).is_some_and(|columns| columns.contains_key(name))
    }

    /// What a column holds that may be one of several tables.
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        let mut kinds = self.0.values().filter_map(|columns| columns.get(name).copied());
        let first = kinds.next()?;
        Some(if kinds.all(|kind| kind == first) { first } else { Kind::Unknown })
    }
}

fn kind_of(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Dictionary(_, value) => kind_of(value),
        t if t.is_string() => Kind::Text,
        t if t.is_numeric() || *t == DataType::Boolean => Kind::Number,
        _ => Kind::Unknown,
    }
}
