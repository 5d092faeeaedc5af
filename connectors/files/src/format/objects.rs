//! Cuts JSON bytes into the objects that are rows: one per line, several on a line,
//! pretty-printed over many lines, or the elements of one array.

use std::io::Read;

use memchr::{memchr_iter, memchr2, memchr3};
use tideway_core::{Error, Result};

use super::{Input, read_error};

/// An object that does not end within this many bytes is taken for a missing brace.
const LONGEST_OBJECT: usize = 256 << 20;
const CHUNK: usize = 256 << 10;

/// The objects of one file, one at a time.
pub struct Objects {
    input: Input,
    file: String,
    buffer: Vec<u8>,
    /// The current object.
    object: (usize, usize),
    /// Where to look for the next one, and where the bytes read so far end.
    at: usize,
    end: usize,
    at_end_of_file: bool,
    line: u64,
    bytes: u64,
}

enum Found {
    Object(usize, usize),
    /// Nothing but blanks and separators up to here.
    Nothing,
    /// The object beginning here is not all read.
    Part(usize),
}

impl Objects {
    pub fn open(input: Input, file: &str) -> Result<Self> {
        let mut objects = Objects {
            input,
            file: file.to_owned(),
            buffer: vec![0; CHUNK],
            object: (0, 0),
            at: 0,
            end: 0,
            at_end_of_file: false,
            line: 1,
            bytes: 0,
        };
        while objects.end < 3 && !objects.at_end_of_file {
            objects.fill()?;
        }
        if objects.buffer[..objects.end].starts_with(&[0xef, 0xbb, 0xbf]) {
            objects.at = 3;
        }
        Ok(objects)
    }

    /// The line that the current object begins on, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn current(&self) -> &[u8] {
        &self.buffer[self.object.0..self.object.1]
    }

    /// Goes to the next object; `false` at the end of the file.
    pub fn advance(&mut self) -> Result<bool> {
        self.pass(self.object.1);
        loop {
            match self.scan()? {
                Found::Object(start, end) => {
                    self.pass(start);
                    self.bytes += (end - start) as u64;
                    self.object = (start, end);
                    return Ok(true);
                }
                Found::Nothing => {
                    self.pass(self.end);
                    if self.at_end_of_file {
                        self.object = (self.end, self.end);
                        return Ok(false);
                    }
                }
                Found::Part(start) => {
                    self.pass(start);
                    if self.at_end_of_file {
                        return Err(self.wrong("an object is opened and never closed"));
                    }
                }
            }
            self.fill()?;
        }
    }

    /// Counts the lines up to `to`, which is where to go on.
    fn pass(&mut self, to: usize) {
        if to > self.at {
            self.line += memchr_iter(b'\n', &self.buffer[self.at..to]).count() as u64;
            self.at = to;
        }
    }

    fn scan(&mut self) -> Result<Found> {
        let data = &self.buffer[..self.end];
        let between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[' | b']');
        let Some(length) = data[self.at..].iter().position(|byte| !between(byte)) else {
            return Ok(Found::Nothing);
        };
        let start = self.at + length;
        if data[start] != b'{' {
            self.pass(start);
            return Err(self.wrong("a row is not a JSON object"));
        }
        Ok(match closing_brace(data, start) {
            Some(end) => Found::Object(start, end),
            None => Found::Part(start),
        })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::data(format!("{}, line {}: {what}", self.file, self.line))
            .hint("the file has to hold JSON objects, one after the other or in one array")
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        self.object = (0, 0);
        if self.end > LONGEST_OBJECT {
            return Err(self.wrong("an object is opened and never closed"));
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

/// The place behind the brace that closes the one at `start`.
fn closing_brace(data: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        at += memchr3(b'"', b'{', b'}', &data[at..])?;
        match data[at] {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => at = closing_quote(data, at + 1)?,
        }
        at += 1;
    }
}

fn closing_quote(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr2(b'"', b'\\', data.get(at..)?)?;
        match data[at] {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn all(text: &str) -> Result<Vec<(u64, String)>> {
        let mut objects = Objects::open(Box::new(Cursor::new(text.as_bytes().to_vec())), "f")?;
        let mut found = Vec::new();
        while objects.advance()? {
            let object = String::from_utf8(objects.current().to_vec()).unwrap();
            found.push((objects.line(), object));
        }
        Ok(found)
    }

    #[test]
    fn lines_arrays_and_pretty_printing_give_the_same_objects() {
        let lines = "{\"a\":1}\n{\"a\":\"}{\\\"\"}\n";
        let array = "[{\"a\":1},\n {\"a\":\"}{\\\"\"}]";
        let expected = ["{\"a\":1}", "{\"a\":\"}{\\\"\"}"];
        for text in [lines, array] {
            let found = all(text).unwrap();
            let objects: Vec<&str> = found.iter().map(|(_, object)| object.as_str()).collect();
            assert_eq!(objects, expected);
            assert_eq!(found[1].0, 2);
        }
        assert_eq!(
            all("{\n \"a\": {\"b\": 1}\n}\n\n{ }").unwrap()[1],
            (5, "{ }".to_owned())
        );
        assert!(all("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_object_is_named_by_its_line() {
        assert!(all("{}\n17").unwrap_err().what().contains("line 2"));
        assert!(all("{}\n{\"a\":").unwrap_err().what().contains("line 2"));
    }
}
