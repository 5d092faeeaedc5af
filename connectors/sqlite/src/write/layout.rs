//! The columns of a load as the target has them, and the tables made of them.

use tideway_core::{
    LogicalType,
    destination::{CREATED_AT, DELETED_AT, Deletes, Load, UPDATED_AT, Write},
};

use crate::{
    discover::Described,
    sql::{list, quoted, same_name},
    types,
};

/// A data column on its way into the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    pub name: String,
    /// What the batches bring.
    pub from: LogicalType,
    /// What the column holds: the same or wider.
    pub to: LogicalType,
    pub declared: String,
}

/// How the rows of a load are staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub columns: Vec<Landing>,
    /// System columns, in the order in which they stand behind the data columns.
    pub system: Vec<&'static str>,
    /// Columns that identify a row; empty where rows are not told apart.
    pub key: Vec<String>,
    /// Columns that cannot be null: the key, and the column that the target has for the
    /// number of the row, for which SQLite would make one up.
    pub required: Vec<String>,
}

impl Layout {
    /// As the load asks for it, whatever the target has.
    pub fn fresh(load: &Load) -> Layout {
        let columns = load.target.columns.iter().map(|column| Landing {
            name: column.name.clone(),
            from: column.logical,
            to: column.logical,
            declared: types::declared(column.logical),
        });
        // Appended rows may repeat a key: each is one more state of the same thing.
        let key = match load.write {
            Write::Append => Vec::new(),
            Write::Replace | Write::Merge { .. } | Write::Changes { .. } => load.target.key.clone(),
        };
        Layout {
            columns: columns.collect(),
            system: system_columns(load),
            required: key.clone(),
            key,
        }
    }

    pub fn create_table(&self, name: &str) -> String {
        let data = self.columns.iter().map(|column| {
            format!(
                "{} {}",
                quoted(&column.name),
                types::spelled(&column.declared)
            )
        });
        let system = self.system.iter().map(|name| system_column(name));
        let key = (!self.key.is_empty()).then(|| {
            format!(
                "PRIMARY KEY ({})",
                list(self.key.iter().map(|name| quoted(name)))
            )
        });
        format!(
            "CREATE TABLE main.{} ({})",
            quoted(name),
            list(data.chain(system).chain(key))
        )
    }

    /// Whether a staging table that an earlier attempt left has these very columns.
    pub fn is_laid_out(&self, stage: &Described) -> bool {
        let wanted = self
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.declared.as_str()))
            .chain(self.system.iter().map(|name| (*name, "TIMESTAMPTZ")));
        let found = stage
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.declared.as_str()));
        wanted.eq(found) && self.key == stage.key()
    }

    /// Whether the rows can go from the staging table into this one as they are.
    pub fn fits(&self, target: &Described) -> bool {
        let has = |name: &str, declared: &str| {
            target
                .column(name)
                .is_some_and(|column| column.declared.eq_ignore_ascii_case(declared))
        };
        self.columns
            .iter()
            .all(|column| has(&column.name, &column.declared))
            && self.system.iter().all(|name| target.column(name).is_some())
    }

    pub fn is_key(&self, name: &str) -> bool {
        self.key.iter().any(|key| same_name(key, name))
    }

    pub fn requires(&self, name: &str) -> bool {
        self.required
            .iter()
            .any(|required| same_name(required, name))
    }
}

/// The declaration of a system column.
pub fn system_column(name: &str) -> String {
    format!(
        "{} {}",
        quoted(name),
        types::declared(LogicalType::TimestampTz)
    )
}

fn system_columns(load: &Load) -> Vec<&'static str> {
    let soft = matches!(
        load.write,
        Write::Merge {
            deletes: Deletes::Soft,
            ..
        }
    );
    let mut names = Vec::new();
    if soft {
        names.push(DELETED_AT);
    }
    if load.record_timestamps {
        names.extend([CREATED_AT, UPDATED_AT]);
    }
    names
}
