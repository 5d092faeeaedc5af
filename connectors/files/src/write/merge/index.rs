//! Keys and rows as hashes.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use tideway_core::{Column, Result};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::arrow;

/// What becomes of a staged row.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Fate {
    /// Its key is not in the table.
    Insert = 0,
    /// It takes the place of a row of the table.
    Update = 1,
    /// The table has the very same row.
    Skip = 2,
}

/// The latest staged row of a key.
pub struct Entry {
    /// Hash of the row; once its fate is [`Fate::Update`], where the columns that it
    /// takes over are among those carried.
    pub row: u64,
    /// Its number among all staged rows, and its fate in the lowest two bits.
    place: u64,
}

impl Entry {
    pub fn new(row: u64, number: u64) -> Self {
        Entry {
            row,
            place: number << 2,
        }
    }

    pub fn number(&self) -> u64 {
        self.place >> 2
    }

    pub fn fate(&self) -> Fate {
        match self.place & 3 {
            0 => Fate::Insert,
            1 => Fate::Update,
            _ => Fate::Skip,
        }
    }

    pub fn set(&mut self, fate: Fate) {
        self.place = self.place & !3 | fate as u64;
    }
}

/// Keys are hashes already.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

pub type Index = HashMap<u128, Entry, BuildHasherDefault<AsItIs>>;
pub type Keys = HashSet<u128, BuildHasherDefault<AsItIs>>;

/// One of the equal shares that keys are taken in.
#[derive(Clone, Copy)]
pub struct Share {
    pub number: u64,
    pub of: u64,
}

impl Share {
    pub fn has(self, key: u128) -> bool {
        (key >> 64) as u64 % self.of == self.number
    }
}

/// Hashes of rows: of their keys, and of everything that the load brings.
pub struct Hashes {
    key: Vec<usize>,
    data: Vec<usize>,
    key_rows: RowConverter,
    data_rows: RowConverter,
}

impl Hashes {
    /// For rows of these columns.
    pub fn new(columns: &[Column], key: &[String], data: &[String]) -> Result<Self> {
        let places = |names: &[String]| -> Vec<usize> {
            let place = |name: &String| columns.iter().position(|column| column.name == *name);
            names.iter().filter_map(place).collect()
        };
        let rows = |places: &[usize]| {
            let field = |place: &usize| SortField::new(columns[*place].logical.arrow());
            RowConverter::new(places.iter().map(field).collect()).map_err(arrow)
        };
        let (key, data) = (places(key), places(data));
        Ok(Hashes {
            key_rows: rows(&key)?,
            data_rows: rows(&data)?,
            key,
            data,
        })
    }

    /// `None` for rows without a key, which no other row equals.
    pub fn keys(&self, rows: &RecordBatch) -> Result<Vec<Option<u128>>> {
        let columns = chosen(rows, &self.key);
        let keys = self.key_rows.convert_columns(&columns).map_err(arrow)?;
        let hashes = keys.iter().enumerate().map(|(row, key)| {
            let whole = columns.iter().all(|column| column.is_valid(row));
            whole.then(|| xxh3_128(key.as_ref()))
        });
        Ok(hashes.collect())
    }

    pub fn rows(&self, rows: &RecordBatch) -> Result<Vec<u64>> {
        let columns = chosen(rows, &self.data);
        let converted = self.data_rows.convert_columns(&columns).map_err(arrow)?;
        Ok(converted.iter().map(|row| xxh3_64(row.as_ref())).collect())
    }
}

fn chosen(rows: &RecordBatch, places: &[usize]) -> Vec<ArrayRef> {
    places
        .iter()
        .map(|place| rows.column(*place).clone())
        .collect()
}
