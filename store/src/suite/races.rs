//! Several stores on one database, as several processes have them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tideway_core::{Checkpoint, Kind};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Site, both};
use crate::{ExecutionDraft, ExecutionStatus};

both![
    each_execution_is_claimed_once_by_racing_processes,
    of_racing_starts_one_wins_and_the_others_are_told,
    leases_that_run_out_all_the_time_never_let_two_workers_write,
];

const LONG: Duration = Duration::from_secs(600);

async fn each_execution_is_claimed_once_by_racing_processes(site: &Site) {
    const SYNCS: usize = 40;
    let shop = site.with_shop().await;
    let draft = ExecutionDraft::manual(shop.author.clone());
    for n in 0..SYNCS {
        let sync = shop.another_sync(&format!("sync {n}")).await;
        shop.store
            .executions()
            .create(shop.organization, sync.id, &draft)
            .await
            .unwrap();
    }
    let stores = [shop.store.clone(), site.open().await, site.open().await];
    let workers = (0..6).map(|n| {
        let store = stores[n % stores.len()].clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            while let Some(claim) = store.queue().claim(&format!("w{n}"), LONG).await.unwrap() {
                assert_eq!(claim.lease.fence, 1);
                mine.push(claim.lease.execution_id);
            }
            mine
        })
    });
    let mut claimed: Vec<Uuid> = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        claimed.extend(worker.await.unwrap());
    }
    // A row that was locked by a rival is passed over, so something may be left at the end.
    while let Some(claim) = shop.store.queue().claim("last", LONG).await.unwrap() {
        claimed.push(claim.lease.execution_id);
    }
    assert_eq!(claimed.len(), SYNCS);
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), SYNCS, "each once");
}

async fn of_racing_starts_one_wins_and_the_others_are_told(site: &Site) {
    let shop = site.with_shop().await;
    let stores = [shop.store.clone(), site.open().await, site.open().await];
    let draft = ExecutionDraft::manual(shop.author.clone());
    let (organization, sync) = (shop.organization, shop.sync.id);
    for _ in 0..5 {
        let starts = (0..9).map(|n| {
            let (store, draft) = (stores[n % 3].clone(), draft.clone());
            tokio::spawn(async move { store.executions().create(organization, sync, &draft).await })
        });
        let mut won = 0;
        for start in starts.collect::<Vec<_>>() {
            match start.await.unwrap() {
                Ok(_) => won += 1,
                Err(error) => assert_eq!(error.kind, Kind::Conflict, "{error:?}"),
            }
        }
        assert_eq!(won, 1);
        let lease = shop
            .store
            .queue()
            .claim("w", LONG)
            .await
            .unwrap()
            .unwrap()
            .lease;
        shop.store
            .queue()
            .finish(&lease, ExecutionStatus::Completed, None)
            .await
            .unwrap();
    }
}

/// Workers whose leases last hardly longer than one write. Each writes the fence it holds;
/// if a write of an older fence were ever let through after one of a newer, the number
/// that is stored would fall.
async fn leases_that_run_out_all_the_time_never_let_two_workers_write(site: &Site) {
    let shop = site.with_shop().await;
    let sync = shop.sync.id;
    let draft = ExecutionDraft::manual(shop.author.clone());
    shop.store
        .executions()
        .create(shop.organization, sync, &draft)
        .await
        .unwrap();
    let stores = [shop.store.clone(), site.open().await, site.open().await];
    let outcomes = Arc::new(Mutex::new(HashMap::<&str, usize>::new()));
    let until = std::time::Instant::now() + Duration::from_secs(3);
    let workers = stores.map(|store| {
        let outcomes = outcomes.clone();
        tokio::spawn(async move {
            while std::time::Instant::now() < until {
                let hold = Duration::from_millis(3);
                let Some(claim) = store.queue().claim("w", hold).await.unwrap() else {
                    continue;
                };
                for _ in 0..4 {
                    let fence = claim.lease.fence;
                    let mark = Checkpoint {
                        finished_load: Some(format!("{fence:09}")),
                        ..Checkpoint::default()
                    };
                    let saved = store.checkpoints().save(&claim.lease, "t", &mark).await;
                    let word = match saved {
                        Ok(()) => "written",
                        Err(error) if error.kind == Kind::Fenced => "fenced",
                        Err(error) => panic!("{error:?}"),
                    };
                    *outcomes.lock().await.entry(word).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    });
    let watcher = tokio::spawn({
        let store = shop.store.clone();
        async move {
            let mut highest = String::new();
            while std::time::Instant::now() < until {
                if let Some(checkpoint) = store.checkpoints().load(sync, "t").await.unwrap() {
                    let seen = checkpoint.finished_load.unwrap();
                    assert!(seen >= highest, "{seen} was written after {highest}");
                    highest = seen;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    for worker in workers {
        worker.await.unwrap();
    }
    watcher.await.unwrap();
    let outcomes = outcomes.lock().await;
    assert!(
        outcomes["written"] > 10 && outcomes["fenced"] > 10,
        "{outcomes:?}"
    );
}
