//! Enums that the database and the HTTP contract spell as words.

/// Declares an enum with its words: `ALL`, `word()`, `parse()`, and serde by the word.
macro_rules! words {
    (
        $(#[$about:meta])*
        pub enum $name:ident { $( $(#[$note:meta])* $variant:ident = $word:literal ),+ $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[$note])* #[serde(rename = $word)] $variant ),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// As it is spelled on the wire and in the database.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl crate::row::Word for $name {
            fn of_word(word: &str) -> Option<Self> { Self::parse(word) }
        }

        impl From<$name> for crate::db::Value {
            fn from(value: $name) -> Self { value.word().into() }
        }

        impl From<Option<$name>> for crate::db::Value {
            fn from(value: Option<$name>) -> Self { value.map($name::word).into() }
        }
    };
}

pub(crate) use words;
