//! What a statement in the log does to a table. Rows are told one by one; all else that can
//! happen to a table stands in the log as SQL. Whatever is not known to be harmless is taken
//! for a change of all rows: that costs a new snapshot, the other way would cost rows.

/// What a statement does to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    None,
    Truncated,
    /// Columns came and went, and nothing else.
    Columns {
        added: Vec<String>,
        dropped: Vec<String>,
    },
    /// The rows may be others, or the table may.
    Rewritten,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Text,
    Sign(char),
}

impl Token {
    fn name(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            _ => None,
        }
    }

    fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }
}

/// `database` is where the statement was run; `of` and `name` are the table.
pub fn effect(statement: &str, database: &str, of: &str, name: &str) -> Effect {
    let tokens = tokens(statement);
    let words: Vec<&Token> = tokens.iter().filter(|token| !passing(token)).collect();
    let first = |words: &[&str]| tokens.first().is_some_and(|token| token.any(words));
    if first(&["drop", "create", "alter"])
        && words
            .get(1)
            .is_some_and(|token| token.any(&["database", "schema"]))
    {
        let gone = first(&["drop"])
            && words.iter().any(|token| {
                token
                    .name()
                    .is_some_and(|word| word.eq_ignore_ascii_case(of))
            });
        return if gone {
            Effect::Rewritten
        } else {
            Effect::None
        };
    }
    let Some(mention) = mention(&tokens, database, of, name) else {
        return Effect::None;
    };
    if first(HARMLESS) {
        return Effect::None;
    }
    if first(&["create", "drop", "alter", "rename"]) {
        let what = words.iter().skip(1).find(|token| token.any(OBJECTS));
        match what {
            Some(token) if token.is("table") => {}
            Some(_) => return Effect::None,
            None => return Effect::Rewritten,
        }
        if tokens.iter().take(4).any(|token| token.is("temporary")) {
            return Effect::None;
        }
    }
    if first(&["truncate"]) {
        return Effect::Truncated;
    }
    let before = tokens.get(..mention).unwrap_or_default();
    let verbs = ["create", "alter", "table"];
    let named_first = before
        .iter()
        .filter(|token| !passing(token) && !token.any(&verbs));
    let leads = match named_first.count() {
        0 => true,
        // The database and its dot.
        2 => before.last() == Some(&Token::Sign('.')),
        _ => false,
    };
    if first(&["create"]) {
        return if leads {
            Effect::Rewritten
        } else {
            Effect::None
        };
    }
    if first(&["alter"]) {
        // Another table's reference to this one does nothing to it.
        if !leads {
            let takes_its_place = |token: &Token| token.any(&["exchange", "rename"]);
            return match tokens.iter().any(takes_its_place) {
                true => Effect::Rewritten,
                false => Effect::None,
            };
        }
        return altered(tokens.get(mention + 1..).unwrap_or_default());
    }
    Effect::Rewritten
}

/// Statements that leave rows and tables as they are.
const HARMLESS: &[&str] = &[
    "begin",
    "commit",
    "savepoint",
    "rollback",
    "release",
    "set",
    "grant",
    "revoke",
    "analyze",
    "optimize",
    "repair",
    "check",
    "checksum",
    "flush",
    "xa",
    "use",
    "lock",
    "unlock",
    "comment",
];

/// Kinds of things that are made and dropped; the first one says which it is.
const OBJECTS: &[&str] = &[
    "table",
    "tables",
    "view",
    "trigger",
    "procedure",
    "function",
    "event",
    "index",
    "user",
    "role",
    "server",
    "sequence",
    "package",
    "tablespace",
    "resource",
    "instance",
    "library",
];

/// Words between the verb and what it is about.
fn passing(token: &Token) -> bool {
    token.any(&[
        "or", "replace", "online", "offline", "ignore", "if", "not", "exists",
    ])
}

/// Where the table is named: the place of its last word.
fn mention(tokens: &[Token], database: &str, of: &str, name: &str) -> Option<usize> {
    let same = |token: Option<&Token>, name: &str| {
        let found = token.and_then(Token::name);
        found.is_some_and(|found| found.to_lowercase() == name.to_lowercase())
    };
    (0..tokens.len()).find(|at| {
        if !same(tokens.get(*at), name) {
            return false;
        }
        let dotted = at.checked_sub(1).and_then(|at| tokens.get(at)) == Some(&Token::Sign('.'));
        match dotted {
            true => same(at.checked_sub(2).and_then(|at| tokens.get(at)), of),
            false => database.to_lowercase() == of.to_lowercase(),
        }
    })
}

/// What the clauses behind `ALTER TABLE name` do.
fn altered(clauses: &[Token]) -> Effect {
    let (mut added, mut dropped) = (Vec::new(), Vec::new());
    for clause in split(clauses) {
        let mut words = clause
            .iter()
            .filter(|token| !token.any(&["if", "not", "exists"]));
        let Some(first) = words.next() else {
            continue;
        };
        let mut second = words.next();
        let keys = [
            "index",
            "key",
            "unique",
            "fulltext",
            "spatial",
            "vector",
            "constraint",
            "foreign",
            "check",
        ];
        if first.any(&["add", "drop"]) {
            let of_column = second.is_some_and(|word| word.is("column"));
            if of_column {
                second = words.next();
            } else if second.is_some_and(|word| word.any(&keys)) {
                continue;
            }
            let Some(name) = second.and_then(Token::name) else {
                // Several columns in brackets, and whatever else.
                return Effect::Rewritten;
            };
            let reserved = matches!(second, Some(Token::Word(_)))
                && !of_column
                && second
                    .is_some_and(|word| word.any(&["primary", "partition", "period", "system"]));
            // A key of its own in the same clause brings no change of rows.
            let computed = clause
                .iter()
                .any(|word| word.any(&["auto_increment", "primary", "generated", "as"]));
            if reserved || computed {
                return Effect::Rewritten;
            }
            match first.is("add") {
                true => added.push(name.to_owned()),
                false => dropped.push(name.to_owned()),
            }
            continue;
        }
        let harmless = first.any(&[
            "algorithm",
            "lock",
            "comment",
            "auto_increment",
            "stats_persistent",
            "stats_auto_recalc",
            "stats_sample_pages",
            "row_format",
            "key_block_size",
            "enable",
            "disable",
            "force",
            "order",
            "wait",
            "nowait",
            "analyze",
            "check",
            "rebuild",
            "optimize",
            "repair",
            "compression",
        ]) || (first.is("rename")
            && second.is_some_and(|word| word.any(&["index", "key"])))
            || (first.is("alter")
                && clause
                    .iter()
                    .any(|word| word.any(&["default", "index", "key", "visible", "invisible"]))
                && !clause.iter().any(|word| word.is("type")));
        if !harmless {
            return Effect::Rewritten;
        }
    }
    match added.is_empty() && dropped.is_empty() {
        true => Effect::None,
        false => Effect::Columns { added, dropped },
    }
}

/// The clauses between commas that are in no brackets.
fn split(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_i32;
    tokens
        .split(|token| {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                _ => {}
            }
            depth == 0 && *token == Token::Sign(',')
        })
        .collect()
}

fn tokens(statement: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = statement;
    while let Some(first) = rest.chars().next() {
        let behind = rest.get(first.len_utf8()..).unwrap_or_default();
        if first.is_whitespace() {
            rest = behind;
        } else if let Some(comment) = rest.strip_prefix("/*") {
            // What a comment holds for some versions is a part of the statement.
            let inner = comment.trim_start_matches('M');
            rest = match inner.strip_prefix('!') {
                Some(inner) => inner.trim_start_matches(|c: char| c.is_ascii_digit()),
                None => after(comment, "*/"),
            };
        } else if let Some(end) = rest.strip_prefix("*/") {
            rest = end;
        } else if first == '#' || rest.starts_with("-- ") {
            rest = after(rest, "\n");
        } else if matches!(first, '`' | '"' | '\'') {
            let (text, end) = quoted(behind, first);
            tokens.push(match first {
                '\'' => Token::Text,
                _ => Token::Quoted(text),
            });
            rest = end;
        } else if first.is_alphanumeric() || first == '_' || first == '$' {
            let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let end = rest.find(|c: char| !word(c)).unwrap_or(rest.len());
            let (front, end) = rest.split_at_checked(end).unwrap_or((rest, ""));
            tokens.push(Token::Word(front.to_owned()));
            rest = end;
        } else {
            tokens.push(Token::Sign(first));
            rest = behind;
        }
    }
    tokens
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, behind)| behind)
}

/// The text up to the quote, which stands doubled for itself, and what follows.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut inner = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && quote != '`' {
            characters.next();
            continue;
        }
        if character != quote {
            inner.push(character);
            continue;
        }
        if characters.peek().map(|(_, next)| *next) != Some(quote) {
            return (inner, text.get(at + 1..).unwrap_or_default());
        }
        characters.next();
        inner.push(quote);
    }
    (inner, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(statement: &str) -> Effect {
        effect(statement, "d", "d", "t")
    }

    #[test]
    fn what_leaves_the_rows_alone_is_known() {
        for statement in [
            "ALTER TABLE t ADD INDEX i (a), ALGORITHM=INPLACE",
            "alter table `d`.`t` drop key i, comment='t, really'",
            "ALTER TABLE t ALTER COLUMN a SET DEFAULT 5",
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
            "ALTER TABLE other.t MODIFY a BIGINT",
            "ALTER TABLE u ADD FOREIGN KEY (a) REFERENCES t (id)",
            "CREATE TABLE u LIKE t",
            "CREATE TABLE u (a INT REFERENCES t (id))",
            "CREATE VIEW v AS SELECT * FROM t",
            "CREATE OR REPLACE ALGORITHM=MERGE VIEW v AS SELECT * FROM t",
            "CREATE DEFINER=`a`@`b` TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "CREATE UNIQUE INDEX i ON t (a)",
            "DROP TEMPORARY TABLE IF EXISTS `t` /* generated by server */",
            "GRANT SELECT ON t TO a",
            "ANALYZE TABLE t",
            "DROP TABLE tt",
            "ALTER TABLE u ADD a INT COMMENT 't'",
            "CREATE DATABASE t",
        ] {
            assert_eq!(of(statement), Effect::None, "{statement}");
        }
    }

    #[test]
    fn what_may_change_rows_is_taken_to() {
        for statement in [
            "ALTER TABLE t MODIFY a BIGINT",
            "ALTER TABLE t ADD INDEX i (a), CHANGE a b INT",
            "ALTER TABLE t ADD a INT AUTO_INCREMENT UNIQUE",
            "ALTER TABLE t ADD PRIMARY KEY (a)",
            "ALTER TABLE t DROP PARTITION p",
            "ALTER TABLE u EXCHANGE PARTITION p WITH TABLE t",
            "ALTER TABLE u RENAME TO t",
            "ALTER TABLE IF EXISTS d.t RENAME COLUMN a TO b",
            "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4",
            "RENAME TABLE u TO t",
            "DROP TABLE IF EXISTS `d`.`t`",
            "DROP DATABASE d",
            "CREATE TABLE IF NOT EXISTS t (a INT)",
            "/*!50001 CREATE TABLE t (a INT) */",
            "INSERT INTO t VALUES (1)",
            "UPDATE u JOIN t USING (id) SET t.a = 1",
        ] {
            assert_eq!(of(statement), Effect::Rewritten, "{statement}");
        }
        assert_eq!(of("TRUNCATE t"), Effect::Truncated);
        assert_eq!(of("truncate table d.t"), Effect::Truncated);
    }

    #[test]
    fn columns_that_come_and_go_are_named() {
        let columns = |added: &[&str], dropped: &[&str]| Effect::Columns {
            added: added.iter().map(|name| (*name).to_owned()).collect(),
            dropped: dropped.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            of("ALTER TABLE t ADD COLUMN `a b` DECIMAL(10,2) NOT NULL DEFAULT 1, DROP c"),
            columns(&["a b"], &["c"])
        );
        assert_eq!(
            of("ALTER TABLE t ADD index_no INT"),
            columns(&["index_no"], &[])
        );
    }

    proptest! {
        #[test]
        fn no_statement_breaks_anything(statement in "[a-zA-Z0-9 `'\"()\\\\,.#*/!é-]{0,80}") {
            let _ = of(&statement);
            let _ = of(&format!("ALTER TABLE t {statement}"));
        }
    }
}
