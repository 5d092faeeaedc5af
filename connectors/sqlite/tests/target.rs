use std::sync::Arc;

use arrow_array::{Float64Array, Int64Array, StringArray};
use rusqlite::types::Value;
use tideway_core::{
    Column, LogicalType,
    destination::{DELETED_AT, Disposition, Write},
};

use crate::support::*;

#[tokio::test]
async fn without_a_target_the_table_is_made_with_its_key() {
    let file = File::absent();
    run_load(
        &file,
        &load(SOFT, Disposition::Retain),
        vec![person_rows(&[(1, "ann")])],
    )
    .await
    .unwrap();
    let table = file.table("t").await;
    assert_eq!(table.primary_key, ["id"]);
    assert_eq!(
        types(&table),
        [
            ("id", LogicalType::Int64),
            ("name", LogicalType::Text),
            (DELETED_AT, LogicalType::TimestampTz)
        ]
    );
    let mode = file.texts("PRAGMA journal_mode");
    assert_eq!(mode, ["wal"]);
}

#[tokio::test]
async fn views_indexes_and_triggers_survive_a_replaced_table() {
    for truncate_existing in [false, true] {
        let file = filled(Write::Replace).await;
        file.run(
            "CREATE VIEW v AS SELECT name FROM t;
             CREATE INDEX by_name ON t (name);
             CREATE TABLE log (what TEXT);
             CREATE TRIGGER tell AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.name); END;
             CREATE TABLE child (id INTEGER REFERENCES t (id) ON DELETE CASCADE); INSERT INTO child VALUES (1);",
        );
        let mut load = load(Write::Replace, Disposition::Retain);
        load.truncate_existing = truncate_existing;
        run_load(&file, &load, vec![person_rows(&[(9, "new")])])
            .await
            .unwrap();
        assert_eq!(file.texts("SELECT name FROM v"), ["new"]);
        let attached = "SELECT name FROM sqlite_schema WHERE tbl_name = 't' AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY 1";
        assert_eq!(file.texts(attached), ["by_name", "tell"]);
        assert_eq!(
            file.texts("SELECT id FROM child"),
            ["1"],
            "no row of another table is lost"
        );
        let child = file.texts("SELECT sql FROM sqlite_schema WHERE name = 'child'");
        assert!(child[0].contains("REFERENCES t (id)"), "{child:?}");
    }
}

#[tokio::test]
async fn columns_that_the_load_lacks_stay_unless_the_table_is_rebuilt() {
    for (write, disposition, stays) in [
        (Write::Append, Disposition::Retain, true),
        (Write::Replace, Disposition::Retain, true),
        (Write::Replace, Disposition::Truncate, true),
        (Write::Replace, Disposition::Rebuild, false),
        (HARD, Disposition::Retain, true),
    ] {
        let file = filled(write).await;
        file.run("ALTER TABLE t ADD COLUMN extra TEXT; UPDATE t SET extra = 'mine'");
        run_load(
            &file,
            &load(write, disposition),
            vec![person_rows(&[(1, "ANN"), (4, "dan")])],
        )
        .await
        .unwrap();
        let table = file.table("t").await;
        assert_eq!(
            table.column("extra").is_some(),
            stays,
            "{write:?} {disposition:?}"
        );
        if stays {
            assert_eq!(
                file.rows("SELECT extra FROM t WHERE id = 4"),
                [[Value::Null]]
            );
        }
        if write == HARD {
            assert_eq!(file.texts("SELECT extra FROM t WHERE id = 1"), ["mine"]);
        }
    }
}

#[tokio::test]
async fn names_of_any_kind_are_written() {
    let odd = [
        "with space",
        "qu\"ote",
        "it's",
        "select",
        "表",
        "rowid",
        "a\nb",
        "oid",
        "_rowid_",
        "?1",
    ];
    let columns: Vec<Column> = odd
        .iter()
        .map(|name| Column::new(name, LogicalType::Text))
        .collect();
    let row = |value: &str| {
        let array = Arc::new(StringArray::from(vec![value]));
        batch(&columns, odd.iter().map(|_| array.clone() as _).collect())
    };
    for name in odd {
        for write in [Write::Append, Write::Replace, SOFT] {
            let file = File::absent();
            let mut first = load_of(
                columns.clone(),
                &["qu\"ote", "rowid"],
                write,
                Disposition::Retain,
            );
            first.target.name = name.to_owned();
            first.record_timestamps = true;
            run_load(&file, &first, vec![row("x")]).await.unwrap();
            let second = tideway_core::destination::Load {
                id: format!("{}b", first.id),
                ..first
            };
            run_load(&file, &second, vec![row("x")]).await.unwrap();
            let table = file.table(name).await;
            let rows = read_table(&file, name).await;
            assert_eq!(rows.len(), if write == Write::Append { 2 } else { 1 });
            assert_eq!(rows[0][..odd.len()], vec!["x"; odd.len()], "{name}");
            assert_eq!(table.columns[2].name, "it's");
        }
    }
}

#[tokio::test]
async fn wide_tables_are_merged() {
    let columns: Vec<Column> = (0..1500)
        .map(|at| Column::new(&format!("c{at}"), LogicalType::Int64))
        .collect();
    let row = |last: i64| {
        let arrays = (0..1500_i64)
            .map(|at| Arc::new(Int64Array::from(vec![if at == 1499 { last } else { at }])) as _);
        batch(&columns, arrays.collect())
    };
    let file = File::absent();
    let load = || load_of(columns.clone(), &["c0"], SOFT, Disposition::Retain);
    run_load(&file, &load(), vec![row(1)]).await.unwrap();
    assert_eq!(
        counts(&run_load(&file, &load(), vec![row(1)]).await.unwrap()),
        [0, 0, 0, 1]
    );
    assert_eq!(
        counts(&run_load(&file, &load(), vec![row(2)]).await.unwrap()),
        [0, 1, 0, 0]
    );
}

#[tokio::test]
async fn numbers_that_sqlite_has_not_are_noted() {
    let columns = vec![Column::new("f", LogicalType::Float64)];
    let values = Float64Array::from(vec![
        Some(f64::NAN),
        Some(-0.0),
        Some(f64::INFINITY),
        None,
        Some(f64::NAN),
    ]);
    let file = File::absent();
    let load = load_of(columns.clone(), &[], Write::Append, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    let notes = land(
        begun.as_ref(),
        vec![batch(&columns, vec![Arc::new(values)])],
    )
    .await
    .unwrap();
    let told: Vec<(&str, u64)> = notes
        .iter()
        .map(|note| (note.what.as_str(), note.rows))
        .collect();
    assert_eq!(
        told,
        [
            ("NaN stored as null", 2),
            ("negative zero stored as zero", 1)
        ]
    );
    begun.finish().await.unwrap();
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[["∅"], ["0.0"], ["inf"], ["∅"], ["∅"]])
    );
}
