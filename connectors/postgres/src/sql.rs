//! Names and values as SQL spells them.

/// An identifier, quoted so that nothing in it is special.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"namespace"."name"`.
pub fn qualified(namespace: &str, name: &str) -> String {
    format!("{}.{}", ident(namespace), ident(name))
}

/// A string literal; sessions have `standard_conforming_strings` on. A NUL, which no
/// text of the server holds, is left out.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_within_are_doubled() {
        assert_eq!(qualified("a\"b", "c.d"), r#""a""b"."c.d""#);
        assert_eq!(literal("O'Brien\\"), r"'O''Brien\'");
    }
}
