//! Parquet as others write it.

use std::{path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Date64Array, DictionaryArray, Float32Array, Int8Array, LargeStringArray,
    ListArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt8Array, UInt32Array,
    types::{Int8Type, Int32Type},
};
use arrow_schema::{DataType, Field};
use parquet::{
    arrow::ArrowWriter,
    data_type::{ByteArray, Int96, Int96Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use tempfile::TempDir;
use tideway_core::LogicalType as L;

use crate::support::*;

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, rows_per_group: usize) {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn foreign_types_are_read_as_ours() {
    let home = TempDir::new().unwrap();
    let lists = vec![Some(vec![Some(1), None]), None];
    let member: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
    let members = StructArray::from(vec![(
        Arc::new(Field::new("m", DataType::Utf8, true)),
        member,
    )]);
    let words: DictionaryArray<Int8Type> = vec!["on", "off"].into_iter().collect();
    write(
        &home.path().join("t.parquet"),
        vec![
            (
                "tiny",
                Arc::new(Int8Array::from(vec![-128, 127])) as ArrayRef,
            ),
            ("byte", Arc::new(UInt8Array::from(vec![0, 255]))),
            ("wide", Arc::new(UInt32Array::from(vec![0, u32::MAX]))),
            ("word", Arc::new(words)),
            (
                "view",
                Arc::new(StringViewArray::from(vec![
                    "a",
                    "a rather long text indeed",
                ])),
            ),
            ("large", Arc::new(LargeStringArray::from(vec!["b", "c"]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            ),
            ("object", Arc::new(members)),
            (
                "milli",
                Arc::new(TimestampMillisecondArray::from(vec![0, 1]).with_timezone("+02:00")),
            ),
            (
                "nano",
                Arc::new(TimestampNanosecondArray::from(vec![1, 1000])),
            ),
            ("day", Arc::new(Date64Array::from(vec![0, 86_400_000]))),
            ("real", Arc::new(Float32Array::from(vec![0.1, -1.0]))),
        ],
        10,
    );
    let connection = folder(home.path()).await;
    let table = table(&*connection, "t").await;
    assert_eq!(
        shape(&table),
        [
            ("tiny", L::Int16),
            ("byte", L::Int16),
            ("wide", L::Int64),
            ("word", L::Text),
            ("view", L::Text),
            ("large", L::Text),
            ("list", L::Json),
            ("object", L::Json),
            ("milli", L::TimestampTz),
            ("nano", L::Timestamp),
            ("day", L::Date),
            ("real", L::Float32),
        ]
    );
    let reading = read(&*connection, read_request(&table)).await.unwrap();
    assert_eq!(
        reading.rows[0],
        [
            "-128",
            "0",
            "0",
            "on",
            "a",
            "b",
            "[1,null]",
            "{\"m\":\"x\"}",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01",
            "0.1"
        ]
    );
    assert_eq!(
        reading.rows[1],
        [
            "127",
            "255",
            "4294967295",
            "off",
            "a rather long text indeed",
            "c",
            NULL,
            "{\"m\":null}",
            "1970-01-01T00:00:00.001Z",
            "1970-01-01T00:00:00.000001",
            "1970-01-02",
            "-1.0"
        ]
    );
    assert_eq!(
        (reading.notes[0].column.as_str(), reading.notes[0].rows),
        ("nano", 1)
    );
}

#[tokio::test]
async fn old_timestamps_reach_beyond_the_year_2262() {
    let home = TempDir::new().unwrap();
    let schema = parse_message_type("message m { optional int96 at; optional binary v (utf8); }");
    let file = std::fs::File::create(home.path().join("t.parquet")).unwrap();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema.unwrap()), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let mut at = Int96::new();
    // 9999-12-31T00:00:01 as a Julian day with nanoseconds.
    at.set_data(1_000_000_000, 0, 5_373_484);
    column
        .typed::<Int96Type>()
        .write_batch(&[at], Some(&[1]), None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts = [ByteArray::from("x")];
    column
        .typed::<parquet::data_type::ByteArrayType>()
        .write_batch(&texts, Some(&[1]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let connection = folder(home.path()).await;
    assert_eq!(
        rows_of(&*connection, "t").await,
        rows("9999-12-31T00:00:01|x")
    );
}

#[tokio::test]
async fn a_large_file_is_read_in_parts_of_row_groups_on_disk_and_on_a_server() {
    // 160 MiB that cannot be compressed, in groups of 16 MiB.
    let home = TempDir::new().unwrap();
    let mut state = 1_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state
    };
    let numbers: Vec<u64> = (0..20 << 20).map(|_| noise()).collect();
    let ids: Vec<u32> = (0..20 << 20).collect();
    write(
        &home.path().join("t.parquet"),
        vec![
            ("id", Arc::new(UInt32Array::from(ids)) as ArrayRef),
            ("n", Arc::new(arrow_array::UInt64Array::from(numbers))),
        ],
        2 << 20,
    );
    let bucket = Bucket::new();
    std::fs::rename(
        home.path().join("t.parquet"),
        bucket.folder.join("t.parquet"),
    )
    .unwrap();
    for connection in [folder(&bucket.folder).await, bucket.connect("").await] {
        let table = table(&*connection, "t").await;
        assert_eq!(table.row_estimate, Some(20 << 20));
        let mut request = read_request(&table);
        request.columns = vec![table.columns[0].clone()];
        request.batch_bytes = 1 << 20;
        let snapshot = connection
            .roles()
            .source
            .unwrap()
            .open(&serde_json::json!({}))
            .await
            .unwrap();
        let scan = snapshot.plan(&request).await.unwrap();
        assert!(scan.parts.len() > 1, "{}", scan.parts.len());
        let mut seen = vec![false; 20 << 20];
        let request = Arc::new(request);
        for part in scan.parts {
            use futures::TryStreamExt;
            let mut batches = snapshot.clone().read(request.clone(), part);
            while let Some(batch) = batches.try_next().await.unwrap() {
                assert!(batch.byte_count() < 4 << 20, "{}", batch.byte_count());
                let ids = batch
                    .rows
                    .column(0)
                    .as_any()
                    .downcast_ref::<arrow_array::Int64Array>();
                ids.unwrap()
                    .values()
                    .iter()
                    .for_each(|id| seen[*id as usize] = true);
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
