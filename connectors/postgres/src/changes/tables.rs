//! The tables of a stream: which changes are theirs, what they look like, and their rows
//! until a batch is full.

use std::collections::{HashMap, VecDeque};

use tideway_core::{
    Error, Kind, Result, Table, TableId,
    changes::{Change, Followed},
};

use super::{
    catalog::{self, TypeInfo},
    convert::Converter,
    pgoutput::{Message, Relation},
    position::Lsn,
    refetch::refetch,
    reshape::{Present, Verdict, judge},
    rows::TableRows,
};
use crate::connect::Session;

/// Binary cells exist from this version on, and so does version 2 of the protocol.
pub const BINARY: u32 = 140_000;

/// One table of the stream.
pub struct Tracked {
    followed: Followed,
    /// What committed before is at the destination already.
    pub from: Lsn,
    rows: Option<TableRows>,
    /// The columns' numbers when the table was last looked at.
    seen: HashMap<String, i16>,
    /// It was reshaped: nothing more is told of it.
    over: bool,
}

impl Tracked {
    pub fn new(followed: Followed, from: Lsn) -> Tracked {
        Tracked {
            followed,
            from,
            rows: None,
            seen: HashMap::new(),
            over: false,
        }
    }

    pub fn id(&self) -> &TableId {
        &self.followed.table.id
    }
}

/// A relation that the log tells of.
struct Told {
    /// The table that it is, or that it has the name of.
    table: usize,
    /// What it looks like from here on, until the table was compared with it. A table is
    /// compared when it is told of, not before: what it was like before it is read from
    /// does not matter.
    news: Option<Relation>,
}

pub struct Tables {
    converter: Converter,
    /// Whether cells are asked for in binary form.
    pub binary: bool,
    batch_bytes: usize,
    byte_count: usize,
    types: HashMap<u32, TypeInfo>,
    tables: Vec<Tracked>,
    /// Tables by object id, as they are now.
    by_oid: HashMap<u32, usize>,
    told: HashMap<u32, Told>,
    /// What is to be told, in order.
    pub ready: VecDeque<Change>,
}

impl Tables {
    pub async fn new(
        session: Session,
        publication: &str,
        tables: Vec<Tracked>,
        batch_bytes: usize,
    ) -> Result<Tables> {
        let ids: Vec<TableId> = tables.iter().map(|table| table.id().clone()).collect();
        let oids = catalog::oids(&session, &ids).await?;
        let found = ids.iter().enumerate();
        let by_oid: HashMap<u32, usize> = found
            .filter_map(|(at, id)| Some((*oids.get(id)?, at)))
            .collect();
        let binary =
            session.version >= BINARY && catalog::all_binary(&session, publication).await?;
        Ok(Tables {
            converter: Converter::new(session),
            binary,
            batch_bytes,
            byte_count: 0,
            types: HashMap::new(),
            tables,
            by_oid,
            told: HashMap::new(),
            ready: VecDeque::new(),
        })
    }

    pub fn session(&self) -> &Session {
        self.converter.session()
    }

    pub fn version(&self) -> u32 {
        self.session().version
    }

    /// Takes note of what a table looks like from here on.
    pub fn relation(&mut self, relation: Relation) {
        let named = |table: &Tracked| {
            let id = table.id();
            catalog::namespace(id) == relation.namespace && id.name == relation.name
        };
        let known = self.by_oid.get(&relation.oid).copied();
        let Some(table) = known.or_else(|| self.tables.iter().position(named)) else {
            return;
        };
        let oid = relation.oid;
        let news = Some(relation);
        self.told.insert(oid, Told { table, news });
    }

    /// Takes a change of a transaction that committed at `commit`. Gives whether there is
    /// something to tell.
    pub async fn change(&mut self, commit: Lsn, message: Message<'_>) -> Result<bool> {
        let oid = match &message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => *relation,
            Message::Truncate { relations } => {
                for oid in relations {
                    self.truncate(commit, *oid).await?;
                }
                return Ok(!self.ready.is_empty());
            }
            _ => return Ok(false),
        };
        let Some(at) = self.find(commit, oid).await? else {
            return Ok(!self.ready.is_empty());
        };
        let Some(table) = self.tables.get_mut(at) else {
            return Ok(false);
        };
        let id = table.id().clone();
        let Some(rows) = &mut table.rows else {
            return Err(Error::bug("a table is followed that was not looked at"));
        };
        let mut filled = Vec::new();
        if let Message::Update { old, new, .. } = &message
            && let Some((key, gaps)) = rows.gaps(*old, *new)
        {
            let session = self.converter.session();
            match refetch(session, &rows.relation, &key, &gaps).await {
                Ok(fetched) => filled = fetched,
                Err(error) => {
                    self.failed(at, error)?;
                    return Ok(!self.ready.is_empty());
                }
            }
        }
        let before = rows.byte_count();
        let taken = match message {
            Message::Insert { new, .. } => rows.insert(new),
            Message::Update { old, new, .. } => rows.update(old, new, &filled),
            Message::Delete { old, .. } => rows.delete(old),
            _ => Ok(()),
        };
        self.byte_count += rows.byte_count() - before;
        let broken = rows.broken();
        if let Err(error) = taken {
            self.failed(at, error)?;
        } else if broken {
            // A null where the plan says that there is none: the table was another one then.
            let now = catalog::table(self.converter.session(), &id).await?;
            self.reshape(at, now, true).await?;
        } else if self.byte_count >= self.batch_bytes {
            self.flush().await?;
        }
        Ok(!self.ready.is_empty())
    }

    async fn truncate(&mut self, commit: Lsn, oid: u32) -> Result<()> {
        let Some(at) = self.find(commit, oid).await? else {
            return Ok(());
        };
        self.flush_table(at).await?;
        if let Some(table) = self.tables.get(at) {
            self.ready.push_back(Change::Truncate(table.id().clone()));
        }
        Ok(())
    }

    /// The table whose change this is, unless it has it already or is not followed.
    async fn find(&mut self, commit: Lsn, oid: u32) -> Result<Option<usize>> {
        let Some(told) = self.told.get_mut(&oid) else {
            if self.by_oid.contains_key(&oid) {
                return Err(Error::data(
                    "the server's change stream is damaged: a row came before its table",
                ));
            }
            return Ok(None);
        };
        let at = told.table;
        let tables = &self.tables;
        let wanted = |at: usize| {
            let table = tables.get(at);
            table.is_some_and(|table| !table.over && commit >= table.from)
        };
        if !wanted(at) {
            return Ok(None);
        }
        let Some(news) = told.news.take() else {
            return Ok(Some(at));
        };
        if let Err(error) = self.look(at, news).await {
            self.failed(at, error)?;
        }
        let table = self.tables.get(at);
        Ok(table.filter(|table| !table.over).map(|_| at))
    }

    /// Compares the table with what it was asked for.
    async fn look(&mut self, at: usize, relation: Relation) -> Result<()> {
        let Some(table) = self.tables.get(at) else {
            return Ok(());
        };
        let id = table.id().clone();
        let session = self.converter.session();
        let now = catalog::table(session, &id).await?;
        let same_name = catalog::namespace(&id) == relation.namespace && id.name == relation.name;
        if !same_name || self.by_oid.get(&relation.oid) != Some(&at) {
            return self.reshape(at, now, true).await;
        }
        let oids = relation.columns.iter().map(|column| column.type_oid);
        let unknown: Vec<u32> = oids.filter(|oid| !self.types.contains_key(oid)).collect();
        if !unknown.is_empty() {
            self.types.extend(catalog::types(session, &unknown).await?);
        }
        let present = Present {
            table: now,
            columns: catalog::arrivals(session, relation.oid).await?,
        };
        let types = |oid: u32| self.types.get(&oid).copied();
        match judge(&table.followed, &relation, &present, types, &table.seen)? {
            Verdict::Reshaped { rewritten } => self.reshape(at, present.table, rewritten).await,
            Verdict::Same => self.take_shape(at, relation, present).await,
        }
    }

    async fn take_shape(&mut self, at: usize, relation: Relation, present: Present) -> Result<()> {
        let unchanged = |table: &Tracked| {
            let rows = table.rows.as_ref();
            rows.is_some_and(|rows| rows.relation == relation)
        };
        if self.tables.get(at).is_some_and(unchanged) {
            return Ok(());
        }
        self.flush_table(at).await?;
        if let Some(table) = self.tables.get_mut(at) {
            let types = |oid: u32| self.types.get(&oid).copied();
            let Followed { columns, key, .. } = &table.followed;
            table.rows = Some(TableRows::new(relation, columns, key, types, self.binary)?);
            let numbers = present.columns.into_iter();
            table.seen = numbers.map(|(name, now)| (name, now.number)).collect();
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

    /// Tables that are gone, or others than they were: the log does not tell.
    pub async fn end_dropped(&mut self) -> Result<()> {
        let ids: Vec<TableId> = self.tables.iter().map(|table| table.id().clone()).collect();
        let oids = catalog::oids(self.converter.session(), &ids).await?;
        for (at, id) in ids.iter().enumerate() {
            let over = self.tables.get(at).is_none_or(|table| table.over);
            let oid = oids.get(id).and_then(|oid| self.by_oid.get(oid));
            if over || oid == Some(&at) {
                continue;
            }
            let now = catalog::table(self.converter.session(), id).await?;
            self.reshape(at, now, true).await?;
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
        let finished = rows.finish(&mut self.converter).await;
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
