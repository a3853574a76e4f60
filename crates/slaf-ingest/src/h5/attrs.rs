//! Attributes.

use hdf5_pure::{AttrValue, Datatype};
use slaf_core::{Error, Result};
use std::collections::HashMap;

/// The attributes of a group or dataset.
pub(crate) struct Attrs {
    pub(crate) values: HashMap<String, AttrValue>,
    /// Their types, as far as they are those of an HDF5 file.
    pub(crate) types: HashMap<String, Datatype>,
}

impl Attrs {
    /// The parser leaves out what it cannot decode; of text and numbers, that means damage.
    pub(super) fn new(values: HashMap<String, AttrValue>, types: HashMap<String, Datatype>) -> Result<Attrs> {
        use hdf5_pure::Datatype as T;
        let plain = |t: &T| match t {
            T::FixedPoint { size, .. } => matches!(size, 1 | 2 | 4 | 8),
            T::FloatingPoint { size, .. } => matches!(size, 4 | 8),
            T::String { .. } => true,
            T::VariableLength { is_string, .. } => *is_string,
            _ => false,
        };
        match types.iter().find(|(name, t)| plain(t) && !values.contains_key(*name)) {
            Some((name, _)) => Err(Error::malformed(format!("the attribute \"{name}\" is damaged"))),
            None => Ok(Attrs { values, types }),
        }
    }

    pub(crate) fn str(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str()
    }

    /// The strings of an array; an empty array of any type has none.
    pub(crate) fn strings(&self, name: &str) -> Option<Vec<String>> {
        let value = self.values.get(name)?;
        match value.as_strings() {
            Some(s) => Some(s.to_vec()),
            None if value.to_f64s().is_some_and(|v| v.is_empty()) => Some(Vec::new()),
            None => None,
        }
    }

    pub(crate) fn u64s(&self, name: &str) -> Option<Vec<u64>> {
        self.values.get(name)?.to_u64s()
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.as_i64()
    }

    /// All of them, sorted by name.
    pub(crate) fn all(&self) -> Vec<(&str, &AttrValue)> {
        let mut all: Vec<_> = self.values.iter().map(|(name, value)| (name.as_str(), value)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Those of types that are not read, sorted by name.
    pub(crate) fn unread(&self) -> Vec<&str> {
        let mut unread: Vec<_> =
            self.types.keys().filter(|n| !self.values.contains_key(*n)).map(String::as_str).collect();
        unread.sort_unstable();
        unread
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}
