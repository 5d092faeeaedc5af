//! Loads that are killed at any moment and begun again.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tideway_core::destination::{Disposition, Load, Write};

use crate::support::*;

const FILE: &str = "TIDEWAY_TEST_CRASH_FILE";
const WRITE: &str = "TIDEWAY_TEST_CRASH_WRITE";
const PARTS: i64 = 12;
const PART_ROWS: i64 = 300;

fn ways() -> [(&'static str, Write); 3] {
    [
        ("append", Write::Append),
        ("replace", Write::Replace),
        ("merge", HARD),
    ]
}

/// Carries the load as far as it gets, with what an earlier process left.
async fn go_on(file: PathBuf, way: &str) {
    let write = ways().into_iter().find(|(name, _)| *name == way).unwrap().1;
    let load = Load {
        id: "killed".to_owned(),
        resume: true,
        ..load(write, Disposition::Retain)
    };
    let connection = connect(&file).await;
    let begun = destination(&connection).begin(load).await.unwrap();
    if !begun.finished() {
        let mut lane = begun.lane().await.unwrap();
        for part in (0..PARTS).filter(|part| !begun.landed().contains(&part.to_string())) {
            for row in 0..PART_ROWS {
                let id = part * PART_ROWS + row;
                lane.write(person_rows(&[(id, "new")])).await.unwrap();
            }
            lane.commit(&part.to_string()).await.unwrap();
        }
        drop(lane);
    }
    begun.finish().await.unwrap();
}

/// The process that is killed; on its own it does nothing.
#[tokio::test]
async fn child() {
    if let (Some(file), Ok(way)) = (env::var_os(FILE), env::var(WRITE)) {
        go_on(file.into(), &way).await;
    }
}

#[tokio::test]
async fn a_load_that_is_killed_at_any_moment_ends_with_every_row_once() {
    for (way, write) in ways() {
        let file = filled(write).await;
        let mut kills = 0;
        let started = Instant::now();
        loop {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "crash::child"])
                .env(FILE, &file.path)
                .env(WRITE, way)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            // Later and later, so that each phase of a load is hit.
            std::thread::sleep(Duration::from_millis(15 + 12 * kills));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            assert!(started.elapsed() < Duration::from_secs(50), "no end of it");
        }
        assert!(kills > 2, "killed only {kills} times");
        go_on(file.path.clone(), way).await;

        let old = if write == Write::Append { 3 } else { 0 };
        let loaded = PARTS * PART_ROWS;
        let count = file.texts("SELECT count(*) FROM t");
        assert_eq!(
            count,
            [(loaded + old).to_string()],
            "{way} after {kills} kills"
        );
        let new = file.texts("SELECT count(DISTINCT id) FROM t WHERE name = 'new'");
        assert_eq!(new, [loaded.to_string()], "{way} after {kills} kills");
        no_leftovers(&file);
        assert_eq!(file.texts("PRAGMA integrity_check"), ["ok"]);
    }
}
