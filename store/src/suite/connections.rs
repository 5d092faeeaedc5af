use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use tideway_core::Kind;
use uuid::Uuid;

use super::{Site, both, connection, count, kind, tamper};
use crate::{Configuration, ExecutionDraft, Health, RateLimit, clock};

both![
    an_update_replaces_everything_but_identity_and_creation,
    a_connection_in_use_goes_by_force_only_and_takes_its_syncs_along,
    a_shared_connection_goes_by_force_only,
    a_health_check_is_given_to_one_process_and_keeps_the_order_of_lists,
    calls_are_counted_by_sync_and_category_for_24_hours,
    a_rate_limit_is_shown_until_it_is_lifted,
    text_with_nul_is_a_clear_error_on_both_databases,
];

async fn an_update_replaces_everything_but_identity_and_creation(site: &Site) {
    let shop = site.with_shop().await;
    let connections = shop.store.connections();
    let mut draft = connection("renamed");
    draft.kind = "sqlite".to_owned();
    draft.policies = vec!["p".to_owned()];
    draft.healthcheck_interval = Some("1h".to_owned());
    draft.configuration = Configuration::new(json!({ "path": "/tmp/x" }));
    let changed = connections
        .update(shop.organization, shop.source.id, &shop.author, &draft)
        .await
        .unwrap();
    assert_eq!(changed.id, shop.source.id);
    assert_eq!(changed.created_at, shop.source.created_at);
    assert!(changed.updated_at > shop.source.updated_at);
    assert_eq!(
        (changed.name.as_str(), changed.kind.as_str()),
        ("renamed", "sqlite")
    );
    assert_eq!(changed.policies, ["p"]);
    assert_eq!(changed.healthcheck_interval.as_deref(), Some("1h"));
    assert_eq!(changed.configuration.expose()["path"], "/tmp/x");
    assert_eq!(
        connections
            .get(shop.organization, shop.source.id)
            .await
            .unwrap(),
        changed
    );
}

async fn a_connection_in_use_goes_by_force_only_and_takes_its_syncs_along(site: &Site) {
    let shop = site.with_shop().await;
    let connections = shop.store.connections();
    let used = connections
        .used_by(shop.organization, shop.source.id)
        .await
        .unwrap();
    assert_eq!(used[0].id, shop.sync.id);
    let refused = connections
        .delete(shop.organization, shop.source.id, false)
        .await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.what().contains("shop to warehouse"), "{error}");

    let draft = ExecutionDraft::manual(shop.author.clone());
    shop.store
        .executions()
        .create(shop.organization, shop.sync.id, &draft)
        .await
        .unwrap();
    let queue = shop.store.queue();
    let claim = queue
        .claim("worker", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    connections
        .delete(shop.organization, shop.source.id, true)
        .await
        .unwrap();
    assert_eq!(
        kind(queue.heartbeat(&claim.lease, Duration::from_secs(60)).await),
        Kind::Fenced
    );
    for table in ["bulk_syncs", "sync_schemas", "executions"] {
        assert_eq!(count(&shop.store, table).await, 0, "{table}");
    }
    assert_eq!(
        count(&shop.store, "secrets").await,
        2,
        "the other connection's and the canary"
    );
    let again = connections
        .delete(shop.organization, shop.source.id, true)
        .await;
    assert_eq!(kind(again), Kind::Missing);
}

async fn a_shared_connection_goes_by_force_only(site: &Site) {
    let shop = site.with_shop().await;
    let child = shop.store.organizations().create("Child").await.unwrap();
    let connections = shop.store.connections();
    let parent = connections
        .create(shop.organization, &shop.author, &connection("parent"))
        .await
        .unwrap();
    let mut draft = connection("pointer");
    draft.parent_connection_id = Some(parent.id);
    let pointer = connections
        .create(child.id, &shop.author, &draft)
        .await
        .unwrap();
    assert_eq!(pointer.parent_connection_id, Some(parent.id));
    assert_eq!(
        kind(
            connections
                .delete(shop.organization, parent.id, false)
                .await
        ),
        Kind::Conflict
    );
    connections
        .delete(shop.organization, parent.id, true)
        .await
        .unwrap();
    assert_eq!(
        kind(connections.get(child.id, pointer.id).await),
        Kind::Missing
    );
}

async fn a_health_check_is_given_to_one_process_and_keeps_the_order_of_lists(site: &Site) {
    let shop = site.with_shop().await;
    let connections = shop.store.connections();
    let mut draft = connection("watched");
    draft.next_health_check_at = Some(clock::now() - TimeDelta::seconds(1));
    let watched = connections
        .create(shop.organization, &shop.author, &draft)
        .await
        .unwrap();
    let other = site.open().await;
    let hold = Duration::from_secs(60);
    let (here, there) = (connections, other.connections());
    let (here, there) = tokio::join!(
        here.claim_health_checks(10, hold),
        there.claim_health_checks(10, hold)
    );
    let given: Vec<Uuid> = here
        .unwrap()
        .into_iter()
        .chain(there.unwrap())
        .map(|connection| connection.id)
        .collect();
    assert_eq!(given, [watched.id]);

    let connections = shop.store.connections();
    let health = Health {
        status: "unhealthy".to_owned(),
        error: Some("no such host".to_owned()),
        next_check_at: None,
    };
    connections
        .set_health(shop.organization, watched.id, &health)
        .await
        .unwrap();
    let seen = connections
        .get(shop.organization, watched.id)
        .await
        .unwrap();
    assert_eq!(seen.status, "unhealthy");
    assert_eq!(seen.status_error.as_deref(), Some("no such host"));
    assert!(seen.health_checked_at.is_some());
    assert_eq!(seen.updated_at, watched.updated_at);
}

async fn calls_are_counted_by_sync_and_category_for_24_hours(site: &Site) {
    let shop = site.with_shop().await;
    let connections = shop.store.connections();
    let (id, sync) = (shop.source.id, shop.sync.id);
    connections
        .count_calls(id, Some(sync), "read", 2)
        .await
        .unwrap();
    connections
        .count_calls(id, Some(sync), "read", 3)
        .await
        .unwrap();
    connections
        .count_calls(id, Some(sync), "discover", 1)
        .await
        .unwrap();
    connections.count_calls(id, None, "check", 4).await.unwrap();
    let usage = connections.usage(shop.organization, id).await.unwrap();
    assert_eq!(usage.calls_last_24_hours, 10);
    assert_eq!(usage.by_sync.len(), 1);
    assert_eq!(usage.by_sync[0].sync_name, "shop to warehouse");
    assert_eq!(usage.by_sync[0].total_calls, 6);
    let categories = [("discover".to_owned(), 1), ("read".to_owned(), 5)];
    assert_eq!(usage.by_sync[0].categories, categories);

    tamper(
        &shop.store,
        "UPDATE connection_calls SET hour = hour - 25 * 3600000000",
    )
    .await;
    let usage = connections.usage(shop.organization, id).await.unwrap();
    assert_eq!(usage, crate::Usage::default());
}

async fn a_rate_limit_is_shown_until_it_is_lifted(site: &Site) {
    let shop = site.with_shop().await;
    let connections = shop.store.connections();
    let since = clock::now();
    let limit = RateLimit {
        limited_since: since,
        expires_at: Some(since + TimeDelta::seconds(30)),
    };
    let id = shop.source.id;
    connections
        .set_rate_limit(shop.organization, id, Some(limit))
        .await
        .unwrap();
    let seen = connections.get(shop.organization, id).await.unwrap();
    assert_eq!(seen.rate_limit, Some(limit));
    connections
        .set_rate_limit(shop.organization, id, None)
        .await
        .unwrap();
    assert_eq!(
        connections
            .get(shop.organization, id)
            .await
            .unwrap()
            .rate_limit,
        None
    );
}

async fn text_with_nul_is_a_clear_error_on_both_databases(site: &Site) {
    let shop = site.with_shop().await;
    let draft = connection("a\0b");
    let made = shop
        .store
        .connections()
        .create(shop.organization, &shop.author, &draft)
        .await;
    assert_eq!(kind(made), Kind::Config);
    assert_eq!(count(&shop.store, "connections").await, 2);
}
