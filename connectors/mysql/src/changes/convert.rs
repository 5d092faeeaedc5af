//! Texts in characters that only the server can turn into Unicode: they are sent back to it,
//! so that they are what a query would have shown.

use tideway_core::{Error, Result};

use crate::{connect::Session, sql};

/// Values of one statement.
const AT_ONCE: usize = 128;
const MOST_BYTES: usize = 1 << 20;

/// The values as UTF-8, in their order.
pub async fn convert(
    session: &mut Session,
    charset: &str,
    values: &[&[u8]],
) -> Result<Vec<String>> {
    let mut converted = Vec::with_capacity(values.len());
    let mut rest = values;
    while !rest.is_empty() {
        let (mut bytes, mut count) = (0, 0);
        for value in rest.iter().take(AT_ONCE) {
            bytes += value.len();
            if count > 0 && bytes > MOST_BYTES {
                break;
            }
            count += 1;
        }
        let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        rest = later;
        let terms = now
            .iter()
            .map(|value| format!("CONVERT(_{charset} {} USING utf8mb4)", sql::binary(value)));
        let statement = format!("SELECT {}", sql::list(terms));
        let rows = session.rows(&statement).await?;
        let row = rows.into_iter().next().unwrap_or_default();
        if row.len() != now.len() {
            return Err(Error::bug("texts were converted into fewer"));
        }
        converted.extend(row.into_iter().map(Option::unwrap_or_default));
    }
    Ok(converted)
}

/// MySQL's latin1 is Windows-1252, with the five bytes that have no character there standing
/// for the control characters of their number.
pub fn latin1(bytes: &[u8]) -> String {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    let character = |byte: &u8| match byte {
        0x80..0xa0 => HIGH
            .get(usize::from(byte - 0x80))
            .copied()
            .unwrap_or('\u{fffd}'),
        byte => char::from(*byte),
    };
    bytes.iter().map(character).collect()
}
