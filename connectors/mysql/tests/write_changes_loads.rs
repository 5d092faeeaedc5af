//! Loads of changes one after the other and side by side, cut short and repeated, into tables
//! of all kinds.

use std::{sync::Arc, time::Duration};

use arrow_array::{BooleanArray, Int64Array, UInt8Array};
use tideway_core::{
    Batch, Column, Kind, LogicalType, Op, Ops,
    destination::{Disposition, Load, TableLoad},
};

use crate::{
    rig::{Rig, Server, batch, on_both},
    write_changes::{
        Cell, HARDLY, SOFTLY, apply, changes, changing, gone, inhabit, inhabited, is, put, stage,
        state,
    },
};

on_both!(
    finishing_again_changes_nothing,
    a_load_goes_on_with_the_parts_that_landed_or_starts_over,
    a_load_is_staged_while_another_one_is_in_its_last_step,
    a_table_of_someone_elses_is_changed_as_it_is,
    values_are_kept_whatever_characters_and_collation_the_column_has,
    a_missing_table_is_made_and_others_are_emptied_or_made_anew_where_asked,
    a_crash_before_the_table_is_renamed_or_recorded_is_mended,
    a_crash_between_the_columns_and_the_rows_is_mended,
    a_table_dropped_meanwhile_and_a_stage_lost_are_told_or_mended,
    batches_that_are_no_changes_are_our_bug,
);

async fn finishing_again_changes_nothing(server: Server) {
    let rig = inhabited(server, SOFTLY).await;
    let load = changing(SOFTLY);
    let table = rig.begin(load.clone()).await;
    stage(table.as_ref(), &[("1", vec![put(Op::Update, 1, "A", "x")])]).await;
    assert_eq!(table.finish().await.unwrap(), rig.did(0, 1, 0, 0));
    rig.run("UPDATE people SET name = 'by someone' WHERE id = 1")
        .await;
    assert!(table.finish().await.unwrap().repeated);
    let again = rig.begin(load).await;
    assert!(again.finished());
    assert!(again.finish().await.unwrap().repeated);
    assert_eq!(state(&rig, SOFTLY).await[0], "1|by someone|x");
    assert!(rig.staged().await.is_empty());
    rig.drop().await;
}

async fn a_load_goes_on_with_the_parts_that_landed_or_starts_over(server: Server) {
    let rig = Rig::new(server).await;
    for resume in [true, false] {
        inhabit(&rig, SOFTLY).await;
        let load = changing(SOFTLY);
        let first = || vec![put(Op::Insert, 4, "d", "x"), gone(2)];
        {
            let table = rig.begin(load.clone()).await;
            stage(table.as_ref(), &[("1", first())]).await;
            let mut lane = table.lane().await.unwrap();
            let lost = changes(&[put(Op::Insert, 5, "lost", "x")]);
            lane.write(lost).await.unwrap();
        }
        let table = rig.begin(Load { resume, ..load }).await;
        assert_eq!(table.landed().len(), usize::from(resume));
        let rest = [("1", first()), ("2", vec![put(Op::Update, 4, "D", "x")])];
        stage(table.as_ref(), &rest).await;
        assert_eq!(table.finish().await.unwrap(), rig.did(1, 1, 1, 0));
        let rows = ["1|a|x", "2|b|x!", "3|c|x", "4|D|x"];
        assert_eq!(state(&rig, SOFTLY).await, rows);
        rig.run("DROP TABLE people").await;
    }
    rig.drop().await;
}

/// Neither waits for the other until they are both to be put in place.
async fn a_load_is_staged_while_another_one_is_in_its_last_step(server: Server) {
    let rig = inhabited(server, HARDLY).await;
    let first: Arc<dyn TableLoad> = rig.begin(changing(HARDLY)).await.into();
    let part = vec![put(Op::Update, 1, "first", "x")];
    stage(first.as_ref(), &[("1", part)]).await;
    // Someone holds the row, so the first load is stuck in the middle.
    rig.run("START TRANSACTION").await;
    rig.run("UPDATE people SET about = 'held' WHERE id = 1")
        .await;
    let finishing = tokio::spawn({
        let first = first.clone();
        async move { first.finish().await.unwrap() }
    });
    let stuck =
        |session: &String| session.contains("STRAIGHT_JOIN") && session.contains(&rig.database);
    while !rig.rows("SHOW FULL PROCESSLIST").await.iter().any(stuck) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = rig.begin(changing(HARDLY)).await;
    let part = vec![put(Op::Update, 1, "second", "x")];
    stage(second.as_ref(), &[("1", part)]).await;
    assert!(!finishing.is_finished());
    rig.run("ROLLBACK").await;
    assert_eq!(finishing.await.unwrap(), rig.did(0, 1, 0, 0));
    assert_eq!(second.finish().await.unwrap(), rig.did(0, 1, 0, 0));
    assert_eq!(state(&rig, HARDLY).await[0], "1|second|x");
    rig.drop().await;
}

async fn a_table_of_someone_elses_is_changed_as_it_is(server: Server) {
    let rig = Rig::new(server).await;
    rig.run(
        "CREATE TABLE people (extra INT DEFAULT 5, name VARCHAR(3) CHARACTER SET latin1, id BIGINT)",
    )
    .await;
    rig.run("INSERT INTO people VALUES (1, 'a', 1), (2, 'b', 2)")
        .await;
    let table = rig.begin(changing(HARDLY)).await;
    let told = table.schema_changes().iter();
    let told: Vec<&str> = told.map(|change| change.0.as_str()).collect();
    let expected = [
        "column about added as longtext",
        "index on the key (id) added",
    ];
    assert_eq!(told, expected);
    let part = vec![
        (Op::Update, 1, Cell::Kept, is("y")),
        gone(2),
        put(Op::Insert, 3, "é", "y"),
    ];
    stage(table.as_ref(), &[("1", part)]).await;
    assert_eq!(table.finish().await.unwrap(), rig.did(1, 1, 1, 0));
    assert_eq!(state(&rig, HARDLY).await, ["1|a|y", "3|é|y"]);
    assert_eq!(
        rig.rows("SELECT extra FROM people ORDER BY id").await,
        ["1", "5"]
    );
    let part = vec![
        (Op::Update, 1, Cell::Kept, is("z")),
        put(Op::Update, 3, "long", "z"),
    ];
    let table = rig.begin(changing(HARDLY)).await;
    assert!(table.schema_changes().is_empty());
    stage(table.as_ref(), &[("1", part)]).await;
    assert_eq!(table.finish().await.unwrap_err().kind, Kind::Data);
    assert_eq!(state(&rig, HARDLY).await, ["1|a|y", "3|é|y"]);
    rig.drop().await;
}

async fn values_are_kept_whatever_characters_and_collation_the_column_has(server: Server) {
    let rig = Rig::new(server).await;
    let kinds = [
        "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        "VARCHAR(9) CHARACTER SET utf16",
        "TEXT CHARACTER SET latin1 COLLATE latin1_general_ci",
        "VARCHAR(9) CHARACTER SET cp1251",
        "CHAR(9) CHARACTER SET gbk",
        "VARCHAR(9) CHARACTER SET ascii COLLATE ascii_bin",
        "ENUM('a', 'B', 'x')",
        "VARBINARY(9)",
        "JSON",
    ];
    for kind in kinds {
        rig.run(&format!(
            "CREATE TABLE people (id BIGINT PRIMARY KEY, name {kind}, about LONGTEXT)"
        ))
        .await;
        let (a, b) = match kind {
            "JSON" => ("[\"a\"]", "[\"B\"]"),
            _ => ("a", "B"),
        };
        rig.run(&format!(
            "INSERT INTO people VALUES (1, '{a}', 'x'), (2, '{a}', 'x'), (3, '{a}', 'x')"
        ))
        .await;
        let part = vec![
            (Op::Update, 1, Cell::Kept, is("y")),
            put(Op::Update, 2, b, "y"),
            (Op::Update, 3, Cell::Kept, is("x")),
        ];
        let outcome = apply(&rig, changing(HARDLY), &[("1", part)]).await;
        assert_eq!(outcome, rig.did(0, 2, 0, 1), "{kind}");
        let rows = [format!("1|{a}|y"), format!("2|{b}|y"), format!("3|{a}|x")];
        assert_eq!(
            rig.rows("SELECT * FROM people ORDER BY id").await,
            rows,
            "{kind}"
        );
        rig.run("DROP TABLE people").await;
    }
    rig.drop().await;
}

async fn a_missing_table_is_made_and_others_are_emptied_or_made_anew_where_asked(server: Server) {
    let rig = Rig::new(server).await;
    for disposition in [
        Disposition::Retain,
        Disposition::Truncate,
        Disposition::Rebuild,
    ] {
        let asked = || Load {
            disposition,
            ..changing(SOFTLY)
        };
        let part = || vec![put(Op::Insert, 9, "i", "x"), gone(1)];
        let outcome = apply(&rig, asked(), &[("1", part())]).await;
        assert_eq!(outcome, rig.did(1, 0, 0, 0));
        let outcome = apply(&rig, asked(), &[("1", part())]).await;
        let expected = match disposition {
            Disposition::Retain => rig.did(0, 0, 0, 1),
            _ => rig.did(1, 0, 0, 0),
        };
        assert_eq!(outcome, expected, "{disposition:?}");
        assert_eq!(state(&rig, SOFTLY).await, ["9|i|x"]);
        rig.run("DROP TABLE people").await;
    }
    // One that another table refers to stays, and is emptied.
    inhabit(&rig, SOFTLY).await;
    rig.run("CREATE TABLE child (id BIGINT, FOREIGN KEY (id) REFERENCES people (id) ON DELETE SET NULL)")
        .await;
    let rebuilt = Load {
        disposition: Disposition::Rebuild,
        ..changing(SOFTLY)
    };
    let part = vec![put(Op::Insert, 9, "i", "x"), gone(1)];
    let outcome = apply(&rig, rebuilt, &[("1", part)]).await;
    assert_eq!(outcome, rig.did(1, 0, 0, 0));
    assert_eq!(state(&rig, SOFTLY).await, ["9|i|x"]);
    rig.drop().await;
}

async fn a_crash_before_the_table_is_renamed_or_recorded_is_mended(server: Server) {
    let rig = Rig::new(server).await;
    let load = || Load {
        resume: true,
        ..changing(HARDLY)
    };
    let part = || vec![put(Op::Insert, 1, "a", "x")];
    // Filled in part elsewhere, and not renamed.
    let first = load();
    stage(rig.begin(first.clone()).await.as_ref(), &[("1", part())]).await;
    rig.run(&format!(
        "CREATE TABLE _tideway_made_{} AS SELECT 7 AS id, 'half' AS name",
        first.id
    ))
    .await;
    let again = rig.begin(first).await;
    assert_eq!(again.finish().await.unwrap(), rig.did(1, 0, 0, 0));
    assert_eq!(state(&rig, HARDLY).await, ["1|a|x"]);
    // Renamed, but the ledger does not know.
    rig.run("DROP TABLE people").await;
    let second = load();
    let table = rig.begin(second.clone()).await;
    stage(table.as_ref(), &[("1", part())]).await;
    table.finish().await.unwrap();
    rig.run(&format!(
        "DELETE FROM _tideway_loads WHERE load_id = '{}'",
        second.id
    ))
    .await;
    let again = rig.begin(second).await;
    assert!(again.finished());
    assert!(again.finish().await.unwrap().repeated);
    assert_eq!(state(&rig, HARDLY).await, ["1|a|x"]);
    assert!(rig.staged().await.is_empty());
    rig.drop().await;
}

/// A new column is committed at once; whoever dies then has changed no row.
async fn a_crash_between_the_columns_and_the_rows_is_mended(server: Server) {
    let rig = inhabited(server, HARDLY).await;
    let wider = || {
        let mut load = changing(HARDLY);
        load.target
            .columns
            .push(Column::new("more", LogicalType::Int64));
        load
    };
    let lost = wider();
    {
        let table = rig.begin(lost.clone()).await;
        assert_eq!(table.schema_changes()[0].0, "column more added as bigint");
    }
    assert_eq!(state(&rig, HARDLY).await, ["1|a|x", "2|b|x", "3|c|x"]);
    let destination = rig.connection.roles().destination.unwrap();
    assert!(!destination.withdraw(lost).await.unwrap());
    assert!(rig.staged().await.is_empty());
    let table = rig.begin(wider()).await;
    assert!(table.schema_changes().is_empty());
    let mut lane = table.lane().await.unwrap();
    let told = changes(&[(Op::Update, 1, is("A"), Cell::Kept)]);
    let mut arrays = told.rows.columns().to_vec();
    arrays.push(Arc::new(Int64Array::from(vec![5])));
    let told = Batch {
        rows: batch(&wider(), arrays),
        ..told
    };
    lane.write(told).await.unwrap();
    lane.commit("1").await.unwrap();
    assert_eq!(table.finish().await.unwrap(), rig.did(0, 1, 0, 0));
    assert_eq!(
        rig.rows("SELECT id, name, about, more FROM people ORDER BY id")
            .await,
        ["1|A|x|5", "2|b|x|null", "3|c|x|null"]
    );
    // A load that was begun before the column came does not know it.
    let part = vec![put(Op::Update, 2, "B", "x")];
    let outcome = apply(&rig, changing(HARDLY), &[("1", part)]).await;
    assert_eq!(outcome, rig.did(0, 1, 0, 0));
    rig.drop().await;
}

async fn a_table_dropped_meanwhile_and_a_stage_lost_are_told_or_mended(server: Server) {
    let rig = inhabited(server, HARDLY).await;
    let table = rig.begin(changing(HARDLY)).await;
    stage(table.as_ref(), &[("1", vec![put(Op::Insert, 4, "d", "x")])]).await;
    rig.run("DROP TABLE people").await;
    assert_eq!(table.finish().await.unwrap(), rig.did(1, 0, 0, 0));
    for spoil in ["DELETE FROM", "DROP TABLE"] {
        let table = rig.begin(changing(HARDLY)).await;
        stage(table.as_ref(), &[("1", vec![put(Op::Insert, 5, "e", "x")])]).await;
        let staged = rig.staged().await;
        rig.run(&format!("{spoil} {}", staged[0])).await;
        assert_eq!(table.finish().await.unwrap_err().kind, Kind::Drift);
        table.abandon().await.unwrap();
        assert!(rig.staged().await.is_empty());
    }
    assert_eq!(state(&rig, HARDLY).await, ["4|d|x"]);
    rig.drop().await;
}

async fn batches_that_are_no_changes_are_our_bug(server: Server) {
    let rig = inhabited(server, SOFTLY).await;
    let whole = changes(&[put(Op::Insert, 4, "d", "x")]);
    let wrong = [
        Batch {
            ops: Ops::Rows,
            ..whole.clone()
        },
        Batch {
            ops: Ops::Each(UInt8Array::from(vec![7])),
            ..whole.clone()
        },
        Batch {
            kept: vec![(0, BooleanArray::from(vec![true]))],
            ..whole
        },
    ];
    for wrong in wrong {
        let table = rig.begin(changing(SOFTLY)).await;
        let mut lane = table.lane().await.unwrap();
        assert_eq!(lane.write(wrong).await.unwrap_err().kind, Kind::Bug);
        assert_eq!(lane.commit("1").await.unwrap_err().kind, Kind::Bug);
        drop(lane);
        table.abandon().await.unwrap();
    }
    let mut odd = changing(SOFTLY);
    odd.target
        .columns
        .push(Column::new("_Tideway_Op", LogicalType::Text));
    let error = rig.try_begin(odd).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    rig.drop().await;
}
