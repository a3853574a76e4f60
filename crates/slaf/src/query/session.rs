//! The DataFusion session of a store: its tables, settings and functions.

use super::frame_table::FrameTable;
use super::grouping::GroupWhileDecoding;
use super::measured::{self, MeasuredFunction, SourcesFunction};
use super::nearest::NearestFunction;
use super::plans::Plans;
use super::stopping::BreaksBehindJoins;
use super::view::View;
use super::view_table::ViewTable;
use crate::config;
use crate::store::Snapshot;
use crate::store::manifest::Slot;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::prelude::{SessionConfig, SessionContext};
use slaf_core::{Error, ErrorKind, Result};
use slaf_ingest::Axis;
use slaf_sql::error::from_datafusion;
use slaf_sql::limits::Limits;
use slaf_sql::{CELLS, Columns};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The build side of a join is handed down to the scan of the other as a list up to this size.
const JOIN_LIST_BYTES: usize = 64 << 20;
const JOIN_LIST_VALUES: usize = 4 << 20;
/// Cells and genes are the small sides of joins: they are not cut into partitions.
const JOIN_SINGLE_BYTES: usize = 1 << 30;
const JOIN_SINGLE_ROWS: usize = 64 << 20;

/// What the queries of a handle share.
pub(crate) struct Session {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) context: SessionContext,
    /// The names of the tables.
    pub(crate) tables: Vec<String>,
    /// The columns of all tables.
    pub(super) columns: Columns,
    /// The state of the context without tables and functions by name, which a plan has no need of
    /// any more, and which are most of what a query copies.
    pub(super) without_names: SessionState,
    pub(super) plans: Plans,
    /// What kept plans for single cells run in.
    pub(super) of_points: Arc<TaskContext>,
}

// DataFusion's context has no Debug.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(inner: &Arc<Snapshot>) -> Result<Session> {
        let mut settings = SessionConfig::new().with_information_schema(true);
        let options = settings.options_mut();
        let pushdown = config::pushdown();
        options.optimizer.enable_dynamic_filter_pushdown = pushdown;
        // Names of columns and genes differ by case.
        options.sql_parser.enable_ident_normalization = false;
        // As DuckDB and pandas: the ten highest are none that are missing.
        options.sql_parser.default_null_ordering = "nulls_last".to_string();
        options.optimizer.hash_join_inlist_pushdown_max_size = JOIN_LIST_BYTES;
        options.optimizer.hash_join_inlist_pushdown_max_distinct_values = JOIN_LIST_VALUES;
        options.optimizer.hash_join_single_partition_threshold = JOIN_SINGLE_BYTES;
        options.optimizer.hash_join_single_partition_threshold_rows = JOIN_SINGLE_ROWS;
        let env = RuntimeEnvBuilder::new()
            .with_memory_limit(config::query_memory(), 1.0)
            .build_arc()
            .map_err(from_datafusion)?;
        let mut state = SessionStateBuilder::new().with_config(settings).with_runtime_env(env).with_default_features();
        if pushdown {
            state = state.with_physical_optimizer_rule(Arc::new(GroupWhileDecoding));
        }
        state = state.with_physical_optimizer_rule(Arc::new(BreaksBehindJoins));
        let state = slaf_sql::protect(state.build()).map_err(from_datafusion)?;
        let context = SessionContext::new_with_state(state);
        slaf_sql::functions::register(&context).map_err(from_datafusion)?;
        for axis in [Axis::Cells, Axis::Genes] {
            let function = NearestFunction { snapshot: inner.clone(), axis };
            context.register_udtf(function.name(), Arc::new(function));
        }
        context.register_udtf("sources", Arc::new(SourcesFunction { snapshot: inner.clone() }));
        context.register_udtf("measured", Arc::new(MeasuredFunction { snapshot: inner.clone() }));
        context.register_udf(measured::source_of(inner.clone()));
        let store = tables(inner, pushdown)?;
        let names: Vec<String> = store.keys().cloned().collect();
        let mut columns = Columns::default();
        for (name, table) in &store {
            table.schema().fields().iter().for_each(|f| columns.add(name, f.name(), f.data_type()));
        }
        let catalog = context.catalog("datafusion").ok_or_else(|| Error::new(ErrorKind::Internal, "no catalog"))?;
        catalog.register_schema("public", Arc::new(StoreTables(store))).map_err(from_datafusion)?;
        let without_names = SessionStateBuilder::new_from_existing(context.state())
            .with_scalar_functions(Vec::new())
            .with_higher_order_functions(Vec::new())
            .with_aggregate_functions(Vec::new())
            .with_window_functions(Vec::new())
            .with_table_function_list(Vec::new())
            .build();
        let (snapshot, of_points) = (inner.clone(), without_names.task_ctx());
        Ok(Session { snapshot, context, tables: names, columns, without_names, plans: Plans::new(), of_points })
    }
}

impl Session {
    /// Limits for one query.
    pub(super) fn limits(&self) -> Limits {
        Limits::new(self.context.runtime_env().memory_pool.clone(), config::query_memory())
    }
}

type Tables = BTreeMap<String, Arc<dyn TableProvider>>;

fn tables(inner: &Arc<Snapshot>, pushdown: bool) -> Result<Tables> {
    let mut tables = Tables::new();
    tables.insert(CELLS.to_string(), Arc::new(FrameTable::new(inner.clone(), Axis::Cells)?));
    tables.insert("genes".to_string(), Arc::new(FrameTable::new(inner.clone(), Axis::Genes)?));
    let matrices = &inner.manifest.matrices;
    let mut layers = Vec::new();
    for matrix in matrices {
        let name = match matrix.slot {
            Slot::X => "expression".to_string(),
            Slot::Obsp | Slot::Varp => format!("{}_{}", matrix.slot.name(), matrix.name),
            Slot::Layers => {
                layers.push(matrix.clone());
                continue;
            }
            Slot::Raw => continue,
        };
        let view = Arc::new(View::of_matrix(inner.clone(), matrix.clone())?);
        tables.insert(name, Arc::new(ViewTable { view, pushdown }));
    }
    if !layers.is_empty() {
        let view = Arc::new(View::of_layers(inner.clone(), layers)?);
        tables.insert("layers".to_string(), Arc::new(ViewTable { view, pushdown }));
    }
    Ok(tables)
}

/// The tables of a store.
#[derive(Debug)]
struct StoreTables(Tables);

#[async_trait]
impl SchemaProvider for StoreTables {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
