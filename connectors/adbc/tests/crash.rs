//! `kill -9` at any moment of a load: the file opens again and the load comes out exact.

use std::{sync::Arc, time::Duration};

use tideway_core::{
    Batch, Connection,
    destination::{Load, Write},
};

use crate::given::*;

const PARTS: i64 = 6;
const ROWS: i64 = 2_000;

fn wanted(write: Write, id: &str, round: usize) -> Load {
    Load {
        id: format!("{id}r{round}"),
        record_timestamps: true,
        resume: true,
        ..load(id, write)
    }
}

/// The value of a key in a round: some change from one to the next, some go, some come.
fn value(round: usize, id: i64) -> Option<String> {
    match id % 4 {
        0 => Some("always the same".to_owned()),
        1 => Some(format!("round {round}")),
        2 => round.is_multiple_of(2).then(|| "in even rounds".to_owned()),
        _ => (round % 2 == 1).then(|| format!("in odd round {round}")),
    }
}

fn part(round: usize, part: i64) -> Vec<(i64, String)> {
    (part * ROWS..(part + 1) * ROWS)
        .filter_map(|id| value(round, id).map(|value| (id, value)))
        .collect()
}

/// One attempt at a round, from wherever an earlier one stopped.
async fn attempt(connection: &Arc<dyn Connection>, load: Load, round: usize) {
    let load = begin(connection, load).await;
    if !load.finished() {
        let mut lanes = tokio::task::JoinSet::new();
        for first in 0..2 {
            let mut lane = load.lane().await.unwrap();
            let landed = load.landed().clone();
            lanes.spawn(async move {
                for index in (first..PARTS)
                    .step_by(2)
                    .filter(|i| !landed.contains(&format!("p{i}")))
                {
                    let rows_of: Vec<(i64, String)> = part(round, index);
                    for some in rows_of.chunks(300) {
                        let some: Vec<(i64, &str)> =
                            some.iter().map(|(id, v)| (*id, v.as_str())).collect();
                        lane.write(Batch::of_rows(rows(&some))).await.unwrap();
                    }
                    lane.commit(&format!("p{index}")).await.unwrap();
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.unwrap();
        }
    }
    load.finish().await.unwrap();
}

fn write_of(name: &str) -> Write {
    match name {
        "append" => Write::Append,
        "replace" => Write::Replace,
        _ => REPLICATE,
    }
}

/// The body of the process that is killed: round after round, for ever.
pub fn load_for_ever(arguments: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let connection = connect(arguments[0].as_ref()).await;
        let first: usize = arguments[2].parse().unwrap();
        for round in first.. {
            attempt(
                &connection,
                wanted(write_of(&arguments[1]), "k", round),
                round,
            )
            .await;
            println!("\nFINISHED {round}");
        }
    });
}

async fn campaign(name: &str, kills: u64) {
    let write = write_of(name);
    let place = place().await;
    let mut round = 0;
    let mut killed_within = 0;
    for kill in 0..kills {
        let path = place.path();
        let arguments = [
            path.to_str().unwrap().to_owned(),
            name.to_owned(),
            round.to_string(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = crate::child::spawn("load", &arguments);
        // Moments spread over several rounds, and not the same in every campaign.
        let moment = 60
            + kill
                .wrapping_mul(7919)
                .wrapping_add(std::process::id().into())
                % 900;
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let finished = printed
            .lines()
            .filter_map(|line| line.strip_prefix("FINISHED "))
            .next_back();
        if let Some(last) = finished {
            round = last.parse::<usize>().unwrap() + 1;
        }
        killed_within += usize::from(place.path().exists());

        // The round that was under way is carried to its end here, in what the process left.
        attempt(&place.connection, wanted(write, "k", round), round).await;
        let expected = expected(write, round);
        let found = ids_and_values(&place.connection, "main.t").await;
        assert!(
            found == expected,
            "{name}: round {round} after kill {kill} at {moment} ms: {} rows of {}",
            found.len(),
            expected.len()
        );
        round += 1;
    }
    assert!(
        killed_within > 0,
        "no process lived long enough to be killed at work"
    );
}

/// The live rows after a round, sorted.
fn expected(write: Write, round: usize) -> Vec<(i64, String)> {
    let rounds = match write {
        Write::Append => 0..=round,
        _ => round..=round,
    };
    let mut rows: Vec<(i64, String)> = rounds
        .flat_map(|round| (0..PARTS).flat_map(move |index| part(round, index)))
        .collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn a_killed_merge_comes_out_exact() {
    campaign("replicate", kills()).await;
}

#[tokio::test]
async fn a_killed_replacement_comes_out_exact() {
    campaign("replace", kills()).await;
}

#[tokio::test]
async fn a_killed_append_comes_out_exact() {
    campaign("append", kills()).await;
}

fn kills() -> u64 {
    if std::env::var_os("TIDEWAY_TEST_LONG").is_some() {
        60
    } else {
        8
    }
}
