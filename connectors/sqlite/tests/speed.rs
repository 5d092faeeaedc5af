use crate::support::*;
use arrow_array::*;
use std::{sync::Arc, time::Instant};
use tideway_core::{destination::*, source::*, *};

#[test]
fn raw() {
    for k in [1usize, 4, 8, 16, 50] {
        let file = File::absent();
        let c = file.open();
        c.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c TEXT, d REAL, e INTEGER, f TEXT, g TEXT, h REAL, i INT, j TEXT, k INT, l TEXT); BEGIN").unwrap();
        let one = format!("({})", vec!["?"; 12].join(","));
        let sql = format!("INSERT OR IGNORE INTO t VALUES {}", vec![one; k].join(","));
        let mut s = c.prepare(&sql).unwrap();
        let t = Instant::now();
        let n = 300_000;
        for r in 0..n / k {
            for q in 0..k {
                let id = (r * k + q) as i64;
                let o = q * 12;
                s.raw_bind_parameter(o + 1, id).unwrap();
                for p in 2..=12 {
                    match p {
                        4 | 8 => s.raw_bind_parameter(o + p, id as f64 * 0.5).unwrap(),
                        5 | 9 | 11 => s.raw_bind_parameter(o + p, id * 3).unwrap(),
                        _ => s.raw_bind_parameter(o + p, "some text here").unwrap(),
                    }
                }
            }
            s.raw_execute().unwrap();
        }
        drop(s);
        c.execute_batch("COMMIT").unwrap();
        eprintln!("rows per insert {k}: {:?}", t.elapsed());
    }
}

#[tokio::test]
async fn whole() {
    let file = File::with("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c TEXT, d REAL, e INTEGER, f TIMESTAMP, g TEXT, h DECIMAL(10,2), i INT, j DATE, k BOOLEAN, l TEXT);
      WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 500000)
      INSERT INTO t SELECT x, 'name ' || x, 'some text here', x * 0.5, x * 3, '2024-01-01 10:00:00', 'more', x * 0.25, x, '2024-02-03', x % 2, 'last' FROM n");
    let t = Instant::now();
    let table = file.table("t").await;
    eprintln!("discover {:?}", t.elapsed());
    let t = Instant::now();
    let (batches, _) = try_read(&file, read_of(&table)).await.unwrap();
    eprintln!(
        "read {:?} {} batches {} bytes",
        t.elapsed(),
        batches.len(),
        batches
            .iter()
            .map(|b| b.get_array_memory_size())
            .sum::<usize>()
    );
    for (w, again) in [
        (Write::Append, false),
        (Write::Replace, false),
        (
            Write::Merge {
                complete: true,
                deletes: Deletes::Soft,
            },
            true,
        ),
    ] {
        let out = File::absent();
        for _ in 0..(1 + again as usize) {
            let load = load_of(table.columns.clone(), &["a"], w, Disposition::Retain);
            let begun = begin(&out, &load).await.unwrap();
            let t = Instant::now();
            land(
                begun.as_ref(),
                batches.iter().map(|b| Batch::of_rows(b.clone())).collect(),
            )
            .await
            .unwrap();
            eprintln!("{w:?} land {:?}", t.elapsed());
            let t = Instant::now();
            let o = begun.finish().await.unwrap();
            eprintln!("finish {:?} {:?}", t.elapsed(), counts(&o));
        }
    }
}
