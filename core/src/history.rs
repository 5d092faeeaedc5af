//! The history of a table: a companion beside it that holds each version of a row which was
//! seen, with the time from which and until which it was the present one.
//!
//! It follows the table rather than the load: once a load has done its work, and in the same
//! step, versions that the table shows no more are ended, and rows that have no present
//! version get one. To do so again changes nothing, so that whatever was missed is made up
//! for by the next load.

/// When a version was seen first, and when it was seen to be gone: a timestamp with zone
/// each, the second one null while the version is the present one.
pub const VALID_FROM: &str = "_polytomic_valid_from";
pub const VALID_TO: &str = "_polytomic_valid_to";

/// What the name of a table is followed by in the name of its history.
pub const HISTORY_SUFFIX: &str = "_history";

/// What the two statements are made of; all of it is SQL of the destination, names quoted.
/// In it `t` is the table, `h` its history, and `s` what was staged.
#[derive(Debug)]
pub struct Following {
    pub table: String,
    pub history: String,
    /// The columns that are kept, key columns among them.
    pub columns: Vec<String>,
    /// The values of `t` for them, in the types that the history has.
    pub values: Vec<String>,
    /// `t` and `h` are of the same row.
    pub same_key: String,
    /// `t` and `h` hold the same values.
    pub same_values: String,
    /// `t` is not marked as deleted; `None` where nothing is.
    pub alive: Option<String>,
    /// The time of the step.
    pub now: String,
    pub valid_from: String,
    pub valid_to: String,
    /// The conditions on `h` and on `t` that a row was staged for their key; `None` where every
    /// row of the table may have changed.
    pub staged: Option<Staged>,
}

#[derive(Debug)]
pub struct Staged {
    pub of_history: String,
    pub of_table: String,
}

impl Following {
    /// Ends the versions that the table does not show any more.
    pub fn end(&self) -> String {
        let Following {
            table,
            history,
            same_key,
            same_values,
            now,
            valid_to,
            ..
        } = self;
        let alive = and(self.alive.as_ref());
        let touched = and(self.staged.as_ref().map(|staged| &staged.of_history));
        format!(
            "UPDATE {history} AS h SET {valid_to} = {now} WHERE h.{valid_to} IS NULL{touched} \
             AND NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {same_key}{alive} AND {same_values})"
        )
    }

    /// Gives each row without a present version one.
    pub fn begin(&self) -> String {
        let Following {
            table,
            history,
            same_key,
            now,
            valid_from,
            valid_to,
            ..
        } = self;
        let (columns, values) = (self.columns.join(", "), self.values.join(", "));
        let alive = and(self.alive.as_ref());
        let touched = and(self.staged.as_ref().map(|staged| &staged.of_table));
        format!(
            "INSERT INTO {history} ({columns}, {valid_from}) SELECT {values}, {now} \
             FROM {table} AS t WHERE NOT EXISTS (SELECT 1 FROM {history} AS h \
             WHERE h.{valid_to} IS NULL AND {same_key}){alive}{touched}"
        )
    }
}

fn and(condition: Option<&String>) -> String {
    condition.map_or_else(String::new, |condition| format!(" AND {condition}"))
}
