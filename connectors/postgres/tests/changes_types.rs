//! Values of every type are the same by snapshot and by stream, array by array.

use std::collections::HashMap;

use arrow_array::{Array, ArrayRef};
use tideway_core::changes::Change;

use crate::changes_rig::*;

const KINDS: &str = "\
    CREATE TYPE mood AS ENUM ('sad', 'glad ü'); CREATE TYPE pair AS (a int, b text); \
    CREATE DOMAIN small AS numeric(6, 3); CREATE DOMAIN smaller AS small CHECK (VALUE < 10); \
    CREATE DOMAIN word AS varchar(10); CREATE DOMAIN list AS int[]; \
    CREATE EXTENSION citext; CREATE EXTENSION hstore";

const TYPES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", &["0", "4294967295"]),
    (
        "float4",
        &[
            "0",
            "'-0'",
            "1.1",
            "'1e-40'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "3.4028235e38",
        ],
    ),
    (
        "float8",
        &[
            "0",
            "'-0'",
            "1.1",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "1e22",
        ],
    ),
    (
        "numeric(12,2)",
        &[
            "0",
            "-0.01",
            "1.5",
            "9999999999.99",
            "-9999999999.99",
            "'NaN'",
        ],
    ),
    (
        "numeric(38,38)",
        &["0.1", "0.99999999999999999999999999999999999999"],
    ),
    (
        "numeric(76,30)",
        &[
            "9999999999999999999999999999999999999999999999.999999999999999999999999999999",
            "-0.000000000000000000000000000001",
            "1e45",
        ],
    ),
    ("numeric(3,-2)", &["12345", "-99900"]),
    ("numeric(2,4)", &["0.0012", "0.0099"]),
    ("numeric(400,100)", &["1e299", "0.5"]),
    (
        "numeric",
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
        ],
    ),
    ("money", &["'12.34'", "'-92233720368547758.08'"]),
    (
        "text",
        &[
            "''",
            "'a'",
            "'Grüße, 世界 🦀'",
            "E'tab\\tline\\nquote\\'\\\\'",
            "repeat('x', 100000)",
        ],
    ),
    ("varchar(5)", &["'ab'", "'äöüßé'"]),
    ("name", &["'abc'"]),
    ("\"char\"", &["'a'", "''"]),
    ("char(5)", &["'ab'", "''"]),
    (
        "bytea",
        &["''", "'\\x00ff10'", "decode(repeat('ab', 100000), 'hex')"],
    ),
    (
        "uuid",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        ],
    ),
    (
        "json",
        &[
            "'{\"b\":1, \"a\": [1.50, null, \"\\u00e4\"]}'",
            "'\"text\"'",
            "'null'",
        ],
    ),
    (
        "jsonb",
        &[
            "'{\"b\":1, \"a\": [1.50, null, \"\\u00e4\"]}'",
            "'12.340'",
            "'null'",
        ],
    ),
    (
        "int4[]",
        &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[5:6]={1,2}'"],
    ),
    ("text[]", &["'{a,\"b \\\" c\",NULL,\"\"}'"]),
    ("numeric[]", &["'{1.50,NaN,1e40}'"]),
    (
        "timestamptz[]",
        &["'{2024-02-29 12:00:00.123456+02,infinity}'"],
    ),
    ("interval[]", &["'{1 mon 2 days}'"]),
    ("json[]", &["array['{\"a\":1,\"a\":2}']::json[]"]),
    (
        "date",
        &[
            "'2000-01-01'",
            "'1969-12-31'",
            "'4713-11-24 BC'",
            "'0001-01-01'",
            "'0001-12-31 BC'",
            "'5874897-12-31'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    ("time", &["'00:00'", "'23:59:59.999999'", "'24:00'"]),
    (
        "timestamp",
        &[
            "'2000-01-01'",
            "'1969-12-31 23:59:59.999999'",
            "'4713-11-24 BC'",
            "'0001-01-01 BC'",
            "'2024-02-29 12:34:56.789012'",
            "'294246-12-31 23:59:59.999999'",
            "'294247-01-10'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'1969-12-31 23:59:59.999999'",
            "'4713-11-24 BC'",
            "'2024-03-31 02:30:00 Europe/Berlin'",
            "'2024-01-01 00:00:00+14'",
            "'infinity'",
        ],
    ),
    ("timestamptz(0)", &["'2024-01-01 00:00:00.6+00'"]),
    ("timetz", &["'12:34:56.789+05:30'", "'00:00-15:59'"]),
    (
        "interval",
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
        ],
    ),
    ("mood", &["'sad'", "'glad ü'"]),
    ("pair", &["(1, 'x y')", "(NULL, NULL)"]),
    ("smaller", &["1.5", "-999.999"]),
    ("word", &["'x'"]),
    ("list", &["'{1,2}'"]),
    ("mood[]", &["'{sad,\"glad ü\"}'"]),
    ("pair[]", &["array[row(1, 'x')::pair]"]),
    ("citext", &["'AbC'"]),
    ("hstore", &["'a=>1, b=>NULL'"]),
    ("hstore[]", &["array['a=>1'::hstore]"]),
    ("int4range", &["'[1,5)'", "'empty'"]),
    ("int4multirange", &["'{[1,3),[5,7)}'"]),
    ("point", &["'(1.5,-2)'"]),
    ("tsvector", &["'a:1 b:2'"]),
    ("bit(5)", &["B'10110'"]),
    ("varbit", &["B'101'", "B''"]),
    (
        "xml",
        &[
            "'<a>&amp;</a>'",
            "xmlparse(document '<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>ü</a>')",
        ],
    ),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("jsonpath", &["'$.a[*]'"]),
    ("regclass", &["'pg_class'"]),
];

fn rows_of(
    batches: impl Iterator<Item = tideway_core::Batch>,
) -> Vec<(Vec<ArrayRef>, Vec<String>)> {
    let mut found = Vec::new();
    for batch in batches {
        let notes = batch.notes.iter();
        let notes = notes.map(|note| format!("{} {} {}", note.column, note.what, note.rows));
        found.push((batch.rows.columns().to_vec(), notes.collect()));
    }
    found
}

async fn compare(extra: &str) {
    let setup: String = TYPES
        .iter()
        .enumerate()
        .map(|(at, (kind, _))| {
            format!("CREATE TABLE t{at} (id int PRIMARY KEY, v {kind}, w {kind}); ")
        })
        .collect();
    let names: Vec<String> = (0..TYPES.len()).map(|at| format!("t{at}")).collect();
    let mut tables: Vec<&str> = names.iter().map(String::as_str).collect();
    if !extra.is_empty() {
        tables.push("extra");
    }
    let streaming = Streaming::new(&format!("{KINDS}; {setup} {extra}"), &tables).await;
    let begin = streaming.attach().await.position;
    for (at, (_, values)) in TYPES.iter().enumerate() {
        let rows = values.iter().enumerate();
        let rows = rows.map(|(id, value)| format!("({id}, {value}, NULL)"));
        let rows: Vec<String> = rows
            .chain([format!("(1000, NULL, {})", values[0])])
            .collect();
        // One by one: a list of rows would bring its values to a common type.
        let inserts: String = rows
            .iter()
            .map(|row| format!("INSERT INTO t{at} VALUES {row}; "))
            .collect();
        streaming.rig.run(&inserts).await;
    }
    let mut told: HashMap<String, Vec<tideway_core::Batch>> = HashMap::new();
    for change in streaming.told(&begin).await {
        match change {
            Change::Rows { table, batch } => told.entry(table.name).or_default().push(batch),
            Change::Barrier { .. } => {}
            Change::Truncate(_) => panic!("truncated"),
            Change::Failed { table, error } => panic!("{table}: {error}"),
            Change::Reshaped { table, .. } => panic!("{table} was reshaped"),
        }
    }
    for (at, (kind, values)) in TYPES.iter().enumerate() {
        let read = streaming.rig.read(&format!("public.t{at}")).await;
        let told = told.remove(&format!("t{at}")).unwrap_or_default();
        let (read, told) = (rows_of(read.into_iter()), rows_of(told.into_iter()));
        let joined = |parts: &[(Vec<ArrayRef>, Vec<String>)], column: usize| -> ArrayRef {
            let arrays: Vec<&dyn Array> = parts
                .iter()
                .map(|(arrays, _)| arrays[column].as_ref())
                .collect();
            arrow_select::concat::concat(&arrays).unwrap()
        };
        for column in 0..3 {
            let (read, told) = (joined(&read, column), joined(&told, column));
            assert_eq!(told.len(), values.len() + 1, "{kind}");
            assert_eq!(&read, &told, "{kind}");
        }
        let notes = |parts: &[(Vec<ArrayRef>, Vec<String>)]| -> Vec<String> {
            parts.iter().flat_map(|(_, notes)| notes.clone()).collect()
        };
        if told.len() == 1 {
            assert_eq!(notes(&read), notes(&told), "{kind}");
        }
    }
}

#[tokio::test]
async fn binary_cells_give_what_copy_gives() {
    compare("").await;
}

/// Access rules have no binary form, so that the whole stream comes as text.
#[tokio::test]
async fn text_cells_give_what_copy_gives() {
    compare("CREATE TABLE extra (id int PRIMARY KEY, v aclitem[])").await;
}
