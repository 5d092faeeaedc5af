use chrono::DateTime;
use serde_json::json;
use tideway_core::{Kind, WriteMode};
use uuid::Uuid;

use super::{Shop, Site, both, kind, sync};
use crate::{
    ErrorHandling, FieldSelection, Frequency, NormalizeNames, PageRequest, RowFilter,
    ScheduleDraft, SyncFilter, SyncSchema, SyncSettings, Timing,
};

both![
    a_sync_comes_back_with_all_its_settings,
    an_update_leaves_schemas_and_schedules_alone_unless_given,
    a_sync_between_unknown_connections_is_refused_by_field,
    a_failed_update_changes_nothing,
    schemas_are_put_one_by_one_or_replaced_as_a_whole,
    a_schema_comes_back_with_all_its_options,
    syncs_are_listed_by_activity_and_connection,
    error_handling_is_kept_beside_the_settings,
    a_sync_cannot_use_another_organizations_connection,
];

async fn a_sync_comes_back_with_all_its_settings(site: &Site) {
    let shop = site.with_shop().await;
    let mut draft = sync("everything", &shop.source, &shop.destination);
    draft.mode = WriteMode::Append;
    draft.active = false;
    draft.settings = SyncSettings {
        source_configuration: json!({ "b": 1, "a": [true] }),
        destination_configuration: json!({ "schema": "raw", "advanced": { "hard_deletes": true } }),
        automatically_add_new_fields: crate::Discover::OnlyIncremental,
        automatically_add_new_objects: crate::Discover::All,
        normalize_names: NormalizeNames::Legacy,
        data_cutoff_timestamp: DateTime::from_timestamp_micros(1_700_000_000_123_456),
        disable_record_timestamps: true,
        concurrency_limit: Some(3),
        resync_concurrency_limit: Some(1),
        policies: vec!["p".to_owned()],
    };
    let syncs = shop.store.bulk_syncs();
    let made = syncs
        .create(shop.organization, &shop.author, &draft, &[], &[])
        .await
        .unwrap();
    assert_eq!(made.settings, draft.settings);
    assert_eq!((made.mode, made.active), (WriteMode::Append, false));
    assert_eq!(made.created_by, shop.author);
    assert_eq!(syncs.get(shop.organization, made.id).await.unwrap(), made);
}

async fn an_update_leaves_schemas_and_schedules_alone_unless_given(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, id) = (shop.organization, shop.sync.id);
    let syncs = shop.store.bulk_syncs();
    let schedule = ScheduleDraft::new(Timing::new(Frequency::Hourly));
    shop.store
        .schedules()
        .create(organization, id, &shop.author, &schedule)
        .await
        .unwrap();
    let draft = sync("renamed", &shop.source, &shop.destination);
    let changed = syncs
        .update(organization, id, &shop.author, &draft, None, None)
        .await
        .unwrap();
    assert_eq!(changed.name, "renamed");
    assert_eq!(
        shop.store
            .sync_schemas()
            .list(organization, id, None)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        shop.store
            .schedules()
            .list(organization, id)
            .await
            .unwrap()
            .len(),
        1
    );

    let only = [SyncSchema::new("public.orders")];
    syncs
        .update(
            organization,
            id,
            &shop.author,
            &draft,
            Some(&only),
            Some(&[]),
        )
        .await
        .unwrap();
    assert_eq!(
        shop.store
            .sync_schemas()
            .list(organization, id, None)
            .await
            .unwrap(),
        only
    );
    assert!(
        shop.store
            .schedules()
            .list(organization, id)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_sync_between_unknown_connections_is_refused_by_field(site: &Site) {
    let shop = site.with_shop().await;
    let mut draft = sync("nowhere", &shop.source, &shop.destination);
    draft.destination_connection_id = Uuid::now_v7();
    let syncs = shop.store.bulk_syncs();
    let made = syncs
        .create(shop.organization, &shop.author, &draft, &[], &[])
        .await;
    let error = made.unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    assert_eq!(error.blamed_field(), Some("destination_connection_id"));
}

async fn a_failed_update_changes_nothing(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, id) = (shop.organization, shop.sync.id);
    let draft = sync("renamed", &shop.source, &shop.destination);
    let mut unknown = ScheduleDraft::new(Timing::new(Frequency::Daily));
    unknown.id = Some(Uuid::now_v7());
    let syncs = shop.store.bulk_syncs();
    let changed = syncs
        .update(
            organization,
            id,
            &shop.author,
            &draft,
            Some(&[]),
            Some(&[unknown]),
        )
        .await;
    assert_eq!(kind(changed), Kind::Missing);
    assert_eq!(syncs.get(organization, id).await.unwrap(), shop.sync);
    assert_eq!(
        shop.store
            .sync_schemas()
            .list(organization, id, None)
            .await
            .unwrap()
            .len(),
        2
    );
}

async fn schemas_are_put_one_by_one_or_replaced_as_a_whole(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, id) = (shop.organization, shop.sync.id);
    let schemas = shop.store.sync_schemas();
    let mut items = SyncSchema::new("public.items");
    items.enabled = false;
    let twice = [
        SyncSchema::new("public.items"),
        items.clone(),
        SyncSchema::new("public.new"),
    ];
    schemas
        .put(organization, id, &shop.author, &twice)
        .await
        .unwrap();
    let ids = |list: Vec<SyncSchema>| -> Vec<String> {
        list.into_iter().map(|schema| schema.schema_id).collect()
    };
    let all = schemas.list(organization, id, None).await.unwrap();
    assert_eq!(ids(all), ["public.items", "public.new", "public.orders"]);
    let disabled = schemas.list(organization, id, Some(false)).await.unwrap();
    assert_eq!(disabled, [items], "of two mentions the last one counts");

    let many: Vec<_> = (0..250)
        .map(|n| SyncSchema::new(&format!("public.t{n:03}")))
        .collect();
    schemas
        .replace(organization, id, &shop.author, &many)
        .await
        .unwrap();
    assert_eq!(schemas.list(organization, id, None).await.unwrap(), many);
}

async fn a_schema_comes_back_with_all_its_options(site: &Site) {
    let shop = site.with_shop().await;
    let full = SyncSchema {
        schema_id: "public.\u{fc}ber \"x\".y".to_owned(),
        enabled: true,
        user_output_name: Some("mine".to_owned()),
        output_name: Some("MINE".to_owned()),
        tracking_field: Some("updated_at".to_owned()),
        partition_key: Some("day".to_owned()),
        data_cutoff_timestamp: DateTime::from_timestamp_micros(1_600_000_000_000_001),
        disable_data_cutoff: true,
        history_enabled: true,
        fields: Some(vec![FieldSelection {
            id: "email".to_owned(),
            enabled: true,
            obfuscated: true,
            user_output_name: Some("hash".to_owned()),
            output_name: None,
        }]),
        filters: vec![RowFilter {
            field_id: Some("total".to_owned()),
            function: "GreaterThan".to_owned(),
            value: Some(json!(1.5)),
        }],
    };
    let schemas = shop.store.sync_schemas();
    let (organization, id) = (shop.organization, shop.sync.id);
    schemas
        .put(organization, id, &shop.author, std::slice::from_ref(&full))
        .await
        .unwrap();
    assert_eq!(
        schemas
            .get(organization, id, &full.schema_id)
            .await
            .unwrap(),
        full
    );
    let touched = shop.store.bulk_syncs().get(organization, id).await.unwrap();
    assert!(touched.updated_at > shop.sync.updated_at);
}

async fn syncs_are_listed_by_activity_and_connection(site: &Site) {
    let shop = site.with_shop().await;
    let idle = shop.another_sync("idle").await;
    let syncs = shop.store.bulk_syncs();
    syncs
        .set_active(shop.organization, idle.id, &shop.author, false)
        .await
        .unwrap();
    let page = PageRequest::new(50, None);
    let list = async |filter: SyncFilter| {
        let page = syncs.list(shop.organization, filter, &page).await.unwrap();
        let names = syncs.names(shop.organization, filter).await.unwrap();
        assert_eq!(names.len(), page.items.len());
        page.items
            .into_iter()
            .map(|sync| sync.id)
            .collect::<Vec<_>>()
    };
    let all = SyncFilter::default();
    assert_eq!(
        list(all).await,
        [idle.id, shop.sync.id],
        "the newest change first"
    );
    assert_eq!(
        list(SyncFilter {
            active: Some(true),
            ..all
        })
        .await,
        [shop.sync.id]
    );
    assert_eq!(
        list(SyncFilter {
            active: Some(false),
            ..all
        })
        .await,
        [idle.id]
    );
    let by = |id| SyncFilter {
        connection: Some(id),
        ..all
    };
    assert_eq!(list(by(shop.source.id)).await.len(), 2);
    assert_eq!(list(by(Uuid::now_v7())).await.len(), 0);
}

async fn error_handling_is_kept_beside_the_settings(site: &Site) {
    let shop = site.with_shop().await;
    let (organization, id) = (shop.organization, shop.sync.id);
    assert_eq!(shop.sync.error_handling, ErrorHandling::default());
    let handling = ErrorHandling {
        subscribers: vec!["ops@example.com".to_owned()],
        ingestion_failure_threshold: Some(900),
    };
    let syncs = shop.store.bulk_syncs();
    syncs
        .set_error_handling(organization, id, &handling)
        .await
        .unwrap();
    let draft = sync("renamed", &shop.source, &shop.destination);
    let changed = syncs
        .update(organization, id, &shop.author, &draft, None, None)
        .await
        .unwrap();
    assert_eq!(changed.error_handling, handling);
}

async fn a_sync_cannot_use_another_organizations_connection(site: &Site) {
    let ours = site.with_shop().await;
    let other = ours.store.organizations().create("Other").await.unwrap();
    let theirs = Shop::within(ours.store.clone(), other.id).await;
    let draft = sync("mixed", &theirs.source, &ours.destination);
    let syncs = ours.store.bulk_syncs();
    let made = syncs
        .create(theirs.organization, &theirs.author, &draft, &[], &[])
        .await;
    assert_eq!(
        made.unwrap_err().blamed_field(),
        Some("destination_connection_id")
    );
    let own = theirs.sync.id;
    let changed = syncs
        .update(theirs.organization, own, &theirs.author, &draft, None, None)
        .await;
    assert_eq!(kind(changed), Kind::Missing);
    // A schedule id of another sync is not taken over either.
    let timing = ScheduleDraft::new(Timing::new(Frequency::Daily));
    let schedules = ours.store.schedules();
    let schedule = schedules
        .create(ours.organization, ours.sync.id, &ours.author, &timing)
        .await
        .unwrap();
    let stolen = ScheduleDraft {
        id: Some(schedule.id),
        ..timing
    };
    let draft = sync("own", &theirs.source, &theirs.destination);
    let organization = theirs.organization;
    let changed = syncs
        .update(
            organization,
            own,
            &theirs.author,
            &draft,
            None,
            Some(&[stolen]),
        )
        .await;
    assert_eq!(kind(changed), Kind::Missing);
    assert_eq!(schedule.sync_id, ours.sync.id);
    let unknown = Uuid::now_v7();
    assert_eq!(kind(syncs.get(unknown, own).await), Kind::Missing);
}
