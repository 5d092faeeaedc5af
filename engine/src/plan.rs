//! From what the user asked for and what the source has to what is done per table:
//! which columns, under which names, by which key, written how.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tideway_core::{
    Catalog, Column, Connection, Error, LogicalType, Result, Table, WriteMode,
    destination::{Deletes, Disposition, TargetTable, Write},
    naming::Normalize,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    evolve::AddPolicy,
    names::{self, TableNames},
};

/// A second reading of everything, and what becomes of the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resync {
    /// Read from the start; rows stay and are merged.
    Refetch,
    /// Read from the start into an emptied table.
    Resync,
    /// Read from the start into a table made anew.
    Rebuild,
}

/// Which loads are read back and compared with what was read, before they are put in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verify {
    Never,
    /// Those of tables that no load was finished of yet, or that are read anew as a whole.
    #[default]
    FirstLoads,
    Always,
}

/// Memory and concurrency of a run.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of rows that may be in flight at once, over all lanes.
    pub bytes: usize,
    pub tables_at_once: usize,
    /// Lanes over all tables; the connections' capabilities may lower it.
    pub lanes: usize,
    /// How often a table is tried before it is given up.
    pub attempts: u32,
}

impl Default for Budget {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Budget {
            bytes: 64 << 20,
            tables_at_once: 4,
            lanes: cores.clamp(2, 8),
            attempts: 5,
        }
    }
}

/// One run of one bulk sync.
#[derive(Clone)]
pub struct SyncSpec {
    /// Names the run; the same for every attempt at it.
    pub execution_id: String,
    /// Number of the worker's lease; grows each time the execution changes hands.
    pub fence: u64,
    pub source: Arc<dyn Connection>,
    pub destination: Arc<dyn Connection>,
    pub source_type: String,
    pub destination_type: String,
    /// `source_configuration` and `destination_configuration` of the sync.
    pub source_options: Value,
    pub destination_options: Value,
    pub tables: Vec<TableSpec>,
    pub mode: WriteMode,
    pub resync: Option<Resync>,
    /// Read at most five records per table and leave the destination's tables alone.
    pub test: bool,
    pub normalize: Normalize,
    pub record_timestamps: bool,
    /// RFC 3339; rows whose tracking field is before it are left out.
    pub cutoff: Option<String>,
    /// Key of the keyed hash that stands in for obfuscated values.
    pub obfuscation_key: Vec<u8>,
    pub budget: Budget,
    pub verify: Verify,
    /// Follow the source's change stream where it has one.
    pub stream: Option<StreamSpec>,
}

/// How a run follows its source's change stream.
#[derive(Debug, Clone)]
pub struct StreamSpec {
    /// Names the stream at the source: the sync's id.
    pub id: String,
    /// Tables of the sync that stream as well but are not part of this run: the source
    /// must not forget what they still need.
    pub others: Vec<String>,
    /// Go on for so long; `None`: to the end of the log as it is when the run gets there.
    pub follow_for: Option<Duration>,
    /// Whether columns that appear while the stream runs are taken in.
    pub new_fields: AddPolicy,
}

/// What the user chose for one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    pub schema_id: String,
    /// The name at the destination; made from the source's name where absent.
    pub output_name: Option<String>,
    /// `None`: every field.
    pub fields: Option<Vec<FieldSpec>>,
    pub filters: Vec<FilterSpec>,
    pub tracking_field: Option<String>,
    pub partition_key: Option<String>,
    pub cutoff: Option<String>,
    pub disable_cutoff: bool,
    /// Key columns named by the user instead of the source's own.
    pub key_override: Option<Vec<String>>,
    /// Keep each version of a row in a table beside it.
    #[serde(default)]
    pub history: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldSpec {
    pub id: String,
    pub enabled: bool,
    pub obfuscate: bool,
    pub output_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterSpec {
    pub field_id: String,
    pub function: String,
    pub value: Value,
}

/// The settings of a `destination_configuration` that mean the same everywhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TargetSettings {
    pub schema: Option<String>,
    pub mirror_schemas: bool,
    pub advanced: AdvancedSettings,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AdvancedSettings {
    pub table_prefix: Option<String>,
    pub truncate_existing: bool,
    pub hard_deletes: bool,
}

/// What is done for one table, before its cursor is known.
#[derive(Debug, Clone)]
pub struct TablePlan {
    pub schema_id: String,
    pub table: Table,
    /// Columns to read: those to be written, then those only filters need.
    pub read: Vec<Column>,
    /// The first `target.columns.len()` columns of `read`, in the same order.
    pub obfuscated: Vec<bool>,
    pub target: TargetTable,
    pub filters: Vec<FilterSpec>,
    pub tracking: Option<String>,
    pub cutoff: Option<String>,
    pub write: PlannedWrite,
    pub disposition: Disposition,
    pub truncate_existing: bool,
    /// Read from an anchored snapshot and followed from there.
    pub stream: Option<Streaming>,
    /// Remarks for the log, such as a key that is missing.
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streaming {
    /// How often the table was read anew within this run before.
    pub again: u32,
    /// What the table's membership in the stream is known by now.
    pub mark: Option<String>,
}

/// How the rows are written; whether a merge is complete shows with the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlannedWrite {
    Append,
    Replace,
    Merge(Deletes),
}

impl TablePlan {
    /// Whether every row that is read is written, in the very columns that were read. What
    /// they are called at the destination does not matter.
    pub fn keeps_rows_as_they_are(&self) -> bool {
        self.filters.is_empty()
            && self.cutoff.is_none()
            && !self.obfuscated.contains(&true)
            && self.read.len() == self.target.columns.len()
    }

    /// The key in the source's names.
    pub fn source_key(&self) -> Vec<String> {
        let columns = self.read.iter().zip(&self.target.columns);
        columns
            .filter(|(_, target)| self.target.key.contains(&target.name))
            .map(|(source, _)| source.name.clone())
            .collect()
    }

    /// Fingerprints of what is chosen: one per column, and one of key and filters. A table
    /// whose checkpoint lacks one of them has rows at the destination that were read without.
    pub fn shape(&self) -> Vec<String> {
        let print = |what: Value| format!("{:08x}", xxh3_64(what.to_string().as_bytes()) as u32);
        let columns = self
            .read
            .iter()
            .zip(&self.target.columns)
            .zip(&self.obfuscated);
        let mut shape: Vec<String> = columns
            .map(|((source, target), obfuscated)| {
                print(json!([
                    source.name,
                    source.logical,
                    source.remote_type,
                    target.name,
                    obfuscated
                ]))
            })
            .collect();
        shape.push(print(json!([self.target.key, self.filters])));
        shape
    }

    /// Changes can be applied one by one only to rows that a key tells apart, or to none.
    pub fn can_stream(&self) -> bool {
        self.write != PlannedWrite::Replace
    }

    pub fn write(&self, complete: bool) -> Write {
        match self.write {
            PlannedWrite::Append => Write::Append,
            PlannedWrite::Replace => Write::Replace,
            // A cutoff hides older rows on purpose: their absence is no deletion.
            PlannedWrite::Merge(deletes) => Write::Merge {
                complete: complete && self.cutoff.is_none(),
                deletes,
            },
        }
    }
}

/// Plans every table of a run. A table that cannot be planned has its own error and
/// does not stop the others.
pub fn plan(spec: &SyncSpec, catalog: &Catalog) -> Result<Vec<(String, Result<TablePlan>)>> {
    let settings: TargetSettings = tideway_core::form::parse(&spec.destination_options)
        .map_err(|error| error.while_("destination_configuration"))?;
    let capabilities = spec.destination.capabilities();
    if !capabilities.modes.contains(&spec.mode) {
        return Err(Error::unsupported(format!(
            "{} cannot be written in mode {}",
            spec.destination_type,
            spec.mode.word()
        ))
        .field("mode"));
    }
    let names = names::of_tables(spec, catalog, &settings);
    Ok(spec
        .tables
        .iter()
        .zip(names)
        .map(|(table, names)| {
            let planned = plan_table(spec, catalog, &settings, table, names);
            (table.schema_id.clone(), planned)
        })
        .collect())
}

fn plan_table(
    spec: &SyncSpec,
    catalog: &Catalog,
    settings: &TargetSettings,
    chosen: &TableSpec,
    names: TableNames,
) -> Result<TablePlan> {
    let table = catalog.table(&chosen.schema_id).ok_or_else(|| {
        Error::missing(format!(
            "{} is not there any more, or not visible",
            chosen.schema_id
        ))
        .hint("restore it or grant access to it, or switch it off in the sync")
    })?;
    let mut remarks = Vec::new();
    let need = |field: &str, what: &str| -> Result<Column> {
        table.column(field).cloned().ok_or_else(|| {
            Error::missing(format!(
                "{}: {what} names the unknown field {field}",
                chosen.schema_id
            ))
            .field(what.to_owned())
        })
    };

    let key = match &chosen.key_override {
        Some(fields) if !fields.is_empty() => {
            for field in fields {
                need(field, "primary_keys")?;
            }
            fields.clone()
        }
        _ => table.primary_key.clone(),
    };
    let write = match spec.mode {
        WriteMode::Append => PlannedWrite::Append,
        WriteMode::Snapshot => PlannedWrite::Replace,
        WriteMode::Replicate if key.is_empty() => {
            remarks.push(format!(
                "{} has no primary key, so the whole table is replaced in every run; name its key fields to have it merged",
                chosen.schema_id
            ));
            PlannedWrite::Replace
        }
        WriteMode::Replicate if settings.advanced.hard_deletes => {
            PlannedWrite::Merge(Deletes::Hard)
        }
        WriteMode::Replicate => PlannedWrite::Merge(Deletes::Soft),
    };
    if chosen.history {
        can_keep_history(spec, chosen, write)?;
    }
    let tracking = match (&chosen.tracking_field, write) {
        (Some(field), PlannedWrite::Append | PlannedWrite::Merge(_)) if !field.is_empty() => {
            Some(need(field, "tracking_field")?.name)
        }
        _ => None,
    };
    let cutoff = if chosen.disable_cutoff {
        None
    } else {
        chosen.cutoff.clone().or_else(|| spec.cutoff.clone())
    };
    if cutoff.is_some() && tracking.is_none() {
        remarks.push("the data cutoff has no effect without a tracking field".to_owned());
    }
    let cutoff = cutoff.filter(|_| tracking.is_some());

    let selected = select(table, chosen, &key, &mut remarks);
    if selected.is_empty() {
        return Err(
            Error::config(format!("{}: no field is selected", chosen.schema_id))
                .field("fields")
                .hint("enable at least one field"),
        );
    }
    let target_names = names::of_columns(spec, &selected);
    let target_name = |source: &str| -> Option<String> {
        let at = selected
            .iter()
            .position(|(column, _)| column.name == source)?;
        Some(target_names[at].clone())
    };
    let target = TargetTable {
        namespace: names.namespace,
        name: names.name,
        columns: selected
            .iter()
            .zip(&target_names)
            .map(|((column, field), name)| Column {
                name: name.clone(),
                logical: if field.obfuscate {
                    LogicalType::Text
                } else {
                    column.logical
                },
                nullable: column.nullable,
                remote_type: column.remote_type.clone(),
            })
            .collect(),
        key: key
            .iter()
            .filter_map(|column| target_name(column))
            .collect(),
        partition_key: chosen
            .partition_key
            .as_deref()
            .filter(|k| !k.is_empty())
            .and_then(target_name),
        history: chosen.history.then_some(names.history),
    };

    let mut read: Vec<Column> = selected.iter().map(|(column, _)| column.clone()).collect();
    let mut present: HashSet<String> = read.iter().map(|column| column.name.clone()).collect();
    for filter in &chosen.filters {
        let column = need(&filter.field_id, "filters")?;
        if present.insert(column.name.clone()) {
            read.push(column);
        }
    }
    if let Some(column) = &tracking
        && present.insert(column.clone())
    {
        read.push(need(column, "tracking_field")?);
    }

    Ok(TablePlan {
        schema_id: chosen.schema_id.clone(),
        table: table.clone(),
        read,
        obfuscated: selected.iter().map(|(_, field)| field.obfuscate).collect(),
        target,
        filters: chosen.filters.clone(),
        tracking,
        cutoff,
        write,
        disposition: match spec.resync {
            None | Some(Resync::Refetch) => Disposition::Retain,
            Some(Resync::Resync) => Disposition::Truncate,
            Some(Resync::Rebuild) => Disposition::Rebuild,
        },
        truncate_existing: settings.advanced.truncate_existing,
        stream: None,
        remarks,
    })
}

/// # Errors
/// `Config` or `Unsupported` where the history of the table was asked for and cannot be kept.
fn can_keep_history(spec: &SyncSpec, chosen: &TableSpec, write: PlannedWrite) -> Result<()> {
    let id = &chosen.schema_id;
    let problem = match write {
        PlannedWrite::Merge(_) if spec.destination.capabilities().history => return Ok(()),
        PlannedWrite::Merge(_) => Error::unsupported(format!(
            "{} keeps no history of {id}",
            spec.destination_type
        ))
        .hint("switch history off, or choose a database as the destination"),
        _ if spec.mode == WriteMode::Replicate => Error::config(format!(
            "{id} has no primary key, so versions of its rows cannot be told apart"
        ))
        .hint("name its key fields, or switch history off"),
        _ => Error::config(format!("history of {id} is kept in mode replicate only"))
            .hint("change the sync's mode, or switch history off"),
    };
    Err(problem.field("history_enabled"))
}

/// The columns to write with their settings, in table order. Key columns come along
/// even where they are switched off: without them nothing can be merged.
fn select(
    table: &Table,
    chosen: &TableSpec,
    key: &[String],
    remarks: &mut Vec<String>,
) -> Vec<(Column, FieldSpec)> {
    let all = FieldSpec {
        id: String::new(),
        enabled: true,
        obfuscate: false,
        output_name: None,
    };
    table
        .columns
        .iter()
        .filter_map(|column| {
            let Some(fields) = &chosen.fields else {
                return Some((column.clone(), all.clone()));
            };
            let field = fields.iter().find(|field| field.id == column.name);
            let is_key = key.contains(&column.name);
            match field {
                Some(field) if field.enabled => Some((column.clone(), field.clone())),
                _ if is_key => {
                    remarks.push(format!(
                        "{} is part of the key and is synced with it",
                        column.name
                    ));
                    Some((
                        column.clone(),
                        field.cloned().unwrap_or_else(|| all.clone()),
                    ))
                }
                _ => None,
            }
        })
        .collect()
}
