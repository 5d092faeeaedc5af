//! Writing tables as files: staged per part, then published in one step.

mod merge;
mod part;
mod publish;
mod read_back;
mod shape;
mod staging;
mod target;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use tideway_core::{
    Batch, Column, Error, Result,
    destination::{
        Accepted, Durable, Lane, Load, Outcome, ReadBack, SchemaChange, TableLoad, Write,
    },
    failpoint, form,
    sums::Sums,
};

use self::{
    merge::{KEPT, OP, change_columns},
    part::PartWriter,
    shape::{Shaper, evolve, key_places},
    staging::{Receipt, receipts, sweep},
    target::{FileSpec, Target},
};
use crate::{
    format::Format,
    layout::split,
    manifest::{MANIFEST, Manifest},
    options::DestinationOptions,
    place::Place,
};

/// One load of one table.
pub struct FileLoad {
    load: Load,
    target: Target,
    /// What the table is written as, with all its columns.
    spec: FileSpec,
    /// The table as it was when the load began.
    before: Option<Manifest>,
    changes: Vec<SchemaChange>,
    landed: BTreeSet<String>,
    finished: bool,
    /// Microseconds since 1970; the time that rows are stamped with.
    now: i64,
}

pub async fn begin(place: Place, default_format: Format, load: Load) -> Result<Box<dyn TableLoad>> {
    let options: DestinationOptions = form::parse(&load.options)?;
    if matches!(load.write, Write::Merge { .. } | Write::Changes { .. }) {
        key_places(&load)?;
    }
    let is_ours = |column: &&Column| [OP, KEPT].contains(&column.name.as_str());
    if let Some(column) = load.target.columns.iter().find(is_ours) {
        return Err(Error::config(format!(
            "a column of {} cannot be called {}: the name is kept for bookkeeping",
            load.target.name, column.name
        ))
        .hint("give the field another output name, or leave it out"));
    }
    let target = Target::new(place, &options, &load)?;
    let before = read_manifest(&target).await?;
    let finished = before
        .as_ref()
        .is_some_and(|manifest| manifest.has_finished(&load.id));
    let (columns, mut changes) = evolve(before.as_ref(), &load);
    let spec = FileSpec {
        format: options.format.unwrap_or(default_format),
        compression: options.compression,
        columns: columns.into(),
    };
    let mut begun = FileLoad {
        target,
        spec,
        landed: BTreeSet::new(),
        changes: Vec::new(),
        finished,
        now: chrono::Utc::now().timestamp_micros(),
        before,
        load,
    };
    if finished {
        return Ok(Box::new(begun));
    }
    // Of an attempt that died while publishing, staged files may have moved already.
    begun
        .remove_rubbish(begun.before.as_ref(), !begun.load.resume)
        .await?;
    if begun.load.resume {
        let receipts = receipts(&begun.target).await?;
        begun.landed = receipts.into_iter().map(|receipt| receipt.part).collect();
    } else {
        begun.target.place.remove_all(&begun.target.staging).await?;
    }
    sweep(&begun.target, begun.now).await?;
    changes.extend(begun.remark_on_strangers().await?);
    begun.changes = changes;
    Ok(Box::new(begun))
}

async fn read_manifest(target: &Target) -> Result<Option<Manifest>> {
    let path = target.manifest();
    let bytes = target.place.read_small(&path).await?;
    bytes
        .map(|bytes| Manifest::parse(&bytes, &target.place.show(&path)))
        .transpose()
}

impl FileLoad {
    async fn read_manifest(&self) -> Result<Option<Manifest>> {
        read_manifest(&self.target).await
    }

    /// Files in a folder that becomes a table for the first time are nobody's business
    /// of ours, but people should know of them.
    async fn remark_on_strangers(&self) -> Result<Option<SchemaChange>> {
        if self.before.is_some() {
            return Ok(None);
        }
        let found = self.target.place.list_folder(&self.target.folder).await?;
        let is_strange = |name: &str| name != MANIFEST && Format::of_name(name).is_some();
        let strangers = found
            .iter()
            .filter(|object| is_strange(split(object.path.as_ref()).1));
        Ok(match strangers.count() {
            0 => None,
            count => Some(SchemaChange(format!(
                "{} already has {count} files that Tideway did not write; they are left alone and are no part of the table",
                self.target.shown()
            ))),
        })
    }

    /// What staged files are written as. Rows to be merged are read again, so they are
    /// staged in the format that keeps every type.
    fn staged_spec(&self) -> FileSpec {
        match self.load.write {
            Write::Changes { .. } => FileSpec {
                format: Format::Parquet,
                compression: None,
                columns: self
                    .spec
                    .columns
                    .iter()
                    .cloned()
                    .chain(change_columns())
                    .collect(),
            },
            Write::Merge { .. } if self.spec.format != Format::Parquet => FileSpec {
                format: Format::Parquet,
                compression: None,
                columns: self.spec.columns.clone(),
            },
            _ => self.spec.clone(),
        }
    }
}

#[async_trait]
impl TableLoad for FileLoad {
    fn schema_changes(&self) -> &[SchemaChange] {
        &self.changes
    }

    fn landed(&self) -> &BTreeSet<String> {
        &self.landed
    }

    fn finished(&self) -> bool {
        self.finished
    }

    async fn lane(&self) -> Result<Box<dyn Lane>> {
        let spec = self.staged_spec();
        let shaper = Shaper::new(&spec.columns, &self.load, self.spec.format, self.now)?;
        Ok(Box::new(FileLane {
            writer: PartWriter::new(self.target.clone(), spec),
            target: self.target.clone(),
            shaper: Arc::new(shaper),
            rows: 0,
        }))
    }

    fn tells_apart(&self, column: &Column) -> bool {
        read_back::kept_in(&self.spec.columns, column).is_some()
    }

    async fn read_back(&self, how: &ReadBack<'_>) -> Result<Option<Sums>> {
        let spec = self.staged_spec();
        let sums = read_back::read_back(&self.target, &spec, &self.load, how).await?;
        Ok(Some(sums))
    }

    async fn finish(&self) -> Result<Outcome> {
        self.publish().await
    }

    async fn abandon(&self) -> Result<()> {
        let manifest = self.read_manifest().await?;
        self.remove_rubbish(manifest.as_ref(), true).await?;
        self.target.place.remove_all(&self.target.staging).await
    }
}

struct FileLane {
    target: Target,
    writer: PartWriter,
    shaper: Arc<Shaper>,
    /// Rows that came since the last commit.
    rows: u64,
}

#[async_trait]
impl Lane for FileLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        let count = batch.row_count() as u64;
        let shaper = self.shaper.clone();
        let notes = self.writer.write(move || shaper.shape(&batch)).await?;
        self.rows += count;
        Ok(Accepted { notes })
    }

    async fn commit(&mut self, part_id: &str) -> Result<Durable> {
        let receipt = Receipt {
            part: part_id.to_owned(),
            rows: std::mem::take(&mut self.rows),
            files: self.writer.finish().await?,
        };
        failpoint::reach("files.written");
        receipt.write(&self.target).await?;
        failpoint::reach("files.landed");
        Ok(Durable { rows: receipt.rows })
    }
}
