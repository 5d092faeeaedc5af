//! Up to where the destination has each table. The source may forget what lies before the
//! lowest of them, and nothing after it (invariant 1).

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tideway_core::{Position, changes::Changes};

#[derive(Default)]
pub struct Positions(Mutex<BTreeMap<String, Position>>);

impl Positions {
    pub fn set(&self, schema_id: &str, position: Position) {
        self.all().insert(schema_id.to_owned(), position);
    }

    /// The table needs the log no longer.
    pub fn give_up(&self, schema_id: &str) {
        self.all().remove(schema_id);
    }

    pub fn lowest(&self, changes: &dyn Changes) -> Option<Position> {
        let all = self.all();
        let mut positions = all.values();
        let first = positions.next()?;
        let lowest = positions.fold(first, |lowest, position| {
            match changes.compare(position, lowest) {
                Ordering::Less => position,
                _ => lowest,
            }
        });
        Some(lowest.clone())
    }

    /// All as they are now, to see later whether something has moved.
    pub fn seen(&self) -> BTreeMap<String, Position> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Position>> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}
