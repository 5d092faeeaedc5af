//! CSV as it comes.

use std::io::Write as _;

use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;
use tideway_core::{Kind, LogicalType as L};

use crate::support::*;

async fn one_file(
    content: impl AsRef<[u8]>,
) -> (TempDir, std::sync::Arc<dyn tideway_core::Connection>) {
    let home = TempDir::new().unwrap();
    put(home.path(), "t.csv", content);
    let connection = folder(home.path()).await;
    (home, connection)
}

#[tokio::test]
async fn types_are_found_and_values_kept_exactly() {
    let (_home, connection) = one_file(
        "id,code,amount,ratio,day,at,zoned,ok,big,note\n\
         1,00123,12.30,0.30000000000000004,2024-02-29,2024-02-29 10:00:00.5,2024-02-29T12:00:00+02:00,true,9223372036854775808,\"a, b\"\n\
         2,124,7,1e-7,1969-12-31,1969-12-31T23:59:59,1970-01-01 00:00:00Z,FALSE,-1,\"line\nbreak \"\"q\"\"\"\n\
         ,,,,,,,,,\n\
         3,,,,,,,,,\"\"\n",
    )
    .await;
    let table = table(&*connection, "t").await;
    let decimal = |precision, scale| L::Decimal { precision, scale };
    assert_eq!(
        shape(&table),
        [
            ("id", L::Int64),
            ("code", L::Text),
            ("amount", decimal(18, 2)),
            ("ratio", L::Float64),
            ("day", L::Date),
            ("at", L::Timestamp),
            ("zoned", L::TimestampTz),
            ("ok", L::Boolean),
            ("big", decimal(38, 0)),
            ("note", L::Text),
        ]
    );
    let found = read(&*connection, read_request(&table)).await.unwrap().rows;
    let n = NULL;
    assert_eq!(
        found,
        [
            [
                "1",
                "00123",
                "12.30",
                "0.30000000000000004",
                "2024-02-29",
                "2024-02-29T10:00:00.5",
                "2024-02-29T10:00:00Z",
                "true",
                "9223372036854775808",
                "a, b"
            ],
            [
                "2",
                "124",
                "7.00",
                "1e-7",
                "1969-12-31",
                "1969-12-31T23:59:59",
                "1970-01-01T00:00:00Z",
                "false",
                "-1",
                "line\nbreak \"q\""
            ],
            [n, n, n, n, n, n, n, n, n, n],
            ["3", n, n, n, n, n, n, n, n, ""],
        ]
    );
}

#[tokio::test]
async fn marks_and_windows_line_ends_are_no_part_of_the_data() {
    let (_home, connection) = one_file("\u{feff}id,name\r\n1,Ada\r\n\r\n2,Bob\r\n").await;
    assert_eq!(rows_of(&*connection, "t").await, rows("1|Ada\n2|Bob"));
}

#[tokio::test]
async fn a_ragged_row_is_named_by_file_and_line() {
    for content in ["id,name\n1,\"a\nb\"\n2\n", "id,name\n1,\"a\nb\"\n2,x,y\n"] {
        let (_home, connection) = one_file(content).await;
        let source = connection.roles().source.unwrap();
        let error = source.discover(&Default::default()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Data);
        assert!(error.what().contains("t.csv, line 4"), "{error}");
    }
}

#[tokio::test]
async fn headers_that_occur_twice_or_are_empty_get_names_of_their_own() {
    let (_home, connection) = one_file("id,id,,id_2\n1,2,3,4\n").await;
    let table = table(&*connection, "t").await;
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "id_2", "column_3", "id_2_2"]);
    assert_eq!(rows_of(&*connection, "t").await, rows("1|2|3|4"));
}

#[tokio::test]
async fn files_without_headers_and_with_lines_to_skip_are_read() {
    let home = TempDir::new().unwrap();
    put(
        home.path(),
        "t.csv",
        "# made by a machine\n# \"on Monday\n1,Ada\n2,Bob\n",
    );
    let settings = serde_json::json!({"csv_has_headers": false, "skip_lines": 2});
    let connection = folder_with(home.path(), settings).await;
    let table = table(&*connection, "t").await;
    assert_eq!(
        shape(&table),
        [("column_1", L::Int64), ("column_2", L::Text)]
    );
    assert_eq!(rows_of(&*connection, "t").await, rows("1|Ada\n2|Bob"));
}

#[tokio::test]
async fn gzip_and_zstd_are_unpacked_by_what_is_in_the_file() {
    let home = TempDir::new().unwrap();
    let text = "id,name\n1,Ada\n";
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    put(home.path(), "a.csv.gz", &gzip);
    put(
        home.path(),
        "b.csv.zst",
        zstd::encode_all(text.as_bytes(), 3).unwrap(),
    );
    put(home.path(), "c.csv", &gzip);
    let connection = folder(home.path()).await;
    for id in ["a", "b", "c"] {
        assert_eq!(rows_of(&*connection, id).await, rows("1|Ada"));
    }
    put(home.path(), "a.csv.gz", &gzip[..gzip.len() - 10]);
    let connection = folder(home.path()).await;
    let source = connection.roles().source.unwrap();
    let scope = tideway_core::source::Scope {
        tables: Some(vec!["a".into()]),
        ..Default::default()
    };
    let error = source.discover(&scope).await.unwrap_err();
    assert_eq!(error.kind, Kind::Data, "{error}");
}

#[tokio::test]
async fn a_value_that_comes_too_late_to_be_seen_is_drift_and_is_seen_next_time() {
    let home = TempDir::new().unwrap();
    let mut text = String::from("id,v\n");
    let filler = "x".repeat(1000);
    for id in 0..70_000 {
        text += &format!("{id},\"{filler}\"\n");
    }
    // Beyond what is looked at.
    text += "seventy thousand,y\n";
    put(home.path(), "t.csv", &text);
    let connection = folder(home.path()).await;
    let before = table(&*connection, "t").await;
    assert_eq!(before.columns[0].logical, L::Int64);
    let failed = read(&*connection, read_request(&before)).await;
    let error = failed.err().unwrap();
    assert_eq!(error.kind, Kind::Drift);
    assert!(
        error.what().contains("t.csv, line 70002, column id"),
        "{error}"
    );
    assert!(error.advice().contains("refresh"), "{}", error.advice());
    let after = table(&*connection, "t").await;
    assert_eq!(after.columns[0].logical, L::Text);
    let reading = read(&*connection, read_request(&after)).await.unwrap();
    assert_eq!(reading.rows.len(), 70_001);
    assert_eq!(reading.rows[70_000][0], "seventy thousand");
}

#[tokio::test]
async fn a_file_that_gets_a_new_column_is_drift() {
    let (home, connection) = one_file("id\n1\n").await;
    let before = table(&*connection, "t").await;
    put(home.path(), "t.csv", "id,extra\n1,2\n");
    let error = read(&*connection, read_request(&before))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Drift);
    assert!(error.what().contains("extra"), "{error}");
    assert_eq!(table(&*connection, "t").await.columns.len(), 2);
}

#[tokio::test]
async fn a_file_changed_between_plan_and_read_is_drift() {
    use futures::TryStreamExt;
    let (home, connection) = one_file("id\n1\n").await;
    let table = table(&*connection, "t").await;
    let snapshot = connection
        .roles()
        .source
        .unwrap()
        .open(&serde_json::json!({}))
        .await
        .unwrap();
    let request = read_request(&table);
    let scan = snapshot.plan(&request).await.unwrap();
    put(home.path(), "t.csv", "id\n1\n2\n3\n");
    let mut batches = snapshot.read(std::sync::Arc::new(request), scan.parts[0].clone());
    assert_eq!(batches.try_next().await.unwrap_err().kind, Kind::Drift);
}

#[tokio::test]
async fn a_row_larger_than_a_batch_passes() {
    let giant = "é".repeat(3 << 20);
    let (_home, connection) = one_file(format!("id,v\n1,a\n2,\"{giant}\"\n3,b\n")).await;
    let table = table(&*connection, "t").await;
    let reading = read(&*connection, read_request(&table)).await.unwrap();
    assert_eq!(reading.rows.len(), 3);
    assert_eq!(reading.rows[1][1], giant);
}

#[tokio::test]
async fn a_limited_read_stops_at_the_limit_whatever_the_files() {
    let home = TempDir::new().unwrap();
    for file in 0..5 {
        put(home.path(), &format!("{file}.csv"), "id\n1\n2\n");
    }
    put(home.path(), "0.csv", "id\n");
    let settings = serde_json::json!({"is_single_table": true, "single_table_name": "all"});
    let connection = folder_with(home.path(), settings).await;
    let table = table(&*connection, "all").await;
    let mut request = read_request(&table);
    request.limit = Some(5);
    let reading = read(&*connection, request).await.unwrap();
    assert_eq!((reading.parts.len(), reading.rows.len()), (1, 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever texts go into a CSV file of ours come out of it.
    #[test]
    fn texts_survive_being_written_and_read(
        cells in prop::collection::vec(
            prop::collection::vec(prop::option::of("[ -~\n\r\"',;\u{feff}äß€]{0,12}"), 3), 0..20
        )
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let home = TempDir::new().unwrap();
            let columns = columns(&[("a,b", L::Text), ("say \"hi\"", L::Text), ("c\nd", L::Text)]);
            let rows: Rows = cells.iter().map(|row| {
                row.iter().map(|cell| cell.clone().unwrap_or(NULL.to_owned())).collect()
            }).collect();
            let connection = folder(home.path()).await;
            let mut load = load("l1", tideway_core::destination::Write::Append, &columns, serde_json::json!({"format": "csv"}));
            load.target.key = vec![];
            carry(&*connection, load, &rows).await;
            let mut expected = rows;
            expected.sort();
            assert_eq!(rows_of(&*connection, "orders").await, expected);
        });
    }

    /// Whatever a hand-written file holds, its inferred type gives the same numbers back.
    #[test]
    fn numbers_keep_their_value_in_the_type_that_is_found(
        values in prop::collection::vec(
            prop::string::string_regex("-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?(e-?[0-9]{1,2})?").unwrap(), 1..12
        )
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (_home, connection) = one_file(format!("v\n{}\n", values.join("\n"))).await;
            let table = table(&*connection, "t").await;
            let found = read(&*connection, read_request(&table)).await.unwrap().rows;
            assert_eq!(found.len(), values.len());
            for (found, value) in found.iter().zip(&values) {
                assert_eq!(plain(&found[0]), plain(value), "{:?}", table.columns[0].logical);
            }
        });
    }
}

/// A number's sign, digits and power, however it is spelled.
fn plain(text: &str) -> (bool, String, i64) {
    let (unsigned, negative) = match text.strip_prefix('-') {
        Some(unsigned) => (unsigned, true),
        None => (text, false),
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let mut power = exponent.parse::<i64>().unwrap() - fraction.len() as i64;
    power += (digits.len() - kept.len()) as i64;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return (false, String::new(), 0);
    }
    (negative, kept.to_owned(), power)
}
