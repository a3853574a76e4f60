//! A text becomes a plan over the tables of a store.

use super::frame_table::FrameTable;
use super::options::QueryOptions;
use super::session::Session;
use super::user_tables::Catalog;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use slaf_core::{ErrorKind, Result, near};
use slaf_ingest::Axis;
use slaf_sql::error::from_datafusion;
use slaf_sql::limits::Limits;
use slaf_sql::{CELLS, Query};
use std::sync::Arc;

/// The plan of a query.
pub(super) async fn plan(session: &Session, sql: &str, options: &QueryOptions, limits: &Limits) -> Result<DataFrame> {
    let snapshot = &session.snapshot;
    let mut catalog = Catalog::new(session, &options.tables)?;
    let mut query = Query::parse(sql, catalog.columns.clone(), options.dialect)?;
    let mut genes = Vec::new();
    for name in query.unknown_names() {
        if let Some(gene) = snapshot.gene_of_column(&name).await? {
            genes.push((name, gene));
        }
    }
    if !genes.is_empty() {
        query.add_genes(genes.iter().map(|(name, _)| name.as_str()));
        let cells = FrameTable::new(snapshot.clone(), Axis::Cells)?.with_genes(&genes)?;
        catalog.put(CELLS, Arc::new(cells));
    }
    let tables = catalog.tables.clone();
    let mut state = catalog.context(session)?.state();
    limits.put_into(&mut state);
    let context = SessionContext::new_with_state(state);
    let plan = query.clone().plan(context.state(), &tables, &options.parameters, &|_: &str| Vec::new()).boxed().await;
    let plan = match plan {
        // Only a query that names no column asks for genes that are near.
        Err(e) if e.kind() == ErrorKind::UnknownColumn => {
            let names = snapshot.names_of_genes().await?;
            let near_genes = |name: &str| near(name, names.iter().flat_map(|n| n.iter()));
            query.plan(context.state(), &tables, &options.parameters, &near_genes).boxed().await?
        }
        plan => plan?,
    };
    context.execute_logical_plan(plan).await.map_err(from_datafusion)
}
