use std::time::Duration;

use serde_json::json;
use tideway_core::{
    Catalog, Column, Error, Kind, LogicalType, TableId,
    schema::{Table, TableKind},
};

use super::{Site, both, kind};
use crate::{KeyField, UserField};

both![
    a_catalog_comes_back_as_it_was_discovered,
    a_failed_refresh_keeps_the_tables_and_says_why,
    only_one_refresh_runs_and_a_dead_one_makes_way,
    key_overrides_are_set_and_reset_per_table,
    user_fields_are_added_changed_and_deleted,
];

fn table(name: &str) -> Table {
    Table {
        id: TableId::new(Some("public"), name),
        columns: vec![
            Column::new("id", LogicalType::Int64),
            Column::new("note", LogicalType::Text),
        ],
        primary_key: vec!["id".to_owned()],
        row_estimate: Some(7),
        byte_estimate: None,
        kind: TableKind::Table,
    }
}

async fn a_catalog_comes_back_as_it_was_discovered(site: &Site) {
    let shop = site.with_shop().await;
    let (catalogs, organization, id) = (shop.store.catalogs(), shop.organization, shop.source.id);
    assert!(catalogs.get(organization, id).await.unwrap().is_none());
    let mut tables: Vec<_> = (0..450).map(|n| table(&format!("t{n:03}"))).collect();
    tables.push(table("with \"quotes\" and \u{fc}mlaut"));
    let catalog = Catalog { tables };
    let hold = Duration::from_secs(60);
    assert!(
        catalogs
            .start_refresh(organization, id, hold)
            .await
            .unwrap()
    );
    assert!(catalogs.state(organization, id).await.unwrap().refreshing);
    catalogs.finish_refresh(id, Ok(&catalog)).await.unwrap();
    let state = catalogs.state(organization, id).await.unwrap();
    assert!(!state.refreshing && state.has_catalog && state.refresh_error.is_none());
    assert_eq!(
        catalogs
            .get(organization, id)
            .await
            .unwrap()
            .unwrap()
            .tables,
        catalog.tables
    );
    let one = catalogs
        .table(organization, id, "public.t007")
        .await
        .unwrap();
    assert_eq!(one, Some(table("t007")));
    assert_eq!(
        catalogs
            .table(organization, id, "public.nope")
            .await
            .unwrap(),
        None
    );
}

async fn a_failed_refresh_keeps_the_tables_and_says_why(site: &Site) {
    let shop = site.with_shop().await;
    let (catalogs, organization, id) = (shop.store.catalogs(), shop.organization, shop.source.id);
    let catalog = Catalog {
        tables: vec![table("orders")],
    };
    let hold = Duration::from_secs(60);
    catalogs
        .start_refresh(organization, id, hold)
        .await
        .unwrap();
    catalogs.finish_refresh(id, Ok(&catalog)).await.unwrap();
    catalogs
        .start_refresh(organization, id, hold)
        .await
        .unwrap();
    catalogs
        .finish_refresh(id, Err(&Error::unavailable("the host is gone")))
        .await
        .unwrap();
    let state = catalogs.state(organization, id).await.unwrap();
    assert_eq!(state.refresh_error.as_deref(), Some("the host is gone"));
    assert!(state.has_catalog && !state.refreshing);
    assert_eq!(
        catalogs
            .get(organization, id)
            .await
            .unwrap()
            .unwrap()
            .tables
            .len(),
        1
    );
}

async fn only_one_refresh_runs_and_a_dead_one_makes_way(site: &Site) {
    let shop = site.with_shop().await;
    let other = site.open().await;
    let (organization, id) = (shop.organization, shop.source.id);
    let start = |store: &crate::Store, hold| {
        let store = store.clone();
        async move {
            store
                .catalogs()
                .start_refresh(organization, id, hold)
                .await
                .unwrap()
        }
    };
    let long = Duration::from_secs(60);
    let (here, there) = tokio::join!(start(&shop.store, long), start(&other, long));
    assert!(here != there, "one of them");
    shop.store
        .catalogs()
        .finish_refresh(id, Ok(&Catalog::default()))
        .await
        .unwrap();
    assert!(start(&other, Duration::ZERO).await);
    assert!(
        start(&shop.store, long).await,
        "the one before has shown no life in its time"
    );
}

async fn key_overrides_are_set_and_reset_per_table(site: &Site) {
    let shop = site.with_shop().await;
    let (catalogs, organization, id) = (shop.store.catalogs(), shop.organization, shop.source.id);
    let key = |name: &str| KeyField {
        field_id: name.to_owned(),
        is_primary_key: true,
    };
    catalogs
        .set_key_override(organization, id, "public.a", &[key("x")])
        .await
        .unwrap();
    catalogs
        .set_key_override(organization, id, "public.b", &[key("y")])
        .await
        .unwrap();
    catalogs
        .set_key_override(organization, id, "public.a", &[key("x"), key("z")])
        .await
        .unwrap();
    let overrides = catalogs.key_overrides(organization, id).await.unwrap();
    assert_eq!(overrides["public.a"], [key("x"), key("z")]);
    catalogs
        .reset_key_override(organization, id, "public.a")
        .await
        .unwrap();
    let left = catalogs.key_overrides(organization, id).await.unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["public.b"]);
}

async fn user_fields_are_added_changed_and_deleted(site: &Site) {
    let shop = site.with_shop().await;
    let (catalogs, organization, id) = (shop.store.catalogs(), shop.organization, shop.source.id);
    let mut field = UserField::new("total", "Total", "number");
    field.definition = Some(json!(["array", "string"]));
    field.example = Some(json!(null));
    let other = UserField::new("note", "Note", "string");
    let fields = [field.clone(), other];
    catalogs
        .upsert_user_fields(organization, id, "public.orders", &fields)
        .await
        .unwrap();
    field.label = "Grand total".to_owned();
    catalogs
        .upsert_user_fields(
            organization,
            id,
            "public.orders",
            std::slice::from_ref(&field),
        )
        .await
        .unwrap();
    let stored = catalogs.user_fields(organization, id).await.unwrap();
    let [note, total] = stored["public.orders"].as_slice() else {
        panic!("two fields, by id");
    };
    assert_eq!(note.field_id, "note");
    assert_eq!(
        (total.label.as_str(), &total.definition),
        ("Grand total", &field.definition)
    );
    assert_eq!(total.example, Some(json!(null)));
    assert!(total.updated_at > total.created_at);
    let delete = catalogs.delete_user_field(organization, id, "public.orders", "total");
    delete.await.unwrap();
    let delete = catalogs.delete_user_field(organization, id, "public.orders", "total");
    assert_eq!(kind(delete.await), Kind::Missing);
}
