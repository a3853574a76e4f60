//! A text becomes a plan over the tables of a store.

use super::options::QueryOptions;
use super::session::Session;
use super::user_tables::Catalog;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use slaf_core::{Result, near};
use slaf_sql::Query;
use slaf_sql::error::from_datafusion;
use slaf_sql::limits::Limits;

/// The plan of a query.
pub(super) async fn plan(session: &Session, sql: &str, options: &QueryOptions, limits: &Limits) -> Result<DataFrame> {
    let Catalog { context, tables, columns } = session.with_tables(&options.tables)?;
    let mut query = Query::parse(sql, columns, options.dialect)?;
    let unknown = query.unknown_names();
    let mut genes = Vec::new();
    for name in &unknown {
        if session.snapshot.gene_of_column(name).await?.is_some() {
            genes.push(name.clone());
        }
    }
    query.add_genes(&genes);
    let mut state = context.state();
    limits.put_into(&mut state);
    let context = SessionContext::new_with_state(state);
    // Only a query that names no column asks for genes that are near.
    let names = if unknown.is_empty() { Vec::new() } else { session.snapshot.names_of_genes().await? };
    let near_genes = |name: &str| near(name, names.iter().flat_map(|n| n.iter()));
    let plan = query.plan(context.state(), &tables, &options.parameters, &near_genes).await?;
    context.execute_logical_plan(plan).await.map_err(from_datafusion)
}
