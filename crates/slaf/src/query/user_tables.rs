//! Tables of the user beside those of the store, for one query.

use super::options::UserTable;
use super::session::Session;
use arrow::array::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::Result as DfResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use slaf_core::{Error, ErrorKind, Result};
use slaf_lance::error::from_arrow;
use slaf_sql::Columns;
use slaf_sql::error::from_datafusion;
use slaf_sql::floats::one_form;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What a query sees: the tables of the store, and those that it has beside or in place of them.
pub(super) struct Catalog {
    pub(super) tables: Vec<String>,
    pub(super) columns: Columns,
    added: BTreeMap<String, Arc<dyn TableProvider>>,
}

impl Catalog {
    /// The tables of the store and these.
    pub(super) fn new(session: &Session, user: &[UserTable]) -> Result<Catalog> {
        let (mut tables, mut columns) = (session.tables.clone(), session.columns.clone());
        let mut added = BTreeMap::new();
        for table in user {
            check(table, &tables)?;
            tables.push(table.name.clone());
            table.schema.fields().iter().for_each(|f| columns.add(&table.name, f.name(), f.data_type()));
            let batches = table.batches.iter().map(in_one_form).collect::<Result<_>>()?;
            let memory = MemTable::try_new(table.schema.clone(), vec![batches]);
            let memory: Arc<dyn TableProvider> = Arc::new(memory.map_err(from_datafusion)?);
            added.insert(table.name.clone(), memory);
        }
        Ok(Catalog { tables, columns, added })
    }

    /// Puts a table in the place of one of the store.
    pub(super) fn put(&mut self, name: &str, table: Arc<dyn TableProvider>) {
        self.added.insert(name.to_string(), table);
    }

    /// The session with these tables.
    pub(super) fn context(self, session: &Session) -> Result<SessionContext> {
        if self.added.is_empty() {
            return Ok(session.context.clone());
        }
        let store = session.context.catalog(CATALOG).and_then(|c| c.schema(SCHEMA));
        let store = store.ok_or_else(|| Error::new(ErrorKind::Internal, "no catalog"))?;
        let (catalog, catalogs) = (MemoryCatalogProvider::new(), MemoryCatalogProviderList::new());
        let tables = WithTables { store, added: self.added };
        catalog.register_schema(SCHEMA, Arc::new(tables)).map_err(from_datafusion)?;
        catalogs.register_catalog(CATALOG.to_string(), Arc::new(catalog));
        let state = session.context.state();
        let state = SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(catalogs));
        Ok(SessionContext::new_with_state(state.build()))
    }
}

/// The batch with floats that are compared as those of the store.
fn in_one_form(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(one_form).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options).map_err(from_arrow)
}

const CATALOG: &str = "datafusion";
const SCHEMA: &str = "public";

fn check(table: &UserTable, taken: &[String]) -> Result<()> {
    let invalid = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what));
    let name = &table.name;
    if name.is_empty() {
        return invalid("a table without a name".to_string());
    }
    if taken.contains(name) {
        return invalid(format!("there is a table \"{name}\" already: give yours another name"));
    }
    let mut seen = HashSet::new();
    match table.schema.fields().iter().find(|f| !seen.insert(f.name())) {
        Some(twice) => invalid(format!("the table \"{name}\" has more than one column \"{}\"", twice.name())),
        None => Ok(()),
    }
}

#[derive(Debug)]
struct WithTables {
    store: Arc<dyn SchemaProvider>,
    added: BTreeMap<String, Arc<dyn TableProvider>>,
}

#[async_trait]
impl SchemaProvider for WithTables {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.store.table_names();
        names.extend(self.added.keys().filter(|name| !self.store.table_exist(name)).cloned());
        names
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        match self.added.get(name) {
            Some(table) => Ok(Some(table.clone())),
            None => self.store.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.added.contains_key(name) || self.store.table_exist(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};

    #[test]
    fn names_are_neither_empty_nor_taken_nor_twice_there() {
        let table = |name: &str, columns: &[&str]| {
            let fields: Vec<Field> = columns.iter().map(|c| Field::new(*c, DataType::Int64, true)).collect();
            UserTable { name: name.into(), schema: Arc::new(Schema::new(fields)), batches: Vec::new() }
        };
        let taken = ["cells".to_string()];
        assert!(check(&table("mine", &["a", "A"]), &taken).is_ok());
        for wrong in [table("", &["a"]), table("cells", &["a"]), table("mine", &["a", "a"])] {
            assert_eq!(check(&wrong, &taken).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
