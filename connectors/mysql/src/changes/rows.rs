//! The changes of one table on their way into batches, through the cell decoders that queries
//! use too.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt8Array};
use tideway_core::{Batch, Column, Error, Op, Ops, Result, schema::arrow_schema};

use super::{
    cell,
    convert::{convert, latin1},
    event::{Rows, RowsKind},
    table_map::{MapColumn, TableMap, ty},
};
use crate::{
    connect::{Fields, Session, damaged},
    read::column::{ColumnDecoder, Raw},
    types::{Reading, Shape},
};

/// The collation of bytes that are no text.
const BINARY: u64 = 63;

/// Decodes the changes of one table for as long as it keeps its shape.
pub struct TableRows {
    /// The shape that the cells are of.
    pub map: TableMap,
    columns: Vec<Column>,
    slots: Vec<Slot>,
    /// For each column of the log the wanted one, if it is wanted.
    targets: Vec<Option<usize>>,
    /// Wanted columns that the log does not have yet.
    missing: Vec<usize>,
    /// Columns of the log by which rows are told apart; all where there is no key.
    key: Vec<usize>,
    ops: Vec<u8>,
    byte_count: usize,
    /// Rows before the first one that was not told as the plan promises.
    sound: Option<usize>,
}

/// One wanted column.
struct Slot {
    decoder: ColumnDecoder,
    way: Way,
    /// Bytes of a value of fixed length.
    width: usize,
    /// Rows whose value was left as it is.
    kept: Vec<usize>,
}

/// How a cell becomes a value.
enum Way {
    Decoded,
    Latin1,
    Uuid,
    Inet4,
    Inet6,
    /// Sent to the server when the batch is full.
    Converted {
        charset: String,
        waiting: Waiting,
    },
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    cells: Vec<WaitingCell>,
}

enum WaitingCell {
    Null,
    Absent,
    Value { end: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell<'a> {
    /// It is not told.
    Absent,
    Null,
    Value(&'a [u8]),
}

/// How a wanted column is read, and in which characters its texts are.
pub struct Found {
    pub reading: Reading,
    /// The server's word for the type.
    pub kind: String,
    pub charset: Option<String>,
}

impl TableRows {
    /// `found` tells how a column is read.
    pub fn new(
        map: TableMap,
        wanted: &[Column],
        key: &[String],
        found: impl Fn(&MapColumn) -> Option<Found>,
    ) -> TableRows {
        let place = |name: &str| map.columns.iter().position(|column| column.name == name);
        let mut targets = vec![None; map.columns.len()];
        let (mut missing, mut slots) = (Vec::new(), Vec::with_capacity(wanted.len()));
        for (at, column) in wanted.iter().enumerate() {
            let told = place(&column.name).and_then(|place| {
                let told = map.columns.get(place)?;
                let found = found(told)?;
                *targets.get_mut(place)? = Some(at);
                Some((told, found))
            });
            slots.push(match told {
                Some((told, found)) => Slot::new(column, told, found),
                None => {
                    missing.push(at);
                    Slot::blank(column)
                }
            });
        }
        let key = match key {
            [] => (0..map.columns.len()).collect(),
            names => names.iter().filter_map(|name| place(name)).collect(),
        };
        TableRows {
            map,
            columns: wanted.to_vec(),
            slots,
            targets,
            missing,
            key,
            ops: Vec::new(),
            byte_count: 0,
            sound: None,
        }
    }

    pub fn row_count(&self) -> usize {
        self.ops.len()
    }

    /// Bytes that the rows since the last batch take.
    pub fn byte_count(&self) -> usize {
        self.byte_count
    }

    /// Whether something has come that is not as the plan promises: a null where there is
    /// none, a new row that is not told whole.
    pub fn broken(&self) -> bool {
        self.sound.is_some()
    }

    pub fn take(&mut self, rows: &Rows<'_>) -> Result<()> {
        if rows.width != self.map.columns.len() {
            return Err(damaged());
        }
        let mut fields = Fields(&rows.data);
        while !fields.0.is_empty() {
            match rows.kind {
                RowsKind::Insert => {
                    let new = self.cells(&mut fields, rows.after)?;
                    self.push(Op::Insert, &new)?;
                }
                RowsKind::Delete => {
                    let old = self.cells(&mut fields, rows.before)?;
                    self.push_key(&old)?;
                }
                RowsKind::Update => {
                    let old = self.cells(&mut fields, rows.before)?;
                    let mut new = self.cells(&mut fields, rows.after)?;
                    for (new, old) in new.iter_mut().zip(&old) {
                        if *new == Cell::Absent {
                            *new = *old;
                        }
                    }
                    if self.key.iter().any(|at| old.get(*at) != new.get(*at)) {
                        self.push_key(&old)?;
                        self.push(Op::Insert, &new)?;
                    } else {
                        self.push(Op::Update, &new)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One row; `present` says which columns are told.
    fn cells<'a>(&self, fields: &mut Fields<'a>, present: &[u8]) -> Result<Vec<Cell<'a>>> {
        let bit = |bits: &[u8], at: usize| {
            bits.get(at / 8)
                .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
        };
        let told = (0..self.map.columns.len()).filter(|at| bit(present, *at));
        let nulls = fields.bytes(told.count().div_ceil(8))?;
        let (mut cells, mut told) = (Vec::with_capacity(self.map.columns.len()), 0);
        for (at, column) in self.map.columns.iter().enumerate() {
            if !bit(present, at) {
                cells.push(Cell::Absent);
                continue;
            }
            cells.push(match bit(nulls, told) {
                true => Cell::Null,
                false => Cell::Value(cell::take(column, fields)?),
            });
            told += 1;
        }
        // Nothing was read: it would never end.
        if told == 0 {
            return Err(damaged());
        }
        Ok(cells)
    }

    fn push(&mut self, op: Op, cells: &[Cell<'_>]) -> Result<()> {
        let row = self.ops.len();
        for ((cell, column), target) in cells.iter().zip(&self.map.columns).zip(&self.targets) {
            let Some(slot) = target.and_then(|at| self.slots.get_mut(at)) else {
                continue;
            };
            let lacking = match cell {
                Cell::Null => !slot.decoder.nullable(),
                Cell::Absent => op == Op::Insert,
                Cell::Value(_) => false,
            };
            if lacking {
                self.sound.get_or_insert(row);
            }
            let bytes = match cell {
                Cell::Absent => {
                    slot.kept.push(row);
                    slot.push_absent()?
                }
                Cell::Null if lacking => slot.push_absent()?,
                cell => slot.push(*cell, column)?,
            };
            self.byte_count = self.byte_count.saturating_add(bytes);
        }
        for at in &self.missing {
            if let Some(slot) = self.slots.get_mut(*at) {
                self.byte_count += slot.decoder.push(None)?;
            }
        }
        self.ops.push(op as u8);
        self.byte_count += 1;
        Ok(())
    }

    /// A row that is gone: of it only the key is told.
    fn push_key(&mut self, old: &[Cell<'_>]) -> Result<()> {
        for (at, target) in self.targets.iter().enumerate() {
            let Some(slot) = target.and_then(|at| self.slots.get_mut(at)) else {
                continue;
            };
            let bytes = match (old.get(at), self.map.columns.get(at)) {
                (Some(Cell::Absent) | None, _) | (_, None) => slot.push_absent()?,
                (Some(cell), Some(column)) if self.key.contains(&at) => slot.push(*cell, column)?,
                _ => slot.push_absent()?,
            };
            self.byte_count = self.byte_count.saturating_add(bytes);
        }
        for at in &self.missing {
            if let Some(slot) = self.slots.get_mut(*at) {
                self.byte_count += slot.push_absent()?;
            }
        }
        self.ops.push(Op::Delete as u8);
        self.byte_count += 1;
        Ok(())
    }

    /// The rows since the last call; up to the first unsound one.
    pub async fn finish(&mut self, session: &mut Session) -> Result<Option<Batch>> {
        for slot in &mut self.slots {
            slot.convert(session).await?;
        }
        let row_count = self.ops.len();
        let sound = self.sound.take().unwrap_or(row_count);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.slots.len());
        let (mut notes, mut kept) = (Vec::new(), Vec::new());
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let (array, of_column) = slot.decoder.finish()?;
            arrays.push(array.slice(0, sound.min(array.len())));
            notes.extend(of_column);
            let rows = std::mem::take(&mut slot.kept);
            if let Some(mask) = mask(&rows, sound) {
                kept.push((at, mask));
            }
        }
        let mut ops = std::mem::take(&mut self.ops);
        ops.truncate(sound);
        self.byte_count = 0;
        if ops.is_empty() {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(sound));
        let schema = arrow_schema(&self.columns);
        let rows = RecordBatch::try_new_with_options(schema, arrays, &options)
            // A key whose value cannot be kept.
            .map_err(|error| {
                Error::data(format!(
                    "the changes are not as the table promises: {error}"
                ))
            })?;
        Ok(Some(Batch {
            rows,
            ops: Ops::Each(UInt8Array::from(ops)),
            kept,
            notes,
        }))
    }
}

fn mask(rows: &[usize], length: usize) -> Option<BooleanArray> {
    let rows: Vec<usize> = rows.iter().copied().filter(|row| *row < length).collect();
    if rows.is_empty() {
        return None;
    }
    let mut mask = vec![false; length];
    for row in rows {
        if let Some(kept) = mask.get_mut(row) {
            *kept = true;
        }
    }
    Some(BooleanArray::from(mask))
}

impl Slot {
    fn new(column: &Column, told: &MapColumn, found: Found) -> Slot {
        let Reading { logical, shape } = found.reading;
        let textual = matches!(
            told.code,
            ty::STRING | ty::VARCHAR | ty::VAR_STRING | ty::BLOB | ty::ENUM | ty::SET
        );
        let (way, width) = match (found.kind.as_str(), found.charset.as_deref()) {
            ("uuid", _) => (Way::Uuid, 16),
            ("inet6", _) => (Way::Inet6, 16),
            ("inet4", _) => (Way::Inet4, 4),
            _ if !textual => (Way::Decoded, 0),
            (_, Some("latin1")) => (Way::Latin1, 0),
            (_, None | Some("binary")) => {
                let fixed = told.code == ty::STRING && told.collation == BINARY;
                (
                    Way::Decoded,
                    if fixed { cell::fixed_width(told) } else { 0 },
                )
            }
            (_, Some("utf8mb4" | "utf8mb3" | "utf8" | "ascii")) => (Way::Decoded, 0),
            (_, Some(charset)) => {
                let charset = charset.to_owned();
                let waiting = Waiting::default();
                (Way::Converted { charset, waiting }, 0)
            }
        };
        Slot {
            decoder: ColumnDecoder::new(&column.name, column.nullable, logical, shape),
            way,
            width,
            kept: Vec::new(),
        }
    }

    /// Of a column that has no value yet: it only ever holds nulls.
    fn blank(column: &Column) -> Slot {
        let shape = Shape::of(column.logical);
        Slot {
            decoder: ColumnDecoder::new(&column.name, column.nullable, column.logical, shape),
            way: Way::Decoded,
            width: 0,
            kept: Vec::new(),
        }
    }

    fn push(&mut self, cell: Cell<'_>, column: &MapColumn) -> Result<usize> {
        let cell = match cell {
            Cell::Value(cell) => cell,
            Cell::Null | Cell::Absent => {
                return match &mut self.way {
                    Way::Converted { waiting, .. } => Ok(waiting.push(WaitingCell::Null)),
                    _ => self.decoder.push(None),
                };
            }
        };
        let value = cell::value(column, cell, self.width)?;
        let raw = value.raw();
        let bytes = match (&mut self.way, raw) {
            (Way::Decoded, raw) => return self.decoder.push(Some(raw)),
            (_, Raw::Bytes(bytes)) => bytes,
            _ => return Err(damaged()),
        };
        let text = match &mut self.way {
            Way::Converted { waiting, .. } => return Ok(waiting.push_value(bytes)),
            Way::Latin1 => latin1(bytes),
            Way::Uuid => uuid(padded(bytes)?),
            Way::Inet6 => Ipv6Addr::from(padded::<16>(bytes)?).to_string(),
            Way::Inet4 => Ipv4Addr::from(padded::<4>(bytes)?).to_string(),
            Way::Decoded => return Err(damaged()),
        };
        self.decoder.push(Some(Raw::Bytes(text.as_bytes())))
    }

    fn push_absent(&mut self) -> Result<usize> {
        Ok(match &mut self.way {
            Way::Converted { waiting, .. } => waiting.push(WaitingCell::Absent),
            _ => self.decoder.push_absent(),
        })
    }

    /// Has the server convert what waits for it.
    async fn convert(&mut self, session: &mut Session) -> Result<()> {
        let Way::Converted { charset, waiting } = &mut self.way else {
            return Ok(());
        };
        let waiting = std::mem::take(waiting);
        let texts = convert(session, charset, &waiting.values()).await?;
        let mut texts = texts.into_iter();
        for cell in &waiting.cells {
            match cell {
                WaitingCell::Null => self.decoder.push(None)?,
                WaitingCell::Absent => self.decoder.push_absent(),
                WaitingCell::Value { .. } => {
                    let text = texts.next().unwrap_or_default();
                    self.decoder.push(Some(Raw::Bytes(text.as_bytes())))?
                }
            };
        }
        Ok(())
    }
}

impl Waiting {
    fn push(&mut self, cell: WaitingCell) -> usize {
        self.cells.push(cell);
        size_of::<WaitingCell>()
    }

    fn push_value(&mut self, bytes: &[u8]) -> usize {
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        // Once as it was told, once as text.
        self.push(WaitingCell::Value { end }) + 2 * bytes.len()
    }

    fn values(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let values = self.cells.iter().filter_map(|cell| {
            let WaitingCell::Value { end } = *cell else {
                return None;
            };
            let bytes = self.bytes.get(start..end)?;
            start = end;
            Some(bytes)
        });
        values.collect()
    }
}

/// Zeros at the end are left out in the log.
fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    let mut whole = [0; N];
    let front = whole.get_mut(..bytes.len()).ok_or_else(damaged)?;
    front.copy_from_slice(bytes);
    Ok(whole)
}

/// MariaDB stores the groups of a UUID of the older versions from the last to the first, so
/// that those made one after the other are neighbours.
fn uuid(stored: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = stored;
    let turned = g & 0x80 != 0 && (1..=0x80).contains(&i);
    let bytes = match turned {
        true => [m, n, o, p, k, l, i, j, g, h, a, b, c, d, e, f],
        false => stored,
    };
    uuid::Uuid::from_bytes(bytes).to_string()
}
