//! A binary log as a server might send it, through all that takes it apart: events, statements,
//! tables, and rows into batches.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use futures::executor::block_on;
use tideway_core::{Batch, Column, Ops, Result};

use super::{
    event::{Event, MariaDbBegin, Payload, Rows, code, has_checksums, query, rotate, rows_kind},
    gtid::Gtid,
    rows::{Found, TableRows},
    statement::effect,
    table_map::{MapColumn, TableMap, ty},
};
use crate::{
    connect::{Flavor, Session},
    fuzz::{sized, speechless},
    types::ServerType,
};

/// Events that are packed and tables are not followed beyond this, which says nothing new.
const MOST_BYTES: usize = 64 << 10;
const MOST_COLUMNS: usize = 16;
const MOST_COMPARED: usize = 500;

/// The events of a log. The first byte says whose it is, and whether it has checksums; of each
/// event follow its length, in two bytes, and its bytes without the checksum.
///
/// In one batch or in many, the changes are the same.
pub fn binlog(input: &[u8]) {
    match (told(input, false), told(input, true)) {
        (Ok(together), Ok(apart)) => assert_eq!(changes(&together), changes(&apart)),
        // Of two troubles either may be met first.
        (Err(_), Err(_)) => {}
        (together, apart) => panic!("only one way fails: {together:?} and {apart:?}"),
    }
}

/// Batches by the shape of their table; with `apart`, the rows of each event are one.
type Told = BTreeMap<usize, Vec<Batch>>;

fn told(input: &[u8], apart: bool) -> Result<Told> {
    let [plan, rest @ ..] = input else {
        return Ok(Told::new());
    };
    let mut log = Log::new(*plan, apart);
    block_on(log.follow(&sized(rest)))?;
    Ok(log.told)
}

/// A change: its operation, which columns it keeps, and its row.
type Shown = (u8, Vec<usize>, RecordBatch);

/// For each shape how many changes there are, and the first ones.
fn changes(told: &Told) -> Vec<(usize, usize, Vec<Shown>)> {
    let of_shape = |(shape, batches): (&usize, &Vec<Batch>)| {
        let count = batches.iter().map(Batch::row_count).sum();
        let each = batches.iter().flat_map(shown);
        (*shape, count, each.take(MOST_COMPARED).collect())
    };
    told.iter().map(of_shape).collect()
}

fn shown(batch: &Batch) -> Vec<Shown> {
    let Ops::Each(ops) = &batch.ops else {
        panic!("changes have operations");
    };
    assert_eq!(ops.len(), batch.row_count());
    let row = |row: usize| {
        let kept = batch.kept.iter().filter(|(_, rows)| rows.value(row));
        let kept = kept.map(|(column, _)| *column).collect();
        (ops.value(row), kept, batch.rows.slice(row, 1))
    };
    let most = batch.row_count().min(MOST_COMPARED);
    (0..most).map(row).collect()
}

struct Log {
    plan: u8,
    apart: bool,
    session: Session,
    tables: BTreeMap<u64, (usize, TableRows)>,
    shapes: usize,
    told: Told,
}

impl Log {
    fn new(plan: u8, apart: bool) -> Log {
        let flavor = match plan & 1 {
            0 => Flavor::MySql,
            _ => Flavor::MariaDb,
        };
        Log {
            plan,
            apart,
            session: speechless(flavor),
            tables: BTreeMap::new(),
            shapes: 0,
            told: Told::new(),
        }
    }

    fn checked(&self) -> bool {
        self.plan & 2 != 0
    }

    async fn follow(&mut self, events: &[&[u8]]) -> Result<()> {
        for event in events {
            let event = sealed(event, self.checked());
            self.take(&event).await?;
        }
        let numbers: Vec<u64> = self.tables.keys().copied().collect();
        for number in numbers {
            self.flush(number).await?;
        }
        Ok(())
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.get(4) == Some(&code::FORMAT) {
            has_checksums(bytes)?;
        }
        let event = Event::parse(bytes, self.checked())?;
        if event.code != code::PAYLOAD {
            return self.take_part(&event).await;
        }
        let mut payload = Payload::open(event.body)?;
        while let Some(inner) = payload.next()? {
            if inner.len() > MOST_BYTES {
                break;
            }
            let inner = Event::parse(&inner, false)?;
            self.take_part(&inner).await?;
        }
        Ok(())
    }

    async fn take_part(&mut self, event: &Event<'_>) -> Result<()> {
        let body = event.body;
        match event.code {
            code::ROTATE => rotate(body).map(drop),
            code::GTID => Gtid::of_mysql(body).map(drop),
            code::MARIADB_GTID => {
                MariaDbBegin::parse(body)?;
                Gtid::of_mariadb(event.server, body).map(drop)
            }
            code::QUERY | code::COMPRESSED_QUERY => {
                let query = query(body, event.code == code::COMPRESSED_QUERY)?;
                if query.statement.len() <= MOST_BYTES {
                    effect(&query.statement, &query.database, "fuzz_seeds", "t");
                }
                Ok(())
            }
            code::TABLE_MAP => self.map(body).await,
            code => match rows_kind(code) {
                Some(kind) => self.rows(&Rows::parse(body, kind)?).await,
                None => Ok(()),
            },
        }
    }

    async fn map(&mut self, body: &[u8]) -> Result<()> {
        let mut map = TableMap::parse(body, self.session.server.flavor)?;
        let (number, names) = (map.number, map.columns.iter_mut().enumerate());
        names.for_each(|(at, column)| column.name = format!("c{at}"));
        if let Some((_, rows)) = self.tables.get(&number)
            && rows.map == map
        {
            return Ok(());
        }
        self.flush(number).await?;
        self.tables.remove(&number);
        let kinds: Option<Vec<ServerType>> =
            map.columns.iter().map(|told| self.kind(told)).collect();
        let Some(kinds) = kinds.filter(|kinds| kinds.len() <= MOST_COLUMNS) else {
            return Ok(());
        };
        let columns = map.columns.iter().zip(&kinds).enumerate();
        let columns: Vec<Column> = columns
            .map(|(at, (told, kind))| Column {
                nullable: at > 0,
                ..Column::new(&told.name, kind.reading().logical)
            })
            .collect();
        let found = |told: &MapColumn| {
            let at = columns.iter().position(|column| column.name == told.name)?;
            let kind = kinds.get(at)?;
            let charset = match told.collation % 3 {
                0 => "binary",
                1 => "utf8mb4",
                _ => "latin1",
            };
            Some(Found {
                reading: kind.reading(),
                kind: kind.name.clone(),
                charset: Some(charset.to_owned()),
            })
        };
        let rows = TableRows::new(map, &columns, &["c0".to_owned()], found);
        self.tables.insert(number, (self.shapes, rows));
        self.shapes += 1;
        Ok(())
    }

    /// What the server might call the type; nothing for what it has no columns of.
    fn kind(&self, told: &MapColumn) -> Option<ServerType> {
        use ty::*;
        let (first, second) = told.meta;
        let odd = self.plan & 4 != 0;
        let binary = told.collation.is_multiple_of(3);
        let name = match told.code {
            TINY => "tinyint",
            SHORT => "smallint",
            INT24 => "mediumint",
            LONG => "int",
            LONGLONG => "bigint",
            FLOAT => "float",
            DOUBLE => "double",
            DECIMAL if first <= 65 && second <= 30 && second <= first => "decimal",
            BIT => "bit",
            YEAR => "year",
            DATE | NEWDATE => "date",
            TIME | TIME2 => "time",
            DATETIME | DATETIME2 => "datetime",
            TIMESTAMP | TIMESTAMP2 => "timestamp",
            ENUM => "enum",
            SET => "set",
            JSON => "json",
            STRING if odd && second % 3 == 0 => "uuid",
            STRING if odd && second % 3 == 1 => "inet6",
            STRING if odd => "inet4",
            STRING if binary => "binary",
            STRING => "char",
            VARCHAR | VAR_STRING if binary => "varbinary",
            VARCHAR | VAR_STRING => "varchar",
            BLOB if binary => "blob",
            BLOB => "text",
            VECTOR => "vector",
            GEOMETRY => "geometry",
            _ => return None,
        };
        let precision = match told.code {
            BIT => u64::from(second) * 8 + u64::from(first),
            _ => first.into(),
        };
        let unsigned = if told.unsigned { " unsigned" } else { "" };
        Some(ServerType {
            name: name.to_owned(),
            declared: format!("{name}{unsigned}"),
            precision: Some(precision),
            scale: Some(second.into()),
            ..ServerType::default()
        })
    }

    async fn rows(&mut self, rows: &Rows<'_>) -> Result<()> {
        let Some((_, table)) = self.tables.get_mut(&rows.table) else {
            return Ok(());
        };
        table.take(rows)?;
        let broken = table.broken();
        if broken || self.apart {
            self.flush(rows.table).await?;
        }
        if broken {
            self.tables.remove(&rows.table);
        }
        Ok(())
    }

    async fn flush(&mut self, number: u64) -> Result<()> {
        let Some((shape, rows)) = self.tables.get_mut(&number) else {
            return Ok(());
        };
        let batch = rows.finish(&mut self.session).await?;
        assert_eq!((rows.row_count(), rows.byte_count()), (0, 0));
        self.told.entry(*shape).or_default().extend(batch);
        Ok(())
    }
}

/// The event with its true length and, where there are any, its checksum.
fn sealed(event: &[u8], checked: bool) -> Vec<u8> {
    let mut bytes = event.to_vec();
    let size = bytes.len() as u32 + if checked { 4 } else { 0 };
    if let Some(place) = bytes.get_mut(9..13) {
        place.copy_from_slice(&size.to_le_bytes());
    }
    if checked {
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        bytes.extend_from_slice(&crc.sum().to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::{super::cell::decimal_size, *};

    const CODES: [u8; 16] = [
        code::QUERY,
        code::ROTATE,
        code::FORMAT,
        code::GTID,
        code::MARIADB_GTID,
        code::PAYLOAD,
        code::COMPRESSED_QUERY,
        23,
        24,
        25,
        30,
        31,
        32,
        166,
        170,
        171,
    ];
    const TYPES: [u8; 27] = [
        254, 254, 15, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 245, 246, 247,
        252, 253, 254, 255,
    ];

    fn event(code: u8, body: &[u8]) -> Vec<u8> {
        let mut event = vec![0; 19];
        event[4] = code;
        event.extend_from_slice(body);
        event
    }

    /// A column: its type and the two numbers that go with it.
    type Told = (u8, u8, u8);

    /// Numbers that fit the type.
    fn fitting((code, first, second): Told) -> Told {
        match code {
            4 | 5 | 245 | 252 | 255 => (code, first % 4 + 1, 0),
            17..=19 => (code, first % 7, 0),
            246 => (code, first % 65 + 1, (second % 30).min(first % 65)),
            247 => (code, 247, second % 2 + 1),
            15 | 16 | 253 => (code, first % 9, 0),
            254 => (code, 254, second % 40),
            _ => (code, 0, 0),
        }
    }

    /// A table of such columns, by the number 1.
    fn map(columns: &[Told], more: &[u8]) -> Vec<u8> {
        let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0];
        body.push(columns.len() as u8);
        body.extend(columns.iter().map(|column| column.0));
        let metas = columns.iter().flat_map(|(code, first, second)| match code {
            4 | 5 | 17..=19 | 245 | 252 | 255 => vec![*first],
            15 | 16 | 246 | 247 | 253 | 254 => vec![*first, *second],
            _ => vec![],
        });
        let metas: Vec<u8> = metas.collect();
        body.push(metas.len() as u8);
        body.extend(metas);
        body.extend(vec![0xff; columns.len().div_ceil(8)]);
        body.extend_from_slice(more);
        event(code::TABLE_MAP, &body)
    }

    /// A value of a column, of the bytes that `some` gives.
    fn cell((code, first, second): Told, some: &mut impl FnMut() -> u8) -> Vec<u8> {
        let fraction = usize::from(first).div_ceil(2);
        let (of_length, size) = match code {
            1 | 13 => (0, 1),
            2 => (0, 2),
            9..=11 => (0, 3),
            3 | 4 | 7 => (0, 4),
            5 | 8 | 12 => (0, 8),
            17 => (0, 4 + fraction),
            18 => (0, 5 + fraction),
            19 => (0, 3 + fraction),
            16 => (0, usize::from(second) + usize::from(first > 0)),
            246 => (0, decimal_size(first, second).unwrap()),
            247 => (0, second.into()),
            15 | 253 | 254 => (1, usize::from(some() % 40)),
            _ => (first.into(), usize::from(some() % 40)),
        };
        let mut cell = vec![0; of_length];
        if let Some(length) = cell.first_mut() {
            *length = size as u8;
        }
        cell.extend(std::iter::repeat_with(some).take(size));
        cell
    }

    /// Rows of that table. `told` says which columns they have; `some` is what they are made of.
    fn rows(code: u8, columns: &[Told], told: u8, some: &[u8]) -> Vec<u8> {
        let mut body = vec![1, 0, 0, 0, 0, 0, 1, 0];
        if code >= 30 {
            body.extend([2, 0]);
        }
        body.push(columns.len() as u8);
        let images = if matches!(code, 24 | 31) { 2 } else { 1 };
        body.extend(vec![told; images]);
        let mut rest = some.iter().cycle();
        let mut next = || rest.next().copied().unwrap_or_default();
        let here = |at: &usize| told >> at & 1 == 1;
        for _ in 0..some.len() % 4 * images {
            // A bit for each of those that are told; half of the time all have values.
            let nulls = if next() % 2 == 0 { 0 } else { next() };
            body.push(nulls);
            for (nth, at) in (0..columns.len()).filter(here).enumerate() {
                if nulls >> nth & 1 == 0 {
                    body.extend(cell(columns[at], &mut next));
                }
            }
        }
        event(code, &body)
    }

    fn log(plan: u8, events: &[Vec<u8>]) -> Vec<u8> {
        let mut input = vec![plan];
        for event in events {
            input.extend_from_slice(&(event.len() as u16).to_be_bytes());
            input.extend_from_slice(event);
        }
        input
    }

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        // Small numbers are lengths that fit.
        prop::collection::vec(
            prop_oneof![3 => 0_u8..9, 1 => 9_u8..40, 2 => any::<u8>()],
            0..most,
        )
    }

    /// The logs that are kept, of either server, tell of an insert and two updates, one of
    /// which is of the key, then of two inserts, two updates and a delete.
    #[test]
    fn what_real_servers_write_is_understood() {
        for server in ["mysql", "mariadb"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/mysql_binlog");
            let log = std::fs::read(format!("{folder}/{server}")).unwrap();
            for apart in [false, true] {
                let told = told(&log, apart).unwrap();
                let rows = told.values().flatten().map(Batch::row_count);
                assert_eq!(rows.sum::<usize>(), 9, "{server}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]
        #[test]
        fn bytes_of_any_kind_are_a_log_or_an_error(
            plan in any::<u8>(),
            events in prop::collection::vec((select(&CODES[..]), bytes(80)), 1..5),
        ) {
            let events: Vec<_> = events.iter().map(|(code, body)| event(*code, body)).collect();
            binlog(&log(plan, &events));
        }

        #[test]
        fn rows_of_any_bytes_are_changes_or_an_error(
            plan in any::<u8>(),
            columns in prop::collection::vec((select(&TYPES[..]), any::<u8>(), any::<u8>()), 1..5),
            more in prop_oneof![Just(vec![]), bytes(20)],
            told in prop::collection::vec(
                (select(&[23_u8, 24, 25, 30, 31, 32][..]), prop_oneof![Just(0xff_u8), any::<u8>()], bytes(60)),
                1..5,
            ),
        ) {
            let columns: Vec<Told> = columns.into_iter().map(fitting).collect();
            let mut events = vec![map(&columns, &[]), map(&columns, &more)];
            events.extend(told.iter().map(|(code, told, some)| rows(*code, &columns, *told, some)));
            binlog(&log(plan, &events));
        }
    }
}
