//! What a bulk sync can say about reading from and writing to files, and what a URL can.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tideway_core::{Error, Result, form::Form};
use url::Url;

use crate::{compression::Compression, format::Format, layout::LayoutSettings};

/// Reading takes no settings beyond the connection's.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct SourceOptions {}

/// How tables are written. Names and deletes are the engine's to act on; they are here
/// for the form.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[allow(dead_code)]
pub struct DestinationOptions {
    #[schemars(title = "Format")]
    pub format: Option<Format>,
    /// Folder below the connection's, in which every table gets a folder of its own.
    #[schemars(title = "Subfolder")]
    pub subfolder: Option<String>,
    /// Parquet is compressed with zstd where nothing is said, text is not.
    #[schemars(title = "Compression", extend("labels" = ["None", "gzip", "zstd"]))]
    pub compression: Option<Compression>,
    /// Put the tables of each source schema in a folder of that name.
    #[serde(default)]
    #[schemars(title = "Mirror schemas")]
    pub mirror_schemas: bool,
    #[serde(default)]
    #[schemars(title = "Advanced")]
    pub advanced: Advanced,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[allow(dead_code)]
pub struct Advanced {
    #[schemars(title = "Table prefix")]
    pub table_prefix: Option<String>,
    /// Remove the rows that are gone at the source rather than mark them.
    #[serde(default)]
    #[schemars(title = "Hard deletes")]
    pub hard_deletes: bool,
}

/// The form of [`DestinationOptions`] with a default format.
pub fn destination_form(default_format: Format) -> Form {
    let mut form = Form::of::<DestinationOptions>();
    form.json_schema["properties"]["format"]["default"] = json!(default_format);
    form
}

/// The settings in a URL's query, told apart: for the connection, among them those named
/// in `more`, and for the sync's destination.
pub fn from_query(url: &Url, more: &[(&str, &str)]) -> Result<(Map<String, Value>, Value)> {
    let layout = Form::of::<LayoutSettings>();
    let mut configuration = Map::new();
    let mut options = Map::new();
    let mut advanced = Map::new();
    for (key, value) in url.query_pairs() {
        if let Some((_, field)) = more.iter().find(|(name, _)| *name == key) {
            configuration.insert((*field).to_owned(), value.into());
            continue;
        }
        if let Some((name, property)) = layout.properties().find(|(name, _)| **name == key) {
            configuration.insert(name.clone(), typed(&key, property, &value)?);
            continue;
        }
        match key.as_ref() {
            "format" | "compression" | "subfolder" => {
                options.insert(key.into(), value.into());
            }
            "mirror_schemas" => {
                options.insert(key.clone().into(), boolean(&key, &value)?);
            }
            "table_prefix" => {
                advanced.insert(key.into(), value.into());
            }
            "hard_deletes" => {
                advanced.insert(key.clone().into(), boolean(&key, &value)?);
            }
            _ => {
                let names = layout.properties().map(|(name, _)| name.as_str());
                let known: Vec<&str> = ["format", "compression", "subfolder", "mirror_schemas"]
                    .into_iter()
                    .chain(["table_prefix", "hard_deletes"])
                    .chain(more.iter().map(|(name, _)| *name))
                    .chain(names)
                    .collect();
                return Err(
                    Error::config(format!("the URL has an unknown setting {key}"))
                        .hint(format!("use {}", known.join(", "))),
                );
            }
        }
    }
    if !advanced.is_empty() {
        options.insert("advanced".into(), advanced.into());
    }
    let options = Value::Object(options);
    tideway_core::form::parse::<DestinationOptions>(&options)?;
    Ok((configuration, options))
}

fn boolean(key: &str, value: &str) -> Result<Value> {
    match value {
        "true" | "1" | "yes" | "" => Ok(true.into()),
        "false" | "0" | "no" => Ok(false.into()),
        _ => Err(Error::config(format!("{key} is neither true nor false")).field(key)),
    }
}

fn typed(key: &str, property: &Value, value: &str) -> Result<Value> {
    Ok(match property["type"].as_str() {
        Some("boolean") => boolean(key, value)?,
        Some("integer") => value
            .parse::<u64>()
            .map_err(|_| Error::config(format!("{key} is not a number")).field(key))?
            .into(),
        Some("array") => value.split(',').map(Value::from).collect(),
        _ => value.into(),
    })
}
