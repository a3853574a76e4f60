use arrow::datatypes::{DataType, Field};
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

/// The columns that a query may name: those of all tables.
#[derive(Clone, Debug, Default)]
pub struct Columns(HashMap<String, Kind>);

impl Columns {
    /// Adds a column; one name may be that of columns of several tables.
    pub fn add(&mut self, name: &str, data_type: &DataType) {
        let kind = kind_of(data_type);
        let known = self.0.entry(name.to_string()).or_insert(kind);
        if *known != kind {
            *known = Kind::Unknown;
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        self.0.get(name).copied()
    }
}

impl<'a> FromIterator<&'a Field> for Columns {
    fn from_iter<T: IntoIterator<Item = &'a Field>>(fields: T) -> Columns {
        let mut columns = Columns::default();
        fields.into_iter().for_each(|f| columns.add(f.name(), f.data_type()));
        columns
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
