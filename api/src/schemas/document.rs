//! The JSONPaths that user-defined fields may have: one place within a record, such as
//! `$.address.city`, `$.tags[0]` or `$['first name']`. The first name is a column.

use serde_json::Value;
use tideway_core::{Error, Result};

use crate::wire::JsonObject;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// A path that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    pub fn parse(text: &str) -> Result<JsonPath> {
        let broken = || {
            Error::config("path must be a JSONPath to a single value, such as $.address.city")
                .field("path")
                .hint("use names and indexes only: $.a.b, $.a[0], $['a b']")
        };
        let mut rest = text.strip_prefix('$').ok_or_else(broken)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest).ok_or_else(broken)?;
            steps.push(step);
            rest = after;
        }
        match steps.first() {
            Some(Step::Name(_)) => Ok(JsonPath(steps)),
            _ => Err(broken()),
        }
    }

    /// The value at the path, null where there is none.
    pub fn find(&self, record: &JsonObject) -> Value {
        let Some((Step::Name(column), steps)) = self.0.split_first() else {
            return Value::Null;
        };
        let mut found = record.get(column);
        for step in steps {
            found = found.and_then(|value| match step {
                Step::Name(name) => value.get(name),
                Step::Index(index) => value.get(index),
            });
        }
        found.cloned().unwrap_or_default()
    }
}

/// The first step of the text, and what follows it.
fn step(text: &str) -> Option<(Step, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (name, rest) = name.split_at(end);
        let plain = !name.is_empty() && !name.contains(['*', '\'', '"', ']', '?', ' ']);
        return plain.then(|| (Step::Name(name.to_owned()), rest));
    }
    let inner = text.strip_prefix('[')?;
    for quote in ['\'', '"'] {
        if let Some(quoted) = inner.strip_prefix(quote) {
            let (name, rest) = quoted.split_once(quote)?;
            return Some((Step::Name(name.to_owned()), rest.strip_prefix(']')?));
        }
    }
    let (index, rest) = inner.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str) -> Value {
        let record = json!({"a": {"b": [1, {"c d": "x"}]}, "plain": 5});
        JsonPath::parse(path)
            .unwrap()
            .find(record.as_object().unwrap())
    }

    #[test]
    fn a_path_leads_to_one_value() {
        assert_eq!(find("$.plain"), json!(5));
        assert_eq!(find("$.a.b[0]"), json!(1));
        assert_eq!(find("$['a'].b[1]['c d']"), json!("x"));
    }

    #[test]
    fn a_path_beyond_the_document_leads_to_null() {
        assert_eq!(find("$.a.b[7].c"), Value::Null);
        assert_eq!(find("$.plain.c"), Value::Null);
    }

    #[test]
    fn what_names_no_single_value_is_refused() {
        for path in [
            "",
            "$",
            "a.b",
            "$..a",
            "$.a[*]",
            "$.a[?(@.b)]",
            "$[0]",
            "$.a[",
            "$['a",
            "$.*",
        ] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
