//! Which tables and columns there are.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use tideway_core::{
    Catalog, Column, Error, Result, Table, TableId, schema::TableKind, source::Scope,
};

use super::{
    file::File,
    rows::Text,
    sql::{self, Place},
    types,
};
use crate::session::Session;

/// Our own tables begin like this.
pub const OURS: &str = "_tideway_";

/// A column as the database describes it.
#[derive(Debug, Clone)]
pub struct Described {
    pub name: String,
    pub data_type: String,
    pub nullable: bool,
    pub comment: Option<String>,
}

impl Described {
    pub fn column(&self) -> Column {
        Column {
            name: self.name.clone(),
            logical: types::logical(&self.data_type, self.comment.as_deref()),
            nullable: self.nullable,
            remote_type: self.data_type.clone(),
        }
    }
}

/// What a name stands for at a destination.
pub enum Found {
    Nothing,
    Table(Vec<Described>),
    View,
}

pub async fn catalog(file: &File, scope: &Scope) -> Result<Catalog> {
    let session = file.session().await?;
    let database = sql::text(&file.catalog);
    let relations = session
        .fetch(format!(
            "SELECT schema_name, table_name, estimated_size::VARCHAR AS size, 'table' AS kind \
             FROM duckdb_tables() WHERE database_name = {database} AND NOT internal AND NOT temporary \
             UNION ALL SELECT schema_name, view_name, NULL, 'view' \
             FROM duckdb_views() WHERE database_name = {database} AND NOT internal AND NOT temporary"
        ))
        .await?;
    let mut columns = columns(&session, &file.catalog, "TRUE").await?;
    let mut keys = keys(&session, &file.catalog).await?;
    let mut tables = Vec::new();
    for [namespace, name, size, kind] in records(&relations)? {
        let (Some(namespace), Some(name)) = (namespace, name) else {
            continue;
        };
        let id = TableId::new(Some(&namespace), &name);
        if name.starts_with(OURS) || !wanted(scope, &id) {
            continue;
        }
        tables.push(Table {
            columns: columns
                .remove(&id)
                .unwrap_or_default()
                .iter()
                .map(Described::column)
                .collect(),
            primary_key: keys.remove(&id).unwrap_or_default(),
            row_estimate: size.and_then(|size| size.parse().ok()),
            byte_estimate: None,
            kind: match kind.as_deref() {
                Some("view") => TableKind::View,
                _ => TableKind::Table,
            },
            id,
        });
    }
    tables.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Catalog { tables })
}

fn wanted(scope: &Scope, id: &TableId) -> bool {
    let namespace = id.namespace.as_deref().unwrap_or_default();
    let in_namespaces = |all: &Vec<String>| all.iter().any(|one| one == namespace);
    let in_tables = |all: &Vec<String>| all.contains(&id.to_string());
    scope.namespaces.as_ref().is_none_or(in_namespaces)
        && scope.tables.as_ref().is_none_or(in_tables)
}

/// The names of all namespaces that tables can be put in.
pub async fn namespaces(session: &Session, catalog: &str) -> Result<Vec<String>> {
    let rows = session
        .fetch(format!(
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = {} \
             AND schema_name NOT IN ('information_schema', 'pg_catalog') ORDER BY schema_name",
            sql::text(catalog)
        ))
        .await?;
    Ok(Text::column(&rows, 0)?.into_iter().flatten().collect())
}

/// What stands at a place now. Names are compared as DuckDB compares them.
pub async fn find(session: &Session, place: &Place) -> Result<Found> {
    let (namespace, table) = (sql::text(&place.namespace), sql::text(&place.table));
    let views = session
        .fetch(format!(
            "SELECT view_name FROM duckdb_views() WHERE database_name = {} \
             AND lower(schema_name) = lower({namespace}) AND lower(view_name) = lower({table})",
            sql::text(&place.catalog)
        ))
        .await?;
    if !Text::column(&views, 0)?.is_empty() {
        return Ok(Found::View);
    }
    let here =
        format!("lower(schema_name) = lower({namespace}) AND lower(table_name) = lower({table})");
    let mut found = columns(session, &place.catalog, &here).await?;
    Ok(match found.pop_first() {
        Some((_, columns)) => Found::Table(columns),
        None => Found::Nothing,
    })
}

async fn columns(
    session: &Session,
    catalog: &str,
    condition: &str,
) -> Result<BTreeMap<TableId, Vec<Described>>> {
    let rows = session
        .fetch(format!(
            "SELECT schema_name, table_name, column_name, data_type, \
             CASE WHEN is_nullable THEN 'yes' ELSE 'no' END, comment \
             FROM duckdb_columns() WHERE database_name = {} AND NOT internal AND {condition} \
             ORDER BY schema_name, table_name, column_index",
            sql::text(catalog)
        ))
        .await?;
    let mut tables: BTreeMap<TableId, Vec<Described>> = BTreeMap::new();
    for [namespace, table, name, data_type, nullable, comment] in records(&rows)? {
        let (Some(table), Some(name), Some(data_type)) = (table, name, data_type) else {
            continue;
        };
        let id = TableId::new(namespace.as_deref(), &table);
        tables.entry(id).or_default().push(Described {
            name,
            data_type,
            nullable: nullable.as_deref() != Some("no"),
            comment,
        });
    }
    Ok(tables)
}

async fn keys(session: &Session, catalog: &str) -> Result<BTreeMap<TableId, Vec<String>>> {
    // One row per column, in key order.
    let rows = session
        .fetch(format!(
            "SELECT schema_name, table_name, unnest(constraint_column_names) \
             FROM duckdb_constraints() WHERE database_name = {} AND constraint_type = 'PRIMARY KEY'",
            sql::text(catalog)
        ))
        .await?;
    let mut keys: BTreeMap<TableId, Vec<String>> = BTreeMap::new();
    for [namespace, table, column] in records(&rows)? {
        if let (Some(table), Some(column)) = (table, column) {
            let id = TableId::new(namespace.as_deref(), &table);
            keys.entry(id).or_default().push(column);
        }
    }
    Ok(keys)
}

/// Rows of `N` columns, all of which were selected as VARCHAR.
fn records<const N: usize>(batches: &[RecordBatch]) -> Result<Vec<[Option<String>; N]>> {
    let mut columns = Vec::with_capacity(N);
    for index in 0..N {
        columns.push(Text::column(batches, index)?.into_iter());
    }
    let rows = columns.first().map_or(0, ExactSizeIterator::len);
    let mut records = Vec::with_capacity(rows);
    for _ in 0..rows {
        let record: Vec<Option<String>> = columns
            .iter_mut()
            .map(|column| column.next().flatten())
            .collect();
        records.push(
            record
                .try_into()
                .map_err(|_| Error::bug("a row is too short"))?,
        );
    }
    Ok(records)
}
