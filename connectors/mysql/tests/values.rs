//! Every type with edge values, both ways.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use tideway_core::{
    Column,
    LogicalType::{self, *},
    destination::Write,
    types::{DATE_INFINITY, TIMESTAMP_INFINITY},
};

use crate::rig::{Rig, SOFT, Server, batch, land, load_of, on_both, text};

on_both!(
    every_type_is_read_with_its_edges,
    zero_dates_are_null_and_told,
    every_type_comes_back_as_it_was_written,
    what_the_server_cannot_hold_is_null_and_told,
    rows_larger_than_a_packet_go_by_files_and_are_refused_as_statements,
);

/// A column's definition, its logical type, and values as they are inserted and read.
pub type Case = (
    &'static str,
    LogicalType,
    &'static [(&'static str, &'static str)],
);

pub const CASES: &[Case] = &[
    (
        "tinyint(1)",
        Boolean,
        &[("0", "false"), ("1", "true"), ("NULL", "null")],
    ),
    ("tinyint", Int16, &[("-128", "-128"), ("127", "127")]),
    ("tinyint unsigned", Int16, &[("255", "255")]),
    ("smallint unsigned", Int32, &[("65535", "65535")]),
    ("mediumint", Int32, &[("-8388608", "-8388608")]),
    ("mediumint unsigned", Int32, &[("16777215", "16777215")]),
    ("int", Int32, &[("-2147483648", "-2147483648")]),
    (
        "int unsigned zerofill",
        Int64,
        &[("4294967295", "4294967295"), ("7", "7")],
    ),
    (
        "bigint",
        Int64,
        &[("-9223372036854775808", "-9223372036854775808")],
    ),
    (
        "bigint unsigned",
        UInt64,
        &[("18446744073709551615", "18446744073709551615")],
    ),
    ("bit(1)", Boolean, &[("b'1'", "true"), ("b'0'", "false")]),
    ("bit(10)", Int64, &[("b'1000000001'", "513")]),
    (
        "bit(64)",
        UInt64,
        &[("0xFFFFFFFFFFFFFFFF", "18446744073709551615")],
    ),
    (
        "float",
        Float32,
        &[
            ("3.4028234663852886e38", "3.4028235e38"),
            ("1.17549435e-38", "1.1754944e-38"),
            ("16777217", "16777216.0"),
            ("0.1", "0.1"),
        ],
    ),
    (
        "double",
        Float64,
        &[
            ("1.7976931348623157e308", "1.7976931348623157e308"),
            ("0.1", "0.1"),
            ("-2.2250738585072014e-308", "-2.2250738585072014e-308"),
        ],
    ),
    (
        "decimal(12,2)",
        Decimal {
            precision: 12,
            scale: 2,
        },
        &[
            ("-0.01", "-0.01"),
            ("9999999999.99", "9999999999.99"),
            ("5", "5.00"),
        ],
    ),
    (
        "decimal(65,30)",
        Decimal {
            precision: 65,
            scale: 30,
        },
        &[(
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "-99999999999999999999999999999999999.999999999999999999999999999999",
        )],
    ),
    ("year", Int16, &[("2155", "2155"), ("0", "0")]),
    (
        "date",
        Date,
        &[
            ("'1970-01-02'", "1"),
            ("'9999-12-31'", "2932896"),
            ("'1000-01-01'", "-354285"),
        ],
    ),
    (
        "datetime",
        Timestamp,
        &[("'1969-12-31 23:59:59'", "-1000000")],
    ),
    (
        "datetime(6)",
        Timestamp,
        &[
            ("'9999-12-31 23:59:59.999999'", "253402300799999999"),
            ("'2000-01-01'", "946684800000000"),
        ],
    ),
    (
        "timestamp(3) null",
        TimestampTz,
        &[
            ("'2038-01-19 03:14:07.999'", "2147483647999000"),
            ("'1970-01-01 00:00:01'", "1000000"),
        ],
    ),
    (
        "time(6)",
        Text,
        &[
            ("'-838:59:59'", "-838:59:59"),
            ("'-0:0:0.000001'", "-00:00:00.000001"),
            ("'25:00:00'", "25:00:00"),
            ("'0:0:0'", "00:00:00"),
            ("'12:34:56.5'", "12:34:56.500000"),
        ],
    ),
    ("char(5)", Text, &[("'a'", "a"), ("''", "")]),
    (
        "varchar(20) character set latin1",
        Text,
        &[("'äöü€'", "äöü€")],
    ),
    (
        "varchar(20) character set sjis",
        Text,
        &[("'日本語'", "日本語")],
    ),
    ("varchar(20) character set utf16", Text, &[("'😀'", "😀")]),
    (
        "longtext",
        Text,
        &[("'it''s \\ \"x\"'", "it's \\ \"x\""), ("X'00'", "\0")],
    ),
    ("enum('x','y z')", Text, &[("'y z'", "y z")]),
    ("set('a','b','c')", Text, &[("'a,c'", "a,c"), ("''", "")]),
    ("binary(3)", Binary, &[("'a'", "x610000")]),
    ("varbinary(20)", Binary, &[("X'00FF'", "x00ff")]),
    ("longblob", Binary, &[("''", "x")]),
    (
        "point",
        Binary,
        &[(
            "ST_GeomFromText('POINT(1 2)')",
            "x0101000000000000000000f03f0000000000000040",
        )],
    ),
    ("json", Json, &[("'[1, \"a\"]'", "[1, \"a\"]")]),
];

async fn every_type_is_read_with_its_edges(server: Server) {
    let rig = Rig::new(server).await;
    let definitions: Vec<String> = CASES
        .iter()
        .enumerate()
        .map(|(at, case)| format!("c{at} {}", case.0))
        .collect();
    rig.run(&format!(
        "CREATE TABLE t (id INT PRIMARY KEY, {})",
        definitions.join(", ")
    ))
    .await;
    if server == Server::MariaDb {
        rig.run("ALTER TABLE t ADD u UUID, ADD i INET6").await;
    }
    for (at, case) in CASES.iter().enumerate() {
        for (n, (value, _)) in case.2.iter().enumerate() {
            rig.run(&format!(
                "INSERT INTO t (id, c{at}) VALUES ({}, {value})",
                at * 10 + n
            ))
            .await;
        }
    }
    if server == Server::MariaDb {
        rig.run("INSERT INTO t (id, u, i) VALUES (9999, '123e4567-e89b-12d3-a456-426614174000', '2001:db8::1')").await;
    }
    let table = rig.table("t").await;
    let batches = rig.read("t").await;
    let rows = &batches[0].rows;
    for (at, case) in CASES.iter().enumerate() {
        assert_eq!(table.columns[at + 1].logical, case.1, "{}", case.0);
        for (n, (value, expected)) in case.2.iter().enumerate() {
            let id = (at * 10 + n).to_string();
            let row = (0..rows.num_rows())
                .find(|row| text(rows, 0, *row) == id)
                .unwrap();
            assert_eq!(text(rows, at + 1, row), *expected, "{} {value}", case.0);
        }
    }
    if server == Server::MariaDb {
        let (last, u) = (rows.num_rows() - 1, CASES.len() + 1);
        assert_eq!(text(rows, u, last), "123e4567-e89b-12d3-a456-426614174000");
        assert_eq!(text(rows, u + 1, last), "2001:db8::1");
    }
    rig.drop().await;
}

async fn zero_dates_are_null_and_told(server: Server) {
    let rig = Rig::new(server).await;
    rig.run(
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE NOT NULL, m DATETIME NOT NULL, b TINYINT(1))",
    )
    .await;
    rig.run("SET sql_mode = 'ALLOW_INVALID_DATES'").await;
    rig.run("INSERT INTO t VALUES (1, '0000-00-00', '0000-00-00', 5), (2, '2020-00-10', '2023-02-31', 1), (3, '2020-01-01', '2020-01-01', 0)").await;
    let batches = rig.read("t").await;
    let rows = &batches[0].rows;
    let read: Vec<String> = (0..3)
        .map(|row| {
            format!(
                "{} {} {}",
                text(rows, 1, row),
                text(rows, 2, row),
                text(rows, 3, row)
            )
        })
        .collect();
    assert_eq!(
        read,
        [
            "null null true",
            "null null true",
            "18262 1577836800000000 false"
        ]
    );
    let notes: Vec<String> = batches[0]
        .notes
        .iter()
        .map(|note| format!("{}: {} {}", note.column, note.what, note.rows))
        .collect();
    assert_eq!(
        notes,
        [
            "d: zero date stored as null 1",
            "d: date without month or day, or that no calendar has, stored as null 1",
            "m: zero date stored as null 1",
            "m: date without month or day, or that no calendar has, stored as null 1",
            "b: number other than 0 and 1 read as true 1",
        ]
    );
    rig.drop().await;
}

pub fn arrays() -> Vec<(LogicalType, ArrayRef)> {
    let text =
        |values: [Option<&str>; 3]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    vec![
        (Int64, Arc::new(Int64Array::from(vec![1, 2, 3]))),
        (
            Boolean,
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        (
            Int16,
            Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None])),
        ),
        (
            Int32,
            Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None])),
        ),
        (
            Int64,
            Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
        ),
        (
            UInt64,
            Arc::new(UInt64Array::from(vec![Some(0), Some(u64::MAX), None])),
        ),
        (
            Float32,
            Arc::new(Float32Array::from(vec![Some(f32::MAX), Some(0.1), None])),
        ),
        (
            Float64,
            Arc::new(Float64Array::from(vec![
                Some(f64::MIN),
                Some(f64::MIN_POSITIVE),
                None,
            ])),
        ),
        (
            Decimal {
                precision: 38,
                scale: 10,
            },
            Arc::new(
                Decimal128Array::from(vec![Some(-1), Some(10_i128.pow(38) - 1), None])
                    .with_precision_and_scale(38, 10)
                    .unwrap(),
            ),
        ),
        (Numeric, text([Some("NaN"), Some("1e-500"), None])),
        (
            Text,
            text([Some("it's \\ a\ttest\r\n\0 😀 \\N"), Some(""), None]),
        ),
        (Text, text([Some("\\N"), Some("NULL "), None])),
        (
            Json,
            text([Some("[1, \"é\"]"), Some("{\"a\": null}"), None]),
        ),
        (Interval, text([Some("P1M2DT3S"), Some("PT0S"), None])),
        (
            Uuid,
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    [Some([7_u8; 16]), Some([255; 16]), None].into_iter(),
                    16,
                )
                .unwrap(),
            ),
        ),
        (
            Binary,
            Arc::new(BinaryArray::from(vec![
                Some(&[0_u8, 255, 9, 10, 92][..]),
                Some(b""),
                None,
            ])),
        ),
        (
            Date,
            Arc::new(Date32Array::from(vec![
                Some(-719_162),
                Some(2_932_896),
                None,
            ])),
        ),
        (
            Time,
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(0),
                Some(86_400_000_000),
                None,
            ])),
        ),
        (
            Timestamp,
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-62_135_596_800_000_000),
                Some(253_402_300_799_999_999),
                None,
            ])),
        ),
        (
            TimestampTz,
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(-1), Some(1), None]).with_timezone("UTC"),
            ),
        ),
    ]
}

async fn every_type_comes_back_as_it_was_written(server: Server) {
    // By files, and by statements where the server takes no files.
    for (write, by_files) in [
        (Write::Append, true),
        (SOFT, true),
        (Write::Append, false),
        (SOFT, false),
    ] {
        let rig = Rig::with(server, serde_json::json!({"local_infile": by_files})).await;
        let (columns, values): (Vec<Column>, Vec<ArrayRef>) = arrays()
            .into_iter()
            .enumerate()
            .map(|(at, (logical, array))| {
                (
                    Column {
                        nullable: at > 0,
                        ..Column::new(&format!("c{at}"), logical)
                    },
                    array,
                )
            })
            .unzip();
        let load = || load_of(write, columns.clone());
        let rows = batch(&load(), values.clone());
        assert_eq!(rig.load(load(), rows.clone()).await.inserted, 3);
        let read = rig.read("people").await;
        let table = rig.table("people").await;
        for (at, column) in columns.iter().enumerate() {
            assert_eq!(table.columns[at].logical, column.logical, "{}", column.name);
            for row in 0..3 {
                assert_eq!(
                    text(&read[0].rows, at, row),
                    text(&rows, at, row),
                    "{:?} row {row}",
                    column.logical
                );
            }
        }
        if write == SOFT {
            assert_eq!(rig.load(load(), rows).await, rig.did(0, 0, 0, 3));
        }
        rig.drop().await;
    }
}

async fn what_the_server_cannot_hold_is_null_and_told(server: Server) {
    let rig = Rig::new(server).await;
    let columns = vec![
        Column {
            nullable: false,
            ..Column::new("id", Int64)
        },
        Column::new("f", Float64),
        Column::new("d", Date),
        Column::new("t", TimestampTz),
    ];
    let load = load_of(SOFT, columns);
    let rows = batch(
        &load,
        vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY])),
            Arc::new(Date32Array::from(vec![DATE_INFINITY, -800_000])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![TIMESTAMP_INFINITY, 0]).with_timezone("UTC"),
            ),
        ],
    );
    let table = rig.begin(load).await;
    let notes = land(table.as_ref(), "1", rows).await.unwrap();
    let notes: Vec<String> = notes
        .iter()
        .map(|note| format!("{}: {} {}", note.column, note.what, note.rows))
        .collect();
    assert_eq!(
        notes,
        [
            "f: NaN or infinity stored as null 2",
            "d: time outside of the years 1 to 9999 stored as null 2",
            "t: time outside of the years 1 to 9999 stored as null 1",
        ]
    );
    table.finish().await.unwrap();
    let found = rig.rows("SELECT id, f, d, t FROM people ORDER BY id").await;
    assert_eq!(
        found,
        ["1|null|null|null", "2|null|null|1970-01-01 00:00:00.000000"]
    );
    rig.drop().await;
}

async fn rows_larger_than_a_packet_go_by_files_and_are_refused_as_statements(server: Server) {
    for by_files in [true, false] {
        let rig = Rig::with(server, serde_json::json!({"local_infile": by_files})).await;
        let most: usize = rig.rows("SELECT @@max_allowed_packet").await[0]
            .parse()
            .unwrap();
        let columns = vec![
            Column {
                nullable: false,
                ..Column::new("id", Int64)
            },
            Column::new("a", Text),
            Column::new("b", Text),
        ];
        let load = load_of(SOFT, columns);
        let large: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(most / 10 * 6)]));
        let id = Arc::new(Int64Array::from(vec![1]));
        let rows = batch(&load, vec![id, large.clone(), large]);
        let table = rig.begin(load).await;
        let landed = land(table.as_ref(), "1", rows).await;
        if by_files {
            landed.unwrap();
            assert_eq!(table.finish().await.unwrap().inserted, 1);
            let lengths = rig.rows("SELECT LENGTH(a) + LENGTH(b) FROM people").await;
            assert_eq!(lengths, [(most / 10 * 12).to_string()]);
        } else {
            let error = landed.unwrap_err();
            assert_eq!(error.kind, tideway_core::Kind::Data);
            assert!(error.advice().contains("max_allowed_packet"), "{error:?}");
        }
        rig.drop().await;
    }
}
