//! Values that an update of the key leaves out: they were not changed and are stored out of
//! line, so the log does not repeat them, but the row is a new one to everyone else. They
//! are read from the table as it is now. That may be ahead of the stream, and then the
//! stream goes on to tell how: in the end it is right.

use std::error::Error as StdError;

use tideway_core::Result;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::{convert::Raw, pgoutput::Relation};
use crate::{
    connect::{Session, explain},
    sql::{ident, qualified},
};

/// A value in the place of a cell that was not told.
pub struct Filled {
    /// Place in the relation.
    pub at: usize,
    pub bytes: Vec<u8>,
    pub binary: bool,
}

/// A column to read: its place in the relation, and the SQL that gives its text where it
/// has to come as text.
pub struct Gap {
    pub at: usize,
    pub as_text: Option<String>,
}

/// Whatever the server sends.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Bytes, Box<dyn StdError + Sync + Send>> {
        Ok(Bytes(bytes.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Reads the gaps of the row with this key; what is null or gone by now is left out.
pub async fn refetch(
    session: &Session,
    relation: &Relation,
    key: &[(usize, Raw<'_>)],
    gaps: &[Gap],
) -> Result<Vec<Filled>> {
    let name = |at: usize| {
        let column = relation.columns.get(at);
        column.map(|column| ident(&column.name)).unwrap_or_default()
    };
    let wanted = gaps.iter().map(|gap| match &gap.as_text {
        Some(text) => text.clone(),
        None => name(gap.at),
    });
    let conditions = key.iter().enumerate();
    let conditions = conditions.map(|(place, (at, _))| format!("{} = ${}", name(*at), place + 1));
    let sql = format!(
        "SELECT {} FROM {} WHERE {}",
        wanted.collect::<Vec<_>>().join(", "),
        qualified(&relation.namespace, &relation.name),
        conditions.collect::<Vec<_>>().join(" AND ")
    );
    let key = key.iter().map(|(_, raw)| raw as &(dyn ToSql + Sync));
    let key: Vec<&(dyn ToSql + Sync)> = key.collect();
    let row = session.query_opt(&sql, &key).await.map_err(explain)?;
    let Some(row) = row else {
        return Ok(Vec::new());
    };
    let mut filled = Vec::new();
    for (place, gap) in gaps.iter().enumerate() {
        let value: Option<Bytes> = row.try_get(place).map_err(explain)?;
        filled.extend(value.map(|Bytes(bytes)| Filled {
            at: gap.at,
            bytes,
            binary: gap.as_text.is_none(),
        }));
    }
    Ok(filled)
}
