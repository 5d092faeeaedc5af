//! Whatever takes an organization shows and changes that organization's things only.

use std::time::Duration;

use serde_json::json;
use tideway_core::{Kind, Result};

use super::{Shop, Site, both, connection, kind, sync};
use crate::{
    ErrorHandling, EventFilter, ExecutionDraft, ExecutionFilter, Frequency, Health, KeyField,
    PageRequest, ScheduleDraft, SyncFilter, SyncSchema, Timing, UserField,
};

both![
    nothing_of_another_organization_can_be_read,
    nothing_of_another_organization_can_be_changed,
];

const HOLD: Duration = Duration::from_secs(60);

/// A shop with one of everything, and an organization that must not see it.
async fn two(site: &Site) -> (Shop, Shop) {
    let ours = site.with_shop().await;
    let other = ours.store.organizations().create("Other").await.unwrap();
    let theirs = Shop::within(ours.store.clone(), other.id).await;
    (ours, theirs)
}

fn missing<T>(outcomes: Vec<(&str, Result<T>)>) {
    for (what, outcome) in outcomes {
        assert_eq!(kind(outcome), Kind::Missing, "{what}");
    }
}

async fn nothing_of_another_organization_can_be_read(site: &Site) {
    let (ours, theirs) = two(site).await;
    let (store, stranger) = (&ours.store, theirs.organization);
    let (id, source) = (ours.sync.id, ours.source.id);
    let draft = ExecutionDraft::manual(ours.author.clone());
    let run = store
        .executions()
        .create(ours.organization, id, &draft)
        .await
        .unwrap();
    let timing = ScheduleDraft::new(Timing::new(Frequency::Daily));
    let schedules = store.schedules();
    let schedule = schedules
        .create(ours.organization, id, &ours.author, &timing)
        .await
        .unwrap();
    let job = store
        .jobs()
        .create(ours.organization, "export")
        .await
        .unwrap();
    store
        .events()
        .append(ours.organization, "a", &json!({}))
        .await
        .unwrap();
    let owner = store
        .organizations()
        .users(ours.organization)
        .await
        .unwrap()
        .remove(0);
    let catalogs = store.catalogs();
    catalogs
        .start_refresh(ours.organization, source, HOLD)
        .await
        .unwrap();
    let field = UserField::new("f", "F", "string");
    let fields = std::slice::from_ref(&field);
    catalogs
        .upsert_user_fields(ours.organization, source, "t", fields)
        .await
        .unwrap();
    catalogs
        .set_key_override(ours.organization, source, "t", &[])
        .await
        .unwrap();

    let page = PageRequest::new(50, None);
    let filter = ExecutionFilter::default();
    missing(vec![
        (
            "user",
            store
                .organizations()
                .user(stranger, owner.id)
                .await
                .map(drop),
        ),
        (
            "connection",
            store.connections().get(stranger, source).await.map(drop),
        ),
        (
            "usage",
            store.connections().usage(stranger, source).await.map(drop),
        ),
        (
            "catalog state",
            catalogs.state(stranger, source).await.map(drop),
        ),
        ("catalog", catalogs.get(stranger, source).await.map(drop)),
        ("sync", store.bulk_syncs().get(stranger, id).await.map(drop)),
        (
            "schemas",
            store
                .sync_schemas()
                .list(stranger, id, None)
                .await
                .map(drop),
        ),
        (
            "schema",
            store
                .sync_schemas()
                .get(stranger, id, "public.orders")
                .await
                .map(drop),
        ),
        ("schedules", schedules.list(stranger, id).await.map(drop)),
        (
            "schedule",
            schedules.get(stranger, id, schedule.id).await.map(drop),
        ),
        (
            "execution",
            store.executions().get(stranger, id, run.id).await.map(drop),
        ),
        (
            "executions",
            store
                .executions()
                .list(stranger, id, filter, &page)
                .await
                .map(drop),
        ),
        (
            "log",
            store
                .logs()
                .list(stranger, id, run.id, None, None, 5)
                .await
                .map(drop),
        ),
        (
            "ingestion",
            store
                .logs()
                .list_ingest(stranger, source, None, None, 5)
                .await
                .map(drop),
        ),
        (
            "job",
            store.jobs().get(stranger, "export", job.id).await.map(drop),
        ),
    ]);

    let connections = store
        .connections()
        .list(stranger, &page)
        .await
        .unwrap()
        .items;
    assert!(
        connections
            .iter()
            .all(|one| one.organization_id == stranger)
    );
    assert_eq!(connections.len(), 2);
    let syncs = store
        .bulk_syncs()
        .list(stranger, SyncFilter::default(), &page)
        .await
        .unwrap();
    assert_eq!(
        syncs.items.iter().map(|one| one.id).collect::<Vec<_>>(),
        [theirs.sync.id]
    );
    let names = store
        .bulk_syncs()
        .names(stranger, SyncFilter::default())
        .await
        .unwrap();
    assert_eq!(names.len(), 1);
    let all = EventFilter {
        kind: None,
        starting_after: None,
        ending_before: None,
        limit: 9,
    };
    assert!(
        store
            .events()
            .list(stranger, &all)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.keys().list(stranger).await.unwrap().is_empty());
    assert!(
        store
            .connections()
            .used_by(stranger, source)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .executions()
            .latest(stranger, &[id])
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        schedules
            .next_fire(stranger, &[id])
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        catalogs
            .user_fields(stranger, source)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        catalogs
            .key_overrides(stranger, source)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        catalogs
            .table(stranger, source, "t")
            .await
            .unwrap()
            .is_none()
    );
    for entity in [
        source,
        id,
        run.id,
        schedule.id,
        job.id,
        owner.id,
        ours.organization,
    ] {
        assert_eq!(
            store.entities().resolve(stranger, entity).await.unwrap(),
            None
        );
    }
}

async fn nothing_of_another_organization_can_be_changed(site: &Site) {
    let (ours, theirs) = two(site).await;
    let (store, stranger, author) = (&ours.store, theirs.organization, &theirs.author);
    let (id, source) = (ours.sync.id, ours.source.id);
    let run = ExecutionDraft::manual(author.clone());
    let timing = ScheduleDraft::new(Timing::new(Frequency::Daily));
    let schedules = store.schedules();
    let schedule = schedules
        .create(ours.organization, id, author, &timing)
        .await
        .unwrap()
        .id;
    let execution = store
        .executions()
        .create(ours.organization, id, &run)
        .await
        .unwrap()
        .id;
    let owner = store
        .organizations()
        .users(ours.organization)
        .await
        .unwrap()
        .remove(0);
    let key = store
        .keys()
        .create(ours.organization, owner.id, "k")
        .await
        .unwrap()
        .0;
    let sync_draft = sync("theirs now", &theirs.source, &theirs.destination);
    let before = (
        store
            .connections()
            .get(ours.organization, source)
            .await
            .unwrap(),
        store.bulk_syncs().get(ours.organization, id).await.unwrap(),
        schedules.list(ours.organization, id).await.unwrap(),
        store
            .executions()
            .get(ours.organization, id, execution)
            .await
            .unwrap(),
    );

    let health = Health {
        status: "x".into(),
        error: None,
        next_check_at: None,
    };
    let key_field = [KeyField {
        field_id: "a".into(),
        is_primary_key: true,
    }];
    let field = [UserField::new("f", "F", "string")];
    let schema = [SyncSchema::new("public.orders")];
    let (connections, catalogs) = (store.connections(), store.catalogs());
    let (syncs, schemas) = (store.bulk_syncs(), store.sync_schemas());
    let executions = store.executions();
    let handling = ErrorHandling::default();
    let draft = connection("theirs now");
    missing(vec![
        ("key", store.keys().revoke(stranger, key.id).await),
        (
            "new key",
            store.keys().create(stranger, owner.id, "k").await.map(drop),
        ),
        (
            "connection",
            connections
                .update(stranger, source, author, &draft)
                .await
                .map(drop),
        ),
        (
            "delete connection",
            connections.delete(stranger, source, true).await,
        ),
        (
            "health",
            connections.set_health(stranger, source, &health).await,
        ),
        (
            "rate limit",
            connections.set_rate_limit(stranger, source, None).await,
        ),
        (
            "refresh",
            catalogs
                .start_refresh(stranger, source, HOLD)
                .await
                .map(drop),
        ),
        (
            "key override",
            catalogs
                .set_key_override(stranger, source, "t", &key_field)
                .await,
        ),
        (
            "reset override",
            catalogs.reset_key_override(stranger, source, "t").await,
        ),
        (
            "field",
            catalogs
                .upsert_user_fields(stranger, source, "t", &field)
                .await,
        ),
        (
            "delete field",
            catalogs.delete_user_field(stranger, source, "t", "f").await,
        ),
        (
            "sync",
            syncs
                .update(stranger, id, author, &sync_draft, None, None)
                .await
                .map(drop),
        ),
        (
            "activity",
            syncs
                .set_active(stranger, id, author, false)
                .await
                .map(drop),
        ),
        ("delete sync", syncs.delete(stranger, id).await),
        (
            "error handling",
            syncs.set_error_handling(stranger, id, &handling).await,
        ),
        ("schemas", schemas.put(stranger, id, author, &schema).await),
        (
            "all schemas",
            schemas.replace(stranger, id, author, &schema).await,
        ),
        (
            "new schedule",
            schedules
                .create(stranger, id, author, &timing)
                .await
                .map(drop),
        ),
        (
            "schedule",
            schedules
                .update(stranger, id, schedule, author, &timing)
                .await
                .map(drop),
        ),
        (
            "delete schedule",
            schedules.delete(stranger, id, schedule).await,
        ),
        (
            "start",
            executions.create(stranger, id, &run).await.map(drop),
        ),
        (
            "cancel",
            executions.cancel(stranger, id, execution).await.map(drop),
        ),
        (
            "cancel sync",
            executions.cancel_sync(stranger, id).await.map(drop),
        ),
        (
            "cancel schema",
            executions.cancel_schema(stranger, id, "t").await.map(drop),
        ),
        (
            "ingestion",
            store
                .logs()
                .append_ingest(stranger, source, None, &[])
                .await,
        ),
    ]);
    let after = (
        store
            .connections()
            .get(ours.organization, source)
            .await
            .unwrap(),
        store.bulk_syncs().get(ours.organization, id).await.unwrap(),
        schedules.list(ours.organization, id).await.unwrap(),
        store
            .executions()
            .get(ours.organization, id, execution)
            .await
            .unwrap(),
    );
    assert_eq!(after, before);
}
