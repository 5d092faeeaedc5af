//! What is offered: which tables, which columns, which keys.

use tideway_core::{LogicalType::*, schema::TableKind, source::Scope};

use crate::read_rig::*;

#[tokio::test]
async fn tables_views_and_their_columns_are_offered() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE SCHEMA \"My.Shop\"; \
         CREATE TABLE \"My.Shop\".\"Order Items\" (b int NOT NULL, a text, \"C\" numeric(10,2) NOT NULL, d int, PRIMARY KEY (d, b)); \
         CREATE UNIQUE INDEX ON \"My.Shop\".\"Order Items\" (b); \
         CREATE TABLE no_key (id int UNIQUE NOT NULL, gone int, twice int GENERATED ALWAYS AS (id * 2) STORED); \
         ALTER TABLE no_key DROP COLUMN gone; \
         CREATE VIEW seen AS SELECT id FROM no_key; \
         CREATE MATERIALIZED VIEW kept AS SELECT id FROM no_key; \
         CREATE TEMP TABLE mine (id int); CREATE TABLE _tideway_loads (id int); CREATE SEQUENCE s",
    )
    .await;
    let catalog = rig.catalog().await;
    let ids: Vec<String> = catalog
        .tables
        .iter()
        .map(|table| table.id.to_string())
        .collect();
    assert_eq!(
        ids,
        [
            "My.Shop.Order Items",
            "public.kept",
            "public.no_key",
            "public.seen"
        ]
    );
    let items = &catalog.tables[0];
    assert_eq!(items.primary_key, ["d", "b"]);
    let decimal = Decimal {
        precision: 10,
        scale: 2,
    };
    assert_eq!(
        columns(items),
        [
            ("b", Int32, false),
            ("a", Text, true),
            ("C", decimal, true),
            ("d", Int32, false)
        ]
    );
    assert_eq!(items.columns[2].remote_type, "numeric(10,2)");
    let no_key = &catalog.tables[2];
    assert_eq!(
        (no_key.primary_key.len(), no_key.kind),
        (0, TableKind::Table)
    );
    assert_eq!(
        columns(no_key),
        [("id", Int32, false), ("twice", Int32, true)]
    );
    assert_eq!(
        (catalog.tables[1].kind, catalog.tables[3].kind),
        (TableKind::View, TableKind::View)
    );
    let (_, batches) = read_all(&rig.snapshot().await, request(items))
        .await
        .unwrap();
    assert!(batches.is_empty());
}

#[tokio::test]
async fn sizes_are_estimated_where_the_server_has_counted() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 10000) g")
        .await;
    assert_eq!(rig.table("public.t").await.row_estimate, None);
    rig.run("ANALYZE t").await;
    let table = rig.table("public.t").await;
    assert_eq!(table.row_estimate, Some(10_000));
    assert!(table.byte_estimate.unwrap() > 300_000);
}

#[tokio::test]
async fn a_scope_narrows_what_is_found() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int); CREATE TABLE b.t (id int); CREATE TABLE b.u (id int)").await;
    let found = async |namespaces: Option<&str>, tables: Option<&str>| {
        let list = |item: Option<&str>| item.map(|item| vec![item.to_owned()]);
        let scope = Scope {
            namespaces: list(namespaces),
            tables: list(tables),
        };
        let catalog = rig.source().discover(&scope).await.unwrap();
        catalog
            .tables
            .iter()
            .map(|table| table.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Some("b"), None).await, ["b.t", "b.u"]);
    assert_eq!(found(None, Some("a.t")).await, ["a.t"]);
    assert_eq!(found(Some("b"), Some("a.t")).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_what_the_role_may_read_is_offered() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE open (id int); CREATE TABLE partly (id int, secret text); CREATE TABLE closed (id int); CREATE SCHEMA s; CREATE TABLE s.t (id int)").await;
    let (role, connection) = rig.as_new_role().await;
    rig.run(&format!(
        "GRANT SELECT ON open, s.t TO {role}; GRANT SELECT (id) ON partly TO {role}"
    ))
    .await;
    let source = connection.roles().source.unwrap();
    let catalog = source.discover(&Scope::default()).await.unwrap();
    let ids: Vec<String> = catalog
        .tables
        .iter()
        .map(|table| table.id.to_string())
        .collect();
    assert_eq!(ids, ["public.open", "public.partly"]);
    assert_eq!(columns(&catalog.tables[1]), [("id", Int32, true)]);
    rig.run("INSERT INTO partly VALUES (7, 'x')").await;
    let snapshot = source.open(&serde_json::json!({})).await.unwrap();
    let (_, batches) = read_all(&snapshot, request(&catalog.tables[1]))
        .await
        .unwrap();
    assert_eq!(numbers(&batches, "id"), [7]);
    drop((snapshot, connection));
    rig.drop_role(&role).await;
}

#[tokio::test]
async fn settings_of_the_role_do_not_change_what_is_read() {
    let rig = Rig::new().await;
    let (role, connection) = rig.as_new_role().await;
    drop(connection);
    rig.run(&format!(
        "ALTER ROLE {role} SET datestyle = 'SQL, DMY'; ALTER ROLE {role} SET timezone = 'Asia/Tokyo'; \
         ALTER ROLE {role} SET statement_timeout = '100ms'; ALTER ROLE {role} SET bytea_output = 'escape'; \
         ALTER ROLE {role} SET extra_float_digits = 0; ALTER ROLE {role} SET search_path = 'evil'; \
         CREATE SCHEMA evil; CREATE TABLE t AS SELECT 1 AS id, '2024-02-03 04:05:06+00'::timestamptz AS at; \
         GRANT SELECT ON t TO {role}; GRANT USAGE ON SCHEMA evil TO {role}"
    ))
    .await;
    let connection = rig
        .connect(serde_json::json!({"username": role, "password": "reader"}))
        .await
        .unwrap();
    let snapshot = connection
        .roles()
        .source
        .unwrap()
        .open(&serde_json::json!({}))
        .await
        .unwrap();
    let (scan, batches) = read_all(&snapshot, tracked(&rig.table("public.t").await, "at", None))
        .await
        .unwrap();
    assert_eq!(
        scan.cursor.unwrap().from.as_deref(),
        Some("2024-02-03 04:05:06+00")
    );
    assert_eq!(
        text(&batches[0].rows, 1, 0).as_deref(),
        Some("1706933106000000")
    );
    drop((snapshot, connection));
    rig.drop_role(&role).await;
}
