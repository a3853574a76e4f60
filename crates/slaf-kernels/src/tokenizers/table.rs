//! Numbers by gene id: the files that come with models, medians, positions.

use super::pickle::{self, Number};
use serde::{Deserialize, Serialize};
use slaf_core::{Context, Error, ErrorKind, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A number for each of some gene ids: Geneformer's medians, or positions on chromosomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GeneTable {
    numbers: BTreeMap<String, f64>,
}

impl GeneTable {
    /// # Errors
    /// `invalid-argument` for numbers that are not finite, `ambiguous-name` for an id that comes
    /// twice.
    pub fn new(entries: impl IntoIterator<Item = (String, f64)>) -> Result<Self> {
        let mut numbers = BTreeMap::new();
        for (id, x) in entries {
            if !x.is_finite() {
                return Err(Error::invalid(format!("the number of \"{id}\" is {x}")));
            }
            if let Entry::Vacant(free) = numbers.entry(id.clone()) {
                free.insert(x);
            } else {
                return Err(Error::new(ErrorKind::AmbiguousName, format!("\"{id}\" has two numbers")));
            }
        }
        Ok(GeneTable { numbers })
    }

    /// Reads `{id: number}` from a JSON file or a Python pickle (as Geneformer's
    /// `gene_median_dictionary.pkl`); which of them is told from the first byte.
    ///
    /// # Errors
    /// `not-found`, `malformed-input`, and `unsupported-input` for a pickle that holds anything
    /// but a dictionary of strings to numbers.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let numbers = read_numbers(path)?.into_iter().map(|(id, x)| match x {
            Number::Int(n) => (id, n as f64),
            Number::Float(x) => (id, x),
        });
        Self::new(numbers).at(path.display())
    }

    /// Writes `{id: number}` as JSON; [`GeneTable::from_file`] reads the same numbers again.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_json(path.as_ref(), self)
    }

    /// The number of this id, exactly so written.
    pub fn get(&self, id: &str) -> Option<f64> {
        self.numbers.get(id).copied()
    }

    /// Ids and numbers, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.numbers.iter().map(|(id, &x)| (id.as_str(), x))
    }

    /// How many ids have a number.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether no id has a number.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

/// The entries of `{string: number}` in a JSON file or a pickle.
pub(super) fn read_numbers(path: &Path) -> Result<Vec<(String, Number)>> {
    let bytes = std::fs::read(path).at(path.display())?;
    parse_numbers(&bytes).at(path.display())
}

fn parse_numbers(bytes: &[u8]) -> Result<Vec<(String, Number)>> {
    if bytes.first() == Some(&0x80) {
        return Ok(pickle::read(bytes)?.into_iter().map(|(k, x)| (k.to_string(), x)).collect());
    }
    let map: HashMap<String, serde_json::Number> = serde_json::from_slice(bytes)
        .map_err(|e| Error::malformed(format!("not a JSON object of numbers: {e}")).with_source(e))?;
    let number = |x: &serde_json::Number| match (x.as_i64(), x.as_f64()) {
        (Some(n), _) => Ok(Number::Int(n)),
        (None, Some(x)) => Ok(Number::Float(x)),
        (None, None) => Err(Error::malformed(format!("the number {x} is too large"))),
    };
    map.into_iter().map(|(k, x)| Ok((k, number(&x)?))).collect()
}

/// Writes to a file beside `path` first, so that no reader sees half of it.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()).with_source(e))?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path)).at(path.display())
}
