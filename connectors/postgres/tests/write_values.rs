//! Every type, with its extremes, as the server prints what was stored.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_buffer::i256;
use tideway_core::{
    Column, Kind, LogicalType, Note,
    destination::{Load, Write},
    types::{DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::write_rig::*;

/// Stores the values in a column of that type, in which a null stands last, and gives
/// back what the server prints, with the notes.
async fn stored(
    rig: &Rig,
    logical: LogicalType,
    declared: &str,
    values: ArrayRef,
) -> (Vec<String>, Vec<Note>) {
    let load = load_of(
        Write::Replace,
        vec![
            Column::new("id", LogicalType::Int64),
            Column::new("v", logical),
        ],
    );
    let load = Load {
        disposition: tideway_core::destination::Disposition::Rebuild,
        ..load
    };
    let ids: Int64Array = (0..values.len() as i64).collect();
    let table = rig.begin(load.clone()).await;
    let notes = land(
        table.as_ref(),
        "1",
        batch(&load, vec![Arc::new(ids), values]),
    )
    .await;
    table.finish().await.unwrap();
    rig.run("SET timezone = 'UTC'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'hex'")
        .await;
    let column = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                  WHERE attrelid = 'shop.people'::regclass AND attname = 'v'";
    assert_eq!(rig.one(column).await, declared);
    let mut printed = rig.rows("SELECT v FROM shop.people ORDER BY id").await;
    assert_eq!(printed.pop().unwrap(), "null");
    (printed, notes)
}

async fn exactly(logical: LogicalType, declared: &str, values: ArrayRef, expected: &[&str]) {
    let rig = Rig::new().await;
    let (printed, notes) = stored(&rig, logical, declared, values).await;
    assert_eq!(printed, expected);
    assert_eq!(notes, []);
}

fn note(what: &str, rows: u64) -> Note {
    Note {
        column: "v".into(),
        what: what.into(),
        rows,
    }
}

#[tokio::test]
async fn booleans_and_integers() {
    use LogicalType::*;
    let values = BooleanArray::from(vec![Some(true), Some(false), None]);
    exactly(Boolean, "boolean", Arc::new(values), &["t", "f"]).await;
    let values = Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None]);
    exactly(Int16, "smallint", Arc::new(values), &["-32768", "32767"]).await;
    let values = Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]);
    exactly(
        Int32,
        "integer",
        Arc::new(values),
        &["-2147483648", "2147483647"],
    )
    .await;
    let values = Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]);
    let expected = ["-9223372036854775808", "9223372036854775807"];
    exactly(Int64, "bigint", Arc::new(values), &expected).await;
    let values = UInt64Array::from(vec![Some(0), Some(10_000), Some(u64::MAX), None]);
    let expected = ["0", "10000", "18446744073709551615"];
    exactly(UInt64, "numeric(20,0)", Arc::new(values), &expected).await;
}

#[tokio::test]
async fn floats() {
    let values = Float32Array::from(vec![
        Some(f32::MIN),
        Some(0.1),
        Some(f32::NAN),
        Some(f32::INFINITY),
        Some(-0.0),
        None,
    ]);
    let expected = ["-3.4028235e+38", "0.1", "NaN", "Infinity", "-0"];
    exactly(LogicalType::Float32, "real", Arc::new(values), &expected).await;
    let values = Float64Array::from(vec![
        Some(f64::MAX),
        Some(5e-324),
        Some(f64::NEG_INFINITY),
        None,
    ]);
    let expected = ["1.7976931348623157e+308", "5e-324", "-Infinity"];
    exactly(
        LogicalType::Float64,
        "double precision",
        Arc::new(values),
        &expected,
    )
    .await;
}

#[tokio::test]
async fn decimals() {
    let narrow = |precision, scale, values: Vec<i128>| {
        let values: Vec<Option<i128>> = values.into_iter().map(Some).chain([None]).collect();
        let array = Decimal128Array::from(values)
            .with_precision_and_scale(precision, scale)
            .unwrap();
        (
            LogicalType::Decimal { precision, scale },
            Arc::new(array) as ArrayRef,
        )
    };
    let (logical, values) = narrow(12, 2, vec![0, 5, -100, 999_999_999_999]);
    exactly(
        logical,
        "numeric(12,2)",
        values,
        &["0.00", "0.05", "-1.00", "9999999999.99"],
    )
    .await;
    let (logical, values) = narrow(38, 38, vec![1, -(10_i128.pow(38) - 1)]);
    let expected = [
        "0.00000000000000000000000000000000000001",
        "-0.99999999999999999999999999999999999999",
    ];
    exactly(logical, "numeric(38,38)", values, &expected).await;
    let (logical, values) = narrow(38, 0, vec![10_i128.pow(38) - 1, 100_000_000]);
    let expected = ["99999999999999999999999999999999999999", "100000000"];
    exactly(logical, "numeric(38,0)", values, &expected).await;
    let (logical, values) = narrow(5, -3, vec![-99_999, 1]);
    exactly(logical, "numeric(8,0)", values, &["-99999000", "1000"]).await;

    let digits = "9".repeat(76);
    let wide = vec![
        i256::from_string(&format!("-{digits}")),
        i256::from_string("1"),
        None,
    ];
    let wide = Decimal256Array::from(wide)
        .with_precision_and_scale(76, 10)
        .unwrap();
    let logical = LogicalType::Decimal {
        precision: 76,
        scale: 10,
    };
    let expected = [
        format!("-{}.{}", &digits[..66], &digits[66..]),
        "0.0000000001".into(),
    ];
    let expected = expected.each_ref().map(String::as_str);
    exactly(logical, "numeric(76,10)", Arc::new(wide), &expected).await;
}

#[tokio::test]
async fn numbers_without_bounds() {
    let long = format!("{}.{}", "7".repeat(500), "3".repeat(500));
    let numbers = [
        "0",
        "-0.10",
        "1e3",
        "1.50E-7",
        "NaN",
        "Infinity",
        "-Infinity",
        &long,
        ".5",
    ];
    let values: StringArray = numbers.iter().map(|n| Some(*n)).chain([None]).collect();
    let expected = [
        "0",
        "-0.10",
        "1000",
        "0.000000150",
        "NaN",
        "Infinity",
        "-Infinity",
        &long,
        "0.5",
    ];
    exactly(LogicalType::Numeric, "numeric", Arc::new(values), &expected).await;

    let rig = Rig::new().await;
    let values = StringArray::from(vec![
        Some("1e131071"),
        Some("1e131072"),
        Some("1e-16384"),
        None,
    ]);
    let (printed, notes) = stored(&rig, LogicalType::Numeric, "numeric", Arc::new(values)).await;
    assert_eq!(printed[0].len(), 131_072);
    assert_eq!(printed[1..], ["null", "null"]);
    assert_eq!(
        notes,
        [note(
            "a number outside of PostgreSQL's range is stored as null",
            2
        )]
    );
}

#[tokio::test]
async fn text_loses_its_nul_characters_and_nothing_else() {
    let rig = Rig::new().await;
    let values = ["", "Grüße 🎉\n\t\\N \\.", "a\0b\0", "\0", "NULL"];
    let values: StringArray = values.iter().map(|v| Some(*v)).chain([None]).collect();
    let (printed, notes) = stored(&rig, LogicalType::Text, "text", Arc::new(values)).await;
    assert_eq!(printed, ["", "Grüße 🎉\n\t\\N \\.", "ab", "", "NULL"]);
    assert_eq!(notes, [note("NUL characters are removed", 2)]);
}

#[tokio::test]
async fn json_loses_what_jsonb_cannot_hold_and_nothing_else() {
    let rig = Rig::new().await;
    let values = [
        r#"{"a": [1, 2.50, null], "b": "x\ny"}"#,
        r#""\\u0000""#,
        r#"{"k\u0000": "a\u0000b"}"#,
        r#""\ud83d\ude00 \ud83d""#,
        "12345678901234567890.123",
    ];
    let values: StringArray = values.iter().map(|v| Some(*v)).chain([None]).collect();
    let (printed, notes) = stored(&rig, LogicalType::Json, "jsonb", Arc::new(values)).await;
    let expected = [
        r#"{"a": [1, 2.50, null], "b": "x\ny"}"#,
        r#""\\u0000""#,
        r#"{"k": "ab"}"#,
        "\"😀 \u{FFFD}\"",
        "12345678901234567890.123",
    ];
    assert_eq!(printed, expected);
    let notes_expected = [
        note("NUL characters are removed", 1),
        note("half surrogate pairs are replaced by U+FFFD", 1),
    ];
    assert_eq!(notes, notes_expected);
}

#[tokio::test]
async fn uuids_and_binary() {
    let id = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    let values = [Some(id), None].into_iter();
    let values = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).unwrap();
    let expected = ["00112233-4455-6677-8899-aabbccddeeff"];
    exactly(LogicalType::Uuid, "uuid", Arc::new(values), &expected).await;
    let values = BinaryArray::from(vec![Some(b"".as_slice()), Some(b"\x00\xff\\"), None]);
    exactly(
        LogicalType::Binary,
        "bytea",
        Arc::new(values),
        &["\\x", "\\x00ff5c"],
    )
    .await;
}

const DATE_NOTE: &str = "a date outside of PostgreSQL's range is stored as null";

#[tokio::test]
async fn dates() {
    let rig = Rig::new().await;
    let (first, last) = (-2_451_545 + 10_957, 2_145_031_948 + 10_957);
    let values = [
        0,
        -719_163,
        first,
        last,
        DATE_INFINITY,
        DATE_MINUS_INFINITY,
        first - 1,
        last + 1,
    ];
    let values: Date32Array = values.into_iter().map(Some).chain([None]).collect();
    let (printed, notes) = stored(&rig, LogicalType::Date, "date", Arc::new(values)).await;
    let expected = [
        "1970-01-01",
        "0001-12-31 BC",
        "4714-11-24 BC",
        "5874897-12-31",
        "infinity",
        "-infinity",
        "null",
        "null",
    ];
    assert_eq!(printed, expected);
    assert_eq!(notes, [note(DATE_NOTE, 2)]);
}

#[tokio::test]
async fn times() {
    let rig = Rig::new().await;
    let values = vec![
        Some(0),
        Some(86_399_999_999),
        Some(86_400_000_000),
        Some(86_400_000_001),
        Some(-1),
        None,
    ];
    let values = Time64MicrosecondArray::from(values);
    let declared = "time without time zone";
    let (printed, notes) = stored(&rig, LogicalType::Time, declared, Arc::new(values)).await;
    assert_eq!(
        printed,
        ["00:00:00", "23:59:59.999999", "24:00:00", "null", "null"]
    );
    assert_eq!(notes, [note("a time after 24:00 is stored as null", 2)]);
}

#[tokio::test]
async fn timestamps() {
    let rig = Rig::new().await;
    let epoch = 946_684_800_000_000;
    let first = -211_813_488_000_000_000 + epoch;
    let values = [
        0,
        -1,
        first,
        TIMESTAMP_INFINITY,
        TIMESTAMP_MINUS_INFINITY,
        first - 1,
        i64::MIN + 1,
        i64::MAX - 1,
    ];
    let values: TimestampMicrosecondArray = values.into_iter().map(Some).chain([None]).collect();
    let expected = |zone: &str| {
        let print = |text: &str| match text {
            "infinity" | "-infinity" | "null" => text.to_owned(),
            _ => match text.strip_suffix(" BC") {
                Some(text) => format!("{text}{zone} BC"),
                None => format!("{text}{zone}"),
            },
        };
        [
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "4714-11-24 00:00:00 BC",
            "infinity",
            "-infinity",
            "null",
            "null",
            "294247-01-10 04:00:54.775806",
        ]
        .map(print)
    };
    let declared = "timestamp without time zone";
    let plain = Arc::new(values.clone());
    let (printed, notes) = stored(&rig, LogicalType::Timestamp, declared, plain).await;
    assert_eq!(printed, expected(""));
    assert_eq!(notes, [note(DATE_NOTE, 2)]);
    let zoned = Arc::new(values.with_timezone("UTC"));
    let declared = "timestamp with time zone";
    let (printed, notes) = stored(&rig, LogicalType::TimestampTz, declared, zoned).await;
    assert_eq!(printed, expected("+00"));
    assert_eq!(notes, [note(DATE_NOTE, 2)]);
}

#[tokio::test]
async fn intervals() {
    let rig = Rig::new().await;
    let values = [
        "PT0S",
        "P1Y2M3DT4H5M6.789S",
        "P-1Y-2M3DT-4H-5M-6.5S",
        "P2W",
        "PT36H",
        "-P1D",
        "PT0.0000015S",
        "infinity",
        "P999999999Y",
    ];
    let values: StringArray = values.iter().map(|v| Some(*v)).chain([None]).collect();
    let (printed, notes) = stored(&rig, LogicalType::Interval, "interval", Arc::new(values)).await;
    let expected = [
        "PT0S",
        "P1Y2M3DT4H5M6.789S",
        "P-1Y-2M3DT-4H-5M-6.5S",
        "P14D",
        "PT36H",
        "P-1D",
        "PT0.000002S",
        "null",
        "null",
    ];
    assert_eq!(printed, expected);
    assert_eq!(
        notes,
        [
            note("fractions of a microsecond are rounded", 1),
            note(
                "an interval outside of PostgreSQL's range is stored as null",
                2
            )
        ]
    );
}

#[tokio::test]
async fn text_that_is_not_what_its_type_says_is_an_error_without_the_value() {
    let rig = Rig::new().await;
    for (logical, wrong) in [
        (LogicalType::Numeric, "secret"),
        (LogicalType::Interval, "secret"),
        (LogicalType::Json, "{\"secret, column secret\n"),
    ] {
        let mut load = people(Write::Append);
        load.target.columns[1].logical = logical;
        let table = rig.begin(load.clone()).await;
        let part = || {
            let ids = Arc::new(Int64Array::from(vec![1]));
            batch(&load, vec![ids, Arc::new(StringArray::from(vec![wrong]))])
        };
        let error = try_land(table.as_ref(), "1", part()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Data, "{error:?}");
        assert!(error.to_string().contains("column name"), "{error}");
        assert!(
            !format!("{error:?} {error}").contains("secret"),
            "{error:?}"
        );
        table.abandon().await.unwrap();
    }
}

#[tokio::test]
async fn a_row_larger_than_a_message_passes() {
    let rig = Rig::new().await;
    let large = "0123456789abcdef".repeat(400_000);
    let rows_of_size = [(1, "small"), (2, large.as_str()), (3, "small")];
    assert_eq!(
        rig.load(people(SOFT), rows(&rows_of_size)).await,
        did(3, 0, 0, 0)
    );
    let found = "SELECT length(name), md5(name) = md5(repeat('0123456789abcdef', 400000)) \
                 FROM shop.people WHERE id = 2";
    assert_eq!(rig.one(found).await, "6400000|t");
    assert_eq!(
        rig.load(people(SOFT), rows(&rows_of_size)).await,
        did(0, 0, 0, 3)
    );
}
