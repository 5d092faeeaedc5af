use arrow_array::{Array, cast::AsArray, types::*};
use proptest::prelude::*;
use tideway_core::{LogicalType, types::DECIMAL_NAN};

use super::*;

const KINDS: [(Wire, LogicalType); 19] = [
    (Wire::Bool, LogicalType::Boolean),
    (Wire::Int2, LogicalType::Int16),
    (Wire::Int4, LogicalType::Int32),
    (Wire::Int8, LogicalType::Int64),
    (Wire::Oid, LogicalType::Int64),
    (Wire::Float4, LogicalType::Float32),
    (Wire::Float8, LogicalType::Float64),
    (
        Wire::Decimal {
            precision: 12,
            scale: 2,
        },
        LogicalType::Decimal {
            precision: 12,
            scale: 2,
        },
    ),
    (
        Wire::Decimal {
            precision: 60,
            scale: 10,
        },
        LogicalType::Decimal {
            precision: 60,
            scale: 10,
        },
    ),
    (Wire::Numeric, LogicalType::Numeric),
    (Wire::Text, LogicalType::Text),
    (Wire::Jsonb, LogicalType::Json),
    (Wire::Uuid, LogicalType::Uuid),
    (Wire::Bytea, LogicalType::Binary),
    (Wire::Date, LogicalType::Date),
    (Wire::Time, LogicalType::Time),
    (Wire::Timestamp, LogicalType::Timestamp),
    (Wire::TimestampTz, LogicalType::TimestampTz),
    (Wire::Interval, LogicalType::Interval),
];

fn decoder(kinds: &[(Wire, LogicalType)], batch_bytes: usize) -> CopyDecoder {
    let columns: Vec<Column> = kinds
        .iter()
        .enumerate()
        .map(|(at, (_, logical))| Column::new(&format!("c{at}"), *logical))
        .collect();
    let wires: Vec<Wire> = kinds.iter().map(|(wire, _)| *wire).collect();
    CopyDecoder::new(&columns, &wires, batch_bytes)
}

type Row = Vec<Option<Vec<u8>>>;

fn stream(rows: &[Row]) -> Vec<u8> {
    let mut stream = SIGNATURE.to_vec();
    stream.extend([0; 8]);
    for row in rows {
        stream.extend((row.len() as i16).to_be_bytes());
        for field in row {
            match field {
                None => stream.extend((-1_i32).to_be_bytes()),
                Some(bytes) => {
                    stream.extend((bytes.len() as i32).to_be_bytes());
                    stream.extend(bytes);
                }
            }
        }
    }
    stream.extend((-1_i16).to_be_bytes());
    stream
}

fn decoded(mut decoder: CopyDecoder, pieces: &[&[u8]]) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece))?;
        batches.extend(std::iter::from_fn(|| decoder.take()));
    }
    batches.extend(decoder.finish()?);
    Ok(batches)
}

fn some(bytes: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    Some(bytes.as_ref().to_vec())
}

fn numeric(groups: &[u16], weight: i16, sign: u16, scale: u16) -> Vec<u8> {
    let head = [groups.len() as u16, weight as u16, sign, scale];
    head.iter()
        .chain(groups)
        .flat_map(|part| part.to_be_bytes())
        .collect()
}

fn only(kind: (Wire, LogicalType), values: &[Option<Vec<u8>>]) -> Result<Batch> {
    let rows: Vec<Row> = values.iter().map(|value| vec![value.clone()]).collect();
    let batches = decoded(decoder(&[kind], 1 << 20), &[&stream(&rows)])?;
    Ok(batches.into_iter().next().unwrap())
}

#[test]
fn a_row_of_every_type_is_decoded() {
    let mut interval = 1_500_000_i64.to_be_bytes().to_vec();
    interval.extend(2_i32.to_be_bytes());
    interval.extend(14_i32.to_be_bytes());
    let row: Row = vec![
        some([1]),
        some((-2_i16).to_be_bytes()),
        some((-3_i32).to_be_bytes()),
        some((-4_i64).to_be_bytes()),
        some(u32::MAX.to_be_bytes()),
        some(1.5_f32.to_be_bytes()),
        some((-2.5_f64).to_be_bytes()),
        some(numeric(&[1, 2345, 6700], 1, 0x4000, 2)),
        some(numeric(&[7], 0, 0, 0)),
        some(numeric(&[1200], -1, 0, 3)),
        some("Grüße"),
        some("\u{1}{\"a\": 1}"),
        some([7; 16]),
        some([0, 255]),
        some(0_i32.to_be_bytes()),
        some(1_i64.to_be_bytes()),
        some(1_i64.to_be_bytes()),
        some((-1_i64).to_be_bytes()),
        some(interval),
    ];
    let nulls: Row = vec![None; row.len()];
    let batches = decoded(decoder(&KINDS, 1 << 20), &[&stream(&[row, nulls])]).unwrap();
    let rows = &batches[0].rows;
    assert!(
        rows.columns()
            .iter()
            .all(|column| column.len() == 2 && column.is_null(1))
    );
    assert!(rows.column(0).as_boolean().value(0));
    assert_eq!(
        rows.column(4).as_primitive::<Int64Type>().value(0),
        i64::from(u32::MAX)
    );
    assert_eq!(rows.column(6).as_primitive::<Float64Type>().value(0), -2.5);
    assert_eq!(
        rows.column(7).as_primitive::<Decimal128Type>().value(0),
        -1_234_567
    );
    assert_eq!(
        rows.column(8)
            .as_primitive::<Decimal256Type>()
            .value_as_string(0),
        "7.0000000000"
    );
    assert_eq!(rows.column(9).as_string::<i32>().value(0), "0.120");
    assert_eq!(rows.column(10).as_string::<i32>().value(0), "Grüße");
    assert_eq!(rows.column(11).as_string::<i32>().value(0), "{\"a\": 1}");
    assert_eq!(
        rows.column(14).as_primitive::<Date32Type>().value(0),
        10_957
    );
    let stamp = rows
        .column(17)
        .as_primitive::<TimestampMicrosecondType>()
        .value(0);
    assert_eq!(stamp, 946_684_799_999_999);
    assert_eq!(rows.column(18).as_string::<i32>().value(0), "P1Y2M2DT1.5S");
}

#[test]
fn infinities_become_the_sentinels_and_the_far_future_a_note() {
    use tideway_core::types::*;
    let kind = (Wire::Timestamp, LogicalType::Timestamp);
    let values = [i64::MAX, i64::MIN, i64::MAX - 1].map(|micros| some(micros.to_be_bytes()));
    let batch = only(kind, &values).unwrap();
    let stamps = batch
        .rows
        .column(0)
        .as_primitive::<TimestampMicrosecondType>();
    assert_eq!(stamps.value(0), TIMESTAMP_INFINITY);
    assert_eq!(stamps.value(1), TIMESTAMP_MINUS_INFINITY);
    assert!(stamps.is_null(2));
    assert_eq!((batch.notes.len(), batch.notes[0].rows), (1, 1));
}

#[test]
fn nan_in_a_decimal_stays() {
    let kind = KINDS[7];
    let batch = only(
        kind,
        &[
            some(numeric(&[], 0, 0xC000, 0)),
            some(numeric(&[5], 0, 0, 2)),
        ],
    )
    .unwrap();
    let values = batch.rows.column(0).as_primitive::<Decimal128Type>();
    assert_eq!(values.values()[..], [DECIMAL_NAN, 500]);
    assert_eq!((values.null_count(), batch.notes.len()), (0, 0));
}

#[test]
fn bytes_that_are_not_utf8_are_repaired_and_counted() {
    let batch = only(
        (Wire::Text, LogicalType::Text),
        &[some("é"), None, some([b'a', 0xff])],
    )
    .unwrap();
    let texts = batch.rows.column(0).as_string::<i32>();
    assert_eq!(
        (texts.value(0), texts.is_null(1), texts.value(2)),
        ("é", true, "a\u{fffd}")
    );
    assert_eq!(batch.notes[0].rows, 1);
}

#[test]
fn a_stream_that_stops_early_is_not_taken_for_a_whole_table() {
    let whole = stream(&[vec![some([1])], vec![some([0])]]);
    for end in 0..whole.len() {
        let outcome = decoded(decoder(&KINDS[..1], 1 << 20), &[&whole[..end]]);
        assert!(outcome.is_err(), "cut at {end}");
    }
    assert!(decoded(decoder(&KINDS[..1], 1 << 20), &[&whole, b"more"]).is_err());
}

#[test]
fn values_of_the_wrong_length_are_refused_by_column() {
    for (kind, bytes) in [
        (KINDS[2], vec![1, 2]),
        (KINDS[11], vec![2, b'1']),
        (KINDS[11], vec![]),
        (KINDS[12], vec![0; 15]),
    ] {
        let error = only(kind, &[some(bytes)]).unwrap_err();
        assert!(error.what().contains("column c0"), "{error}");
    }
}

#[test]
fn batches_are_cut_by_bytes_and_a_large_row_passes_alone() {
    let sizes = [10, 10, 5000, 10, 10];
    let rows: Vec<Row> = sizes
        .iter()
        .map(|size| vec![some(vec![b'x'; *size])])
        .collect();
    let kind = (Wire::Text, LogicalType::Text);
    let batches = decoded(decoder(&[kind], 100), &[&stream(&rows)]).unwrap();
    let counts: Vec<usize> = batches.iter().map(Batch::row_count).collect();
    assert_eq!(counts, [2, 1, 2]);
}

fn any_row() -> impl Strategy<Value = Row> {
    prop::collection::vec(
        prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..20)),
        2,
    )
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(garbage in prop::collection::vec(any::<u8>(), 0..400), headed in any::<bool>()) {
        let mut bytes = if headed { [SIGNATURE.as_slice(), &[0; 8]].concat() } else { Vec::new() };
        bytes.extend(garbage);
        let _ = decoded(decoder(&KINDS[..2], 64), &[&bytes]);
    }

    #[test]
    fn rows_of_any_bytes_do_not_make_it_panic(rows in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..24)), KINDS.len()), 0..4)) {
        let _ = decoded(decoder(&KINDS, 64), &[&stream(&rows)]);
    }

    #[test]
    fn where_the_stream_is_cut_makes_no_difference(rows in prop::collection::vec(any_row(), 0..20), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let kinds = [(Wire::Text, LogicalType::Text), (Wire::Bytea, LogicalType::Binary)];
        let whole = stream(&rows);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
        at.extend([0, whole.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
        let in_one = decoded(decoder(&kinds, 128), &[&whole]).unwrap();
        let in_pieces = decoded(decoder(&kinds, 128), &pieces).unwrap();
        let rows_of = |batches: &[Batch]| batches.iter().map(|batch| batch.rows.clone()).collect::<Vec<_>>();
        prop_assert_eq!(rows_of(&in_one), rows_of(&in_pieces));
        prop_assert_eq!(in_one.iter().map(Batch::row_count).sum::<usize>(), rows.len());
    }
}
