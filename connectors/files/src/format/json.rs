//! JSON: finding out the columns, reading, writing one object per line.
//!
//! Own decoding rather than arrow-json's: that cannot put a nested value into a text
//! column as it stands, rounds long numbers, and does not name the line of a bad value.
//! Here every value goes from its text straight into the column it belongs to.

use std::{collections::HashMap, fmt};

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tideway_core::{Batch, Column, Error, LogicalType, Result, schema::arrow_schema};

use super::{
    Decoder, Encoder, Input, Wanted,
    cells::Cells,
    csv::{misfit, new_field},
    infer::Sightings,
    objects::Objects,
    print::Printer,
};
use crate::compression::{Compression, Packer};

/// Walks over the members of one object without copying names or values.
struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for &mut Members<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut name = String::new();
        while map.next_key_seed(Name(&mut name))?.is_some() {
            (self.0)(&name, map.next_value()?);
        }
        Ok(())
    }
}

/// Reads a member's name into a buffer that is used again.
struct Name<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(name);
        Ok(())
    }
}

fn members<'de>(
    object: &'de [u8],
    visit: impl FnMut(&str, &'de RawValue),
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    deserializer.deserialize_map(&mut Members(visit))
}

fn syntax(file: &str, line: u64, error: &serde_json::Error) -> Error {
    let offset = (error.line() as u64).saturating_sub(1);
    Error::data(format!("{file}, line {}: not valid JSON", line + offset))
        .hint("correct the line; numbers, names and texts have to follow the JSON standard")
}

/// Looks at the rows of a file until about `most_bytes` have been seen.
pub fn infer(input: Input, file: &str, most_bytes: u64) -> Result<Sightings> {
    let mut objects = Objects::open(input, file)?;
    let mut found = Sightings::default();
    let mut places: HashMap<String, usize> = HashMap::new();
    while objects.bytes() < most_bytes {
        if !objects.advance()? {
            found.whole = true;
            break;
        }
        members(objects.current(), |name, value| {
            let place = match places.get(name) {
                Some(place) => *place,
                None => {
                    let place = found.column(name);
                    places.insert(name.to_owned(), place);
                    place
                }
            };
            found.columns[place].1.json(value.get());
        })
        .map_err(|error| syntax(file, objects.line(), &error))?;
        found.rows += 1;
    }
    found.bytes = objects.bytes();
    Ok(found)
}

/// Reads the rows of one file.
pub struct JsonDecoder {
    objects: Objects,
    file: String,
    /// Wanted columns by name; `None` for those that are known and not wanted.
    places: HashMap<String, Option<usize>>,
    cells: Vec<(Column, Cells)>,
    schema: SchemaRef,
    batch_bytes: usize,
    own: bool,
}

impl JsonDecoder {
    pub fn open(input: Input, file: &str, wanted: &Wanted) -> Result<Self> {
        let mut places: HashMap<String, Option<usize>> = wanted
            .known
            .iter()
            .map(|name| (name.clone(), None))
            .collect();
        for (place, column) in wanted.columns.iter().enumerate() {
            places.insert(column.name.clone(), Some(place));
        }
        let cells = wanted.columns.iter();
        let cells = cells.map(|column| (column.clone(), Cells::new(column.logical)));
        Ok(JsonDecoder {
            objects: Objects::open(input, file)?,
            file: file.to_owned(),
            places,
            cells: cells.collect(),
            schema: arrow_schema(&wanted.columns),
            batch_bytes: wanted.batch_bytes,
            own: wanted.own,
        })
    }

    fn row(&mut self, values: &mut Vec<Option<(usize, usize)>>) -> Result<()> {
        let object = self.objects.current();
        let base = object.as_ptr() as usize;
        let mut unknown = None;
        values.clear();
        values.resize(self.cells.len(), None);
        members(object, |name, value| match self.places.get(name) {
            Some(Some(place)) => {
                let start = value.get().as_ptr() as usize - base;
                values[*place] = Some((start, start + value.get().len()));
            }
            Some(None) => {}
            None => unknown = Some(name.to_owned()),
        })
        .map_err(|error| syntax(&self.file, self.objects.line(), &error))?;
        if let Some(name) = unknown {
            return Err(new_field(&self.file, &name));
        }
        for ((column, cells), value) in self.cells.iter_mut().zip(values.iter()) {
            let raw = value.and_then(|(start, end)| std::str::from_utf8(&object[start..end]).ok());
            if !push(column.logical, cells, raw, self.own) {
                let place = format!("line {}", self.objects.line());
                return Err(misfit(&self.file, &place, column));
            }
        }
        Ok(())
    }
}

/// Appends a value as it stands in the file; `false` if the column cannot hold it.
fn push(logical: LogicalType, cells: &mut Cells, raw: Option<&str>, own: bool) -> bool {
    let Some(raw) = raw else {
        cells.push_null();
        return true;
    };
    let json = logical == LogicalType::Json;
    match raw.as_bytes().first() {
        Some(b'n') if !(json && own) => {
            cells.push_null();
            true
        }
        _ if json => cells.push(raw),
        Some(b'{' | b'[') => false,
        Some(b'"') if !raw.contains('\\') => cells.push(&raw[1..raw.len() - 1]),
        Some(b'"') => match serde_json::from_str::<String>(raw) {
            Ok(text) => cells.push(&text),
            Err(_) => false,
        },
        _ => cells.push(raw),
    }
}

impl Decoder for JsonDecoder {
    fn next(&mut self) -> Result<Option<Batch>> {
        let begun_at = self.objects.bytes();
        let mut rows = 0;
        let mut values = Vec::new();
        let least = self.cells.len() * 8;
        while ((self.objects.bytes() - begun_at) as usize).max(rows * least) < self.batch_bytes
            && self.objects.advance()?
        {
            self.row(&mut values)?;
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = self.cells.iter_mut().map(|(_, cells)| cells.finish());
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect())
            .map_err(|error| Error::bug(format!("a batch of {}: {error}", self.file)))?;
        Ok(Some(Batch::of_rows(batch)))
    }
}

/// Writes one object per line. Numbers of every kind stand as JSON numbers with all
/// their digits, JSON columns as what they hold, everything else as strings. No value is
/// `null`, except in JSON columns: there it is left out, for `null` is a document.
pub struct JsonEncoder {
    packer: Packer,
    columns: Vec<(LogicalType, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl JsonEncoder {
    pub fn new(columns: &[Column], compression: Compression) -> Result<Self> {
        let columns = columns.iter().map(|column| {
            let mut name = Vec::new();
            push_string(&column.name, &mut name);
            name.push(b':');
            (column.logical, name)
        });
        Ok(JsonEncoder {
            packer: Packer::new(compression)?,
            columns: columns.collect(),
            buffer: Vec::new(),
        })
    }
}

impl Encoder for JsonEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let printers = rows
            .columns()
            .iter()
            .zip(&self.columns)
            .map(|(array, (logical, name))| {
                Ok((array, Printer::new(array, *logical)?, *logical, name))
            })
            .collect::<Result<Vec<_>>>()?;
        self.buffer.clear();
        let mut value = Vec::new();
        for row in 0..rows.num_rows() {
            self.buffer.push(b'{');
            let mut first = true;
            for (array, printer, logical, name) in &printers {
                let null = array.is_null(row);
                if null && *logical == LogicalType::Json {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    self.buffer.push(b',');
                }
                self.buffer.extend(*name);
                if null {
                    self.buffer.extend(b"null");
                    continue;
                }
                value.clear();
                printer.print(row, &mut value);
                if is_bare(*logical, &value) {
                    self.buffer.extend(&value);
                } else {
                    push_string(&String::from_utf8_lossy(&value), &mut self.buffer);
                }
            }
            self.buffer.extend(b"}\n");
        }
        self.packer.write_all(&self.buffer)?;
        Ok(())
    }

    fn take(&mut self) -> Vec<Bytes> {
        vec![self.packer.take().into()]
    }

    fn finish(self: Box<Self>) -> Result<Vec<Bytes>> {
        Ok(vec![self.packer.finish()?.into()])
    }
}

/// Whether a printed value is JSON as it stands.
fn is_bare(logical: LogicalType, value: &[u8]) -> bool {
    use LogicalType as L;
    match logical {
        L::Boolean | L::Int16 | L::Int32 | L::Int64 | L::UInt64 | L::Json => true,
        L::Decimal { .. } => true,
        // Words like NaN are no JSON numbers, nor is what else a numeric's text may be.
        L::Float32 | L::Float64 | L::Numeric => std::str::from_utf8(value).is_ok_and(|text| {
            !text.starts_with('.') && !text.starts_with("-.") && super::number::form(text).is_some()
        }),
        _ => false,
    }
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    // Writing a string to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// A JSON document on one line, fit to be a value in a file of lines. Line breaks in
/// valid JSON only stand between values. What is no JSON becomes a JSON string.
pub fn one_line(document: &str) -> (Option<String>, bool) {
    let valid = serde_json::from_str::<serde::de::IgnoredAny>(document).is_ok();
    if !valid {
        return (Some(serde_json::Value::from(document).to_string()), false);
    }
    let trimmed = document.trim();
    if trimmed.len() == document.len() && !document.contains(['\n', '\r']) {
        return (None, true);
    }
    (Some(trimmed.replace(['\n', '\r'], " ")), true)
}
