//! What a handle keeps in memory of what it has read, so that the next question does not read it
//! again: names, orders of genes, whole columns. Together they stay within a budget; what was used
//! least goes first.

use crate::config;
use crate::store::inverted::{Inverted, ListRows};
use crate::store::names::Names;
use crate::store::table_name::TableName;
use arrow::array::{Array, ArrayRef};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use slaf_core::order::GeneOrder;
use slaf_core::{Error, ErrorKind, Result};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Things that a handle expects to keep: columns, mostly.
const EXPECTED: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A whole column of a table.
    Column(TableName, String),
    /// The rows of `cells` or `genes` by name.
    Names(TableName),
    /// The names of a table, as views of their bytes.
    Views(TableName),
    /// The genes by symbol.
    Symbols,
    /// The gene order of a table.
    Order(TableName),
    /// The index of an array whose head is in this file.
    Inverted(String),
    /// A list of an index, in this file.
    List(Arc<str>, u32),
}

#[derive(Clone, Debug)]
enum Value {
    Column(ArrayRef),
    Names(Option<Arc<Names>>),
    Order(Arc<GeneOrder>),
    Inverted(Arc<Inverted>),
    List(Arc<ListRows>),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Value::Column(array) => array.get_array_memory_size(),
            Value::Names(names) => names.as_ref().map_or(0, |n| n.bytes()),
            Value::Inverted(index) => index.head_bytes(),
            Value::List(rows) => rows.bytes(),
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
pub(crate) struct Kept {
    cache: Cache<Key, Value, Bytes>,
    hits: AtomicU64,
}

impl Kept {
    pub(crate) fn new() -> Result<Kept> {
        Kept::within(config::kept_memory())
    }

    fn within(bytes: usize) -> Result<Kept> {
        // One shard: each has its part of the budget, and a long column needs most of it.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(EXPECTED)
            .weight_capacity(bytes as u64)
            .shards(1)
            .build()
            .map_err(|e| Error::new(ErrorKind::Internal, format!("the memory of a handle: {e}")))?;
        let cache = Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Ok(Kept { cache, hits: AtomicU64::new(0) })
    }

    /// How often something was here.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    fn get(&self, key: &Key) -> Option<Value> {
        let found = self.cache.get(key);
        self.hits.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
        found
    }

    async fn get_or(&self, key: &Key, load: impl Future<Output = Result<Value>>) -> Result<Value> {
        match self.get(key) {
            Some(value) => Ok(value),
            None => self.cache.get_or_insert_async(key, load).await,
        }
    }

    /// A column, if it is here.
    pub(crate) fn column(&self, table: TableName, column: &str) -> Option<ArrayRef> {
        match self.get(&Key::Column(table, column.to_string())) {
            Some(Value::Column(array)) => Some(array),
            _ => None,
        }
    }

    /// Whether a column is here.
    pub(crate) fn has_column(&self, table: TableName, column: &str) -> bool {
        self.cache.peek(&Key::Column(table, column.to_string())).is_some()
    }

    pub(crate) fn keep_column(&self, table: TableName, column: &str, array: &ArrayRef) {
        self.cache.insert(Key::Column(table, column.to_string()), Value::Column(array.clone()));
    }

    /// A list of an index, if it is here.
    pub(crate) fn list(&self, (file, list): (Arc<str>, u32)) -> Option<Arc<ListRows>> {
        match self.get(&Key::List(file, list)) {
            Some(Value::List(rows)) => Some(rows),
            _ => None,
        }
    }

    pub(crate) fn keep_list(&self, (file, list): (Arc<str>, u32), rows: &Arc<ListRows>) {
        self.cache.insert(Key::List(file, list), Value::List(rows.clone()));
    }

    /// Whether the rows of a table by name are here.
    pub(crate) fn has_names(&self, table: TableName) -> bool {
        self.cache.peek(&Key::Names(table)).is_some()
    }

    /// Names that are kept, or else those that `load` gives; of callers at once, one loads.
    pub(crate) async fn names(
        &self,
        key: Key,
        load: impl Future<Output = Result<Option<Names>>>,
    ) -> Result<Option<Arc<Names>>> {
        let load = async { Ok::<_, Error>(Value::Names(load.await?.map(Arc::new))) };
        match self.get_or(&key, load).await? {
            Value::Names(names) => Ok(names),
            other => Err(mistaken(&key, &other)),
        }
    }

    /// What the head of an index tells, as [`Kept::names`].
    pub(crate) async fn inverted(
        &self,
        head: &str,
        load: impl Future<Output = Result<Inverted>>,
    ) -> Result<Arc<Inverted>> {
        let key = Key::Inverted(head.to_string());
        let load = async { Ok::<_, Error>(Value::Inverted(Arc::new(load.await?))) };
        match self.get_or(&key, load).await? {
            Value::Inverted(index) => Ok(index),
            other => Err(mistaken(&key, &other)),
        }
    }

    /// The names of a table as views, as [`Kept::names`].
    pub(crate) async fn views(
        &self,
        table: TableName,
        load: impl Future<Output = Result<ArrayRef>>,
    ) -> Result<ArrayRef> {
        let key = Key::Views(table);
        let load = async { Ok::<_, Error>(Value::Column(load.await?)) };
        match self.get_or(&key, load).await? {
            Value::Column(views) => Ok(views),
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
        match self.get_or(&key, load).await? {
            Value::Order(order) => Ok(order),
            other => Err(mistaken(&key, &other)),
        }
    }
}

fn mistaken(key: &Key, value: &Value) -> Error {
    Error::new(ErrorKind::Internal, format!("under {key:?} there is {} bytes of something else", value.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringArray, UInt64Array};
    use slaf_lance::runtime::block_on;

    fn column(n: usize) -> ArrayRef {
        Arc::new(UInt64Array::from(vec![7; n]))
    }

    #[test]
    fn what_is_used_least_goes_first() {
        let kept = Kept::within(100_000).unwrap();
        kept.keep_column(TableName::Cells, "often", &column(1000));
        for i in 0..100 {
            kept.keep_column(TableName::Cells, &i.to_string(), &column(1000));
            assert!(kept.column(TableName::Cells, "often").is_some(), "after {i} others");
        }
        let left = (0..100).filter(|i| kept.column(TableName::Cells, &i.to_string()).is_some());
        let bytes = column(1000).get_array_memory_size();
        assert!((left.count() + 1) * bytes <= 100_000);
    }

    #[test]
    fn what_does_not_fit_is_given_and_not_kept() {
        let kept = Kept::within(1000).unwrap();
        kept.keep_column(TableName::Cells, "long", &column(1000));
        assert!(kept.column(TableName::Cells, "long").is_none());
        let ids = Arc::new(StringArray::from_iter_values((0..1000).map(|i| i.to_string())));
        for _ in 0..2 {
            let load = async { Names::new(ids.clone()).map(Some) };
            let names = block_on(kept.names(Key::Names(TableName::Cells), load)).unwrap().unwrap();
            assert_eq!(names.find("999"), [999]);
        }
    }

    #[test]
    fn of_callers_at_once_one_loads() {
        let (kept, loads) = (Kept::within(1 << 20).unwrap(), std::sync::atomic::AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let load = async {
                        loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        GeneOrder::from_ranks(vec![1, 0]).ok_or_else(|| Error::corrupt("no permutation"))
                    };
                    let order = block_on(kept.order(TableName::Genes, load)).unwrap();
                    assert_eq!(order.gene_of, [1, 0]);
                });
            }
        });
        assert_eq!(loads.into_inner(), 1);
    }
}
