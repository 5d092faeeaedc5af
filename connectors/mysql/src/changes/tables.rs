//! The tables of a stream: which changes are theirs, what they look like, and their rows
//! until a batch is full.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tideway_core::{
    Error, Kind, Result, Table, TableId,
    changes::{Change, Followed},
};

use super::{
    event::{Query, Rows},
    gtid::Gtid,
    position::{Located, Place},
    rows::{Found, TableRows},
    statement::{Effect, effect},
    table_map::{MapColumn, TableMap, ty},
};
use crate::{
    connect::Session,
    discover::{Described, DescribedColumn, Fills, describe, number, text},
    types::{Reading, ServerType},
};

/// One table of the stream.
pub struct Tracked {
    followed: Followed,
    /// What is up to there is at the destination already.
    from: Located,
    /// The table as the server described it when it was last looked at.
    described: Option<Described>,
    rows: Option<TableRows>,
    /// It was reshaped: nothing more is told of it.
    over: bool,
}

impl Tracked {
    pub fn new(followed: Followed, from: Located) -> Tracked {
        Tracked {
            followed,
            from,
            described: None,
            rows: None,
            over: false,
        }
    }

    pub fn id(&self) -> &TableId {
        &self.followed.table.id
    }

    fn database(&self) -> &str {
        self.id().namespace.as_deref().unwrap_or_default()
    }

    fn wants(&self, name: &str) -> bool {
        let mut columns = self.followed.columns.iter();
        columns.any(|column| column.name == name)
    }
}

/// A table that the log tells of, by the number that rows name it by.
struct Told {
    /// The table map, as it was told.
    body: Vec<u8>,
    /// The table that it is, if it is followed.
    table: Option<usize>,
    /// What it looks like from here on, until the table was compared with it.
    news: Option<TableMap>,
}

pub struct Tables {
    session: Session,
    caseless: bool,
    batch_bytes: usize,
    byte_count: usize,
    tables: Vec<Tracked>,
    told: HashMap<u64, Told>,
    /// Names of characters by the numbers of their collations.
    charsets: HashMap<u64, String>,
    /// The transaction that goes on, where the server numbers them.
    pub current: Option<Gtid>,
    /// Tables that the transaction that goes on has changed.
    pub touched: BTreeSet<usize>,
    /// What is to be told, in order.
    pub ready: VecDeque<Change>,
}

/// More tables than that are not remembered by their numbers.
const MOST_TOLD: usize = 4096;

impl Tables {
    pub async fn new(
        mut session: Session,
        caseless: bool,
        tables: Vec<Tracked>,
        batch_bytes: usize,
    ) -> Result<Tables> {
        let sql = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS \
                   WHERE ID IS NOT NULL AND CHARACTER_SET_NAME IS NOT NULL";
        let rows = session.rows(sql).await?;
        let charsets = rows
            .iter()
            .filter_map(|row| Some((number(row, 0)?, text(row, 1))));
        Ok(Tables {
            charsets: charsets.collect(),
            session,
            caseless,
            batch_bytes,
            byte_count: 0,
            tables,
            told: HashMap::new(),
            current: None,
            touched: BTreeSet::new(),
            ready: VecDeque::new(),
        })
    }

    /// Takes note of what a table looks like from here on.
    pub fn map(&mut self, body: &[u8]) -> Result<()> {
        let map = TableMap::parse(body, self.session.server.flavor)?;
        if let Some(told) = self.told.get(&map.number)
            && told.body == body
        {
            return Ok(());
        }
        if self.told.len() >= MOST_TOLD {
            self.told.clear();
        }
        let same = |left: &str, right: &str| match self.caseless {
            true => left.to_lowercase() == right.to_lowercase(),
            false => left == right,
        };
        let table = self.tables.iter().position(|table| {
            same(table.database(), &map.database) && same(&table.id().name, &map.name)
        });
        let told = Told {
            body: body.to_vec(),
            table,
            news: table.map(|_| map.clone()),
        };
        self.told.insert(map.number, told);
        Ok(())
    }

    /// Whether the table wants what ends at `place`.
    fn wants(&self, at: usize, place: &Place) -> bool {
        let table = self.tables.get(at);
        table.is_some_and(|table| !table.over && self.after(table, place))
    }

    fn after(&self, table: &Tracked, place: &Place) -> bool {
        match &table.from {
            Located::Here(from) => place > from,
            Located::Elsewhere(had) => self.current.as_ref().is_none_or(|now| !had.holds(now)),
        }
    }

    /// Which table's rows these are, unless it has them already or is not followed.
    pub fn whose(&self, number: u64, place: &Place) -> Option<usize> {
        let at = self.told.get(&number)?.table?;
        self.wants(at, place).then_some(at)
    }

    /// Takes the rows of a table that wants them.
    pub async fn rows(&mut self, at: usize, rows: &Rows<'_>) -> Result<()> {
        self.touched.insert(at);
        let news = self
            .told
            .get_mut(&rows.table)
            .and_then(|told| told.news.take());
        if let Some(map) = news
            && let Err(error) = self.look(at, map).await
        {
            self.failed(at, error)?;
        }
        let Some(table) = self.tables.get_mut(at).filter(|table| !table.over) else {
            return Ok(());
        };
        let decoder = table
            .rows
            .as_mut()
            .ok_or_else(|| Error::bug("a table is followed that was not looked at"))?;
        let before = decoder.byte_count();
        let taken = decoder.take(rows);
        self.byte_count += decoder.byte_count().saturating_sub(before);
        let broken = decoder.broken();
        if let Err(error) = taken {
            self.failed(at, error)?;
        } else if broken {
            self.anew(at).await?;
        } else if self.byte_count >= self.batch_bytes {
            self.flush().await?;
        }
        Ok(())
    }

    /// The rows may be others than was told: the table is to be read anew.
    pub async fn anew(&mut self, at: usize) -> Result<()> {
        let now = self.describe(at).await?.map(|described| described.table());
        self.reshape(at, now, true).await
    }

    /// As [`Tables::anew`], all that want what ends at `place`.
    pub async fn all_anew(&mut self, place: &Place) -> Result<()> {
        for at in 0..self.tables.len() {
            if self.wants(at, place) {
                self.anew(at).await?;
            }
        }
        Ok(())
    }

    /// Takes a statement that ends at `place`.
    pub async fn statement(&mut self, query: &Query, place: &Place) -> Result<()> {
        for at in 0..self.tables.len() {
            if !self.wants(at, place) {
                continue;
            }
            let Some(table) = self.tables.get(at) else {
                continue;
            };
            let (database, name) = (table.database(), &table.id().name);
            match effect(&query.statement, &query.database, database, name) {
                Effect::None => {}
                Effect::Truncated => {
                    self.flush_table(at).await?;
                    if let Some(table) = self.tables.get(at) {
                        self.ready.push_back(Change::Truncate(table.id().clone()));
                    }
                }
                Effect::Columns { added, dropped } => self.columns(at, &added, &dropped).await?,
                Effect::Rewritten => self.anew(at).await?,
            }
        }
        Ok(())
    }

    async fn columns(&mut self, at: usize, added: &[String], dropped: &[String]) -> Result<()> {
        let described = self.describe(at).await?;
        let Some(table) = self.tables.get_mut(at) else {
            return Ok(());
        };
        let Some(now) = described else {
            return self.reshape(at, None, false).await;
        };
        let filled = |name: &String| now.column(name).is_some_and(filled);
        let mut reshaped = None;
        for name in dropped.iter().filter(|name| table.wants(name)) {
            // It is there again: another one under the same name.
            let again = now.column(name).is_some();
            reshaped = Some(reshaped.unwrap_or(false) || again);
        }
        for name in added {
            let known = table.followed.table.column(name).is_some();
            let there = now.column(name).is_some();
            if there && (!known || (table.wants(name) && filled(name))) {
                reshaped = Some(reshaped.unwrap_or(false) || filled(name));
            }
        }
        let now_table = now.table();
        table.described = Some(now);
        match reshaped {
            Some(rewritten) => self.reshape(at, Some(now_table), rewritten).await,
            None => Ok(()),
        }
    }

    async fn describe(&mut self, at: usize) -> Result<Option<Described>> {
        let Some(table) = self.tables.get(at) else {
            return Ok(None);
        };
        let (database, name) = (table.database().to_owned(), table.id().name.clone());
        describe(&mut self.session, &database, &name).await
    }

    /// Compares the table with what it was asked for.
    async fn look(&mut self, at: usize, map: TableMap) -> Result<()> {
        let Some(table) = self.tables.get(at) else {
            return Ok(());
        };
        if let Some(rows) = &table.rows
            && rows.map.columns == map.columns
        {
            return Ok(());
        }
        if !map.named {
            return Err(Error::config("the binary log does not name the columns")
                .field("change_detection")
                .hint("set binlog_row_metadata = FULL, end sessions that are open, and resync"));
        }
        let described = match &table.described {
            Some(described) if fits(described, &map) => Some(described.clone()),
            _ => self.describe(at).await?,
        };
        let Some(described) = described else {
            return self.reshape(at, None, false).await;
        };
        let Some(table) = self.tables.get(at) else {
            return Ok(());
        };
        match judge(&table.followed, &map, &described) {
            Some(rewritten) => {
                let now = described.table();
                self.reshape(at, Some(now), rewritten).await
            }
            None => self.take_shape(at, map, described).await,
        }
    }

    async fn take_shape(&mut self, at: usize, map: TableMap, now: Described) -> Result<()> {
        self.flush_table(at).await?;
        let charsets = &self.charsets;
        if let Some(table) = self.tables.get_mut(at) {
            let found = |told: &MapColumn| {
                let column = now.column(&told.name)?;
                let charset = charsets.get(&told.collation).cloned();
                Some(Found {
                    reading: column.reading(),
                    kind: column.server_type.name.clone(),
                    charset: charset.or_else(|| column.charset.clone()),
                })
            };
            let Followed { columns, key, .. } = &table.followed;
            table.rows = Some(TableRows::new(map, columns, key, found));
            table.described = Some(now);
        }
        Ok(())
    }

    /// Tells that the table is another one than it was asked for, and nothing more of it.
    async fn reshape(&mut self, at: usize, now: Option<Table>, rewritten: bool) -> Result<()> {
        self.flush_table(at).await?;
        if let Some(table) = self.tables.get_mut(at) {
            table.over = true;
            table.rows = None;
            self.ready.push_back(Change::Reshaped {
                table: table.followed.table.id.clone(),
                rewritten: rewritten && now.is_some(),
                now,
            });
        }
        Ok(())
    }

    /// Makes batches of what has come.
    pub async fn flush(&mut self) -> Result<()> {
        for at in 0..self.tables.len() {
            self.flush_table(at).await?;
        }
        Ok(())
    }

    async fn flush_table(&mut self, at: usize) -> Result<()> {
        let Some(table) = self.tables.get_mut(at) else {
            return Ok(());
        };
        let Some(rows) = table.rows.as_mut().filter(|rows| rows.row_count() > 0) else {
            return Ok(());
        };
        self.byte_count = self.byte_count.saturating_sub(rows.byte_count());
        let finished = rows.finish(&mut self.session).await;
        let table = table.id().clone();
        match finished {
            Ok(Some(batch)) => self.ready.push_back(Change::Rows { table, batch }),
            Ok(None) => {}
            Err(error) => self.failed(at, error)?,
        }
        Ok(())
    }

    /// Tells that the table's changes cannot be told, and nothing more of it. What is no
    /// trouble of the table's own is given back.
    fn failed(&mut self, at: usize, error: Error) -> Result<()> {
        let Some(table) = self.tables.get_mut(at) else {
            return Err(error);
        };
        let error = error.while_(table.id());
        if !of_the_table(&error) {
            return Err(error);
        }
        table.over = true;
        let rows = table.rows.take();
        self.byte_count -= rows
            .map_or(0, |rows| rows.byte_count())
            .min(self.byte_count);
        let table = table.id().clone();
        self.ready.push_back(Change::Failed { table, error });
        Ok(())
    }
}

/// Others concern the session, or the server.
fn of_the_table(error: &Error) -> bool {
    matches!(
        error.kind,
        Kind::Config | Kind::Data | Kind::Unsupported | Kind::Missing | Kind::Permission
    )
}

/// Whether rows that were there before have a value in it other than null.
fn filled(column: &DescribedColumn) -> bool {
    column.not_null || column.fills != Fills::Never
}

fn fits(now: &Described, map: &TableMap) -> bool {
    map.columns.iter().all(|told| {
        let column = now.column(&told.name);
        column.is_some_and(|column| holds(&column.server_type, column.reading(), told))
    })
}

/// Whether the table is another one than it was asked for, and if so, whether rows that were
/// there before are others too.
fn judge(followed: &Followed, map: &TableMap, now: &Described) -> Option<bool> {
    let mut verdict = None;
    let mut reshaped = |rewritten: bool| verdict = Some(verdict.unwrap_or(false) || rewritten);
    for wanted in &followed.columns {
        let told = map.columns.iter().find(|told| told.name == wanted.name);
        let present = now.columns.iter().find(|column| column.name == wanted.name);
        match (told, present) {
            (Some(told), Some(present)) => {
                let reading = present.reading();
                if reading.logical != wanted.logical || !holds(&present.server_type, reading, told)
                {
                    reshaped(true);
                }
            }
            // Dropped since, as will be told.
            (Some(_), None) | (None, None) => reshaped(false),
            (None, Some(present)) => {
                if filled(present) || !wanted.nullable {
                    reshaped(true);
                }
            }
        }
        if let Some(present) = present
            && present.may_be_null(now.in_key(&wanted.name))
            && !wanted.nullable
        {
            reshaped(false);
        }
    }
    for told in &map.columns {
        let known = followed.table.column(&told.name).is_some();
        if let (false, Some(present)) = (known, now.column(&told.name)) {
            reshaped(filled(present));
        }
    }
    verdict
}

/// Whether cells of the log are values of the type.
fn holds(of: &ServerType, reading: Reading, told: &MapColumn) -> bool {
    use ty::*;
    let unsigned = of.declared.contains("unsigned") || of.declared.contains("zerofill");
    let numeric = |code: u8| told.code == code && told.unsigned == unsigned;
    match of.name.as_str() {
        "tinyint" => numeric(TINY),
        "smallint" => numeric(SHORT),
        "mediumint" => numeric(INT24),
        "int" => numeric(LONG),
        "bigint" => numeric(LONGLONG),
        "float" => told.code == FLOAT,
        "double" => told.code == DOUBLE,
        "decimal" => {
            let (precision, scale) = (u64::from(told.meta.0), u64::from(told.meta.1));
            told.code == DECIMAL && of.precision == Some(precision) && of.scale == Some(scale)
        }
        "bit" => told.code == BIT,
        "year" => told.code == YEAR,
        "date" => matches!(told.code, DATE | NEWDATE),
        "time" => told.code == TIME2 || (told.code == TIME && whole_seconds(of)),
        "datetime" => told.code == DATETIME2 || (told.code == DATETIME && whole_seconds(of)),
        "timestamp" => told.code == TIMESTAMP2 || (told.code == TIMESTAMP && whole_seconds(of)),
        "enum" => told.code == ENUM && !told.words.is_empty(),
        "set" => told.code == SET && !told.words.is_empty(),
        "json" => {
            told.code == JSON || (told.code == BLOB && reading.shape == crate::types::Shape::Text)
        }
        "char" | "binary" | "uuid" | "inet6" | "inet4" => told.code == STRING,
        "varchar" | "varbinary" => matches!(told.code, VARCHAR | VAR_STRING),
        "tinytext" | "text" | "mediumtext" | "longtext" | "tinyblob" | "blob" | "mediumblob"
        | "longblob" => told.code == BLOB,
        "vector" => matches!(told.code, VECTOR | VARCHAR),
        _ => {
            told.code == GEOMETRY
                || (told.code == BLOB && reading.shape == crate::types::Shape::Geometry)
        }
    }
}

/// Times as they were stored before fractions, which have the old form still on some servers.
fn whole_seconds(of: &ServerType) -> bool {
    !of.declared.contains('(') || of.declared.ends_with("(0)")
}
