//! A text becomes a plan over the tables of a store.

use super::frame_table::FrameTable;
use super::options::QueryOptions;
use super::plans::Plan;
use super::ready::Ready;
use super::session::Session;
use super::user_tables::Catalog;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use slaf_core::{ErrorKind, Result, near};
use slaf_ingest::Axis;
use slaf_sql::error::from_datafusion;
use slaf_sql::limits::Limits;
use slaf_sql::{CELLS, Query, Template};
use std::sync::Arc;

/// Plans a query.
pub(super) async fn plan(session: &Session, sql: &str, options: &QueryOptions, limits: &Limits) -> Result<Ready> {
    let (plan, state) = logical(session, sql, options, limits).await?;
    let plan = Arc::new(Plan::new(Template::new(plan, &options.parameters, &state)?));
    session.plans.keep(sql, options, &plan);
    physical(&plan, options, &state).await
}

/// Plans a query from what is kept of it.
pub(super) async fn again(session: &Session, plan: &Plan, options: &QueryOptions, limits: &Limits) -> Result<Ready> {
    let mut state = match plan.template.is_optimized() {
        true => session.without_names.clone(),
        false => session.context.state(),
    };
    limits.put_into(&mut state);
    physical(plan, options, &state).await
}

async fn physical(plan: &Plan, options: &QueryOptions, state: &SessionState) -> Result<Ready> {
    let bound = plan.template.bind(&options.parameters, state)?;
    let schema: SchemaRef = Arc::new(bound.schema().as_arrow().clone());
    let physical = state.query_planner().create_physical_plan(&bound, state).await.map_err(from_datafusion)?;
    let ready = Ready { schema, plan: physical, context: state.task_ctx() };
    plan.look_at(&ready, &options.parameters);
    Ok(ready)
}

/// The logical plan, and the state of the session with what the query sees.
async fn logical(
    session: &Session,
    sql: &str,
    options: &QueryOptions,
    limits: &Limits,
) -> Result<(LogicalPlan, SessionState)> {
    let snapshot = &session.snapshot;
    let mut catalog = Catalog::new(session, &options.tables)?;
    let mut query = Query::parse(sql, options.lines_before, catalog.columns.clone(), options.dialect)?;
    let mut genes = Vec::new();
    for name in query.unknown_names() {
        if let Some(gene) = snapshot.gene_of_column(&name).await? {
            genes.push((name, gene));
        }
    }
    if !genes.is_empty() {
        query.add_genes(genes.iter().map(|(name, _)| name.as_str()));
        let cells = FrameTable::new(snapshot.clone(), Axis::Cells)?.with_genes(&genes, options.measured)?;
        catalog.put(CELLS, Arc::new(cells));
    }
    let (tables, columns) = (catalog.tables.clone(), catalog.columns.clone());
    let mut state = catalog.context(session)?.state();
    limits.put_into(&mut state);
    let plan = match query.plan(state.clone(), &tables, &options.parameters, &|_: &str| Vec::new()).await {
        // Only a query that names no column asks for genes that are near.
        Err(e) if e.kind() == ErrorKind::UnknownColumn => {
            let mut query = Query::parse(sql, options.lines_before, columns, options.dialect)?;
            query.unknown_names();
            if !genes.is_empty() {
                query.add_genes(genes.iter().map(|(name, _)| name.as_str()));
            }
            let names = snapshot.names_of_genes().await?;
            let near_genes = |name: &str| near(name, names.iter().flat_map(|n| n.iter()));
            query.plan(state.clone(), &tables, &options.parameters, &near_genes).await?
        }
        plan => plan?,
    };
    Ok((plan, state))
}
