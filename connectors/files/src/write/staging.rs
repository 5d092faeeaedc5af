//! Parts that have landed. Each has a receipt beside its files, written after them in
//! one step: with it the part is durable, without it the files are rubbish.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tideway_core::{Error, Result};
use xxhash_rust::xxh3::xxh3_128;

use super::target::Target;
use crate::{
    layout::split,
    manifest::{MEMORY, PartFile},
    place::{AT_ONCE, Object},
};

const RECEIPT: &str = ".receipt.json";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    pub part: String,
    /// Rows that came, with those that were left out of the files.
    pub rows: u64,
    pub files: Vec<PartFile>,
}

impl Receipt {
    pub async fn write(&self, target: &Target) -> Result<()> {
        // Named by the part, so that landing again replaces what landed before.
        let name = format!("{:032x}{RECEIPT}", xxh3_128(self.part.as_bytes()));
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Error::bug("a receipt cannot be written").because(error))?;
        target.place.write_small(&target.staged(&name), bytes).await
    }
}

/// Removes what loads of this table have staged that nobody has gone on with for a week.
pub async fn sweep(target: &Target, now: i64) -> Result<()> {
    let all = target.place.list(&target.loads).await?;
    let load = |object: &Object| split(object.path.as_ref()).0.to_owned();
    let mut latest: HashMap<String, i64> = HashMap::new();
    for object in &all {
        let known = latest.entry(load(object)).or_insert(object.modified);
        *known = object.modified.max(*known);
    }
    let is_old = |object: &&Object| {
        latest
            .get(&load(object))
            .is_some_and(|at| *at < now - MEMORY)
    };
    let old = all.iter().filter(is_old).map(|object| object.path.clone());
    target.place.remove(old.collect()).await
}

/// All receipts of a load, in an order that is the same every time.
pub async fn receipts(target: &Target) -> Result<Vec<Receipt>> {
    let mut found = target.place.list_folder(&target.staging).await?;
    found.retain(|object| object.path.as_ref().ends_with(RECEIPT));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    stream::iter(found)
        .map(async |object| {
            let bytes = target
                .place
                .read_small(&object.path)
                .await?
                .unwrap_or_default();
            serde_json::from_slice(&bytes).map_err(|error| {
                let name = split(object.path.as_ref()).1.to_owned();
                Error::data(format!("the receipt {name} of a part is damaged")).because(error)
            })
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}
