use std::sync::Arc;

use arrow_array::TimestampMicrosecondArray;
use proptest::prelude::*;
use tideway_core::schema::arrow_schema;

use super::*;

fn batch(columns: &[Column], arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(arrow_schema(columns), arrays).unwrap()
}

/// Encodes in chunks of at least `enough` bytes and puts them together again.
fn encode(columns: &[Column], rows: &RecordBatch, enough: usize) -> (Vec<u8>, Vec<Note>) {
    let encoder = Encoder::new(columns);
    let mut rows = encoder.rows(rows).unwrap();
    let (mut all, mut chunk) = (Vec::new(), BytesMut::new());
    loop {
        let more = rows.encode(&mut chunk, enough).unwrap();
        all.extend_from_slice(&chunk.split());
        if !more {
            return (all, rows.notes());
        }
    }
}

/// Cells of each tuple.
fn decode(mut bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut take = |count: usize| {
        let (head, rest) = bytes.split_at(count);
        bytes = rest;
        (head.to_vec(), rest.is_empty())
    };
    let mut tuples = Vec::new();
    let mut end = false;
    while !end {
        let width = i16::from_be_bytes(take(2).0.try_into().unwrap());
        let cells = (0..width).map(|_| {
            let (length, last) = take(4);
            end = last;
            let length = i32::from_be_bytes(length.try_into().unwrap());
            usize::try_from(length).ok().map(|length| {
                let (cell, last) = take(length);
                end = last;
                cell
            })
        });
        tuples.push(cells.collect());
    }
    tuples
}

#[test]
fn a_tuple_is_its_width_and_each_cell_with_its_length() {
    let columns = [
        Column::new("a", LogicalType::Int16),
        Column::new("b", LogicalType::Text),
        Column::new("c", LogicalType::Boolean),
    ];
    let rows = batch(
        &columns,
        vec![
            Arc::new(Int16Array::from(vec![258, -1])),
            Arc::new(StringArray::from(vec![Some("hi"), None])),
            Arc::new(BooleanArray::from(vec![true, false])),
        ],
    );
    let (bytes, notes) = encode(&columns, &rows, usize::MAX);
    let expected = b"\0\x03\0\0\0\x02\x01\x02\0\0\0\x02hi\0\0\0\x01\x01\
                     \0\x03\0\0\0\x02\xff\xff\xff\xff\xff\xff\0\0\0\x01\0";
    assert_eq!(bytes, expected);
    assert!(notes.is_empty());
}

#[test]
fn sliced_arrays_are_read_from_where_they_begin() {
    let columns = [
        Column::new("a", LogicalType::Text),
        Column::new("b", LogicalType::Int32),
    ];
    let texts: StringArray = (0..10).map(|n| Some(format!("text {n}"))).collect();
    let numbers: Int32Array = (0..10).map(|n| (n != 5).then_some(n)).collect();
    let rows = batch(&columns, vec![Arc::new(texts), Arc::new(numbers)]).slice(4, 3);
    let (bytes, _) = encode(&columns, &rows, 1);
    let texts: Vec<_> = decode(&bytes)
        .into_iter()
        .map(|mut row| row.remove(0).unwrap())
        .collect();
    assert_eq!(texts, [b"text 4", b"text 5", b"text 6"]);
    assert_eq!(decode(&bytes)[1][1], None);
}

#[test]
fn a_batch_of_another_shape_is_our_own_fault() {
    let columns = [Column::new("a", LogicalType::Int32)];
    let other = [Column::new("a", LogicalType::Int64)];
    let rows = batch(&other, vec![Arc::new(Int64Array::from(vec![1]))]);
    let error = Encoder::new(&columns).rows(&rows).err().unwrap();
    assert_eq!(error.kind, tideway_core::Kind::Bug);
    assert_eq!(
        Encoder::new(&[]).rows(&rows).err().unwrap().kind,
        tideway_core::Kind::Bug
    );
}

#[test]
fn notes_count_rows_by_column() {
    let columns = [
        Column::new("at", LogicalType::Timestamp),
        Column::new("t", LogicalType::Text),
    ];
    let rows = batch(
        &columns,
        vec![
            Arc::new(TimestampMicrosecondArray::from(vec![
                i64::MIN + 1,
                0,
                i64::MIN,
            ])),
            Arc::new(StringArray::from(vec!["\0", "a\0\0", "b"])),
        ],
    );
    let (bytes, notes) = encode(&columns, &rows, usize::MAX);
    assert_eq!(decode(&bytes)[0], [None, Some(vec![])]);
    assert_eq!(decode(&bytes)[2][0], Some(i64::MIN.to_be_bytes().to_vec()));
    let counted: Vec<_> = notes
        .iter()
        .map(|note| (note.column.as_str(), note.rows))
        .collect();
    assert_eq!(counted, [("at", 1), ("t", 2)]);
}

proptest! {
    #[test]
    fn what_is_encoded_can_be_told_apart_again(
        rows in prop::collection::vec(
            (any::<Option<i64>>(), any::<Option<String>>(), any::<Option<Vec<u8>>>()), 1..40
        ),
        enough in 1_usize..400,
    ) {
        let columns = [
            Column::new("a", LogicalType::Int64),
            Column::new("b", LogicalType::Text),
            Column::new("c", LogicalType::Binary),
        ];
        let numbers: Int64Array = rows.iter().map(|row| row.0).collect();
        let texts: StringArray = rows.iter().map(|row| row.1.as_deref()).collect();
        let binary: BinaryArray = rows.iter().map(|row| row.2.as_deref()).collect();
        let made = batch(&columns, vec![Arc::new(numbers), Arc::new(texts), Arc::new(binary)]);
        let (bytes, _) = encode(&columns, &made, enough);
        let expected: Vec<_> = rows
            .into_iter()
            .map(|(number, text, binary)| {
                let text = text.map(|text| text.replace('\0', "").into_bytes());
                vec![number.map(|number| number.to_be_bytes().to_vec()), text, binary]
            })
            .collect();
        prop_assert_eq!(decode(&bytes), expected);
    }

    #[test]
    fn dates_and_timestamps_move_by_thirty_years_or_do_not_fit(days: i32, micros: i64) {
        let columns = [Column::new("d", LogicalType::Date), Column::new("t", LogicalType::Timestamp)];
        let made = batch(
            &columns,
            vec![
                Arc::new(Date32Array::from(vec![days])),
                Arc::new(TimestampMicrosecondArray::from(vec![micros])),
            ],
        );
        let (bytes, notes) = encode(&columns, &made, usize::MAX);
        let cells = decode(&bytes).remove(0);
        let nulls = cells.iter().filter(|cell| cell.is_none()).count();
        prop_assert_eq!(nulls, notes.len());
        if let Some(cell) = &cells[0] {
            let there = i32::from_be_bytes(cell.clone().try_into().unwrap());
            prop_assert!(there == days || there == days - 10_957);
        }
        if let Some(cell) = &cells[1] {
            let there = i64::from_be_bytes(cell.clone().try_into().unwrap());
            prop_assert!(there == micros || there == micros - 946_684_800_000_000);
        }
    }
}
