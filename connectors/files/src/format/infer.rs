//! Finds a column's type from its values' texts.
//!
//! A type is only chosen if every value seen comes back from it as it was. What has
//! been seen is kept rather than a type, so that the sightings of many files add up to
//! the type that all of their values fit in.

use tideway_core::LogicalType;

use super::{
    cells::parse_boolean,
    moment::{Stamp, parse_date, parse_stamp},
    number,
};

/// CSV columns with at most this many digits behind the point become decimals rather
/// than floats: amounts are decimals, measurements have more digits.
const MOST_DECIMAL_SCALE: u16 = 9;

/// What the values of one column looked like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    boolean: bool,
    integer: bool,
    fraction: bool,
    /// Numbers that only a float can hold: exponents, minus zero, NaN.
    float: bool,
    /// Numbers that a float cannot hold.
    exact: bool,
    /// Integers that 64 bits cannot hold.
    long: bool,
    date: bool,
    local: bool,
    zoned: bool,
    text: bool,
    nested: bool,
    /// Most digits before and behind the point.
    whole: u16,
    scale: u16,
}

impl Seen {
    /// Takes a CSV field that is not empty.
    pub fn field(&mut self, text: &str) {
        if self.text {
            return;
        }
        let first = text.as_bytes().first().copied().unwrap_or_default();
        match first {
            b'0'..=b'9' | b'-' | b'+' | b'.' => self.numeric_or_moment(text),
            b't' | b'T' | b'f' | b'F' if parse_boolean(text).is_some() => self.boolean = true,
            b'N' | b'n' | b'I' | b'i' if number::special(text).is_some() => self.float = true,
            _ => self.text = true,
        }
    }

    /// Takes a JSON value as it is written in the file. Strings stay text whatever they
    /// look like: who wanted a number could have written one.
    pub fn json(&mut self, raw: &str) {
        match raw.as_bytes().first() {
            Some(b'{' | b'[') => self.nested = true,
            Some(b'"') => self.text = true,
            Some(b't' | b'f') => self.boolean = true,
            Some(b'n') | None => {}
            Some(_) => self.number(raw),
        }
    }

    fn numeric_or_moment(&mut self, text: &str) {
        if number::form(text).is_some() || number::special(text).is_some() {
            return self.number(text);
        }
        match parse_stamp(text) {
            Some(Stamp::Local(_)) => self.local = true,
            Some(Stamp::Zoned(_)) => self.zoned = true,
            None if parse_date(text).is_some() => self.date = true,
            None => self.text = true,
        }
    }

    fn number(&mut self, text: &str) {
        let Some(form) = number::form(text) else {
            self.float |= number::special(text).is_some();
            return;
        };
        self.whole = self
            .whole
            .max(u16::try_from(form.whole).unwrap_or(u16::MAX));
        self.scale = self
            .scale
            .max(u16::try_from(form.scale).unwrap_or(u16::MAX));
        match form.float {
            true => self.float = true,
            false if form.scale > 0 => self.fraction = true,
            false => {
                self.integer = true;
                self.long |= form.whole > 18 && number::integer::<i64>(text).is_none();
            }
        }
        if form.whole + form.scale > 15 || form.float {
            self.exact |= number::float64(text).is_none();
        }
    }

    /// Adds what another look at the same column has seen.
    pub fn merge(&mut self, other: &Seen) {
        self.boolean |= other.boolean;
        self.integer |= other.integer;
        self.fraction |= other.fraction;
        self.float |= other.float;
        self.exact |= other.exact;
        self.long |= other.long;
        self.date |= other.date;
        self.local |= other.local;
        self.zoned |= other.zoned;
        self.text |= other.text;
        self.nested |= other.nested;
        self.whole = self.whole.max(other.whole);
        self.scale = self.scale.max(other.scale);
    }

    /// The narrowest type for all that was seen. `floats` says that numbers with a
    /// fraction are floats by nature (JSON) rather than amounts (CSV).
    pub fn logical(&self, floats: bool) -> LogicalType {
        if self.nested {
            return LogicalType::Json;
        }
        let number = self.integer || self.fraction || self.float;
        let kinds = [self.boolean, number, self.date || self.local, self.zoned];
        if self.text || kinds.iter().filter(|seen| **seen).count() != 1 {
            return LogicalType::Text;
        }
        if self.boolean {
            LogicalType::Boolean
        } else if self.zoned {
            LogicalType::TimestampTz
        } else if self.local {
            LogicalType::Timestamp
        } else if self.date {
            LogicalType::Date
        } else {
            self.number_type(floats)
        }
    }

    fn number_type(&self, floats: bool) -> LogicalType {
        if self.float {
            // A float that would round others is no type for them.
            return if self.exact {
                LogicalType::Text
            } else {
                LogicalType::Float64
            };
        }
        if !self.fraction && !self.long {
            return LogicalType::Int64;
        }
        let wants_float = self.fraction && (floats || self.scale > MOST_DECIMAL_SCALE);
        if wants_float && !self.exact {
            return LogicalType::Float64;
        }
        // Rounded up, so that a slightly longer number next time is no new type.
        let digits = self.whole.saturating_add(self.scale);
        match [18, 38, 76].into_iter().find(|most| digits <= *most) {
            Some(precision) => LogicalType::Decimal {
                precision: precision as u8,
                scale: self.scale as i8,
            },
            None => LogicalType::Numeric,
        }
    }
}

/// The columns of one file, by name, in the order of their first appearance.
#[derive(Debug, Clone, Default)]
pub struct Sightings {
    pub columns: Vec<(String, Seen)>,
    /// Rows looked at.
    pub rows: u64,
    /// Unpacked bytes looked at.
    pub bytes: u64,
    /// Every row of the file was looked at.
    pub whole: bool,
}

impl Sightings {
    pub fn column(&mut self, name: &str) -> usize {
        match self.columns.iter().position(|(known, _)| known == name) {
            Some(at) => at,
            None => {
                self.columns.push((name.to_owned(), Seen::default()));
                self.columns.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[&str]) -> LogicalType {
        let mut seen = Seen::default();
        fields.iter().for_each(|field| seen.field(field));
        seen.logical(false)
    }

    fn of_json(values: &[&str]) -> LogicalType {
        let mut seen = Seen::default();
        values.iter().for_each(|value| seen.json(value));
        seen.logical(true)
    }

    fn decimal(precision: u8, scale: i8) -> LogicalType {
        LogicalType::Decimal { precision, scale }
    }

    #[test]
    fn csv_fields_get_the_narrowest_type_that_loses_nothing() {
        use LogicalType::*;
        assert_eq!(of(&[]), Text);
        assert_eq!(of(&["true", "FALSE"]), Boolean);
        assert_eq!(of(&["1", "-9223372036854775808"]), Int64);
        assert_eq!(of(&["1", "9223372036854775808"]), decimal(38, 0));
        assert_eq!(of(&["00123", "124"]), Text);
        assert_eq!(of(&["+4915112345"]), Text);
        assert_eq!(of(&["12.30", "7", "1234.5"]), decimal(18, 2));
        assert_eq!(of(&["0.30000000000000004", "12.5"]), Float64);
        assert_eq!(of(&["1e-5", "2.25"]), Float64);
        assert_eq!(of(&["1e-5", "0.12345678901234567890123"]), Text);
        assert_eq!(of(&["1.5", "NaN"]), Float64);
        assert_eq!(of(&["2024-01-31"]), Date);
        assert_eq!(of(&["2024-02-31"]), Text);
        assert_eq!(of(&["2024-01-31", "2024-01-31 10:00:00"]), Timestamp);
        assert_eq!(
            of(&["2024-01-31T10:00:00Z", "2024-01-31 12:00:00+02"]),
            TimestampTz
        );
        assert_eq!(of(&["2024-01-31T10:00:00Z", "2024-01-31T10:00:00"]), Text);
        assert_eq!(of(&["1", "x"]), Text);
        assert_eq!(of(&["1", "true"]), Text);
        assert_eq!(of(&["10:30:00"]), Text);
        assert_eq!(of(&[&"9".repeat(77)]), Numeric);
    }

    #[test]
    fn json_values_keep_their_own_types() {
        use LogicalType::*;
        assert_eq!(of_json(&["null"]), Text);
        assert_eq!(of_json(&["1", "null", "2"]), Int64);
        assert_eq!(of_json(&["1", "2.5"]), Float64);
        assert_eq!(of_json(&["0.1234567890123456789"]), decimal(38, 19));
        assert_eq!(of_json(&["\"2024-01-01\""]), Text);
        assert_eq!(of_json(&["1", "\"x\""]), Text);
        assert_eq!(of_json(&["1", "{\"a\":1}"]), Json);
    }

    #[test]
    fn sightings_of_two_files_add_up() {
        let (mut first, mut second) = (Seen::default(), Seen::default());
        first.field("123456");
        second.field("0.25");
        first.merge(&second);
        assert_eq!(first.logical(false), decimal(18, 2));
    }
}
