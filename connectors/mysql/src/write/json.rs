//! What MySQL's JSON type, which is not text, does not hold.

/// The document with halves of surrogate pairs, which stand for no character, replaced by
/// U+FFFD; `None` where there are none. Whether it is JSON at all is for the server to say.
pub fn without_halves(text: &str) -> Option<String> {
    if !text.contains("\\u") {
        return None;
    }
    let mut made = String::with_capacity(text.len());
    let mut replaced = false;
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        made.push_str(before);
        let length = match (unit(from), from.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                made.push('\u{FFFD}');
                replaced = true;
                rest = from.get(6..).unwrap_or_default();
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + from.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, behind) = from.split_at(length.min(from.len()));
        made.push_str(escape);
        rest = behind;
    }
    made.push_str(rest);
    replaced.then_some(made)
}

/// The code unit of a `\uXXXX` at the front of `text`.
fn unit(text: &str) -> Option<u16> {
    let hex = text.strip_prefix("\\u")?.get(..4)?;
    let all_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(hex, 16).ok())?
}

/// How a document's numbers fit. The server keeps whole numbers of 64 bits, and of others the
/// double: some 15 digits, and at most 1.8e308.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    Exact,
    /// Some number has more digits than that.
    Rounded,
    /// Some number is larger than that: the server refuses the document.
    TooLarge,
}

pub fn fit(text: &str) -> Fit {
    let bytes = text.as_bytes();
    let (mut at, mut worst) = (0, Fit::Exact);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let length = bytes
                    .iter()
                    .skip(at)
                    .take_while(|byte| is_of_number(**byte))
                    .count();
                worst = worst.max(text.get(at..at + length).map_or(Fit::Exact, fit_of));
                at += length;
            }
            _ => at += 1,
        }
    }
    worst
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return at,
        }
    }
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || b"+-.eE".contains(&byte)
}

fn fit_of(number: &str) -> Fit {
    if number.parse().is_ok_and(f64::is_infinite) {
        return Fit::TooLarge;
    }
    match rounds(number) {
        true => Fit::Rounded,
        false => Fit::Exact,
    }
}

fn rounds(number: &str) -> bool {
    let whole = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    if whole {
        return number.len() > 18
            && number.parse::<i64>().is_err()
            && number.parse::<u64>().is_err();
    }
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    digits.skip_while(|digit| *digit == b'0').count() > 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_a_whole_one_stays() {
        assert_eq!(without_halves(r#""\ud83d\ude00""#), None);
        assert_eq!(without_halves(r#""\\ud83d""#), None);
        assert_eq!(
            without_halves(r#""\ud83d!\ude00é\uD83D""#).as_deref(),
            Some("\"\u{FFFD}!\u{FFFD}é\u{FFFD}\"")
        );
    }

    #[test]
    fn numbers_that_a_double_cannot_hold_are_seen_outside_of_strings_alone() {
        for (text, expected) in [
            ("[1, -2.5, 1e300]", Fit::Exact),
            ("18446744073709551615", Fit::Exact),
            ("-9223372036854775808", Fit::Exact),
            ("18446744073709551616", Fit::Rounded),
            ("{\"a\": 0.1234567890123456789}", Fit::Rounded),
            ("[0.1234567890123456789, -1e400, 1]", Fit::TooLarge),
            ("\"1e400\"", Fit::Exact),
            (
                "{\"0.1234567890123456789\": \"\\\"18446744073709551616\"}",
                Fit::Exact,
            ),
        ] {
            assert_eq!(fit(text), expected, "{text}");
        }
    }
}
