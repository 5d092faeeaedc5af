//! What tables a folder or bucket offers: the files by layout, their columns by looking.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tideway_core::{
    Catalog, Column, Error, Kind, LogicalType, Result, Table, TableId, schema::TableKind,
    source::Scope,
};
use tokio::runtime::Handle;

use crate::{
    compression::unpacked,
    format::{Format, Input, csv, delimiter, infer::Sightings, json, parquet, read_error},
    layout::{Layout, TableFile, TableFiles},
    manifest::Manifest,
    place::{AT_ONCE, Object, Place, blocking},
};

/// Text files are looked at from end to end until a table has had this many bytes read.
const WHOLE_BYTES: u64 = 64 << 20;
/// What is looked at of each further file, and of each file after that.
const SAMPLE_BYTES: u64 = 1 << 20;
const GLANCE_BYTES: u64 = 64 << 10;
const SAMPLED_FILES: usize = 64;
/// Tables, and files of a table, that are looked at side by side.
const TABLES_AT_ONCE: usize = 4;
const FILES_AT_ONCE: usize = 4;
/// Files whose shape is remembered.
const MOST_KNOWN: usize = 20_000;

/// What a look at one version of a file has shown.
pub enum Shape {
    Text(Sightings),
    Parquet {
        columns: Vec<Column>,
        /// Stored bytes and rows of each row group.
        groups: Vec<(u64, u64)>,
    },
}

impl Shape {
    fn is_whole(&self) -> bool {
        match self {
            Shape::Text(found) => found.whole,
            Shape::Parquet { .. } => true,
        }
    }

    /// Rows of a file of that size.
    pub fn rows(&self, size: u64) -> u64 {
        match self {
            Shape::Parquet { groups, .. } => groups.iter().map(|(_, rows)| rows).sum(),
            Shape::Text(found) if found.whole => found.rows,
            Shape::Text(found) => {
                let estimate = u128::from(found.rows) * u128::from(size);
                (estimate / u128::from(found.bytes.max(1))) as u64
            }
        }
    }
}

type Version = (String, String);

fn version(object: &Object) -> Version {
    (object.path.to_string(), object.version.clone())
}

/// The shapes of the files looked at so far, so that a file is looked at once per
/// version, and the files that turned out to hold what a look at their beginning had
/// not shown: those are looked at from end to end next time.
#[derive(Default)]
pub struct Looks {
    known: Mutex<HashMap<Version, Arc<Shape>>>,
    suspects: Mutex<HashSet<Version>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl Looks {
    /// Takes note of a file that did not read as its shape had promised.
    pub fn note(&self, error: &Error, object: &Object) {
        if error.kind == Kind::Drift {
            locked(&self.suspects).insert(version(object));
            locked(&self.known).remove(&version(object));
        }
    }

    pub fn known(&self, object: &Object) -> Option<Arc<Shape>> {
        locked(&self.known).get(&version(object)).cloned()
    }

    pub async fn look(
        &self,
        place: &Place,
        layout: &Layout,
        file: &TableFile,
        most_bytes: u64,
    ) -> Result<Arc<Shape>> {
        let most_bytes = match locked(&self.suspects).contains(&version(&file.object)) {
            true => u64::MAX,
            false => most_bytes,
        };
        if let Some(known) = self.known(&file.object)
            && (known.is_whole() || most_bytes <= WHOLE_BYTES)
        {
            return Ok(known);
        }
        let dialect = dialect(layout, place, file);
        let (place, file_to_read) = (place.clone(), file.clone());
        let look = move || look_at(&place, &file_to_read, dialect, most_bytes);
        let shape = Arc::new(blocking(look).await?);
        let mut known = locked(&self.known);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(version(&file.object), shape.clone());
        Ok(shape)
    }
}

pub fn dialect(layout: &Layout, place: &Place, file: &TableFile) -> csv::Dialect {
    let own = file.own_rows.is_some();
    csv::Dialect {
        delimiter: delimiter(&place.relative(&file.object.path)),
        has_headers: own || layout.csv_has_headers,
        skip_lines: if own { 0 } else { layout.skip_lines },
    }
}

/// The unpacked bytes of a text file.
pub fn text_input(place: &Place, object: &Object, handle: &Handle) -> Result<Input> {
    let input = place.open(object, handle)?;
    unpacked(input).map_err(|error| read_error(&place.relative(&object.path), error))
}

fn look_at(
    place: &Place,
    file: &TableFile,
    dialect: csv::Dialect,
    most_bytes: u64,
) -> Result<Shape> {
    let handle = Handle::current();
    let name = place.relative(&file.object.path);
    Ok(match file.format {
        Format::Csv => {
            let input = text_input(place, &file.object, &handle)?;
            Shape::Text(csv::infer(input, &name, dialect, most_bytes)?)
        }
        Format::Json => {
            let input = text_input(place, &file.object, &handle)?;
            Shape::Text(json::infer(input, &name, most_bytes)?)
        }
        Format::Parquet => {
            let source = place.open_ranges(&file.object, &handle)?;
            let footer = parquet::footer(&source, &name)?;
            let groups = footer.metadata().row_groups().iter();
            Shape::Parquet {
                columns: parquet::columns(&footer),
                groups: groups
                    .map(|group| (group.compressed_size() as u64, group.num_rows() as u64))
                    .collect(),
            }
        }
    })
}

/// The files of every table, by table id.
pub async fn tables(place: &Place, layout: &Layout) -> Result<BTreeMap<String, TableFiles>> {
    let objects = place.list(&place.root).await?;
    let manifests: HashMap<String, Manifest> = stream::iter(Layout::manifests(place, &objects))
        .map(async |(folder, object)| {
            let bytes = place.read_small(&object.path).await?.unwrap_or_default();
            let manifest = Manifest::parse(&bytes, &place.show(&object.path))?;
            Ok::<_, Error>((folder, manifest))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(layout.tables(place, objects, &manifests))
}

/// The catalog. A table whose files cannot be read is left out with a warning, unless it
/// is the only one that was asked for.
pub async fn discover(
    place: &Place,
    layout: &Layout,
    looks: &Looks,
    scope: &Scope,
) -> Result<Catalog> {
    let mut wanted = tables(place, layout).await?;
    if let Some(ids) = &scope.tables {
        wanted.retain(|id, _| ids.contains(id));
    }
    let alone = wanted.len() == 1;
    let found: Vec<Option<Table>> = stream::iter(wanted)
        .map(|(id, files)| {
            async move {
                match table(place, layout, looks, &id, &files).await {
                    Ok(table) => Ok(Some(table)),
                    Err(error) if !alone && about_the_file(error.kind) => {
                        tracing::warn!(table = id, %error, "a table is left out");
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
            .boxed()
        })
        .buffered(TABLES_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Catalog {
        tables: found.into_iter().flatten().collect(),
    })
}

fn about_the_file(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Data | Kind::Unsupported | Kind::Drift | Kind::Missing
    )
}

async fn table(
    place: &Place,
    layout: &Layout,
    looks: &Looks,
    id: &str,
    files: &TableFiles,
) -> Result<Table> {
    if files.files.is_empty() && files.manifests.is_empty() {
        return Err(layout.nothing_found(id, place));
    }
    let loose: Vec<&TableFile> = files
        .files
        .iter()
        .filter(|f| f.own_rows.is_none())
        .collect();
    let mut before = 0_u64;
    let allowances: Vec<(TableFile, u64)> = loose
        .iter()
        .enumerate()
        .map(|(index, file)| {
            let whole = WHOLE_BYTES.saturating_sub(before);
            before = before.saturating_add(file.object.size);
            let least = if index < SAMPLED_FILES {
                SAMPLE_BYTES
            } else {
                GLANCE_BYTES
            };
            ((*file).clone(), whole.max(least))
        })
        .collect();
    let shapes: Vec<Arc<Shape>> = stream::iter(allowances)
        .map(|(file, most)| async move { looks.look(place, layout, &file, most).await }.boxed())
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await?;
    let own_rows: u64 = files.files.iter().filter_map(|file| file.own_rows).sum();
    let loose_rows = loose.iter().zip(&shapes);
    let loose_rows: u64 = loose_rows
        .map(|(file, shape)| shape.rows(file.object.size))
        .sum();
    let columns = columns(&files.manifests, &loose, &shapes);
    if columns.is_empty() {
        return Err(Error::data(format!("{id}: the files have no columns"))
            .hint("a CSV file needs at least a line of headers"));
    }
    let primary_key = match (files.manifests.as_slice(), loose.is_empty()) {
        ([only], true) => only.key.clone(),
        _ => Vec::new(),
    };
    Ok(Table {
        id: TableId::new(None, id),
        columns,
        primary_key,
        row_estimate: Some(own_rows + loose_rows),
        byte_estimate: Some(files.files.iter().map(|file| file.object.size).sum()),
        kind: TableKind::File,
    })
}

/// The columns of all files together, each with the type that holds all its values.
fn columns(manifests: &[Manifest], loose: &[&TableFile], shapes: &[Arc<Shape>]) -> Vec<Column> {
    let mut all: Vec<Column> = Vec::new();
    let mut add = |column: &Column| match all.iter_mut().find(|known| known.name == column.name) {
        Some(known) => known.logical = known.logical.widest(column.logical),
        None => all.push(Column {
            nullable: true,
            ..column.clone()
        }),
    };
    manifests
        .iter()
        .flat_map(|manifest| &manifest.columns)
        .for_each(&mut add);
    let mut text = Sightings::default();
    for shape in shapes {
        match shape.as_ref() {
            Shape::Parquet { columns, .. } => columns.iter().for_each(&mut add),
            Shape::Text(found) => {
                for (name, seen) in &found.columns {
                    let place = text.column(name);
                    text.columns[place].1.merge(seen);
                }
            }
        }
    }
    let floats = loose.iter().all(|file| file.format != Format::Csv);
    for (name, seen) in &text.columns {
        add(&Column {
            remote_type: remote_type(seen.logical(floats)),
            ..Column::new(name, seen.logical(floats))
        });
    }
    all
}

pub fn remote_type(logical: LogicalType) -> String {
    match logical {
        LogicalType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        other => format!("{other:?}").to_lowercase(),
    }
}
