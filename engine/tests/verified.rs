//! What is staged is compared with what was read before it is put in place.

use tideway_core::{Error, Kind, WriteMode, capability::Replay, sums::Verification};
use tideway_engine::{Resync, Verify};

use crate::{Bench, as_read, fakes::Spoil, rows};

fn bench(agreed: bool) -> Bench {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("a", rows(95));
    if agreed { bench.agreed() } else { bench }
}

async fn verified(bench: &Bench, execution: &str, verify: Verify) -> Option<Verification> {
    let mut spec = bench.spec(execution, WriteMode::Append, &["a"]);
    spec.verify = verify;
    let report = bench.run(spec).await;
    report.tables[0].result.as_ref().unwrap().verified.clone()
}

#[tokio::test]
async fn rows_are_counted_and_added_up_in_every_mode_and_form() {
    for (mode, agreed) in WriteMode::ALL
        .into_iter()
        .flat_map(|mode| [(mode, false), (mode, true)])
    {
        let bench = bench(agreed);
        let report = bench.run(bench.spec("e1", mode, &["a"])).await;
        let found = report.tables[0].result.as_ref().unwrap().verified.clone();
        // The key of the fakes may be null: rows that are merged by it may be left out.
        let told = match &found {
            Some(Verification::Verified {
                row_count,
                columns_left_out,
                ..
            }) => *row_count == 95 && columns_left_out.is_empty() && mode != WriteMode::Replicate,
            Some(Verification::NotVerified { reason }) => {
                reason.contains("lack a key") && mode == WriteMode::Replicate
            }
            None => false,
        };
        assert!(told, "{mode:?} {agreed}: {found:?}");
    }
}

#[tokio::test]
async fn a_load_that_is_not_what_was_read_never_becomes_visible() {
    let spoils: [(Spoil, &str); 4] = [
        (|rows| rows[17][1] = Some(7), "values differ in v"),
        (
            |rows| drop(rows.remove(3)),
            "95 rows were read and 94 are staged",
        ),
        (
            |rows| rows.push(rows[0].clone()),
            "95 rows were read and 96 are staged",
        ),
        (
            |rows| {
                let value = rows[1][1];
                rows[1][1] = rows[2][1];
                rows[2][1] = value;
            },
            "in other rows",
        ),
    ];
    for (spoil, words) in spoils {
        for agreed in [false, true] {
            let mut bench = bench(agreed);
            bench.destination.spoils = Some(spoil);
            let report = bench
                .run(bench.spec("e1", WriteMode::Snapshot, &["a"]))
                .await;
            let error = report.tables[0].result.as_ref().unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.kind, Kind::Data);
            assert!(!bench.destination.exists("a"));
            assert_eq!(bench.destination.staged(), 0);
            // Nothing was remembered either: the next run reads everything.
            bench.destination.spoils = None;
            let again = bench.spec("e2", WriteMode::Snapshot, &["a"]);
            assert_eq!(bench.run(again).await.failed(), 0);
            assert_eq!(bench.destination.rows("a"), as_read(&rows(95)));
        }
    }
}

#[tokio::test]
async fn rows_that_cannot_be_read_back_are_put_in_place_and_said_to_be_unverified() {
    let mut bench = bench(false);
    bench.destination.unreadable = Some(Error::permission("no right to read"));
    let found = verified(&bench, "e1", Verify::Always).await;
    assert!(
        matches!(&found, Some(Verification::NotVerified { reason }) if reason.contains("no right")),
        "{found:?}"
    );
    assert_eq!(bench.destination.rows("a"), as_read(&rows(95)));
}

#[tokio::test]
async fn what_is_none_of_what_could_have_been_written_is_not_put_in_place() {
    for error in [
        Error::data("a value that is no number"),
        Error::drift("the file is gone"),
    ] {
        let mut bench = bench(false);
        bench.destination.unreadable = Some(error.clone());
        let report = bench
            .run(bench.spec("e1", WriteMode::Snapshot, &["a"]))
            .await;
        let found = report.tables[0].result.as_ref().unwrap_err();
        assert_eq!(found.kind, Kind::Data);
        assert!(found.to_string().contains(&error.to_string()), "{found}");
        assert!(!bench.destination.exists("a"));
    }
}

#[tokio::test]
async fn columns_that_what_is_staged_does_not_show_are_left_out_and_named() {
    let mut bench = bench(false);
    bench.destination.blind = Some("v");
    // Of such a column nobody can tell.
    bench.destination.spoils = Some(|rows| rows[17][1] = Some(7));
    let found = verified(&bench, "e1", Verify::Always).await;
    assert!(
        matches!(&found, Some(Verification::Verified { columns_left_out, .. }) if columns_left_out == &["v"]),
        "{found:?}"
    );
    bench.destination.spoils = Some(|rows| rows[17][0] = Some(7));
    let spec = bench.spec("e2", WriteMode::Append, &["a"]);
    let report = bench.run(spec).await;
    let error = report.tables[0].result.as_ref().unwrap_err();
    assert!(error.to_string().contains("values differ in id"), "{error}");
}

#[tokio::test]
async fn by_default_the_first_load_of_a_table_is_verified() {
    let bench = bench(false);
    assert_eq!(verified(&bench, "e1", Verify::Never).await, None);
    assert_eq!(verified(&bench, "e2", Verify::FirstLoads).await, None);
    assert!(verified(&bench, "e3", Verify::Always).await.is_some());
    let mut anew = bench.spec("e4", WriteMode::Append, &["a"]);
    anew.verify = Verify::FirstLoads;
    anew.resync = Some(Resync::Resync);
    let report = bench.run(anew).await;
    assert!(report.tables[0].result.as_ref().unwrap().verified.is_some());
    let bench = self::bench(false);
    assert!(verified(&bench, "e1", Verify::FirstLoads).await.is_some());
}
