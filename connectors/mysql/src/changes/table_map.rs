//! How a table looks to the rows that follow, as the log itself tells it.

use tideway_core::Result;

use super::event::{count, table_number};
use crate::connect::{Fields, Flavor, damaged};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap {
    pub number: u64,
    pub database: String,
    pub name: String,
    pub columns: Vec<MapColumn>,
    /// The names are told (`binlog_row_metadata=FULL`).
    pub named: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapColumn {
    pub name: String,
    /// The type's code, with enumerations and sets told from texts.
    pub code: u8,
    /// Two numbers whose meaning is the type's.
    pub meta: (u8, u8),
    pub unsigned: bool,
    /// The number of a collation, of texts.
    pub collation: u64,
    /// What an enumeration or a set is made of, in the column's characters.
    pub words: Vec<Vec<u8>>,
}

pub mod ty {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const DECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

impl MapColumn {
    /// Has a bit among the signs; of a year it says nothing.
    fn numeric(&self) -> bool {
        use ty::*;
        matches!(
            self.code,
            TINY | SHORT | INT24 | LONG | LONGLONG | DECIMAL | FLOAT | DOUBLE | YEAR
        )
    }

    /// Has a collation; MariaDB gives one to geometries too.
    fn textual(&self, flavor: Flavor) -> bool {
        use ty::*;
        matches!(self.code, STRING | VAR_STRING | VARCHAR | BLOB)
            || (self.code == GEOMETRY && flavor == Flavor::MariaDb)
    }

    fn listed(&self) -> bool {
        matches!(self.code, ty::ENUM | ty::SET)
    }
}

impl TableMap {
    pub fn parse(body: &[u8], flavor: Flavor) -> Result<TableMap> {
        let mut fields = Fields(body);
        let number = table_number(&mut fields)?;
        fields.u16()?;
        let mut name = || -> Result<String> {
            let length = usize::from(fields.byte()?);
            let name = String::from_utf8_lossy(fields.bytes(length)?).into_owned();
            fields.byte()?;
            Ok(name)
        };
        let (database, name) = (name()?, name()?);
        let width = count(&mut fields)?;
        let codes = fields.bytes(width)?;
        let mut metas = Fields(fields.string()?.ok_or_else(damaged)?);
        let columns = codes.iter().map(|code| column(*code, &mut metas));
        let mut map = TableMap {
            number,
            database,
            name,
            columns: columns.collect::<Result<_>>()?,
            named: false,
        };
        fields.bytes(width.div_ceil(8))?;
        while !fields.0.is_empty() {
            let field = fields.byte()?;
            let value = Fields(fields.string()?.ok_or_else(damaged)?);
            map.take(field, value, flavor)?;
        }
        Ok(map)
    }

    fn take(&mut self, field: u8, mut value: Fields<'_>, flavor: Flavor) -> Result<()> {
        let columns = self.columns.iter_mut();
        match field {
            1 => {
                for (at, column) in columns.filter(|column| column.numeric()).enumerate() {
                    let byte = value.0.get(at / 8).copied().unwrap_or_default();
                    column.unsigned = byte << (at % 8) & 0x80 != 0;
                }
            }
            2 | 10 => {
                let fitting: Vec<&mut MapColumn> =
                    columns.filter(|column| of(field, column, flavor)).collect();
                default_collations(fitting, value)?;
            }
            3 | 11 => {
                for column in columns.filter(|column| of(field, column, flavor)) {
                    column.collation = value.length()?.ok_or_else(damaged)?;
                }
            }
            4 => {
                for column in columns {
                    let name = value.string()?.ok_or_else(damaged)?;
                    column.name = String::from_utf8_lossy(name).into_owned();
                }
                self.named = true;
            }
            5 | 6 => {
                let code = if field == 5 { ty::SET } else { ty::ENUM };
                for column in columns.filter(|column| column.code == code) {
                    for _ in 0..count(&mut value)? {
                        let word = value.string()?.ok_or_else(damaged)?;
                        column.words.push(word.to_vec());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a list of collations has one for the column.
fn of(field: u8, column: &MapColumn, flavor: Flavor) -> bool {
    match field {
        2 | 3 => column.textual(flavor),
        _ => column.listed(),
    }
}

/// One collation for most, and pairs of a column's place and its collation for the others.
fn default_collations(mut columns: Vec<&mut MapColumn>, mut value: Fields<'_>) -> Result<()> {
    let default = value.length()?.ok_or_else(damaged)?;
    for column in &mut columns {
        column.collation = default;
    }
    while !value.0.is_empty() {
        let at = count(&mut value)?;
        let collation = value.length()?.ok_or_else(damaged)?;
        columns.get_mut(at).ok_or_else(damaged)?.collation = collation;
    }
    Ok(())
}

fn column(code: u8, metas: &mut Fields<'_>) -> Result<MapColumn> {
    use ty::*;
    let meta = match code {
        FLOAT | DOUBLE | BLOB | JSON | GEOMETRY | VECTOR | TIMESTAMP2 | DATETIME2 | TIME2
        // MariaDB's compressed blob.
        | 140 => (metas.byte()?, 0),
        // MariaDB's compressed text.
        VARCHAR | VAR_STRING | BIT | DECIMAL | STRING | ENUM | SET | 141 => {
            (metas.byte()?, metas.byte()?)
        }
        _ => (0, 0),
    };
    let real = match (code, meta.0) {
        // What a text really is stands in its first number.
        (STRING, ENUM) => ENUM,
        (STRING, SET) => SET,
        _ => code,
    };
    Ok(MapColumn {
        code: real,
        meta,
        ..MapColumn::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_tables_or_errors(
            bytes in prop::collection::vec(any::<u8>(), 0..160),
        ) {
            let _ = TableMap::parse(&bytes, Flavor::MySql);
            let mut likely = vec![1, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0];
            likely.extend_from_slice(&bytes);
            let _ = TableMap::parse(&likely, Flavor::MariaDb);
        }
    }
}
