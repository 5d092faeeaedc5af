//! Builds one column from text forms ([`super::print`]), refusing what would not come
//! back as the same text.

use std::sync::Arc;

use arrow_array::{
    ArrayRef,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
        FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder,
        Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
        UInt64Builder,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tideway_core::LogicalType;

use super::{
    moment::{Stamp, parse_date, parse_stamp, parse_time},
    number,
    print::parse_uuid,
};

/// A column under construction.
pub enum Cells {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder),
    Numeric(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
}

macro_rules! each {
    ($cells:expr, $builder:ident => $body:expr) => {
        match $cells {
            Cells::Boolean($builder) => $body,
            Cells::Int16($builder) => $body,
            Cells::Int32($builder) => $body,
            Cells::Int64($builder) => $body,
            Cells::UInt64($builder) => $body,
            Cells::Float32($builder) => $body,
            Cells::Float64($builder) => $body,
            Cells::Decimal128($builder, _, _) => $body,
            Cells::Decimal256($builder, _, _) => $body,
            Cells::Text($builder) | Cells::Numeric($builder) => $body,
            Cells::Uuid($builder) => $body,
            Cells::Binary($builder) => $body,
            Cells::Date($builder) => $body,
            Cells::Time($builder) => $body,
            Cells::Timestamp($builder) | Cells::TimestampTz($builder) => $body,
        }
    };
}

impl Cells {
    pub fn new(logical: LogicalType) -> Self {
        use LogicalType as L;
        let arrow = logical.arrow();
        match logical {
            L::Boolean => Cells::Boolean(BooleanBuilder::new()),
            L::Int16 => Cells::Int16(Int16Builder::new()),
            L::Int32 => Cells::Int32(Int32Builder::new()),
            L::Int64 => Cells::Int64(Int64Builder::new()),
            L::UInt64 => Cells::UInt64(UInt64Builder::new()),
            L::Float32 => Cells::Float32(Float32Builder::new()),
            L::Float64 => Cells::Float64(Float64Builder::new()),
            L::Decimal { precision, scale } if precision <= 38 => {
                let builder = Decimal128Builder::new().with_data_type(arrow);
                Cells::Decimal128(builder, precision, scale)
            }
            L::Decimal { precision, scale } => {
                let builder = Decimal256Builder::new().with_data_type(arrow);
                Cells::Decimal256(builder, precision, scale)
            }
            L::Text | L::Json | L::Interval => Cells::Text(StringBuilder::new()),
            L::Numeric => Cells::Numeric(StringBuilder::new()),
            L::Uuid => Cells::Uuid(FixedSizeBinaryBuilder::new(16)),
            L::Binary => Cells::Binary(BinaryBuilder::new()),
            L::Date => Cells::Date(Date32Builder::new()),
            L::Time => Cells::Time(Time64MicrosecondBuilder::new()),
            L::Timestamp => {
                Cells::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(arrow))
            }
            L::TimestampTz => {
                Cells::TimestampTz(TimestampMicrosecondBuilder::new().with_data_type(arrow))
            }
        }
    }

    pub fn push_null(&mut self) {
        each!(self, builder => builder.append_null());
    }

    /// Whether the empty text is a value of this column rather than no value.
    pub fn holds_empty_text(&self) -> bool {
        matches!(self, Cells::Text(_) | Cells::Binary(_))
    }

    /// Appends a value; `false`, and nothing appended, if this type cannot hold it.
    #[must_use]
    pub fn push(&mut self, text: &str) -> bool {
        fn put<T>(value: Option<T>, append: impl FnOnce(T)) -> bool {
            value.map(append).is_some()
        }
        match self {
            Cells::Boolean(b) => put(parse_boolean(text), |v| b.append_value(v)),
            Cells::Int16(b) => put(number::integer(text), |v| b.append_value(v)),
            Cells::Int32(b) => put(number::integer(text), |v| b.append_value(v)),
            Cells::Int64(b) => put(number::integer(text), |v| b.append_value(v)),
            Cells::UInt64(b) => put(number::integer(text), |v| b.append_value(v)),
            Cells::Float32(b) => put(number::float32(text), |v| b.append_value(v)),
            Cells::Float64(b) => put(number::float64(text), |v| b.append_value(v)),
            Cells::Decimal128(b, precision, scale) => {
                let value = number::decimal(text, *precision, *scale);
                put(value.and_then(|v| v.to_i128()), |v| b.append_value(v))
            }
            Cells::Decimal256(b, precision, scale) => {
                put(number::decimal(text, *precision, *scale), |v| {
                    b.append_value(v)
                })
            }
            Cells::Text(b) => {
                b.append_value(text);
                true
            }
            Cells::Numeric(b) => {
                let is_number = number::form(text).is_some() || number::special(text).is_some();
                put(is_number.then_some(text), |v| b.append_value(v))
            }
            Cells::Uuid(b) => put(parse_uuid(text), |v| {
                // The width is right by type.
                let _ = b.append_value(v);
            }),
            Cells::Binary(b) => put(STANDARD.decode(text).ok(), |v| b.append_value(v)),
            Cells::Date(b) => put(parse_date(text), |v| b.append_value(v)),
            Cells::Time(b) => put(parse_time(text), |v| b.append_value(v)),
            Cells::Timestamp(b) => put(parse_local(text), |v| b.append_value(v)),
            Cells::TimestampTz(b) => put(parse_zoned(text), |v| b.append_value(v)),
        }
    }

    pub fn finish(&mut self) -> ArrayRef {
        each!(self, builder => Arc::new(builder.finish()))
    }
}

pub fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "TRUE" | "True" => Some(true),
        "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A timestamp without zone; a date alone means its first moment.
fn parse_local(text: &str) -> Option<i64> {
    match parse_stamp(text) {
        Some(Stamp::Local(micros)) => Some(micros),
        Some(Stamp::Zoned(_)) => None,
        None => i64::from(parse_date(text)?).checked_mul(86_400_000_000),
    }
}

fn parse_zoned(text: &str) -> Option<i64> {
    match parse_stamp(text)? {
        Stamp::Zoned(micros) => Some(micros),
        Stamp::Local(_) => None,
    }
}
