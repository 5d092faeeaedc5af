//! What a read asks for, as it is selected in SQL.

use tideway_core::{Column, Error, Result, source::Read};

use super::{
    Place,
    track::{Filter, Track},
};

pub struct Selection {
    /// The columns wanted, and behind them the tracking field if it is not among them.
    pub columns: Vec<Column>,
    /// The tracking field and its place among `columns`.
    pub track: Option<(usize, Track)>,
}

impl Selection {
    pub fn of(read: &Read) -> Result<Selection> {
        let mut columns = read.columns.clone();
        let Some(tracking) = &read.tracking else {
            return Ok(Selection {
                columns,
                track: None,
            });
        };
        let (name, table) = (&tracking.column, &read.table);
        let column = table
            .column(name)
            .ok_or_else(|| Error::drift(format!("{} has no column {name}", table.id)))?;
        let track = Track::new(table, column, tracking.cursor.clone())?;
        let at = columns.iter().position(|column| column.name == *name);
        let at = at.unwrap_or_else(|| {
            columns.push(column.clone());
            columns.len() - 1
        });
        Ok(Selection {
            columns,
            track: Some((at, track)),
        })
    }

    /// The columns as they are called in this place.
    pub fn names(&self, place: &Place) -> Vec<String> {
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(at, column)| place.column(at, &column.name))
            .collect()
    }

    /// The tracking field as it is called in this place.
    pub fn tracked(&self, place: &Place) -> Option<(String, &Track)> {
        let (at, track) = self.track.as_ref()?;
        let column = self.columns.get(*at)?;
        Some((place.column(*at, &column.name), track))
    }

    /// Sorts out what the tracking field rules out; `sign` is put before its name.
    pub fn filter(&self, place: &Place, sign: &str) -> Filter {
        match self.tracked(place) {
            Some((name, track)) => track.filter(&format!("{sign}{name}")),
            None => Filter::all(),
        }
    }
}
