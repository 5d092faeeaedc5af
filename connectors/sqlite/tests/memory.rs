use std::{fs, sync::Arc};

use futures::StreamExt;
use serde_json::json;

use crate::support::*;

/// Memory of this process now, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[tokio::test]
async fn a_million_rows_pass_in_batches_of_the_size_asked_for() {
    let file = File::with(
        "CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL(10,2), at TIMESTAMP);
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 1000000)
         INSERT INTO n SELECT x, 'customer number ' || x, x * 0.25, '2024-01-01 10:00:00' FROM c",
    );
    let table = file.table("n").await;
    let connection = file.connect().await;
    let snapshot = source(&connection).open(&json!({})).await.unwrap();
    let mut read = read_of(&table);
    read.batch_bytes = 256 << 10;
    let read = Arc::new(read);
    let before = resident();
    let (mut rows, mut most) = (0, 0);
    for part in snapshot.plan(&read).await.unwrap().parts {
        let mut stream = snapshot.clone().read(read.clone(), part);
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            // Arrow's buffers grow by doubling.
            assert!(
                batch.byte_count() <= 2 * read.batch_bytes + (64 << 10),
                "{}",
                batch.byte_count()
            );
            rows += batch.row_count();
            most = most.max(resident());
        }
    }
    assert_eq!(rows, 1_000_000);
    // The table has about 60 MB.
    assert!(
        most.saturating_sub(before) < 32 << 20,
        "grew by {} bytes",
        most - before
    );
}

#[tokio::test]
async fn a_row_larger_than_a_batch_passes() {
    let file = File::with(
        "CREATE TABLE t (b BLOB); INSERT INTO t VALUES (zeroblob(10)), (zeroblob(3000000)), (zeroblob(20))",
    );
    let mut read = read_of(&file.table("t").await);
    read.batch_bytes = 1000;
    let (batches, _) = try_read(&file, read).await.unwrap();
    assert_eq!(
        batches
            .iter()
            .map(|batch| batch.num_rows())
            .collect::<Vec<_>>(),
        [2, 1]
    );
}
