use std::time::Duration;

use serde_json::json;
use tideway_core::{Checkpoint, Cursor, Kind, sums::Verification};
use uuid::Uuid;

use super::{Shop, Site, both, kind, tamper};
use crate::{
    Cancel, Claim, ExecutionDraft, ExecutionStatus, Lease, NewLogEntry, SchemaProgress, Store,
};

both![
    a_claim_gives_what_is_to_be_run_and_nobody_gets_it_twice,
    an_expired_lease_goes_to_another_worker_with_a_higher_fence,
    a_heartbeat_keeps_the_lease,
    a_clock_that_was_set_back_keeps_nobody_waiting,
    every_write_of_a_worker_that_was_cut_off_is_refused,
    every_write_after_the_end_is_refused,
    a_released_execution_is_claimed_after_its_pause,
    the_longest_waiting_is_claimed_first_and_a_killer_queues_up_again,
    progress_of_schemas_is_kept_with_its_times,
    an_end_leaves_no_schema_unfinished,
    a_state_on_the_way_cannot_hide_that_it_is_canceling,
    checkpoints_survive_their_worker_and_their_execution,
    a_checkpoint_of_a_newer_release_is_not_misread,
    waiting_workers_wake_when_work_is_queued,
];

const LONG: Duration = Duration::from_secs(600);
/// Long enough for a loaded machine to be on time, short enough to be waited for.
const SHORT: Duration = Duration::from_millis(600);

async fn queued(shop: &Shop) -> Uuid {
    let draft = ExecutionDraft::manual(shop.author.clone());
    let executions = shop.store.executions();
    executions
        .create(shop.organization, shop.sync.id, &draft)
        .await
        .unwrap()
        .id
}

async fn claimed(store: &Store, hold: Duration) -> Claim {
    store.queue().claim("worker", hold).await.unwrap().unwrap()
}

async fn a_claim_gives_what_is_to_be_run_and_nobody_gets_it_twice(site: &Site) {
    let shop = site.with_shop().await;
    let queue = shop.store.queue();
    assert!(queue.claim("worker", LONG).await.unwrap().is_none());
    let id = queued(&shop).await;
    let claim = claimed(&shop.store, LONG).await;
    assert_eq!((claim.lease.execution_id, claim.lease.fence), (id, 1));
    assert_eq!(
        (claim.execution.status, claim.execution.attempts),
        (ExecutionStatus::Running, 1)
    );
    assert!(claim.execution.started_at.is_some() && claim.execution.version.is_some());
    assert_eq!(claim.sync, shop.sync);
    assert!(queue.claim("worker", LONG).await.unwrap().is_none());
}

async fn an_expired_lease_goes_to_another_worker_with_a_higher_fence(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let other = site.open().await;
    let first = claimed(&shop.store, SHORT).await;
    assert!(other.queue().claim("other", LONG).await.unwrap().is_none());
    tokio::time::sleep(SHORT * 2).await;
    let second = claimed(&other, LONG).await;
    assert_eq!(
        second.lease,
        Lease {
            fence: 2,
            ..first.lease
        }
    );
    assert_eq!(second.execution.attempts, 2);
    assert_eq!(second.execution.started_at, first.execution.started_at);
    assert_eq!(
        kind(shop.store.queue().heartbeat(&first.lease, LONG).await),
        Kind::Fenced
    );
}

async fn a_heartbeat_keeps_the_lease(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let claim = claimed(&shop.store, SHORT).await;
    for _ in 0..4 {
        tokio::time::sleep(SHORT / 3).await;
        let cancel = shop
            .store
            .queue()
            .heartbeat(&claim.lease, SHORT)
            .await
            .unwrap();
        assert_eq!(cancel, Cancel::default());
        assert!(
            shop.store
                .queue()
                .claim("other", LONG)
                .await
                .unwrap()
                .is_none()
        );
    }
}

/// The outcomes of all that a worker can write.
async fn every_write(store: &Store, lease: &Lease) -> Vec<Kind> {
    let queue = store.queue();
    let progress = SchemaProgress::new("public.orders", "orders", ExecutionStatus::Running);
    let line = NewLogEntry {
        schema_id: None,
        level: "info".into(),
        message: "ghost".into(),
        payload: json!({}),
    };
    vec![
        kind(queue.heartbeat(lease, LONG).await),
        kind(
            queue
                .set_status(lease, ExecutionStatus::Exporting, None)
                .await,
        ),
        kind(queue.save_schema(lease, &progress).await),
        kind(queue.finish(lease, ExecutionStatus::Completed, None).await),
        kind(queue.release(lease, Duration::ZERO).await),
        kind(
            store
                .checkpoints()
                .save(lease, "public.orders", &Checkpoint::default())
                .await,
        ),
        kind(store.checkpoints().forget(lease, "public.orders").await),
        kind(store.logs().append(lease, &[line]).await),
    ]
}

async fn every_write_of_a_worker_that_was_cut_off_is_refused(site: &Site) {
    let shop = site.with_shop().await;
    let id = queued(&shop).await;
    let first = claimed(&shop.store, Duration::ZERO).await;
    let second = claimed(&shop.store, LONG).await;
    let kept = Checkpoint {
        finished_load: Some("second".into()),
        ..Checkpoint::default()
    };
    shop.store
        .checkpoints()
        .save(&second.lease, "public.orders", &kept)
        .await
        .unwrap();

    assert_eq!(
        every_write(&shop.store, &first.lease).await,
        vec![Kind::Fenced; 8]
    );
    let forged = Lease {
        fence: 3,
        ..second.lease
    };
    assert_eq!(
        every_write(&shop.store, &forged).await,
        vec![Kind::Fenced; 8]
    );

    let (organization, sync) = (shop.organization, shop.sync.id);
    let after = shop
        .store
        .executions()
        .get(organization, sync, id)
        .await
        .unwrap();
    assert_eq!(after, second.execution, "nothing has changed");
    let checkpoint = shop
        .store
        .checkpoints()
        .load(sync, "public.orders")
        .await
        .unwrap();
    assert_eq!(checkpoint, Some(kept));
    let log = shop
        .store
        .logs()
        .list(organization, sync, id, None, None, 50)
        .await
        .unwrap();
    assert!(log.is_empty());
}

async fn every_write_after_the_end_is_refused(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let claim = claimed(&shop.store, LONG).await;
    let queue = shop.store.queue();
    queue
        .finish(&claim.lease, ExecutionStatus::Completed, None)
        .await
        .unwrap();
    assert_eq!(
        every_write(&shop.store, &claim.lease).await,
        vec![Kind::Fenced; 8]
    );
    queued(&shop).await;
    let claim = claimed(&shop.store, LONG).await;
    let syncs = shop.store.bulk_syncs();
    syncs.delete(shop.organization, shop.sync.id).await.unwrap();
    assert_eq!(
        every_write(&shop.store, &claim.lease).await,
        vec![Kind::Fenced; 8]
    );
}

async fn a_released_execution_is_claimed_after_its_pause(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let first = claimed(&shop.store, LONG).await;
    shop.store
        .queue()
        .release(&first.lease, SHORT)
        .await
        .unwrap();
    assert!(
        shop.store
            .queue()
            .claim("other", LONG)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        every_write(&shop.store, &first.lease).await,
        vec![Kind::Fenced; 8]
    );
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(claimed(&shop.store, LONG).await.lease.fence, 2);
}

async fn the_longest_waiting_is_claimed_first_and_a_killer_queues_up_again(site: &Site) {
    let shop = site.with_shop().await;
    let mut order = vec![queued(&shop).await];
    for name in ["second", "third"] {
        let sync = shop.another_sync(name).await;
        let draft = ExecutionDraft::manual(shop.author.clone());
        let executions = shop.store.executions();
        order.push(
            executions
                .create(shop.organization, sync.id, &draft)
                .await
                .unwrap()
                .id,
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let killer = claimed(&shop.store, Duration::ZERO).await;
    let mut seen = vec![killer.lease.execution_id];
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        seen.push(claimed(&shop.store, LONG).await.lease.execution_id);
    }
    assert_eq!(
        seen, order,
        "the first has had its turn, the others come before its second"
    );
    assert_eq!(
        claimed(&shop.store, LONG).await.lease.execution_id,
        order[0]
    );
}

async fn progress_of_schemas_is_kept_with_its_times(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let Claim { lease, .. } = claimed(&shop.store, LONG).await;
    let queue = shop.store.queue();
    let mut progress = SchemaProgress::new("public.orders", "orders", ExecutionStatus::Created);
    queue.save_schema(&lease, &progress).await.unwrap();
    let execution = async || {
        let executions = shop.store.executions();
        executions
            .get(shop.organization, shop.sync.id, lease.execution_id)
            .await
            .unwrap()
    };
    assert_eq!(execution().await.schemas[0].started_at, None);

    progress.status = ExecutionStatus::Running;
    progress.record_count = 5;
    queue.save_schema(&lease, &progress).await.unwrap();
    let running = execution().await;
    let started = running.schemas[0].started_at.unwrap();
    assert_eq!(running.schemas[0].completed_at, None);

    let verified = Verification::Verified {
        row_count: 10,
        checksum: "0123456789abcdef".repeat(2),
        columns_left_out: vec!["j".into()],
        milliseconds: 7,
    };
    progress = SchemaProgress {
        status: ExecutionStatus::Completed,
        status_message: Some("with a \0 in it".into()),
        record_count: 10,
        error_count: 2,
        warning_count: 3,
        inserted: 4,
        updated: 5,
        deleted: 6,
        bytes: u64::MAX,
        verification: Some(verified.clone()),
        ..progress
    };
    queue.save_schema(&lease, &progress).await.unwrap();
    let other = SchemaProgress {
        record_count: 1,
        ..progress.clone()
    };
    let other = SchemaProgress {
        schema_id: "public.items".into(),
        ..other
    };
    queue.save_schema(&lease, &other).await.unwrap();
    let done = execution().await;
    let schema = &done.schemas[1];
    assert_eq!(
        (schema.schema_id.as_str(), schema.started_at),
        ("public.orders", Some(started))
    );
    assert!(schema.completed_at.is_some());
    assert_eq!((schema.inserted, schema.updated, schema.deleted), (4, 5, 6));
    assert_eq!(schema.bytes, i64::MAX);
    assert_eq!(schema.verification, Some(verified));
    assert_eq!(running.schemas[0].verification, None);
    assert_eq!(
        (
            done.record_count(),
            done.error_count(),
            done.warning_count()
        ),
        (11, 4, 6)
    );
}

async fn an_end_leaves_no_schema_unfinished(site: &Site) {
    let shop = site.with_shop().await;
    for (end, left) in [
        (ExecutionStatus::Canceled, ExecutionStatus::Canceled),
        (ExecutionStatus::Failed, ExecutionStatus::Interrupted),
    ] {
        queued(&shop).await;
        let Claim { lease, .. } = claimed(&shop.store, LONG).await;
        let queue = shop.store.queue();
        let done = SchemaProgress::new("a", "a", ExecutionStatus::Completed);
        let open = SchemaProgress::new("b", "b", ExecutionStatus::Running);
        queue.save_schema(&lease, &done).await.unwrap();
        queue.save_schema(&lease, &open).await.unwrap();
        let ended = queue.finish(&lease, end, Some("because")).await.unwrap();
        assert_eq!(
            (ended.status, ended.status_message.as_deref()),
            (end, Some("because"))
        );
        assert!(ended.completed_at.is_some());
        let states: Vec<_> = ended.schemas.iter().map(|schema| schema.status).collect();
        assert_eq!(states, [ExecutionStatus::Completed, left]);
    }
}

async fn a_state_on_the_way_cannot_hide_that_it_is_canceling(site: &Site) {
    let shop = site.with_shop().await;
    let id = queued(&shop).await;
    let Claim { lease, .. } = claimed(&shop.store, LONG).await;
    let (executions, queue) = (shop.store.executions(), shop.store.queue());
    queue
        .set_status(&lease, ExecutionStatus::Processing, Some("merging"))
        .await
        .unwrap();
    let seen = executions
        .get(shop.organization, shop.sync.id, id)
        .await
        .unwrap();
    assert_eq!(seen.status, ExecutionStatus::Processing);
    assert_eq!(seen.status_message.as_deref(), Some("merging"));
    executions
        .cancel(shop.organization, shop.sync.id, id)
        .await
        .unwrap();
    queue
        .set_status(&lease, ExecutionStatus::Running, None)
        .await
        .unwrap();
    let seen = executions
        .get(shop.organization, shop.sync.id, id)
        .await
        .unwrap();
    assert_eq!(seen.status, ExecutionStatus::Canceling);
    let wrong = queue
        .set_status(&lease, ExecutionStatus::Completed, None)
        .await;
    assert_eq!(kind(wrong), Kind::Bug);
    assert_eq!(
        kind(queue.finish(&lease, ExecutionStatus::Running, None).await),
        Kind::Bug
    );
}

async fn checkpoints_survive_their_worker_and_their_execution(site: &Site) {
    let shop = site.with_shop().await;
    let sync = shop.sync.id;
    let checkpoints = shop.store.checkpoints();
    assert_eq!(checkpoints.load(sync, "public.orders").await.unwrap(), None);
    queued(&shop).await;
    let first = claimed(&shop.store, Duration::ZERO).await;
    let cursor = Cursor {
        column: "updated_at".into(),
        from: Some("2024-01-01".into()),
        marks: vec![],
        boundary: vec!["abc".into()],
    };
    let reached = Checkpoint {
        cursor: Some(cursor),
        ..Checkpoint::default()
    };
    checkpoints
        .save(&first.lease, "public.orders", &reached)
        .await
        .unwrap();

    let other = site.open().await;
    let second = claimed(&other, LONG).await;
    let found = other
        .checkpoints()
        .load(sync, "public.orders")
        .await
        .unwrap();
    assert_eq!(found, Some(reached.clone()));
    other
        .queue()
        .finish(&second.lease, ExecutionStatus::Completed, None)
        .await
        .unwrap();
    queued(&shop).await;
    let third = claimed(&shop.store, LONG).await;
    assert_eq!(
        checkpoints.load(sync, "public.orders").await.unwrap(),
        Some(reached)
    );
    checkpoints
        .forget(&third.lease, "public.orders")
        .await
        .unwrap();
    assert_eq!(checkpoints.load(sync, "public.orders").await.unwrap(), None);
}

async fn a_checkpoint_of_a_newer_release_is_not_misread(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let Claim { lease, .. } = claimed(&shop.store, LONG).await;
    let checkpoints = shop.store.checkpoints();
    checkpoints
        .save(&lease, "public.orders", &Checkpoint::default())
        .await
        .unwrap();
    tamper(&shop.store, "UPDATE checkpoints SET version = 99").await;
    assert_eq!(
        kind(checkpoints.load(shop.sync.id, "public.orders").await),
        Kind::Config
    );
}

async fn a_clock_that_was_set_back_keeps_nobody_waiting(site: &Site) {
    let shop = site.with_shop().await;
    queued(&shop).await;
    let first = claimed(&shop.store, LONG).await;
    assert!(
        shop.store
            .queue()
            .claim("other", LONG)
            .await
            .unwrap()
            .is_none()
    );
    // More than any lease lasts.
    let later = LONG.as_micros() * 12;
    let later = format!("UPDATE executions SET claimable_at = claimable_at + {later}");
    tamper(&shop.store, &later).await;
    let second = claimed(&shop.store, LONG).await;
    assert!(second.lease.fence > first.lease.fence);
}

async fn waiting_workers_wake_when_work_is_queued(site: &Site) {
    let shop = site.with_shop().await;
    let mut here = shop.store.wake();
    let long = Duration::from_secs(20);
    let (_, waited) = tokio::join!(queued(&shop), async {
        let start = std::time::Instant::now();
        here.wait(long).await;
        start.elapsed()
    });
    assert!(waited < long / 2, "{waited:?}");

    // What was queued before the wait counts as well.
    shop.store
        .executions()
        .cancel_sync(shop.organization, shop.sync.id)
        .await
        .unwrap();
    queued(&shop).await;
    let start = std::time::Instant::now();
    here.wait(long).await;
    assert!(start.elapsed() < long / 2);

    if shop.store.db().is_postgres() {
        let other = site.open().await;
        let mut there = other.wake();
        // The listener's own greeting comes first.
        there.wait(Duration::from_secs(2)).await;
        let another = shop.another_sync("another").await;
        let start = std::time::Instant::now();
        let draft = ExecutionDraft::manual(shop.author.clone());
        shop.store
            .executions()
            .create(shop.organization, another.id, &draft)
            .await
            .unwrap();
        there.wait(long).await;
        assert!(start.elapsed() < long / 2);
    }
}
