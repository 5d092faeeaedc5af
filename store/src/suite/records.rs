use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tideway_core::{Kind, Result};
use uuid::Uuid;

use super::{Site, both, count, kind, tamper};
use crate::{
    EntityKind, EventFilter, ExecutionDraft, Frequency, JobStatus, NewLogEntry, Retention,
    ScheduleDraft, Timing, clock,
};

both![
    a_log_is_read_from_its_end_or_after_a_cursor,
    a_log_of_one_schema_leaves_the_others_out,
    the_log_of_an_ingestion_belongs_to_its_connection,
    events_are_listed_by_type_and_time,
    what_is_old_is_pruned_and_the_rest_stays,
    a_job_ends_once,
    jobs_of_a_dead_process_are_failed,
    an_id_is_resolved_to_what_it_stands_for,
];

fn line(schema_id: Option<&str>, message: &str) -> NewLogEntry {
    NewLogEntry {
        schema_id: schema_id.map(str::to_owned),
        level: "info".to_owned(),
        message: message.to_owned(),
        payload: json!({ "rows": 1 }),
    }
}

async fn a_log_is_read_from_its_end_or_after_a_cursor(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let draft = ExecutionDraft::manual(shop.author.clone());
    let executions = shop.store.executions();
    let id = executions
        .create(organization, sync, &draft)
        .await
        .unwrap()
        .id;
    let lease = shop
        .store
        .queue()
        .claim("w", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap()
        .lease;
    let logs = shop.store.logs();
    let lines: Vec<_> = (0..250).map(|n| line(None, &format!("line {n}"))).collect();
    logs.append(&lease, &lines).await.unwrap();
    logs.append(&lease, &[line(None, "with a \0 in it")])
        .await
        .unwrap();

    let last = logs
        .list(organization, sync, id, None, None, 50)
        .await
        .unwrap();
    assert_eq!(last.len(), 50);
    assert_eq!(last[0].message, "line 201");
    assert_eq!(last[49].message, "with a \u{fffd} in it");
    assert_eq!(last[0].payload, json!({ "rows": 1 }));

    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let page = logs
            .list(organization, sync, id, None, Some(after), 70)
            .await
            .unwrap();
        let Some(end) = page.last() else { break };
        after = end.id;
        read.extend(page.into_iter().map(|entry| entry.message));
    }
    assert_eq!(read.len(), 251);
    assert!(
        read.iter()
            .take(250)
            .enumerate()
            .all(|(n, text)| *text == format!("line {n}"))
    );
}

async fn a_log_of_one_schema_leaves_the_others_out(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let draft = ExecutionDraft::manual(shop.author.clone());
    let executions = shop.store.executions();
    let id = executions
        .create(organization, sync, &draft)
        .await
        .unwrap()
        .id;
    let lease = shop
        .store
        .queue()
        .claim("w", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap()
        .lease;
    let logs = shop.store.logs();
    let lines = [
        line(None, "all"),
        line(Some("a"), "of a"),
        line(Some("b"), "of b"),
    ];
    logs.append(&lease, &lines).await.unwrap();
    let of_b = logs
        .list(organization, sync, id, Some("b"), None, 50)
        .await
        .unwrap();
    assert_eq!(
        of_b.iter()
            .map(|entry| entry.message.as_str())
            .collect::<Vec<_>>(),
        ["of b"]
    );
    assert_eq!(
        logs.list(organization, sync, id, None, None, 50)
            .await
            .unwrap()
            .len(),
        3
    );
    let unknown = logs
        .list(organization, sync, Uuid::now_v7(), None, None, 50)
        .await;
    assert_eq!(kind(unknown), Kind::Missing);
}

async fn the_log_of_an_ingestion_belongs_to_its_connection(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, id) = (shop.organization, shop.source.id);
    let logs = shop.store.logs();
    logs.append_ingest(organization, id, None, &[line(None, "connected")])
        .await
        .unwrap();
    let sync = Some(shop.sync.id);
    logs.append_ingest(organization, id, sync, &[line(None, "behind")])
        .await
        .unwrap();
    assert_eq!(
        logs.list_ingest(organization, id, None, None, 50)
            .await
            .unwrap()
            .len(),
        2
    );
    let of_sync = logs
        .list_ingest(organization, id, sync, None, 50)
        .await
        .unwrap();
    assert_eq!(of_sync[0].message, "behind");
    let elsewhere = shop.destination.id;
    assert!(
        logs.list_ingest(organization, elsewhere, None, None, 50)
            .await
            .unwrap()
            .is_empty()
    );
}

fn all(limit: u32) -> EventFilter {
    EventFilter {
        kind: None,
        starting_after: None,
        ending_before: None,
        limit,
    }
}

async fn events_are_listed_by_type_and_time(site: &Site) {
    let shop = site.with_shop().await;
    let (events, organization) = (shop.store.events(), shop.organization);
    let mut made = Vec::new();
    for kind in ["a", "b", "a", "b"] {
        made.push(
            events
                .append(organization, kind, &json!({ "n": 1 }))
                .await
                .unwrap(),
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let list = async |filter: EventFilter| -> Vec<Uuid> {
        let found = events.list(organization, &filter).await.unwrap();
        found.into_iter().map(|event| event.id).collect()
    };
    assert_eq!(list(all(2)).await, [made[3].id, made[2].id]);
    let of_kind = EventFilter {
        kind: Some("a".to_owned()),
        ..all(10)
    };
    assert_eq!(list(of_kind).await, [made[2].id, made[0].id]);
    let between = EventFilter {
        starting_after: Some(made[0].created_at),
        ending_before: Some(made[3].created_at),
        ..all(10)
    };
    assert_eq!(
        list(between).await,
        [made[2].id, made[1].id],
        "both ends are left out"
    );
}

async fn what_is_old_is_pruned_and_the_rest_stays(site: &Site) {
    let shop = site.with_shop().await;
    let (store, organization) = (&shop.store, shop.organization);
    let age = |table: &str, column: &str| {
        format!("UPDATE {table} SET {column} = {column} - 31 * 24 * 3600000000")
    };
    let make = async || -> Result<()> {
        store.events().append(organization, "a", &json!({})).await?;
        let job = store.jobs().create(organization, "export").await?;
        store.jobs().finish(job.id, Ok(json!(1))).await?;
        let id = shop.source.id;
        store
            .logs()
            .append_ingest(organization, id, None, &[line(None, "x")])
            .await?;
        store
            .connections()
            .count_calls(id, None, "check", 1)
            .await?;
        super::idempotency::answered(store, organization, &Uuid::now_v7().to_string()).await;
        Ok(())
    };
    make().await.unwrap();
    for (table, column) in [
        ("events", "created_at"),
        ("jobs", "updated_at"),
        ("log_entries", "created_at"),
        ("connection_calls", "hour"),
        ("idempotency_keys", "started_at"),
    ] {
        tamper(store, &age(table, column)).await;
    }
    make().await.unwrap();
    let secrets = count(store, "secrets").await;
    let pruned = store.prune(&Retention::default()).await.unwrap();
    let ones = crate::Pruned {
        events: 1,
        logs: 1,
        jobs: 1,
        idempotency: 1,
        calls: 1,
    };
    assert_eq!(pruned, ones);
    assert_eq!(
        store.prune(&Retention::default()).await.unwrap(),
        crate::Pruned::default()
    );
    for table in [
        "events",
        "jobs",
        "log_entries",
        "connection_calls",
        "idempotency_keys",
    ] {
        assert_eq!(count(store, table).await, 1, "{table}");
    }
    assert_eq!(
        count(store, "secrets").await,
        secrets - 1,
        "the old answer goes too"
    );
}

async fn a_job_ends_once(site: &Site) {
    let shop = site.with_shop().await;
    let (jobs, organization) = (shop.store.jobs(), shop.organization);
    let job = jobs.create(organization, "exportlogs").await.unwrap();
    assert_eq!(job.status, JobStatus::Created);
    jobs.start(job.id).await.unwrap();
    jobs.finish(job.id, Ok(json!({ "url": "x" })))
        .await
        .unwrap();
    jobs.finish(job.id, Err("too late")).await.unwrap();
    jobs.start(job.id).await.unwrap();
    let done = jobs.get(organization, "exportlogs", job.id).await.unwrap();
    assert_eq!(
        (done.status, done.result),
        (JobStatus::Done, Some(json!({ "url": "x" })))
    );
    assert_eq!(done.error, None);
    assert_eq!(
        kind(jobs.get(organization, "createmodel", job.id).await),
        Kind::Missing
    );
}

async fn jobs_of_a_dead_process_are_failed(site: &Site) {
    let shop = site.with_shop().await;
    let (jobs, organization) = (shop.store.jobs(), shop.organization);
    let dead = jobs.create(organization, "exportlogs").await.unwrap();
    jobs.start(dead.id).await.unwrap();
    let past: DateTime<Utc> = clock::now() - TimeDelta::minutes(5);
    assert_eq!(jobs.abandon(past).await.unwrap(), 0);
    let soon = clock::now() + TimeDelta::seconds(1);
    assert_eq!(jobs.abandon(soon).await.unwrap(), 1);
    let job = jobs.get(organization, "exportlogs", dead.id).await.unwrap();
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.error.is_some());
}

async fn an_id_is_resolved_to_what_it_stands_for(site: &Site) {
    let shop = site.with_shop().await;
    let (store, organization, sync) = (&shop.store, shop.organization, shop.sync.id);
    let draft = ScheduleDraft::new(Timing::new(Frequency::Daily));
    let schedule = store
        .schedules()
        .create(organization, sync, &shop.author, &draft)
        .await
        .unwrap();
    let draft = ExecutionDraft::manual(shop.author.clone());
    let execution = store
        .executions()
        .create(organization, sync, &draft)
        .await
        .unwrap();
    let event = store
        .events()
        .append(organization, "a", &json!({}))
        .await
        .unwrap();
    let job = store.jobs().create(organization, "export").await.unwrap();
    let owner = store
        .organizations()
        .users(organization)
        .await
        .unwrap()
        .remove(0);
    let parent = vec![(EntityKind::BulkSync, sync)];
    for (id, kind, parents) in [
        (organization, EntityKind::Organization, vec![]),
        (owner.id, EntityKind::User, vec![]),
        (shop.source.id, EntityKind::Connection, vec![]),
        (sync, EntityKind::BulkSync, vec![]),
        (schedule.id, EntityKind::BulkSyncSchedule, parent.clone()),
        (execution.id, EntityKind::BulkSyncExecution, parent),
        (event.id, EntityKind::Event, vec![]),
        (job.id, EntityKind::Job, vec![]),
    ] {
        let found = store
            .entities()
            .resolve(organization, id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((found.kind, found.parents), (kind, parents));
    }
    assert_eq!(
        store
            .entities()
            .resolve(organization, Uuid::now_v7())
            .await
            .unwrap(),
        None
    );
}
