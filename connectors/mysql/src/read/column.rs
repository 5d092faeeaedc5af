//! One column of a result on its way into an Arrow array.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, PrimitiveArray, StringArray,
    types::{
        Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
        Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
    },
};
use arrow_buffer::{
    BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::ArrowError;
use tideway_core::{Error, LogicalType, Note, Result};

use super::decimal;
use crate::{calendar, types::Shape};

/// A value as it is sent.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'a> {
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Moment {
        date: (u16, u8, u8),
        time: (u8, u8, u8),
        micros: u32,
    },
    Span {
        negative: bool,
        seconds: u64,
        micros: u32,
    },
    Bytes(&'a [u8]),
}

/// Policies for what the Arrow type cannot hold, in the words of their notes.
const ZERO_DATE: &str = "zero date stored as null";
const PARTIAL_DATE: &str = "date without month or day, or that no calendar has, stored as null";
const NOT_BOOLEAN: &str = "number other than 0 and 1 read as true";
const BAD_TEXT: &str = "bytes that are not UTF-8 replaced by �";

const DAY_MICROS: i64 = 86_400_000_000;

/// Decodes the values of one column, in order.
pub struct ColumnDecoder {
    name: String,
    nullable: bool,
    values: Values,
    nulls: NullBufferBuilder,
    zero_dates: u64,
    partial_dates: u64,
    not_boolean: u64,
}

enum Values {
    Bool(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
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
    Text(Strings),
    Span(Strings),
    Binary(Strings),
    Geometry(Strings),
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
    /// It is not of the column's type.
    Malformed,
    ZeroDate,
    PartialDate,
    /// The column's values of one batch are more than an Arrow array holds.
    TooMuch,
}

/// The bytes that a value needs, and whether it was a truth of another kind.
type Taken = Result<(usize, bool), Refusal>;

impl ColumnDecoder {
    pub fn new(name: &str, nullable: bool, logical: LogicalType, shape: Shape) -> Self {
        ColumnDecoder {
            name: name.to_owned(),
            nullable,
            values: Values::of(logical, shape),
            nulls: NullBufferBuilder::new(0),
            zero_dates: 0,
            partial_dates: 0,
            not_boolean: 0,
        }
    }

    /// Takes one value, `None` being null; gives the bytes that it needs in the array.
    pub fn push(&mut self, value: Option<Raw<'_>>) -> Result<usize> {
        let Some(raw) = value else {
            return Ok(self.push_null());
        };
        match self.values.push(raw) {
            Ok((size, odd)) => {
                self.not_boolean += u64::from(odd);
                self.nulls.append_non_null();
                Ok(size)
            }
            Err(Refusal::ZeroDate) if self.nullable => {
                self.zero_dates += 1;
                Ok(self.push_null())
            }
            Err(Refusal::PartialDate) if self.nullable => {
                self.partial_dates += 1;
                Ok(self.push_null())
            }
            Err(refusal) => Err(self.error(refusal)),
        }
    }

    fn push_null(&mut self) -> usize {
        self.nulls.append_null();
        self.values.push_blank()
    }

    /// Takes the place of a value that is not told and that nobody looks at.
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

    fn error(&self, refusal: Refusal) -> Error {
        let name = &self.name;
        match refusal {
            // The column was altered after it was planned.
            Refusal::Malformed => Error::drift(format!(
                "column {name}: the server sent a value that is none of its type"
            )),
            Refusal::ZeroDate | Refusal::PartialDate => Error::data(format!(
                "column {name} holds a date without month or day, and may not be stored as null"
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
            (ZERO_DATE, std::mem::take(&mut self.zero_dates)),
            (PARTIAL_DATE, std::mem::take(&mut self.partial_dates)),
            (NOT_BOOLEAN, std::mem::take(&mut self.not_boolean)),
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
    fn of(logical: LogicalType, shape: Shape) -> Values {
        match shape {
            Shape::Bool | Shape::BitBool => Values::Bool(BooleanBufferBuilder::new(0)),
            Shape::Int16 => Values::Int16(Vec::new()),
            Shape::Int32 => Values::Int32(Vec::new()),
            Shape::Int64 | Shape::BitInt => Values::Int64(Vec::new()),
            Shape::UInt64 | Shape::BitUInt => Values::UInt64(Vec::new()),
            Shape::Float32 => Values::Float32(Vec::new()),
            Shape::Float64 => Values::Float64(Vec::new()),
            Shape::Decimal { precision, scale } if precision <= 38 => Values::Decimal128 {
                units: Vec::new(),
                precision,
                scale,
            },
            Shape::Decimal { precision, scale } => Values::Decimal256 {
                units: Vec::new(),
                precision,
                scale,
            },
            Shape::Text => Values::Text(Strings::default()),
            Shape::Span => Values::Span(Strings::default()),
            Shape::Binary => Values::Binary(Strings::default()),
            Shape::Geometry => Values::Geometry(Strings::default()),
            Shape::Uuid => Values::Uuid(Vec::new()),
            Shape::Date => Values::Date(Vec::new()),
            Shape::Time => Values::Time(Vec::new()),
            Shape::Timestamp => Values::Timestamp {
                micros: Vec::new(),
                zoned: logical == LogicalType::TimestampTz,
            },
        }
    }

    fn push(&mut self, raw: Raw<'_>) -> Taken {
        match (&mut *self, raw) {
            (Values::Bool(bits), raw) => {
                let number = match raw {
                    Raw::Bytes(bytes) => bit_number(bytes)?,
                    raw => int(raw).map(i64::unsigned_abs)?,
                };
                bits.append(number != 0);
                return Ok((1, number > 1));
            }
            (Values::Int16(values), raw) => values.push(fitting(int(raw)?)?),
            (Values::Int32(values), raw) => values.push(fitting(int(raw)?)?),
            (Values::Int64(values), Raw::Bytes(bytes)) => values.push(fitting(bit_number(bytes)?)?),
            (Values::Int64(values), raw) => values.push(int(raw)?),
            (Values::UInt64(values), Raw::UInt(value)) => values.push(value),
            (Values::UInt64(values), Raw::Bytes(bytes)) => values.push(bit_number(bytes)?),
            (Values::Float32(values), Raw::Float(value)) => values.push(value),
            (Values::Float64(values), Raw::Double(value)) => values.push(value),
            (Values::Decimal128 { units, scale, .. }, Raw::Bytes(text)) => {
                units.push(decimal::units_128(text, *scale).ok_or(Refusal::Malformed)?);
            }
            (Values::Decimal256 { units, scale, .. }, Raw::Bytes(text)) => {
                units.push(decimal::units_256(text, *scale).ok_or(Refusal::Malformed)?);
            }
            (Values::Text(strings) | Values::Binary(strings), Raw::Bytes(bytes)) => {
                return strings.push(bytes);
            }
            (Values::Geometry(strings), Raw::Bytes(bytes)) => {
                // The reference system's number stands before the geometry itself.
                return strings.push(bytes.get(4..).ok_or(Refusal::Malformed)?);
            }
            (
                Values::Span(strings),
                Raw::Span {
                    negative,
                    seconds,
                    micros,
                },
            ) => return strings.push(span_text(negative, seconds, micros).as_bytes()),
            (Values::Uuid(data), Raw::Bytes(text)) => {
                let uuid = uuid::Uuid::try_parse_ascii(text).map_err(|_| Refusal::Malformed)?;
                data.extend_from_slice(uuid.as_bytes());
            }
            (Values::Date(values), Raw::Moment { date, .. }) => values.push(days(date)?),
            (Values::Timestamp { micros: values, .. }, Raw::Moment { date, time, micros }) => {
                let (hour, minute, second) = time;
                let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
                let of_day = seconds * 1_000_000 + i64::from(micros);
                values.push(i64::from(days(date)?) * DAY_MICROS + of_day);
            }
            (
                Values::Time(values),
                Raw::Span {
                    negative: false,
                    seconds,
                    micros,
                },
            ) if seconds <= 86_400 => values.push(seconds as i64 * 1_000_000 + i64::from(micros)),
            _ => return Err(Refusal::Malformed),
        }
        Ok((self.width(), false))
    }

    /// Something in the place of a null.
    fn push_blank(&mut self) -> usize {
        match self {
            Values::Bool(bits) => bits.append(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Time(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Timestamp { micros, .. } => micros.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal128 { units, .. } => units.push(0),
            Values::Decimal256 { units, .. } => units.push(i256::ZERO),
            Values::Uuid(data) => data.extend_from_slice(&[0; 16]),
            Values::Text(strings)
            | Values::Span(strings)
            | Values::Binary(strings)
            | Values::Geometry(strings) => strings.push_blank(),
        }
        self.width()
    }

    /// Bytes of a value apart from what varies.
    fn width(&self) -> usize {
        match self {
            Values::Bool(_) => 1,
            Values::Int16(_) => 2,
            Values::Int32(_) | Values::Float32(_) | Values::Date(_) => 4,
            Values::Int64(_) | Values::UInt64(_) | Values::Float64(_) => 8,
            Values::Time(_) | Values::Timestamp { .. } => 8,
            Values::Decimal128 { .. } | Values::Uuid(_) => 16,
            Values::Decimal256 { .. } => 32,
            Values::Text(_) | Values::Span(_) | Values::Binary(_) | Values::Geometry(_) => {
                size_of::<i32>()
            }
        }
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<(ArrayRef, u64), ArrowError> {
        let array: ArrayRef = match self {
            Values::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls)?,
            Values::Int32(values) => primitive::<Int32Type>(values, nulls)?,
            Values::Int64(values) => primitive::<Int64Type>(values, nulls)?,
            Values::UInt64(values) => primitive::<UInt64Type>(values, nulls)?,
            Values::Float32(values) => primitive::<Float32Type>(values, nulls)?,
            Values::Float64(values) => primitive::<Float64Type>(values, nulls)?,
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
            Values::Text(strings) | Values::Span(strings) => return strings.finish_text(nulls),
            Values::Binary(strings) | Values::Geometry(strings) => {
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
    fn push(&mut self, bytes: &[u8]) -> Taken {
        let end = self.data.len().checked_add(bytes.len());
        let end = end
            .and_then(|end| i32::try_from(end).ok())
            .ok_or(Refusal::TooMuch)?;
        self.data.extend_from_slice(bytes);
        self.ends.push(end);
        Ok((bytes.len() + size_of::<i32>(), false))
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

fn int(raw: Raw<'_>) -> Result<i64, Refusal> {
    match raw {
        Raw::Int(value) => Ok(value),
        Raw::UInt(value) => fitting(value),
        _ => Err(Refusal::Malformed),
    }
}

fn fitting<A, B: TryFrom<A>>(value: A) -> Result<B, Refusal> {
    B::try_from(value).map_err(|_| Refusal::Malformed)
}

/// Bits, the most significant byte first.
fn bit_number(bytes: &[u8]) -> Result<u64, Refusal> {
    if bytes.len() > 8 {
        return Err(Refusal::Malformed);
    }
    Ok(bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn days(date: (u16, u8, u8)) -> Result<i32, Refusal> {
    let (year, month, day) = date;
    if date == (0, 0, 0) {
        return Err(Refusal::ZeroDate);
    }
    calendar::days(year, month, day).ok_or(Refusal::PartialDate)
}

/// As the server writes it: `-838:59:59.000001`.
fn span_text(negative: bool, seconds: u64, micros: u32) -> String {
    let sign = if negative { "-" } else { "" };
    let (hours, minutes, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros == 0 {
        format!("{sign}{hours:02}:{minutes:02}:{second:02}")
    } else {
        format!("{sign}{hours:02}:{minutes:02}:{second:02}.{micros:06}")
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
