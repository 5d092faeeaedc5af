//! Rows of the binary protocol into Arrow batches, without an object per row or cell. The
//! same decoder will serve whatever else sends rows in this form.

use std::collections::VecDeque;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use tideway_core::{Batch, Column, Error, Result, schema::arrow_schema};

use super::column::{ColumnDecoder, Raw};
use crate::{
    connect::{Fields, SentColumn, damaged},
    types::Shape,
};

/// Decodes the rows of one result.
pub struct RowDecoder {
    schema: SchemaRef,
    columns: Vec<ColumnDecoder>,
    kinds: Vec<Kind>,
    batch_bytes: usize,
    row_count: usize,
    byte_count: usize,
    ready: VecDeque<Batch>,
}

/// How the server sends the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tiny { unsigned: bool },
    Short { unsigned: bool },
    Long { unsigned: bool },
    LongLong { unsigned: bool },
    Float,
    Double,
    Moment,
    Span,
    Bytes,
}

impl Kind {
    /// By the protocol's code of the type.
    fn of(sent: SentColumn) -> Result<Kind> {
        let unsigned = sent.unsigned;
        Ok(match sent.code {
            1 => Kind::Tiny { unsigned },
            2 | 13 => Kind::Short { unsigned },
            3 | 9 => Kind::Long { unsigned },
            8 => Kind::LongLong { unsigned },
            4 => Kind::Float,
            5 => Kind::Double,
            7 | 10 | 12 => Kind::Moment,
            11 => Kind::Span,
            0 | 15 | 16 | 242 | 245..=255 => Kind::Bytes,
            code => {
                return Err(Error::unsupported(format!(
                    "the server sends values of a type that is not known (code {code})"
                )));
            }
        })
    }

    fn value<'a>(self, fields: &mut Fields<'a>) -> Result<Raw<'a>> {
        Ok(match self {
            Kind::Tiny { unsigned: false } => Raw::Int(i8::from_le_bytes(fields.array()?).into()),
            Kind::Tiny { unsigned: true } => Raw::UInt(fields.byte()?.into()),
            Kind::Short { unsigned: false } => Raw::Int(i16::from_le_bytes(fields.array()?).into()),
            Kind::Short { unsigned: true } => Raw::UInt(fields.u16()?.into()),
            Kind::Long { unsigned: false } => Raw::Int(i32::from_le_bytes(fields.array()?).into()),
            Kind::Long { unsigned: true } => Raw::UInt(fields.u32()?.into()),
            Kind::LongLong { unsigned: false } => Raw::Int(i64::from_le_bytes(fields.array()?)),
            Kind::LongLong { unsigned: true } => Raw::UInt(u64::from_le_bytes(fields.array()?)),
            Kind::Float => Raw::Float(f32::from_le_bytes(fields.array()?)),
            Kind::Double => Raw::Double(f64::from_le_bytes(fields.array()?)),
            Kind::Moment => moment(fields)?,
            Kind::Span => span(fields)?,
            Kind::Bytes => Raw::Bytes(fields.string()?.ok_or_else(damaged)?),
        })
    }
}

/// Year, month and day; then the time, then microseconds, unless they are zero.
fn moment<'a>(fields: &mut Fields<'a>) -> Result<Raw<'a>> {
    let length = fields.byte()?;
    let mut inner = Fields(fields.bytes(length.into())?);
    let (mut date, mut time, mut micros) = ((0, 0, 0), (0, 0, 0), 0);
    if length >= 4 {
        date = (inner.u16()?, inner.byte()?, inner.byte()?);
    }
    if length >= 7 {
        time = (inner.byte()?, inner.byte()?, inner.byte()?);
    }
    if length >= 11 {
        micros = inner.u32()?;
    }
    Ok(Raw::Moment { date, time, micros })
}

fn span<'a>(fields: &mut Fields<'a>) -> Result<Raw<'a>> {
    let length = fields.byte()?;
    let mut inner = Fields(fields.bytes(length.into())?);
    if length < 8 {
        return Ok(Raw::Span {
            negative: false,
            seconds: 0,
            micros: 0,
        });
    }
    let negative = inner.byte()? != 0;
    let days = u64::from(inner.u32()?);
    let (hours, minutes, seconds) = (inner.byte()?, inner.byte()?, inner.byte()?);
    let seconds =
        ((days * 24 + u64::from(hours)) * 60 + u64::from(minutes)) * 60 + u64::from(seconds);
    let micros = if length >= 12 { inner.u32()? } else { 0 };
    Ok(Raw::Span {
        negative,
        seconds,
        micros,
    })
}

impl RowDecoder {
    /// `shapes` says what the values of each of `columns` mean.
    pub fn new(columns: &[Column], shapes: &[Shape], batch_bytes: usize) -> RowDecoder {
        let decoders = columns.iter().zip(shapes);
        RowDecoder {
            schema: arrow_schema(columns),
            columns: decoders
                .map(|(column, shape)| {
                    ColumnDecoder::new(&column.name, column.nullable, column.logical, *shape)
                })
                .collect(),
            kinds: Vec::new(),
            batch_bytes,
            row_count: 0,
            byte_count: 0,
            ready: VecDeque::new(),
        }
    }

    /// A result begins.
    pub fn begin(&mut self, sent: &[SentColumn]) -> Result<()> {
        if sent.len() != self.columns.len() && !self.columns.is_empty() {
            return Err(damaged());
        }
        self.kinds = sent
            .iter()
            .map(|sent| Kind::of(*sent))
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// Takes one row as it was sent.
    pub fn push(&mut self, row: &[u8]) -> Result<()> {
        if self.row_count > 0 && self.byte_count.saturating_add(row.len()) > self.batch_bytes {
            self.flush()?;
        }
        let mut fields = Fields(row);
        fields.byte()?;
        // The first two bits are not of columns.
        let nulls = fields.bytes((self.kinds.len() + 2).div_ceil(8))?;
        for (at, (column, kind)) in self.columns.iter_mut().zip(&self.kinds).enumerate() {
            let bit = at + 2;
            let null = nulls
                .get(bit / 8)
                .is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
            let value = if null {
                None
            } else {
                Some(kind.value(&mut fields)?)
            };
            self.byte_count = self.byte_count.saturating_add(column.push(value)?);
        }
        self.row_count += 1;
        if self.byte_count >= self.batch_bytes {
            self.flush()?;
        }
        Ok(())
    }

    /// The next batch that is full.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// The rows that are left, as the last batch.
    pub fn finish(&mut self) -> Result<Option<Batch>> {
        self.flush()?;
        Ok(self.ready.pop_front())
    }

    fn flush(&mut self) -> Result<()> {
        if self.row_count == 0 {
            return Ok(());
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut notes = Vec::new();
        for column in &mut self.columns {
            let (array, of_column) = column.finish()?;
            arrays.push(array);
            notes.extend(of_column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.row_count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            // The words name the column; no array is made with a wrong type or length.
            .map_err(|error| {
                Error::data(format!("the rows are not as the table promises: {error}"))
            })?;
        self.ready.push_back(Batch {
            notes,
            ..Batch::of_rows(rows)
        });
        self.row_count = 0;
        self.byte_count = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tideway_core::LogicalType;

    use super::*;

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_rows_or_errors_and_no_panic(
            row in prop::collection::vec(any::<u8>(), 0..80),
            codes in prop::collection::vec((any::<u8>(), any::<bool>()), 1..8),
        ) {
            let shapes = [
                (LogicalType::Boolean, Shape::Bool), (LogicalType::UInt64, Shape::BitUInt),
                (LogicalType::Text, Shape::Span), (LogicalType::Uuid, Shape::Uuid),
                (LogicalType::Decimal { precision: 65, scale: 30 }, Shape::Decimal { precision: 65, scale: 30 }),
                (LogicalType::Timestamp, Shape::Timestamp), (LogicalType::Binary, Shape::Geometry),
                (LogicalType::Int16, Shape::Int16),
            ];
            let columns: Vec<Column> = codes.iter().zip(shapes)
                .map(|(_, (logical, _))| Column::new("c", logical)).collect();
            let shapes: Vec<Shape> = codes.iter().zip(shapes).map(|(_, (_, shape))| shape).collect();
            let sent: Vec<SentColumn> = codes.iter()
                .map(|(code, unsigned)| SentColumn { code: *code, unsigned: *unsigned }).collect();
            let mut decoder = RowDecoder::new(&columns, &shapes, 1 << 20);
            if decoder.begin(&sent).is_ok() && decoder.push(&row).is_ok() {
                let batch = decoder.finish().unwrap().unwrap();
                prop_assert_eq!(batch.row_count(), 1);
            }
        }
    }
}
