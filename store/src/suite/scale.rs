//! 10,000 syncs with 100,000 executions: whatever is listed or claimed is found by an
//! index. The statements are those that the store really sends; the databases
//! themselves say how they would run them.

use std::time::Duration;

use serde_json::json;

use super::{Shop, Site, both, plan_of, statements_of};
use crate::{
    EventFilter, ExecutionDraft, ExecutionFilter, ExecutionStatus, PageRequest, SchemaProgress,
    Store, SyncFilter, clock,
};

both![no_list_and_no_claim_scans_a_large_table];

/// The tables that grow.
const LARGE: &[&str] = &[
    "bulk_syncs",
    "executions",
    "schema_executions",
    "schedules",
    "sync_schemas",
    "log_entries",
    "events",
];

const SYNCS: u32 = 10_000;

async fn no_list_and_no_claim_scans_a_large_table(site: &Site) {
    let shop = site.with_shop().await;
    fill(&shop).await;
    let (_, statements) = statements_of(everyday_work(&shop)).await;
    assert!(statements.len() > 40, "{}", statements.len());
    let mut judged = 0;
    for (sql, values) in statements {
        let verb = sql.split_whitespace().next().unwrap_or_default();
        if !matches!(verb, "SELECT" | "UPDATE" | "DELETE") {
            continue;
        }
        let plan = plan_of(shop.store.db(), &sql, values).await;
        for table in LARGE {
            let scans = plan.iter().any(|step| scans(step, table));
            assert!(!scans, "{table} is scanned by\n{sql}\n{}", plan.join("\n"));
        }
        judged += 1;
    }
    assert!(judged > 30, "{judged}");
    let all = "SELECT * FROM executions WHERE status_message = 'x'";
    let plan = plan_of(shop.store.db(), all, vec![]).await;
    let noticed = plan.iter().any(|step| scans(step, "executions"));
    assert!(noticed, "a scan would be noticed: {plan:?}");
}

/// The step reads the whole table. (SQLite says `SEARCH` where it knows where to begin, and
/// `SCAN … USING INDEX` where it walks an index from its end, as a limit or a partial
/// index lets it.)
fn scans(step: &str, table: &str) -> bool {
    let step = step.trim();
    let whole = [
        format!("SCAN {table}"),
        format!("Seq Scan on {table}"),
        format!("->  Seq Scan on {table}"),
        format!("Parallel Seq Scan on {table}"),
    ];
    let named = |start: &String| {
        step.strip_prefix(start.as_str())
            .or_else(|| step.strip_prefix(&format!("->  {start}")))
            .is_some_and(|rest| !rest.starts_with('_') && !rest.contains("USING"))
    };
    whole.iter().any(named)
}

/// What workers, schedulers and the API ask for all day.
async fn everyday_work(shop: &Shop) {
    let (store, organization, sync) = (&shop.store, shop.organization, shop.sync.id);
    let hold = Duration::from_secs(60);
    let draft = ExecutionDraft::manual(shop.author.clone());
    let run = store
        .executions()
        .create(organization, sync, &draft)
        .await
        .unwrap()
        .id;
    let lease = store.queue().claim("w", hold).await.unwrap().unwrap().lease;
    store.queue().heartbeat(&lease, hold).await.unwrap();
    let progress = SchemaProgress::new("t", "t", ExecutionStatus::Running);
    store.queue().save_schema(&lease, &progress).await.unwrap();
    store
        .queue()
        .finish(&lease, ExecutionStatus::Completed, None)
        .await
        .unwrap();

    let executions = store.executions();
    for (only_terminal, ascending) in [(false, false), (true, false), (false, true)] {
        let filter = ExecutionFilter {
            only_terminal,
            ascending,
        };
        let first = PageRequest::new(2, None);
        let page = executions
            .list(organization, sync, filter, &first)
            .await
            .unwrap();
        let next = PageRequest {
            limit: 2,
            token: page.next,
        };
        executions
            .list(organization, sync, filter, &next)
            .await
            .unwrap();
    }
    executions.get(organization, sync, run).await.unwrap();
    executions
        .latest(organization, &[sync, shop.source.id])
        .await
        .unwrap();
    executions.unfollowed(10).await.unwrap();
    executions.cancel_sync(organization, sync).await.unwrap();

    let syncs = store.bulk_syncs();
    let first = PageRequest::new(50, None);
    let page = syncs
        .list(organization, SyncFilter::default(), &first)
        .await
        .unwrap();
    let next = PageRequest {
        limit: 50,
        token: page.next,
    };
    syncs
        .list(organization, SyncFilter::default(), &next)
        .await
        .unwrap();
    let used = SyncFilter {
        active: None,
        connection: Some(shop.destination.id),
    };
    syncs.list(organization, used, &first).await.unwrap();
    syncs.get(organization, sync).await.unwrap();
    store
        .sync_schemas()
        .list(organization, sync, Some(true))
        .await
        .unwrap();

    let schedules = store.schedules();
    schedules.list(organization, sync).await.unwrap();
    schedules.due(10).await.unwrap();
    schedules.unplanned(10).await.unwrap();
    schedules.after(sync).await.unwrap();
    schedules.next_fire(organization, &[sync]).await.unwrap();

    let logs = store.logs();
    logs.list(organization, sync, run, None, None, 50)
        .await
        .unwrap();
    logs.list(organization, sync, run, Some("t"), Some(3), 50)
        .await
        .unwrap();
    logs.list_ingest(organization, shop.source.id, None, None, 50)
        .await
        .unwrap();
    let mut filter = EventFilter {
        kind: None,
        starting_after: None,
        ending_before: None,
        limit: 10,
    };
    store.events().list(organization, &filter).await.unwrap();
    filter.kind = Some("bulk_sync.failed".to_owned());
    filter.starting_after = Some(clock::now());
    store.events().list(organization, &filter).await.unwrap();
    store.entities().resolve(organization, run).await.unwrap();
}

/// Rows are made inside the database: another 10,000 syncs like the shop's, ten ended
/// executions each, and what goes with them.
async fn fill(shop: &Shop) {
    let store = &shop.store;
    let number = |base: &str, n: &str| format!("'{base}-0000-7000-8000-' || ({n})");
    let syncs = number("00000001", "100000000000 + n");
    let executions = number("00000002", "100000000000 + n * 10 + m");
    let schedules = number("00000003", "100000000000 + n");
    let events = number("00000004", "100000000000 + n");
    let [organization, source, destination] =
        [shop.organization, shop.source.id, shop.destination.id];
    // Half of them use the shop's source, none its destination.
    let other = super::connection("unused");
    let other = store
        .connections()
        .create(organization, &shop.author, &other)
        .await
        .unwrap()
        .id;
    let author = crate::json(&shop.author).unwrap();
    let settings = crate::json(&shop.sync.settings).unwrap();
    let numbers = format!(
        "WITH RECURSIVE numbers (n) AS (
           SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {SYNCS}),
         tens (m) AS (SELECT 0 UNION ALL SELECT m + 1 FROM tens WHERE m < 9)"
    );
    let rows = |into: &str, select: String| format!("{numbers} INSERT INTO {into} {select}");
    let scripts = [
        rows(
            "bulk_syncs (id, organization_id, name, source_connection_id,
               destination_connection_id, mode, active, settings, error_subscribers, created_at,
               created_by, updated_at, updated_by)",
            format!(
                "SELECT {syncs}, '{organization}', 'sync', '{source}', '{other}', 'replicate',
                   TRUE, '{settings}', '[]', n, '{author}', n, '{author}' FROM numbers"
            ),
        ),
        rows(
            "sync_schemas (sync_id, schema_id, enabled, disable_data_cutoff, history_enabled,
               filters)",
            format!("SELECT {syncs}, 't', TRUE, FALSE, FALSE, '[]' FROM numbers"),
        ),
        rows(
            "schedules (id, organization_id, sync_id, is_default, frequency, timing, schemas,
               selective_mode, resync_mode, run_after, run_after_success_only, planned,
               next_fire_at, created_at, created_by, updated_at, updated_by)",
            format!(
                "SELECT {schedules}, '{organization}', {syncs}, TRUE, 'daily',
                   '{{\"frequency\":\"daily\"}}', '[]', 'none', 'normal', '{{}}', FALSE, TRUE,
                   4000000000000000 + n, n, '{author}', n, '{author}' FROM numbers"
            ),
        ),
        rows(
            "executions (id, organization_id, sync_id, status, trigger_kind, fetch_mode,
               selective_mode, is_test, only_schemas, cancel_requested, cancel_schemas,
               claimable_at, fence, attempts, followed, created_at, created_by, completed_at,
               updated_at)",
            format!(
                "SELECT {executions}, '{organization}', {syncs}, 'completed', 'manual', 'none',
                   'none', FALSE, '[]', FALSE, '[]', n, 1, 1, TRUE, n * 10 + m, '{author}',
                   n * 10 + m, n FROM numbers, tens"
            ),
        ),
        rows(
            "schema_executions (execution_id, schema_id, status, output_name, record_count,
               error_count, warning_count, inserted, updated, deleted, bytes, created_at,
               updated_at)",
            format!(
                "SELECT {executions}, 't', 'completed', 't', 0, 0, 0, 0, 0, 0, 0, n, n
                 FROM numbers, tens"
            ),
        ),
        rows(
            "log_entries (execution_id, schema_id, level, message, payload, created_at)",
            format!("SELECT {executions}, 't', 'info', 'm', '{{}}', n FROM numbers, tens"),
        ),
        rows(
            "events (id, organization_id, type, payload, created_at)",
            format!(
                "SELECT {events}, '{organization}', 'bulk_sync.running', '{}', n FROM numbers",
                json!({})
            ),
        ),
        // PostgreSQL would do this by itself after a while.
        "ANALYZE".to_owned(),
    ];
    for script in scripts {
        store.db().execute(&script, vec![]).await.unwrap();
    }
    assert_eq!(
        super::count(store, "executions").await,
        i64::from(SYNCS) * 10
    );
    let _ = destination;
    settled(store).await;
}

/// The queue's order does not depend on how much has run before.
async fn settled(store: &Store) {
    let none = store
        .queue()
        .claim("w", Duration::from_secs(1))
        .await
        .unwrap();
    assert!(none.is_none(), "all of them have ended");
}
