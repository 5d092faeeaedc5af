//! The last step of a load: staged files become the table.
//!
//! 1. files get their final names beside those of the table;
//! 2. the manifest is written, in one step: with that the load has taken effect;
//! 3. files that are not the table any more are removed, and the staging folder.
//!
//! A crash before the second step leaves the table as it was, one after it leaves only
//! rubbish; both are cleared by doing the step again. Who reads by the manifest never
//! sees half a load. Who just lists the folder sees old and new files side by side for
//! the moment between the first step and the third.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::{StreamExt, TryStreamExt, stream};
use tideway_core::{
    Error, Result,
    destination::{Deletes, Disposition, Outcome, Write},
    failpoint,
};

use super::{
    FileLoad,
    merge::{Located, MOST_KEYS, Merge, Merged, add_note},
    part::PartWriter,
    staging::receipts,
};
use crate::{
    layout::split,
    manifest::{Manifest, PartFile},
    place::{AT_ONCE, Object, blocking},
};

/// What the table will consist of.
struct Plan {
    /// Staged files, to be published.
    new: Vec<PartFile>,
    /// Files of the table that stay.
    kept: Vec<PartFile>,
    outcome: Outcome,
    /// Every row has a key of its own.
    unique: bool,
}

impl FileLoad {
    /// Takes a finished load's rubbish away, and says what was said before.
    async fn repeated(&self, manifest: &Manifest) -> Result<Outcome> {
        self.clear(manifest).await?;
        Ok(Outcome {
            repeated: true,
            place: self.target.shown(),
            ..Outcome::default()
        })
    }

    pub(super) async fn publish(&self) -> Result<Outcome> {
        let before = self.read_manifest().await?;
        if let Some(manifest) = &before
            && manifest.has_finished(&self.load.id)
        {
            return self.repeated(manifest).await;
        }
        let columns = before.as_ref().map(|manifest| manifest.columns.as_slice());
        let seen = self
            .before
            .as_ref()
            .map(|manifest| manifest.columns.as_slice());
        // Another load of the same stream may have brought the very same columns.
        if columns != seen && columns != Some(&*self.spec.columns) {
            return Err(self.overtaken());
        }
        let mut plan = self.plan(before.as_ref()).await?;
        if plan.new.is_empty() && plan.kept.is_empty() {
            // One file without rows shows the columns to those who just list the folder.
            let mut writer = PartWriter::new(self.target.clone(), self.spec.clone());
            plan.new = writer.finish_empty().await?;
        }
        let new = self.move_in(plan.new).await?;
        let manifest = self.next_manifest(before.as_ref(), new, plan.kept, plan.unique);
        // Nobody may have written the table since it was read above.
        let generation = |manifest: &Option<Manifest>| manifest.as_ref().map(|m| m.generation);
        if generation(&self.read_manifest().await?) != generation(&before) {
            return Err(self.overtaken());
        }
        let bytes = manifest.bytes()?;
        failpoint::reach("files.moved");
        self.target
            .place
            .write_small(&self.target.manifest(), bytes)
            .await?;
        failpoint::reach("files.published");
        self.clear(&manifest).await?;
        Ok(plan.outcome)
    }

    fn overtaken(&self) -> Error {
        Error::conflict(format!(
            "{} was written by another load meanwhile",
            self.target.shown()
        ))
        .hint("let only one sync write the table, then run it again")
    }

    async fn plan(&self, before: Option<&Manifest>) -> Result<Plan> {
        if let Write::Changes { complete, deletes } = self.load.write {
            return self.plan_changes(before, complete, deletes).await;
        }
        let receipts = receipts(&self.target).await?;
        let staged: Vec<PartFile> = receipts
            .into_iter()
            .flat_map(|receipt| receipt.files)
            .collect();
        let staged: Vec<PartFile> = staged.into_iter().filter(|file| file.rows > 0).collect();
        let retains = self.load.disposition == Disposition::Retain;
        let old = before.filter(|_| retains && self.load.write != Write::Replace);
        let old: Vec<PartFile> = old
            .map(|manifest| manifest.files.clone())
            .unwrap_or_default();
        let place = self.target.shown();
        let Write::Merge { complete, deletes } = self.load.write else {
            let rows = staged.iter().map(|file| file.rows).sum();
            return Ok(Plan {
                new: staged,
                kept: old,
                outcome: Outcome {
                    inserted: rows,
                    place,
                    ..Outcome::default()
                },
                unique: false,
            });
        };
        let merged = self.merge(staged, old, complete, deletes).await?;
        if merged.doubled > 0 {
            tracing::warn!(
                table = place,
                rows = merged.doubled,
                "rows came with a key that came again later; the last one was kept"
            );
        }
        Ok(Plan {
            new: merged.written,
            kept: merged.kept,
            outcome: Outcome {
                inserted: merged.inserted,
                updated: merged.updated,
                deleted: merged.deleted,
                unchanged: merged.unchanged,
                place,
                ..Outcome::default()
            },
            unique: true,
        })
    }

    /// Merges the parts in the order of their ids, as many at once as have no key in
    /// common. The first ones see to the rows that are gone: none has that comes after.
    async fn plan_changes(
        &self,
        before: Option<&Manifest>,
        mut complete: bool,
        deletes: Deletes,
    ) -> Result<Plan> {
        let retains = self.load.disposition == Disposition::Retain;
        let old = before.filter(|_| retains);
        let original: Vec<PartFile> = old.map(|m| m.files.clone()).unwrap_or_default();
        let mut old = self.located(original.clone(), &self.target.folder).await?;
        let mut receipts = receipts(&self.target).await?;
        receipts.sort_by(|left, right| left.part.cmp(&right.part));
        let mut parts = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            let files = receipt.files.into_iter().filter(|file| file.rows > 0);
            parts.push(self.located(files.collect(), &self.target.staging).await?);
        }
        let mut outcome = Outcome {
            place: self.target.shown(),
            ..Outcome::default()
        };
        while complete || !parts.is_empty() {
            let cancelled = Arc::new(AtomicBool::new(false));
            let _guard = CancelOnDrop(cancelled.clone());
            let mut merge = Merge {
                changes: true,
                ..self.merge_of(Vec::new(), old.clone(), complete, deletes, cancelled)
            };
            complete = false;
            let (rest, merged) = blocking(move || {
                let rest = parts.split_off(merge.first_apart(&parts)?);
                merge.staged = parts.into_iter().flatten().collect();
                if merge.complete {
                    merge.spared = rest.iter().flatten().cloned().collect();
                }
                Ok((rest, merge.run()?))
            })
            .await?;
            parts = rest;
            outcome.inserted += merged.inserted;
            outcome.updated += merged.updated;
            outcome.deleted += merged.deleted;
            outcome.unchanged += merged.unchanged;
            for note in merged.notes {
                add_note(&mut outcome.notes, note);
            }
            old.retain(|(file, _)| merged.kept.contains(file));
            old.extend(self.located(merged.written, &self.target.staging).await?);
        }
        let files = old.into_iter().map(|(file, _)| file);
        let (kept, new) = files.partition(|file| original.contains(file));
        Ok(Plan {
            new,
            kept,
            outcome,
            unique: true,
        })
    }

    async fn merge(
        &self,
        staged: Vec<PartFile>,
        old: Vec<PartFile>,
        complete: bool,
        deletes: Deletes,
    ) -> Result<Merged> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(cancelled.clone());
        let staged = self.located(staged, &self.target.staging).await?;
        let old = self.located(old, &self.target.folder).await?;
        let merge = self.merge_of(staged, old, complete, deletes, cancelled);
        blocking(move || merge.run()).await
    }

    fn merge_of(
        &self,
        staged: Vec<Located>,
        old: Vec<Located>,
        complete: bool,
        deletes: Deletes,
        cancelled: Arc<AtomicBool>,
    ) -> Merge {
        Merge {
            staged,
            old,
            target: self.target.clone(),
            spec: self.spec.clone(),
            key: self.load.target.key.clone(),
            data: self
                .load
                .target
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            complete,
            spared: Vec::new(),
            changes: false,
            deletes,
            record_timestamps: self.load.record_timestamps,
            now: self.now,
            most_keys: MOST_KEYS,
            cancelled,
        }
    }

    /// The versions of files as they are now.
    async fn located(
        &self,
        files: Vec<PartFile>,
        folder: &object_store::path::Path,
    ) -> Result<Vec<(PartFile, Object)>> {
        let found = self.target.place.list_folder(folder).await?;
        let mut found: HashMap<String, Object> = found
            .into_iter()
            .map(|object| (split(object.path.as_ref()).1.to_owned(), object))
            .collect();
        let located = files
            .into_iter()
            .map(|file| match found.remove(&file.name) {
                Some(object) => Ok((file, object)),
                None => Err(Error::data(format!(
                    "{} is gone from {}",
                    file.name,
                    self.target.place.show(folder)
                ))
                .hint(
                    "something else has removed the file; run the sync with a rebuild of the table",
                )),
            });
        located.collect()
    }

    /// Gives files their final names, the same ones in every attempt.
    async fn move_in(&self, files: Vec<PartFile>) -> Result<Vec<PartFile>> {
        stream::iter(files.into_iter().enumerate())
            .map(async |(number, file)| {
                let extension = file
                    .name
                    .split_once('.')
                    .map_or("", |(_, extension)| extension);
                let name = format!("{}{number:05}.{extension}", self.prefix());
                let (from, to) = (self.target.staged(&file.name), self.target.file(&name));
                self.target.place.publish(&from, &to).await?;
                Ok(PartFile { name, ..file })
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    fn prefix(&self) -> String {
        format!("part-{}-", self.load.id)
    }

    fn next_manifest(
        &self,
        before: Option<&Manifest>,
        new: Vec<PartFile>,
        kept: Vec<PartFile>,
        unique: bool,
    ) -> Manifest {
        let mut manifest = Manifest::new(self.spec.columns.to_vec());
        manifest.files = kept.into_iter().chain(new).collect();
        // Files without rows give way to the first one that has some.
        if manifest.rows() > 0 {
            manifest.files.retain(|file| file.rows > 0);
        }
        if unique {
            manifest.key = self.load.target.key.clone();
        }
        if let Some(before) = before {
            manifest.generation = before.generation;
            manifest.finished = before.finished.clone();
            let stays: HashSet<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
            // What was retired before this load began was removed when it began.
            let met = self
                .before
                .as_ref()
                .is_some_and(|b| b.generation == before.generation);
            let earlier = before.retired.iter().filter(|_| !met);
            let names = before.files.iter().map(|file| &file.name).chain(earlier);
            manifest.retired = names
                .filter(|name| !stays.contains(name.as_str()))
                .cloned()
                .collect();
        }
        manifest.generation += 1;
        manifest.finish(&self.load.id, self.now);
        manifest
    }

    /// Removes what is not the table: files of earlier generations, and what this load
    /// left behind.
    async fn clear(&self, manifest: &Manifest) -> Result<()> {
        self.remove_rubbish(Some(manifest), true).await?;
        self.target.place.remove_all(&self.target.staging).await
    }

    /// Removes files in the table's folder that are known to be of no use: retired ones,
    /// and, of this load's `own`, those that the manifest does not list.
    pub(super) async fn remove_rubbish(
        &self,
        manifest: Option<&Manifest>,
        own: bool,
    ) -> Result<()> {
        let named = |files: Vec<&str>| files.into_iter().map(str::to_owned).collect::<HashSet<_>>();
        let (mut listed, mut retired) = (HashSet::new(), HashSet::new());
        if let Some(manifest) = manifest {
            listed = named(
                manifest
                    .files
                    .iter()
                    .map(|file| file.name.as_str())
                    .collect(),
            );
            retired = named(manifest.retired.iter().map(String::as_str).collect());
        }
        let prefix = self.prefix();
        let mut found = self.target.place.list_folder(&self.target.folder).await?;
        found.retain(|object| {
            let name = split(object.path.as_ref()).1;
            let useless = retired.contains(name) || (own && name.starts_with(&prefix));
            useless && !listed.contains(name)
        });
        self.target
            .place
            .remove(found.into_iter().map(|object| object.path).collect())
            .await
    }
}

/// Tells a merge that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
