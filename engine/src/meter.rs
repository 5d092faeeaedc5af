//! Counters that the progress bar, the API and the metrics read while a run goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

#[derive(Debug, Default)]
pub struct TableMeter {
    pub rows_read: AtomicU64,
    pub bytes_read: AtomicU64,
    /// Rows that are durable in the destination's staging place.
    pub rows_landed: AtomicU64,
    pub warnings: AtomicU64,
    /// The source's estimate, 0 where it has none.
    pub rows_expected: AtomicU64,
}

impl TableMeter {
    /// A new attempt reads from the start.
    pub fn reset(&self) {
        for counter in [
            &self.rows_read,
            &self.bytes_read,
            &self.rows_landed,
            &self.warnings,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

/// All meters of a run, by schema id.
#[derive(Debug, Default)]
pub struct RunMeter {
    tables: Mutex<BTreeMap<String, Arc<TableMeter>>>,
}

/// The sums over all tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub rows_read: u64,
    pub bytes_read: u64,
    pub rows_landed: u64,
    pub rows_expected: u64,
}

impl RunMeter {
    pub fn table(&self, schema_id: &str) -> Arc<TableMeter> {
        let mut tables = self
            .tables
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        tables.entry(schema_id.to_owned()).or_default().clone()
    }

    pub fn all(&self) -> Vec<(String, Arc<TableMeter>)> {
        let tables = self
            .tables
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        tables
            .iter()
            .map(|(id, meter)| (id.clone(), meter.clone()))
            .collect()
    }

    pub fn totals(&self) -> Totals {
        self.all()
            .iter()
            .fold(Totals::default(), |sum, (_, meter)| {
                let read = meter.rows_read.load(Relaxed);
                Totals {
                    rows_read: sum.rows_read + read,
                    bytes_read: sum.bytes_read + meter.bytes_read.load(Relaxed),
                    rows_landed: sum.rows_landed + meter.rows_landed.load(Relaxed),
                    rows_expected: sum.rows_expected + meter.rows_expected.load(Relaxed).max(read),
                }
            })
    }
}
