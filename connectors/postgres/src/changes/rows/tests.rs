use std::time::Instant;

use proptest::prelude::*;
use tideway_core::LogicalType;

use super::*;
use crate::{
    changes::pgoutput::{Identity, Message, RelationColumn},
    types::oid,
};

/// `numeric(12,2)`.
const TYPMOD: i32 = (12 << 16 | 2) + 4;

/// Twelve columns as a table of orders has them, each with a value in binary form.
fn columns() -> Vec<(u32, i32, LogicalType, Vec<u8>)> {
    let micros = 774_000_000_000_000_i64.to_be_bytes().to_vec();
    let decimal = LogicalType::Decimal {
        precision: 12,
        scale: 2,
    };
    vec![
        (
            oid::INT8,
            -1,
            LogicalType::Int64,
            7_i64.to_be_bytes().to_vec(),
        ),
        (oid::UUID, -1, LogicalType::Uuid, vec![7; 16]),
        (
            oid::TEXT,
            -1,
            LogicalType::Text,
            b"a name of some length".to_vec(),
        ),
        (
            oid::TEXT,
            -1,
            LogicalType::Text,
            b"someone@example.com".to_vec(),
        ),
        (
            oid::NUMERIC,
            TYPMOD,
            decimal,
            vec![0, 2, 0, 0, 0, 0, 0, 2, 4, 210, 22, 46],
        ),
        (
            oid::FLOAT8,
            -1,
            LogicalType::Float64,
            0.5_f64.to_be_bytes().to_vec(),
        ),
        (
            oid::INT4,
            -1,
            LogicalType::Int32,
            9_i32.to_be_bytes().to_vec(),
        ),
        (oid::BOOL, -1, LogicalType::Boolean, vec![1]),
        (
            oid::TIMESTAMPTZ,
            -1,
            LogicalType::TimestampTz,
            micros.clone(),
        ),
        (oid::TIMESTAMP, -1, LogicalType::Timestamp, micros),
        (
            oid::DATE,
            -1,
            LogicalType::Date,
            9000_i32.to_be_bytes().to_vec(),
        ),
        (
            oid::JSONB,
            -1,
            LogicalType::Json,
            b"\x01{\"a\": [1, 2, 3]}".to_vec(),
        ),
    ]
}

fn rows() -> TableRows {
    let columns = columns();
    let relation = Relation {
        oid: 1,
        namespace: "public".into(),
        name: "orders".into(),
        identity: Identity::Default,
        columns: columns
            .iter()
            .enumerate()
            .map(|(at, (type_oid, typmod, ..))| RelationColumn {
                name: format!("c{at}"),
                type_oid: *type_oid,
                typmod: *typmod,
                identifies: at == 0,
            })
            .collect(),
    };
    let wanted: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(|(at, (_, _, logical, _))| Column::new(&format!("c{at}"), *logical))
        .collect();
    let types = |oid: u32| Some(TypeInfo::built_in(oid));
    TableRows::new(relation, &wanted, &["c0".into()], types, true).unwrap()
}

fn tuple(cells: &[(u8, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut tuple = (cells.len() as u16).to_be_bytes().to_vec();
    for (kind, value) in cells {
        tuple.push(*kind);
        if let Some(value) = value {
            tuple.extend_from_slice(&(value.len() as u32).to_be_bytes());
            tuple.extend_from_slice(value);
        }
    }
    tuple
}

fn cells() -> Vec<(u8, Option<Vec<u8>>)> {
    let columns = columns().into_iter();
    columns.map(|(.., value)| (b'b', Some(value))).collect()
}

fn insert() -> Vec<u8> {
    [b"I\0\0\0\x01N".as_slice(), &tuple(&cells())].concat()
}

/// An update whose old row is told by its key, with this in the key's place.
fn update(key: u8) -> Vec<u8> {
    let mut old = cells();
    old[1..].fill((b'n', None));
    old[0].1 = Some([0, 0, 0, 0, 0, 0, 0, key].to_vec());
    let mut new = cells();
    new[2] = (b'u', None);
    let start = b"U\0\0\0\x01K".as_slice();
    [start, &tuple(&old), b"N", &tuple(&new)].concat()
}

fn take(rows: &mut TableRows, message: &[u8]) -> Result<()> {
    match Message::parse(message)? {
        Message::Insert { new, .. } => rows.insert(new),
        Message::Update { old, new, .. } => rows.update(old, new, &[]),
        Message::Delete { old, .. } => rows.delete(old),
        _ => Ok(()),
    }
}

fn codes(batch: &Batch) -> Vec<u8> {
    match &batch.ops {
        Ops::Each(codes) => codes.values().to_vec(),
        Ops::Rows => panic!("no operations"),
    }
}

#[test]
fn an_update_keeps_what_is_not_told_unless_the_key_moves() {
    let mut rows = rows();
    take(&mut rows, &insert()).unwrap();
    take(&mut rows, &update(7)).unwrap();
    take(&mut rows, &update(8)).unwrap();
    let batch = rows.batch().unwrap().unwrap();
    assert_eq!(codes(&batch), [0, 1, 2, 0]);
    let [(2, mask)] = batch.kept.as_slice() else {
        panic!("{:?}", batch.kept);
    };
    let kept: Vec<bool> = mask.values().iter().collect();
    assert_eq!(kept, [false, true, false, false]);
    assert!(rows.batch().unwrap().is_none());
}

#[test]
fn a_null_against_the_plan_ends_the_batch_before_its_row() {
    let mut rows = rows();
    rows.slots[3].decoder = ColumnDecoder::new("c3", false, crate::types::Wire::Text);
    rows.columns[3].nullable = false;
    take(&mut rows, &insert()).unwrap();
    let mut broken = cells();
    broken[3] = (b'n', None);
    let message = [b"I\0\0\0\x01N".as_slice(), &tuple(&broken)].concat();
    take(&mut rows, &message).unwrap();
    assert!(rows.broken());
    assert_eq!(rows.batch().unwrap().unwrap().row_count(), 1);
}

#[test]
fn a_row_of_another_width_is_refused() {
    let message = [b"I\0\0\0\x01N".as_slice(), &tuple(&cells()[1..])].concat();
    assert!(take(&mut rows(), &message).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_damage_to_a_message_breaks_anything(
        which in 0..3_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut rows = rows();
        let mut message = vec![insert(), update(7), update(8)].swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        // What was taken before a refusal is not used, but must not be harmful either.
        if take(&mut rows, &message).is_ok() {
            let _ = take(&mut rows, &insert());
            let _ = rows.batch();
        }
    }
}

/// `cargo test --release -p tideway-postgres decoder_throughput -- --ignored --nocapture`
#[test]
#[ignore = "measures, and proves nothing by passing"]
#[allow(clippy::print_stdout)]
fn decoder_throughput() {
    const ROWS: usize = 4_000_000;
    for (what, message) in [
        ("inserts", insert()),
        ("updates with an old key", update(7)),
    ] {
        let mut rows = rows();
        let mut told = 0;
        let began = Instant::now();
        for _ in 0..ROWS {
            take(&mut rows, &message).unwrap();
            if rows.byte_count() > 4 << 20 {
                told += rows.batch().unwrap().unwrap().row_count();
            }
        }
        told += rows.batch().unwrap().map_or(0, |batch| batch.row_count());
        assert_eq!(told, ROWS);
        let per_second = ROWS as f64 / began.elapsed().as_secs_f64();
        println!("{what}: {per_second:.0} rows of 12 columns per second");
    }
}
