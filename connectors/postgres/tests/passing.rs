//! Rows that pass from server to server undecoded arrive as they do by way of batches, and
//! only they pass.

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::json;
use tideway_core::{
    Column, LogicalType, Table, WriteMode,
    destination::{Disposition, Load, ReadBack, TableLoad, TargetTable, Write},
    payload::Format,
    source::{Read, Snapshot},
    sums::{Sums, is_compared},
};

use crate::{
    read_rig::{Rig, request},
    write_rig::SOFT,
};

/// A load of all columns of a table, under its own name.
fn load(table: &Table, name: &str, write: Write) -> Load {
    Load {
        id: uuid::Uuid::new_v4().simple().to_string(),
        target: TargetTable {
            namespace: Some("there".into()),
            name: name.into(),
            columns: table.columns.clone(),
            key: table.primary_key.clone(),
            partition_key: None,
            history: None,
        },
        write,
        disposition: Disposition::Retain,
        record_timestamps: false,
        truncate_existing: false,
        resume: false,
        forgets: Vec::new(),
        options: json!({}),
    }
}

async fn offered(snapshot: &Arc<dyn Snapshot>, read: &Read) -> Option<Format> {
    snapshot.formats(read).await.unwrap().into_iter().next()
}

/// What is staged, read back in the form in which it came.
async fn read_back(load: &dyn TableLoad, format: Option<&Format>) -> Sums {
    let how = ReadBack {
        format,
        lanes: 4,
        batch_bytes: 64 << 10,
    };
    load.read_back(&how).await.unwrap().expect("it can be read")
}

/// Loads the table through payloads, and again through batches, and reads both back; gives
/// the rows passed.
async fn load_both_ways(from: &Rig, to: &Rig, id: &str, write: Write) -> u64 {
    let table = from.table(id).await;
    let snapshot = from.snapshot().await;
    let read = Arc::new(request(&table));
    let scan = snapshot.plan(&read).await.unwrap();
    let format = offered(&snapshot, &read).await.expect("a format");
    let passed = to.begin(load(&table, "passed", write)).await;
    let decoded = to.begin(load(&table, "decoded", write)).await;
    assert!(passed.takes(&format), "{format:?}");
    let (mut lane, mut other) = (passed.lane().await.unwrap(), decoded.lane().await.unwrap());
    let mut total = 0;
    let types: Vec<_> = table.columns.iter().map(|column| column.logical).collect();
    let types: Vec<_> = types
        .into_iter()
        .map(|logical| Some(logical).filter(|logical| is_compared(*logical)))
        .collect();
    let (mut bytes, mut values) = (Sums::new(types.len()), Sums::new(types.len()));
    for part in scan.parts {
        let mut payloads = snapshot
            .clone()
            .read_as(read.clone(), part.clone(), &format);
        let mut count = 0;
        while let Some(payload) = payloads.try_next().await.unwrap() {
            count += payload.row_count;
            snapshot.add_up(&format, &payload, &mut bytes).unwrap();
            lane.write_payload(payload).await.unwrap();
        }
        assert_eq!(lane.commit(&part.id).await.unwrap().rows, count);
        let mut batches = snapshot.clone().read(read.clone(), part.clone());
        while let Some(batch) = batches.try_next().await.unwrap() {
            values.add_batch(&batch.rows, &types).unwrap();
            other.write(batch).await.unwrap();
        }
        other.commit(&part.id).await.unwrap();
        total += count;
    }
    assert_eq!(read_back(passed.as_ref(), Some(&format)).await, bytes);
    assert_eq!(read_back(decoded.as_ref(), None).await, values);
    assert_eq!((bytes.rows.rows, values.rows.rows), (total, total));
    passed.finish().await.unwrap();
    decoded.finish().await.unwrap();
    total
}

/// Rows of one and not of the other, compared by the text of every value.
const DIFFERENT: &str = "\
    WITH one AS (SELECT passed::text AS row FROM there.passed), \
      other AS (SELECT decoded::text AS row FROM there.decoded) \
    (TABLE one EXCEPT ALL TABLE other) UNION ALL (TABLE other EXCEPT ALL TABLE one)";

#[tokio::test]
async fn values_of_every_type_pass_as_they_arrive_decoded() {
    let (from, to) = (Rig::new().await, Rig::new().await);
    // Types of the user's own have other object ids there, or do not exist.
    to.run("CREATE TYPE mood AS ENUM ('other'); CREATE SCHEMA there")
        .await;
    from.run(
        r#"CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b text);
         CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE >= 0);
         CREATE DOMAIN dear AS price; CREATE EXTENSION IF NOT EXISTS hstore;
         CREATE TABLE every (
           id bigint PRIMARY KEY, flag bool, small int2, mid int4, o oid, f4 real, f8 float8,
           exact numeric(12,2), odd numeric(2,-3), wide numeric(60,10), free numeric, t text,
           v varchar(5), c char(7), n name, jb jsonb, u uuid, b bytea, d date, ti time,
           ts timestamp, tz timestamptz, iv interval, m mood, p pair, pr dear, cash money,
           ip inet, net cidr, mac macaddr, bits bit(3), vb varbit, r int4range, pt point,
           tv tsvector, x xml, ttz timetz, h hstore,
           ai int[], at text[], an numeric[], aj jsonb[], atz timestamptz[], af float8[]);
         INSERT INTO every VALUES
         (1, true, -32768, 2147483647, 4294967295, 'NaN', 'Infinity', 1234567890.12, 12000,
          12345678901234567890.0123456789, 1e100, E'tab\t\u2028 quote" ünï', 'abc', 'pad',
          'name', '{"a": [1, null, 1.50, "\u00e9"]}', gen_random_uuid(), '\x00ff', 'infinity',
          '24:00', '294276-12-31 23:59:59.999999', '4714-11-24 00:00:00+00 BC',
          '-1 year 2 mons -3 days 04:05:06.000007', 'glad', '(1,"x y")', 9.99, '12.34',
          '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '1', '[1,5)', '(1.5,2)',
          'a:1 b:2', '<a>b</a>', '01:02:03+02', 'k=>v', '{{1,2},{3,NULL}}',
          '{"a,b",NULL,"\""}', '{1.50,NaN}', ARRAY['{"z": 1}'::jsonb, 'null'],
          '{"2020-01-01 00:00:00+05",infinity}', '{1e300,-0,NaN,Infinity}'),
         (2, false, 0, 0, 0, '-0', '1e-300', -0.01, -99000, 0, 'Infinity', '', '', '', '', 'null',
          NULL, '', '-infinity', '00:00', '-infinity', 'infinity', '0', 'sad', '(,)', 0, '-1',
          '0.0.0.0', '0.0.0.0/0', '00:00:00:00:00:00', '000', '', 'empty', '(0,0)', '', '', '0:0+0',
          '', '{}', '{}', '{}', '{}', '{}', '{}');
         INSERT INTO every (id) VALUES (3)"#,
    )
    .await;
    for write in [Write::Replace, Write::Append, SOFT] {
        to.run("DROP TABLE IF EXISTS there.passed, there.decoded")
            .await;
        assert_eq!(load_both_ways(&from, &to, "public.every", write).await, 3);
        // Beyond what Arrow's timestamps hold; decoding tells of it and leaves it out.
        let kept = "UPDATE there.decoded d SET ts = p.ts FROM there.passed p \
                    WHERE d.id = p.id AND p.ts = '294276-12-31 23:59:59.999999'";
        to.run(kept).await;
        assert_eq!(to.rows(DIFFERENT).await, Vec::<String>::new());
        assert_eq!(to.one("SELECT count(*) FROM there.passed").await, "3");
    }
    let (here, there) = (
        from.one("SELECT exact, odd, wide, free, jb, d, tz, iv, m, ts FROM every WHERE id = 1"),
        to.one(
            "SELECT exact, odd, wide, free, jb, d, tz, iv, m, ts FROM there.passed WHERE id = 1",
        ),
    );
    assert_eq!(here.await, there.await);
}

#[tokio::test]
async fn many_rows_in_several_parts_pass_and_are_counted() {
    let (from, to) = (Rig::new().await, Rig::new().await);
    from.run(
        "CREATE TABLE many (id bigint PRIMARY KEY, t text, j jsonb);
         INSERT INTO many SELECT g, repeat('x', (g % 100)::int), jsonb_build_object('g', g)
         FROM generate_series(1, 120000) g; ANALYZE many",
    )
    .await;
    let passed = load_both_ways(&from, &to, "public.many", Write::Replace).await;
    assert_eq!(passed, 120_000);
    assert_eq!(to.rows(DIFFERENT).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_staged_row_that_is_altered_lost_or_doubled_is_found() {
    let (from, to) = (Rig::new().await, Rig::new().await);
    // Large enough to be read back in several ranges.
    from.run(
        "CREATE TABLE wide (id bigint, amount numeric(12,2), t text);
         INSERT INTO wide SELECT g, g / 7.0, repeat(md5(g::text), 20)
         FROM generate_series(1, 40000) g; ANALYZE wide",
    )
    .await;
    let table = from.table("public.wide").await;
    let snapshot = from.snapshot().await;
    let read = Arc::new(request(&table));
    let format = offered(&snapshot, &read).await.expect("a format");
    let load = load(&table, "wide", Write::Replace);
    let stage = format!("there._tideway_stage_{}", load.id);
    let begun = to.begin(load).await;
    let (mut lane, mut sums) = (begun.lane().await.unwrap(), Sums::new(3));
    for part in snapshot.plan(&read).await.unwrap().parts {
        let rows = snapshot.clone();
        let mut payloads = rows.read_as(read.clone(), part.clone(), &format);
        while let Some(payload) = payloads.try_next().await.unwrap() {
            snapshot.add_up(&format, &payload, &mut sums).unwrap();
            lane.write_payload(payload).await.unwrap();
        }
        lane.commit(&part.id).await.unwrap();
    }
    let (begun, stage) = (begun.as_ref(), stage.as_str());
    let sized = format!("SELECT pg_relation_size('{stage}') / 8192 > 3 * 1024");
    assert_eq!(to.one(&sized).await, "t");
    assert_eq!(read_back(begun, Some(&format)).await, sums);
    let decoded = read_back(begun, None).await;
    assert_eq!(decoded.rows.rows, 40_000);
    let alike = async |sql: String, columns: &[usize]| {
        to.run(&sql).await;
        let now = read_back(begun, Some(&format)).await;
        assert_eq!(sums.differing(&now), columns, "{sql}");
        assert_ne!(now.rows, sums.rows, "{sql}");
        let now = read_back(begun, None).await;
        assert_eq!(decoded.differing(&now), columns, "{sql}");
        assert_ne!(now.rows, decoded.rows, "{sql}");
    };
    let cent =
        |sign: &str| format!("UPDATE {stage} SET amount = amount {sign} 0.01 WHERE id = 39999");
    alike(cent("+"), &[1]).await;
    to.run(&cent("-")).await;
    assert_eq!(read_back(begun, Some(&format)).await, sums);
    // Two rows exchange a value: every column holds what it held.
    let exchanged = format!(
        "UPDATE {stage} s SET t = o.t FROM {stage} o WHERE (s.id, o.id) IN ((1, 2), (2, 1))"
    );
    alike(exchanged.clone(), &[]).await;
    to.run(&exchanged).await;
    alike(format!("DELETE FROM {stage} WHERE id = 20000"), &[0, 1, 2]).await;
    let doubled = format!("INSERT INTO {stage} SELECT * FROM {stage} WHERE id = 19999");
    alike(doubled, &[0, 1, 2]).await;
    begun.abandon().await.unwrap();
}

#[tokio::test]
async fn what_a_column_there_might_refuse_or_alter_is_not_offered() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE TYPE mood AS ENUM ('sad');
         CREATE TABLE documents (id int, j json); CREATE TABLE moods (id int, m mood[]);
         CREATE TABLE plain (id int)",
    )
    .await;
    let snapshot = rig.snapshot().await;
    for (id, offers) in [("documents", false), ("moods", false), ("plain", true)] {
        let read = request(&rig.table(&format!("public.{id}")).await);
        assert_eq!(offered(&snapshot, &read).await.is_some(), offers, "{id}");
    }
}

#[tokio::test]
async fn text_of_unknown_encoding_is_not_offered() {
    let rig = Rig::new().await;
    let name = format!("ascii_{}", uuid::Uuid::new_v4().simple());
    rig.run(&format!(
        "CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    ))
    .await;
    let mut url = rig.url.clone();
    url.set_path(&name);
    let (client, driver) = tokio_postgres::connect(url.as_str(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(driver);
    let sql = "CREATE TABLE texts (id int, t text); CREATE TABLE numbers (id int)";
    client.batch_execute(sql).await.unwrap();
    let connection = rig.connect(json!({"database": name})).await.unwrap();
    let source = connection.roles().source.unwrap();
    let catalog = source.discover(&Default::default()).await.unwrap();
    let snapshot = source.open(&json!({})).await.unwrap();
    for (id, offers) in [("public.texts", false), ("public.numbers", true)] {
        let read = request(catalog.table(id).unwrap());
        assert_eq!(offered(&snapshot, &read).await.is_some(), offers, "{id}");
    }
    drop((snapshot, connection, client));
    rig.run(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
}

#[tokio::test]
async fn loads_take_only_what_fits_them() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA there; CREATE TABLE t (id int PRIMARY KEY, a numeric(5,1), b text)")
        .await;
    let (table, snapshot) = (rig.table("public.t").await, rig.snapshot().await);
    let format = offered(&snapshot, &request(&table)).await.unwrap();
    let takes = async |change: fn(&mut Load), write| {
        let mut load = load(&table, "t", write);
        change(&mut load);
        let begun = rig.begin(load).await;
        let takes = begun.takes(&format);
        begun.abandon().await.unwrap();
        takes
    };
    assert!(takes(|_| {}, Write::Replace).await);
    assert!(takes(|_| {}, SOFT).await);
    let other_type = |load: &mut Load| {
        load.target.columns[1].logical = LogicalType::Decimal {
            precision: 5,
            scale: 2,
        };
    };
    assert!(!takes(other_type, Write::Replace).await);
    let one_more = |load: &mut Load| {
        load.target
            .columns
            .push(Column::new("c", LogicalType::Text))
    };
    assert!(!takes(one_more, Write::Replace).await);
    // Rows without a key are told of when they are merged, so they are looked for.
    let loose_key = |load: &mut Load| load.target.columns[0].nullable = true;
    assert!(!takes(loose_key, SOFT).await);
    assert!(takes(loose_key, Write::Replace).await);
    assert_eq!(request(&table).mode, WriteMode::Replicate);
}
