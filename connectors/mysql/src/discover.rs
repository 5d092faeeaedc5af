//! What is there: databases, tables, columns and keys.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use tideway_core::{
    Catalog, Column, Error, Result, Table, TableId,
    connector::{Choice, ConnectCx},
    schema::TableKind,
    source::Scope,
};

use crate::{
    config::Config,
    connect::{Flavor, MySql, Session, TextRow},
    sql::{list, literal},
    types::{Reading, ServerType, Shape},
};

const SYSTEM: &str = "('information_schema', 'mysql', 'performance_schema', 'sys')";

/// Tables for our bookkeeping at a destination are not offered.
pub const OWN_PREFIX: &str = "_tideway_";

/// A table as the server describes it.
#[derive(Debug, Clone)]
pub struct Described {
    pub database: String,
    pub name: String,
    pub view: bool,
    pub comment: String,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    pub columns: Vec<DescribedColumn>,
    /// The primary key's columns, in its order.
    pub key: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct DescribedColumn {
    pub name: String,
    pub server_type: ServerType,
    pub charset: Option<String>,
    pub collation: Option<String>,
    pub not_null: bool,
    pub fills: Fills,
}

/// When the server gives a column its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fills {
    Never,
    /// Where no value is given.
    Default,
    /// From other columns, and takes no value.
    Computed,
}

impl Described {
    pub fn column(&self, name: &str) -> Option<&DescribedColumn> {
        // Names of columns know no case.
        let same = |column: &&DescribedColumn| column.name.to_lowercase() == name.to_lowercase();
        self.columns.iter().find(same)
    }

    pub fn in_key(&self, name: &str) -> bool {
        self.key.iter().any(|key| key == name)
    }

    pub fn table(&self) -> Table {
        let column = |column: &DescribedColumn| Column {
            name: column.name.clone(),
            logical: column.server_type.reading().logical,
            nullable: column.may_be_null(self.in_key(&column.name)),
            remote_type: column.server_type.declared.clone(),
        };
        Table {
            id: TableId::new(Some(&self.database), &self.name),
            columns: self.columns.iter().map(column).collect(),
            primary_key: self.key.clone(),
            row_estimate: self.rows,
            byte_estimate: self.bytes.filter(|bytes| *bytes > 0),
            kind: if self.view {
                TableKind::View
            } else {
                TableKind::Table
            },
        }
    }
}

impl DescribedColumn {
    pub fn reading(&self) -> Reading {
        self.server_type.reading()
    }

    /// Whether a null may come. A date of zeros is read as one, so that it may come even where
    /// the server wants a value; in a key it may not.
    pub fn may_be_null(&self, in_key: bool) -> bool {
        let dated = matches!(self.reading().shape, Shape::Date | Shape::Timestamp);
        !self.not_null || (dated && !in_key)
    }
}

pub async fn discover(mysql: &MySql, scope: &Scope) -> Result<Catalog> {
    let mut session = mysql.session().await?;
    let mut conditions = Vec::new();
    if let Some(database) = mysql.config.database() {
        conditions.push(format!("TABLE_SCHEMA = {}", literal(database)));
    }
    if let Some(namespaces) = &scope.namespaces {
        let names = list(namespaces.iter().map(|name| literal(name)));
        let names = if names.is_empty() {
            "NULL".to_owned()
        } else {
            names
        };
        conditions.push(format!("TABLE_SCHEMA IN ({names})"));
    }
    conditions.push(format!("TABLE_SCHEMA NOT IN {SYSTEM}"));
    let found = describe_all(&mut session, &conditions.join(" AND ")).await?;
    mysql.keep(session);
    let mut tables: Vec<Table> = found
        .iter()
        .filter(|found| !found.name.starts_with(OWN_PREFIX))
        .map(Described::table)
        .collect();
    if let Some(wanted) = &scope.tables {
        let wanted: HashSet<&String> = wanted.iter().collect();
        tables.retain(|table| wanted.contains(&table.id.to_string()));
    }
    tables.sort_by_cached_key(|table| table.id.to_string());
    Ok(Catalog { tables })
}

/// One table or view, if it is there and shows.
pub async fn describe(
    session: &mut Session,
    database: &str,
    name: &str,
) -> Result<Option<Described>> {
    let condition = format!(
        "TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(database),
        literal(name)
    );
    let found = describe_all(session, &condition).await?;
    // The server may compare names without their case.
    Ok(found
        .into_iter()
        .find(|found| found.database == database && found.name == name))
}

async fn describe_all(session: &mut Session, condition: &str) -> Result<Vec<Described>> {
    let tables = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, TABLE_COMMENT, TABLE_ROWS, DATA_LENGTH \
         FROM information_schema.TABLES WHERE {condition} AND TABLE_TYPE <> 'SEQUENCE'"
    );
    let mut found = BTreeMap::new();
    for row in session.rows(&tables).await? {
        let view = text(&row, 2).contains("VIEW");
        let described = Described {
            database: text(&row, 0),
            name: text(&row, 1),
            view,
            comment: text(&row, 3),
            rows: number(&row, 4).filter(|_| !view),
            bytes: number(&row, 5).filter(|_| !view),
            columns: Vec::new(),
            key: Vec::new(),
        };
        found.insert(
            (described.database.clone(), described.name.clone()),
            described,
        );
    }
    let checked = checked_json(session, condition).await?;
    let columns = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, NUMERIC_PRECISION, \
         NUMERIC_SCALE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, \
         COLUMN_COMMENT FROM information_schema.COLUMNS WHERE {condition} \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    );
    for row in session.rows(&columns).await? {
        let table = (text(&row, 0), text(&row, 1));
        let Some(described) = found.get_mut(&table) else {
            continue;
        };
        let mut column = column(&row, session.server.flavor);
        let id = (table.0, table.1, column.name.clone());
        column.server_type.checked_json = checked.contains(&id);
        described.columns.push(column);
    }
    let keys = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
         WHERE {condition} AND INDEX_NAME = 'PRIMARY' ORDER BY TABLE_SCHEMA, TABLE_NAME, SEQ_IN_INDEX"
    );
    for row in session.rows(&keys).await? {
        if let Some(described) = found.get_mut(&(text(&row, 0), text(&row, 1))) {
            described.key.push(text(&row, 2));
        }
    }
    Ok(found.into_values().collect())
}

fn column(row: &TextRow, flavor: Flavor) -> DescribedColumn {
    let extra = text(row, 11).to_lowercase();
    // MariaDB writes defaults as SQL does.
    let none = |default: &str| flavor == Flavor::MariaDb && default == "NULL";
    let default = row.get(10).and_then(Option::as_deref);
    let default = default.filter(|default| !none(default));
    let fills = if extra.contains("generated") && !extra.contains("default_generated") {
        Fills::Computed
    } else if extra.contains("auto_increment") || default.is_some() {
        Fills::Default
    } else {
        Fills::Never
    };
    DescribedColumn {
        name: text(row, 2),
        server_type: ServerType {
            name: text(row, 3).to_lowercase(),
            declared: text(row, 4),
            precision: number(row, 5),
            scale: number(row, 6),
            comment: text(row, 12),
            checked_json: false,
        },
        charset: row.get(7).cloned().flatten(),
        collation: row.get(8).cloned().flatten(),
        not_null: text(row, 9) == "NO",
        fills,
    }
}

/// Columns that MariaDB checks to hold JSON, which is what its type JSON is.
async fn checked_json(
    session: &mut Session,
    condition: &str,
) -> Result<HashSet<(String, String, String)>> {
    if session.server.flavor != Flavor::MariaDb {
        return Ok(HashSet::new());
    }
    let condition = condition.replace("TABLE_SCHEMA", "CONSTRAINT_SCHEMA");
    let checks = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
         WHERE {condition} AND CHECK_CLAUSE LIKE 'json_valid(%'"
    );
    let rows = session.rows(&checks).await?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            let clause = text(row, 2);
            let name = clause.strip_prefix("json_valid(`")?.strip_suffix("`)")?;
            Some((text(row, 0), text(row, 1), name.replace("``", "`")))
        })
        .collect())
}

pub fn text(row: &TextRow, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

pub fn number(row: &TextRow, at: usize) -> Option<u64> {
    row.get(at)?.as_deref()?.parse().ok()
}

/// Values of a field that only the server knows. What is not filled in yet is guessed.
pub async fn choices(
    field: &str,
    read: fn(&Value) -> Result<Config>,
    configuration: &Value,
    cx: &ConnectCx,
) -> Result<Vec<Choice>> {
    // Both names, for what is not filled in yet cannot be read.
    if !["dbname", "database"].contains(&field) {
        return Err(Error::config(format!("{field} has no list of values")).field(field));
    }
    let mut config = read(configuration)?;
    config.dbname = None;
    let mut session = MySql::open(config, cx).await?.session().await?;
    let names = format!(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM} \
         ORDER BY SCHEMA_NAME"
    );
    let rows = session.rows(&names).await?;
    Ok(rows
        .iter()
        .map(|row| text(row, 0))
        .map(|name| Choice {
            value: name.clone().into(),
            label: name,
        })
        .collect())
}

/// Which columns each index leads with, by the index's name.
pub async fn indexes(
    session: &mut Session,
    database: &str,
    name: &str,
) -> Result<HashMap<String, Vec<String>>> {
    let sql = format!(
        "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        literal(database),
        literal(name)
    );
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for row in session.rows(&sql).await? {
        found.entry(text(&row, 0)).or_default().push(text(&row, 1));
    }
    Ok(found)
}
