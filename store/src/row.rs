//! Rows read by column name into what the columns stand for.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use tideway_core::{Error, Result};
use uuid::Uuid;

pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// An enum that is stored as a word.
pub(crate) trait Word: Sized {
    fn of_word(word: &str) -> Option<Self>;
}

macro_rules! read {
    ($row:expr, $name:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($name),
            Row::Postgres(row) => row.try_get($name),
        }
        .map_err(|error| unreadable($name).because(error))
    };
}

impl Row {
    pub fn maybe_text(&self, name: &str) -> Result<Option<String>> {
        read!(self, name)
    }

    pub fn text(&self, name: &str) -> Result<String> {
        read!(self, name)
    }

    pub fn maybe_int(&self, name: &str) -> Result<Option<i64>> {
        read!(self, name)
    }

    pub fn int(&self, name: &str) -> Result<i64> {
        read!(self, name)
    }

    pub fn flag(&self, name: &str) -> Result<bool> {
        read!(self, name)
    }

    pub fn maybe_id(&self, name: &str) -> Result<Option<Uuid>> {
        let text = self.maybe_text(name)?;
        text.map(|text| Uuid::parse_str(&text).map_err(|_| unreadable(name)))
            .transpose()
    }

    pub fn id(&self, name: &str) -> Result<Uuid> {
        self.maybe_id(name)?.ok_or_else(|| unreadable(name))
    }

    pub fn maybe_time(&self, name: &str) -> Result<Option<DateTime<Utc>>> {
        let micros = self.maybe_int(name)?;
        micros
            .map(|at| DateTime::from_timestamp_micros(at).ok_or_else(|| unreadable(name)))
            .transpose()
    }

    pub fn time(&self, name: &str) -> Result<DateTime<Utc>> {
        self.maybe_time(name)?.ok_or_else(|| unreadable(name))
    }

    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.maybe_json(name)?.ok_or_else(|| unreadable(name))
    }

    pub fn maybe_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let text = self.maybe_text(name)?;
        // The cause is left out: serde's words may quote the value.
        text.map(|text| serde_json::from_str(&text).map_err(|_| unreadable(name)))
            .transpose()
    }

    pub fn maybe_word<T: Word>(&self, name: &str) -> Result<Option<T>> {
        let text = self.maybe_text(name)?;
        text.map(|text| T::of_word(&text).ok_or_else(|| unreadable(name)))
            .transpose()
    }

    pub fn word<T: Word>(&self, name: &str) -> Result<T> {
        self.maybe_word(name)?.ok_or_else(|| unreadable(name))
    }
}

fn unreadable(name: &str) -> Error {
    Error::bug(format!(
        "column {name} of the metadata database cannot be read"
    ))
}
