//! Which parts of which loads have landed: a table beside the targets. A part's token is
//! committed with its rows, so one is never there without the other (invariant 4).

use std::collections::BTreeSet;

use tideway_core::Result;

use super::Plan;
use crate::{
    duckdb::{
        rows::{self, Text},
        sql::{self, Place},
    },
    session::Session,
};

/// How long a finished load is remembered.
const KEPT: &str = "INTERVAL 7 DAYS";

/// There is no key on it: DuckDB's indexes still know deleted rows while older
/// transactions run, and would refuse a token that may be there. Who writes one looks for
/// it first, behind the file's gate.
pub async fn prepare(session: &Session, place: &Place) -> Result<()> {
    let tokens = place.sql();
    session
        .execute(format!(
            "CREATE TABLE IF NOT EXISTS {tokens} (load_id VARCHAR NOT NULL, part_id VARCHAR NOT NULL, \
             \"rows\" BIGINT NOT NULL, committed_at TIMESTAMP WITH TIME ZONE NOT NULL)"
        ))
        .await?;
    session
        .execute(format!(
            "DELETE FROM {tokens} WHERE part_id = '' AND committed_at < now() - {KEPT}"
        ))
        .await?;
    Ok(())
}

/// Ids of the parts that have landed, and whether the load is finished.
pub async fn read(session: &Session, plan: &Plan) -> Result<(BTreeSet<String>, bool)> {
    let rows = session
        .fetch(format!(
            "SELECT part_id FROM {} WHERE load_id = {}",
            plan.tokens.sql(),
            sql::text(&plan.load.id)
        ))
        .await?;
    let mut parts: BTreeSet<String> = Text::column(&rows, 0)?.into_iter().flatten().collect();
    let finished = parts.remove("");
    Ok((parts, finished))
}

pub async fn is_there(
    session: &Session,
    tokens: &Place,
    load_id: &str,
    part_id: &str,
) -> Result<bool> {
    let count = session
        .fetch(format!(
            "SELECT count(*)::BIGINT FROM {} WHERE load_id = {} AND part_id = {}",
            tokens.sql(),
            sql::text(load_id),
            sql::text(part_id)
        ))
        .await?;
    Ok(rows::number(&count)? > 0)
}

/// The statement that says that a part has landed; that of the part `''` says that the
/// load is finished.
pub fn insertion(tokens: &Place, load_id: &str, part_id: &str, rows: u64) -> String {
    format!(
        "INSERT INTO {} VALUES ({}, {}, {rows}, now())",
        tokens.sql(),
        sql::text(load_id),
        sql::text(part_id)
    )
}

/// The statement that forgets the load's parts, but not that it was finished, and what nobody
/// asks for any more.
pub fn removal(plan: &Plan) -> String {
    let forgotten = sql::list(&plan.load.forgets, |load| sql::text(load));
    let forgotten = match forgotten.is_empty() {
        true => String::new(),
        false => format!(" OR load_id IN ({forgotten})"),
    };
    format!(
        "DELETE FROM {} WHERE (load_id = {} AND part_id <> ''){forgotten}",
        plan.tokens.sql(),
        sql::text(&plan.load.id)
    )
}
