//! What a handle keeps in memory of what it has read, so that the next question does not read it
//! again: names, orders of genes, whole columns. Together they stay within a budget; what was used
//! least goes first.

use crate::config;
use crate::store::names::Names;
use crate::store::table_name::TableName;
use arrow::array::{Array, ArrayRef};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use slaf_core::order::GeneOrder;
use slaf_core::{Error, ErrorKind, Result};
use std::future::Future;
use std::sync::Arc;

/// Things that a handle expects to keep: columns, mostly.
const EXPECTED: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A whole column of a table.
    Column(TableName, String),
    /// The rows of `cells` or `genes` by name.
    Names(TableName),
    /// The genes by symbol.
    Symbols,
    /// The gene order of a table.
    Order(TableName),
}

#[derive(Clone, Debug)]
enum Value {
    Column(ArrayRef),
    Names(Option<Arc<Names>>),
    Order(Arc<GeneOrder>),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Value::Column(array) => array.get_array_memory_size(),
            Value::Names(names) => names.as_ref().map_or(0, |n| n.bytes()),
            Value::Order(order) => size_of_val(&order.rank_of[..]) + size_of_val(&order.gene_of[..]),
        }
    }
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Value> for Bytes {
    fn weight(&self, _: &Key, value: &Value) -> u64 {
        value.bytes() as u64 + 1
    }
}

/// What is kept, up to [`config::kept_memory`] bytes.
#[derive(Debug)]
pub(crate) struct Kept(Cache<Key, Value, Bytes>);

impl Kept {
    pub(crate) fn new() -> Result<Kept> {
        // One shard: each has its part of the budget, and a long column needs most of it.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(EXPECTED)
            .weight_capacity(config::kept_memory() as u64)
            .shards(1)
            .build()
            .map_err(|e| Error::new(ErrorKind::Internal, format!("the memory of a handle: {e}")))?;
        Ok(Kept(Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default())))
    }

    /// A column, if it is here.
    pub(crate) fn column(&self, table: TableName, column: &str) -> Option<ArrayRef> {
        match self.0.get(&Key::Column(table, column.to_string())) {
            Some(Value::Column(array)) => Some(array),
            _ => None,
        }
    }

    pub(crate) fn keep_column(&self, table: TableName, column: &str, array: &ArrayRef) {
        self.0.insert(Key::Column(table, column.to_string()), Value::Column(array.clone()));
    }

    /// Names that are kept, or else those that `load` gives; of callers at once, one loads.
    pub(crate) async fn names(
        &self,
        key: Key,
        load: impl Future<Output = Result<Option<Names>>>,
    ) -> Result<Option<Arc<Names>>> {
        let load = async { Ok::<_, Error>(Value::Names(load.await?.map(Arc::new))) };
        match self.0.get_or_insert_async(&key, load).await? {
            Value::Names(names) => Ok(names),
            other => Err(mistaken(&key, &other)),
        }
    }

    /// The order of a table's genes, as [`Kept::names`].
    pub(crate) async fn order(
        &self,
        table: TableName,
        load: impl Future<Output = Result<GeneOrder>>,
    ) -> Result<Arc<GeneOrder>> {
        let key = Key::Order(table);
        let load = async { Ok::<_, Error>(Value::Order(Arc::new(load.await?))) };
        match self.0.get_or_insert_async(&key, load).await? {
            Value::Order(order) => Ok(order),
            other => Err(mistaken(&key, &other)),
        }
    }
}

fn mistaken(key: &Key, value: &Value) -> Error {
    Error::new(ErrorKind::Internal, format!("under {key:?} there is {} bytes of something else", value.bytes()))
}
