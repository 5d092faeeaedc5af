//! Names and texts in DuckDB's SQL.

/// An identifier, whatever it holds.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `a, b, c` of what `each` makes of the items.
pub fn list<T>(items: impl IntoIterator<Item = T>, each: impl Fn(T) -> String) -> String {
    joined(items, ", ", each)
}

pub fn joined<T>(
    items: impl IntoIterator<Item = T>,
    between: &str,
    each: impl Fn(T) -> String,
) -> String {
    let items: Vec<String> = items.into_iter().map(each).collect();
    items.join(between)
}

/// A table with all its names: a namespace may be called like the file itself, and then
/// two names alone are ambiguous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub catalog: String,
    pub namespace: String,
    pub table: String,
}

impl Place {
    pub fn sql(&self) -> String {
        format!(
            "{}.{}.{}",
            name(&self.catalog),
            name(&self.namespace),
            name(&self.table)
        )
    }

    /// Another table beside it.
    pub fn beside(&self, table: &str) -> Place {
        Place {
            table: table.to_owned(),
            ..self.clone()
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        format!("{}.{}", self.namespace, self.table)
    }
}
