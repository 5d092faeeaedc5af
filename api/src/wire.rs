//! Pieces that the wire types of several resources share.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::{
    ToSchema,
    openapi::schema::{Object, ObjectBuilder, SchemaType},
};
use uuid::Uuid;

/// A JSON object of free form. In schemas: `value_type = Object`.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// Who did something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    /// Null when no person did it.
    pub id: Option<Uuid>,
    pub name: Option<String>,
    /// `user`, `organization`, `partner` or `system`.
    #[serde(rename = "type")]
    #[schema(example = "user")]
    pub kind: String,
}

impl From<&tideway_store::Author> for Actor {
    fn from(author: &tideway_store::Author) -> Self {
        Actor {
            id: (!author.id.is_nil()).then_some(author.id),
            name: Some(author.name.clone()),
            kind: author.kind.word().to_owned(),
        }
    }
}

/// A field that the server computes. Clients that read an object, change it and send it back whole
/// send such fields too: they are taken, and ignored. Stands in requests as `Option<Echoed>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Echoed;

impl<'de> Deserialize<'de> for Echoed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Self)
    }
}

/// The schema of an [`Echoed`] field. In schemas: `schema_with = echoed`.
pub fn echoed() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .read_only(true)
        .build()
}

/// Either the bare id of a thing, or an object about it.
// `Deserialize` is by hand so that errors name the field at fault: for an untagged enum serde's own
// says no more than that no variant matched. Use it spelled out in fields, not through a type
// alias, which utoipa cannot see through.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum IdOr<T: ToSchema> {
    Id(String),
    Object(T),
}

impl<'de, T: ToSchema + Deserialize<'de>> Deserialize<'de> for IdOr<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct IdOrVisitor<T>(PhantomData<T>);

        impl<'de, T: ToSchema + Deserialize<'de>> Visitor<'de> for IdOrVisitor<T> {
            type Value = IdOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id (string) or an object")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Self::Value, E> {
                Ok(IdOr::Id(id.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(IdOr::Object)
            }
        }

        from.deserialize_any(IdOrVisitor(PhantomData))
    }
}

/// For fields of a partial update where null and absence differ: absent is `None` (keep), null is
/// `Some(None)` (clear). Use with `default`, `deserialize_with` and
/// `skip_serializing_if = "Option::is_none"`.
pub fn present<'de, T, D>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(from).map(Some)
}

/// Points in time in requests: RFC 3339, with an error that says so.
pub mod timestamp {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, de};

    fn parse<E: de::Error>(text: &str) -> Result<DateTime<Utc>, E> {
        DateTime::parse_from_rfc3339(text)
            .map(|time| time.with_timezone(&Utc))
            .map_err(|_| {
                E::custom(format_args!(
                    "`{text}` is no timestamp: write it as RFC 3339 with an offset, \
                     such as 2025-09-18T14:30:00Z"
                ))
            })
    }

    /// Absent and null are both `None`.
    pub fn optional<'de, D>(from: D) -> Result<Option<DateTime<Utc>>, D::Error>
    where
        D: Deserializer<'de>,
    {
        Option::<String>::deserialize(from)?
            .map(|text| parse(&text))
            .transpose()
    }

    /// Like [`super::present`]: absent keeps, null clears.
    pub fn present<'de, D>(from: D) -> Result<Option<Option<DateTime<Utc>>>, D::Error>
    where
        D: Deserializer<'de>,
    {
        optional(from).map(Some)
    }
}
