//! Row filters (`filters[] {field_id, function, value}`), evaluated on Arrow batches so
//! that they mean the same for every source.
//!
//! A null passes only the functions that say "not": `IsNull`, `Inequality` and the
//! `…Not…` ones.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray, new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ord::cmp;
use arrow_schema::DataType;
use chrono::{DateTime, Months, TimeDelta, Utc};
use serde_json::Value;
use tideway_core::{Error, LogicalType, Result};

use crate::{plan::FilterSpec, shape::text_of};

/// The functions by name, as the HTTP contract lists them.
pub const FUNCTIONS: [&str; 29] = [
    "Equality",
    "Inequality",
    "IsNull",
    "IsNotNull",
    "True",
    "False",
    "OnOrAfter",
    "OnOrBefore",
    "GreaterThan",
    "GreaterThanEqual",
    "LessThan",
    "LessThanEqual",
    "StringContains",
    "StringStartsWith",
    "StringEndsWith",
    "StringDoesNotContain",
    "StringDoesNotStartWith",
    "StringDoesNotEndWith",
    "StringOneOf",
    "StringNotOneOf",
    "Between",
    "ArrayContains",
    "ArrayDoesNotContain",
    "InTheLast",
    "RelativeOnOrBefore",
    "RelativeOnOrAfter",
    "StringLike",
    "StringNotLike",
    "StringMatchesTrimmed",
];

/// The rows of `batch` that pass `filter`. `now` anchors relative times.
pub fn mask(
    batch: &RecordBatch,
    logical: LogicalType,
    filter: &FilterSpec,
    now: DateTime<Utc>,
) -> Result<BooleanArray> {
    let column = batch
        .column_by_name(&filter.field_id)
        .ok_or_else(|| Error::bug(format!("filter field {} was not read", filter.field_id)))?;
    let wrong = |what: &str| {
        Error::config(format!(
            "filter {} on {}: {what}",
            filter.function, filter.field_id
        ))
        .field("filters")
    };
    let compare = |operation: Compare, value: &Value| -> Result<BooleanArray> {
        let scalar = scalar_of(column, value).ok_or_else(|| {
            wrong(&format!(
                "the value cannot be read as {}",
                column.data_type()
            ))
        })?;
        operation(column, &scalar).map_err(|error| wrong(&error.to_string()))
    };
    let strings = |test: &dyn Fn(&str) -> bool, on_null: bool| -> Result<BooleanArray> {
        let texts = text_of(column, logical)?;
        Ok(texts
            .iter()
            .map(|text| Some(text.map_or(on_null, test)))
            .collect())
    };
    let word = || {
        filter
            .value
            .as_str()
            .ok_or_else(|| wrong("the value must be a string"))
    };
    let words = || -> Result<Vec<String>> {
        let items = filter
            .value
            .as_array()
            .ok_or_else(|| wrong("the value must be a list"))?;
        Ok(items.iter().map(plain_text).collect())
    };
    let relative = || -> Result<Value> {
        let phrase = word()?;
        let at = relative_time(phrase, now)
            .ok_or_else(|| wrong("the value must be like \"48 hours ago\" or a keyword"))?;
        Ok(Value::String(at.to_rfc3339()))
    };

    let passed = match filter.function.as_str() {
        "IsNull" => Ok(not(&present(column))),
        "IsNotNull" => Ok(present(column)),
        "Equality" => compare(|a, b| cmp::eq(a, b), &filter.value),
        "Inequality" => compare(|a, b| cmp::distinct(a, b), &filter.value),
        "True" => compare(|a, b| cmp::eq(a, b), &Value::Bool(true)),
        "False" => compare(|a, b| cmp::eq(a, b), &Value::Bool(false)),
        "GreaterThan" => compare(|a, b| cmp::gt(a, b), &filter.value),
        "GreaterThanEqual" | "OnOrAfter" => compare(|a, b| cmp::gt_eq(a, b), &filter.value),
        "LessThan" => compare(|a, b| cmp::lt(a, b), &filter.value),
        "LessThanEqual" | "OnOrBefore" => compare(|a, b| cmp::lt_eq(a, b), &filter.value),
        "RelativeOnOrAfter" | "InTheLast" => compare(|a, b| cmp::gt_eq(a, b), &relative()?),
        "RelativeOnOrBefore" => compare(|a, b| cmp::lt_eq(a, b), &relative()?),
        "Between" => match filter.value.as_array().map(Vec::as_slice) {
            Some([low, high]) => {
                let above = compare(|a, b| cmp::gt_eq(a, b), low)?;
                let below = compare(|a, b| cmp::lt_eq(a, b), high)?;
                Ok(and(&above, &below))
            }
            _ => Err(wrong("the value must be a list of two")),
        },
        "StringContains" => word().and_then(|w| strings(&|t| t.contains(w), false)),
        "StringDoesNotContain" => word().and_then(|w| strings(&|t| !t.contains(w), true)),
        "StringStartsWith" => word().and_then(|w| strings(&|t| t.starts_with(w), false)),
        "StringDoesNotStartWith" => word().and_then(|w| strings(&|t| !t.starts_with(w), true)),
        "StringEndsWith" => word().and_then(|w| strings(&|t| t.ends_with(w), false)),
        "StringDoesNotEndWith" => word().and_then(|w| strings(&|t| !t.ends_with(w), true)),
        "StringMatchesTrimmed" => word().and_then(|w| strings(&|t| t.trim() == w.trim(), false)),
        "StringLike" => word().and_then(|w| strings(&|t| like(t, w), false)),
        "StringNotLike" => word().and_then(|w| strings(&|t| !like(t, w), true)),
        "StringOneOf" => {
            words().and_then(|list| strings(&|t| list.iter().any(|item| item == t), false))
        }
        "StringNotOneOf" => {
            words().and_then(|list| strings(&|t| list.iter().all(|item| item != t), true))
        }
        "ArrayContains" => strings(&|t| holds(t, &filter.value), false),
        "ArrayDoesNotContain" => strings(&|t| !holds(t, &filter.value), true),
        other => Err(Error::config(format!("{other} is not a filter function"))
            .field("filters")
            .hint(format!("use one of {}", FUNCTIONS.join(", ")))),
    }?;
    Ok(passed)
}

type Compare = fn(&ArrayRef, &Scalar<ArrayRef>) -> Result<BooleanArray, arrow_schema::ArrowError>;

/// Which rows of `a` pass, null counting as no.
pub fn and(a: &BooleanArray, b: &BooleanArray) -> BooleanArray {
    a.iter()
        .zip(b.iter())
        .map(|(a, b)| Some(a.unwrap_or(false) && b.unwrap_or(false)))
        .collect()
}

fn present(column: &ArrayRef) -> BooleanArray {
    (0..column.len())
        .map(|row| Some(column.is_valid(row)))
        .collect()
}

fn not(mask: &BooleanArray) -> BooleanArray {
    mask.iter()
        .map(|passed| passed.map(|passed| !passed))
        .collect()
}

/// A JSON value as one value of the column's type.
pub fn scalar_of(column: &ArrayRef, value: &Value) -> Option<Scalar<ArrayRef>> {
    let kind = column.data_type();
    if value.is_null() {
        return Some(Scalar::new(new_null_array(kind, 1)));
    }
    let text = match (kind, value) {
        // A date alone means its first moment.
        (DataType::Timestamp(..), Value::String(text)) if text.len() == 10 => {
            format!("{text}T00:00:00")
        }
        (DataType::Date32, Value::String(text)) => text.chars().take(10).collect(),
        (DataType::FixedSizeBinary(16), Value::String(text)) => {
            let bytes = hex::decode(text.replace('-', ""))
                .ok()
                .filter(|b| b.len() == 16)?;
            let array = arrow_array::FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes));
            return Some(Scalar::new(Arc::new(array.ok()?)));
        }
        (_, value) => plain_text(value),
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let array = cast_with_options(&texts, kind, &options).ok()?;
    array.is_valid(0).then(|| Scalar::new(array))
}

fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether the JSON array in `text` has an element equal to `wanted`.
fn holds(text: &str, wanted: &Value) -> bool {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => items.contains(wanted),
        _ => false,
    }
}

/// SQL's LIKE: `%` is any run, `_` any one character, `\` takes the next literally.
fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    // Where to go on if the run after the last `%` does not fit.
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let literal = match pattern.get(p) {
            Some('%') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('_') => Some((true, 1)),
            Some('\\') if p + 1 < pattern.len() => Some((pattern[p + 1] == text[t], 2)),
            Some(c) => Some((*c == text[t], 1)),
            None => None,
        };
        match (literal, retry) {
            (Some((true, width)), _) => {
                p += width;
                t += 1;
            }
            (_, Some((after, from))) => {
                retry = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

/// `48 hours ago`, `3 days` (as in "in the last"), `today`, `yesterday`, `now`.
pub fn relative_time(phrase: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let midnight = now.date_naive().and_hms_opt(0, 0, 0)?.and_utc();
    let phrase = phrase.trim().to_lowercase();
    match phrase.as_str() {
        "now" => return Some(now),
        "today" => return Some(midnight),
        "yesterday" => return midnight.checked_sub_signed(TimeDelta::days(1)),
        "tomorrow" => return midnight.checked_add_signed(TimeDelta::days(1)),
        _ => {}
    }
    let mut words = phrase.split_whitespace();
    let count: u32 = words.next()?.parse().ok()?;
    let unit = words.next()?.trim_end_matches('s');
    let ahead = match words.next() {
        None | Some("ago") => false,
        Some("from") => true,
        Some(_) => return None,
    };
    let n = i64::from(count);
    let span = match unit {
        "second" => TimeDelta::try_seconds(n)?,
        "minute" => TimeDelta::try_minutes(n)?,
        "hour" => TimeDelta::try_hours(n)?,
        "day" => TimeDelta::try_days(n)?,
        "week" => TimeDelta::try_weeks(n)?,
        "month" | "year" => {
            let months = Months::new(if unit == "year" {
                count.checked_mul(12)?
            } else {
                count
            });
            return if ahead {
                now.checked_add_months(months)
            } else {
                now.checked_sub_months(months)
            };
        }
        _ => return None,
    };
    if ahead {
        now.checked_add_signed(span)
    } else {
        now.checked_sub_signed(span)
    }
}

/// How many rows a mask lets through.
pub fn passed(mask: &BooleanArray) -> usize {
    mask.true_count()
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, TimestampMicrosecondArray};
    use serde_json::json;
    use tideway_core::{Column, schema::arrow_schema};

    use super::*;

    fn rows(function: &str, field: &str, value: Value) -> Result<Vec<usize>> {
        let columns = [
            Column::new("n", LogicalType::Int64),
            Column::new("t", LogicalType::Text),
            Column::new("at", LogicalType::TimestampTz),
            Column::new("tags", LogicalType::Json),
        ];
        let day = 86_400_000_000_i64;
        let batch = RecordBatch::try_new(
            arrow_schema(&columns),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4)])),
                Arc::new(StringArray::from(vec![
                    Some("apple"),
                    Some(" pear "),
                    Some("100%"),
                    None,
                ])),
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(0), Some(day), Some(2 * day), None])
                        .with_timezone("UTC"),
                ),
                Arc::new(StringArray::from(vec![
                    Some("[1,2]"),
                    Some("[\"a\"]"),
                    Some("{}"),
                    None,
                ])),
            ],
        )
        .unwrap();
        let logical = columns.iter().find(|c| c.name == field).unwrap().logical;
        let filter = FilterSpec {
            field_id: field.into(),
            function: function.into(),
            value,
        };
        let now = DateTime::from_timestamp(2 * 86_400, 0).unwrap();
        let mask = mask(&batch, logical, &filter, now)?;
        Ok((0..4)
            .filter(|&row| mask.is_valid(row) && mask.value(row))
            .collect())
    }

    #[test]
    fn functions_keep_the_rows_they_name() {
        let cases = [
            ("Equality", "n", json!(2), vec![1]),
            ("Inequality", "n", json!(2), vec![0, 2, 3]),
            ("GreaterThanEqual", "n", json!("2"), vec![1, 3]),
            ("Between", "n", json!([1, 2]), vec![0, 1]),
            ("IsNull", "n", json!(null), vec![2]),
            ("IsNotNull", "t", json!(null), vec![0, 1, 2]),
            ("StringContains", "t", json!("p"), vec![0, 1]),
            ("StringDoesNotContain", "t", json!("p"), vec![2, 3]),
            ("StringMatchesTrimmed", "t", json!("pear"), vec![1]),
            ("StringLike", "t", json!("%pp_e"), vec![0]),
            ("StringLike", "t", json!("%\\%"), vec![2]),
            ("StringNotLike", "t", json!("a%"), vec![1, 2, 3]),
            ("StringOneOf", "t", json!(["apple", "x"]), vec![0]),
            ("OnOrAfter", "at", json!("1970-01-02"), vec![1, 2]),
            (
                "OnOrBefore",
                "at",
                json!("1970-01-02T00:00:00Z"),
                vec![0, 1],
            ),
            ("RelativeOnOrAfter", "at", json!("24 hours ago"), vec![1, 2]),
            ("InTheLast", "at", json!("1 day"), vec![1, 2]),
            ("ArrayContains", "tags", json!(2), vec![0]),
            ("ArrayDoesNotContain", "tags", json!("a"), vec![0, 2, 3]),
        ];
        for (function, field, value, expected) in cases {
            assert_eq!(
                rows(function, field, value).unwrap(),
                expected,
                "{function}"
            );
        }
    }

    #[test]
    fn wrong_functions_and_values_are_named() {
        let error = rows("Soundex", "t", json!("x")).unwrap_err();
        assert!(error.to_string().contains("Soundex"));
        let error = rows("GreaterThan", "n", json!("tall")).unwrap_err();
        assert_eq!(error.blamed_field(), Some("filters"));
    }
}
