//! CSV: finding out the columns, reading, writing.
//!
//! An empty field without quotes is no value; `""` is the empty text (in a column of
//! another type, no value either). Both ways round: what is written reads back the same.

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use tideway_core::{Batch, Column, Error, LogicalType, Result, schema::arrow_schema};

use super::{
    Decoder, Encoder, Input, Wanted, cells::Cells, infer::Sightings, print::Printer,
    records::Records,
};
use crate::compression::{Compression, Packer};

/// How a CSV file is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    pub delimiter: u8,
    pub has_headers: bool,
    /// Lines before the header, or before the first row.
    pub skip_lines: u64,
}

/// Opens a file and finds its column names. Without headers they are `column_1` and so
/// on, and the first record is still to come, which the flag says.
fn open(input: Input, file: &str, dialect: Dialect) -> Result<(Records, Vec<String>, bool)> {
    let mut records = Records::open(input, file, dialect.delimiter, dialect.skip_lines)?;
    if !records.advance()? {
        return Ok((records, Vec::new(), false));
    }
    if !dialect.has_headers {
        let names = (1..=records.width()).map(|at| format!("column_{at}"));
        let names = names.collect();
        return Ok((records, names, true));
    }
    let mut names: Vec<String> = Vec::with_capacity(records.width());
    for index in 0..records.width() {
        let name = text(&records, index, file, "header")?;
        names.push(distinct(name, index, &names));
    }
    Ok((records, names, false))
}

/// A header that no column before has: nameless ones are called by their place, later
/// ones of the same name get a number.
fn distinct(name: &str, index: usize, taken: &[String]) -> String {
    let name = match name {
        "" => format!("column_{}", index + 1),
        name => name.to_owned(),
    };
    if !taken.contains(&name) {
        return name;
    }
    (2..)
        .map(|number| format!("{name}_{number}"))
        .find(|candidate| !taken.contains(candidate))
        .unwrap_or(name)
}

fn text<'a>(records: &'a Records, index: usize, file: &str, column: &str) -> Result<&'a str> {
    let (bytes, _) = records.field(index).unwrap_or_default();
    std::str::from_utf8(bytes).map_err(|_| {
        Error::data(format!(
            "{file}, line {}, column {column}: the text is not UTF-8",
            records.line()
        ))
        .hint("save the file as UTF-8 and try again")
    })
}

fn check_width(records: &Records, width: usize, file: &str) -> Result<()> {
    if records.width() == width {
        return Ok(());
    }
    Err(Error::data(format!(
        "{file}, line {} has {} fields where the first line has {width}",
        records.line(),
        records.width()
    ))
    .hint("correct the line; a field with a comma or a line break in it needs quotes"))
}

/// Looks at the rows of a file until about `most_bytes` have been seen.
pub fn infer(input: Input, file: &str, dialect: Dialect, most_bytes: u64) -> Result<Sightings> {
    let (mut records, names, mut pending) = open(input, file, dialect)?;
    let width = names.len();
    let mut found = Sightings {
        columns: names
            .into_iter()
            .map(|name| (name, Default::default()))
            .collect(),
        ..Sightings::default()
    };
    loop {
        if !std::mem::take(&mut pending) && !records.advance()? {
            found.whole = true;
            break;
        }
        check_width(&records, width, file)?;
        for (index, (name, seen)) in found.columns.iter_mut().enumerate() {
            let field = text(&records, index, file, name)?;
            if !field.is_empty() {
                seen.field(field);
            }
        }
        found.rows += 1;
        if records.bytes() >= most_bytes {
            break;
        }
    }
    found.bytes = records.bytes();
    Ok(found)
}

/// Reads the rows of one file.
pub struct CsvDecoder {
    records: Records,
    file: String,
    pending: bool,
    width: usize,
    /// Per wanted column: where it stands in the file, if it does, and its values.
    cells: Vec<(Option<usize>, Column, Cells)>,
    schema: SchemaRef,
    batch_bytes: usize,
}

impl CsvDecoder {
    pub fn open(input: Input, file: &str, dialect: Dialect, wanted: &Wanted) -> Result<Self> {
        let (mut records, names, pending) = open(input, file, dialect)?;
        if let Some(new) = names.iter().find(|name| !wanted.known.contains(name)) {
            return Err(new_field(file, new));
        }
        if wanted.own && names.len() == 1 {
            records.count_blank_lines();
        }
        let cells = wanted.columns.iter().map(|column| {
            let place = names.iter().position(|name| *name == column.name);
            (place, column.clone(), Cells::new(column.logical))
        });
        Ok(CsvDecoder {
            cells: cells.collect(),
            records,
            file: file.to_owned(),
            pending,
            width: names.len(),
            schema: arrow_schema(&wanted.columns),
            batch_bytes: wanted.batch_bytes,
        })
    }

    fn row(&mut self) -> Result<()> {
        check_width(&self.records, self.width, &self.file)?;
        for (place, column, cells) in &mut self.cells {
            let Some(place) = *place else {
                cells.push_null();
                continue;
            };
            let (_, quoted) = self.records.field(place).unwrap_or_default();
            let value = text(&self.records, place, &self.file, &column.name)?;
            if value.is_empty() && !(quoted && cells.holds_empty_text()) {
                cells.push_null();
            } else if !cells.push(value) {
                let place = format!("line {}", self.records.line());
                return Err(misfit(&self.file, &place, column));
            }
        }
        Ok(())
    }
}

impl Decoder for CsvDecoder {
    fn next(&mut self) -> Result<Option<Batch>> {
        let begun_at = self.records.bytes();
        let mut rows = 0;
        // A cell takes up to eight bytes in a batch even if it is empty in the file.
        let least = self.cells.len() * 8;
        while ((self.records.bytes() - begun_at) as usize).max(rows * least) < self.batch_bytes {
            if !std::mem::take(&mut self.pending) && !self.records.advance()? {
                break;
            }
            self.row()?;
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = self.cells.iter_mut().map(|(_, _, cells)| cells.finish());
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(self.schema.clone(), columns.collect(), &options)
                .map_err(|error| Error::bug(format!("a batch of {}: {error}", self.file)))?;
        Ok(Some(Batch::of_rows(batch)))
    }
}

/// A value that its column's type cannot hold. The type was found by looking at the
/// file, so the file has changed, or only a part of it was looked at.
pub fn misfit(file: &str, place: &str, column: &Column) -> Error {
    Error::drift(format!(
        "{file}, {place}, column {}: the value is no {}",
        column.name,
        words(column.logical)
    ))
    .hint("refresh the connection's schemas: the whole file is looked at then, and the column gets a type that holds the value")
}

/// A field that the table did not have when its schema was read.
pub fn new_field(file: &str, name: &str) -> Error {
    Error::drift(format!(
        "{file} has a field {name} that the table's schema lacks"
    ))
    .hint("refresh the connection's schemas")
}

fn words(logical: LogicalType) -> String {
    match logical {
        LogicalType::Decimal { precision, scale } => {
            format!("decimal of {precision} digits with {scale} behind the point")
        }
        LogicalType::Int64 => "64-bit integer".to_owned(),
        LogicalType::TimestampTz => "timestamp with zone".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Writes rows with a header, quoting where needed.
pub struct CsvEncoder {
    packer: Packer,
    logical: Vec<LogicalType>,
    buffer: Vec<u8>,
}

impl CsvEncoder {
    pub fn new(columns: &[Column], compression: Compression) -> Result<Self> {
        let mut buffer = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                buffer.push(b',');
            }
            push_text(column.name.as_bytes(), &mut buffer);
        }
        buffer.push(b'\n');
        let mut packer = Packer::new(compression)?;
        packer.write_all(&buffer)?;
        Ok(CsvEncoder {
            packer,
            logical: columns.iter().map(|column| column.logical).collect(),
            buffer,
        })
    }
}

impl Encoder for CsvEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let printers = rows
            .columns()
            .iter()
            .zip(&self.logical)
            .map(|(array, logical)| Ok((array, Printer::new(array, *logical)?)))
            .collect::<Result<Vec<_>>>()?;
        self.buffer.clear();
        let mut value = Vec::new();
        for row in 0..rows.num_rows() {
            for (index, (array, printer)) in printers.iter().enumerate() {
                if index > 0 {
                    self.buffer.push(b',');
                }
                if array.is_null(row) {
                    continue;
                }
                if !printer.is_free_text() {
                    let before = self.buffer.len();
                    printer.print(row, &mut self.buffer);
                    // Binary of no bytes is a value too.
                    if self.buffer.len() == before {
                        self.buffer.extend(b"\"\"");
                    }
                    continue;
                }
                value.clear();
                printer.print(row, &mut value);
                push_text(&value, &mut self.buffer);
            }
            self.buffer.push(b'\n');
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

/// A text as a field: in quotes if it is empty or holds what would end a field.
fn push_text(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r' | 0xef);
    if !text.is_empty() && !text.iter().any(special) {
        out.extend(text);
        return;
    }
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'"', rest) {
        out.extend(&rest[..=at]);
        out.push(b'"');
        rest = &rest[at + 1..];
    }
    out.extend(rest);
    out.push(b'"');
}
