//! The columns of a load as the target has them, and the tables made of them.

use tideway_core::{
    LogicalType,
    destination::{Load, Write},
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
    /// The rows are changes.
    pub changes: bool,
}

/// Columns of a staging table of changes: the number of the row in the order of arrival,
/// the code of its operation, and a digit for each data column that says whether the row
/// keeps what it has there; null where it keeps nothing. A row with [`PART_END`] for its
/// operation ends a part, whose id stands in the last one.
pub const ROW: &str = "_tideway_row";
pub const OP: &str = "_tideway_op";
pub const KEPT: &str = "_tideway_kept";
pub const PART_END: u8 = 9;

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
            system: load.system_columns(),
            required: key.clone(),
            changes: matches!(load.write, Write::Changes { .. }),
            key,
        }
    }

    /// What makes the staging table.
    pub fn create_stage(&self, name: &str) -> String {
        if !self.changes {
            return self.create_table(name);
        }
        let row = format!("{ROW} INTEGER PRIMARY KEY, {OP} INTEGER");
        let data = self.data_columns();
        let kept = format!("{KEPT} TEXT");
        let columns = list(std::iter::once(row).chain(data).chain([kept]));
        format!("CREATE TABLE main.{} ({columns})", quoted(name))
    }

    fn data_columns(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| {
            let declared = types::spelled(&column.declared);
            format!("{} {declared}", quoted(&column.name))
        })
    }

    /// What makes a table with these columns, system columns and key.
    pub fn create_table(&self, name: &str) -> String {
        let data = self.data_columns();
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
        let data = self
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.declared.as_str()));
        let system = self.system.iter().map(|name| (*name, "TIMESTAMPTZ"));
        let wanted: Vec<(&str, &str)> = match self.changes {
            true => [(ROW, "INTEGER"), (OP, "INTEGER")]
                .into_iter()
                .chain(data)
                .chain([(KEPT, "TEXT")])
                .collect(),
            false => data.chain(system).collect(),
        };
        let found = stage
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.declared.as_str()));
        let key = match self.changes {
            true => vec![ROW.to_owned()],
            false => self.key.clone(),
        };
        wanted.into_iter().eq(found) && key == stage.key()
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
