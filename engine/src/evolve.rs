//! What a sync does when its source has new tables or fields, or has lost some.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tideway_core::{Catalog, LogicalType, Table};

/// `automatically_add_new_objects` and `automatically_add_new_fields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AddPolicy {
    All,
    OnlyIncremental,
    OnlyNonIncremental,
    None,
}

impl AddPolicy {
    /// Whether something new is taken in.
    pub fn adds(self, incremental: bool) -> bool {
        match self {
            AddPolicy::All => true,
            AddPolicy::OnlyIncremental => incremental,
            AddPolicy::OnlyNonIncremental => !incremental,
            AddPolicy::None => false,
        }
    }
}

/// A table the sync knows, with the fields it knew when it looked last.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub enabled: bool,
    /// A tracking field is set or changes are streamed.
    pub incremental: bool,
    pub fields: BTreeSet<String>,
}

/// Differences between what a sync knows and what the source has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// New tables and whether the policy takes them in.
    pub new_tables: Vec<(String, bool)>,
    pub vanished_tables: Vec<String>,
    /// New fields by table, and whether the policy takes them in.
    pub new_fields: Vec<(String, String, bool)>,
    pub vanished_fields: Vec<(String, String)>,
}

impl Drift {
    pub fn is_empty(&self) -> bool {
        *self == Drift::default()
    }
}

pub fn drift(
    catalog: &Catalog,
    known: &BTreeMap<String, Known>,
    objects: AddPolicy,
    fields: AddPolicy,
) -> Drift {
    let mut drift = Drift::default();
    let mut present = BTreeSet::new();
    for table in &catalog.tables {
        let id = table.id.to_string();
        present.insert(id.clone());
        let Some(before) = known.get(&id) else {
            drift
                .new_tables
                .push((id, objects.adds(could_be_incremental(table))));
            continue;
        };
        let now: BTreeSet<&str> = table
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        for column in &table.columns {
            if !before.fields.contains(&column.name) {
                let added = fields.adds(before.incremental);
                drift
                    .new_fields
                    .push((id.clone(), column.name.clone(), added));
            }
        }
        for field in before
            .fields
            .iter()
            .filter(|field| !now.contains(field.as_str()))
        {
            drift.vanished_fields.push((id.clone(), field.clone()));
        }
    }
    drift.vanished_tables = known
        .keys()
        .filter(|id| !present.contains(*id))
        .cloned()
        .collect();
    drift
}

/// A new table has no tracking field yet; it counts as incremental when it has a column
/// that could be one.
fn could_be_incremental(table: &Table) -> bool {
    table.columns.iter().any(|column| {
        let name = column.name.to_lowercase();
        matches!(
            column.logical,
            LogicalType::Timestamp | LogicalType::TimestampTz
        ) && (name.contains("updated") || name.contains("modified") || name.contains("changed"))
    })
}

#[cfg(test)]
mod tests {
    use tideway_core::{Column, TableId, schema::TableKind};

    use super::*;

    fn table(name: &str, columns: &[&str]) -> Table {
        Table {
            id: TableId::new(Some("public"), name),
            columns: columns
                .iter()
                .map(|c| Column::new(c, LogicalType::Int64))
                .collect(),
            primary_key: vec![],
            row_estimate: None,
            byte_estimate: None,
            kind: TableKind::Table,
        }
    }

    #[test]
    fn new_and_vanished_things_are_told_apart() {
        let catalog = Catalog {
            tables: vec![table("a", &["id", "extra"]), table("b", &["id"])],
        };
        let fields = ["id", "gone"].map(str::to_owned).into();
        let known = [
            (
                "public.a".to_owned(),
                Known {
                    enabled: true,
                    incremental: false,
                    fields,
                },
            ),
            ("public.c".to_owned(), Known::default()),
        ]
        .into();
        let found = drift(&catalog, &known, AddPolicy::None, AddPolicy::All);
        assert_eq!(found.new_tables, [("public.b".to_owned(), false)]);
        assert_eq!(found.vanished_tables, ["public.c"]);
        assert_eq!(
            found.new_fields,
            [("public.a".to_owned(), "extra".to_owned(), true)]
        );
        assert_eq!(
            found.vanished_fields,
            [("public.a".to_owned(), "gone".to_owned())]
        );
    }
}
