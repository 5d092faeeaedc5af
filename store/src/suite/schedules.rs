use chrono::TimeDelta;
use tideway_core::Kind;
use uuid::Uuid;

use super::{Shop, Site, both, count, kind};
use crate::{
    ExecutionDraft, Fired, Frequency, RunAfter, Schedule, ScheduleDraft, ScheduleMode,
    SelectiveMode, Timing, Trigger, clock,
};

both![
    a_schedule_comes_back_with_all_its_parts,
    a_sync_has_one_default_schedule,
    the_default_can_move_to_another_schedule_in_one_update,
    a_changed_schedule_is_planned_once,
    an_inactive_sync_does_not_fire_and_is_planned_anew_when_it_comes_back,
    a_firing_goes_to_one_process,
    a_firing_while_the_sync_runs_is_left_out,
    the_end_of_a_sync_finds_the_schedules_that_wait_for_it,
];

async fn a_schedule_comes_back_with_all_its_parts(site: &Site) {
    let shop = site.with_shop().await;
    let draft = ScheduleDraft {
        id: None,
        default: false,
        timing: Timing {
            frequency: Frequency::Custom,
            minute: Some("*/15".to_owned()),
            hour: Some("0-6".to_owned()),
            day_of_week: Some("1,3".to_owned()),
            day_of_month: Some("*".to_owned()),
            month: Some("*".to_owned()),
            cron: Some("*/15 0-6 * * 1,3".to_owned()),
        },
        schemas: vec!["public.orders".to_owned()],
        selective_mode: SelectiveMode::NonIncrementalFields,
        resync_mode: ScheduleMode::Rebuild,
        run_after: RunAfter {
            bulk_sync_ids: vec![shop.sync.id],
            sync_ids: vec![Uuid::now_v7()],
        },
        run_after_success_only: true,
        connection_id: Some(shop.source.id),
        job_id: Some("job 7".to_owned()),
        next_fire_at: Some(clock::now()),
    };
    let (organization, sync) = (shop.organization, shop.sync.id);
    let schedules = shop.store.schedules();
    let made = schedules
        .create(organization, sync, &shop.author, &draft)
        .await
        .unwrap();
    let read = schedules.get(organization, sync, made.id).await.unwrap();
    assert_eq!(read, made);
    assert_eq!(
        (&read.timing, &read.schemas),
        (&draft.timing, &draft.schemas)
    );
    assert_eq!(
        (read.selective_mode, read.resync_mode),
        (draft.selective_mode, draft.resync_mode)
    );
    assert_eq!(
        (&read.run_after, read.run_after_success_only),
        (&draft.run_after, true)
    );
    assert_eq!(
        (read.connection_id, &read.job_id),
        (draft.connection_id, &draft.job_id)
    );
    assert_eq!(
        (read.next_fire_at, read.planned),
        (draft.next_fire_at, true)
    );
    let next = schedules.next_fire(organization, &[sync]).await.unwrap();
    assert_eq!(next.get(&sync).copied(), draft.next_fire_at);
    schedules.delete(organization, sync, made.id).await.unwrap();
    assert_eq!(count(&shop.store, "schedule_triggers").await, 0);
}

fn hourly(default: bool) -> ScheduleDraft {
    ScheduleDraft {
        default,
        ..ScheduleDraft::new(Timing::new(Frequency::Hourly))
    }
}

async fn a_sync_has_one_default_schedule(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let schedules = shop.store.schedules();
    schedules
        .create(organization, sync, &shop.author, &hourly(false))
        .await
        .unwrap();
    schedules
        .create(organization, sync, &shop.author, &hourly(true))
        .await
        .unwrap();
    let second = schedules
        .create(organization, sync, &shop.author, &hourly(true))
        .await;
    assert_eq!(kind(second), Kind::Conflict);
    let listed = schedules.list(organization, sync).await.unwrap();
    assert_eq!(
        listed.iter().map(|one| one.default).collect::<Vec<_>>(),
        [true, false]
    );
}

async fn the_default_can_move_to_another_schedule_in_one_update(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let schedules = shop.store.schedules();
    let first = schedules
        .create(organization, sync, &shop.author, &hourly(true))
        .await
        .unwrap();
    let second = schedules
        .create(organization, sync, &shop.author, &hourly(false))
        .await
        .unwrap();
    let drafts = [
        ScheduleDraft {
            id: Some(second.id),
            ..hourly(true)
        },
        ScheduleDraft {
            id: Some(first.id),
            ..hourly(false)
        },
    ];
    let draft = super::sync("renamed", &shop.source, &shop.destination);
    let syncs = shop.store.bulk_syncs();
    syncs
        .update(
            organization,
            sync,
            &shop.author,
            &draft,
            None,
            Some(&drafts),
        )
        .await
        .unwrap();
    let listed = schedules.list(organization, sync).await.unwrap();
    assert_eq!(listed[0].id, second.id);
    assert_eq!(listed[0].created_at, second.created_at);
}

async fn a_changed_schedule_is_planned_once(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let schedules = shop.store.schedules();
    let made = schedules
        .create(organization, sync, &shop.author, &hourly(false))
        .await
        .unwrap();
    let unplanned = schedules.unplanned(10).await.unwrap();
    assert_eq!(unplanned, std::slice::from_ref(&made));
    let changed = schedules
        .update(organization, sync, made.id, &shop.author, &hourly(false))
        .await
        .unwrap();
    let at = Some(clock::now() + TimeDelta::hours(1));
    assert!(
        !schedules.plan(&made, at).await.unwrap(),
        "it was changed in between"
    );
    assert!(schedules.plan(&changed, at).await.unwrap());
    assert!(!schedules.plan(&changed, at).await.unwrap());
    assert!(schedules.unplanned(10).await.unwrap().is_empty());
    assert!(
        schedules.due(10).await.unwrap().is_empty(),
        "its time has not come"
    );
}

/// A schedule whose time has come.
async fn due(shop: &Shop) -> Schedule {
    let draft = ScheduleDraft {
        next_fire_at: Some(clock::now() - TimeDelta::seconds(1)),
        ..hourly(false)
    };
    let (organization, sync) = (shop.organization, shop.sync.id);
    let made = shop
        .store
        .schedules()
        .create(organization, sync, &shop.author, &draft)
        .await;
    made.unwrap()
}

fn firing(schedule: &Schedule) -> ExecutionDraft {
    ExecutionDraft {
        trigger: Trigger::Scheduled,
        schedule_id: Some(schedule.id),
        ..ExecutionDraft::manual(crate::Author::system())
    }
}

async fn an_inactive_sync_does_not_fire_and_is_planned_anew_when_it_comes_back(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let schedule = due(&shop).await;
    let schedules = shop.store.schedules();
    assert_eq!(schedules.due(10).await.unwrap().len(), 1);
    let syncs = shop.store.bulk_syncs();
    syncs
        .set_active(organization, sync, &shop.author, false)
        .await
        .unwrap();
    assert!(schedules.due(10).await.unwrap().is_empty());
    assert!(
        schedules
            .next_fire(organization, &[sync])
            .await
            .unwrap()
            .is_empty()
    );
    let late = schedules
        .fire(&schedule, None, &firing(&schedule))
        .await
        .unwrap();
    assert_eq!(late, Fired::Lost);
    syncs
        .set_active(organization, sync, &shop.author, true)
        .await
        .unwrap();
    assert!(
        schedules.due(10).await.unwrap().is_empty(),
        "what was missed is not made up for"
    );
    assert_eq!(schedules.unplanned(10).await.unwrap().len(), 1);
}

async fn a_firing_goes_to_one_process(site: &Site) {
    let shop = site.with_shop().await;
    let schedule = due(&shop).await;
    let stores = [shop.store.clone(), site.open().await, site.open().await];
    let next = Some(clock::now() + TimeDelta::hours(1));
    let fires = stores.iter().map(|store| async {
        store
            .schedules()
            .fire(&schedule, next, &firing(&schedule))
            .await
            .unwrap()
    });
    let fired = futures::future::join_all(fires).await;
    assert_eq!(
        fired
            .iter()
            .filter(|one| matches!(one, Fired::Started(_)))
            .count(),
        1
    );
    assert_eq!(fired.iter().filter(|one| **one == Fired::Lost).count(), 2);
    assert_eq!(count(&shop.store, "executions").await, 1);
    let (organization, sync) = (shop.organization, shop.sync.id);
    let after = shop
        .store
        .schedules()
        .get(organization, sync, schedule.id)
        .await
        .unwrap();
    assert_eq!(after.next_fire_at, next);
    assert!(after.last_fired_at.is_some());
}

async fn a_firing_while_the_sync_runs_is_left_out(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let draft = ExecutionDraft::manual(shop.author.clone());
    shop.store
        .executions()
        .create(organization, sync, &draft)
        .await
        .unwrap();
    let schedule = due(&shop).await;
    let schedules = shop.store.schedules();
    let next = Some(clock::now() + TimeDelta::hours(1));
    let fired = schedules
        .fire(&schedule, next, &firing(&schedule))
        .await
        .unwrap();
    assert_eq!(fired, Fired::Overlap);
    let after = schedules
        .get(organization, sync, schedule.id)
        .await
        .unwrap();
    assert_eq!(after.next_fire_at, next, "it does not fire again at once");
}

async fn the_end_of_a_sync_finds_the_schedules_that_wait_for_it(site: &Site) {
    let shop = site.with_shop().await;
    let follower = shop.another_sync("follower").await;
    let mut draft = ScheduleDraft::new(Timing::new(Frequency::RunAfter));
    draft.run_after.bulk_sync_ids = vec![shop.sync.id, shop.sync.id];
    let schedules = shop.store.schedules();
    let (organization, id) = (shop.organization, follower.id);
    let made = schedules
        .create(organization, id, &shop.author, &draft)
        .await
        .unwrap();
    let found = schedules.after(shop.sync.id).await.unwrap();
    assert_eq!(
        found.iter().map(|one| one.id).collect::<Vec<_>>(),
        [made.id]
    );
    assert!(schedules.after(follower.id).await.unwrap().is_empty());
    draft.run_after.bulk_sync_ids.clear();
    schedules
        .update(organization, id, made.id, &shop.author, &draft)
        .await
        .unwrap();
    assert!(schedules.after(shop.sync.id).await.unwrap().is_empty());
}
