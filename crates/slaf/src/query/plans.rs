//! The plans that a handle keeps: what a text means is found out once. The version of a handle never
//! changes, nor does what its tables are.

use super::options::QueryOptions;
use arrow::datatypes::DataType;
use quick_cache::sync::Cache;
use slaf_sql::{Dialect, Template};
use std::sync::Arc;

/// Plans that a handle keeps.
const KEPT: usize = 128;
/// Bytes of the longest text whose plan is kept: it is small, and so shallow that it needs no large
/// stack.
const LONGEST: usize = 2048;

/// What a plan is the same for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    sql: String,
    dialect: Dialect,
    measured: bool,
    types: Vec<(String, DataType)>,
}

/// `None` for a query whose plan is not kept.
fn key(sql: &str, options: &QueryOptions) -> Option<Key> {
    if sql.len() > LONGEST || !options.tables.is_empty() {
        return None;
    }
    let types = options.parameters.types()?;
    Some(Key { sql: sql.to_string(), dialect: options.dialect, measured: options.measured, types })
}

/// The plans of a handle that are kept; what was not used for long goes first.
#[derive(Debug)]
pub(super) struct Plans(Cache<Key, Arc<Template>>);

impl Plans {
    pub(super) fn new() -> Plans {
        Plans(Cache::new(KEPT))
    }

    /// The plan of a query, if it is here.
    pub(super) fn get(&self, sql: &str, options: &QueryOptions) -> Option<Arc<Template>> {
        self.0.get(&key(sql, options)?)
    }

    /// Keeps the plan of a query, unless it is long or has tables or values in it.
    pub(super) fn keep(&self, sql: &str, options: &QueryOptions, plan: &Arc<Template>) {
        if let Some(key) = key(sql, options) {
            self.0.insert(key, plan.clone());
        }
    }
}
