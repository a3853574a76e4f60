//! Lookup of cells and genes by name, and names that are near a wrong one.

use arrow::array::{Array, StringArray};
use rayon::prelude::*;
use slaf_core::{Error, ErrorKind, Result, near};
use slaf_lance::runtime::in_pool;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// Names in row order with an index of 8 bytes a name.
#[derive(Debug)]
pub(crate) struct Names {
    names: Arc<StringArray>,
    /// A row in the lower bits, the upper bits of the hash of its name above it; sorted.
    index: Vec<u64>,
    /// Bits of a row.
    bits: u32,
}

fn hash(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

impl Names {
    pub(crate) fn new(names: Arc<StringArray>) -> Result<Names> {
        let bits = usize::BITS - names.len().saturating_sub(1).leading_zeros();
        let index = in_pool(|| {
            let mut index: Vec<u64> = (0..names.len())
                .into_par_iter()
                .map(|row| hash(names.value(row)) >> bits << bits | row as u64)
                .collect();
            index.par_sort_unstable();
            Ok(index)
        })?;
        Ok(Names { names, index, bits })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.names.get_array_memory_size() + size_of_val(&self.index[..])
    }

    /// The rows with this name, rising.
    pub(crate) fn find(&self, name: &str) -> Vec<u64> {
        let first = hash(name) >> self.bits << self.bits;
        let from = self.index.partition_point(|&e| e < first);
        self.index[from..]
            .iter()
            .take_while(|&&e| e >> self.bits << self.bits == first)
            .map(|&e| e - first)
            .filter(|&row| self.names.value(row as usize) == name)
            .collect()
    }

    /// All names, in row order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten()
    }

    /// The row of each name.
    pub(crate) fn resolve(&self, names: &[&str], what: &str, unknown: ErrorKind) -> Result<Vec<u64>> {
        let mut rows = Vec::with_capacity(names.len());
        let mut missing = Vec::new();
        for name in names {
            match self.find(name)[..] {
                [row] => rows.push(row),
                [] => missing.push(*name),
                [first, second, ..] => {
                    return Err(Error::new(
                        ErrorKind::AmbiguousName,
                        format!(
                            "{what} \"{name}\" is the name of more than one (rows {first}, {second}, ...): \
                             select by number, or make the names unique"
                        ),
                    ));
                }
            }
        }
        if missing.is_empty() {
            return Ok(rows);
        }
        let near = near(missing[0], self.iter());
        let hint =
            if near.is_empty() { String::new() } else { format!("; near {:?}: {}", missing[0], near.join(", ")) };
        let list: Vec<_> = missing.iter().take(5).map(|n| format!("{n:?}")).collect();
        let more = if missing.len() > 5 { format!(" and {} more", missing.len() - 5) } else { String::new() };
        Err(Error::new(unknown, format!("no {what} named {}{more}{hint}", list.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(Arc::new(StringArray::from(vec!["CD3D", "MS4A1", "CD3E", "MS4A1"]))).unwrap()
    }

    #[test]
    fn names_resolve_in_order() {
        assert_eq!(names().resolve(&["CD3E", "CD3D"], "gene", ErrorKind::UnknownGene).unwrap(), [2, 0]);
    }

    #[test]
    fn rows_of_one_name_rise() {
        let made: Vec<String> = (0..1000).map(|i| format!("n{}", i % 300)).collect();
        for n in [1, 2, 3, 255, 256, 257, 1000] {
            let names = Names::new(Arc::new(StringArray::from(made[..n].to_vec()))).unwrap();
            for name in ["n0", "n1", "n299", "n300"] {
                let expected = (0..n as u64).filter(|&i| made[i as usize] == name);
                assert!(names.find(name).into_iter().eq(expected), "{name} of {n}");
            }
        }
        assert!(Names::new(Arc::new(StringArray::from(Vec::<&str>::new()))).unwrap().find("").is_empty());
    }

    #[test]
    fn ambiguous_and_unknown_names_are_errors() {
        let error = |name| names().resolve(&[name], "gene", ErrorKind::UnknownGene).unwrap_err();
        assert_eq!(error("MS4A1").kind(), ErrorKind::AmbiguousName);
        assert_eq!(error("cd3d").kind(), ErrorKind::UnknownGene);
        assert!(error("cd3d").to_string().contains("near \"cd3d\": CD3D, CD3E"));
    }
}
