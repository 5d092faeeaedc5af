//! One column of a COPY stream on its way into an Arrow array.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, PrimitiveArray, StringArray,
    types::{
        Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        Time64MicrosecondType, TimestampMicrosecondType,
    },
};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::ArrowError;
use tideway_core::{
    Error, Note, Result,
    types::{DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use super::{
    interval,
    numeric::{Misfit, Numeric},
};
use crate::types::Wire;

/// From 1970-01-01 to 2000-01-01, where the server counts from.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Policies for what the Arrow type cannot hold, in the words of their notes.
const OUT_OF_RANGE: &str = "time beyond the year 294,246 stored as null";
const BAD_TEXT: &str = "bytes that are not UTF-8 replaced by �";

/// Decodes the values of one column, in order.
pub struct ColumnDecoder {
    name: String,
    nullable: bool,
    values: Values,
    nulls: NullBufferBuilder,
    out_of_range: u64,
}

enum Values {
    Bool(BooleanBufferBuilder),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Oid(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    Decimal128 {
        units: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Decimal256 {
        units: Vec<i256>,
        precision: u8,
        scale: i8,
    },
    Numeric(Strings),
    Text(Strings),
    Jsonb(Strings),
    Interval(Strings),
    Bytea(Strings),
    Uuid(Vec<u8>),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp {
        micros: Vec<i64>,
        zoned: bool,
    },
}

/// Values of varying length, one after the other.
struct Strings {
    /// One more than values.
    ends: Vec<i32>,
    data: Vec<u8>,
}

/// Why a value was not taken.
enum Refusal {
    /// Its bytes are not those of the column's type.
    Malformed,
    OutOfRange,
    /// The column's values of one batch are more than an Arrow array holds.
    TooMuch,
}

impl ColumnDecoder {
    pub fn new(name: &str, nullable: bool, wire: Wire) -> Self {
        ColumnDecoder {
            name: name.to_owned(),
            nullable,
            values: Values::of(wire),
            nulls: NullBufferBuilder::new(0),
            out_of_range: 0,
        }
    }

    /// Takes one value, `None` being null; gives the bytes that it needs in the array.
    pub fn push(&mut self, value: Option<&[u8]>) -> Result<usize> {
        let Some(bytes) = value else {
            return Ok(self.push_null());
        };
        match self.values.push(bytes) {
            Ok(size) => {
                self.nulls.append_non_null();
                Ok(size)
            }
            Err(Refusal::OutOfRange) if self.nullable => {
                self.out_of_range += 1;
                Ok(self.push_null())
            }
            Err(refusal) => Err(self.error(refusal)),
        }
    }

    fn push_null(&mut self) -> usize {
        self.nulls.append_null();
        self.values.push_blank()
    }

    /// Keeps the place of a value that is not told; null where the column may be.
    pub fn push_absent(&mut self) -> usize {
        if self.nullable {
            return self.push_null();
        }
        self.nulls.append_non_null();
        self.values.push_blank()
    }

    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// The error for a value that is none of the column's type.
    pub fn malformed(&self) -> Error {
        self.error(Refusal::Malformed)
    }

    fn error(&self, refusal: Refusal) -> Error {
        let name = &self.name;
        match refusal {
            Refusal::Malformed => Error::data(format!(
                "column {name}: the server sent bytes that are no value of its type"
            )),
            Refusal::OutOfRange => Error::data(format!(
                "column {name} holds a time beyond the year 294,246, and may not be stored as null"
            ))
            .hint("correct the value at the source, or leave the field out"),
            Refusal::TooMuch => {
                Error::data(format!("column {name} holds a value of more than 2 GiB"))
                    .hint("leave the field out")
            }
        }
    }

    /// The values taken since the last call, as an array, with notes on what was done to
    /// some of them. Room is kept for as many again.
    pub fn finish(&mut self) -> Result<(ArrayRef, Vec<Note>)> {
        let nulls = self.nulls.finish();
        let (array, bad_texts) = self
            .values
            .finish(nulls)
            .map_err(|error| Error::bug(format!("column {}: {error}", self.name)))?;
        let counts = [
            (OUT_OF_RANGE, std::mem::take(&mut self.out_of_range)),
            (BAD_TEXT, bad_texts),
        ];
        let notes = counts.into_iter().filter(|(_, rows)| *rows > 0);
        let notes = notes.map(|(what, rows)| Note {
            column: self.name.clone(),
            what: what.to_owned(),
            rows,
        });
        Ok((array, notes.collect()))
    }
}

impl Values {
    fn of(wire: Wire) -> Values {
        match wire {
            Wire::Bool => Values::Bool(BooleanBufferBuilder::new(0)),
            Wire::Int2 => Values::Int2(Vec::new()),
            Wire::Int4 => Values::Int4(Vec::new()),
            Wire::Int8 => Values::Int8(Vec::new()),
            Wire::Oid => Values::Oid(Vec::new()),
            Wire::Float4 => Values::Float4(Vec::new()),
            Wire::Float8 => Values::Float8(Vec::new()),
            Wire::Decimal { precision, scale } if precision <= 38 => Values::Decimal128 {
                units: Vec::new(),
                precision,
                scale,
            },
            Wire::Decimal { precision, scale } => Values::Decimal256 {
                units: Vec::new(),
                precision,
                scale,
            },
            Wire::Numeric => Values::Numeric(Strings::default()),
            Wire::Text | Wire::Json => Values::Text(Strings::default()),
            Wire::Jsonb => Values::Jsonb(Strings::default()),
            Wire::Interval => Values::Interval(Strings::default()),
            Wire::Bytea => Values::Bytea(Strings::default()),
            Wire::Uuid => Values::Uuid(Vec::new()),
            Wire::Date => Values::Date(Vec::new()),
            Wire::Time => Values::Time(Vec::new()),
            Wire::Timestamp => Values::Timestamp {
                micros: Vec::new(),
                zoned: false,
            },
            Wire::TimestampTz => Values::Timestamp {
                micros: Vec::new(),
                zoned: true,
            },
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self {
            Values::Bool(bits) => {
                let [byte] = exactly(bytes)?;
                bits.append(byte != 0);
                return Ok(1);
            }
            Values::Int2(values) => values.push(i16::from_be_bytes(exactly(bytes)?)),
            Values::Int4(values) => values.push(i32::from_be_bytes(exactly(bytes)?)),
            Values::Int8(values) => values.push(i64::from_be_bytes(exactly(bytes)?)),
            Values::Oid(values) => values.push(u32::from_be_bytes(exactly(bytes)?).into()),
            Values::Float4(values) => values.push(f32::from_be_bytes(exactly(bytes)?)),
            Values::Float8(values) => values.push(f64::from_be_bytes(exactly(bytes)?)),
            Values::Decimal128 {
                units,
                precision,
                scale,
            } => {
                let numeric = Numeric::parse(bytes).ok_or(Refusal::Malformed)?;
                units.push(numeric.to_i128(*precision, *scale)?);
            }
            Values::Decimal256 {
                units,
                precision,
                scale,
            } => {
                let numeric = Numeric::parse(bytes).ok_or(Refusal::Malformed)?;
                units.push(numeric.to_i256(*precision, *scale)?);
            }
            Values::Numeric(strings) => {
                let numeric = Numeric::parse(bytes).ok_or(Refusal::Malformed)?;
                return strings.push_with(|data| numeric.write_text(data));
            }
            Values::Text(strings) | Values::Bytea(strings) => return strings.push(bytes),
            Values::Jsonb(strings) => {
                // The first byte is the version of the format.
                let (1, text) = bytes.split_first().ok_or(Refusal::Malformed)? else {
                    return Err(Refusal::Malformed);
                };
                return strings.push(text);
            }
            Values::Interval(strings) => {
                let (micros, rest) = bytes.split_first_chunk::<8>().ok_or(Refusal::Malformed)?;
                let (days, months) = rest.split_first_chunk::<4>().ok_or(Refusal::Malformed)?;
                let (micros, days) = (i64::from_be_bytes(*micros), i32::from_be_bytes(*days));
                let months = i32::from_be_bytes(exactly(months)?);
                return strings.push_with(|data| interval::write_text(months, days, micros, data));
            }
            Values::Uuid(data) => data.extend_from_slice(&exactly::<16>(bytes)?),
            Values::Date(days) => days.push(date(i32::from_be_bytes(exactly(bytes)?))?),
            Values::Time(micros) => micros.push(i64::from_be_bytes(exactly(bytes)?)),
            Values::Timestamp { micros, .. } => {
                micros.push(timestamp(i64::from_be_bytes(exactly(bytes)?))?)
            }
        }
        Ok(self.width())
    }

    /// Something in the place of a null.
    fn push_blank(&mut self) -> usize {
        match self {
            Values::Bool(bits) => bits.append(false),
            Values::Int2(values) => values.push(0),
            Values::Int4(values) | Values::Date(values) => values.push(0),
            Values::Int8(values) | Values::Oid(values) | Values::Time(values) => values.push(0),
            Values::Timestamp { micros, .. } => micros.push(0),
            Values::Float4(values) => values.push(0.0),
            Values::Float8(values) => values.push(0.0),
            Values::Decimal128 { units, .. } => units.push(0),
            Values::Decimal256 { units, .. } => units.push(i256::ZERO),
            Values::Uuid(data) => data.extend_from_slice(&[0; 16]),
            Values::Numeric(strings)
            | Values::Text(strings)
            | Values::Jsonb(strings)
            | Values::Interval(strings)
            | Values::Bytea(strings) => strings.push_blank(),
        }
        self.width()
    }

    /// Bytes of a value apart from what varies.
    fn width(&self) -> usize {
        match self {
            Values::Bool(_) => 1,
            Values::Int2(_) => 2,
            Values::Int4(_) | Values::Float4(_) | Values::Date(_) => 4,
            Values::Int8(_) | Values::Oid(_) | Values::Float8(_) => 8,
            Values::Time(_) | Values::Timestamp { .. } => 8,
            Values::Decimal128 { .. } | Values::Uuid(_) => 16,
            Values::Decimal256 { .. } => 32,
            Values::Numeric(_)
            | Values::Text(_)
            | Values::Jsonb(_)
            | Values::Interval(_)
            | Values::Bytea(_) => size_of::<i32>(),
        }
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<(ArrayRef, u64), ArrowError> {
        let array: ArrayRef = match self {
            Values::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Int2(values) => primitive::<Int16Type>(values, nulls)?,
            Values::Int4(values) => primitive::<Int32Type>(values, nulls)?,
            Values::Int8(values) | Values::Oid(values) => primitive::<Int64Type>(values, nulls)?,
            Values::Float4(values) => primitive::<Float32Type>(values, nulls)?,
            Values::Float8(values) => primitive::<Float64Type>(values, nulls)?,
            Values::Decimal128 {
                units,
                precision,
                scale,
            } => Arc::new(
                Decimal128Array::try_new(emptied(units).into(), nulls)?
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            Values::Decimal256 {
                units,
                precision,
                scale,
            } => Arc::new(
                Decimal256Array::try_new(emptied(units).into(), nulls)?
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            Values::Numeric(strings)
            | Values::Text(strings)
            | Values::Jsonb(strings)
            | Values::Interval(strings) => return strings.finish_text(nulls),
            Values::Bytea(strings) => {
                let (offsets, data) = strings.take();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Uuid(data) => Arc::new(FixedSizeBinaryArray::try_new(
                16,
                Buffer::from_vec(emptied(data)),
                nulls,
            )?),
            Values::Date(days) => primitive::<Date32Type>(days, nulls)?,
            Values::Time(micros) => primitive::<Time64MicrosecondType>(micros, nulls)?,
            Values::Timestamp { micros, zoned } => {
                let values = ScalarBuffer::from(emptied(micros));
                let array = PrimitiveArray::<TimestampMicrosecondType>::try_new(values, nulls)?;
                Arc::new(array.with_timezone_opt(zoned.then_some("UTC")))
            }
        };
        Ok((array, 0))
    }
}

impl Default for Strings {
    fn default() -> Self {
        Strings {
            ends: vec![0],
            data: Vec::new(),
        }
    }
}

impl Strings {
    fn push(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let end = self.data.len().checked_add(bytes.len());
        let end = end
            .and_then(|end| i32::try_from(end).ok())
            .ok_or(Refusal::TooMuch)?;
        self.data.extend_from_slice(bytes);
        self.ends.push(end);
        Ok(bytes.len() + size_of::<i32>())
    }

    fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> usize) -> Result<usize, Refusal> {
        let written = write(&mut self.data);
        let end = i32::try_from(self.data.len()).map_err(|_| Refusal::TooMuch)?;
        self.ends.push(end);
        Ok(written + size_of::<i32>())
    }

    fn push_blank(&mut self) {
        let end = self.ends.last().copied().unwrap_or_default();
        self.ends.push(end);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let ends = emptied(&mut self.ends);
        self.ends.push(0);
        let data = emptied(&mut self.data);
        (OffsetBuffer::new(ends.into()), Buffer::from_vec(data))
    }

    /// Text, and how many values had to be repaired. All values are checked at once,
    /// which is faster than one by one.
    fn finish_text(&mut self, nulls: Option<NullBuffer>) -> Result<(ArrayRef, u64), ArrowError> {
        let (offsets, data) = self.take();
        if let Ok(array) = StringArray::try_new(offsets.clone(), data.clone(), nulls.clone()) {
            return Ok((Arc::new(array), 0));
        }
        // A database in SQL_ASCII holds whatever it was given.
        let mut repaired = 0;
        let raw = BinaryArray::try_new(offsets, data, nulls)?;
        let texts = raw.iter().map(|value| {
            let text = String::from_utf8_lossy(value?);
            repaired += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
            Some(text)
        });
        let array: StringArray = texts.collect();
        Ok((Arc::new(array), repaired))
    }
}

impl From<Misfit> for Refusal {
    /// The server keeps to the column's precision.
    fn from(_: Misfit) -> Self {
        Refusal::Malformed
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| Refusal::Malformed)
}

fn date(days: i32) -> Result<i32, Refusal> {
    match days {
        i32::MAX => Ok(DATE_INFINITY),
        i32::MIN => Ok(DATE_MINUS_INFINITY),
        days => days.checked_add(EPOCH_DAYS).ok_or(Refusal::OutOfRange),
    }
}

fn timestamp(micros: i64) -> Result<i64, Refusal> {
    match micros {
        i64::MAX => Ok(TIMESTAMP_INFINITY),
        i64::MIN => Ok(TIMESTAMP_MINUS_INFINITY),
        micros => micros.checked_add(EPOCH_MICROS).ok_or(Refusal::OutOfRange),
    }
}

/// What a vector holds; room for as much again stays behind.
fn emptied<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len() + values.len() / 16;
    std::mem::replace(values, Vec::with_capacity(room))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let values = ScalarBuffer::from(emptied(values));
    Ok(Arc::new(PrimitiveArray::<T>::try_new(values, nulls)?))
}
