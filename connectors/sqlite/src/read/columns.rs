//! From SQLite's values straight into Arrow columns.

use std::sync::Arc;

use arrow_array::{ArrayRef, builder::*};
use rusqlite::types::ValueRef;
use tideway_core::{
    Column, Error, LogicalType, Table,
    types::{DECIMAL_NAN, WIDE_DECIMAL_NAN},
};

use crate::value;

/// One column of a batch that is being read.
pub struct Decoder {
    name: String,
    logical: LogicalType,
    nullable: bool,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Numeric(StringBuilder),
    Text(StringBuilder),
    Json(StringBuilder),
    Interval(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
}

/// A value that is not what the column was found to hold.
pub struct Misfit {
    column: String,
    logical: LogicalType,
    null: bool,
}

impl Misfit {
    pub fn explain(&self, table: &Table) -> Error {
        let (table, column) = (&table.id, &self.column);
        let what = match self.null {
            true => "a null where none was before".to_owned(),
            false => format!("a value that is no {}", self.logical.spec()),
        };
        Error::data(format!("column {column} of table {table} holds {what}"))
            .field(column.clone())
            .hint(
                "refresh the schema of the connection: other values have been stored since \
                 it was looked at",
            )
    }
}

impl Decoder {
    pub fn new(column: &Column) -> Self {
        let strings = || StringBuilder::new();
        let values = match column.logical {
            LogicalType::Boolean => Values::Boolean(BooleanBuilder::new()),
            LogicalType::Int16 => Values::Int16(Int16Builder::new()),
            LogicalType::Int32 => Values::Int32(Int32Builder::new()),
            LogicalType::Int64 => Values::Int64(Int64Builder::new()),
            LogicalType::UInt64 => Values::UInt64(UInt64Builder::new()),
            LogicalType::Float32 => Values::Float32(Float32Builder::new()),
            LogicalType::Float64 => Values::Float64(Float64Builder::new()),
            LogicalType::Decimal { precision, scale } if precision <= 38 => {
                let kind = column.logical.arrow();
                let builder = Decimal128Builder::new().with_data_type(kind);
                Values::Decimal128(builder, precision, scale)
            }
            LogicalType::Decimal { precision, scale } => {
                let kind = column.logical.arrow();
                let builder = Decimal256Builder::new().with_data_type(kind);
                Values::Decimal256(builder, precision, scale)
            }
            LogicalType::Numeric => Values::Numeric(strings()),
            LogicalType::Text => Values::Text(strings()),
            LogicalType::Json => Values::Json(strings()),
            LogicalType::Interval => Values::Interval(strings()),
            LogicalType::Uuid => Values::Uuid(FixedSizeBinaryBuilder::new(16)),
            LogicalType::Binary => Values::Binary(BinaryBuilder::new()),
            LogicalType::Date => Values::Date(Date32Builder::new()),
            LogicalType::Time => Values::Time(Time64MicrosecondBuilder::new()),
            LogicalType::Timestamp => Values::Timestamp(TimestampMicrosecondBuilder::new()),
            LogicalType::TimestampTz => {
                Values::TimestampTz(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
        };
        Decoder {
            name: column.name.clone(),
            logical: column.logical,
            nullable: column.nullable,
            values,
        }
    }

    /// Takes one value over; how many bytes it takes up in the batch.
    pub fn append(&mut self, value: ValueRef<'_>) -> Result<usize, Misfit> {
        let null = matches!(value, ValueRef::Null);
        let appended = match null {
            true if !self.nullable => None,
            true => Some(self.append_null()),
            false => self.append_value(value),
        };
        appended.ok_or_else(|| Misfit {
            column: self.name.clone(),
            logical: self.logical,
            null,
        })
    }

    fn append_value(&mut self, value: ValueRef<'_>) -> Option<usize> {
        /// Appends a value of a fixed width.
        macro_rules! fixed {
            ($builder:expr, $value:expr) => {{
                let value = $value;
                $builder.append_value(value);
                Some(size_of_val(&value))
            }};
        }
        /// Appends a value of any length, which has an offset besides.
        macro_rules! sized {
            ($builder:expr, $value:expr) => {{
                let value = $value;
                $builder.append_value(&value);
                Some(value.len() + size_of::<i32>())
            }};
        }
        match &mut self.values {
            Values::Boolean(builder) => fixed!(builder, value::boolean(value)?),
            Values::Int16(builder) => {
                fixed!(builder, i16::try_from(value::integer(value)?).ok()?)
            }
            Values::Int32(builder) => {
                fixed!(builder, i32::try_from(value::integer(value)?).ok()?)
            }
            Values::Int64(builder) => fixed!(builder, value::integer(value)?),
            Values::UInt64(builder) => fixed!(builder, value::unsigned(value)?),
            Values::Float32(builder) => fixed!(builder, value::single(value)?),
            Values::Float64(builder) => fixed!(builder, value::float(value)?),
            Values::Decimal128(builder, precision, scale) => {
                let unscaled = match value::decimal(value, *precision, *scale)? {
                    WIDE_DECIMAL_NAN => DECIMAL_NAN,
                    unscaled => unscaled.to_i128()?,
                };
                fixed!(builder, unscaled)
            }
            Values::Decimal256(builder, precision, scale) => {
                fixed!(builder, value::decimal(value, *precision, *scale)?)
            }
            Values::Numeric(builder) => sized!(builder, value::numeric(value)?),
            Values::Text(builder) => sized!(builder, value::text(value)?),
            Values::Json(builder) => sized!(builder, value::json(value)?),
            Values::Interval(builder) => sized!(builder, value::interval(value)?),
            Values::Uuid(builder) => {
                builder.append_value(value::uuid(value)?).ok()?;
                Some(16)
            }
            Values::Binary(builder) => sized!(builder, value::bytes(value)?),
            Values::Date(builder) => fixed!(builder, value::date(value)?),
            Values::Time(builder) => fixed!(builder, value::time(value)?),
            Values::Timestamp(builder) => fixed!(builder, value::timestamp(value, false)?),
            Values::TimestampTz(builder) => fixed!(builder, value::timestamp(value, true)?),
        }
    }

    fn append_null(&mut self) -> usize {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_null(),
            Values::Int16(builder) => builder.append_null(),
            Values::Int32(builder) => builder.append_null(),
            Values::Int64(builder) => builder.append_null(),
            Values::UInt64(builder) => builder.append_null(),
            Values::Float32(builder) => builder.append_null(),
            Values::Float64(builder) => builder.append_null(),
            Values::Decimal128(builder, ..) => builder.append_null(),
            Values::Decimal256(builder, ..) => builder.append_null(),
            Values::Numeric(builder)
            | Values::Text(builder)
            | Values::Json(builder)
            | Values::Interval(builder) => builder.append_null(),
            Values::Uuid(builder) => builder.append_null(),
            Values::Binary(builder) => builder.append_null(),
            Values::Date(builder) => builder.append_null(),
            Values::Time(builder) => builder.append_null(),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => builder.append_null(),
        }
        size_of::<i32>()
    }

    pub fn finish(self) -> ArrayRef {
        match self.values {
            Values::Boolean(mut builder) => Arc::new(builder.finish()),
            Values::Int16(mut builder) => Arc::new(builder.finish()),
            Values::Int32(mut builder) => Arc::new(builder.finish()),
            Values::Int64(mut builder) => Arc::new(builder.finish()),
            Values::UInt64(mut builder) => Arc::new(builder.finish()),
            Values::Float32(mut builder) => Arc::new(builder.finish()),
            Values::Float64(mut builder) => Arc::new(builder.finish()),
            Values::Decimal128(mut builder, ..) => Arc::new(builder.finish()),
            Values::Decimal256(mut builder, ..) => Arc::new(builder.finish()),
            Values::Numeric(mut builder)
            | Values::Text(mut builder)
            | Values::Json(mut builder)
            | Values::Interval(mut builder) => Arc::new(builder.finish()),
            Values::Uuid(mut builder) => Arc::new(builder.finish()),
            Values::Binary(mut builder) => Arc::new(builder.finish()),
            Values::Date(mut builder) => Arc::new(builder.finish()),
            Values::Time(mut builder) => Arc::new(builder.finish()),
            Values::Timestamp(mut builder) | Values::TimestampTz(mut builder) => {
                Arc::new(builder.finish())
            }
        }
    }
}
