//! The changes of one table on their way into batches, through the cell decoders that COPY
//! uses too.

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt8Array};
use bytes::BytesMut;
use tideway_core::{Batch, Column, Error, Op, Ops, Result, schema::arrow_schema};

use super::{
    catalog::TypeInfo,
    convert::{Converter, Raw},
    pgoutput::{Cell, Relation, Tuple},
    refetch::{Filled, Gap},
    text,
};
use crate::{
    read::column::ColumnDecoder,
    sql::ident,
    types::{Cast, Reading},
};

/// The cells of a key, each with its place in the relation.
type Key<'a> = Vec<(usize, Raw<'a>)>;

/// Decodes the changes of one table for as long as it keeps its shape.
pub struct TableRows {
    /// The shape that the cells below are of.
    pub relation: Relation,
    columns: Vec<Column>,
    slots: Vec<Slot>,
    /// For each column of the relation the wanted one, if it is wanted.
    targets: Vec<Option<usize>>,
    /// Wanted columns that the relation does not have yet.
    missing: Vec<usize>,
    /// Columns of the relation by which rows are told apart; all where there is no key.
    key: Vec<usize>,
    ops: Vec<u8>,
    byte_count: usize,
    /// Rows before the first one with a null that the plan rules out.
    sound: Option<usize>,
    scratch: BytesMut,
}

/// One wanted column.
struct Slot {
    decoder: ColumnDecoder,
    reading: Reading,
    /// The type of the cells, domains resolved.
    type_oid: u32,
    way: Way,
    /// Rows whose value was left as it is.
    kept: Vec<usize>,
}

/// How a cell becomes a value.
enum Way {
    Decoded,
    /// As it stands: it is text, or the same in binary form.
    AsText,
    /// Sent back to the server when the batch is full.
    Converted(Waiting),
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    cells: Vec<WaitingCell>,
}

enum WaitingCell {
    Null,
    Absent,
    Value { end: usize, binary: bool },
}

impl TableRows {
    /// `types` tells what is known of the relation's types, `binary` whether cells come in
    /// binary form where they have one.
    pub fn new(
        relation: Relation,
        wanted: &[Column],
        key: &[String],
        types: impl Fn(u32) -> Option<TypeInfo>,
        binary: bool,
    ) -> Result<TableRows> {
        let place = |name: &str| {
            let mut columns = relation.columns.iter();
            columns.position(|column| column.name == name)
        };
        let mut targets = vec![None; relation.columns.len()];
        let mut missing = Vec::new();
        let mut slots = Vec::with_capacity(wanted.len());
        for (at, column) in wanted.iter().enumerate() {
            let found = place(&column.name).and_then(|place| {
                let found = relation.columns.get(place)?;
                let info = types(found.type_oid)?;
                if let Some(target) = targets.get_mut(place) {
                    *target = Some(at);
                }
                Some((info, info.reading(found.typmod)))
            });
            slots.push(match found {
                Some((info, reading)) => Slot::new(column, reading, Some(info), binary),
                None => {
                    missing.push(at);
                    Slot::new(column, stand_in(column)?, None, binary)
                }
            });
        }
        let key = match key {
            [] => (0..relation.columns.len()).collect(),
            names => names.iter().filter_map(|name| place(name)).collect(),
        };
        Ok(TableRows {
            relation,
            columns: wanted.to_vec(),
            slots,
            targets,
            missing,
            key,
            ops: Vec::new(),
            byte_count: 0,
            sound: None,
            scratch: BytesMut::new(),
        })
    }

    pub fn row_count(&self) -> usize {
        self.ops.len()
    }

    /// Bytes that the rows since the last batch take.
    pub fn byte_count(&self) -> usize {
        self.byte_count
    }

    /// Whether a null has come where the plan rules it out.
    pub fn broken(&self) -> bool {
        self.sound.is_some()
    }

    pub fn insert(&mut self, new: Tuple<'_>) -> Result<()> {
        self.check_width(new)?;
        self.push(Op::Insert, new.cells())
    }

    /// `filled` holds what [`TableRows::gaps`] asked for.
    pub fn update(
        &mut self,
        old: Option<Tuple<'_>>,
        new: Tuple<'_>,
        filled: &[Filled],
    ) -> Result<()> {
        self.check_width(new)?;
        let Some(old) = old else {
            return self.push(Op::Update, new.cells());
        };
        self.check_width(old)?;
        let old: Vec<Cell<'_>> = old.cells().collect();
        let mut new = whole(&old, new);
        if !self.moved(&old, &new) {
            return self.push(Op::Update, new.into_iter());
        }
        for value in filled {
            if let Some(cell) = new.get_mut(value.at) {
                *cell = match value.binary {
                    true => Cell::Binary(&value.bytes),
                    false => Cell::Text(&value.bytes),
                };
            }
        }
        self.push_key(&old)?;
        let row = self.ops.len();
        self.push(Op::Insert, new.into_iter())?;
        // A value that is not there any more: the row was changed or deleted meanwhile, as
        // will be told. A new row has nothing to keep.
        for slot in &mut self.slots {
            slot.kept.pop_if(|kept| *kept == row);
        }
        Ok(())
    }

    fn moved(&self, old: &[Cell<'_>], new: &[Cell<'_>]) -> bool {
        self.key.iter().any(|at| old.get(*at) != new.get(*at))
    }

    /// Where an update of the key leaves values out that a new row needs: the key, and the
    /// places of the values.
    pub fn gaps<'a>(&self, old: Option<Tuple<'a>>, new: Tuple<'a>) -> Option<(Key<'a>, Vec<Gap>)> {
        let old: Vec<Cell<'a>> = old?.cells().collect();
        let new = whole(&old, new);
        let gaps = new.iter().zip(&self.targets).enumerate();
        let gaps = gaps.filter_map(|(at, (cell, target))| {
            let slot = self.slots.get((*target)?)?;
            (*cell == Cell::Kept).then(|| slot.gap(at, &self.relation))
        });
        let gaps: Vec<Gap> = gaps.collect();
        if gaps.is_empty() || !self.moved(&old, &new) {
            return None;
        }
        let key = self.key.iter().map(|at| {
            let (bytes, binary) = match *new.get(*at)? {
                Cell::Binary(bytes) => (bytes, true),
                Cell::Text(bytes) => (bytes, false),
                Cell::Null | Cell::Kept => return None,
            };
            Some((*at, Raw { bytes, binary }))
        });
        Some((key.collect::<Option<_>>()?, gaps))
    }

    pub fn delete(&mut self, old: Tuple<'_>) -> Result<()> {
        self.check_width(old)?;
        let old: Vec<Cell<'_>> = old.cells().collect();
        self.push_key(&old)
    }

    fn check_width(&self, tuple: Tuple<'_>) -> Result<()> {
        if tuple.width == self.targets.len() {
            return Ok(());
        }
        Err(Error::data(format!(
            "{}.{}: the server's change stream is damaged: a row has another number of columns",
            self.relation.namespace, self.relation.name
        )))
    }

    fn push<'a>(&mut self, op: Op, cells: impl Iterator<Item = Cell<'a>>) -> Result<()> {
        let row = self.ops.len();
        for (cell, target) in cells.zip(&self.targets) {
            let Some(slot) = target.and_then(|at| self.slots.get_mut(at)) else {
                continue;
            };
            if cell == Cell::Null && !slot.decoder.nullable() {
                self.sound.get_or_insert(row);
            }
            let bytes = slot.push(cell, row, &mut self.scratch)?;
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
        let row = self.ops.len();
        for (at, target) in self.targets.iter().enumerate() {
            let Some(slot) = target.and_then(|at| self.slots.get_mut(at)) else {
                continue;
            };
            let bytes = match old.get(at) {
                Some(cell) if self.key.contains(&at) => slot.push(*cell, row, &mut self.scratch)?,
                _ => slot.push_absent(),
            };
            self.byte_count = self.byte_count.saturating_add(bytes);
        }
        for at in &self.missing {
            if let Some(slot) = self.slots.get_mut(*at) {
                self.byte_count += slot.decoder.push_absent();
            }
        }
        self.ops.push(Op::Delete as u8);
        self.byte_count += 1;
        Ok(())
    }

    /// The rows since the last call; up to the first unsound one.
    pub async fn finish(&mut self, converter: &mut Converter) -> Result<Option<Batch>> {
        for slot in &mut self.slots {
            slot.convert(converter).await?;
        }
        self.batch()
    }

    /// What has come, nothing of it waiting for the server any more.
    pub fn batch(&mut self) -> Result<Option<Batch>> {
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

/// The new row; what it does not tell anew may be told of the old one.
fn whole<'a>(old: &[Cell<'a>], new: Tuple<'a>) -> Vec<Cell<'a>> {
    let mut new: Vec<Cell<'a>> = new.cells().collect();
    for (new, old) in new.iter_mut().zip(old) {
        if *new == Cell::Kept && *old != Cell::Null {
            *new = *old;
        }
    }
    new
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

/// How a column is decoded that has no value yet: it only ever holds nulls.
fn stand_in(column: &Column) -> Result<Reading> {
    let wire = crate::types::wire_of(column.logical);
    let wire = wire.ok_or_else(|| {
        Error::bug(format!(
            "column {} is not of a type that we read",
            column.name
        ))
    })?;
    Ok(Reading {
        logical: column.logical,
        wire,
        cast: Cast::No,
    })
}

impl Slot {
    fn new(column: &Column, reading: Reading, info: Option<TypeInfo>, binary: bool) -> Slot {
        let way = match (reading.cast, info) {
            (Cast::No, _) | (_, None) => Way::Decoded,
            (Cast::Output(_), Some(info)) if info.sent_as_text || !binary => Way::AsText,
            (Cast::Text, Some(info))
                if (info.sent_as_text || !binary) && !info.cast_by_function =>
            {
                Way::AsText
            }
            _ => Way::Converted(Waiting::default()),
        };
        Slot {
            decoder: ColumnDecoder::new(&column.name, column.nullable, reading.wire),
            reading,
            type_oid: info.map(|info| info.base()).unwrap_or_default(),
            way,
            kept: Vec::new(),
        }
    }

    /// How its value is read where the stream left it out.
    fn gap(&self, at: usize, relation: &Relation) -> Gap {
        let column = relation.columns.get(at);
        let name = column.map(|column| ident(&column.name)).unwrap_or_default();
        Gap {
            at,
            as_text: matches!(self.way, Way::AsText).then(|| self.reading.cast.expression(&name)),
        }
    }

    /// Takes one cell; gives the bytes that it needs.
    #[inline]
    fn push(&mut self, cell: Cell<'_>, row: usize, scratch: &mut BytesMut) -> Result<usize> {
        match (&mut self.way, cell) {
            (_, Cell::Kept) => {
                self.kept.push(row);
                Ok(self.push_absent())
            }
            (Way::Converted(waiting), Cell::Null) => Ok(waiting.push(WaitingCell::Null)),
            (Way::Converted(waiting), Cell::Binary(bytes)) => Ok(waiting.push_value(bytes, true)),
            (Way::Converted(waiting), Cell::Text(bytes)) => Ok(waiting.push_value(bytes, false)),
            (_, Cell::Null) => self.decoder.push(None),
            (Way::AsText, Cell::Text(bytes) | Cell::Binary(bytes))
            | (Way::Decoded, Cell::Binary(bytes)) => self.decoder.push(Some(bytes)),
            (Way::Decoded, Cell::Text(bytes)) => {
                scratch.clear();
                match text::to_binary(self.reading.wire, bytes, scratch) {
                    Some(()) => self.decoder.push(Some(scratch)),
                    None => Err(self.decoder.malformed()),
                }
            }
        }
    }

    fn push_absent(&mut self) -> usize {
        match &mut self.way {
            Way::Converted(waiting) => waiting.push(WaitingCell::Absent),
            _ => self.decoder.push_absent(),
        }
    }

    /// Has the server convert what waits for it.
    async fn convert(&mut self, converter: &mut Converter) -> Result<()> {
        let Way::Converted(waiting) = &mut self.way else {
            return Ok(());
        };
        let waiting = std::mem::take(waiting);
        let values = waiting.values();
        let texts = match values.is_empty() {
            true => Vec::new(),
            false => {
                let converted = converter.convert(self.type_oid, self.reading.cast, &values);
                converted.await?
            }
        };
        let mut texts = texts.into_iter();
        for cell in &waiting.cells {
            match cell {
                WaitingCell::Null => self.decoder.push(None)?,
                WaitingCell::Absent => self.decoder.push_absent(),
                WaitingCell::Value { .. } => {
                    let text = texts.next().flatten();
                    self.decoder.push(text.as_deref().map(str::as_bytes))?
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

    fn push_value(&mut self, bytes: &[u8], binary: bool) -> usize {
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        // Once as it was told, once as text.
        self.push(WaitingCell::Value { end, binary }) + 2 * bytes.len()
    }

    fn values(&self) -> Vec<Raw<'_>> {
        let mut start = 0;
        let values = self.cells.iter().filter_map(|cell| {
            let WaitingCell::Value { end, binary } = *cell else {
                return None;
            };
            let bytes = self.bytes.get(start..end)?;
            start = end;
            Some(Raw { bytes, binary })
        });
        values.collect()
    }
}

#[cfg(test)]
mod tests;
