//! Making and finding the stream's place in the log, verdicts on tables, giving it up.

use serde_json::json;
use tideway_core::{Kind, Op, changes::Stream};

use crate::{changes_rig::*, read_rig::*};

#[tokio::test]
async fn the_role_is_offered_only_where_it_is_switched_on() {
    let rig = Rig::new().await;
    assert!(rig.connection.roles().changes.is_none());
    let connection = rig.connect(json!({"change_detection": true})).await;
    assert!(connection.unwrap().roles().changes.is_some());
}

#[tokio::test]
async fn a_slot_is_made_once_and_found_again() {
    let streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let first = streaming.attach().await;
    let made = first.fresh.unwrap();
    assert!(made.contains(&streaming.slot()), "{made}");
    let again = streaming.attach().await;
    assert_eq!(again.fresh, None);
    assert!(
        streaming
            .changes()
            .compare(&again.position, &first.position)
            .is_ge()
    );
    let count = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(streaming.rig.one(count).await, "1");
    let tables = "SELECT string_agg(tablename, ',') FROM pg_publication_tables";
    assert_eq!(streaming.rig.one(tables).await, "t");
}

#[tokio::test]
async fn a_table_that_joins_is_added_to_the_publication() {
    let mut streaming = Streaming::new(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)",
        &["a"],
    )
    .await;
    let begin = streaming.attach().await.position;
    streaming.rig.run("INSERT INTO a VALUES (1)").await;
    streaming.stream.tables.push(id("b"));
    assert_eq!(streaming.attach().await.fresh, None);
    let anchor = streaming.anchor().await;
    streaming
        .rig
        .run("INSERT INTO a VALUES (2); INSERT INTO b VALUES (5)")
        .await;
    let tables = vec![
        streaming.followed("a", &begin).await,
        streaming.followed("b", &anchor.position).await,
    ];
    let told = ops(&streaming.told_of(tables).await, "id");
    let mut told: Vec<String> = told.into_iter().map(|(_, id)| id.unwrap()).collect();
    told.sort();
    assert_eq!(told, ["1", "2", "5"]);
}

#[tokio::test]
async fn each_table_that_cannot_be_streamed_is_refused_with_a_reason() {
    let setup = "\
        CREATE TABLE good (id int PRIMARY KEY); \
        CREATE TABLE keyless (id int); \
        CREATE TABLE silent (id int PRIMARY KEY); ALTER TABLE silent REPLICA IDENTITY NOTHING; \
        CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL; \
        CREATE TABLE narrow (id int PRIMARY KEY, other int NOT NULL); \
        CREATE UNIQUE INDEX by_other ON narrow (other); \
        ALTER TABLE narrow REPLICA IDENTITY USING INDEX by_other; \
        CREATE UNLOGGED TABLE forgetful (id int PRIMARY KEY); \
        CREATE VIEW seen AS SELECT 1 AS id; \
        CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent); \
        CREATE TABLE computed (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)";
    let tables = [
        "good",
        "keyless",
        "silent",
        "whole",
        "narrow",
        "forgetful",
        "seen",
        "parent",
        "computed",
        "absent",
    ];
    let streaming = Streaming::new(setup, &tables).await;
    let attached = streaming.changes().attach(&streaming.stream).await.unwrap();
    let refused: Vec<(&str, Kind)> = attached
        .refused
        .iter()
        .map(|(table, error)| {
            assert!(error.what().starts_with(&table.to_string()), "{error}");
            (table.name.as_str(), error.kind)
        })
        .collect();
    let mut expected = vec![
        ("keyless", Kind::Unsupported),
        ("silent", Kind::Unsupported),
        ("narrow", Kind::Unsupported),
        ("forgetful", Kind::Unsupported),
        ("seen", Kind::Unsupported),
        ("parent", Kind::Unsupported),
        ("computed", Kind::Unsupported),
        ("absent", Kind::Missing),
    ];
    if streaming
        .rig
        .one("SHOW server_version_num")
        .await
        .parse::<u32>()
        .unwrap()
        >= 180_000
    {
        expected.retain(|(table, _)| *table != "computed");
    }
    assert_eq!(refused, expected);
    // Publishing a table without identity would make its updates fail.
    streaming
        .rig
        .run("INSERT INTO keyless VALUES (1); UPDATE keyless SET id = 2")
        .await;
}

#[tokio::test]
async fn a_publication_that_is_named_is_the_users() {
    let setup = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY); \
                 CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); \
                 CREATE PUBLICATION mine FOR TABLE a, p";
    let streaming = Streaming::with(setup, &["a", "b", "p"], json!({"publication": "mine"})).await;
    let attached = streaming.changes().attach(&streaming.stream).await.unwrap();
    let refused: Vec<&str> = attached
        .refused
        .iter()
        .map(|(table, _)| table.name.as_str())
        .collect();
    assert_eq!(refused, ["b", "p"]);
    assert!(
        attached.refused[0]
            .1
            .advice()
            .contains("ALTER PUBLICATION \"mine\" ADD TABLE")
    );
    streaming
        .rig
        .run("ALTER PUBLICATION mine SET (publish_via_partition_root = true); ALTER PUBLICATION mine ADD TABLE b")
        .await;
    streaming.attach().await;
    streaming.rig.run("INSERT INTO a VALUES (1, 'x')").await;
    streaming
        .changes()
        .release(&streaming.stream)
        .await
        .unwrap();
    let left = "SELECT count(*) FROM pg_publication";
    assert_eq!(streaming.rig.one(left).await, "1");

    streaming
        .rig
        .run("ALTER PUBLICATION mine SET TABLE a (id), b, p")
        .await;
    let attached = streaming.changes().attach(&streaming.stream).await.unwrap();
    assert_eq!(attached.refused.len(), 1);
    assert!(
        attached.refused[0]
            .1
            .what()
            .contains("some of the table's columns")
    );
    streaming
        .rig
        .run("ALTER PUBLICATION mine SET (publish = 'insert')")
        .await;
    let error = streaming
        .changes()
        .attach(&streaming.stream)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("publication"))
    );
    streaming.rig.run("DROP PUBLICATION mine").await;
    let error = streaming
        .changes()
        .attach(&streaming.stream)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("publication"))
    );
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (role, _) = rig.as_new_role().await;
    let connection = rig
        .connect(json!({"username": role, "password": "reader", "change_detection": true}))
        .await
        .unwrap();
    let changes = connection.roles().changes.unwrap();
    let stream = Stream {
        id: uuid::Uuid::new_v4().to_string(),
        options: json!({}),
        tables: vec![id("t")],
    };
    let error = changes.attach(&stream).await.unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Permission, Some("username"))
    );
    assert!(error.advice().contains("REPLICATION"), "{}", error.advice());
    rig.run(&format!("ALTER ROLE {role} REPLICATION")).await;
    let error = changes.attach(&stream).await.unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Permission, Some("publication"))
    );
    let database = rig.one("SELECT current_database()").await;
    rig.run(&format!("GRANT CREATE ON DATABASE {database} TO {role}"))
        .await;
    let attached = changes.attach(&stream).await.unwrap();
    assert_eq!(attached.refused[0].1.kind, Kind::Permission);
    assert!(attached.refused[0].1.advice().contains("owner"));
    changes.release(&stream).await.unwrap();
    drop(connection);
    rig.run(&format!("REVOKE CREATE ON DATABASE {database} FROM {role}"))
        .await;
    rig.drop_role(&role).await;
}

#[tokio::test]
async fn a_slot_can_be_named_and_must_fit() {
    let mut streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let name = format!("named_{}", uuid::Uuid::new_v4().simple());
    streaming.stream.options = json!({"replication_slot": name});
    streaming.attach().await;
    let found = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(streaming.rig.one(found).await, name);
    streaming
        .changes()
        .release(&streaming.stream)
        .await
        .unwrap();
    streaming
        .rig
        .run(&format!(
            "SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')"
        ))
        .await;
    let error = streaming
        .changes()
        .attach(&streaming.stream)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("replication_slot"))
    );
    // What is not ours is not dropped either.
    streaming
        .changes()
        .release(&streaming.stream)
        .await
        .unwrap();
    assert_eq!(streaming.rig.one(found).await, name);
}

#[tokio::test]
async fn everything_is_gone_after_release_also_while_it_is_followed() {
    let streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let begin = streaming.attach().await.position;
    let mut changes = streaming.follow(streaming.all_from(&begin).await, None);
    streaming.rig.run("INSERT INTO t VALUES (1)").await;
    futures::StreamExt::next(&mut changes)
        .await
        .unwrap()
        .unwrap();
    for _ in 0..2 {
        streaming
            .changes()
            .release(&streaming.stream)
            .await
            .unwrap();
    }
    let left = "SELECT (SELECT count(*) FROM pg_publication) + \
                (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())";
    assert_eq!(streaming.rig.one(left).await, "0");
    let error = loop {
        match futures::StreamExt::next(&mut changes).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
}

#[tokio::test]
async fn streams_are_encrypted_where_the_connection_is() {
    let streaming = Streaming::with(
        "CREATE TABLE t (id int PRIMARY KEY)",
        &["t"],
        json!({"sslmode": "require"}),
    )
    .await;
    let begin = streaming.attach().await.position;
    let mut changes = streaming.follow(streaming.all_from(&begin).await, None);
    streaming.rig.run("INSERT INTO t VALUES (1)").await;
    // A barrier may come before.
    let mut told = Vec::new();
    while ops(&told, "id").is_empty() {
        let change = futures::StreamExt::next(&mut changes).await;
        told.push(change.unwrap().unwrap());
    }
    assert_eq!(ops(&told, "id"), [(Op::Insert, Some("1".into()))]);
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) \
                     JOIN pg_replication_slots ON active_pid = pid WHERE database = current_database()";
    assert_eq!(streaming.rig.one(encrypted).await, "t");
}
