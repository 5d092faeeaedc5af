//! A connector's settings as a form. The Rust struct is the only source: schemars
//! gives its JSON Schema, keywords on it say what is secret, hidden or a text area,
//! and from these follow the UI schema, the redaction and what is kept on update.
//!
//! Keywords, set with `#[schemars(extend("…" = …))]`: `sensitive` (never read back),
//! `password` (masked while typed), `hidden` (API only), `readOnly` (set by the
//! server), `widget` (`textarea`, `file`, `select`), `aliases` (other accepted
//! spellings), `labels` (names of the enum's values, in order).

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// What a secret looks like when read back. Writing it back keeps the stored one.
pub const MASK: &str = "********";

/// The two documents of a form.
#[derive(Debug, Clone)]
pub struct Form {
    pub json_schema: Value,
    pub ui_schema: Value,
}

/// A trouble with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl Form {
    /// The form of a settings struct. Properties keep the order of the struct.
    pub fn of<T: JsonSchema>() -> Form {
        let generator = SchemaSettings::draft2020_12()
            .with(|settings| {
                settings.inline_subschemas = true;
                settings.meta_schema = None;
            })
            .into_generator();
        let mut schema = generator.into_root_schema_for::<T>().to_value();
        tidy(&mut schema);
        if let Some(root) = schema.as_object_mut() {
            root.remove("title");
            root.remove("description");
            root.entry("properties").or_insert_with(|| json!({}));
        }
        let ui_schema = ui_schema(&schema);
        Form {
            json_schema: schema,
            ui_schema,
        }
    }

    pub fn empty() -> Form {
        Form {
            json_schema: json!({"type": "object", "properties": {}}),
            ui_schema: json!({}),
        }
    }

    /// The same settings without secrets, for showing.
    pub fn redacted(&self, config: &Value) -> Value {
        let mut shown = config.clone();
        walk(&self.json_schema, &mut shown, &mut |schema, value| {
            if flag(schema, "sensitive") && !is_blank(value) {
                *value = MASK.into();
            }
        });
        shown
    }

    /// The settings as stored after a write: a masked secret keeps its old value.
    pub fn with_kept_secrets(&self, written: &Value, stored: &Value) -> Value {
        let mut kept = written.clone();
        keep(&self.json_schema, &mut kept, Some(stored));
        kept
    }

    /// Properties of the top level: name and schema, in order.
    pub fn properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.json_schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
    }
}

/// The spellings of a property besides its name.
pub fn aliases(property: &Value) -> impl Iterator<Item = &str> {
    property["aliases"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Reads settings into their struct; the error names the field.
pub fn parse<T: DeserializeOwned>(config: &Value) -> Result<T> {
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let error = Error::config(format!("configuration: {}", without_values(error.inner())));
        if path == "." {
            error
        } else {
            error.field(path)
        }
    })
}

/// serde's message for a wrong type quotes the value, which may be a secret.
fn without_values(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match (message.find("invalid type: "), message.find(", expected")) {
        (Some(_), Some(at)) => format!("wrong type{}", &message[at..]),
        _ => match (message.find("invalid value: "), message.find(", expected")) {
            (Some(_), Some(at)) => format!("wrong value{}", &message[at..]),
            _ => message,
        },
    }
}

fn flag(schema: &Value, keyword: &str) -> bool {
    schema[keyword].as_bool() == Some(true)
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Visits each value of `config` that its schema describes.
fn walk(schema: &Value, config: &mut Value, visit: &mut impl FnMut(&Value, &mut Value)) {
    visit(schema, config);
    match config {
        Value::Object(fields) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                for spelling in std::iter::once(name.as_str()).chain(aliases(property)) {
                    if let Some(value) = fields.get_mut(spelling) {
                        walk(property, value, visit);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                walk(&schema["items"], item, visit);
            }
        }
        _ => {}
    }
}

fn keep(schema: &Value, written: &mut Value, stored: Option<&Value>) {
    if flag(schema, "sensitive") && written.as_str() == Some(MASK) {
        *written = stored.cloned().unwrap_or(Value::Null);
        return;
    }
    match written {
        Value::Object(fields) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let spellings: Vec<&str> = std::iter::once(name.as_str())
                    .chain(aliases(property))
                    .collect();
                let old = spellings.iter().find_map(|spelling| stored?.get(spelling));
                for spelling in &spellings {
                    if let Some(value) = fields.get_mut(*spelling) {
                        keep(property, value, old);
                    }
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                keep(
                    &schema["items"],
                    item,
                    stored.and_then(|old| old.get(index)),
                );
            }
        }
        _ => {}
    }
}

/// schemars writes `Option<T>` as a union with null and carries Rust number formats;
/// forms show neither.
fn tidy(schema: &mut Value) {
    let Value::Object(object) = schema else {
        return;
    };
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [only] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            if let Value::Object(fields) = only {
                for (key, value) in fields {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
    object.remove("format");
    if let Some(Value::Array(labels)) = object.remove("labels")
        && let Some(Value::Array(values)) = object.get_mut("enum")
    {
        for (value, label) in values.iter_mut().zip(labels) {
            *value = json!({"value": value.clone(), "label": label});
        }
    }
    put_first(object);
    for key in ["properties", "items"] {
        match object.get_mut(key) {
            Some(Value::Object(children)) if key == "properties" => {
                children.values_mut().for_each(tidy)
            }
            Some(child) => tidy(child),
            None => {}
        }
    }
}

/// The keywords in the order in which the published forms have them.
fn put_first(schema: &mut Map<String, Value>) {
    const ORDER: [&str; 7] = [
        "type",
        "title",
        "description",
        "enum",
        "default",
        "minimum",
        "maximum",
    ];
    let mut ordered = Map::new();
    for keyword in ORDER {
        if let Some((keyword, value)) = schema.shift_remove_entry(keyword) {
            ordered.insert(keyword, value);
        }
    }
    ordered.extend(std::mem::take(schema));
    *schema = ordered;
}

/// The plain values of an `enum` keyword, which may carry labels.
pub fn enum_values(property: &Value) -> Option<Vec<Value>> {
    let values = property["enum"].as_array()?;
    Some(
        values
            .iter()
            .map(|value| value.get("value").cloned().unwrap_or_else(|| value.clone()))
            .collect(),
    )
}

fn ui_schema(schema: &Value) -> Value {
    let mut ui = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut entry = Map::new();
        if flag(property, "password") {
            entry.insert("ui:widget".into(), "password".into());
        } else if flag(property, "hidden") {
            entry.insert("ui:widget".into(), "hidden".into());
        } else if let Some(widget) = property["widget"].as_str() {
            entry.insert("ui:widget".into(), widget.into());
        }
        if flag(property, "readOnly") {
            entry.insert("ui:readonly".into(), true.into());
        }
        if property["type"] == "object"
            && let Value::Object(children) = ui_schema(property)
        {
            entry.extend(children);
        }
        if !entry.is_empty() {
            ui.insert(name.clone(), entry.into());
        }
    }
    ui.into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Secret;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Sample {
        /// Where it is.
        #[schemars(title = "Host", extend("aliases" = ["hostname"]))]
        #[serde(alias = "hostname")]
        host: String,
        #[schemars(title = "Password", extend("sensitive" = true, "password" = true))]
        password: Secret,
        #[schemars(title = "Port", range(min = 1, max = 65535))]
        #[serde(default = "port")]
        port: u16,
        #[schemars(extend("widget" = "textarea", "sensitive" = true))]
        key: Option<Secret>,
    }

    fn port() -> u16 {
        5432
    }

    #[test]
    fn a_struct_becomes_a_form() {
        let form = Form::of::<Sample>();
        assert_eq!(
            form.json_schema["properties"]["port"],
            json!({"title": "Port", "type": "integer", "minimum": 1, "maximum": 65535, "default": 5432})
        );
        assert_eq!(form.json_schema["properties"]["key"]["type"], "string");
        assert_eq!(form.json_schema["required"], json!(["host", "password"]));
        assert_eq!(
            form.ui_schema,
            json!({"password": {"ui:widget": "password"}, "key": {"ui:widget": "textarea"}})
        );
    }

    #[test]
    fn secrets_are_masked_and_survive_being_written_back() {
        let form = Form::of::<Sample>();
        let stored = json!({"hostname": "db", "password": "s3cret", "key": ""});
        let shown = form.redacted(&stored);
        assert_eq!(
            shown,
            json!({"hostname": "db", "password": MASK, "key": ""})
        );
        let written = json!({"host": "db2", "password": MASK});
        let kept = form.with_kept_secrets(&written, &stored);
        assert_eq!(kept, json!({"host": "db2", "password": "s3cret"}));
    }

    #[test]
    fn parse_errors_name_the_field_and_hide_the_value() {
        let error = parse::<Sample>(&json!({"host": "db", "password": 12345})).unwrap_err();
        assert_eq!(error.blamed_field(), Some("password"));
        assert!(!error.what().contains("12345"), "{}", error.what());
    }
}
