//! Random tables of every type go into one file, from there into a second, and are the
//! same each time: values, types and keys.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, builder::*};
use arrow_buffer::i256;
use proptest::{collection::vec, option, prelude::*};
use serde_json::json;
use tideway_core::{
    Batch, Column, LogicalType,
    destination::{Deletes, Disposition, Load, TargetTable, Write},
    schema::arrow_schema,
};

use crate::{
    read_back::{staged, sums_of},
    support::*,
};

/// Arrays of one type. Strategies give values that every destination can hold.
fn column(logical: LogicalType, rows: usize) -> BoxedStrategy<ArrayRef> {
    /// An array built from optional values of a strategy.
    macro_rules! filled {
        ($values:expr, $builder:expr, $append:expr) => {
            vec(option::weighted(0.8, $values), rows)
                .prop_map(move |values| -> ArrayRef {
                    let mut builder = $builder;
                    for value in values {
                        match value {
                            Some(value) => $append(&mut builder, value),
                            None => builder.append_null(),
                        }
                    }
                    Arc::new(builder.finish())
                })
                .boxed()
        };
        ($values:expr, $builder:expr) => {
            filled!($values, $builder, |builder: &mut _, value| append(
                builder, value
            ))
        };
    }
    let strings = |values: BoxedStrategy<String>| {
        filled!(
            values,
            StringBuilder::new(),
            |b: &mut StringBuilder, v: String| b.append_value(v)
        )
    };
    let kind = logical.arrow();
    match logical {
        LogicalType::Boolean => {
            filled!(
                any::<bool>(),
                BooleanBuilder::new(),
                |b: &mut BooleanBuilder, v| b.append_value(v)
            )
        }
        LogicalType::Int16 => filled!(any::<i16>(), Int16Builder::new()),
        LogicalType::Int32 => filled!(any::<i32>(), Int32Builder::new()),
        LogicalType::Int64 => filled!(any::<i64>(), Int64Builder::new()),
        LogicalType::UInt64 => filled!(any::<u64>(), UInt64Builder::new()),
        LogicalType::Float32 => {
            let values = any::<f32>().prop_map(|v| if v == 0.0 || v.is_nan() { 0.0 } else { v });
            filled!(values, Float32Builder::new())
        }
        LogicalType::Float64 => {
            let values = any::<f64>().prop_map(|v| if v == 0.0 || v.is_nan() { 0.0 } else { v });
            filled!(values, Float64Builder::new())
        }
        LogicalType::Decimal { precision, .. } if precision <= 38 => {
            let most = 10_i128.pow(u32::from(precision)) - 1;
            filled!(
                -most..=most,
                Decimal128Builder::new().with_data_type(kind.clone())
            )
        }
        LogicalType::Decimal { precision, .. } => {
            let digits = format!("-?[1-9][0-9]{{0,{}}}", precision - 1);
            let values = proptest::string::string_regex(&digits).unwrap();
            let values = values.prop_map(|digits| i256::from_string(&digits).unwrap());
            filled!(
                values,
                Decimal256Builder::new().with_data_type(kind.clone())
            )
        }
        LogicalType::Numeric => {
            strings(prop_oneof!["-?[0-9]{1,40}(\\.[0-9]{1,40})?", Just("NaN".to_owned())].boxed())
        }
        LogicalType::Text => {
            strings(prop_oneof![".{0,20}", "[0-9]{1,20}", any::<String>()].boxed())
        }
        LogicalType::Json => strings(
            prop_oneof![
                "-?[1-9][0-9]{0,25}(\\.[0-9]{1,20})?",
                "\\{\"a\": \\[[0-9], null\\]\\}",
                "\"[a-zé]*\""
            ]
            .boxed(),
        ),
        LogicalType::Uuid => {
            filled!(
                any::<[u8; 16]>(),
                FixedSizeBinaryBuilder::new(16),
                |b: &mut FixedSizeBinaryBuilder, v| { b.append_value(v).unwrap() }
            )
        }
        LogicalType::Binary => {
            filled!(
                vec(any::<u8>(), 0..20),
                BinaryBuilder::new(),
                |b: &mut BinaryBuilder, v: Vec<u8>| { b.append_value(v) }
            )
        }
        LogicalType::Date => {
            let values = prop_oneof![
                any::<i32>(),
                -1000_i32..30_000,
                Just(i32::MAX),
                Just(i32::MIN)
            ];
            filled!(values, Date32Builder::new())
        }
        LogicalType::Time => filled!(0..=86_400_000_000_i64, Time64MicrosecondBuilder::new()),
        LogicalType::Timestamp | LogicalType::TimestampTz => {
            let values = prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN)];
            filled!(
                values,
                TimestampMicrosecondBuilder::new().with_data_type(kind.clone())
            )
        }
        LogicalType::Interval => strings(
            "P[0-9]{1,3}Y[0-9]{1,3}M[0-9]{1,3}DT[0-9]{1,3}H[0-9]{1,2}\\.[0-9]{1,6}S".boxed(),
        ),
    }
}

fn append<T: arrow_array::ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>, value: T::Native) {
    builder.append_value(value);
}

fn logical() -> impl Strategy<Value = LogicalType> {
    use LogicalType::*;
    let decimal = (1_u8..=76).prop_flat_map(|precision| {
        (Just(precision), -20_i8..=precision as i8)
            .prop_map(|(precision, scale)| Decimal { precision, scale })
    });
    prop_oneof![
        17 => proptest::sample::select(vec![
            Boolean, Int16, Int32, Int64, UInt64, Float32, Float64, Numeric, Text, Json, Uuid,
            Binary, Date, Time, Timestamp, TimestampTz, Interval,
        ]),
        3 => decimal,
    ]
}

/// A table with an integer key `id`.
fn table() -> impl Strategy<Value = (Vec<Column>, RecordBatch)> {
    (vec(logical(), 1..8), 0..30_usize).prop_flat_map(|(types, rows)| {
        let mut columns = vec![Column {
            nullable: false,
            ..Column::new("id", LogicalType::Int64)
        }];
        columns.extend(
            types
                .iter()
                .enumerate()
                .map(|(at, logical)| Column::new(&format!("c{at}"), *logical)),
        );
        let arrays: Vec<_> = types.iter().map(|logical| column(*logical, rows)).collect();
        arrays.prop_map(move |arrays| {
            let ids: ArrayRef = Arc::new(arrow_array::Int64Array::from_iter_values(0..rows as i64));
            let arrays = std::iter::once(ids).chain(arrays).collect();
            let batch = RecordBatch::try_new(arrow_schema(&columns), arrays).unwrap();
            (columns.clone(), batch)
        })
    })
}

fn whole_load(columns: &[Column], write: Write, id: &str) -> Load {
    Load {
        id: id.to_owned(),
        target: TargetTable {
            namespace: None,
            name: "t".to_owned(),
            columns: columns.to_vec(),
            key: vec!["id".to_owned()],
            partition_key: None,
            history: None,
        },
        write,
        disposition: Disposition::Retain,
        record_timestamps: false,
        truncate_existing: false,
        resume: false,
        forgets: Vec::new(),
        options: json!({}),
    }
}

/// What comes out of the file again, in one batch.
async fn read_back(file: &File) -> (Vec<Column>, Vec<String>, RecordBatch) {
    let table = file.table("t").await;
    let mut read = read_of(&table);
    read.batch_bytes = 200;
    let (batches, _) = try_read(file, read).await.unwrap();
    let schema = arrow_schema(&table.columns);
    let rows = arrow_select::concat::concat_batches(&schema, &batches).unwrap();
    (table.columns, table.primary_key, rows)
}

async fn goes_round(columns: Vec<Column>, rows: RecordBatch) {
    let merge = Write::Merge {
        complete: true,
        deletes: Deletes::Hard,
    };
    let (first, second) = (File::absent(), File::absent());
    let batch = || Batch::of_rows(rows.clone());
    let count = rows.num_rows() as u64;

    let load = whole_load(&columns, merge, "one");
    let begun = begin(&first, &load).await.unwrap();
    assert_eq!(land(begun.as_ref(), vec![batch()]).await.unwrap(), []);
    let sums = sums_of(begun.as_ref(), &columns, &rows);
    assert_eq!(staged(begun.as_ref()).await, sums);
    assert_eq!(begun.finish().await.unwrap().inserted, count);
    let (found, key, back) = read_back(&first).await;
    let shape = |columns: &[Column]| -> Vec<(String, LogicalType)> {
        columns
            .iter()
            .map(|column| (column.name.clone(), column.logical))
            .collect()
    };
    assert_eq!(shape(&found), shape(&columns));
    assert_eq!(key, ["id"]);
    assert_eq!(back.columns(), rows.columns());

    run_load(
        &second,
        &whole_load(&found, Write::Replace, "two"),
        vec![Batch::of_rows(back)],
    )
    .await
    .unwrap();
    let everything = "SELECT * FROM t ORDER BY id";
    assert_eq!(first.rows(everything), second.rows(everything));
    let definition = "SELECT sql FROM sqlite_schema WHERE name = 't'";
    assert_eq!(first.texts(definition), second.texts(definition));

    // What was written is the same, value for value, when it is merged once more.
    let outcome = run_load(&first, &whole_load(&columns, merge, "three"), vec![batch()])
        .await
        .unwrap();
    assert_eq!(counts(&outcome), [0, 0, 0, count]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn tables_of_every_type_come_back_as_they_were((columns, rows) in table()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(goes_round(columns, rows));
    }
}
