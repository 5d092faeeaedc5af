//! Logical types and how each is carried in Arrow. This is the only table of the
//! two; a connector maps its own types to and from [`LogicalType`] in its `types.rs`.

use arrow_array::{
    Array, BooleanArray,
    cast::AsArray,
    types::{Decimal128Type, Decimal256Type},
};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

/// Arrow field metadata key that names the logical type where the Arrow type
/// alone does not say it (JSON, UUID, unbounded numeric, interval).
pub const TYPE_KEY: &str = "tideway.type";

/// `Timestamp`, `TimestampTz` and `Date` values that mean plus and minus infinity.
/// A destination that has no infinity stores null and reports a [`crate::Note`].
pub const TIMESTAMP_INFINITY: i64 = i64::MAX;
pub const TIMESTAMP_MINUS_INFINITY: i64 = i64::MIN;
pub const DATE_INFINITY: i32 = i32::MAX;
pub const DATE_MINUS_INFINITY: i32 = i32::MIN;

/// The value of a `Decimal` of at most 38 digits, and of a longer one, that means NaN. No
/// decimal has as many digits, and NaN is the greatest to those that order it.
/// A destination that has no such NaN stores null and reports a [`crate::Note`].
pub const DECIMAL_NAN: i128 = i128::MAX;
pub const WIDE_DECIMAL_NAN: i256 = i256::MAX;

/// What a value means, whatever system it lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum LogicalType {
    Boolean,
    Int16,
    Int32,
    Int64,
    UInt64,
    Float32,
    Float64,
    /// Exact, `precision` at most 76 digits of which `scale` stand behind the point.
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// Exact and unbounded, NaN included; carried as text.
    Numeric,
    Text,
    /// A JSON document; carried as its text.
    Json,
    /// 16 bytes.
    Uuid,
    Binary,
    /// Days since 1970-01-01, proleptic Gregorian.
    Date,
    /// Microseconds since midnight, no zone.
    Time,
    /// Microseconds since 1970-01-01T00:00:00, no zone.
    Timestamp,
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampTz,
    /// ISO 8601 duration text (PostgreSQL's `interval`, months and days kept apart).
    Interval,
}

impl LogicalType {
    /// The Arrow type that carries it.
    pub fn arrow(self) -> DataType {
        match self {
            LogicalType::Boolean => DataType::Boolean,
            LogicalType::Int16 => DataType::Int16,
            LogicalType::Int32 => DataType::Int32,
            LogicalType::Int64 => DataType::Int64,
            LogicalType::UInt64 => DataType::UInt64,
            LogicalType::Float32 => DataType::Float32,
            LogicalType::Float64 => DataType::Float64,
            LogicalType::Decimal { precision, scale } if precision <= 38 => {
                DataType::Decimal128(precision, scale)
            }
            LogicalType::Decimal { precision, scale } => DataType::Decimal256(precision, scale),
            LogicalType::Numeric
            | LogicalType::Text
            | LogicalType::Json
            | LogicalType::Interval => DataType::Utf8,
            LogicalType::Uuid => DataType::FixedSizeBinary(16),
            LogicalType::Binary => DataType::Binary,
            LogicalType::Date => DataType::Date32,
            LogicalType::Time => DataType::Time64(TimeUnit::Microsecond),
            LogicalType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            LogicalType::TimestampTz => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
        }
    }

    /// The word kept under [`TYPE_KEY`], for types that share an Arrow type.
    fn mark(self) -> Option<&'static str> {
        match self {
            LogicalType::Numeric => Some("numeric"),
            LogicalType::Json => Some("json"),
            LogicalType::Interval => Some("interval"),
            LogicalType::Uuid => Some("uuid"),
            _ => None,
        }
    }

    /// An Arrow field of this type; [`LogicalType::of`] reads it back unchanged.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        match self.mark() {
            Some(mark) => field.with_metadata([(TYPE_KEY.to_owned(), mark.to_owned())].into()),
            None => field,
        }
    }

    /// The logical type of an Arrow field, or `None` where a cast must come first
    /// (lists, structs, small integers, other time units, large offsets).
    pub fn of(field: &Field) -> Option<LogicalType> {
        let mark = field.metadata().get(TYPE_KEY).map(String::as_str);
        Some(match field.data_type() {
            DataType::Boolean => LogicalType::Boolean,
            DataType::Int16 => LogicalType::Int16,
            DataType::Int32 => LogicalType::Int32,
            DataType::Int64 => LogicalType::Int64,
            DataType::UInt64 => LogicalType::UInt64,
            DataType::Float32 => LogicalType::Float32,
            DataType::Float64 => LogicalType::Float64,
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                LogicalType::Decimal {
                    precision: *precision,
                    scale: *scale,
                }
            }
            DataType::Utf8 => match mark {
                Some("numeric") => LogicalType::Numeric,
                Some("json") => LogicalType::Json,
                Some("interval") => LogicalType::Interval,
                _ => LogicalType::Text,
            },
            DataType::FixedSizeBinary(16) if mark == Some("uuid") => LogicalType::Uuid,
            DataType::Binary => LogicalType::Binary,
            DataType::Date32 => LogicalType::Date,
            DataType::Time64(TimeUnit::Microsecond) => LogicalType::Time,
            DataType::Timestamp(TimeUnit::Microsecond, None) => LogicalType::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => LogicalType::TimestampTz,
            _ => return None,
        })
    }

    /// The coarse type of the HTTP contract.
    pub fn coarse(self) -> &'static str {
        match self {
            LogicalType::Boolean => "boolean",
            LogicalType::Int16
            | LogicalType::Int32
            | LogicalType::Int64
            | LogicalType::UInt64
            | LogicalType::Float32
            | LogicalType::Float64
            | LogicalType::Decimal { .. }
            | LogicalType::Numeric => "number",
            LogicalType::Text | LogicalType::Uuid | LogicalType::Interval | LogicalType::Time => {
                "string"
            }
            LogicalType::Json => "object",
            LogicalType::Binary => "binary",
            LogicalType::Date | LogicalType::Timestamp | LogicalType::TimestampTz => "datetime",
        }
    }

    /// The detailed type (`type_spec`) of the HTTP contract: a word, or a list whose
    /// head is the word and whose tail are its parameters.
    pub fn spec(self) -> serde_json::Value {
        match self {
            LogicalType::Boolean => "boolean".into(),
            LogicalType::Int16 => "smallint".into(),
            LogicalType::Int32 => "int".into(),
            LogicalType::Int64 => "bigint".into(),
            LogicalType::UInt64 => serde_json::json!(["decimal", 20, 0]),
            LogicalType::Float32 => "single".into(),
            LogicalType::Float64 => "double".into(),
            LogicalType::Decimal { precision, scale } => {
                serde_json::json!(["decimal", precision, scale])
            }
            LogicalType::Numeric => "number".into(),
            LogicalType::Text | LogicalType::Uuid | LogicalType::Interval => "string".into(),
            LogicalType::Json => "object".into(),
            LogicalType::Binary => "binary".into(),
            LogicalType::Date => "date".into(),
            LogicalType::Time => "time".into(),
            LogicalType::Timestamp => "datetime".into(),
            LogicalType::TimestampTz => "datetime_tz".into(),
        }
    }

    /// Digits before and behind the point, for exact types of bounded size.
    fn digits(self) -> Option<(i16, i16)> {
        Some(match self {
            LogicalType::Int16 => (5, 0),
            LogicalType::Int32 => (10, 0),
            LogicalType::Int64 => (19, 0),
            LogicalType::UInt64 => (20, 0),
            LogicalType::Decimal { precision, scale } => {
                (i16::from(precision) - i16::from(scale), i16::from(scale))
            }
            _ => return None,
        })
    }

    /// The narrowest type that holds every value of both, so that a column can be
    /// widened in place without losing a value. Text holds everything.
    pub fn widest(self, other: LogicalType) -> LogicalType {
        use LogicalType::*;
        if self == other {
            return self;
        }
        let rank = |t: LogicalType| match t {
            Int16 => Some(0),
            Int32 => Some(1),
            Int64 => Some(2),
            _ => None,
        };
        match (self, other) {
            (a, b) if rank(a).is_some() && rank(b).is_some() => {
                if rank(a) > rank(b) {
                    a
                } else {
                    b
                }
            }
            (Float32 | Float64, Int16 | Int32 | Float32 | Float64)
            | (Int16 | Int32, Float32 | Float64) => Float64,
            (a, b) if a.digits().is_some() && b.digits().is_some() => {
                let ((whole_a, scale_a), (whole_b, scale_b)) = (
                    a.digits().unwrap_or_default(),
                    b.digits().unwrap_or_default(),
                );
                let (whole, scale) = (whole_a.max(whole_b), scale_a.max(scale_b));
                match whole + scale {
                    precision @ 1..=76 => Decimal {
                        precision: precision as u8,
                        scale: scale as i8,
                    },
                    _ => Numeric,
                }
            }
            (Numeric, other) | (other, Numeric) if other.digits().is_some() => Numeric,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            _ => Text,
        }
    }
}

/// Which rows of an array of decimals are NaN; `None` where none is, or where it is an array
/// of something else.
pub fn decimal_nans(array: &dyn Array) -> Option<BooleanArray> {
    let is_nan: BooleanArray = match array.data_type() {
        DataType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>();
            // Looked for in all rows at once first: there hardly ever is one.
            values.values().contains(&DECIMAL_NAN).then_some(())?;
            let is_nan = |value| Some(value == Some(DECIMAL_NAN));
            values.iter().map(is_nan).collect()
        }
        DataType::Decimal256(..) => {
            let values = array.as_primitive::<Decimal256Type>();
            values.values().contains(&WIDE_DECIMAL_NAN).then_some(())?;
            let is_nan = |value| Some(value == Some(WIDE_DECIMAL_NAN));
            values.iter().map(is_nan).collect()
        }
        _ => return None,
    };
    (is_nan.true_count() > 0).then_some(is_nan)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LogicalType; 18] = [
        LogicalType::Boolean,
        LogicalType::Int16,
        LogicalType::Int32,
        LogicalType::Int64,
        LogicalType::UInt64,
        LogicalType::Float32,
        LogicalType::Float64,
        LogicalType::Decimal {
            precision: 12,
            scale: 2,
        },
        LogicalType::Numeric,
        LogicalType::Text,
        LogicalType::Json,
        LogicalType::Uuid,
        LogicalType::Binary,
        LogicalType::Date,
        LogicalType::Time,
        LogicalType::Timestamp,
        LogicalType::TimestampTz,
        LogicalType::Interval,
    ];

    #[test]
    fn every_type_survives_its_arrow_field() {
        for logical in ALL {
            assert_eq!(LogicalType::of(&logical.field("c", true)), Some(logical));
        }
    }

    #[test]
    fn widening_is_symmetric_and_never_narrows() {
        for a in ALL {
            assert_eq!(a.widest(a), a);
            for b in ALL {
                let wide = a.widest(b);
                assert_eq!(wide, b.widest(a), "{a:?} with {b:?}");
                assert_eq!(wide.widest(a), wide, "{a:?} does not fit {wide:?}");
            }
        }
    }
}
