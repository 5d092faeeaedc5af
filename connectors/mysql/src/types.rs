//! MySQL's and MariaDB's types and logical types: the only place that maps the two.

use tideway_core::LogicalType::{self, *};

use crate::connect::Flavor;

/// A column's type as `information_schema.COLUMNS` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerType {
    /// The bare word: `bigint`.
    pub name: String,
    /// As SQL spells it: `bigint(20) unsigned`.
    pub declared: String,
    pub precision: Option<u64>,
    pub scale: Option<u64>,
    pub comment: String,
    /// MariaDB keeps JSON as text with a check.
    pub checked_json: bool,
}

/// What a value means on its way into Arrow; how it is sent is told by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number that is zero or one.
    Bool,
    /// Bits, the first of which says it.
    BitBool,
    Int16,
    Int32,
    Int64,
    UInt64,
    /// Bits, most significant byte first.
    BitInt,
    BitUInt,
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    Uuid,
    Binary,
    /// Four bytes that name the reference system, then well-known binary.
    Geometry,
    Date,
    Time,
    /// A time span, of up to 838 hours and possibly negative, as text.
    Span,
    Timestamp,
}

impl Shape {
    /// The plain shape of a logical type, for columns that have no value to look at.
    pub fn of(logical: LogicalType) -> Shape {
        match logical {
            Boolean => Shape::Bool,
            Int16 => Shape::Int16,
            Int32 => Shape::Int32,
            Int64 => Shape::Int64,
            UInt64 => Shape::UInt64,
            Float32 => Shape::Float32,
            Float64 => Shape::Float64,
            Decimal { precision, scale } => Shape::Decimal { precision, scale },
            Numeric | Text | Json | Interval => Shape::Text,
            Uuid => Shape::Uuid,
            Binary => Shape::Binary,
            Date => Shape::Date,
            Time => Shape::Time,
            Timestamp | TimestampTz => Shape::Timestamp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub logical: LogicalType,
    pub shape: Shape,
}

/// Comments by which columns that we made are known again where the server's type says less
/// than the logical type did.
const MARKS: [(&str, LogicalType); 5] = [
    ("tideway:timestamp_tz", TimestampTz),
    ("tideway:time", Time),
    ("tideway:uuid", Uuid),
    ("tideway:numeric", Numeric),
    ("tideway:interval", Interval),
];

impl ServerType {
    fn unsigned(&self) -> bool {
        self.declared.contains("unsigned") || self.declared.contains("zerofill")
    }

    fn marked(&self) -> Option<LogicalType> {
        let found = MARKS.iter().find(|(mark, _)| *mark == self.comment);
        found.map(|(_, logical)| *logical)
    }

    /// As what, and how, a column of this type is read.
    pub fn reading(&self) -> Reading {
        let of = |logical, shape| Reading { logical, shape };
        let unsigned = self.unsigned();
        match self.name.as_str() {
            // MySQL has no boolean; `BOOLEAN` is another word for this very type.
            "tinyint" if self.declared == "tinyint(1)" => of(Boolean, Shape::Bool),
            "tinyint" | "year" => of(Int16, Shape::Int16),
            "smallint" if !unsigned => of(Int16, Shape::Int16),
            "smallint" | "mediumint" => of(Int32, Shape::Int32),
            "int" if !unsigned => of(Int32, Shape::Int32),
            "int" => of(Int64, Shape::Int64),
            "bigint" if !unsigned => of(Int64, Shape::Int64),
            "bigint" => of(UInt64, Shape::UInt64),
            "bit" => match self.precision {
                Some(1) => of(Boolean, Shape::BitBool),
                Some(2..=63) => of(Int64, Shape::BitInt),
                _ => of(UInt64, Shape::BitUInt),
            },
            "float" => of(Float32, Shape::Float32),
            "double" => of(Float64, Shape::Float64),
            "decimal" => match (self.precision, self.scale) {
                (Some(precision @ 1..=76), Some(scale)) if scale <= precision => {
                    let (precision, scale) = (precision as u8, scale as i8);
                    of(
                        Decimal { precision, scale },
                        Shape::Decimal { precision, scale },
                    )
                }
                _ => of(Numeric, Shape::Text),
            },
            "json" => of(Json, Shape::Text),
            _ if self.checked_json => of(Json, Shape::Text),
            "uuid" => of(Uuid, Shape::Uuid),
            "char" if self.marked() == Some(Uuid) => of(Uuid, Shape::Uuid),
            "varchar" | "longtext" if self.marked() == Some(Numeric) => of(Numeric, Shape::Text),
            "varchar" | "longtext" if self.marked() == Some(Interval) => of(Interval, Shape::Text),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => {
                of(Binary, Shape::Binary)
            }
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geomcollection" | "geometrycollection" => {
                of(Binary, Shape::Geometry)
            }
            "date" => of(Date, Shape::Date),
            "time" if self.marked() == Some(Time) => of(Time, Shape::Time),
            "time" => of(Text, Shape::Span),
            "datetime" if self.marked() == Some(TimestampTz) => of(TimestampTz, Shape::Timestamp),
            "datetime" => of(Timestamp, Shape::Timestamp),
            // Sessions are in UTC.
            "timestamp" => of(TimestampTz, Shape::Timestamp),
            // Texts, enumerations, sets, addresses, and what is yet to come.
            _ => of(Text, Shape::Text),
        }
    }

    /// Any of the types of text, whose values a collation compares.
    pub fn textual(&self) -> bool {
        matches!(
            self.name.as_str(),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set"
        )
    }

    /// Whether an index of it needs a length.
    pub fn long(&self) -> bool {
        self.name.ends_with("text") || self.name.ends_with("blob")
    }

    /// Values that have an order which indexes keep and literals express exactly, so that
    /// ranges can be cut.
    pub fn cuttable(&self) -> Option<Literal> {
        Some(match self.name.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => Literal::Integer,
            "decimal" => Literal::Number,
            "char" | "varchar" => Literal::Text,
            "binary" | "varbinary" => Literal::Binary,
            "date" | "datetime" | "timestamp" | "uuid" | "inet6" | "inet4" => Literal::Quoted,
            _ => return None,
        })
    }

    /// Whether values grow with time and compare as they do in Arrow.
    pub fn trackable(&self) -> Option<Literal> {
        match self.name.as_str() {
            "year" | "binary" | "varbinary" | "uuid" | "inet4" | "inet6" => None,
            "float" | "double" => Some(Literal::Number),
            "tinyint" if self.declared == "tinyint(1)" => None,
            _ => self.cuttable(),
        }
    }
}

/// How a value is written in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literal {
    Integer,
    Number,
    Text,
    Binary,
    Quoted,
}

/// The collation of texts that we make: it tells apart what is different byte by byte,
/// trailing spaces included.
pub fn collation(flavor: Flavor, version: (u16, u16, u16)) -> &'static str {
    match flavor {
        Flavor::MariaDb => "utf8mb4_nopad_bin",
        Flavor::MySql if version >= (8, 0, 17) => "utf8mb4_0900_bin",
        Flavor::MySql => "utf8mb4_bin",
    }
}

/// Digits that a decimal has at most, and those behind the point.
const MOST_DIGITS: u8 = 65;
const MOST_SCALE: i8 = 30;

/// A column that we make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// As SQL spells the type, and the server again.
    pub declared: String,
    /// The values have a collation.
    pub textual: bool,
    pub comment: Option<&'static str>,
}

/// The type of a column that we make; `key` is how long its values may be where it is part
/// of a key. Reading the column gives the same logical type back, save for decimals that are
/// too long for the server (text).
pub fn made(logical: LogicalType, key: Option<usize>) -> Made {
    let text = || match key {
        Some(length) => format!("varchar({length})"),
        None => "longtext".to_owned(),
    };
    let (declared, textual) = match logical {
        Boolean => ("tinyint(1)".to_owned(), false),
        Int16 => ("smallint".to_owned(), false),
        Int32 => ("int".to_owned(), false),
        Int64 => ("bigint".to_owned(), false),
        UInt64 => ("bigint unsigned".to_owned(), false),
        Float32 => ("float".to_owned(), false),
        Float64 => ("double".to_owned(), false),
        Decimal { precision, scale } if fits(precision, scale) => {
            (format!("decimal({precision},{scale})"), false)
        }
        Decimal { .. } | Numeric | Text | Interval => (text(), true),
        // A document cannot be a key; its text can.
        Json if key.is_some() => (text(), true),
        Json => ("json".to_owned(), false),
        Uuid => ("char(36)".to_owned(), true),
        Binary => match key {
            Some(length) => (format!("varbinary({})", length * 4), false),
            None => ("longblob".to_owned(), false),
        },
        Date => ("date".to_owned(), false),
        Time => ("time(6)".to_owned(), false),
        Timestamp | TimestampTz => ("datetime(6)".to_owned(), false),
    };
    let meant = match logical {
        Decimal { precision, scale } if !fits(precision, scale) => Numeric,
        other => other,
    };
    let mark = MARKS.iter().find(|(_, logical)| *logical == meant);
    Made {
        declared,
        textual,
        comment: mark.map(|(mark, _)| *mark),
    }
}

pub fn fits(precision: u8, scale: i8) -> bool {
    precision <= MOST_DIGITS && (0..=MOST_SCALE).contains(&scale) && scale <= precision as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, declared: &str) -> ServerType {
        ServerType {
            name: name.into(),
            declared: declared.into(),
            ..ServerType::default()
        }
    }

    #[test]
    fn only_tinyint_of_one_digit_is_a_boolean() {
        for (declared, expected) in [
            ("tinyint(1)", Boolean),
            ("tinyint", Int16),
            ("tinyint(4)", Int16),
            ("tinyint(1) unsigned", Int16),
            ("tinyint(3) unsigned", Int16),
        ] {
            assert_eq!(
                plain("tinyint", declared).reading().logical,
                expected,
                "{declared}"
            );
        }
    }

    #[test]
    fn a_column_that_we_make_is_read_as_what_it_was() {
        for logical in [
            Boolean,
            Int16,
            Int32,
            Int64,
            UInt64,
            Float32,
            Float64,
            Numeric,
            Text,
            Json,
            Uuid,
            Binary,
            Date,
            Time,
            Timestamp,
            TimestampTz,
            Interval,
        ] {
            for key in [None, Some(100)] {
                let made = made(logical, key);
                let end = made
                    .declared
                    .find(['(', ' '])
                    .unwrap_or(made.declared.len());
                let read = ServerType {
                    comment: made.comment.unwrap_or_default().into(),
                    ..plain(&made.declared[..end], &made.declared)
                };
                let expected = if logical == Json && key.is_some() {
                    Text
                } else {
                    logical
                };
                assert_eq!(read.reading().logical, expected, "{made:?}");
            }
        }
    }

    #[test]
    fn decimals_beyond_the_server_s_digits_become_text() {
        let of = |precision, scale| made(Decimal { precision, scale }, None).declared;
        assert_eq!(of(65, 30), "decimal(65,30)");
        assert_eq!(of(66, 2), "longtext");
        assert_eq!(of(40, 31), "longtext");
        assert_eq!(of(5, -2), "longtext");
    }
}
