//! Characters that PostgreSQL cannot hold in text and JSON.

/// `text` without NUL characters, which `text` cannot hold; `None` where there is none.
pub fn without_nul(text: &str) -> Option<String> {
    text.as_bytes()
        .contains(&0)
        .then(|| text.chars().filter(|c| *c != '\0').collect())
}

/// A JSON document as `jsonb` takes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Storable {
    pub text: String,
    /// NUL characters were taken out, escaped or not.
    pub stripped: bool,
    /// Half a surrogate pair stands for no character and became U+FFFD.
    pub replaced: bool,
}

/// `None` where the document can stay as it is. Only its escapes are looked at: whether
/// it is JSON at all is for the server to say.
pub fn storable_json(text: &str) -> Option<Storable> {
    if !text.contains("\\u") && !text.as_bytes().contains(&0) {
        return None;
    }
    let mut made = Storable::default();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\0']) {
        let (before, from) = rest.split_at(at);
        made.text.push_str(before);
        rest = made.escape(from);
    }
    made.text.push_str(rest);
    (made.stripped || made.replaced).then_some(made)
}

impl Storable {
    /// Takes one escape or NUL from the front of `text` and gives back what follows it.
    fn escape<'a>(&mut self, text: &'a str) -> &'a str {
        if let Some(rest) = text.strip_prefix('\0') {
            self.stripped = true;
            return rest;
        }
        let Some(unit) = unicode_escape(text) else {
            let length = 1 + text[1..].chars().next().map_or(0, char::len_utf8);
            let (escape, rest) = text.split_at(length);
            self.text.push_str(escape);
            return rest;
        };
        let (escape, rest) = text.split_at(6);
        match unit {
            0 => {
                self.stripped = true;
                rest
            }
            0xD800..=0xDBFF if matches!(unicode_escape(rest), Some(0xDC00..=0xDFFF)) => {
                let (low, rest) = rest.split_at(6);
                self.text.push_str(escape);
                self.text.push_str(low);
                rest
            }
            0xD800..=0xDFFF => {
                self.replaced = true;
                self.text.push('\u{FFFD}');
                rest
            }
            _ => {
                self.text.push_str(escape);
                rest
            }
        }
    }
}

/// The code unit of a `\uXXXX` at the front of `text`.
fn unicode_escape(text: &str) -> Option<u16> {
    let hex = text.strip_prefix("\\u")?.get(..4)?;
    let all_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(hex, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> (String, bool, bool) {
        let made = storable_json(text).unwrap_or(Storable {
            text: text.into(),
            ..Storable::default()
        });
        (made.text, made.stripped, made.replaced)
    }

    #[test]
    fn nul_is_taken_out_of_text() {
        assert_eq!(without_nul("a\0b\0").as_deref(), Some("ab"));
        assert_eq!(without_nul("ab"), None);
    }

    #[test]
    fn escaped_nul_is_taken_out_of_json() {
        assert_eq!(
            json(r#"{"a\u0000":"\u0000b"}"#),
            (r#"{"a":"b"}"#.into(), true, false)
        );
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_no_nul() {
        let text = r#"{"a":"\\u0000"}"#;
        assert_eq!(json(text), (text.into(), false, false));
        assert_eq!(json(r#""\\\u0000""#), (r#""\\""#.into(), true, false));
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_a_whole_one_stays() {
        let whole = r#""\ud83d\ude00""#;
        assert_eq!(json(whole), (whole.into(), false, false));
        assert_eq!(
            json(r#""\ud83d!\ude00\uD83D""#),
            ("\"\u{FFFD}!\u{FFFD}\u{FFFD}\"".into(), false, true)
        );
    }

    proptest! {
        #[test]
        fn json_without_such_escapes_is_left_alone(text in "[a-z\\\\\"{}:0-9äß]{0,40}") {
            prop_assume!(!text.contains("\\u"));
            prop_assert_eq!(storable_json(&text), None);
        }

        #[test]
        fn what_is_made_needs_nothing_more(text in r#"(\\u0000|\\ud83d|\\udc00|\\\\|u0000|\\n|\x00|x){0,12}"#) {
            if let Some(made) = storable_json(&text) {
                prop_assert_eq!(storable_json(&made.text), None, "{} -> {}", text, made.text);
            }
        }
    }
}
