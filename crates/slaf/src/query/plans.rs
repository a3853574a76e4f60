//! The plans that a handle keeps: what a text means is found out once. The version of a handle never
//! changes, nor does what its tables are.

use super::options::QueryOptions;
use super::point::Point;
use super::ready::Ready;
use arrow::datatypes::DataType;
use quick_cache::sync::Cache;
use slaf_sql::{Dialect, Parameters, Template};
use std::sync::{Arc, OnceLock};

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

/// What is kept of a query.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) template: Template,
    point: OnceLock<Point>,
}

impl Plan {
    pub(super) fn new(template: Template) -> Plan {
        Plan { template, point: OnceLock::new() }
    }

    /// The plan that is run with other rows, if there is one.
    pub(super) fn point(&self) -> Option<&Point> {
        self.point.get()
    }

    /// Keeps what was planned for these values, if it can be run with others.
    pub(super) fn look_at(&self, ready: &Ready, parameters: &Parameters) {
        if self.point.get().is_none()
            && let Some(point) = Point::of(&self.template, ready, parameters)
        {
            // Whoever comes second has the same.
            let _ = self.point.set(point);
        }
    }
}

/// The plans of a handle that are kept; what was not used for long goes first.
#[derive(Debug)]
pub(super) struct Plans(Cache<Key, Arc<Plan>>);

impl Plans {
    pub(super) fn new() -> Plans {
        Plans(Cache::new(KEPT))
    }

    /// The plan of a query, if it is here.
    pub(super) fn get(&self, sql: &str, options: &QueryOptions) -> Option<Arc<Plan>> {
        self.0.get(&key(sql, options)?)
    }

    /// Keeps the plan of a query, unless it is long or has tables or values in it.
    pub(super) fn keep(&self, sql: &str, options: &QueryOptions, plan: &Arc<Plan>) {
        if let Some(key) = key(sql, options) {
            self.0.insert(key, plan.clone());
        }
    }
}
