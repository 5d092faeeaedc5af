//! One session: statements and their answers.

use tideway_core::{Error, Result};

use super::{
    explain::{ServerError, of_server, server_error},
    packets::{Fields, Packets, damaged},
};
use crate::config::Names;

/// The pieces in which a file goes, at most.
const FILE_PACKET: usize = 1 << 20;

const COM_QUERY: u8 = 0x03;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;

/// Another result follows.
const MORE_RESULTS: u16 = 0x0008;
/// Of a column: the number has no sign.
const UNSIGNED: u16 = 0x0020;

/// Which of the two relatives is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    MySql,
    MariaDb,
}

#[derive(Debug, Clone)]
pub struct ServerInfo {
    pub flavor: Flavor,
    /// 8.0.36 is (8, 0, 36).
    pub version: (u16, u16, u16),
    /// As the server writes it.
    pub shown: String,
}

/// A live session. Dropping it ends it at once, in the middle of whatever is going on; what
/// was not committed is undone by the server.
pub struct Session {
    packets: Packets,
    pub server: ServerInfo,
    /// `max_allowed_packet`.
    pub most_bytes: usize,
    /// The server takes `LOAD DATA LOCAL`.
    pub takes_files: bool,
    /// What the connection's form calls its account.
    pub account_field: &'static str,
    /// An answer has not been read to its end.
    busy: bool,
}

/// What a statement without rows did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows that matched, whether or not they were changed.
    pub rows: u64,
    pub warnings: u16,
    /// Rows that a file had, by the server's own count.
    pub records: Option<u64>,
    status: u16,
}

pub type TextRow = Vec<Option<String>>;

/// A column of a result, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentColumn {
    /// The protocol's code of the type.
    pub code: u8,
    pub unsigned: bool,
}

impl Session {
    pub fn new(packets: Packets, server: ServerInfo) -> Session {
        Session {
            packets,
            server,
            most_bytes: 1 << 20,
            takes_files: false,
            account_field: Names::default().account,
            busy: false,
        }
    }

    /// Whether it can be used again.
    pub fn settled(&self) -> bool {
        !self.busy
    }

    async fn command(&mut self, code: u8, body: &[u8]) -> Result<()> {
        if self.busy {
            return Err(Error::bug("a session got a statement amid an answer"));
        }
        self.busy = true;
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(code);
        payload.extend_from_slice(body);
        self.packets.restart();
        self.packets.send(&payload).await
    }

    /// Runs one statement; rows, if there are any, are dropped.
    pub async fn run(&mut self, sql: &str) -> Result<Done> {
        self.command(COM_QUERY, sql.as_bytes()).await?;
        self.answer(&mut |_| Ok(())).await
    }

    /// Runs one statement given as bytes that need not be UTF-8.
    pub async fn run_bytes(&mut self, sql: &[u8]) -> Result<Done> {
        self.command(COM_QUERY, sql).await?;
        self.answer(&mut |_| Ok(())).await
    }

    /// Runs one statement; all rows, as text.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.command(COM_QUERY, sql.as_bytes()).await?;
        let mut rows = Vec::new();
        self.answer(&mut |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// The only value of the only row.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>> {
        let rows = self.rows(sql).await?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten()))
    }

    async fn answer(
        &mut self,
        each: &mut (dyn FnMut(TextRow) -> Result<()> + Send),
    ) -> Result<Done> {
        loop {
            let done = self.one_answer(each).await?;
            if done.status & MORE_RESULTS == 0 {
                self.busy = false;
                return Ok(done);
            }
        }
    }

    async fn one_answer(
        &mut self,
        each: &mut (dyn FnMut(TextRow) -> Result<()> + Send),
    ) -> Result<Done> {
        let first = self.packet().await?;
        let columns = match first.first() {
            Some(0x00) => return done(first),
            Some(0xfb) => return Err(Error::bug("the server asks for a file")),
            _ => Fields(first).length()?.ok_or_else(damaged)?,
        };
        for _ in 0..columns {
            self.packet().await?;
        }
        self.end_of_columns().await?;
        loop {
            let payload = self.packet().await?;
            if payload.first() == Some(&0xfe) && payload.len() < 9 {
                return end(payload);
            }
            let mut fields = Fields(payload);
            let mut row = Vec::new();
            for _ in 0..columns {
                let value = fields.string()?;
                row.push(value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
            }
            each(row)?;
        }
    }

    async fn end_of_columns(&mut self) -> Result<()> {
        let payload = self.packets.next().await?;
        match payload.first() {
            Some(0xfe) => Ok(()),
            _ => Err(damaged()),
        }
    }

    /// Runs a query whose rows come in the binary protocol, one by one by
    /// [`Session::next_row`].
    pub async fn select(&mut self, sql: &str) -> Result<(Vec<SentColumn>, Statement)> {
        self.command(COM_STMT_PREPARE, sql.as_bytes()).await?;
        let payload = self.packet().await?;
        let mut fields = Fields(payload);
        if fields.byte()? != 0 {
            return Err(damaged());
        }
        let statement = Statement(fields.u32()?);
        let (columns, parameters) = (fields.u16()?, fields.u16()?);
        for count in [parameters, columns] {
            for _ in 0..count {
                self.packet().await?;
            }
            if count > 0 {
                self.end_of_columns().await?;
            }
        }
        self.busy = false;
        let mut body = Vec::with_capacity(9);
        body.extend_from_slice(&statement.0.to_le_bytes());
        // No cursor at the server, once.
        body.extend_from_slice(&[0, 1, 0, 0, 0]);
        self.command(COM_STMT_EXECUTE, &body).await?;
        let payload = self.packet().await?;
        let count = Fields(payload).length()?.ok_or_else(damaged)?;
        let mut sent = Vec::new();
        for _ in 0..count {
            sent.push(sent_column(self.packet().await?)?);
        }
        self.end_of_columns().await?;
        Ok((sent, statement))
    }

    /// The next row of a query that goes on; `None` at its end.
    pub async fn next_row(&mut self) -> Result<Option<&[u8]>> {
        let payload = self.packet().await?;
        let ended = match payload.first() {
            Some(0x00) => false,
            Some(0xfe) if payload.len() < 9 => true,
            _ => return Err(damaged()),
        };
        if ended {
            self.busy = false;
            return Ok(None);
        }
        Ok(Some(self.packets.current()))
    }

    /// Forgets a query that has come to its end.
    pub async fn close(&mut self, statement: Statement) -> Result<()> {
        self.command(COM_STMT_CLOSE, &statement.0.to_le_bytes())
            .await?;
        self.busy = false;
        Ok(())
    }

    /// Has the binary log sent from there on, as to the replica of that number; its events
    /// come by [`Session::event`].
    pub async fn dump(&mut self, replica: u32, file: &str, at: u32) -> Result<()> {
        let mut body = Vec::with_capacity(10 + file.len());
        body.extend_from_slice(&at.to_le_bytes());
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&replica.to_le_bytes());
        body.extend_from_slice(file.as_bytes());
        self.command(COM_BINLOG_DUMP, &body).await
    }

    /// As [`Session::dump`], of all transactions but those in the set, which is encoded as
    /// MySQL does.
    pub async fn dump_after(&mut self, replica: u32, gtids: &[u8]) -> Result<()> {
        // It goes through transactions by their numbers.
        let mut body = vec![4, 0];
        body.extend_from_slice(&replica.to_le_bytes());
        // No file, from whose front.
        body.extend_from_slice(&0_u32.to_le_bytes());
        body.extend_from_slice(&4_u64.to_le_bytes());
        let length = u32::try_from(gtids.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(gtids);
        self.command(COM_BINLOG_DUMP_GTID, &body).await
    }

    /// The next event of the binary log; `None` where the server ends it.
    pub async fn event(&mut self) -> Result<Option<&[u8]>> {
        match self.packet().await?.split_first() {
            Some((0x00, event)) => Ok(Some(event)),
            Some((0xfe, rest)) if rest.len() < 8 => Ok(None),
            _ => Err(damaged()),
        }
    }

    /// Begins a `LOAD DATA LOCAL`, whose file follows by [`Session::file`].
    pub async fn load(&mut self, sql: &str) -> Result<()> {
        self.command(COM_QUERY, sql.as_bytes()).await?;
        match self.packet().await?.first() {
            Some(0xfb) => Ok(()),
            _ => Err(damaged()),
        }
    }

    /// A piece of the file; an empty one would end it.
    pub async fn file(&mut self, piece: &[u8]) -> Result<()> {
        // A row may be longer than what the server takes in one packet.
        for packet in piece.chunks(FILE_PACKET.min(self.most_bytes / 2).max(1)) {
            self.packets.feed(packet).await?;
        }
        Ok(())
    }

    /// The file has ended.
    pub async fn file_end(&mut self) -> Result<Done> {
        self.packets.send(&[]).await?;
        let payload = self.packet().await?;
        let done = done(payload)?;
        self.busy = false;
        Ok(done)
    }

    /// What the last statement warned of first.
    pub async fn first_warning(&mut self) -> Result<Option<Error>> {
        let rows = self.rows("SHOW WARNINGS LIMIT 1").await?;
        let warning = rows.into_iter().next().and_then(|row| {
            let mut row = row.into_iter().skip(1).flatten();
            Some(ServerError {
                code: row.next()?.parse().ok()?,
                state: "22000".to_owned(),
                message: row.next()?,
            })
        });
        Ok(warning.map(|warning| of_server(&warning)))
    }

    /// The next packet, unless it is an error.
    async fn packet(&mut self) -> Result<&[u8]> {
        let refused = {
            let payload = self.packets.next().await?;
            (payload.first() == Some(&0xff)).then(|| server_error(payload))
        };
        if let Some(error) = refused {
            self.busy = false;
            return Err(of_server(&error));
        }
        Ok(self.packets.current())
    }
}

/// A prepared statement's number.
#[derive(Debug, Clone, Copy)]
pub struct Statement(u32);

fn done(payload: &[u8]) -> Result<Done> {
    let mut fields = Fields(payload);
    fields.byte()?;
    let rows = fields.length()?.ok_or_else(damaged)?;
    fields.length()?;
    let (status, warnings) = (fields.u16()?, fields.u16()?);
    Ok(Done {
        rows,
        warnings,
        records: records(&String::from_utf8_lossy(fields.0)),
        status,
    })
}

/// `Records: 3  Deleted: 0  Skipped: 1  Warnings: 0`.
fn records(info: &str) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let (_, behind) = info.split_once(name)?;
        let digits = behind
            .trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()?;
        digits.parse().ok()
    };
    Some(number("Records:")?.saturating_sub(number("Skipped:")?))
}

fn end(payload: &[u8]) -> Result<Done> {
    let mut fields = Fields(payload);
    fields.byte()?;
    let (warnings, status) = (fields.u16()?, fields.u16()?);
    Ok(Done {
        rows: 0,
        warnings,
        records: None,
        status,
    })
}

fn sent_column(payload: &[u8]) -> Result<SentColumn> {
    let mut fields = Fields(payload);
    // Catalog, schema, table, original table, name, original name.
    for _ in 0..6 {
        fields.string()?;
    }
    fields.length()?;
    fields.bytes(2 + 4)?;
    let code = fields.byte()?;
    let flags = fields.u16()?;
    Ok(SentColumn {
        code,
        unsigned: flags & UNSIGNED != 0,
    })
}
