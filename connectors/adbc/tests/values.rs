//! Each logical type with its edge values, there and back.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
    cast::AsArray,
};
use arrow_select::concat::concat_batches;
use tideway_core::{
    Batch, Column, LogicalType,
    destination::{Load, TargetTable, Write},
    schema::arrow_schema,
    types::{DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::given::*;

type Case = (&'static str, LogicalType, ArrayRef);

pub fn decimal(precision: u8, scale: i8) -> LogicalType {
    LogicalType::Decimal { precision, scale }
}

fn texts(values: [Option<&str>; 6]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Six values of each type, a null among them.
pub fn cases() -> Vec<Case> {
    let uuids = [[0; 16], [255; 16], [0x80; 16], [0x7f; 16], [1; 16]];
    let uuids = uuids.iter().map(|id| Some(id.as_slice())).chain([None]);
    let huge = arrow_array::types::Decimal256Type::default_type_max();
    vec![
        (
            "boolean",
            LogicalType::Boolean,
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
                Some(true),
                Some(false),
            ])),
        ),
        (
            "int16",
            LogicalType::Int16,
            Arc::new(Int16Array::from(vec![
                Some(i16::MIN),
                Some(i16::MAX),
                Some(0),
                Some(-1),
                None,
                Some(1),
            ])),
        ),
        (
            "int32",
            LogicalType::Int32,
            Arc::new(Int32Array::from(vec![
                Some(i32::MIN),
                Some(i32::MAX),
                Some(0),
                Some(-1),
                None,
                Some(1),
            ])),
        ),
        (
            "int64",
            LogicalType::Int64,
            Arc::new(Int64Array::from(vec![
                Some(i64::MIN),
                Some(i64::MAX),
                Some(0),
                Some(-1),
                None,
                Some(1),
            ])),
        ),
        (
            "uint64",
            LogicalType::UInt64,
            Arc::new(UInt64Array::from(vec![
                Some(u64::MAX),
                Some(0),
                Some(i64::MAX as u64 + 1),
                Some(1),
                None,
                Some(2),
            ])),
        ),
        (
            "float32",
            LogicalType::Float32,
            Arc::new(Float32Array::from(vec![
                Some(f32::MAX),
                Some(f32::MIN_POSITIVE),
                Some(f32::NEG_INFINITY),
                Some(f32::NAN),
                None,
                Some(0.1),
            ])),
        ),
        (
            "float64",
            LogicalType::Float64,
            Arc::new(Float64Array::from(vec![
                Some(f64::MAX),
                Some(5e-324),
                Some(f64::INFINITY),
                Some(f64::NAN),
                None,
                Some(-0.0),
            ])),
        ),
        (
            "decimal_1",
            decimal(1, 0),
            decimal128(1, 0, [9, -9, 0, 1, 2]),
        ),
        (
            "decimal_12_2",
            decimal(12, 2),
            decimal128(12, 2, [999_999_999_999, -999_999_999_999, 0, 1, -100]),
        ),
        (
            "decimal_38_38",
            decimal(38, 38),
            decimal128(38, 38, [10_i128.pow(38) - 1, 1 - 10_i128.pow(38), 0, 1, -1]),
        ),
        (
            "decimal_76_10",
            decimal(76, 10),
            Arc::new(
                Decimal256Array::from(vec![
                    Some(huge),
                    Some(huge.wrapping_neg()),
                    Some(0.into()),
                    Some(1.into()),
                    Some((-1).into()),
                    None,
                ])
                .with_precision_and_scale(76, 10)
                .unwrap(),
            ),
        ),
        (
            "numeric",
            LogicalType::Numeric,
            texts([
                Some("NaN"),
                Some("-0.00"),
                Some("123456789012345678901234567890123456789012345678901234567890.5"),
                Some("1e10"),
                None,
                Some("Infinity"),
            ]),
        ),
        (
            "text",
            LogicalType::Text,
            texts([
                Some(""),
                Some("null \0 byte"),
                Some("größer 🦆 \u{10FFFF}"),
                Some("a'b\"c\\d\n\t"),
                None,
                Some("NULL"),
            ]),
        ),
        (
            "json",
            LogicalType::Json,
            texts([
                Some("{}"),
                Some("{\"b\":  1, \"a\": [1.50, null, \"\\u0000\"]}"),
                Some("null"),
                Some("\"x\""),
                None,
                Some("1e400"),
            ]),
        ),
        (
            "uuid",
            LogicalType::Uuid,
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap()),
        ),
        (
            "binary",
            LogicalType::Binary,
            Arc::new(BinaryArray::from(vec![
                Some(&b""[..]),
                Some(b"\0"),
                Some(b"\xff\xfe\\x00"),
                Some(b"'"),
                None,
                Some(b"text"),
            ])),
        ),
        (
            "date",
            LogicalType::Date,
            Arc::new(Date32Array::from(vec![
                Some(DATE_INFINITY),
                Some(DATE_MINUS_INFINITY),
                Some(0),
                Some(-2_440_588),
                None,
                Some(2_932_896),
            ])),
        ),
        (
            "time",
            LogicalType::Time,
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(0),
                Some(86_399_999_999),
                Some(86_400_000_000),
                Some(1),
                None,
                Some(43_200_000_000),
            ])),
        ),
        ("timestamp", LogicalType::Timestamp, Arc::new(micros())),
        (
            "timestamptz",
            LogicalType::TimestampTz,
            Arc::new(micros().with_timezone("UTC")),
        ),
        (
            "interval",
            LogicalType::Interval,
            texts([
                Some("P1Y2M3DT4H5M6.789S"),
                Some("P-178956970Y-7M"),
                Some("PT0S"),
                Some("P1M-1DT-0.000001S"),
                None,
                Some("PT2562047788H54.775807S"),
            ]),
        ),
    ]
}

fn decimal128(precision: u8, scale: i8, values: [i128; 5]) -> ArrayRef {
    let values = values.into_iter().map(Some).chain([None]);
    let array: Decimal128Array = values.collect();
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

fn micros() -> TimestampMicrosecondArray {
    // Infinities, the first second of 4713 BC, and the last microsecond of 9999.
    vec![
        Some(TIMESTAMP_INFINITY),
        Some(TIMESTAMP_MINUS_INFINITY),
        Some(-210_866_803_200_000_000),
        Some(253_402_300_799_999_999),
        None,
        Some(-1),
    ]
    .into()
}

trait Largest {
    fn default_type_max() -> arrow_buffer::i256;
}

impl Largest for arrow_array::types::Decimal256Type {
    fn default_type_max() -> arrow_buffer::i256 {
        let nines: String = "9".repeat(76);
        arrow_buffer::i256::from_string(&nines).unwrap()
    }
}

pub fn columns(cases: &[Case]) -> Vec<Column> {
    cases
        .iter()
        .map(|(name, logical, _)| Column::new(name, *logical))
        .collect()
}

pub fn whole(cases: &[Case], times: usize) -> RecordBatch {
    let arrays = cases.iter().map(|(_, _, array)| array.clone()).collect();
    let once = RecordBatch::try_new(arrow_schema(&columns(cases)), arrays).unwrap();
    concat_batches(&once.schema(), &vec![once.clone(); times]).unwrap()
}

pub fn target(name: &str, columns: Vec<Column>, write: Write, id: &str) -> Load {
    Load {
        target: TargetTable {
            namespace: None,
            name: name.to_owned(),
            columns,
            key: vec![],
            partition_key: None,
            history: None,
        },
        ..load(id, write)
    }
}

pub async fn read_table(place: &Place, name: &str) -> (Vec<Column>, RecordBatch) {
    let table = table(&place.connection, name).await;
    let columns = table.columns.clone();
    let batches = read_all(&snapshot(&place.connection).await, &read_of(table)).await;
    assert!(
        batches.iter().all(|batch| batch.notes.is_empty()),
        "{:?}",
        batches[0].notes
    );
    let rows: Vec<RecordBatch> = batches.into_iter().map(|batch| batch.rows).collect();
    (columns, concat_batches(&rows[0].schema(), &rows).unwrap())
}

#[tokio::test]
async fn every_type_comes_back_exactly_as_it_went() {
    let place = place().await;
    let cases = cases();
    let columns = columns(&cases);
    let sent = whole(&cases, 1);
    for (index, write) in [Write::Replace, Write::Append].into_iter().enumerate() {
        let load = target("t", columns.clone(), write, &format!("w{index}"));
        run(&place.connection, load, std::slice::from_ref(&sent)).await;
    }
    let (read, received) = read_table(&place, "main.t").await;
    for (sent, got) in columns.iter().zip(&read) {
        assert_eq!((&sent.name, sent.logical), (&got.name, got.logical));
    }
    assert_eq!(received.schema(), arrow_schema(&read));
    for half in [received.slice(0, 6), received.slice(6, 6)] {
        for (name, _, array) in &cases {
            same(name, array, half.column_by_name(name).unwrap());
        }
    }
    // From DuckDB to DuckDB nothing changes either.
    let copy = target("copy", read.clone(), Write::Replace, "copy");
    run(&place.connection, copy, std::slice::from_ref(&received)).await;
    let (copied, again) = read_table(&place, "main.copy").await;
    assert_eq!(copied, read);
    for (left, right) in received.columns().iter().zip(again.columns()) {
        same("copy", left, right);
    }
}

/// NaN equals NaN here, and minus zero does not equal zero.
pub fn same(what: &str, left: &ArrayRef, right: &ArrayRef) {
    assert_eq!(left.data_type(), right.data_type(), "{what}");
    assert_eq!(format!("{left:?}"), format!("{right:?}"), "{what}");
    let bits = |array: &ArrayRef| -> Vec<Option<u64>> {
        let floats = array.as_primitive::<arrow_array::types::Float64Type>();
        floats.iter().map(|float| float.map(f64::to_bits)).collect()
    };
    match left.data_type() {
        arrow_schema::DataType::Float64 => assert_eq!(bits(left), bits(right), "{what}"),
        arrow_schema::DataType::Float32 => {}
        _ => assert_eq!(left, right, "{what}"),
    }
}

#[tokio::test]
async fn slices_and_long_batches_keep_every_value_in_its_row() {
    let place = place().await;
    let cases = cases();
    // An odd number of rows, begun in the middle of a byte of validity.
    let sent = whole(&cases, 1000).slice(5, 5987);
    let loading = begin(
        &place.connection,
        target("t", columns(&cases), Write::Replace, "s"),
    )
    .await;
    let mut lane = loading.lane().await.unwrap();
    for (from, count) in [(0, 3), (3, 4984), (4987, 1000)] {
        lane.write(Batch::of_rows(sent.slice(from, count)))
            .await
            .unwrap();
    }
    lane.commit("p").await.unwrap();
    loading.finish().await.unwrap();
    drop((lane, loading));
    // The values of a row belong together: each of the six kinds is there as often as sent.
    let text = |rows: &RecordBatch, row: usize| format!("{:?}", rows.slice(row, 1).columns());
    let sorted = |rows: &RecordBatch| {
        let mut all: Vec<String> = (0..rows.num_rows()).map(|row| text(rows, row)).collect();
        all.sort();
        all
    };
    let (_, received) = read_table(&place, "main.t").await;
    assert_eq!(sorted(&received), sorted(&sent));
}

#[tokio::test]
async fn duckdb_sees_values_of_its_own_types() {
    let place = place().await;
    let cases = cases();
    let load = target("t", columns(&cases), Write::Replace, "w");
    run(&place.connection, load, &[whole(&cases, 1)]).await;
    let seen = place.sql(&[
        "SELECT date::VARCHAR, timestamp::VARCHAR, timestamptz::VARCHAR, \"interval\"::VARCHAR, uuid::VARCHAR, \
         json->>'$.a[2]', isnan(float64), time::VARCHAR FROM t WHERE date = 'infinity' \
         OR date = '-infinity' ORDER BY date",
    ]);
    assert_eq!(
        seen,
        [
            [
                "-infinity",
                "-infinity",
                "-infinity",
                "-178956970 years -7 months",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "\u{0}",
                "false",
                "23:59:59.999999"
            ],
            [
                "infinity",
                "infinity",
                "infinity",
                "1 year 2 months 3 days 04:05:06.789",
                "00000000-0000-0000-0000-000000000000",
                "NULL",
                "false",
                "00:00:00"
            ],
        ]
    );
    let types = place.sql(&["SELECT string_agg(data_type, ' ' ORDER BY column_index) FROM duckdb_columns() WHERE table_name = 't'"]);
    assert_eq!(
        types[0][0],
        "BOOLEAN SMALLINT INTEGER BIGINT UBIGINT FLOAT DOUBLE DECIMAL(1,0) DECIMAL(12,2) DECIMAL(38,38) \
         VARCHAR VARCHAR VARCHAR JSON UUID BLOB DATE TIME TIMESTAMP TIMESTAMP WITH TIME ZONE INTERVAL"
    );
}

#[tokio::test]
async fn what_an_interval_of_duckdb_cannot_hold_becomes_null_with_a_note() {
    let place = place().await;
    let columns = vec![Column::new("i", LogicalType::Interval)];
    let values = StringArray::from(vec![
        Some("infinity"),
        Some("P1D"),
        None,
        Some("PT0.0000001S"),
    ]);
    let rows = RecordBatch::try_new(arrow_schema(&columns), vec![Arc::new(values)]).unwrap();
    let loading = begin(&place.connection, target("t", columns, Write::Replace, "i")).await;
    let mut lane = loading.lane().await.unwrap();
    let accepted = lane.write(Batch::of_rows(rows)).await.unwrap();
    let notes: Vec<_> = accepted
        .notes
        .iter()
        .map(|n| (n.column.as_str(), n.rows))
        .collect();
    assert_eq!(notes, [("i", 2)]);
    lane.commit("p").await.unwrap();
    loading.finish().await.unwrap();
    drop((lane, loading));
    assert_eq!(
        place.sql(&["SELECT count(*), count(i) FROM t"]),
        [["4", "1"]]
    );
}
