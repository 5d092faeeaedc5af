//! Work that dies at each of its steps in turn: what it does happens wholly or not at all.

use std::time::Duration;

use chrono::TimeDelta;
use tideway_core::{Catalog, TableId, schema::Table};

use super::{Shop, Site, both, cut_off, tamper};
use crate::{ExecutionDraft, ExecutionStatus, Frequency, ScheduleDraft, SyncSchema, Timing, clock};

both![
    a_firing_that_dies_queues_and_moves_on_or_does_neither,
    a_sync_that_dies_while_being_made_is_there_with_everything_or_not_at_all,
    an_end_that_dies_writes_state_and_event_or_neither,
    a_refresh_that_dies_leaves_the_old_tables_or_the_new_ones,
];

const HOLD: Duration = Duration::from_secs(600);

/// Waits until no transaction of the dead work is left that touches the shop's sync.
async fn settle(shop: &Shop) {
    tamper(&shop.store, "UPDATE connections SET name = name").await;
    tamper(&shop.store, "UPDATE bulk_syncs SET name = name").await;
}

/// The only row's columns `a` and `b`, of one and the same moment.
async fn both_of(shop: &Shop, sql: &str) -> (i64, i64) {
    let row = shop.store.db().one("row", sql, vec![]).await.unwrap();
    (row.int("a").unwrap(), row.int("b").unwrap())
}

async fn undo(shop: &Shop, sql: &[&str]) {
    for sql in sql {
        shop.store.db().execute(sql, vec![]).await.unwrap();
    }
}

async fn a_firing_that_dies_queues_and_moves_on_or_does_neither(site: &Site) {
    let shop = site.with_shop().await;
    let mut draft = ScheduleDraft::new(Timing::new(Frequency::Hourly));
    draft.next_fire_at = Some(clock::now() - TimeDelta::seconds(1));
    let schedules = shop.store.schedules();
    let (organization, sync) = (shop.organization, shop.sync.id);
    let seen = schedules
        .create(organization, sync, &shop.author, &draft)
        .await
        .unwrap();
    let run = ExecutionDraft::manual(shop.author.clone());
    let mut died = 0;
    for polls in 0.. {
        let ended = cut_off(schedules.fire(&seen, None, &run), polls)
            .await
            .is_some();
        settle(&shop).await;
        let (moved, queued) = both_of(
            &shop,
            "SELECT (SELECT COUNT(*) FROM schedules WHERE next_fire_at IS NULL) AS a,
               (SELECT COUNT(*) FROM executions) AS b",
        )
        .await;
        assert_eq!(moved, queued, "dead at step {polls}");
        if ended {
            assert_eq!(moved, 1);
            break;
        }
        died += 1;
        let due = draft.next_fire_at.unwrap().timestamp_micros();
        let again = format!("UPDATE schedules SET next_fire_at = {due}");
        undo(&shop, &["DELETE FROM executions", &again]).await;
    }
    // At how many steps it waits depends on how quick the server is.
    assert!(died > 1, "it has died {died} times only");
}

async fn a_sync_that_dies_while_being_made_is_there_with_everything_or_not_at_all(site: &Site) {
    let shop = site.with_shop().await;
    let draft = super::sync("new", &shop.source, &shop.destination);
    let schemas = [SyncSchema::new("a"), SyncSchema::new("b")];
    let schedule = [ScheduleDraft::new(Timing::new(Frequency::Hourly))];
    let syncs = shop.store.bulk_syncs();
    for polls in 0.. {
        let made = syncs.create(shop.organization, &shop.author, &draft, &schemas, &schedule);
        let ended = cut_off(made, polls).await.is_some();
        settle(&shop).await;
        let (syncs, parts) = both_of(
            &shop,
            "SELECT (SELECT COUNT(*) FROM bulk_syncs WHERE name = 'new') AS a,
               (SELECT COUNT(*) FROM schedules) +
               (SELECT COUNT(*) FROM sync_schemas WHERE schema_id IN ('a', 'b')) AS b",
        )
        .await;
        assert_eq!(syncs * 3, parts, "dead at step {polls}");
        if ended {
            assert_eq!(syncs, 1);
            break;
        }
        undo(&shop, &["DELETE FROM bulk_syncs WHERE name = 'new'"]).await;
    }
}

async fn an_end_that_dies_writes_state_and_event_or_neither(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let draft = ExecutionDraft::manual(shop.author.clone());
    let queue = shop.store.queue();
    for polls in 0.. {
        shop.store
            .executions()
            .create(organization, sync, &draft)
            .await
            .unwrap();
        let lease = queue.claim("worker", HOLD).await.unwrap().unwrap().lease;
        let finish = queue.finish(&lease, ExecutionStatus::Failed, Some("no"));
        let ended = cut_off(finish, polls).await.is_some();
        settle(&shop).await;
        tamper(&shop.store, "UPDATE executions SET attempts = attempts").await;
        let (failed, told) = both_of(
            &shop,
            "SELECT (SELECT COUNT(*) FROM executions WHERE completed_at IS NOT NULL) AS a,
               (SELECT COUNT(*) FROM events WHERE type = 'bulk_sync.failed') AS b",
        )
        .await;
        assert_eq!(failed, told, "dead at step {polls}");
        if ended {
            assert_eq!(failed, 1);
            break;
        }
        // A worker that comes back after such a death is told how it stands.
        let beat = queue.heartbeat(&lease, HOLD).await;
        assert_eq!(beat.is_err(), failed == 1);
        undo(&shop, &["DELETE FROM executions", "DELETE FROM events"]).await;
    }
}

async fn a_refresh_that_dies_leaves_the_old_tables_or_the_new_ones(site: &Site) {
    let shop = site.with_shop().await;
    let (catalogs, id) = (shop.store.catalogs(), shop.source.id);
    let catalog = |from: usize| Catalog {
        tables: (from..from + 450)
            .map(|n| Table {
                id: TableId::new(None, &format!("t{n}")),
                columns: vec![],
                primary_key: vec![],
                row_estimate: None,
                byte_estimate: None,
                kind: tideway_core::schema::TableKind::Table,
            })
            .collect(),
    };
    let new = catalog(1000);
    for polls in 0.. {
        catalogs
            .start_refresh(shop.organization, id, Duration::ZERO)
            .await
            .unwrap();
        catalogs.finish_refresh(id, Ok(&catalog(0))).await.unwrap();
        let ended = cut_off(catalogs.finish_refresh(id, Ok(&new)), polls)
            .await
            .is_some();
        settle(&shop).await;
        let (old, new) = both_of(
            &shop,
            "SELECT (SELECT COUNT(*) FROM catalog_tables WHERE schema_id LIKE 't___') +
                (SELECT COUNT(*) FROM catalog_tables WHERE schema_id LIKE 't__') +
                (SELECT COUNT(*) FROM catalog_tables WHERE schema_id LIKE 't_') AS a,
               (SELECT COUNT(*) FROM catalog_tables WHERE schema_id LIKE 't____') AS b",
        )
        .await;
        assert!(
            matches!((old, new), (450, 0) | (0, 450)),
            "dead at step {polls}: {old} and {new}"
        );
        if ended {
            assert_eq!(new, 450);
            break;
        }
    }
}
