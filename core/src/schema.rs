//! Tables and columns as a source offers them and a destination keeps them.

use std::{fmt, sync::Arc};

use arrow_schema::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::types::LogicalType;

/// Names a table within one connection. Its text form is the schema id of the HTTP
/// API: `namespace.name`, or the name alone where the system has no namespaces.
/// The namespace is what stands before the *last* dot that the source put there,
/// so ids are compared whole and never taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId {
    pub namespace: Option<String>,
    pub name: String,
}

impl TableId {
    pub fn new(namespace: Option<&str>, name: &str) -> Self {
        TableId {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One column (the HTTP API says field).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub logical: LogicalType,
    pub nullable: bool,
    /// The source's own name for the type (`character varying(20)`).
    pub remote_type: String,
}

impl Column {
    pub fn new(name: &str, logical: LogicalType) -> Self {
        Column {
            name: name.to_owned(),
            logical,
            nullable: true,
            remote_type: String::new(),
        }
    }
}

/// A table with its columns in source order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub id: TableId,
    pub columns: Vec<Column>,
    /// Names of the primary key columns, in key order; empty where there is none.
    pub primary_key: Vec<String>,
    /// The server's estimate, not a count.
    pub row_estimate: Option<u64>,
    pub byte_estimate: Option<u64>,
    /// The key columns hold unique, non-null values by the system's own guarantee.
    /// Views and files have none; a user may still name key columns.
    pub kind: TableKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    Table,
    View,
    File,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// All that a connection offers, sorted by id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Catalog {
    pub tables: Vec<Table>,
}

impl Catalog {
    pub fn table(&self, id: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.id.to_string() == id)
    }
}

/// The Arrow schema of a list of columns.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|column| column.logical.field(&column.name, column.nullable))
            .collect::<Vec<_>>(),
    ))
}
