use std::{collections::BTreeSet, path::Path};

use tideway_core::Kind;

use super::{Site, both, kind, tamper};
use crate::{Keyring, Store};

both![
    processes_that_start_together_migrate_once,
    a_database_of_a_newer_release_is_left_alone,
    a_migration_that_was_changed_after_its_release_is_noticed,
    a_store_answers_until_it_is_closed,
];

async fn processes_that_start_together_migrate_once(site: &Site) {
    let stores = futures::future::join_all((0..5).map(|_| site.open())).await;
    let names = async |store: &Store| {
        let rows = store
            .db()
            .all("SELECT name FROM migrations ORDER BY name", vec![])
            .await;
        rows.unwrap()
            .iter()
            .map(|row| row.text("name").unwrap())
            .collect::<Vec<_>>()
    };
    let applied = names(&stores[0]).await;
    assert!(applied[0].starts_with("0001_") && applied.len() > 3);
    assert_eq!(names(&site.open().await).await, applied);
}

async fn a_database_of_a_newer_release_is_left_alone(site: &Site) {
    let store = site.open().await;
    tamper(
        &store,
        "INSERT INTO migrations VALUES ('9999_from_the_future', 'x', 0)",
    )
    .await;
    let opened = Store::open(&site.url, site.keyring.clone()).await;
    assert_eq!(kind(opened.map(drop)), Kind::Config);
}

async fn a_migration_that_was_changed_after_its_release_is_noticed(site: &Site) {
    let store = site.open().await;
    tamper(
        &store,
        "UPDATE migrations SET checksum = 'x' WHERE name LIKE '0001%'",
    )
    .await;
    let opened = Store::open(&site.url, site.keyring.clone()).await;
    assert_eq!(kind(opened.map(drop)), Kind::Bug);
}

async fn a_store_answers_until_it_is_closed(site: &Site) {
    let store = site.open().await;
    store.ready().await.unwrap();
    store.close().await;
    assert_eq!(kind(store.ready().await), Kind::Unavailable);
}

#[test]
fn both_folders_hold_the_same_migrations_and_no_other_files() {
    let folder = |name: &str| -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("migrations")
            .join(name);
        let files = std::fs::read_dir(path).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let listed: BTreeSet<String> = crate::migrate::names()
        .map(|name| format!("{name}.sql"))
        .collect();
    assert_eq!(folder("sqlite"), listed);
    assert_eq!(folder("postgres"), listed);
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_blamed_on_its_setting() {
    for (url, expected) in [
        ("mysql://localhost/x", Kind::Config),
        ("sqlite://", Kind::Config),
        ("sqlite:///no/such/folder/tideway.db", Kind::Missing),
        ("postgresql://nobody:x@127.0.0.1:1/x", Kind::Unavailable),
    ] {
        let opened = Store::open(url, Keyring::generate().unwrap()).await;
        let error = opened.map(drop).unwrap_err();
        assert_eq!(error.kind, expected, "{url}");
        assert_eq!(error.blamed_field(), Some("database_url"), "{url}");
        assert!(!format!("{error:?}").contains("nobody:x"));
    }
}
