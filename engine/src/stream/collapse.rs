//! Many changes of the same rows become one change per row: the last. Within a part each
//! key occurs once, so a destination applies a part with one statement, and a row that was
//! updated a thousand times costs as much as one that was updated once.

use std::collections::{HashMap, hash_map::Entry};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt8Array};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_select::interleave::interleave;
use tideway_core::{Batch, Error, Op, Ops, Result};

/// One key with what happened to it.
struct Fate {
    first: Op,
    last: Op,
    /// The row that tells how it is now, counted over all batches.
    row: usize,
}

/// The changes of all batches, which have the same columns, as one batch with each key
/// once. `key` holds the indexes of the key columns.
///
/// A value that the last change keeps is taken from the change before it where that one
/// is here too; else it stays kept.
pub fn collapse(batches: &[Batch], key: &[usize]) -> Result<Batch> {
    let first = batches
        .first()
        .ok_or_else(|| Error::bug("there are no changes to collapse"))?;
    let places = Places::of(batches);
    let keys = keys_of(batches, key)?;
    let keeps = batches.iter().any(|batch| !batch.kept.is_empty());
    // The row before in the life of the same row; only needed to look kept values up.
    let mut before: Vec<Option<usize>> = vec![None; if keeps { places.total } else { 0 }];
    let mut known = HashMap::with_capacity(places.total);
    let mut fates: Vec<Fate> = Vec::with_capacity(places.total);
    let mut row = 0;
    for (batch, keys) in batches.iter().zip(&keys) {
        let ops = ops_of(batch)?;
        for (op, key) in ops.values().iter().zip(keys.iter()) {
            let op = Op::of(*op).ok_or_else(|| Error::bug("a change has an unknown operation"))?;
            match known.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(fates.len());
                    fates.push(Fate {
                        first: op,
                        last: op,
                        row,
                    });
                }
                Entry::Occupied(place) => {
                    let fate = &mut fates[*place.get()];
                    // What a deleted row held does not live on in one that is inserted anew.
                    if keeps && fate.last != Op::Delete {
                        before[row] = Some(fate.row);
                    }
                    (fate.last, fate.row) = (op, row);
                }
            }
            row += 1;
        }
    }
    if batches.len() == 1 && fates.len() == places.total {
        return Ok(first.clone());
    }
    assemble(batches, &places, &fates, &before)
}

fn assemble(
    batches: &[Batch],
    places: &Places,
    fates: &[Fate],
    before: &[Option<usize>],
) -> Result<Batch> {
    let schema = batches[0].rows.schema();
    let latest: Vec<(usize, usize)> = fates.iter().map(|fate| places.find(fate.row)).collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    let mut kept = Vec::new();
    for index in 0..schema.fields().len() {
        let masks: Vec<Option<&BooleanArray>> =
            batches.iter().map(|batch| mask_of(batch, index)).collect();
        let values: Vec<&dyn Array> = batches
            .iter()
            .map(|batch| batch.rows.column(index).as_ref())
            .collect();
        if masks.iter().all(Option::is_none) {
            columns.push(interleave(&values, &latest).map_err(bug)?);
            continue;
        }
        let is_kept = |row: usize| {
            let (batch, row) = places.find(row);
            masks[batch].is_some_and(|mask| mask.value(row))
        };
        let mut rows = Vec::with_capacity(fates.len());
        let mut still = Vec::with_capacity(fates.len());
        for fate in fates {
            let mut row = fate.row;
            while fate.last != Op::Delete
                && is_kept(row)
                && let Some(earlier) = before[row]
            {
                row = earlier;
            }
            still.push(fate.last != Op::Delete && is_kept(row));
            rows.push(places.find(row));
        }
        columns.push(interleave(&values, &rows).map_err(bug)?);
        if still.contains(&true) {
            kept.push((index, BooleanArray::from(still)));
        }
    }
    let ops = fates.iter().map(|fate| fate.operation() as u8);
    Ok(Batch {
        rows: RecordBatch::try_new(schema, columns).map_err(bug)?,
        ops: Ops::Each(UInt8Array::from_iter_values(ops)),
        kept,
        notes: Vec::new(),
    })
}

impl Fate {
    /// What happened from before the first change to after the last. A row that was
    /// inserted and deleted again is still told as deleted: to say so once too often does
    /// no harm.
    fn operation(&self) -> Op {
        match (self.first, self.last) {
            (_, Op::Delete) => Op::Delete,
            (Op::Insert, _) => Op::Insert,
            _ => Op::Update,
        }
    }
}

/// Rows counted over all batches.
struct Places {
    /// Where each batch begins.
    starts: Vec<usize>,
    total: usize,
}

impl Places {
    fn of(batches: &[Batch]) -> Self {
        let mut total = 0;
        let starts = batches
            .iter()
            .map(|batch| {
                total += batch.row_count();
                total - batch.row_count()
            })
            .collect();
        Places { starts, total }
    }

    fn find(&self, row: usize) -> (usize, usize) {
        let batch = self.starts.partition_point(|start| *start <= row) - 1;
        (batch, row - self.starts[batch])
    }
}

fn keys_of(batches: &[Batch], key: &[usize]) -> Result<Vec<Rows>> {
    let fields = key
        .iter()
        .map(|&index| SortField::new(batches[0].rows.column(index).data_type().clone()))
        .collect();
    let converter = RowConverter::new(fields).map_err(bug)?;
    batches
        .iter()
        .map(|batch| {
            let columns: Vec<ArrayRef> = key
                .iter()
                .map(|&index| batch.rows.column(index).clone())
                .collect();
            converter.convert_columns(&columns).map_err(bug)
        })
        .collect()
}

pub fn ops_of(batch: &Batch) -> Result<&UInt8Array> {
    match &batch.ops {
        Ops::Each(ops) if ops.len() == batch.row_count() && ops.null_count() == 0 => Ok(ops),
        _ => Err(Error::bug("changes came without their operations")),
    }
}

pub fn mask_of(batch: &Batch, index: usize) -> Option<&BooleanArray> {
    let found = batch.kept.iter().find(|(column, _)| *column == index);
    found.map(|(_, mask)| mask)
}

fn bug(error: arrow_schema::ArrowError) -> Error {
    Error::bug(format!("collapsing changes: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use arrow_schema::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    /// `[key, a, b]`; a `None` is a value that is kept.
    type Told = (Op, i64, Option<i64>, Option<i64>);

    fn batch(changes: &[Told]) -> Batch {
        let schema = Arc::new(Schema::new(
            ["k", "a", "b"]
                .map(|name| Field::new(name, DataType::Int64, true))
                .to_vec(),
        ));
        let column = |value: &dyn Fn(&Told) -> i64| -> ArrayRef {
            Arc::new(changes.iter().map(value).collect::<Int64Array>())
        };
        let columns = vec![
            column(&|told| told.1),
            column(&|told| told.2.unwrap_or(-1)),
            column(&|told| told.3.unwrap_or(-1)),
        ];
        let masks = [
            (
                1,
                changes.iter().map(|told| Some(told.2.is_none())).collect(),
            ),
            (
                2,
                changes.iter().map(|told| Some(told.3.is_none())).collect(),
            ),
        ];
        Batch {
            rows: RecordBatch::try_new(schema, columns).unwrap(),
            ops: Ops::Each(changes.iter().map(|told| told.0 as u8).collect()),
            kept: masks
                .into_iter()
                .filter(|(_, mask): &(usize, BooleanArray)| mask.true_count() > 0)
                .collect(),
            notes: Vec::new(),
        }
    }

    fn told(batch: &Batch) -> Vec<Told> {
        let ops = ops_of(batch).unwrap();
        let value = |column: usize, row: usize| {
            let kept = mask_of(batch, column).is_some_and(|mask| mask.value(row));
            let values = batch.rows.column(column).as_primitive::<Int64Type>();
            (!kept).then(|| values.value(row))
        };
        (0..batch.row_count())
            .map(|row| {
                let op = Op::of(ops.value(row)).unwrap();
                (op, value(0, row).unwrap(), value(1, row), value(2, row))
            })
            .collect()
    }

    /// What a table becomes by the changes, one after the other.
    fn apply(table: &mut BTreeMap<i64, [Option<i64>; 2]>, changes: &[Told]) {
        for (op, key, a, b) in changes {
            match op {
                Op::Delete => drop(table.remove(key)),
                _ => {
                    let before = table.get(key).copied().unwrap_or_default();
                    table.insert(*key, [a.or(before[0]), b.or(before[1])]);
                }
            }
        }
    }

    /// A life of some rows as a database would tell it: nothing is updated that is not
    /// there, and nothing is kept by an insert.
    fn changes() -> impl Strategy<Value = Vec<Told>> {
        let step = (0_i64..4, 0_u8..4, any::<(bool, bool)>());
        prop::collection::vec(step, 1..40).prop_map(|steps| {
            let mut there = [true, true, false, false];
            let mut next = 100;
            let mut changes = Vec::new();
            for (key, choice, (keep_a, keep_b)) in steps {
                next += 2;
                let row = &mut there[key as usize];
                changes.push(match (*row, choice) {
                    (false, _) => (Op::Insert, key, Some(next), Some(next + 1)),
                    (true, 0) => (Op::Delete, key, Some(-5), Some(-5)),
                    (true, _) => (
                        Op::Update,
                        key,
                        (!keep_a).then_some(next),
                        (!keep_b).then_some(next + 1),
                    ),
                });
                *row = !(*row && choice == 0);
            }
            changes
        })
    }

    proptest! {
        #[test]
        fn one_change_per_key_does_what_all_of_them_did(
            changes in changes(),
            size in 1_usize..10,
        ) {
            let batches: Vec<Batch> = changes.chunks(size).map(batch).collect();
            let collapsed = told(&collapse(&batches, &[0]).unwrap());
            let before: BTreeMap<_, _> = [(0, [Some(1), Some(2)]), (1, [Some(3), Some(4)])].into();
            let (mut expected, mut found) = (before.clone(), before.clone());
            apply(&mut expected, &changes);
            apply(&mut found, &collapsed);
            prop_assert_eq!(found, expected);
            let mut keys: Vec<i64> = collapsed.iter().map(|told| told.1).collect();
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!(keys.len(), collapsed.len(), "a key occurs twice");
            for (op, key, ..) in collapsed {
                // An insert promises that the row was not there.
                prop_assert!(op != Op::Insert || !before.contains_key(&key));
            }
        }
    }

    #[test]
    fn a_kept_value_is_found_in_the_change_before() {
        let changes = [
            (Op::Update, 1, Some(10), None),
            (Op::Update, 1, None, Some(20)),
            (Op::Update, 2, None, Some(30)),
        ];
        let collapsed = collapse(&[batch(&changes[..1]), batch(&changes[1..])], &[0]).unwrap();
        assert_eq!(
            told(&collapsed),
            [
                (Op::Update, 1, Some(10), Some(20)),
                (Op::Update, 2, None, Some(30)),
            ]
        );
    }

    #[test]
    fn what_a_deleted_row_held_is_forgotten() {
        let changes = [
            (Op::Update, 1, Some(10), Some(11)),
            (Op::Delete, 1, Some(0), Some(0)),
            (Op::Insert, 1, Some(30), Some(31)),
            (Op::Update, 1, None, Some(41)),
        ];
        let collapsed = collapse(&[batch(&changes)], &[0]).unwrap();
        assert_eq!(told(&collapsed), [(Op::Update, 1, Some(30), Some(41))]);
    }
}
