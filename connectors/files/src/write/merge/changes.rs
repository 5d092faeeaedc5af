//! Changes among staged rows: what each of them does, and what it keeps.

use std::collections::{HashMap, HashSet, hash_map};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, cast::AsArray, types::Int16Type};
use arrow_select::zip::zip;
use tideway_core::{Column, Error, LogicalType, Note, Op, Result};

use super::{Hashes, Index, Merge, Merged, Share, arrow, index::Entry};

/// Columns that staged changes have besides those of the table: the code of the operation,
/// and a digit for each column of the load that says whether the row keeps what is there;
/// null where it keeps nothing.
pub const OP: &str = "_tideway_op";
pub const KEPT: &str = "_tideway_kept";

/// Columns of the table that a row keeps.
pub struct Mask {
    /// Their places.
    places: HashSet<usize>,
    /// Of rows without them.
    hashes: Hashes,
}

/// What is known of the staged changes of a run, by the numbers of the rows.
#[derive(Default)]
pub struct Staged {
    deletes: HashSet<u64>,
    keeping: HashMap<u64, usize>,
    masks: Vec<Mask>,
    known: HashMap<String, usize>,
}

/// Hashes of the rows of one batch that leave out what some of the staged rows keep.
#[derive(Default)]
pub struct Masked(HashMap<usize, Vec<u64>>);

impl Masked {
    fn of(&mut self, staged: &Staged, mask: usize, rows: &RecordBatch, row: usize) -> Result<u64> {
        let hashes = match self.0.entry(mask) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => {
                let known = staged.masks.get(mask).ok_or_else(bug)?;
                new.insert(known.hashes.rows(rows)?)
            }
        };
        hashes.get(row).copied().ok_or_else(bug)
    }
}

fn bug() -> Error {
    Error::bug("a staged change is not as it was written")
}

impl Staged {
    pub fn deletes(&self, entry: &Entry) -> bool {
        self.deletes.contains(&entry.number())
    }

    /// The hash that a row of the table is compared by with the staged row of its key.
    pub fn hash(
        &self,
        entry: &Entry,
        masked: &mut Masked,
        rows: &RecordBatch,
        row: usize,
        whole: u64,
    ) -> Result<u64> {
        match self.keeping.get(&entry.number()) {
            Some(mask) => masked.of(self, *mask, rows, row),
            None => Ok(whole),
        }
    }

    /// Places of the columns that any row keeps.
    pub fn kept_places(&self) -> HashSet<usize> {
        let places = self.masks.iter().flat_map(|mask| &mask.places);
        places.copied().collect()
    }

    fn keeps(&self, number: u64, place: usize) -> bool {
        let mask = self.keeping.get(&number).and_then(|at| self.masks.get(*at));
        mask.is_some_and(|mask| mask.places.contains(&place))
    }

    /// The values of updated rows in the column at `place`: those of the replaced rows
    /// where they are kept.
    pub fn told(
        &self,
        numbers: &[u64],
        place: usize,
        replaced: &ArrayRef,
        staged: &ArrayRef,
    ) -> Result<ArrayRef> {
        let keeps = |number: &u64| Some(self.keeps(*number, place));
        let kept: BooleanArray = numbers.iter().map(keeps).collect();
        zip(&kept, replaced, staged).map_err(arrow)
    }

    /// Counts what rows keep that are not there: there is nothing to be kept.
    pub fn tell_lost(&self, numbers: &[u64], columns: &[Column], merged: &mut Merged) {
        for place in self.kept_places() {
            let lost = numbers.iter().filter(|number| self.keeps(**number, place));
            let (lost, column) = (lost.count() as u64, columns.get(place));
            if let Some(column) = column.filter(|_| lost > 0) {
                add_note(
                    &mut merged.notes,
                    Note {
                        column: column.name.clone(),
                        what: "value kept by a row that is not there stored as null".to_owned(),
                        rows: lost,
                    },
                );
            }
        }
    }
}

pub fn add_note(notes: &mut Vec<Note>, note: Note) {
    let mut known = notes.iter_mut();
    match known.find(|known| known.column == note.column && known.what == note.what) {
        Some(known) => known.rows += note.rows,
        None => notes.push(note),
    }
}

/// The columns that staged changes have besides the others.
pub fn change_columns() -> [Column; 2] {
    [
        Column::new(OP, LogicalType::Int16),
        Column::new(KEPT, LogicalType::Text),
    ]
}

impl Merge {
    /// Columns of the staged files.
    pub fn staged_columns(&self) -> Vec<Column> {
        let mut columns = self.spec.columns.to_vec();
        if self.changes {
            columns.extend(change_columns());
        }
        columns
    }

    /// The staged changes by key.
    pub fn index_changes(
        &self,
        hashes: &Hashes,
        share: Share,
        index: &mut Index,
    ) -> Result<Staged> {
        let mut staged = Staged::default();
        let mut number = 0;
        self.scan(&self.staged, &self.staged_columns(), &mut |batch| {
            let column = |name: &str| batch.column_by_name(name).ok_or_else(bug);
            let codes = column(OP)?
                .as_primitive_opt::<Int16Type>()
                .ok_or_else(bug)?;
            let kept = column(KEPT)?.as_string_opt::<i32>().ok_or_else(bug)?;
            let (keys, rows) = (hashes.keys(&batch)?, hashes.rows(&batch)?);
            let mut masked = Masked::default();
            for (row, (key, mut hash)) in keys.into_iter().zip(rows).enumerate() {
                let this = number;
                number += 1;
                let Some(key) = key.filter(|key| share.has(*key)) else {
                    continue;
                };
                if codes.value(row) == i16::from(Op::Delete as u8) {
                    staged.deletes.insert(this);
                } else if kept.is_valid(row) {
                    let mask = self.mask(&mut staged, kept.value(row))?;
                    staged.keeping.insert(this, mask);
                    hash = masked.of(&staged, mask, &batch, row)?;
                }
                index.insert(key, Entry::new(hash, this));
            }
            Ok(())
        })?;
        Ok(staged)
    }

    fn mask(&self, staged: &mut Staged, digits: &str) -> Result<usize> {
        if let Some(mask) = staged.known.get(digits) {
            return Ok(*mask);
        }
        let kept = digits.bytes().map(|digit| digit == b'1');
        let told = self.data.iter().zip(kept.clone());
        let told: Vec<String> = told
            .filter(|(_, kept)| !kept)
            .map(|(name, _)| name.clone())
            .collect();
        let kept = self.data.iter().zip(kept).filter(|(_, kept)| *kept);
        let places = kept.filter_map(|(name, _)| self.place(name)).collect();
        let hashes = Hashes::new(&self.spec.columns, &self.key, &told)?;
        staged.masks.push(Mask { places, hashes });
        let mask = staged.masks.len() - 1;
        staged.known.insert(digits.to_owned(), mask);
        Ok(mask)
    }

    /// How many of the files, each with the rows of one part, can be merged at once: no
    /// key comes in two of them, and there are not too many.
    pub fn first_apart(&self, parts: &[Vec<super::Located>]) -> Result<usize> {
        let (columns, hashes) = self.key_columns()?;
        let mut seen = super::Keys::default();
        for (at, files) in parts.iter().enumerate() {
            let mut keys = Vec::new();
            self.scan(files, &columns, &mut |rows| {
                keys.extend(hashes.keys(&rows)?.into_iter().flatten());
                Ok(())
            })?;
            let many = (seen.len() + keys.len()) as u64 > self.most_keys;
            if at > 0 && (many || keys.iter().any(|key| seen.contains(key))) {
                return Ok(at);
            }
            seen.extend(keys);
        }
        Ok(parts.len())
    }
}
