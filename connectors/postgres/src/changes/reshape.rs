//! Whether a table still looks as it was asked for.
//!
//! The stream says how it looked when the changes that follow were made; the catalogue, how
//! it looks now, which may be ahead. A column that the catalogue has and the stream does
//! not is still to come; one that the stream has and the catalogue does not was dropped.

use std::collections::HashMap;

use tideway_core::{Error, Result, Table, changes::Followed};

use super::{
    catalog::{Arrival, TypeInfo},
    pgoutput::{Identity, Relation},
};

/// What the catalogue says of a table.
pub struct Present {
    pub table: Option<Table>,
    pub columns: HashMap<String, Arrival>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Reshaped { rewritten: bool },
}

/// `types` tells what is known of the relation's types; `seen` are the columns' numbers when
/// the table was last looked at in this stream.
pub fn judge(
    followed: &Followed,
    relation: &Relation,
    present: &Present,
    types: impl Fn(u32) -> Option<TypeInfo>,
    seen: &HashMap<String, i16>,
) -> Result<Verdict> {
    let Some(now) = &present.table else {
        return Ok(Verdict::Reshaped { rewritten: false });
    };
    let mut verdict = Verdict::Same;
    let mut reshaped = |rewritten: bool| {
        verdict = match verdict {
            Verdict::Reshaped { rewritten: before } => Verdict::Reshaped {
                rewritten: before || rewritten,
            },
            Verdict::Same => Verdict::Reshaped { rewritten },
        };
    };
    for wanted in &followed.columns {
        let told = relation
            .columns
            .iter()
            .find(|column| column.name == wanted.name);
        let arrival = present.columns.get(&wanted.name);
        match (told, arrival) {
            (Some(told), _) => {
                let info = types(told.type_oid);
                let logical = info.map(|info| info.reading(told.typmod).logical);
                if logical != Some(wanted.logical) {
                    reshaped(true);
                }
            }
            (None, None) => reshaped(false),
            (None, Some(arrival)) if arrival.generated => {
                return Err(untold(&wanted.name));
            }
            (None, Some(arrival)) => {
                if arrival.filled || !wanted.nullable {
                    reshaped(true);
                }
            }
        }
        if let (Some(arrival), Some(number)) = (arrival, seen.get(&wanted.name))
            && arrival.number != *number
        {
            // Dropped and added again under the same name.
            reshaped(true);
        }
        let may_be_null = now.column(&wanted.name).is_some_and(|now| now.nullable);
        if may_be_null && !wanted.nullable {
            reshaped(false);
        }
    }
    for told in &relation.columns {
        let known = followed.table.column(&told.name).is_some();
        if !known && now.column(&told.name).is_some() {
            let filled = present
                .columns
                .get(&told.name)
                .is_some_and(|now| now.filled);
            reshaped(filled);
        }
    }
    if verdict == Verdict::Same {
        check_key(followed, relation)?;
    }
    Ok(verdict)
}

/// The key has to be told of rows that are gone.
fn check_key(followed: &Followed, relation: &Relation) -> Result<()> {
    let identifies = |name: &String| {
        let mut columns = relation.columns.iter();
        columns.any(|column| column.name == *name && column.identifies)
    };
    let told = match (followed.key.as_slice(), relation.identity) {
        (_, Identity::Full) => true,
        ([], _) => false,
        (key, Identity::Default | Identity::Index) => key.iter().all(identifies),
        (_, Identity::Nothing) => false,
    };
    if told {
        return Ok(());
    }
    let key = match followed.key.as_slice() {
        [] => "all its columns".to_owned(),
        key => key.join(", "),
    };
    Err(Error::config(format!(
        "the log does not tell the sync's key ({key}) of rows that are changed or deleted"
    ))
    .hint("ALTER TABLE … REPLICA IDENTITY FULL, or USING an index that covers the key"))
}

fn untold(column: &str) -> Error {
    Error::unsupported(format!(
        "the server does not tell the generated column {column}"
    ))
    .hint("leave the field out, or publish it (publish_generated_columns, PostgreSQL 18)")
}
