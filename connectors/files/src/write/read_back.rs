//! Reads staged files back, several at once, and adds their rows up.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::{StreamExt, TryStreamExt, stream};
use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::{Load, ReadBack},
    sums::{Sums, is_compared, is_same_kept_as},
};

use super::{
    staging::receipts,
    target::{FileSpec, Target},
};
use crate::{
    format::{Wanted, csv::Dialect},
    layout::{TableFile, split},
    manifest::PartFile,
    place::{Object, blocking},
    read::FileReader,
};

/// As our own CSV files are written.
const DIALECT: Dialect = Dialect {
    delimiter: b',',
    has_headers: true,
    skip_lines: 0,
};

/// What the staged rows add up to.
pub async fn read_back(
    target: &Target,
    spec: &FileSpec,
    load: &Load,
    how: &ReadBack<'_>,
) -> Result<Sums> {
    let brought = load.target.columns.iter().enumerate();
    let told: Vec<(usize, &Column)> = brought
        .filter(|(_, column)| is_compared(column.logical))
        .filter_map(|(at, column)| Some((at, kept_in(&spec.columns, column)?)))
        .collect();
    let (places, columns): (Vec<usize>, Vec<Column>) = told
        .into_iter()
        .map(|(at, column)| (at, column.clone()))
        .unzip();
    let stopped = Stop::default();
    let reader = Arc::new(Reader {
        target: target.clone(),
        types: columns.iter().map(|column| Some(column.logical)).collect(),
        wanted: Wanted {
            columns,
            known: spec.columns.iter().map(|c| c.name.clone()).collect(),
            batch_bytes: how.batch_bytes,
            own: true,
        },
        stopped: stopped.0.clone(),
    });
    let files = files(target, spec).await?;
    let pieces = stream::iter(files).map(|file| {
        let reader = reader.clone();
        blocking(move || reader.read(&file))
    });
    let mut sums = Sums::new(places.len());
    let mut pieces = pieces.buffer_unordered(how.lanes.max(1));
    while let Some(piece) = pieces.try_next().await? {
        sums.join(&piece);
    }
    Ok(sums.spread(&places, load.target.columns.len()))
}

/// The column as it is in the files, unless a value of it may be there as another one.
pub fn kept_in<'a>(columns: &'a [Column], brought: &Column) -> Option<&'a Column> {
    let kept = columns.iter().find(|column| column.name == brought.name)?;
    is_same_kept_as(brought.logical, kept.logical).then_some(kept)
}

/// The files of all parts that have landed.
async fn files(target: &Target, spec: &FileSpec) -> Result<Vec<TableFile>> {
    let listed = target.place.list_folder(&target.staging).await?;
    let mut objects: HashMap<String, Object> = listed
        .into_iter()
        .map(|object| (split(object.path.as_ref()).1.to_owned(), object))
        .collect();
    let landed = receipts(target).await?;
    let named = landed.into_iter().flat_map(|receipt| receipt.files);
    let file = |PartFile { name, rows, .. }: PartFile| {
        let object = objects.remove(&name);
        Ok(TableFile {
            object: object.ok_or_else(|| Error::data(format!("the file {name} is gone")))?,
            format: spec.format,
            own_rows: Some(rows),
        })
    };
    named.map(file).collect()
}

struct Reader {
    target: Target,
    wanted: Wanted,
    types: Vec<Option<LogicalType>>,
    stopped: Arc<AtomicBool>,
}

impl Reader {
    /// Blocking.
    fn read(&self, file: &TableFile) -> Result<Sums> {
        let mut sums = Sums::new(self.types.len());
        let place = &self.target.place;
        let mut reader = FileReader::open(place, file, None, DIALECT, &self.wanted)?;
        while let Some(batch) = reader.next()? {
            if self.stopped.load(Relaxed) {
                return Err(Error::cancelled());
            }
            sums.add_batch(&batch.rows, &self.types)?;
        }
        Ok(sums)
    }
}

/// Tells the threads that read when nobody waits for them any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
