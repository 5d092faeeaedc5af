//! Arrow to the binary form of `COPY … FROM STDIN`: each column's encoder is chosen once
//! per batch, then rows are written one after the other into one growing buffer.

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use arrow_buffer::NullBuffer;
use bytes::{BufMut, BytesMut};
use tideway_core::{
    Column, Error, LogicalType, Note, Result,
    operations::Operations,
    types::{
        DATE_INFINITY, DATE_MINUS_INFINITY, DECIMAL_NAN, TIMESTAMP_INFINITY,
        TIMESTAMP_MINUS_INFINITY, WIDE_DECIMAL_NAN,
    },
};

use super::{
    interval::{self, Interval, Parsed},
    numeric::{self, Scale},
    operations, text,
};

/// What stands before the first row: the signature, no flags, no extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands behind the last row.
pub const TRAILER: &[u8] = &[0xff, 0xff];

const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
const DAY_MICROS: i64 = 86_400_000_000;
/// 4714-11-24 BC to the end of the year 5874897, in days since 2000-01-01.
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;
/// 4714-11-24 BC to the end of the year 294276, in microseconds since 2000-01-01.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// The text is not what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Whether a value was put as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Whole,
    /// NUL characters are missing.
    Stripped,
    /// Half surrogate pairs became U+FFFD.
    Replaced,
    StrippedAndReplaced,
    /// Digits behind the microsecond are missing.
    Rounded,
    /// Nothing was put: the type has no room for it.
    Beyond,
}

/// Encodes the rows of one list of columns.
#[derive(Debug, Clone)]
pub struct Encoder {
    columns: Vec<Column>,
}

impl Encoder {
    pub fn new(columns: &[Column]) -> Encoder {
        Encoder {
            columns: columns.to_vec(),
        }
    }

    /// The rows of a batch, ready to be encoded. Its schema must be the Arrow schema of
    /// the encoder's columns.
    pub fn rows<'a>(&'a self, batch: &'a RecordBatch) -> Result<Rows<'a>> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::bug(format!(
                "a batch of {} columns for a table of {}",
                batch.num_columns(),
                self.columns.len()
            )));
        }
        let columns = self
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| Cells::new(column, array))
            .collect::<Result<_>>()?;
        Ok(Rows {
            columns,
            operations: None,
            left_out: Vec::new(),
            order: None,
            next: 0,
            count: batch.num_rows(),
        })
    }
}

/// Rows of a batch, of which the first `next` have been encoded.
pub struct Rows<'a> {
    columns: Vec<Cells<'a>>,
    operations: Option<Operations<'a>>,
    /// Numbers of rows that are not encoded, in order.
    left_out: Vec<usize>,
    /// Numbers of the rows as they are to be put, if not as they are.
    order: Option<UInt32Array>,
    next: usize,
    count: usize,
}

impl<'a> Rows<'a> {
    /// Leaves these rows out, whose numbers are in order.
    pub fn without(self, left_out: Vec<usize>) -> Self {
        Rows { left_out, ..self }
    }

    /// Puts each row's operation around its values, and the rows in this order.
    pub fn with(self, operations: Operations<'a>, order: Option<UInt32Array>) -> Self {
        let operations = Some(operations);
        Rows {
            operations,
            order,
            ..self
        }
    }
}

impl Rows<'_> {
    /// Puts rows until `out` holds `enough` bytes or none is left, and says whether some
    /// are left. A single row may be larger than that.
    pub fn encode(&mut self, out: &mut BytesMut, enough: usize) -> Result<bool> {
        let around = if self.operations.is_some() { 2 } else { 0 };
        let width = (self.columns.len() as i16 + around).to_be_bytes();
        while self.next < self.count && out.len() < enough {
            let row = match &self.order {
                None => self.next,
                Some(order) => order.value(self.next) as usize,
            };
            self.next += 1;
            if self.left_out.binary_search(&row).is_ok() {
                continue;
            }
            out.put_slice(&width);
            match &self.operations {
                None => put_row(&mut self.columns, row, out)?,
                Some(operations) => put_change(&mut self.columns, operations, row, out)?,
            }
        }
        Ok(self.next < self.count)
    }

    /// What had to be done to values so far.
    pub fn notes(&self) -> Vec<Note> {
        self.columns.iter().flat_map(Cells::notes).collect()
    }
}

#[inline]
fn put_row(columns: &mut [Cells<'_>], row: usize, out: &mut BytesMut) -> Result<()> {
    columns.iter_mut().try_for_each(|cells| cells.put(row, out))
}

fn put_change(
    columns: &mut [Cells<'_>],
    changes: &Operations<'_>,
    row: usize,
    out: &mut BytesMut,
) -> Result<()> {
    operations::put_code(changes, row, out);
    for (at, cells) in columns.iter_mut().enumerate() {
        match changes.lacks(row, at) {
            true => out.put_slice(&NULL),
            false => cells.put(row, out)?,
        }
    }
    operations::put_kept(changes, columns.len(), row, out);
    Ok(())
}

/// The cells of one column in one batch.
struct Cells<'a> {
    column: &'a Column,
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
    stripped: u64,
    replaced: u64,
    rounded: u64,
    nulled: u64,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt64(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(&'a [i128], Scale),
    /// Too long for 128 bits, or scaled to the left of the point.
    WideDecimal(&'a ArrayRef, i8),
    Numeric(&'a StringArray),
    /// Text known to be free of NUL.
    Text(&'a StringArray),
    TextWithNul(&'a StringArray),
    Json(&'a StringArray),
    Uuid(&'a FixedSizeBinaryArray),
    Binary(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64]),
    Interval(&'a StringArray),
}

impl<'a> Values<'a> {
    fn new(column: &Column, array: &'a ArrayRef) -> Option<Values<'a>> {
        fn of<T: 'static>(array: &ArrayRef) -> Option<&T> {
            array.as_any().downcast_ref::<T>()
        }
        Some(match column.logical {
            LogicalType::Boolean => Values::Boolean(of::<BooleanArray>(array)?),
            LogicalType::Int16 => Values::Int16(of::<Int16Array>(array)?.values()),
            LogicalType::Int32 => Values::Int32(of::<Int32Array>(array)?.values()),
            LogicalType::Int64 => Values::Int64(of::<Int64Array>(array)?.values()),
            LogicalType::UInt64 => Values::UInt64(of::<UInt64Array>(array)?.values()),
            LogicalType::Float32 => Values::Float32(of::<Float32Array>(array)?.values()),
            LogicalType::Float64 => Values::Float64(of::<Float64Array>(array)?.values()),
            LogicalType::Decimal {
                precision: ..=38,
                scale: scale @ 0..=38,
            } => Values::Decimal(
                of::<Decimal128Array>(array)?.values(),
                Scale::new(scale.unsigned_abs()),
            ),
            LogicalType::Decimal { scale, .. } => Values::WideDecimal(array, scale),
            LogicalType::Numeric => Values::Numeric(of(array)?),
            LogicalType::Text => text_values(of(array)?),
            LogicalType::Json => Values::Json(of(array)?),
            LogicalType::Uuid => Values::Uuid(of(array)?),
            LogicalType::Binary => Values::Binary(of(array)?),
            LogicalType::Date => Values::Date(of::<Date32Array>(array)?.values()),
            LogicalType::Time => Values::Time(of::<Time64MicrosecondArray>(array)?.values()),
            LogicalType::Timestamp | LogicalType::TimestampTz => {
                Values::Timestamp(of::<TimestampMicrosecondArray>(array)?.values())
            }
            LogicalType::Interval => Values::Interval(of(array)?),
        })
    }
}

/// Looks for NUL in the text of all rows at once, which is much faster than row by row.
fn text_values(array: &StringArray) -> Values<'_> {
    let offsets = array.value_offsets();
    let whole = match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => array.value_data().get(*first as usize..*last as usize),
        _ => None,
    };
    match whole {
        Some(bytes) if !bytes.contains(&0) => Values::Text(array),
        _ => Values::TextWithNul(array),
    }
}

impl<'a> Cells<'a> {
    fn new(column: &'a Column, array: &'a ArrayRef) -> Result<Cells<'a>> {
        let fits = *array.data_type() == column.logical.arrow();
        let values = Values::new(column, array).filter(|_| fits).ok_or_else(|| {
            Error::bug(format!(
                "column {}: {} arrived for {:?}",
                column.name,
                array.data_type(),
                column.logical
            ))
        })?;
        Ok(Cells {
            column,
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
            values,
            stripped: 0,
            replaced: 0,
            rounded: 0,
            nulled: 0,
        })
    }

    /// Puts the length and the value of one cell.
    #[inline]
    fn put(&mut self, row: usize, out: &mut BytesMut) -> Result<()> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            out.put_slice(&NULL);
            return Ok(());
        }
        match self.values.put(row, out) {
            Ok(Fit::Whole) => Ok(()),
            Ok(fit) => {
                self.count(fit, out);
                Ok(())
            }
            Err(Malformed) => Err(self.malformed()),
        }
    }

    #[cold]
    fn count(&mut self, fit: Fit, out: &mut BytesMut) {
        match fit {
            Fit::Whole => {}
            Fit::Stripped => self.stripped += 1,
            Fit::Replaced => self.replaced += 1,
            Fit::StrippedAndReplaced => {
                self.stripped += 1;
                self.replaced += 1;
            }
            Fit::Rounded => self.rounded += 1,
            Fit::Beyond => {
                self.nulled += 1;
                out.put_slice(&NULL);
            }
        }
    }

    #[cold]
    fn malformed(&self) -> Error {
        let what = match self.column.logical {
            LogicalType::Numeric => "is not a number",
            LogicalType::Interval => "is not an ISO 8601 duration",
            _ => "is larger than a field can be",
        };
        Error::data(format!("column {}: a value {what}", self.column.name))
    }

    fn notes(&self) -> impl Iterator<Item = Note> {
        let beyond = match self.column.logical {
            LogicalType::Date | LogicalType::Timestamp | LogicalType::TimestampTz => {
                "a date outside of PostgreSQL's range is stored as null"
            }
            LogicalType::Time => "a time after 24:00 is stored as null",
            LogicalType::Interval => "an interval outside of PostgreSQL's range is stored as null",
            _ => "a number outside of PostgreSQL's range is stored as null",
        };
        [
            (self.stripped, "NUL characters are removed"),
            (self.replaced, "half surrogate pairs are replaced by U+FFFD"),
            (self.rounded, "fractions of a microsecond are rounded"),
            (self.nulled, beyond),
        ]
        .into_iter()
        .filter(|(rows, _)| *rows > 0)
        .map(|(rows, what)| Note {
            column: self.column.name.clone(),
            what: what.to_owned(),
            rows,
        })
    }
}

impl Values<'_> {
    /// Puts a cell that is not null.
    #[inline]
    fn put(&self, row: usize, out: &mut BytesMut) -> Result<Fit, Malformed> {
        match self {
            Values::Boolean(array) => put_fixed(out, [u8::from(array.value(row))]),
            Values::Int16(values) => put_fixed(out, values[row].to_be_bytes()),
            Values::Int32(values) => put_fixed(out, values[row].to_be_bytes()),
            Values::Int64(values) => put_fixed(out, values[row].to_be_bytes()),
            Values::Float32(values) => put_fixed(out, values[row].to_be_bytes()),
            Values::Float64(values) => put_fixed(out, values[row].to_be_bytes()),
            Values::UInt64(values) => {
                numeric::put_scaled(out, false, u128::from(values[row]), Scale::NONE);
            }
            Values::Decimal(values, scale) => match values[row] {
                DECIMAL_NAN => numeric::put_nan(out),
                value => numeric::put_scaled(out, value < 0, value.unsigned_abs(), *scale),
            },
            Values::WideDecimal(array, scale) => return put_wide(out, array, row, *scale),
            Values::Numeric(array) => return numeric::put_text(out, array.value(row)),
            Values::Text(array) => return put_bytes(out, array.value(row).as_bytes()),
            Values::TextWithNul(array) => {
                return match text::without_nul(array.value(row)) {
                    None => put_bytes(out, array.value(row).as_bytes()),
                    Some(rest) => put_bytes(out, rest.as_bytes()).map(|_| Fit::Stripped),
                };
            }
            Values::Json(array) => return put_json(out, array.value(row)),
            Values::Uuid(array) => return put_bytes(out, array.value(row)),
            Values::Binary(array) => return put_bytes(out, array.value(row)),
            Values::Date(values) => return Ok(put_date(out, values[row])),
            Values::Time(values) => match values[row] {
                micros @ 0..=DAY_MICROS => put_fixed(out, micros.to_be_bytes()),
                _ => return Ok(Fit::Beyond),
            },
            Values::Timestamp(values) => return Ok(put_timestamp(out, values[row])),
            Values::Interval(array) => return put_interval(out, array.value(row)),
        }
        Ok(Fit::Whole)
    }
}

#[inline]
fn put_fixed<const N: usize>(out: &mut BytesMut, value: [u8; N]) {
    out.put_slice(&(N as u32).to_be_bytes());
    out.put_slice(&value);
}

#[inline]
fn put_bytes(out: &mut BytesMut, value: &[u8]) -> Result<Fit, Malformed> {
    let length = i32::try_from(value.len()).map_err(|_| Malformed)?;
    out.put_slice(&length.to_be_bytes());
    out.put_slice(value);
    Ok(Fit::Whole)
}

fn put_json(out: &mut BytesMut, document: &str) -> Result<Fit, Malformed> {
    let made = text::storable_json(document);
    let document = made.as_ref().map_or(document, |made| made.text.as_str());
    let length = i32::try_from(document.len() + 1).map_err(|_| Malformed)?;
    out.put_slice(&length.to_be_bytes());
    out.put_u8(1); // version of jsonb's binary form
    out.put_slice(document.as_bytes());
    Ok(match made {
        None => Fit::Whole,
        Some(made) if made.stripped && made.replaced => Fit::StrippedAndReplaced,
        Some(made) if made.replaced => Fit::Replaced,
        Some(_) => Fit::Stripped,
    })
}

fn put_wide(out: &mut BytesMut, array: &ArrayRef, row: usize, scale: i8) -> Result<Fit, Malformed> {
    let digits = match array.as_any().downcast_ref::<Decimal256Array>() {
        Some(wide) => Some(wide.value(row))
            .filter(|value| *value != WIDE_DECIMAL_NAN)
            .map(|value| value.to_string()),
        None => match array.as_any().downcast_ref::<Decimal128Array>() {
            Some(narrow) => Some(narrow.value(row))
                .filter(|value| *value != DECIMAL_NAN)
                .map(|value| value.to_string()),
            None => return Err(Malformed),
        },
    };
    let Some(digits) = digits else {
        numeric::put_nan(out);
        return Ok(Fit::Whole);
    };
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.as_str()),
    };
    let exponent = -i64::from(scale);
    Ok(numeric::put_digits(out, negative, digits, "", exponent))
}

#[inline]
fn put_date(out: &mut BytesMut, days: i32) -> Fit {
    let there = match days {
        DATE_INFINITY | DATE_MINUS_INFINITY => Some(days),
        _ => days.checked_sub(EPOCH_DAYS).filter(|d| DATES.contains(d)),
    };
    let Some(there) = there else {
        return Fit::Beyond;
    };
    put_fixed(out, there.to_be_bytes());
    Fit::Whole
}

#[inline]
fn put_timestamp(out: &mut BytesMut, micros: i64) -> Fit {
    let there = match micros {
        TIMESTAMP_INFINITY | TIMESTAMP_MINUS_INFINITY => Some(micros),
        _ => micros
            .checked_sub(EPOCH_MICROS)
            .filter(|m| TIMESTAMPS.contains(m)),
    };
    let Some(there) = there else {
        return Fit::Beyond;
    };
    put_fixed(out, there.to_be_bytes());
    Fit::Whole
}

fn put_interval(out: &mut BytesMut, text: &str) -> Result<Fit, Malformed> {
    let (interval, fit) = match interval::parse(text)? {
        Parsed::Exact(interval) => (interval, Fit::Whole),
        Parsed::Rounded(interval) => (interval, Fit::Rounded),
        Parsed::Beyond => return Ok(Fit::Beyond),
    };
    let Interval {
        months,
        days,
        micros,
    } = interval;
    out.put_u32(16);
    out.put_i64(micros);
    out.put_i32(days);
    out.put_i32(months);
    Ok(fit)
}

#[cfg(test)]
mod tests;
