//! The rows of the table beside the staged ones, and what becomes of both.

use std::collections::HashSet;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow_select::{interleave::interleave, take::take_record_batch};
use tideway_core::{
    Result,
    destination::{DELETED_AT, Deletes},
};

use super::{
    Fates, Merge, Merged, arrow,
    changes::{Masked, Staged},
    index::{Entry, Fate, Hashes, Index, Keys, Share},
    write,
};
use crate::write::part::PartWriter;

/// One pass over the table, for a share of the keys.
pub struct Look<'a> {
    pub merge: &'a Merge,
    pub hashes: &'a Hashes,
    pub share: Share,
    pub changes: &'a Staged,
    /// Keys of rows that stay, although they were not staged.
    pub spared: &'a Keys,
    /// Places of the columns that updated rows take over from those they replace.
    pub columns: &'a [usize],
    /// Those of them that only some rows take over.
    pub kept: &'a HashSet<usize>,
}

/// Values that updated rows take over from the rows they replace.
#[derive(Default)]
pub struct Carried {
    batches: Vec<Vec<ArrayRef>>,
}

impl Carried {
    /// Where the row `row` of the batch to be added next will be.
    fn place(&self, row: usize) -> u64 {
        ((self.batches.len() as u64) << 32) | row as u64
    }

    fn column(&self, column: usize, places: &[u64]) -> Result<ArrayRef> {
        let arrays = self.batches.iter().map(|batch| batch[column].as_ref());
        let arrays: Vec<&dyn Array> = arrays.collect();
        let split = |place: &u64| ((place >> 32) as usize, *place as u32 as usize);
        let indices: Vec<(usize, usize)> = places.iter().map(split).collect();
        interleave(&arrays, &indices).map_err(arrow)
    }
}

impl Look<'_> {
    /// Reads the table past the staged keys.
    pub fn compare(
        &self,
        index: &mut Index,
        fates: &mut [Fates],
        merged: &mut Merged,
    ) -> Result<Carried> {
        let merge = self.merge;
        let mut carried = Carried::default();
        for (old, fates) in merge.old.iter().zip(fates) {
            let mut first = 0;
            merge.scan(
                std::slice::from_ref(old),
                &merge.spec.columns,
                &mut |rows| {
                    let count = rows.num_rows();
                    if first + count > fates.gone.len() {
                        return Err(merge.changed_outside(&old.0));
                    }
                    let replaced =
                        self.compare_rows(&rows, first, index, fates, &carried, merged)?;
                    if !self.columns.is_empty() && !replaced.is_empty() {
                        let rows = rows.project(self.columns).map_err(arrow)?;
                        let taken = take_record_batch(&rows, &UInt64Array::from(replaced));
                        carried
                            .batches
                            .push(taken.map_err(arrow)?.columns().to_vec());
                    }
                    first += count;
                    Ok(())
                },
            )?;
            if first != fates.gone.len() {
                return Err(merge.changed_outside(&old.0));
            }
        }
        Ok(carried)
    }

    /// Decides on rows of a file of which the first one has the number `first`. Gives
    /// the rows that are replaced.
    fn compare_rows(
        &self,
        rows: &RecordBatch,
        first: usize,
        index: &mut Index,
        fates: &mut Fates,
        carried: &Carried,
        merged: &mut Merged,
    ) -> Result<Vec<u64>> {
        let Look {
            merge,
            hashes,
            share,
            changes,
            ..
        } = self;
        let deleted_at = merge.place(DELETED_AT).map(|place| rows.column(place));
        let is_deleted = |row: usize| deleted_at.is_some_and(|column| column.is_valid(row));
        let keys = hashes.keys(rows)?;
        let row_hashes = hashes.rows(rows)?;
        let mut masked = Masked::default();
        let mut replaced = Vec::new();
        for (row, key) in keys.into_iter().enumerate() {
            let at = first + row;
            // Rows without a key belong to the first share.
            if !share.has(key.unwrap_or(0)) {
                continue;
            }
            let Some(entry) = key.and_then(|key| index.get_mut(&key)) else {
                let spared = key.is_some_and(|key| self.spared.contains(&key));
                match (merge.complete && !spared, merge.deletes) {
                    (false, _) => continue,
                    (true, Deletes::Hard) => fates.lose(at),
                    (true, Deletes::Soft) if is_deleted(row) => continue,
                    (true, Deletes::Soft) => fates.mark(at),
                }
                merged.deleted += 1;
                continue;
            };
            if changes.deletes(entry) {
                match merge.deletes {
                    Deletes::Hard => fates.lose(at),
                    Deletes::Soft if is_deleted(row) => continue,
                    Deletes::Soft => fates.mark(at),
                }
                merged.deleted += 1;
                continue;
            }
            let hash = match entry.fate() {
                Fate::Insert => changes.hash(entry, &mut masked, rows, row, row_hashes[row])?,
                _ => 0,
            };
            match entry.fate() {
                Fate::Insert if entry.row == hash && !is_deleted(row) => {
                    entry.set(Fate::Skip);
                    merged.unchanged += 1;
                }
                Fate::Insert => {
                    entry.set(Fate::Update);
                    entry.row = carried.place(replaced.len());
                    replaced.push(row as u64);
                    merged.updated += 1;
                    fates.lose(at);
                }
                // The table had the key more than once; now it does not.
                Fate::Update | Fate::Skip => {
                    merged.deleted += 1;
                    fates.lose(at);
                }
            }
        }
        Ok(replaced)
    }

    /// Writes those staged rows of the share that change something.
    pub fn write_staged(
        &self,
        index: &Index,
        carried: &Carried,
        writer: &mut PartWriter,
        merged: &mut Merged,
    ) -> Result<()> {
        let (merge, changes) = (self.merge, self.changes);
        let idle = |entry: &Entry| entry.fate() == Fate::Skip || changes.deletes(entry);
        if index.values().all(idle) {
            return Ok(());
        }
        let mut number = 0;
        merge.scan(&merge.staged, &merge.spec.columns, &mut |batch| {
            let (mut inserts, mut updates, mut places) = (Vec::new(), Vec::new(), Vec::new());
            let first = number;
            for (row, key) in self.hashes.keys(&batch)?.into_iter().enumerate() {
                let entry = key.and_then(|key| index.get(&key));
                match entry.filter(|entry| entry.number() == number && !changes.deletes(entry)) {
                    Some(entry) if entry.fate() == Fate::Insert => inserts.push(row as u64),
                    Some(entry) if entry.fate() == Fate::Update => {
                        updates.push(row as u64);
                        places.push(entry.row);
                    }
                    _ => {}
                }
                number += 1;
            }
            merged.inserted += inserts.len() as u64;
            let numbers = |rows: &[u64]| rows.iter().map(|row| first + row).collect::<Vec<u64>>();
            changes.tell_lost(&numbers(&inserts), &merge.spec.columns, merged);
            let numbers = numbers(&updates);
            let inserts = take_record_batch(&batch, &UInt64Array::from(inserts)).map_err(arrow)?;
            write(writer, inserts)?;
            let updates = take_record_batch(&batch, &UInt64Array::from(updates)).map_err(arrow)?;
            if updates.num_rows() == 0 {
                return Ok(());
            }
            let mut arrays = updates.columns().to_vec();
            for (at, place) in self.columns.iter().enumerate() {
                let replaced = carried.column(at, &places)?;
                arrays[*place] = match self.kept.contains(place) {
                    true => changes.told(&numbers, *place, &replaced, &arrays[*place])?,
                    false => replaced,
                };
            }
            write(
                writer,
                RecordBatch::try_new(updates.schema(), arrays).map_err(arrow)?,
            )
        })
    }
}
