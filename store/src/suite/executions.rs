use std::time::Duration;

use tideway_core::{Kind, destination::Disposition};
use uuid::Uuid;

use super::{Shop, Site, both, kind};
use crate::{
    Cancel, Event, EventFilter, Execution, ExecutionDraft, ExecutionFilter, ExecutionStatus,
    FetchMode, Frequency, Lease, PageRequest, ResyncMode, ScheduleDraft, SchemaProgress,
    SelectiveMode, Timing, Trigger,
};

both![
    an_execution_comes_back_with_all_that_was_asked,
    a_second_start_is_refused_until_the_first_has_ended,
    one_that_nobody_has_claimed_is_canceled_at_once,
    one_that_runs_is_told_to_stop_by_its_heartbeat,
    one_that_is_asked_to_stop_and_loses_its_worker_is_stopped_by_the_next,
    a_single_schema_can_be_canceled,
    canceling_what_has_ended_changes_nothing,
    the_latest_executions_of_syncs_are_found_together,
    listings_can_be_turned_around_and_narrowed_to_what_has_ended,
    every_change_of_state_is_an_event,
    what_follows_an_execution_is_started_once,
];

const LONG: Duration = Duration::from_secs(600);

impl Shop {
    fn draft(&self) -> ExecutionDraft {
        ExecutionDraft::manual(self.author.clone())
    }

    async fn start(&self) -> Execution {
        let executions = self.store.executions();
        executions
            .create(self.organization, self.sync.id, &self.draft())
            .await
            .unwrap()
    }

    async fn claim(&self) -> Lease {
        self.store
            .queue()
            .claim("worker", LONG)
            .await
            .unwrap()
            .unwrap()
            .lease
    }

    async fn run(&self, end: ExecutionStatus, message: Option<&str>) -> Execution {
        self.start().await;
        let lease = self.claim().await;
        self.store
            .queue()
            .finish(&lease, end, message)
            .await
            .unwrap()
    }
}

async fn an_execution_comes_back_with_all_that_was_asked(site: &Site) {
    let shop = site.with_shop().await;
    let draft = ExecutionDraft {
        trigger: Trigger::RunAfter,
        schedule_id: Some(Uuid::now_v7()),
        resync_mode: Some(ResyncMode::Resync),
        fetch_mode: FetchMode::Incremental,
        selective_mode: SelectiveMode::IncrementalFields,
        test: true,
        only_schemas: vec!["public.orders".to_owned()],
        created_by: shop.author.clone(),
    };
    let executions = shop.store.executions();
    let made = executions
        .create(shop.organization, shop.sync.id, &draft)
        .await
        .unwrap();
    assert_eq!(
        (made.trigger, made.schedule_id),
        (draft.trigger, draft.schedule_id)
    );
    assert_eq!(
        (made.resync_mode, made.fetch_mode),
        (draft.resync_mode, draft.fetch_mode)
    );
    assert_eq!(
        (made.selective_mode, made.test),
        (draft.selective_mode, true)
    );
    assert_eq!(
        (&made.only_schemas, &made.created_by),
        (&draft.only_schemas, &shop.author)
    );
    assert!(made.partial() && made.resync());
    assert_eq!(made.output_disposition(), Disposition::Truncate);
    assert_eq!(made.status, ExecutionStatus::Created);
    let read = executions
        .get(shop.organization, shop.sync.id, made.id)
        .await
        .unwrap();
    assert_eq!(read, made);
    let elsewhere = executions
        .get(shop.organization, Uuid::now_v7(), made.id)
        .await;
    assert_eq!(kind(elsewhere), Kind::Missing);
}

async fn a_second_start_is_refused_until_the_first_has_ended(site: &Site) {
    let shop = site.with_shop().await;
    let other = site.open().await;
    let again = async || {
        let draft = shop.draft();
        other
            .executions()
            .create(shop.organization, shop.sync.id, &draft)
            .await
    };
    shop.start().await;
    assert_eq!(kind(again().await), Kind::Conflict);
    let lease = shop.claim().await;
    assert_eq!(kind(again().await), Kind::Conflict);
    shop.store
        .queue()
        .finish(&lease, ExecutionStatus::Failed, None)
        .await
        .unwrap();
    again().await.unwrap();
}

async fn one_that_nobody_has_claimed_is_canceled_at_once(site: &Site) {
    let shop = site.with_shop().await;
    shop.start().await;
    let executions = shop.store.executions();
    let canceled = executions
        .cancel_sync(shop.organization, shop.sync.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(canceled.status, ExecutionStatus::Canceled);
    assert!(canceled.completed_at.is_some());
    assert!(
        shop.store
            .queue()
            .claim("worker", LONG)
            .await
            .unwrap()
            .is_none()
    );
    let none = executions
        .cancel_sync(shop.organization, shop.sync.id)
        .await
        .unwrap();
    assert_eq!(none, None);
    let unknown = executions
        .cancel_sync(shop.organization, Uuid::now_v7())
        .await;
    assert_eq!(kind(unknown), Kind::Missing);
}

async fn one_that_runs_is_told_to_stop_by_its_heartbeat(site: &Site) {
    let shop = site.with_shop().await;
    let id = shop.start().await.id;
    let lease = shop.claim().await;
    let other = site.open().await;
    let asked = other
        .executions()
        .cancel(shop.organization, shop.sync.id, id)
        .await
        .unwrap();
    assert_eq!(
        (asked.status, asked.completed_at),
        (ExecutionStatus::Canceling, None)
    );
    let queue = shop.store.queue();
    assert!(queue.heartbeat(&lease, LONG).await.unwrap().execution);
    let ended = queue
        .finish(&lease, ExecutionStatus::Canceled, None)
        .await
        .unwrap();
    assert_eq!(ended.status, ExecutionStatus::Canceled);
}

async fn one_that_is_asked_to_stop_and_loses_its_worker_is_stopped_by_the_next(site: &Site) {
    let shop = site.with_shop().await;
    let id = shop.start().await.id;
    let queue = shop.store.queue();
    queue.claim("dies", Duration::ZERO).await.unwrap().unwrap();
    let executions = shop.store.executions();
    executions
        .cancel(shop.organization, shop.sync.id, id)
        .await
        .unwrap();
    let claim = queue.claim("cleans up", LONG).await.unwrap().unwrap();
    assert_eq!(claim.execution.status, ExecutionStatus::Canceling);
    assert!(claim.execution.cancel.execution);
}

async fn a_single_schema_can_be_canceled(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let executions = shop.store.executions();
    let idle = executions
        .cancel_schema(organization, sync, "public.orders")
        .await
        .unwrap();
    assert_eq!(idle, None);
    shop.start().await;
    executions
        .cancel_schema(organization, sync, "public.orders")
        .await
        .unwrap()
        .unwrap();
    let lease = shop.claim().await;
    for _ in 0..2 {
        executions
            .cancel_schema(organization, sync, "public.items")
            .await
            .unwrap()
            .unwrap();
    }
    let told = shop.store.queue().heartbeat(&lease, LONG).await.unwrap();
    let schemas = vec!["public.orders".to_owned(), "public.items".to_owned()];
    assert_eq!(
        told,
        Cancel {
            execution: false,
            schemas
        }
    );
}

async fn canceling_what_has_ended_changes_nothing(site: &Site) {
    let shop = site.with_shop().await;
    let ended = shop.run(ExecutionStatus::Completed, None).await;
    let executions = shop.store.executions();
    let after = executions
        .cancel(shop.organization, shop.sync.id, ended.id)
        .await
        .unwrap();
    assert_eq!(after, ended);
}

async fn the_latest_executions_of_syncs_are_found_together(site: &Site) {
    let shop = site.with_shop().await;
    let never = shop.another_sync("never ran").await;
    shop.run(ExecutionStatus::Completed, None).await;
    let last = shop.run(ExecutionStatus::Failed, None).await;
    let current = shop.start().await;
    let lease = shop.claim().await;
    let progress = SchemaProgress::new("public.orders", "orders", ExecutionStatus::Running);
    shop.store
        .queue()
        .save_schema(&lease, &progress)
        .await
        .unwrap();
    let ids = [shop.sync.id, never.id];
    let latest = shop
        .store
        .executions()
        .latest(shop.organization, &ids)
        .await
        .unwrap();
    assert_eq!(latest.len(), 1);
    let of_sync = &latest[&shop.sync.id];
    assert_eq!(of_sync.last.as_ref(), Some(&last));
    let running = of_sync.current.as_ref().unwrap();
    assert_eq!((running.id, running.schemas.len()), (current.id, 1));
    assert!(
        shop.store
            .executions()
            .latest(Uuid::now_v7(), &ids)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn listings_can_be_turned_around_and_narrowed_to_what_has_ended(site: &Site) {
    let shop = site.with_shop().await;
    let first = shop.run(ExecutionStatus::Completed, None).await.id;
    let second = shop.run(ExecutionStatus::Failed, None).await.id;
    let third = shop.start().await.id;
    let list = async |only_terminal, ascending| {
        let filter = ExecutionFilter {
            only_terminal,
            ascending,
        };
        let page = PageRequest::new(10, None);
        let executions = shop.store.executions();
        let page = executions
            .list(shop.organization, shop.sync.id, filter, &page)
            .await
            .unwrap();
        page.items
            .iter()
            .map(|execution| execution.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(false, false).await, [third, second, first]);
    assert_eq!(list(false, true).await, [first, second, third]);
    assert_eq!(list(true, false).await, [second, first]);
}

async fn events(shop: &Shop) -> Vec<Event> {
    let filter = EventFilter {
        kind: None,
        starting_after: None,
        ending_before: None,
        limit: 100,
    };
    let mut events = shop
        .store
        .events()
        .list(shop.organization, &filter)
        .await
        .unwrap();
    events.reverse();
    events
}

async fn every_change_of_state_is_an_event(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, sync) = (shop.organization, shop.sync.id);
    let schedule = ScheduleDraft::new(Timing::new(Frequency::Daily));
    let schedules = shop.store.schedules();
    let schedule = schedules
        .create(organization, sync, &shop.author, &schedule)
        .await
        .unwrap();
    shop.run(ExecutionStatus::Completed, None).await;
    shop.run(ExecutionStatus::Errors, Some("2 tables failed"))
        .await;
    shop.run(ExecutionStatus::Canceled, None).await;
    let draft = ExecutionDraft {
        trigger: Trigger::Scheduled,
        schedule_id: Some(schedule.id),
        ..shop.draft()
    };
    shop.store
        .executions()
        .create(organization, sync, &draft)
        .await
        .unwrap();
    // Claimed twice, but it began to run once.
    shop.store
        .queue()
        .claim("dies", Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    let lease = shop.claim().await;
    let queue = shop.store.queue();
    queue
        .finish(&lease, ExecutionStatus::Failed, Some("no such host"))
        .await
        .unwrap();
    shop.start().await;
    shop.store
        .executions()
        .cancel_sync(organization, sync)
        .await
        .unwrap();

    let events = events(&shop).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    let expected = [
        "bulk_sync.running",
        "bulk_sync.completed",
        "bulk_sync.running",
        "bulk_sync.completed_with_error",
        "bulk_sync.running",
        "bulk_sync.canceled",
        "bulk_sync.running",
        "bulk_sync.failed",
        "bulk_sync.canceled",
    ];
    assert_eq!(kinds, expected);
    assert!(kinds.iter().all(|kind| crate::EVENT_KINDS.contains(kind)));
    let failed = &events[7].payload;
    assert_eq!(failed["sync_id"], sync.to_string());
    assert_eq!(failed["sync_name"], "shop to warehouse");
    assert_eq!(failed["organization_id"], organization.to_string());
    assert_eq!(failed["source_connection_id"], shop.source.id.to_string());
    assert_eq!(
        failed["destination_connection_id"],
        shop.destination.id.to_string()
    );
    assert_eq!(failed["execution_id"], lease.execution_id.to_string());
    assert_eq!(failed["error"], "no such host");
    assert_eq!(failed["trigger_source"], "scheduled");
    assert_eq!(failed["schedule"]["id"], schedule.id.to_string());
    assert_eq!(failed["schedule"]["frequency"], "daily");
    assert_eq!(events[3].payload["error"], "2 tables failed");
}

async fn what_follows_an_execution_is_started_once(site: &Site) {
    let shop = site.with_shop().await;
    let follower = shop.another_sync("follower").await;
    let ended = shop.run(ExecutionStatus::Completed, None).await;
    let running = shop.start().await;
    let stores = [shop.store.clone(), site.open().await];
    let found = shop.store.executions().unfollowed(10).await.unwrap();
    assert_eq!(
        found.iter().map(|one| one.id).collect::<Vec<_>>(),
        [ended.id]
    );
    let draft = ExecutionDraft {
        trigger: Trigger::RunAfter,
        ..shop.draft()
    };
    let next = [
        (shop.organization, follower.id, draft.clone()),
        (shop.organization, shop.sync.id, draft),
    ];
    let (here, there) = tokio::join!(
        async {
            stores[0]
                .executions()
                .follow(ended.id, &next)
                .await
                .unwrap()
        },
        async {
            stores[1]
                .executions()
                .follow(ended.id, &next)
                .await
                .unwrap()
        },
    );
    assert_eq!(
        here.len() + there.len(),
        1,
        "one process, and not the sync that runs"
    );
    assert!(
        shop.store
            .executions()
            .unfollowed(10)
            .await
            .unwrap()
            .is_empty()
    );
    let ids = [follower.id, shop.sync.id];
    let executions = shop.store.executions();
    let latest = executions.latest(shop.organization, &ids).await.unwrap();
    assert_eq!(
        latest[&follower.id].current.as_ref().unwrap().trigger,
        Trigger::RunAfter
    );
    assert_eq!(
        latest[&shop.sync.id].current.as_ref().unwrap().id,
        running.id
    );
}
