//! The three source layouts: which files make up which table.
//!
//! 1. by default every file is a table of its own;
//! 2. `is_single_table`: all files are one table;
//! 3. `is_directory_snapshot`: every directory that a pattern matches is a table.
//!
//! In each, a folder with a manifest (that is, a table that Tideway wrote) is taken as
//! the manifest says; in the first one it is one table.

use std::collections::{BTreeMap, HashMap};

use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::Deserialize;
use tideway_core::{Error, Result};

use crate::{
    format::{Format, stem},
    manifest::{HIDDEN, MANIFEST, Manifest},
    place::{Object, Place},
};

/// The layout's part of a connection's settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct LayoutSettings {
    /// Whether the first line of CSV files names the fields.
    #[schemars(title = "CSV files have headers", extend("default" = true))]
    pub csv_has_headers: Option<bool>,
    /// Read all files as one table.
    #[serde(default)]
    #[schemars(title = "Files are time-based snapshots", extend("default" = false))]
    pub is_single_table: bool,
    /// Read each directory as a table.
    #[serde(default)]
    #[schemars(title = "Multi-directory multi-table", extend("default" = false))]
    pub is_directory_snapshot: bool,
    /// Which directories are tables, such as `exports/*`.
    #[schemars(title = "Tables glob path")]
    pub directory_glob_pattern: Option<String>,
    #[schemars(title = "Collection name", extend("examples" = ["collection"]))]
    pub single_table_name: Option<String>,
    #[schemars(
        title = "File format",
        extend("default" = "csv", "examples" = ["csv"])
    )]
    pub single_table_file_format: Option<Format>,
    /// File formats that may occur in different tables.
    #[schemars(title = "File formats", extend("default" = ["csv"]))]
    pub single_table_file_formats: Option<Vec<Format>>,
    /// Skip this many lines at the start of each CSV file.
    #[serde(default)]
    #[schemars(title = "Skip first lines", range(min = 0), extend("default" = 0))]
    pub skip_lines: u64,
}

enum Arrangement {
    PerFile,
    Single(String),
    PerDirectory(GlobMatcher),
}

/// How the files of a connection are read.
pub struct Layout {
    arrangement: Arrangement,
    /// The only formats to be read; empty for all.
    formats: Vec<Format>,
    pub csv_has_headers: bool,
    pub skip_lines: u64,
}

/// A table and the files it consists of.
#[derive(Debug, Clone, Default)]
pub struct TableFiles {
    pub files: Vec<TableFile>,
    pub manifests: Vec<Manifest>,
}

#[derive(Debug, Clone)]
pub struct TableFile {
    pub object: Object,
    pub format: Format,
    /// Rows, if a manifest describes the file.
    pub own_rows: Option<u64>,
}

impl Layout {
    pub fn new(settings: &LayoutSettings) -> Result<Self> {
        let arrangement = match (settings.is_single_table, settings.is_directory_snapshot) {
            (true, true) => {
                return Err(Error::config(
                    "is_single_table and is_directory_snapshot exclude each other",
                )
                .field("is_directory_snapshot"));
            }
            (true, false) => Arrangement::Single(match settings.single_table_name.as_deref() {
                Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
                _ => {
                    return Err(Error::config("a name for the single table is missing")
                        .field("single_table_name"));
                }
            }),
            (false, true) => Arrangement::PerDirectory(pattern(settings)?),
            (false, false) => Arrangement::PerFile,
        };
        let mut formats: Vec<Format> = settings.single_table_file_format.into_iter().collect();
        for format in settings.single_table_file_formats.iter().flatten() {
            if !formats.contains(format) {
                formats.push(*format);
            }
        }
        Ok(Layout {
            arrangement,
            formats,
            csv_has_headers: settings.csv_has_headers.unwrap_or(true),
            skip_lines: settings.skip_lines,
        })
    }

    /// The manifests among listed files, by the folder they stand in.
    pub fn manifests(place: &Place, objects: &[Object]) -> Vec<(String, Object)> {
        let found = objects.iter().filter_map(|object| {
            let relative = place.relative(&object.path);
            let (folder, name) = split(&relative);
            let ours = name == MANIFEST && !is_hidden(folder);
            ours.then(|| (folder.to_owned(), object.clone()))
        });
        found.collect()
    }

    /// The tables by id. `manifests` are those of [`Layout::manifests`], read.
    pub fn tables(
        &self,
        place: &Place,
        objects: Vec<Object>,
        manifests: &HashMap<String, Manifest>,
    ) -> BTreeMap<String, TableFiles> {
        let mut tables: BTreeMap<String, TableFiles> = BTreeMap::new();
        let mut loose = Vec::new();
        for (folder, manifest) in manifests {
            if let Some(id) = self.table_of_folder(place, folder) {
                tables
                    .entry(id)
                    .or_default()
                    .manifests
                    .push(manifest.clone());
            }
        }
        for object in objects {
            let relative = place.relative(&object.path);
            let (folder, name) = split(&relative);
            let Some(manifest) = manifests.get(folder) else {
                loose.push((relative, object));
                continue;
            };
            let part = manifest.files.iter().find(|part| part.name == name);
            if let (Some(part), Some(format)) = (part, Format::of_name(name))
                && let Some(id) = self.table_of_folder(place, folder)
            {
                let own_rows = Some(part.rows);
                let file = TableFile {
                    object,
                    format,
                    own_rows,
                };
                tables.entry(id).or_default().files.push(file);
            }
        }
        let one_file = place.only.is_some();
        let readable: Vec<(String, Object, Format)> = loose
            .into_iter()
            .filter(|(relative, _)| !is_hidden(relative))
            .filter_map(|(relative, object)| {
                let format = self.format(&relative, one_file)?;
                Some((relative, object, format))
            })
            .collect();
        let mut taken: HashMap<String, usize> = tables.keys().map(|id| (id.clone(), 1)).collect();
        for (relative, _, _) in &readable {
            *taken.entry(stem(relative).to_owned()).or_insert(0) += 1;
        }
        for (relative, object, format) in readable {
            let id = match &self.arrangement {
                // Where two files would have the same id, both keep their whole name:
                // then neither takes the other's place when files come and go.
                Arrangement::PerFile if taken.get(stem(&relative)) > Some(&1) => relative,
                Arrangement::PerFile => stem(&relative).to_owned(),
                _ => match self.table_of_folder(place, split(&relative).0) {
                    Some(id) => id,
                    None => continue,
                },
            };
            let file = TableFile {
                object,
                format,
                own_rows: None,
            };
            tables.entry(id).or_default().files.push(file);
        }
        if let Arrangement::Single(name) = &self.arrangement {
            tables.entry(name.clone()).or_default();
        }
        tables
    }

    /// The table that everything in a folder belongs to, if it belongs to one.
    fn table_of_folder(&self, place: &Place, folder: &str) -> Option<String> {
        match &self.arrangement {
            Arrangement::Single(name) => Some(name.clone()),
            Arrangement::PerDirectory(pattern) => {
                // The deepest directory that matches.
                std::iter::successors(Some(folder), |folder| Some(split(folder).0))
                    .take_while(|folder| !folder.is_empty())
                    .find(|folder| pattern.is_match(folder))
                    .map(str::to_owned)
            }
            Arrangement::PerFile if folder.is_empty() => {
                let shown = place.shown.trim_end_matches('/');
                Some(split(shown).1.to_owned())
            }
            Arrangement::PerFile => Some(folder.to_owned()),
        }
    }

    /// The format a file is read in; `None` if it is not read.
    fn format(&self, relative: &str, one_file: bool) -> Option<Format> {
        let chosen = self.formats.first().copied();
        match (Format::of_name(relative), &self.arrangement) {
            (Some(found), Arrangement::PerFile) => Some(found),
            (None, Arrangement::PerFile) => one_file.then(|| chosen.unwrap_or(Format::Csv)),
            (Some(found), _) => {
                (self.formats.is_empty() || self.formats.contains(&found)).then_some(found)
            }
            // Markers of other tools (`_SUCCESS`) are no data.
            (None, _) if split(relative).1.starts_with('_') => None,
            (None, _) => Some(chosen.unwrap_or(Format::Csv)),
        }
    }

    /// What to say of a table without files.
    pub fn nothing_found(&self, id: &str, place: &Place) -> Error {
        let formats: Vec<&str> = self.formats.iter().map(|f| f.extension()).collect();
        let what = match formats.is_empty() {
            true => format!("{id}: there are no files below {}", place.shown),
            false => format!(
                "{id}: there are no {} files below {}",
                formats.join(", "),
                place.shown
            ),
        };
        Error::missing(what)
            .hint("check the folder and the file formats")
            .field("single_table_file_format")
    }
}

fn pattern(settings: &LayoutSettings) -> Result<GlobMatcher> {
    let text = settings.directory_glob_pattern.as_deref().unwrap_or("");
    let text = match text.trim().trim_matches('/') {
        "" => "*",
        text => text,
    };
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    let glob = glob.map_err(|error| {
        Error::config(format!(
            "the pattern of directories is wrong: {}",
            error.kind()
        ))
        .field("directory_glob_pattern")
        .hint("use * within a name and ** for any number of directories")
    })?;
    Ok(glob.compile_matcher())
}

/// Folder and name of a path.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Whether a file or one of its folders is ours or hidden from people.
fn is_hidden(path: &str) -> bool {
    path.split('/')
        .any(|segment| segment.starts_with('.') || segment.starts_with(HIDDEN))
}
