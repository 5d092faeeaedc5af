//! The dashboard: where many syncs stand at once.

use std::collections::BTreeMap;

use tideway_store::{Execution, ExecutionFilter, Latest, PageRequest, SyncFilter};
use uuid::Uuid;

use super::{
    view::schema_overview,
    wire::{BulkSyncOverview, OverviewQuery, SchemaOverview},
};
use crate::{problem::Answer, state::ApiState};

/// How far back a schema's latest execution is looked for.
const LOOK_BACK: u32 = 50;

/// The syncs that the query means.
async fn wanted(state: &ApiState, organization: Uuid, query: OverviewQuery) -> Answer<Vec<Uuid>> {
    let syncs = state.store().bulk_syncs();
    if query.all || query.active {
        let active = (!query.all).then_some(true);
        let filter = SyncFilter {
            active,
            ..SyncFilter::default()
        };
        let names = syncs.names(organization, filter).await?;
        return Ok(names.into_iter().map(|sync| sync.id).collect());
    }
    let mut ids: Vec<Uuid> = Vec::new();
    for id in query.sync_id {
        if !ids.contains(&id) {
            ids.push(syncs.get(organization, id).await?.id);
        }
    }
    Ok(ids)
}

pub async fn overview(
    state: &ApiState,
    organization: Uuid,
    query: OverviewQuery,
) -> Answer<Vec<BulkSyncOverview>> {
    let ids = wanted(state, organization, query).await?;
    let mut latest = state
        .store()
        .executions()
        .latest(organization, &ids)
        .await?;
    let next = state
        .store()
        .schedules()
        .next_fire(organization, &ids)
        .await?;
    let mut overview = Vec::new();
    for id in ids {
        let Latest { current, last } = latest.remove(&id).unwrap_or_default();
        let recent: Vec<Execution> = current.into_iter().chain(last).collect();
        overview.push(BulkSyncOverview {
            next_execution_time: next.get(&id).copied(),
            status: recent.first().map(|execution| execution.status.into()),
            schemas: schemas(state, organization, id, recent).await?,
            sync_id: id,
        });
    }
    Ok(overview)
}

/// Each enabled schema by the first execution that carried it.
async fn schemas(
    state: &ApiState,
    organization: Uuid,
    sync: Uuid,
    recent: Vec<Execution>,
) -> Answer<Vec<SchemaOverview>> {
    if recent.is_empty() {
        return Ok(Vec::new());
    }
    let enabled = state
        .store()
        .sync_schemas()
        .list(organization, sync, Some(true))
        .await?;
    let mut seen: BTreeMap<&str, Option<SchemaOverview>> = enabled
        .iter()
        .map(|schema| (schema.schema_id.as_str(), None))
        .collect();
    note(&mut seen, &recent);
    // Executions that carry a part only leave older ones to be shown of the rest.
    if seen.values().any(Option::is_none) && recent.iter().any(Execution::partial) {
        let page = PageRequest::new(LOOK_BACK, None);
        let executions = state.store().executions();
        let earlier = executions
            .list(organization, sync, ExecutionFilter::default(), &page)
            .await?;
        note(&mut seen, &earlier.items);
    }
    Ok(seen.into_values().flatten().collect())
}

fn note(seen: &mut BTreeMap<&str, Option<SchemaOverview>>, executions: &[Execution]) {
    for execution in executions {
        for schema in &execution.schemas {
            if let Some(overview @ None) = seen.get_mut(schema.schema_id.as_str()) {
                *overview = Some(schema_overview(execution, schema));
            }
        }
    }
}
