//! Brings an existing target up to date before rows arrive: columns are added and
//! widened, never dropped.
//!
//! SQLite can add a column, but not change one. A column that has to change makes the
//! table be made anew and its rows carried over, with everything that others attached to
//! it. What we could not attach again we leave alone, and say so.

use rusqlite::types::ToSqlOutput;
use tideway_core::{
    Error, LogicalType, Result,
    destination::{Load, SchemaChange, Write},
};

use crate::{
    connect::{Handle, Visit},
    discover::{self, Described, DescribedColumn},
    sql::{list, quoted, same_name},
    types::{self, Claim},
};

use super::{
    encode::widened,
    finish::finds_by,
    layout::{Landing, Layout, system_column},
    takes_place,
};

/// The columns in which the load's rows land, and what was changed for them.
pub fn prepare(
    handle: &Handle,
    load: &Load,
    target: Option<&Described>,
) -> Result<(Layout, Vec<SchemaChange>)> {
    let fresh = Layout::fresh(load);
    let Some(target) = target else {
        return Ok((fresh, Vec::new()));
    };
    let plan = Plan::new(load, &fresh, target)?;
    if takes_place(load, Some(target)) {
        // The table that is there stays as it is until the staged one takes its place.
        return Ok((fresh, plan.announced()));
    }
    let mut changes = plan.announced();
    let described = if plan.needs_rebuild() {
        refuse_if_special(handle, target, &plan)?;
        rebuild(handle, load, target, &plan)?;
        discover::require(handle, &target.name)?
    } else {
        plan.add_columns(handle, &target.name)?;
        discover::require(handle, &target.name)?
    };
    let layout = plan.layout(fresh, &described);
    let by_key = matches!(load.write, Write::Merge { .. } | Write::Changes { .. });
    if by_key && !finds_by(handle, &described, &layout.key)? {
        let index = format!("{}key_{}", discover::OWN_PREFIX, described.name);
        let key = list(layout.key.iter().map(|name| quoted(name)));
        let table = quoted(&described.name);
        let index = quoted(&index);
        handle.run(&format!(
            "CREATE INDEX IF NOT EXISTS main.{index} ON {table} ({key})"
        ))?;
        changes.push(SchemaChange(format!(
            "index on the key ({}) added",
            list(&layout.key)
        )));
    }
    Ok((layout, changes))
}

/// What an existing table needs for a load to fit.
struct Plan {
    columns: Vec<(Landing, Fit)>,
    missing_system: Vec<&'static str>,
    /// Columns that must take nulls from now on.
    relaxed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fit {
    Keeps,
    Missing,
    Widens { was: String },
}

impl Plan {
    fn new(load: &Load, fresh: &Layout, target: &Described) -> Result<Plan> {
        let columns = fresh
            .columns
            .iter()
            .map(|column| fit(column, target))
            .collect::<Result<Vec<_>>>()?;
        let missing = fresh
            .system
            .iter()
            .filter(|name| target.column(name).is_none());
        let relaxed = target
            .columns
            .iter()
            .filter(|column| column.not_null && column.key_place == 0)
            .filter(|column| {
                let loaded = load
                    .target
                    .columns
                    .iter()
                    .find(|loaded| same_name(&loaded.name, &column.name));
                match loaded {
                    Some(loaded) => loaded.nullable && !fresh.is_key(&column.name),
                    None => column.default.is_none() && !column.generated,
                }
            })
            .map(|column| column.name.clone());
        Ok(Plan {
            columns,
            missing_system: missing.copied().collect(),
            relaxed: relaxed.collect(),
        })
    }

    fn needs_rebuild(&self) -> bool {
        let widens = |(_, fit): &(Landing, Fit)| matches!(fit, Fit::Widens { .. });
        !self.relaxed.is_empty() || self.columns.iter().any(widens)
    }

    fn announced(&self) -> Vec<SchemaChange> {
        let columns = self.columns.iter().filter_map(|(column, fit)| {
            let (name, declared) = (&column.name, &column.declared);
            match fit {
                Fit::Keeps => None,
                Fit::Missing => Some(format!("column {name} added as {declared}")),
                Fit::Widens { was } => {
                    Some(format!("column {name} changed from {was} to {declared}"))
                }
            }
        });
        let system = self
            .missing_system
            .iter()
            .map(|name| format!("column {name} added"));
        let relaxed = self
            .relaxed
            .iter()
            .map(|name| format!("column {name} may be null now"));
        columns
            .chain(system)
            .chain(relaxed)
            .map(SchemaChange)
            .collect()
    }

    /// Declarations of the columns that the table lacks.
    fn additions(&self) -> impl Iterator<Item = String> {
        let data = self
            .columns
            .iter()
            .filter(|(_, fit)| *fit == Fit::Missing)
            .map(|(column, _)| format!("{} {}", quoted(&column.name), column.declared));
        data.chain(self.missing_system.iter().map(|name| system_column(name)))
    }

    fn add_columns(&self, handle: &Handle, table: &str) -> Result<()> {
        for column in self.additions() {
            handle.run(&format!(
                "ALTER TABLE main.{} ADD COLUMN {column}",
                quoted(table)
            ))?;
        }
        Ok(())
    }

    /// Where rows land now that the table is as planned.
    fn layout(&self, fresh: Layout, described: &Described) -> Layout {
        let columns = self.columns.iter().map(|(column, _)| {
            let declared = described
                .column(&column.name)
                .map(|found| found.declared.clone());
            Landing {
                declared: declared.unwrap_or_else(|| column.declared.clone()),
                ..column.clone()
            }
        });
        let numbered = described
            .columns
            .iter()
            .filter(|column| described.is_row_number(column));
        let numbered = numbered.map(|column| column.name.clone());
        let mut required = fresh.required;
        required.extend(numbered.filter(|name| {
            let loaded = self
                .columns
                .iter()
                .any(|(column, _)| same_name(&column.name, name));
            loaded && !fresh.key.iter().any(|key| same_name(key, name))
        }));
        Layout {
            columns: columns.collect(),
            required,
            ..fresh
        }
    }
}

/// How a column of the load fits the column of that name.
fn fit(column: &Landing, target: &Described) -> Result<(Landing, Fit)> {
    let Some(found) = target.column(&column.name) else {
        return Ok((column.clone(), Fit::Missing));
    };
    if found.generated {
        let (name, table) = (&column.name, &target.name);
        return Err(Error::unsupported(format!(
            "column {name} of {table} is computed by SQLite and cannot be written"
        ))
        .field(name.clone())
        .hint("leave the field out, or give it another output name"));
    }
    let to = match types::claim(&found.declared) {
        Claim::Firm(is) => is.widest(column.from),
        Claim::Number | Claim::Open => column.from,
    };
    let same = match types::claim(&found.declared) {
        Claim::Firm(is) => is == to,
        Claim::Number | Claim::Open => true,
    };
    let keeps = same && types::keeps(&found.declared, to);
    let was = found.declared.clone();
    let landing = |declared: String| Landing {
        to,
        declared,
        ..column.clone()
    };
    Ok(match keeps {
        true => (landing(was), Fit::Keeps),
        false => (landing(types::declared(to)), Fit::Widens { was }),
    })
}

/// Refuses to make a table anew that has more to it than we could write down again.
fn refuse_if_special(handle: &Handle, target: &Described, plan: &Plan) -> Result<()> {
    let definition: Option<String> = handle.one(
        "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?1",
        [&target.name],
    )?;
    let special = special_words(&definition.unwrap_or_default());
    let special = match (
        target.strict,
        target.columns.iter().any(|column| column.generated),
    ) {
        (true, _) => vec!["STRICT".to_owned()],
        (_, true) => vec!["GENERATED".to_owned()],
        _ => special,
    };
    if special.is_empty() {
        return Ok(());
    }
    let changes = plan.announced();
    let changes = list(changes.iter().map(|change| change.0.as_str()));
    Err(Error::unsupported(format!(
        "{} cannot be altered as needed ({changes}), for its definition has {}",
        target.name,
        list(special)
    ))
    .hint("alter the table by hand, rebuild it, or give the table another output name"))
}

/// Words of a table's definition that say more than names, types, keys and defaults.
fn special_words(definition: &str) -> Vec<String> {
    const SPECIAL: [&str; 8] = [
        "CHECK",
        "COLLATE",
        "REFERENCES",
        "UNIQUE",
        "AUTOINCREMENT",
        "CONFLICT",
        "DESC",
        "CONSTRAINT",
    ];
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = definition.chars().peekable();
    while let Some(c) = rest.next() {
        let closing = match c {
            '"' | '\'' | '`' => Some(c),
            '[' => Some(']'),
            '-' if rest.peek() == Some(&'-') => Some('\n'),
            _ => None,
        };
        if let Some(closing) = closing {
            rest.by_ref().find(|c| *c == closing);
        }
        if c.is_alphanumeric() || c == '_' {
            word.extend(c.to_uppercase());
        } else {
            words.push(std::mem::take(&mut word));
        }
    }
    words.push(word);
    let special = |word: &String| SPECIAL.contains(&word.as_str());
    words.into_iter().filter(special).collect()
}

fn rebuild(handle: &Handle, load: &Load, target: &Described, plan: &Plan) -> Result<()> {
    let new = format!("{}new_{}", discover::OWN_PREFIX, load.id);
    let changed = |column: &DescribedColumn| {
        let found = plan.columns.iter().find(|(planned, fit)| {
            same_name(&planned.name, &column.name) && matches!(fit, Fit::Widens { .. })
        });
        found.map(|(planned, _)| planned)
    };
    let kept: Vec<&DescribedColumn> = target
        .columns
        .iter()
        .filter(|column| !column.generated)
        .collect();
    let definitions = kept.iter().map(|column| {
        let declared = changed(column).map_or(&column.declared, |planned| &planned.declared);
        let relaxed = plan.relaxed.contains(&column.name);
        let not_null = if column.not_null && !relaxed {
            " NOT NULL"
        } else {
            ""
        };
        let default = match &column.default {
            Some(default) => format!(" DEFAULT ({default})"),
            None => String::new(),
        };
        let declared = types::spelled(declared);
        format!("{} {declared}{not_null}{default}", quoted(&column.name))
    });
    let key = target.key();
    let key = (!key.is_empty()).then(|| {
        format!(
            "PRIMARY KEY ({})",
            list(key.iter().map(|name| quoted(name)))
        )
    });
    let rowid = if target.without_rowid {
        " WITHOUT ROWID"
    } else {
        ""
    };
    handle.run(&format!(
        "CREATE TABLE main.{} ({}){rowid}",
        quoted(&new),
        list(definitions.chain(plan.additions()).chain(key))
    ))?;
    let conversions: Vec<Option<LogicalType>> = kept
        .iter()
        .map(|column| changed(column).map(|planned| planned.to))
        .collect();
    carry_over(handle, target, &new, &kept, &conversions)?;
    let dependents = dependents(handle, &target.name)?;
    let (old, new) = (quoted(&target.name), quoted(&new));
    handle.run(&format!(
        "DROP TABLE main.{old}; ALTER TABLE main.{new} RENAME TO {old}"
    ))?;
    for made in dependents {
        handle.run(&made)?;
    }
    Ok(())
}

/// Copies all rows, those columns converted that have a new type.
fn carry_over(
    handle: &Handle,
    target: &Described,
    new: &str,
    columns: &[&DescribedColumn],
    conversions: &[Option<LogicalType>],
) -> Result<()> {
    let names = list(columns.iter().map(|column| quoted(&column.name)));
    let (old, new) = (quoted(&target.name), quoted(new));
    if conversions.iter().all(Option::is_none) {
        let sql = format!("INSERT INTO main.{new} ({names}) SELECT {names} FROM main.{old}");
        return handle.run(&sql);
    }
    // A declared type is a claim; convert from what is really stored.
    let stored = discover::table(handle, target)?;
    let is = |name: &str| {
        stored
            .column(name)
            .map_or(LogicalType::Binary, |column| column.logical)
    };
    let holders = list((1..=columns.len()).map(|at| format!("?{at}")));
    let mut insert = handle.prepare(&format!(
        "INSERT INTO main.{new} ({names}) VALUES ({holders})"
    ))?;
    let mut select = handle.prepare(&format!("SELECT {names} FROM main.{old}"))?;
    let explain = |error| handle.explain(error);
    handle.visit(&mut select.raw_query(), |row| {
        for (at, (column, conversion)) in columns.iter().zip(conversions).enumerate() {
            let value = row.get_ref(at).map_err(explain)?;
            let value = match conversion {
                None => ToSqlOutput::Borrowed(value),
                Some(to) => widened(value, is(&column.name), *to).ok_or_else(|| {
                    let (table, name) = (&target.name, &column.name);
                    Error::data(format!(
                        "column {name} of {table} holds a value that is no {}",
                        to.spec()
                    ))
                    .field(name.clone())
                    .hint("correct the value in the table, or rebuild it")
                })?,
            };
            insert.raw_bind_parameter(at + 1, value).map_err(explain)?;
        }
        insert.raw_execute().map_err(explain)?;
        Ok(Visit::More)
    })?;
    Ok(())
}

/// The statements that made the indexes and triggers of a table.
pub fn dependents(handle: &Handle, table: &str) -> Result<Vec<String>> {
    handle.all(
        "SELECT sql FROM main.sqlite_schema WHERE type IN ('index', 'trigger') \
         AND tbl_name = ?1 COLLATE NOCASE AND sql IS NOT NULL",
        [table],
        |row| row.get(0),
    )
}

#[cfg(test)]
mod tests {
    use super::special_words;

    #[test]
    fn only_words_outside_of_quotes_are_special() {
        let plain = "CREATE TABLE \"check\" ([unique] TEXT, `collate` INT DEFAULT 'DESC', \
                     \"a\"\"desc\" INT, described INT, PRIMARY KEY (\"check\")) -- UNIQUE";
        assert_eq!(special_words(plain), Vec::<String>::new());
        let special = "CREATE TABLE t (a INT check(a>0), b TEXT COLLATE NOCASE)";
        assert_eq!(special_words(special), ["CHECK", "COLLATE"]);
    }
}
