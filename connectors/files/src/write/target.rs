//! Where a table and its staged files are, and what a file of it is written as.

use std::sync::Arc;

use object_store::path::Path;
use tideway_core::{Column, Error, Result, destination::Load};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    compression::Compression,
    format::{Encoder, Format, csv::CsvEncoder, json::JsonEncoder, parquet::ParquetEncoder},
    manifest::{HIDDEN, MANIFEST},
    options::DestinationOptions,
    place::Place,
};

/// The folders of one load.
///
/// A table is the folder `<subfolder>/<namespace>/<table>`. What a load brings lands in
/// `<subfolder>/_tideway/<namespace>/<table>/<load id>` first.
#[derive(Clone)]
pub struct Target {
    pub place: Place,
    pub folder: Path,
    pub staging: Path,
    /// Where all loads of the table stage.
    pub loads: Path,
}

impl Target {
    pub fn new(place: Place, options: &DestinationOptions, load: &Load) -> Result<Self> {
        let subfolder = options.subfolder.as_deref().unwrap_or_default();
        let above: Vec<String> = subfolder
            .split('/')
            .filter(|segment| !segment.trim().is_empty())
            .map(|segment| match segment {
                "." | ".." => {
                    Err(Error::config("the subfolder leads out of the folder").field("subfolder"))
                }
                other => Ok(other.trim().to_owned()),
            })
            .collect::<Result<_>>()?;
        let table: Vec<String> = load
            .target
            .namespace
            .iter()
            .chain([&load.target.name])
            .map(|name| segment(name))
            .collect();
        let folder = place.join(above.iter().chain(&table))?;
        let hidden = HIDDEN.to_owned();
        let loads = place.join(above.iter().chain([&hidden]).chain(&table))?;
        Ok(Target {
            place,
            folder,
            staging: loads.clone().join(load.id.as_str()),
            loads,
        })
    }

    pub fn manifest(&self) -> Path {
        self.folder.clone().join(MANIFEST)
    }

    pub fn shown(&self) -> String {
        self.place.show(&self.folder)
    }

    pub fn file(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    pub fn staged(&self, name: &str) -> Path {
        self.staging.clone().join(name)
    }
}

/// A name as one segment of a path. Names that need no change keep theirs; others get a
/// hash of the original, so that two of them stay apart.
fn segment(name: &str) -> String {
    let harmless = |c: char| c.is_alphanumeric() || "_-. ".contains(c);
    let fine = !name.is_empty()
        && name.chars().all(harmless)
        && !name.starts_with(['.', ' '])
        && !name.ends_with(['.', ' '])
        && !name.starts_with(HIDDEN);
    if fine {
        return name.to_owned();
    }
    let replaced: String = name
        .chars()
        .map(|c| if harmless(c) { c } else { '_' })
        .collect();
    let trimmed = replaced.trim_matches(['.', ' ', '_']);
    format!("{trimmed}_{:08x}", xxh3_64(name.as_bytes()) as u32)
}

/// What the files of a table are written as.
#[derive(Clone)]
pub struct FileSpec {
    pub format: Format,
    pub compression: Option<Compression>,
    pub columns: Arc<[Column]>,
}

impl FileSpec {
    pub fn encoder(&self) -> Result<Box<dyn Encoder>> {
        let text = self.compression.unwrap_or(Compression::None);
        Ok(match self.format {
            Format::Csv => Box::new(CsvEncoder::new(&self.columns, text)?),
            Format::Json => Box::new(JsonEncoder::new(&self.columns, text)?),
            Format::Parquet => Box::new(ParquetEncoder::new(&self.columns, self.compression)?),
        })
    }

    /// What names of such files end in.
    pub fn extension(&self) -> String {
        let suffix = match self.format {
            // Parquet packs its pages itself.
            Format::Parquet => "",
            _ => self.compression.map_or("", Compression::suffix),
        };
        format!("{}{suffix}", self.format.extension())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in [
            "../../etc",
            "a/b",
            "..",
            "",
            ".hidden",
            "_tideway",
            "a\\b",
            "x\0y",
        ] {
            let segment = segment(name);
            assert!(!segment.contains(['/', '\\', '\0']), "{segment}");
            assert!(
                !segment.starts_with('.') && !segment.starts_with(HIDDEN),
                "{segment}"
            );
            assert!(!segment.is_empty());
        }
        assert_eq!(segment("Ärger 2024-01"), "Ärger 2024-01");
        assert_ne!(segment("a/b"), segment("a:b"));
    }
}
