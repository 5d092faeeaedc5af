//! Console logs: of an execution, of one of its schemas, of the reading of a connection's
//! changes.

use axum::{Json, extract::State};
use serde_json::Value;
use tideway_store::LogEntry;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::wire::{ConsoleLog, ConsoleLogEntry, ConsoleLogQuery, IngestConsoleLogQuery};
use crate::{
    auth::Caller,
    body::{Path, PathId, Query},
    envelope::{ApiError, Data, page_size},
    failures::ReadFailures,
    problem::{Answer, Problem},
    state::ApiState,
    wire::JsonObject,
};

const PAGE: u32 = 50;

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(of_execution))
        .routes(routes!(of_schema))
        .routes(routes!(of_ingestion))
}

/// The newest lines of an execution's console log.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{sync_id}/executions/{execution_id}/consolelog",
    operation_id = "bulk_sync.executions.get_console_logs", tag = "Bulk syncs",
    params(("sync_id" = Uuid, Path), ("execution_id" = Uuid, Path), ConsoleLogQuery),
    responses(
        (status = 200, description = "lines, the oldest first", body = Data<ConsoleLog>),
        (status = 400, description = "the cursor is none of this log", body = ApiError),
        ReadFailures,
    )
)]
async fn of_execution(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, execution)): Path<(Uuid, Uuid)>,
    Query(query): Query<ConsoleLogQuery>,
) -> Answer<Json<Data<ConsoleLog>>> {
    let (after, limit) = window(query.after.as_deref(), query.limit)?;
    let logs = state.store().logs();
    let entries = logs
        .list(caller.organization()?, sync, execution, None, after, limit)
        .await?;
    Ok(Json(Data::new(shown(entries, query.after))))
}

/// The newest lines about one schema in an execution's console log.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{sync_id}/executions/{execution_id}/schemas/{schema_id}/consolelog",
    operation_id = "bulk_sync.executions.get_schema_console_logs", tag = "Bulk syncs",
    params(
        ("sync_id" = Uuid, Path), ("execution_id" = Uuid, Path), ("schema_id" = String, Path),
        ConsoleLogQuery,
    ),
    responses(
        (status = 200, description = "lines, the oldest first", body = Data<ConsoleLog>),
        (status = 400, description = "the cursor is none of this log", body = ApiError),
        ReadFailures,
    )
)]
async fn of_schema(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, execution, schema)): Path<(Uuid, Uuid, String)>,
    Query(query): Query<ConsoleLogQuery>,
) -> Answer<Json<Data<ConsoleLog>>> {
    let organization = caller.organization()?;
    let (after, limit) = window(query.after.as_deref(), query.limit)?;
    let run = state
        .store()
        .executions()
        .get(organization, sync, execution)
        .await?;
    if run
        .schemas
        .iter()
        .all(|carried| carried.schema_id != schema)
    {
        // Not carried yet, or not of the sync at all.
        let known = state
            .store()
            .sync_schemas()
            .list(organization, sync, None)
            .await?;
        if known.iter().all(|known| known.schema_id != schema) {
            return Err(Problem::not_found(format!(
                "the sync has no schema {schema}"
            )));
        }
    }
    let logs = state.store().logs();
    let entries = logs
        .list(organization, sync, execution, Some(&schema), after, limit)
        .await?;
    Ok(Json(Data::new(shown(entries, query.after))))
}

/// The newest lines about the reading of a connection's changes.
#[utoipa::path(
    get, path = "/api/connections/{connection_id}/ingest/consolelog",
    operation_id = "bulk_sync.executions.get_ingest_console_logs", tag = "Bulk syncs",
    params(("connection_id" = Uuid, Path), IngestConsoleLogQuery),
    responses(
        (status = 200, description = "lines, the oldest first", body = Data<ConsoleLog>),
        (status = 400, description = "the cursor is none of this log", body = ApiError),
        ReadFailures,
    )
)]
async fn of_ingestion(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(connection): PathId,
    Query(query): Query<IngestConsoleLogQuery>,
) -> Answer<Json<Data<ConsoleLog>>> {
    let organization = caller.organization()?;
    let (after, limit) = window(query.after.as_deref(), query.limit)?;
    if let Some(sync) = query.sync_id {
        state.store().bulk_syncs().get(organization, sync).await?;
    }
    let logs = state.store().logs();
    let entries = logs
        .list_ingest(organization, connection, query.sync_id, after, limit)
        .await?;
    Ok(Json(Data::new(shown(entries, query.after))))
}

/// The place to go on from and how many lines to give.
fn window(after: Option<&str>, limit: Option<u32>) -> Answer<(Option<i64>, u32)> {
    let after = after.filter(|text| !text.is_empty());
    let id = after.map(|text| text.parse().ok().filter(|id| *id >= 0));
    match id {
        Some(None) => Err(Problem::bad_request(
            "after is no cursor of a console log; take it from next_cursor, or leave it out",
        )
        .with("field", "after")),
        id => Ok((id.flatten(), page_size(limit, PAGE, PAGE))),
    }
}

/// Without news the cursor stays where it was.
fn shown(entries: Vec<LogEntry>, after: Option<String>) -> ConsoleLog {
    let last = entries.last().map(|entry| entry.id.to_string());
    let next_cursor = last.or(after.filter(|text| !text.is_empty()));
    ConsoleLog {
        entries: entries.into_iter().map(line).collect(),
        next_cursor,
    }
}

/// One line of a console log.
pub fn line(entry: LogEntry) -> ConsoleLogEntry {
    ConsoleLogEntry {
        id: entry.id.to_string(),
        level: entry.level,
        message: entry.message,
        payload: match entry.payload {
            Value::Object(fields) => fields,
            Value::Null => JsonObject::new(),
            other => JsonObject::from_iter([("value".to_owned(), other)]),
        },
        timestamp: entry.created_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_ids_of_lines() {
        assert_eq!(window(None, None).unwrap(), (None, 50));
        assert_eq!(window(Some(""), Some(0)).unwrap(), (None, 50));
        assert_eq!(window(Some("17"), Some(3)).unwrap(), (Some(17), 3));
        assert_eq!(window(Some("17"), Some(900)).unwrap(), (Some(17), 50));
        for wrong in ["x", "-1", "1.5", "99999999999999999999"] {
            assert!(window(Some(wrong), None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cursor_stays_where_nothing_is_new() {
        assert_eq!(
            shown(Vec::new(), Some("17".into())).next_cursor.as_deref(),
            Some("17")
        );
        assert_eq!(shown(Vec::new(), None).next_cursor, None);
    }
}
