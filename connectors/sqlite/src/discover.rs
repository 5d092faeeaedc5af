//! Tables, their columns and keys, and what is really stored in them.

use rusqlite::types::ValueRef;
use tideway_core::{
    Catalog, Column, Error, Kind, LogicalType, Result, Table, TableId, schema::TableKind,
    source::Scope,
};

use crate::{
    connect::{Handle, Visit},
    moment, number,
    sql::{list, quoted, same_name},
    types, value,
};

/// Begins the names of everything that is ours.
pub const OWN_PREFIX: &str = "_tideway_";

/// A table as SQLite describes it, before any row has been looked at.
#[derive(Debug, Clone)]
pub struct Described {
    pub name: String,
    pub kind: Relation,
    pub without_rowid: bool,
    pub strict: bool,
    pub columns: Vec<DescribedColumn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Table,
    View,
    Virtual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedColumn {
    pub name: String,
    pub declared: String,
    pub not_null: bool,
    /// The expression after DEFAULT.
    pub default: Option<String>,
    /// Place in the primary key, from 1; 0 is outside it.
    pub key_place: i64,
    pub generated: bool,
}

impl Described {
    pub fn column(&self, name: &str) -> Option<&DescribedColumn> {
        self.columns
            .iter()
            .find(|column| same_name(&column.name, name))
    }

    /// Names of the primary key columns, in key order.
    pub fn key(&self) -> Vec<String> {
        let mut key: Vec<&DescribedColumn> = self
            .columns
            .iter()
            .filter(|column| column.key_place > 0)
            .collect();
        key.sort_by_key(|column| column.key_place);
        key.into_iter().map(|column| column.name.clone()).collect()
    }

    /// `INTEGER PRIMARY KEY`: the column is the row's number, and always an integer.
    pub fn is_row_number(&self, column: &DescribedColumn) -> bool {
        column.key_place == 1
            && !self.without_rowid
            && self.key().len() == 1
            && column.declared.eq_ignore_ascii_case("INTEGER")
    }

    /// A name by which the row's number can be asked for; none where the table has no
    /// such number, or columns of its own by all of its names.
    pub fn row_number(&self) -> Option<String> {
        if self.kind != Relation::Table || self.without_rowid {
            return None;
        }
        let hidden = ["rowid", "_rowid_", "oid"].map(str::to_owned).into_iter();
        hidden
            .into_iter()
            .find(|name| self.column(name).is_none())
            .or_else(|| {
                let column = self
                    .columns
                    .iter()
                    .find(|column| self.is_row_number(column))?;
                Some(column.name.clone())
            })
    }
}

/// Describes one table or view, if it is there.
pub fn describe(handle: &Handle, name: &str) -> Result<Option<Described>> {
    let found = list_relations(handle)?;
    let found = found.into_iter().find(|found| same_name(&found.name, name));
    found.map(|found| with_columns(handle, found)).transpose()
}

/// All tables and views, still without their columns.
fn list_relations(handle: &Handle) -> Result<Vec<Described>> {
    let listed = handle.all(
        "SELECT name, type, wr, strict FROM pragma_table_list \
         WHERE schema = 'main' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        [],
        |row| {
            let kind: String = row.get(1)?;
            let described = Described {
                name: row.get(0)?,
                kind: match kind.as_str() {
                    "view" => Relation::View,
                    "virtual" => Relation::Virtual,
                    _ => Relation::Table,
                },
                without_rowid: row.get(2)?,
                strict: row.get(3)?,
                columns: Vec::new(),
            };
            // The tables in which a virtual table keeps its things are not for reading.
            Ok((kind != "shadow").then_some(described))
        },
    )?;
    Ok(listed.into_iter().flatten().collect())
}

fn with_columns(handle: &Handle, mut described: Described) -> Result<Described> {
    // `hidden`: 1 is the hidden column of a virtual table, 2 and 3 are generated ones.
    let view = described.kind == Relation::View;
    described.columns = handle.all(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden \
         FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid",
        [&described.name],
        |row| {
            let declared: String = row.get(1)?;
            Ok(DescribedColumn {
                name: row.get(0)?,
                // In a view, BLOB is also what SQLite says where it does not know.
                declared: if view && declared == "BLOB" {
                    String::new()
                } else {
                    declared
                },
                not_null: row.get(2)?,
                default: row.get(3)?,
                key_place: row.get(4)?,
                generated: row.get::<_, i64>(5)? > 1,
            })
        },
    )?;
    Ok(described)
}

/// Everything that can be read, each column with a type that holds every value in it.
pub fn catalog(handle: &Handle, scope: &Scope) -> Result<Catalog> {
    handle.run("BEGIN")?;
    let found = list_relations(handle).and_then(|relations| {
        let mut tables = Vec::new();
        for relation in relations {
            let wanted = match &scope.tables {
                Some(names) => names.contains(&relation.name),
                None => true,
            };
            if wanted && !relation.name.starts_with(OWN_PREFIX) {
                tables.extend(readable(handle, relation)?);
            }
        }
        Ok(tables)
    });
    handle.roll_back();
    let mut tables = found?;
    tables.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Catalog { tables })
}

/// The table, or nothing where SQLite itself cannot read it (a view on a table that was
/// dropped, a virtual table whose module is not there): the others must not suffer.
fn readable(handle: &Handle, relation: Described) -> Result<Option<Table>> {
    let name = relation.name.clone();
    let kind = relation.kind;
    let table = with_columns(handle, relation).and_then(|described| table(handle, &described));
    match table {
        Ok(table) if table.columns.is_empty() => Ok(None),
        Ok(table) => Ok(Some(table)),
        Err(error) if kind != Relation::Table && matches!(error.kind, Kind::Drift | Kind::Bug) => {
            tracing::warn!(table = name, %error, "left out, as it cannot be read");
            Ok(None)
        }
        Err(error) => Err(error.while_(format!("looking at {name}"))),
    }
}

/// Looks at every stored value to find types that lose none.
pub fn table(handle: &Handle, described: &Described) -> Result<Table> {
    let (rows, profiles) = scan(handle, described)?;
    let key = described.key();
    let sound = described
        .columns
        .iter()
        .zip(&profiles)
        .all(|(column, profile)| column.key_place == 0 || profile.identifies());
    let columns = described
        .columns
        .iter()
        .zip(&profiles)
        .map(|(column, profile)| Column {
            name: column.name.clone(),
            logical: profile.logical(&column.declared),
            nullable: !(column.not_null || (column.key_place > 0 && sound)),
            remote_type: column.declared.clone(),
        })
        .collect();
    Ok(Table {
        id: TableId::new(None, &described.name),
        columns,
        primary_key: if sound { key } else { Vec::new() },
        row_estimate: Some(rows),
        byte_estimate: None,
        kind: match described.kind {
            Relation::View => TableKind::View,
            Relation::Table | Relation::Virtual => TableKind::Table,
        },
    })
}

/// One pass over the table; the columns of which nothing can be learned are not read.
fn scan(handle: &Handle, described: &Described) -> Result<(u64, Vec<Profile>)> {
    let mut profiles: Vec<Profile> = described
        .columns
        .iter()
        .map(|column| match described.is_row_number(column) {
            true => Profile::certain(LogicalType::Int64),
            false => Profile::new(&column.declared, column.key_place > 0),
        })
        .collect();
    let (names, mut open): (Vec<String>, Vec<&mut Profile>) = described
        .columns
        .iter()
        .zip(&mut profiles)
        .filter(|(_, profile)| profile.learns())
        .map(|(column, profile)| (format!("t.{}", quoted(&column.name)), profile))
        .unzip();
    let from = format!("FROM main.{} AS t", quoted(&described.name));
    if names.is_empty() {
        let rows: Option<i64> = handle.one(&format!("SELECT count(*) {from}"), [])?;
        return Ok((rows.unwrap_or(0).unsigned_abs(), profiles));
    }
    let mut statement = handle.prepare(&format!("SELECT {} {from}", list(names)))?;
    let mut rows = 0_u64;
    handle.visit(&mut statement.raw_query(), |row| {
        for (at, profile) in open.iter_mut().enumerate() {
            profile.see(row.get_ref(at).map_err(|error| handle.explain(error))?);
        }
        rows += 1;
        Ok(Visit::More)
    })?;
    drop(statement);
    Ok((rows, profiles))
}

/// What has been seen of one column.
struct Profile {
    /// Types that hold every value so far, most wanted first.
    candidates: Vec<LogicalType>,
    key: bool,
    /// Classes of values that were there.
    seen: Seen,
    /// Two texts that differ may mean the same value.
    ambiguous: bool,
}

#[derive(Default, Clone, Copy)]
struct Seen {
    null: bool,
    number: bool,
    text: bool,
    blob: bool,
}

impl Profile {
    fn new(declared: &str, key: bool) -> Self {
        Profile {
            candidates: types::candidates(declared, key),
            key,
            seen: Seen::default(),
            ambiguous: false,
        }
    }

    fn certain(logical: LogicalType) -> Self {
        Profile {
            candidates: vec![logical],
            key: false,
            seen: Seen::default(),
            ambiguous: false,
        }
    }

    fn learns(&self) -> bool {
        self.key || self.candidates.len() > 1
    }

    fn see(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => {
                self.seen.null = true;
                return;
            }
            ValueRef::Integer(_) | ValueRef::Real(_) => self.seen.number = true,
            ValueRef::Text(_) => self.seen.text = true,
            ValueRef::Blob(_) => self.seen.blob = true,
        }
        let before = self.candidates.first().copied();
        if self.candidates.len() > 1 {
            self.candidates
                .retain(|logical| value::fits(*logical, value));
        }
        let now = self.candidates.first().copied();
        if self.key && now != before {
            // Texts were told apart as another type; only plain text and bytes tell all apart.
            self.ambiguous =
                self.seen.text && !matches!(now, Some(LogicalType::Text | LogicalType::Binary));
        }
        if let (true, ValueRef::Text(text), Some(logical)) = (self.key, value, now) {
            self.ambiguous |= !canonical(logical, text);
        }
    }

    fn logical(&self, declared: &str) -> LogicalType {
        let Seen {
            number, text, blob, ..
        } = self.seen;
        match self.candidates.first() {
            Some(first) if !self.learns() || number || text || blob => *first,
            _ => types::unless_stored(declared),
        }
    }

    /// Whether values that SQLite tells apart are still told apart once they are read as
    /// our type. A key for which that fails would make one row of two.
    fn identifies(&self) -> bool {
        let Seen {
            null,
            number,
            text,
            blob,
        } = self.seen;
        let classes = [number, text, blob]
            .into_iter()
            .filter(|seen| *seen)
            .count();
        !null && classes <= 1 && !self.ambiguous
    }
}

/// Whether the text is the one that we would write for its value.
fn canonical(logical: LogicalType, text: &[u8]) -> bool {
    let stored = ValueRef::Text(text);
    let mut written = String::new();
    match logical {
        LogicalType::Date => match value::date(stored) {
            Some(days) => moment::write_date(days, &mut written),
            None => return false,
        },
        LogicalType::Time => match value::time(stored) {
            Some(micros) => moment::write_time(micros, &mut written),
            None => return false,
        },
        LogicalType::Timestamp | LogicalType::TimestampTz => {
            let zoned = logical == LogicalType::TimestampTz;
            match value::timestamp(stored, zoned) {
                Some(micros) => {
                    moment::write_moment(moment::Moment { micros, zoned }, &mut written)
                }
                None => return false,
            }
        }
        LogicalType::Decimal { precision, scale } => match value::decimal(stored, precision, scale)
        {
            Some(unscaled) => number::write(&unscaled.to_string(), scale, &mut written),
            None => return false,
        },
        LogicalType::Uuid => {
            return text.len() == 36 && !text.iter().any(u8::is_ascii_uppercase);
        }
        LogicalType::UInt64 => return text.first() != Some(&b'0') || text == b"0",
        LogicalType::Boolean => return false,
        _ => return true,
    }
    written.as_bytes() == text
}

/// The described table, or that it has gone since the plan was made.
pub fn require(handle: &Handle, name: &str) -> Result<Described> {
    describe(handle, name)?.ok_or_else(|| {
        Error::drift(format!(
            "{name} is not in {} any more",
            handle.file().display()
        ))
    })
}
