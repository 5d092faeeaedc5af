//! DuckDB's types and ours. Where DuckDB has no type for a logical one, the value is kept
//! as text and a word in the column's comment says what it is: `tideway:numeric`.

use tideway_core::{Column, LogicalType};

use super::sql;

/// DuckDB's decimals end here.
const MOST_DIGITS: i16 = 38;
const MARK: &str = "tideway:";
/// 128-bit integers have up to 39 digits.
const HUGE: LogicalType = LogicalType::Decimal {
    precision: 39,
    scale: 0,
};

/// How DuckDB keeps a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The type, spelled as `duckdb_columns()` spells it.
    pub sql: String,
    /// What the comment must say for the column to be read back as what it was.
    pub mark: Option<String>,
}

/// The type that holds every value of the logical type.
pub fn stored(logical: LogicalType, remote_type: &str) -> Stored {
    let plain = |sql: &str| Stored {
        sql: sql.to_owned(),
        mark: None,
    };
    let as_text = |mark: String| Stored {
        sql: "VARCHAR".to_owned(),
        mark: Some(mark),
    };
    match logical {
        LogicalType::Boolean => plain("BOOLEAN"),
        LogicalType::Int16 => plain("SMALLINT"),
        LogicalType::Int32 => plain("INTEGER"),
        LogicalType::Int64 => plain("BIGINT"),
        LogicalType::UInt64 => plain("UBIGINT"),
        LogicalType::Float32 => plain("FLOAT"),
        LogicalType::Float64 => plain("DOUBLE"),
        // Another DuckDB's 128-bit integer is kept as one.
        HUGE if matches!(remote_type, "HUGEINT" | "UHUGEINT") => plain(remote_type),
        LogicalType::Decimal { precision, scale } => match decimal(precision, scale) {
            Some((precision, scale)) => plain(&format!("DECIMAL({precision},{scale})")),
            None => as_text(format!("decimal({precision},{scale})")),
        },
        LogicalType::Numeric => as_text("numeric".to_owned()),
        LogicalType::Text => plain("VARCHAR"),
        LogicalType::Json => plain("JSON"),
        LogicalType::Uuid => plain("UUID"),
        LogicalType::Binary => plain("BLOB"),
        LogicalType::Date => plain("DATE"),
        LogicalType::Time => plain("TIME"),
        LogicalType::Timestamp => plain("TIMESTAMP"),
        LogicalType::TimestampTz => plain("TIMESTAMP WITH TIME ZONE"),
        LogicalType::Interval => plain("INTERVAL"),
    }
}

/// Precision and scale of the DuckDB decimal that holds every value, if one does. DuckDB
/// wants 0 <= scale <= precision.
pub fn decimal(precision: u8, scale: i8) -> Option<(i16, i16)> {
    let (precision, scale) = (i16::from(precision), i16::from(scale));
    let whole = (precision - scale).max(0);
    let scale = scale.max(0);
    let precision = (whole + scale).max(1);
    (precision <= MOST_DIGITS).then_some((precision, scale))
}

/// The logical type of a column, by its type and comment.
pub fn logical(data_type: &str, comment: Option<&str>) -> LogicalType {
    match data_type {
        "BOOLEAN" => LogicalType::Boolean,
        "TINYINT" | "UTINYINT" | "SMALLINT" => LogicalType::Int16,
        "USMALLINT" | "INTEGER" => LogicalType::Int32,
        "UINTEGER" | "BIGINT" => LogicalType::Int64,
        "UBIGINT" => LogicalType::UInt64,
        "HUGEINT" | "UHUGEINT" => HUGE,
        "BIGNUM" => LogicalType::Numeric,
        "FLOAT" => LogicalType::Float32,
        "DOUBLE" => LogicalType::Float64,
        "VARCHAR" => marked(comment).unwrap_or(LogicalType::Text),
        "JSON" | "VARIANT" => LogicalType::Json,
        "UUID" => LogicalType::Uuid,
        "BLOB" => LogicalType::Binary,
        "DATE" => LogicalType::Date,
        "TIME" => LogicalType::Time,
        "TIMESTAMP" | "TIMESTAMP_S" | "TIMESTAMP_MS" | "TIMESTAMP_NS" => LogicalType::Timestamp,
        "TIMESTAMP WITH TIME ZONE" => LogicalType::TimestampTz,
        "INTERVAL" => LogicalType::Interval,
        other if nested(other) => LogicalType::Json,
        other => parse_decimal(&other.to_ascii_lowercase()).unwrap_or(LogicalType::Text),
    }
}

/// Whether a column of this type may stay as it is where `wide` has to fit.
pub fn holds(data_type: &str, wide: LogicalType) -> bool {
    match data_type {
        "HUGEINT" | "UHUGEINT" => wide == HUGE,
        "TIMESTAMP_NS" => wide == LogicalType::Timestamp,
        other => stored(wide, "").sql == other,
    }
}

/// What to select so that the value arrives in a form that [`super::read`] understands.
pub fn selected(column: &Column) -> String {
    let name = sql::name(&column.name);
    let cast = |to: &str| format!("CAST({name} AS {to})");
    match column.remote_type.as_str() {
        "TINYINT" | "UTINYINT" => cast("SMALLINT"),
        "USMALLINT" => cast("INTEGER"),
        "UINTEGER" => cast("BIGINT"),
        "TIMESTAMP_S" | "TIMESTAMP_MS" => cast("TIMESTAMP"),
        "VARIANT" => format!("CAST(CAST({name} AS JSON) AS VARCHAR)"),
        "BOOLEAN"
        | "SMALLINT"
        | "INTEGER"
        | "BIGINT"
        | "UBIGINT"
        | "FLOAT"
        | "DOUBLE"
        | "VARCHAR"
        | "JSON"
        | "UUID"
        | "BLOB"
        | "DATE"
        | "TIME"
        | "TIMESTAMP"
        | "TIMESTAMP_NS"
        | "TIMESTAMP WITH TIME ZONE" => name,
        other if nested(other) => format!("CAST(to_json({name}) AS VARCHAR)"),
        other if other.starts_with("DECIMAL(") => name,
        _ => cast("VARCHAR"),
    }
}

/// JSON made of such a column may hold numbers that JSON has no word for.
pub fn has_floats(data_type: &str) -> bool {
    data_type == "VARIANT"
        || (nested(data_type) && (data_type.contains("DOUBLE") || data_type.contains("FLOAT")))
}

fn nested(data_type: &str) -> bool {
    data_type.ends_with(']')
        || ["STRUCT(", "MAP(", "UNION("]
            .iter()
            .any(|start| data_type.starts_with(start))
}

fn marked(comment: Option<&str>) -> Option<LogicalType> {
    let word = comment?
        .split_whitespace()
        .find_map(|word| word.strip_prefix(MARK))?;
    match word {
        "numeric" => Some(LogicalType::Numeric),
        other => parse_decimal(other),
    }
}

fn parse_decimal(word: &str) -> Option<LogicalType> {
    let digits = word.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = digits.split_once(',')?;
    let precision = precision
        .trim()
        .parse()
        .ok()
        .filter(|p| (1..=76).contains(p))?;
    Some(LogicalType::Decimal {
        precision,
        scale: scale.trim().parse().ok()?,
    })
}

/// The comment with our mark in it, or without; what people wrote beside it stays.
pub fn comment(present: Option<&str>, mark: Option<&str>) -> Option<String> {
    let words = present.unwrap_or_default();
    let mut kept = match words.split_whitespace().any(|word| word.starts_with(MARK)) {
        true => words
            .split_whitespace()
            .filter(|word| !word.starts_with(MARK))
            .collect::<Vec<_>>()
            .join(" "),
        false => words.to_owned(),
    };
    if let Some(mark) = mark {
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(MARK);
        kept.push_str(mark);
    }
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_logical_type_is_read_back_from_what_it_is_stored_as() {
        let decimal = |precision, scale| LogicalType::Decimal { precision, scale };
        for logical in [
            LogicalType::Boolean,
            LogicalType::Int16,
            LogicalType::Int32,
            LogicalType::Int64,
            LogicalType::UInt64,
            LogicalType::Float32,
            LogicalType::Float64,
            decimal(1, 0),
            decimal(38, 38),
            decimal(39, 0),
            decimal(76, 20),
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
        ] {
            let stored = stored(logical, "");
            let comment = comment(None, stored.mark.as_deref());
            assert_eq!(super::logical(&stored.sql, comment.as_deref()), logical);
            assert!(holds(&stored.sql, logical));
        }
    }

    #[test]
    fn decimals_of_odd_scales_get_one_that_holds_them() {
        assert_eq!(decimal(5, -2), Some((7, 0)));
        assert_eq!(decimal(2, 5), Some((5, 5)));
        assert_eq!(decimal(38, -1), None);
        assert_eq!(decimal(3, 127), None);
    }

    #[test]
    fn a_comment_that_people_wrote_stays() {
        assert_eq!(
            comment(Some("price in EUR"), Some("numeric")).as_deref(),
            Some("price in EUR tideway:numeric")
        );
        assert_eq!(
            comment(Some("price in EUR tideway:numeric"), None).as_deref(),
            Some("price in EUR")
        );
        assert_eq!(comment(Some("tideway:numeric"), None), None);
        assert_eq!(
            logical("VARCHAR", Some("price tideway:decimal(50,2)")),
            LogicalType::Decimal {
                precision: 50,
                scale: 2
            }
        );
    }

    #[test]
    fn lists_and_structs_are_json_and_enums_are_text() {
        for nested in [
            "INTEGER[]",
            "INTEGER[3]",
            "STRUCT(a INTEGER)",
            "MAP(INTEGER, VARCHAR)",
        ] {
            assert_eq!(logical(nested, None), LogicalType::Json);
        }
        assert_eq!(logical("ENUM('a[', 'b')", None), LogicalType::Text);
        assert_eq!(logical("TIME WITH TIME ZONE", None), LogicalType::Text);
    }
}
