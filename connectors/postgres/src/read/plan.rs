//! Cutting a table into parts.

use serde::{Deserialize, Serialize};
use tideway_core::{
    Error, Part, Result,
    source::{Read, Scan},
};

use super::{
    relation::{Leaf, Relation},
    snapshot::PostgresSnapshot,
    tracking,
};
use crate::sql::qualified;

const PART_ROWS: u64 = 250_000;
const PART_BYTES: u64 = 64 << 20;
const MOST_PARTS: u64 = 1024;
/// A table with fewer rows is not worth several sessions.
const ROWS_FOR_ALL_LANES: u64 = 50_000;
/// Up to so many changed rows are fetched by index, in one go.
const ROWS_BY_INDEX: u64 = 2 * PART_ROWS;
/// Servers before this read the whole table for every range of pages.
const RANGE_SCANS: u32 = 140_000;

/// What a part's `spec` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSpec {
    pub pieces: Vec<Piece>,
}

/// Rows that one COPY reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// As it stands behind FROM.
    pub from: String,
    /// First page; 0 reads from the start.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_block: u32,
    /// First page that is not read any more; `None` reads to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_block: Option<u32>,
}

fn is_zero(block: &u32) -> bool {
    *block == 0
}

impl Piece {
    fn whole(from: &str) -> Piece {
        Piece {
            from: from.to_owned(),
            first_block: 0,
            end_block: None,
        }
    }

    /// The statement that copies the piece's rows out.
    pub fn statement(&self, select: &str, filter: Option<&str>, limit: Option<u64>) -> String {
        let mut conditions: Vec<String> = filter.map(str::to_owned).into_iter().collect();
        if self.first_block > 0 {
            conditions.push(format!(
                "ctid >= '({},0)'::pg_catalog.tid",
                self.first_block
            ));
        }
        if let Some(end) = self.end_block {
            conditions.push(format!("ctid < '({end},0)'::pg_catalog.tid"));
        }
        let mut query = format!("SELECT {select} FROM {}", self.from);
        if !conditions.is_empty() {
            query.push_str(" WHERE ");
            query.push_str(&conditions.join(" AND "));
        }
        if let Some(limit) = limit {
            query.push_str(&format!(" LIMIT {limit}"));
        }
        format!("COPY ({query}) TO STDOUT (FORMAT binary)")
    }
}

pub async fn plan(snapshot: &PostgresSnapshot, read: &Read) -> Result<Scan> {
    let relation = snapshot.relation(&read.table.id).await?;
    relation.readings(&read.columns)?;
    relation.hold(&snapshot.holder).await?;
    let (filter, cursor) = match &read.tracking {
        Some(tracking) => (
            tracking::filter(&relation, tracking)?,
            Some(tracking::next_cursor(snapshot, &relation, tracking).await?),
        ),
        None => (None, None),
    };
    let row_estimate = estimate(snapshot, &relation, filter.as_deref()).await?;
    let row_estimate = read
        .limit
        .map_or(row_estimate, |limit| row_estimate.min(limit));
    let filtered = filter.is_some();
    let leaves = match is_read_whole(snapshot, read, &relation, filtered, row_estimate).await? {
        true => None,
        false => relation.leaves(&snapshot.holder).await?,
    };
    let block_bytes = block_size(snapshot).await?;
    let byte_estimate = leaves
        .as_deref()
        .map(|leaves| block_count(leaves) * block_bytes);
    let pieces = match leaves {
        None => vec![vec![Piece::whole(&relation.from)]],
        Some(leaves) => {
            let bytes = byte_estimate.unwrap_or(0);
            cut(&leaves, part_count(row_estimate, bytes, read.lanes))
        }
    };
    Ok(Scan {
        parts: parts(pieces, row_estimate)?,
        row_estimate: Some(row_estimate),
        byte_estimate: byte_estimate.or(read.table.byte_estimate),
        cursor,
    })
}

async fn is_read_whole(
    snapshot: &PostgresSnapshot,
    read: &Read,
    relation: &Relation,
    filtered: bool,
    row_estimate: u64,
) -> Result<bool> {
    if read.limit.is_some() || snapshot.holder.version < RANGE_SCANS {
        return Ok(true);
    }
    let Some(tracking) = &read.tracking else {
        return Ok(false);
    };
    if !filtered || row_estimate > ROWS_BY_INDEX {
        return Ok(false);
    }
    let column = relation.column(&tracking.column)?;
    relation.is_indexed(&snapshot.holder, column).await
}

/// What the server's planner expects, which knows sizes, widths and statistics.
async fn estimate(
    snapshot: &PostgresSnapshot,
    relation: &Relation,
    filter: Option<&str>,
) -> Result<u64> {
    let condition = filter
        .map(|filter| format!(" WHERE {filter}"))
        .unwrap_or_default();
    let explain = format!(
        "EXPLAIN (FORMAT JSON) SELECT 1 FROM {}{condition}",
        relation.from
    );
    let answer = snapshot.holder.ask(&explain).await?;
    let plan = answer.into_iter().next().flatten().unwrap_or_default();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap_or_default();
    let rows = plan
        .pointer("/0/Plan/Plan Rows")
        .and_then(serde_json::Value::as_f64);
    Ok(rows.unwrap_or(0.0) as u64)
}

async fn block_size(snapshot: &PostgresSnapshot) -> Result<u64> {
    let answer = snapshot.holder.ask("SHOW block_size").await?;
    let size = answer
        .into_iter()
        .next()
        .flatten()
        .and_then(|size| size.parse().ok());
    size.ok_or_else(|| Error::bug("the server does not tell its block size"))
}

fn block_count(leaves: &[Leaf]) -> u64 {
    leaves
        .iter()
        .map(|leaf| u64::from(leaf.blocks.unwrap_or(1)))
        .sum()
}

fn part_count(rows: u64, bytes: u64, lanes: usize) -> u64 {
    let for_lanes = if rows > ROWS_FOR_ALL_LANES {
        lanes as u64
    } else {
        1
    };
    rows.div_ceil(PART_ROWS)
        .max(bytes.div_ceil(PART_BYTES))
        .max(for_lanes)
        .clamp(1, MOST_PARTS)
}

/// Cuts leaves into about `count` parts of equally many pages. Large leaves are cut, small
/// ones share a part. The last piece of a leaf is open-ended.
fn cut(leaves: &[Leaf], count: u64) -> Vec<Vec<Piece>> {
    let per_part = block_count(leaves).div_ceil(count).max(1);
    let per_part = u32::try_from(per_part).unwrap_or(u32::MAX);
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut room = per_part;
    for leaf in leaves {
        let from = format!("ONLY {}", qualified(&leaf.namespace, &leaf.name));
        let blocks = leaf.blocks.unwrap_or(1);
        let mut first_block = 0;
        // A leaf without pages holds no row that the snapshot could show.
        while first_block < blocks {
            // Without pages of its own it is not cut.
            let taken = if leaf.blocks.is_some() {
                room.min(blocks - first_block)
            } else {
                blocks
            };
            let end = first_block + taken;
            part.push(Piece {
                from: from.clone(),
                first_block,
                end_block: (end < blocks).then_some(end),
            });
            first_block = end;
            room = room.saturating_sub(taken);
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = per_part;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Parts with their estimates; the last one is the smallest. An empty table has one too.
fn parts(mut pieces: Vec<Vec<Piece>>, row_estimate: u64) -> Result<Vec<Part>> {
    if pieces.is_empty() {
        pieces.push(Vec::new());
    }
    let share = row_estimate / pieces.len() as u64;
    let parts = pieces.into_iter().enumerate().map(|(at, pieces)| {
        let spec = serde_json::to_value(PartSpec { pieces })
            .map_err(|error| Error::bug(format!("writing down a part: {error}")))?;
        Ok(Part {
            id: format!("{at:04}"),
            spec,
            row_estimate: Some(share),
        })
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf(name: &str, blocks: u32) -> Leaf {
        Leaf {
            namespace: "public".into(),
            name: name.into(),
            blocks: Some(blocks),
        }
    }

    #[test]
    fn large_tables_are_cut_by_rows_bytes_and_lanes() {
        assert_eq!(part_count(10, 8192, 8), 1);
        assert_eq!(part_count(60_000, 1 << 20, 4), 4);
        assert_eq!(part_count(1_000_000, 200 << 20, 2), 4);
        assert_eq!(part_count(1000, 1 << 30, 2), 16);
        assert_eq!(part_count(u64::MAX, u64::MAX, 2), MOST_PARTS);
    }

    #[test]
    fn an_empty_table_has_one_part_without_pieces() {
        let parts = parts(cut(&[leaf("t", 0)], 1), 0).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].spec, serde_json::json!({"pieces": []}));
    }

    #[test]
    fn statements_say_only_what_is_needed() {
        let mut piece = Piece::whole("ONLY \"s\".\"t\"");
        assert_eq!(
            piece.statement("\"a\"", None, None),
            "COPY (SELECT \"a\" FROM ONLY \"s\".\"t\") TO STDOUT (FORMAT binary)"
        );
        (piece.first_block, piece.end_block) = (5, Some(9));
        assert_eq!(
            piece.statement("1", Some("x > 1"), Some(7)),
            "COPY (SELECT 1 FROM ONLY \"s\".\"t\" WHERE x > 1 \
             AND ctid >= '(5,0)'::pg_catalog.tid AND ctid < '(9,0)'::pg_catalog.tid LIMIT 7) \
             TO STDOUT (FORMAT binary)"
        );
    }

    proptest! {
        #[test]
        fn every_page_is_in_exactly_one_piece(blocks in prop::collection::vec(0_u32..5000, 0..20), count in 1_u64..64) {
            let leaves: Vec<Leaf> = blocks.iter().enumerate().map(|(at, blocks)| leaf(&at.to_string(), *blocks)).collect();
            let parts = cut(&leaves, count);
            prop_assert!(parts.len() as u64 <= count + 1);
            for leaf in &leaves {
                let from = format!("ONLY {}", qualified(&leaf.namespace, &leaf.name));
                let pieces: Vec<&Piece> = parts.iter().flatten().filter(|piece| piece.from == from).collect();
                let mut next = 0;
                for (at, piece) in pieces.iter().enumerate() {
                    prop_assert_eq!(piece.first_block, next);
                    let last = at + 1 == pieces.len();
                    prop_assert_eq!(piece.end_block.is_none(), last);
                    next = piece.end_block.unwrap_or(leaf.blocks.unwrap());
                }
                prop_assert_eq!(next, leaf.blocks.unwrap());
            }
        }
    }
}
