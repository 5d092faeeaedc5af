//! Cuts CSV bytes into records and fields.
//!
//! Own code rather than the `csv` crates: those hand out unescaped fields and forget
//! whether a field stood in quotes, and with it the difference between no value (`,,`)
//! and the empty text (`,"",`). They also do not say on which line a record begins once
//! a field has had line breaks in it.

use std::io::Read;

use memchr::{memchr, memchr_iter, memchr3};
use tideway_core::{Error, Result};

use super::{Input, read_error};

/// A record that does not end within this many bytes is taken for a missing quote.
const LONGEST_RECORD: usize = 256 << 20;
const CHUNK: usize = 256 << 10;

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    quoted: bool,
    /// Has doubled quotes in it.
    doubled: bool,
}

/// The records of one file, one at a time.
pub struct Records {
    input: Input,
    file: String,
    delimiter: u8,
    buffer: Vec<u8>,
    /// Where the next record begins, and where the bytes read so far end.
    at: usize,
    end: usize,
    at_end_of_file: bool,
    fields: Vec<Span>,
    /// Line on which the record before `at` began, and on which the next one begins.
    line: u64,
    next_line: u64,
    bytes: u64,
    blank_is_a_row: bool,
}

impl Records {
    /// `file` is named in errors. Skips a byte order mark and `skip_lines` lines.
    pub fn open(input: Input, file: &str, delimiter: u8, skip_lines: u64) -> Result<Self> {
        let mut records = Records {
            input,
            file: file.to_owned(),
            delimiter,
            buffer: vec![0; CHUNK],
            at: 0,
            end: 0,
            at_end_of_file: false,
            fields: Vec::new(),
            line: 0,
            next_line: 1,
            bytes: 0,
            blank_is_a_row: false,
        };
        while records.end < 3 && !records.at_end_of_file {
            records.fill()?;
        }
        let head = &records.buffer[..records.end.min(3)];
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(Error::data(format!("{file} is UTF-16"))
                .hint("save the file as UTF-8 and try again"));
        }
        if head == [0xef, 0xbb, 0xbf] {
            records.at = 3;
        }
        for _ in 0..skip_lines {
            records.skip_line()?;
        }
        Ok(records)
    }

    /// A blank line is a row with no value in its only column from here on.
    pub fn count_blank_lines(&mut self) {
        self.blank_is_a_row = true;
    }

    /// The line that the current record begins on, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Bytes of the records handed out so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn width(&self) -> usize {
        self.fields.len()
    }

    /// A field of the current record without its quotes, and whether it had any.
    pub fn field(&self, index: usize) -> Option<(&[u8], bool)> {
        let span = self.fields.get(index)?;
        Some((&self.buffer[span.start..span.end], span.quoted))
    }

    /// Goes to the next record; `false` at the end of the file.
    pub fn advance(&mut self) -> Result<bool> {
        loop {
            let end = match self.scan()? {
                Some(end) => end,
                None if self.at_end_of_file => return Ok(false),
                None => {
                    self.fill()?;
                    continue;
                }
            };
            self.line = self.next_line;
            let record = &self.buffer[self.at..end];
            let quoted = self.fields.iter().any(|field| field.quoted);
            // Outside of quotes a line break ends the record.
            let lines = if quoted {
                memchr_iter(b'\n', record).count() as u64
            } else {
                1
            };
            self.next_line += lines.max(1);
            self.bytes += record.len() as u64;
            self.at = end;
            let blank =
                matches!(self.fields.as_slice(), [only] if only.start == only.end && !only.quoted);
            if blank && !self.blank_is_a_row {
                continue;
            }
            self.join_doubled_quotes();
            return Ok(true);
        }
    }

    /// Finds the fields of the record at `at` and where the record ends, line break
    /// included; `None` if that has not been read yet.
    fn scan(&mut self) -> Result<Option<usize>> {
        self.fields.clear();
        let data = &self.buffer[..self.end];
        if self.at == data.len() {
            return Ok(None);
        }
        let mut at = self.at;
        loop {
            if data.get(at) == Some(&b'"') {
                let Some((end, doubled)) = closing_quote(data, at + 1, self.at_end_of_file) else {
                    return match self.at_end_of_file {
                        true => Err(self.unclosed()),
                        false => Ok(None),
                    };
                };
                self.fields.push(Span {
                    start: at + 1,
                    end,
                    quoted: true,
                    doubled,
                });
                at = end + 1;
                let separated = data
                    .get(at)
                    .is_none_or(|byte| *byte == self.delimiter || matches!(byte, b'\n' | b'\r'));
                if !separated {
                    return Err(Error::data(format!(
                        "{}, line {}: text follows a closing quote",
                        self.file, self.next_line
                    ))
                    .hint("quotes within a quoted field have to be doubled"));
                }
            } else {
                let length = memchr3(self.delimiter, b'\n', b'\r', &data[at..]);
                let end = length.map_or(data.len(), |length| at + length);
                if length.is_none() && !self.at_end_of_file {
                    return Ok(None);
                }
                self.fields.push(Span {
                    start: at,
                    end,
                    quoted: false,
                    doubled: false,
                });
                at = end;
            }
            match data.get(at) {
                None if self.at_end_of_file => return Ok(Some(at)),
                None => return Ok(None),
                Some(b'\n') => return Ok(Some(at + 1)),
                Some(b'\r') => match data.get(at + 1) {
                    Some(b'\n') => return Ok(Some(at + 2)),
                    None if !self.at_end_of_file => return Ok(None),
                    _ => return Ok(Some(at + 1)),
                },
                Some(_) => at += 1,
            }
        }
    }

    fn unclosed(&self) -> Error {
        Error::data(format!(
            "{}, line {}: a quote is opened and never closed",
            self.file, self.next_line
        ))
        .hint("correct the file; quotes within a field have to be doubled")
    }

    fn join_doubled_quotes(&mut self) {
        for field in self.fields.iter_mut().filter(|field| field.doubled) {
            let mut to = field.start;
            let mut from = field.start;
            while from < field.end {
                let byte = self.buffer[from];
                self.buffer[to] = byte;
                to += 1;
                from += if byte == b'"' { 2 } else { 1 };
            }
            field.end = to;
        }
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.at..self.end]) {
                self.at += length + 1;
                self.next_line += 1;
                return Ok(());
            }
            self.at = self.end;
            if self.at_end_of_file {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Reads on, keeping what has not been handed out.
    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        if self.end > LONGEST_RECORD {
            return Err(self.unclosed());
        }
        if self.buffer.len() - self.end < CHUNK {
            let length = (self.buffer.len() * 2).max(self.end + CHUNK);
            self.buffer.resize(length, 0);
        }
        let room = &mut self.buffer[self.end..];
        let read = loop {
            match self.input.read(room) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| read_error(&self.file, error))?,
            }
        };
        self.end += read;
        self.at_end_of_file = read == 0;
        Ok(())
    }
}

/// The place of the quote that closes a field, and whether doubled ones come before.
/// A quote at the end of the bytes may be the first of two, unless the file ends there.
fn closing_quote(data: &[u8], from: usize, at_end_of_file: bool) -> Option<(usize, bool)> {
    let mut at = from;
    let mut doubled = false;
    loop {
        at += memchr(b'"', &data[at..])?;
        match data.get(at + 1) {
            Some(b'"') => {
                doubled = true;
                at += 2;
            }
            None if !at_end_of_file => return None,
            _ => return Some((at, doubled)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Hands out one byte at a time, so that every boundary is met.
    struct Drip(Cursor<Vec<u8>>);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn all(text: &str) -> Result<Vec<(u64, Vec<String>)>> {
        let mut whole = Vec::new();
        for input in [
            Box::new(Cursor::new(text.as_bytes().to_vec())) as Input,
            Box::new(Drip(Cursor::new(text.as_bytes().to_vec()))),
        ] {
            let mut records = Records::open(input, "f.csv", b',', 0)?;
            let mut found = Vec::new();
            while records.advance()? {
                let fields = (0..records.width()).map(|index| {
                    let (bytes, quoted) = records.field(index).unwrap();
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    if quoted { format!("<{text}>") } else { text }
                });
                found.push((records.line(), fields.collect()));
            }
            whole.push(found);
        }
        assert_eq!(whole[0], whole[1]);
        Ok(whole.remove(0))
    }

    #[test]
    fn quotes_line_breaks_and_marks_are_understood() {
        let text = "\u{feff}a,b\r\n\"x\ny\",\"say \"\"hi\"\"\"\n\n,\"\"\rlast,1";
        let expected = [
            (1, vec!["a", "b"]),
            (2, vec!["<x\ny>", "<say \"hi\">"]),
            (5, vec!["", "<>"]),
            (6, vec!["last", "1"]),
        ];
        let found = all(text).unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, fields), (expected_line, expected)) in found.iter().zip(expected) {
            assert_eq!(
                (*line, fields.as_slice()),
                (expected_line, expected.map_strings().as_slice())
            );
        }
    }

    trait MapStrings {
        fn map_strings(self) -> Vec<String>;
    }

    impl MapStrings for Vec<&str> {
        fn map_strings(self) -> Vec<String> {
            self.into_iter().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_trailing_delimiter_is_one_more_empty_field() {
        assert_eq!(all("a,b,").unwrap()[0].1, ["a", "b", ""]);
        assert_eq!(all("a,b,\n").unwrap()[0].1, ["a", "b", ""]);
    }

    #[test]
    fn broken_quotes_name_their_line() {
        let error = all("a\n\"open\nmore").unwrap_err();
        assert!(error.what().contains("line 2"), "{error}");
        let error = all("a\nb\n\"x\"y\n").unwrap_err();
        assert!(error.what().contains("line 3"), "{error}");
    }
}
