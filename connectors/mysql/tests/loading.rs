//! Every way of writing with exact counts, resume, repeated steps, evolution.

use std::sync::Arc;

use arrow_array::{Int64Array, StringArray};
use tideway_core::{
    Column, Kind, LogicalType,
    destination::{Disposition, Load, TableLoad, Write},
};

use crate::rig::{
    HARD, PARTIAL, Rig, SOFT, Server, batch, land, load_of, on_both, people, rows, write_part,
};

on_both!(
    each_write_and_disposition_has_its_exact_outcome,
    a_connection_without_a_database_merges_into_any,
    a_vanished_row_is_marked_once_and_cleared_when_its_key_comes_back,
    a_part_that_has_landed_does_not_land_again,
    a_load_that_has_finished_changes_nothing,
    a_crash_between_the_swap_and_its_record_is_mended,
    keys_that_differ_in_case_or_trailing_spaces_stay_apart,
    columns_are_added_and_widened,
    rows_without_a_key_are_told_and_left_out,
    a_table_that_others_refer_to_is_refilled_in_place,
    a_table_that_others_refer_to_is_emptied_where_it_was_to_be_made_anew,
    odd_names_and_texts_arrive_as_they_are,
);

const ALL: &str = "SELECT id, name FROM people ORDER BY id, name";
const BEFORE: [(i64, &str); 3] = [(1, "a"), (2, "b"), (3, "c")];
const AFTER: [(i64, &str); 3] = [(2, "b"), (3, "C"), (4, "d")];

async fn each_write_and_disposition_has_its_exact_outcome(server: Server) {
    let rig = Rig::new(server).await;
    for write in [Write::Append, Write::Replace, SOFT, HARD, PARTIAL] {
        for disposition in [
            Disposition::Retain,
            Disposition::Truncate,
            Disposition::Rebuild,
        ] {
            for truncate_existing in [false, true] {
                let case = format!("{write:?} {disposition:?} {truncate_existing}");
                assert_eq!(
                    rig.load(people(write), rows(&BEFORE)).await,
                    rig.did(3, 0, 0, 0),
                    "{case}"
                );
                let load = Load {
                    disposition,
                    truncate_existing,
                    ..people(write)
                };
                let done = rig.load(load, rows(&AFTER)).await;
                let (expected, outcome) = match (write, disposition) {
                    (Write::Append, Disposition::Retain) => (
                        vec!["1|a", "2|b", "2|b", "3|C", "3|c", "4|d"],
                        rig.did(3, 0, 0, 0),
                    ),
                    (Write::Replace | Write::Append, _)
                    | (_, Disposition::Truncate | Disposition::Rebuild) => {
                        (vec!["2|b", "3|C", "4|d"], rig.did(3, 0, 0, 0))
                    }
                    (HARD, _) => (vec!["2|b", "3|C", "4|d"], rig.did(1, 1, 1, 1)),
                    _ => {
                        let deleted = u64::from(write == SOFT);
                        (vec!["1|a", "2|b", "3|C", "4|d"], rig.did(1, 1, deleted, 1))
                    }
                };
                assert_eq!(done, outcome, "{case}");
                assert_eq!(rig.rows(ALL).await, expected, "{case}");
                assert!(rig.staged().await.is_empty(), "{case}");
                rig.run("DROP TABLE people").await;
            }
        }
    }
    rig.drop().await;
}

async fn a_connection_without_a_database_merges_into_any(server: Server) {
    let rig = Rig::new(server).await;
    let rig = Rig {
        connection: server.connect(serde_json::json!({})).await.unwrap(),
        ..rig
    };
    for write in [HARD, SOFT] {
        let load = || {
            let mut load = people(write);
            load.target.namespace = Some(rig.database.clone());
            load
        };
        assert_eq!(
            rig.load(load(), rows(&BEFORE)).await,
            rig.did(3, 0, 0, 0),
            "{write:?}"
        );
        assert_eq!(
            rig.load(load(), rows(&AFTER)).await,
            rig.did(1, 1, 1, 1),
            "{write:?}"
        );
        rig.run("DROP TABLE people").await;
    }
    rig.drop().await;
}

async fn a_vanished_row_is_marked_once_and_cleared_when_its_key_comes_back(server: Server) {
    let rig = Rig::new(server).await;
    let stamped = || Load {
        record_timestamps: true,
        ..people(SOFT)
    };
    let deleted = "SELECT id, _polytomic_deleted_at IS NOT NULL FROM people ORDER BY id";
    rig.load(stamped(), rows(&BEFORE)).await;
    let stamps =
        "SELECT COUNT(DISTINCT _polytomic_created_at), COUNT(_polytomic_updated_at) FROM people";
    assert_eq!(rig.rows(stamps).await, ["1|3"]);
    assert_eq!(
        rig.load(stamped(), rows(&BEFORE[1..])).await,
        rig.did(0, 0, 1, 2)
    );
    assert_eq!(rig.rows(deleted).await, ["1|1", "2|0", "3|0"]);
    assert_eq!(
        rig.load(stamped(), rows(&BEFORE[1..])).await,
        rig.did(0, 0, 0, 2)
    );
    assert_eq!(
        rig.load(stamped(), rows(&BEFORE)).await,
        rig.did(0, 1, 0, 2)
    );
    assert_eq!(rig.rows(deleted).await, ["1|0", "2|0", "3|0"]);
    rig.drop().await;
}

async fn a_part_that_has_landed_does_not_land_again(server: Server) {
    let rig = Rig::new(server).await;
    for write in [Write::Append, Write::Replace, SOFT] {
        let load = Load {
            resume: true,
            ..people(write)
        };
        let first = rig.begin(load.clone()).await;
        land(first.as_ref(), "1", rows(&BEFORE[..1])).await.unwrap();
        land(first.as_ref(), "1", rows(&BEFORE[..1])).await.unwrap();
        // A lane that dies in the middle of a part leaves nothing of it.
        let mut lane = first.lane().await.unwrap();
        lane.write(tideway_core::Batch::of_rows(rows(&BEFORE[1..])))
            .await
            .unwrap();
        drop(lane);
        drop(first);
        let second = rig.begin(load.clone()).await;
        assert_eq!(second.landed().iter().collect::<Vec<_>>(), ["1"]);
        let mut lane = second.lane().await.unwrap();
        write_part(lane.as_mut(), "2", rows(&BEFORE[1..2]))
            .await
            .unwrap();
        write_part(lane.as_mut(), "3", rows(&BEFORE[2..]))
            .await
            .unwrap();
        assert_eq!(second.finish().await.unwrap().inserted, 3, "{write:?}");
        assert_eq!(rig.rows(ALL).await, ["1|a", "2|b", "3|c"], "{write:?}");
        rig.run("DROP TABLE people").await;
    }
    rig.drop().await;
}

async fn a_load_that_has_finished_changes_nothing(server: Server) {
    let rig = Rig::new(server).await;
    for write in [Write::Append, Write::Replace, SOFT, HARD] {
        for exists in [false, true] {
            if exists {
                rig.load(people(write), rows(&BEFORE)).await;
            }
            let load = people(write);
            let table = rig.begin(load.clone()).await;
            land(table.as_ref(), "1", rows(&AFTER)).await.unwrap();
            table.finish().await.unwrap();
            let found = rig.rows(ALL).await;
            assert!(table.finish().await.unwrap().repeated);
            let again = rig.begin(load).await;
            assert!(again.finished());
            assert!(again.finish().await.unwrap().repeated);
            assert_eq!(rig.rows(ALL).await, found, "{write:?}");
            rig.run("DROP TABLE people").await;
        }
    }
    rig.drop().await;
}

/// Whoever dies between the renaming and the ledger's row has finished all the same.
async fn a_crash_between_the_swap_and_its_record_is_mended(server: Server) {
    let rig = Rig::new(server).await;
    rig.load(people(Write::Replace), rows(&BEFORE)).await;
    let load = people(Write::Replace);
    let table = rig.begin(load.clone()).await;
    land(table.as_ref(), "1", rows(&AFTER)).await.unwrap();
    let (stage, old) = (
        format!("_tideway_stage_{}", load.id),
        format!("_tideway_old_{}", load.id),
    );
    rig.run(&format!("RENAME TABLE people TO {old}, {stage} TO people"))
        .await;
    let again = rig.begin(load).await;
    assert!(again.finished());
    assert!(again.finish().await.unwrap().repeated);
    assert_eq!(rig.rows(ALL).await, ["2|b", "3|C", "4|d"]);
    assert!(rig.staged().await.is_empty());
    rig.drop().await;
}

async fn keys_that_differ_in_case_or_trailing_spaces_stay_apart(server: Server) {
    let rig = Rig::new(server).await;
    let key = Column {
        nullable: false,
        ..Column::new("k", LogicalType::Text)
    };
    let load = || {
        load_of(
            SOFT,
            vec![key.clone(), Column::new("n", LogicalType::Int64)],
        )
    };
    let keys = ["a", "A", "a ", "ä", "", "a\t", "日本"];
    let rows = |n: i64| {
        let texts: StringArray = keys.iter().map(|key| Some(*key)).collect();
        let numbers = Int64Array::from(vec![n; keys.len()]);
        batch(&load(), vec![Arc::new(texts), Arc::new(numbers)])
    };
    assert_eq!(rig.load(load(), rows(1)).await.inserted, 7);
    assert_eq!(rig.load(load(), rows(2)).await, rig.did(0, 7, 0, 0));
    assert_eq!(rig.load(load(), rows(2)).await, rig.did(0, 0, 0, 7));
    rig.drop().await;
}

async fn columns_are_added_and_widened(server: Server) {
    let rig = Rig::new(server).await;
    rig.run(
        "CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(10) NOT NULL, gone INT NOT NULL)",
    )
    .await;
    rig.run("INSERT INTO people VALUES (1, 'a', 7)").await;
    let load = load_of(
        PARTIAL,
        vec![
            Column {
                nullable: false,
                ..Column::new("id", LogicalType::Int64)
            },
            Column::new("name", LogicalType::Text),
            Column::new("more", LogicalType::Int64),
        ],
    );
    let ids = Int64Array::from(vec![1, 1 << 40]);
    let names = StringArray::from(vec![None, Some("b")]);
    let more = Int64Array::from(vec![Some(5), None]);
    let rows = batch(&load, vec![Arc::new(ids), Arc::new(names), Arc::new(more)]);
    let table = rig.begin(load).await;
    let changes: Vec<&str> = table
        .schema_changes()
        .iter()
        .map(|change| change.0.as_str())
        .collect();
    assert!(
        changes.contains(&"column more added as bigint"),
        "{changes:?}"
    );
    assert!(
        changes.contains(&"column name may be null now"),
        "{changes:?}"
    );
    assert!(
        changes.contains(&"column gone may be null now"),
        "{changes:?}"
    );
    assert!(
        changes
            .iter()
            .any(|change| change.starts_with("column id changed from int")),
        "{changes:?}"
    );
    land(table.as_ref(), "1", rows).await.unwrap();
    assert_eq!(table.finish().await.unwrap(), rig.did(1, 1, 0, 0));
    let found = rig
        .rows("SELECT id, name, gone, more FROM people ORDER BY id")
        .await;
    assert_eq!(found, ["1|null|7|5", "1099511627776|b|null|null"]);
    rig.drop().await;
}

async fn rows_without_a_key_are_told_and_left_out(server: Server) {
    let rig = Rig::new(server).await;
    let load = load_of(
        SOFT,
        vec![
            Column::new("id", LogicalType::Int64),
            Column::new("name", LogicalType::Text),
        ],
    );
    let ids = Int64Array::from(vec![Some(1), None, Some(1)]);
    let names = StringArray::from(vec!["first", "lost", "last"]);
    let rows = batch(&load, vec![Arc::new(ids), Arc::new(names)]);
    let table = rig.begin(load).await;
    let notes = land(table.as_ref(), "1", rows).await.unwrap();
    assert_eq!(
        (notes[0].what.as_str(), notes[0].rows),
        ("row without a key not written", 1)
    );
    assert_eq!(table.finish().await.unwrap().inserted, 1);
    assert_eq!(rig.rows(ALL).await, ["1|last"]);
    rig.drop().await;
}

async fn a_table_that_others_refer_to_is_refilled_in_place(server: Server) {
    let rig = Rig::new(server).await;
    rig.load(people(Write::Replace), rows(&BEFORE)).await;
    rig.run("CREATE TABLE child (id BIGINT, FOREIGN KEY (id) REFERENCES people (id) ON DELETE SET NULL)").await;
    let table = rig.begin(people(Write::Replace)).await;
    assert!(
        table.schema_changes()[0].0.contains("emptied and refilled"),
        "{:?}",
        table.schema_changes()
    );
    land(table.as_ref(), "1", rows(&AFTER)).await.unwrap();
    assert_eq!(table.finish().await.unwrap(), rig.did(3, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["2|b", "3|C", "4|d"]);
    let refers = "SELECT REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'child' AND REFERENCED_TABLE_NAME IS NOT NULL";
    assert_eq!(rig.rows(refers).await, ["people"]);
    rig.drop().await;
}

async fn a_table_that_others_refer_to_is_emptied_where_it_was_to_be_made_anew(server: Server) {
    let rig = Rig::new(server).await;
    rig.load(people(Write::Append), rows(&BEFORE)).await;
    rig.run("ALTER TABLE people ADD PRIMARY KEY (id)").await;
    rig.run("CREATE TABLE child (id BIGINT, FOREIGN KEY (id) REFERENCES people (id) ON DELETE SET NULL)").await;
    for write in [Write::Append, PARTIAL] {
        rig.run("INSERT IGNORE INTO people (id, name) VALUES (1, 'old')")
            .await;
        let load = Load {
            disposition: Disposition::Rebuild,
            ..people(write)
        };
        let done = rig.load(load, rows(&AFTER)).await;
        assert_eq!(done, rig.did(3, 0, 0, 0), "{write:?}");
        assert_eq!(rig.rows(ALL).await, ["2|b", "3|C", "4|d"], "{write:?}");
    }
    rig.drop().await;
}

async fn odd_names_and_texts_arrive_as_they_are(server: Server) {
    // Odd names and values go the same way, quoted.
    let rig = Rig::new(server).await;
    let load = Load {
        target: tideway_core::destination::TargetTable {
            name: "Bad `name` ' \\".into(),
            ..people(SOFT).target
        },
        ..people(SOFT)
    };
    let table: Box<dyn TableLoad> = rig.begin(load).await;
    land(
        table.as_ref(),
        "1",
        rows(&[(0, "it's \\ \"a\"\t\n\r\0 test")]),
    )
    .await
    .unwrap();
    table.finish().await.unwrap();
    let found = rig.rows("SELECT HEX(name) FROM `Bad ``name`` ' \\`").await;
    assert_eq!(found, ["69742773205C20226122090A0D002074657374"]);
    let wrong = Load {
        target: tideway_core::destination::TargetTable {
            name: "smile 😀".into(),
            ..people(SOFT).target
        },
        ..people(SOFT)
    };
    let error = rig.try_begin(wrong).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    rig.drop().await;
}
