use std::time::Duration;

use serde_json::json;
use tideway_core::{Checkpoint, Kind, Position};

use super::{Shop, Site, both, connection, kind, sync};
use crate::{Configuration, ExecutionDraft, Lease, StreamState};

both![
    a_stream_comes_back_as_it_was_observed,
    a_stream_outlives_its_sync_until_it_is_removed,
    a_sync_that_reads_from_elsewhere_leaves_its_stream_behind,
    a_changed_connection_puts_its_streams_in_doubt,
    a_stream_that_moves_leaves_the_old_one_to_be_removed,
    other_ends_drop_what_was_remembered_and_cut_the_worker_off,
];

const HOLD: Duration = Duration::from_secs(60);

async fn lease(shop: &Shop) -> Lease {
    let draft = ExecutionDraft::manual(shop.author.clone());
    let executions = shop.store.executions();
    executions
        .create(shop.organization, shop.sync.id, &draft)
        .await
        .unwrap();
    let claim = shop.store.queue().claim("test", HOLD).await.unwrap();
    claim.unwrap().lease
}

async fn attached(shop: &Shop) -> Lease {
    let lease = lease(shop).await;
    let configuration = Configuration::new(json!({ "password": "s3cret" }));
    shop.store
        .streams()
        .attach(
            &lease,
            shop.source.id,
            "postgresql",
            &configuration,
            &json!({ "replication_slot": "mine" }),
        )
        .await
        .unwrap();
    lease
}

async fn a_stream_comes_back_as_it_was_observed(site: &Site) {
    let shop = site.with_shop().await;
    let streams = shop.store.streams();
    let (organization, id) = (shop.organization, shop.sync.id);
    assert_eq!(streams.of_sync(organization, id).await.unwrap(), None);
    let lease = attached(&shop).await;
    let state = StreamState {
        position: Some("0/16B3748".into()),
        lag_seconds: Some(3),
        warning: Some("the log is kept for 2 GB".into()),
        ..StreamState::default()
    };
    streams
        .observe(&lease, shop.source.id, &state)
        .await
        .unwrap();
    let found = streams.of_sync(organization, id).await.unwrap().unwrap();
    assert_eq!(found.state, state);
    assert!(found.state_at.is_some());
    let stranger = uuid::Uuid::now_v7();
    assert_eq!(streams.of_sync(stranger, id).await.unwrap(), None);
    assert!(streams.unwanted(10, HOLD).await.unwrap().is_empty());
    assert!(streams.doubtful(10, HOLD).await.unwrap().is_empty());

    streams.dismiss(stranger, id).await.unwrap();
    assert!(streams.unwanted(10, HOLD).await.unwrap().is_empty());
    streams.dismiss(organization, id).await.unwrap();
    assert_eq!(streams.of_sync(organization, id).await.unwrap(), None);
    assert_eq!(streams.unwanted(10, HOLD).await.unwrap().len(), 1);

    shop.store
        .queue()
        .finish(&lease, crate::ExecutionStatus::Completed, None)
        .await
        .unwrap();
    let late = streams.observe(&lease, shop.source.id, &state).await;
    assert_eq!(kind(late), Kind::Fenced);
}

async fn a_stream_outlives_its_sync_until_it_is_removed(site: &Site) {
    let shop = site.with_shop().await;
    attached(&shop).await;
    let syncs = shop.store.bulk_syncs();
    syncs.delete(shop.organization, shop.sync.id).await.unwrap();
    let connections = shop.store.connections();
    connections
        .delete(shop.organization, shop.source.id, false)
        .await
        .unwrap();
    let streams = shop.store.streams();
    let unwanted = streams.unwanted(10, HOLD).await.unwrap();
    let [left] = unwanted.as_slice() else {
        panic!("{unwanted:?}");
    };
    assert_eq!((left.sync_id, left.attempts), (shop.sync.id, 1));
    assert_eq!(left.configuration.expose()["password"], "s3cret");
    assert_eq!(left.options["replication_slot"], "mine");
    // It is another process's for now; then again anybody's.
    assert!(streams.unwanted(10, HOLD).await.unwrap().is_empty());
    streams.postpone(left.id, Duration::ZERO).await.unwrap();
    assert_eq!(streams.unwanted(10, HOLD).await.unwrap()[0].attempts, 2);
    streams.postpone(left.id, Duration::ZERO).await.unwrap();
    streams.removed(left.id).await.unwrap();
    assert!(streams.unwanted(10, HOLD).await.unwrap().is_empty());
}

async fn a_sync_that_reads_from_elsewhere_leaves_its_stream_behind(site: &Site) {
    let shop = site.with_shop().await;
    attached(&shop).await;
    let elsewhere = shop
        .store
        .connections()
        .create(shop.organization, &shop.author, &connection("elsewhere"))
        .await
        .unwrap();
    let draft = sync("moved", &elsewhere, &shop.destination);
    shop.store
        .bulk_syncs()
        .update(
            shop.organization,
            shop.sync.id,
            &shop.author,
            &draft,
            None,
            None,
        )
        .await
        .unwrap();
    let streams = shop.store.streams();
    let found = streams.of_sync(shop.organization, shop.sync.id).await;
    assert_eq!(found.unwrap(), None);
    assert_eq!(streams.unwanted(10, HOLD).await.unwrap().len(), 1);
}

async fn a_changed_connection_puts_its_streams_in_doubt(site: &Site) {
    let shop = site.with_shop().await;
    attached(&shop).await;
    shop.store
        .connections()
        .update(
            shop.organization,
            shop.source.id,
            &shop.author,
            &connection("changed"),
        )
        .await
        .unwrap();
    let streams = shop.store.streams();
    let doubtful = streams.doubtful(10, HOLD).await.unwrap();
    assert_eq!(doubtful.len(), 1);
    streams.keep(doubtful[0].id).await.unwrap();
    assert!(streams.doubtful(10, HOLD).await.unwrap().is_empty());
    assert!(streams.unwanted(10, HOLD).await.unwrap().is_empty());
}

async fn a_stream_that_moves_leaves_the_old_one_to_be_removed(site: &Site) {
    let shop = site.with_shop().await;
    let lease = attached(&shop).await;
    let streams = shop.store.streams();
    let before = streams
        .attached(shop.sync.id, shop.source.id)
        .await
        .unwrap();
    let before = before.unwrap();
    streams.leave_behind(&lease, before.id).await.unwrap();
    let now = streams.attached(shop.sync.id, shop.source.id).await;
    assert_eq!(now.unwrap(), None);
    let configuration = Configuration::new(json!({}));
    let (source, options) = (shop.source.id, json!({ "replication_slot": "other" }));
    let attach = streams.attach(&lease, source, "postgresql", &configuration, &options);
    attach.await.unwrap();
    let unwanted = streams.unwanted(10, HOLD).await.unwrap();
    let [left] = unwanted.as_slice() else {
        panic!("{unwanted:?}")
    };
    assert_eq!((left.id, &left.options), (before.id, &before.options));
    assert_eq!(left.configuration, before.configuration);
}

async fn other_ends_drop_what_was_remembered_and_cut_the_worker_off(site: &Site) {
    let shop = site.with_shop().await;
    let lease = lease(&shop).await;
    let checkpoints = shop.store.checkpoints();
    let streamed = Checkpoint {
        stream: Some(Position {
            v: 1,
            kind: "test".into(),
            at: json!(7),
        }),
        ..Checkpoint::default()
    };
    checkpoints
        .save(&lease, "public.orders", &streamed)
        .await
        .unwrap();
    checkpoints
        .save(&lease, "public.items", &Checkpoint::default())
        .await
        .unwrap();
    let found = checkpoints.streamed(shop.sync.id).await.unwrap();
    assert_eq!(found, ["public.orders"]);

    // Another name is no other end.
    let syncs = shop.store.bulk_syncs();
    let draft = sync("renamed", &shop.source, &shop.destination);
    syncs
        .update(
            shop.organization,
            shop.sync.id,
            &shop.author,
            &draft,
            None,
            None,
        )
        .await
        .unwrap();
    let kept = checkpoints
        .load(shop.sync.id, "public.orders")
        .await
        .unwrap();
    assert_eq!(kept, Some(streamed.clone()));

    let draft = sync("turned", &shop.destination, &shop.source);
    syncs
        .update(
            shop.organization,
            shop.sync.id,
            &shop.author,
            &draft,
            None,
            None,
        )
        .await
        .unwrap();
    let kept = checkpoints
        .load(shop.sync.id, "public.orders")
        .await
        .unwrap();
    assert_eq!(kept, None);
    let late = checkpoints.save(&lease, "public.orders", &streamed).await;
    assert_eq!(kind(late), Kind::Fenced);
    let again = shop
        .store
        .queue()
        .claim("test", HOLD)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.lease.execution_id, lease.execution_id);
    assert!(again.lease.fence > lease.fence);
    assert_eq!(again.sync.name, "turned");
}
