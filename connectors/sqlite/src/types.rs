//! SQLite's declared types and logical types: the only place that maps the two.
//!
//! SQLite stores any kind of value in any column, so a declared type is a claim. What a
//! column is read as is the first of [`candidates`] that holds every value stored in it;
//! [`crate::discover`] looks at them all.

use tideway_core::LogicalType::{self, *};

/// How SQLite treats values on their way into a column, by its declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

/// The rules of <https://sqlite.org/datatype3.html>, section 3.1, in their order.
pub fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["INT"]) {
        Affinity::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if declared.trim().is_empty() || has(&["BLOB"]) {
        Affinity::Blob
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// What a declared type says about the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    Firm(LogicalType),
    /// A number, whole or not, of no stated size.
    Number,
    /// Anything; the values themselves decide.
    Open,
}

pub fn claim(declared: &str) -> Claim {
    let (words, sizes) = taken_apart(declared);
    let firm = match words.as_str() {
        "BOOL" | "BOOLEAN" => Boolean,
        "INT2" => Int16,
        "INT4" => Int32,
        "UNSIGNED TEXT" => UInt64,
        "FLOAT4" => Float32,
        "DEC" | "DECIMAL" | "NUMERIC" | "NUMBER" | "DECIMAL TEXT" => match sizes {
            Some((precision @ 1..=76, scale @ -76..=76)) if scale <= precision => Decimal {
                precision: precision as u8,
                scale: scale as i8,
            },
            _ => return Claim::Number,
        },
        "NUMERIC TEXT" => Numeric,
        "MONEY" | "CURRENCY" => return Claim::Number,
        "DATE" => Date,
        "TIME" | "TIME WITHOUT TIME ZONE" => Time,
        "DATETIME"
        | "DATETIME2"
        | "SMALLDATETIME"
        | "TIMESTAMP"
        | "TIMESTAMP WITHOUT TIME ZONE" => Timestamp,
        "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" | "DATETIMEOFFSET" => TimestampTz,
        "INTERVAL" => Interval,
        "JSON" | "JSONB" | "JSON TEXT" => Json,
        "UUID" | "GUID" | "UNIQUEIDENTIFIER" => Uuid,
        "STRING" => Text,
        "BYTEA" | "BINARY" | "VARBINARY" | "IMAGE" => Binary,
        "" | "ANY" => return Claim::Open,
        _ => match affinity(declared) {
            Affinity::Integer => Int64,
            Affinity::Text => Text,
            Affinity::Blob => Binary,
            Affinity::Real => Float64,
            Affinity::Numeric => return Claim::Open,
        },
    };
    Claim::Firm(firm)
}

/// The words of a declared type in capitals, and what stands in its brackets.
fn taken_apart(declared: &str) -> (String, Option<(i64, i64)>) {
    let (before, rest) = declared.split_once('(').unwrap_or((declared, ""));
    let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
    let words: Vec<String> = before
        .split_whitespace()
        .chain(after.split_whitespace())
        .map(str::to_ascii_uppercase)
        .collect();
    let mut numbers = inside.split(',').map(|number| number.trim().parse::<i64>());
    let sizes = match (numbers.next(), numbers.next()) {
        (Some(Ok(precision)), None) => Some((precision, 0)),
        (Some(Ok(precision)), Some(Ok(scale))) => Some((precision, scale)),
        _ => None,
    };
    (words.join(" "), sizes)
}

/// The types that a column may be read as, most wanted first. The last one, bytes, holds
/// everything: text as UTF-8, numbers as their digits.
pub fn candidates(declared: &str, key: bool) -> Vec<LogicalType> {
    let claim = claim(declared);
    let list: &[LogicalType] = match claim {
        // A price that happens to be whole today must not become an integer column, but
        // a key that is whole stays so.
        Claim::Number if key => &[Int64, Float64, Numeric, Text],
        Claim::Number => &[Float64, Numeric, Text],
        Claim::Open => &[Int64, Float64, Text],
        Claim::Firm(first) => match first {
            Boolean => &[Boolean, Int64, Float64, Text],
            Int16 => &[Int16, Int32, Int64, Float64, Text],
            Int32 => &[Int32, Int64, Float64, Text],
            Int64 => &[Int64, Float64, Text],
            UInt64 => &[UInt64, Numeric, Text],
            Float32 => &[Float32, Float64, Text],
            Float64 => &[Float64, Text],
            Decimal { .. } => &[first, Float64, Numeric, Text],
            Numeric => &[Numeric, Float64, Text],
            Text => &[Text],
            Json => &[Json, Text],
            Uuid => &[Uuid, Text],
            Binary => &[],
            Date => &[Date, Timestamp, TimestampTz, Int64, Float64, Text],
            Time => &[Time, Int64, Float64, Text],
            Timestamp => &[Timestamp, TimestampTz, Int64, Float64, Text],
            TimestampTz => &[TimestampTz, Timestamp, Int64, Float64, Text],
            Interval => &[Interval, Int64, Float64, Text],
        },
    };
    list.iter().copied().chain([Binary]).collect()
}

/// What a column is taken for as long as nothing is stored in it.
pub fn unless_stored(declared: &str) -> LogicalType {
    match claim(declared) {
        Claim::Firm(logical) => logical,
        Claim::Number => Float64,
        Claim::Open => Text,
    }
}

/// The declared type of a column that we make; [`claim`] reads it back. Exact numbers and
/// JSON are declared as texts, or SQLite would turn `1.50` into the float 1.5.
pub fn declared(logical: LogicalType) -> String {
    match logical {
        Boolean => "BOOLEAN",
        Int16 => "INT2",
        Int32 => "INT4",
        Int64 => "INTEGER",
        UInt64 => "UNSIGNED TEXT",
        Float32 => "FLOAT4",
        Float64 => "REAL",
        Decimal { precision, scale } => return format!("DECIMAL TEXT({precision},{scale})"),
        Numeric => "NUMERIC TEXT",
        Text => "TEXT",
        Json => "JSON TEXT",
        Uuid => "UUID",
        Binary => "BLOB",
        Date => "DATE",
        Time => "TIME",
        Timestamp => "TIMESTAMP",
        TimestampTz => "TIMESTAMPTZ",
        Interval => "INTERVAL",
    }
    .to_owned()
}

/// A declared type as it is written in SQL. Another program may have used words for it
/// that mean something else unless they are quoted.
pub fn spelled(declared: &str) -> String {
    const MEANING: [&str; 13] = [
        "AS",
        "CHECK",
        "COLLATE",
        "CONSTRAINT",
        "DEFAULT",
        "DEFERRABLE",
        "FOREIGN",
        "GENERATED",
        "NOT",
        "NULL",
        "PRIMARY",
        "REFERENCES",
        "UNIQUE",
    ];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_ (),+-".contains(c);
    let (words, _) = taken_apart(declared);
    let ends_in_sizes = declared
        .split_once(')')
        .is_none_or(|(_, after)| after.is_empty());
    if declared.chars().all(plain)
        && ends_in_sizes
        && !words.split(' ').any(|word| MEANING.contains(&word))
    {
        declared.to_owned()
    } else {
        crate::sql::quoted(declared)
    }
}

/// Digits that survive the way through a double and back.
const DOUBLE_DIGITS: u8 = 15;

/// Whether a column of this declared type keeps our stored form of `logical` as it is.
pub fn keeps(declared: &str, logical: LogicalType) -> bool {
    let converts = !matches!(affinity(declared), Affinity::Text | Affinity::Blob);
    match logical {
        Decimal { precision, .. } => !converts || precision <= DOUBLE_DIGITS,
        Numeric | Json | UInt64 | Text => !converts,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_back_from_its_declaration() {
        let decimal = |precision, scale| Decimal { precision, scale };
        for logical in [
            Boolean,
            Int16,
            Int32,
            Int64,
            UInt64,
            Float32,
            Float64,
            decimal(12, 2),
            decimal(76, 76),
            decimal(5, -3),
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
            let name = declared(logical);
            assert_eq!(claim(&name), Claim::Firm(logical), "{name}");
            assert!(keeps(&name, logical), "{name}");
            assert_eq!(spelled(&name), name);
            assert_eq!(candidates(&name, false)[0], logical, "{name}");
        }
    }

    #[test]
    fn names_of_other_systems_are_understood() {
        for (name, expected) in [
            ("unsigned big int", Claim::Firm(Int64)),
            ("TINYINT(1)", Claim::Firm(Int64)),
            ("nvarchar(100)", Claim::Firm(Text)),
            ("String", Claim::Firm(Text)),
            ("double precision", Claim::Firm(Float64)),
            (
                "decimal( 10 , 2 )",
                Claim::Firm(Decimal {
                    precision: 10,
                    scale: 2,
                }),
            ),
            ("NUMERIC", Claim::Number),
            ("DECIMAL(2,5)", Claim::Number),
            ("DECIMAL(900,5)", Claim::Number),
            ("datetime", Claim::Firm(Timestamp)),
            ("timestamp(6) with time zone", Claim::Firm(TimestampTz)),
            ("LONGBLOB", Claim::Firm(Binary)),
            ("VARBINARY(16)", Claim::Firm(Binary)),
            ("YEAR", Claim::Open),
            ("", Claim::Open),
            ("(((", Claim::Open),
        ] {
            assert_eq!(claim(name), expected, "{name}");
        }
    }
}
