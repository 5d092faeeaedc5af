//! Tables that are there already: other columns, other types, other people's things.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray};
use tideway_core::{
    Column, Kind, LogicalType,
    destination::{Disposition, Load, TableLoad, Write},
};

use crate::write_rig::*;

const PEOPLE: [(i64, &str); 2] = [(1, "a"), (2, "b")];
const TYPES: &str = "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute \
                     WHERE attrelid = 'shop.people'::regclass AND attnum > 0 AND NOT attisdropped \
                     ORDER BY attnum";

fn changes(table: &dyn TableLoad) -> Vec<String> {
    table
        .schema_changes()
        .iter()
        .map(|change| change.0.clone())
        .collect()
}

fn wider(write: Write) -> Load {
    load_of(
        write,
        vec![
            Column {
                nullable: false,
                ..Column::new("id", LogicalType::Int64)
            },
            Column::new("name", LogicalType::Text),
            Column::new("city", LogicalType::Text),
        ],
    )
}

fn wider_rows(load: &Load) -> arrow_array::RecordBatch {
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let ids = Arc::new(Int64Array::from(vec![2, 3]));
    batch(load, vec![ids, text(["b", "c"]), text(["Köln", "Paris"])])
}

#[tokio::test]
async fn a_new_column_is_added_and_filled_where_rows_arrive() {
    let rig = Rig::new().await;
    for (write, expected) in [
        (PARTIAL, vec!["1|a|null", "2|b|Köln", "3|c|Paris"]),
        (
            Write::Append,
            vec!["1|a|null", "2|b|null", "2|b|Köln", "3|c|Paris"],
        ),
        (Write::Replace, vec!["2|b|Köln", "3|c|Paris"]),
    ] {
        rig.load(people(write), rows(&PEOPLE)).await;
        let load = wider(write);
        let table = rig.begin(load.clone()).await;
        assert_eq!(changes(table.as_ref()), ["column city added as text"]);
        land(table.as_ref(), "1", wider_rows(&load)).await;
        table.finish().await.unwrap();
        let all = "SELECT id, name, city FROM shop.people ORDER BY id, city NULLS FIRST";
        assert_eq!(rig.rows(all).await, expected, "{write:?}");
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_vanished_column_stays_and_takes_nulls() {
    let rig = Rig::new().await;
    for write in [PARTIAL, Write::Append, Write::Replace] {
        let load = wider(write);
        rig.load(load.clone(), wider_rows(&load)).await;
        rig.run("ALTER TABLE shop.people ALTER COLUMN city SET NOT NULL")
            .await;
        let table = rig.begin(people(write)).await;
        if write != Write::Replace {
            assert_eq!(changes(table.as_ref()), ["column city may be null now"]);
        }
        land(table.as_ref(), "1", rows(&PEOPLE)).await;
        table.finish().await.unwrap();
        let nulls = "SELECT count(*) FROM shop.people WHERE id = 1 AND city IS NULL";
        assert_eq!(rig.one(nulls).await, "1", "{write:?}");
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_rebuilt_table_has_the_columns_of_the_load_alone() {
    let rig = Rig::new().await;
    let load = wider(SOFT);
    rig.load(load.clone(), wider_rows(&load)).await;
    let load = Load {
        disposition: Disposition::Rebuild,
        ..people(HARD)
    };
    assert_eq!(rig.load(load, rows(&PEOPLE)).await, did(2, 0, 0, 0));
    assert_eq!(rig.rows(TYPES).await, ["id|bigint|t", "name|text|f"]);
}

#[tokio::test]
async fn a_vanished_key_column_takes_the_primary_key_with_it() {
    let rig = Rig::new().await;
    let load = Load {
        target: tideway_core::destination::TargetTable {
            key: vec!["city".into()],
            ..wider(SOFT).target
        },
        ..wider(SOFT)
    };
    rig.load(load.clone(), wider_rows(&load)).await;
    let table = rig.begin(people(SOFT)).await;
    assert_eq!(
        changes(table.as_ref()),
        [
            "primary key dropped: its column city gets no values any more",
            "column city may be null now",
            "index on the key (id) added"
        ]
    );
    land(table.as_ref(), "1", rows(&PEOPLE)).await;
    assert_eq!(table.finish().await.unwrap(), did(1, 0, 1, 1));
}

fn ints(write: Write) -> (Load, arrow_array::RecordBatch) {
    let load = load_of(
        write,
        vec![
            Column::new("id", LogicalType::Int32),
            Column::new("n", LogicalType::Int32),
        ],
    );
    let ids = Arc::new(Int32Array::from(vec![1, 2]));
    let part = batch(
        &load,
        vec![ids, Arc::new(Int32Array::from(vec![Some(7), None]))],
    );
    (load, part)
}

#[tokio::test]
async fn a_column_is_widened_and_a_wider_one_takes_narrower_values() {
    let rig = Rig::new().await;
    let (load, part) = ints(SOFT);
    rig.load(load, part.clone()).await;
    let wide = load_of(
        SOFT,
        vec![
            Column::new("id", LogicalType::Int64),
            Column::new(
                "n",
                LogicalType::Decimal {
                    precision: 12,
                    scale: 2,
                },
            ),
        ],
    );
    let table = rig.begin(wide.clone()).await;
    assert_eq!(
        changes(table.as_ref()),
        [
            "column id changed from integer to bigint",
            "column n changed from integer to numeric(12,2)"
        ]
    );
    let ids = Arc::new(Int64Array::from(vec![1, 5_000_000_000]));
    let n = arrow_array::Decimal128Array::from(vec![701, 5])
        .with_precision_and_scale(12, 2)
        .unwrap();
    land(table.as_ref(), "1", batch(&wide, vec![ids, Arc::new(n)])).await;
    assert_eq!(table.finish().await.unwrap(), did(1, 1, 1, 0));
    let all = "SELECT id, n FROM shop.people ORDER BY id";
    assert_eq!(rig.rows(all).await, ["1|7.01", "2|null", "5000000000|0.05"]);

    let (load, part) = ints(SOFT);
    let table = rig.begin(load).await;
    assert!(changes(table.as_ref()).is_empty());
    land(table.as_ref(), "1", part).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 2, 1, 0));
    assert_eq!(rig.rows(all).await, ["1|7.00", "2|null", "5000000000|0.05"]);
    let (load, part) = ints(SOFT);
    assert_eq!(rig.load(load, part).await, did(0, 0, 0, 2));
}

#[tokio::test]
async fn a_column_of_mixed_types_becomes_text() {
    let rig = Rig::new().await;
    let (load, part) = ints(SOFT);
    rig.load(load, part).await;
    let text = load_of(
        SOFT,
        vec![
            Column::new("id", LogicalType::Int32),
            Column::new("n", LogicalType::Text),
        ],
    );
    let values = Arc::new(StringArray::from(vec!["7", "x"]));
    let part = batch(&text, vec![Arc::new(Int32Array::from(vec![1, 2])), values]);
    let table = rig.begin(text).await;
    assert_eq!(
        changes(table.as_ref()),
        ["column n changed from integer to text"]
    );
    land(table.as_ref(), "1", part).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 1, 0, 1));
    // And numbers keep going into the text column.
    let (load, part) = ints(SOFT);
    assert_eq!(rig.load(load, part).await, did(0, 1, 0, 1));
    assert_eq!(
        rig.rows("SELECT id, n FROM shop.people ORDER BY id").await,
        ["1|7", "2|null"]
    );
}

#[tokio::test]
async fn columns_of_other_types_are_converted_to() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA shop; CREATE DOMAIN shop.short AS varchar(5); \
             CREATE TYPE shop.mood AS ENUM ('sad', 'happy'); \
             CREATE TABLE shop.people (id varchar(8) PRIMARY KEY, code char(5), doc json, \
             mood shop.mood, at point, ip inet, short shop.short, ids integer GENERATED ALWAYS AS IDENTITY)").await;
    let text = |name| Column::new(name, LogicalType::Text);
    let mut columns = vec![
        text("id"),
        text("code"),
        Column::new("doc", LogicalType::Json),
    ];
    columns.extend(["mood", "at", "ip", "short"].map(text));
    columns.push(Column::new("ids", LogicalType::Int32));
    let load = load_of(SOFT, columns);
    let part = |mood: &str, doc: &str| {
        let one = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let mut arrays: Vec<ArrayRef> = ["k", "ab", doc, mood, "(1,2)", "10.0.0.1", "12345"]
            .map(one)
            .to_vec();
        arrays.push(Arc::new(Int32Array::from(vec![77])));
        batch(&load, arrays)
    };
    let again = || Load {
        id: uuid::Uuid::new_v4().simple().to_string(),
        ..load.clone()
    };
    let doc = r#"{"a": 1.0, "a": 2}"#;
    assert_eq!(rig.load(again(), part("sad", doc)).await, did(1, 0, 0, 0));
    assert_eq!(rig.load(again(), part("sad", doc)).await, did(0, 0, 0, 1));
    assert_eq!(rig.load(again(), part("happy", doc)).await, did(0, 1, 0, 0));
    let all = "SELECT id, code, doc, mood, at, ip, short, ids FROM shop.people";
    assert_eq!(
        rig.one(all).await,
        r#"k|ab   |{"a": 2}|happy|(1,2)|10.0.0.1|12345|77"#
    );
    let error = rig
        .try_load(again(), part("furious", doc))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(
        error
            .to_string()
            .starts_with("shop.people: column mood (shop.mood): "),
        "{error}"
    );
    assert!(!error.to_string().contains("furious"), "{error}");
}

#[tokio::test]
async fn text_that_is_too_long_for_a_column_is_refused_and_not_cut() {
    let rig = Rig::new().await;
    for declared in ["varchar(3)", "char(3)", "shop.short"] {
        rig.run(&format!(
            "CREATE SCHEMA IF NOT EXISTS shop; DROP DOMAIN IF EXISTS shop.short; \
             CREATE DOMAIN shop.short AS varchar(3); \
             CREATE TABLE shop.people (id bigint PRIMARY KEY, name {declared})"
        ))
        .await;
        for write in [SOFT, Write::Append, Write::Replace] {
            let load = || Load {
                truncate_existing: true,
                ..people(write)
            };
            let error = rig
                .try_load(load(), rows(&[(1, "abc"), (2, "abcd")]))
                .await
                .unwrap_err();
            assert_eq!(error.kind, Kind::Data, "{error:?}");
            assert!(
                error.to_string().starts_with("shop.people: column name ("),
                "{error}"
            );
            assert_eq!(rig.one("SELECT count(*) FROM shop.people").await, "0");
        }
        rig.load(people(SOFT), rows(&[(1, "abc")])).await;
        let error = rig
            .try_load(people(SOFT), rows(&[(1, "abcd")]))
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::Data);
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_type_that_cannot_be_converted_to_is_told_before_rows_arrive() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA shop; CREATE TABLE shop.people (id bigint, name integer[])")
        .await;
    let mut load = people(Write::Append);
    load.target.columns[1].logical = LogicalType::Json;
    let error = rig.try_begin(load).await.err().unwrap();
    assert_eq!(error.kind, Kind::Data);
    assert!(
        error
            .to_string()
            .contains("column name of shop.people is integer[]"),
        "{error}"
    );
    assert!(rig.staged().await.is_empty());
}

#[tokio::test]
async fn a_column_that_the_server_computes_is_refused() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.people \
             (id bigint, name text GENERATED ALWAYS AS (id::text) STORED)",
    )
    .await;
    assert_eq!(
        rig.try_begin(people(Write::Append))
            .await
            .err()
            .unwrap()
            .kind,
        Kind::Unsupported
    );
}

#[tokio::test]
async fn a_column_with_fewer_digits_of_a_second_is_told_of() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA shop; CREATE TABLE shop.people (id bigint, name timestamptz(0))")
        .await;
    let mut load = people(Write::Append);
    load.target.columns[1].logical = LogicalType::TimestampTz;
    let table = rig.begin(load).await;
    assert_eq!(
        changes(table.as_ref()),
        ["column name stays timestamp(0) with time zone: values are rounded to it"]
    );
}

#[tokio::test]
async fn a_view_keeps_working_when_its_table_is_replaced_or_rebuilt() {
    let rig = Rig::new().await;
    for disposition in [Disposition::Retain, Disposition::Rebuild] {
        rig.load(people(Write::Replace), rows(&PEOPLE)).await;
        rig.run(
            "CREATE VIEW shop.names AS SELECT name FROM shop.people; \
                 CREATE MATERIALIZED VIEW shop.kept AS SELECT name FROM shop.people; \
                 CREATE TABLE shop.pets (owner bigint REFERENCES shop.people)",
        )
        .await;
        let load = Load {
            disposition,
            ..wider(Write::Replace)
        };
        let table = rig.begin(load.clone()).await;
        assert_eq!(
            changes(table.as_ref()),
            [
                "the table is emptied and refilled rather than replaced: \
                 shop.kept, shop.names, shop.pets depends on it",
                "column city added as text"
            ]
        );
        land(table.as_ref(), "1", wider_rows(&load)).await;
        assert_eq!(table.finish().await.unwrap(), did(2, 0, 0, 0));
        assert_eq!(
            rig.rows("SELECT name FROM shop.names ORDER BY 1").await,
            ["b", "c"]
        );
        rig.run("DROP TABLE shop.people, shop.pets CASCADE").await;
    }
}

#[tokio::test]
async fn a_view_made_while_the_load_goes_on_keeps_working() {
    let rig = Rig::new().await;
    rig.load(people(Write::Replace), rows(&PEOPLE)).await;
    let load = wider(Write::Replace);
    let table = rig.begin(load.clone()).await;
    land(table.as_ref(), "1", wider_rows(&load)).await;
    rig.run("CREATE VIEW shop.names AS SELECT name FROM shop.people")
        .await;
    assert_eq!(table.finish().await.unwrap(), did(2, 0, 0, 0));
    assert_eq!(
        rig.rows("SELECT name FROM shop.names ORDER BY 1").await,
        ["b", "c"]
    );
    assert_eq!(
        rig.rows("SELECT city FROM shop.people ORDER BY 1").await,
        ["Köln", "Paris"]
    );
}

#[tokio::test]
async fn a_view_on_a_column_that_must_change_its_type_is_named() {
    let rig = Rig::new().await;
    let (load, part) = ints(SOFT);
    rig.load(load, part).await;
    rig.run("CREATE VIEW shop.ns AS SELECT n FROM shop.people")
        .await;
    let (mut load, _) = ints(SOFT);
    load.target.columns[1].logical = LogicalType::Int64;
    let error = rig.try_begin(load).await.err().unwrap();
    assert!(
        error.to_string().starts_with("altering shop.people: "),
        "{error}"
    );
    assert!(
        error.advice().contains("drop the view"),
        "{}",
        error.advice()
    );
}

#[tokio::test]
async fn truncating_keeps_grants_and_rebuilding_does_not() {
    let rig = Rig::new().await;
    let granted = "SELECT relacl IS NOT NULL FROM pg_class WHERE oid = 'shop.people'::regclass";
    for (disposition, kept) in [(Disposition::Truncate, "t"), (Disposition::Rebuild, "f")] {
        rig.load(people(Write::Replace), rows(&PEOPLE)).await;
        rig.run("GRANT SELECT ON shop.people TO public").await;
        let load = Load {
            disposition,
            ..people(Write::Replace)
        };
        rig.load(load, rows(&PEOPLE)).await;
        assert_eq!(rig.one(granted).await, kept);
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_partitioned_table_stays_partitioned() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA shop; CREATE TABLE shop.people (id bigint, name text) PARTITION BY RANGE (id); \
             CREATE TABLE shop.low PARTITION OF shop.people FOR VALUES FROM (0) TO (2); \
             CREATE TABLE shop.high PARTITION OF shop.people DEFAULT").await;
    for write in [Write::Replace, SOFT] {
        let done = rig.load(people(write), rows(&PEOPLE)).await;
        assert_eq!(done.inserted + done.unchanged, 2);
        assert_eq!(rig.rows("SELECT name FROM shop.low").await, ["a"]);
    }
}

#[tokio::test]
async fn names_with_quotes_spaces_capitals_and_reserved_words_work() {
    let rig = Rig::new().await;
    let names = [
        "select",
        "O\"Brien",
        "Ünï çödé 🎉",
        " spaced out ",
        "a.b;--",
        "$1",
        &"x".repeat(63),
    ];
    let columns: Vec<Column> = names
        .map(|name| Column::new(name, LogicalType::Text))
        .to_vec();
    for table in ["Order", "ta\"b'le; drop", "日本", &"ü".repeat(31)] {
        for write in [SOFT, SOFT, Write::Replace, Write::Replace] {
            let mut load = load_of(write, columns.clone());
            load.target.namespace = Some("My \"Schema\"".into());
            load.target.name = table.into();
            let values = names.map(|_| Arc::new(StringArray::from(vec!["v"])) as ArrayRef);
            let part = batch(&load, values.to_vec());
            rig.load(load, part).await;
        }
        let place = format!("\"My \"\"Schema\"\"\".\"{}\"", table.replace('"', "\"\""));
        let row = rig
            .one(&format!("SELECT \"select\", \"O\"\"Brien\" FROM {place}"))
            .await;
        assert_eq!(row, "v|v");
    }
}

#[tokio::test]
async fn a_name_that_belongs_to_a_view_is_a_conflict() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA shop; CREATE VIEW shop.people AS SELECT 1 AS id")
        .await;
    assert_eq!(
        rig.try_begin(people(SOFT)).await.err().unwrap().kind,
        Kind::Conflict
    );
}

#[tokio::test]
async fn names_of_our_own_and_of_the_server_are_refused() {
    let rig = Rig::new().await;
    let mut load = people(SOFT);
    load.target.name = "_tideway_loads".into();
    assert_eq!(rig.try_begin(load).await.err().unwrap().kind, Kind::Config);
    let mut load = people(SOFT);
    load.target.namespace = Some("pg_mine".into());
    assert_eq!(rig.try_begin(load).await.err().unwrap().kind, Kind::Config);
}

#[tokio::test]
async fn without_a_namespace_tables_go_to_public() {
    let rig = Rig::new().await;
    let mut load = people(SOFT);
    load.target.namespace = None;
    assert_eq!(rig.load(load, rows(&PEOPLE)).await.place, "public.people");
    assert_eq!(rig.one("SELECT count(*) FROM public.people").await, "2");
}

#[tokio::test]
async fn a_partition_key_is_said_to_be_left_out() {
    let rig = Rig::new().await;
    let mut load = people(SOFT);
    load.target.partition_key = Some("name".into());
    let table = rig.begin(load).await;
    assert_eq!(
        changes(table.as_ref()),
        ["partition key name not applied: PostgreSQL tables are not partitioned"]
    );
}

#[tokio::test]
async fn a_role_without_rights_is_told_which_to_ask_for() {
    let rig = Rig::new().await;
    let role = format!("poor_{}", uuid::Uuid::new_v4().simple());
    rig.run(&format!(
        "CREATE SCHEMA shop; CREATE ROLE {role} LOGIN PASSWORD 'x'"
    ))
    .await;
    let mut url = rig.url.clone();
    url.set_username(&role).unwrap();
    url.set_password(Some("x")).unwrap();
    let poor = connect(&url).await;
    let destination = poor.roles().destination.unwrap();
    let error = destination.begin(people(SOFT)).await.err().unwrap();
    assert_eq!(error.kind, Kind::Permission);
    let hint = format!("GRANT USAGE, CREATE ON SCHEMA \"shop\" TO \"{role}\"");
    assert!(error.advice().starts_with(&hint), "{}", error.advice());
    rig.run(&format!("GRANT USAGE, CREATE ON SCHEMA shop TO {role}"))
        .await;
    let table = destination.begin(people(SOFT)).await.unwrap();
    land(table.as_ref(), "1", rows(&PEOPLE)).await;
    assert_eq!(table.finish().await.unwrap(), did(2, 0, 0, 0));
    drop((table, poor));
    rig.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}
