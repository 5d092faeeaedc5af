//! Values of every type, at their edges, compared with the server's own text.

use tideway_core::{
    LogicalType::{self, *},
    types::{DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::read_rig::*;

const AS_TEXT: &str = "v::text";
const DAYS: &str = "(v - date '1970-01-01')::text";
const MICROS: &str = "trunc(extract(epoch from v) * 1000000)::text";
const JSON_TEXT: &str = "to_json(v)::text";

/// Reads `values` of a type and compares each with what the server says of it.
async fn same(rig: &Rig, sql_type: &str, logical: LogicalType, expected: &str, values: &[&str]) {
    rig.run(&format!(
        "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {sql_type})"
    ))
    .await;
    for (id, value) in values.iter().enumerate() {
        rig.run(&format!("INSERT INTO t VALUES ({id}, {value})"))
            .await;
    }
    rig.run("INSERT INTO t VALUES (1000, NULL)").await;
    let table = rig.table("public.t").await;
    assert_eq!(table.columns[1].logical, logical, "{sql_type}");
    let rows = &rig.read("public.t").await[0].rows;
    let settings = "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; \
                    SET intervalstyle = 'iso_8601'; SET extra_float_digits = 3";
    let said = rig
        .rows(&format!("{settings}; SELECT {expected} FROM t ORDER BY id"))
        .await;
    assert_eq!(said.len(), rows.num_rows(), "{sql_type}");
    for (row, said) in said.iter().enumerate() {
        let read = text(rows, 1, row).unwrap_or_else(|| "null".into());
        let value = values.get(row).copied().unwrap_or("NULL");
        assert!(
            agree(logical, &read, said),
            "{sql_type} {value}: {read} is not {said}"
        );
    }
}

fn agree(logical: LogicalType, read: &str, said: &str) -> bool {
    // Both are the shortest texts of the same number, but not spelled alike.
    match logical {
        Float32 => same_bits(
            read.parse::<f32>().map(f32::to_bits),
            said.parse::<f32>().map(f32::to_bits),
        ),
        Float64 => same_bits(
            read.parse::<f64>().map(f64::to_bits),
            said.parse::<f64>().map(f64::to_bits),
        ),
        Boolean => {
            read == said
                || read
                    == match said {
                        "t" => "true",
                        "f" => "false",
                        other => other,
                    }
        }
        _ => read == said,
    }
}

fn same_bits<T: PartialEq, E, F>(a: Result<T, E>, b: Result<T, F>) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

fn decimal(precision: u8, scale: i8) -> LogicalType {
    Decimal { precision, scale }
}

#[tokio::test]
async fn numbers_are_read_exactly() {
    let rig = Rig::new().await;
    same(&rig, "bool", Boolean, AS_TEXT, &["true", "false"]).await;
    same(&rig, "int2", Int16, AS_TEXT, &["-32768", "0", "32767"]).await;
    same(&rig, "int4", Int32, AS_TEXT, &["-2147483648", "2147483647"]).await;
    same(
        &rig,
        "int8",
        Int64,
        AS_TEXT,
        &["-9223372036854775808", "9223372036854775807"],
    )
    .await;
    same(&rig, "oid", Int64, AS_TEXT, &["0", "4294967295"]).await;
    let floats = [
        "0",
        "'-0'",
        "1.1",
        "'1e-40'",
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "3.4028235e38",
    ];
    same(&rig, "float4", Float32, AS_TEXT, &floats).await;
    same(&rig, "float8", Float64, AS_TEXT, &floats).await;
    same(
        &rig,
        "float8",
        Float64,
        AS_TEXT,
        &["5e-324", "1.7976931348623157e308", "0.1", "1e22"],
    )
    .await;
    same(
        &rig,
        "numeric(12,2)",
        decimal(12, 2),
        AS_TEXT,
        &["0", "-0.01", "1.5", "9999999999.99", "-9999999999.99"],
    )
    .await;
    same(
        &rig,
        "numeric(38,38)",
        decimal(38, 38),
        AS_TEXT,
        &["0.1", "0.99999999999999999999999999999999999999"],
    )
    .await;
    same(
        &rig,
        "numeric(38,0)",
        decimal(38, 0),
        AS_TEXT,
        &["99999999999999999999999999999999999999", "-10000"],
    )
    .await;
    same(
        &rig,
        "numeric(76,30)",
        decimal(76, 30),
        AS_TEXT,
        &[
            "9999999999999999999999999999999999999999999999.999999999999999999999999999999",
            "-0.000000000000000000000000000001",
            "1e45",
        ],
    )
    .await;
    same(
        &rig,
        "numeric(3,-2)",
        decimal(5, 0),
        AS_TEXT,
        &["12345", "-99900"],
    )
    .await;
    same(
        &rig,
        "numeric(2,4)",
        decimal(4, 4),
        AS_TEXT,
        &["0.0012", "0.0099"],
    )
    .await;
    same(
        &rig,
        "numeric(400,100)",
        Numeric,
        AS_TEXT,
        &["1e299", "0.5"],
    )
    .await;
    same(
        &rig,
        "numeric",
        Numeric,
        AS_TEXT,
        &[
            "0",
            "0.00",
            "10000",
            "1e30",
            "1e-30",
            "-12345.678900",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1e131071",
            "1e-16383",
            "123456789012345678901234567890.123456789",
        ],
    )
    .await;
    same(
        &rig,
        "money",
        Text,
        AS_TEXT,
        &["'12.34'", "'-92233720368547758.08'"],
    )
    .await;
}

#[tokio::test]
async fn texts_and_bytes_are_read_exactly() {
    let rig = Rig::new().await;
    let texts = [
        "''",
        "'a'",
        "'Grüße, 世界 🦀'",
        "E'tab\\tline\\nquote\\'\\\\'",
        "repeat('x', 100000)",
    ];
    same(&rig, "text", Text, AS_TEXT, &texts).await;
    same(&rig, "varchar", Text, AS_TEXT, &texts).await;
    same(&rig, "varchar(5)", Text, AS_TEXT, &["'ab'", "'äöüßé'"]).await;
    same(&rig, "name", Text, AS_TEXT, &["'abc'"]).await;
    same(&rig, "\"char\"", Text, AS_TEXT, &["'a'", "''"]).await;
    same(
        &rig,
        "bytea",
        Binary,
        AS_TEXT,
        &["''", "'\\x00ff10'", "decode(repeat('ab', 100000), 'hex')"],
    )
    .await;
    same(
        &rig,
        "uuid",
        Uuid,
        AS_TEXT,
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        ],
    )
    .await;
    // The server's cast to text strips the blanks that are part of the value.
    same(&rig, "char(5)", Text, "rpad(v::text, 5)", &["'ab'", "''"]).await;
}

#[tokio::test]
async fn documents_and_lists_are_read_exactly() {
    let rig = Rig::new().await;
    let documents = [
        "'{\"b\":1, \"a\": [1.50, null, \"\\u00e4\"]}'",
        "'\"text\"'",
        "'12.340'",
        "'null'",
    ];
    same(&rig, "json", Json, AS_TEXT, &documents).await;
    same(&rig, "jsonb", Json, AS_TEXT, &documents).await;
    same(
        &rig,
        "int4[]",
        Json,
        JSON_TEXT,
        &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'"],
    )
    .await;
    same(
        &rig,
        "text[]",
        Json,
        JSON_TEXT,
        &["'{a,\"b \\\" c\",NULL,\"\"}'"],
    )
    .await;
    same(&rig, "numeric[]", Json, JSON_TEXT, &["'{1.50,NaN,1e40}'"]).await;
    same(
        &rig,
        "timestamptz[]",
        Json,
        JSON_TEXT,
        &["'{2024-02-29 12:00:00.123456+02,infinity}'"],
    )
    .await;
    same(&rig, "interval[]", Json, JSON_TEXT, &["'{1 mon 2 days}'"]).await;
    same(
        &rig,
        "json[]",
        Json,
        JSON_TEXT,
        &["array['{\"a\":1,\"a\":2}']::json[]"],
    )
    .await;
}

#[tokio::test]
async fn times_are_read_exactly_before_and_after_christ() {
    let rig = Rig::new().await;
    same(
        &rig,
        "date",
        Date,
        DAYS,
        &[
            "'2000-01-01'",
            "'1969-12-31'",
            "'4713-11-24 BC'",
            "'0001-01-01'",
            "'0001-12-31 BC'",
            "'5874897-12-31'",
        ],
    )
    .await;
    same(
        &rig,
        "time",
        Time,
        MICROS,
        &["'00:00'", "'23:59:59.999999'", "'24:00'"],
    )
    .await;
    let stamps = [
        "'2000-01-01'",
        "'1969-12-31 23:59:59.999999'",
        "'4713-11-24 BC'",
        "'0001-01-01 BC'",
        "'2024-02-29 12:34:56.789012'",
        "'294246-12-31 23:59:59.999999'",
    ];
    same(&rig, "timestamp", Timestamp, MICROS, &stamps).await;
    same(&rig, "timestamptz", TimestampTz, MICROS, &stamps).await;
    same(
        &rig,
        "timestamptz",
        TimestampTz,
        MICROS,
        &[
            "'2024-03-31 02:30:00 Europe/Berlin'",
            "'2024-01-01 00:00:00+14'",
        ],
    )
    .await;
    same(
        &rig,
        "timestamptz(0)",
        TimestampTz,
        MICROS,
        &["'2024-01-01 00:00:00.6+00'"],
    )
    .await;
    same(
        &rig,
        "timetz",
        Text,
        AS_TEXT,
        &["'12:34:56.789+05:30'", "'00:00-15:59'"],
    )
    .await;
    same(
        &rig,
        "interval",
        Interval,
        AS_TEXT,
        &[
            "'0'",
            "'1 year 2 mons 3 days 04:05:06.789'",
            "'-1 year +2 days'",
            "'-00:00:00.000001'",
            "'-1 mon 1 day -1 hour'",
            "'178000000 years'",
            "'-178000000 years -11 months'",
            "'2562047788:00:54.775807'",
            "'36:00:00'",
            "'14 months'",
        ],
    )
    .await;
}

#[tokio::test]
async fn infinite_times_become_sentinels() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (d date, s timestamp, z timestamptz)")
        .await;
    rig.run("INSERT INTO t SELECT v::date, v::timestamp, v::timestamptz FROM unnest(array['infinity', '-infinity']) v").await;
    let rows = &rig.read("public.t").await[0].rows;
    for (column, expected) in [
        (
            0,
            [i64::from(DATE_INFINITY), i64::from(DATE_MINUS_INFINITY)],
        ),
        (1, [TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY]),
        (2, [TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY]),
    ] {
        for (row, expected) in expected.iter().enumerate() {
            assert_eq!(text(rows, column, row), Some(expected.to_string()));
        }
    }
}

#[tokio::test]
async fn what_an_arrow_type_cannot_hold_is_null_and_counted() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int PRIMARY KEY, s timestamp)")
        .await;
    rig.run("INSERT INTO t VALUES (1, '294276-12-31'), (2, '2020-01-01')")
        .await;
    let batch = &rig.read("public.t").await[0];
    assert_eq!(text(&batch.rows, 1, 0), None);
    assert!(text(&batch.rows, 1, 1).is_some());
    let notes: Vec<(&str, u64)> = batch
        .notes
        .iter()
        .map(|note| (note.column.as_str(), note.rows))
        .collect();
    assert_eq!(notes, [("s", 1)]);
}

#[tokio::test]
async fn types_that_the_database_made_itself_are_read_as_text() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE TYPE mood AS ENUM ('sad', 'glad ü'); CREATE TYPE pair AS (a int, b text); \
         CREATE DOMAIN small AS numeric(6,3); CREATE DOMAIN smaller AS small CHECK (VALUE < 10); \
         CREATE DOMAIN word AS varchar(10); CREATE DOMAIN list AS int[]; CREATE EXTENSION citext; CREATE EXTENSION hstore",
    )
    .await;
    same(&rig, "mood", Text, AS_TEXT, &["'sad'", "'glad ü'"]).await;
    same(&rig, "pair", Text, AS_TEXT, &["(1, 'x y')", "(NULL, NULL)"]).await;
    same(
        &rig,
        "smaller",
        decimal(6, 3),
        AS_TEXT,
        &["1.5", "-999.999"],
    )
    .await;
    same(&rig, "word", Text, AS_TEXT, &["'x'"]).await;
    same(&rig, "list", Json, JSON_TEXT, &["'{1,2}'"]).await;
    same(&rig, "mood[]", Json, JSON_TEXT, &["'{sad,\"glad ü\"}'"]).await;
    same(
        &rig,
        "pair[]",
        Json,
        JSON_TEXT,
        &["array[row(1, 'x')::pair]"],
    )
    .await;
    same(&rig, "citext", Text, AS_TEXT, &["'AbC'"]).await;
    same(&rig, "hstore", Text, AS_TEXT, &["'a=>1, b=>NULL'"]).await;
    same(&rig, "int4range", Text, AS_TEXT, &["'[1,5)'", "'empty'"]).await;
    same(&rig, "int4multirange", Text, AS_TEXT, &["'{[1,3),[5,7)}'"]).await;
    same(&rig, "point", Text, AS_TEXT, &["'(1.5,-2)'"]).await;
    same(&rig, "tsvector", Text, AS_TEXT, &["'a:1 b:2'"]).await;
    same(&rig, "bit(5)", Text, AS_TEXT, &["B'10110'"]).await;
    same(&rig, "xml", Text, AS_TEXT, &["'<a>&amp;</a>'"]).await;
    same(&rig, "macaddr", Text, AS_TEXT, &["'08:00:2b:01:02:03'"]).await;
    same(&rig, "cidr", Text, AS_TEXT, &["'10.0.0.0/8'"]).await;
    // A cast to text adds the mask that inet's own form leaves out.
    same(
        &rig,
        "inet",
        Text,
        "textin(inet_out(v))",
        &["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"],
    )
    .await;
    same(&rig, "pg_lsn", Text, AS_TEXT, &["'16/B374D848'"]).await;
}
