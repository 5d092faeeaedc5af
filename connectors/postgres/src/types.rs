//! PostgreSQL's types and logical types: the only place that maps the two.

use tideway_core::LogicalType::{self, *};

/// Object ids of built-in types, fixed for all versions of the server.
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const INET: u32 = 869;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// Arrays that are the same document by way of `json` as by way of `jsonb`: of `bool`,
/// `int2`, `int4`, `int8`, `float4`, `float8`, `numeric`, `text`, `varchar`, `bpchar`,
/// `uuid`, `date`, `time`, `timestamp`, `timestamptz` and `jsonb`.
const PASSING_ARRAYS: [u32; 16] = [
    1000, 1005, 1007, 1016, 1021, 1022, 1231, 1009, 1015, 1014, 2951, 1182, 1183, 1115, 1185, 3807,
];

/// Names the form of rows that two servers agree on: COPY's binary format, without what
/// stands before the first row and behind the last.
pub const COPY: &str = "postgresql-copy";

/// A column's type with domains resolved to what they are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgType {
    pub oid: u32,
    /// `pg_attribute.atttypmod`, -1 where the type is unbounded.
    pub typmod: i32,
    pub array: bool,
    pub enumeration: bool,
}

/// How a value of a column travels in COPY's binary format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// Exact and of bounded size.
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// Exact and unbounded, as text.
    Numeric,
    Text,
    Json,
    Jsonb,
    Uuid,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
}

/// What the server has to do to a value before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cast {
    /// Nothing: we know its binary form.
    No,
    /// To its own text form.
    Text,
    /// To its own text form by this function, where a cast to text is something else.
    Output(&'static str),
    /// To JSON, which keeps every element of an array as it is.
    Json,
    /// The same in the form that [`ddl`]'s columns hold it in.
    Jsonb,
    /// To a number that has room for it.
    Int8,
}

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub logical: LogicalType,
    pub wire: Wire,
    pub cast: Cast,
}

impl Cast {
    /// The SQL expression that gives a column as it is to be sent; `column` is quoted.
    pub fn expression(self, column: &str) -> String {
        match self {
            Cast::No => column.to_owned(),
            Cast::Text => format!("{column}::pg_catalog.text"),
            Cast::Output(function) => {
                format!("pg_catalog.textin(pg_catalog.{function}({column}))")
            }
            Cast::Json => format!("pg_catalog.to_json({column})"),
            Cast::Jsonb => format!("pg_catalog.to_jsonb({column})"),
            Cast::Int8 => format!("{column}::pg_catalog.int8"),
        }
    }
}

impl PgType {
    /// As what, and how, a column of this type is read.
    pub fn reading(self) -> Reading {
        let as_sent = |logical, wire| Reading {
            logical,
            wire,
            cast: Cast::No,
        };
        if self.array {
            return Reading {
                logical: Json,
                wire: Wire::Json,
                cast: Cast::Json,
            };
        }
        // An enumeration is sent as its label.
        if self.enumeration {
            return as_sent(Text, Wire::Text);
        }
        match self.oid {
            oid::BOOL => as_sent(Boolean, Wire::Bool),
            oid::INT2 => as_sent(Int16, Wire::Int2),
            oid::INT4 => as_sent(Int32, Wire::Int4),
            oid::INT8 => as_sent(Int64, Wire::Int8),
            oid::OID => as_sent(Int64, Wire::Oid),
            oid::FLOAT4 => as_sent(Float32, Wire::Float4),
            oid::FLOAT8 => as_sent(Float64, Wire::Float8),
            oid::NUMERIC => match digits(self.typmod) {
                Some((precision, scale)) => as_sent(
                    Decimal { precision, scale },
                    Wire::Decimal { precision, scale },
                ),
                None => as_sent(Numeric, Wire::Numeric),
            },
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME => as_sent(Text, Wire::Text),
            oid::JSON => as_sent(Json, Wire::Json),
            oid::JSONB => as_sent(Json, Wire::Jsonb),
            oid::UUID => as_sent(Uuid, Wire::Uuid),
            oid::BYTEA => as_sent(Binary, Wire::Bytea),
            oid::DATE => as_sent(Date, Wire::Date),
            oid::TIME => as_sent(Time, Wire::Time),
            oid::TIMESTAMP => as_sent(Timestamp, Wire::Timestamp),
            oid::TIMESTAMPTZ => as_sent(TimestampTz, Wire::TimestampTz),
            oid::INTERVAL => as_sent(Interval, Wire::Interval),
            other => Reading {
                logical: Text,
                wire: Wire::Text,
                cast: match other {
                    oid::INET => Cast::Output("inet_out"),
                    oid::XML => Cast::Output("xml_out"),
                    _ => Cast::Text,
                },
            },
        }
    }

    /// What the server has to do to a value so that its binary form is that of the column
    /// which [`ddl`] makes for it, whatever the value. `None` where nothing will do:
    ///
    /// - `json` may hold what `jsonb` does not take, and so may arrays of it;
    /// - elements of other arrays may be anything, a type of the user's own included.
    ///
    /// No object id of a type ever travels: arrays go as documents, records, ranges and
    /// everything that we know no binary form of as text, enumerations as their labels.
    pub fn passing(self) -> Option<Cast> {
        let reading = self.reading();
        match reading.wire {
            Wire::Oid => Some(Cast::Int8),
            Wire::Json if self.array && PASSING_ARRAYS.contains(&self.oid) => Some(Cast::Jsonb),
            Wire::Json => None,
            _ => Some(reading.cast),
        }
    }

    /// The type's name for a cast of a tracking value, where values grow with time and
    /// compare as they do in Arrow.
    pub fn tracking_cast(self) -> Option<&'static str> {
        if self.array || self.enumeration {
            return None;
        }
        Some(match self.oid {
            oid::INT2 => "pg_catalog.int2",
            oid::INT4 => "pg_catalog.int4",
            oid::INT8 => "pg_catalog.int8",
            oid::FLOAT4 => "pg_catalog.float4",
            oid::FLOAT8 => "pg_catalog.float8",
            oid::NUMERIC => "pg_catalog.numeric",
            oid::TEXT | oid::VARCHAR => "pg_catalog.text",
            oid::DATE => "pg_catalog.date",
            oid::TIMESTAMP => "pg_catalog.timestamp",
            oid::TIMESTAMPTZ => "pg_catalog.timestamptz",
            _ => return None,
        })
    }
}

/// How values of a logical type travel where a column is of that type by its own nature.
pub fn wire_of(logical: LogicalType) -> Option<Wire> {
    Some(match logical {
        Boolean => Wire::Bool,
        Int16 => Wire::Int2,
        Int32 => Wire::Int4,
        Int64 => Wire::Int8,
        Float32 => Wire::Float4,
        Float64 => Wire::Float8,
        Decimal { precision, scale } => Wire::Decimal { precision, scale },
        Numeric => Wire::Numeric,
        Text => Wire::Text,
        Json => Wire::Json,
        Uuid => Wire::Uuid,
        Binary => Wire::Bytea,
        Date => Wire::Date,
        Time => Wire::Time,
        Timestamp => Wire::Timestamp,
        TimestampTz => Wire::TimestampTz,
        Interval => Wire::Interval,
        // No type of the server is read as one.
        UInt64 => return None,
    })
}

/// Precision and scale of a numeric's modifier, or `None` where it has none or more
/// digits than a decimal carries.
fn digits(typmod: i32) -> Option<(u8, i8)> {
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = packed >> 16 & 0xffff;
    // Eleven bits with a sign; a negative scale rounds before the point.
    let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
    let precision = if scale < 0 {
        precision - scale
    } else {
        precision.max(scale)
    };
    match (precision, scale.max(0)) {
        (1..=76, scale) => Some((precision as u8, scale as i8)),
        _ => None,
    }
}

/// The type of a column that we make. Reading the column gives the same logical type
/// back, save for unsigned integers (a numeric of 20 digits) and negative scales (as
/// many digits before the point).
pub fn ddl(logical: LogicalType) -> String {
    match logical {
        Boolean => "boolean",
        Int16 => "smallint",
        Int32 => "integer",
        Int64 => "bigint",
        UInt64 => "numeric(20,0)",
        Float32 => "real",
        Float64 => "double precision",
        Decimal { precision, scale } => {
            let (precision, scale) = (i16::from(precision), i16::from(scale));
            let precision = if scale < 0 {
                precision - scale
            } else {
                precision.max(scale)
            };
            return format!("numeric({precision},{})", scale.max(0));
        }
        Numeric => "numeric",
        Text => "text",
        Json => "jsonb",
        Uuid => "uuid",
        Binary => "bytea",
        Date => "date",
        Time => "time",
        Timestamp => "timestamp",
        TimestampTz => "timestamptz",
        Interval => "interval",
    }
    .to_owned()
}

/// From this version on an interval may be infinite; servers before take it for a finite
/// one.
const INFINITE_INTERVALS: u32 = 170_000;

/// What the binary form of a column's values is, sent by a server of that version after
/// [`PgType::passing`]: a word that says the type and what of it the version decides.
pub fn sent_as(logical: LogicalType, version: u32) -> String {
    match logical {
        Interval if version >= INFINITE_INTERVALS => "interval, finite or not".to_owned(),
        other => ddl(other),
    }
}

/// Whether a column made by [`ddl`] on a server of that version takes values in the form of
/// that word, each as it is.
pub fn takes(logical: LogicalType, version: u32, sent: &str) -> bool {
    sent == ddl(logical) || sent == sent_as(logical, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(oid: u32, typmod: i32) -> PgType {
        PgType {
            oid,
            typmod,
            array: false,
            enumeration: false,
        }
    }

    fn logical(oid: u32, typmod: i32) -> LogicalType {
        plain(oid, typmod).reading().logical
    }

    fn typmod(precision: i32, scale: i32) -> i32 {
        (precision << 16 | scale & 0x7ff) + 4
    }

    #[test]
    fn numeric_modifiers_become_decimals_that_hold_every_value() {
        let decimal = |precision, scale| Decimal { precision, scale };
        for (precision, scale, expected) in [
            (12, 2, decimal(12, 2)),
            (38, 0, decimal(38, 0)),
            (76, 76, decimal(76, 76)),
            (2, 5, decimal(5, 5)),
            (2, -3, decimal(5, 0)),
            (77, 0, Numeric),
            (1000, 1000, Numeric),
            (70, -10, Numeric),
        ] {
            let typmod = typmod(precision, scale);
            assert_eq!(
                logical(oid::NUMERIC, typmod),
                expected,
                "({precision},{scale})"
            );
        }
        assert_eq!(logical(oid::NUMERIC, -1), Numeric);
        assert_eq!(logical(oid::NUMERIC, i32::MIN), Numeric);
    }

    #[test]
    fn types_without_a_binary_form_of_ours_travel_as_text() {
        let money = plain(790, -1).reading();
        assert_eq!((money.logical, money.cast), (Text, Cast::Text));
        let array = PgType {
            array: true,
            ..plain(1007, -1)
        };
        assert_eq!(
            (array.reading().logical, array.reading().cast),
            (Json, Cast::Json)
        );
    }

    #[test]
    fn infinite_intervals_pass_to_servers_that_have_them_only() {
        let (old, new) = (150_018, 170_002);
        for (from, to, passes) in [
            (old, old, true),
            (old, new, true),
            (new, new, true),
            (new, old, false),
        ] {
            assert_eq!(takes(Interval, to, &sent_as(Interval, from)), passes);
            assert!(takes(Date, to, &sent_as(Date, from)));
        }
        assert!(!takes(Timestamp, old, &sent_as(TimestampTz, old)));
    }

    #[test]
    fn what_a_column_of_ours_may_refuse_or_alter_does_not_pass() {
        let array = |oid| PgType {
            array: true,
            ..plain(oid, -1)
        };
        let enumeration = PgType {
            enumeration: true,
            ..plain(70_000, -1)
        };
        assert_eq!(plain(oid::JSON, -1).passing(), None);
        assert_eq!(array(199).passing(), None, "json[]");
        assert_eq!(array(70_001).passing(), None, "of a user's own type");
        assert_eq!(array(22).passing(), None, "int2vector");
        assert_eq!(array(1007).passing(), Some(Cast::Jsonb));
        assert_eq!(enumeration.passing(), Some(Cast::No));
        assert_eq!(plain(70_002, -1).passing(), Some(Cast::Text), "a record");
        assert_eq!(plain(oid::OID, -1).passing(), Some(Cast::Int8));
        assert_eq!(plain(oid::JSONB, -1).passing(), Some(Cast::No));
    }

    #[test]
    fn odd_scales_become_columns_that_every_server_accepts() {
        assert_eq!(
            ddl(Decimal {
                precision: 5,
                scale: -3
            }),
            "numeric(8,0)"
        );
        assert_eq!(
            ddl(Decimal {
                precision: 2,
                scale: 5
            }),
            "numeric(5,5)"
        );
    }
}
